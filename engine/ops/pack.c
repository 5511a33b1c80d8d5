// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/pack.c — from the file's blocks to lane panels.
//
// A kernel gives each lane a row, so the words that the lanes of a subgroup read at the same time
// must lie side by side. LANES rows (the device's subgroup size) form a panel; a panel is a row
// of units; in a unit, word i of all lanes comes before word i + 1 of any. Words have 64 bits
// unless noted, the first column sits in the lowest bits:
//
//   type          head of a unit                            block of 32 columns
//   F32           -                                         16 words
//   F16, BF16     -                                         8 words
//   Q8_0, Q4_0    four f16 scales                           4 or 2 words
//   Q4_K          scales 6 bits * 8, d; minima, dmin        2 words
//   Q5_K          the same                                  2 words, 32 fifth bits
//   Q6_K          8-bit scales * 8; again; f32 d            2 words of low bits, 1 of high
//
// A unit is one block for the first three, four blocks for the next two, a whole super-block of
// eight for the others; the last unit of a row ends with its last block. Nothing is rounded: the
// bytes are those of the file in another order (d of Q6_K becomes f32). F32, F16 and BF16 rows
// are filled up with zeros to a whole block. shaders/weights.glsl reads this.
#include "ops/matmul.h"

#include <string.h>

#include "base/number.h"
#include "ops/weight_kernels.h"

#define BLOCK_K 32u

typedef struct layout {
    uint32_t unit_blocks;  // blocks in a unit
    uint32_t head_bytes;   // per lane
    uint32_t block_bytes;  // per lane
} layout;

static gboolean find_layout(vlm_dtype dtype, layout *l)
{
    switch (dtype) {
    case VLM_DTYPE_F32:
        *l = (layout){ 1, 0, 128 };
        return TRUE;
    case VLM_DTYPE_F16:
    case VLM_DTYPE_BF16:
        *l = (layout){ 1, 0, 64 };
        return TRUE;
    case VLM_DTYPE_Q8_0:
        *l = (layout){ 4, 8, 32 };
        return TRUE;
    case VLM_DTYPE_Q4_0:
        *l = (layout){ 4, 8, 16 };
        return TRUE;
    case VLM_DTYPE_Q4_K:
        *l = (layout){ 8, 16, 16 };
        return TRUE;
    case VLM_DTYPE_Q5_K:
        *l = (layout){ 8, 16, 20 };
        return TRUE;
    case VLM_DTYPE_Q6_K:
        *l = (layout){ 8, 20, 24 };
        return TRUE;
    default:
        return FALSE;
    }
}

gboolean vlm_weight_supported(vlm_dtype dtype)
{
    layout l;

    return find_layout(dtype, &l);
}

uint32_t vlm_weight_row_group(const vlm_device *dev)
{
    return dev->subgroup_size;
}

uint64_t vlm_weight_panel_bytes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_col)
{
    const uint64_t n_block = vlm_u64_div_up(n_col, BLOCK_K);
    layout l;

    if (!find_layout(dtype, &l) || n_col == 0 || n_col % vlm_dtype_block_elems(dtype) != 0)
        return 0;
    // At most 2^32 columns of 4 bytes in 128 lanes and as much of heads: far below 2^64.
    return dev->subgroup_size
           * (vlm_u64_div_up(n_block, l.unit_blocks) * l.head_bytes + n_block * l.block_bytes);
}

uint64_t vlm_weight_mat_bytes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_row,
                              uint32_t n_col)
{
    const uint64_t n_panel = vlm_u64_div_up(n_row, dev->subgroup_size);
    uint64_t bytes;

    if (!vlm_u64_mul(n_panel, vlm_weight_panel_bytes(dev, dtype, n_col), &bytes)
        || !vlm_u64_align_up(bytes, 64, &bytes))
        return 0;
    return bytes;
}

uint64_t vlm_weight_row_offset(const vlm_device *dev, const vlm_weight *weight, uint32_t row)
{
    return row / dev->subgroup_size * vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col);
}

