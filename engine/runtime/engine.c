// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/engine.c — opening models, and sharing what is open.
#define G_LOG_DOMAIN "vlm-engine"
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "gpu/pipeline_list.h"
#include "runtime/tune.h"

// Engines that are open, by key; behind table_lock. An engine being opened has a NULL value.
static GMutex table_lock;
static GCond table_changed;
static GHashTable *table;
static gint n_upload;  // atomic

static void engine_free(vlm_engine *engine)
{
    if (engine->thread) {
        g_mutex_lock(&engine->lock);
        engine->quit = TRUE;
        g_cond_signal(&engine->work);
        g_mutex_unlock(&engine->lock);
        g_thread_join(engine->thread);
    }
    vlm_cmd_destroy(engine->cmd);
    vlm_batch_free(engine->batch);
    vlm_buffer_destroy(engine->scratch);
    vlm_buffer_destroy(engine->encode_scratch);
    vlm_buffer_destroy(engine->logits);
    vlm_buffer_destroy(engine->chosen);
    vlm_kv_pool_destroy(engine->pool);
    vlm_model_free(engine->model);
    if (engine->thread && !engine->tried)  // else it has not run, or made more than it needs
        vlm_pipeline_list_save(engine->dev, engine->key);
    vlm_device_destroy(engine->dev);
    vlm_model_info_free(engine->info);
    g_clear_pointer(&engine->sessions, g_ptr_array_unref);
    g_clear_error(&engine->failure);
    g_mutex_clear(&engine->lock);
    g_cond_clear(&engine->work);
    g_cond_clear(&engine->changed);
    g_free(engine->key);
    g_free(engine->tuning);
    g_free(engine);
}

static char *cache_dir(void)
{
    const char *dir = vlm_env_string(VLM_ENV_CACHE_DIR);

    if (dir)
        return *dir ? g_strdup(dir) : NULL;
    return g_build_filename(g_get_user_cache_dir(), "gst-vlm", NULL);
}

static vlm_device *open_device(const vlm_engine_params *params, GError **error)
{
    const char *select =
        params->device && *params->device ? params->device : vlm_env_string(VLM_ENV_DEVICE);
    g_autofree char *dir = cache_dir();
    vlm_device *dev = vlm_device_create(
        &(vlm_device_params){
            .select = select,
            .caps_mask = (uint32_t) vlm_env_number(VLM_ENV_CAPS_MASK),
            .slow_caps = vlm_env_flag(VLM_ENV_SLOW_CAPS),
            .tall_matrices = vlm_env_flag(VLM_ENV_TALL_MATRICES),
            .validate = params->validate || vlm_env_flag(VLM_ENV_VALIDATE),
            .cache_dir = dir,
        },
        error);

    if (dev) {
        dev->fail_alloc_at = (gint) vlm_env_number(VLM_ENV_FAIL_ALLOC);
        dev->fail_submit_at = (gint) vlm_env_number(VLM_ENV_FAIL_SUBMIT);
    }
    return dev;
}

gboolean vlm_engine_check_vision(const vlm_engine *engine, GError **error)
{
    if (engine->model->vision)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "%s was opened without a vision file and can't see pictures; put its mmproj beside "
                "it or say where it is with mmproj, or use another model",
                engine->info->path);
    return FALSE;
}

gboolean vlm_engine_ensure_encode_scratch(vlm_engine *engine, uint64_t bytes, GError **error)
{
    if (engine->encode_scratch && engine->encode_scratch->bytes >= bytes)
        return TRUE;
    g_clear_pointer(&engine->encode_scratch, vlm_buffer_destroy);
    engine->encode_scratch =
        vlm_buffer_create(engine->dev, (size_t) bytes, VLM_MEMORY_SCRATCH, error);
    if (!engine->encode_scratch)
        g_prefix_error(error, "the picture is too large for this device: ");
    return engine->encode_scratch != NULL;
}

// Everything but the weights and the thread.
static gboolean create_work_memory(vlm_engine *engine, vlm_kv_type kv_type, GError **error)
{
    const vlm_model *model = engine->model;

    engine->cmd = vlm_cmd_create(engine->dev, VLM_ARGS_BYTES, error);
    if (!engine->cmd || model->family->ranker)  // the rest is a decoder's
        return engine->cmd != NULL;
    const uint64_t bytes =
        model->family->decode_bytes(model->data, engine->dev, engine->max_tok, VLM_MAX_SEQUENCES);

    engine->pool = vlm_model_kv_pool(model, engine->dev, kv_type);
    engine->batch = vlm_batch_new(engine->max_tok, VLM_MAX_SEQUENCES);
    engine->scratch = vlm_buffer_create(engine->dev, (size_t) bytes, VLM_MEMORY_SCRATCH, error);
    engine->logits =
        engine->scratch
            ? vlm_buffer_create(engine->dev, (size_t) VLM_MAX_SEQUENCES * model->sizes.n_vocab * 4,
                                VLM_MEMORY_READBACK, error)
            : NULL;
    engine->chosen = engine->logits
                         ? vlm_buffer_create(engine->dev, (size_t) 2 * VLM_MAX_SEQUENCES * 4,
                                             VLM_MEMORY_READBACK, error)
                         : NULL;
    return engine->chosen != NULL;
}

