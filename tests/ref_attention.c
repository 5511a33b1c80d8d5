// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_attention.c — see ref_attention.h.
#include "ref_attention.h"
#include "ref_kv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 64

static double half_value(uint16_t h)
{
    const double sign = h & 0x8000 ? -1.0 : 1.0;
    const int exponent = h >> 10 & 31, fraction = h & 1023;

    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

// Element d of the key (which = 0) or value (which = 1) of a slot.
static double page_value(const ref_page *page, const ref_heads *heads, uint32_t which,
                         uint32_t head, uint32_t slot, uint32_t d)
{
    const size_t at =
        (((size_t) which * heads->n_kv_head + head) * PAGE + slot) * heads->head_dim + d;

    if (heads->bits < 16) {
        const size_t bytes = ref_kv_head_bytes(heads->bits, heads->head_dim);
        return ref_kv_value((const char *) page->data
                                + ((size_t) which * heads->n_kv_head + head) * bytes,
                            heads->bits, heads->head_dim, slot, d);
    }
    if (heads->bits == 32) {
        float x;
        memcpy(&x, (const char *) page->data + 4 * at, 4);
        return x;
    }
    uint16_t h;
    memcpy(&h, (const char *) page->data + 2 * at, 2);
    return half_value(h);
}

double ref_attention(double *dst, const float *q, size_t q_stride, const ref_page *pages,
                     uint32_t n_page, uint32_t n_tok, uint32_t slot0, const ref_heads *heads)
{
    const uint32_t hd = heads->head_dim;
    double *score = malloc(((size_t) n_page * PAGE + 1) * sizeof *score);
    double most = 0.0;

    for (uint32_t t = 0; t < n_tok; t++) {
        for (uint32_t h = 0; h < heads->n_head; h++) {
            const uint32_t kv = h / (heads->n_head / heads->n_kv_head);
            const float *row = q + t * q_stride + (size_t) h * hd;
            double *out = dst + ((size_t) t * heads->n_head + h) * hd;
            double top = -INFINITY, total = 0.0;

            for (uint32_t s = 0; s < n_page * PAGE; s++) {
                const ref_page *page = &pages[s / PAGE];
                double sum = 0.0, size = 0.0;

                score[s] = -INFINITY;
                if (s > slot0 + t || s % PAGE < page->begin || s % PAGE >= page->end)
                    continue;
                for (uint32_t d = 0; d < hd; d++) {
                    const double x = row[d] * page_value(page, heads, 0, kv, s % PAGE, d);
                    sum += x;
                    size += fabs(x);
                }
                score[s] = sum * heads->scale;
                top = fmax(top, score[s]);
                most = fmax(most, size * heads->scale);
            }
            memset(out, 0, hd * sizeof *out);
            for (uint32_t s = 0; s < n_page * PAGE; s++) {
                if (score[s] == -INFINITY)
                    continue;
                const double w = exp(score[s] - top);
                total += w;
                for (uint32_t d = 0; d < hd; d++)
                    out[d] += w * page_value(&pages[s / PAGE], heads, 1, kv, s % PAGE, d);
            }
            for (uint32_t d = 0; d < hd && total > 0.0; d++)
                out[d] /= total;
        }
    }
    free(score);
    return most;
}

double ref_attention_full(double *dst, const float *qkv, size_t stride, uint32_t n_row,
                          uint32_t n_patch, int causal, const ref_heads *heads)
{
    const uint32_t hd = heads->head_dim, width = heads->n_head * hd;
    double *score = malloc(n_patch * sizeof *score);
    double most = 0.0;

    for (uint32_t r = 0; r < n_row; r++) {
        const uint32_t first = r / n_patch * n_patch;
        const uint32_t n_seen = causal ? r - first + 1 : n_patch;
        for (uint32_t h = 0; h < heads->n_head; h++) {
            const float *q = qkv + r * stride + (size_t) h * hd;
            double *out = dst + (size_t) r * width + (size_t) h * hd;
            double top = -INFINITY, total = 0.0;

            for (uint32_t s = 0; s < n_seen; s++) {
                const float *k = qkv + (first + s) * stride + width + (size_t) h * hd;
                double sum = 0.0, size = 0.0;
                for (uint32_t d = 0; d < hd; d++) {
                    sum += (double) q[d] * k[d];
                    size += fabs((double) q[d] * k[d]);
                }
                score[s] = sum * heads->scale;
                top = fmax(top, score[s]);
                most = fmax(most, size * heads->scale);
            }
            memset(out, 0, hd * sizeof *out);
            for (uint32_t s = 0; s < n_seen; s++) {
                const float *v = qkv + (first + s) * stride + 2 * width + (size_t) h * hd;
                const double w = exp(score[s] - top);
                total += w;
                for (uint32_t d = 0; d < hd; d++)
                    out[d] += w * v[d];
            }
            for (uint32_t d = 0; d < hd; d++)
                out[d] /= total;
        }
    }
    free(score);
    return most;
}
