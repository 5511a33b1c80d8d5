// SPDX-License-Identifier: LGPL-2.1-or-later
// check_steps.c — steps sent before the tokens they go on from were seen, against steps one by one.
//
//   check_steps TEXT.gguf MMPROJ.gguf
//
// Answers have to be the same, wherever and for whatever reason they end. GLib test program (TAP);
// skips without a device.
#include <string.h>

#include "base/env.h"
#include "gpu/device.h"
#include "runtime/engine_private.h"
#include "sessions_common.h"

// ------------------------------------------------------------------------------ where answers end

static gint n_asked;      // atomic: how often a token was looked at
static gint end_at = -1;  // atomic: the number of the one that ends its answer; -1 = none
static gint end_id = -1;  // atomic: the token that always does

// The linker's name of what is called in its place (--wrap).
// NOLINTBEGIN(bugprone-reserved-identifier)
gboolean __wrap_vlm_tokenizer_is_end(const vlm_tokenizer *tok, uint32_t id);

gboolean __wrap_vlm_tokenizer_is_end(const vlm_tokenizer *tok G_GNUC_UNUSED, uint32_t id)
{
    return g_atomic_int_add(&n_asked, 1) == g_atomic_int_get(&end_at)
           || (gint) id == g_atomic_int_get(&end_id);
}
// NOLINTEND(bugprone-reserved-identifier)

static void end_after(gint n_tokens)
{
    g_atomic_int_set(&n_asked, 0);
    g_atomic_int_set(&end_at, n_tokens);
}

// ------------------------------------------------------------------------------ fixture

static vlm_engine *open_steps(uint32_t in_flight)
{
    vlm_engine *engine = open_engine_as(VLM_KV_F16);

    if (!engine)
        return NULL;
    g_mutex_lock(&engine->lock);
    // (as the environment says, on every device)
    g_assert_cmpuint(engine->steps_in_flight, ==, vlm_env_number(VLM_ENV_STEPS_IN_FLIGHT));
    engine->steps_in_flight = in_flight;
    g_mutex_unlock(&engine->lock);
    end_after(-1);
    g_atomic_int_set(&end_id, -1);
    return engine;
}

static void set_in_flight(vlm_engine *engine, uint32_t in_flight)
{
    g_mutex_lock(&engine->lock);
    engine->steps_in_flight = in_flight;
    g_mutex_unlock(&engine->lock);
}

static vlm_generation *greedy(vlm_session *session, uint32_t max_tokens, gboolean keep)
{
    g_autoptr(GError) error = NULL;
    vlm_generation *got = vlm_session_generate(
        session,
        &(vlm_generate_params){ .prompt = "What happens?", .max_tokens = max_tokens, .keep = keep },
        &error);

    g_assert_no_error(error);
    return got;
}

static vlm_engine_stats stats_of(vlm_engine *engine)
{
    vlm_engine_stats stats;

    vlm_engine_get_stats(engine, &stats);
    return stats;
}

// ------------------------------------------------------------------------------ tests

// The same tokens; every step but the first waits for nobody; a token costs what it did, and one
// dispatch for the choice on the device.
static void test_same(void)
{
    g_autoptr(vlm_engine) engine = open_steps(1);

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 2048);
    add_frames(session, 0, 4);
    g_autoptr(vlm_generation) want = greedy(session, 40, FALSE);
    assert_token_cost(engine, session, FALSE);
    const vlm_engine_stats start = stats_of(engine);
    vlm_generation_free(greedy(session, 40, FALSE));
    const vlm_engine_stats one = stats_of(engine);
    g_assert_cmpuint(one.n_ahead, ==, 0);
    set_in_flight(engine, 2);
    vlm_generation_free(greedy(session, 40, FALSE));
    const vlm_engine_stats before = stats_of(engine);
    g_autoptr(vlm_generation) got = greedy(session, 40, FALSE);
    const vlm_engine_stats after = stats_of(engine);
    assert_same(want, got);
    g_assert_cmpint(got->finish, ==, VLM_FINISH_LENGTH);
    g_assert_cmpstr(got->text, ==, want->text);
    g_assert_cmpuint(after.n_ahead - before.n_ahead, ==, 38);  // not the prompt, not the next
    g_assert_cmpuint(after.n_step - before.n_step, ==, 40);
    g_assert_cmpuint(after.n_wait - before.n_wait, ==, 40);
    g_assert_cmpuint(after.n_submit - before.n_submit, ==, 40);
    g_assert_cmpuint(after.n_alloc, ==, before.n_alloc);
    g_assert_cmpuint(after.n_pipeline, ==, before.n_pipeline);
    g_assert_cmpuint(after.n_dispatch - before.n_dispatch, ==,
                     one.n_dispatch - start.n_dispatch + 39);
    g_assert_cmpuint(after.n_read - before.n_read, ==, one.n_read - start.n_read);
    // Recorded: the prompt, the first token behind it, and in both halves of the ring the steps and
    // those where a page begins.
    g_assert_cmpuint(after.n_record - before.n_record, <=, 6);
    g_assert_cmpuint(after.n_replay - before.n_replay, >=, 34);
    assert_token_cost(engine, session, FALSE);
    for (uint32_t n = 1; n <= 5; n++) {
        g_autoptr(vlm_generation) brief = greedy(session, n, FALSE);
        g_assert_cmpuint(brief->n_tokens, ==, n);
        g_assert_cmpmem(brief->tokens, n * 4, want->tokens, n * 4);
    }
    g_assert_cmpuint(stats_of(engine).n_validation, ==, 0);
}

