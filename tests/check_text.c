// SPDX-License-Identifier: LGPL-2.1-or-later
// check_text.c — check_text MODEL.gguf: what vlm.h promises of a text model alone, and of scores.
//
// MODEL is a random one whose prompts are written in ChatML. Exit status 77: no device.
#include <math.h>
#include <string.h>

#include "vlm.h"

static const char *model_path;

static vlm_engine *open_engine(void)
{
    g_autoptr(GError) error = NULL;
    vlm_engine *engine = vlm_engine_open(&(vlm_engine_params){ .model = model_path,
                                                               .vision = VLM_VISION_NONE,
                                                               .kv_type = VLM_KV_F32 },
                                         &error);

    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_NO_DEVICE)) {
        g_test_skip(error->message);
        return NULL;
    }
    g_assert_no_error(error);
    return engine;
}

static vlm_session *new_session(vlm_engine *engine, gboolean raw)
{
    g_autoptr(GError) error = NULL;
    vlm_session *session = vlm_session_create(
        engine, &(vlm_session_params){ .context_size = 512, .raw = raw }, &error);

    g_assert_no_error(error);
    return session;
}

static vlm_generation *ask(vlm_session *session, const char *prompt, uint32_t n, gboolean keep)
{
    g_autoptr(GError) error = NULL;
    vlm_generation *got = vlm_session_generate(session,
                                               &(vlm_generate_params){ .prompt = prompt,
                                                                       .max_tokens = n,
                                                                       .keep = keep,
                                                                       .ignore_stop = TRUE,
                                                                       .n_top_logits = 1000 },
                                               &error);

    g_assert_no_error(error);
    g_assert_cmpuint(got->n_tokens, ==, n);
    return got;
}

static GArray *tokens_of(vlm_engine *engine, const char *text)
{
    g_autoptr(GError) error = NULL;
    GArray *tokens = vlm_engine_tokenize(engine, text, TRUE, &error);

    g_assert_no_error(error);
    return tokens;
}

static void assert_same(const vlm_generation *a, const vlm_generation *b)
{
    g_assert_cmpmem(a->tokens, a->n_tokens * sizeof *a->tokens, b->tokens,
                    b->n_tokens * sizeof *b->tokens);
}

// A conversation is raw text with the turns written out.
static void test_raw(void)
{
    static const char question[] = "Why is the sky blue?";
    static const char written[] = "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n"
                                  "<|im_start|>assistant\n";
    g_autoptr(vlm_engine) engine = open_engine();

    if (!engine)
        return;
    g_autoptr(vlm_session) chat = new_session(engine, FALSE), raw = new_session(engine, TRUE);
    g_autoptr(vlm_generation) want = ask(chat, question, 16, FALSE);
    g_autoptr(vlm_generation) got = ask(raw, written, 16, FALSE);
    g_autoptr(vlm_generation) other = ask(raw, question, 16, FALSE);
    g_autoptr(GArray) tokens = tokens_of(engine, written);
    assert_same(got, want);
    g_assert_cmpuint(got->n_context, ==, tokens->len);
    g_assert_cmpuint(got->n_prompt, ==, tokens->len);
    g_assert_cmpuint(want->n_context, ==, tokens->len);
    g_assert_cmpint(memcmp(other->tokens, want->tokens, 16 * sizeof *want->tokens), !=, 0);
}

