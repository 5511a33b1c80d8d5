// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/pack.c — from the file's blocks to lane panels.
//
// A kernel gives each lane a row, so the words that the lanes of a subgroup read at the same time
// must lie side by side. LANES rows (the device's subgroup size) form a panel; a panel is a row
// of units; in a unit, word i of all lanes comes before word i + 1 of any. Words have 64 bits
// unless noted, the first column sits in the lowest bits.
//
// A unit is a head, which has the scales, and some blocks of 32 columns. Types share what they can:
// nine kinds of heads, and codes in two planes.
//
//   type           unit       head                                         block: low + high bits
//   F32            1 block    -                                            16 words
//   F16, BF16      1 block    -                                            8 words
//   Q8_0           4 blocks   four f16 d                                   8
//   Q4_0, IQ4_NL   4 blocks   the same                                     4
//   Q5_0           4 blocks   the same                                     4 + 1
//   Q4_1           4 blocks   four f16 d; four f16 minima                  4
//   Q5_1           4 blocks   the same                                     4 + 1
//   MXFP4          8 blocks   eight 8-bit exponents                        4
//   IQ4_XS         8 blocks   8 scales of 6 bits, f16 d                    4
//   Q4_K           8 blocks   8 scales of 6 bits, d; 8 minima, dmin        4
//   Q5_K           8 blocks   the same                                     4 + 1
//   Q3_K           8 blocks   8 scales of 6 bits, d for the first 16       2 + 1
//                             columns of the blocks; the same for the last
//   Q6_K           8 blocks   16 scales of 8 bits; f32 d (half a word)     4 + 2
//   Q2_K           8 blocks   16 scales of 4 bits; 16 minima; d, dmin      2
//                             (half a word)
//
// Low bits of 32 codes are 4, 2 or 1 words for 8, 4 or 2 bits; high bits are half a word or a
// word after them. The last unit of a row ends with its last block. Nothing is rounded: the bits
// are those of the file in another order (d of Q6_K becomes f32, Q3_K has its d twice: 2 bytes in
// 112). F32, F16 and BF16 rows are filled up with zeros to a whole block. shaders/weights.glsl
// reads this.
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
    static const layout layouts[VLM_N_DTYPE] = {
        [VLM_DTYPE_F32] = { 1, 0, 128 },   [VLM_DTYPE_F16] = { 1, 0, 64 },
        [VLM_DTYPE_BF16] = { 1, 0, 64 },   [VLM_DTYPE_Q8_0] = { 4, 8, 32 },
        [VLM_DTYPE_Q4_0] = { 4, 8, 16 },   [VLM_DTYPE_Q4_1] = { 4, 16, 16 },
        [VLM_DTYPE_Q5_0] = { 4, 8, 20 },   [VLM_DTYPE_Q5_1] = { 4, 16, 20 },
        [VLM_DTYPE_Q2_K] = { 8, 20, 8 },   [VLM_DTYPE_Q3_K] = { 8, 16, 12 },
        [VLM_DTYPE_Q4_K] = { 8, 16, 16 },  [VLM_DTYPE_Q5_K] = { 8, 16, 20 },
        [VLM_DTYPE_Q6_K] = { 8, 20, 24 },  [VLM_DTYPE_IQ4_NL] = { 4, 8, 16 },
        [VLM_DTYPE_IQ4_XS] = { 8, 8, 16 }, [VLM_DTYPE_MXFP4] = { 8, 8, 16 },
    };

    if ((uint32_t) dtype >= VLM_N_DTYPE || layouts[dtype].unit_blocks == 0)
        return FALSE;
    *l = layouts[dtype];
    return TRUE;
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

