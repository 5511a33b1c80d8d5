// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/tune.c — finds the sizes of kernels that a device is fastest with.
#define G_LOG_DOMAIN "vlm-bench"
#include "runtime/tune.h"

#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "gpu/pipeline_list.h"
#include "runtime/bench.h"
#include "runtime/tune_search.h"

typedef struct tuner {
    vlm_engine *engine;
    const vlm_tune_params *params;
    vlm_bench_params parts[VLM_N_PART];
    uint32_t n_done, n_all;
} tuner;

// A measurement with these values, on the scheduler's thread.
typedef struct trial {
    const uint32_t *values;
    const vlm_bench_params *part;
    double seconds;
} trial;

static gboolean set_values(vlm_engine *engine, gpointer data, GError **error)
{
    (void) error;
    memcpy(engine->dev->tuning, data, sizeof engine->dev->tuning);
    return TRUE;
}

static gboolean run_trial(vlm_engine *engine, gpointer data, GError **error)
{
    trial *t = data;
    vlm_bench_result result;

    memcpy(engine->dev->tuning, t->values, sizeof engine->dev->tuning);
    if (!vlm_bench_run(engine, t->part, &result, error))
        return FALSE;
    t->seconds = result.prefill_seconds * (t->part->n_prompt > 0)
                 + result.decode_seconds * (t->part->n_decode > 0)
                 + result.encode_seconds * (t->part->n_frames > 0);
    return TRUE;
}

static gboolean measure(gpointer data, const uint32_t values[VLM_N_TUNABLE], vlm_part_id part,
                        const char *name, uint32_t value, double *seconds, GError **error)
{
    tuner *t = data;
    trial one = { .values = values, .part = &t->parts[part] };

    if (t->params->on_trial)
        t->params->on_trial(name, value, t->n_done, t->n_all, t->params->user_data);
    t->n_done++;
    if (!vlm_engine_run_job(t->engine, run_trial, &one, error))
        return FALSE;
    *seconds = one.seconds;
    return TRUE;
}

// What is measured on this device with this model. Returns a bit for each part.
static uint32_t find_parts(tuner *t)
{
    const vlm_tune_params *p = t->params;
    const vlm_engine *engine = t->engine;
    const gboolean cpu = engine->dev->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    const uint32_t n_prompt = p->n_prompt ? p->n_prompt : cpu ? 128 : 1024;
    const uint32_t n_decode = p->n_decode ? p->n_decode : cpu ? 16 : 64;
    uint32_t have = 0;

    if (!engine->info->ranks_labels) {
        t->parts[VLM_PART_PREFILL] = (vlm_bench_params){ .n_prompt = n_prompt };
        t->parts[VLM_PART_DECODE] = (vlm_bench_params){ .n_decode = n_decode };
        t->parts[VLM_PART_BATCH] = (vlm_bench_params){ .n_decode = n_decode,
                                                       .n_batch = p->n_batch ? p->n_batch
                                                                  : cpu      ? 4
                                                                             : 32 };
        t->parts[VLM_PART_DEEP] = (vlm_bench_params){ .n_decode = n_decode,
                                                      .depth = p->depth ? p->depth
                                                               : cpu    ? 1024
                                                                        : 16384 };
        have = 1u << VLM_PART_PREFILL | 1u << VLM_PART_DECODE | 1u << VLM_PART_BATCH
               | 1u << VLM_PART_DEEP;
    }
    if (engine->model->vision) {
        t->parts[VLM_PART_FRAME] =
            (vlm_bench_params){ .width = p->width ? p->width : 1280,
                                .height = p->height ? p->height : 720,
                                .n_frames = engine->model->sizes.group_frames };
        have |= 1u << VLM_PART_FRAME;
    }
    return have;
}

char *vlm_tune_name(const vlm_engine *engine)
{
    const vlm_model_info *info = engine->info;

    return g_strdup_printf("%s|%s|%u|%u|%u|%" G_GUINT64_FORMAT, info->architecture,
                           info->quantisation, info->n_layer, info->n_embd, info->vision_embd,
                           info->n_parameters);
}

// Lets the engine work with these values, and tells so.
static gboolean use_values(vlm_engine *engine, const uint32_t *values, GError **error)
{
    uint32_t copy[VLM_N_TUNABLE];

    memcpy(copy, values, sizeof copy);
    if (!vlm_engine_run_job(engine, set_values, copy, error))
        return FALSE;
    g_mutex_lock(&engine->lock);
    g_free(engine->tuning);
    engine->tuning = vlm_tuning_describe(engine->dev);
    g_mutex_unlock(&engine->lock);
    return TRUE;
}

gboolean vlm_engine_tune(vlm_engine *engine, const vlm_tune_params *params, vlm_tune_result *result,
                         GError **error)
{
    tuner t = { .engine = engine, .params = params };
    vlm_tune_search search = { .dev = engine->dev,
                               .parts = find_parts(&t),
                               .n_round = params->n_round ? params->n_round : 3,
                               .measure = measure,
                               .data = &t };
    g_autofree char *name = vlm_tune_name(engine);
    uint32_t before[VLM_N_TUNABLE], best[VLM_N_TUNABLE];

    memset(result, 0, sizeof *result);
    VLM_REQUIRE(params->n_batch <= VLM_MAX_SEQUENCES && params->n_round <= 1000, error);
    memcpy(before, engine->dev->tuning, sizeof before);
    t.n_all = vlm_tune_search_count(&search);
    engine->tried = TRUE;
    if (!vlm_tune_search_run(&search, best, result, error) || !use_values(engine, best, error)
        || !vlm_tuning_save(engine->dev, name, result->kept ? &result->path : NULL, error)) {
        use_values(engine, before, NULL);
        return FALSE;
    }
    vlm_pipeline_list_forget(engine->dev, engine->key);
    return TRUE;
}

gboolean vlm_engine_untune(vlm_engine *engine, GError **error)
{
    g_autofree char *name = vlm_tune_name(engine);
    uint32_t defaults[VLM_N_TUNABLE];

    for (uint32_t i = 0; i < VLM_N_TUNABLE; i++)
        defaults[i] = vlm_tunable_default(engine->dev, i);
    if (!use_values(engine, defaults, error) || !vlm_tuning_save(engine->dev, name, NULL, error))
        return FALSE;
    vlm_pipeline_list_forget(engine->dev, engine->key);
    return TRUE;
}

void vlm_tune_load(vlm_engine *engine)
{
    const char *wish = vlm_env_string(VLM_ENV_TUNING);
    g_autofree char *name = vlm_tune_name(engine);
    g_autoptr(GError) error = NULL;

    if (!wish || !*wish)
        vlm_tuning_load(engine->dev, name);
    else if (!g_str_equal(wish, "off") && !vlm_tuning_parse(engine->dev, wish, &error))
        g_warning("VLM_TUNING=%s is not used: %s", wish, error->message);
    engine->tuning = vlm_tuning_describe(engine->dev);
    if (*engine->tuning)
        g_info("tuned: %s", engine->tuning);
}

char *vlm_engine_get_tuning(vlm_engine *engine)
{
    g_mutex_lock(&engine->lock);
    char *tuning = g_strdup(engine->tuning);
    g_mutex_unlock(&engine->lock);
    return tuning;
}
