// SPDX-License-Identifier: LGPL-2.1-or-later
// check_fused.c — products with what goes before or after them in one dispatch: several at once,
// SwiGLU, RMSNorm, routing, experts mixed; and the same where it takes several.
#include <math.h>
#include <string.h>

#include "check_weights.h"
#include "ops/matmul_coopmat.h"
#include "ops/matmul_dot.h"
#include "ref_matmul.h"
#include "ref_moe.h"
#include "ref_norm.h"

static const float eps = 1e-6f;
static const tolerance norm_tol = { .absolute = 1e-30, .relative = 4e-6 };  // as check_norm.c
static const tolerance gate_tol = { .absolute = 1e-30, .relative = 2e-5 };  // as check_moe.c

// A tensor with a gap of four elements after each row.
typedef struct rows {
    check_buf *buf;
    vlm_tensor t;
} rows;

static rows rows_new(check *ck, uint32_t n_row, uint32_t n_col)
{
    const uint32_t stride = (n_col + 3) / 4 * 4 + 4;
    check_buf *buf = check_buf_new(ck, (size_t) n_row * stride * 4);

    return (rows){ buf, { buf->addr, n_row, n_col, stride } };
}

static void rows_fill(check *ck, const rows *r, check_fill fill)
{
    for (uint32_t i = 0; i < r->t.n_row; i++)
        check_fill_f32(ck, (float *) r->buf->data + (size_t) i * r->t.row_stride, r->t.n_col, fill);
}

// Its first n columns without gaps; free with g_free().
static float *rows_read(const rows *r, uint32_t n)
{
    float *out = g_new(float, (size_t) r->t.n_row *n);

    for (uint32_t i = 0; i < r->t.n_row; i++)
        memcpy(out + (size_t) i * n, (float *) r->buf->data + (size_t) i * r->t.row_stride, n * 4);
    return out;
}

// The activations of a product of n_tok tokens, see check_activations(); may change src.
static float *activations(check *ck, vlm_dtype dtype, uint32_t n_tok, const rows *src)
{
    return check_activations(ck, dtype, vlm_coopmat_takes(ck->dev, dtype, n_tok), src->buf->data,
                             src->t.n_row, src->t.n_col, src->t.row_stride);
}

// What matrix units add to the tolerance of products: both factors are rounded to 11 bits.
static double sum_tolerance(check *ck, vlm_dtype dtype, uint32_t n_tok)
{
    return check_sum_tolerance(dtype) + (vlm_coopmat_takes(ck->dev, dtype, n_tok) ? 0x1p-10 : 0);
}

// The norm of the rows that were made, as they are: were a part of them not seen, it would differ.
static char *compare_norm(const rows *made, const rows *normed, const check_buf *weight)
{
    const uint32_t n_row = made->t.n_row, n_col = made->t.n_col;
    g_autofree double *want = g_new(double, (size_t) n_row *n_col);

    ref_rms_norm(want, made->buf->data, weight->data, n_row, n_col, made->t.row_stride, eps);
    return compare_f32(normed->buf->data, want, n_row, n_col, normed->t.row_stride, norm_tol);
}

