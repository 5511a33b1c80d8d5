// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/command.c — recordings, the argument ring, submission.
#define G_LOG_DOMAIN "vlm-command"
#include "gpu/command.h"

#include <string.h>

#include "gpu/recorder.h"

#define MAX_SPLITS       64
#define SUBMIT_TIMEOUT_S 120
#define TARGET_SUBMIT_US 50000   // a submit should take this long ...
#define MAX_SUBMIT_US    200000  // ... and at most this long on a GPU

// A recording that was submitted and not waited for yet.
typedef struct sent {
    uint64_t value;     // timeline value of its last submit
    uint32_t n_submit;  // how many it took
    double cost;        // FLOPs
    gint64 start;       // when it was whole
    size_t args_base;   // where its arguments are
    size_t args_bytes;
} sent;

struct vlm_cmd {
    vlm_device *dev;  // not owned
    vlm_recorder *recorder;
    uint32_t at;  // submits of this recording so far
    VkSemaphore timeline;
    uint64_t submitted;  // timeline value of the last submit
    uint64_t done;       // of the last one that was waited for
    gboolean stuck;      // waiting took too long
    sent sent[2];        // oldest first
    uint32_t n_sent;
    gint64 last_end;   // when the one before was over
    vlm_buffer *args;  // the ring: a recording alone has all of it, two have a half each
    size_t args_base, args_used, args_end;
    GPtrArray *scratch;  // vlm_buffer, the last one is the largest and in use
    gboolean scratch_used;
    vlm_buffer *counters;  // u32 [VLM_MAX_COUNTERS]
    uint32_t counters_used;
    gboolean counters_zero;  // by a recording that was run
    double cost;             // FLOPs recorded since the last submit
    double max_cost;         // FLOPs per submit; follows the measured speed of the device
    double run_cost;         // FLOPs since begin
    gboolean recording;
    VkQueryPool stamps;    // NULL on devices without timestamps
    uint32_t stamped;      // bit i: stamp i was recorded
    vlm_profile *profile;  // NULL: not asked for
    const char *stage;     // of the next dispatches
};

vlm_device *vlm_cmd_device(const vlm_cmd *cmd)
{
    return cmd->dev;
}

vlm_cmd *vlm_cmd_create(vlm_device *dev, size_t args_bytes, GError **error)
{
    g_autoptr(vlm_cmd) cmd = g_new0(vlm_cmd, 1);
    VkSemaphoreTypeCreateInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    VkSemaphoreCreateInfo semaphore = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
        .pNext = &timeline,
    };

    cmd->dev = dev;
    cmd->max_cost = 20e9;
    cmd->scratch = g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    cmd->recorder = vlm_recorder_new(dev, error);
    if (!cmd->recorder
        || !vlm_vk_check(dev, vkCreateSemaphore(dev->device, &semaphore, NULL, &cmd->timeline),
                         "vkCreateSemaphore", error))
        return NULL;
    if (dev->timestamp_ns > 0) {
        VkQueryPoolCreateInfo stamps = {
            .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
            .queryType = VK_QUERY_TYPE_TIMESTAMP,
            .queryCount = VLM_MAX_STAMPS,
        };
        if (!vlm_vk_check(dev, vkCreateQueryPool(dev->device, &stamps, NULL, &cmd->stamps),
                          "vkCreateQueryPool", error))
            return NULL;
    }
    cmd->args = vlm_buffer_create(dev, args_bytes, VLM_MEMORY_UPLOAD, error);
    cmd->counters =
        cmd->args ? vlm_buffer_create(dev, 4 * VLM_MAX_COUNTERS, VLM_MEMORY_SCRATCH, error) : NULL;
    if (!cmd->counters)
        return NULL;
    return g_steal_pointer(&cmd);
}

// Waits for SUBMIT_TIMEOUT_S, second by second: a process that was stopped for minutes has lost one
// of them when it goes on. For CPU drivers as long as it takes: their threads can't hang, only be
// slow, and would go on writing to memory that callers free after an error.
static VkResult wait_long(vlm_cmd *cmd, uint64_t value)
{
    const gboolean cpu = cmd->dev->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    const uint64_t seconds = cpu ? UINT64_MAX : SUBMIT_TIMEOUT_S;
    const VkSemaphoreWaitInfo wait = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &cmd->timeline,
        .pValues = &value,
    };
    VkResult result = VK_TIMEOUT;

    for (uint64_t i = 0; i < seconds && result == VK_TIMEOUT; i++)
        result = vkWaitSemaphores(cmd->dev->device, &wait, 1000000000u);
    return result;
}

