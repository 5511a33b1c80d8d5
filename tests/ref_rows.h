// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_rows.h — plain C reference of ops/rows.h. Straight loops in double, no code shared with what
// it checks.
#ifndef VLM_TESTS_REF_ROWS_H
#define VLM_TESTS_REF_ROWS_H

#include <stddef.h>
#include <stdint.h>

// dst[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
void ref_swiglu(double *dst, const float *gate, const float *up, size_t n);

// dst[i] = up[i] / (1 + exp(-gate[i]))
void ref_sigmoid_gate(double *dst, const float *gate, const float *up, size_t n);

// Index of the largest; the lowest of equals; NaN never; 0 when there is nothing else.
uint32_t ref_argmax(const float *src, size_t n);

// What a table of side x side rows of n_col adds to the patches of one image of h x w, blocks of
// merge x merge. dst is [h * w, n_col].
void ref_position_embed(double *dst, const float *table, uint32_t n_col, uint32_t side, uint32_t h,
                        uint32_t w, uint32_t merge);

#endif
