// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/placement.c — what of a model goes on the device when not all of it fits.
#define G_LOG_DOMAIN "vlm-memory"
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "runtime/engine_private.h"

#define MIB ((uint64_t) 1 << 20)

// The frame that memory is kept for; larger ones take more.
#define FRAME_WIDTH  1280u
#define FRAME_HEIGHT 720u

// Of what a device without a limit has free, for what drivers and others may want yet.
#define SPARE_PART 20u  // a 20th

// Every buffer has its guard bytes: those of the engine, of a session, and one for each piece of
// weights.
#define BUFFER_BYTES (256 * MIB)
#define N_BUFFER     32u

uint64_t vlm_info_frame_bytes(const vlm_model *model)
{
    const vlm_model_sizes *s = &model->sizes;
    const vlm_device nominal = { .subgroup_size = 32 };
    const uint8_t pixel = 0;
    const vlm_image image = { .format = VLM_PIXEL_RGB,
                              .width = FRAME_WIDTH,
                              .height = FRAME_HEIGHT,
                              .plane = { &pixel },
                              .stride = { 3 * FRAME_WIDTH } };
    vlm_pixels pixels;
    vlm_plan plan;

    if (!model->vision || model->family->ranker || !vlm_pixels_layout(&image, &pixels, NULL)
        || !model->family->plan(model->data, &(vlm_showing){ 0 }, FRAME_WIDTH, FRAME_HEIGHT, &plan,
                                NULL))
        return 0;
    vlm_picture_group group = { .n_picture = s->group_frames,
                                .grid_h = plan.grid_h,
                                .grid_w = plan.grid_w };
    for (uint32_t i = 0; i < s->group_frames; i++)
        group.pixels[i] = &pixels;
    const uint64_t n_row =
        plan.n_cross > 0 ? plan.n_cross : plan.grid_h * plan.grid_w / (s->merge * s->merge);
    // the groups that wait, the one that is encoded and the one that is prefilled
    return model->family->encode_bytes(model->data, &nominal, &group)
           + (VLM_MAX_WAITING + 2)
                 * (s->group_frames * (uint64_t) pixels.bytes
                    + n_row * s->n_planes * s->n_embd * 4);
}

static uint32_t default_context(const vlm_model_info *info)
{
    return MIN(VLM_DEFAULT_CONTEXT, MAX(info->context_length, 1));
}

gboolean vlm_model_place(const vlm_model_info *info, vlm_kv_type type, uint32_t context_size,
                         uint64_t memory_bytes, vlm_placement *placement, GError **error)
{
    const uint32_t n_tok = context_size > 0 ? context_size : default_context(info);
    const uint64_t context = vlm_model_context_bytes(info, type, n_tok);
    const uint64_t dense = info->weight_bytes - info->expert_bytes;
    const uint64_t guards = (N_BUFFER + info->weight_bytes / BUFFER_BYTES) * VLM_GUARD_BYTES;
    const uint64_t base = dense + info->scratch_bytes + info->frame_bytes + context + guards;
    const uint64_t least = base + info->expert_table_bytes;

    *placement = (vlm_placement){ .needed_bytes = base, .device_bytes = info->expert_bytes };
    if (memory_bytes >= base && memory_bytes - base >= info->expert_bytes)
        return TRUE;
    *placement = (vlm_placement){ .needed_bytes = least, .host_bytes = info->expert_bytes };
    if (info->expert_bytes == 0 || memory_bytes < least) {
        g_set_error(
            error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY,
            "%s needs %.1f MiB of device memory%s: %.1f MiB of weights, %.1f MiB of work "
            "memory, %.1f MiB for frames and %.1f MiB for a context of %u tokens; there are "
            "%.1f MiB. A smaller context, one kept as q8 or q4, or a smaller model needs "
            "less",
            info->path, (double) (info->expert_bytes > 0 ? least : base) / (double) MIB,
            info->expert_bytes > 0 ? " without its experts" : "", (double) dense / (double) MIB,
            (double) (info->scratch_bytes + guards
                      + (info->expert_bytes > 0 ? info->expert_table_bytes : 0))
                / (double) MIB,
            (double) info->frame_bytes / (double) MIB, (double) context / (double) MIB, n_tok,
            (double) memory_bytes / (double) MIB);
        return FALSE;
    }
    const uint64_t block = info->expert_bytes / ((uint64_t) info->n_layer * info->n_expert);
    placement->device_bytes = (memory_bytes - least) / MAX(block, 1) * block;
    return TRUE;
}

uint64_t vlm_placement_limit(const vlm_engine_params *params)
{
    const uint64_t mib = vlm_env_number(VLM_ENV_DEVICE_MEMORY);

    if (params->device_memory > 0)
        return params->device_memory;
    return mib > UINT64_MAX / MIB ? 0 : mib * MIB;
}

// Says the least limit in the unit that limits are given in.
static void set_limit_error(GError **error, const vlm_engine_params *params,
                            const vlm_placement *placement, const GError *cause)
{
    g_set_error(error, VLM_ERROR, VLM_ERROR_MEMORY_LIMIT,
                "the limit of device memory%s is too low, at least %" G_GUINT64_FORMAT
                " MiB are needed: %s",
                params->device_memory > 0 ? "" : " (VLM_DEVICE_MEMORY)",
                (guint64) ((placement->needed_bytes + MIB - 1) / MIB), cause->message);
}

gboolean vlm_placement_find(vlm_engine *engine, const vlm_engine_params *params,
                            vlm_upload_params *upload, GError **error)
{
    vlm_device *dev = engine->dev;
    const uint64_t limit = vlm_placement_limit(params);
    vlm_model_info *info = engine->info;
    g_autoptr(GError) no_room = NULL;
    vlm_placement placement;

    // (what was read before a device was there is for one with other lanes)
    if (!vlm_model_weight_bytes(engine->model, dev->subgroup_size, &info->weight_bytes,
                                &info->expert_bytes, error))
        return FALSE;
    dev->memory_limit = limit;
    // Without a limit only experts may go to the host, and only when it has memory of its own.
    if (limit == 0 && (info->expert_bytes == 0 || !vlm_memory_has_host(dev)))
        return TRUE;
    const uint64_t have =
        limit > 0 ? limit : vlm_memory_free(dev) - vlm_memory_free(dev) / SPARE_PART;
    if (!vlm_model_place(info, params->kv_type, params->context_size, have, &placement, &no_room)) {
        if (limit > 0) {
            set_limit_error(error, params, &placement, no_room);
            return FALSE;
        }
        g_info("%s", no_room->message);  // what is really there will be seen
    }
    if (placement.host_bytes == 0)
        return TRUE;
    upload->limit_experts = TRUE;
    upload->expert_slot_bytes = placement.device_bytes;
    g_info("%s: %.1f of %.1f MiB of experts fit the device, the rest is read from the host",
           info->path, (double) placement.device_bytes / (double) MIB,
           (double) info->expert_bytes / (double) MIB);
    return TRUE;
}
