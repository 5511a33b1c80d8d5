// SPDX-License-Identifier: LGPL-2.1-or-later
// check_sessions.c — what vlm.h promises about engines and sessions, on small random models.
//
//   check_sessions TEXT.gguf MMPROJ.gguf
//
// Sharing, forks, batching, the sliding window, conversations, cancelling, errors, and that
// decoding allocates nothing. GLib test program (TAP); skips without a device.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sessions_common.h"
#include "vectors.h"

// The same files on the same device are loaded once.
static void test_shared(void)
{
    g_autoptr(vlm_engine) a = open_engine();
    vlm_engine_stats before, after;

    if (!a)
        return;
    vlm_engine_get_stats(a, &before);
    g_autoptr(vlm_engine) b = open_engine();
    g_assert_true(a == b);
    vlm_engine_get_stats(b, &after);
    g_assert_cmpuint(after.n_upload, ==, before.n_upload);
    g_assert_cmpuint(after.weight_bytes, ==, before.weight_bytes);
}

// Asking twice gives the same answer, and the film is encoded once.
static void test_forks(gconstpointer data)
{
    g_autoptr(vlm_engine) engine = open_engine_as(GPOINTER_TO_UINT(data));
    vlm_session_stats stats;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 2048);
    add_frames(session, 0, 6);
    g_autoptr(vlm_generation) first = ask(session, "What happens?", 12);
    g_autoptr(vlm_generation) other = ask(session, "How many are there?", 12);
    g_autoptr(vlm_generation) again = ask(session, "What happens?", 12);
    assert_same(first, again);
    g_assert_cmpuint(first->n_context, ==, again->n_context);
    g_assert_cmpuint(other->n_tokens, ==, 12);
    vlm_session_get_stats(session, &stats);
    g_assert_cmpuint(stats.n_frames, ==, 6);
    g_assert_cmpuint(stats.n_generations, ==, 3);

    // and a session that sees the same film says the same
    g_autoptr(vlm_session) twin = new_session(engine, 2048);
    add_frames(twin, 0, 6);
    g_autoptr(vlm_generation) from_twin = ask(twin, "What happens?", 12);
    assert_same(first, from_twin);
    // but one that sees another film thinks something else
    g_autoptr(vlm_session) stranger = new_session(engine, 2048);
    add_frames(stranger, 7, 6);
    g_autoptr(vlm_generation) from_stranger = ask(stranger, "What happens?", 12);
    g_assert_cmpfloat(first->top[0].logit, !=, from_stranger->top[0].logit);
    g_assert_cmpfloat(first->top[0].logit, ==, from_twin->top[0].logit);
}

typedef struct asker {
    vlm_engine *engine;
    guint first_frame, n_frames;
    vlm_generation *answer;
} asker;

static gpointer run_asker(gpointer data)
{
    asker *a = data;
    g_autoptr(vlm_session) session = new_session(a->engine, 2048);

    add_frames(session, a->first_frame, a->n_frames);
    a->answer = ask(session, "What happens?", 24);
    return NULL;
}

// Sessions that run together, one of them without pictures, are batched and answer as they do
// alone.
static void test_batched(gconstpointer data)
{
    g_autoptr(vlm_engine) engine = open_engine_as(GPOINTER_TO_UINT(data));
    vlm_engine_stats stats;
    asker alone[4], together[4];
    GThread *threads[4];

    if (!engine)
        return;
    for (guint i = 0; i < 4; i++) {
        alone[i] = (asker){ engine, i * 10, i % 2 ? 4 : 0, NULL };
        run_asker(&alone[i]);
    }
    for (guint i = 0; i < 4; i++) {
        together[i] = (asker){ engine, i * 10, i % 2 ? 4 : 0, NULL };
        threads[i] = g_thread_new("asker", run_asker, &together[i]);
    }
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    for (guint i = 0; i < 4; i++) {
        assert_same(alone[i].answer, together[i].answer);
        vlm_generation_free(alone[i].answer);
        vlm_generation_free(together[i].answer);
    }
    vlm_engine_get_stats(engine, &stats);
    g_assert_cmpuint(stats.n_step, >, 0);
}

