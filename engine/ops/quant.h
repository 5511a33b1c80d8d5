// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/quant.h — the storage types of GGUF tensors and the layout of their blocks.
//
// A tensor row is a whole number of blocks. Layouts and ids are those of the GGUF format as
// written by llama.cpp; all multi-byte fields are little-endian. Everything here is constant.
#ifndef VLM_OPS_QUANT_H
#define VLM_OPS_QUANT_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

// Numbers are the file format's own. Types without vlm_dtype_runs() are known by name and size,
// so that an error or `vlm info` can name them.
typedef enum vlm_dtype {
    VLM_DTYPE_F32 = 0,
    VLM_DTYPE_F16 = 1,
    VLM_DTYPE_Q4_0 = 2,
    VLM_DTYPE_Q4_1 = 3,
    VLM_DTYPE_Q5_0 = 6,
    VLM_DTYPE_Q5_1 = 7,
    VLM_DTYPE_Q8_0 = 8,
    VLM_DTYPE_Q8_1 = 9,
    VLM_DTYPE_Q2_K = 10,
    VLM_DTYPE_Q3_K = 11,
    VLM_DTYPE_Q4_K = 12,
    VLM_DTYPE_Q5_K = 13,
    VLM_DTYPE_Q6_K = 14,
    VLM_DTYPE_Q8_K = 15,
    VLM_DTYPE_IQ2_XXS = 16,
    VLM_DTYPE_IQ2_XS = 17,
    VLM_DTYPE_IQ3_XXS = 18,
    VLM_DTYPE_IQ1_S = 19,
    VLM_DTYPE_IQ4_NL = 20,
    VLM_DTYPE_IQ3_S = 21,
    VLM_DTYPE_IQ2_S = 22,
    VLM_DTYPE_IQ4_XS = 23,
    VLM_DTYPE_I8 = 24,
    VLM_DTYPE_I16 = 25,
    VLM_DTYPE_I32 = 26,
    VLM_DTYPE_I64 = 27,
    VLM_DTYPE_F64 = 28,
    VLM_DTYPE_IQ1_M = 29,
    VLM_DTYPE_BF16 = 30,
    VLM_DTYPE_TQ1_0 = 34,
    VLM_DTYPE_TQ2_0 = 35,
    VLM_DTYPE_MXFP4 = 39,
    VLM_DTYPE_NVFP4 = 40,
    VLM_N_DTYPE
} vlm_dtype;

// 32 weights: w[i] = d * (q[i] - 8). Byte j holds weight j in its low and weight j + 16 in its
// high four bits.
typedef struct vlm_block_q4_0 {
    uint16_t d;  // f16
    uint8_t qs[16];
} vlm_block_q4_0;
G_STATIC_ASSERT(sizeof(vlm_block_q4_0) == 18);

// As q4_0 with a minimum in place of the fixed offset: w[i] = d * q[i] + m.
typedef struct vlm_block_q4_1 {
    uint16_t d;  // f16
    uint16_t m;  // f16
    uint8_t qs[16];
} vlm_block_q4_1;
G_STATIC_ASSERT(sizeof(vlm_block_q4_1) == 20);

// As q4_0 with a fifth bit, bit i of qh (little-endian) for weight i: w[i] = d * (q[i] - 16).
typedef struct vlm_block_q5_0 {
    uint16_t d;  // f16
    uint8_t qh[4];
    uint8_t qs[16];
} vlm_block_q5_0;
G_STATIC_ASSERT(sizeof(vlm_block_q5_0) == 22);

// As q4_1 with that fifth bit.
typedef struct vlm_block_q5_1 {
    uint16_t d;  // f16
    uint16_t m;  // f16
    uint8_t qh[4];
    uint8_t qs[16];
} vlm_block_q5_1;
G_STATIC_ASSERT(sizeof(vlm_block_q5_1) == 24);

// As q4_0, but a code is the place of a number in a table: w[i] = d * table[q[i]], with
// -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.
typedef struct vlm_block_iq4_nl {
    uint16_t d;  // f16
    uint8_t qs[16];
} vlm_block_iq4_nl;
G_STATIC_ASSERT(sizeof(vlm_block_iq4_nl) == 18);

