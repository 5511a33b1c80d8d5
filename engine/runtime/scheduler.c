// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/scheduler.c — one thread per engine that does the work of all sessions, step by step.
//
// A step first encodes pictures, at most one group per session, then runs the decoder once over a
// batch: one token for every answer that is being decoded, then pieces of prompts and films, one
// item per session and step, under a budget of rows (continuous batching with chunked prefill, as
// in Yu et al. 2022 and Agrawal et al. 2024). Pieces end where items end or at multiples of the
// chunk size, so that what is computed together for one session doesn't depend on timing.
#define G_LOG_DOMAIN "vlm-sched"
#include <string.h>

#include "base/error.h"
#include "runtime/step.h"

// What a turn of the loop has to encode.
typedef struct encode_list {
    GPtrArray *items;     // of vlm_item
    GPtrArray *sessions;  // of each
} encode_list;

// ------------------------------------------------------------------------------ planning

static void fail_session(vlm_session *session, GError *error)
{
    g_clear_error(&session->failure);
    session->failure = error;
}

// The device is gone. Atomic: vlm_engine_open() looks at it without the engine's lock.
static void fail_engine(vlm_engine *engine, const GError *error)
{
    if (!engine->failure)
        g_atomic_pointer_set(&engine->failure, g_error_copy(error));
}

// A unit is kept as twice its tokens, plus 1 for a group of the film.
static void remember_unit(vlm_session *session, uint32_t n_tok, gboolean is_film)
{
    g_queue_push_tail(&session->units, GUINT_TO_POINTER(n_tok << 1 | (is_film ? 1 : 0)));
    session->n_film += is_film;
}

static gboolean is_film(gconstpointer unit)
{
    return GPOINTER_TO_UINT(unit) & 1;
}

// Lets go of the oldest unit.
static void forget_unit(vlm_session *session)
{
    const gpointer unit = g_queue_pop_head(&session->units);
    const uint32_t n = GPOINTER_TO_UINT(unit) >> 1;

    session->n_film -= is_film(unit);
    vlm_kv_seq_evict(session->seq, n);
    session->stats.n_evicted += n;
}

// Makes a place for one more group of the film, for families that want few of them in the context.
// What lies before the film's oldest group keeps it: only the oldest can go. When nothing is left
// but the prefix, positions start over behind it.
static void trim_film(vlm_session *session)
{
    const uint32_t most = session->engine->model->sizes.film_groups;

    while (most > 0 && session->n_film >= most && is_film(g_queue_peek_head(&session->units))) {
        forget_unit(session);
        if (g_queue_is_empty(&session->units))
            session->next_pos = session->prefix_pos;
    }
}

// Lets go of the oldest of the film until `n_tok` more tokens fit.
static gboolean make_room(vlm_session *session, uint32_t n_tok, GError **error)
{
    const uint32_t budget = session->context_size - session->reserve;

    while (vlm_kv_seq_n_tokens(session->seq) + n_tok > budget) {
        if (g_queue_is_empty(&session->units)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "%u tokens in one piece do not fit a context of %u (%u of them kept for "
                        "answers)",
                        n_tok, session->context_size, session->reserve);
            return FALSE;
        }
        forget_unit(session);
    }
    return TRUE;
}

// A picture has been read, or nobody will: its memory is for the next one.
static void give_back(vlm_session *session, vlm_buffer *picture)
{
    if (picture->imported)
        vlm_buffer_destroy(picture);
    else
        g_ptr_array_add(session->store, picture);
}

// Drops the item at the head of the queue.
static void drop_head(vlm_session *session)
{
    vlm_item *item = g_queue_pop_head(&session->items);

    if (item->n_picture > 0 && !item->encoded)
        session->n_waiting--;
    for (uint32_t i = 0; i < item->n_picture; i++)
        if (item->picture[i])
            give_back(session, g_steal_pointer(&item->picture[i]));
    if (item->rows_buffer)
        g_ptr_array_add(session->store, g_steal_pointer(&item->rows_buffer));
    vlm_item_free(item);
}

