// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/memory.c — buffers with device addresses; the n-th allocation can be made to fail.
#define G_LOG_DOMAIN "vlm-memory"
#include "gpu/memory.h"

#include <string.h>

#include "gpu/command.h"

#define STAGING_BYTES (16u << 20)

static const char *const use_name[VLM_N_MEMORY_USE] = {
    "weights", "KV cache", "scratch", "upload", "readback", "experts on the host"
};

// The first memory type with all of `want`, preferring those that also have `like`.
static gboolean find_memory_type(const vlm_device *dev, uint32_t bits, VkMemoryPropertyFlags want,
                                 VkMemoryPropertyFlags like, uint32_t *type)
{
    for (int pass = 0; pass < 2; pass++) {
        const VkMemoryPropertyFlags need = pass == 0 ? want | like : want;
        for (uint32_t i = 0; i < dev->memory.memoryTypeCount; i++) {
            if ((bits & (1u << i)) && (dev->memory.memoryTypes[i].propertyFlags & need) == need) {
                *type = i;
                return TRUE;
            }
        }
    }
    return FALSE;
}

// The first memory type that the host sees and that isn't the device's own, cached if there is one.
static gboolean find_host_type(const vlm_device *dev, uint32_t bits, uint32_t *type)
{
    const VkMemoryPropertyFlags mapped =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

    for (int pass = 0; pass < 2; pass++) {
        const VkMemoryPropertyFlags need =
            mapped | (pass == 0 ? VK_MEMORY_PROPERTY_HOST_CACHED_BIT : 0);
        for (uint32_t i = 0; i < dev->memory.memoryTypeCount; i++) {
            const VkMemoryType *t = &dev->memory.memoryTypes[i];
            const gboolean local =
                (dev->memory.memoryHeaps[t->heapIndex].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
                != 0;
            if ((bits & (1u << i)) && !local && (t->propertyFlags & need) == need) {
                *type = i;
                return TRUE;
            }
        }
    }
    return FALSE;
}

gboolean vlm_memory_has_host(const vlm_device *dev)
{
    uint32_t type;

    return find_host_type(dev, UINT32_MAX, &type);
}

uint64_t vlm_memory_free(const vlm_device *dev)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT,
    };
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = dev->has_budget ? &budget : NULL,
    };
    uint64_t most = 0;

    vkGetPhysicalDeviceMemoryProperties2(dev->physical, &memory);
    for (uint32_t i = 0; i < dev->memory.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &dev->memory.memoryHeaps[i];
        if (!(heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT))
            continue;
        uint64_t left = heap->size;
        if (dev->has_budget)
            left = budget.heapBudget[i] - MIN(budget.heapUsage[i], budget.heapBudget[i]);
        most = MAX(most, left);
    }
    return most;
}

static gboolean choose_memory_type(const vlm_device *dev, uint32_t bits, vlm_memory_use use,
                                   uint32_t *type)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags mapped =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

    if (use == VLM_MEMORY_UPLOAD)
        return find_memory_type(dev, bits, mapped, local, type);
    if (use == VLM_MEMORY_HOST)
        return find_host_type(dev, bits, type) || find_memory_type(dev, bits, mapped, 0, type);
    if (use == VLM_MEMORY_READBACK)
        return find_memory_type(dev, bits, mapped, VK_MEMORY_PROPERTY_HOST_CACHED_BIT, type);
    // On a discrete GPU, memory that is both local and visible is a small window or slow to
    // place: take plain local memory first. Where all memory is one, map it.
    if (dev->type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU)
        return find_memory_type(dev, bits, local, 0, type);
    return find_memory_type(dev, bits, local, mapped, type);
}

static gboolean inject_failure(vlm_device *dev)
{
    const gint n = g_atomic_int_add(&dev->n_alloc, 1) + 1;

    return dev->fail_alloc_at != 0 && n == dev->fail_alloc_at;
}

static void count_bytes(vlm_device *dev, vlm_memory_use use, gint64 bytes)
{
    g_mutex_lock(&dev->queue_lock);
    dev->bytes_used[use] += bytes;
    dev->bytes_most[use] = MAX(dev->bytes_most[use], dev->bytes_used[use]);
    g_mutex_unlock(&dev->queue_lock);
}

// Whether a buffer stays within what the device's memory is limited to.
static gboolean check_limit(vlm_device *dev, uint64_t bytes, vlm_memory_use use, GError **error)
{
    uint64_t used = bytes;

    if (dev->memory_limit == 0 || use == VLM_MEMORY_HOST)
        return TRUE;
    g_mutex_lock(&dev->queue_lock);
    for (guint i = 0; i < VLM_N_MEMORY_USE; i++)
        used += i == VLM_MEMORY_HOST ? 0 : (uint64_t) dev->bytes_used[i];
    g_mutex_unlock(&dev->queue_lock);
    if (used <= dev->memory_limit)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_MEMORY_LIMIT,
                "%s: another %.1f MiB of %s exceed the limit of device memory, %.1f MiB", dev->name,
                (double) bytes / 1048576, use_name[use], (double) dev->memory_limit / 1048576);
    return FALSE;
}

