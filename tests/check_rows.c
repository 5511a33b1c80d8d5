// SPDX-License-Identifier: LGPL-2.1-or-later
// check_rows.c — moving, combining and picking rows against their reference.
#include "check.h"
#include "ref_rows.h"

#include <math.h>

static const tolerance exact = { 0, 0 };

// 0 ... n - 1 in random order.
static void shuffle(check *ck, uint32_t *index, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        index[i] = i;
    for (uint32_t i = n - 1; i > 0; i--) {
        const uint32_t j = (uint32_t) g_rand_int_range(ck->rand, 0, (gint32) i + 1);
        const uint32_t at = index[i];
        index[i] = index[j];
        index[j] = at;
    }
}

typedef enum move_kind { GATHER, SCATTER, SCATTER_ADD } move_kind;

// `few` rows and `many` rows, the few being picked from or put among the many.
static void move_case(check *ck, move_kind kind, uint32_t few, uint32_t many, uint32_t n_col,
                      uint32_t gap, check_fill fill)
{
    static const char *const names[] = { "gather", "scatter", "scatter add" };
    const uint32_t n_dst = kind == GATHER ? few : many, n_src = kind == GATHER ? many : few;
    const uint32_t dst_stride = n_col + gap, src_stride = n_col + 2 * gap;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("%s %u of %u col %u gap %u %s", names[kind], few, many,
                                            n_col, gap, check_fill_name[fill]);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_dst * dst_stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_src * src_stride * 4);
    g_autoptr(check_buf) index = check_buf_new(ck, (size_t) many * 4);
    g_autofree double *want = g_new0(double, (size_t) n_dst *n_col);
    const vlm_tensor t_dst = { dst->addr, n_dst, n_col, dst_stride };
    const vlm_tensor t_src = { src->addr, n_src, n_col, src_stride };
    check_buf *bufs[] = { dst, src, index };
    const uint32_t *at = index->data;
    gboolean ok;

    shuffle(ck, index->data, many);
    for (uint32_t r = 0; r < n_src; r++)
        check_fill_f32(ck, (float *) src->data + (size_t) r * src_stride, n_col, fill);
    for (uint32_t r = 0; r < n_dst && kind != GATHER; r++) {
        float *row = (float *) dst->data + (size_t) r * dst_stride;
        check_fill_f32(ck, row, n_col, FILL_NORMAL);
        for (uint32_t c = 0; c < n_col; c++)
            want[(size_t) r * n_col + c] = row[c];
    }
    for (uint32_t i = 0; i < few; i++) {
        const uint32_t to = kind == GATHER ? i : at[i], from = kind == GATHER ? at[i] : i;
        for (uint32_t c = 0; c < n_col; c++) {
            const float x = ((float *) src->data)[(size_t) from * src_stride + c];
            double *sum = &want[(size_t) to * n_col + c];
            *sum = kind == SCATTER_ADD ? (float) *sum + x : x;  // one f32 addition: exact
        }
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && (kind == GATHER ? vlm_op_rows_gather(ck->cmd, &t_dst, &t_src, index->addr, &error)
                            : vlm_op_rows_scatter(ck->cmd, &t_dst, &t_src, index->addr,
                                                  kind == SCATTER_ADD, &error));
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_f32(dst->data, want, n_dst, n_col, dst_stride, exact));
}

// exp() is good to 3 + 2 |x| ULP by the Vulkan rules, so 1 + exp(-x) to 2.1e-5 at |x| = 87; beyond
// it the kernel gives 0, wrong by at most 87 * exp(-87) = 1.4e-36 of up.
static const tolerance swiglu_tol = { .absolute = 1e-20, .relative = 2.5e-5 };

static void gated_case(check *ck, gboolean sigmoid, uint32_t n_row, uint32_t n_col, uint32_t gap,
                       gboolean in_place, check_fill fill, float spread)
{
    const uint32_t stride = n_col + gap;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf(
        "%s [%u, %u] gap %u %s x %g%s", sigmoid ? "sigmoid" : "swiglu", n_row, n_col, gap,
        check_fill_name[fill], (double) spread, in_place ? " in place" : "");
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) gate = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) up = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autofree double *want = g_new0(double, (size_t) n_row *n_col);
    const vlm_tensor t_gate = { gate->addr, n_row, n_col, stride };
    const vlm_tensor t_up = { up->addr, n_row, n_col, stride };
    check_buf *out = in_place ? (sigmoid ? up : gate) : dst;
    const vlm_tensor t_dst = { out->addr, n_row, n_col, stride };
    check_buf *bufs[] = { dst, gate, up };
    gboolean ok;

    for (uint32_t r = 0; r < n_row; r++) {
        float *g = (float *) gate->data + (size_t) r * stride;
        float *u = (float *) up->data + (size_t) r * stride;
        check_fill_f32(ck, g, n_col, fill);
        check_fill_f32(ck, u, n_col, fill);
        for (uint32_t c = 0; c < n_col; c++)
            g[c] *= spread;
        (sigmoid ? ref_sigmoid_gate : ref_swiglu)(want + (size_t) r * n_col, g, u, n_col);
    }
    ok =
        vlm_cmd_begin(ck->cmd, &error)
        && (sigmoid ? vlm_op_sigmoid_gate : vlm_op_swiglu)(ck->cmd, &t_dst, &t_gate, &t_up, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_f32(out->data, want, n_row, n_col, stride, swiglu_tol));
}

