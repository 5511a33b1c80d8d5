// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/tensor.h — a view of f32 rows in device memory.
#ifndef VLM_OPS_TENSOR_H
#define VLM_OPS_TENSOR_H

#include "gpu/command.h"

// Rows of f32 in device memory; owns nothing. Strides count elements. Rows may be followed by a
// gap (row_stride > n_col) that ops neither read nor write.
typedef struct vlm_tensor {
    uint64_t addr;
    uint32_t n_row;
    uint32_t n_col;
    uint32_t row_stride;
} vlm_tensor;

// What every op demands of a tensor: an address, no empty side, an index that fits 32 bits.
static inline gboolean vlm_tensor_ok(const vlm_tensor *t)
{
    return t->addr != 0 && t->n_row >= 1 && t->n_col >= 1 && t->row_stride >= t->n_col
           && (uint64_t) t->row_stride * t->n_row <= UINT32_MAX;
}

// [n_row, n_col] without gaps.
static inline vlm_tensor vlm_tensor_make(uint64_t addr, uint32_t n_row, uint32_t n_col)
{
    return (vlm_tensor){ addr, n_row, n_col, n_col };
}

// Rows `first` to first + n_row - 1 of a tensor.
static inline vlm_tensor vlm_tensor_rows(const vlm_tensor *t, uint32_t first, uint32_t n_row)
{
    return (vlm_tensor){ t->addr + (uint64_t) first * t->row_stride * 4, n_row, t->n_col,
                         t->row_stride };
}

#endif
