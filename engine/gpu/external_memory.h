// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/external_memory.h — the caller's memory as a buffer of the device: pages of this process
// (VK_EXT_external_memory_host) and DMA-BUFs (VK_EXT_external_memory_dma_buf).
#ifndef VLM_GPU_EXTERNAL_MEMORY_H
#define VLM_GPU_EXTERNAL_MEMORY_H

#include "gpu/memory.h"

// What kernels can read in place. For opening a device, which then has to enable the extensions.
vlm_external_support vlm_external_memory_probe(VkPhysicalDevice physical);
// Names of the extensions to enable; room for VLM_EXTERNAL_MAX_EXTENSIONS. Returns how many.
#define VLM_EXTERNAL_MAX_EXTENSIONS 3u
uint32_t vlm_external_memory_extensions(const vlm_external_support *can, const char **names);
// Looks up what imports need; without it nothing is imported.
void vlm_external_memory_init(vlm_device *dev);

// A buffer over `bytes` bytes at `data` and over what else lies in their pages. Byte 0 of the
// buffer is the start of the first page; *offset is where `data` is in it. For kernels that only
// read, and only those bytes: there is no guard behind them. `data` must be readable and stay where
// it is until the buffer is destroyed. NULL when the device can't: the caller copies instead. Not
// counted as device memory.
vlm_buffer *vlm_buffer_import(vlm_device *dev, const void *data, size_t bytes, size_t *offset);

// A buffer over a whole DMA-BUF, of which kernels read the first `bytes` bytes at most; likewise.
// `fd` stays the caller's, and may be closed as soon as this returns. NULL also when it is no
// DMA-BUF, or a shorter one.
vlm_buffer *vlm_buffer_import_dmabuf(vlm_device *dev, int fd, size_t bytes);

#endif
