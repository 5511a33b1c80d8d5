// SPDX-License-Identifier: LGPL-2.1-or-later
// check_moe.c — expert routing, plans, grouped products and mixing against their references.
#include <math.h>
#include <string.h>

#include "check_weights.h"
#include "ops/matmul_coopmat.h"
#include "ops/matmul_dot.h"
#include "ops/moe_plan.h"
#include "ref_moe.h"

// exp within 3 + 2 |x| ULP and a division; small gates are the exponentials of large differences.
static const tolerance gate_tol = { .absolute = 1e-30, .relative = 2e-5 };

typedef enum route_fill { ROUTE_NORMAL, ROUTE_SAME, ROUTE_TIES, ROUTE_WIDE, N_ROUTE } route_fill;

static const char *const route_name[N_ROUTE] = { "normal", "same", "ties", "wide" };

static void route_case(check *ck, uint32_t n_tok, uint32_t n_expert, uint32_t k, route_fill fill)
{
    const uint32_t stride = n_expert + 3;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("route [%u, %u] top %u %s", n_tok, n_expert, k, route_name[fill]);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_tok * k * 4);
    g_autoptr(check_buf) gate = check_buf_new(ck, (size_t) n_tok * k * 4);
    g_autoptr(check_buf) logits = check_buf_new(ck, (size_t) n_tok * stride * 4);
    g_autofree gint32 *want_ids = g_new(gint32, (size_t) n_tok * k);
    g_autofree double *want = g_new(double, (size_t) n_tok *k);
    check_buf *bufs[] = { ids, gate, logits };
    vlm_tensor t_logits = { logits->addr, n_tok, n_expert, stride };
    gboolean ok;

    for (uint32_t t = 0; t < n_tok; t++) {
        float *row = (float *) logits->data + (size_t) t * stride;

        check_fill_f32(ck, row, n_expert, FILL_NORMAL);
        for (uint32_t e = 0; e < n_expert; e++) {
            if (fill == ROUTE_SAME)
                row[e] = e % 2 ? 0.0f : -0.0f;
            else if (fill == ROUTE_TIES)
                row[e] = (float) g_rand_int_range(ck->rand, -2, 3);
            else if (fill == ROUTE_WIDE)
                row[e] *= 20.0f;
        }
    }
    ref_moe_route(want_ids, want, logits->data, stride, n_tok, n_expert, k);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_moe_route(ck->cmd, ids->addr, gate->addr, &t_logits, k, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what)) {
        char *why = compare_i32(ids->data, want_ids, (size_t) n_tok * k);
        check_verdict(ck, what, why ? why : compare_f32(gate->data, want, n_tok, k, k, gate_tol));
    }
}

// Logits that are not numbers: the ids must still be different experts.
static void route_nan_case(check *ck, uint32_t n_expert, uint32_t k, gboolean infinite)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("route [1, %u] top %u %s", n_expert, k, infinite ? "inf" : "NaN");
    g_autoptr(check_buf) ids = check_buf_new(ck, k * 4);
    g_autoptr(check_buf) gate = check_buf_new(ck, k * 4);
    g_autoptr(check_buf) logits = check_buf_new(ck, n_expert * 4);
    check_buf *bufs[] = { ids, gate, logits };
    const uint32_t *got = ids->data;
    vlm_tensor t_logits = vlm_tensor_make(logits->addr, 1, n_expert);
    gboolean ok;

    for (uint32_t e = 0; e < n_expert; e++)
        ((float *) logits->data)[e] =
            infinite ? (e % 3 == 0 ? INFINITY : -INFINITY) : (e % 2 ? NAN : -NAN);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_moe_route(ck->cmd, ids->addr, gate->addr, &t_logits, k, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    char *why = NULL;
    for (uint32_t i = 0; !why && i < k; i++) {
        if (got[i] >= n_expert)
            why = g_strdup_printf("[%u] is %u", i, got[i]);
        for (uint32_t j = 0; !why && j < i; j++)
            if (got[i] == got[j])
                why = g_strdup_printf("[%u] and [%u] are both %u", i, j, got[i]);
    }
    check_verdict(ck, what, why);
}

