// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_kv.c — see ref_kv.h.
#include "ref_kv.h"

#include <math.h>
#include <string.h>

#define SLOTS 64
#define BLOCK 32

static uint32_t n_blocks(uint32_t head_dim)
{
    return (head_dim + BLOCK - 1) / BLOCK;
}

static size_t code_bytes(int bits, uint32_t head_dim)
{
    return (size_t) n_blocks(head_dim) * BLOCK * (size_t) bits / 8;
}

size_t ref_kv_head_bytes(int bits, uint32_t head_dim)
{
    return SLOTS * (code_bytes(bits, head_dim) + 2 * n_blocks(head_dim));
}

uint16_t ref_kv_half(double x)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    const double size = fabs(x);

    if (isnan(x))
        return 0x7e00;
    if (size >= 65520)
        return (uint16_t) (sign | 0x7c00);
    if (size < ldexp(1, -14))
        return (uint16_t) (sign | (int) nearbyint(ldexp(size, 24)));
    // what the fraction rounds up to carries into the exponent
    const int exponent = ilogb(size);
    return (uint16_t) (sign
                       | ((exponent + 14) * 1024 + (int) nearbyint(ldexp(size, 10 - exponent))));
}

static double half_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;

    if (exponent == 31)
        return fraction ? NAN : INFINITY;
    return exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
}

// n with (n - 1/2) d <= x < (n + 1/2) d.
static double nearest(double x, double d)
{
    double n = floor(x / d + 0.5);

    while (x >= (n + 0.5) * d)
        n += 1;
    while (x < (n - 0.5) * d)
        n -= 1;
    return n;
}

static void store_block(uint8_t *codes, uint8_t *scale, int bits, const float *x)
{
    const double least = bits == 8 ? -127 : 0, largest = bits == 8 ? 127 : 15;
    float size = 0, low = 0, high = 0;
    uint16_t head;
    double d, zero = 0;
    int spoilt = 0;

    for (int i = 0; i < BLOCK; i++) {
        spoilt |= !isfinite(x[i]);
        size = fmaxf(size, fabsf(x[i]));
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    if (bits == 8)
        head = ref_kv_half((double) (size * (1.0f / 127.0f)));
    else
        head = (uint16_t) ((ref_kv_half((double) ((high - low) * (1.0f / 15.0f))) + 8) & 0xfff0);
    if (spoilt || head >= 0x7c00)
        head = 0x7e00;
    d = half_value(head);
    memset(codes, 0, (size_t) (BLOCK * bits / 8));
    if (d > 0) {
        if (bits == 4)
            zero = fmin(fmax(nearest(-(double) low, d), least), largest);
        for (int i = 0; i < BLOCK; i++) {
            const int code = (int) fmin(fmax(nearest(x[i], d) + zero, least), largest);
            if (bits == 8)
                codes[i] = (uint8_t) (int8_t) code;
            else
                codes[i / 2] = (uint8_t) (codes[i / 2] | code << i % 2 * 4);
        }
    }
    head = (uint16_t) (head | (int) zero);
    memcpy(scale, &head, 2);
}

void ref_kv_store(void *head, int bits, uint32_t head_dim, uint32_t slot, const float *x)
{
    uint8_t *codes = (uint8_t *) head + slot * code_bytes(bits, head_dim);
    uint8_t *scales = (uint8_t *) head + SLOTS * code_bytes(bits, head_dim) + (size_t) 2 * slot;

    for (uint32_t b = 0; b < n_blocks(head_dim); b++) {
        float block[BLOCK] = { 0 };
        for (uint32_t i = 0; i < BLOCK && b * BLOCK + i < head_dim; i++)
            block[i] = x[b * BLOCK + i];
        store_block(codes + (size_t) b * BLOCK * (size_t) bits / 8, scales + (size_t) b * SLOTS * 2,
                    bits, block);
    }
}

double ref_kv_value(const void *head, int bits, uint32_t head_dim, uint32_t slot, uint32_t d)
{
    const uint8_t *codes = (const uint8_t *) head + slot * code_bytes(bits, head_dim);
    const uint8_t *scales = (const uint8_t *) head + SLOTS * code_bytes(bits, head_dim);
    uint16_t scale;

    memcpy(&scale, scales + 2 * ((size_t) (d / BLOCK) * SLOTS + slot), 2);
    if (bits == 8)
        return half_value(scale) * (int8_t) codes[d];
    return half_value(scale & 0xfff0) * ((codes[d / 2] >> d % 2 * 4 & 15) - (scale & 15));
}

void ref_kv_transform(float *x, uint32_t head_dim, float scale)
{
    for (uint32_t b = 0; b + BLOCK <= head_dim; b += BLOCK) {
        for (uint32_t step = 1; step < BLOCK; step *= 2) {
            for (uint32_t i = b; i < b + BLOCK; i++) {
                if (i & step)
                    continue;
                const float sum = x[i] + x[i + step], difference = x[i] - x[i + step];
                x[i] = sum;
                x[i + step] = difference;
            }
        }
        for (uint32_t i = b; i < b + BLOCK; i++)
            x[i] *= scale;
    }
}