// Forks the film for an answer taken from the queue.
static void start_answer(vlm_session *session, vlm_answer *answer)
{
    const uint32_t n_film = vlm_kv_seq_n_tokens(session->seq);

    if (session->failure) {  // what was shown before is missing, and who waits is the next caller
        answer->done = TRUE;
        answer->error = g_steal_pointer(&session->failure);
        return;
    }
    answer->n_context = n_film + answer->n_prompt;
    if (answer->n_context + 1 > session->context_size) {
        answer->done = TRUE;
        g_set_error(&answer->error, VLM_ERROR, VLM_ERROR_ARGS,
                    "the prompt has %u tokens, too many for a context of %u with %u tokens of film",
                    answer->n_prompt, session->context_size, n_film);
        return;
    }
    answer->seq = answer->keep ? session->seq : vlm_kv_seq_fork(session->seq);
    answer->next_pos = session->next_pos;
    answer->started = TRUE;
    session->stats.n_generations++;
    g_ptr_array_add(session->answers, answer);
}

// Brings the queue to a state where its head, if any, is an item to prefill; starts answers.
static void settle_queue(vlm_session *session)
{
    vlm_item *item;

    while (!vlm_session_is_held(session) && (item = g_queue_peek_head(&session->items))
           && item->kind == VLM_ITEM_ANSWER) {
        vlm_answer *answer = item->answer;
        g_queue_pop_head(&session->items);
        vlm_item_free(item);
        start_answer(session, answer);
        if (answer->done)
            g_cond_broadcast(&session->engine->changed);
    }
}

// The item to prefill next, NULL when there is none that is ready.
static vlm_item *ready_item(vlm_session *session)
{
    vlm_item *item = vlm_session_is_held(session) ? NULL : g_queue_peek_head(&session->items);
    GError *error = NULL;

    if (!item || item->kind == VLM_ITEM_ANSWER || (item->n_picture > 0 && !item->encoded))
        return NULL;
    if (!item->charged && item->n_picture > 0 && !item->is_still) {
        if (item->film == session->film_seen)  // another film doesn't take the place of this one
            trim_film(session);
        session->film_seen = item->film;
    }
    if (!item->charged && !item->is_prefix && !make_room(session, vlm_item_n_rows(item), &error)) {
        fail_session(session, error);
        drop_head(session);
        return NULL;
    }
    item->charged = TRUE;
    return item;
}

// ------------------------------------------------------------------------------ building

// Fails every answer of a session that could not be given memory.
static void fail_answers(vlm_session *session, const GError *error)
{
    for (guint i = 0; i < session->answers->len; i++) {
        vlm_answer *answer = g_ptr_array_index(session->answers, i);
        answer->done = TRUE;
        if (!answer->error)
            answer->error = g_error_copy(error);
    }
    g_ptr_array_set_size(session->answers, 0);
}

// Adds what one session has to do in this step: answers (first `decoding`, then prompts), film.
static void add_session(vlm_engine *engine, vlm_step *st, vlm_session *session, gboolean decoding)
{
    g_autoptr(GError) error = NULL;
    const guint before = st->rows->len;
    vlm_item *item = NULL;

    for (guint i = 0; i < session->answers->len && !error; i++) {
        vlm_answer *answer = g_ptr_array_index(session->answers, i);
        if (!answer->done && answer->decoding == decoding)
            vlm_step_add_answer(engine, st, answer, &error);
    }
    if (!decoding && !error) {
        item = ready_item(session);
        if (item)
            vlm_step_add_item(engine, st, session, item, &error);
    }
    if (error) {
        fail_answers(session, error);
        if (item)
            drop_head(session);
        fail_session(session, g_error_copy(error));
    }
    if (st->rows->len > before)
        session->in_step = TRUE;
}

// ------------------------------------------------------------------------------ encoding

// The next group of a session that the encoder hasn't seen: only the head of its queue, so that
// rows never wait long.
static vlm_item *next_to_encode(vlm_session *session)
{
    vlm_item *item = g_queue_peek_head(&session->items);

    return item && item->kind == VLM_ITEM_TOKENS && item->n_picture > 0 && !item->encoded ? item
                                                                                          : NULL;
}

static gboolean encode_item(vlm_engine *engine, vlm_item *item, GError **error)
{
    const vlm_model *model = engine->model;
    vlm_picture_group group = { .n_picture = item->n_picture,
                                .grid_h = item->grid_h,
                                .grid_w = item->grid_w,
                                .is_still = item->is_still,
                                .tile = item->tile,
                                .out = item->rows_buffer->addr };

    for (uint32_t i = 0; i < item->n_picture; i++) {
        group.picture[i] = item->picture[i]->addr;
        group.pixels[i] = &item->pixels[i];
    }
    const uint64_t bytes = model->family->encode_bytes(model->data, engine->dev, &group);
    return vlm_engine_ensure_encode_scratch(engine, bytes, error)
           && vlm_cmd_begin(engine->cmd, error)
           && model->family->encode(model->data, engine->cmd, &group, engine->encode_scratch, NULL,
                                    error)
           && vlm_cmd_run(engine->cmd, error);
}

