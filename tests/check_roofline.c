// SPDX-License-Identifier: LGPL-2.1-or-later
// check_roofline.c — the measuring kernels against their reference.
#include "check.h"

#include "args.h"
#include "ops/roofline.h"
#include "ref_roofline.h"

static void read_case(check *ck, uint32_t n_group, uint32_t n_step)
{
    const uint32_t lanes = ck->dev->subgroup_size;
    const size_t share = (size_t) n_step * vlm_roofline_step_bytes(ck->dev);
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("read %u groups of %u steps", n_group, n_step);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n_group * lanes * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, n_group * share);
    check_buf *bufs[] = { dst, src };
    const uint32_t *got = dst->data;
    char *why = NULL;
    gboolean ok;

    for (size_t i = 0; i < n_group * share / 4; i++)
        ((uint32_t *) src->data)[i] = g_rand_int(ck->rand);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_roofline_read(ck->cmd, dst->addr, src->addr, n_group, n_step, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    for (uint32_t i = 0; i < n_group * lanes && !why; i++) {
        const uint32_t *share_of = (const uint32_t *) src->data + i / lanes * (share / 4);
        const uint32_t want = ref_roofline_read(share_of, share / 16, lanes, i % lanes);
        if (got[i] != want)
            why = g_strdup_printf("[%u] is %u, not %u", i, got[i], want);
    }
    check_verdict(ck, what, why);
}

// Each step rounds twice at most, and x shrinks what came before.
static const tolerance fma_tol = { .absolute = 1e-4, .relative = 1e-5 };

static void fma_case(check *ck, uint32_t n_group, uint32_t n_step, float x, float y)
{
    const uint32_t lanes = ck->dev->subgroup_size, n = n_group * lanes;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("fma %u groups of %u steps", n_group, n_step);
    g_autoptr(check_buf) dst = check_buf_new(ck, (size_t) n * 4);
    g_autoptr(check_buf) src = check_buf_new(ck, 8);
    g_autofree double *want = g_new(double, n);
    check_buf *bufs[] = { dst, src };
    gboolean ok;

    ((float *) src->data)[0] = x;
    ((float *) src->data)[1] = y;
    for (uint32_t i = 0; i < n; i++)
        want[i] = ref_roofline_fma(x, y, VLM_ROOFLINE_CHAINS, n_step, i % lanes);
    ok = vlm_cmd_begin(ck->cmd, &error)
         && vlm_op_roofline_fma(ck->cmd, dst->addr, src->addr, n_group, n_step, &error);
    if (check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        check_verdict(ck, what, compare_f32(dst->data, want, 1, n, n, fma_tol));
}

void check_roofline(check *ck)
{
    if (ck->dev->caps)  // no variants: the first rung has seen it all
        return;
    read_case(ck, 1, 1);
    read_case(ck, 3, 7);
    read_case(ck, 67, 2);
    fma_case(ck, 1, 1, 0.5f, 0.25f);
    fma_case(ck, 5, 100, 0.9f, 0.1f);
}