// The context's end is an end too, to the token.
static void test_context_end(void)
{
    g_autoptr(vlm_engine) engine = open_steps(1);

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 256);
    g_autoptr(vlm_generation) want = greedy(session, 1000, FALSE);
    set_in_flight(engine, 2);
    g_autoptr(vlm_generation) got = greedy(session, 1000, FALSE);
    g_assert_cmpuint(want->n_tokens, <, 256);
    g_assert_cmpint(got->finish, ==, VLM_FINISH_LENGTH);
    assert_same(want, got);
}

// What is left of an answer that ends with token `n`: it, and the answer that follows.
typedef struct ending {
    vlm_generation *first, *second, *aside;
    vlm_session_stats stats;
} ending;

static ending end_with(vlm_engine *engine, gint n, gboolean keep)
{
    ending e;
    g_autoptr(vlm_session) session = new_session(engine, 1024);

    add_frames(session, 0, 2);
    end_after(n);
    e.first = greedy(session, 80, keep);
    end_after(-1);
    e.second = greedy(session, 6, keep);
    e.aside = greedy(session, 6, FALSE);
    vlm_session_get_stats(session, &e.stats);
    return e;
}

static void ending_clear(ending *e)
{
    vlm_generation_free(e->first);
    vlm_generation_free(e->second);
    vlm_generation_free(e->aside);
}

// An answer may end with any token, around the end of a page too: the step ahead is taken back, and
// what follows doesn't know of it.
static void test_stop(gconstpointer data)
{
    const gboolean keep = GPOINTER_TO_INT(data);
    g_autoptr(vlm_engine) engine = open_steps(1);

    if (!engine)
        return;
    for (gint n = 0; n < 70; n += n < 8 ? 1 : 3) {
        set_in_flight(engine, 1);
        ending want = end_with(engine, n, keep);
        set_in_flight(engine, 2);
        const uint64_t n_step = stats_of(engine).n_step;
        ending got = end_with(engine, n, keep);
        g_assert_cmpuint(stats_of(engine).n_step, >, n_step);
        g_assert_cmpuint(got.first->n_tokens, ==, (guint) n);
        g_assert_cmpint(got.first->finish, ==, VLM_FINISH_STOP);
        assert_same(want.first, got.first);
        assert_same(want.second, got.second);
        assert_same(want.aside, got.aside);
        g_assert_cmpuint(want.second->n_context, ==, got.second->n_context);
        g_assert_cmpuint(want.stats.context_used, ==, got.stats.context_used);
        g_assert_cmpuint(want.stats.n_generated, ==, got.stats.n_generated);
        ending_clear(&want);
        ending_clear(&got);
    }
}

typedef struct asker {
    vlm_session *session;
    uint32_t max_tokens;
    vlm_generation *answer;
    GError *error;
} asker;

static gpointer run_asker(gpointer data)
{
    asker *a = data;

    a->answer = vlm_session_generate(
        a->session,
        &(vlm_generate_params){ .prompt = "What happens?", .max_tokens = a->max_tokens },
        &a->error);
    return NULL;
}