static vlm_engine *engine_create(const vlm_engine_params *params, const char *key,
                                 const char *model_path, const char *mmproj_path, GError **error)
{
    vlm_engine *engine = g_new0(vlm_engine, 1);

    g_mutex_init(&engine->lock);
    g_cond_init(&engine->work);
    g_cond_init(&engine->changed);
    engine->n_ref = 1;
    engine->key = g_strdup(key);
    engine->sessions = g_ptr_array_new();
    engine->model = vlm_model_open(model_path, mmproj_path, error);
    engine->info =
        engine->model ? vlm_info_of_model(engine->model, model_path, mmproj_path, error) : NULL;
    engine->dev = engine->info ? open_device(params, error) : NULL;
    if (!engine->dev)
        goto fail;
    engine->chunk =
        vlm_info_step_rows(engine->info, engine->dev->type == VK_PHYSICAL_DEVICE_TYPE_CPU);
    engine->max_tok = engine->chunk + VLM_MAX_SEQUENCES;
    vlm_tune_load(engine);
    vlm_info_set_work(engine->info, engine->model, engine->dev, engine->max_tok);
    vlm_upload_params upload = { .max_tok = engine->max_tok,
                                 .on_progress = params->on_progress,
                                 .user_data = params->user_data };
    if (!vlm_placement_find(engine, params, &upload, error)
        || !vlm_model_upload(engine->model, engine->dev, &upload, error)
        || !create_work_memory(engine, params->kv_type, error))
        goto fail;
    // What moves experts looks at how a step ended before it begins the next one.
    engine->steps_in_flight =
        engine->model->experts || vlm_env_number(VLM_ENV_STEPS_IN_FLIGHT) == 1 ? 1 : 2;
    g_atomic_int_inc(&n_upload);
    vlm_pipeline_list_make(engine->dev, engine->key);
    engine->thread = g_thread_try_new("vlm-scheduler", vlm_scheduler_run, engine, error);
    if (!engine->thread)
        goto fail;
    g_info("%s on %s: %.1f MB of weights, %u rows a step", model_path, engine->dev->name,
           (double) engine->model->weight_bytes / 1e6, engine->max_tok);
    return engine;

fail:
    engine_free(engine);
    return NULL;
}

// What makes two requests the same: the files' contents, the device, the options.
static char *make_key(const vlm_engine_params *params, const char *model, const char *mmproj,
                      GError **error)
{
    g_autoptr(vlm_gguf) text = vlm_gguf_open(model, error);
    g_autoptr(vlm_gguf) vision = text && mmproj ? vlm_gguf_open(mmproj, error) : NULL;

    if (!text || (mmproj && !vision))
        return NULL;
    return g_strdup_printf("%s|%s|%s|%d|%d|%" G_GUINT64_FORMAT, vlm_gguf_identity(text),
                           vision ? vlm_gguf_identity(vision) : "",
                           params->device ? params->device : "", params->kv_type, params->validate,
                           (guint64) vlm_placement_limit(params));
}

vlm_engine *vlm_engine_open(const vlm_engine_params *params, GError **error)
{
    g_autofree char *name =
        params->model && *params->model ? g_strdup(params->model) : vlm_default_model(error);
    g_autofree char *model = NULL, *mmproj = NULL;
    g_autofree char *key = NULL;
    vlm_engine *engine = NULL;

    if (!name || !vlm_model_find(name, params->mmproj, params->vision, &model, &mmproj, error)
        || !(key = make_key(params, model, mmproj, error)))
        return NULL;

    g_mutex_lock(&table_lock);
    if (!table)
        table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    while (g_hash_table_contains(table, key) && !(engine = g_hash_table_lookup(table, key)))
        g_cond_wait(&table_changed, &table_lock);  // somebody else is opening it
    if (engine && !g_atomic_pointer_get(&engine->failure)) {
        engine->n_ref++;
        g_mutex_unlock(&table_lock);
        return engine;
    }
    g_hash_table_replace(table, g_strdup(key), NULL);  // a dead engine is replaced
    g_mutex_unlock(&table_lock);

    engine = engine_create(params, key, model, mmproj, error);
    g_mutex_lock(&table_lock);
    if (engine) {
        g_hash_table_replace(table, g_strdup(key), engine);
    } else {
        g_hash_table_remove(table, key);
    }
    g_cond_broadcast(&table_changed);
    g_mutex_unlock(&table_lock);
    return engine;
}

