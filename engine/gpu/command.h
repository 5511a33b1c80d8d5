// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/command.h — recording and running work.
#ifndef VLM_GPU_COMMAND_H
#define VLM_GPU_COMMAND_H

#include "gpu/kernel.h"
#include "gpu/memory.h"
#include "gpu/profile.h"

// A recorder of dispatches. Arguments of every dispatch are copied into a ring of mapped memory
// that the kernel reads by address: nothing that changes per call is a push constant (lavapipe
// compiles variants for push constants that steer branches).
// Thread-safety: unsafe, one thread at a time.
typedef struct vlm_cmd vlm_cmd;

// `args_bytes`: room for the arguments and tables of everything recorded between two begins.
vlm_cmd *vlm_cmd_create(vlm_device *dev, size_t args_bytes, GError **error);
void vlm_cmd_destroy(vlm_cmd *cmd);  // waits for what was submitted
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_cmd, vlm_cmd_destroy)

vlm_device *vlm_cmd_device(const vlm_cmd *cmd);

// Starts recording. What was recorded before and neither submitted nor run is dropped. While a
// recording is on the device this is allowed when vlm_cmd_is_free() says so.
gboolean vlm_cmd_begin(vlm_cmd *cmd, GError **error);

// TRUE when the next recording may begin: nothing is on the device, or one recording is and another
// one of its size finds room for its arguments beside it. Not with a profile, whose times are those
// of one recording.
gboolean vlm_cmd_is_free(const vlm_cmd *cmd);

// Records one dispatch of the pipeline (id, spec). `args` is copied; `args_bytes` must be the
// size in the kernel list. Must: groups within the device's limits. A dispatch of 0 groups
// records nothing.
gboolean vlm_cmd_dispatch(vlm_cmd *cmd, vlm_kernel_id id, const vlm_kernel_spec *spec,
                          const void *args, size_t args_bytes, const uint32_t groups[3],
                          GError **error);

// Copies a table into the argument ring; `*addr` is its device address (a multiple of 16),
// valid until the next begin. Errors: ARGS when the ring is full.
gboolean vlm_cmd_table(vlm_cmd *cmd, const void *data, size_t bytes, uint64_t *addr,
                       GError **error);
// Same, and gives the place to write to before the command is run.
gboolean vlm_cmd_table_alloc(vlm_cmd *cmd, size_t bytes, void **host, uint64_t *addr,
                             GError **error);

// Device memory for what one op hands from one of its dispatches to the next; `*addr` is a multiple
// of 64 and valid until the next call of this function or of begin. The memory is the same each
// time (kept from one recording to the next, grown when more is asked for): when it was handed
// out before in this recording a barrier is recorded first.
// Errors: DEVICE_MEMORY.
gboolean vlm_cmd_scratch(vlm_cmd *cmd, size_t bytes, uint64_t *addr, GError **error);

#define VLM_MAX_COUNTERS 16384u

// `n` numbers of 32 bits on the device that are zero when the next dispatch starts and that it must
// leave at zero: for workgroups that count how many of them are done. Those of the last dispatches
// recorded are others, so dispatches without a barrier between them don't share any.
// Must: 1 <= n <= VLM_MAX_COUNTERS. Never allocates.
uint64_t vlm_cmd_counters(vlm_cmd *cmd, uint32_t n);

// Everything recorded so far is finished and visible before anything recorded later starts.
void vlm_cmd_barrier(vlm_cmd *cmd);

// Copies between buffers. Must: ranges inside, not overlapping. Barriers as for a dispatch.
void vlm_cmd_copy(vlm_cmd *cmd, const vlm_buffer *dst, size_t dst_offset, const vlm_buffer *src,
                  size_t src_offset, size_t bytes);

// Fills a range with zeros. Must: offset and bytes multiples of 4, range inside. Barriers likewise.
void vlm_cmd_zero(vlm_cmd *cmd, const vlm_buffer *dst, size_t offset, size_t bytes);

// Counts `flops` against the size of a submit; ops call it for what they record.
void vlm_cmd_add_cost(vlm_cmd *cmd, double flops);

// Counts `bytes` of weights that a dispatch reads; ops call it for what they record. Bytes that
// several workgroups read count for each.
void vlm_cmd_add_read(vlm_cmd *cmd, uint64_t bytes);

// A place between two dispatches where the work recorded so far may be sent to the device, so
// that no single submit runs longer than display drivers tolerate. Includes a barrier.
gboolean vlm_cmd_split(vlm_cmd *cmd, GError **error);

#define VLM_MAX_STAMPS 8u

// Remembers the moment when all work recorded before it is done, as number `i` of the recording.
// Nothing on devices without timestamps. Must: i < VLM_MAX_STAMPS, each at most once.
void vlm_cmd_stamp(vlm_cmd *cmd, uint32_t i);

// Milliseconds of device time between two stamps of the recording that was run last; 0 when one of
// them is missing.
double vlm_cmd_stamp_ms(vlm_cmd *cmd, uint32_t from, uint32_t to);

// What the dispatches from here on are part of, for profiles; `stage` is static. NULL: each kernel
// is a stage, as after begin.
void vlm_cmd_stage(vlm_cmd *cmd, const char *stage);

// Measures every dispatch of the recordings from the next begin on, or no longer. What was measured
// before is forgotten. Errors: those of vlm_profile_new().
gboolean vlm_cmd_set_profiling(vlm_cmd *cmd, gboolean on, GError **error);

// What was measured; of vlm_profile_row, owned by `cmd`. NULL without profiling.
const GArray *vlm_cmd_profile(const vlm_cmd *cmd);

// Submits what was recorded and waits for all that was submitted. Afterwards the host sees all
// writes to mapped buffers.
// Errors: DEVICE_LOST (also after SUBMIT_TIMEOUT_S seconds without an end, but on CPUs), DRIVER.
gboolean vlm_cmd_run(vlm_cmd *cmd, GError **error);

// The two halves of it. At most two recordings are submitted and not waited for; the second starts
// on the device when the first has finished and sees what it wrote. Wait is for the oldest.
gboolean vlm_cmd_submit(vlm_cmd *cmd, GError **error);
gboolean vlm_cmd_wait(vlm_cmd *cmd, GError **error);

#endif
