// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/score.c — how likely the model finds a text: logarithms of its tokens' probabilities.
#define G_LOG_DOMAIN "vlm-score"
#include <math.h>

#include "base/error.h"
#include "runtime/engine_private.h"

typedef struct score_request {
    const uint32_t *tokens;
    uint32_t n, first;
    double *logprobs;  // [n - first]
} score_request;

// log softmax(logits)[token], in double.
static double logprob(const float *logits, uint32_t n_vocab, uint32_t token)
{
    float top = logits[0];
    double sum = 0;

    for (uint32_t i = 1; i < n_vocab; i++)
        top = MAX(top, logits[i]);
    for (uint32_t i = 0; i < n_vocab; i++)
        sum += exp((double) (logits[i] - top));
    return (double) (logits[token] - top) - log(sum);
}

// Runs tokens [at, at + n_tok) and notes what their logits say about the ones that follow.
static gboolean step(vlm_engine *engine, vlm_kv_seq *seq, const score_request *r, uint32_t at,
                     uint32_t n_tok, GError **error)
{
    const vlm_model *model = engine->model;
    const uint32_t n_vocab = model->sizes.n_vocab;
    vlm_batch *batch = engine->batch;
    gboolean ok;

    if (!vlm_cmd_begin(engine->cmd, error))
        return FALSE;
    vlm_batch_clear(batch);
    g_mutex_lock(&engine->lock);
    ok = vlm_kv_seq_prepare(seq, engine->cmd, n_tok, error);
    g_mutex_unlock(&engine->lock);
    if (!ok)
        return FALSE;
    batch->seqs[0] =
        (vlm_kv_sequence){ .n_tok = n_tok, .slot0 = vlm_kv_seq_append(seq, n_tok, batch->slots) };
    batch->caches[0] = seq;
    batch->n_seq = 1;
    batch->n_tok = n_tok;
    for (uint32_t t = 0; t < n_tok; t++) {
        uint32_t *p = batch->positions[t];
        p[0] = p[1] = p[2] = at + t;
        p[3] = 0;
        batch->ids[t] = r->tokens[at + t];
        if (at + t + 1 >= r->first && at + t + 1 < r->n)
            batch->out_rows[batch->n_out++] = t;
    }
    const vlm_tensor logits = vlm_tensor_make(engine->logits->addr, MAX(batch->n_out, 1), n_vocab);
    if (!model->family->decode(model->data, engine->cmd, batch, vlm_kv_pool_layout(engine->pool),
                               engine->scratch, &logits, NULL, error)
        || !vlm_cmd_run(engine->cmd, error))
        return FALSE;
    const float *row = engine->logits->host;
    for (uint32_t i = 0; i < batch->n_out; i++, row += n_vocab) {
        const uint32_t next = at + batch->out_rows[i] + 1;
        r->logprobs[next - r->first] = logprob(row, n_vocab, r->tokens[next]);
    }
    return TRUE;
}

// On the scheduler's thread, without the lock.
static gboolean run(vlm_engine *engine, gpointer data, GError **error)
{
    const score_request *r = data;
    const uint32_t most =
        MIN(engine->chunk, VLM_MAX_SEQUENCES);  // rows of logits there is room for
    const gint64 n_page = r->n / VLM_PAGE_TOKENS + 2;
    vlm_kv_seq *seq = NULL;
    gboolean ok;

    g_mutex_lock(&engine->lock);
    ok = vlm_kv_pool_reserve(engine->pool, n_page, 1, error);
    if (ok)
        seq = vlm_kv_seq_create(engine->pool);
    g_mutex_unlock(&engine->lock);
    if (!ok)
        return FALSE;
    for (uint32_t at = 0; ok && at + 1 < r->n; at += most)
        ok = step(engine, seq, r, at, MIN(most, r->n - at), error);
    g_mutex_lock(&engine->lock);
    vlm_kv_seq_destroy(seq);
    vlm_kv_pool_reserve(engine->pool, -n_page, -1, NULL);
    g_mutex_unlock(&engine->lock);
    return ok;
}

gboolean vlm_engine_score(vlm_engine *engine, const uint32_t *tokens, uint32_t n, uint32_t first,
                          double *logprobs, GError **error)
{
    score_request request = { .tokens = tokens, .n = n, .first = first };

    if (engine->model->family->ranker) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s has no decoder that could predict a text",
                    engine->info->path);
        return FALSE;
    }
    if (first < 1 || first >= n || n > VLM_MAX_CONTEXT) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "tokens %u to %u of a text can't be scored: each needs one before it, and at "
                    "most %u are allowed",
                    first, n, VLM_MAX_CONTEXT);
        return FALSE;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] >= engine->model->sizes.n_vocab) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "there is no token %u, only %u",
                        tokens[i], engine->model->sizes.n_vocab);
            return FALSE;
        }
    }
    request.logprobs = logprobs;
    return vlm_engine_run_job(engine, run, &request, error);
}
