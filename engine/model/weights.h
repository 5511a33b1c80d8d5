// SPDX-License-Identifier: LGPL-2.1-or-later
// model/weights.h — from tensors in files to weights on the device.
//
// A model family first lists what it wants (vlm_loader_matrix() and friends: names, shapes, and
// where the result goes); that alone tells how much device memory the weights take. Then
// vlm_loader_upload() allocates a few large arenas, reads, repacks and uploads everything, and
// fills in the addresses.
//
// Thread-safety: none, one thread per loader.
#ifndef VLM_MODEL_WEIGHTS_H
#define VLM_MODEL_WEIGHTS_H

#include "model/expert_store.h"
#include "model/gguf.h"
#include "ops/matmul.h"

typedef struct vlm_loader vlm_loader;

vlm_loader *vlm_loader_create(vlm_device *dev);
void vlm_loader_destroy(vlm_loader *loader);  // accepts NULL; arenas not taken are freed
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_loader, vlm_loader_destroy)

// Wants tensor `name` of `gguf` as n_mat matrices [n_row, n_col]. `out` is filled by the upload and
// must live until then. Errors: FORMAT (absent, wrong shape, a type that can't be run).
gboolean vlm_loader_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *gguf, const char *name,
                           uint32_t n_mat, uint32_t n_row, uint32_t n_col, GError **error);

// The same for matrices of the experts of layer `layer`. Where the experts have to share the device
// (vlm_loader_limit_experts()) the upload sets `*store`, which vlm_loader_take_experts() owns;
// otherwise it leaves it as it is. Must: one n_mat for all layers.
gboolean vlm_loader_experts(vlm_loader *loader, vlm_weight *out, vlm_expert_store **store,
                            vlm_gguf *gguf, const char *name, uint32_t layer, uint32_t n_mat,
                            uint32_t n_row, uint32_t n_col, GError **error);

// Wants a matrix that the caller has assembled: rows of `dtype` in the file's layout. Takes a
// reference on `rows`.
gboolean vlm_loader_matrix_bytes(vlm_loader *loader, vlm_weight *out, vlm_dtype dtype,
                                 uint32_t n_row, uint32_t n_col, GBytes *rows, GError **error);

// Wants tensor `name` (F32, F16 or BF16) of n elements in all, as f32; `*addr` is filled by the
// upload.
gboolean vlm_loader_floats(vlm_loader *loader, uint64_t *addr, vlm_gguf *gguf, const char *name,
                           uint64_t n, GError **error);

// Wants `bytes` bytes of `data` (copied) on the device, 64-byte aligned.
gboolean vlm_loader_data(vlm_loader *loader, uint64_t *addr, const void *data, size_t bytes,
                         GError **error);

// Memory for all that was asked for; for the experts among it.
uint64_t vlm_loader_bytes(const vlm_loader *loader);
uint64_t vlm_loader_expert_bytes(const vlm_loader *loader);

// Experts get at most `slot_bytes` on the device and have their homes with the host, when they are
// more than that; max_ids: see vlm_expert_store_params. To be called before the upload.
void vlm_loader_limit_experts(vlm_loader *loader, uint64_t slot_bytes, uint32_t max_ids);
// The store that the upload made, the caller's from now on; NULL: all experts are on the device.
vlm_expert_store *vlm_loader_take_experts(vlm_loader *loader);

// Host memory that the last upload took at most, with the data it was given, without staging
// buffers: bounded by the size of a chunk, not by that of a tensor.
uint64_t vlm_loader_host_bytes(const vlm_loader *loader);

// Uploads. `on_progress` (may be NULL) gets the fraction done and stops the upload by returning
// FALSE (error CANCELLED). On success `*arenas` is an array of vlm_buffer that the caller owns and
// keeps as long as the weights are used.
// Errors: DEVICE_MEMORY, FORMAT (the file can't be read any more), CANCELLED, DRIVER.
gboolean vlm_loader_upload(vlm_loader *loader, gboolean (*on_progress)(double, gpointer),
                           gpointer user_data, GPtrArray **arenas, GError **error);

#endif
