// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/coopmat.c — see gpu/coopmat.h.
//
// Structures and numbers are those of the extension's specification, VK_KHR_cooperative_matrix
// revision 2, and VK_NV_cooperative_matrix2 revision 1, under names of our own: headers of
// distributions may or may not have them.
#include "gpu/device.h"

#include <string.h>

#define STRUCTURE_TYPE_PROPERTIES ((VkStructureType) 1000506001)
#define STRUCTURE_TYPE_FLEXIBLE   ((VkStructureType) 1000593001)
#define COMPONENT_FLOAT16         0
#define COMPONENT_FLOAT32         1
#define SCOPE_SUBGROUP            3

typedef struct properties {
    VkStructureType sType;
    void *pNext;
    uint32_t m, n, k;
    int32_t a_type, b_type, c_type, result_type;
    VkBool32 saturating;
    int32_t scope;
} properties;

typedef VkResult(VKAPI_PTR *get_properties)(VkPhysicalDevice physical, uint32_t *n,
                                            properties *list);

// Sizes are multiples of m, n and k.
typedef struct flexible {
    VkStructureType sType;
    void *pNext;
    uint32_t m, n, k;
    int32_t a_type, b_type, c_type, result_type;
    VkBool32 saturating;
    int32_t scope;
    uint32_t workgroup_invocations;  // 0 for matrices of subgroups
} flexible;

typedef VkResult(VKAPI_PTR *get_flexible)(VkPhysicalDevice physical, uint32_t *n, flexible *list);

static gboolean have_feature(VkPhysicalDevice physical)
{
    vlm_coopmat_features coopmat = { .sType = VLM_STRUCTURE_TYPE_COOPMAT_FEATURES };
    VkPhysicalDeviceFeatures2 features = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                           .pNext = &coopmat };

    vkGetPhysicalDeviceFeatures2(physical, &features);
    return coopmat.cooperativeMatrix;
}

// Kernels cut panels of `lanes` rows into matrices of n and blocks of 32 columns into k; tiles of
// tokens are multiples of 16.
static gboolean fits(const properties *p, uint32_t lanes)
{
    return p->a_type == COMPONENT_FLOAT16 && p->b_type == COMPONENT_FLOAT16
           && p->c_type == COMPONENT_FLOAT32 && p->result_type == COMPONENT_FLOAT32
           && p->scope == SCOPE_SUBGROUP && !p->saturating && p->m > 0 && 16 % p->m == 0 && p->n > 0
           && lanes % p->n == 0 && p->k >= 4 && 32 % p->k == 0;
}

vlm_coopmat_shape vlm_coopmat_probe(VkInstance instance, VkPhysicalDevice physical, uint32_t lanes)
{
    get_properties get = (get_properties) (void (*)(void)) vkGetInstanceProcAddr(
        instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    g_autofree properties *list = NULL;
    vlm_coopmat_shape best = { 0, 0, 0 };
    uint32_t n = 0;

    if (!get || !vlm_device_has_extension(physical, VLM_COOPMAT_EXTENSION)
        || !have_feature(physical) || get(physical, &n, NULL) != VK_SUCCESS)
        return best;
    list = g_new0(properties, n);
    for (uint32_t i = 0; i < n; i++)
        list[i].sType = STRUCTURE_TYPE_PROPERTIES;
    if (get(physical, &n, list) < 0)
        return best;
    for (uint32_t i = 0; i < n; i++) {
        const properties *p = &list[i];
        if (fits(p, lanes) && p->m * p->n * p->k > best.m * best.n * best.k)
            best = (vlm_coopmat_shape){ p->m, p->n, p->k };
    }
    return best;
}

static gboolean have_features2(VkPhysicalDevice physical)
{
    vlm_coopmat2_features coopmat2 = { .sType = VLM_STRUCTURE_TYPE_COOPMAT2_FEATURES };
    VkPhysicalDeviceFeatures2 features = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                           .pNext = &coopmat2 };

    vkGetPhysicalDeviceFeatures2(physical, &features);
    return coopmat2.flexible_dimensions && coopmat2.reductions && coopmat2.conversions
           && coopmat2.per_element_operations;
}

static gboolean fits2(const flexible *p)
{
    return p->a_type == COMPONENT_FLOAT16 && p->b_type == COMPONENT_FLOAT16
           && p->c_type == COMPONENT_FLOAT32 && p->result_type == COMPONENT_FLOAT32
           && p->scope == SCOPE_SUBGROUP && !p->saturating && p->m > 0 && p->n > 0 && p->k > 0
           && VLM_COOPMAT2_UNIT % p->m == 0 && VLM_COOPMAT2_UNIT % p->n == 0
           && VLM_COOPMAT2_UNIT % p->k == 0;
}

vlm_coopmat_shape vlm_coopmat2_probe(VkInstance instance, VkPhysicalDevice physical)
{
    get_flexible get = (get_flexible) (void (*)(void)) vkGetInstanceProcAddr(
        instance, "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV");
    g_autofree flexible *list = NULL;
    vlm_coopmat_shape unit = { 0, 0, 0 };
    uint32_t n = 0;

    if (!get || !vlm_device_has_extension(physical, VLM_COOPMAT2_EXTENSION)
        || !have_features2(physical) || get(physical, &n, NULL) != VK_SUCCESS)
        return unit;
    list = g_new0(flexible, n);
    for (uint32_t i = 0; i < n; i++)
        list[i].sType = STRUCTURE_TYPE_FLEXIBLE;
    if (get(physical, &n, list) < 0)
        return unit;
    for (uint32_t i = 0; i < n; i++)
        if (fits2(&list[i]))
            unit = (vlm_coopmat_shape){ MAX(unit.m, list[i].m), MAX(unit.n, list[i].n),
                                        MAX(unit.k, list[i].k) };
    return unit;
}
