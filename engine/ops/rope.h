// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/rope.h — rotary positions, with the head norms before and the KV cache after them.
#ifndef VLM_OPS_ROPE_H
#define VLM_OPS_ROPE_H

#include "ops/kv.h"
#include "ops/tensor.h"

// One rotated pair of a head (Su et al. 2021; several axes: Qwen2-VL's M-RoPE). Angles are kept as
// turns in 64-bit fixed point, so that position * turn is exact modulo one turn at any position.
typedef struct vlm_rope_pair {
    uint64_t turn;   // 2^64 * theta^(-2i/n) / (2 pi), rounded
    uint32_t axis;   // which of the token's positions turns it: 0 t, 1 h, 2 w
    uint32_t first;  // elements of the head that form the pair
    uint32_t second;
    uint32_t pad;
} vlm_rope_pair;

// Fills `pairs` [head_dim / 2] for interleaved M-RoPE as Qwen3-VL has it: pair i turns with h
// where i % 3 == 1 and i < 3 sections[1], with w where i % 3 == 2 and i < 3 sections[2], else
// with t; elements i and i + rope_dim / 2 form pair i. Elements from rope_dim on stay as they are
// (their pairs turn by nothing). Host only.
void vlm_rope_pairs_imrope(vlm_rope_pair *pairs, uint32_t head_dim, uint32_t rope_dim, double theta,
                           const uint32_t sections[4]);
// The same with the sections one after the other (Qwen2-VL): the first sections[0] pairs turn with
// t, the next sections[1] with h, the rest with w; all of a head rotates. Host only.
void vlm_rope_pairs_mrope(vlm_rope_pair *pairs, uint32_t head_dim, double theta,
                          const uint32_t sections[4]);
// The plain rope of Llama as its GGUF files have it: elements 2i and 2i + 1 form pair i, which
// turns with t. Host only.
void vlm_rope_pairs_adjacent(vlm_rope_pair *pairs, uint32_t head_dim, double theta);
// 2-D rope of the Qwen vision tower: pair i < head_dim / 4 turns with the row (axis 1), the next
// head_dim / 4 with the column (axis 2), frequency 10000^(-2j / (head_dim / 2)), j counted within
// its half; elements i and i + head_dim / 2 form pair i. Host only.
void vlm_rope_pairs_vision(vlm_rope_pair *pairs, uint32_t head_dim);

// Normalises the heads of q and k (RMSNorm per head), rotates them, writes q back in place and
// puts k and v into the KV cache.
//
//   q          in/out  f32 [tok, n_head * head_dim]
//   k, v       in      f32 [tok, n_kv_head * head_dim]
//   q_norm, k_norm  in  f32 [head_dim], device addresses; 0 = no norm
//   positions  in      u32 [tok, 4] (t, h, w, unused), device address
//   pairs      in      vlm_rope_pair [head_dim / 2], device address
//   slots      in      u64 [tok]: device address of the token's page (a multiple of 64) plus
//                      the slot within the page, see vlm_kv_slot in ops/kv.h; 0: the token's
//                      k and v are not stored
//
// Keys are stored normalised and rotated. f16 is rounded to nearest even and codes of quantised
// pages are the nearest, whatever the driver. With q4, q comes back in the basis of the keys
// (ops/kv.h).
// Must: tok <= 65535, pages aligned to 64, distinct entries.
// Cost: one dispatch, one subgroup per token and head.
// Shader: shaders/rope_append.comp, kv_quant.glsl    Reference: ref_rope_imrope,
// ref_rope_mrope, ref_rope_adjacent, ref_kv_store
gboolean vlm_op_rope_append(vlm_cmd *cmd, const vlm_tensor *q, const vlm_tensor *k,
                            const vlm_tensor *v, uint64_t q_norm, uint64_t k_norm, float eps,
                            uint64_t positions, uint64_t pairs, uint64_t slots,
                            const vlm_kv_layout *kv, uint32_t layer, uint32_t n_head,
                            GError **error);

// Rotates q and k of a vision layer in place.
//
//   qkv        in/out  f32 [patch, 3 * n_head * head_dim], q then k then v
//   positions  in      u32 [patch, 4] (unused, row, column, unused), device address
//   pairs      in      vlm_rope_pair [head_dim / 2], device address
//
// Must: patches <= 65535, head_dim <= 256 and a multiple of 4.
// Cost: one dispatch. Shader: shaders/rope_vision.comp    Reference: ref_rope_vision
gboolean vlm_op_rope_vision(vlm_cmd *cmd, const vlm_tensor *qkv, uint64_t positions, uint64_t pairs,
                            uint32_t n_head, uint32_t head_dim, GError **error);

#endif
