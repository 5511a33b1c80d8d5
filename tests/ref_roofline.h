// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_roofline.h — the measuring kernels, in plain C.
#ifndef VLM_TESTS_REF_ROOFLINE_H
#define VLM_TESTS_REF_ROOFLINE_H

#include <stdint.h>

// The sum of what lane `lane` of `lanes` reads of n_unit units of four words: units lane,
// lane + lanes, ...
uint32_t ref_roofline_read(const uint32_t *src, uint64_t n_unit, uint32_t lanes, uint32_t lane);

// The sum of n_chain numbers that start as their index plus lane, after n_step times a * x + y.
double ref_roofline_fma(float x, float y, uint32_t n_chain, uint32_t n_step, uint32_t lane);

#endif
