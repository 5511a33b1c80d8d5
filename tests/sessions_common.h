// SPDX-License-Identifier: LGPL-2.1-or-later
// sessions_common.h — engines and sessions for the tests of what vlm.h promises.
#ifndef VLM_TESTS_SESSIONS_COMMON_H
#define VLM_TESTS_SESSIONS_COMMON_H

#include "vlm.h"

extern const char *text_path, *mmproj_path;

// An engine on these files, or NULL where there is no device: the test is then skipped.
vlm_engine *open_engine_as(vlm_kv_type kv_type);
vlm_engine *open_engine(void);

// With the system prompt "Look.".
vlm_session *new_session(vlm_engine *engine, uint32_t context_size);

// Families whose special tokens the tests spell out.
gboolean is_llama(vlm_engine *engine);

// Frames number from ... from + n - 1 of a film of two a second, 64 x 64.
void add_frames(vlm_session *session, guint from, guint n);

// Exactly max_tokens tokens, with the largest logit of the first.
vlm_generation *ask(vlm_session *session, const char *prompt, uint32_t max_tokens);

// What decoding costs where no clock is needed to see it: at most six dispatches for a dense layer,
// seven for one of experts, four for the rest, the choice of the token among them; every weight
// read once. Layers of families that do more have more. `alone`: steps one by one, whatever the
// engine does for greedy answers.
void assert_token_cost(vlm_engine *engine, vlm_session *session, gboolean alone);

void assert_same(const vlm_generation *a, const vlm_generation *b);

// Adds test `name` for one type of pages; its argument is the type.
void add_for_type(const char *name, guint type, GTestDataFunc test);

// sessions_examples.c: those for one type of pages, and those of the session alone.
void add_examples_tests(void);
void add_examples_tests_for(guint type);

#endif
