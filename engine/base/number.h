// SPDX-License-Identifier: LGPL-2.1-or-later
// base/number.h — checked sizes and the 16-bit floating-point formats.
//
// Sizes that come from a file, a stream or a property go through the checked functions: a plain
// `+` or `*` on such a value is a bug. Everything here is pure and thread-safe.
#ifndef VLM_BASE_NUMBER_H
#define VLM_BASE_NUMBER_H

#include <glib.h>
#include <stdint.h>
#include <string.h>

// *out = a + b. FALSE, with *out untouched, when the sum does not fit.
static inline gboolean vlm_u64_add(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b)
        return FALSE;
    *out = a + b;
    return TRUE;
}

// *out = a * b. FALSE, with *out untouched, when the product does not fit.
static inline gboolean vlm_u64_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b != 0 && a > UINT64_MAX / b)
        return FALSE;
    *out = a * b;
    return TRUE;
}

static inline gboolean vlm_is_power_of_two(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

// *out = x rounded up to a multiple of `align`, a power of two. FALSE when that does not fit.
static inline gboolean vlm_u64_align_up(uint64_t x, uint64_t align, uint64_t *out)
{
    uint64_t sum;

    if (!vlm_u64_add(x, align - 1, &sum))
        return FALSE;
    *out = sum & ~(align - 1);
    return TRUE;
}

// Ceiling of a / b for b > 0, without overflow.
static inline uint64_t vlm_u64_div_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline uint32_t vlm_f32_bits(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float vlm_f32_from_bits(uint32_t u)
{
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

// IEEE binary16 to binary32, exact for every input; NaN payloads are kept.
static inline float vlm_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t) (h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 0x1f;
    const uint32_t fraction = h & 0x3ff;

    if (exponent == 0x1f)
        return vlm_f32_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0)
        return vlm_f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    // Zero and subnormals: fraction * 2^-24 is exact in binary32.
    const float magnitude = (float) fraction * 0x1p-24f;
    return vlm_f32_from_bits(sign | vlm_f32_bits(magnitude));
}

// IEEE binary32 to binary16, round to nearest, ties to even; too large becomes infinity, NaN
// becomes a quiet NaN.
static inline uint16_t vlm_f32_to_f16(float x)
{
    const uint32_t u = vlm_f32_bits(x);
    const uint16_t sign = (uint16_t) (u >> 16 & 0x8000);
    const uint32_t magnitude = u & 0x7fffffff;

    if (magnitude > 0x7f800000)
        return (uint16_t) (sign | 0x7e00);
    if (magnitude >= 0x477ff000)  // 65520, halfway between the largest half and 2^16
        return (uint16_t) (sign | 0x7c00);
    if (magnitude < 0x38800000) {  // below 2^-14: subnormal or zero
        // Adding 0.5 makes the last bit of the sum worth 2^-24, a half's smallest step, so the
        // addition itself rounds to nearest even.
        const float shifted = vlm_f32_from_bits(magnitude) + 0.5f;
        return (uint16_t) (sign | (vlm_f32_bits(shifted) - 0x3f000000));
    }
    const uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t) (sign | (magnitude - 0x38000000 + 0xfff + odd) >> 13);
}

// bfloat16 is the upper half of binary32.
static inline float vlm_bf16_to_f32(uint16_t h)
{
    return vlm_f32_from_bits((uint32_t) h << 16);
}

// Round to nearest, ties to even; NaN becomes a quiet NaN.
static inline uint16_t vlm_f32_to_bf16(float x)
{
    const uint32_t u = vlm_f32_bits(x);

    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t) (u >> 16 | 0x40);
    return (uint16_t) ((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// Little-endian loads and stores at any alignment.
static inline uint32_t vlm_load_le32(const void *src)
{
    uint32_t u;

    memcpy(&u, src, sizeof u);
    return GUINT32_FROM_LE(u);
}

static inline uint64_t vlm_load_le64(const void *src)
{
    uint64_t u;

    memcpy(&u, src, sizeof u);
    return GUINT64_FROM_LE(u);
}

static inline void vlm_store_le32(void *dst, uint32_t u)
{
    u = GUINT32_TO_LE(u);
    memcpy(dst, &u, sizeof u);
}

static inline void vlm_store_le64(void *dst, uint64_t u)
{
    u = GUINT64_TO_LE(u);
    memcpy(dst, &u, sizeof u);
}

#endif