// Waits until the device has done what carries timeline values up to `value`.
static gboolean wait_for(vlm_cmd *cmd, uint64_t value, GError **error)
{
    if (value <= cmd->done)
        return TRUE;
    if (!cmd->stuck) {
        g_atomic_int_inc(&cmd->dev->n_wait);
        const VkResult result = wait_long(cmd, value);
        if (result != VK_TIMEOUT) {
            if (!vlm_vk_check(cmd->dev, result, "vkWaitSemaphores", error))
                return FALSE;
            cmd->done = value;
            return TRUE;
        }
    }
    cmd->stuck = TRUE;
    g_atomic_int_set(&cmd->dev->lost, 1);
    g_set_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST, "%s: work did not finish within %d s",
                cmd->dev->name, SUBMIT_TIMEOUT_S);
    return FALSE;
}

void vlm_cmd_destroy(vlm_cmd *cmd)
{
    if (!cmd)
        return;
    wait_for(cmd, cmd->submitted, NULL);  // (on a lost device this returns at once)
    vkDestroyQueryPool(cmd->dev->device, cmd->stamps, NULL);
    vkDestroySemaphore(cmd->dev->device, cmd->timeline, NULL);
    vlm_recorder_free(cmd->recorder);
    vlm_buffer_destroy(cmd->args);
    vlm_buffer_destroy(cmd->counters);
    vlm_profile_free(cmd->profile);
    g_ptr_array_unref(cmd->scratch);
    g_free(cmd);
}

gboolean vlm_cmd_is_free(const vlm_cmd *cmd)
{
    // (The next one may need a little more than this one.)
    return cmd->n_sent == 0
           || (cmd->n_sent == 1 && cmd->sent[0].args_bytes <= cmd->args->bytes / 4
               && !cmd->profile);
}

// Gives the next recording its part of the ring.
static void choose_args(vlm_cmd *cmd)
{
    const size_t half = (cmd->args->bytes / 2) & ~(size_t) 63u;

    cmd->args_base = cmd->n_sent > 0 && cmd->sent[0].args_base == 0 ? half : 0;
    cmd->args_used = cmd->args_base;
    cmd->args_end = cmd->n_sent == 0 || cmd->args_base > 0 ? cmd->args->bytes : half;
}

gboolean vlm_cmd_begin(vlm_cmd *cmd, GError **error)
{
    g_return_val_if_fail(vlm_cmd_is_free(cmd), FALSE);
    if (g_atomic_int_get(&cmd->dev->lost)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST, "%s: the device was lost",
                    cmd->dev->name);
        return FALSE;
    }
    // A recording that failed half-way may have sent its beginning: its arguments are being read.
    if (cmd->submitted > (cmd->n_sent > 0 ? cmd->sent[cmd->n_sent - 1].value : cmd->done)
        && !wait_for(cmd, cmd->submitted, error))
        return FALSE;
    vlm_recorder_clear(cmd->recorder);
    choose_args(cmd);
    cmd->at = 0;
    cmd->counters_used = 0;  // all are at zero again; the same steps get the same ones
    cmd->cost = 0;
    cmd->run_cost = 0;
    cmd->scratch_used = FALSE;
    if (cmd->n_sent > 0)
        vlm_cmd_barrier(cmd);
    else if (cmd->scratch->len > 1)  // outgrown; no command uses them any more
        g_ptr_array_remove_range(cmd->scratch, 0, cmd->scratch->len - 1);
    cmd->recording = TRUE;
    cmd->stamped = 0;
    cmd->stage = NULL;
    if (cmd->profile)
        vlm_profile_begin(cmd->profile, cmd->recorder);
    if (!cmd->counters_zero) {
        vlm_cmd_zero(cmd, cmd->counters, 0, 4 * VLM_MAX_COUNTERS);
        vlm_cmd_barrier(cmd);
    }
    return TRUE;
}

gboolean vlm_cmd_table_alloc(vlm_cmd *cmd, size_t bytes, void **host, uint64_t *addr,
                             GError **error)
{
    const size_t padded = (bytes + 15u) & ~(size_t) 15u;

    if (padded < bytes || padded > cmd->args_end - cmd->args_used) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "arguments of one recording exceed %" G_GSIZE_FORMAT " bytes",
                    cmd->args_end - cmd->args_base);
        return FALSE;
    }
    *host = (char *) cmd->args->host + cmd->args_used;
    *addr = cmd->args->addr + cmd->args_used;
    cmd->args_used += padded;
    return TRUE;
}

gboolean vlm_cmd_table(vlm_cmd *cmd, const void *data, size_t bytes, uint64_t *addr, GError **error)
{
    void *host = NULL;

    if (!vlm_cmd_table_alloc(cmd, bytes, &host, addr, error))
        return FALSE;
    memcpy(host, data, bytes);
    return TRUE;
}

