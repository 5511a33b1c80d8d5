// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/host_memory.h — the caller's memory as a buffer of the device (VK_EXT_external_memory_host).
#ifndef VLM_GPU_HOST_MEMORY_H
#define VLM_GPU_HOST_MEMORY_H

#include "gpu/memory.h"

// Whether buffers for kernels can be made of whole pages of this process. For opening a device.
gboolean vlm_host_memory_probe(VkPhysicalDevice physical);
// Looks up what vlm_buffer_import() needs; without it nothing is imported.
void vlm_host_memory_init(vlm_device *dev);

// A buffer over `bytes` bytes at `data` and over what else lies in their pages. Byte 0 of the
// buffer is the start of the first page; *offset is where `data` is in it. For kernels that only
// read, and only those bytes: there is no guard behind them. `data` must be readable and stay where
// it is until the buffer is destroyed. NULL when the device can't: the caller copies instead. Not
// counted as device memory.
vlm_buffer *vlm_buffer_import(vlm_device *dev, const void *data, size_t bytes, size_t *offset);

#endif
