// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_fill.c — random tensor data.
//
// The generator counts: number i of a tensor is splitmix64's output function of key + i * odd
// constant (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Only
// integer arithmetic and one rounding each, so every machine makes the same bits.
#include "random_fill.h"

#include <math.h>

#include "base/number.h"

struct random_fill {
    uint64_t key;
    vlm_dtype dtype;
    uint64_t row_elems;
    float centre, std;
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t number_at(const random_fill *f, uint64_t i)
{
    return mix(f->key + (i + 1) * 0x9e3779b97f4a7c15u);
}

// Of seed and name.
static uint64_t make_key(uint64_t seed, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a

    for (const char *p = name; *p; p++)
        hash = (hash ^ (guint8) *p) * 0x100000001b3u;
    return mix(hash + mix(seed));
}

vlm_dtype random_fill_dtype(uint64_t seed, const char *name, vlm_dtype want, uint64_t n)
{
    static const vlm_dtype all[] = {
        VLM_DTYPE_F32,    VLM_DTYPE_F16,   VLM_DTYPE_BF16, VLM_DTYPE_Q8_0,
        VLM_DTYPE_Q4_0,   VLM_DTYPE_Q4_1,  VLM_DTYPE_Q5_0, VLM_DTYPE_Q5_1,
        VLM_DTYPE_IQ4_NL, VLM_DTYPE_MXFP4, VLM_DTYPE_Q2_K, VLM_DTYPE_Q3_K,
        VLM_DTYPE_Q4_K,   VLM_DTYPE_Q5_K,  VLM_DTYPE_Q6_K, VLM_DTYPE_IQ4_XS,
    };

    if (want == RANDOM_FILL_MIXED) {
        guint n_fit = 0;  // types of smaller blocks come first
        while (n_fit < G_N_ELEMENTS(all) && n % vlm_dtype_block_elems(all[n_fit]) == 0)
            n_fit++;
        return all[mix(make_key(seed, name) + 1) % n_fit];
    }
    if (n % vlm_dtype_block_elems(want) == 0)
        return want;
    return n % vlm_dtype_block_elems(VLM_DTYPE_Q8_0) == 0 ? VLM_DTYPE_Q8_0 : VLM_DTYPE_F16;
}

random_fill *random_fill_new(uint64_t seed, const char *name, vlm_dtype dtype, uint64_t row_elems,
                             float centre, float std)
{
    random_fill *f = g_new0(random_fill, 1);

    f->key = make_key(seed, name);
    f->dtype = dtype;
    f->row_elems = row_elems;
    f->centre = centre;
    f->std = std;
    return f;
}

// Element i as a number: the four 16-bit parts of one random word, added up.
static float value_at(const random_fill *f, uint64_t i)
{
    const uint64_t u = number_at(f, i);
    const int32_t sum =
        (int32_t) ((u & 0xffff) + (u >> 16 & 0xffff) + (u >> 32 & 0xffff) + (u >> 48));
    const float unit = 1.0f / 37837.2f;  // the sum deviates by 65536 * sqrt(4 / 12)

    return f->centre + f->std * (unit * (float) (sum - 131070));
}

// A block scale: `scale` times 0.75 to 1.25, of either sign.
static uint16_t block_scale(uint64_t u, float scale)
{
    const float factor = 0.75f + (float) (u & 0xff) / 512.0f;

    return vlm_f32_to_f16(u & 0x100 ? -scale * factor : scale * factor);
}

// n random bytes of block number `block`, from the words after its first.
static void random_bytes(const random_fill *f, uint64_t block, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t) (number_at(f, block * 64 + 1 + i / 8) >> 8 * (i % 8));
}

// Deviations below are those of the uniform distribution over all codes of a type; a random sign
// of the scale takes away what is left of the mean.
static void fill_q8_0(const random_fill *f, uint64_t block, vlm_block_q8_0 *b)
{
    b->d = block_scale(number_at(f, block * 64), f->std / 73.9f);
    random_bytes(f, block, (uint8_t *) b->qs, sizeof b->qs);
    for (size_t i = 0; i < sizeof b->qs; i++)
        b->qs[i] = (int8_t) MAX(b->qs[i], -127);
}

static void fill_q4_0(const random_fill *f, uint64_t block, vlm_block_q4_0 *b)
{
    b->d = block_scale(number_at(f, block * 64), f->std / 4.61f);
    random_bytes(f, block, b->qs, sizeof b->qs);
}