// As iq4_nl with another table and a power of two as scale: w[i] = 2^(e - 128) * table[q[i]], with
// 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12. (Twice the numbers of the format E2M1,
// half of the scale E8M0; there is no NaN and no negative zero.)
typedef struct vlm_block_mxfp4 {
    uint8_t e;
    uint8_t qs[16];
} vlm_block_mxfp4;
G_STATIC_ASSERT(sizeof(vlm_block_mxfp4) == 17);

// 32 weights: w[i] = d * qs[i].
typedef struct vlm_block_q8_0 {
    uint16_t d;  // f16
    int8_t qs[32];
} vlm_block_q8_0;
G_STATIC_ASSERT(sizeof(vlm_block_q8_0) == 34);

// 256 weights in 8 groups g of 32: w = d * sc[g] * q - dmin * mn[g].
//
// sc and mn are 6 bits each, packed in `scales`: for g < 4, sc = scales[g] & 63 and
// mn = scales[g + 4] & 63; for g >= 4, sc = (scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4 and
// mn = (scales[g + 4] >> 4) | (scales[g] >> 6) << 4.
// qs: byte 32 * (g / 2) + j holds weight j of group g, low four bits for even g, high for odd.
typedef struct vlm_block_q4_k {
    uint16_t d;     // f16
    uint16_t dmin;  // f16
    uint8_t scales[12];
    uint8_t qs[128];
} vlm_block_q4_k;
G_STATIC_ASSERT(sizeof(vlm_block_q4_k) == 144);

// As q4_k with a fifth bit: bit g of qh[j] adds 16 to weight j of group g.
typedef struct vlm_block_q5_k {
    uint16_t d;     // f16
    uint16_t dmin;  // f16
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} vlm_block_q5_k;
G_STATIC_ASSERT(sizeof(vlm_block_q5_k) == 176);

// 256 weights in 16 groups of 16: w[i] = d * scales[i / 16] * (q[i] - 32), q of 6 bits.
//
// In half h (128 weights each), with j in 0..31 and quarter k in 0..3, weight 128 h + 32 k + j
// has its low four bits in ql[64 h + 32 (k & 1) + j] (low nibble for k < 2, high for k >= 2) and
// its high two bits in qh[32 h + j] at bit 2 k.
typedef struct vlm_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;  // f16
} vlm_block_q6_k;
G_STATIC_ASSERT(sizeof(vlm_block_q6_k) == 210);

// 256 weights in 16 groups g of 16: w = d * (scales[g] & 15) * q - dmin * (scales[g] >> 4), q of 2
// bits. Weight 128 h + 32 k + j, with h, j and k as for q6_k, is in qs[32 h + j] at bit 2 k.
typedef struct vlm_block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d;     // f16
    uint16_t dmin;  // f16
} vlm_block_q2_k;
G_STATIC_ASSERT(sizeof(vlm_block_q2_k) == 84);

// 256 weights in 16 groups g of 16: w = d * (sc[g] - 32) * (q - 4), q of 3 bits.
//
// The low two bits of q are in qs as for q2_k; the third of weight 32 n + j is bit n of hmask[j].
// sc has 6 bits: the low four are in scales[g % 8], in the high nibble for g >= 8, the other two in
// scales[8 + g % 4] at bit 2 * (g / 4).
typedef struct vlm_block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;  // f16
} vlm_block_q3_k;
G_STATIC_ASSERT(sizeof(vlm_block_q3_k) == 110);

// 256 weights in 8 groups g of 32: w = d * (sc[g] - 32) * table[q], table and order within a group
// as for iq4_nl. sc has 6 bits: the low four are in scales_l[g / 2], in the high nibble for odd g,
// the other two in scales_h (little-endian) at bit 2 g.
typedef struct vlm_block_iq4_xs {
    uint16_t d;  // f16
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
} vlm_block_iq4_xs;
G_STATIC_ASSERT(sizeof(vlm_block_iq4_xs) == 136);

typedef struct vlm_dtype_info {
    const char *name;      // "Q4_K"; NULL: not a type
    uint32_t block_elems;  // weights per block
    uint32_t block_bytes;
    gboolean runs;  // the engine has kernels for it
} vlm_dtype_info;

