// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/host_memory.c — see gpu/host_memory.h.
#define G_LOG_DOMAIN "vlm-memory"
#include "gpu/host_memory.h"

#include <string.h>
#include <unistd.h>

#define HANDLE VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT
#define USAGE  (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT)

static gboolean have_extension(VkPhysicalDevice physical)
{
    g_autofree VkExtensionProperties *list = NULL;
    uint32_t n = 0;

    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &n, NULL) != VK_SUCCESS)
        return FALSE;
    list = g_new0(VkExtensionProperties, n);
    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &n, list) < 0)
        return FALSE;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(list[i].extensionName, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME) == 0)
            return TRUE;
    return FALSE;
}

gboolean vlm_host_memory_probe(VkPhysicalDevice physical)
{
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT,
    };
    VkPhysicalDeviceProperties2 props = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                          .pNext = &host };
    VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = USAGE,
        .handleType = HANDLE,
    };
    VkExternalBufferProperties can = { .sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES };

    if (!have_extension(physical))
        return FALSE;
    vkGetPhysicalDeviceProperties2(physical, &props);
    vkGetPhysicalDeviceExternalBufferProperties(physical, &info, &can);
    // Whole pages are mapped around any memory of this process, larger units perhaps not.
    return host.minImportedHostPointerAlignment <= (VkDeviceSize) sysconf(_SC_PAGESIZE)
           && (can.externalMemoryProperties.externalMemoryFeatures
               & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT)
           && !(can.externalMemoryProperties.externalMemoryFeatures
                & VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT);
}

void vlm_host_memory_init(vlm_device *dev)
{
    dev->get_host_pointer = (PFN_vkGetMemoryHostPointerPropertiesEXT) vkGetDeviceProcAddr(
        dev->device, "vkGetMemoryHostPointerPropertiesEXT");
}

// A coherent type that the pages at `pages` can be seen through.
static gboolean find_type(const vlm_device *dev, VkBuffer buffer, const void *pages, size_t bytes,
                          uint32_t *type)
{
    const VkMemoryPropertyFlags want =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkMemoryHostPointerPropertiesEXT props = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT,
    };
    VkMemoryRequirements need;

    vkGetBufferMemoryRequirements(dev->device, buffer, &need);
    if (need.size > bytes
        || dev->get_host_pointer(dev->device, HANDLE, pages, &props) != VK_SUCCESS)
        return FALSE;
    for (uint32_t i = 0; i < dev->memory.memoryTypeCount; i++) {
        if ((need.memoryTypeBits & props.memoryTypeBits & (1u << i))
            && (dev->memory.memoryTypes[i].propertyFlags & want) == want) {
            *type = i;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean bind_pages(vlm_buffer *buf, void *pages, size_t bytes)
{
    const VkDevice device = buf->dev->device;
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = HANDLE,
    };
    VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                .pNext = &external,
                                .size = bytes,
                                .usage = USAGE };
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = HANDLE,
        .pHostPointer = pages,
    };
    VkMemoryAllocateFlagsInfo flags = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                        .pNext = &import,
                                        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT };
    VkMemoryAllocateInfo memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                    .pNext = &flags,
                                    .allocationSize = bytes };

    return vkCreateBuffer(device, &info, NULL, &buf->buffer) == VK_SUCCESS
           && find_type(buf->dev, buf->buffer, pages, bytes, &memory.memoryTypeIndex)
           && vkAllocateMemory(device, &memory, NULL, &buf->memory) == VK_SUCCESS
           && vkBindBufferMemory(device, buf->buffer, buf->memory, 0) == VK_SUCCESS;
}

vlm_buffer *vlm_buffer_import(vlm_device *dev, const void *data, size_t bytes, size_t *offset)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE);
    g_autoptr(vlm_buffer) buf = NULL;

    if (!dev->get_host_pointer || bytes == 0 || bytes > dev->max_alloc - 2 * page)
        return NULL;
    *offset = (uintptr_t) data % page;
    char *pages = (char *) data - *offset;  // read only, Vulkan has no word for it
    buf = g_new0(vlm_buffer, 1);
    buf->dev = dev;
    buf->use = VLM_MEMORY_UPLOAD;
    buf->imported = TRUE;
    if (!bind_pages(buf, pages, (*offset + bytes + page - 1) / page * page)) {
        g_debug("%s: memory can't be imported", dev->name);
        return NULL;
    }
    buf->bytes = *offset + bytes;
    buf->addr = vkGetBufferDeviceAddress(dev->device,
                                         &(VkBufferDeviceAddressInfo){
                                             .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                             .buffer = buf->buffer,
                                         });
    return g_steal_pointer(&buf);
}
