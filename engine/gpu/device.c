// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/device.c — instance, device choice, features, validation messages.
#define G_LOG_DOMAIN "vlm-device"
#include "gpu/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "gpu/external_memory.h"
#include "gpu/kernel.h"
#include "gpu/pipeline_cache.h"

static const char *const validation_layer = "VK_LAYER_KHRONOS_validation";

static const char *result_name(VkResult r)
{
    switch (r) {
#define NAME(x)                                                                                    \
    case x:                                                                                        \
        return #x;
        NAME(VK_NOT_READY)
        NAME(VK_TIMEOUT)
        NAME(VK_INCOMPLETE)
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        NAME(VK_ERROR_INITIALIZATION_FAILED)
        NAME(VK_ERROR_DEVICE_LOST)
        NAME(VK_ERROR_MEMORY_MAP_FAILED)
        NAME(VK_ERROR_LAYER_NOT_PRESENT)
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
        NAME(VK_ERROR_FEATURE_NOT_PRESENT)
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
        NAME(VK_ERROR_TOO_MANY_OBJECTS)
#undef NAME
    default:
        return "unlisted VkResult";
    }
}

static vlm_error_code result_code(VkResult r)
{
    switch (r) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return VLM_ERROR_DEVICE_MEMORY;
    case VK_ERROR_DEVICE_LOST:
        return VLM_ERROR_DEVICE_LOST;
    case VK_ERROR_INITIALIZATION_FAILED:
    case VK_ERROR_FEATURE_NOT_PRESENT:
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return VLM_ERROR_NO_DEVICE;
    default:
        return VLM_ERROR_DRIVER;
    }
}

gboolean vlm_vk_check(vlm_device *dev, VkResult result, const char *what, GError **error)
{
    if (G_LIKELY(result == VK_SUCCESS))
        return TRUE;
    if (dev && result == VK_ERROR_DEVICE_LOST)
        g_atomic_int_set(&dev->lost, 1);
    g_set_error(error, VLM_ERROR, (gint) result_code(result), "%s: %s (%d)", what,
                result_name(result), (int) result);
    return FALSE;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *user)
{
    vlm_device *dev = user;

    (void) type;
    if (severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT) {
        g_atomic_int_inc(&dev->n_validation);
        g_message("validation: %s", data->pMessage);
    }
    return VK_FALSE;
}

static gboolean have_layer(const char *name)
{
    g_autofree VkLayerProperties *layers = NULL;
    uint32_t n = 0;

    if (vkEnumerateInstanceLayerProperties(&n, NULL) != VK_SUCCESS)
        return FALSE;
    layers = g_new0(VkLayerProperties, n);
    if (vkEnumerateInstanceLayerProperties(&n, layers) != VK_SUCCESS)
        return FALSE;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(layers[i].layerName, name) == 0)
            return TRUE;
    return FALSE;
}

static gboolean create_instance(vlm_device *dev, gboolean validate, GError **error)
{
    const char *debug_utils = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT
                           | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = dev,
    };
    VkValidationFeatureEnableEXT sync = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
    VkValidationFeaturesEXT extra = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .enabledValidationFeatureCount = 1,
        .pEnabledValidationFeatures = &sync,
    };
    VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "gst-vlm",
        .apiVersion = VK_API_VERSION_1_3,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &app,
    };

    if (validate && !have_layer(validation_layer)) {
        g_message("%s is not installed, running without it", validation_layer);
        validate = FALSE;
    }
    if (validate) {
        info.pNext = &extra;
        info.enabledLayerCount = 1;
        info.ppEnabledLayerNames = &validation_layer;
        info.enabledExtensionCount = 1;
        info.ppEnabledExtensionNames = &debug_utils;
    }
    if (!vlm_vk_check(NULL, vkCreateInstance(&info, NULL, &dev->instance), "vkCreateInstance",
                      error)) {
        g_prefix_error(error, "no Vulkan driver is installed (on Debian: mesa-vulkan-drivers): ");
        return FALSE;
    }
    if (validate) {
        PFN_vkCreateDebugUtilsMessengerEXT create =
            (PFN_vkCreateDebugUtilsMessengerEXT) vkGetInstanceProcAddr(
                dev->instance, "vkCreateDebugUtilsMessengerEXT");
        if (create)
            return vlm_vk_check(dev, create(dev->instance, &messenger, NULL, &dev->messenger),
                                "vkCreateDebugUtilsMessengerEXT", error);
    }
    return TRUE;
}

static const char *type_name(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete GPU";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated GPU";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual GPU";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return "CPU";
    default:
        return "other";
    }
}