// Copies `n_word` words of one lane to every `lanes`th place.
static void put_words(uint8_t *dst, const uint8_t *src, uint32_t n_word, uint32_t lanes)
{
    for (uint32_t i = 0; i < n_word; i++)
        memcpy(dst + (size_t) 8 * lanes * i, src + 8 * i, 8);
}

// Two words of nibbles in column order out of bytes that hold column j and j + 16.
static void order_q4_0(const uint8_t *qs, uint8_t *out)
{
    for (int j = 0; j < 8; j++) {
        out[j] = (uint8_t) ((qs[2 * j] & 15) | (qs[2 * j + 1] & 15) << 4);
        out[8 + j] = (uint8_t) (qs[2 * j] >> 4 | (qs[2 * j + 1] & 0xf0));
    }
}

// The same out of the low or high nibbles of 32 bytes.
static void order_nibbles(const uint8_t *qs, int high, uint8_t *out)
{
    for (int j = 0; j < 16; j++)
        out[j] = (uint8_t) ((qs[2 * j] >> 4 * high & 15) | (qs[2 * j + 1] >> 4 * high & 15) << 4);
}

// Row of floating-point numbers of `elem` bytes each; the last block may be cut short.
static void pack_float(const uint8_t *row, uint32_t n_col, uint32_t elem, uint8_t *dst,
                       uint32_t lanes)
{
    const uint32_t per_word = 8 / elem;
    const uint32_t n_full = n_col / per_word, rest = n_col % per_word;

    put_words(dst, row, n_full, lanes);
    if (rest)
        memcpy(dst + (size_t) 8 * lanes * n_full, row + (size_t) 8 * n_full, (size_t) rest * elem);
}

// Q8_0 and Q4_0: blocks of a 2-byte scale and `qs_bytes` of codes.
static void pack_simple(const uint8_t *row, uint32_t n_block, uint32_t qs_bytes, uint8_t *dst,
                        uint32_t lanes)
{
    uint8_t *head = dst;

    for (uint32_t b = 0; b < n_block; b++, row += 2 + qs_bytes) {
        uint8_t ordered[16];

        if (b % 4 == 0) {
            head = dst;
            dst += (size_t) 8 * lanes;
        }
        memcpy(head + 2 * (b % 4), row, 2);
        if (qs_bytes == 16)
            order_q4_0(row + 2, ordered);
        put_words(dst, qs_bytes == 16 ? ordered : row + 2, qs_bytes / 8, lanes);
        dst += (size_t) qs_bytes * lanes;
    }
}

// Q4_K and Q5_K; `lane` because the 32 fifth bits of a lane are half a word.
static void pack_q45_k(const uint8_t *row, uint32_t n_super, gboolean five, uint8_t *dst,
                       uint32_t lanes, uint32_t lane)
{
    for (uint32_t s = 0; s < n_super; s++) {
        const uint8_t *sc = row + 4;
        const uint8_t *qh = row + 16;
        const uint8_t *qs = row + (five ? 48 : 16);
        uint64_t scales = (uint64_t) (row[0] | row[1] << 8) << 48;
        uint64_t minima = (uint64_t) (row[2] | row[3] << 8) << 48;

        for (int g = 0; g < 8; g++) {
            const int scale = g < 4 ? sc[g] & 63 : (sc[g + 4] & 15) | (sc[g - 4] >> 6) << 4;
            const int minimum = g < 4 ? sc[g + 4] & 63 : sc[g + 4] >> 4 | (sc[g] >> 6) << 4;
            scales |= (uint64_t) scale << 6 * g;
            minima |= (uint64_t) minimum << 6 * g;
        }
        vlm_store_le64(dst, scales);
        vlm_store_le64(dst + (size_t) 8 * lanes, minima);
        dst += (size_t) 16 * lanes;
        for (int g = 0; g < 8; g++) {
            uint8_t ordered[16];
            uint32_t fifth = 0;

            order_nibbles(qs + 32 * (g / 2), g & 1, ordered);
            put_words(dst, ordered, 2, lanes);
            dst += (size_t) 16 * lanes;
            if (!five)
                continue;
            for (int j = 0; j < 32; j++)
                fifth |= (uint32_t) (qh[j] >> g & 1) << j;
            vlm_store_le32(dst - 4 * (size_t) lane, fifth);
            dst += (size_t) 4 * lanes;
        }
        row += five ? sizeof(vlm_block_q5_k) : sizeof(vlm_block_q4_k);
    }
}

