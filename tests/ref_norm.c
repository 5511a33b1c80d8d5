// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_norm.c — see ref_norm.h.
#include "ref_norm.h"

#include <math.h>

void ref_rms_norm(double *dst, const float *src, const float *weight, size_t n_row, size_t n_col,
                  size_t row_stride, float eps)
{
    for (size_t r = 0; r < n_row; r++) {
        double sum = 0.0;
        for (size_t c = 0; c < n_col; c++) {
            double x = src[r * row_stride + c];
            sum += x * x;
        }
        double scale = 1.0 / sqrt(sum / (double) n_col + (double) eps);
        for (size_t c = 0; c < n_col; c++)
            dst[r * n_col + c] = src[r * row_stride + c] * scale * weight[c];
    }
}

void ref_rms_norm_gated(double *dst, const float *src, const float *gate, const float *weight,
                        size_t n, float eps)
{
    double sum = 0.0;

    for (size_t c = 0; c < n; c++)
        sum += (double) src[c] * src[c];
    for (size_t c = 0; c < n; c++)
        dst[c] = src[c] / sqrt(sum / (double) n + (double) eps) * weight[c] * gate[c]
                 / (1.0 + exp(-(double) gate[c]));
}

void ref_layer_norm(double *dst, const float *src, const float *weight, const float *bias,
                    size_t n_row, size_t n_col, size_t row_stride, float eps)
{
    for (size_t r = 0; r < n_row; r++) {
        const float *row = src + r * row_stride;
        double mean = 0.0, var = 0.0;

        for (size_t c = 0; c < n_col; c++)
            mean += row[c];
        mean /= (double) n_col;
        for (size_t c = 0; c < n_col; c++)
            var += (row[c] - mean) * (row[c] - mean);
        var /= (double) n_col;
        for (size_t c = 0; c < n_col; c++)
            dst[r * n_col + c] = (row[c] - mean) / sqrt(var + (double) eps) * weight[c] + bias[c];
    }
}
