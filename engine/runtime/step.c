// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/step.c — see runtime/step.h.
//
// Steps ahead: greedy decoding knows all of its next step but the tokens, and the device has these:
// it writes the likeliest ones to memory where the next step's embedding reads them. So that step
// is sent before the host has waited for this one, and the device goes on while the host looks.
// When the host finds that an answer ended, its row of the step ahead was computed for nothing.
#define G_LOG_DOMAIN "vlm-sched"
#include "runtime/step.h"

#include <string.h>

#include "ops/ops.h"

void vlm_step_init(vlm_step *st)
{
    memset(st, 0, sizeof *st);
    st->rows = g_array_new(FALSE, FALSE, sizeof(vlm_step_row));
}

void vlm_step_clear(vlm_step *st)
{
    g_array_unref(st->rows);
}

static vlm_step_row *row_of(const vlm_step *st, guint i)
{
    return &g_array_index(st->rows, vlm_step_row, i);
}

gboolean vlm_session_is_held(const vlm_session *session)
{
    for (guint i = 0; i < session->answers->len; i++) {
        const vlm_answer *answer = g_ptr_array_index(session->answers, i);
        if (answer->keep)
            return TRUE;
    }
    return FALSE;
}

// ------------------------------------------------------------------------------ building

gboolean vlm_step_begin(vlm_engine *engine, vlm_step *st, GError **error)
{
    g_array_set_size(st->rows, 0);
    st->chooses = FALSE;
    st->start = g_get_monotonic_time();
    vlm_batch_clear(engine->batch);
    return vlm_cmd_begin(engine->cmd, error);
}

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

// Adds `n_tok` rows for an answer, the first of them at `pos`: of its prompt, or the token that
// comes next.
static gboolean add_rows(vlm_engine *engine, vlm_step *st, vlm_answer *answer, uint32_t n_tok,
                         uint32_t pos, GError **error)
{
    vlm_batch *batch = engine->batch;
    const uint32_t row0 = batch->n_tok;

    if (!add_sequence(engine, answer->seq, n_tok, error))
        return FALSE;
    for (uint32_t i = 0; i < n_tok; i++)
        set_text_row(batch, row0 + i,
                     answer->decoding ? answer->last_token : answer->prompt[answer->n_done + i],
                     pos + i);
    vlm_step_row row = { .session = answer->session,
                         .answer = answer,
                         .n_tok = n_tok,
                         .next_pos = pos + n_tok,
                         .n_context = vlm_kv_seq_n_tokens(answer->seq) };
    row.has_out = answer->decoding || answer->n_done + n_tok == answer->n_prompt;
    if (row.has_out)
        batch->out_rows[batch->n_out++] = row0 + n_tok - 1;
    batch->n_tok += n_tok;
    answer->in_step = TRUE;
    g_array_append_val(st->rows, row);
    return TRUE;
}

