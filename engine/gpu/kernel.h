// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/kernel.h — kernel ids and compute pipelines.
#ifndef VLM_GPU_KERNEL_H
#define VLM_GPU_KERNEL_H

#include "gpu/device.h"

typedef enum vlm_kernel_id {
#define VLM_KERNEL(id, args, caps) VLM_K_##id,
#include "gpu/kernels.inc"
#undef VLM_KERNEL
    VLM_N_KERNEL
} vlm_kernel_id;

// What the list says about one kernel.
typedef struct vlm_kernel_info {
    const char *name;
    const uint32_t *spirv;
    size_t spirv_bytes;
    uint32_t args_bytes;        // sizeof the C struct
    uint32_t spirv_args_bytes;  // size of the struct in the SPIR-V; must be the same
    uint32_t caps;
} vlm_kernel_info;

const vlm_kernel_info *vlm_kernel_get_info(vlm_kernel_id id);

#define VLM_MAX_SPEC 8

// Specialization: local size first, then the kernel's own constants at ids 3, 4, ...
// Values that change from call to call are never specialization constants.
typedef struct vlm_kernel_spec {
    uint32_t local[3];           // 0 counts as 1
    uint32_t own[VLM_MAX_SPEC];  // bool, int, uint or the bits of a float
    uint32_t n_own;
} vlm_kernel_spec;

// One pipeline, owned by its device. Immutable. Thread-safety: safe to use from any thread.
typedef struct vlm_kernel {
    vlm_kernel_id id;
    vlm_kernel_spec spec;
    VkPipeline pipeline;
} vlm_kernel;

// The pipeline for (id, spec): made at the first call, kept for the life of the device.
// Errors: ARGS (local size over the device limit), NOT_FOUND (the device, or the mask it was
// opened with, lacks the caps), DEVICE_MEMORY, DRIVER. Thread-safety: safe.
const vlm_kernel *vlm_kernel_get(vlm_device *dev, vlm_kernel_id id, const vlm_kernel_spec *spec,
                                 GError **error);

// One row of an op's variant table: best first, the last row needs no caps.
typedef struct vlm_variant {
    vlm_kernel_id id;
    uint32_t caps;
} vlm_variant;

// The first row the device can run.
vlm_kernel_id vlm_variant_choose(const vlm_variant *table, uint32_t n, uint32_t caps);

// The table that vlm_device.pipelines is, and the end of all pipelines in it. For device.c.
GHashTable *vlm_kernel_cache_new(void);
void vlm_kernel_cache_clear(vlm_device *dev);

#endif