// Properties of type `id` as read from a file, or NULL when there is no such type (unknown ids
// and the ones that the format has removed).
static inline const vlm_dtype_info *vlm_dtype_lookup(uint32_t id)
{
    static const vlm_dtype_info table[VLM_N_DTYPE] = {
        [VLM_DTYPE_F32] = { "F32", 1, 4, TRUE },
        [VLM_DTYPE_F16] = { "F16", 1, 2, TRUE },
        [VLM_DTYPE_Q4_0] = { "Q4_0", 32, 18, TRUE },
        [VLM_DTYPE_Q4_1] = { "Q4_1", 32, 20, TRUE },
        [VLM_DTYPE_Q5_0] = { "Q5_0", 32, 22, TRUE },
        [VLM_DTYPE_Q5_1] = { "Q5_1", 32, 24, TRUE },
        [VLM_DTYPE_Q8_0] = { "Q8_0", 32, 34, TRUE },
        [VLM_DTYPE_Q8_1] = { "Q8_1", 32, 36, FALSE },
        [VLM_DTYPE_Q2_K] = { "Q2_K", 256, 84, TRUE },
        [VLM_DTYPE_Q3_K] = { "Q3_K", 256, 110, TRUE },
        [VLM_DTYPE_Q4_K] = { "Q4_K", 256, 144, TRUE },
        [VLM_DTYPE_Q5_K] = { "Q5_K", 256, 176, TRUE },
        [VLM_DTYPE_Q6_K] = { "Q6_K", 256, 210, TRUE },
        [VLM_DTYPE_Q8_K] = { "Q8_K", 256, 292, FALSE },
        [VLM_DTYPE_IQ2_XXS] = { "IQ2_XXS", 256, 66, FALSE },
        [VLM_DTYPE_IQ2_XS] = { "IQ2_XS", 256, 74, FALSE },
        [VLM_DTYPE_IQ3_XXS] = { "IQ3_XXS", 256, 98, FALSE },
        [VLM_DTYPE_IQ1_S] = { "IQ1_S", 256, 50, FALSE },
        [VLM_DTYPE_IQ4_NL] = { "IQ4_NL", 32, 18, TRUE },
        [VLM_DTYPE_IQ3_S] = { "IQ3_S", 256, 110, FALSE },
        [VLM_DTYPE_IQ2_S] = { "IQ2_S", 256, 82, FALSE },
        [VLM_DTYPE_IQ4_XS] = { "IQ4_XS", 256, 136, TRUE },
        [VLM_DTYPE_I8] = { "I8", 1, 1, FALSE },
        [VLM_DTYPE_I16] = { "I16", 1, 2, FALSE },
        [VLM_DTYPE_I32] = { "I32", 1, 4, FALSE },
        [VLM_DTYPE_I64] = { "I64", 1, 8, FALSE },
        [VLM_DTYPE_F64] = { "F64", 1, 8, FALSE },
        [VLM_DTYPE_IQ1_M] = { "IQ1_M", 256, 56, FALSE },
        [VLM_DTYPE_BF16] = { "BF16", 1, 2, TRUE },
        [VLM_DTYPE_TQ1_0] = { "TQ1_0", 256, 54, FALSE },
        [VLM_DTYPE_TQ2_0] = { "TQ2_0", 256, 66, FALSE },
        [VLM_DTYPE_MXFP4] = { "MXFP4", 32, 17, TRUE },
        [VLM_DTYPE_NVFP4] = { "NVFP4", 64, 36, FALSE },
    };

    return id < VLM_N_DTYPE && table[id].name ? &table[id] : NULL;
}

// The functions below take only types that vlm_dtype_lookup() knows, which every tensor of an
// opened vlm_gguf has.
static inline const char *vlm_dtype_name(vlm_dtype dtype)
{
    const vlm_dtype_info *info = vlm_dtype_lookup(dtype);

    return info ? info->name : "unknown";
}

static inline uint32_t vlm_dtype_block_elems(vlm_dtype dtype)
{
    return vlm_dtype_lookup(dtype)->block_elems;
}

static inline uint32_t vlm_dtype_block_bytes(vlm_dtype dtype)
{
    return vlm_dtype_lookup(dtype)->block_bytes;
}

static inline gboolean vlm_dtype_runs(vlm_dtype dtype)
{
    const vlm_dtype_info *info = vlm_dtype_lookup(dtype);

    return info && info->runs;
}

// Bytes of a row of n elements; n must be a multiple of the block.
static inline uint64_t vlm_dtype_row_bytes(vlm_dtype dtype, uint64_t n)
{
    return n / vlm_dtype_block_elems(dtype) * vlm_dtype_block_bytes(dtype);
}

#endif
