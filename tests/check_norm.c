// SPDX-License-Identifier: LGPL-2.1-or-later
// check_norm.c — normalisation of rows against its reference.
#include "check.h"
#include "ref_norm.h"

// Sum of squares in f32 by a tree over at most 256 partial sums of n_col / 256 terms, then
// inversesqrt (2 ULP by the Vulkan rules): about 1e-6 relative at the largest shape.
static const tolerance tol = { .absolute = 1e-30, .relative = 4e-6 };

static void rms_case(check *ck, uint32_t n_row, uint32_t n_col, uint32_t gap, check_fill fill)
{
    const uint32_t stride = n_col + gap;
    const float eps = 1e-6f;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("rms [%u, %u] stride %u %s", n_row, n_col, stride, check_fill_name[fill]);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) weight = check_buf_new(ck, (size_t) n_col * 4);
    g_autofree double *want = g_new0(double, (size_t) n_row *n_col);
    check_buf *bufs[] = { dst, src, weight };
    vlm_tensor t_dst = { dst->addr, n_row, n_col, stride };
    vlm_tensor t_src = { src->addr, n_row, n_col, stride };
    gboolean ok;

    for (uint32_t r = 0; r < n_row; r++)  // the gaps keep their NaN: reading one shows
        check_fill_f32(ck, (float *) src->data + (size_t) r * stride, n_col, fill);
    check_fill_f32(ck, weight->data, n_col, FILL_NORMAL);
    ref_rms_norm(want, src->data, weight->data, n_row, n_col, stride, eps);

    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_rms_norm(ck->cmd, &t_dst, &t_src, weight->addr, eps, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_f32(dst->data, want, n_row, n_col, stride, tol));
}

// As rms_norm, times silu: exp() is good to 3 + 2 |x| ULP by the Vulkan rules, 2.1e-5 at |x| = 87;
// beyond it the kernel gives 0, wrong by at most 87 exp(-87) = 1.4e-36 of the rest.
static const tolerance gated_tol = { .absolute = 1e-20, .relative = 3e-5 };

static void gated_case(check *ck, uint32_t n_row, uint32_t n_head, uint32_t n, uint32_t gap,
                       gboolean in_place, check_fill fill, float spread)
{
    const uint32_t n_col = n_head * n, stride = n_col + gap;
    const float eps = 1e-6f;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("gated [%u, %u, %u] stride %u %s x %g%s", n_row, n_head, n, stride,
                        check_fill_name[fill], (double) spread, in_place ? " in place" : "");
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) gate = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) weight = check_buf_new(ck, (size_t) n * 4);
    g_autofree double *want = g_new0(double, (size_t) n_row *n_col);
    check_buf *bufs[] = { dst, src, gate, weight };
    const vlm_tensor t_dst = { in_place ? src->addr : dst->addr, n_row, n_col, stride };
    const vlm_tensor t_src = { src->addr, n_row, n_col, stride };
    const vlm_tensor t_gate = { gate->addr, n_row, n_col, stride };
    gboolean ok;

    check_fill_f32(ck, weight->data, n, FILL_NORMAL);
    for (uint32_t r = 0; r < n_row; r++) {
        float *x = (float *) src->data + (size_t) r * stride;
        float *g = (float *) gate->data + (size_t) r * stride;
        check_fill_f32(ck, x, n_col, fill);
        check_fill_f32(ck, g, n_col, FILL_NORMAL);
        for (uint32_t c = 0; c < n_col; c++)
            g[c] *= spread;
        for (uint32_t h = 0; h < n_head; h++)
            ref_rms_norm_gated(want + (size_t) r * n_col + h * n, x + h * n, g + h * n,
                               weight->data, n, eps);
    }
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_rms_norm_gated(ck->cmd, &t_dst, &t_src, &t_gate, weight->addr, n_head, eps,
                                  &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(
            ck, what,
            compare_f32(in_place ? src->data : dst->data, want, n_row, n_col, stride, gated_tol));
}

// An offset of 1000 costs nothing, as differences of near numbers are exact. The mean is a sum of
// up to n_col / 8 = 256 terms per lane: 256 * 2^-24 = 1.5e-5 of the row's largest distance at
// worst, and as much of the result, which is of the order of the weight. The rest as for rms_norm.
static void layer_case(check *ck, uint32_t n_row, uint32_t n_col, uint32_t gap, check_fill fill)
{
    const uint32_t stride = n_col + gap;
    const float eps = 1e-6f;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("layer [%u, %u] stride %u %s", n_row, n_col, stride, check_fill_name[fill]);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_row * stride * 4);
    g_autoptr(check_buf) weight = check_buf_new(ck, (size_t) n_col * 4);
    g_autoptr(check_buf) bias = check_buf_new(ck, (size_t) n_col * 4);
    g_autofree double *want = g_new0(double, (size_t) n_row *n_col);
    check_buf *bufs[] = { dst, src, weight, bias };
    vlm_tensor t_dst = { dst->addr, n_row, n_col, stride };
    vlm_tensor t_src = { src->addr, n_row, n_col, stride };
    const tolerance layer_tol = { .absolute = 1.5e-5, .relative = 6e-6 };
    gboolean ok;

    for (uint32_t r = 0; r < n_row; r++)
        check_fill_f32(ck, (float *) src->data + (size_t) r * stride, n_col, fill);
    check_fill_f32(ck, weight->data, n_col, FILL_NORMAL);
    check_fill_f32(ck, bias->data, n_col, FILL_NORMAL);
    ref_layer_norm(want, src->data, weight->data, bias->data, n_row, n_col, stride, eps);

    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_layer_norm(ck->cmd, &t_dst, &t_src, weight->addr, bias->addr, eps, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_f32(dst->data, want, n_row, n_col, stride, layer_tol));
}

void check_norm(check *ck)
{
    // 1, around a subgroup, around the local size of 256, a prime, a real hidden size
    static const uint32_t cols[] = { 1, 7, 8, 9, 31, 33, 255, 256, 257, 1009, 2048 };

    for (size_t i = 0; i < G_N_ELEMENTS(cols); i++) {
        for (int fill = 0; fill < N_FILL; fill++) {
            rms_case(ck, 3, cols[i], 0, fill);
            rms_case(ck, 2, cols[i], 5, fill);
            layer_case(ck, 2, cols[i], i % 2 ? 5 : 0, fill);
        }
    }
    for (int fill = 0; fill < N_FILL; fill++) {
        gated_case(ck, 3, 1, 1, 2, fill % 2, fill, 1.0f);
        gated_case(ck, 2, 3, 7, 0, fill % 2, fill, 1.0f);
        gated_case(ck, 3, 4, 33, 1, fill % 2, fill, 1.0f);
        gated_case(ck, 5, 32, 128, 0, fill % 2, fill, 1.0f);
    }
    gated_case(ck, 2, 3, 128, 0, FALSE, FILL_NORMAL, 40.0f);
    gated_case(ck, 2, 3, 128, 0, TRUE, FILL_NORMAL, 1e30f);
    rms_case(ck, 70, 64, 0, FILL_NORMAL);
    layer_case(ck, 70, 64, 0, FILL_NORMAL);
    layer_case(ck, 9, 1152, 0, FILL_NORMAL);
}
