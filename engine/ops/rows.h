// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/rows.h — moving and combining whole rows, and picking from them.
#ifndef VLM_OPS_ROWS_H
#define VLM_OPS_ROWS_H

#include "ops/tensor.h"

// All of them: at most 65535 rows. One dispatch each, a subgroup per row and span of columns.
// Shaders: rows_move.comp, swiglu.comp, split_heads.comp, argmax.comp and position_embed.comp
// References: tests/ref_rows.h

// dst[i, :] = src[index[i], :]      index: u32 [dst rows], device address, each < src rows
gboolean vlm_op_rows_gather(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                            uint64_t index, GError **error);

// dst[index[i], :] = src[i, :], or += with `add`; the indices are distinct
//   index: u32 [src rows], device address, each < dst rows
gboolean vlm_op_rows_scatter(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                             uint64_t index, gboolean add, GError **error);

// dst[r, c] = silu(gate[r, c]) * up[r, c]      in place on gate allowed (SwiGLU, Shazeer 2020)
gboolean vlm_op_swiglu(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *gate,
                       const vlm_tensor *up, GError **error);

// dst[r, c] = up[r, c] / (1 + exp(-gate[r, c]))      in place on gate or up allowed
gboolean vlm_op_sigmoid_gate(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *gate,
                             const vlm_tensor *up, GError **error);

// Takes pairs of heads apart: a[r, h, :] = src[r, 2 h, :], b[r, h, :] = src[r, 2 h + 1, :]
//   src: f32 [row, n_head * 2 * head_dim], a, b: f32 [row, n_head * head_dim]
gboolean vlm_op_split_heads(vlm_cmd *cmd, const vlm_tensor *a, const vlm_tensor *b,
                            const vlm_tensor *src, uint32_t head_dim, GError **error);

// ids[r] = index of the largest src[r, c]; ties to the lower index; NaN never wins; a row with
// nothing but NaN gives 0.      ids: u32 [row], device address; at most VLM_MAX_COUNTERS rows
gboolean vlm_op_argmax(vlm_cmd *cmd, uint64_t ids, const vlm_tensor *src, GError **error);

// Adds a learned position table, interpolated bilinearly with aligned corners, to the patches of
// n_image images of the same grid: patch (y, x) of a grid of h x w gets
//   table[Y, X] with Y = y * (side - 1) / (h - 1), X likewise (0 when the grid is 1 wide),
// mixed from its four neighbours. Patches are ordered in blocks of merge x merge: block row, block
// column, row in block, column in block.
//
//   dst    in/out  f32 [n_image * h * w, d]
//   table  in      f32 [side * side, d]   device address
//
// Must: h and w multiples of merge, 1 <= merge <= 8, 1 <= side <= 4096.
gboolean vlm_op_position_embed(vlm_cmd *cmd, const vlm_tensor *dst, uint64_t table, uint32_t side,
                               uint32_t h, uint32_t w, uint32_t merge, GError **error);

#endif
