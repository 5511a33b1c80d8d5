// SPDX-License-Identifier: LGPL-2.1-or-later
// model/encoder.h — a transformer encoder without a cache: rows in, rows out. Both towers of a dual
// encoder are one.
//
// Blocks are x += out(attention(ln1 x)), x += down(act(up(ln2 x))), every layer with a bias. What
// comes before the blocks (embeddings) and after them (pooling) is the family's.
#ifndef VLM_MODEL_ENCODER_H
#define VLM_MODEL_ENCODER_H

#include "model/hparams.h"
#include "model/scratch.h"
#include "model/weights.h"

typedef struct vlm_encoder_hparams {
    uint32_t n_layer;   // 1..512
    uint32_t n_embd;    // n_head * head_dim
    uint32_t n_ff;      // width of the feed-forward network
    uint32_t n_head;    // attention heads
    uint32_t head_dim;  // a multiple of 4, at most 256
    float eps;          // of the layer norms, in (0, 0.1]
    vlm_act act;        // of the feed-forward network
    gboolean causal;    // a row looks at itself and those before it
    gboolean swapped;   // ffn_up and ffn_down have each other's names
} vlm_encoder_hparams;

typedef struct vlm_encoder_block {
    uint64_t ln1, ln1_bias, ln2, ln2_bias;
    vlm_weight qkv[3], out, up, down;
    uint64_t qkv_bias[3], out_bias, up_bias, down_bias;
} vlm_encoder_block;

typedef struct vlm_encoder {
    vlm_encoder_hparams hp;
    vlm_encoder_block *blocks;  // [n_layer], owned
} vlm_encoder;

// A norm or a linear layer "<prefix>.<what>.weight" with its ".bias".
gboolean vlm_encoder_want_norm(vlm_loader *loader, uint64_t *weight, uint64_t *bias, vlm_gguf *gguf,
                               const char *prefix, const char *what, uint32_t n, GError **error);
gboolean vlm_encoder_want_linear(vlm_loader *loader, vlm_weight *weight, uint64_t *bias,
                                 vlm_gguf *gguf, const char *prefix, const char *what,
                                 uint32_t n_row, uint32_t n_col, GError **error);

// Asks for the weights "<prefix>.blk.N.*".
gboolean vlm_encoder_want(vlm_encoder *m, vlm_loader *loader, vlm_gguf *gguf, const char *prefix,
                          GError **error);
void vlm_encoder_clear(vlm_encoder *m);

// Work memory of n rows.
typedef struct vlm_encoder_buffers {
    vlm_tensor x;     // [row, n_embd] residual stream
    vlm_tensor norm;  // [row, n_embd]
    vlm_tensor qkv;   // [row, 3 * n_embd]
    vlm_tensor attn;  // [row, n_embd]
    vlm_tensor ff;    // [row, n_ff]
} vlm_encoder_buffers;

void vlm_encoder_lay_out(const vlm_encoder *m, uint32_t n_row, vlm_scratch *s,
                         vlm_encoder_buffers *b);

// Columns [i * n_embd, (i + 1) * n_embd) of qkv.
vlm_tensor vlm_encoder_part(const vlm_encoder_buffers *b, uint32_t i);

// Runs all blocks on b->x, which is several inputs of n_row rows each. Ends with a barrier.
gboolean vlm_encoder_run(const vlm_encoder *m, vlm_cmd *cmd, const vlm_encoder_buffers *b,
                         uint32_t n_row, GError **error);

#endif
