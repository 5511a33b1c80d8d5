// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/profile.c — see gpu/profile.h.
#define G_LOG_DOMAIN "vlm-command"
#include "gpu/profile.h"

#include "base/error.h"

#define MAX_STAMPS 8192u

struct vlm_profile {
    vlm_device *dev;  // not owned
    VkQueryPool pool;
    uint32_t n;  // stamps of this recording; stamp 0 is its begin
    const char *stages[MAX_STAMPS];
    uint64_t ticks[MAX_STAMPS];
    GArray *rows;  // of vlm_profile_row
};

vlm_profile *vlm_profile_new(vlm_device *dev, GError **error)
{
    VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = MAX_STAMPS,
    };
    VkQueryPool pool = VK_NULL_HANDLE;

    if (dev->timestamp_ns <= 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s has no timestamps to profile with",
                    dev->name);
        return NULL;
    }
    if (!vlm_vk_check(dev, vkCreateQueryPool(dev->device, &info, NULL, &pool), "vkCreateQueryPool",
                      error))
        return NULL;
    vlm_profile *profile = g_new0(vlm_profile, 1);
    profile->dev = dev;
    profile->pool = pool;
    profile->rows = g_array_new(FALSE, FALSE, sizeof(vlm_profile_row));
    return profile;
}

void vlm_profile_free(vlm_profile *profile)
{
    if (!profile)
        return;
    vkDestroyQueryPool(profile->dev->device, profile->pool, NULL);
    g_array_unref(profile->rows);
    g_free(profile);
}

void vlm_profile_begin(vlm_profile *profile, vlm_recorder *recorder)
{
    vlm_recorder_reset_queries(recorder, profile->pool, MAX_STAMPS);
    profile->n = 0;
    vlm_profile_stamp(profile, recorder, NULL);
}

void vlm_profile_stamp(vlm_profile *profile, vlm_recorder *recorder, const char *stage)
{
    if (profile->n == MAX_STAMPS)
        return;
    vlm_recorder_timestamp(recorder, profile->pool, profile->n);
    vlm_recorder_pass(recorder);  // it outlives the queries
    profile->stages[profile->n++] = stage;
}

static vlm_profile_row *find_row(vlm_profile *profile, const char *stage)
{
    for (guint i = 0; i < profile->rows->len; i++) {
        vlm_profile_row *row = &g_array_index(profile->rows, vlm_profile_row, i);
        if (g_str_equal(row->stage, stage))
            return row;
    }
    const vlm_profile_row row = { .stage = stage };
    g_array_append_val(profile->rows, row);
    return &g_array_index(profile->rows, vlm_profile_row, profile->rows->len - 1);
}

void vlm_profile_end(vlm_profile *profile)
{
    if (profile->n < 2
        || vkGetQueryPoolResults(profile->dev->device, profile->pool, 0, profile->n,
                                 profile->n * sizeof profile->ticks[0], profile->ticks,
                                 sizeof profile->ticks[0], VK_QUERY_RESULT_64_BIT)
               != VK_SUCCESS)
        return;
    for (uint32_t i = 1; i < profile->n; i++) {
        vlm_profile_row *row = find_row(profile, profile->stages[i]);
        row->n_dispatch++;
        row->ms += (double) (profile->ticks[i] - profile->ticks[i - 1])
                   * (double) profile->dev->timestamp_ns / 1e6;
    }
}

const GArray *vlm_profile_rows(const vlm_profile *profile)
{
    return profile->rows;
}