typedef enum ids_fill { IDS_RANDOM, IDS_SAME, IDS_SKEWED, N_IDS } ids_fill;

static const char *const ids_name[N_IDS] = { "random", "same", "skewed" };

// k different experts per token.
static void fill_ids(check *ck, int32_t *ids, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                     ids_fill fill)
{
    for (uint32_t s = 0; s < n_tok * k; s++) {
        const uint32_t first = s / k * k;
        gboolean again;

        do {
            double u = g_rand_double(ck->rand);

            if (fill == IDS_SKEWED)
                u = u * u * u;
            ids[s] = fill == IDS_SAME ? (int32_t) ((s - first) * 2 % n_expert)
                                      : (int32_t) (u * n_expert);
            if (fill == IDS_SAME && 2 * k > n_expert)
                ids[s] = (int32_t) (s - first);
            again = FALSE;
            for (uint32_t i = first; i < s; i++)
                again |= ids[i] == ids[s];
        } while (again);
    }
}

static char *inspect_plan(const uint8_t *memory, const vlm_moe_layout *layout, const int32_t *ids,
                          const int32_t *order, uint32_t n_slot)
{
    const uint32_t n_tile = *(const uint32_t *) (const void *) (memory + layout->n_tile);
    const uint32_t *tiles = (const uint32_t *) (const void *) (memory + layout->tiles);
    const int32_t *slots = (const int32_t *) (const void *) (memory + layout->slots);
    uint32_t at = 0;
    char *why = compare_i32(slots, order, n_slot);

    if (!why && n_tile > layout->max_tiles)
        return g_strdup_printf("%u tiles of at most %u", n_tile, layout->max_tiles);
    for (uint32_t i = 0; !why && i < n_tile; i++) {
        const uint32_t *t = tiles + 4 * i;

        if (t[1] != at || t[2] < 1 || t[2] > layout->tile_slots || t[2] > n_slot - at)
            why = g_strdup_printf("tile %u has %u slots from %u, expected some from %u", i, t[2],
                                  t[1], at);
        for (uint32_t j = at; !why && j < at + t[2]; j++)
            if ((uint32_t) ids[slots[j]] != t[0])
                why = g_strdup_printf("tile %u: slot %d has expert %d, not %u", i, slots[j],
                                      ids[slots[j]], t[0]);
        if (!why)
            at += t[2];
    }
    return why || at == n_slot ? why : g_strdup_printf("tiles end at slot %u of %u", at, n_slot);
}

// Plan alone: sizes too large for products in a test.
static void plan_case(check *ck, uint32_t n_tok, uint32_t k, uint32_t n_expert, ids_fill fill)
{
    const uint32_t n_slot = n_tok * k;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("plan %u x %u of %u %s", n_tok, k, n_expert, ids_name[fill]);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_slot * 4);
    g_autoptr(check_buf) memory =
        check_buf_new(ck, vlm_moe_plan_bytes(ck->dev, n_tok, k, n_expert));
    g_autofree int32_t *order = g_new(int32_t, n_slot);
    check_buf *bufs[] = { ids, memory };
    vlm_moe_plan plan = { memory->addr, ids->addr, n_tok, k, n_expert, 0 };
    vlm_moe_layout layout;
    gboolean ok;

    fill_ids(ck, ids->data, n_tok, k, n_expert, fill);
    g_assert_true(vlm_moe_find_layout(n_tok, k, n_expert, 0, &layout));
    g_assert_false(vlm_moe_plan_single(&plan));
    ref_moe_plan(order, ids->data, n_slot, n_expert);
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_moe_plan(ck->cmd, &plan, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, inspect_plan(memory->data, &layout, ids->data, order, n_slot));
}