// Without the lock: encodes the groups of the step; a failure ends up in the group's session.
static void encode_all(vlm_engine *engine, const encode_list *list)
{
    for (guint i = 0; i < list->items->len; i++) {
        vlm_item *item = g_ptr_array_index(list->items, i);
        vlm_session *session = g_ptr_array_index(list->sessions, i);
        GError *error = NULL;
        const gint64 start = g_get_monotonic_time();
        const gboolean ok = encode_item(engine, item, &error);
        const double ms = (double) (g_get_monotonic_time() - start) / 1000.0;
        const double ms_pixels =
            ok ? vlm_cmd_stamp_ms(engine->cmd, VLM_STAMP_START, VLM_STAMP_PIXELS) : 0;

        g_mutex_lock(&engine->lock);
        session->stats.ms_preprocess += ms_pixels;
        session->stats.ms_encode += ms - ms_pixels;
        session->n_waiting--;
        item->encoded = TRUE;
        if (ok) {
            session->stats.n_frames += item->n_picture;
            for (uint32_t p = 0; p < item->n_picture; p++)
                give_back(session, g_steal_pointer(&item->picture[p]));
            if (session->rank) {  // a picture is nothing but its vector
                vlm_rank_take(session, item);
                drop_head(session);
            }
        } else {
            fail_session(session, error);
            drop_head(session);
        }
        session->in_step = FALSE;
        g_cond_broadcast(&engine->changed);
        g_mutex_unlock(&engine->lock);
    }
}

// ------------------------------------------------------------------------------ results

// An answer that stays in the session: its last token, the turn's end and the next turn's start
// go into the film, and the whole exchange becomes a unit.
static void keep_answer(vlm_session *session, vlm_answer *answer)
{
    const vlm_protocol *protocol = &session->protocol;
    const vlm_tokenizer *tok = session->engine->model->tokenizer;
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    vlm_item *item = g_new0(vlm_item, 1);
    gsize len = 0;

    session->next_pos = answer->next_pos;
    // an answer cut off at its length has not been fed its last token yet
    const guint n_fed = answer->tokens->len - (answer->finish == VLM_FINISH_LENGTH ? 1 : 0);
    remember_unit(session, answer->n_prompt + n_fed, FALSE);
    if (answer->finish == VLM_FINISH_LENGTH)
        g_array_append_val(out, answer->last_token);
    vlm_tokenizer_append(tok, protocol->answer_close, -1, TRUE, out, NULL);
    vlm_tokenizer_append(tok, protocol->user_next ? protocol->user_next : protocol->user_open, -1,
                         TRUE, out, NULL);
    item->pre = g_array_steal(out, &len);
    item->n_pre = (uint32_t) len;
    if (len > 0)
        g_queue_push_head(&session->items, item);
    else
        vlm_item_free(item);
    session->stats.context_used = vlm_kv_seq_n_tokens(session->seq);
}

// `next`: the step ahead, which knows nothing of how this one ended; NULL = there is none. `i`: the
// row's number.
static void take_answer_row(vlm_engine *engine, const vlm_step *st, guint i, vlm_step *next,
                            float *logits)
{
    const vlm_step_row *row = &g_array_index(st->rows, vlm_step_row, i);
    vlm_answer *answer = row->answer;
    vlm_session *session = row->session;

    answer->in_step = FALSE;
    answer->next_pos = row->next_pos;
    if (!answer->decoding)
        answer->n_done += row->n_tok;
    if (!row->has_out || answer->done)
        return;
    if (st->chooses)
        vlm_answer_take(answer, vlm_step_token(engine, st, i));
    else
        vlm_answer_step(answer, logits, engine->model->sizes.n_vocab);
    session->stats.n_generated++;
    if (!answer->done && row->n_context + 1 > session->context_size) {
        answer->done = TRUE;
        answer->finish = VLM_FINISH_LENGTH;
        answer->t_end = g_get_monotonic_time();
    }
    if (answer->done) {
        if (next)
            vlm_step_drop(next, answer);
        g_ptr_array_remove(session->answers, answer);
        if (answer->keep)
            keep_answer(session, answer);
    }
}