gboolean vlm_cmd_scratch(vlm_cmd *cmd, size_t bytes, uint64_t *addr, GError **error)
{
    const vlm_buffer *last =
        cmd->scratch->len ? g_ptr_array_index(cmd->scratch, cmd->scratch->len - 1) : NULL;

    g_return_val_if_fail(cmd->recording, FALSE);
    if (!last || last->bytes < bytes) {
        const size_t twice = last ? 2 * last->bytes : 1u << 16;
        vlm_buffer *more =
            vlm_buffer_create(cmd->dev, MAX(bytes, twice), VLM_MEMORY_SCRATCH, error);
        if (!more)
            return FALSE;
        g_ptr_array_add(cmd->scratch, more);
        last = more;
    } else if (cmd->scratch_used) {
        vlm_cmd_barrier(cmd);
    }
    cmd->scratch_used = TRUE;
    *addr = last->addr;
    return TRUE;
}

uint64_t vlm_cmd_counters(vlm_cmd *cmd, uint32_t n)
{
    g_return_val_if_fail(cmd->recording && n >= 1 && n <= VLM_MAX_COUNTERS, 0);
    if (n > VLM_MAX_COUNTERS - cmd->counters_used) {
        vlm_cmd_barrier(cmd);
        cmd->counters_used = 0;
    }
    cmd->counters_used += n;
    return cmd->counters->addr + 4 * (uint64_t) (cmd->counters_used - n);
}

gboolean vlm_cmd_dispatch(vlm_cmd *cmd, vlm_kernel_id id, const vlm_kernel_spec *spec,
                          const void *args, size_t args_bytes, const uint32_t groups[3],
                          GError **error)
{
    const vlm_kernel *kernel;
    uint64_t addr = 0;

    g_return_val_if_fail(cmd->recording, FALSE);
    g_return_val_if_fail(args_bytes == vlm_kernel_get_info(id)->args_bytes, FALSE);
    if (groups[0] == 0 || groups[1] == 0 || groups[2] == 0)
        return TRUE;
    for (int i = 0; i < 3; i++) {
        if (groups[i] > cmd->dev->max_groups[i]) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "%s: %u workgroups in direction %d, the device allows %u",
                        vlm_kernel_get_info(id)->name, groups[i], i, cmd->dev->max_groups[i]);
            return FALSE;
        }
    }
    kernel = vlm_kernel_get(cmd->dev, id, spec, error);
    if (!kernel || !vlm_cmd_table(cmd, args, args_bytes, &addr, error))
        return FALSE;
    vlm_recorder_dispatch(cmd->recorder, kernel->pipeline, addr, groups);
    g_atomic_int_inc(&cmd->dev->n_dispatch[id]);
    if (cmd->profile)
        vlm_profile_stamp(cmd->profile, cmd->recorder,
                          cmd->stage ? cmd->stage : vlm_kernel_get_info(id)->name);
    return TRUE;
}

void vlm_cmd_stage(vlm_cmd *cmd, const char *stage)
{
    cmd->stage = stage;
}

gboolean vlm_cmd_set_profiling(vlm_cmd *cmd, gboolean on, GError **error)
{
    g_clear_pointer(&cmd->profile, vlm_profile_free);
    if (on)
        cmd->profile = vlm_profile_new(cmd->dev, error);
    return !on || cmd->profile;
}

const GArray *vlm_cmd_profile(const vlm_cmd *cmd)
{
    return cmd->profile ? vlm_profile_rows(cmd->profile) : NULL;
}

void vlm_cmd_barrier(vlm_cmd *cmd)
{
    vlm_recorder_barrier(cmd->recorder, FALSE);
}

void vlm_cmd_copy(vlm_cmd *cmd, const vlm_buffer *dst, size_t dst_offset, const vlm_buffer *src,
                  size_t src_offset, size_t bytes)
{
    vlm_recorder_copy(cmd->recorder, dst->buffer, dst_offset, src->buffer, src_offset, bytes);
}

void vlm_cmd_zero(vlm_cmd *cmd, const vlm_buffer *dst, size_t offset, size_t bytes)
{
    vlm_recorder_zero(cmd->recorder, dst->buffer, offset, bytes);
}

void vlm_cmd_stamp(vlm_cmd *cmd, uint32_t i)
{
    g_return_if_fail(i < VLM_MAX_STAMPS && !(cmd->stamped & (1u << i)));
    g_return_if_fail(cmd->n_sent == 0);  // the queries are those of one recording
    if (!cmd->stamps)
        return;
    if (cmd->stamped == 0)
        vlm_recorder_reset_queries(cmd->recorder, cmd->stamps, VLM_MAX_STAMPS);
    vlm_recorder_timestamp(cmd->recorder, cmd->stamps, i);
    cmd->stamped |= 1u << i;
}

