// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/bench.c — measures the parts of the engine by themselves.
#define G_LOG_DOMAIN "vlm-bench"
#include <string.h>

#include "base/error.h"
#include "runtime/bench.h"
#include "runtime/step.h"

// Sequences that are measured together.
typedef struct bench {
    vlm_engine *engine;
    vlm_kv_seq *seqs[VLM_MAX_SEQUENCES];
    uint32_t n_seq;
    uint32_t pos;
    uint32_t token;
} bench;

static double seconds_since(gint64 start)
{
    return (double) (g_get_monotonic_time() - start) / 1e6;
}

// Begins a step: n_tok rows of every sequence. Tokens walk through the vocabulary.
static gboolean build(bench *b, uint32_t n_tok, gboolean want_logits, GError **error)
{
    vlm_engine *engine = b->engine;
    vlm_batch *batch = engine->batch;
    gboolean ok;

    if (!vlm_cmd_begin(engine->cmd, error))
        return FALSE;
    vlm_batch_clear(batch);
    for (uint32_t i = 0; i < b->n_seq; i++) {
        g_mutex_lock(&engine->lock);
        ok = vlm_kv_seq_prepare(b->seqs[i], engine->cmd, n_tok, error);
        g_mutex_unlock(&engine->lock);
        if (!ok)
            return FALSE;
        const uint32_t slot0 = vlm_kv_seq_append(b->seqs[i], n_tok, batch->slots + batch->n_tok);
        batch->seqs[i] = (vlm_kv_sequence){ .tok0 = batch->n_tok, .n_tok = n_tok, .slot0 = slot0 };
        batch->caches[i] = b->seqs[i];
        for (uint32_t t = 0; t < n_tok; t++) {
            uint32_t *p = batch->positions[batch->n_tok];
            p[0] = p[1] = p[2] = b->pos + t;
            p[3] = 0;
            batch->ids[batch->n_tok++] = b->token++ % engine->model->sizes.n_vocab;
        }
        if (want_logits)
            batch->out_rows[batch->n_out++] = batch->n_tok - 1;
    }
    batch->n_seq = b->n_seq;
    b->pos += n_tok;
    return TRUE;
}

// One step by itself.
static gboolean step(bench *b, uint32_t n_tok, gboolean want_logits, GError **error)
{
    return build(b, n_tok, want_logits, error)
           && vlm_step_send(b->engine, &(vlm_step){ .chooses = FALSE }, error)
           && vlm_cmd_wait(b->engine->cmd, error);
}

// Decodes n_step tokens of every sequence as greedy answers are: with the choice of the likeliest
// token, and the next step sent while the device works on this one where the engine does so.
static gboolean decode(bench *b, uint32_t n_step, GError **error)
{
    vlm_engine *engine = b->engine;
    const uint32_t n_vocab = engine->model->sizes.n_vocab;
    g_autoptr(vlm_sampler) sampler = vlm_sampler_create(&(vlm_sampling){ 0 }, NULL, 0);
    vlm_step st = { .chooses = engine->steps_in_flight > 1 };
    gboolean ok = TRUE, sent = FALSE;  // the step before is on the device

    for (uint32_t i = 0; ok && i < n_step; i++, st.place = !st.place) {
        if (sent && !vlm_cmd_is_free(engine->cmd)) {
            sent = FALSE;
            ok = vlm_cmd_wait(engine->cmd, error);
        }
        if (!ok || !build(b, 1, TRUE, error) || !vlm_step_send(engine, &st, error)) {
            ok = FALSE;
        } else if (!st.chooses) {
            ok = vlm_cmd_wait(engine->cmd, error);
            for (uint32_t row = 0; ok && row < b->n_seq; row++)
                vlm_sampler_choose(sampler, (float *) engine->logits->host + (size_t) row * n_vocab,
                                   n_vocab);
        } else {
            ok = !sent || vlm_cmd_wait(engine->cmd, error);
            sent = TRUE;
        }
    }
    return (!sent || vlm_cmd_wait(engine->cmd, ok ? error : NULL)) && ok;
}

// Prefills n_tok tokens into every sequence, a chunk at a time.
static gboolean prefill(bench *b, uint32_t n_tok, GError **error)
{
    const uint32_t chunk = MAX(b->engine->max_tok / b->n_seq, 1);

    for (uint32_t done = 0; done < n_tok;) {
        const uint32_t n = MIN(MIN(chunk, b->engine->chunk), n_tok - done);
        if (!step(b, n, done + n == n_tok, error))
            return FALSE;
        done += n;
    }
    return TRUE;
}

