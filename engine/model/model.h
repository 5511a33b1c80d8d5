// SPDX-License-Identifier: LGPL-2.1-or-later
// model/model.h — a model's files, tokenizer, hyper-parameters and, once uploaded, its weights.
#ifndef VLM_MODEL_MODEL_H
#define VLM_MODEL_MODEL_H

#include "model/family.h"
#include "model/tokenizer.h"

// Immutable once uploaded. Thread-safety: reading is safe; recording is for one thread at a time.
struct vlm_model {
    vlm_gguf *text;
    vlm_gguf *vision;  // NULL: a text model by itself
    const vlm_family *family;
    gpointer data;  // the family's
    vlm_model_sizes sizes;
    vlm_tokenizer *tokenizer;
    GPtrArray *arenas;          // of vlm_buffer, NULL before the upload
    vlm_expert_store *experts;  // NULL: all experts are on the device
    uint64_t weight_bytes;      // with all experts, wherever they are
    uint64_t load_bytes;  // of the host while they were uploaded, without the device's staging
};

// Reads both files; no device yet. `mmproj` is a path; NULL for a text model by itself.
// Errors: NOT_FOUND, FORMAT.
vlm_model *vlm_model_open(const char *path, const char *mmproj, GError **error);
void vlm_model_free(vlm_model *model);  // accepts NULL; the device must still be there
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_model, vlm_model_free)

typedef struct vlm_upload_params {
    gboolean limit_experts;      // see vlm_loader_limit_experts()
    uint64_t expert_slot_bytes;  // of the device, for experts
    uint32_t max_tok;            // rows of a step
    gboolean (*on_progress)(double fraction, gpointer user_data);
    gpointer user_data;
} vlm_upload_params;

// Puts the weights on the device. Errors: as vlm_loader_upload().
gboolean vlm_model_upload(vlm_model *model, vlm_device *dev, const vlm_upload_params *params,
                          GError **error);

// Memory of the weights, and of the experts among them, without uploading: for a device with
// `subgroup_size` lanes.
gboolean vlm_model_weight_bytes(vlm_model *model, uint32_t subgroup_size, uint64_t *bytes,
                                uint64_t *expert_bytes, GError **error);

// The mmproj file beside a model: see vlm_find_mmproj() in vlm.h.
char *vlm_model_find_mmproj(const char *path, GError **error);

// The layout of its KV pages, and of those of pictures looked at beside the sequence (n_layer 0:
// there are none; so it is for a dual encoder).
vlm_kv_layout vlm_model_kv_layout(const vlm_model *model, vlm_kv_type type);
vlm_kv_layout vlm_model_cross_layout(const vlm_model *model, vlm_kv_type type);
// A pool with both and the states of recurrent layers. Free with vlm_kv_pool_destroy().
vlm_kv_pool *vlm_model_kv_pool(const vlm_model *model, vlm_device *dev, vlm_kv_type type);

#endif
