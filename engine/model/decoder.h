// SPDX-License-Identifier: LGPL-2.1-or-later
// model/decoder.h — the transformer decoder that families share: RMSNorm, grouped-query attention
// with rotary positions, a gated feed-forward network, dense or of experts; rows of a vision tower
// in place of embeddings, and more of them added behind the first layers where a tower makes them.
#ifndef VLM_MODEL_DECODER_H
#define VLM_MODEL_DECODER_H

#include "model/family.h"
#include "model/hparams.h"
#include "ops/rope.h"

// One layer. Dense layers have no router; sparse ones have n_expert matrices in gate, up and down.
typedef struct vlm_decoder_layer {
    uint64_t attn_norm, ffn_norm;  // f32 [n_embd]
    uint64_t q_norm, k_norm;       // f32 [head_dim]; 0 without head_norms
    vlm_weight q, k, v, o;
    vlm_weight router;  // [n_expert, n_embd]
    vlm_weight gate, up, down;
} vlm_decoder_layer;

typedef struct vlm_decoder {
    vlm_text_hparams hp;  // filled before anything else is called
    vlm_weight token_embd, output;
    uint64_t output_norm;
    uint64_t rope;  // vlm_rope_pair [head_dim / 2]
    vlm_decoder_layer *layers;
} vlm_decoder;

// Asks the loader for every weight; `pairs` [head_dim / 2] are the family's rotary pairs.
gboolean vlm_decoder_want(vlm_decoder *m, vlm_loader *loader, vlm_gguf *text,
                          const vlm_rope_pair *pairs, GError **error);
void vlm_decoder_clear(vlm_decoder *m);

// What vlm_family asks for under decode_bytes and decode.
uint64_t vlm_decoder_bytes(const vlm_decoder *m, const vlm_device *dev, uint32_t n_tok,
                           uint32_t n_out);
gboolean vlm_decoder_run(const vlm_decoder *m, vlm_cmd *cmd, vlm_batch *batch,
                         const vlm_kv_layout *kv, const vlm_buffer *scratch,
                         const vlm_tensor *logits, const vlm_trace *trace, GError **error);

#endif
