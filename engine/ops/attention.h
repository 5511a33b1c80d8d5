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
//   q     in   f32 [tok, n_head * head_dim], as vlm_op_rope_append() leaves it
//   seqs  in   vlm_kv_sequence [n_seq] on the host; copied, with the pages they point to already
//              on the device. Together they cover every row of q once.
//
// Must: head_dim <= 256 and a multiple of 8, n_head a multiple of n_kv_head, dst and q with
// addresses that are multiples of 8 and even row strides, tok <= 65535. A token that may look at
// no slot gives zeros. Slots that no token of their sequence may look at are never read.
// Cost: one dispatch per number of rows (tokens times query heads per KV head) that sequences have,
// in classes 1, 2, 4 and 8 per work item and, on matrix units, 32 and more (attention_coopmat.h):
// K and V are read once per KV head and item. Sequences that make too few items are split into runs
// of pages, joined by one more dispatch. Results depend on the device and on the shapes of the
// call, not on time.
// Quantised keys and values are taken apart on the way: every slot's bytes are read once per item.
// Shaders: shaders/attention.comp with attention_quant.glsl, attention_coopmat.comp,
// attention_merge.comp
// Reference: ref_attention, with ref_kv_value for quantised pages
gboolean vlm_op_attention(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *q,
                          const vlm_kv_sequence *seqs, uint32_t n_seq, const vlm_kv_layout *kv,
                          uint32_t layer, uint32_t n_head, float scale, GError **error);

// Full attention within each image: rows i * n_patch .. (i + 1) * n_patch - 1 look at each other;
// with `causal` (texts, without a cache) each at itself and those before it.
//
//   dst  out  f32 [n_image * n_patch, n_head * head_dim]
//   qkv  in   f32 [n_image * n_patch, 3 * n_head * head_dim], q then k then v
//
// Must: head_dim <= 256 and even, addresses multiples of 8, row strides even; images times
// n_patch / 8 at most 65535; an image's rows span less than 4 GiB.
// Cost: one dispatch. Shaders: shaders/attention.comp, attention_coopmat.comp
// Reference: ref_attention_full
gboolean vlm_op_attention_full(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *qkv,
                               uint32_t n_patch, uint32_t n_head, uint32_t head_dim, float scale,
                               gboolean causal, GError **error);

#endif
