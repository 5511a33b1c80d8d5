// SPDX-License-Identifier: LGPL-2.1-or-later
// check_matmul.c — products with packed weights and embedding rows against their references.
#include <math.h>
#include <string.h>

#include "check_weights.h"
#include "ops/matmul_coopmat.h"
#include "ops/matmul_dot.h"
#include "ref_matmul.h"
#include "vectors.h"

typedef struct matmul_case {
    vlm_dtype dtype;
    uint32_t n_tok, n_row, n_col;
    check_fill fill;    // of activations
    check_fill w_fill;  // of weights
    vlm_act act;
    gboolean bias;
    int residual;      // 1: a tensor of its own, 2: dst itself
    gboolean nan_row;  // one token is not a number
    gboolean loads;    // lanes load the same activations, as with more lanes
} matmul_case;

// n rounded up to a multiple of 4, and four more: rows of activations start at 16 bytes.
static uint32_t padded(uint32_t n)
{
    return (n + 3) / 4 * 4 + 4;
}

static void fill_tensor(check *ck, float *dst, uint32_t n_row, uint32_t n_col, uint32_t stride,
                        check_fill fill)
{
    for (uint32_t r = 0; r < n_row; r++)  // gaps keep their NaN: using one shows
        check_fill_f32(ck, dst + (size_t) r * stride, n_col, fill);
}

// What rounded activations cost: the root of the mean square error, at most 1e-2 of the root of the
// sum of the squares of a product's terms, which is what a product of random numbers is on average.
// (Its own value may cancel: types with minima are filled with weights of one sign.)
static char *compare_exact(const float *got, uint32_t stride, const double *exact,
                           const float *weights, const float *x, uint32_t x_stride,
                           const matmul_case *c)
{
    double off = 0, all = 0;

    for (uint32_t t = 0; t < c->n_tok; t++) {
        for (uint32_t r = 0; r < c->n_row; r++) {
            const double error =
                (double) got[(size_t) t * stride + r] - exact[(size_t) t * c->n_row + r];

            off += error * error;
            for (uint32_t k = 0; k < c->n_col; k++) {
                const double term = (double) weights[(size_t) r * c->n_col + k]
                                    * (double) x[(size_t) t * x_stride + k];
                all += term * term;
            }
        }
    }
    return off <= 1e-4 * all ? NULL
                             : g_strdup_printf("off by %.3g of the exact product", sqrt(off / all));
}

// Adds `step` times the magnitudes of a token's activations to each of its scales.
static void allow_steps(double *scale, double step, const float *x, uint32_t stride,
                        const matmul_case *c)
{
    for (uint32_t t = 0; t < c->n_tok; t++) {
        double sum = 0;

        for (uint32_t k = 0; k < c->n_col; k++)
            sum += fabs((double) x[(size_t) t * stride + k]);
        for (uint32_t r = 0; r < c->n_row; r++)
            scale[(size_t) t * c->n_row + r] += step * sum;
    }
}

