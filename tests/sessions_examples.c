// SPDX-License-Identifier: LGPL-2.1-or-later
// sessions_examples.c — examples that a session begins with, and the order of what is added.
#include <string.h>

#include "sessions_common.h"
#include "vectors.h"

// One example: picture `index`, a question and the answer.
static gboolean add_example(vlm_session *session, guint index, GError **error)
{
    g_autofree uint8_t *rgb = g_malloc(64 * 64 * 3);

    vectors_picture(64, 64, index, rgb);
    vlm_image image = {
        .format = VLM_PIXEL_RGB, .width = 64, .height = 64, .plane = { rgb }, .stride = { 64 * 3 }
    };
    return vlm_session_add_image(session, &image, error)
           && vlm_session_add_text(session, "What is it?", error)
           && vlm_session_add_answer(session, "A test.", error);
}

static vlm_session *open_examples(vlm_engine *engine, uint32_t context_size, const char *key)
{
    g_autoptr(GError) error = NULL;
    vlm_session *session = vlm_session_create(engine,
                                              &(vlm_session_params){ .context_size = context_size,
                                                                     .system_prompt = "Look.",
                                                                     .examples_key = key },
                                              &error);

    g_assert_no_error(error);
    return session;
}

// A session that begins with two examples.
static vlm_session *with_examples(vlm_engine *engine, uint32_t context_size, const char *key,
                                  guint first)
{
    g_autoptr(GError) error = NULL;
    vlm_session *session = open_examples(engine, context_size, key);

    for (guint i = 0; i < 2 && !vlm_session_has_examples(session); i++)
        g_assert_true(add_example(session, first + i, &error));
    g_assert_true(vlm_session_end_examples(session, &error));
    g_assert_no_error(error);
    g_assert_true(vlm_session_has_examples(session));
    return session;
}

// Examples stay when the film outgrows the context, and after a reset.
static void test_examples(gconstpointer data)
{
    g_autoptr(vlm_engine) engine = open_engine_as(GPOINTER_TO_UINT(data));
    g_autoptr(GError) error = NULL;
    vlm_session_stats begin, stats;

    if (!engine)
        return;
    // each is kept by itself: a key of its own, a key for nobody
    const uint32_t size = 512, much = is_llama(engine) ? 30 : 500;
    g_autoptr(vlm_session) a = with_examples(engine, size, "a", 50);
    g_autoptr(vlm_session) b = with_examples(engine, size, "", 60);
    vlm_session_get_stats(a, &begin);
    g_assert_cmpuint(begin.n_frames, >=, 2);  // more where a still is cut up
    g_assert_cmpuint(begin.n_prefilled, ==, begin.context_used);
    g_assert_cmpuint(begin.context_kept, ==, begin.context_used);
    g_autoptr(vlm_generation) first = ask(a, "Well?", 4);
    // far past the context
    for (guint i = 0; vlm_session_get_stats(a, &stats), stats.n_evicted <= much; i += 10) {
        add_frames(a, i, 10);
        add_frames(b, i, 10);
        g_assert_true(vlm_session_wait(a, &error));
    }
    g_autoptr(vlm_generation) from_a = ask(a, "What happens?", 4);
    g_autoptr(vlm_generation) from_b = ask(b, "What happens?", 4);
    vlm_session_get_stats(a, &stats);
    g_assert_cmpuint(stats.context_used, <=, size);
    g_assert_cmpuint(stats.n_evicted + stats.context_used, ==, stats.n_prefilled);
    g_assert_cmpuint(from_a->n_context, ==, from_b->n_context);
    // (some families keep a token more, with which a film opens)
    g_assert_cmpuint(stats.context_kept, >=, begin.context_kept);
    g_assert_cmpuint(stats.context_kept, <=, begin.context_kept + 1);
    // all frames are the same, so it is the examples that still make the difference
    g_assert_cmpfloat(from_a->top[0].logit, !=, from_b->top[0].logit);
    g_assert_true(vlm_session_reset(a, &error));
    vlm_session_get_stats(a, &stats);
    g_assert_cmpuint(stats.context_used, ==, begin.context_used);
    g_assert_cmpuint(stats.context_kept, ==, begin.context_kept);
    g_autoptr(vlm_generation) again = ask(a, "Well?", 4);
    assert_same(first, again);
    g_assert_cmpfloat(first->top[0].logit, ==, again->top[0].logit);
}

