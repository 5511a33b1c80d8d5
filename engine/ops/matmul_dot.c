// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul_dot.c — see ops/matmul_dot.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/matmul_dot.h"

#include "ops/matmul_split.h"

// A rounded block and how many of them a subgroup keeps: see the shader.
#define BLOCK_BYTES 48u
#define AREA_BLOCKS 4u

enum { OWN_GROUPS = 2, OWN_ROWS = 7 };  // indices in own[]

gboolean vlm_dot_takes(const vlm_device *dev, vlm_dtype dtype)
{
    return (dev->caps & VLM_CAP_INT_DOT) && dtype != VLM_DTYPE_F32 && dtype != VLM_DTYPE_F16
           && dtype != VLM_DTYPE_BF16;
}

static gboolean enough(const vlm_device *dev, uint32_t n_panel, uint32_t n_tile)
{
    return (uint64_t) n_panel * n_tile >= dev->tuning[VLM_TUNE_SPLIT_SUBGROUPS];
}

uint32_t vlm_dot_tile(const vlm_device *dev, uint32_t n_panel, uint32_t n_tok)
{
    const uint32_t most = dev->tuning[VLM_TUNE_DOT_TOKENS];

    if (n_tok > most && enough(dev, n_panel, (n_tok - 1) / most + 1))
        return most;
    return vlm_tile_tokens(n_tok, VLM_TILE_TOKENS);
}

static vlm_kernel_spec make_spec(const vlm_device *dev, uint32_t n_tok, uint32_t groups,
                                 gboolean rows, vlm_tile_use use)
{
    const uint32_t lanes = dev->subgroup_size;

    return (vlm_kernel_spec){
        .local = { groups * lanes },
        .own = { lanes, n_tok, groups, use.act, use.set, use.pair, use.then, rows },
        .n_own = 8,
    };
}

static vlm_kernel_spec split_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                                  uint32_t n_tok, uint32_t n_tile, vlm_tile_use use)
{
    const uint32_t lanes = dev->subgroup_size, n_matrix = use.pair ? 2 : 1;
    const uint32_t bytes = n_tok * (n_matrix * lanes * 4 + AREA_BLOCKS * BLOCK_BYTES);

    return make_spec(dev, n_tok, vlm_split_groups(dev, n_panel, n_item, n_tile, bytes), FALSE, use);
}

vlm_kernel_spec vlm_dot_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                             uint32_t n_tok, uint32_t n_tile, vlm_tile_use use)
{
    const uint32_t groups =
        MIN(dev->tuning[VLM_TUNE_DOT_PANELS], dev->max_local / dev->subgroup_size);

    if (enough(dev, n_panel, n_tile))
        return make_spec(dev, n_tok, groups, TRUE, use);
    return split_spec(dev, n_panel, n_item, n_tok, n_tile, use);
}

vlm_kernel_spec vlm_dot_mix_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                                 uint32_t n_tile, vlm_tile_use use)
{
    return split_spec(dev, n_panel, n_item, 1, n_tile, use);
}

uint32_t vlm_dot_panels(const vlm_kernel_spec *spec)
{
    return spec->own[OWN_ROWS] ? spec->own[OWN_GROUPS] : 1;
}