gboolean vlm_device_has_extension(VkPhysicalDevice physical, const char *name)
{
    g_autofree VkExtensionProperties *list = NULL;
    uint32_t n = 0;

    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &n, NULL) != VK_SUCCESS)
        return FALSE;
    list = g_new0(VkExtensionProperties, n);
    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &n, list) < 0)
        return FALSE;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(list[i].extensionName, name) == 0)
            return TRUE;
    return FALSE;
}

// Features and properties of one physical device.
typedef struct probe {
    VkPhysicalDeviceProperties2 props;
    VkPhysicalDeviceVulkan11Properties props11;
    VkPhysicalDeviceVulkan12Properties props12;
    VkPhysicalDeviceVulkan13Properties props13;
    VkPhysicalDeviceFeatures2 features;
    VkPhysicalDeviceVulkan11Features features11;
    VkPhysicalDeviceVulkan12Features features12;
    VkPhysicalDeviceVulkan13Features features13;
    uint32_t queue_family;
} probe;

static gboolean find_compute_queue(VkPhysicalDevice physical, uint32_t *family_index)
{
    VkQueueFamilyProperties family[32];
    uint32_t n = G_N_ELEMENTS(family);

    vkGetPhysicalDeviceQueueFamilyProperties(physical, &n, family);
    for (uint32_t i = 0; i < n; i++) {
        if (family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            *family_index = i;
            return TRUE;
        }
    }
    return FALSE;
}

// Fills `p`; returns what the device lacks, NULL when it will do. Free with g_free().
static char *probe_device(VkPhysicalDevice physical, probe *p)
{
    VkPhysicalDeviceProperties base;
    const VkSubgroupFeatureFlags subgroup_need =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT
        | VK_SUBGROUP_FEATURE_BALLOT_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;

    memset(p, 0, sizeof *p);
    vkGetPhysicalDeviceProperties(physical, &base);
    p->props.properties = base;
    if (base.apiVersion < VK_API_VERSION_1_2)
        return g_strdup_printf("it offers Vulkan %u.%u, 1.2 is needed",
                               VK_API_VERSION_MAJOR(base.apiVersion),
                               VK_API_VERSION_MINOR(base.apiVersion));
    const gboolean v13 = base.apiVersion >= VK_API_VERSION_1_3;
    p->props =
        (VkPhysicalDeviceProperties2){ .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &p->props11 };
    p->props11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES;
    p->props11.pNext = &p->props12;
    p->props12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES;
    p->props12.pNext = v13 ? &p->props13 : NULL;
    p->props13.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES;
    vkGetPhysicalDeviceProperties2(physical, &p->props);
    p->features =
        (VkPhysicalDeviceFeatures2){ .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &p->features11 };
    p->features11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES;
    p->features11.pNext = &p->features12;
    p->features12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    p->features12.pNext = v13 ? &p->features13 : NULL;
    p->features13.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES;
    vkGetPhysicalDeviceFeatures2(physical, &p->features);

    const struct {
        gboolean have;
        const char *name;
    } need[] = {
        { p->features12.bufferDeviceAddress, "bufferDeviceAddress" },
        { p->features12.timelineSemaphore, "timelineSemaphore" },
        { p->features12.storageBuffer8BitAccess && p->features12.shaderInt8, "8-bit storage" },
        { p->features11.storageBuffer16BitAccess, "16-bit storage" },
        { p->features.features.shaderInt64, "shaderInt64" },
        { p->features12.subgroupBroadcastDynamicId, "subgroupBroadcastDynamicId" },
        { (p->props11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT)
              && (p->props11.subgroupSupportedOperations & subgroup_need) == subgroup_need
              && p->props11.subgroupSize >= 8,
          "subgroups of at least 8 lanes with arithmetic, ballot and shuffle" },
        { find_compute_queue(physical, &p->queue_family), "a compute queue" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(need); i++)
        if (!need[i].have)
            return g_strdup_printf("it lacks %s", need[i].name);
    return NULL;
}

static VkPhysicalDevice *list_physical(VkInstance instance, uint32_t *n, GError **error)
{
    VkPhysicalDevice *list;

    *n = 0;
    if (!vlm_vk_check(NULL, vkEnumeratePhysicalDevices(instance, n, NULL),
                      "vkEnumeratePhysicalDevices", error))
        return NULL;
    if (*n == 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NO_DEVICE,
                    "Vulkan lists no device; install a driver (on Debian: mesa-vulkan-drivers)");
        return NULL;
    }
    list = g_new0(VkPhysicalDevice, *n);
    if (!vlm_vk_check(NULL, vkEnumeratePhysicalDevices(instance, n, list),
                      "vkEnumeratePhysicalDevices", error))
        g_clear_pointer(&list, g_free);
    return list;
}