static void split_case(check *ck, uint32_t n_row, uint32_t n_head, uint32_t n, uint32_t gap)
{
    const uint32_t n_col = n_head * n, stride = n_col + gap, src_stride = 2 * n_col + gap;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("split [%u, %u, %u] gap %u", n_row, n_head, n, gap);
    g_autoptr(check_buf) a = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) b = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_row * src_stride * 4);
    g_autofree double *want = g_new0(double, (size_t) 2 * n_row * n_col);
    check_buf *bufs[] = { a, b, src };
    const vlm_tensor t_a = { a->addr, n_row, n_col, stride };
    const vlm_tensor t_b = { b->addr, n_row, n_col, stride };
    const vlm_tensor t_src = { src->addr, n_row, 2 * n_col, src_stride };
    double *half[2] = { want, want + (size_t) n_row * n_col };
    gboolean ok;

    for (uint32_t r = 0; r < n_row; r++) {
        float *x = (float *) src->data + (size_t) r * src_stride;
        check_fill_f32(ck, x, 2 * n_col, FILL_NORMAL);
        for (uint32_t i = 0; i < 2 * n_col; i++)
            half[i / n % 2][(size_t) r * n_col + i / n / 2 * n + i % n] = x[i];
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_split_heads(ck->cmd, &t_a, &t_b, &t_src, n, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        char *why = compare_f32(a->data, half[0], n_row, n_col, stride, exact);
        check_verdict(ck, what,
                      why ? why : compare_f32(b->data, half[1], n_row, n_col, stride, exact));
    }
}

typedef enum argmax_fill {
    PICK_NORMAL,
    PICK_TIES,
    PICK_SAME,
    PICK_NAN,
    PICK_ONLY_NAN,
    PICK_LOWEST,
    PICK_NEGATIVE,
    N_PICK
} argmax_fill;

static void fill_argmax(check *ck, float *row, uint32_t n, argmax_fill fill)
{
    check_fill_f32(ck, row, n, FILL_NORMAL);
    for (uint32_t c = 0; c < n; c++) {
        switch (fill) {
        case PICK_TIES:
            row[c] = (float) g_rand_int_range(ck->rand, 0, 3);
            break;
        case PICK_SAME:
            row[c] = c % 2 ? 0.0f : -0.0f;
            break;
        case PICK_NAN:
            row[c] = c % 3 == 1 ? row[c] : NAN;
            break;
        case PICK_ONLY_NAN:
            row[c] = -NAN;
            break;
        case PICK_LOWEST:
            row[c] = c % 3 == 2 ? -INFINITY : NAN;
            break;
        case PICK_NEGATIVE:
            row[c] = -1e30f - 1e25f * fabsf(row[c]);
            break;
        default:
            break;
        }
    }
}

// Counters are those of the case before, as it left them.
static void argmax_case(check *ck, uint32_t n_row, uint32_t n_col, uint32_t gap, argmax_fill fill)
{
    const uint32_t stride = n_col + gap;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("argmax [%u, %u] gap %u fill %d", n_row, n_col, gap, fill);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_row * 4);
    g_autofree gint32 *want = g_new0(gint32, n_row);
    check_buf *bufs[] = { src, ids };
    gboolean ok;

    for (uint32_t r = 0; r < n_row; r++) {
        float *row = (float *) src->data + (size_t) r * stride;
        fill_argmax(ck, row, n_col, fill);
        for (uint32_t c = n_col; c < stride; c++)
            row[c] = INFINITY;  // in the gap: must not win
        want[r] = (gint32) ref_argmax(row, n_col);
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_argmax(ck->cmd, ids->addr, &(vlm_tensor){ src->addr, n_row, n_col, stride },
                          &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_i32(ids->data, want, n_row));
}

