// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_rows.c — see ref_rows.h.
#include "ref_rows.h"

#include <math.h>

void ref_swiglu(double *dst, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = gate[i] / (1.0 + exp(-(double) gate[i])) * up[i];
}

void ref_sigmoid_gate(double *dst, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = up[i] / (1.0 + exp(-(double) gate[i]));
}

uint32_t ref_argmax(const float *src, size_t n)
{
    size_t best = n;

    for (size_t i = 0; i < n; i++) {
        if (!isnan(src[i]) && (best == n || src[i] > src[best]))
            best = i;
    }
    return best == n ? 0 : (uint32_t) best;
}

static double along(uint32_t at, uint32_t n, uint32_t side)
{
    return n > 1 ? (double) at * (side - 1) / (n - 1) : 0.0;
}

void ref_position_embed(double *dst, const float *table, uint32_t n_col, uint32_t side, uint32_t h,
                        uint32_t w, uint32_t merge)
{
    for (uint32_t by = 0; by < h; by += merge) {
        for (uint32_t bx = 0; bx < w; bx += merge) {
            for (uint32_t y = by; y < by + merge; y++) {
                for (uint32_t x = bx; x < bx + merge; x++) {
                    const double ty = along(y, h, side), tx = along(x, w, side);
                    for (uint32_t c = 0; c < n_col; c++) {
                        double sum = 0.0;
                        for (uint32_t i = 0; i < side * side; i++) {
                            const double wy = 1.0 - fabs(ty - i / side);
                            const double wx = 1.0 - fabs(tx - i % side);
                            if (wy > 0.0 && wx > 0.0)
                                sum += wy * wx * table[(size_t) i * n_col + c];
                        }
                        *dst++ = sum;
                    }
                }
            }
        }
    }
}