static void norm_case(check *ck, vlm_dtype dtype, uint32_t n_tok, uint32_t n_row, uint32_t n_col,
                      uint32_t odd)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("%s [%u, %u] x [%u], norm%s", vlm_dtype_name(dtype),
                                            n_tok, n_col, n_row, odd ? " odd" : "");
    g_autoptr(check_weight) cw = check_weight_new(ck, dtype, 1, n_row, n_col, FILL_NORMAL);
    g_autoptr(check_buf) weight = check_buf_new(ck, (size_t) n_row * 4);
    rows dst = rows_new(ck, n_tok, n_row), src = rows_new(ck, n_tok, n_col);
    rows res = rows_new(ck, n_tok, n_row), normed = rows_new(ck, n_tok, n_row + odd);
    check_buf *bufs[] = { dst.buf, src.buf, res.buf, normed.buf, weight, cw->buf };
    g_autofree double *want = g_new(double, (size_t) n_tok *n_row);
    g_autofree double *scale = g_new(double, (size_t) n_tok *n_row);
    vlm_matmul_norm norm = { &normed.t, weight->addr, eps };
    vlm_matmul_post post = { .residual = &res.t, .norm = &norm };
    gboolean ok;

    normed.t.n_col = n_row;
    normed.t.row_stride -= odd;  // which the last workgroup can't write to four at a time
    rows_fill(ck, &src, FILL_NORMAL);
    rows_fill(ck, &res, FILL_NORMAL);
    check_fill_f32(ck, weight->data, n_row, FILL_NORMAL);
    g_autofree float *x = activations(ck, dtype, n_tok, &src);
    ref_matmul(want, scale, x, src.t.row_stride, cw->values, NULL, REF_ACT_NONE, res.buf->data,
               res.t.row_stride, n_tok, n_row, n_col);
    ok = vlm_cmd_begin(ck->cmd, &error);
    if (ok) {
        // All counters are handed out, so the first are used again: they must be at zero.
        vlm_cmd_counters(ck->cmd, VLM_MAX_COUNTERS);
        ok = vlm_op_matmul(ck->cmd, &dst.t, &src.t, &cw->w, &post, &error);
    }
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        char *why = check_compare_sum(dst.buf->data, want, scale, n_tok, n_row, dst.t.row_stride,
                                      sum_tolerance(ck, dtype, n_tok), 2e-7);
        check_verdict(ck, what, why ? why : compare_norm(&dst, &normed, weight));
    }
    check_buf_free(dst.buf);
    check_buf_free(src.buf);
    check_buf_free(res.buf);
    check_buf_free(normed.buf);
}

static void set_case(check *ck, const vlm_dtype *dtypes, uint32_t n, uint32_t n_tok,
                     const uint32_t *n_row, uint32_t n_col)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("set of %u: %s [%u, %u] x [%u] ...", n,
                                            vlm_dtype_name(dtypes[0]), n_tok, n_col, n_row[0]);
    rows src = rows_new(ck, n_tok, n_col), dst[VLM_MATMUL_MAX_SET];
    float *x[VLM_MATMUL_MAX_SET];
    check_weight *cw[VLM_MATMUL_MAX_SET];
    vlm_matmul_part parts[VLM_MATMUL_MAX_SET] = { 0 };
    check_buf *bufs[2 * VLM_MATMUL_MAX_SET + 1] = { src.buf };
    g_autoptr(check_buf) bias = check_buf_new(ck, (size_t) n_row[1] * 4);
    gboolean ok;

    rows_fill(ck, &src, FILL_NORMAL);
    check_fill_f32(ck, bias->data, n_row[1], FILL_NORMAL);
    for (uint32_t i = 0; i < n; i++) {
        cw[i] = check_weight_new(ck, dtypes[i], 1, n_row[i], n_col, FILL_NORMAL);
        dst[i] = rows_new(ck, n_tok, n_row[i]);
        x[i] = activations(ck, dtypes[i], n_tok, &src);
        parts[i] = (vlm_matmul_part){ &dst[i].t, &cw[i]->w, { 0 } };
        bufs[2 * i + 1] = dst[i].buf;
        bufs[2 * i + 2] = cw[i]->buf;
    }
    parts[1].post = (vlm_matmul_post){ .bias = bias->addr, .act = VLM_ACT_SILU };
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_matmul_set(ck->cmd, &src.t, parts, n, &error);
    if (check_run(ck, ok, error, bufs, 2 * n + 1, what)) {
        char *why = NULL;
        for (uint32_t i = 0; !why && i < n; i++) {
            g_autofree double *want = g_new(double, (size_t) n_tok *n_row[i]);
            g_autofree double *scale = g_new(double, (size_t) n_tok *n_row[i]);
            ref_matmul(want, scale, x[i], src.t.row_stride, cw[i]->values,
                       i == 1 ? bias->data : NULL, i == 1 ? REF_ACT_SILU : REF_ACT_NONE, NULL, 0,
                       n_tok, n_row[i], n_col);
            why = check_compare_sum(dst[i].buf->data, want, scale, n_tok, n_row[i],
                                    dst[i].t.row_stride, 1.2 * sum_tolerance(ck, dtypes[i], n_tok),
                                    3e-6);
        }
        check_verdict(ck, what, why);
    }
    for (uint32_t i = 0; i < n; i++) {
        check_buf_free(dst[i].buf);
        check_weight_free(cw[i]);
        g_free(x[i]);
    }
    check_buf_free(src.buf);
}