static void take_item_row(const vlm_step_row *row)
{
    vlm_session *session = row->session;
    vlm_item *item = row->item;
    const uint32_t n_tok = vlm_item_n_rows(item);

    session->next_pos = row->next_pos;
    session->stats.n_prefilled += row->n_tok;
    item->n_done += row->n_tok;
    if (item->n_done == n_tok) {
        if (item->ends_prefix) {
            vlm_kv_seq_seal_prefix(session->seq);
            session->prefix_pos = session->next_pos;
        } else if (!item->is_prefix) {
            remember_unit(session, n_tok, item->n_picture > 0 && !item->is_still);
        }
        drop_head(session);
    }
    session->stats.context_used = vlm_kv_seq_n_tokens(session->seq);
}

// With the lock held: hands out what the step computed.
static void take_results(vlm_engine *engine, vlm_step *st, vlm_step *next, double ms)
{
    float *logits = engine->logits->host;
    const vlm_session *first = NULL;
    gboolean several = FALSE;

    for (guint i = 0; i < st->rows->len; i++) {
        const vlm_step_row *row = &g_array_index(st->rows, vlm_step_row, i);
        const double share = ms * row->n_tok / st->n_tok;
        if (!row->session)
            continue;  // (the logits of no such step are looked at)
        if (row->answer && row->answer->decoding)
            row->session->stats.ms_decode += share;
        else
            row->session->stats.ms_prefill += share;
        several = several || (first && first != row->session);
        first = row->session;
        if (row->answer)
            take_answer_row(engine, st, i, next, logits);
        else
            take_item_row(row);
        if (row->has_out)
            logits += engine->model->sizes.n_vocab;
    }
    engine->n_step++;
    engine->n_batched += several;
}

// With the lock held: the step was not computed. Its sequences are in an unknown state, so what the
// step before or behind it computes is of no use either. Takes the error.
static void fail_step(vlm_engine *engine, vlm_step *st, vlm_step *other, GError *error)
{
    for (guint i = 0; i < st->rows->len; i++) {
        const vlm_step_row *row = &g_array_index(st->rows, vlm_step_row, i);
        if (row->answer) {
            row->answer->in_step = FALSE;
            row->answer->done = TRUE;
            if (!row->answer->error)
                row->answer->error = g_error_copy(error);
            g_ptr_array_remove(row->session->answers, row->answer);
            if (other)
                vlm_step_drop(other, row->answer);
        } else if (row->session) {
            fail_session(row->session, g_error_copy(error));
            drop_head(row->session);
        }
    }
    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST))
        fail_engine(engine, error);
    g_error_free(error);
}

// ------------------------------------------------------------------------------ the loop

// With the lock held: decides what to do. TRUE when there is something.
static gboolean plan(vlm_engine *engine, encode_list *list)
{
    g_ptr_array_set_size(list->items, 0);
    g_ptr_array_set_size(list->sessions, 0);
    if (engine->failure)
        return FALSE;
    for (guint i = 0; i < engine->sessions->len; i++) {
        vlm_session *session = g_ptr_array_index(engine->sessions, i);
        if (session->cancelled)
            continue;
        if (!session->rank)
            settle_queue(session);
        vlm_item *item = next_to_encode(session);
        if (item) {
            session->in_step = TRUE;
            g_ptr_array_add(list->items, item);
            g_ptr_array_add(list->sessions, session);
        }
    }
    if (list->items->len > 0 || engine->job)
        return TRUE;
    for (guint i = 0; i < engine->sessions->len; i++) {
        vlm_session *session = g_ptr_array_index(engine->sessions, i);
        const vlm_item *head = g_queue_peek_head(&session->items);
        if (!session->cancelled
            && (session->answers->len > 0 || (head && !vlm_session_is_held(session))))
            return TRUE;
    }
    return FALSE;
}

// With the lock held: fills the batch. Recording has begun.
static void build(vlm_engine *engine, vlm_step *st)
{
    const guint n = engine->sessions->len;

    for (int pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < n; i++) {
            vlm_session *session =
                g_ptr_array_index(engine->sessions, (engine->next_session + i) % n);
            if (!session->cancelled)
                add_session(engine, st, session, pass == 0);
        }
    }
    engine->next_session = n > 0 ? (engine->next_session + 1) % n : 0;
    vlm_step_close(engine, st);
}

