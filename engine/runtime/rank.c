// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/rank.c — sessions of models that rank labels (dual encoders).
//
// A picture is encoded like any other; of its row, a vector of unit length is kept. Answers are
// computed here, one after the other, between the pictures: labels that the session has not seen
// are encoded in batches, then the mean of the pictures is compared with all of them. Memory is
// flat: the newest MAX_PICTURES vectors, and at most MAX_KEPT labels.
#define G_LOG_DOMAIN "vlm-rank"
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "runtime/engine_private.h"

#define MAX_PICTURES    1024u
#define MAX_KEPT        (2 * VLM_MAX_LABELS)
#define MAX_LABEL_BYTES 4096u
#define DEFAULT_NAMED   5u
#define STILL           G_MAXINT64  // the time of an image: it always counts

struct vlm_rank {
    uint32_t dim;
    // [MAX_PICTURES, dim], a ring: `n` of them end before `next`
    float *pictures;
    gint64 *times;
    uint32_t n, next;
    GHashTable *labels;  // text to float[dim], both owned
};

static vlm_rank *rank_new(const vlm_model *model)
{
    vlm_rank *rank = g_new0(vlm_rank, 1);

    rank->dim = model->sizes.n_embd;
    rank->pictures = g_new(float, (gsize) MAX_PICTURES * rank->dim);
    rank->times = g_new(gint64, MAX_PICTURES);
    rank->labels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return rank;
}

static gboolean refuse_turns(GError **error)
{
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "a model that ranks labels has no conversation: it takes no examples and no "
                "answers");
    return FALSE;
}

gboolean vlm_rank_begin(vlm_session *session, const char *examples_key, GError **error)
{
    vlm_engine *engine = session->engine;

    if (examples_key)
        return refuse_turns(error);
    session->rank = rank_new(engine->model);
    session->stats.context_size = 0;
    g_mutex_lock(&engine->lock);
    g_ptr_array_add(engine->sessions, session);
    g_mutex_unlock(&engine->lock);
    return TRUE;
}

gboolean vlm_rank_check_turn(const vlm_session *session, GError **error)
{
    return !session->rank || refuse_turns(error);
}

void vlm_rank_free(vlm_rank *rank)
{
    if (!rank)
        return;
    g_free(rank->pictures);
    g_free(rank->times);
    g_hash_table_unref(rank->labels);
    g_free(rank);
}

void vlm_rank_forget(vlm_rank *rank)
{
    rank->n = rank->next = 0;
}

void vlm_labels_free(vlm_label *labels, uint32_t n)
{
    for (uint32_t i = 0; labels && i < n; i++)
        g_free(labels[i].label);
    g_free(labels);
}

// Copies a vector at unit length.
static void copy_unit(float *to, const float *from, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += (double) from[i] * (double) from[i];
    for (uint32_t i = 0; i < n; i++)
        to[i] = sum > 0 ? (float) ((double) from[i] / sqrt(sum)) : 0;
}

void vlm_rank_take(vlm_session *session, const vlm_item *item)
{
    vlm_rank *rank = session->rank;

    copy_unit(rank->pictures + (gsize) rank->next * rank->dim, item->rows_buffer->host, rank->dim);
    rank->times[rank->next] = item->is_still ? STILL : item->time;
    rank->next = (rank->next + 1) % MAX_PICTURES;
    rank->n = MIN(rank->n + 1, MAX_PICTURES);
}

// ------------------------------------------------------------------------------ the prompt

// What stands before the labels when it is a template: its length up to the colon, or 0.
static size_t template_length(const char *prompt)
{
    const char *colon = strchr(prompt, ':');
    const char *place = strstr(prompt, "{}");
    const char *end = strchr(prompt, '\n');

    return colon && place && place < colon && (!end || colon < end) ? (size_t) (colon - prompt) : 0;
}

// "a photo of a {}" and "cat".
static char *fill_in(const char *template, size_t len, const char *label)
{
    g_autofree char *copy = g_strndup(template, len);
    g_auto(GStrv) parts = g_strsplit(copy, "{}", -1);

    return g_strstrip(g_strjoinv(label, parts));
}

gboolean vlm_rank_split(const char *prompt, GPtrArray **labels, GPtrArray **texts, GError **error)
{
    const size_t template_len = template_length(prompt);
    g_autofree char *list = g_strdup(prompt + template_len + (template_len > 0));
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) filled = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    g_strstrip(list);
    g_auto(GStrv) parts = g_strsplit(list, strchr(list, '\n') ? "\n" : ",", -1);
    for (guint i = 0; parts[i]; i++) {
        const char *label = g_strstrip(parts[i]);

        if (!*label || !g_hash_table_add(seen, (gpointer) label))
            continue;
        if (all->len == VLM_MAX_LABELS || strlen(label) + template_len > MAX_LABEL_BYTES) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "%u labels of up to %u bytes each can be compared, this is more",
                        VLM_MAX_LABELS, MAX_LABEL_BYTES);
            return FALSE;
        }
        g_ptr_array_add(all, g_strdup(label));
        g_ptr_array_add(filled,
                        template_len > 0 ? fill_in(prompt, template_len, label) : g_strdup(label));
    }
    *labels = g_steal_pointer(&all);
    *texts = g_steal_pointer(&filled);
    return TRUE;
}