// Answers of one session and of several, some ending by their length and some with a token, are
// what they are one by one.
static void test_several(void)
{
    static const uint32_t lengths[] = { 3, 9, 10, 24, 25, 40 };
    const guint n = G_N_ELEMENTS(lengths);
    g_autoptr(vlm_engine) engine = open_steps(1);
    vlm_session *sessions[3];
    asker alone[G_N_ELEMENTS(lengths)], together[G_N_ELEMENTS(lengths)];
    GThread *threads[G_N_ELEMENTS(lengths)];

    if (!engine)
        return;
    for (guint i = 0; i < 3; i++) {
        sessions[i] = new_session(engine, 1024);
        add_frames(sessions[i], 10 * i, 2 * i);
    }
    g_autoptr(vlm_generation) some = greedy(sessions[1], 40, FALSE);
    for (gint round = 0; round < 6; round++) {
        g_atomic_int_set(&end_id, round == 0 ? -1 : (gint) some->tokens[5 * round]);
        for (guint i = 0; i < n; i++) {
            set_in_flight(engine, 1);
            alone[i] = (asker){ sessions[i % 3], lengths[i], NULL, NULL };
            run_asker(&alone[i]);
        }
        set_in_flight(engine, 2);
        for (guint i = 0; i < n; i++) {
            together[i] = (asker){ sessions[i % 3], lengths[i], NULL, NULL };
            threads[i] = g_thread_new("asker", run_asker, &together[i]);
        }
        for (guint i = 0; i < n; i++) {
            g_thread_join(threads[i]);
            g_assert_no_error(together[i].error);
            assert_same(alone[i].answer, together[i].answer);
            g_assert_cmpint(alone[i].answer->finish, ==, together[i].answer->finish);
            vlm_generation_free(alone[i].answer);
            vlm_generation_free(together[i].answer);
        }
    }
    g_assert_cmpuint(stats_of(engine).n_ahead, >, 0);
    for (guint i = 0; i < 3; i++)
        vlm_session_destroy(sessions[i]);
}

// Film that comes while an answer is under way is seen at once, and changes nothing in the answer.
static void test_film_meanwhile(void)
{
    g_autoptr(vlm_engine) engine = open_steps(1);
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 2048);
    g_autoptr(vlm_session) other = new_session(engine, 2048);
    add_frames(session, 0, 2);
    g_autoptr(vlm_generation) want = greedy(session, 60, FALSE);
    set_in_flight(engine, 2);
    asker a = { session, 60, NULL, NULL };
    GThread *thread = g_thread_new("asker", run_asker, &a);
    for (guint i = 1; i < 5; i++) {
        add_frames(other, 2 * i, 2);
        g_assert_true(vlm_session_wait(other, &error));
    }
    g_thread_join(thread);
    g_assert_no_error(a.error);
    assert_same(want, a.answer);
    vlm_generation_free(a.answer);
    // of the session itself, which the answer has forked
    a = (asker){ session, 60, NULL, NULL };
    thread = g_thread_new("asker", run_asker, &a);
    vlm_session_stats stats;
    do {
        g_thread_yield();
        vlm_session_get_stats(session, &stats);
    } while (stats.n_generations < 3);
    add_frames(session, 4, 2);
    g_assert_true(vlm_session_wait(session, &error));
    g_thread_join(thread);
    assert_same(want, a.answer);
    vlm_generation_free(a.answer);
}

// Film doesn't wait until an answer ends.
static void test_film_first(void)
{
    g_autoptr(vlm_engine) engine = open_steps(2);
    g_autoptr(GError) error = NULL;
    vlm_session_stats stats;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 8192);
    g_autoptr(vlm_session) other = new_session(engine, 2048);
    asker a = { session, 6000, NULL, NULL };
    GThread *thread = g_thread_new("asker", run_asker, &a);
    do {
        g_thread_yield();
        vlm_session_get_stats(session, &stats);
    } while (stats.n_generated < 3);
    add_frames(other, 0, 2);
    g_assert_true(vlm_session_wait(other, &error));
    vlm_session_get_stats(session, &stats);
    g_assert_cmpuint(stats.n_generated, <, 5000);
    vlm_session_cancel(session);
    g_thread_join(thread);
    g_assert_error(a.error, VLM_ERROR, VLM_ERROR_CANCELLED);
    g_clear_error(&a.error);
}