// A film far longer than the context: the oldest goes, memory stays.
static void test_window(gconstpointer data)
{
    g_autoptr(vlm_engine) engine = open_engine_as(GPOINTER_TO_UINT(data));
    vlm_engine_stats before, after;
    vlm_session_stats stats;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 512);
    add_frames(session, 0, 40);
    vlm_generation_free(ask(session, "What happens?", 8));
    vlm_engine_get_stats(engine, &before);
    for (guint i = 1; i < 12; i++) {
        add_frames(session, 40 * i, 40);
        g_autoptr(vlm_generation) got = ask(session, "What happens?", 8);
        g_assert_cmpuint(got->n_context, <=, 512);
        g_assert_cmpuint(got->n_tokens, ==, 8);
    }
    vlm_engine_get_stats(engine, &after);
    vlm_session_get_stats(session, &stats);
    g_assert_cmpuint(stats.n_frames, ==, 480);
    g_assert_cmpuint(stats.n_evicted, >=, 479);  // a token each at least
    g_assert_true(is_llama(engine) || stats.n_evicted > 1000);
    g_assert_cmpuint(stats.context_used, <=, 512);
    g_assert_cmpuint(stats.n_evicted + stats.context_used, ==, stats.n_prefilled);
    g_assert_cmpuint(after.total_bytes, ==, before.total_bytes);
}

// Frames whose time goes back are another film: Qwen2-VL brackets each as a whole, and what opens
// the first stays when its frames are let go.
static void test_two_films(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    vlm_session_stats stats;

    if (!engine)
        return;
    const gboolean brackets = g_str_has_prefix(vlm_engine_get_info(engine)->projector, "qwen2");
    const uint32_t n_rows = 144;  // of a pair of frames of 64 x 64, as Qwen2-VL sees them
    g_autoptr(vlm_session) one = new_session(engine, 2048);
    g_autoptr(vlm_session) two = new_session(engine, 2048);
    add_frames(one, 0, 4);
    add_frames(two, 2, 2);
    add_frames(two, 0, 2);
    g_autoptr(vlm_generation) of_one = ask(one, "What happens?", 4);
    g_autoptr(vlm_generation) of_two = ask(two, "What happens?", 4);
    if (!brackets)
        return;
    g_assert_cmpuint(of_two->n_context, ==, of_one->n_context + 2);
    g_autoptr(vlm_session) brief = new_session(engine, 512);
    add_frames(brief, 0, 10);
    g_autoptr(vlm_generation) of_rest = ask(brief, "What happens?", 4);
    vlm_session_get_stats(brief, &stats);
    g_assert_cmpuint(stats.n_evicted, ==, 3 * n_rows);
    g_assert_cmpuint(of_rest->n_context, ==, of_one->n_context);
}

// An exchange that is kept becomes part of what the next prompt looks at.
static void test_conversation(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    vlm_session_stats stats;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 2048);
    add_frames(session, 0, 2);
    g_autoptr(vlm_generation) first = vlm_session_generate(
        session,
        &(vlm_generate_params){
            .prompt = "What is it?", .max_tokens = 5, .ignore_stop = TRUE, .keep = TRUE },
        &error);
    g_assert_no_error(error);
    g_assert_true(vlm_session_wait(session, &error));
    vlm_session_get_stats(session, &stats);
    // prompt, five tokens, what ends the answer and begins the next turn in the model's protocol
    const char *projector = vlm_engine_get_info(engine)->projector;
    const char *between = g_str_equal(projector, "idefics3") ? "<end_of_utterance>\nUser:"
                          : g_str_equal(projector, "mlp")    ? "</s>USER:"
                          : is_llama(engine)
                              ? "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
                              : "<|im_end|>\n<|im_start|>user\n";
    g_autoptr(GArray) joint = vlm_engine_tokenize(engine, between, TRUE, &error);
    g_assert_cmpuint(stats.context_used, ==, first->n_context + 5 + joint->len);
    g_autoptr(vlm_generation) second = ask(session, "And why?", 5);
    g_assert_cmpuint(second->n_context, ==, stats.context_used + second->n_prompt);
    // the same prompt without the exchange is answered from a shorter context
    g_autoptr(vlm_session) fresh = new_session(engine, 2048);
    add_frames(fresh, 0, 2);
    g_autoptr(vlm_generation) without = ask(fresh, "And why?", 5);
    g_assert_cmpuint(without->n_context, <, second->n_context);
}

static gpointer cancel_soon(gpointer data)
{
    vlm_session_stats stats;

    do {  // once the answer is under way
        g_thread_yield();
        vlm_session_get_stats(data, &stats);
    } while (stats.n_generated < 3);
    vlm_session_cancel(data);
    return NULL;
}

