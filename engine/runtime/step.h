// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/step.h — one run of the decoder over a batch: what goes in, what becomes of it. For the
// scheduler, on its thread; with the engine's lock held unless said otherwise.
#ifndef VLM_RUNTIME_STEP_H
#define VLM_RUNTIME_STEP_H

#include "runtime/engine_private.h"

// What a step computes for one sequence, for handing out its results.
typedef struct vlm_step_row {
    vlm_session *session;  // NULL: nobody wants it any more
    vlm_answer *answer;    // whose logits are row `out`; NULL for film
    vlm_item *item;        // whose rows these are; NULL for answers
    uint32_t n_tok;
    uint32_t next_pos;   // of the sequence after this step
    uint32_t n_context;  // tokens of an answer's sequence after it
    gboolean has_out;
} vlm_step_row;

typedef struct vlm_step {
    GArray *rows;  // of vlm_step_row, in batch order
    uint32_t n_tok;
    gboolean chooses;  // the device chooses the tokens: the likeliest ones
    uint32_t place;    // 0 or 1: where it puts them
    gint64 start;      // when it was begun, or the step before it was over
} vlm_step;

void vlm_step_init(vlm_step *st);
void vlm_step_clear(vlm_step *st);  // frees what init made

// TRUE when an answer that writes into the session's own sequence is under way.
gboolean vlm_session_is_held(const vlm_session *session);

// Starts recording a step of nothing. Errors: DEVICE_LOST.
gboolean vlm_step_begin(vlm_engine *engine, vlm_step *st, GError **error);
// Adds the next token of an answer, or the next piece of its prompt; nothing to a full batch.
gboolean vlm_step_add_answer(vlm_engine *engine, vlm_step *st, vlm_answer *answer, GError **error);
// Adds the next piece of an item, likewise.
gboolean vlm_step_add_item(vlm_engine *engine, vlm_step *st, vlm_session *session, vlm_item *item,
                           GError **error);
// The step is whole: decides who chooses the tokens.
void vlm_step_close(vlm_engine *engine, vlm_step *st);

// Begins and builds the step that follows `now`, which is on the device, before anybody has seen
// the tokens of `now`: when it has one more token for each of the same answers whatever they are,
// and nobody else has anything to do. Else FALSE, and nothing was done.
gboolean vlm_step_build_ahead(vlm_engine *engine, const vlm_step *now, vlm_step *next);

// Without the lock: records the step and sends it to the device. Errors: those of the operators,
// DEVICE_LOST.
gboolean vlm_step_send(vlm_engine *engine, const vlm_step *st, GError **error);

// What row `i` says when the step is done. The token that the device chose, or logits.
uint32_t vlm_step_token(const vlm_engine *engine, const vlm_step *st, guint i);

// Nobody wants what a step on the device computes for an answer: its tokens are taken back.
void vlm_step_drop(vlm_step *st, const vlm_answer *answer);

#endif