// When examples are there, whole groups of the film go all the same.
static void test_examples_groups(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) sums = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    vlm_session_stats begin, stats;
    gboolean whole = FALSE;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = with_examples(engine, 512, "groups", 50);
    vlm_session_get_stats(session, &begin);
    for (guint i = 0; vlm_session_get_stats(session, &stats), stats.n_evicted == 0; i++) {
        const uint64_t sum = stats.n_prefilled - begin.n_prefilled;
        g_array_append_val(sums, sum);
        add_frames(session, i, 1);
        g_assert_true(vlm_session_wait(session, &error));
    }
    // what went is the first group, or the first two (but for a token that opens the film)
    const uint64_t gone = stats.n_evicted + stats.context_kept - begin.context_kept;
    for (guint i = 0; i < sums->len; i++)
        whole = whole || g_array_index(sums, uint64_t, i) == gone;
    g_assert_true(whole);
}

// What the session has seen of: a text (or not), a film of four frames, the text, another film.
static uint32_t tokens_of_films(vlm_engine *engine, const char *before, const char *between)
{
    const vlm_session_params params = { .context_size = 2048, .film_frames = 4 };
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_session) session = vlm_session_create(engine, &params, &error);

    g_assert_no_error(error);
    g_assert_true(vlm_session_add_text(session, before, &error));
    add_frames(session, 0, 4);
    g_assert_true(vlm_session_begin_film(session, 4, 0, &error));
    g_assert_true(vlm_session_add_text(session, between, &error));
    add_frames(session, 4, 4);
    g_assert_true(vlm_session_end_film(session, &error));
    g_autoptr(vlm_generation) answer = ask(session, "Well?", 1);
    return answer->n_context;
}

// Texts around films stay, also where only the newest frame of a film does.
static void test_texts_of_films(void)
{
    g_autoptr(vlm_engine) engine = open_engine();

    if (!engine)
        return;
    const uint32_t none = tokens_of_films(engine, "", "\n");
    g_assert_cmpuint(tokens_of_films(engine, "One two three four.\n", "\n"), >=, none + 4);
    g_assert_cmpuint(tokens_of_films(engine, "", "\nOne two three four.\n"), >=, none + 4);
}

// Text behind a frame without its partner comes behind it.
static void test_order(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) a = new_session(engine, 2048), b = new_session(engine, 2048);
    add_frames(a, 0, 1);
    g_assert_true(vlm_session_end_film(a, &error));
    g_assert_true(vlm_session_add_text(a, "This is it.", &error));
    add_frames(b, 0, 1);
    g_assert_true(vlm_session_add_text(b, "This is it.", &error));
    g_autoptr(vlm_generation) from_a = ask(a, "Well?", 4);
    g_autoptr(vlm_generation) from_b = ask(b, "Well?", 4);
    g_assert_cmpuint(from_a->n_context, ==, from_b->n_context);
    g_assert_cmpfloat(from_a->top[0].logit, ==, from_b->top[0].logit);
}