// Raw text goes on where it ended; nothing is put between, and a reset forgets it.
static void test_raw_goes_on(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(vlm_session) session = new_session(engine, TRUE);
    g_autoptr(vlm_generation) whole = ask(session, "A man walks", 12, FALSE);
    g_autoptr(vlm_generation) first = ask(session, "A man walks", 5, TRUE);
    // what is left of the answer is another one, which begins with nothing
    g_assert_null(vlm_session_generate(session, &(vlm_generate_params){ .prompt = "" }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_cmpint(memcmp(first->tokens, whole->tokens, 5 * sizeof *whole->tokens), ==, 0);
    g_autoptr(GArray) start = tokens_of(engine, "A man walks");
    g_autoptr(GArray) more = tokens_of(engine, " and runs");
    g_autoptr(vlm_generation) next = ask(session, " and runs", 3, FALSE);
    g_assert_cmpuint(next->n_context, ==, start->len + 5 + more->len);
    g_assert_true(vlm_session_reset(session, &error));
    g_autoptr(vlm_generation) again = ask(session, "A man walks", 12, FALSE);
    assert_same(again, whole);
}

static void test_refusals(void)
{
    static const uint8_t rgb[32 * 32 * 3];
    const vlm_image image = {
        .format = VLM_PIXEL_RGB, .width = 32, .height = 32, .plane = { rgb }, .stride = { 96 }
    };
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;
    vlm_bench_result result;

    if (!engine)
        return;
    g_assert_null(vlm_engine_get_info(engine)->projector);
    g_assert_null(vlm_engine_get_info(engine)->mmproj_path);
    for (guint raw = 0; raw < 2; raw++) {
        g_autoptr(vlm_session) session = new_session(engine, raw != 0);
        g_assert_false(vlm_session_add_image(session, &image, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_assert_nonnull(strstr(error->message, "mmproj"));
        g_clear_error(&error);
        g_assert_false(vlm_session_add_frame(session, &image, 0, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_clear_error(&error);
        vlm_generation_free(ask(session, "And still it talks.", 2, FALSE));
    }
    g_assert_false(vlm_engine_bench(
        engine, &(vlm_bench_params){ .width = 64, .height = 64, .n_frames = 1 }, &result, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_null(vlm_session_create(
        engine, &(vlm_session_params){ .raw = TRUE, .system_prompt = "Be brief." }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_null(vlm_engine_open(&(vlm_engine_params){ .model = model_path }, &error));
    g_assert_nonnull(error);
}

// Scores are what the logits of a generation say, wherever a text is cut.
static void test_scores(void)
{
    g_autoptr(vlm_engine) engine = open_engine();
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    g_autoptr(GString) text = g_string_new("The quick brown fox");
    while (text->len < 600)  // more rows than a step has
        g_string_append(text, " jumps over the lazy dog");
    g_autoptr(GArray) tokens = tokens_of(engine, text->str);
    const uint32_t n = tokens->len, n_vocab = vlm_engine_get_info(engine)->n_vocab;
    const uint32_t *ids = &g_array_index(tokens, uint32_t, 0);
    g_autofree double *all = g_new(double, n), *tail = g_new(double, n);
    g_assert_true(vlm_engine_score(engine, ids, n, 1, all, &error));
    g_assert_no_error(error);
    g_assert_true(vlm_engine_score(engine, ids, n, n / 2, tail, &error));
    for (uint32_t i = n / 2; i < n; i++)
        g_assert_cmpfloat(fabs(tail[i - n / 2] - all[i - 1]), <=, 1e-6);
    // the last one from the logits behind the others
    g_assert_cmpuint(n_vocab, <=, 1000);
    g_autoptr(vlm_session) session = new_session(engine, TRUE);
    g_string_truncate(text, text->len - strlen(" dog"));
    g_autoptr(GArray) before = tokens_of(engine, text->str);
    g_autoptr(vlm_generation) got = ask(session, text->str, 1, FALSE);
    double sum = 0, logit = 0;
    g_assert_cmpuint(got->n_top_logits, ==, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++) {
        sum += exp((double) got->top[i].logit);
        if (got->top[i].token == ids[before->len])
            logit = (double) got->top[i].logit;
    }
    g_assert_cmpfloat(fabs(all[before->len - 1] - (logit - log(sum))), <=, 1e-5);
    g_assert_false(vlm_engine_score(engine, ids, n, 0, all, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_false(vlm_engine_score(engine, ids, 1, 1, all, &error));
    g_clear_error(&error);
    const uint32_t outside[] = { 0, n_vocab };
    g_assert_false(vlm_engine_score(engine, outside, 2, 1, all, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc != 2) {
        g_printerr("usage: check_text MODEL.gguf\n");
        return 2;
    }
    model_path = argv[1];
    g_test_add_func("/text/raw", test_raw);
    g_test_add_func("/text/raw goes on", test_raw_goes_on);
    g_test_add_func("/text/refusals", test_refusals);
    g_test_add_func("/text/scores", test_scores);
    return g_test_run();
}