static void run_case(check *ck, const matmul_case *c)
{
    const uint32_t src_stride = padded(c->n_col), dst_stride = c->n_row + 3;
    const uint32_t res_stride = c->residual == 2 ? dst_stride : c->n_row + 1;
    const size_t n_out = (size_t) c->n_tok * c->n_row;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf(
        "%s [%u, %u] x [%u, %u] %s weights %s act %d bias %d residual %d%s",
        vlm_dtype_name(c->dtype), c->n_tok, c->n_col, c->n_row, c->n_col, check_fill_name[c->fill],
        check_fill_name[c->w_fill], c->act, c->bias, c->residual, c->loads ? " loads" : "");
    g_autoptr(check_weight) cw = check_weight_new(ck, c->dtype, 1, c->n_row, c->n_col, c->w_fill);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) c->n_tok * dst_stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) c->n_tok * src_stride * 4);
    g_autoptr(check_buf) bias = check_buf_new(ck, (size_t) c->n_row * 4);
    g_autoptr(check_buf) residual = check_buf_new(ck, (size_t) c->n_tok * res_stride * 4);
    check_buf *res = c->residual == 2 ? dst : residual;
    check_buf *bufs[] = { dst, src, bias, residual, cw->buf };
    g_autofree double *want = g_new(double, n_out), *scale = g_new(double, n_out);
    g_autofree double *exact = g_new(double, n_out);
    vlm_tensor t_dst = { dst->addr, c->n_tok, c->n_row, dst_stride };
    vlm_tensor t_src = { src->addr, c->n_tok, c->n_col, src_stride };
    vlm_tensor t_res = { res->addr, c->n_tok, c->n_row, res_stride };
    vlm_matmul_post post = { .bias = c->bias ? bias->addr : 0,
                             .act = c->act,
                             .residual = c->residual ? &t_res : NULL };
    gboolean ok;

    const gboolean matrix = vlm_coopmat_takes(ck->dev, c->dtype, c->n_tok);
    const gboolean rounds = !matrix && !c->loads && vlm_dot_takes(ck->dev, c->dtype);
    fill_tensor(ck, src->data, c->n_tok, c->n_col, src_stride, c->fill);
    if (c->nan_row)
        for (uint32_t k = 0; k < c->n_col; k++)
            ((float *) src->data)[(size_t) (c->n_tok / 2) * src_stride + k] = NAN;
    if (c->bias)
        check_fill_f32(ck, bias->data, c->n_row, FILL_NORMAL);
    if (c->residual)
        fill_tensor(ck, res->data, c->n_tok, c->n_row, res_stride, FILL_NORMAL);
    g_autofree float *x =
        check_activations(ck, c->dtype, !rounds, src->data, c->n_tok, c->n_col, src_stride);
    const float *to_add = c->residual ? res->data : NULL;
    if (rounds)
        ref_matmul(exact, NULL, src->data, src_stride, cw->values, c->bias ? bias->data : NULL,
                   (ref_act) c->act, to_add, res_stride, c->n_tok, c->n_row, c->n_col);
    ref_matmul(want, scale, x, src_stride, cw->values, c->bias ? bias->data : NULL,
               (ref_act) c->act, to_add, res_stride, c->n_tok, c->n_row, c->n_col);

    ok = vlm_cmd_begin(ck->cmd, &error);
    if (ok && c->loads) {
        vlm_kernel_spec spec = vlm_tile_spec(ck->dev, vlm_tile_choose(ck->dev, c->n_tok, 1),
                                             (vlm_tile_use){ .act = c->act != 0 });
        spec.own[VLM_TILE_SHUFFLE] = FALSE;
        ok = vlm_matmul_record(ck->cmd, &t_dst, &t_src, &cw->w, &post, &spec, &error);
    } else if (ok) {
        ok = vlm_op_matmul(ck->cmd, &t_dst, &t_src, &cw->w, &post, &error);
    }
    // matrix units round both factors to 11 bits, and weights to a multiple of 2^-24
    const double rounding = matrix ? 0x1p-10 : 0;
    if (matrix && c->w_fill == FILL_TINY)
        allow_steps(scale, 0x1p-25 / rounding, x, src_stride, c);
    // Activation functions have a slope of at most 1.13; exp and division add a few roundings.
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        char *why =
            check_compare_sum(dst->data, want, scale, c->n_tok, c->n_row, dst_stride,
                              (check_sum_tolerance(c->dtype) + rounding) * (c->act ? 1.2 : 1.0),
                              c->act ? 3e-6 : 2e-7);
        if (!why && rounds && c->n_tok >= 8 && n_out >= 64 && c->fill == FILL_NORMAL
            && c->w_fill == FILL_NORMAL && !c->nan_row)
            why = compare_exact(dst->data, dst_stride, exact, cw->values, src->data, src_stride, c);
        check_verdict(ck, what, why);
    }
}