// want = silu(gate) * up; scale = what one unit of their relative error does to it. The slope of
// silu is at most 1.1.
static void combine_halves(double *want, double *scale, const double *gate,
                           const double *gate_scale, const double *up, const double *up_scale,
                           size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double silu = gate[i] / (1 + exp(-gate[i]));
        want[i] = silu * up[i];
        scale[i] = 1.1 * gate_scale[i] * fabs(up[i]) + fabs(silu) * up_scale[i]
                   + 1e-3 * gate_scale[i] * up_scale[i];
    }
}

static char *compare_halves(const rows *both, const double *const half[4], double relative)
{
    const uint32_t n_row = both->t.n_row, n_col = both->t.n_col / 2;
    const size_t n = (size_t) n_row * n_col;
    g_autofree double *want = g_new(double, n), *scale = g_new(double, n);
    g_autofree float *got = rows_read(both, n_col);

    combine_halves(want, scale, half[0], half[1], half[2], half[3], n);
    return check_compare_sum(got, want, scale, n_row, n_col, n_col, relative, 2e-5);
}

static void swiglu_case(check *ck, vlm_dtype gate_type, vlm_dtype up_type, uint32_t n_tok,
                        uint32_t n_row, uint32_t n_col)
{
    const size_t n = (size_t) n_tok * n_row;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("swiglu %s %s [%u, %u] x [%u]", vlm_dtype_name(gate_type),
                        vlm_dtype_name(up_type), n_tok, n_col, n_row);
    g_autoptr(check_weight) gate = check_weight_new(ck, gate_type, 1, n_row, n_col, FILL_NORMAL);
    g_autoptr(check_weight) up = check_weight_new(ck, up_type, 1, n_row, n_col, FILL_NORMAL);
    rows both = rows_new(ck, n_tok, 2 * n_row), src = rows_new(ck, n_tok, n_col);
    check_buf *bufs[] = { both.buf, src.buf, gate->buf, up->buf };
    g_autofree double *half = g_new(double, 4 * n);
    const double *const halves[] = { half, half + n, half + 2 * n, half + 3 * n };
    gboolean ok;

    rows_fill(ck, &src, FILL_NORMAL);
    g_autofree float *x = activations(ck, gate_type, n_tok, &src);
    g_autofree float *up_x = activations(ck, up_type, n_tok, &src);
    ref_matmul(half, half + n, x, src.t.row_stride, gate->values, NULL, REF_ACT_NONE, NULL, 0,
               n_tok, n_row, n_col);
    ref_matmul(half + 2 * n, half + 3 * n, up_x, src.t.row_stride, up->values, NULL, REF_ACT_NONE,
               NULL, 0, n_tok, n_row, n_col);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_matmul_swiglu(ck->cmd, &both.t, &src.t, &gate->w, &up->w, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what,
                      compare_halves(&both, halves,
                                     MAX(sum_tolerance(ck, gate_type, n_tok),
                                         sum_tolerance(ck, up_type, n_tok))));
    check_buf_free(both.buf);
    check_buf_free(src.buf);
}

