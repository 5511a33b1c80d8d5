// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/pipeline_cache.c — keeps what the driver compiled from one process to the next.
#define G_LOG_DOMAIN "vlm-kernel"
#include "gpu/pipeline_cache.h"

#include <string.h>

#define DIGEST_BYTES  32u
#define MAX_FILE_SIZE (256u << 20)

static void digest(const void *data, size_t bytes, uint8_t out[DIGEST_BYTES])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize n = DIGEST_BYTES;

    g_checksum_update(sum, data, (gssize) bytes);
    g_checksum_get_digest(sum, out, &n);
}

static char *file_name(const vlm_device *dev, const char *dir)
{
    g_autoptr(GString) name = g_string_new("pipelines-");

    g_string_append_printf(name, "%04x-%04x-%08x-", dev->vendor_id, dev->device_id,
                           dev->driver_version);
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        g_string_append_printf(name, "%02x", dev->uuid[i]);
    g_string_append(name, ".bin");
    return g_build_filename(dir, name->str, NULL);
}

gboolean vlm_pipeline_cache_load(vlm_device *dev, const char *dir, GError **error)
{
    g_autofree char *contents = NULL;
    gsize bytes = 0;
    uint8_t sum[DIGEST_BYTES];
    VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
    };

    if (dir) {
        dev->cache_path = file_name(dev, dir);
        if (g_file_get_contents(dev->cache_path, &contents, &bytes, NULL) && bytes > DIGEST_BYTES
            && bytes < MAX_FILE_SIZE) {
            digest(contents + DIGEST_BYTES, bytes - DIGEST_BYTES, sum);
            if (memcmp(sum, contents, DIGEST_BYTES) == 0) {
                info.pInitialData = contents + DIGEST_BYTES;
                info.initialDataSize = bytes - DIGEST_BYTES;
            } else {
                g_info("%s is damaged, starting anew", dev->cache_path);
            }
        }
    }
    return vlm_vk_check(dev, vkCreatePipelineCache(dev->device, &info, NULL, &dev->cache),
                        "vkCreatePipelineCache", error);
}

void vlm_pipeline_cache_save(vlm_device *dev)
{
    g_autofree uint8_t *data = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = NULL;
    size_t bytes = 0;

    if (!dev->cache_path || dev->n_pipeline == 0 || g_atomic_int_get(&dev->lost)
        || vkGetPipelineCacheData(dev->device, dev->cache, &bytes, NULL) != VK_SUCCESS || bytes == 0
        || bytes > MAX_FILE_SIZE)
        return;
    data = g_malloc(DIGEST_BYTES + bytes);
    if (vkGetPipelineCacheData(dev->device, dev->cache, &bytes, data + DIGEST_BYTES) != VK_SUCCESS)
        return;
    digest(data + DIGEST_BYTES, bytes, data);
    dir = g_path_get_dirname(dev->cache_path);
    g_mkdir_with_parents(dir, 0700);
    if (!g_file_set_contents(dev->cache_path, (const char *) data, (gssize) (DIGEST_BYTES + bytes),
                             &error))
        g_info("pipeline cache not saved: %s", error->message);
}
