// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_rope.c — see ref_rope.h.
#include "ref_rope.h"

#include <math.h>

static void rotate(double *a, double *b, long double angle)
{
    const double c = (double) cosl(angle), s = (double) sinl(angle);
    const double x = *a, y = *b;

    *a = x * c - y * s;
    *b = y * c + x * s;
}

void ref_rope_imrope(double *dst, const float *x, const float *weight, double eps,
                     uint32_t head_dim, double theta, const uint32_t sections[4],
                     const uint32_t position[3])
{
    const uint32_t n_pair = sections[0] + sections[1] + sections[2];
    double mean = 0.0;

    for (uint32_t d = 0; d < head_dim; d++)
        mean += (double) x[d] * x[d] / head_dim;
    for (uint32_t d = 0; d < head_dim; d++)
        dst[d] = weight ? x[d] / sqrt(mean + eps) * weight[d] : x[d];
    for (uint32_t i = 0; i < n_pair; i++) {
        const long double frequency = powl(theta, -1.0L * i / n_pair);
        uint32_t axis = 0;

        // h and w take every third pair from the first and second on, sections[] of each
        for (uint32_t a = 1; a <= 2; a++) {
            for (uint32_t j = 0; j < sections[a]; j++) {
                if (i == 3 * j + a)
                    axis = a;
            }
        }
        rotate(&dst[i], &dst[i + n_pair], position[axis] * frequency);
    }
}

void ref_rope_mrope(double *dst, const float *x, uint32_t head_dim, double theta,
                    const uint32_t sections[4], const uint32_t position[3])
{
    uint32_t i = 0;

    for (uint32_t d = 0; d < head_dim; d++)
        dst[d] = x[d];
    for (uint32_t axis = 0; axis < 3; axis++)
        for (uint32_t j = 0; j < sections[axis]; j++, i++)
            rotate(&dst[i], &dst[i + head_dim / 2],
                   position[axis] * powl(theta, -2.0L * i / head_dim));
}

void ref_rope_adjacent(double *dst, const float *x, uint32_t head_dim, double theta,
                       uint32_t position)
{
    for (uint32_t d = 0; d < head_dim; d += 2) {
        dst[d] = x[d];
        dst[d + 1] = x[d + 1];
        rotate(&dst[d], &dst[d + 1], position * powl(theta, -(long double) d / head_dim));
    }
}

void ref_rope_vision(double *dst, const float *x, uint32_t head_dim, uint32_t row, uint32_t column)
{
    const uint32_t quarter = head_dim / 4;

    for (uint32_t d = 0; d < head_dim; d++)
        dst[d] = x[d];
    for (uint32_t j = 0; j < quarter; j++) {
        const long double frequency = powl(10000.0L, -(long double) j / quarter);

        rotate(&dst[j], &dst[j + 2 * quarter], row * frequency);
        rotate(&dst[j + quarter], &dst[j + 3 * quarter], column * frequency);
    }
}
