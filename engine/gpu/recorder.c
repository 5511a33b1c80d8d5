// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/recorder.c — see gpu/recorder.h.
#define G_LOG_DOMAIN "vlm-command"
#include "gpu/recorder.h"

#include <string.h>

#define MAX_KEPT 16u  // command buffers, unless more are in use

typedef enum op_kind {
    OP_DISPATCH,
    OP_BARRIER,
    OP_BARRIER_TO_HOST,
    OP_COPY,
    OP_ZERO,
    OP_RESET_QUERIES,
    OP_TIMESTAMP,
} op_kind;

// One command; what it doesn't need is zero, so that lists compare as memory.
typedef struct op {
    uint32_t kind;
    uint32_t n[3];  // workgroups; a query, or how many
    VkPipeline pipeline;
    VkQueryPool pool;
    VkBuffer dst, src;
    uint64_t args;
    uint64_t dst_offset, src_offset, bytes;
} op;

G_STATIC_ASSERT(sizeof(op) == 16 + 4 * sizeof(VkBuffer) + 32);  // no padding to compare

// A command buffer and the list it was made of.
typedef struct made {
    VkCommandBuffer buffer;
    GArray *ops;      // of op; empty: not kept
    uint64_t number;  // of its last submit
} made;

struct vlm_recorder {
    vlm_device *dev;  // not owned
    VkCommandPool pool;
    GArray *ops;  // of op
    gboolean passing;
    GArray *made;  // of made
};

static void clear_made(gpointer data)
{
    g_array_unref(((made *) data)->ops);
}

vlm_recorder *vlm_recorder_new(vlm_device *dev, GError **error)
{
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = dev->queue_family,
    };
    VkCommandPool pool = VK_NULL_HANDLE;

    if (!vlm_vk_check(dev, vkCreateCommandPool(dev->device, &info, NULL, &pool),
                      "vkCreateCommandPool", error))
        return NULL;
    vlm_recorder *r = g_new0(vlm_recorder, 1);
    r->dev = dev;
    r->pool = pool;
    r->ops = g_array_new(FALSE, TRUE, sizeof(op));
    r->made = g_array_new(FALSE, TRUE, sizeof(made));
    g_array_set_clear_func(r->made, clear_made);
    return r;
}

void vlm_recorder_free(vlm_recorder *r)
{
    if (!r)
        return;
    vkDestroyCommandPool(r->dev->device, r->pool, NULL);  // frees the command buffers
    g_array_unref(r->ops);
    g_array_unref(r->made);
    g_free(r);
}

void vlm_recorder_clear(vlm_recorder *r)
{
    g_array_set_size(r->ops, 0);
    r->passing = FALSE;
}

void vlm_recorder_pass(vlm_recorder *r)
{
    r->passing = TRUE;
}

static op *add(vlm_recorder *r, op_kind kind)
{
    g_array_set_size(r->ops, r->ops->len + 1);  // zeros
    op *o = &g_array_index(r->ops, op, r->ops->len - 1);
    o->kind = kind;
    return o;
}

void vlm_recorder_dispatch(vlm_recorder *r, VkPipeline pipeline, uint64_t args,
                           const uint32_t groups[3])
{
    op *o = add(r, OP_DISPATCH);

    o->pipeline = pipeline;
    o->args = args;
    memcpy(o->n, groups, sizeof o->n);
}

void vlm_recorder_barrier(vlm_recorder *r, gboolean to_host)
{
    const op_kind kind = to_host ? OP_BARRIER_TO_HOST : OP_BARRIER;

    if (r->ops->len == 0 || g_array_index(r->ops, op, r->ops->len - 1).kind != kind)
        add(r, kind);
}

void vlm_recorder_copy(vlm_recorder *r, VkBuffer dst, uint64_t dst_offset, VkBuffer src,
                       uint64_t src_offset, uint64_t bytes)
{
    op *o = add(r, OP_COPY);

    o->dst = dst;
    o->src = src;
    o->dst_offset = dst_offset;
    o->src_offset = src_offset;
    o->bytes = bytes;
    r->passing = TRUE;
}

void vlm_recorder_zero(vlm_recorder *r, VkBuffer dst, uint64_t offset, uint64_t bytes)
{
    op *o = add(r, OP_ZERO);

    o->dst = dst;
    o->dst_offset = offset;
    o->bytes = bytes;
    r->passing = TRUE;
}

void vlm_recorder_reset_queries(vlm_recorder *r, VkQueryPool pool, uint32_t n)
{
    op *o = add(r, OP_RESET_QUERIES);

    o->pool = pool;
    o->n[0] = n;
}