double vlm_cmd_stamp_ms(vlm_cmd *cmd, uint32_t from, uint32_t to)
{
    const uint32_t need = 1u << from | 1u << to;
    uint64_t ticks[VLM_MAX_STAMPS] = { 0 };

    if ((cmd->stamped & need) != need)
        return 0;
    for (uint32_t i = 0; i < VLM_MAX_STAMPS; i++)
        if (need & (1u << i)
            && vkGetQueryPoolResults(cmd->dev->device, cmd->stamps, i, 1, sizeof ticks[i],
                                     &ticks[i], sizeof ticks[i], VK_QUERY_RESULT_64_BIT)
                   != VK_SUCCESS)
            return 0;
    return (double) (ticks[to] - ticks[from]) * (double) cmd->dev->timestamp_ns / 1e6;
}

void vlm_cmd_add_cost(vlm_cmd *cmd, double flops)
{
    cmd->cost += flops;
    cmd->run_cost += flops;
}

void vlm_cmd_add_read(vlm_cmd *cmd, uint64_t bytes)
{
    g_atomic_pointer_add(&cmd->dev->n_read, (gssize) bytes);
}

// Sends what was recorded since the last submit to the device.
static gboolean submit(vlm_cmd *cmd, GError **error)
{
    vlm_device *dev = cmd->dev;
    const uint64_t value = cmd->submitted + 1;
    const VkCommandBuffer buffer = vlm_recorder_close(cmd->recorder, cmd->done, value, error);
    VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &value,
    };
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &timeline,
        .commandBufferCount = 1,
        .pCommandBuffers = &buffer,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &cmd->timeline,
    };

    if (buffer == VK_NULL_HANDLE)
        return FALSE;
    g_mutex_lock(&dev->queue_lock);
    const gint n = g_atomic_int_add(&dev->n_submit, 1) + 1;
    const VkResult result = dev->fail_submit_at != 0 && n == dev->fail_submit_at
                                ? VK_ERROR_DEVICE_LOST
                                : vkQueueSubmit(dev->queue, 1, &info, VK_NULL_HANDLE);
    g_mutex_unlock(&dev->queue_lock);
    if (!vlm_vk_check(dev, result, "vkQueueSubmit", error))
        return FALSE;
    cmd->submitted = value;
    cmd->at++;
    cmd->cost = 0;
    vlm_recorder_clear(cmd->recorder);
    return TRUE;
}

gboolean vlm_cmd_split(vlm_cmd *cmd, GError **error)
{
    vlm_cmd_barrier(cmd);
    if (cmd->cost < cmd->max_cost || cmd->at + 1 == MAX_SPLITS)
        return TRUE;
    return submit(cmd, error);
}

// Lets the size of a submit follow the speed that was measured.
static void adapt(vlm_cmd *cmd, const sent *done, gint64 us)
{
    if (us <= 0 || done->cost < 1e8)
        return;
    const double target = done->cost * TARGET_SUBMIT_US / (double) us;
    cmd->max_cost = CLAMP(0.5 * cmd->max_cost + 0.5 * target, 1e8, 1e13);
    if (us > MAX_SUBMIT_US && done->n_submit == 1)
        cmd->max_cost = MIN(cmd->max_cost, target);
}

gboolean vlm_cmd_submit(vlm_cmd *cmd, GError **error)
{
    const gint64 start = g_get_monotonic_time();

    g_return_val_if_fail(cmd->recording && cmd->n_sent < G_N_ELEMENTS(cmd->sent), FALSE);
    cmd->recording = FALSE;
    vlm_recorder_barrier(cmd->recorder, TRUE);
    if (!submit(cmd, error))
        return FALSE;
    cmd->sent[cmd->n_sent++] = (sent){ .value = cmd->submitted,
                                       .n_submit = cmd->at,
                                       .cost = cmd->run_cost,
                                       .start = start,
                                       .args_base = cmd->args_base,
                                       .args_bytes = cmd->args_used - cmd->args_base };
    cmd->counters_zero = TRUE;
    return TRUE;
}

gboolean vlm_cmd_wait(vlm_cmd *cmd, GError **error)
{
    g_return_val_if_fail(cmd->n_sent > 0, FALSE);
    const sent done = cmd->sent[0];
    cmd->sent[0] = cmd->sent[1];
    cmd->n_sent--;
    if (!wait_for(cmd, done.value, error))
        return FALSE;
    const gint64 end = g_get_monotonic_time();
    if (cmd->profile)
        vlm_profile_end(cmd->profile);
    adapt(cmd, &done, end - MAX(done.start, cmd->last_end));
    cmd->last_end = end;
    return TRUE;
}

gboolean vlm_cmd_run(vlm_cmd *cmd, GError **error)
{
    if (!vlm_cmd_submit(cmd, error))
        return FALSE;
    while (cmd->n_sent > 0)
        if (!vlm_cmd_wait(cmd, error))
            return FALSE;
    return TRUE;
}