static void router_case(check *ck, vlm_dtype dtype, uint32_t n_tok, uint32_t n_expert, uint32_t k,
                        uint32_t n_col)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("router %s [%u, %u] top %u of %u",
                                            vlm_dtype_name(dtype), n_tok, n_col, k, n_expert);
    g_autoptr(check_weight) cw = check_weight_new(ck, dtype, 1, n_expert, n_col, FILL_NORMAL);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_tok * k * 4);
    g_autoptr(check_buf) gate = check_buf_new(ck, (size_t) n_tok * k * 4);
    rows logits = rows_new(ck, n_tok, n_expert), src = rows_new(ck, n_tok, n_col);
    check_buf *bufs[] = { ids, gate, logits.buf, src.buf, cw->buf };
    g_autofree double *want = g_new(double, (size_t) n_tok *n_expert);
    g_autofree double *scale = g_new(double, (size_t) n_tok *n_expert);
    g_autofree gint32 *want_ids = g_new(gint32, (size_t) n_tok * k);
    g_autofree double *want_gate = g_new(double, (size_t) n_tok *k);
    gboolean ok;

    rows_fill(ck, &src, FILL_NORMAL);
    g_autofree float *x = activations(ck, dtype, n_tok, &src);
    ref_matmul(want, scale, x, src.t.row_stride, cw->values, NULL, REF_ACT_NONE, NULL, 0, n_tok,
               n_expert, n_col);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_moe_router(ck->cmd, ids->addr, gate->addr, &logits.t, &src.t, &cw->w, k, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        char *why = check_compare_sum(logits.buf->data, want, scale, n_tok, n_expert,
                                      logits.t.row_stride, sum_tolerance(ck, dtype, n_tok), 2e-7);
        ref_moe_route(want_ids, want_gate, logits.buf->data, logits.t.row_stride, n_tok, n_expert,
                      k);
        if (!why)
            why = compare_i32(ids->data, want_ids, (size_t) n_tok * k);
        check_verdict(ck, what,
                      why ? why : compare_f32(gate->data, want_gate, n_tok, k, k, gate_tol));
    }
    check_buf_free(logits.buf);
    check_buf_free(src.buf);
}

// Experts of n_tok tokens, k different ones each, and the plan for them.
typedef struct experts {
    check_buf *ids, *memory;
    vlm_moe_plan plan;
} experts;

static experts experts_new(check *ck, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                           vlm_dtype dtype)
{
    experts e = { check_buf_new(ck, (size_t) n_tok * k * 4),
                  check_buf_new(ck, vlm_moe_plan_bytes(ck->dev, n_tok, k, n_expert)),
                  { 0 } };

    for (uint32_t t = 0; t < n_tok; t++) {
        const uint32_t first = (uint32_t) g_rand_int_range(ck->rand, 0, (gint32) n_expert);
        for (uint32_t j = 0; j < k; j++)
            ((gint32 *) e.ids->data)[t * k + j] = (gint32) ((first + j) % n_expert);
    }
    e.plan = (vlm_moe_plan){
        e.memory->addr, e.ids->addr,
        n_tok,          k,
        n_expert,       vlm_moe_matrix_tile(ck->dev, n_tok, k, n_expert, &dtype, 1)
    };
    return e;
}

static double experts_tolerance(const experts *e, vlm_dtype dtype)
{
    return check_sum_tolerance(dtype) + (e->plan.tile > 0 ? 0x1p-10 : 0);
}

typedef enum layout {
    LAYOUT_PLAIN,
    LAYOUT_SCATTERED,        // a table for each weight
    LAYOUT_BLOCKS,           // an expert's matrices in one block, and one table for all
    LAYOUT_FUSED,            // one weight has the rows of gate and up
    LAYOUT_FUSED_SCATTERED,  // likewise, with a table
} layout;

static const char *const layout_name[] = { "", " scattered", " in blocks", " fused",
                                           " fused and scattered" };

// Puts the matrices of both weights into blocks as the store of experts has them, in reverse order.
// Returns the table, whose buffer the caller frees; the blocks take the place of a->buf.
static check_buf *make_blocks(check *ck, check_weight *a, check_weight *b)
{
    const uint64_t step = a->w.mat_bytes + b->w.mat_bytes;
    const uint32_t n = a->w.n_mat;
    check_buf *blocks = check_buf_new(ck, step * n), *table = check_buf_new(ck, 8 * (size_t) n);

    for (uint32_t m = 0; m < n; m++) {
        uint8_t *block = (uint8_t *) blocks->data + step * (n - 1 - m);
        memcpy(block, (uint8_t *) a->buf->data + m * a->w.mat_bytes, a->w.mat_bytes);
        memcpy(block + a->w.mat_bytes, (uint8_t *) b->buf->data + m * b->w.mat_bytes,
               b->w.mat_bytes);
        ((uint64_t *) table->data)[m] = blocks->addr + step * (n - 1 - m);
    }
    a->w.table = b->w.table = table->addr;
    b->w.addr = a->w.mat_bytes;
    a->w.addr = 0;
    check_buf_free(a->buf);
    a->buf = blocks;
    return table;
}