static void position_case(check *ck, uint32_t n_image, uint32_t h, uint32_t w, uint32_t merge,
                          uint32_t side, uint32_t n_col, uint32_t gap, check_fill fill)
{
    const uint32_t n_patch = h * w, n_row = n_image * n_patch, stride = n_col + gap;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("position %u x %ux%u merge %u side %u col %u gap %u %s", n_image, h, w,
                        merge, side, n_col, gap, check_fill_name[fill]);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) table = check_buf_new(ck, (size_t) side * side * n_col * 4);
    g_autofree double *want = g_new0(double, (size_t) n_row *n_col);
    check_buf *bufs[] = { dst, table };
    // three f32 roundings of mixes of the table, one of the sum
    tolerance tol = { .relative = 1e-6 };
    gboolean ok;

    check_fill_f32(ck, table->data, (size_t) side * side * n_col, fill);
    for (size_t i = 0; i < (size_t) side * side * n_col; i++)
        tol.absolute = MAX(tol.absolute, 1e-6 * fabs((double) ((float *) table->data)[i]));
    for (uint32_t i = 0; i < n_image; i++)
        ref_position_embed(want + (size_t) i * n_patch * n_col, table->data, n_col, side, h, w,
                           merge);
    for (uint32_t r = 0; r < n_row; r++) {
        float *row = (float *) dst->data + (size_t) r * stride;
        check_fill_f32(ck, row, n_col, FILL_NORMAL);
        for (uint32_t c = 0; c < n_col; c++)
            want[(size_t) r * n_col + c] += row[c];
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_position_embed(ck->cmd, &(vlm_tensor){ dst->addr, n_row, n_col, stride },
                                  table->addr, side, h, w, merge, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_f32(dst->data, want, n_row, n_col, stride, tol));
}

void check_rows(check *ck)
{
    // 1, around a subgroup, around the columns of a workgroup, a prime, a real hidden size
    static const uint32_t cols[] = { 1, 7, 9, 127, 128, 129, 1009, 2048 };

    if (ck->dev->caps)  // no variants: the first rung has seen it all
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cols); i++) {
        for (int kind = GATHER; kind <= SCATTER_ADD; kind++)
            move_case(ck, (move_kind) kind, 3, 5, cols[i], i % 2 ? 3 : 0, FILL_NORMAL);
        for (int fill = 0; fill < N_FILL; fill++)
            for (int sigmoid = 0; sigmoid < 2; sigmoid++)
                gated_case(ck, sigmoid, 3, cols[i], i % 2 ? 5 : 0, fill % 2, (check_fill) fill,
                           1.0f);
        for (int fill = 0; fill < N_PICK; fill++)
            argmax_case(ck, 3, cols[i], i % 2 ? 5 : 0, (argmax_fill) fill);
    }
    move_case(ck, GATHER, 300, 400, 16, 0, FILL_LARGE);
    move_case(ck, SCATTER_ADD, 1, 1, 64, 0, FILL_LARGE);
    for (int sigmoid = 0; sigmoid < 2; sigmoid++) {
        gated_case(ck, sigmoid, 3, 500, 0, FALSE, FILL_NORMAL, 40.0f);
        gated_case(ck, sigmoid, 3, 500, 0, TRUE, FILL_NORMAL, 1e30f);
    }
    split_case(ck, 1, 1, 1, 0);
    split_case(ck, 3, 2, 7, 1);
    split_case(ck, 5, 3, 33, 0);
    split_case(ck, 4, 16, 256, 0);
    for (int fill = 0; fill < N_PICK; fill++) {
        argmax_case(ck, 1, 2049, 0, (argmax_fill) fill);  // two parts
        argmax_case(ck, 2, 151936, 0, (argmax_fill) fill);
    }
    argmax_case(ck, 64, 49280, 3, PICK_NORMAL);
    argmax_case(ck, 70, 4097, 1, PICK_TIES);
    position_case(ck, 1, 1, 1, 1, 1, 5, 0, FILL_NORMAL);
    position_case(ck, 1, 1, 7, 1, 3, 9, 2, FILL_NORMAL);
    position_case(ck, 2, 4, 6, 2, 48, 131, 0, FILL_OFFSET);
    position_case(ck, 2, 14, 24, 2, 8, 64, 1, FILL_NORMAL);
    position_case(ck, 1, 8, 16, 8, 4, 33, 0, FILL_LARGE);
    position_case(ck, 1, 6, 3, 3, 6, 8, 0, FILL_ONE_HOT);
}
