// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/memory.h — device memory: buffers with addresses, and getting bytes in and out of them.
#ifndef VLM_GPU_MEMORY_H
#define VLM_GPU_MEMORY_H

#include "gpu/device.h"

// What a buffer is for: decides the memory it lives in and the line it is counted on.
typedef enum vlm_memory_use {
    VLM_MEMORY_WEIGHTS,   // device-local, written once
    VLM_MEMORY_KV,        // device-local
    VLM_MEMORY_SCRATCH,   // device-local
    VLM_MEMORY_UPLOAD,    // mapped; the host writes, the device reads
    VLM_MEMORY_READBACK,  // mapped and cached where possible; the device writes, the host reads
    VLM_MEMORY_HOST,      // mapped, the host's own where the device has memory apart from it; the
                          // host writes once, the device reads by address, slowly
    VLM_N_MEMORY_USE
} vlm_memory_use;

// Bytes that every buffer has beyond its size: kernels may read, never write, this far past
// the end (unrolled loops on CPU drivers do).
#define VLM_GUARD_BYTES 4096u

// A buffer with a device address. Owns its memory; must die before its device and not before
// the last command that uses it has finished. Contents start undefined.
// Thread-safety: none; the contents belong to whoever the caller says.
typedef struct vlm_buffer {
    vlm_device *dev;  // not owned
    VkBuffer buffer;
    VkDeviceMemory memory;
    void *host;     // mapped and coherent for the life of the buffer; NULL for device-local
                    // memory that the host can't see (discrete GPUs)
    uint64_t addr;  // device address of byte 0, a multiple of 64
    size_t bytes;
    vlm_memory_use use;
    gboolean imported;  // the caller's memory, see gpu/external_memory.h
} vlm_buffer;

// Device-local memory that this process may take now, by what the driver says of everybody's use
// (VK_EXT_memory_budget) or, where it doesn't, the size of the heap.
uint64_t vlm_memory_free(const vlm_device *dev);
// TRUE where VLM_MEMORY_HOST is not taken from that.
gboolean vlm_memory_has_host(const vlm_device *dev);

// Errors: ARGS (0 bytes), DEVICE_MEMORY (the message says how much was asked for), MEMORY_LIMIT
// (beyond dev->memory_limit).
vlm_buffer *vlm_buffer_create(vlm_device *dev, size_t bytes, vlm_memory_use use, GError **error);
void vlm_buffer_destroy(vlm_buffer *buf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_buffer, vlm_buffer_destroy)

// Copies `bytes` from the host to `buf` at `offset`, through staging where it isn't mapped.
// Waits for the copy. Must: offset + bytes <= buf->bytes; the device isn't using that range.
gboolean vlm_buffer_write(vlm_buffer *buf, size_t offset, const void *src, size_t bytes,
                          GError **error);

// The other way round.
gboolean vlm_buffer_read(vlm_buffer *buf, size_t offset, void *dst, size_t bytes, GError **error);

#endif
