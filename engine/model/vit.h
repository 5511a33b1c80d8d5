// SPDX-License-Identifier: LGPL-2.1-or-later
// model/vit.h — the vision transformer that families share: patches to normalised rows. What makes
// rows for the decoder of them (mergers, taps) is the family's.
#ifndef VLM_MODEL_VIT_H
#define VLM_MODEL_VIT_H

#include "model/family.h"
#include "model/mmproj_hparams.h"

typedef struct vlm_vit_block {
    uint64_t ln1, ln1_bias, ln2, ln2_bias;  // biases are 0 with rms_norms
    vlm_weight qkv[3];                      // q, k, v; all in the first without separate_qkv
    uint64_t qkv_bias[3];
    vlm_weight out, gate, up, down;  // gate with gated_ffn
    uint64_t out_bias, gate_bias, up_bias, down_bias;
} vlm_vit_block;

typedef struct vlm_vit {
    vlm_vision_hparams hp;   // filled before anything else is called
    vlm_weight patch_embd;   // [n_embd, 3 * temporal * patch^2]
    uint64_t patch_bias;     // 0 = none
    uint64_t position_embd;  // f32 [pos_side^2, n_embd], the class token's before; 0 = none
    uint64_t class_embd;     // f32 [n_embd], with class_token
    uint64_t rope;           // vlm_rope_pair [head_dim / 2], with `rotary`
    vlm_vit_block *blocks;
    uint64_t norm, norm_bias;  // before the first block or behind the last, see norm_first
} vlm_vit;

// Two linear layers with erf-GELU between them, from merged patches to rows for a decoder.
typedef struct vlm_vit_projector {
    vlm_weight fc1, fc2;  // [width, width], [out, width]
    uint64_t fc1_bias, fc2_bias;
} vlm_vit_projector;

// Ask the loader for weights: a linear layer "<prefix>.<what>" with its bias, a layer norm, the
// tower as a whole.
gboolean vlm_vit_want_linear(vlm_loader *loader, vlm_weight *w, uint64_t *bias, vlm_gguf *gguf,
                             const char *prefix, const char *what, uint32_t n_row, uint32_t n_col,
                             GError **error);
// Without a bias where `bias` is NULL.
gboolean vlm_vit_want_norm(vlm_loader *loader, uint64_t *weight, uint64_t *bias, vlm_gguf *gguf,
                           const char *prefix, const char *what, uint32_t n, GError **error);
gboolean vlm_vit_want_projector(vlm_loader *loader, vlm_vit_projector *w, vlm_gguf *gguf,
                                const char *prefix, const char *fc1, const char *fc2,
                                uint32_t width, uint32_t n_out, GError **error);
gboolean vlm_vit_want(vlm_vit *m, vlm_loader *loader, vlm_gguf *gguf, GError **error);
void vlm_vit_clear(vlm_vit *m);

// Work memory of encoding one group. A class token is one patch more, the first, in all but
// `patches`.
typedef struct vlm_vit_buffers {
    vlm_tensor patches;  // [patch, 3 * temporal * patch^2]
    vlm_tensor x;        // [patch, n_embd] residual stream
    vlm_tensor norm;     // [patch, n_embd]
    vlm_tensor qkv;      // [patch, 3 * n_embd]
    vlm_tensor attn;     // [patch, n_embd]
    vlm_tensor ff;       // [patch, n_ff]
    vlm_tensor up;       // [patch, n_ff] with gated_ffn
    uint64_t pixels;     // scratch of the preprocessing
} vlm_vit_buffers;

void vlm_vit_lay_out(const vlm_vit *m, uint32_t n_patch, uint64_t pixels_bytes, vlm_scratch *s,
                     vlm_vit_buffers *b);
// Bytes at `pixels` that the preprocessing of this group needs.
uint64_t vlm_vit_pixels_bytes(const vlm_vit *m, const vlm_picture_group *group);
// Rows of n_merge patches seen as one row: n_embd is a multiple of 4, so there are no gaps.
vlm_tensor vlm_vit_merged(const vlm_tensor *t, uint32_t n_merge);

// Pictures of the group to b->patches; a still fills every frame.
gboolean vlm_vit_preprocess(const vlm_vit *m, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_vit_buffers *b, GError **error);
// b->patches through the tower: b->norm is the last layer's output, normalised (nothing
// with norm_first); b->x the same before, in the order of the windows if there are any.
// `after_block` (may be NULL) records what a family does with the output of block i, b->x.
gboolean vlm_vit_run(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                     const vlm_vit_buffers *b,
                     gboolean (*after_block)(gpointer user, uint32_t i, GError **error),
                     gpointer user, GError **error);
// dst = fc2(gelu(fc1(src))); `hidden` is work memory of src's shape.
gboolean vlm_vit_project(vlm_cmd *cmd, const vlm_vit_projector *w, const vlm_tensor *dst,
                         const vlm_tensor *src, const vlm_tensor *hidden, GError **error);

#endif