vlm_engine *vlm_engine_ref(vlm_engine *engine)
{
    g_mutex_lock(&table_lock);
    engine->n_ref++;
    g_mutex_unlock(&table_lock);
    return engine;
}

void vlm_engine_unref(vlm_engine *engine)
{
    gboolean last;

    if (!engine)
        return;
    g_mutex_lock(&table_lock);
    last = --engine->n_ref == 0;
    if (last && g_hash_table_lookup(table, engine->key) == engine)
        g_hash_table_remove(table, engine->key);
    g_mutex_unlock(&table_lock);
    if (last)
        engine_free(engine);
}

const vlm_model_info *vlm_engine_get_info(vlm_engine *engine)
{
    return engine->info;
}

const char *vlm_engine_get_device_name(vlm_engine *engine)
{
    return engine->dev->name;
}

vlm_kv_type vlm_engine_get_kv_type(vlm_engine *engine)
{
    return engine->pool ? vlm_kv_pool_layout(engine->pool)->type : VLM_KV_F16;
}

void vlm_engine_get_stats(vlm_engine *engine, vlm_engine_stats *stats)
{
    vlm_device *dev = engine->dev;
    gint64 used[VLM_N_MEMORY_USE];

    memset(stats, 0, sizeof *stats);
    g_mutex_lock(&dev->queue_lock);
    memcpy(used, dev->bytes_used, sizeof used);
    g_mutex_unlock(&dev->queue_lock);
    stats->weight_bytes = (uint64_t) used[VLM_MEMORY_WEIGHTS];
    stats->kv_bytes = (uint64_t) used[VLM_MEMORY_KV];
    stats->scratch_bytes =
        (uint64_t) (used[VLM_MEMORY_SCRATCH] + used[VLM_MEMORY_UPLOAD] + used[VLM_MEMORY_READBACK]);
    stats->host_bytes = (uint64_t) used[VLM_MEMORY_HOST];
    if (engine->model->experts) {
        vlm_expert_stats experts;
        vlm_expert_store_stats(engine->model->experts, &experts);
        stats->expert_host_bytes = experts.host_bytes;
        stats->expert_slot_bytes = experts.slot_bytes;
        stats->n_expert_hit = experts.n_hit;
        stats->n_expert_miss = experts.n_miss;
        stats->n_expert_moved = experts.n_moved;
    }
    stats->total_bytes = stats->weight_bytes + stats->kv_bytes + stats->scratch_bytes;
    stats->n_upload = (uint64_t) g_atomic_int_get(&n_upload);
    for (guint i = 0; i < VLM_N_KERNEL_MAX; i++)
        stats->n_dispatch += (uint64_t) g_atomic_int_get(&dev->n_dispatch[i]);
    stats->n_submit = (uint64_t) g_atomic_int_get(&dev->n_submit);
    stats->n_wait = (uint64_t) g_atomic_int_get(&dev->n_wait);
    stats->n_alloc = (uint64_t) g_atomic_int_get(&dev->n_alloc);
    stats->n_pipeline = (uint64_t) g_atomic_int_get(&dev->n_pipeline);
    stats->n_record = (uint64_t) g_atomic_int_get(&dev->n_record);
    stats->n_replay = (uint64_t) g_atomic_int_get(&dev->n_replay);
    stats->n_read = (uint64_t) g_atomic_pointer_get(&dev->n_read);
    stats->n_validation = (uint64_t) g_atomic_int_get(&dev->n_validation);
    g_mutex_lock(&engine->lock);
    stats->n_step = engine->n_step;
    stats->n_batched = engine->n_batched;
    stats->n_ahead = engine->n_ahead;
    g_mutex_unlock(&engine->lock);
}

GArray *vlm_engine_tokenize(vlm_engine *engine, const char *text, gboolean parse_special,
                            GError **error)
{
    return vlm_tokenizer_encode(engine->model->tokenizer, text, -1, parse_special, error);
}

gboolean vlm_engine_run_job(vlm_engine *engine,
                            gboolean (*run)(vlm_engine *engine, gpointer data, GError **error),
                            gpointer data, GError **error)
{
    vlm_engine_job job = { .run = run, .data = data };

    g_mutex_lock(&engine->lock);
    while (engine->job)
        g_cond_wait(&engine->changed, &engine->lock);
    engine->job = &job;
    g_cond_signal(&engine->work);
    while (!job.done && !engine->failure)
        g_cond_wait(&engine->changed, &engine->lock);
    if (!job.done) {
        engine->job = NULL;
        job.error = g_error_copy(engine->failure);
    }
    g_mutex_unlock(&engine->lock);
    if (job.error)
        g_propagate_error(error, job.error);
    return job.ok;
}

gboolean vlm_engine_start_token(vlm_engine *engine, uint32_t *id)
{
    return vlm_tokenizer_bos(engine->model->tokenizer, id);
}
