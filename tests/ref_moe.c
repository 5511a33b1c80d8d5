// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_moe.c — plain C reference of expert routing and mixing. double throughout.
#include "ref_moe.h"

#include <glib.h>
#include <math.h>

#include "ref_matmul.h"

void ref_moe_route(int32_t *ids, double *gate, const float *logits, size_t stride, size_t n_tok,
                   size_t n_expert, size_t k)
{
    g_autofree gboolean *taken = g_new(gboolean, n_expert);

    for (size_t t = 0; t < n_tok; t++) {
        const float *row = logits + t * stride;
        double largest = row[0], all = 0, sum = 0;

        for (size_t e = 0; e < n_expert; e++) {
            largest = fmax(largest, row[e]);
            taken[e] = FALSE;
        }
        for (size_t e = 0; e < n_expert; e++)
            all += exp(row[e] - largest);
        for (size_t j = 0; j < k; j++) {
            size_t best = n_expert;

            for (size_t e = 0; e < n_expert; e++)
                if (!taken[e] && (best == n_expert || row[e] > row[best]))
                    best = e;
            taken[best] = TRUE;
            ids[t * k + j] = (int32_t) best;
            gate[t * k + j] = exp(row[best] - largest) / all;
            sum += gate[t * k + j];
        }
        for (size_t j = 0; j < k; j++)
            gate[t * k + j] /= sum;
    }
}

void ref_moe_plan(int32_t *order, const int32_t *ids, size_t n_slot, size_t n_expert)
{
    size_t at = 0;

    for (size_t e = 0; e < n_expert; e++)
        for (size_t s = 0; s < n_slot; s++)
            if ((size_t) ids[s] == e)
                order[at++] = (int32_t) s;
}

void ref_moe_matmul(double *out, double *scale, const float *src, size_t src_stride,
                    const float *weight, const int32_t *ids, size_t n_slot, size_t per_src,
                    size_t n_row, size_t n_col)
{
    for (size_t s = 0; s < n_slot; s++)
        ref_matmul(out + s * n_row, scale + s * n_row, src + s / per_src * src_stride, 0,
                   weight + (size_t) ids[s] * n_row * n_col, NULL, REF_ACT_NONE, NULL, 0, 1, n_row,
                   n_col);
}

void ref_moe_combine(double *out, double *scale, const float *dst, size_t dst_stride,
                     const float *src, size_t src_stride, const float *gate, size_t n_tok, size_t k,
                     size_t n_col)
{
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t c = 0; c < n_col; c++) {
            double sum = dst[t * dst_stride + c], sum_abs = fabs(sum);

            for (size_t j = 0; j < k; j++) {
                const double term = (double) gate[t * k + j] * src[(t * k + j) * src_stride + c];
                sum += term;
                sum_abs += fabs(term);
            }
            out[t * n_col + c] = sum;
            scale[t * n_col + c] = sum_abs;
        }
    }
}
