// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul_split.h — products of few rows on GPUs: when, and split how. For ops/ only.
//
// Shader: shaders/matmul_split.comp    Reference: ref_matmul
#ifndef VLM_OPS_MATMUL_SPLIT_H
#define VLM_OPS_MATMUL_SPLIT_H

#include "ops/weight_kernels.h"

// Tokens of a tile at most.
#define VLM_SPLIT_MAX_TOKENS 8u

// TRUE when products of n_tok tokens split their columns between subgroups on this device.
gboolean vlm_split_takes(const vlm_device *dev, uint32_t n_tok);

// Subgroups, no more than the device's tuning allows, that share out n_item units each of n_tile *
// n_panel pieces of a product, when each of them takes `bytes` of shared memory.
uint32_t vlm_split_groups(const vlm_device *dev, uint32_t n_panel, uint32_t n_item, uint32_t n_tile,
                          uint32_t bytes);

// Specialization for n_tile tiles of n_tok tokens each and n_panel panels of rows, that have n_item
// units of weights to share out (vlm_weight_units() of each matrix that goes into a result).
vlm_kernel_spec vlm_split_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                               uint32_t n_tok, uint32_t n_tile, vlm_tile_use use);

#endif
