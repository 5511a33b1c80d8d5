// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/recorder.h — commands as data, and the command buffers that are made of them.
#ifndef VLM_GPU_RECORDER_H
#define VLM_GPU_RECORDER_H

#include "gpu/device.h"

// Takes commands down as a list. Kernels read their arguments from memory by address, so two steps
// of the same shape are the same list: the command buffer that was made of it is kept and given
// out again, and the driver is called only for lists that were not seen lately. For gpu/command.c.
// Thread-safety: unsafe, one thread at a time.
typedef struct vlm_recorder vlm_recorder;

vlm_recorder *vlm_recorder_new(vlm_device *dev, GError **error);
void vlm_recorder_free(vlm_recorder *r);  // accepts NULL; the device must be done with all it gave

// The list begins anew.
void vlm_recorder_clear(vlm_recorder *r);

// One more command. `args` is the kernel's push constant.
void vlm_recorder_dispatch(vlm_recorder *r, VkPipeline pipeline, uint64_t args,
                           const uint32_t groups[3]);
// What comes before is finished and visible to what comes behind (`to_host`: to the host). A second
// one in a row is left out.
void vlm_recorder_barrier(vlm_recorder *r, gboolean to_host);
void vlm_recorder_copy(vlm_recorder *r, VkBuffer dst, uint64_t dst_offset, VkBuffer src,
                       uint64_t src_offset, uint64_t bytes);
void vlm_recorder_zero(vlm_recorder *r, VkBuffer dst, uint64_t offset, uint64_t bytes);
void vlm_recorder_reset_queries(vlm_recorder *r, VkQueryPool pool, uint32_t n);
void vlm_recorder_timestamp(vlm_recorder *r, VkQueryPool pool, uint32_t i);

// The list names something that may die before the recorder: its command buffer isn't kept. Copies
// and zeros say so themselves, because a buffer's handle may come back as another buffer's.
void vlm_recorder_pass(vlm_recorder *r);

// A command buffer of the list, for the submit with this `number`; numbers grow, and the device is
// done with those up to `n_done`. The list stays. VK_NULL_HANDLE: DEVICE_MEMORY, DRIVER.
VkCommandBuffer vlm_recorder_close(vlm_recorder *r, uint64_t n_done, uint64_t number,
                                   GError **error);

#endif