static void embed_case(check *ck, vlm_dtype dtype, uint32_t n_tok, uint32_t n_row, uint32_t n_col,
                       check_fill fill)
{
    const uint32_t stride = n_col + 3;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("embed %s [%u] of [%u, %u] %s", vlm_dtype_name(dtype),
                                            n_tok, n_row, n_col, check_fill_name[fill]);
    g_autoptr(check_weight) cw = check_weight_new(ck, dtype, 1, n_row, n_col, fill);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_tok * stride * 4);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_tok * 4);
    g_autofree gint32 *want = g_new(gint32, (size_t) n_tok * stride);
    check_buf *bufs[] = { dst, ids, cw->buf };
    vlm_tensor t_dst = { dst->addr, n_tok, n_col, stride };
    gboolean ok;

    memcpy(want, dst->data, (size_t) n_tok * stride * 4);  // unwritten
    for (uint32_t t = 0; t < n_tok; t++) {
        uint32_t id = (uint32_t) g_rand_int_range(ck->rand, 0, (gint32) n_row);

        if (t % 5 == 3)
            id = t % 2 ? UINT32_MAX : n_row;
        ((uint32_t *) ids->data)[t] = id;
        if (id != UINT32_MAX)
            memcpy(want + (size_t) t * stride, cw->values + (size_t) (id < n_row ? id : 0) * n_col,
                   (size_t) n_col * 4);
    }
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_embed(ck->cmd, &t_dst, ids->addr, &cw->w, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        // to the bit, rows of UINT32_MAX and gaps untouched
        for (size_t i = 0; i < (size_t) n_tok * stride; i++) {
            if (((gint32 *) dst->data)[i] != want[i]) {
                check_verdict(ck, what,
                              g_strdup_printf("[%zu, %zu] is 0x%08x, expected 0x%08x", i / stride,
                                              i % stride, ((guint32 *) dst->data)[i],
                                              (guint32) want[i]));
                return;
            }
        }
        check_verdict(ck, what, NULL);
    }
}

// Recorded blocks, `per_row` of them in a row, through packing and the embedding kernel to the
// values of another implementation. Vulkan lets devices take what is subnormal in f32 for zero; of
// the types with blocks, only MXFP4 with the lowest exponents has such values.
static void recorded_case(check *ck, const vectors *v, vlm_dtype dtype, uint32_t per_row)
{
    const char *type = vlm_dtype_name(dtype);
    g_autofree char *what = g_strdup_printf("recorded %s, %u blocks a row", type, per_row);
    g_autofree char *blocks_name = g_strdup_printf("%s.blocks", type);
    g_autofree char *values_name = g_strdup_printf("%s.values", type);
    const vectors_array *blocks = vectors_find(v, blocks_name);
    const uint32_t *want = (const uint32_t *) vectors_f32(v, values_name, NULL);
    const uint32_t n_row = blocks->shape[0] / per_row;
    const uint32_t n_col = per_row * vlm_dtype_block_elems(dtype);
    const uint64_t bytes = vlm_weight_mat_bytes(ck->dev, dtype, n_row, n_col);
    g_autoptr(GError) error = NULL;
    g_autoptr(check_buf) weight = check_buf_new(ck, bytes);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * n_col * 4);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_row * 4);
    check_buf *bufs[] = { dst, ids, weight };
    const vlm_weight w = { dtype, 1, n_row, n_col, weight->addr, bytes, 0 };
    const vlm_tensor t_dst = vlm_tensor_make(dst->addr, n_row, n_col);
    const uint32_t *got = dst->data;
    gboolean ok;

    g_assert_cmpuint(blocks->shape[1], ==, vlm_dtype_block_bytes(dtype));
    g_assert_cmpuint(blocks->shape[0] % per_row, ==, 0);
    vlm_weight_pack(ck->dev, &w, blocks->data, n_row, weight->data);
    for (uint32_t r = 0; r < n_row; r++)
        ((uint32_t *) ids->data)[r] = r;
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_embed(ck->cmd, &t_dst, ids->addr, &w, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    for (size_t i = 0; i < (size_t) n_row * n_col; i++) {
        const gboolean subnormal = (want[i] & 0x7f800000u) == 0;

        if (got[i] != want[i] && !(subnormal && got[i] == (want[i] & 0x80000000u))) {
            check_verdict(
                ck, what,
                g_strdup_printf("value %zu is 0x%08x, expected 0x%08x", i, got[i], want[i]));
            return;
        }
    }
    check_verdict(ck, what, NULL);
}

static void recorded_cases(check *ck)
{
    g_autofree char *path = g_build_filename(g_getenv("VECTORS_DIR"), "dequant.vec", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(vectors) v = vectors_open(path, &error);

    g_assert_no_error(error);
    for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++) {
        if (vlm_dtype_block_elems(check_weight_types[i]) == 1)
            continue;
        recorded_case(ck, v, check_weight_types[i], 1);
        recorded_case(ck, v, check_weight_types[i], 5);
    }
}