// With the lock held: nobody's work is in `st` any more, but perhaps in the step ahead.
static void end_step(vlm_engine *engine, const vlm_step *st, const vlm_step *next)
{
    for (guint i = 0; i < st->rows->len; i++) {
        const vlm_step_row *row = &g_array_index(st->rows, vlm_step_row, i);
        if (row->session)
            row->session->in_step = FALSE;
    }
    for (guint i = 0; next && i < next->rows->len; i++) {
        const vlm_step_row *row = &g_array_index(next->rows, vlm_step_row, i);
        if (row->session)
            row->session->in_step = row->answer->in_step = TRUE;
    }
    g_cond_broadcast(&engine->changed);
}

// With the lock held, on entry and return: sends a step that was built to the device. `before`: the
// one that is there already; NULL = none.
static gboolean send_step(vlm_engine *engine, vlm_step *st, vlm_step *before)
{
    GError *error = NULL;

    g_mutex_unlock(&engine->lock);
    const gboolean ok = vlm_step_send(engine, st, &error);
    g_mutex_lock(&engine->lock);
    if (ok)
        return TRUE;
    fail_step(engine, st, before, error);
    end_step(engine, st, NULL);
    return FALSE;
}

// The same: begins the next step, TRUE when there is one on the device.
static gboolean start_step(vlm_engine *engine, vlm_step *st)
{
    GError *error = NULL;

    if (!vlm_step_begin(engine, st, &error)) {
        fail_engine(engine, error);
        g_error_free(error);
        g_cond_broadcast(&engine->changed);
        return FALSE;
    }
    build(engine, st);
    if (st->n_tok == 0) {
        vlm_cmd_run(engine->cmd, NULL);
        end_step(engine, st, NULL);
        return FALSE;
    }
    return send_step(engine, st, NULL);
}

// The same: waits for the step `st` and hands out what it computed.
static void finish_step(vlm_engine *engine, vlm_step *st, vlm_step *next)
{
    GError *error = NULL;

    g_mutex_unlock(&engine->lock);
    const gboolean ok = vlm_cmd_wait(engine->cmd, &error);
    g_mutex_lock(&engine->lock);
    const gint64 end = g_get_monotonic_time();
    if (ok)
        take_results(engine, st, next, (double) (end - st->start) / 1000.0);
    else
        fail_step(engine, st, next, error);
    if (next)
        next->start = end;
    end_step(engine, st, next);
}

static void run_job(vlm_engine *engine)
{
    vlm_engine_job *job = engine->job;

    g_mutex_unlock(&engine->lock);
    job->ok = job->run(engine, job->data, &job->error);
    g_mutex_lock(&engine->lock);
    job->done = TRUE;
    engine->job = NULL;
    g_cond_broadcast(&engine->changed);
}

// With the lock held, on entry and return: one turn. `sent`: the step on the device, NULL = none;
// returns what it is afterwards.
static vlm_step *turn(vlm_engine *engine, encode_list *list, vlm_step steps[2], vlm_step *sent)
{
    if (sent) {
        vlm_step *next = sent == steps ? steps + 1 : steps;
        if (!vlm_step_build_ahead(engine, sent, next) || !send_step(engine, next, sent))
            next = NULL;
        engine->n_ahead += next != NULL;
        finish_step(engine, sent, next);
        return next;
    }
    if (!plan(engine, list)) {
        g_cond_wait(&engine->work, &engine->lock);
        return NULL;
    }
    if (list->items->len > 0) {
        g_mutex_unlock(&engine->lock);
        encode_all(engine, list);
        g_mutex_lock(&engine->lock);
    } else if (engine->job) {
        run_job(engine);
        return NULL;
    }
    if (!engine->model->family->ranker)
        return start_step(engine, steps) ? steps : NULL;
    vlm_rank_step(engine);
    return NULL;
}

gpointer vlm_scheduler_run(gpointer data)
{
    vlm_engine *engine = data;
    encode_list list = { g_ptr_array_new(), g_ptr_array_new() };
    vlm_step steps[2], *sent = NULL;

    vlm_step_init(&steps[0]);
    vlm_step_init(&steps[1]);
    g_mutex_lock(&engine->lock);
    while (sent || !engine->quit)
        sent = turn(engine, &list, steps, sent);
    g_mutex_unlock(&engine->lock);
    vlm_step_clear(&steps[0]);
    vlm_step_clear(&steps[1]);
    g_ptr_array_unref(list.items);
    g_ptr_array_unref(list.sessions);
    return NULL;
}