static void moe_swiglu_case(check *ck, vlm_dtype dtype, uint32_t n_tok, uint32_t k,
                            uint32_t n_expert, uint32_t n_row, uint32_t n_col, layout how)
{
    const gboolean fused = how >= LAYOUT_FUSED;
    const uint32_t n_slot = n_tok * k;
    const size_t n = (size_t) n_slot * n_row;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("moe swiglu %s %u x %u of %u [%u, %u]%s", vlm_dtype_name(dtype), n_tok, k,
                        n_expert, n_row, n_col, layout_name[how]);
    g_autoptr(check_weight) gate =
        check_weight_new(ck, dtype, n_expert, fused ? 2 * n_row : n_row, n_col, FILL_NORMAL);
    g_autoptr(check_weight) up = check_weight_new(ck, dtype, n_expert, n_row, n_col, FILL_NORMAL);
    experts e = experts_new(ck, n_tok, k, n_expert, dtype);
    rows both = rows_new(ck, n_slot, 2 * n_row), src = rows_new(ck, n_tok, n_col);
    g_autoptr(check_buf) table = how == LAYOUT_BLOCKS ? make_blocks(ck, gate, up) : NULL;
    check_buf *bufs[] = { both.buf, src.buf, gate->buf, up->buf, e.ids, e.memory };
    g_autofree double *half = g_new(double, 4 * n);
    const double *const halves[] = { half, half + n, half + 2 * n, half + 3 * n };
    gboolean ok;

    rows_fill(ck, &src, FILL_NORMAL);
    g_autofree float *x = check_activations(ck, dtype, e.plan.tile > 0, src.buf->data, n_tok, n_col,
                                            src.t.row_stride);
    if (fused) {
        g_autofree double *all = g_new(double, 2 * n), *all_scale = g_new(double, 2 * n);
        ref_moe_matmul(all, all_scale, x, src.t.row_stride, gate->values, e.ids->data, n_slot, k,
                       2 * n_row, n_col);
        for (size_t i = 0; i < n; i++) {
            const size_t at = i / n_row * 2 * n_row + i % n_row;
            half[i] = all[at];
            half[n + i] = all_scale[at];
            half[2 * n + i] = all[at + n_row];
            half[3 * n + i] = all_scale[at + n_row];
        }
    } else {
        ref_moe_matmul(half, half + n, x, src.t.row_stride, gate->values, e.ids->data, n_slot, k,
                       n_row, n_col);
        ref_moe_matmul(half + 2 * n, half + 3 * n, x, src.t.row_stride, up->values, e.ids->data,
                       n_slot, k, n_row, n_col);
    }
    if (how == LAYOUT_SCATTERED || how == LAYOUT_FUSED_SCATTERED) {
        check_weight_scatter(ck, gate);
        check_weight_scatter(ck, up);
    }
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_moe_plan(ck->cmd, &e.plan, &error);
    if (ok) {
        vlm_cmd_barrier(ck->cmd);
        ok = vlm_op_moe_swiglu(ck->cmd, &both.t, &src.t, &gate->w, fused ? NULL : &up->w, &e.plan,
                               &error);
    }
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_halves(&both, halves, experts_tolerance(&e, dtype)));
    check_buf_free(both.buf);
    check_buf_free(src.buf);
    check_buf_free(e.ids);
    check_buf_free(e.memory);
}

