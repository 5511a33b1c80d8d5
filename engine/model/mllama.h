// SPDX-License-Identifier: LGPL-2.1-or-later
// model/mllama.h — what the files of the Llama 3.2 Vision family share: hyper-parameters, weights
// and the vision tower.
//
// Source: "The Llama 3 Herd of Models" (arXiv 2407.21783), section 7, and its implementation in
// transformers, which is the reference that tests/check_model.c compares with.
#ifndef VLM_MODEL_MLLAMA_H
#define VLM_MODEL_MLLAMA_H

#include "model/family.h"
#include "model/hparams.h"

#define MLLAMA_MAX_TAPS 16u

typedef struct mllama_text_hparams {
    uint32_t n_layer, n_embd, n_ff, ctx_train;
    uint32_t n_head, n_head_kv, head_dim;
    uint32_t n_vocab;     // rows of logits
    uint32_t n_token;     // tokens of the vocabulary; those from n_vocab on are never answered
    uint32_t n_embd_row;  // rows of the embedding table, n_token or more
    uint32_t n_cross;     // layers that look at pictures
    uint8_t is_cross[VLM_MAX_LAYERS];
    float rms_eps, rope_theta;
    gboolean tied_output;
} mllama_text_hparams;

typedef struct mllama_vision_hparams {
    uint32_t n_layer, n_global;
    uint32_t n_embd, n_ff, n_head, head_dim;
    float eps;
    uint32_t image_size, patch;  // pixels of a tile's side, a multiple of patch
    uint32_t max_tiles;
    uint32_t n_tap;
    uint32_t taps[MLLAMA_MAX_TAPS];  // layers whose input is part of the result, ascending
    uint32_t n_out;                  // width of the rows handed to the decoder
    uint32_t n_pos;                  // rows of a tile: one of the class, one for each patch
    uint32_t n_pad;                  // rows of zeros that every tile has behind them
    uint32_t n_ratio;                // arrangements of tiles
    const char *norm1, *norm2, *attn_out, *up, *down;  // how the file calls them, static
} mllama_vision_hparams;

// FORMAT, naming the file, the key or tensor and what is wrong with it. Both check every tensor of
// their half; the files may be one.
gboolean vlm_mllama_text_hparams_read(const vlm_gguf *gguf, mllama_text_hparams *out,
                                      GError **error);
gboolean vlm_mllama_vision_hparams_read(const vlm_gguf *gguf, mllama_vision_hparams *out,
                                        GError **error);

// n numbers of a tensor of type F32, F16 or BF16, from element `first` on.
gboolean vlm_mllama_read_floats(vlm_gguf *gguf, const char *name, uint64_t n, float **out,
                                GError **error);

typedef struct mllama_block {
    uint64_t ln1, ln1_bias, ln2, ln2_bias;
    vlm_weight q, k, v, out, up, down;
    uint64_t up_bias, down_bias;
    float attn_gate, ffn_gate;  // of global blocks
} mllama_block;

typedef struct mllama_vision {
    mllama_vision_hparams hp;  // filled before anything else is called
    vlm_weight patch_embd;     // [n_embd, 3 * patch^2]
    uint64_t base;             // f32 [n_pos + 1, n_embd]: class and positions, then a row of zeros
    uint64_t tile_pos;         // f32 [(n_ratio + 1) * max_tiles * n_pos, n_embd]
    float tile_pos_gate;
    uint64_t pre_tile;   // f32 [(n_ratio + 1) * max_tiles + 1, n_embd], gated, then a row of zeros
    uint64_t post_tile;  // the same
    uint64_t pre_ln, pre_ln_bias, post_ln, post_ln_bias;
    mllama_block *blocks;                       // n_layer, then n_global
    vlm_weight connector[1 + MLLAMA_MAX_TAPS];  // [n_out, n_embd] of the result and of each tap
    uint64_t connector_bias;
    uint64_t still;  // vlm_rope_pair [head_dim / 2] that turn by nothing
} mllama_vision;

gboolean vlm_mllama_vision_want(mllama_vision *m, vlm_loader *loader, vlm_gguf *gguf,
                                GError **error);
void vlm_mllama_vision_clear(mllama_vision *m);

// What vlm_family asks for under the same names. A picture's rows are those of its tiles, tile by
// tile: plan->n_cross = tiles * n_pos.
gboolean vlm_mllama_vision_plan(const mllama_vision *m, uint32_t width, uint32_t height,
                                vlm_plan *plan, GError **error);
uint64_t vlm_mllama_vision_bytes(const mllama_vision *m, const vlm_picture_group *group);
gboolean vlm_mllama_vision_encode(const mllama_vision *m, vlm_cmd *cmd,
                                  const vlm_picture_group *group, const vlm_buffer *scratch,
                                  const vlm_trace *trace, GError **error);

#endif