gboolean vlm_step_add_answer(vlm_engine *engine, vlm_step *st, vlm_answer *answer, GError **error)
{
    const vlm_batch *batch = engine->batch;
    const uint32_t room = batch->max_tok - batch->n_tok;
    const uint32_t n_tok =
        answer->decoding ? 1 : MIN(MIN(engine->chunk, answer->n_prompt - answer->n_done), room);

    if (MIN(n_tok, room) == 0 || batch->n_seq == batch->max_seq)
        return TRUE;
    return add_rows(engine, st, answer, n_tok, answer->next_pos, error);
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

gboolean vlm_step_add_item(vlm_engine *engine, vlm_step *st, vlm_session *session, vlm_item *item,
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
    vlm_step_row row = { .session = session, .item = item, .n_tok = n_tok };
    row.next_pos = fill_item_rows(engine, session, item, item->n_done, n_tok);
    batch->n_tok += n_tok;
    g_array_append_val(st->rows, row);
    return TRUE;
}

// Whether the likeliest token is what the answer wants of a step, and nothing else.
static gboolean wants_likeliest(const vlm_answer *answer)
{
    return answer->decoding && answer->n_top_logits == 0 && vlm_sampler_is_plain(answer->sampler);
}

void vlm_step_close(vlm_engine *engine, vlm_step *st)
{
    st->n_tok = engine->batch->n_tok;
    st->chooses = engine->steps_in_flight > 1 && st->rows->len > 0;
    for (guint i = 0; st->chooses && i < st->rows->len; i++) {
        const vlm_answer *answer = row_of(st, i)->answer;
        st->chooses = answer && wants_likeliest(answer);
    }
}

// ------------------------------------------------------------------------------ ahead

// Whether an answer gets another token after the one that the step of `row` computes, unless that
// ends it.
static gboolean goes_on(const vlm_step_row *row)
{
    const vlm_answer *answer = row->answer;

    return row->session && !row->session->cancelled && !answer->done
           && answer->tokens->len + 1 < answer->max_tokens
           && row->n_context + 1 <= row->session->context_size
           // a recurrent state can't take a token back
           && !(answer->keep && vlm_kv_seq_state(answer->seq) != 0);
}

// Whether the next step has one more token for each answer of `now` and nothing else.
static gboolean is_foreseeable(const vlm_engine *engine, const vlm_step *now)
{
    guint n_answer = 0;

    if (!now->chooses || engine->quit || engine->failure || engine->job)
        return FALSE;
    for (guint i = 0; i < now->rows->len; i++)
        if (!goes_on(row_of(now, i)))
            return FALSE;
    for (guint i = 0; i < engine->sessions->len; i++) {
        const vlm_session *session = g_ptr_array_index(engine->sessions, i);
        if (session->cancelled)
            continue;
        if (!g_queue_is_empty((GQueue *) &session->items) && !vlm_session_is_held(session))
            return FALSE;
        n_answer += session->answers->len;
    }
    return n_answer == now->rows->len;
}

gboolean vlm_step_build_ahead(vlm_engine *engine, const vlm_step *now, vlm_step *next)
{
    g_autoptr(GError) error = NULL;

    if (!is_foreseeable(engine, now) || !vlm_cmd_is_free(engine->cmd)
        || !vlm_step_begin(engine, next, &error))
        return FALSE;
    for (guint i = 0; i < now->rows->len; i++) {
        const vlm_step_row *row = row_of(now, i);
        if (!add_rows(engine, next, row->answer, 1, row->next_pos, &error)) {
            // (Without memory; it is said when it is the next step's turn.)
            for (guint added = 0; added < next->rows->len; added++)
                vlm_kv_seq_take_back(row_of(next, added)->answer->seq, 1);
            return FALSE;
        }
    }
    vlm_step_close(engine, next);
    next->place = !now->place;
    engine->batch->chosen = engine->chosen->addr + now->place * (uint64_t) VLM_MAX_SEQUENCES * 4;
    return TRUE;
}

void vlm_step_drop(vlm_step *st, const vlm_answer *answer)
{
    for (guint i = 0; i < st->rows->len; i++) {
        vlm_step_row *row = row_of(st, i);
        if (row->answer == answer) {
            vlm_kv_seq_take_back(row->answer->seq, row->n_tok);
            row->session = NULL;
            row->answer = NULL;
        }
    }
}

// ------------------------------------------------------------------------------ computing

// Where the logits go: to the host, or, when the device chooses, behind the step's work memory if
// there is room.
static uint64_t place_logits(const vlm_engine *engine, const vlm_step *st)
{
    const vlm_model *model = engine->model;
    const vlm_batch *batch = engine->batch;

    if (st->chooses) {
        const uint64_t used =
            (model->family->decode_bytes(model->data, engine->dev, batch->n_tok, batch->n_out) + 63)
            & ~(uint64_t) 63;
        const uint64_t bytes = (uint64_t) batch->n_out * model->sizes.n_vocab * 4;
        if (used <= engine->scratch->bytes && bytes <= engine->scratch->bytes - used)
            return engine->scratch->addr + used;
    }
    return engine->logits->addr;
}

gboolean vlm_step_send(vlm_engine *engine, const vlm_step *st, GError **error)
{
    const vlm_model *model = engine->model;
    const vlm_tensor logits = vlm_tensor_make(place_logits(engine, st),
                                              MAX(engine->batch->n_out, 1), model->sizes.n_vocab);

    if (!model->family->decode(model->data, engine->cmd, engine->batch,
                               vlm_kv_pool_layout(engine->pool), engine->scratch, &logits, NULL,
                               error))
        return FALSE;
    if (st->chooses) {
        vlm_cmd_stage(engine->cmd, "choice");
        vlm_cmd_barrier(engine->cmd);
        if (!vlm_op_argmax(engine->cmd,
                           engine->chosen->addr + st->place * (uint64_t) VLM_MAX_SEQUENCES * 4,
                           &logits, error))
            return FALSE;
    }
    return vlm_cmd_submit(engine->cmd, error);
}

uint32_t vlm_step_token(const vlm_engine *engine, const vlm_step *st, guint i)
{
    return ((const uint32_t *) engine->chosen->host)[st->place * VLM_MAX_SEQUENCES + i];
}
