// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen3vl.h — shared by the files of the Qwen3-VL family.
#ifndef VLM_MODEL_QWEN3VL_H
#define VLM_MODEL_QWEN3VL_H

#include "model/decoder.h"
#include "model/mmproj_hparams.h"
#include "model/vit.h"

// A two-layer perceptron behind a layer norm: the merger and the DeepStack taps.
typedef struct qwen3vl_merger {
    uint64_t norm, norm_bias;
    vlm_weight fc1, fc2;
    uint64_t fc1_bias, fc2_bias;
} qwen3vl_merger;

typedef struct qwen3vl {
    vlm_decoder decoder;
    vlm_vit vit;
    qwen3vl_merger merger;  // its norm is the tower's last
    qwen3vl_merger deepstack[VLM_MAX_DEEPSTACK];
} qwen3vl;

// qwen3vl_vision.c
gboolean vlm_qwen3vl_want_vision(qwen3vl *m, vlm_loader *loader, vlm_gguf *vision, GError **error);
uint64_t vlm_qwen3vl_encode_bytes(gpointer data, const vlm_device *dev,
                                  const vlm_picture_group *group);
gboolean vlm_qwen3vl_encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_buffer *scratch, const vlm_trace *trace, GError **error);

#endif
