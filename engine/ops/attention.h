// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/attention.h — softmax attention, over the paged cache and within images.
#ifndef VLM_OPS_ATTENTION_H
#define VLM_OPS_ATTENTION_H

#include "ops/kv.h"
#include "ops/tensor.h"

// Causal grouped-query attention of a batch of sequences over their pages, without a mask tensor
// and without ever holding the scores (online softmax, Milakov and Gimelshein 2018; tiles as in
// FlashAttention, Dao et al. 2022). Head h reads KV head h / (n_head / n_kv_head).
//
//   dst[t, h] = sum over slots s of softmax_s(scale * q[t, h] . K[s]) V[s]
//
//   dst   out  f32 [tok, n_head * head_dim]
//   q     in   f32 [tok, n_head * head_dim]
//   seqs  in   vlm_kv_sequence [n_seq] on the host; copied, with the pages they point to already
//              on the device. Together they cover every row of q once.
//
// Must: head_dim <= 256 and a multiple of 8, n_head a multiple of n_kv_head. A token that may look
// at no slot gives zeros.
gboolean vlm_op_attention(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *q,
                          const vlm_kv_sequence *seqs, uint32_t n_seq, const vlm_kv_layout *kv,
                          uint32_t layer, uint32_t n_head, float scale, GError **error);

// Full attention within each image: rows i * n_patch .. (i + 1) * n_patch - 1 look at each other.
//
//   dst  out  f32 [n_image * n_patch, n_head * head_dim]
//   qkv  in   f32 [n_image * n_patch, 3 * n_head * head_dim], q then k then v
//
// Must: head_dim <= 256 and even.
gboolean vlm_op_attention_full(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *qkv,
                               uint32_t n_patch, uint32_t n_head, uint32_t head_dim, float scale,
                               GError **error);

#endif
