// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/kernel.c — from the kernel list to compute pipelines.
#define G_LOG_DOMAIN "vlm-kernel"
#include "gpu/kernel.h"

#include <string.h>

#include "args.h"
#include "gpu/spirv.h"

G_STATIC_ASSERT(VLM_N_KERNEL <= VLM_N_KERNEL_MAX);
// shaders/meson.build and kernels.inc list the same kernels: a row missing there does not link,
// a row missing here fails this.
G_STATIC_ASSERT(VLM_N_KERNEL == VLM_N_SPIRV);

const vlm_kernel_info *vlm_kernel_get_info(vlm_kernel_id id)
{
    static vlm_kernel_info info[VLM_N_KERNEL];
    static gsize ready = 0;

    g_return_val_if_fail(id < VLM_N_KERNEL, NULL);
    if (g_once_init_enter(&ready)) {
#define VLM_KERNEL(k, args, need)                                                                  \
    info[VLM_K_##k] = (vlm_kernel_info){ #k,                                                       \
                                         vlm_spv_##k,                                              \
                                         vlm_spv_##k##_bytes,                                      \
                                         sizeof(struct args),                                      \
                                         vlm_spv_##k##_args_bytes,                                 \
                                         (need) };
#include "gpu/kernels.inc"
#undef VLM_KERNEL
        g_once_init_leave(&ready, 1);
    }
    return &info[id];
}

typedef struct kernel_key {
    vlm_kernel_id id;
    vlm_kernel_spec spec;  // unused entries are zero
} kernel_key;

static guint key_hash(gconstpointer p)
{
    const uint8_t *bytes = p;
    guint h = 2166136261u;

    for (size_t i = 0; i < sizeof(kernel_key); i++)
        h = (h ^ bytes[i]) * 16777619u;
    return h;
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(kernel_key)) == 0;
}

static gboolean create_pipeline(vlm_device *dev, const vlm_kernel_info *info,
                                const vlm_kernel_spec *spec, VkPipeline *pipeline, GError **error)
{
    uint32_t value[3 + VLM_MAX_SPEC];
    VkSpecializationMapEntry entry[3 + VLM_MAX_SPEC];
    const uint32_t n_value = 3 + spec->n_own;
    VkShaderModule module = VK_NULL_HANDLE;
    gboolean ok;

    for (uint32_t i = 0; i < n_value; i++) {
        value[i] = i < 3 ? MAX(spec->local[i], 1) : spec->own[i - 3];
        entry[i] = (VkSpecializationMapEntry){ i, i * 4, 4 };
    }
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = info->spirv_bytes,
        .pCode = info->spirv,
    };
    if (!vlm_vk_check(dev, vkCreateShaderModule(dev->device, &module_info, NULL, &module),
                      info->name, error))
        return FALSE;

    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = dev->subgroup_size,
    };
    VkSpecializationInfo special = { n_value, entry, n_value * 4, value };
    VkComputePipelineCreateInfo pipeline_info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
            .flags = info->caps & (VLM_CAP_COOPMAT | VLM_CAP_INT_DOT)
                         ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT
                         : 0,
            .pNext = dev->subgroup_fixed ? &subgroup : NULL,
            .stage = VK_SHADER_STAGE_COMPUTE_BIT,
            .module = module,
            .pName = "main",
            .pSpecializationInfo = &special,
        },
        .layout = dev->layout,
    };
    ok = vlm_vk_check(
        dev, vkCreateComputePipelines(dev->device, dev->cache, 1, &pipeline_info, NULL, pipeline),
        info->name, error);
    vkDestroyShaderModule(dev->device, module, NULL);
    return ok;
}

// Compiles without the lock, so that several threads can at once. Two that want the same make it
// twice; the first one stays.
static const vlm_kernel *make_kernel(vlm_device *dev, const vlm_kernel_info *info,
                                     const kernel_key *key, GError **error)
{
    const gint64 start = g_get_monotonic_time();
    VkPipeline pipeline = VK_NULL_HANDLE;

    if (!create_pipeline(dev, info, &key->spec, &pipeline, error))
        return NULL;
    g_debug("%s: pipeline made in %.1f ms, local %u x %u x %u", info->name,
            (double) (g_get_monotonic_time() - start) / 1000.0, key->spec.local[0],
            key->spec.local[1], key->spec.local[2]);
    g_mutex_lock(&dev->pipelines_lock);
    vlm_kernel *kernel = g_hash_table_lookup(dev->pipelines, key);
    if (kernel) {
        vkDestroyPipeline(dev->device, pipeline, NULL);
    } else {
        kernel = g_new0(vlm_kernel, 1);
        kernel->id = key->id;
        kernel->spec = key->spec;
        kernel->pipeline = pipeline;
        g_hash_table_insert(dev->pipelines, g_memdup2(key, sizeof *key), kernel);
        g_atomic_int_inc(&dev->n_pipeline);
    }
    g_mutex_unlock(&dev->pipelines_lock);
    return kernel;
}

const vlm_kernel *vlm_kernel_get(vlm_device *dev, vlm_kernel_id id, const vlm_kernel_spec *spec,
                                 GError **error)
{
    const vlm_kernel_info *info = vlm_kernel_get_info(id);
    kernel_key key;
    uint32_t n_local = 1;

    g_return_val_if_fail(spec->n_own <= VLM_MAX_SPEC, NULL);
    memset(&key, 0, sizeof key);
    key.id = id;
    key.spec.n_own = spec->n_own;
    for (uint32_t i = 0; i < 3; i++) {
        key.spec.local[i] = MAX(spec->local[i], 1);
        n_local *= key.spec.local[i];
    }
    memcpy(key.spec.own, spec->own, spec->n_own * sizeof spec->own[0]);
    if (n_local > dev->max_local) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s: local size %u, the device allows %u",
                    info->name, n_local, dev->max_local);
        return NULL;
    }
    if ((info->caps & dev->caps) != info->caps) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: needs caps 0x%x, have 0x%x",
                    info->name, info->caps, dev->caps);
        return NULL;
    }

    g_mutex_lock(&dev->pipelines_lock);
    const vlm_kernel *kernel = g_hash_table_lookup(dev->pipelines, &key);
    g_mutex_unlock(&dev->pipelines_lock);
    return kernel ? kernel : make_kernel(dev, info, &key, error);
}

void vlm_kernel_cache_clear(vlm_device *dev)
{
    GHashTableIter iter;
    gpointer kernel;

    if (!dev->pipelines)
        return;
    g_hash_table_iter_init(&iter, dev->pipelines);
    while (g_hash_table_iter_next(&iter, NULL, &kernel)) {
        vkDestroyPipeline(dev->device, ((vlm_kernel *) kernel)->pipeline, NULL);
        g_free(kernel);
    }
    g_clear_pointer(&dev->pipelines, g_hash_table_unref);
}

vlm_kernel_id vlm_variant_choose(const vlm_variant *table, uint32_t n, uint32_t caps)
{
    for (uint32_t i = 0; i < n; i++)
        if ((table[i].caps & caps) == table[i].caps)
            return table[i].id;
    g_return_val_if_reached(VLM_N_KERNEL);  // the last row must need nothing
}

GHashTable *vlm_kernel_cache_new(void)
{
    return g_hash_table_new_full(key_hash, key_equal, g_free, NULL);
}