uint32_t vlm_weight_units(vlm_dtype dtype, uint32_t n_col)
{
    layout l;

    return find_layout(dtype, &l)
               ? (uint32_t) vlm_u64_div_up(vlm_u64_div_up(n_col, BLOCK_K), l.unit_blocks)
               : 0;
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
static void order_halves(const uint8_t *qs, uint8_t *out)
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

// A word of codes out of two bits of each of 32 bytes, and half a word out of one.
static uint64_t gather_2(const uint8_t *bytes, int bit)
{
    uint64_t word = 0;

    for (int j = 0; j < 32; j++)
        word |= (uint64_t) (bytes[j] >> bit & 3) << 2 * j;
    return word;
}

static uint32_t gather_1(const uint8_t *bytes, int bit)
{
    uint32_t word = 0;

    for (int j = 0; j < 32; j++)
        word |= (uint32_t) (bytes[j] >> bit & 1) << j;
    return word;
}

// A block of 32 of a small type, as long as each of its parts.
typedef struct small_block {
    uint32_t head_bytes;     // scale, f16 or an exponent
    uint32_t minimum_bytes;  // 0 or an f16
    uint32_t fifth_bytes;    // 0 or 32 bits
    uint32_t qs_bytes;
} small_block;

// Types with blocks of 32. `lane` because the 32 fifth bits of a lane are half a word.
static void pack_small(const uint8_t *row, uint32_t n_block, const small_block *s, const layout *l,
                       uint8_t *dst, uint32_t lanes, uint32_t lane)
{
    uint8_t *head = dst;

    for (uint32_t b = 0; b < n_block; b++) {
        const uint32_t j = b % l->unit_blocks;
        uint8_t ordered[16];

        if (j == 0) {
            head = dst;
            dst += (size_t) l->head_bytes * lanes;
        }
        memcpy(head + s->head_bytes * j, row, s->head_bytes);
        row += s->head_bytes;
        memcpy(head + (size_t) 8 * lanes + 2 * j, row, s->minimum_bytes);
        row += s->minimum_bytes;
        memcpy(dst + (size_t) 16 * lanes - 4 * (size_t) lane, row, s->fifth_bytes);
        row += s->fifth_bytes;
        if (s->qs_bytes == 16)
            order_halves(row, ordered);
        put_words(dst, s->qs_bytes == 16 ? ordered : row, s->qs_bytes / 8, lanes);
        row += s->qs_bytes;
        dst += (size_t) l->block_bytes * lanes;
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

            order_nibbles(qs + 32 * (g / 2), g & 1, ordered);
            put_words(dst, ordered, 2, lanes);
            dst += (size_t) 16 * lanes;
            if (!five)
                continue;
            vlm_store_le32(dst - 4 * (size_t) lane, gather_1(qh, g));
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

            order_nibbles(ql + 64 * half + 32 * (quarter & 1), quarter >= 2, ordered);
            put_words(dst, ordered, 2, lanes);
            vlm_store_le64(dst + (size_t) 16 * lanes, gather_2(qh + 32 * half, 2 * quarter));
            dst += (size_t) 24 * lanes;
        }
    }
}

static void pack_q2_k(const uint8_t *row, uint32_t n_super, uint8_t *dst, uint32_t lanes,
                      uint32_t lane)
{
    for (uint32_t s = 0; s < n_super; s++, row += sizeof(vlm_block_q2_k)) {
        const uint8_t *qs = row + 16;
        uint64_t scales = 0, minima = 0;

        for (int g = 0; g < 16; g++) {
            scales |= (uint64_t) (row[g] & 15) << 4 * g;
            minima |= (uint64_t) (row[g] >> 4) << 4 * g;
        }
        vlm_store_le64(dst, scales);
        vlm_store_le64(dst + (size_t) 8 * lanes, minima);
        memcpy(dst + (size_t) 16 * lanes - 4 * (size_t) lane, row + 80, 4);  // d and dmin
        dst += (size_t) 20 * lanes;
        for (int g = 0; g < 8; g++, dst += (size_t) 8 * lanes)
            vlm_store_le64(dst, gather_2(qs + 32 * (g / 4), 2 * (g % 4)));
    }
}

