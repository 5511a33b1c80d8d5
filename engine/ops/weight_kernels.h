// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/weight_kernels.h — what the kernels over packed weights have in common. For ops/ only.
#ifndef VLM_OPS_WEIGHT_KERNELS_H
#define VLM_OPS_WEIGHT_KERNELS_H

#include "ops/matmul.h"

// Workgroup counts (rows / 8 / panels of a tile) and 32-bit indices hold up to these.
#define VLM_WEIGHT_MAX_ROWS (1u << 19)
#define VLM_WEIGHT_MAX_COLS (1u << 24)

// Bytes of the subgroup_size rows that are interleaved; 0 for a type or width that can't be.
uint64_t vlm_weight_panel_bytes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_col);

// TRUE when kernels can read it: address, sizes, limits.
gboolean vlm_weight_ok(const vlm_device *dev, const vlm_weight *weight);

// Piece of a product that one workgroup makes: tokens times panels of rows.
typedef struct vlm_tile {
    uint32_t n_tok;
    uint32_t n_panel;
} vlm_tile;

vlm_tile vlm_tile_choose(uint32_t n_tok);
vlm_kernel_spec vlm_tile_spec(const vlm_device *dev, vlm_tile tile, gboolean has_act);

#endif