// ------------------------------------------------------------------------------ the labels

// Labels that are encoded together; n_tok is the longest one's.
typedef struct batch {
    GPtrArray *texts;  // borrowed
    GArray *ids;       // of uint32_t, one label after the other
    GArray *len;       // of uint32_t
    uint32_t n_tok;
} batch;

static gboolean run_batch(vlm_engine *engine, vlm_rank *rank, batch *b, GError **error)
{
    const vlm_model *model = engine->model;
    const vlm_ranker *ranker = model->family->ranker;
    const uint32_t n = b->texts->len;
    g_autofree uint32_t *ids = g_new0(uint32_t, (gsize) n * b->n_tok);
    const uint32_t *from = (const uint32_t *) (void *) b->ids->data;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t len = g_array_index(b->len, uint32_t, i);
        memcpy(ids + (gsize) i * b->n_tok, from, len * sizeof *ids);
        from += len;
    }
    const vlm_labels labels = {
        .ids = ids, .len = (const uint32_t *) (void *) b->len->data, .n_label = n, .n_tok = b->n_tok
    };
    g_autoptr(vlm_buffer) out =
        vlm_buffer_create(engine->dev, (size_t) n * rank->dim * 4, VLM_MEMORY_READBACK, error);
    if (!out
        || !vlm_engine_ensure_encode_scratch(engine, ranker->bytes(model->data, n, b->n_tok), error)
        || !vlm_cmd_begin(engine->cmd, error)
        || !ranker->encode(model->data, engine->cmd, &labels, engine->encode_scratch, out->addr,
                           error)
        || !vlm_cmd_run(engine->cmd, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++) {
        float *unit = g_new(float, rank->dim);
        copy_unit(unit, (const float *) out->host + (gsize) i * rank->dim, rank->dim);
        g_hash_table_insert(rank->labels, g_strdup(g_ptr_array_index(b->texts, i)), unit);
    }
    g_ptr_array_set_size(b->texts, 0);
    g_array_set_size(b->ids, 0);
    g_array_set_size(b->len, 0);
    b->n_tok = 0;
    return TRUE;
}

static gboolean is_cancelled(vlm_session *session, GError **error)
{
    vlm_engine *engine = session->engine;

    g_mutex_lock(&engine->lock);
    const gboolean cancelled = session->cancelled || engine->quit;
    g_mutex_unlock(&engine->lock);
    if (cancelled)
        g_set_error(error, VLM_ERROR, VLM_ERROR_CANCELLED, "the session was cancelled");
    return cancelled;
}

// Encodes those of the texts that the session has no vectors of.
static gboolean encode_texts(vlm_session *session, GPtrArray *texts, uint32_t *n_token,
                             GError **error)
{
    vlm_engine *engine = session->engine;
    const vlm_model *model = engine->model;
    vlm_rank *rank = session->rank;
    g_autoptr(GPtrArray) now = g_ptr_array_new();
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GArray) lens = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    batch b = { .texts = now, .ids = ids, .len = lens };

    if (g_hash_table_size(rank->labels) + texts->len > MAX_KEPT)
        g_hash_table_remove_all(rank->labels);
    for (guint i = 0; i < texts->len; i++) {
        char *text = g_ptr_array_index(texts, i);
        const guint before = ids->len;

        if (g_hash_table_contains(rank->labels, text))
            continue;
        if (!model->family->ranker->tokens(model->data, model->tokenizer, text, ids, error))
            return FALSE;
        const uint32_t len = ids->len - before;
        g_ptr_array_add(now, text);
        g_array_append_val(lens, len);
        b.n_tok = MAX(b.n_tok, len);
        *n_token += len;
        if ((now->len + 1) * b.n_tok > VLM_RANK_ROWS
            && (is_cancelled(session, error) || !run_batch(engine, rank, &b, error)))
            return FALSE;
    }
    return now->len == 0 || run_batch(engine, rank, &b, error);
}

// ------------------------------------------------------------------------------ the answer

