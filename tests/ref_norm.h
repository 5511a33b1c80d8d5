// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_norm.h — plain C reference of ops/norm.h. Straight loops, double accumulation, no code
// shared with what it checks.
#ifndef VLM_TESTS_REF_NORM_H
#define VLM_TESTS_REF_NORM_H

#include <stddef.h>
#include <stdint.h>

// dst[r, c] = src[r, c] / sqrt(mean(src[r, :]^2) + eps) * weight[c].
// dst is [n_row, n_col] without gaps, src has row_stride elements between rows.
void ref_rms_norm(double *dst, const float *src, const float *weight, size_t n_row, size_t n_col,
                  size_t row_stride, float eps);

// One head: dst[c] = src[c] / sqrt(mean(src^2) + eps) * weight[c] * gate[c] / (1 + exp(-gate[c])).
void ref_rms_norm_gated(double *dst, const float *src, const float *gate, const float *weight,
                        size_t n, float eps);

// dst[r, c] = (src[r, c] - mean) / sqrt(var + eps) * weight[c] + bias[c]. Shapes as above.
void ref_layer_norm(double *dst, const float *src, const float *weight, const float *bias,
                    size_t n_row, size_t n_col, size_t row_stride, float eps);

#endif