static void test_cancel(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 4096);
    add_frames(session, 0, 2);
    g_autoptr(vlm_generation) before = ask(session, "What happens?", 6);
    GThread *thread = g_thread_new("cancel", cancel_soon, session);
    g_assert_null(vlm_session_generate(
        session,
        &(vlm_generate_params){ .prompt = "Go on.", .max_tokens = 3000, .ignore_stop = TRUE },
        &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_CANCELLED);
    g_clear_error(&error);
    g_thread_join(thread);
    g_assert_false(vlm_session_add_text(session, "more", &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_CANCELLED);
    g_clear_error(&error);
    // after a reset the session is as new
    g_assert_true(vlm_session_reset(session, &error));
    add_frames(session, 0, 2);
    g_autoptr(vlm_generation) after = ask(session, "What happens?", 6);
    assert_same(before, after);
    // cancelling at any moment, then going away, is fine
    for (int i = 0; i < 20; i++) {
        vlm_session *brief = new_session(engine, 1024);
        if (i % 2)
            add_frames(brief, 0, (guint) i);
        vlm_session_cancel(brief);
        vlm_session_destroy(brief);
    }
}

static void test_errors(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    static const uint8_t pixel[3] = { 0 };

    if (!engine)
        return;
    g_assert_null(vlm_session_create(engine, &(vlm_session_params){ .context_size = 8 }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_autofree char *long_text = g_strnfill(20000, 'x');
    g_assert_null(vlm_session_create(
        engine, &(vlm_session_params){ .context_size = 512, .system_prompt = long_text }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);

    g_autoptr(vlm_session) session = new_session(engine, 512);
    g_assert_false(vlm_session_add_text(session, "\xff", &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_false(vlm_session_add_frame(session, &(vlm_image){ .plane = { pixel } }, 0, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_null(
        vlm_session_generate(session, &(vlm_generate_params){ .prompt = long_text }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_assert_nonnull(strstr(error->message, "512"));
    g_clear_error(&error);
    g_assert_null(vlm_engine_open(&(vlm_engine_params){ .model = "/nonexistent/m.gguf" }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(vlm_engine_open(&(vlm_engine_params){ .model = text_path,
                                                        .mmproj = mmproj_path,
                                                        .device = "no such device" },
                                  &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_NO_DEVICE);
    g_clear_error(&error);
    g_assert_null(
        vlm_engine_open(&(vlm_engine_params){ .model = mmproj_path, .mmproj = text_path }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    // the session still works
    g_autoptr(vlm_generation) got = ask(session, "Well?", 3);
    g_assert_cmpuint(got->n_tokens, ==, 3);
}

// Odd pictures go through: nothing is assumed of their sides.
static void test_odd_pictures(void)
{
    static const uint32_t sizes[][2] = { { 1, 1 },     { 1, 150 }, { 150, 1 }, { 37, 53 },
                                         { 400, 800 }, { 2, 3 },   { 333, 64 } };
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 4096);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const uint32_t w = sizes[i][0], h = sizes[i][1];
        g_autofree uint8_t *rgb = g_malloc((gsize) w * h * 3);
        vectors_picture(w, h, (uint32_t) i, rgb);
        vlm_image image = {
            .format = VLM_PIXEL_RGB, .width = w, .height = h, .plane = { rgb }, .stride = { w * 3 }
        };
        g_assert_true(vlm_session_add_image(session, &image, &error));
        g_assert_no_error(error);
    }
    g_autoptr(vlm_generation) got = ask(session, "What are these?", 4);
    g_assert_cmpuint(got->n_tokens, ==, 4);
}

// A decoded token costs no allocation and no pipeline, and one wait.
static void test_steady_state(gconstpointer data)
{
    g_autoptr(vlm_engine) engine = open_engine_as(GPOINTER_TO_UINT(data));
    vlm_engine_stats before, after;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, 2048);
    add_frames(session, 0, 4);
    vlm_generation_free(ask(session, "What happens?", 8));
    vlm_engine_get_stats(engine, &before);
    g_autoptr(vlm_generation) got = ask(session, "What happens?", 40);
    vlm_engine_get_stats(engine, &after);
    g_assert_cmpuint(got->n_tokens, ==, 40);
    g_assert_cmpuint(after.n_alloc, ==, before.n_alloc);
    g_assert_cmpuint(after.n_pipeline, ==, before.n_pipeline);
    g_assert_cmpuint(after.n_step - before.n_step, ==, 40);
    g_assert_cmpuint(after.n_wait - before.n_wait, ==, 40);
    // Recorded: the prompt, the first token behind it, and one where a page of 64 tokens begins.
    g_assert_cmpuint(after.n_record - before.n_record, <=, 3);
    g_assert_cmpuint(after.n_replay - before.n_replay, >=, 37);
    assert_token_cost(engine, session, TRUE);
    assert_token_cost(engine, session, FALSE);
    g_assert_cmpuint(after.n_validation, ==, 0);
}

// The memory of a context is what `vlm info` says, to the byte, for one session and for more.
static void test_memory(gconstpointer data)
{
    const vlm_kv_type type = GPOINTER_TO_UINT(data);
    const uint32_t sizes[] = { 256, 1000, 8192 };
    g_autoptr(vlm_engine) engine = open_engine_as(type);
    g_autoptr(GError) error = NULL;
    vlm_session *sessions[G_N_ELEMENTS(sizes)];
    vlm_engine_stats stats;
    uint64_t expected = 0;

    if (!engine)
        return;
    g_assert_cmpint(vlm_engine_get_kv_type(engine), ==, type);
    g_autoptr(vlm_model_info) info =
        vlm_model_info_read(text_path, mmproj_path, VLM_VISION_REQUIRED, &error);
    g_assert_no_error(error);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        sessions[i] = new_session(engine, sizes[i]);
        expected += vlm_model_context_bytes(info, type, sizes[i]);
        vlm_engine_get_stats(engine, &stats);
        g_assert_cmpuint(stats.kv_bytes, ==, expected);
    }
    // and so is all the rest, but for what frames need, within 3 %
    const uint64_t predicted = vlm_engine_get_info(engine)->weight_bytes
                               + vlm_engine_get_info(engine)->scratch_bytes + expected;
    g_assert_cmpfloat((double) stats.total_bytes, <=, 1.03 * (double) predicted);
    g_assert_cmpfloat((double) stats.total_bytes, >=, 0.97 * (double) predicted);
    // Looking and answering take none of it, nor do forks beyond what is set aside.
    add_frames(sessions[2], 0, 8);
    for (guint i = 0; i < 2; i++)
        vlm_generation_free(ask(sessions[2], "What happens?", 8));
    vlm_engine_get_stats(engine, &stats);
    g_assert_cmpuint(stats.kv_bytes, ==, expected);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
        vlm_session_destroy(sessions[i]);
}

// Kernels of GPUs add up differently for another number of rows, and which pieces of two sessions'
// films share a step differs from run to run. Those of CPU drivers don't.
static gboolean has_gpu_kernels(vlm_engine *engine)
{
    const char *slow = g_getenv("VLM_SLOW_CAPS");

    return !strstr(vlm_engine_get_device_name(engine), "llvmpipe") || g_strcmp0(slow, "1") == 0;
}

// A context in fewer bits changes the answer a little, and another film changes it more.
static void test_types_agree(void)
{
    g_autoptr(vlm_engine) exact = open_engine();

    if (!exact)
        return;
    g_autoptr(vlm_session) like = new_session(exact, 2048), unlike = new_session(exact, 2048);
    add_frames(like, 0, 6);
    add_frames(unlike, 7, 6);
    g_autoptr(vlm_generation) want = ask(like, "What happens?", 1);
    g_autoptr(vlm_generation) other = ask(unlike, "What happens?", 1);
    const double limit[VLM_N_KV_TYPE] = { 1e-3, has_gpu_kernels(exact) ? 1e-5 : 0, 1e-2, 2e-1 };
    for (guint type = 0; type < VLM_N_KV_TYPE; type++) {
        g_autoptr(vlm_engine) engine = open_engine_as(type);
        g_autoptr(vlm_session) session = new_session(engine, 2048);
        add_frames(session, 0, 6);
        g_autoptr(vlm_generation) got = ask(session, "What happens?", 1);
        const double change = fabs((double) got->top[0].logit - (double) want->top[0].logit);
        g_test_message("%s: largest logit %g, f32 %g, other film %g", vlm_kv_type_name(type),
                       (double) got->top[0].logit, (double) want->top[0].logit,
                       (double) other->top[0].logit);
        g_assert_cmpfloat(change, <=, limit[type] * fabs((double) want->top[0].logit));
        if (type != VLM_KV_F32)
            g_assert_cmpfloat(change, >, 0.0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc != 3) {
        g_printerr("usage: check_sessions TEXT.gguf MMPROJ.gguf\n");
        return 2;
    }
    text_path = argv[1];
    mmproj_path = argv[2];
    g_test_add_func("/sessions/shared", test_shared);
    for (guint type = 0; type < VLM_N_KV_TYPE; type++) {
        add_for_type("forks", type, test_forks);
        add_for_type("memory", type, test_memory);
        if (type == VLM_KV_F16)  // has nothing of its own after that
            continue;
        add_for_type("batched", type, test_batched);
        add_for_type("window", type, test_window);
        add_examples_tests_for(type);
        add_for_type("steady-state", type, test_steady_state);
    }
    g_test_add_func("/sessions/two-films", test_two_films);
    g_test_add_func("/sessions/conversation", test_conversation);
    add_examples_tests();
    g_test_add_func("/sessions/types-agree", test_types_agree);
    g_test_add_func("/sessions/cancel", test_cancel);
    g_test_add_func("/sessions/errors", test_errors);
    g_test_add_func("/sessions/odd-pictures", test_odd_pictures);
    return g_test_run();
}
