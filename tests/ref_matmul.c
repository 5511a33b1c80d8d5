// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_matmul.c — plain C reference of products with weights. double throughout.
#include "ref_matmul.h"

#include <math.h>
#include <string.h>

#include "base/number.h"

static void dequant_q4_0(float *out, const vlm_block_q4_0 *b)
{
    const float d = vlm_f16_to_f32(b->d);

    for (int j = 0; j < 16; j++) {
        out[j] = d * (float) ((b->qs[j] & 15) - 8);
        out[j + 16] = d * (float) ((b->qs[j] >> 4) - 8);
    }
}

static void dequant_q8_0(float *out, const vlm_block_q8_0 *b)
{
    const float d = vlm_f16_to_f32(b->d);

    for (int j = 0; j < 32; j++)
        out[j] = d * (float) b->qs[j];
}

static void scale_min(const uint8_t *scales, int g, int *sc, int *mn)
{
    if (g < 4) {
        *sc = scales[g] & 63;
        *mn = scales[g + 4] & 63;
    } else {
        *sc = (scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4;
        *mn = (scales[g + 4] >> 4) | (scales[g] >> 6) << 4;
    }
}

// Fifth bits in qh, or NULL.
static void dequant_q45_k(float *out, uint16_t d16, uint16_t dmin16, const uint8_t *scales,
                          const uint8_t *qs, const uint8_t *qh)
{
    const float d = vlm_f16_to_f32(d16), dmin = vlm_f16_to_f32(dmin16);

    for (int g = 0; g < 8; g++) {
        int sc, mn;

        scale_min(scales, g, &sc, &mn);
        const float scale = d * (float) sc, minimum = dmin * (float) mn;
        for (int j = 0; j < 32; j++) {
            const uint8_t byte = qs[32 * (g / 2) + j];
            int q = g % 2 == 0 ? byte & 15 : byte >> 4;

            if (qh && (qh[j] >> g & 1))
                q += 16;
            const float product = scale * (float) q;
            out[32 * g + j] = product - minimum;
        }
    }
}

static void dequant_q6_k(float *out, const vlm_block_q6_k *b)
{
    const float d = vlm_f16_to_f32(b->d);

    for (int i = 0; i < 256; i++) {
        const int half = i / 128, quarter = i % 128 / 32, j = i % 32;
        const uint8_t low = b->ql[64 * half + 32 * (quarter & 1) + j];
        const uint8_t high = b->qh[32 * half + j];
        const int q = (quarter < 2 ? low & 15 : low >> 4) | (high >> 2 * quarter & 3) << 4;
        const float scale = d * (float) b->scales[i / 16];

        out[i] = scale * (float) (q - 32);
    }
}

// Code i of 32 in q4_0's order, of four bits.
static int nibble_of(const uint8_t *qs, int i)
{
    return i < 16 ? qs[i] % 16 : qs[i - 16] / 16;
}

static int fifth_of(const uint8_t *qh, int i)
{
    return qh[i / 8] >> i % 8 & 1;
}

static void dequant_q4_1(float *out, const vlm_block_q4_1 *b)
{
    const float d = vlm_f16_to_f32(b->d), m = vlm_f16_to_f32(b->m);

    for (int i = 0; i < 32; i++) {
        const float product = d * (float) nibble_of(b->qs, i);
        out[i] = product + m;
    }
}

static void dequant_q5_0(float *out, const vlm_block_q5_0 *b)
{
    const float d = vlm_f16_to_f32(b->d);

    for (int i = 0; i < 32; i++)
        out[i] = d * (float) (nibble_of(b->qs, i) + 16 * fifth_of(b->qh, i) - 16);
}

static void dequant_q5_1(float *out, const vlm_block_q5_1 *b)
{
    const float d = vlm_f16_to_f32(b->d), m = vlm_f16_to_f32(b->m);

    for (int i = 0; i < 32; i++) {
        const float product = d * (float) (nibble_of(b->qs, i) + 16 * fifth_of(b->qh, i));
        out[i] = product + m;
    }
}

static const float iq4_table[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113 };

static void dequant_iq4_nl(float *out, const vlm_block_iq4_nl *b)
{
    const float d = vlm_f16_to_f32(b->d);

    for (int i = 0; i < 32; i++)
        out[i] = d * iq4_table[nibble_of(b->qs, i)];
}

static void dequant_iq4_xs(float *out, const vlm_block_iq4_xs *b)
{
    const float d = vlm_f16_to_f32(b->d);

    for (int g = 0; g < 8; g++) {
        const int low = g % 2 == 0 ? b->scales_l[g / 2] % 16 : b->scales_l[g / 2] / 16;
        const int high = b->scales_h / (1 << 2 * g) % 4;
        const float scale = d * (float) (low + 16 * high - 32);

        for (int i = 0; i < 32; i++)
            out[32 * g + i] = scale * iq4_table[nibble_of(b->qs + 16 * g, i)];
    }
}

static void dequant_mxfp4(float *out, const vlm_block_mxfp4 *b)
{
    static const float table[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    const float d = ldexpf(1, b->e - 128);

    for (int i = 0; i < 32; i++)
        out[i] = d * table[nibble_of(b->qs, i)];
}

static void dequant_q2_k(float *out, const vlm_block_q2_k *b)
{
    const float d = vlm_f16_to_f32(b->d), dmin = vlm_f16_to_f32(b->dmin);

    for (int i = 0; i < 256; i++) {
        const int q = b->qs[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32) & 3;
        const float scale = d * (float) (b->scales[i / 16] % 16);
        const float minimum = dmin * (float) (b->scales[i / 16] / 16);
        const float product = scale * (float) q;

        out[i] = product - minimum;
    }
}

static void dequant_q3_k(float *out, const vlm_block_q3_k *b)
{
    const float d = vlm_f16_to_f32(b->d);
    int sc[16];

    for (int n = 0; n < 4; n++) {
        // bytes n and n + 4 have two low parts each, byte n + 8 the four high parts of them
        const uint8_t one = b->scales[n], two = b->scales[n + 4], high = b->scales[n + 8];
        sc[n] = (one & 15) + 16 * (high & 3);
        sc[n + 4] = (two & 15) + 16 * (high >> 2 & 3);
        sc[n + 8] = (one >> 4) + 16 * (high >> 4 & 3);
        sc[n + 12] = (two >> 4) + 16 * (high >> 6);
    }
    for (int i = 0; i < 256; i++) {
        const int low = b->qs[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32) & 3;
        const int third = b->hmask[i % 32] >> i / 32 & 1;
        const float scale = d * (float) (sc[i / 16] - 32);

        out[i] = scale * (float) (third ? low : low - 4);
    }
}

void ref_dequant(float *out, vlm_dtype dtype, const void *blocks, size_t n)
{
    const uint32_t elems = vlm_dtype_block_elems(dtype), bytes = vlm_dtype_block_bytes(dtype);

    for (size_t at = 0; at < n; at += elems) {
        const uint8_t *src = (const uint8_t *) blocks + at / elems * bytes;
        union {
            vlm_block_q4_0 q4_0;
            vlm_block_q4_1 q4_1;
            vlm_block_q5_0 q5_0;
            vlm_block_q5_1 q5_1;
            vlm_block_q8_0 q8_0;
            vlm_block_q2_k q2_k;
            vlm_block_q3_k q3_k;
            vlm_block_q4_k q4_k;
            vlm_block_q5_k q5_k;
            vlm_block_q6_k q6_k;
            vlm_block_iq4_nl iq4_nl;
            vlm_block_iq4_xs iq4_xs;
            vlm_block_mxfp4 mxfp4;
            uint16_t h;
        } b;

        memcpy(&b, src, MIN(bytes, sizeof b));
        switch (dtype) {
        case VLM_DTYPE_F32:
            memcpy(out + at, src, 4);
            break;
        case VLM_DTYPE_F16:
            out[at] = vlm_f16_to_f32(b.h);
            break;
        case VLM_DTYPE_BF16:
            out[at] = vlm_bf16_to_f32(b.h);
            break;
        case VLM_DTYPE_Q4_0:
            dequant_q4_0(out + at, &b.q4_0);
            break;
        case VLM_DTYPE_Q4_1:
            dequant_q4_1(out + at, &b.q4_1);
            break;
        case VLM_DTYPE_Q5_0:
            dequant_q5_0(out + at, &b.q5_0);
            break;
        case VLM_DTYPE_Q5_1:
            dequant_q5_1(out + at, &b.q5_1);
            break;
        case VLM_DTYPE_Q8_0:
            dequant_q8_0(out + at, &b.q8_0);
            break;
        case VLM_DTYPE_Q2_K:
            dequant_q2_k(out + at, &b.q2_k);
            break;
        case VLM_DTYPE_Q3_K:
            dequant_q3_k(out + at, &b.q3_k);
            break;
        case VLM_DTYPE_Q4_K:
            dequant_q45_k(out + at, b.q4_k.d, b.q4_k.dmin, b.q4_k.scales, b.q4_k.qs, NULL);
            break;
        case VLM_DTYPE_Q5_K:
            dequant_q45_k(out + at, b.q5_k.d, b.q5_k.dmin, b.q5_k.scales, b.q5_k.qs, b.q5_k.qh);
            break;
        case VLM_DTYPE_Q6_K:
            dequant_q6_k(out + at, &b.q6_k);
            break;
        case VLM_DTYPE_IQ4_NL:
            dequant_iq4_nl(out + at, &b.iq4_nl);
            break;
        case VLM_DTYPE_IQ4_XS:
            dequant_iq4_xs(out + at, &b.iq4_xs);
            break;
        case VLM_DTYPE_MXFP4:
            dequant_mxfp4(out + at, &b.mxfp4);
            break;
        default:
            g_assert_not_reached();
        }
    }
}

double ref_activate(double x, ref_act act)
{
    switch (act) {
    case REF_ACT_GELU_TANH:
        return 0.5 * x * (1.0 + tanh(sqrt(2.0 / G_PI) * (x + 0.044715 * x * x * x)));
    case REF_ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2.0));
    case REF_ACT_SILU:
        return x / (1.0 + exp(-x));
    case REF_ACT_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case REF_ACT_GELU_QUICK:
        return x / (1.0 + exp(-1.702 * x));
    default:
        return x;
    }
}

