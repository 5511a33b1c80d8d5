// SPDX-License-Identifier: LGPL-2.1-or-later
// model/state_pool.h — what recurrent layers remember of a sequence: states of one size, counted by
// reference, copied when somebody writes into a shared one.
//
// Thread-safety: none; the scheduler's thread owns pool and states.
#ifndef VLM_MODEL_STATE_POOL_H
#define VLM_MODEL_STATE_POOL_H

#include "gpu/command.h"

typedef struct vlm_state_pool vlm_state_pool;
typedef struct vlm_state vlm_state;

// States of `bytes` bytes each, a multiple of 4.
vlm_state_pool *vlm_state_pool_create(vlm_device *dev, uint64_t bytes);
void vlm_state_pool_destroy(vlm_state_pool *pool);  // accepts NULL; no state may be in use

// Sets `n` states aside, as vlm_kv_pool_reserve() does for pages. Errors: DEVICE_MEMORY.
gboolean vlm_state_pool_reserve(vlm_state_pool *pool, gint64 n, GError **error);

uint64_t vlm_state_pool_bytes(const vlm_state_pool *pool);  // device memory held
guint vlm_state_pool_n_used(const vlm_state_pool *pool);    // states in use

// Makes *state one that nobody else refers to: a new one of zeros where it is NULL, a copy where it
// is shared. What that takes is recorded into `cmd`, a barrier behind it. Errors: DEVICE_MEMORY.
gboolean vlm_state_own(vlm_state_pool *pool, vlm_cmd *cmd, vlm_state **state, GError **error);

vlm_state *vlm_state_ref(vlm_state *state);                    // accepts NULL
void vlm_state_drop(vlm_state_pool *pool, vlm_state **state);  // takes the reference; sets NULL
uint64_t vlm_state_addr(const vlm_state *state);               // device address

#endif
