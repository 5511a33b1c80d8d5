// SPDX-License-Identifier: LGPL-2.1-or-later
// check_weights.c — random weights for the checks of products.
#include "check_weights.h"

#include <math.h>
#include <string.h>

#include "base/number.h"
#include "ops/matmul_dot.h"
#include "ops/weight_kernels.h"
#include "ref_matmul.h"

const vlm_dtype check_weight_types[CHECK_N_WEIGHT_TYPE] = {
    VLM_DTYPE_F32,  VLM_DTYPE_F16,    VLM_DTYPE_BF16,   VLM_DTYPE_Q8_0,
    VLM_DTYPE_Q4_0, VLM_DTYPE_Q4_1,   VLM_DTYPE_Q5_0,   VLM_DTYPE_Q5_1,
    VLM_DTYPE_Q2_K, VLM_DTYPE_Q3_K,   VLM_DTYPE_Q4_K,   VLM_DTYPE_Q5_K,
    VLM_DTYPE_Q6_K, VLM_DTYPE_IQ4_NL, VLM_DTYPE_IQ4_XS, VLM_DTYPE_MXFP4,
};

// A sum of n products in blocks of 32, blocks added up in order, is off by at most
// (32 + n / 32) roundings of the sum of the magnitudes, by far less as a rule: 3e-7 was the worst
// seen up to n = 4304. Folded scales of the types with minima cancel against these: the same terms,
// five times as large.
double check_sum_tolerance(vlm_dtype dtype)
{
    switch (dtype) {
    case VLM_DTYPE_Q4_1:
    case VLM_DTYPE_Q5_1:
    case VLM_DTYPE_Q2_K:
    case VLM_DTYPE_Q4_K:
    case VLM_DTYPE_Q5_K:
        return 3e-6;
    default:
        return 6e-7;
    }
}

uint32_t check_wide_rows(const check *ck)
{
    uint32_t n_panel = 69;

    while (vlm_tile_choose(ck->dev, 1, n_panel).n_panel < ck->dev->tuning[VLM_TUNE_TILE_PANELS_ONE])
        n_panel = 2 * n_panel + 1;
    return n_panel * ck->dev->subgroup_size - 4;
}

static uint16_t random_scale(check *ck, check_fill fill)
{
    switch (fill) {
    case FILL_ZERO:
        return 0;
    case FILL_ONE:
        return 0x3c00;
    case FILL_LARGE:
        return 0x7bff;
    case FILL_TINY:
        return (uint16_t) g_rand_int_range(ck->rand, 1, 0x400);  // subnormal
    case FILL_LEAST:
        return 1;
    default: {
        const double d = g_rand_double_range(ck->rand, 0.002, 0.02);
        return vlm_f32_to_f16((float) (g_rand_boolean(ck->rand) ? d : -d));
    }
    }
}

// The exponent of MXFP4's scale for a fill; the ends of its range are in the recorded blocks.
static uint8_t random_exponent(check *ck, check_fill fill)
{
    switch (fill) {
    case FILL_ZERO:  // there is no zero
    case FILL_TINY:
        return (uint8_t) g_rand_int_range(ck->rand, 90, 104);
    case FILL_LEAST:  // the first two scales are subnormal
        return (uint8_t) g_rand_int_range(ck->rand, 0, 4);
    case FILL_ONE:
        return 128;
    case FILL_LARGE:
        return 143;
    default:
        return (uint8_t) g_rand_int_range(ck->rand, 119, 124);
    }
}

// Where a type has its f16 scale, and its second one (of minima), in a block. -1: nowhere.
static void find_scales(vlm_dtype dtype, int *d, int *dmin)
{
    *d = 0;
    *dmin = -1;
    switch (dtype) {
    case VLM_DTYPE_Q4_1:
    case VLM_DTYPE_Q5_1:
    case VLM_DTYPE_Q4_K:
    case VLM_DTYPE_Q5_K:
        *dmin = 2;
        break;
    case VLM_DTYPE_Q2_K:
        *d = 80;
        *dmin = 82;
        break;
    case VLM_DTYPE_Q3_K:
        *d = 108;
        break;
    case VLM_DTYPE_Q6_K:
        *d = 208;
        break;
    case VLM_DTYPE_MXFP4:
        *d = -1;
        break;
    default:
        break;
    }
}

