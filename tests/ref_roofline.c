// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_roofline.c — see ref_roofline.h.
#include "ref_roofline.h"

uint32_t ref_roofline_read(const uint32_t *src, uint64_t n_unit, uint32_t lanes, uint32_t lane)
{
    uint32_t sum = 0;

    for (uint64_t unit = lane; unit < n_unit; unit += lanes)
        for (uint64_t word = 0; word < 4; word++)
            sum += src[unit * 4 + word];
    return sum;
}

double ref_roofline_fma(float x, float y, uint32_t n_chain, uint32_t n_step, uint32_t lane)
{
    double sum = 0;

    for (uint32_t i = 0; i < n_chain; i++) {
        double a = i + lane;
        for (uint32_t step = 0; step < n_step; step++)
            a = a * (double) x + (double) y;
        sum += a;
    }
    return sum;
}