// Counters of the device, to see what one decoded token costs.
static void count(vlm_device *dev, uint64_t out[7])
{
    out[0] = 0;
    for (guint i = 0; i < VLM_N_KERNEL_MAX; i++)
        out[0] += (uint64_t) g_atomic_int_get(&dev->n_dispatch[i]);
    out[1] = (uint64_t) g_atomic_int_get(&dev->n_alloc);
    out[2] = (uint64_t) g_atomic_int_get(&dev->n_pipeline);
    out[3] = (uint64_t) g_atomic_int_get(&dev->n_wait);
    out[4] = (uint64_t) g_atomic_pointer_get(&dev->n_read);
    out[5] = (uint64_t) g_atomic_int_get(&dev->n_record);
    out[6] = (uint64_t) g_atomic_int_get(&dev->n_replay);
}

// Starts the profile of a part, where one is asked for.
static gboolean start_profile(vlm_engine *engine, const vlm_bench_params *params, GError **error)
{
    return !params->profile || vlm_cmd_set_profiling(engine->cmd, TRUE, error);
}

static void read_profile(vlm_engine *engine, vlm_bench_result *result)
{
    const GArray *rows = vlm_cmd_profile(engine->cmd);

    if (!rows)
        return;
    result->n_stage = MIN(rows->len, VLM_BENCH_MAX_STAGES);
    for (uint32_t i = 0; i < result->n_stage; i++) {
        const vlm_profile_row *row = &g_array_index(rows, vlm_profile_row, i);
        result->stages[i] = (vlm_bench_stage){ row->stage, row->n_dispatch, row->ms };
    }
    vlm_cmd_set_profiling(engine->cmd, FALSE, NULL);
}

static gboolean bench_decoder(bench *b, const vlm_bench_params *params, vlm_bench_result *result,
                              GError **error)
{
    uint64_t before[7], after[7];
    gint64 start;

    // Compilers of CPU drivers run at the first dispatch: warm both shapes up.
    if (!prefill(b, MIN(MAX(params->n_prompt, 2), b->engine->chunk), error) || !decode(b, 2, error)
        || !prefill(b, params->depth, error))
        return FALSE;
    if (params->n_prompt > 0 && !start_profile(b->engine, params, error))
        return FALSE;
    start = g_get_monotonic_time();
    if (!prefill(b, params->n_prompt, error))
        return FALSE;
    result->prefill_seconds = seconds_since(start);
    read_profile(b->engine, result);
    if (params->n_decode > 0 && !start_profile(b->engine, params, error))
        return FALSE;
    count(b->engine->dev, before);
    start = g_get_monotonic_time();
    if (!decode(b, params->n_decode, error))
        return FALSE;
    result->decode_seconds = seconds_since(start);
    read_profile(b->engine, result);
    count(b->engine->dev, after);
    if (params->n_decode > 0) {
        result->decode_dispatches = (after[0] - before[0]) / params->n_decode;
        result->decode_allocs = after[1] - before[1];
        result->decode_pipelines = after[2] - before[2];
        result->decode_waits = (after[3] - before[3]) / params->n_decode;
        result->decode_read = (after[4] - before[4]) / params->n_decode;
        result->decode_records = after[5] - before[5];
        result->decode_replays = after[6] - before[6];
    }
    return TRUE;
}