static void fill_block(check *ck, vlm_dtype dtype, uint8_t *block, check_fill fill)
{
    const uint32_t bytes = vlm_dtype_block_bytes(dtype);
    const uint16_t d = GUINT16_TO_LE(random_scale(ck, fill));
    const uint16_t dmin = GUINT16_TO_LE(random_scale(ck, fill));
    int d_at, dmin_at;

    for (uint32_t i = 0; i < bytes; i++)
        block[i] = (uint8_t) (g_rand_int(ck->rand) >> 11);
    find_scales(dtype, &d_at, &dmin_at);
    if (d_at >= 0)
        memcpy(block + d_at, &d, 2);
    else
        block[0] = random_exponent(ck, fill);
    if (dmin_at >= 0)
        memcpy(block + dmin_at, &dmin, 2);
}

// Rows in the file's layout.
static void fill_rows(check *ck, vlm_dtype dtype, uint8_t *rows, size_t n_block, check_fill fill)
{
    const uint32_t bytes = vlm_dtype_block_bytes(dtype);
    g_autofree float *numbers = NULL;

    if (vlm_dtype_block_elems(dtype) > 1) {
        for (size_t b = 0; b < n_block; b++)
            fill_block(ck, dtype, rows + b * bytes, fill);
        return;
    }
    numbers = g_new(float, n_block);
    check_fill_f32(ck, numbers, n_block, fill);
    if (dtype == VLM_DTYPE_F32) {
        memcpy(rows, numbers, n_block * 4);
        return;
    }
    for (size_t i = 0; i < n_block; i++) {
        uint16_t h = vlm_f32_to_bf16(numbers[i]);

        if (dtype == VLM_DTYPE_F16)  // 1e15 would be infinite, 1e-12 zero: the ends of the range
            h = fill == FILL_LARGE   ? (uint16_t) (i % 2 ? 0x7bff : 0xfbff)
                : fill == FILL_TINY  ? (uint16_t) (1 + i % 1023)
                : fill == FILL_LEAST ? 1
                                     : vlm_f32_to_f16(numbers[i]);
        memcpy(rows + 2 * i, &h, 2);
    }
}

check_weight *check_weight_new(check *ck, vlm_dtype dtype, uint32_t n_mat, uint32_t n_row,
                               uint32_t n_col, check_fill fill)
{
    check_weight *cw = g_new0(check_weight, 1);
    const size_t n = (size_t) n_row * n_col;
    const size_t n_block = n / vlm_dtype_block_elems(dtype);
    const uint64_t mat_bytes = vlm_weight_mat_bytes(ck->dev, dtype, n_row, n_col);
    g_autofree uint8_t *rows = g_malloc(n_block * vlm_dtype_block_bytes(dtype));

    g_assert_cmpuint(mat_bytes, !=, 0);
    cw->buf = check_buf_new(ck, mat_bytes * n_mat);
    cw->values = g_new(float, n *n_mat);
    cw->w = (vlm_weight){ .dtype = dtype,
                          .n_mat = n_mat,
                          .n_row = n_row,
                          .n_col = n_col,
                          .addr = cw->buf->addr,
                          .mat_bytes = mat_bytes };
    for (uint32_t m = 0; m < n_mat; m++) {
        fill_rows(ck, dtype, rows, n_block, fill);
        ref_dequant(cw->values + m * n, dtype, rows, n);
        // in two parts where there are two, as a loader with a small staging buffer does
        const uint32_t first = MIN(n_row, vlm_weight_row_group(ck->dev));
        uint8_t *dst = (uint8_t *) cw->buf->data + m * mat_bytes;
        vlm_weight_pack(ck->dev, &cw->w, rows, first, dst);
        if (n_row > first)
            vlm_weight_pack(ck->dev, &cw->w, rows + first * vlm_dtype_row_bytes(dtype, n_col),
                            n_row - first, dst + vlm_weight_row_offset(ck->dev, &cw->w, first));
    }
    return cw;
}

