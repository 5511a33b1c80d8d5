// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/spirv.h — the SPIR-V arrays that embed.py writes, declared from the kernel list.
#ifndef VLM_GPU_SPIRV_H
#define VLM_GPU_SPIRV_H

#include <stddef.h>
#include <stdint.h>

#define VLM_KERNEL(id, args, caps)                                                                 \
    extern const uint32_t vlm_spv_##id[];                                                          \
    extern const size_t vlm_spv_##id##_bytes;                                                      \
    extern const uint32_t vlm_spv_##id##_args_bytes;
#include "gpu/kernels.inc"
#undef VLM_KERNEL

#endif
