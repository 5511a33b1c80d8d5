// SPDX-License-Identifier: LGPL-2.1-or-later
// model/dual_hparams.h — hyper-parameters of a dual encoder (CLIP, SigLIP), read from one GGUF file
// with both towers, or from one with each, and checked. Thread-safety: plain data.
#ifndef VLM_MODEL_DUAL_HPARAMS_H
#define VLM_MODEL_DUAL_HPARAMS_H

#include "model/encoder.h"

typedef struct vlm_dual_hparams {
    gboolean siglip;  // sigmoid per label, attention pooling; else CLIP
    vlm_encoder_hparams text, vision;
    uint32_t n_vocab;       // tokens
    uint32_t n_ctx;         // positions of a label, 4..4096
    uint32_t patch;         // pixels of a patch's side, 4..64
    uint32_t image_size;    // pixels of the picture's side, 32..2048
    uint32_t side;          // patches of a side, at least 1
    uint32_t dim;           // of the space that both towers lead to
    float mean[3], std[3];  // per colour, on a scale of 0..1; std > 0
    float scale, bias;      // logit = scale * cosine + bias
} vlm_dual_hparams;

// TRUE when the file has a text tower of this kind. FALSE for other files, also malformed ones.
gboolean vlm_dual_has_text(const vlm_gguf *gguf);
gboolean vlm_dual_has_vision(const vlm_gguf *gguf);

// `text` and `vision` may be the same. FALSE with FORMAT, naming the file, the key and what is
// wrong with it. Also checks presence, shape and type of every tensor, and that there is none
// besides.
gboolean vlm_dual_hparams_read(const vlm_gguf *text, const vlm_gguf *vision, vlm_dual_hparams *out,
                               GError **error);

#endif
