// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_dual.h — random dual encoders, true to the architecture: CLIP with the keys, names
// and quirks of published files, SigLIP as docs/models.md defines it. See random_model.h.
#ifndef VLM_TESTS_RANDOM_DUAL_H
#define VLM_TESTS_RANDOM_DUAL_H

#include "gguf_writer.h"

typedef struct random_dual {
    gboolean siglip;
    gboolean gelu;    // CLIP: "gelu" instead of "quick_gelu"
    gboolean modern;  // ffn_up and ffn_down have their own names, the vocabulary its merges
    uint64_t seed;
    vlm_dtype dtype;  // of matrices
    uint32_t n_layer, n_embd, n_head, n_ff, n_ctx, dim;
    uint32_t vit_layers, vit_embd, vit_heads, vit_ff, patch, side;
    uint32_t image_size;  // side * patch, or a little more
} random_dual;

typedef enum random_dual_part {
    RANDOM_DUAL_TEXT = 1,
    RANDOM_DUAL_VISION = 2,
    RANDOM_DUAL_BOTH = 3,
} random_dual_part;

// A small model.
void random_dual_init(random_dual *model, gboolean siglip);
gguf_writer *random_dual_file(const random_dual *model, random_dual_part part);

// The vocabularies, as they are in the file. Free with g_ptr_array_unref().
GPtrArray *random_dual_clip_tokens(GPtrArray *merges);  // of char *; `merges` may be NULL
GPtrArray *random_dual_siglip_pieces(GArray *scores);   // of char *; scores of float

#endif