static gboolean bench_encoder(vlm_engine *engine, const vlm_bench_params *params,
                              vlm_bench_result *result, GError **error)
{
    const vlm_model *model = engine->model;
    const vlm_model_sizes *s = &model->sizes;
    const size_t stride = (size_t) params->width * 3;
    g_autofree uint8_t *rgb = g_try_malloc0(stride * params->height);
    vlm_image image = { .format = VLM_PIXEL_RGB,
                        .width = params->width,
                        .height = params->height,
                        .plane = { rgb },
                        .stride = { (uint32_t) stride } };
    vlm_pixels pixels;
    vlm_plan plan;

    VLM_REQUIRE(rgb != NULL, error);
    for (size_t i = 0; i < stride * params->height; i++)
        rgb[i] = (uint8_t) (i * 7 ^ (i >> 9));
    if (!vlm_pixels_layout(&image, &pixels, error)
        || !model->family->plan(model->data, &(vlm_showing){ 0 }, params->width, params->height,
                                &plan, error))
        return FALSE;
    const uint32_t n_token =
        plan.n_cross > 0 ? plan.n_cross : plan.grid_w * plan.grid_h / (s->merge * s->merge);
    g_autoptr(vlm_buffer) picture =
        vlm_buffer_create(engine->dev, pixels.bytes, VLM_MEMORY_UPLOAD, error);
    g_autoptr(vlm_buffer) rows =
        picture ? vlm_buffer_create(engine->dev, (size_t) n_token * s->n_planes * s->n_embd * 4,
                                    VLM_MEMORY_SCRATCH, error)
                : NULL;
    vlm_picture_group group = { .n_picture = s->group_frames,
                                .grid_h = plan.grid_h,
                                .grid_w = plan.grid_w };
    if (!rows)
        return FALSE;
    vlm_pixels_copy(&image, &pixels, picture->host);
    group.out = rows->addr;
    for (uint32_t i = 0; i < s->group_frames; i++) {
        group.picture[i] = picture->addr;
        group.pixels[i] = &pixels;
    }
    const uint64_t bytes = model->family->encode_bytes(model->data, engine->dev, &group);
    if (!vlm_engine_ensure_encode_scratch(engine, bytes, error))
        return FALSE;
    const uint32_t n_group = (params->n_frames + s->group_frames - 1) / s->group_frames;
    gint64 start = 0;
    for (uint32_t i = 0; i <= n_group; i++) {  // the first is the warm-up
        if (i == 1 && !start_profile(engine, params, error))
            return FALSE;
        if (i == 1)
            start = g_get_monotonic_time();
        if (!vlm_cmd_begin(engine->cmd, error)
            || !model->family->encode(model->data, engine->cmd, &group, engine->encode_scratch,
                                      NULL, error)
            || !vlm_cmd_run(engine->cmd, error))
            return FALSE;
        if (i > 0)
            result->preprocess_seconds +=
                vlm_cmd_stamp_ms(engine->cmd, VLM_STAMP_START, VLM_STAMP_PIXELS) / 1000.0;
    }
    result->encode_seconds = start > 0 ? seconds_since(start) : 0;
    result->n_visual_tokens = n_token;
    read_profile(engine, result);
    return TRUE;
}

gboolean vlm_bench_run(vlm_engine *engine, const vlm_bench_params *params, vlm_bench_result *result,
                       GError **error)
{
    bench b = { .engine = engine, .n_seq = CLAMP(params->n_batch, 1, VLM_MAX_SEQUENCES) };
    const gint64 n_tok = (gint64) params->depth + 2 * (gint64) params->n_prompt + params->n_decode
                         + engine->chunk + 3;
    const gint64 n_page = (n_tok / VLM_PAGE_TOKENS + 2) * b.n_seq;
    gboolean ok = TRUE;

    memset(result, 0, sizeof *result);
    if (engine->info->ranks_labels && params->n_prompt + params->n_decode > 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s has no decoder: measure no prompt and no decoding, only frames",
                    engine->info->path);
        return FALSE;
    }
    g_mutex_lock(&engine->lock);
    if (params->n_prompt + params->n_decode > 0)
        ok = vlm_kv_pool_reserve(engine->pool, n_page, b.n_seq, error);
    for (uint32_t i = 0; ok && engine->pool && i < b.n_seq; i++)
        b.seqs[i] = vlm_kv_seq_create(engine->pool);
    g_mutex_unlock(&engine->lock);
    if (ok && params->n_prompt + params->n_decode > 0)
        ok = bench_decoder(&b, params, result, error);
    if (ok && params->width > 0 && params->height > 0 && params->n_frames > 0)
        ok = bench_encoder(engine, params, result, error);
    vlm_cmd_set_profiling(engine->cmd, FALSE, NULL);
    g_mutex_lock(&engine->lock);
    for (uint32_t i = 0; i < b.n_seq; i++)
        vlm_kv_seq_destroy(b.seqs[i]);
    if (params->n_prompt + params->n_decode > 0)
        vlm_kv_pool_reserve(engine->pool, ok ? -n_page : 0, ok ? -(gint64) b.n_seq : 0, NULL);
    g_mutex_unlock(&engine->lock);
    return ok;
}

typedef struct bench_request {
    const vlm_bench_params *params;
    vlm_bench_result *result;
} bench_request;

// On the scheduler's thread, without the lock.
static gboolean run(vlm_engine *engine, gpointer data, GError **error)
{
    const bench_request *request = data;

    return vlm_bench_run(engine, request->params, request->result, error);
}

gboolean vlm_engine_bench(vlm_engine *engine, const vlm_bench_params *params,
                          vlm_bench_result *result, GError **error)
{
    bench_request request = { .params = params, .result = result };

    if (params->n_frames > 0 && !vlm_engine_check_vision(engine, error))
        return FALSE;
    return vlm_engine_run_job(engine, run, &request, error);
}
