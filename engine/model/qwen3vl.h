// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen3vl.h — shared by the files of the Qwen3-VL family.
#ifndef VLM_MODEL_QWEN3VL_H
#define VLM_MODEL_QWEN3VL_H

#include "model/family.h"
#include "model/hparams.h"
#include "model/mmproj_hparams.h"

// One decoder layer. Dense layers have no router; sparse ones have n_expert matrices in gate, up
// and down.
typedef struct qwen3vl_layer {
    uint64_t attn_norm, ffn_norm;  // f32 [n_embd]
    uint64_t q_norm, k_norm;       // f32 [head_dim]
    vlm_weight q, k, v, o;
    vlm_weight router;  // [n_expert, n_embd]
    vlm_weight gate, up, down;
} qwen3vl_layer;

// A two-layer perceptron behind a layer norm: the merger and the DeepStack taps.
typedef struct qwen3vl_merger {
    uint64_t norm, norm_bias;
    vlm_weight fc1, fc2;
    uint64_t fc1_bias, fc2_bias;
} qwen3vl_merger;

// One layer of the vision tower.
typedef struct qwen3vl_block {
    uint64_t ln1, ln1_bias, ln2, ln2_bias;
    vlm_weight qkv, out, up, down;
    uint64_t qkv_bias, out_bias, up_bias, down_bias;
} qwen3vl_block;

typedef struct qwen3vl {
    vlm_text_hparams text;
    vlm_vision_hparams vision;

    vlm_weight token_embd, output;
    uint64_t output_norm;
    uint64_t rope;  // vlm_rope_pair [head_dim / 2]
    qwen3vl_layer *layers;

    vlm_weight patch_embd;  // [n_embd, 3 * temporal * patch^2]
    uint64_t patch_bias;
    uint64_t position_embd;  // f32 [pos_side^2, n_embd]
    uint64_t vision_rope;
    qwen3vl_block *blocks;
    qwen3vl_merger merger;
    qwen3vl_merger deepstack[VLM_MAX_DEEPSTACK];
} qwen3vl;

// qwen3vl_vision.c
gboolean vlm_qwen3vl_want_vision(qwen3vl *m, vlm_loader *loader, vlm_gguf *vision, GError **error);
uint64_t vlm_qwen3vl_encode_bytes(gpointer data, const vlm_device *dev, uint32_t grid_h,
                                  uint32_t grid_w, uint64_t pixels_bytes);
gboolean vlm_qwen3vl_encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_buffer *scratch, const vlm_trace *trace, GError **error);

#endif
