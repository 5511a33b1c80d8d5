// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul_split.c — see ops/matmul_split.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/matmul_split.h"

gboolean vlm_split_takes(const vlm_device *dev, uint32_t n_tok)
{
    return (dev->caps & VLM_CAP_PARALLEL) && n_tok <= 2 * VLM_SPLIT_MAX_TOKENS;
}

uint32_t vlm_split_groups(const vlm_device *dev, uint32_t n_panel, uint32_t n_item, uint32_t n_tile,
                          uint32_t bytes)
{
    const uint64_t n_group = (uint64_t) n_panel * n_tile;
    uint32_t groups = 1;

    // powers of two: few pipelines
    while (groups < dev->tuning[VLM_TUNE_SPLIT_MOST] && 2 * groups <= n_item
           && 2 * groups * dev->subgroup_size <= dev->max_local
           && groups * n_group < dev->tuning[VLM_TUNE_SPLIT_SUBGROUPS]
           && 2 * groups * bytes + 64 <= dev->max_shared)
        groups *= 2;
    return groups;
}

vlm_kernel_spec vlm_split_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                               uint32_t n_tok, uint32_t n_tile, vlm_tile_use use)
{
    const uint32_t lanes = dev->subgroup_size, n_matrix = use.pair ? 2 : 1;
    const uint32_t groups =
        vlm_split_groups(dev, n_panel, n_item, n_tile, n_matrix * n_tok * lanes * 4);

    return (vlm_kernel_spec){
        .local = { groups * lanes },
        .own = { lanes, n_tok, groups, use.act, use.set, use.pair, use.then },
        .n_own = 7,
    };
}