static void pack_q3_k(const uint8_t *row, uint32_t n_super, uint8_t *dst, uint32_t lanes,
                      uint32_t lane)
{
    for (uint32_t s = 0; s < n_super; s++, row += sizeof(vlm_block_q3_k)) {
        const uint8_t *hmask = row, *qs = row + 32, *sc = row + 96;
        const uint64_t d = (uint64_t) (row[108] | row[109] << 8) << 48;
        uint64_t scales[2] = { d, d };  // of the first and of the last 16 columns

        for (int g = 0; g < 16; g++) {
            const int low = g < 8 ? sc[g] & 15 : sc[g - 8] >> 4;
            const int high = sc[8 + g % 4] >> 2 * (g / 4) & 3;
            scales[g % 2] |= (uint64_t) (low | high << 4) << 6 * (g / 2);
        }
        vlm_store_le64(dst, scales[0]);
        vlm_store_le64(dst + (size_t) 8 * lanes, scales[1]);
        dst += (size_t) 16 * lanes;
        for (int g = 0; g < 8; g++, dst += (size_t) 12 * lanes) {
            vlm_store_le64(dst, gather_2(qs + 32 * (g / 4), 2 * (g % 4)));
            vlm_store_le32(dst + (size_t) 8 * lanes - 4 * (size_t) lane, gather_1(hmask, g));
        }
    }
}

static void pack_iq4_xs(const uint8_t *row, uint32_t n_super, uint8_t *dst, uint32_t lanes)
{
    for (uint32_t s = 0; s < n_super; s++, row += sizeof(vlm_block_iq4_xs)) {
        const int scales_h = row[2] | row[3] << 8;
        uint64_t scales = (uint64_t) (row[0] | row[1] << 8) << 48;

        for (int g = 0; g < 8; g++) {
            const int low = row[4 + g / 2] >> 4 * (g % 2) & 15;
            scales |= (uint64_t) (low | (scales_h >> 2 * g & 3) << 4) << 6 * g;
        }
        vlm_store_le64(dst, scales);
        dst += (size_t) 8 * lanes;
        for (int g = 0; g < 8; g++, dst += (size_t) 16 * lanes) {
            uint8_t ordered[16];

            order_halves(row + 8 + 16 * g, ordered);
            put_words(dst, ordered, 2, lanes);
        }
    }
}

// One row, `lane` of its panel.
static void pack_row(vlm_dtype dtype, const uint8_t *row, uint32_t n_col, uint8_t *dst,
                     uint32_t lanes, uint32_t lane)
{
    static const small_block small[VLM_N_DTYPE] = {
        [VLM_DTYPE_Q8_0] = { 2, 0, 0, 32 },  [VLM_DTYPE_Q4_0] = { 2, 0, 0, 16 },
        [VLM_DTYPE_Q4_1] = { 2, 2, 0, 16 },  [VLM_DTYPE_Q5_0] = { 2, 0, 4, 16 },
        [VLM_DTYPE_Q5_1] = { 2, 2, 4, 16 },  [VLM_DTYPE_IQ4_NL] = { 2, 0, 0, 16 },
        [VLM_DTYPE_MXFP4] = { 1, 0, 0, 16 },
    };
    const uint32_t n_super = n_col / 256;
    layout l;

    switch (dtype) {
    case VLM_DTYPE_F32:
        pack_float(row, n_col, 4, dst, lanes);
        break;
    case VLM_DTYPE_F16:
    case VLM_DTYPE_BF16:
        pack_float(row, n_col, 2, dst, lanes);
        break;
    case VLM_DTYPE_Q2_K:
        pack_q2_k(row, n_super, dst, lanes, lane);
        break;
    case VLM_DTYPE_Q3_K:
        pack_q3_k(row, n_super, dst, lanes, lane);
        break;
    case VLM_DTYPE_Q4_K:
    case VLM_DTYPE_Q5_K:
        pack_q45_k(row, n_super, dtype == VLM_DTYPE_Q5_K, dst, lanes, lane);
        break;
    case VLM_DTYPE_Q6_K:
        pack_q6_k(row, n_super, dst, lanes, lane);
        break;
    case VLM_DTYPE_IQ4_XS:
        pack_iq4_xs(row, n_super, dst, lanes);
        break;
    default:
        g_return_if_fail(find_layout(dtype, &l) && small[dtype].qs_bytes != 0);
        pack_small(row, n_col / 32, &small[dtype], &l, dst, lanes, lane);
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

            pack_row(weight->dtype, row, weight->n_col, panel + 8 * lane, lanes, lane);
        }
    }
}
