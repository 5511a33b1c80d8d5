// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/roofline.h — what a device can do at most: reading memory, and multiply-adds.
//
// For measuring (bench/roofline.c); no model uses them. The name is that of the model by which a
// program is bound by one or the other (Williams, Waterman and Patterson, "Roofline", 2009).
// Shaders: roofline_read.comp, roofline_fma.comp    Reference: tests/ref_roofline.h
#ifndef VLM_OPS_ROOFLINE_H
#define VLM_OPS_ROOFLINE_H

#include "ops/tensor.h"

// Bytes that a workgroup reads in one step.
uint32_t vlm_roofline_step_bytes(const vlm_device *dev);

// dst[g, lane] = sum (modulo 2^32) of the u32 words that lane `lane` of workgroup g has read. A
// workgroup reads n_step steps in a row, a lane 16 bytes at a time, the lanes next to each other.
//   dst  out  u32 [n_group, subgroup size]                          device address
//   src  in   n_group * n_step * vlm_roofline_step_bytes() bytes    device address, multiple of 16
// Must: 1 <= n_group <= 65535, n_step >= 1, fewer than 2^32 units of 16 bytes.
gboolean vlm_op_roofline_read(vlm_cmd *cmd, uint64_t dst, uint64_t src, uint32_t n_group,
                              uint32_t n_step, GError **error);

// dst[g, lane] = sum over c < VLM_ROOFLINE_CHAINS of a_c, where a_c starts as c + lane and becomes
// a_c * x + y, n_step times: 2 * VLM_ROOFLINE_CHAINS * n_step operations for each number of dst.
//   dst  out  f32 [n_group, subgroup size]    device address
//   src  in   f32 [2]: x, y                   device address
// Must: 1 <= n_group <= 65535, n_step >= 1.
gboolean vlm_op_roofline_fma(vlm_cmd *cmd, uint64_t dst, uint64_t src, uint32_t n_group,
                             uint32_t n_step, GError **error);

#endif
