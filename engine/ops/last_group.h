// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/last_group.h — what the last workgroup of a product does with whole rows. For ops/ only.
//
// Shader: shaders/last_group.glsl, in the products' kernels    Reference: that of the operator
#ifndef VLM_OPS_LAST_GROUP_H
#define VLM_OPS_LAST_GROUP_H

#include "ops/matmul.h"

// The constant THEN of the kernels.
typedef enum vlm_then { VLM_THEN_NOTHING, VLM_THEN_NORM, VLM_THEN_ROUTE } vlm_then;

// TRUE when the last workgroup can normalise such rows; else that takes a dispatch of its own.
gboolean vlm_then_norm_takes(const vlm_tensor *src, const vlm_matmul_norm *norm, uint32_t n_tile);

// The arguments for a dispatch of n_tile tiles of tokens, in the ring; `*args` is their address.
gboolean vlm_then_norm(vlm_cmd *cmd, const vlm_tensor *src, const vlm_matmul_norm *norm,
                       uint32_t n_tile, uint64_t *args, GError **error);
gboolean vlm_then_route(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                        uint32_t k, uint32_t n_tile, uint64_t *args, GError **error);

#endif