void check_weight_scatter(check *ck, check_weight *cw)
{
    const uint64_t from = 192;  // what `addr` adds to the places
    const uint64_t bytes = cw->w.mat_bytes, step = bytes + 64;
    g_autofree uint32_t *order = g_new(uint32_t, cw->w.n_mat);

    for (uint32_t m = 0; m < cw->w.n_mat; m++) {
        const uint32_t at = (uint32_t) g_rand_int_range(ck->rand, 0, (gint32) m + 1);
        order[m] = order[at];
        order[at] = m;
    }
    cw->apart = check_buf_new(ck, step * cw->w.n_mat);
    cw->table = check_buf_new(ck, 8 * (size_t) cw->w.n_mat);
    for (uint32_t m = 0; m < cw->w.n_mat; m++) {
        const uint64_t at = step * order[m];
        memcpy((uint8_t *) cw->apart->data + at, (uint8_t *) cw->buf->data + m * bytes, bytes);
        ((uint64_t *) cw->table->data)[m] = cw->apart->addr + at - from;
    }
    memset(cw->buf->data, 0xff, cw->buf->bytes);
    cw->w.addr = from;
    cw->w.table = cw->table->addr;
}

void check_weight_free(check_weight *cw)
{
    check_buf_free(cw->buf);
    if (cw->apart) {
        check_buf_free(cw->apart);
        check_buf_free(cw->table);
    }
    g_free(cw->values);
    g_free(cw);
}

// Moves what lies in the middle between two codes away from there, towards zero.
static void leave_middles(float *block)
{
    double largest = 0;

    for (int i = 0; i < 32; i++)
        largest = isnan(block[i]) ? NAN : fmax(largest, fabs(block[i]));
    for (int i = 0; largest > 0 && i < 32; i++) {
        const double steps = block[i] * 127 / largest;
        if (fabs(steps - floor(steps) - 0.5) < 1e-3)
            block[i] *= 0.995f;
    }
}

float *check_activations(check *ck, vlm_dtype dtype, gboolean matrix, float *src, uint32_t n_row,
                         uint32_t n_col, uint32_t stride)
{
    float *out = g_memdup2(src, (size_t) n_row * stride * 4);

    if (matrix || !vlm_dot_takes(ck->dev, dtype))
        return out;
    for (uint32_t r = 0; r < n_row; r++)
        for (uint32_t c = 0; c < n_col; c += 32)
            leave_middles(src + (size_t) r * stride + c);
    ref_round_rows(out, src, stride, n_row, n_col);
    return out;
}

char *check_compare_sum(const float *got, const double *want, const double *scale, size_t n_row,
                        size_t n_col, size_t row_stride, double relative, double of_value)
{
    char *why = compare_f32(got, want, n_row, n_col, row_stride,
                            (tolerance){ .absolute = INFINITY, .relative = 0 });

    for (size_t r = 0; !why && r < n_row; r++) {
        for (size_t c = 0; !why && c < n_col; c++) {
            const double ref = want[r * n_col + c], error = fabs(got[r * row_stride + c] - ref);
            const double bound = relative * scale[r * n_col + c] + of_value * fabs(ref);

            if (!isnan(ref) && !(error <= bound))
                why = g_strdup_printf("[%zu, %zu] is %.9g, expected %.9g, error %.3g over %.3g", r,
                                      c, (double) got[r * row_stride + c], ref, error, bound);
        }
    }
    return why;
}
