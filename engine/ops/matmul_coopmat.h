// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul_coopmat.h — products on matrix units: when, and in which tiles. For ops/ only.
//
// Activations and unpacked weights are rounded to f16 (11 bits) and held within +-65504, sums are
// f32: an error of about 2^-10 of the sum of the terms' magnitudes at most, 2^-12 of its root in
// practice. Weights in F32 are not rounded: they stay with matmul.comp.
// Shader: shaders/matmul_coopmat.comp    Reference: ref_matmul
#ifndef VLM_OPS_MATMUL_COOPMAT_H
#define VLM_OPS_MATMUL_COOPMAT_H

#include "ops/weight_kernels.h"

// TRUE when products of n_tok tokens with such weights go to matrix units on this device.
gboolean vlm_coopmat_takes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_tok);

// Tokens of a tile: 16, 32 or 64, the fewest that n_tok fill or the most that the tuning allows.
uint32_t vlm_coopmat_tile(const vlm_device *dev, uint32_t n_tok);

// Rows of a tile of n_tok tokens: one panel for each subgroup of the workgroup, whose lanes have a
// whole number of its activations each.
uint32_t vlm_coopmat_panels(const vlm_device *dev, uint32_t n_tok);

// The kernel for weights of this type; `experts`: for the tiles of a plan of experts.
vlm_kernel_id vlm_coopmat_kernel(const vlm_device *dev, vlm_dtype dtype, gboolean experts);

// Specialization for tiles of n_tok tokens.
vlm_kernel_spec vlm_coopmat_spec(const vlm_device *dev, uint32_t n_tok, gboolean has_act);

#endif