// Sessions with the same examples share them; what one of them sees is its own.
static void test_shared_examples(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    vlm_session_stats stats;

    if (!engine)
        return;
    g_autoptr(vlm_session) a = with_examples(engine, 2048, "same", 50);
    add_frames(a, 0, 4);
    g_autoptr(vlm_generation) from_a = ask(a, "What happens?", 6);
    vlm_session *b = with_examples(engine, 1024, "same", 0);
    vlm_session_get_stats(b, &stats);
    g_assert_cmpuint(stats.n_frames, ==, 0);
    g_assert_cmpuint(stats.n_prefilled, ==, 0);
    g_assert_cmpuint(stats.context_used, >, 20);
    add_frames(b, 0, 4);
    g_autoptr(vlm_generation) from_b = ask(b, "What happens?", 6);
    assert_same(from_a, from_b);
    g_assert_cmpfloat(from_a->top[0].logit, ==, from_b->top[0].logit);
    add_frames(b, 4, 4);
    g_autoptr(vlm_generation) longer = ask(b, "What happens?", 6);
    g_autoptr(vlm_generation) still = ask(a, "What happens?", 6);
    assert_same(from_a, still);
    vlm_session_destroy(b);
    g_autoptr(vlm_generation) after = ask(a, "What happens?", 6);
    assert_same(from_a, after);
    // other examples, another system prompt, no key: not shared
    g_autoptr(vlm_session) other = open_examples(engine, 1024, "other");
    g_assert_false(vlm_session_has_examples(other));
    g_autoptr(vlm_session) nobody = open_examples(engine, 1024, "");
    g_autoptr(vlm_session) nobody_too = open_examples(engine, 1024, "");
    g_assert_false(vlm_session_has_examples(nobody_too));
    g_autoptr(vlm_session) told = vlm_session_create(
        engine, &(vlm_session_params){ .system_prompt = "Look!", .examples_key = "same" }, &error);
    g_assert_false(vlm_session_has_examples(told));
    // a context that they don't fit
    g_autoptr(vlm_session) large = open_examples(engine, 8192, "large");
    while (vlm_session_get_stats(large, &stats), stats.context_used < 400) {
        g_assert_true(add_example(large, 0, &error));
        g_assert_true(vlm_session_wait(large, &error));
    }
    g_assert_true(vlm_session_end_examples(large, &error));
    g_assert_null(vlm_session_create(engine,
                                     &(vlm_session_params){ .context_size = 256,
                                                            .system_prompt = "Look.",
                                                            .examples_key = "large" },
                                     &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
}

static void test_examples_errors(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    guint n = 0;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = open_examples(engine, 256, "");
    g_assert_null(vlm_session_generate(session, &(vlm_generate_params){ .prompt = "?" }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_true(vlm_session_add_text(session, "no answer", &error));
    g_assert_false(vlm_session_end_examples(session, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    while (n < 100 && add_example(session, n, &error))
        n++;
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_assert_nonnull(strstr(error->message, "256"));
    g_assert_nonnull(strstr(error->message, "examples"));
    g_assert_cmpuint(n, >, 0);
    g_clear_error(&error);
    // after a reset they are added anew
    g_assert_true(vlm_session_reset(session, &error));
    g_assert_false(vlm_session_has_examples(session));
    g_assert_true(add_example(session, 0, &error));
    vlm_session_cancel(session);
    g_assert_false(vlm_session_end_examples(session, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_CANCELLED);
    g_clear_error(&error);
    g_assert_true(vlm_session_reset(session, &error));
    g_assert_true(add_example(session, 1, &error));
    g_assert_true(vlm_session_end_examples(session, &error));
    g_autoptr(vlm_generation) got = ask(session, "Well?", 4);
    g_autoptr(vlm_session) fresh = open_examples(engine, 256, "");
    g_assert_true(add_example(fresh, 1, &error));
    g_assert_true(vlm_session_end_examples(fresh, &error));
    g_autoptr(vlm_generation) want = ask(fresh, "Well?", 4);
    assert_same(got, want);
    g_assert_cmpuint(got->n_context, ==, want->n_context);
    // without examples their end is nothing
    g_autoptr(vlm_session) plain = new_session(engine, 512);
    g_assert_true(vlm_session_end_examples(plain, &error));
    g_assert_false(vlm_session_has_examples(plain));
}

// The film of an example is as long as the model would look at it: all of it, or the newest frame.
static void test_example_film(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    vlm_session_stats one, five;

    if (!engine)
        return;
    g_autoptr(vlm_session) a = open_examples(engine, 2048, ""), b = open_examples(engine, 2048, "");
    g_assert_true(vlm_session_begin_film(a, 1, 500000000, &error));
    add_frames(a, 4, 1);
    g_assert_true(vlm_session_add_answer(a, "It moves.", &error));
    g_assert_true(vlm_session_end_examples(a, &error));
    g_assert_true(vlm_session_begin_film(b, 5, 2500000000, &error));
    add_frames(b, 0, 5);
    g_assert_true(vlm_session_add_answer(b, "It moves.", &error));
    g_assert_true(vlm_session_end_examples(b, &error));
    vlm_session_get_stats(a, &one);
    vlm_session_get_stats(b, &five);
    if (!is_llama(engine)) {
        g_assert_cmpuint(five.n_frames, ==, 5);
        g_assert_cmpuint(five.context_used, >, one.context_used + 10);
        return;
    }
    g_assert_cmpuint(five.n_frames, ==, 1);
    g_assert_cmpuint(five.context_used, ==, one.context_used);
    g_autoptr(vlm_generation) from_a = ask(a, "Well?", 4);
    g_autoptr(vlm_generation) from_b = ask(b, "Well?", 4);
    assert_same(from_a, from_b);
    g_assert_cmpfloat(from_a->top[0].logit, ==, from_b->top[0].logit);
}

void add_examples_tests_for(guint type)
{
    add_for_type("examples", type, test_examples);
}

void add_examples_tests(void)
{
    g_test_add_func("/sessions/examples-groups", test_examples_groups);
    g_test_add_func("/sessions/order", test_order);
    g_test_add_func("/sessions/texts-of-films", test_texts_of_films);
    g_test_add_func("/sessions/examples-shared", test_shared_examples);
    g_test_add_func("/sessions/examples-errors", test_examples_errors);
    g_test_add_func("/sessions/examples-film", test_example_film);
}
