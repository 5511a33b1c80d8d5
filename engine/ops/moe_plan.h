// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/moe_plan.h — what lies in the memory of a plan. For ops/moe.c and its check.
#ifndef VLM_OPS_MOE_PLAN_H
#define VLM_OPS_MOE_PLAN_H

#include "ops/moe.h"

// Offsets are in bytes from vlm_moe_plan.addr.
typedef struct vlm_moe_layout {
    uint32_t tile_slots;   // most slots of a tile; 1: every slot is a tile, nothing is sorted
    uint32_t chunk_slots;  // slots that one workgroup counts and permutes
    uint32_t n_chunk;
    uint32_t max_tiles;  // the most there can be, whatever the ids are
    size_t n_tile;       // u32: tiles there are
    size_t tiles;        // u32 [max_tiles, 4]: expert, first place in `slots`, slots, 0
    size_t slots;        // u32 [slot]: slots by expert, ascending within one
    size_t counts;       // u32 [n_chunk, n_expert], scratch
    size_t bytes;
} vlm_moe_layout;

// Depends on the counts and on `tile`, that of vlm_moe_plan. FALSE when they are out of range. A
// tile for matrix units takes no more memory than none.
gboolean vlm_moe_find_layout(uint32_t n_tok, uint32_t k, uint32_t n_expert, uint32_t tile,
                             vlm_moe_layout *layout);

#endif