// With minima so that the mean is near 0.
static void fill_q4_1(const random_fill *f, uint64_t block, vlm_block_q4_1 *b)
{
    b->d = block_scale(number_at(f, block * 64), f->std / 4.61f);
    b->m = vlm_f32_to_f16(-7.5f * vlm_f16_to_f32(b->d));
    random_bytes(f, block, b->qs, sizeof b->qs);
}

static void fill_q5_0(const random_fill *f, uint64_t block, vlm_block_q5_0 *b)
{
    b->d = block_scale(number_at(f, block * 64), f->std / 9.23f);
    random_bytes(f, block, b->qh, sizeof b->qh + sizeof b->qs);
}

static void fill_q5_1(const random_fill *f, uint64_t block, vlm_block_q5_1 *b)
{
    b->d = block_scale(number_at(f, block * 64), f->std / 9.23f);
    b->m = vlm_f32_to_f16(-15.5f * vlm_f16_to_f32(b->d));
    random_bytes(f, block, b->qh, sizeof b->qh + sizeof b->qs);
}

static void fill_iq4_nl(const random_fill *f, uint64_t block, vlm_block_iq4_nl *b)
{
    b->d = block_scale(number_at(f, block * 64), f->std / 67.44f);
    random_bytes(f, block, b->qs, sizeof b->qs);
}

static void fill_iq4_xs(const random_fill *f, uint64_t block, vlm_block_iq4_xs *b)
{
    random_bytes(f, block, (uint8_t *) b, sizeof *b);
    b->d = block_scale(number_at(f, block * 64), f->std / (18.48f * 67.44f));
}

// The two powers of two around the scale that is wanted, one as often as the other.
static void fill_mxfp4(const random_fill *f, uint64_t block, vlm_block_mxfp4 *b)
{
    int exponent;

    (void) frexpf(f->std / 5.85f, &exponent);
    b->e = (uint8_t) (128 + exponent - (int) (number_at(f, block * 64) & 1));
    random_bytes(f, block, b->qs, sizeof b->qs);
}

// Scales 4..15 with minima near them.
static void fill_q2_k(const random_fill *f, uint64_t block, vlm_block_q2_k *b)
{
    random_bytes(f, block, b->scales, sizeof b->scales + sizeof b->qs);
    for (guint g = 0; g < 16; g++) {
        const int scale = 4 + (b->scales[g] & 15) * 3 / 4, wobble = (b->scales[g] >> 4) % 3 - 1;
        b->scales[g] = (uint8_t) (scale | CLAMP(scale + wobble, 0, 15) << 4);
    }
    b->d = block_scale(number_at(f, block * 64), f->std / (1.118f * 10.1f));
    b->dmin = vlm_f32_to_f16(1.5f * vlm_f16_to_f32(b->d));
}

static void fill_q3_k(const random_fill *f, uint64_t block, vlm_block_q3_k *b)
{
    random_bytes(f, block, b->hmask, sizeof b->hmask + sizeof b->qs + sizeof b->scales);
    b->d = block_scale(number_at(f, block * 64), f->std / (2.345f * 18.48f));
}

// Scales and minima of q4_k and q5_k: scales 16..63, minima near them, so that with
// dmin = half of the largest code * d the weights have a mean near 0.
static void fill_k_scales(const random_fill *f, uint64_t block, uint8_t *scales)
{
    const uint64_t u = number_at(f, block * 64 + 60), v = number_at(f, block * 64 + 61);
    uint8_t sc[8], mn[8];

    for (guint g = 0; g < 8; g++) {
        const int scale = 16 + (int) (u >> 8 * g & 0xff) % 48;
        const int wobble = (int) (v >> 8 * g & 7) - 3;
        sc[g] = (uint8_t) scale;
        mn[g] = (uint8_t) CLAMP(scale + wobble, 0, 63);
    }
    for (guint g = 0; g < 4; g++) {
        scales[g] = (uint8_t) (sc[g] | (sc[g + 4] >> 4) << 6);
        scales[g + 4] = (uint8_t) (mn[g] | (mn[g + 4] >> 4) << 6);
        scales[g + 8] = (uint8_t) ((sc[g + 4] & 15) | (mn[g + 4] & 15) << 4);
    }
}