// An answer that wants more than the likeliest token goes step by step.
static void test_not_greedy(void)
{
    const uint32_t banned = 5;
    const vlm_generate_params wishes[] = {
        { .sampling = { .temperature = 1.0, .seed = 7 } },
        { .n_top_logits = 3 },
        { .banned = &banned, .n_banned = 1 },
    };
    g_autoptr(vlm_engine) engine = open_steps(2);
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 1024);
    for (size_t i = 0; i < G_N_ELEMENTS(wishes); i++) {
        vlm_generate_params params = wishes[i];
        params.prompt = "What happens?";
        params.max_tokens = 20;
        set_in_flight(engine, 1);
        g_autoptr(vlm_generation) want = vlm_session_generate(session, &params, &error);
        g_assert_no_error(error);
        set_in_flight(engine, 2);
        g_autoptr(vlm_generation) got = vlm_session_generate(session, &params, &error);
        g_assert_no_error(error);
        assert_same(want, got);
        g_assert_cmpuint(stats_of(engine).n_ahead, ==, 0);
    }
}

typedef struct canceller {
    vlm_session *session;
    uint64_t n_generated;  // when to do it
} canceller;

static gpointer cancel_then(gpointer data)
{
    const canceller *c = data;
    vlm_session_stats stats;

    do {
        g_thread_yield();
        vlm_session_get_stats(c->session, &stats);
    } while (stats.n_generated < c->n_generated);
    vlm_session_cancel(c->session);
    return NULL;
}

// Cancelled with two steps on the device; then reset, or gone.
static void test_cancel(void)
{
    g_autoptr(vlm_engine) engine = open_steps(2);
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) beside = new_session(engine, 1024);
    g_autoptr(vlm_generation) want = greedy(beside, 30, FALSE);
    for (guint i = 0; i < 12; i++) {
        vlm_session *session = new_session(engine, 4096);
        canceller c = { session, i };
        asker a = { beside, 30, NULL, NULL };
        GThread *thread = g_thread_new("cancel", cancel_then, &c);
        GThread *other = i % 3 ? NULL : g_thread_new("asker", run_asker, &a);
        g_assert_null(vlm_session_generate(
            session,
            &(vlm_generate_params){
                .prompt = "Go on.", .max_tokens = 3000, .ignore_stop = TRUE, .keep = i % 2 },
            &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_CANCELLED);
        g_clear_error(&error);
        g_thread_join(thread);
        if (i % 4 < 2) {
            g_assert_true(vlm_session_reset(session, &error));
            g_autoptr(vlm_generation) again = greedy(session, 30, FALSE);
            assert_same(want, again);
        }
        vlm_session_destroy(session);
        if (other) {
            g_thread_join(other);
            g_assert_no_error(a.error);
            assert_same(want, a.answer);
            vlm_generation_free(a.answer);
        }
    }
}

// An answer is handed out while the step behind it is still on the device: everything may go then.
static void test_gone(void)
{
    for (gint n = 1; n < 8; n++) {
        g_autoptr(vlm_engine) engine = open_steps(2);
        if (!engine)
            return;
        vlm_session *session = new_session(engine, 1024);
        end_after(n);
        g_autoptr(vlm_generation) got = greedy(session, 100, FALSE);
        g_assert_cmpuint(got->n_tokens, ==, (guint) n);
        g_assert_cmpuint(stats_of(engine).n_ahead, ==, (guint) n);
        vlm_session_destroy(session);
    }
}

