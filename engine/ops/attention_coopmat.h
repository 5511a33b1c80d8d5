// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/attention_coopmat.h — attention of many rows on matrix units: when, in which shape. For ops/.
//
// q, keys, values and weights are rounded to f16 (keys and values of an f16 cache are that
// already), scores and sums are f32: an error of about 2^-9 of the largest value that a row sees.
// With VLM_CAP_COOPMAT2 scores and weights stay in matrices, without it they go through shared
// memory; the numbers are rounded at the same places.
// Shader: shaders/attention_coopmat.comp    Reference: ref_attention
#ifndef VLM_OPS_ATTENTION_COOPMAT_H
#define VLM_OPS_ATTENTION_COOPMAT_H

#include "gpu/kernel.h"
#include "ops/kv.h"

// Rows from which an item is worth a workgroup's fixed tile.
#define VLM_ATTENTION_COOPMAT_MIN_ROWS 32u

// The rows of a work item for heads of this width over pages of f16, q8 or q4, the kernel and its
// specialization; 0 when the device has no matrix units or no room for them.
uint32_t vlm_attention_coopmat_paged(const vlm_device *dev, uint32_t head_dim, vlm_kv_type type,
                                     vlm_kernel_id *kernel, vlm_kernel_spec *spec);

// The same within images.
uint32_t vlm_attention_coopmat_full(const vlm_device *dev, uint32_t head_dim, vlm_kernel_id *kernel,
                                    vlm_kernel_spec *spec);

#endif
