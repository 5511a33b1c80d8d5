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

// Specialization for n_tile tiles of n_tok tokens each, with matrices of such weights.
vlm_kernel_spec vlm_split_spec(const vlm_device *dev, const vlm_weight *weight, uint32_t n_tok,
                               uint32_t n_tile, gboolean has_act);

#endif