static void mix_case(check *ck, vlm_dtype dtype, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                     uint32_t n_row, uint32_t n_col, gboolean with_norm, layout how)
{
    const uint32_t n_slot = n_tok * k;
    const size_t n = (size_t) n_slot * n_row;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("mix %s %u x %u of %u [%u, %u]%s%s", vlm_dtype_name(dtype), n_tok, k,
                        n_expert, n_row, n_col, with_norm ? ", norm" : "", layout_name[how]);
    g_autoptr(check_weight) cw = check_weight_new(ck, dtype, n_expert, n_row, n_col, FILL_NORMAL);
    g_autoptr(check_buf) gate = check_buf_new(ck, (size_t) n_slot * 4);
    g_autoptr(check_buf) weight = check_buf_new(ck, (size_t) n_row * 4);
    experts e = experts_new(ck, n_tok, k, n_expert, dtype);
    rows dst = rows_new(ck, n_tok, n_row), src = rows_new(ck, n_slot, n_col);
    rows work = rows_new(ck, n_slot, n_row), normed = rows_new(ck, n_tok, n_row);
    check_buf *bufs[] = { dst.buf, src.buf, work.buf, normed.buf, weight,
                          cw->buf, gate,    e.ids,    e.memory };
    g_autofree double *want = g_new(double, n), *scale = g_new(double, n);
    const vlm_matmul_norm norm = { &normed.t, weight->addr, eps };
    gboolean ok;

    rows_fill(ck, &src, FILL_NORMAL);
    rows_fill(ck, &dst, FILL_NORMAL);
    check_fill_f32(ck, weight->data, n_row, FILL_NORMAL);
    check_fill_f32(ck, gate->data, n_slot, FILL_NORMAL);
    g_autofree float *x = check_activations(ck, dtype, e.plan.tile > 0, src.buf->data, n_slot,
                                            n_col, src.t.row_stride);
    ref_moe_matmul(want, scale, x, src.t.row_stride, cw->values, e.ids->data, n_slot, 1, n_row,
                   n_col);
    for (uint32_t t = 0; t < n_tok; t++) {
        for (uint32_t r = 0; r < n_row; r++) {
            double sum = ((float *) dst.buf->data)[(size_t) t * dst.t.row_stride + r];
            double magnitude = fabs(sum);
            for (uint32_t j = 0; j < k; j++) {
                const double g = (double) ((float *) gate->data)[t * k + j];
                sum += g * want[(size_t) (t * k + j) * n_row + r];
                magnitude += fabs(g) * scale[(size_t) (t * k + j) * n_row + r];
            }
            want[(size_t) t * n_row + r] = sum;  // (slot t's place: read before, as t <= t * k)
            scale[(size_t) t * n_row + r] = magnitude;
        }
    }
    if (how == LAYOUT_SCATTERED)
        check_weight_scatter(ck, cw);
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_moe_plan(ck->cmd, &e.plan, &error);
    if (ok) {
        vlm_cmd_barrier(ck->cmd);
        ok = vlm_op_moe_mix(ck->cmd, &dst.t, &src.t, &cw->w, gate->addr, &e.plan, &work.t,
                            with_norm ? &norm : NULL, &error);
    }
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        char *why = check_compare_sum(dst.buf->data, want, scale, n_tok, n_row, dst.t.row_stride,
                                      experts_tolerance(&e, dtype) + 1e-6, 2e-7);
        check_verdict(ck, what, why || !with_norm ? why : compare_norm(&dst, &normed, weight));
    }
    check_buf_free(dst.buf);
    check_buf_free(src.buf);
    check_buf_free(work.buf);
    check_buf_free(normed.buf);
    check_buf_free(e.ids);
    check_buf_free(e.memory);
}

static void type_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t block = vlm_dtype_block_elems(dtype);
    const uint32_t col = block == 256 ? 512 : block == 32 ? 160 : 67;
    const vlm_dtype same[] = { dtype, dtype, dtype, dtype };
    const vlm_dtype mixed[] = { dtype, VLM_DTYPE_F32, dtype, VLM_DTYPE_F16 };
    const uint32_t set_rows[] = { 64, 9, 33, 1 };
    // one token; several tiles, the last with some left over
    static const uint32_t toks[] = { 1, 19 };
    const gboolean all =
        dtype == VLM_DTYPE_F32 || dtype == VLM_DTYPE_Q8_0 || dtype == VLM_DTYPE_Q4_K;

    for (size_t i = 0; i < (all ? G_N_ELEMENTS(toks) : 1); i++) {
        const uint32_t n = toks[i];

        norm_case(ck, dtype, n, 76, col, 0);
        set_case(ck, i % 2 ? mixed : same, 3 + (uint32_t) i % 2, n, set_rows, col);
        swiglu_case(ck, dtype, dtype, n, 41, col);
        router_case(ck, dtype, n, 37, 4, col);
        moe_swiglu_case(ck, dtype, n, 2, 8, 48, col, LAYOUT_PLAIN);
        moe_swiglu_case(ck, dtype, n, 2, 8, 48, col, LAYOUT_BLOCKS);
        mix_case(ck, dtype, n, 2, 8, 68, col, TRUE, LAYOUT_PLAIN);
        mix_case(ck, dtype, n, 2, 8, 68, col, TRUE, LAYOUT_SCATTERED);
    }
    moe_swiglu_case(ck, dtype, 2, 2, 8, 40, col, LAYOUT_SCATTERED);
    moe_swiglu_case(ck, dtype, 2, 2, 8, 64, col, LAYOUT_FUSED);
    moe_swiglu_case(ck, dtype, 2, 2, 8, 64, col, LAYOUT_FUSED_SCATTERED);
    moe_swiglu_case(ck, dtype, 2, 3, 8, 13, col, LAYOUT_FUSED);  // up doesn't begin at a panel
}

