// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/coopmat.h — does a device have matrix units, and of which shape.
#ifndef VLM_GPU_COOPMAT_H
#define VLM_GPU_COOPMAT_H

#include <glib.h>
#include <vulkan/vulkan.h>

#define VLM_COOPMAT_EXTENSION "VK_KHR_cooperative_matrix"

// Shared memory that a workgroup of the kernels may need, in bytes.
#define VLM_COOPMAT_SHARED 32768u

// One instruction of a subgroup: [m, k] f16 times [k, n] f16, added to [m, n] f32. All 0: none.
typedef struct vlm_coopmat_shape {
    uint32_t m, n, k;
} vlm_coopmat_shape;

// VkPhysicalDeviceCooperativeMatrixFeaturesKHR; Vulkan's headers have it since 1.3.255 only.
typedef struct vlm_coopmat_features {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix;
    VkBool32 cooperativeMatrixRobustBufferAccess;
} vlm_coopmat_features;

#define VLM_STRUCTURE_TYPE_COOPMAT_FEATURES ((VkStructureType) 1000506000)

// The shape for subgroups of `lanes` that the kernels can use best, all 0 when there is none.
vlm_coopmat_shape vlm_coopmat_probe(VkInstance instance, VkPhysicalDevice physical, uint32_t lanes);

#endif