static void device_entry_free(gpointer data)
{
    vlm_device_entry *entry = data;

    g_free(entry->name);
    g_free(entry->driver);
    g_free(entry->unusable);
    g_free(entry);
}

GPtrArray *vlm_device_list(GError **error)
{
    g_autoptr(vlm_device) dev = g_new0(vlm_device, 1);
    g_autofree VkPhysicalDevice *list = NULL;
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(device_entry_free);
    uint32_t n = 0;

    vlm_env_flag(VLM_ENV_HELP);  // prints the table when it is asked for
    if (!create_instance(dev, FALSE, error) || !(list = list_physical(dev->instance, &n, error)))
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        vlm_device_entry *entry = g_new0(vlm_device_entry, 1);
        VkPhysicalDeviceMemoryProperties memory;
        probe p;

        entry->unusable = probe_device(list[i], &p);
        entry->name = g_strdup(p.props.properties.deviceName);
        entry->driver =
            g_strstrip(g_strdup_printf("%s %s", p.props12.driverName, p.props12.driverInfo));
        entry->type = type_name(p.props.properties.deviceType);
        vkGetPhysicalDeviceMemoryProperties(list[i], &memory);
        for (uint32_t h = 0; h < memory.memoryHeapCount; h++)
            if (memory.memoryHeaps[h].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
                entry->memory_bytes = MAX(entry->memory_bytes, memory.memoryHeaps[h].size);
        g_ptr_array_add(entries, entry);
    }
    return g_steal_pointer(&entries);
}

// How much a device is wanted when nobody asked for one; 0 = not at all.
static int preference(const probe *p)
{
    switch (p->props.properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 4;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 3;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 2;
    default:
        return 1;
    }
}

static gboolean name_contains(const char *name, const char *part)
{
    g_autofree char *a = g_utf8_casefold(name, -1);
    g_autofree char *b = g_utf8_casefold(part, -1);

    return strstr(a, b) != NULL;
}

static gboolean choose_physical(vlm_device *dev, const char *select, probe *chosen, GError **error)
{
    g_autofree VkPhysicalDevice *list = NULL;
    g_autoptr(GString) seen = g_string_new(NULL);
    uint32_t n = 0;
    int best = 0;
    char *end = NULL;
    const gboolean any = !select || !*select;
    const unsigned long index = any ? 0 : strtoul(select, &end, 10);
    const gboolean by_index = !any && *end == '\0';

    list = list_physical(dev->instance, &n, error);
    if (!list)
        return FALSE;
    for (uint32_t i = 0; i < n; i++) {
        probe p;
        g_autofree char *lacks = probe_device(list[i], &p);
        const char *name = p.props.properties.deviceName;

        g_string_append_printf(seen, "%s%u: %s%s%s", i ? "; " : "", i, name, lacks ? ", " : "",
                               lacks ? lacks : "");
        if (lacks || (by_index && i != index)
            || (!any && !by_index && !name_contains(name, select)))
            continue;
        if (preference(&p) > best) {
            best = preference(&p);
            dev->physical = list[i];
            *chosen = p;
        }
    }
    if (best > 0)
        return TRUE;
    if (any)
        g_set_error(error, VLM_ERROR, VLM_ERROR_NO_DEVICE, "no usable Vulkan device (%s)",
                    seen->str);
    else
        g_set_error(error, VLM_ERROR, VLM_ERROR_NO_DEVICE,
                    "no usable Vulkan device matches \"%s\" (%s)", select, seen->str);
    return FALSE;
}