static gboolean allocate(vlm_buffer *buf, GError **error)
{
    vlm_device *dev = buf->dev;
    VkMemoryRequirements need;
    uint32_t type = 0;
    VkResult result;

    vkGetBufferMemoryRequirements(dev->device, buf->buffer, &need);
    if (!choose_memory_type(dev, need.memoryTypeBits, buf->use, &type)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY, "%s: no memory type for %s",
                    dev->name, use_name[buf->use]);
        return FALSE;
    }
    VkMemoryAllocateFlagsInfo flags = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
    };
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = need.size,
        .memoryTypeIndex = type,
    };
    result = inject_failure(dev) || need.size > dev->max_alloc
                 ? VK_ERROR_OUT_OF_DEVICE_MEMORY
                 : vkAllocateMemory(dev->device, &info, NULL, &buf->memory);
    if (result != VK_SUCCESS) {
        vlm_vk_check(dev, result, "vkAllocateMemory", error);
        g_prefix_error(error, "%s: out of memory for %.1f MB of %s: ", dev->name,
                       (double) need.size / 1e6, use_name[buf->use]);
        return FALSE;
    }
    if (!vlm_vk_check(dev, vkBindBufferMemory(dev->device, buf->buffer, buf->memory, 0),
                      "vkBindBufferMemory", error))
        return FALSE;
    if ((dev->memory.memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
        && !(dev->hide_local && buf->use < VLM_MEMORY_UPLOAD))
        return vlm_vk_check(dev,
                            vkMapMemory(dev->device, buf->memory, 0, VK_WHOLE_SIZE, 0, &buf->host),
                            "vkMapMemory", error);
    return TRUE;
}

vlm_buffer *vlm_buffer_create(vlm_device *dev, size_t bytes, vlm_memory_use use, GError **error)
{
    g_autoptr(vlm_buffer) buf = NULL;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = (VkDeviceSize) bytes + VLM_GUARD_BYTES,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT
                 | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };

    if (bytes == 0 || bytes > dev->max_alloc - VLM_GUARD_BYTES) {
        g_set_error(error, VLM_ERROR, bytes == 0 ? VLM_ERROR_ARGS : VLM_ERROR_DEVICE_MEMORY,
                    "%s: a buffer of %" G_GSIZE_FORMAT " bytes (1 to %" G_GUINT64_FORMAT
                    " are possible)",
                    dev->name, bytes, (guint64) dev->max_alloc - VLM_GUARD_BYTES);
        return NULL;
    }
    buf = g_new0(vlm_buffer, 1);
    buf->dev = dev;
    buf->use = use;
    if (!check_limit(dev, info.size, use, error)
        || !vlm_vk_check(dev, vkCreateBuffer(dev->device, &info, NULL, &buf->buffer),
                         "vkCreateBuffer", error)
        || !allocate(buf, error))
        return NULL;
    buf->bytes = bytes;
    count_bytes(dev, use, (gint64) info.size);
    buf->addr = vkGetBufferDeviceAddress(dev->device,
                                         &(VkBufferDeviceAddressInfo){
                                             .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                             .buffer = buf->buffer,
                                         });
    return g_steal_pointer(&buf);
}

void vlm_buffer_destroy(vlm_buffer *buf)
{
    if (!buf)
        return;
    if (buf->bytes && !buf->imported)
        count_bytes(buf->dev, buf->use, -(gint64) (buf->bytes + VLM_GUARD_BYTES));
    vkDestroyBuffer(buf->dev->device, buf->buffer, NULL);  // NULL handles are ignored
    vkFreeMemory(buf->dev->device, buf->memory, NULL);
    g_free(buf);
}

// Moves bytes between the host and memory it can't see, a staging buffer at a time.
static gboolean stage(vlm_buffer *buf, size_t offset, void *dst, const void *src, size_t bytes,
                      GError **error)
{
    g_autoptr(vlm_buffer) staging = vlm_buffer_create(
        buf->dev, MIN(bytes, STAGING_BYTES), src ? VLM_MEMORY_UPLOAD : VLM_MEMORY_READBACK, error);
    g_autoptr(vlm_cmd) cmd = staging ? vlm_cmd_create(buf->dev, 4096, error) : NULL;

    if (!cmd)
        return FALSE;
    for (size_t done = 0; done < bytes;) {
        const size_t n = MIN(bytes - done, staging->bytes);
        if (src)
            memcpy(staging->host, (const char *) src + done, n);
        if (!vlm_cmd_begin(cmd, error))
            return FALSE;
        if (src)
            vlm_cmd_copy(cmd, buf, offset + done, staging, 0, n);
        else
            vlm_cmd_copy(cmd, staging, 0, buf, offset + done, n);
        if (!vlm_cmd_run(cmd, error))
            return FALSE;
        if (dst)
            memcpy((char *) dst + done, staging->host, n);
        done += n;
    }
    return TRUE;
}

gboolean vlm_buffer_write(vlm_buffer *buf, size_t offset, const void *src, size_t bytes,
                          GError **error)
{
    g_return_val_if_fail(offset <= buf->bytes && bytes <= buf->bytes - offset, FALSE);
    if (!buf->host)
        return stage(buf, offset, NULL, src, bytes, error);
    memcpy((char *) buf->host + offset, src, bytes);
    return TRUE;
}

gboolean vlm_buffer_read(vlm_buffer *buf, size_t offset, void *dst, size_t bytes, GError **error)
{
    g_return_val_if_fail(offset <= buf->bytes && bytes <= buf->bytes - offset, FALSE);
    if (!buf->host)
        return stage(buf, offset, dst, NULL, bytes, error);
    memcpy(dst, (const char *) buf->host + offset, bytes);
    return TRUE;
}