static void matmul_case(check *ck, vlm_dtype dtype, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                        uint32_t n_row, uint32_t n_col, gboolean per_token, ids_fill fill)
{
    const gboolean scattered = fill == IDS_SKEWED;  // as experts are that don't fit the device
    const uint32_t n_slot = n_tok * k, n_src = per_token ? n_tok : n_slot;
    const uint32_t src_stride = (n_col + 3) / 4 * 4 + 4, dst_stride = n_row + 3;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf(
        "%s %u x %u of %u [%u, %u] %s %s%s", vlm_dtype_name(dtype), n_tok, k, n_expert, n_row,
        n_col, per_token ? "per token" : "per slot", ids_name[fill], scattered ? " scattered" : "");
    g_autoptr(check_weight) cw = check_weight_new(ck, dtype, n_expert, n_row, n_col, FILL_NORMAL);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_slot * dst_stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_src * src_stride * 4);
    g_autoptr(check_buf) ids = check_buf_new(ck, (size_t) n_slot * 4);
    g_autoptr(check_buf) memory =
        check_buf_new(ck, vlm_moe_plan_bytes(ck->dev, n_tok, k, n_expert));
    g_autofree double *want = g_new(double, (size_t) n_slot *n_row);
    g_autofree double *scale = g_new(double, (size_t) n_slot *n_row);
    check_buf *bufs[] = { dst, src, ids, memory, cw->buf };
    vlm_tensor t_dst = { dst->addr, n_slot, n_row, dst_stride };
    vlm_tensor t_src = { src->addr, n_src, n_col, src_stride };
    vlm_moe_plan plan = {
        memory->addr, ids->addr,
        n_tok,        k,
        n_expert,     vlm_moe_matrix_tile(ck->dev, n_tok, k, n_expert, &dtype, 1)
    };
    const double rounding = plan.tile > 0 ? 0x1p-10 : 0;  // of both factors, to 11 bits
    gboolean ok;

    for (uint32_t r = 0; r < n_src; r++)
        check_fill_f32(ck, (float *) src->data + (size_t) r * src_stride, n_col,
                       r % 5 == 4 ? FILL_OFFSET : FILL_NORMAL);
    fill_ids(ck, ids->data, n_tok, k, n_expert, fill);
    g_autofree float *x =
        check_activations(ck, dtype, plan.tile > 0, src->data, n_src, n_col, src_stride);
    ref_moe_matmul(want, scale, x, src_stride, cw->values, ids->data, n_slot, per_token ? k : 1,
                   n_row, n_col);
    if (scattered)
        check_weight_scatter(ck, cw);
    ok = vlm_cmd_begin(ck->cmd, &error) && vlm_op_moe_plan(ck->cmd, &plan, &error);
    if (ok) {
        vlm_cmd_barrier(ck->cmd);
        ok = vlm_op_moe_matmul(ck->cmd, &t_dst, &t_src, &cw->w, &plan, per_token, &error);
    }
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what,
                      check_compare_sum(dst->data, want, scale, n_slot, n_row, dst_stride,
                                        check_sum_tolerance(dtype) + rounding, 2e-7));
}

static void combine_case(check *ck, uint32_t n_tok, uint32_t k, uint32_t n_col, check_fill fill)
{
    const uint32_t dst_stride = n_col + 1, src_stride = n_col + 2;
    g_autoptr(GError) error = NULL;
    g_autofree char *what =
        g_strdup_printf("combine %u x %u [%u] %s", n_tok, k, n_col, check_fill_name[fill]);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_tok * dst_stride * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, (size_t) n_tok * k * src_stride * 4);
    g_autoptr(check_buf) gate = check_buf_new(ck, (size_t) n_tok * k * 4);
    g_autofree double *want = g_new(double, (size_t) n_tok *n_col);
    g_autofree double *scale = g_new(double, (size_t) n_tok *n_col);
    check_buf *bufs[] = { dst, src, gate };
    vlm_tensor t_dst = { dst->addr, n_tok, n_col, dst_stride };
    vlm_tensor t_src = { src->addr, n_tok * k, n_col, src_stride };
    gboolean ok;

    for (uint32_t r = 0; r < n_tok; r++)
        check_fill_f32(ck, (float *) dst->data + (size_t) r * dst_stride, n_col, FILL_NORMAL);
    for (uint32_t r = 0; r < n_tok * k; r++)
        check_fill_f32(ck, (float *) src->data + (size_t) r * src_stride, n_col, fill);
    check_fill_f32(ck, gate->data, (size_t) n_tok * k, FILL_NORMAL);
    ref_moe_combine(want, scale, dst->data, dst_stride, src->data, src_stride, gate->data, n_tok, k,
                    n_col);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_moe_combine(ck->cmd, &t_dst, &t_src, gate->addr, k, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))  // k + 1 roundings, k <= 16
        check_verdict(ck, what,
                      check_compare_sum(dst->data, want, scale, n_tok, n_col, dst_stride, 1e-6, 0));
}