// One token and rows enough for tiles of more panels.
static void wide_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t col = vlm_dtype_block_elems(dtype), n_row = check_wide_rows(ck);
    const vlm_dtype same[] = { dtype, dtype, dtype };
    const uint32_t set_rows[] = { 9, n_row, 33 };

    norm_case(ck, dtype, 1, n_row, col, 0);
    set_case(ck, same, 3, 1, set_rows, col);
    swiglu_case(ck, dtype, dtype, 1, n_row / 2, col);
    moe_swiglu_case(ck, dtype, 1, 2, 4, n_row / 4, col, LAYOUT_PLAIN);
    moe_swiglu_case(ck, dtype, 1, 2, 4, n_row / 4, col, LAYOUT_FUSED_SCATTERED);
    mix_case(ck, dtype, 1, 2, 4, n_row, col, TRUE, LAYOUT_SCATTERED);
}

static void shape_cases(check *ck)
{
    const vlm_dtype q8 = VLM_DTYPE_Q8_0;

    norm_case(ck, q8, 4, 30, 64, 0);  // a dispatch of its own for the norm
    norm_case(ck, q8, 4, 32, 64, 1);
    norm_case(ck, q8, 1, 2048, 256, 0);
    norm_case(ck, q8, 2, 4, 32, 0);
    norm_case(ck, q8, 300, 64, 32, 0);
    swiglu_case(ck, q8, VLM_DTYPE_Q6_K, 2, 24, 256);  // weights of two types
    swiglu_case(ck, q8, q8, 1, 1, 32);
    swiglu_case(ck, q8, q8, 1, 768, 256);
    router_case(ck, VLM_DTYPE_F32, 1, 128, 8, 256);
    router_case(ck, VLM_DTYPE_F32, 5, 256, 16, 64);
    router_case(ck, VLM_DTYPE_F32, 2, 1, 1, 64);
    mix_case(ck, q8, 1, 8, 128, 2048, 96, TRUE, LAYOUT_SCATTERED);
    mix_case(ck, q8, 31, 8, 128, 64, 32, FALSE, LAYOUT_PLAIN);
    mix_case(ck, q8, 3, 16, 256, 36, 64, TRUE, LAYOUT_PLAIN);
    mix_case(ck, q8, 1, 1, 1, 8, 32, TRUE, LAYOUT_SCATTERED);
    mix_case(ck, q8, 5, 8, 64, 33, 32, TRUE, LAYOUT_PLAIN);  // rows that are no multiple of four
    norm_case(ck, q8, 3, 76, 160, 0);                        // tiles of two and four tokens
    norm_case(ck, q8, 2, 76, 160, 0);
}