// Broken demands are refused before anything is recorded.
static void refused_cases(check *ck)
{
    g_autoptr(check_weight) cw = check_weight_new(ck, VLM_DTYPE_Q8_0, 1, 8, 32, FILL_NORMAL);
    g_autoptr(check_buf) a = check_buf_new(ck, 64 * 4), b = check_buf_new(ck, 64 * 4);
    const vlm_tensor dst = vlm_tensor_make(a->addr, 2, 8), src = vlm_tensor_make(b->addr, 2, 32);
    vlm_tensor bad_dst = dst, odd_src = src, short_src = src;
    vlm_weight unknown = cw->w, two = cw->w;
    gboolean refused = TRUE;

    bad_dst.n_col = 7;
    odd_src.row_stride = 33;
    short_src.n_col = 31;
    unknown.dtype = VLM_DTYPE_IQ3_S;
    two.n_mat = 2;
    refused &= vlm_cmd_begin(ck->cmd, NULL);
    refused &= !vlm_op_matmul(ck->cmd, &bad_dst, &src, &cw->w, NULL, NULL);
    refused &= !vlm_op_matmul(ck->cmd, &dst, &odd_src, &cw->w, NULL, NULL);
    refused &= !vlm_op_matmul(ck->cmd, &dst, &short_src, &cw->w, NULL, NULL);
    refused &= !vlm_op_matmul(ck->cmd, &dst, &src, &unknown, NULL, NULL);
    refused &= !vlm_op_matmul(ck->cmd, &dst, &src, &two, NULL, NULL);
    refused &= !vlm_op_embed(ck->cmd, &dst, b->addr, &cw->w, NULL);
    refused &= !vlm_op_embed(ck->cmd, &src, 0, &cw->w, NULL);
    refused &= vlm_cmd_run(ck->cmd, NULL);
    check_verdict(ck, "arguments", refused ? NULL : g_strdup("a broken demand was accepted"));
}

// The least weights, or scales below the numbers of f32, times so much that products are ordinary.
static void least_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t col = vlm_dtype_block_elems(dtype) == 256 ? 512 : 96;

    for (uint32_t tok = 1; tok <= 9; tok += tok < 2 ? 1 : 7)
        run_case(ck,
                 &(matmul_case){ dtype, tok, 19, col, .fill = FILL_LARGE, .w_fill = FILL_LEAST });
}

static void type_cases(check *ck, vlm_dtype dtype)
{
    // below, at and above a panel of 8, two of them, a tile; a prime
    static const uint32_t rows[] = { 1, 7, 8, 9, 16, 17, 33, 61 };
    // around every tile of tokens
    static const uint32_t toks[] = { 1, 2, 3, 4, 5, 7, 8, 9, 16, 19 };
    static const uint32_t float_cols[] = { 1, 3, 8, 17, 31, 32, 33, 64, 147 };
    static const uint32_t small_cols[] = { 32, 64, 96, 128, 160, 224, 256, 288 };
    static const uint32_t super_cols[] = { 256, 512, 768 };
    const uint32_t block = vlm_dtype_block_elems(dtype);
    const uint32_t *cols = block == 1 ? float_cols : block == 32 ? small_cols : super_cols;
    const size_t n_cols = block == 1    ? G_N_ELEMENTS(float_cols)
                          : block == 32 ? G_N_ELEMENTS(small_cols)
                                        : G_N_ELEMENTS(super_cols);
    size_t turn = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(toks); i++)
        for (size_t j = 0; j < G_N_ELEMENTS(rows); j++, turn++)
            run_case(ck, &(matmul_case){ dtype, toks[i], rows[j], cols[turn % n_cols],
                                         .fill = FILL_NORMAL, .w_fill = FILL_NORMAL,
                                         .bias = turn % 3 == 0, .residual = (int) (turn % 4 % 3) });
    for (int fill = 0; fill < N_FILL; fill++) {
        for (int w_fill = 0; w_fill < N_FILL; w_fill++) {
            run_case(ck, &(matmul_case){ dtype, 1, 9, cols[n_cols - 1], .fill = (check_fill) fill,
                                         .w_fill = (check_fill) w_fill });
            run_case(ck, &(matmul_case){ dtype, 9, 9, cols[n_cols - 1], .fill = (check_fill) fill,
                                         .w_fill = (check_fill) w_fill });
        }
    }
    least_cases(ck, dtype);
    run_case(ck, &(matmul_case){ dtype, 13, 20, cols[n_cols - 2], .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL, .nan_row = TRUE });
    for (size_t i = 0; i < n_cols; i++) {
        run_case(ck, &(matmul_case){ dtype, 2, 17, cols[i], .fill = FILL_NORMAL,
                                     .w_fill = FILL_NORMAL, .loads = TRUE });
        run_case(ck, &(matmul_case){ dtype, 9, 33, cols[i], .fill = FILL_NORMAL,
                                     .w_fill = FILL_NORMAL, .residual = 1, .loads = TRUE });
    }
    // rows enough for tiles of more panels; the last row tiles have fewer
    run_case(ck, &(matmul_case){ dtype, 1, check_wide_rows(ck), cols[0], .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL, .bias = TRUE, .residual = 1 });
    for (size_t i = 0; i < n_cols; i++)
        embed_case(ck, dtype, 11, 19, cols[i], i % 2 ? FILL_NORMAL : FILL_TINY);
    embed_case(ck, dtype, 70, 100, 1024, FILL_NORMAL);
    embed_case(ck, dtype, 1, 8, 256, FILL_LARGE);
}