static void refused_cases(check *ck)
{
    g_autoptr(check_buf) a = check_buf_new(ck, 4096);
    const vlm_tensor logits = vlm_tensor_make(a->addr, 2, 8);
    const vlm_tensor one = vlm_tensor_make(a->addr, 1, 8), two = vlm_tensor_make(a->addr, 2, 8);
    const vlm_moe_plan zero_k = { a->addr, a->addr, 2, 0, 8, 0 };
    const vlm_moe_plan odd = { a->addr + 4, a->addr, 2, 2, 8, 0 };
    const vlm_moe_plan no_ids = { a->addr, 0, 2, 2, 8, 0 };
    gboolean refused = vlm_cmd_begin(ck->cmd, NULL);

    refused &= !vlm_op_moe_route(ck->cmd, a->addr, a->addr, &logits, 9, NULL);
    refused &= !vlm_op_moe_route(ck->cmd, a->addr, a->addr, &logits, 0, NULL);
    refused &= !vlm_op_moe_route(ck->cmd, 0, a->addr, &logits, 2, NULL);
    refused &= !vlm_op_moe_plan(ck->cmd, &zero_k, NULL);
    refused &= !vlm_op_moe_plan(ck->cmd, &odd, NULL);
    refused &= !vlm_op_moe_plan(ck->cmd, &no_ids, NULL);
    refused &= !vlm_op_moe_combine(ck->cmd, &one, &two, a->addr, 3, NULL);
    refused &= vlm_moe_plan_bytes(ck->dev, 65535, 16, 16) == 0;
    refused &= vlm_moe_plan_bytes(ck->dev, 1, 2, 1) == 0;
    refused &= vlm_cmd_run(ck->cmd, NULL);
    check_verdict(ck, "arguments", refused ? NULL : g_strdup("a broken demand was accepted"));
}

// Tiles of 16, 32 and 64 slots for matrix units, all experts even or one with most.
static void coopmat_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t block = vlm_dtype_block_elems(dtype);
    const uint32_t col = block == 256 ? 512 : block == 32 ? 96 : 35;

    if (ck->dev->tall_matrices) {  // see check_matmul.c
        matmul_case(ck, dtype, 64, 2, 8, 33, col, TRUE, IDS_SKEWED);
        return;
    }
    for (int fill = 0; fill < N_IDS; fill++) {
        matmul_case(ck, dtype, 64, 2, 8, 33, col, TRUE, (ids_fill) fill);
        matmul_case(ck, dtype, 90, 1, 3, 70, col, FALSE, (ids_fill) fill);
        matmul_case(ck, dtype, 100, 2, 2, 8, col, TRUE, (ids_fill) fill);
    }
}

// Tiles of 1, 2, 4 and 8 slots whose columns are split between subgroups.
static void split_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t block = vlm_dtype_block_elems(dtype);
    const uint32_t col = block == 256 ? 768 : block == 32 ? 544 : 131;

    for (int fill = 0; fill < N_IDS; fill++) {
        matmul_case(ck, dtype, 1, 2, 8, 33, col, TRUE, (ids_fill) fill);
        matmul_case(ck, dtype, 9, 2, 8, 17, col, FALSE, (ids_fill) fill);
        matmul_case(ck, dtype, 14, 2, 8, 9, col, TRUE, (ids_fill) fill);
        matmul_case(ck, dtype, 40, 1, 3, 40, col, FALSE, (ids_fill) fill);
    }
}

