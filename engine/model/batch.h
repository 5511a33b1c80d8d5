// SPDX-License-Identifier: LGPL-2.1-or-later
// model/batch.h — what one step of a decoder works on.
#ifndef VLM_MODEL_BATCH_H
#define VLM_MODEL_BATCH_H

#include "model/kv_cache.h"
#include "ops/delta_net.h"
#include "ops/tensor.h"

// Id of a row that gets no token embedding: its input comes from a vision tower.
#define VLM_ID_VISUAL UINT32_MAX

// Rows of a vision tower's output that go into consecutive rows of the batch.
typedef struct vlm_visual_rows {
    uint64_t addr;      // f32 [1 + n_deepstack][n_row][n_embd]: the embedding, then DeepStack rows
    uint32_t n_row;     // rows per plane
    uint32_t first, n;  // which rows
    uint32_t tok0;      // first row of the batch they go to
} vlm_visual_rows;

// Rows of a picture that is looked at beside the sequence: they get keys and values in this step.
typedef struct vlm_cross_rows {
    uint64_t addr;  // f32 [n][n_embd]
    uint32_t n;
    uint32_t first_slot;  // in vlm_batch.cross_slots
} vlm_cross_rows;

// Plain data on the host, filled by the scheduler. Rows of one sequence are consecutive.
typedef struct vlm_batch {
    uint32_t n_tok, n_seq, n_visual, n_out;
    uint32_t max_tok, max_seq, max_visual, max_out;  // what the arrays have room for
    uint32_t *ids;                                   // [n_tok] token, or VLM_ID_VISUAL
    uint64_t chosen;                                 // their device address instead; 0 = `ids`
    uint32_t (*positions)[4];                        // [n_tok] t, h, w, unused
    uint64_t *slots;                                 // [n_tok] where keys and values go
    vlm_kv_sequence *seqs;        // [n_seq]; `pages` is filled in while recording
    const vlm_kv_seq **caches;    // [n_seq]
    vlm_visual_rows *visual;      // [n_visual]
    uint32_t *out_rows;           // [n_out] rows whose logits are wanted
    uint32_t n_cross;             // at most one for each sequence
    vlm_cross_rows *cross;        // [n_cross]
    GArray *cross_slots;          // of uint64_t: where their keys and values go
    vlm_kv_sequence *cross_seqs;  // [n_seq] filled in while recording
} vlm_batch;

// Room for max_tok rows in max_seq sequences. Free with vlm_batch_free().
vlm_batch *vlm_batch_new(uint32_t max_tok, uint32_t max_seq);
void vlm_batch_free(vlm_batch *batch);
void vlm_batch_clear(vlm_batch *batch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_batch, vlm_batch_free)

// Copies the tables of the batch into the command's ring. Addresses are valid until the next begin.
typedef struct vlm_batch_tables {
    uint64_t ids, positions, slots, out_rows;
    uint64_t states;        // vlm_state_rows [n_seq]; 0 for models without recurrent layers
    vlm_kv_sequence *seqs;  // the batch's, with page tables on the device
    // The pictures that each sequence's rows look at, all of them; no pages: none. NULL when no
    // sequence has any.
    vlm_kv_sequence *cross;
} vlm_batch_tables;
gboolean vlm_batch_upload(vlm_batch *batch, vlm_cmd *cmd, vlm_batch_tables *tables, GError **error);

#endif
