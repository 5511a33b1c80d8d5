// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul_coopmat.c — see ops/matmul_coopmat.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/matmul_coopmat.h"

// Registers for results: matrices that a subgroup keeps at once.
#define MAX_MATRICES 16u
// Groups of four activations of a token that the lanes fetch at a time.
#define FETCHES 8u

gboolean vlm_coopmat_takes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_tok)
{
    return (dev->caps & VLM_CAP_COOPMAT) && dtype != VLM_DTYPE_F32
           && n_tok >= dev->tuning[VLM_TUNE_MATRIX_FROM];
}

uint32_t vlm_coopmat_panels(const vlm_device *dev, uint32_t n_tok)
{
    uint32_t panels = dev->tuning[VLM_TUNE_MATRIX_PANELS];

    while (panels > 1 && panels * dev->subgroup_size > MIN(dev->max_local, FETCHES * n_tok))
        panels /= 2;
    return panels;
}

uint32_t vlm_coopmat_tile(const vlm_device *dev, uint32_t n_tok)
{
    const uint32_t n = dev->subgroup_size / dev->coopmat.n;  // matrices across a panel
    uint32_t tile = 16;

    while (tile < n_tok && tile < dev->tuning[VLM_TUNE_MATRIX_TOKENS]
           && 2 * tile / dev->coopmat.m * n <= MAX_MATRICES)
        tile *= 2;
    return tile;
}

vlm_kernel_id vlm_coopmat_kernel(const vlm_device *dev, vlm_dtype dtype, gboolean experts)
{
    static const vlm_kernel_id kernels[2][2][VLM_N_DTYPE] = {
        { VLM_KERNEL_BY_ROUNDED_TYPE(matmul_coopmat), VLM_KERNEL_BY_ROUNDED_TYPE(matmul_coopmat2) },
        { VLM_KERNEL_BY_ROUNDED_TYPE(moe_matmul_coopmat),
          VLM_KERNEL_BY_ROUNDED_TYPE(moe_matmul_coopmat2) },
    };

    return kernels[experts][(dev->caps & VLM_CAP_COOPMAT2) != 0][dtype];
}

vlm_kernel_spec vlm_coopmat_spec(const vlm_device *dev, uint32_t n_tok, gboolean has_act)
{
    const uint32_t groups = vlm_coopmat_panels(dev, n_tok);

    return (vlm_kernel_spec){
        .local = { groups * dev->subgroup_size },
        .own = { dev->subgroup_size, n_tok, groups, dev->coopmat.m, dev->coopmat.n, dev->coopmat.k,
                 has_act },
        .n_own = 7,
    };
}