void ref_round_rows(float *out, const float *src, size_t stride, size_t n_row, size_t n_col)
{
    for (size_t at = 0; at < n_row * n_col; at += 32) {
        const size_t from = at / n_col * stride + at % n_col;
        double largest = 0;

        for (size_t i = from; i < from + 32; i++)
            largest = isnan(src[i]) || isnan(largest) ? NAN : fmax(largest, fabs(src[i]));
        const float scale = (float) largest * (1.0f / 127.0f);
        for (size_t i = from; i < from + 32; i++)
            out[i] = largest == 0 ? 0 : (float) (nearbyint(src[i] * 127 / largest) * scale);
    }
}

void ref_matmul(double *out, double *scale, const float *src, size_t src_stride,
                const float *weight, const float *bias, ref_act act, const float *residual,
                size_t residual_stride, size_t n_tok, size_t n_row, size_t n_col)
{
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t r = 0; r < n_row; r++) {
            double sum = 0, sum_abs = 0;

            for (size_t c = 0; c < n_col; c++) {
                const double product = (double) src[t * src_stride + c] * weight[r * n_col + c];
                sum += product;
                sum_abs += fabs(product);
            }
            if (bias) {
                sum += bias[r];
                sum_abs += fabs(bias[r]);
            }
            sum = ref_activate(sum, act);
            if (residual) {
                sum += residual[t * residual_stride + r];
                sum_abs += fabs(residual[t * residual_stride + r]);
            }
            out[t * n_row + r] = sum;
            if (scale)
                scale[t * n_row + r] = sum_abs;
        }
    }
}