// On matrix units: around their tiles and those of panels, several of each, rows that end inside a
// block. Activations and weights stay where f16 is a matter of rounding alone.
static void coopmat_cases(check *ck, vlm_dtype dtype)
{
    static const uint32_t rows[] = { 1, 7, 8, 33, 131 }, toks[] = { 16, 17, 31, 64, 65, 130 };
    const uint32_t block = vlm_dtype_block_elems(dtype);
    const uint32_t odd = block == 1 ? 147 : block == 32 ? 288 : 768, even = block == 256 ? 512 : 64;
    int turn = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(toks); i++)
        for (size_t j = 0; j < G_N_ELEMENTS(rows); j++, turn++)
            run_case(ck, &(matmul_case){ dtype, toks[i], rows[j], turn % 2 ? odd : even,
                                         .fill = turn % 5 == 4 ? FILL_OFFSET : FILL_NORMAL,
                                         .w_fill = FILL_NORMAL, .bias = turn % 3 == 0,
                                         .act = (vlm_act) (turn % 4), .residual = turn % 4 % 3,
                                         .nan_row = turn == 7 });
    run_case(ck, &(matmul_case){ dtype, 20, 40, odd, .fill = FILL_ONE_HOT, .w_fill = FILL_NORMAL });
    run_case(ck, &(matmul_case){ dtype, 20, 40, odd, .fill = FILL_ZERO, .w_fill = FILL_NORMAL });
    run_case(ck, &(matmul_case){ dtype, 20, 40, odd, .fill = FILL_NORMAL, .w_fill = FILL_TINY });
    if (dtype != VLM_DTYPE_MXFP4)  // whose least scale is below the numbers of f16
        run_case(ck, &(matmul_case){ dtype, 20, 40, odd, .fill = FILL_ONE, .w_fill = FILL_ZERO });
}

// The same with matrices of 16 rows, as few as show every type's kernel at edges and within a tile:
// CPU drivers take seconds to compile one.
static void tall_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t block = vlm_dtype_block_elems(dtype), col = block == 1 ? 147 : 3 * block;

    run_case(ck, &(matmul_case){ dtype, 35, 33, col, .fill = FILL_NORMAL, .w_fill = FILL_NORMAL,
                                 .bias = TRUE, .residual = 1, .nan_row = TRUE });
    if (dtype == VLM_DTYPE_F16 || dtype == VLM_DTYPE_Q8_0) {
        run_case(ck, &(matmul_case){ dtype, 16, 40, col, .fill = FILL_OFFSET, .w_fill = FILL_NORMAL,
                                     .act = VLM_ACT_SILU, .residual = 2 });
        run_case(
            ck, &(matmul_case){ dtype, 130, 131, col, .fill = FILL_NORMAL, .w_fill = FILL_NORMAL });
    }
}

