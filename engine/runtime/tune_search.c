// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/tune_search.c — see runtime/tune_search.h.
#define G_LOG_DOMAIN "vlm-bench"
#include "runtime/tune_search.h"

#include <float.h>
#include <math.h>
#include <string.h>

// A value has to be faster by so much, and by more than the noise, than the default, which is known
// to do for many shapes, and must not be slower by so much in any part.
#define MARGIN 0.03

static const char *const part_names[VLM_N_PART] = { "prefill", "decode", "decode of several",
                                                    "decode in a long context", "frames" };

// Parts that a size has a say in.
static const uint32_t parts_of[VLM_N_TUNABLE] = {
    [VLM_TUNE_TILE_PANELS_ONE] = 1u << VLM_PART_DECODE,
    [VLM_TUNE_TILE_PANELS] = 1u << VLM_PART_PREFILL | 1u << VLM_PART_FRAME,
    [VLM_TUNE_TILE_TOKENS] = 1u << VLM_PART_PREFILL | 1u << VLM_PART_FRAME,
    [VLM_TUNE_SPLIT_SUBGROUPS] = 1u << VLM_PART_DECODE | 1u << VLM_PART_BATCH,
    [VLM_TUNE_SPLIT_MOST] = 1u << VLM_PART_DECODE | 1u << VLM_PART_BATCH,
    [VLM_TUNE_DOT_PANELS] = 1u << VLM_PART_BATCH | 1u << VLM_PART_PREFILL,
    [VLM_TUNE_DOT_TOKENS] = 1u << VLM_PART_BATCH | 1u << VLM_PART_PREFILL,
    [VLM_TUNE_MATRIX_FROM] = 1u << VLM_PART_BATCH,
    [VLM_TUNE_MATRIX_TOKENS] = 1u << VLM_PART_PREFILL | 1u << VLM_PART_FRAME,
    [VLM_TUNE_MATRIX_PANELS] = 1u << VLM_PART_PREFILL | 1u << VLM_PART_FRAME,
    [VLM_TUNE_ATTENTION_ITEMS] = 1u << VLM_PART_DEEP,
    [VLM_TUNE_ATTENTION_PAGES] = 1u << VLM_PART_DEEP,
};

// The two shortest measurements of each part, in seconds.
typedef struct timing {
    double best[VLM_N_PART], second[VLM_N_PART];
} timing;

static void timing_clear(timing *time)
{
    for (uint32_t p = 0; p < VLM_N_PART; p++)
        time->best[p] = time->second[p] = DBL_MAX;
}

// Measures one part. `time` NULL: it isn't counted.
static gboolean measure(const vlm_tune_search *s, const uint32_t *values, vlm_part_id part,
                        const char *name, uint32_t value, timing *time, GError **error)
{
    double seconds;

    if (!s->measure(s->data, values, part, name, value, &seconds, error))
        return FALSE;
    if (!time)
        return TRUE;
    time->second[part] = MIN(time->second[part], MAX(time->best[part], seconds));
    time->best[part] = MIN(time->best[part], seconds);
    return TRUE;
}

static uint32_t count_bits(uint32_t mask)
{
    uint32_t n = 0;

    for (; mask; mask &= mask - 1)
        n++;
    return n;
}

// Speed of `now` over that of `before`, the geometric mean over the parts; 1 when it is within what
// is noise, 0 when one of the parts is slower by more than the margin.
static double gain_of(uint32_t parts, const timing *before, const timing *now)
{
    double sum = 0, noise = MARGIN;

    for (uint32_t p = 0; p < VLM_N_PART; p++) {
        if (!(parts & 1u << p))
            continue;
        if (now->best[p] > before->best[p] * (1 + MARGIN))
            return 0;
        sum += log(before->best[p] / now->best[p]);
        if (before->second[p] < DBL_MAX)  // not of a single round
            noise = MAX(
                noise, MAX(before->second[p] / before->best[p], now->second[p] / now->best[p]) - 1);
    }
    const double gain = exp(sum / count_bits(parts));
    return gain > 1 + noise ? gain : 1;
}

