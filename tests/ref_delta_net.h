// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_delta_net.h — plain C reference of ops/delta_net.h. Straight loops in double, no code shared
// with what it checks.
#ifndef VLM_TESTS_REF_DELTA_NET_H
#define VLM_TESTS_REF_DELTA_NET_H

#include <stddef.h>
#include <stdint.h>

// One channel over n_tok tokens, `stride` elements apart: dst[t] = silu(sum over j of weight[j] *
// src[t - 3 + j]). before[0..2] are the inputs before the first, oldest first; on return the last.
void ref_causal_conv(double *dst, const float *src, size_t n_tok, size_t stride,
                     const float weight[4], float before[3]);

// One token of one head. s [d, d], keys by values, is the state before and after; q, k, v and dst
// have d elements.
void ref_delta_rule(double *dst, double *s, const float *q, const float *k, const float *v,
                    double alpha, double beta, double dt_bias, double a, size_t d);

#endif
