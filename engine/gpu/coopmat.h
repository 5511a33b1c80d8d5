// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/coopmat.h — does a device have matrix units, and of which shape.
#ifndef VLM_GPU_COOPMAT_H
#define VLM_GPU_COOPMAT_H

#include <glib.h>
#include <vulkan/vulkan.h>

#define VLM_COOPMAT_EXTENSION  "VK_KHR_cooperative_matrix"
#define VLM_COOPMAT2_EXTENSION "VK_NV_cooperative_matrix2"

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

// VkPhysicalDeviceCooperativeMatrix2FeaturesNV, which Vulkan's headers have since 1.3.297.
typedef struct vlm_coopmat2_features {
    VkStructureType sType;
    void *pNext;
    VkBool32 workgroup_scope;
    VkBool32 flexible_dimensions;
    VkBool32 reductions;
    VkBool32 conversions;
    VkBool32 per_element_operations;
    VkBool32 tensor_addressing;
    VkBool32 block_loads;
} vlm_coopmat2_features;

#define VLM_STRUCTURE_TYPE_COOPMAT2_FEATURES ((VkStructureType) 1000593000)

// Where VLM_CAP_COOPMAT2 is, sizes of a subgroup's matrices may be any multiples of this.
#define VLM_COOPMAT2_UNIT 16u

// The shape for subgroups of `lanes` that the kernels can use best, all 0 when there is none.
vlm_coopmat_shape vlm_coopmat_probe(VkInstance instance, VkPhysicalDevice physical, uint32_t lanes);

// What sizes of a subgroup's matrices are multiples of, at most VLM_COOPMAT2_UNIT, where these have
// functions of single elements, reductions of rows, and become factors of products; else all 0.
vlm_coopmat_shape vlm_coopmat2_probe(VkInstance instance, VkPhysicalDevice physical);

#endif