// Finds the best value of one size and puts it into `best`.
static gboolean tune_size(const vlm_tune_search *s, vlm_tunable tunable,
                          uint32_t best[VLM_N_TUNABLE], vlm_tune_size *size, GError **error)
{
    const vlm_tunable_info *info = vlm_tunable_get_info(tunable);
    const uint32_t parts = parts_of[tunable] & s->parts;
    const uint32_t otherwise = vlm_tunable_default(s->dev, tunable);
    timing times[VLM_TUNABLE_MAX_VALUES];
    uint32_t values[VLM_N_TUNABLE], def = 0;

    memcpy(values, best, sizeof values);
    for (uint32_t v = 0; v < info->n_value; v++) {
        timing_clear(&times[v]);
        if (info->values[v] == otherwise)
            def = v;
    }
    for (uint32_t round = 0; round <= s->n_round; round++) {
        for (uint32_t v = 0; v < info->n_value; v++) {
            timing *time = round > 0 ? &times[v] : NULL;
            values[tunable] = info->values[v];
            for (uint32_t p = 0; p < VLM_N_PART; p++)
                if ((parts & 1u << p)
                    && !measure(s, values, p, info->name, info->values[v], time, error))
                    return FALSE;
        }
    }
    *size = (vlm_tune_size){ info->name, info->help, otherwise, otherwise, 1 };
    for (uint32_t v = 0; v < info->n_value; v++) {
        const double gain = gain_of(parts, &times[def], &times[v]);
        g_debug("%s=%u: %.3f", info->name, info->values[v], gain);
        if (gain > size->gain) {
            size->gain = gain;
            size->value = info->values[v];
        }
    }
    best[tunable] = size->value;
    return TRUE;
}

// Whether something is faster by more than noise, and nothing slower by more than the margin.
static gboolean is_faster(uint32_t parts, const timing *before, const timing *now)
{
    gboolean faster = FALSE;

    for (uint32_t p = 0; p < VLM_N_PART; p++) {
        const double gain = parts & 1u << p ? gain_of(1u << p, before, now) : 1;
        if (gain == 0)
            return FALSE;
        faster |= gain > 1;
    }
    return faster;
}

// All sizes together against none. Sets result->kept.
static gboolean compare(const vlm_tune_search *s, uint32_t best[VLM_N_TUNABLE],
                        vlm_tune_result *result, GError **error)
{
    uint32_t defaults[VLM_N_TUNABLE];
    timing before, now;

    for (uint32_t i = 0; i < VLM_N_TUNABLE; i++)
        defaults[i] = vlm_tunable_default(s->dev, i);
    if (memcmp(defaults, best, sizeof defaults) == 0)
        return TRUE;
    timing_clear(&before);
    timing_clear(&now);
    for (uint32_t round = 0; round < s->n_round; round++)
        for (uint32_t p = 0; p < VLM_N_PART; p++)
            if ((s->parts & 1u << p)
                && (!measure(s, defaults, p, "all sizes as by default", 0, &before, error)
                    || !measure(s, best, p, "all sizes tuned", 0, &now, error)))
                return FALSE;
    for (uint32_t p = 0; p < VLM_N_PART; p++)
        if (s->parts & 1u << p)
            result->parts[result->n_part++] =
                (vlm_tune_part){ part_names[p], before.best[p], now.best[p] };
    result->kept = is_faster(s->parts, &before, &now);
    if (!result->kept)
        memcpy(best, defaults, sizeof defaults);
    return TRUE;
}

// Whether a size matters to this device, and can be measured.
static gboolean tuned_here(const vlm_tune_search *s, vlm_tunable tunable)
{
    return vlm_tunable_applies(s->dev, tunable) && (parts_of[tunable] & s->parts) != 0;
}

uint32_t vlm_tune_search_count(const vlm_tune_search *search)
{
    uint32_t n = 2 * count_bits(search->parts) * search->n_round;

    for (uint32_t i = 0; i < VLM_N_TUNABLE; i++)
        if (tuned_here(search, i))
            n += vlm_tunable_get_info(i)->n_value * count_bits(parts_of[i] & search->parts)
                 * (search->n_round + 1);
    return n;
}

gboolean vlm_tune_search_run(const vlm_tune_search *search, uint32_t values[VLM_N_TUNABLE],
                             vlm_tune_result *result, GError **error)
{
    G_STATIC_ASSERT(VLM_N_TUNABLE <= VLM_TUNE_MAX_SIZES && VLM_N_PART <= VLM_TUNE_MAX_PARTS);
    memset(result, 0, sizeof *result);
    for (uint32_t i = 0; i < VLM_N_TUNABLE; i++)
        values[i] = vlm_tunable_default(search->dev, i);
    for (uint32_t i = 0; i < VLM_N_TUNABLE; i++)
        if (tuned_here(search, i)
            && !tune_size(search, i, values, &result->sizes[result->n_size++], error))
            return FALSE;
    return compare(search, values, result, error);
}