// Activations rounded to 8 bits: as above, and so many tiles that workgroups have several panels.
static void dot_cases(check *ck, vlm_dtype dtype)
{
    const uint32_t lanes = ck->dev->subgroup_size, block = vlm_dtype_block_elems(dtype);

    split_cases(ck, dtype);
    matmul_case(ck, dtype, 64, 2, 8, 90 * lanes - 3, block, TRUE, IDS_SKEWED);
    matmul_case(ck, dtype, 9, 2, 32, 120 * lanes - 3, 2 * block, FALSE, IDS_RANDOM);
}

void check_moe(check *ck)
{
    // experts below, at and above a subgroup of 8; real counts; the most
    static const uint32_t experts[] = { 1, 2, 7, 8, 9, 33, 128, 256, 1024 };
    static const uint32_t ks[] = { 1, 2, 8, 16 };

    for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
        if (vlm_dot_takes(ck->dev, check_weight_types[i]))
            dot_cases(ck, check_weight_types[i]);
    if (ck->dev->caps & VLM_CAP_PARALLEL)
        for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
            split_cases(ck, check_weight_types[i]);
    if (ck->dev->caps & VLM_CAP_COOPMAT)
        for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++)
            if (check_weight_types[i] != VLM_DTYPE_F32)
                coopmat_cases(ck, check_weight_types[i]);
    if (ck->dev->caps)  // no other variants: the first rung has seen it all
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(experts); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(ks) && ks[j] <= experts[i]; j++) {
            for (int fill = 0; fill < N_ROUTE; fill++)
                route_case(ck, 3, experts[i], ks[j], (route_fill) fill);
            route_nan_case(ck, experts[i], ks[j], TRUE);
            route_nan_case(ck, experts[i], ks[j], FALSE);
        }
    }
    for (int fill = 0; fill < N_IDS; fill++) {
        plan_case(ck, 2, 1, 1, IDS_SAME);
        plan_case(ck, 32, 8, 128, (ids_fill) fill);  // two slots per expert: the fewest
        plan_case(ck, 61, 2, 9, (ids_fill) fill);
        plan_case(ck, 512, 2, 8, (ids_fill) fill);  // the last that needs one chunk
        plan_case(ck, 513, 2, 8, (ids_fill) fill);
        plan_case(ck, 700, 8, 128, (ids_fill) fill);
        plan_case(ck, 333, 16, 1024, (ids_fill) fill);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(check_weight_types); i++) {
        const vlm_dtype dtype = check_weight_types[i];
        const uint32_t block = vlm_dtype_block_elems(dtype);
        const uint32_t col = block == 256 ? 256 : block == 32 ? 96 : 35;

        for (int fill = 0; fill < N_IDS; fill++) {
            matmul_case(ck, dtype, 1, 2, 8, 17, col, TRUE, (ids_fill) fill);
            matmul_case(ck, dtype, 1, 8, 64, 40, col, FALSE, (ids_fill) fill);
            matmul_case(ck, dtype, 9, 2, 8, 33, col, TRUE, (ids_fill) fill);
            matmul_case(ck, dtype, 14, 2, 8, 9, col, FALSE, (ids_fill) fill);
            matmul_case(ck, dtype, 29, 2, 7, 61, col, TRUE, (ids_fill) fill);
            matmul_case(ck, dtype, 40, 1, 3, 8, col, FALSE, (ids_fill) fill);
        }
    }
    matmul_case(ck, VLM_DTYPE_Q8_0, 1, 8, 128, 768, 64, TRUE, IDS_RANDOM);
    for (int fill = 0; fill < N_FILL; fill++) {
        combine_case(ck, 1, 8, 2048, (check_fill) fill);
        combine_case(ck, 3, 2, 33, (check_fill) fill);
        combine_case(ck, 5, 1, 1, (check_fill) fill);
        combine_case(ck, 2, 16, 31, (check_fill) fill);
    }
    refused_cases(ck);
}
