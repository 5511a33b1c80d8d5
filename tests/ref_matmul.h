// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_matmul.h — plain C reference of products with weights. double throughout.
#ifndef VLM_TESTS_REF_MATMUL_H
#define VLM_TESTS_REF_MATMUL_H

#include "ops/quant.h"

// Decodes n elements (a whole number of blocks) in the file's layout, to the bit as the format
// defines them: products of f32 scales and codes in f32, nothing fused.
void ref_dequant(float *out, vlm_dtype dtype, const void *blocks, size_t n);

typedef enum ref_act {
    REF_ACT_NONE,
    REF_ACT_GELU_TANH,
    REF_ACT_GELU_ERF,
    REF_ACT_SILU,
    REF_ACT_SIGMOID,
    REF_ACT_GELU_QUICK
} ref_act;

double ref_activate(double x, ref_act act);

// out [tok, row] = act(src [tok, col] * weight [row, col]^T + bias [row]) + residual [tok, row]
// bias and residual may be NULL; strides are in elements. `scale` [tok, row], if not NULL, gets
// the sum of the magnitudes of all terms, to which the rounding error of a sum is proportional.
void ref_matmul(double *out, double *scale, const float *src, size_t src_stride,
                const float *weight, const float *bias, ref_act act, const float *residual,
                size_t residual_stride, size_t n_tok, size_t n_row, size_t n_col);

// Rows as products take them that round activations: in each block of 32 columns, the nearest
// integer (ties to even) of x * 127 / largest magnitude, times the scale largest / 127 in f32. A
// block with NaN is NaN. n_col is a multiple of 32; strides are in elements, those of `out` too.
void ref_round_rows(float *out, const float *src, size_t stride, size_t n_row, size_t n_col);

#endif