// The mean of the pictures that count, at unit length: those from `since` on, or the newest when
// there are none. FALSE: there is no picture at all.
static gboolean mean_picture(const vlm_rank *rank, gint64 since, float *mean)
{
    g_autofree double *sum = g_new0(double, rank->dim);
    uint32_t n = 0;

    for (uint32_t i = 0; i < rank->n; i++) {
        const uint32_t at = (rank->next + MAX_PICTURES - 1 - i) % MAX_PICTURES;
        // Frames come in the order of their times: the newest (i = 0) counts anyway, so that there
        // is one; it is older than `since` only when all are.
        if (rank->times[at] < since && i > 0)
            continue;
        for (uint32_t c = 0; c < rank->dim; c++)
            sum[c] += (double) rank->pictures[(gsize) at * rank->dim + c];
        n++;
    }
    for (uint32_t c = 0; c < rank->dim; c++)
        mean[c] = (float) sum[c];
    copy_unit(mean, mean, rank->dim);
    return n > 0;
}

static int compare_labels(const void *a, const void *b, void *user)
{
    const vlm_label *x = a, *y = b;

    (void) user;
    return (x->logit < y->logit) - (x->logit > y->logit);
}

// Compares the picture with each label; the best first, equal ones in the order of the prompt.
static void compare(vlm_session *session, vlm_answer *answer, const float *picture,
                    GPtrArray *labels, GPtrArray *texts)
{
    const vlm_model *model = session->engine->model;
    const vlm_rank *rank = session->rank;
    const uint32_t n = labels->len;
    g_autofree double *cosines = g_new0(double, n);
    g_autofree double *logits = g_new(double, n);
    g_autofree double *probabilities = g_new(double, n);

    for (uint32_t i = 0; i < n; i++) {
        const float *v = g_hash_table_lookup(rank->labels, g_ptr_array_index(texts, i));
        for (uint32_t c = 0; c < rank->dim; c++)
            cosines[i] += (double) v[c] * (double) picture[c];
    }
    model->family->ranker->score(model->data, cosines, n, logits, probabilities);
    answer->labels = g_new0(vlm_label, n);
    answer->n_label = n;
    for (uint32_t i = 0; i < n; i++)
        answer->labels[i] = (vlm_label){ .label = g_strdup(g_ptr_array_index(labels, i)),
                                         .probability = probabilities[i],
                                         .logit = logits[i] };
    g_qsort_with_data(answer->labels, (gint) n, sizeof *answer->labels, compare_labels, NULL);
}

// Without the lock.
static gboolean rank_answer(vlm_session *session, vlm_answer *answer, GError **error)
{
    g_autoptr(GPtrArray) labels = NULL;
    g_autoptr(GPtrArray) texts = NULL;
    g_autofree float *picture = g_new(float, session->rank->dim);
    uint32_t n_token = 0;

    if (!vlm_rank_split(answer->question, &labels, &texts, error))
        return FALSE;
    if (labels->len == 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s ranks labels: the prompt must list some, as in \"a cat, a dog\"",
                    session->engine->info->path);
        return FALSE;
    }
    if (!mean_picture(session->rank, answer->since, picture)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s compares pictures with labels: there is no picture yet",
                    session->engine->info->path);
        return FALSE;
    }
    if (!encode_texts(session, texts, &n_token, error))
        return FALSE;
    compare(session, answer, picture, labels, texts);
    answer->n_prompt = n_token;
    for (uint32_t i = 0;
         i < MIN(answer->n_label, answer->n_named ? answer->n_named : DEFAULT_NAMED); i++)
        g_string_append_printf(answer->text, "%s%s %.1f %%", i ? ", " : "", answer->labels[i].label,
                               100 * answer->labels[i].probability);
    return TRUE;
}

void vlm_rank_step(vlm_engine *engine)
{
    for (guint i = 0; i < engine->sessions->len; i++) {
        vlm_session *session = g_ptr_array_index(engine->sessions, i);
        vlm_item *item = g_queue_peek_head(&session->items);
        const gint64 start = g_get_monotonic_time();
        GError *error = NULL;

        if (session->cancelled || !item || item->kind != VLM_ITEM_ANSWER)
            continue;
        vlm_answer *answer = item->answer;
        vlm_item_free(g_queue_pop_head(&session->items));
        session->in_step = answer->in_step = TRUE;
        g_mutex_unlock(&engine->lock);
        const gboolean ok = rank_answer(session, answer, &error);
        g_mutex_lock(&engine->lock);
        answer->t_first = answer->t_end = g_get_monotonic_time();
        session->stats.ms_prefill += (double) (answer->t_end - start) / 1000.0;
        session->stats.n_prefilled += answer->n_prompt;
        session->stats.n_generations += ok;
        engine->n_step++;
        if (!ok && g_error_matches(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST) && !engine->failure)
            g_atomic_pointer_set(&engine->failure, g_error_copy(error));
        answer->error = error;
        answer->done = TRUE;
        session->in_step = answer->in_step = FALSE;
        g_cond_broadcast(&engine->changed);
        return;  // the list of sessions may have changed
    }
}
