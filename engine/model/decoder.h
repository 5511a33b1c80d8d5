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
    uint64_t attn_norm, ffn_norm;     // f32 [n_embd]
    uint64_t q_norm, k_norm;          // f32 [head_dim]; 0 without head_norms
    uint64_t q_bias, k_bias, v_bias;  // f32; 0 without qkv_bias
    vlm_weight q, k, v, o;
    vlm_weight router;  // [n_expert, n_embd]
    vlm_weight gate, up, down;
    // With n_ff_shared, the expert of every token, weighted by the sigmoid of a score.
    vlm_weight shared_score;  // [1, n_embd]
    vlm_weight shared_gate, shared_up, shared_down;
} vlm_decoder_layer;

// What takes the place of attention in a layer: records x += f(norm), norm being the normalised x,
// and what `post` says of the new x, which its last product can do on the way.
typedef struct vlm_decoder_mix {
    vlm_cmd *cmd;
    const vlm_batch *batch;
    const vlm_batch_tables *tables;
    const vlm_kv_layout *kv;
    uint32_t il;
    const vlm_tensor *x;     // [tok, n_embd] residual stream
    const vlm_tensor *norm;  // [tok, n_embd] input; `post` writes it over
    vlm_matmul_post post;    // of the product that is added to x
    uint64_t scratch;        // device address of what `bytes` asked for
} vlm_decoder_mix;

// A family's own layers, in place of attention; `user` is vlm_decoder.mixer_user.
typedef struct vlm_decoder_mixer {
    // Asks the loader for the weights of layer il that attention would have.
    gboolean (*want)(gpointer user, vlm_loader *loader, vlm_gguf *text, uint32_t il,
                     GError **error);
    // Work memory of a step of n_tok rows.
    uint64_t (*bytes)(gconstpointer user, uint32_t n_tok);
    gboolean (*run)(gconstpointer user, const vlm_decoder_mix *mix, GError **error);
} vlm_decoder_mixer;

typedef struct vlm_decoder {
    vlm_text_hparams hp;  // filled before anything else is called
    vlm_weight token_embd, output;
    uint64_t output_norm;
    uint64_t rope;  // vlm_rope_pair [head_dim / 2]
    vlm_decoder_layer *layers;
    vlm_expert_store *experts;       // not owned; NULL: all experts are on the device
    const vlm_decoder_mixer *mixer;  // NULL: attention in every layer
    gpointer mixer_user;
} vlm_decoder;

// Divides the frequencies of `n` rotary pairs by the factors in rope_freqs.weight, where the file
// has it. Errors: FORMAT (a factor that is none), as vlm_gguf_read_tensor().
gboolean vlm_decoder_scale_rope(vlm_gguf *text, vlm_rope_pair *pairs, uint32_t n, GError **error);
// Asks the loader for every weight; `pairs` [head_dim / 2] are the family's rotary pairs, scaled
// here.
gboolean vlm_decoder_want(vlm_decoder *m, vlm_loader *loader, vlm_gguf *text,
                          const vlm_rope_pair *pairs, GError **error);
// The same for one layer of a mixer: matrix "blk.<il>.<what>.weight", floats "blk.<il>.<what>".
gboolean vlm_decoder_want_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *text, uint32_t il,
                                 const char *what, uint32_t n_row, uint32_t n_col, GError **error);
gboolean vlm_decoder_want_floats(vlm_loader *loader, uint64_t *out, vlm_gguf *text, uint32_t il,
                                 const char *what, uint64_t n, GError **error);
void vlm_decoder_clear(vlm_decoder *m);

// What vlm_family asks for under decode_bytes and decode.
uint64_t vlm_decoder_bytes(const vlm_decoder *m, const vlm_device *dev, uint32_t n_tok,
                           uint32_t n_out);
gboolean vlm_decoder_run(const vlm_decoder *m, vlm_cmd *cmd, vlm_batch *batch,
                         const vlm_kv_layout *kv, const vlm_buffer *scratch,
                         const vlm_tensor *logits, const vlm_trace *trace, GError **error);

#endif
