// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/moe.h — sparse mixture of experts: routing and grouped products.
#ifndef VLM_OPS_MOE_H
#define VLM_OPS_MOE_H

#include "ops/matmul.h"

// Chooses the experts of every token and their mixing weights.
//
//   p       = softmax(logits[t, :])
//   ids[t]  = indices of the k largest p, largest first, ties to the lower index
//   gate[t] = p[ids[t]] / sum(p[ids[t]])
//
//   ids     out  u32 [tok, k]        device address
//   gate    out  f32 [tok, k]        device address; rows sum to 1
//   logits  in   f32 [tok, expert]   NaN gives unspecified but valid ids, never a fault
//
// Must: 1 <= k <= 16, k <= n_expert <= 1024, n_tok <= 65535.
// Cost: one dispatch, one subgroup per token, k passes over its logits.
// Shader: shaders/moe_route.comp    Reference: ref_moe_route
gboolean vlm_op_moe_route(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                          uint32_t k, GError **error);

// The router: a linear layer and the choice of each token's experts.
//
//   logits[t, e] = sum over c of weight[e, c] * src[t, c]
//   ids, gate = those of vlm_op_moe_route(logits)
//
//   logits  out  f32 [tok, expert]
//   src     in   f32 [tok, col]   row_stride a multiple of 4, addr of 16
//   weight  in   [expert, col]
//
// Must: as vlm_op_moe_route() and vlm_op_matmul().
// Cost: one dispatch, of which the workgroup that finishes a tile of tokens last chooses; on matrix
// units two.
// Shader: shaders/matmul.comp with THEN    Reference: ref_matmul, ref_moe_route
gboolean vlm_op_moe_router(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                           const vlm_tensor *src, const vlm_weight *weight, uint32_t k,
                           GError **error);

// Which (token, choice) slots each expert serves. Slot s is choice s % k of token s / k. With two
// slots per expert or more on average they are sorted by expert in device memory, with a list of
// tiles for grouped products; with less (decoding) every slot is a tile and the ids are the plan.
typedef struct vlm_moe_plan {
    uint64_t addr;  // vlm_moe_plan_bytes() of scratch, a multiple of 64
    uint64_t ids;   // u32 [tok, k], those of the router
    uint32_t n_tok, k, n_expert;
    uint32_t tile;  // slots of a tile for matrix units, from vlm_moe_matrix_tile(); 0: without them
} vlm_moe_plan;

// TRUE when every slot is a tile.
gboolean vlm_moe_plan_single(const vlm_moe_plan *plan);

// The tile with which products of these counts and of weights of these types go to matrix units; 0
// when there are none, slots are too few, or a type is F32, whose products stay in f32.
uint32_t vlm_moe_matrix_tile(const vlm_device *dev, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                             const vlm_dtype *dtypes, uint32_t n_dtype);

// Bytes of a plan, never less for more tokens. 0 when the counts are out of range:
// 1 <= k <= 16, k <= n_expert <= 1024, n_tok <= 65535, n_tok * k <= 2^18.
size_t vlm_moe_plan_bytes(const vlm_device *dev, uint32_t n_tok, uint32_t k, uint32_t n_expert);

// Fills a plan from its ids. Ids beyond the last expert count as the last.
//
// Cost: nothing where every slot is a tile, else one dispatch up to 1024 slots, three above. The
// order is always the same: by expert, then by slot.
// Shader: shaders/moe_plan.comp    Reference: ref_moe_plan
gboolean vlm_op_moe_plan(vlm_cmd *cmd, const vlm_moe_plan *plan, GError **error);

// Product of every slot with its expert's matrix.
//
//   dst[s, r] = sum over c of weight[expert(s), r, c] * src[row(s), c]
//   row(s) = s / k when `src_per_token`, else s
//
//   dst     out  f32 [tok * k, row]
//   src     in   f32 [tok, col] or [tok * k, col]   row_stride a multiple of 4, addr of 16
//   weight  in   [expert, row, col]   n_mat = n_expert of the plan; not F32 with plan->tile;
//                                     experts may lie anywhere, see vlm_weight.table
//   plan    in   filled, with a barrier since
//
// Cost: one dispatch over as many tiles as there could be; those beyond the list end at once.
// Shader: shaders/matmul.comp with MOE, with plan->tile matmul_coopmat.comp, whose rounding
// ops/matmul_coopmat.h describes    Reference: ref_moe_matmul
gboolean vlm_op_moe_matmul(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           const vlm_weight *weight, const vlm_moe_plan *plan,
                           gboolean src_per_token, GError **error);

// The gated first half of the experts' feed-forward networks: see vlm_op_matmul_swiglu().
//
//   both[s, r] = silu(g) * u,   g = sum over c of gate[expert(s), r, c] * src[s / k, c], u likewise
//
//   both  out  f32 [tok * k, 2 * row]   the result is in the first `row` columns
//   src   in   f32 [tok, col]           row_stride a multiple of 4, addr of 16
//   gate  in   [expert, row, col], or [expert, 2 * row, col] with those of `up` in its last rows
//   up    in   [expert, row, col], or NULL
//
// Cost: one dispatch without matrix units, with one type of weights and one table or none; else two
// or three.
// Shader: shaders/matmul.comp with MOE and PAIR    Reference: ref_moe_matmul
gboolean vlm_op_moe_swiglu(vlm_cmd *cmd, const vlm_tensor *both, const vlm_tensor *src,
                           const vlm_weight *gate, const vlm_weight *up, const vlm_moe_plan *plan,
                           GError **error);

// The second half, mixed into the residual stream: vlm_op_moe_matmul() and vlm_op_moe_combine().
//
//   dst[t, r] = dst[t, r] + sum over j of gate[t, j] * y(t * k + j, r),
//   y(s, r) = sum over c of weight[expert(s), r, c] * src[s, c]
//
//   dst     in/out  f32 [tok, row]
//   src     in      f32 [tok * k, col]   row_stride a multiple of 4, addr of 16
//   weight  in      [expert, row, col]
//   gate    in      f32 [tok, k]         device address
//   work    -       f32 [tok * k, row]   used where it takes more than one dispatch
//   norm    in      of the rows that dst has in the end; NULL = none
//
// Cost: one dispatch where every slot is a tile; else two, and one for the norm.
// Shader: shaders/matmul.comp with MIX    Reference: ref_moe_matmul, ref_moe_combine
gboolean vlm_op_moe_mix(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                        const vlm_weight *weight, uint64_t gate, const vlm_moe_plan *plan,
                        const vlm_tensor *work, const vlm_matmul_norm *norm, GError **error);

// Mixes the experts' outputs into the residual stream.
//
//   dst[t, c] = dst[t, c] + sum over j of gate[t, j] * src[t * k + j, c]      (j ascending)
//
//   dst     in/out  f32 [tok, col]
//   src     in      f32 [tok * k, col]
//   gate    in      f32 [tok, k]        device address
//
// Must: 1 <= k <= 16, n_tok <= 65535.
// Shader: shaders/moe_combine.comp    Reference: ref_moe_combine
gboolean vlm_op_moe_combine(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                            uint64_t gate, uint32_t k, GError **error);

#endif