void vlm_recorder_timestamp(vlm_recorder *r, VkQueryPool pool, uint32_t i)
{
    op *o = add(r, OP_TIMESTAMP);

    o->pool = pool;
    o->n[0] = i;
}

static void record_barrier(VkCommandBuffer buffer, gboolean to_host)
{
    const VkPipelineStageFlags stages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkAccessFlags device = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT
                                 | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = to_host ? VK_ACCESS_HOST_READ_BIT : device,
    };

    vkCmdPipelineBarrier(buffer, stages, to_host ? VK_PIPELINE_STAGE_HOST_BIT : stages, 0, 1,
                         &barrier, 0, NULL, 0, NULL);
}

static void record(const vlm_recorder *r, VkCommandBuffer buffer)
{
    VkPipeline bound = VK_NULL_HANDLE;

    for (guint i = 0; i < r->ops->len; i++) {
        const op *o = &g_array_index(r->ops, op, i);
        const VkBufferCopy region = { o->src_offset, o->dst_offset, o->bytes };
        switch ((op_kind) o->kind) {
        case OP_DISPATCH:
            if (o->pipeline != bound)
                vkCmdBindPipeline(buffer, VK_PIPELINE_BIND_POINT_COMPUTE, o->pipeline);
            bound = o->pipeline;
            vkCmdPushConstants(buffer, r->dev->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                               sizeof o->args, &o->args);
            vkCmdDispatch(buffer, o->n[0], o->n[1], o->n[2]);
            break;
        case OP_BARRIER:
        case OP_BARRIER_TO_HOST:
            record_barrier(buffer, o->kind == OP_BARRIER_TO_HOST);
            break;
        case OP_COPY:
            vkCmdCopyBuffer(buffer, o->src, o->dst, 1, &region);
            break;
        case OP_ZERO:
            vkCmdFillBuffer(buffer, o->dst, o->dst_offset, o->bytes, 0);
            break;
        case OP_RESET_QUERIES:
            vkCmdResetQueryPool(buffer, o->pool, 0, o->n[0]);
            break;
        case OP_TIMESTAMP:
            vkCmdWriteTimestamp(buffer, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, o->pool, o->n[0]);
            break;
        }
    }
}

static gboolean same_list(const GArray *a, const GArray *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len * sizeof(op)) == 0;
}

// The one that was made of this list, if the device is done with it.
static made *find(const vlm_recorder *r, uint64_t n_done)
{
    for (guint i = 0; i < r->made->len; i++) {
        made *m = &g_array_index(r->made, made, i);
        if (m->number <= n_done && same_list(m->ops, r->ops))
            return m;
    }
    return NULL;
}

// One to record over: one that isn't kept, a new one, the one that was not used for longest.
static made *take(vlm_recorder *r, uint64_t n_done, GError **error)
{
    made *oldest = NULL;
    VkCommandBufferAllocateInfo alloc = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = r->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    made fresh = { 0 };

    for (guint i = 0; i < r->made->len; i++) {
        made *m = &g_array_index(r->made, made, i);
        if (m->number > n_done)
            continue;
        if (m->ops->len == 0)
            return m;
        if (!oldest || m->number < oldest->number)
            oldest = m;
    }
    if (oldest && r->made->len >= MAX_KEPT)
        return oldest;
    if (!vlm_vk_check(r->dev, vkAllocateCommandBuffers(r->dev->device, &alloc, &fresh.buffer),
                      "vkAllocateCommandBuffers", error))
        return NULL;
    fresh.ops = g_array_new(FALSE, FALSE, sizeof(op));
    g_array_append_val(r->made, fresh);
    return &g_array_index(r->made, made, r->made->len - 1);
}

VkCommandBuffer vlm_recorder_close(vlm_recorder *r, uint64_t n_done, uint64_t number,
                                   GError **error)
{
    made *m = r->passing ? NULL : find(r, n_done);
    VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = r->passing ? VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT : 0,
    };

    if (m) {
        g_atomic_int_inc(&r->dev->n_replay);
        m->number = number;
        return m->buffer;
    }
    m = take(r, n_done, error);
    if (!m)
        return VK_NULL_HANDLE;
    g_array_set_size(m->ops, 0);  // until it is whole
    if (!vlm_vk_check(r->dev, vkBeginCommandBuffer(m->buffer, &begin), "vkBeginCommandBuffer",
                      error))
        return VK_NULL_HANDLE;
    record(r, m->buffer);
    if (!vlm_vk_check(r->dev, vkEndCommandBuffer(m->buffer), "vkEndCommandBuffer", error))
        return VK_NULL_HANDLE;
    if (!r->passing)
        g_array_append_vals(m->ops, r->ops->data, r->ops->len);
    g_atomic_int_inc(&r->dev->n_record);
    m->number = number;
    return m->buffer;
}
