// SPDX-License-Identifier: LGPL-2.1-or-later
// model/expert_store.h — experts of a model that does not fit the device.
//
// Every expert has a home in memory of the host that the device reads by address. A pool of slots
// on the device holds copies of those that are chosen most. A block is all that one expert of one
// layer consists of: its matrices, one after the other. A table on the device says where each
// block is to be read, in its slot or at home; products look it up (vlm_weight.table). It is the
// same bytes and the same kernels either way, so results don't depend on what lies where.
//
// Between two steps the store counts what the last one chose, from the router's ids, which come
// back with the step's results, and lets the counts fade. The next step begins with copies of the
// hottest blocks from home into the slots of the coldest and with the new table: nobody reads
// either then, and no step waits for the host. What a recording would have changed counts as done
// only when the device has reached its end.
//
// Thread-safety: one thread; vlm_expert_store_stats() any.
#ifndef VLM_MODEL_EXPERT_STORE_H
#define VLM_MODEL_EXPERT_STORE_H

#include "gpu/command.h"

typedef struct vlm_expert_store vlm_expert_store;

typedef struct vlm_expert_store_params {
    const uint64_t *block_bytes;  // [n_layer]: a multiple of 64 each; 0 = a layer without experts
    uint32_t n_layer, n_expert;
    uint64_t slot_bytes;  // device memory for slots, as far as whole blocks go
    uint32_t max_ids;     // most choices of a layer in one step
} vlm_expert_store_params;

// Nothing is at home nor in a slot yet. Errors: DEVICE_MEMORY.
vlm_expert_store *vlm_expert_store_new(vlm_device *dev, const vlm_expert_store_params *params,
                                       GError **error);
void vlm_expert_store_free(vlm_expert_store *store);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_expert_store, vlm_expert_store_free)

// Device memory that a store takes beside its slots.
uint64_t vlm_expert_store_overhead(uint32_t n_layer, uint32_t n_expert, uint32_t max_ids);

// Where a block's home begins, for the host to write to.
void *vlm_expert_store_home(const vlm_expert_store *store, uint32_t layer, uint32_t expert);
// Device address of a layer's table, u64 [n_expert]: where each of its blocks is to be read.
uint64_t vlm_expert_store_table(const vlm_expert_store *store, uint32_t layer);

// Once all homes are written: fills the slots, the first experts of all layers first. Waits.
// Errors: DEVICE_LOST, DRIVER.
gboolean vlm_expert_store_fill(vlm_expert_store *store, GError **error);

// Around the recording of each step. Begin records what changes, with a barrier behind it. End
// records that the choices come back: `ids`, at `offset` u32 [n_layer][n_id], written before a
// barrier that is there already. Neither allocates.
void vlm_expert_store_begin(vlm_expert_store *store, vlm_cmd *cmd);
void vlm_expert_store_end(vlm_expert_store *store, vlm_cmd *cmd, const vlm_buffer *ids,
                          size_t offset, uint32_t n_id);

typedef struct vlm_expert_stats {
    uint64_t host_bytes;     // of all homes
    uint64_t slot_bytes;     // of all slots
    uint64_t n_hit, n_miss;  // blocks that steps read on the device and at home
    uint64_t n_moved;  // blocks copied into slots since the beginning, at the load not counted
} vlm_expert_stats;
void vlm_expert_store_stats(vlm_expert_store *store, vlm_expert_stats *stats);

#endif
