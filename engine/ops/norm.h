// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/norm.h — normalisation of rows.
#ifndef VLM_OPS_NORM_H
#define VLM_OPS_NORM_H

#include "ops/tensor.h"

// Scales each row to unit mean square, then by a learned weight per column (RMSNorm, Zhang and
// Sennrich 2019).
//
//   dst[r, c] = src[r, c] / sqrt(mean(src[r, :]^2) + eps) * weight[c]
//
//   dst     out  f32 [row, col]
//   src     in   f32 [row, col]   in place allowed with equal strides
//   weight  in   f32 [col]        device address
//
// Must: 1 <= n_row <= 65535, eps > 0.
// Cost: one dispatch, one subgroup per row, src read twice.
// Shader: shaders/rms_norm.comp    Reference: ref_rms_norm
gboolean vlm_op_rms_norm(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                         uint64_t weight, float eps, GError **error);

// The same for each head of every row, then times silu of a gate: silu(x) = x / (1 + exp(-x)).
//
//   dst[r, h, c] = src[r, h, c] / sqrt(mean(src[r, h, :]^2) + eps) * weight[c]
//                  * silu(gate[r, h, c])
//
//   dst     out  f32 [row, n_head * n]
//   src     in   f32 [row, n_head * n]   in place allowed with equal strides
//   gate    in   f32 [row, n_head * n]
//   weight  in   f32 [n]                 device address; n = columns / n_head
//
// Must: 1 <= n_row <= 65535, n_head divides the columns, eps > 0.
// Cost: one dispatch, one subgroup per row and head.
// Shader: shaders/rms_norm.comp with GATED    Reference: ref_rms_norm_gated
gboolean vlm_op_rms_norm_gated(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                               const vlm_tensor *gate, uint64_t weight, uint32_t n_head, float eps,
                               GError **error);

// Shifts each row to mean 0 and scales it to variance 1, then applies weight and bias (LayerNorm,
// Ba et al. 2016).
//
//   dst[r, c] = (src[r, c] - mean) / sqrt(var + eps) * weight[c] + bias[c]
//
//   dst           out  f32 [row, col]
//   src           in   f32 [row, col]   in place allowed with equal strides
//   weight, bias  in   f32 [col]        device addresses
//
// Must: 1 <= n_row <= 65535, eps > 0. The variance is that of two passes (no cancellation).
// Cost: one dispatch, one subgroup per row, src read three times.
// Shader: shaders/layer_norm.comp    Reference: ref_layer_norm
gboolean vlm_op_layer_norm(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           uint64_t weight, uint64_t bias, float eps, GError **error);

#endif
