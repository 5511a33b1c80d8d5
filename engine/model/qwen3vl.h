// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen3vl.h — shared by the files of the Qwen3-VL family and by those that have its tower.
#ifndef VLM_MODEL_QWEN3VL_H
#define VLM_MODEL_QWEN3VL_H

#include "model/decoder.h"
#include "model/mmproj_hparams.h"
#include "model/vit.h"

// A projector behind a layer norm of its own.
typedef struct qwen3vl_tap {
    uint64_t norm, norm_bias;
    vlm_vit_projector projector;
} qwen3vl_tap;

typedef struct qwen3vl {
    vlm_decoder decoder;
    vlm_vit vit;
    vlm_vit_projector merger;  // its norm is the tower's last
    qwen3vl_tap deepstack[VLM_MAX_DEEPSTACK];
} qwen3vl;

// qwen3vl.c; `data` is a qwen3vl or begins with one.
extern const vlm_vision_tower vlm_qwen3vl_tower;
// Reads and checks both files, and fills all sizes that don't depend on the layers' kind.
gboolean vlm_qwen3vl_read_hparams(qwen3vl *m, vlm_gguf *text, vlm_gguf *vision,
                                  vlm_model_sizes *sizes, GError **error);
gboolean vlm_qwen3vl_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                          GError **error);
char *vlm_qwen3vl_group_label(const gint64 *times, uint32_t n);
gboolean vlm_qwen3vl_plan(gpointer data, const vlm_showing *showing, uint32_t width,
                          uint32_t height, vlm_plan *out, GError **error);
uint32_t vlm_qwen3vl_grid_positions(gconstpointer data, const vlm_grid *grid,
                                    uint32_t (*positions)[4]);
uint64_t vlm_qwen3vl_decode_bytes(gpointer data, const vlm_device *dev, uint32_t n_tok,
                                  uint32_t n_out);
gboolean vlm_qwen3vl_decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                            const vlm_buffer *scratch, const vlm_tensor *logits,
                            const vlm_trace *trace, GError **error);

// qwen3vl_vision.c
gboolean vlm_qwen3vl_want_vision(qwen3vl *m, vlm_loader *loader, vlm_gguf *vision, GError **error);
uint64_t vlm_qwen3vl_encode_bytes(gpointer data, const vlm_device *dev,
                                  const vlm_picture_group *group);
gboolean vlm_qwen3vl_encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_buffer *scratch, const vlm_trace *trace, GError **error);

#endif
