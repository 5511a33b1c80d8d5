// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/external_memory.c — see gpu/external_memory.h.
#define G_LOG_DOMAIN "vlm-memory"
#include "gpu/external_memory.h"

#include <unistd.h>

#define HOST   VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT
#define DMABUF VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT
#define USAGE  (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT)

// Whether buffers for kernels can be made of such memory, without images in mind.
static gboolean is_importable(VkPhysicalDevice physical, VkExternalMemoryHandleTypeFlagBits type)
{
    VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = USAGE,
        .handleType = type,
    };
    VkExternalBufferProperties can = { .sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES };

    vkGetPhysicalDeviceExternalBufferProperties(physical, &info, &can);
    return (can.externalMemoryProperties.externalMemoryFeatures
            & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT)
           && !(can.externalMemoryProperties.externalMemoryFeatures
                & VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT);
}

// Whole pages are mapped around any memory of this process, larger units perhaps not.
static gboolean imports_pages(VkPhysicalDevice physical)
{
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT,
    };
    VkPhysicalDeviceProperties2 props = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                          .pNext = &host };

    vkGetPhysicalDeviceProperties2(physical, &props);
    return host.minImportedHostPointerAlignment <= (VkDeviceSize) sysconf(_SC_PAGESIZE);
}

vlm_external_support vlm_external_memory_probe(VkPhysicalDevice physical)
{
    return (vlm_external_support){
        .host = vlm_device_has_extension(physical, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME)
                && imports_pages(physical) && is_importable(physical, HOST),
        .dmabuf =
            vlm_device_has_extension(physical, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME)
            && vlm_device_has_extension(physical, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME)
            && is_importable(physical, DMABUF),
    };
}

uint32_t vlm_external_memory_extensions(const vlm_external_support *can, const char **names)
{
    uint32_t n = 0;

    if (can->host)
        names[n++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    if (can->dmabuf) {
        names[n++] = VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME;
        names[n++] = VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME;
    }
    return n;
}

void vlm_external_memory_init(vlm_device *dev)
{
    if (dev->imports.host)
        dev->get_host_pointer = (PFN_vkGetMemoryHostPointerPropertiesEXT) vkGetDeviceProcAddr(
            dev->device, "vkGetMemoryHostPointerPropertiesEXT");
    if (dev->imports.dmabuf)
        dev->get_memory_fd = (PFN_vkGetMemoryFdPropertiesKHR) vkGetDeviceProcAddr(
            dev->device, "vkGetMemoryFdPropertiesKHR");
}

// Memory types that what is behind the handle can be seen through; 0 = none.
static uint32_t host_types(const vlm_device *dev, const void *pages)
{
    VkMemoryHostPointerPropertiesEXT props = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT,
    };

    return dev->get_host_pointer(dev->device, HOST, pages, &props) == VK_SUCCESS
               ? props.memoryTypeBits
               : 0;
}

static uint32_t dmabuf_types(const vlm_device *dev, int fd)
{
    VkMemoryFdPropertiesKHR props = { .sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR };

    return dev->get_memory_fd(dev->device, DMABUF, fd, &props) == VK_SUCCESS ? props.memoryTypeBits
                                                                             : 0;
}

// The first of `types` that has these properties.
static gboolean choose_type(const vlm_device *dev, uint32_t types, VkMemoryPropertyFlags want,
                            uint32_t *type)
{
    for (uint32_t i = 0; i < dev->memory.memoryTypeCount; i++) {
        if ((types & (1u << i)) && (dev->memory.memoryTypes[i].propertyFlags & want) == want) {
            *type = i;
            return TRUE;
        }
    }
    return FALSE;
}

// Makes the buffer of `bytes` bytes of what `import` (a struct of Vulkan's) names.
static gboolean bind_imported(vlm_buffer *buf, VkExternalMemoryHandleTypeFlagBits handle,
                              const void *import, uint32_t types, VkMemoryPropertyFlags want,
                              size_t bytes)
{
    const VkDevice device = buf->dev->device;
    VkMemoryRequirements need;
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = (VkExternalMemoryHandleTypeFlags) handle,
    };
    VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                .pNext = &external,
                                .size = bytes,
                                .usage = USAGE };
    VkMemoryAllocateFlagsInfo flags = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                        .pNext = import,
                                        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT };
    VkMemoryAllocateInfo memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                    .pNext = &flags,
                                    .allocationSize = bytes };

    if (vkCreateBuffer(device, &info, NULL, &buf->buffer) != VK_SUCCESS)
        return FALSE;
    vkGetBufferMemoryRequirements(device, buf->buffer, &need);
    return need.size <= bytes
           && choose_type(buf->dev, types & need.memoryTypeBits, want, &memory.memoryTypeIndex)
           && vkAllocateMemory(device, &memory, NULL, &buf->memory) == VK_SUCCESS
           && vkBindBufferMemory(device, buf->buffer, buf->memory, 0) == VK_SUCCESS;
}

static vlm_buffer *new_imported(vlm_device *dev)
{
    vlm_buffer *buf = g_new0(vlm_buffer, 1);

    buf->dev = dev;
    buf->use = VLM_MEMORY_UPLOAD;
    buf->imported = TRUE;
    return buf;
}

static vlm_buffer *finish(vlm_buffer *buf, size_t bytes)
{
    VkBufferDeviceAddressInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
        .buffer = buf->buffer,
    };

    buf->bytes = bytes;
    buf->addr = vkGetBufferDeviceAddress(buf->dev->device, &info);
    return buf;
}

vlm_buffer *vlm_buffer_import(vlm_device *dev, const void *data, size_t bytes, size_t *offset)
{
    const size_t page = (size_t) sysconf(_SC_PAGESIZE);
    g_autoptr(vlm_buffer) buf = NULL;

    if (!dev->get_host_pointer || bytes == 0 || bytes > dev->max_alloc - 2 * page)
        return NULL;
    *offset = (uintptr_t) data % page;
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = HOST,
        .pHostPointer = (char *) data - *offset,  // read only, Vulkan has no word for it
    };
    buf = new_imported(dev);
    if (!bind_imported(buf, HOST, &import, host_types(dev, import.pHostPointer),
                       VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                       (*offset + bytes + page - 1) / page * page)) {
        g_debug("%s: memory can't be imported", dev->name);
        return NULL;
    }
    return finish(g_steal_pointer(&buf), *offset + bytes);
}

vlm_buffer *vlm_buffer_import_dmabuf(vlm_device *dev, int fd, size_t bytes)
{
    const off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    g_autoptr(vlm_buffer) buf = NULL;
    uint32_t types;

    if (!dev->get_memory_fd || bytes == 0 || size < 0 || (uint64_t) size < bytes
        || (uint64_t) size > dev->max_alloc || (types = dmabuf_types(dev, fd)) == 0)
        return NULL;
    VkImportMemoryFdInfoKHR import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
        .handleType = DMABUF,
        .fd = dup(fd),  // the memory's, once it is there
    };
    buf = new_imported(dev);
    if (import.fd < 0 || !bind_imported(buf, DMABUF, &import, types, 0, (size_t) size)) {
        if (import.fd >= 0 && !buf->memory)
            close(import.fd);
        g_debug("%s: a DMA-BUF can't be imported", dev->name);
        return NULL;
    }
    return finish(g_steal_pointer(&buf), bytes);
}