static void refused_cases(check *ck)
{
    g_autoptr(check_weight) cw = check_weight_new(ck, VLM_DTYPE_Q8_0, 1, 8, 32, FILL_NORMAL);
    g_autoptr(check_buf) a = check_buf_new(ck, 4096), b = check_buf_new(ck, 4096);
    const vlm_tensor dst = vlm_tensor_make(a->addr, 2, 8), src = vlm_tensor_make(b->addr, 2, 32);
    const vlm_tensor short_both = vlm_tensor_make(a->addr, 2, 15);
    const vlm_matmul_norm in_place = { &dst, b->addr, eps }, no_eps = { &src, b->addr, 0 };
    const vlm_matmul_part with_norm = { &dst, &cw->w, { .norm = &in_place } };
    const vlm_moe_plan no_ids = { a->addr, 0, 2, 2, 8, 0 };
    gboolean refused = vlm_cmd_begin(ck->cmd, NULL);

    refused &= !vlm_op_matmul(ck->cmd, &dst, &src, &cw->w, &with_norm.post, NULL);
    refused &=
        !vlm_op_matmul(ck->cmd, &dst, &src, &cw->w, &(vlm_matmul_post){ .norm = &no_eps }, NULL);
    vlm_weight apart = cw->w;  // a table is for experts
    apart.table = a->addr;
    refused &= !vlm_op_matmul(ck->cmd, &dst, &src, &apart, NULL, NULL);
    refused &= !vlm_op_matmul_set(ck->cmd, &src, &with_norm, 1, NULL);
    refused &= !vlm_op_matmul_set(ck->cmd, &src, &with_norm, 0, NULL);
    refused &= !vlm_op_matmul_swiglu(ck->cmd, &short_both, &src, &cw->w, &cw->w, NULL);
    refused &= !vlm_op_moe_router(ck->cmd, a->addr, a->addr, &dst, &src, &cw->w, 9, NULL);
    refused &= !vlm_op_moe_mix(ck->cmd, &dst, &src, &cw->w, b->addr, &no_ids, &src, NULL, NULL);
    refused &= vlm_cmd_run(ck->cmd, NULL);
    check_verdict(ck, "arguments", refused ? NULL : g_strdup("a broken demand was accepted"));
}

// Experts with 16 tokens each, which go to matrix units, wherever they lie.
static void coopmat_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t block = vlm_dtype_block_elems(dtype);
    const uint32_t col = block == 256 ? 512 : block == 32 ? 96 : 35;

    g_assert_cmpuint(vlm_moe_matrix_tile(ck->dev, 64, 2, 8, &dtype, 1), >, 0);
    for (int how = LAYOUT_PLAIN; how <= LAYOUT_FUSED_SCATTERED; how++)
        moe_swiglu_case(ck, dtype, 64, 2, 8, 48, col, (layout) how);
    mix_case(ck, dtype, 64, 2, 8, 68, col, TRUE, LAYOUT_PLAIN);
    mix_case(ck, dtype, 64, 2, 8, 68, col, TRUE, LAYOUT_SCATTERED);
}

// Activations rounded to 8 bits, of so many tiles that workgroups have several panels of rows.
static void dot_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t lanes = ck->dev->subgroup_size, block = vlm_dtype_block_elems(dtype);
    const vlm_dtype same[] = { dtype, dtype, dtype };
    const uint32_t set_rows[] = { 200 * lanes, 3, 30 * lanes - 1 };

    type_cases(ck, dtype);
    if (dtype != VLM_DTYPE_Q8_0 && dtype != VLM_DTYPE_Q4_K && dtype != VLM_DTYPE_Q6_K)
        return;  // a head of each kind is enough
    norm_case(ck, dtype, 130, 230 * lanes - 4, block, 0);
    set_case(ck, same, 3, 130, set_rows, block);
    swiglu_case(ck, dtype, dtype, 130, 230 * lanes - 5, block);
    moe_swiglu_case(ck, dtype, 64, 2, 8, 90 * lanes - 3, block, LAYOUT_BLOCKS);
}

void check_fused(check *ck)
{
    const gboolean others = (ck->dev->caps & (VLM_CAP_PARALLEL | VLM_CAP_COOPMAT)) != 0;

    for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++) {
        if (vlm_dot_takes(ck->dev, check_weight_types[i]))
            dot_cases(ck, check_weight_types[i]);
        else if (!ck->dev->caps || others)  // else the first rung has seen it all
            type_cases(ck, check_weight_types[i]);
    }
    if (ck->dev->caps & VLM_CAP_COOPMAT)
        for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
            if (check_weight_types[i] != VLM_DTYPE_F32)
                coopmat_cases(ck, check_weight_types[i]);
    if (ck->dev->caps && !others && !(ck->dev->caps & VLM_CAP_INT_DOT))
        return;
    wide_cases(ck, VLM_DTYPE_Q8_0);
    wide_cases(ck, VLM_DTYPE_Q4_K);
    shape_cases(ck);
    refused_cases(ck);
}