static void pack_q6_k(const uint8_t *row, uint32_t n_super, uint8_t *dst, uint32_t lanes,
                      uint32_t lane)
{
    for (uint32_t s = 0; s < n_super; s++, row += sizeof(vlm_block_q6_k)) {
        const uint8_t *ql = row, *qh = row + 128, *sc = row + 192;
        const float d = vlm_f16_to_f32((uint16_t) (row[208] | row[209] << 8));

        put_words(dst, sc, 2, lanes);
        vlm_store_le32(dst + (size_t) 16 * lanes - 4 * (size_t) lane, vlm_f32_bits(d));
        dst += (size_t) 20 * lanes;
        for (int g = 0; g < 8; g++) {
            const int half = g / 4, quarter = g % 4;
            uint8_t ordered[16];
            uint64_t high = 0;

            order_nibbles(ql + 64 * half + 32 * (quarter & 1), quarter >= 2, ordered);
            put_words(dst, ordered, 2, lanes);
            for (int j = 0; j < 32; j++)
                high |= (uint64_t) (qh[32 * half + j] >> 2 * quarter & 3) << 2 * j;
            vlm_store_le64(dst + (size_t) 16 * lanes, high);
            dst += (size_t) 24 * lanes;
        }
    }
}

void vlm_weight_pack(const vlm_device *dev, const vlm_weight *weight, const void *rows,
                     uint32_t n_row, void *dst)
{
    const uint32_t lanes = dev->subgroup_size;
    const uint64_t panel_bytes = vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col);
    const uint64_t row_bytes = vlm_dtype_row_bytes(weight->dtype, weight->n_col);
    const uint32_t n_panel = (uint32_t) vlm_u64_div_up(n_row, lanes);

    g_return_if_fail(panel_bytes != 0);
    for (uint32_t p = 0; p < n_panel; p++) {
        uint8_t *panel = (uint8_t *) dst + p * panel_bytes;
        const uint32_t n = MIN(lanes, n_row - p * lanes);

        memset(panel, 0, panel_bytes);
        for (uint32_t lane = 0; lane < n; lane++) {
            const uint8_t *row = (const uint8_t *) rows + (p * lanes + lane) * row_bytes;
            uint8_t *at = panel + 8 * lane;

            switch (weight->dtype) {
            case VLM_DTYPE_F32:
                pack_float(row, weight->n_col, 4, at, lanes);
                break;
            case VLM_DTYPE_F16:
            case VLM_DTYPE_BF16:
                pack_float(row, weight->n_col, 2, at, lanes);
                break;
            case VLM_DTYPE_Q8_0:
                pack_simple(row, weight->n_col / 32, 32, at, lanes);
                break;
            case VLM_DTYPE_Q4_0:
                pack_simple(row, weight->n_col / 32, 16, at, lanes);
                break;
            case VLM_DTYPE_Q4_K:
            case VLM_DTYPE_Q5_K:
                pack_q45_k(row, weight->n_col / 256, weight->dtype == VLM_DTYPE_Q5_K, at, lanes,
                           lane);
                break;
            case VLM_DTYPE_Q6_K:
                pack_q6_k(row, weight->n_col / 256, at, lanes, lane);
                break;
            default:
                g_assert_not_reached();
            }
        }
    }
}