static void read_properties(vlm_device *dev, const probe *p, const vlm_device_params *params)
{
    const VkPhysicalDeviceLimits *limits = &p->props.properties.limits;
    const gboolean v13 = p->props.properties.apiVersion >= VK_API_VERSION_1_3;

    g_strlcpy(dev->name, p->props.properties.deviceName, sizeof dev->name);
    g_strlcpy(dev->driver, p->props12.driverName, sizeof dev->driver);
    dev->vendor_id = p->props.properties.vendorID;
    dev->device_id = p->props.properties.deviceID;
    dev->driver_version = p->props.properties.driverVersion;
    memcpy(dev->uuid, p->props.properties.pipelineCacheUUID, VK_UUID_SIZE);
    dev->type = p->props.properties.deviceType;
    dev->is_lavapipe = p->props12.driverID == VK_DRIVER_ID_MESA_LLVMPIPE;
    dev->queue_family = p->queue_family;
    dev->subgroup_size = p->props11.subgroupSize;
    if (v13 && p->features13.subgroupSizeControl
        && (p->props13.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT)) {
        dev->subgroup_fixed = TRUE;
        dev->subgroup_size =
            CLAMP(dev->subgroup_size, p->props13.minSubgroupSize, p->props13.maxSubgroupSize);
    }
    dev->max_local = limits->maxComputeWorkGroupInvocations;
    dev->max_shared = limits->maxComputeSharedMemorySize;
    memcpy(dev->max_groups, limits->maxComputeWorkGroupCount, sizeof dev->max_groups);
    dev->max_alloc = p->props11.maxMemoryAllocationSize;
    dev->timestamp_ns = limits->timestampComputeAndGraphics ? limits->timestampPeriod : 0;
    vkGetPhysicalDeviceMemoryProperties(dev->physical, &dev->memory);
    if (p->features12.shaderFloat16)
        dev->caps_have |= VLM_CAP_F16;
    // Workgroups of several subgroups, each of them whole and with the lanes that were asked for.
    dev->full_subgroups = dev->subgroup_fixed && p->features13.computeFullSubgroups;
    dev->coopmat = vlm_coopmat_probe(dev->instance, dev->physical, dev->subgroup_size);
    if (dev->coopmat.m > 0 && dev->full_subgroups && p->features12.shaderFloat16
        && p->features12.vulkanMemoryModel && p->features12.vulkanMemoryModelDeviceScope
        && dev->max_shared >= VLM_COOPMAT_SHARED)
        dev->caps_have |= VLM_CAP_COOPMAT;
    // Eight lanes round a block of activations.
    if (v13 && p->features13.shaderIntegerDotProduct && dev->full_subgroups
        && dev->subgroup_size % 8 == 0)
        dev->caps_have |= VLM_CAP_INT_DOT;
    dev->coopmat2 = vlm_coopmat2_probe(dev->instance, dev->physical);
    if ((dev->caps_have & VLM_CAP_COOPMAT) && dev->coopmat2.m > 0 && p->features13.maintenance4)
        dev->caps_have |= VLM_CAP_COOPMAT2;
    dev->tall_matrices = params->tall_matrices && (dev->caps_have & VLM_CAP_COOPMAT2);
    if (dev->tall_matrices)
        dev->coopmat =
            (vlm_coopmat_shape){ VLM_COOPMAT2_UNIT, MIN(VLM_COOPMAT2_UNIT, dev->subgroup_size),
                                 VLM_COOPMAT2_UNIT };
    dev->imports = vlm_external_memory_probe(dev->physical);
    dev->has_budget = vlm_device_has_extension(dev->physical, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    dev->caps_have |= VLM_CAP_PARALLEL;
    dev->caps = dev->caps_have & params->caps_mask;
    if (dev->type == VK_PHYSICAL_DEVICE_TYPE_CPU && !params->slow_caps)
        dev->caps &= ~(uint32_t) (VLM_CAP_COOPMAT | VLM_CAP_PARALLEL | VLM_CAP_INT_DOT);
    if (!vlm_env_flag(VLM_ENV_INT_DOT)
        || (!p->props13.integerDotProduct4x8BitPackedSignedAccelerated && !params->slow_caps))
        dev->caps &= ~(uint32_t) VLM_CAP_INT_DOT;
    if (!(dev->caps & VLM_CAP_COOPMAT))
        dev->caps &= ~(uint32_t) VLM_CAP_COOPMAT2;
}

static gboolean open_device(vlm_device *dev, const probe *p, GError **error)
{
    const gboolean v13 = p->props.properties.apiVersion >= VK_API_VERSION_1_3;
    const gboolean coopmat = (dev->caps & VLM_CAP_COOPMAT) != 0;
    const gboolean coopmat2 =  // tall matrices are of a size that only it allows
        (dev->caps & VLM_CAP_COOPMAT2) || (coopmat && dev->tall_matrices);
    const gboolean int_dot = (dev->caps & VLM_CAP_INT_DOT) != 0;
    const float priority = 1.0f;
    const char *extensions[3 + VLM_EXTERNAL_MAX_EXTENSIONS];
    uint32_t n_extension = 0;
    // Ask for what is used and for nothing else.
    vlm_coopmat2_features use_coopmat2 = {
        .sType = VLM_STRUCTURE_TYPE_COOPMAT2_FEATURES,
        .flexible_dimensions = VK_TRUE,
        .reductions = VK_TRUE,
        .conversions = VK_TRUE,
        .per_element_operations = VK_TRUE,
    };
    vlm_coopmat_features use_coopmat = {
        .sType = VLM_STRUCTURE_TYPE_COOPMAT_FEATURES,
        .pNext = coopmat2 ? &use_coopmat2 : NULL,
        .cooperativeMatrix = VK_TRUE,
    };
    VkPhysicalDeviceVulkan13Features use13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
        .pNext = coopmat ? &use_coopmat : NULL,
        .computeFullSubgroups = coopmat || int_dot,
        .subgroupSizeControl = dev->subgroup_fixed,
        .shaderIntegerDotProduct = int_dot,
        .maintenance4 = coopmat2,  // SPIR-V 1.6 has its local sizes by it
    };
    VkPhysicalDeviceVulkan12Features use12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = v13 ? &use13 : NULL,
        .bufferDeviceAddress = VK_TRUE,
        .timelineSemaphore = VK_TRUE,
        .storageBuffer8BitAccess = VK_TRUE,
        .shaderInt8 = VK_TRUE,
        .subgroupBroadcastDynamicId = VK_TRUE,
        .vulkanMemoryModel = coopmat,
        .vulkanMemoryModelDeviceScope = coopmat,  // barriers between workgroups need it then
        .shaderFloat16 = (dev->caps & (VLM_CAP_F16 | VLM_CAP_COOPMAT)) != 0,
    };
    VkPhysicalDeviceVulkan11Features use11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &use12,
        .storageBuffer16BitAccess = VK_TRUE,
    };
    VkPhysicalDeviceFeatures2 use = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .pNext = &use11,
        .features = { .shaderInt64 = VK_TRUE },
    };
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = dev->queue_family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    if (coopmat)
        extensions[n_extension++] = VLM_COOPMAT_EXTENSION;
    if (coopmat2)
        extensions[n_extension++] = VLM_COOPMAT2_EXTENSION;
    n_extension += vlm_external_memory_extensions(&dev->imports, extensions + n_extension);
    if (dev->has_budget)
        extensions[n_extension++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &use,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = n_extension,
        .ppEnabledExtensionNames = extensions,
    };
    VkPushConstantRange range = { VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(uint64_t) };
    VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };

    if (!vlm_vk_check(dev, vkCreateDevice(dev->physical, &info, NULL, &dev->device),
                      "vkCreateDevice", error))
        return FALSE;
    vkGetDeviceQueue(dev->device, dev->queue_family, 0, &dev->queue);
    vlm_external_memory_init(dev);
    return vlm_vk_check(dev, vkCreatePipelineLayout(dev->device, &layout, NULL, &dev->layout),
                        "vkCreatePipelineLayout", error);
}

