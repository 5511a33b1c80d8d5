// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul_dot.h — products with activations rounded to 8 bits: when, and how. For ops/ only.
//
// Devices that multiply bytes four at a time do so four times as fast as f32 numbers. Weights are
// exact, activations are rounded in blocks of 32 columns: an error of at most 1/254 of the largest
// of a block each, about 0.7 % of a product of many columns. shaders/matmul_dot.comp has the rule.
// Weights in F32, F16 and BF16 have no codes to multiply with: their products stay in f32.
// Shader: shaders/matmul_dot.comp    Reference: ref_matmul of ref_round_rows
#ifndef VLM_OPS_MATMUL_DOT_H
#define VLM_OPS_MATMUL_DOT_H

#include "ops/weight_kernels.h"

// TRUE when products with such weights that don't go to matrix units round activations here.
gboolean vlm_dot_takes(const vlm_device *dev, vlm_dtype dtype);

// Tokens of a tile for products of n_tok tokens with n_panel panels of rows.
uint32_t vlm_dot_tile(const vlm_device *dev, uint32_t n_panel, uint32_t n_tok);

// Specialization for n_tile tiles of n_tok tokens each and n_panel panels of rows that have n_item
// units each to share out: many workgroups have several panels each, so that activations are
// rounded less often; few split the columns of one.
vlm_kernel_spec vlm_dot_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                             uint32_t n_tok, uint32_t n_tile, vlm_tile_use use);

// The same, where columns are split always: what `n_item` counts are units of several matrices.
vlm_kernel_spec vlm_dot_mix_spec(const vlm_device *dev, uint32_t n_panel, uint32_t n_item,
                                 uint32_t n_tile, vlm_tile_use use);

// Panels of rows of a workgroup.
uint32_t vlm_dot_panels(const vlm_kernel_spec *spec);

#endif
