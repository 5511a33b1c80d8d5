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
#include "runtime/engine_private.h"

// What a step computes, for handing out its results.
typedef struct step_row {
    vlm_session *session;
    vlm_answer *answer;  // whose logits are row `out`; NULL for film
    vlm_item *item;      // whose rows these are; NULL for answers
    uint32_t n_tok;
    uint32_t next_pos;  // of the sequence after this step
    gboolean has_out;
} step_row;

typedef struct step {
    GArray *rows;       // of step_row, in batch order
    GPtrArray *encode;  // of vlm_item
    GPtrArray *encode_session;
} step;

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

// TRUE when an answer that writes into the session's own sequence is under way.
static gboolean is_held(const vlm_session *session)
{
    for (guint i = 0; i < session->answers->len; i++) {
        const vlm_answer *answer = g_ptr_array_index(session->answers, i);
        if (answer->keep)
            return TRUE;
    }
    return FALSE;
}

// Brings the queue to a state where its head, if any, is an item to prefill; starts answers.
static void settle_queue(vlm_session *session)
{
    vlm_item *item;

    while (!is_held(session) && (item = g_queue_peek_head(&session->items))
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
    vlm_item *item = is_held(session) ? NULL : g_queue_peek_head(&session->items);
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

// Adds a sequence of n_tok rows to the batch and takes its slots.
static gboolean add_sequence(vlm_engine *engine, vlm_kv_seq *seq, uint32_t n_tok, GError **error)
{
    vlm_batch *batch = engine->batch;

    if (!vlm_kv_seq_prepare(seq, engine->cmd, n_tok, error))
        return FALSE;
    const uint32_t slot0 = vlm_kv_seq_append(seq, n_tok, batch->slots + batch->n_tok);
    batch->seqs[batch->n_seq] =
        (vlm_kv_sequence){ .tok0 = batch->n_tok, .n_tok = n_tok, .slot0 = slot0 };
    batch->caches[batch->n_seq++] = seq;
    return TRUE;
}

static void set_text_row(vlm_batch *batch, uint32_t row, uint32_t token, uint32_t pos)
{
    uint32_t *p = batch->positions[row];

    batch->ids[row] = token;
    p[0] = p[1] = p[2] = pos;
    p[3] = 0;
}

static gboolean add_answer(vlm_engine *engine, step *st, vlm_answer *answer, GError **error)
{
    vlm_batch *batch = engine->batch;
    const uint32_t room = batch->max_tok - batch->n_tok;
    const uint32_t n_tok =
        answer->decoding ? 1 : MIN(MIN(engine->chunk, answer->n_prompt - answer->n_done), room);
    const uint32_t row0 = batch->n_tok;

    if (n_tok == 0 || batch->n_seq == batch->max_seq)
        return TRUE;
    if (!add_sequence(engine, answer->seq, n_tok, error))
        return FALSE;
    for (uint32_t i = 0; i < n_tok; i++)
        set_text_row(batch, row0 + i,
                     answer->decoding ? answer->last_token : answer->prompt[answer->n_done + i],
                     answer->next_pos + i);
    step_row row = { .session = answer->session,
                     .answer = answer,
                     .n_tok = n_tok,
                     .next_pos = answer->next_pos + n_tok };
    row.has_out = answer->decoding || answer->n_done + n_tok == answer->n_prompt;
    if (row.has_out)
        batch->out_rows[batch->n_out++] = row0 + n_tok - 1;
    batch->n_tok += n_tok;
    answer->in_step = TRUE;
    g_array_append_val(st->rows, row);
    return TRUE;
}

// The positions of an item's visual rows, the first of which sits at `pos`.
static uint32_t place_grid(const vlm_model *model, vlm_session *session, const vlm_item *item,
                           uint32_t pos, uint32_t (*positions)[4])
{
    if (session->film != item->film) {
        session->film = item->film;
        session->film_first = pos;
    }
    const vlm_grid grid = { .rows = item->rows,
                            .cols = item->cols,
                            .first = pos,
                            .is_still = item->is_still,
                            .film_first = session->film_first,
                            .film_group = item->film_group,
                            .film_time = item->film_time };
    return model->family->grid_positions(model->data, &grid, positions);
}

// Fills rows [from, from + n) of an item into the batch; returns the position after them.
static uint32_t fill_item_rows(vlm_engine *engine, vlm_session *session, const vlm_item *item,
                               uint32_t from, uint32_t n)
{
    vlm_batch *batch = engine->batch;
    uint32_t row = batch->n_tok, pos = session->next_pos;
    g_autofree uint32_t(*grid)[4] = NULL;
    uint32_t grid_end = pos;

    for (uint32_t i = from; i < from + n; i++, row++) {
        if (i < item->n_pre) {
            set_text_row(batch, row, item->pre[i], pos++);
            continue;
        }
        if (i >= item->n_pre + item->n_visual) {
            set_text_row(batch, row, item->post[i - item->n_pre - item->n_visual], pos++);
            continue;
        }
        // the whole grid's positions are counted from where it starts
        const uint32_t v = i - item->n_pre;
        if (!grid) {
            grid = g_malloc_n(item->n_visual, sizeof *grid);
            grid_end = place_grid(engine->model, session, item, pos, grid);
            const uint32_t last = MIN(from + n, item->n_pre + item->n_visual);
            batch->visual[batch->n_visual++] = (vlm_visual_rows){ .addr = item->rows_buffer->addr,
                                                                  .n_row = item->n_visual,
                                                                  .first = v,
                                                                  .n = last - i,
                                                                  .tok0 = row };
        }
        batch->ids[row] = VLM_ID_VISUAL;
        memcpy(batch->positions[row], grid[v], sizeof *grid);
        if (v + 1 == item->n_visual)
            pos = grid_end;
    }
    return pos;
}

// The picture of an item becomes the one that its sequence looks at.
static gboolean add_cross(vlm_engine *engine, vlm_kv_seq *seq, const vlm_item *item, GError **error)
{
    vlm_batch *batch = engine->batch;
    const guint at = batch->cross_slots->len;

    g_array_set_size(batch->cross_slots, at + item->n_cross);
    batch->cross[batch->n_cross++] =
        (vlm_cross_rows){ .addr = item->rows_buffer->addr, .n = item->n_cross, .first_slot = at };
    return vlm_kv_seq_add_cross(seq, engine->cmd, item->n_cross, !item->is_still,
                                &g_array_index(batch->cross_slots, uint64_t, at), error);
}

static gboolean add_item(vlm_engine *engine, step *st, vlm_session *session, vlm_item *item,
                         GError **error)
{
    vlm_batch *batch = engine->batch;
    const uint32_t at_picture = item->n_cross > 0 ? item->n_pre - 1 : UINT32_MAX;
    uint32_t n_tok = MIN(MIN(engine->chunk, vlm_item_n_rows(item) - item->n_done),
                         batch->max_tok - batch->n_tok);

    if (n_tok == 0 || batch->n_seq == batch->max_seq)
        return TRUE;
    if (item->n_done < at_picture)  // all rows of a step look at the same pictures
        n_tok = MIN(n_tok, at_picture - item->n_done);
    else if (item->n_done == at_picture && !add_cross(engine, session->seq, item, error))
        return FALSE;
    if (!add_sequence(engine, session->seq, n_tok, error))
        return FALSE;
    step_row row = { .session = session, .item = item, .n_tok = n_tok };
    row.next_pos = fill_item_rows(engine, session, item, item->n_done, n_tok);
    batch->n_tok += n_tok;
    g_array_append_val(st->rows, row);
    return TRUE;
}

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
static void add_session(vlm_engine *engine, step *st, vlm_session *session, gboolean decoding)
{
    g_autoptr(GError) error = NULL;
    const guint before = st->rows->len;
    vlm_item *item = NULL;

    for (guint i = 0; i < session->answers->len && !error; i++) {
        vlm_answer *answer = g_ptr_array_index(session->answers, i);
        if (!answer->done && answer->decoding == decoding)
            add_answer(engine, st, answer, &error);
    }
    if (!decoding && !error) {
        item = ready_item(session);
        if (item)
            add_item(engine, st, session, item, &error);
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
static void encode_all(vlm_engine *engine, step *st)
{
    for (guint i = 0; i < st->encode->len; i++) {
        vlm_item *item = g_ptr_array_index(st->encode, i);
        vlm_session *session = g_ptr_array_index(st->encode_session, i);
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

static void take_answer_row(vlm_engine *engine, const step_row *row, float *logits)
{
    vlm_answer *answer = row->answer;
    vlm_session *session = row->session;
    const uint32_t n_vocab = engine->model->sizes.n_vocab;

    answer->in_step = FALSE;
    answer->next_pos = row->next_pos;
    if (!answer->decoding)
        answer->n_done += row->n_tok;
    if (!row->has_out || answer->done)
        return;
    vlm_answer_step(answer, logits, n_vocab);
    session->stats.n_generated++;
    if (!answer->done && vlm_kv_seq_n_tokens(answer->seq) + 1 > session->context_size) {
        answer->done = TRUE;
        answer->finish = VLM_FINISH_LENGTH;
        answer->t_end = g_get_monotonic_time();
    }
    if (answer->done) {
        g_ptr_array_remove(session->answers, answer);
        if (answer->keep)
            keep_answer(session, answer);
    }
}

static void take_item_row(const step_row *row)
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
static void take_results(vlm_engine *engine, step *st, double ms)
{
    float *logits = engine->logits->host;
    const vlm_session *first = NULL;
    gboolean several = FALSE;

    for (guint i = 0; i < st->rows->len; i++) {
        const step_row *row = &g_array_index(st->rows, step_row, i);
        const double share = ms * row->n_tok / engine->batch->n_tok;
        if (row->answer && row->answer->decoding)
            row->session->stats.ms_decode += share;
        else
            row->session->stats.ms_prefill += share;
        several = several || (first && first != row->session);
        first = row->session;
        if (row->answer)
            take_answer_row(engine, row, logits);
        else
            take_item_row(row);
        if (row->has_out)
            logits += engine->model->sizes.n_vocab;
    }
    engine->n_step++;
    engine->n_batched += several;
}

// With the lock held: the step was not computed. Its sequences are in an unknown state.
static void fail_step(vlm_engine *engine, step *st, GError *error)
{
    for (guint i = 0; i < st->rows->len; i++) {
        const step_row *row = &g_array_index(st->rows, step_row, i);
        if (row->answer) {
            row->answer->in_step = FALSE;
            row->answer->done = TRUE;
            if (!row->answer->error)
                row->answer->error = g_error_copy(error);
            g_ptr_array_remove(row->session->answers, row->answer);
        } else {
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
static gboolean plan(vlm_engine *engine, step *st)
{
    g_array_set_size(st->rows, 0);
    g_ptr_array_set_size(st->encode, 0);
    g_ptr_array_set_size(st->encode_session, 0);
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
            g_ptr_array_add(st->encode, item);
            g_ptr_array_add(st->encode_session, session);
        }
    }
    if (st->encode->len > 0 || engine->job)
        return TRUE;
    for (guint i = 0; i < engine->sessions->len; i++) {
        vlm_session *session = g_ptr_array_index(engine->sessions, i);
        const vlm_item *head = g_queue_peek_head(&session->items);
        if (!session->cancelled && (session->answers->len > 0 || (head && !is_held(session))))
            return TRUE;
    }
    return FALSE;
}

// With the lock held: fills the batch. Recording has begun.
static void build(vlm_engine *engine, step *st)
{
    const guint n = engine->sessions->len;

    vlm_batch_clear(engine->batch);
    for (int pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < n; i++) {
            vlm_session *session =
                g_ptr_array_index(engine->sessions, (engine->next_session + i) % n);
            if (!session->cancelled)
                add_session(engine, st, session, pass == 0);
        }
    }
    engine->next_session = n > 0 ? (engine->next_session + 1) % n : 0;
}

static gboolean compute(vlm_engine *engine, GError **error)
{
    const vlm_model *model = engine->model;
    const vlm_kv_layout *kv = vlm_kv_pool_layout(engine->pool);
    const vlm_tensor logits =
        vlm_tensor_make(engine->logits->addr, MAX(engine->batch->n_out, 1), model->sizes.n_vocab);

    return model->family->decode(model->data, engine->cmd, engine->batch, kv, engine->scratch,
                                 &logits, NULL, error)
           && vlm_cmd_run(engine->cmd, error);
}

static void end_step(vlm_engine *engine, step *st)
{
    for (guint i = 0; i < st->rows->len; i++)
        g_array_index(st->rows, step_row, i).session->in_step = FALSE;
    g_cond_broadcast(&engine->changed);
}

// With the lock held, on entry and return.
static void decode_step(vlm_engine *engine, step *st)
{
    GError *error = NULL;
    const gint64 start = g_get_monotonic_time();
    gboolean ok = vlm_cmd_begin(engine->cmd, &error);

    if (!ok) {
        fail_engine(engine, error);
        g_error_free(error);
        g_cond_broadcast(&engine->changed);
        return;
    }
    build(engine, st);
    if (engine->batch->n_tok == 0) {
        vlm_cmd_run(engine->cmd, NULL);
        end_step(engine, st);
        return;
    }
    g_mutex_unlock(&engine->lock);
    ok = compute(engine, &error);
    g_mutex_lock(&engine->lock);
    if (ok)
        take_results(engine, st, (double) (g_get_monotonic_time() - start) / 1000.0);
    else
        fail_step(engine, st, error);
    end_step(engine, st);
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

gpointer vlm_scheduler_run(gpointer data)
{
    vlm_engine *engine = data;
    step st = { g_array_new(FALSE, FALSE, sizeof(step_row)), g_ptr_array_new(), g_ptr_array_new() };

    g_mutex_lock(&engine->lock);
    while (!engine->quit) {
        if (!plan(engine, &st)) {
            g_cond_wait(&engine->work, &engine->lock);
            continue;
        }
        if (st.encode->len > 0) {
            g_mutex_unlock(&engine->lock);
            encode_all(engine, &st);
            g_mutex_lock(&engine->lock);
        } else if (engine->job) {
            run_job(engine);
            continue;
        }
        if (engine->model->family->ranker)
            vlm_rank_step(engine);
        else
            decode_step(engine, &st);
    }
    g_mutex_unlock(&engine->lock);
    g_array_unref(st.rows);
    g_ptr_array_unref(st.encode);
    g_ptr_array_unref(st.encode_session);
    return NULL;
}
