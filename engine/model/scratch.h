// SPDX-License-Identifier: LGPL-2.1-or-later
// model/scratch.h — work memory of a graph, handed out in order.
//
// A graph asks for its tensors in a fixed order. With an address of 0 nothing but the size is found
// out, so the code that uses the memory is the code that sizes it.
#ifndef VLM_MODEL_SCRATCH_H
#define VLM_MODEL_SCRATCH_H

#include "ops/tensor.h"

typedef struct vlm_scratch {
    uint64_t addr;  // of the block, 0 while sizing
    uint64_t used;  // bytes handed out
} vlm_scratch;

// `bytes` bytes, 64-byte aligned.
static inline uint64_t vlm_scratch_bytes(vlm_scratch *s, uint64_t bytes)
{
    const uint64_t at = s->addr + s->used;

    s->used += (bytes + 63) & ~(uint64_t) 63;
    return at;
}

// [n_row, n_col] with rows padded to 16 bytes, as products want their input.
static inline vlm_tensor vlm_scratch_tensor(vlm_scratch *s, uint32_t n_row, uint32_t n_col)
{
    const uint32_t stride = (n_col + 3) & ~3u;

    return (vlm_tensor){ vlm_scratch_bytes(s, (uint64_t) n_row * stride * 4), n_row, n_col,
                         stride };
}

#endif