vlm_device *vlm_device_create(const vlm_device_params *params, GError **error)
{
    g_autoptr(vlm_device) dev = g_new0(vlm_device, 1);
    probe p;

    g_mutex_init(&dev->queue_lock);
    g_mutex_init(&dev->pipelines_lock);
    dev->pipelines = vlm_kernel_cache_new();
    if (!create_instance(dev, params->validate, error)
        || !choose_physical(dev, params->select, &p, error))
        return NULL;
    read_properties(dev, &p, params);
    vlm_tuning_reset(dev);
    if (!open_device(dev, &p, error) || !vlm_pipeline_cache_load(dev, params->cache_dir, error)) {
        g_prefix_error(error, "%s: ", dev->name);
        return NULL;
    }
    g_info("%s (%s): subgroup %u, caps 0x%x of 0x%x", dev->name, dev->driver, dev->subgroup_size,
           dev->caps, dev->caps_have);
    return g_steal_pointer(&dev);
}

void vlm_device_destroy(vlm_device *dev)
{
    if (!dev)
        return;
    if (dev->device) {
        vlm_kernel_cache_clear(dev);
        vlm_pipeline_cache_save(dev);
        vkDestroyPipelineCache(dev->device, dev->cache, NULL);
        vkDestroyPipelineLayout(dev->device, dev->layout, NULL);
        vkDestroyDevice(dev->device, NULL);
    }
    if (dev->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT) vkGetInstanceProcAddr(
                dev->instance, "vkDestroyDebugUtilsMessengerEXT");
        destroy(dev->instance, dev->messenger, NULL);
    }
    if (dev->instance)
        vkDestroyInstance(dev->instance, NULL);
    g_clear_pointer(&dev->pipelines, g_hash_table_unref);
    g_mutex_clear(&dev->queue_lock);
    g_mutex_clear(&dev->pipelines_lock);
    g_free(dev->cache_path);
    g_free(dev);
}