// Columns split between subgroups: fewer units than subgroups would take, as many, more; one, two
// and several tiles of tokens.
static void split_cases(check *ck, vlm_dtype dtype)
{
    static const uint32_t rows[] = { 1, 8, 9, 61 }, toks[] = { 1, 2, 3, 5, 8, 9, 15 };
    static const uint32_t blocks[] = { 1, 2, 9, 34 };
    const uint32_t block = vlm_dtype_block_elems(dtype);
    int turn = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(toks); i++)
        for (size_t j = 0; j < G_N_ELEMENTS(rows); j++, turn++) {
            const uint32_t n = blocks[i % 4];  // a pipeline for each of toks
            const uint32_t col = block == 1 ? n * 32 - (uint32_t) turn % 3
                                            : (block == 256 ? (n + 3) / 4 : n) * block;
            run_case(ck, &(matmul_case){ dtype, toks[i], rows[j], col,
                                         .fill = turn % 5 == 4 ? FILL_OFFSET : FILL_NORMAL,
                                         .w_fill = FILL_NORMAL, .bias = turn % 3 == 0,
                                         .act = i == 2 ? VLM_ACT_SILU : VLM_ACT_NONE,
                                         .residual = turn % 4 % 3, .nan_row = turn == 7 });
        }
    least_cases(ck, dtype);
    for (int fill = 0; fill < N_FILL; fill++)
        run_case(ck, &(matmul_case){ dtype, 2, 19, 4 * MAX(block, 32), .fill = (check_fill) fill,
                                     .w_fill = FILL_NORMAL });
}

// Activations rounded to 8 bits, of so many tiles that workgroups have several panels of rows: of
// 16 tokens, of 8, of one; the last ones not full.
static void dot_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t lanes = ck->dev->subgroup_size, block = vlm_dtype_block_elems(dtype);

    split_cases(ck, dtype);
    run_case(ck, &(matmul_case){ dtype, 130, 230 * lanes - 5, block, .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL, .bias = TRUE, .residual = 1 });
    run_case(ck, &(matmul_case){ dtype, 13, 1026 * lanes - 5, block, .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL });
    run_case(ck, &(matmul_case){ dtype, 1, 2050 * lanes + 1, (block == 256 ? 2 : 9) * block,
                                 .fill = FILL_NORMAL, .w_fill = FILL_NORMAL, .residual = 2 });
}

void check_matmul(check *ck)
{
    for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
        if (vlm_dot_takes(ck->dev, check_weight_types[i]))
            dot_cases(ck, check_weight_types[i]);
    if (ck->dev->caps & VLM_CAP_PARALLEL)
        for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
            split_cases(ck, check_weight_types[i]);
    if (ck->dev->caps & VLM_CAP_COOPMAT)
        for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
            if (check_weight_types[i] != VLM_DTYPE_F32)
                (ck->dev->tall_matrices ? tall_cases : coopmat_cases)(ck, check_weight_types[i]);
    if (ck->dev->caps)  // no other variants: the first rung has seen it all
        return;
    recorded_cases(ck);
    for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
        type_cases(ck, check_weight_types[i]);
    for (int act = VLM_ACT_GELU_TANH; act <= VLM_ACT_GELU_QUICK; act++) {
        for (int fill = 0; fill < N_FILL; fill++) {
            run_case(ck, &(matmul_case){ VLM_DTYPE_F32, 5, 30, 40, .fill = (check_fill) fill,
                                         .w_fill = FILL_NORMAL, .act = (vlm_act) act, .bias = TRUE,
                                         .residual = 1 });
            run_case(ck, &(matmul_case){ VLM_DTYPE_Q8_0, 1, 30, 64, .fill = (check_fill) fill,
                                         .w_fill = FILL_NORMAL, .act = (vlm_act) act });
        }
    }
    // widths of real patch embeddings and feed-forward layers
    run_case(ck, &(matmul_case){ VLM_DTYPE_F32, 3, 24, 1176, .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL });
    run_case(ck, &(matmul_case){ VLM_DTYPE_F16, 10, 24, 4304, .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL });
    run_case(ck, &(matmul_case){ VLM_DTYPE_Q8_0, 1, 2048, 768, .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL });
    // the largest vocabulary of a published family
    run_case(ck, &(matmul_case){ VLM_DTYPE_Q8_0, 1, 248320, 32, .fill = FILL_NORMAL,
                                 .w_fill = FILL_NORMAL });
    embed_case(ck, VLM_DTYPE_Q8_0, 5, 248320, 32, FILL_NORMAL);
    refused_cases(ck);
}