static void fill_q4_k(const random_fill *f, uint64_t block, vlm_block_q4_k *b)
{
    const uint64_t u = number_at(f, block * 64);

    b->d = block_scale(u, f->std / (4.61f * 42.0f));  // 42: root mean square of the scales
    b->dmin = vlm_f32_to_f16(7.5f * vlm_f16_to_f32(b->d));
    fill_k_scales(f, block, b->scales);
    random_bytes(f, block, b->qs, sizeof b->qs);
}

static void fill_q5_k(const random_fill *f, uint64_t block, vlm_block_q5_k *b)
{
    const uint64_t u = number_at(f, block * 64);

    b->d = block_scale(u, f->std / (9.23f * 42.0f));
    b->dmin = vlm_f32_to_f16(15.5f * vlm_f16_to_f32(b->d));
    fill_k_scales(f, block, b->scales);
    random_bytes(f, block, b->qh, sizeof b->qh + sizeof b->qs);
}

static void fill_q6_k(const random_fill *f, uint64_t block, vlm_block_q6_k *b)
{
    const uint64_t u = number_at(f, block * 64);

    b->d = block_scale(u, f->std / (18.48f * 73.9f));
    random_bytes(f, block, b->ql, sizeof b->ql + sizeof b->qh + sizeof b->scales);
}

static void fill_row(const random_fill *f, uint64_t row, uint8_t *dst)
{
    const uint64_t n_block = f->row_elems / vlm_dtype_block_elems(f->dtype);
    const uint32_t bytes = vlm_dtype_block_bytes(f->dtype);

    for (uint64_t i = 0; i < n_block; i++, dst += bytes) {
        const uint64_t at = row * n_block + i;

        switch (f->dtype) {
        case VLM_DTYPE_F32:
            vlm_store_le32(dst, vlm_f32_bits(value_at(f, at)));
            break;
        case VLM_DTYPE_F16:
        case VLM_DTYPE_BF16: {
            const float x = value_at(f, at);
            const uint16_t h = f->dtype == VLM_DTYPE_F16 ? vlm_f32_to_f16(x) : vlm_f32_to_bf16(x);
            dst[0] = (uint8_t) h;
            dst[1] = (uint8_t) (h >> 8);
            break;
        }
        case VLM_DTYPE_Q8_0:
            fill_q8_0(f, at, (vlm_block_q8_0 *) (void *) dst);
            break;
        case VLM_DTYPE_Q4_0:
            fill_q4_0(f, at, (vlm_block_q4_0 *) (void *) dst);
            break;
        case VLM_DTYPE_Q4_1:
            fill_q4_1(f, at, (vlm_block_q4_1 *) (void *) dst);
            break;
        case VLM_DTYPE_Q5_0:
            fill_q5_0(f, at, (vlm_block_q5_0 *) (void *) dst);
            break;
        case VLM_DTYPE_Q5_1:
            fill_q5_1(f, at, (vlm_block_q5_1 *) (void *) dst);
            break;
        case VLM_DTYPE_Q2_K:
            fill_q2_k(f, at, (vlm_block_q2_k *) (void *) dst);
            break;
        case VLM_DTYPE_Q3_K:
            fill_q3_k(f, at, (vlm_block_q3_k *) (void *) dst);
            break;
        case VLM_DTYPE_Q4_K:
            fill_q4_k(f, at, (vlm_block_q4_k *) (void *) dst);
            break;
        case VLM_DTYPE_Q5_K:
            fill_q5_k(f, at, (vlm_block_q5_k *) (void *) dst);
            break;
        case VLM_DTYPE_Q6_K:
            fill_q6_k(f, at, (vlm_block_q6_k *) (void *) dst);
            break;
        case VLM_DTYPE_IQ4_NL:
            fill_iq4_nl(f, at, (vlm_block_iq4_nl *) (void *) dst);
            break;
        case VLM_DTYPE_IQ4_XS:
            fill_iq4_xs(f, at, (vlm_block_iq4_xs *) (void *) dst);
            break;
        case VLM_DTYPE_MXFP4:
            fill_mxfp4(f, at, (vlm_block_mxfp4 *) (void *) dst);
            break;
        default:
            g_assert_not_reached();
        }
    }
}

void random_fill_rows(void *fill, uint64_t first_row, uint64_t n_rows, void *dst)
{
    const random_fill *f = fill;
    const uint64_t row_bytes = vlm_dtype_row_bytes(f->dtype, f->row_elems);

    for (uint64_t row = 0; row < n_rows; row++)
        fill_row(f, first_row + row, (uint8_t *) dst + row * row_bytes);
}