// The device is lost at submit `n` of an answer of 8 tokens: what its two callers get.
static char *lose(uint32_t in_flight, gint n)
{
    g_autoptr(vlm_engine) engine = open_steps(in_flight);
    g_autoptr(GError) error = NULL;

    if (!engine)
        return NULL;
    g_autoptr(vlm_session) session = new_session(engine, 1024), other = new_session(engine, 1024);
    add_frames(session, 0, 2);
    vlm_generation_free(greedy(session, 8, FALSE));
    engine->dev->fail_submit_at = engine->dev->n_submit + n;
    g_autoptr(vlm_generation) got = vlm_session_generate(
        session, &(vlm_generate_params){ .prompt = "Go on.", .max_tokens = 8, .keep = n % 2 == 0 },
        &error);
    if (got)
        return g_strdup("an answer");
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
    g_autofree char *message = g_strdup(error->message);
    g_clear_error(&error);
    g_assert_null(vlm_session_generate(other, &(vlm_generate_params){ .prompt = "Well?" }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
    return g_strdup_printf("%s | %s", message, error->message);
}

static void test_lost(void)
{
    for (gint n = 1; n <= 9; n++) {
        g_autofree char *want = lose(1, n);
        g_autofree char *got = lose(2, n);
        if (!want)
            return;
        g_assert_cmpstr(got, ==, want);
        g_assert_cmpint(g_str_equal(want, "an answer"), ==, n == 9);
    }
}

#define MAX_STARVED 3u

// Answers when the pool has only `n_free` pages left and the allocation of more fails once.
static void starve(uint32_t in_flight, guint n_free, asker *askers, guint n_asker)
{
    g_autoptr(vlm_engine) engine = open_steps(in_flight);
    g_autoptr(GError) error = NULL;
    GThread *threads[MAX_STARVED];

    g_autoptr(vlm_session) session = new_session(engine, 512);
    vlm_generation_free(greedy(session, 2, FALSE));
    g_mutex_lock(&engine->lock);
    const guint n_take = (guint) vlm_context_pages(512) - vlm_kv_pool_n_used(engine->pool) - n_free;
    vlm_kv_seq *taker = vlm_kv_seq_create(engine->pool);
    g_assert_true(vlm_kv_seq_prepare(taker, engine->cmd, n_take * VLM_PAGE_TOKENS, &error));
    engine->dev->fail_alloc_at = engine->dev->n_alloc + 1;
    g_mutex_unlock(&engine->lock);
    for (guint i = 0; i < n_asker; i++) {
        askers[i] = (asker){ session, 200, NULL, NULL };
        threads[i] = g_thread_new("asker", run_asker, &askers[i]);
    }
    for (guint i = 0; i < n_asker; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(engine->dev->n_alloc, >=, engine->dev->fail_alloc_at);
    g_mutex_lock(&engine->lock);
    vlm_kv_seq_destroy(taker);
    g_mutex_unlock(&engine->lock);
}

// A step ahead that gets no memory isn't sent, and leaves nothing behind; what is said of it is
// said when it is the next step's turn, unless there is memory then.
static void test_no_memory(void)
{
    g_autoptr(vlm_engine) engine = open_steps(1);
    asker askers[MAX_STARVED];

    if (!engine)
        return;
    if (vlm_engine_get_info(engine)->n_recurrent > 0) {
        g_test_skip("sequences take states as well");
        return;
    }
    vlm_session *session = new_session(engine, 512);
    g_autoptr(vlm_generation) want = greedy(session, 200, FALSE);
    vlm_session_destroy(session);
    g_clear_pointer(&engine, vlm_engine_unref);
    for (guint n_free = 1; n_free <= 3; n_free++) {
        starve(1, n_free, askers, 1);
        g_assert_error(askers[0].error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
        g_clear_error(&askers[0].error);
        starve(2, n_free, askers, 1);
        g_assert_no_error(askers[0].error);
        assert_same(want, askers[0].answer);
        vlm_generation_free(askers[0].answer);
    }
    // One of several gets none: the others' tokens are taken back too.
    for (guint n_free = 4; n_free <= 7; n_free++) {
        starve(2, n_free, askers, MAX_STARVED);
        for (guint i = 0; i < MAX_STARVED; i++) {
            if (askers[i].error)  // (it was no step ahead)
                g_assert_error(askers[i].error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
            else
                assert_same(want, askers[i].answer);
            g_clear_error(&askers[i].error);
            vlm_generation_free(askers[i].answer);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc != 3) {
        g_printerr("usage: check_steps TEXT.gguf MMPROJ.gguf\n");
        return 2;
    }
    text_path = argv[1];
    mmproj_path = argv[2];
    g_test_add_func("/steps/same", test_same);
    g_test_add_func("/steps/context-end", test_context_end);
    g_test_add_data_func("/steps/stop", GINT_TO_POINTER(FALSE), test_stop);
    g_test_add_data_func("/steps/stop-kept", GINT_TO_POINTER(TRUE), test_stop);
    g_test_add_func("/steps/several", test_several);
    g_test_add_func("/steps/film-meanwhile", test_film_meanwhile);
    g_test_add_func("/steps/film-first", test_film_first);
    g_test_add_func("/steps/not-greedy", test_not_greedy);
    g_test_add_func("/steps/cancel", test_cancel);
    g_test_add_func("/steps/gone", test_gone);
    g_test_add_func("/steps/lost", test_lost);
    g_test_add_func("/steps/no-memory", test_no_memory);
    return g_test_run();
}
