// SPDX-License-Identifier: LGPL-2.1-or-later
// sessions_common.c — see sessions_common.h.
#include "sessions_common.h"

#include "vectors.h"

const char *text_path, *mmproj_path;

vlm_engine *open_engine_as(vlm_kv_type kv_type)
{
    g_autoptr(GError) error = NULL;
    vlm_engine *engine = vlm_engine_open(
        &(vlm_engine_params){ .model = text_path, .mmproj = mmproj_path, .kv_type = kv_type },
        &error);

    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_NO_DEVICE)) {
        g_test_skip(error->message);
        return NULL;
    }
    g_assert_no_error(error);
    return engine;
}

vlm_engine *open_engine(void)
{
    return open_engine_as(VLM_KV_F32);
}

vlm_session *new_session(vlm_engine *engine, uint32_t context_size)
{
    g_autoptr(GError) error = NULL;
    vlm_session *session = vlm_session_create(
        engine, &(vlm_session_params){ .context_size = context_size, .system_prompt = "Look." },
        &error);

    g_assert_no_error(error);
    return session;
}

// Families whose special tokens the tests spell out.
gboolean is_llama(vlm_engine *engine)
{
    g_autoptr(GArray) end = vlm_engine_tokenize(engine, "<|eot_id|>", TRUE, NULL);

    return end->len == 1;
}

void add_frames(vlm_session *session, guint from, guint n)
{
    g_autoptr(GError) error = NULL;
    uint8_t rgb[64 * 64 * 3];

    for (guint i = from; i < from + n; i++) {
        vectors_picture(64, 64, i, rgb);
        vlm_image image = { .format = VLM_PIXEL_RGB,
                            .width = 64,
                            .height = 64,
                            .plane = { rgb },
                            .stride = { 64 * 3 } };
        vlm_session_add_frame(session, &image, (gint64) i * 500000000, &error);
        g_assert_no_error(error);
    }
}

vlm_generation *ask(vlm_session *session, const char *prompt, uint32_t max_tokens)
{
    g_autoptr(GError) error = NULL;
    vlm_generation *got = vlm_session_generate(
        session,
        &(vlm_generate_params){
            .prompt = prompt, .max_tokens = max_tokens, .ignore_stop = TRUE, .n_top_logits = 1 },
        &error);

    g_assert_no_error(error);
    return got;
}

// Counters of the engine after an answer of exactly max_tokens tokens.
static vlm_engine_stats stats_after(vlm_engine *engine, vlm_session *session, uint32_t max_tokens,
                                    gboolean alone)
{
    g_autoptr(GError) error = NULL;
    vlm_engine_stats stats;
    g_autoptr(vlm_generation) got = vlm_session_generate(
        session,
        &(vlm_generate_params){ .prompt = "What happens?",
                                .max_tokens = max_tokens,
                                .ignore_stop = TRUE,
                                .n_top_logits = alone },  // (which the host has to look for)
        &error);

    g_assert_no_error(error);
    g_assert_cmpuint(got->n_tokens, ==, max_tokens);
    vlm_engine_get_stats(engine, &stats);
    return stats;
}

void assert_token_cost(vlm_engine *engine, vlm_session *session, gboolean alone)
{
    const vlm_model_info *info = vlm_engine_get_info(engine);
    const gboolean recurrent = info->n_recurrent > 0, beside = info->picture_bytes[0] > 0;
    const uint64_t per_layer = recurrent            ? (info->n_expert > 0 ? 14 : 8)
                               : beside             ? 8
                               : info->n_expert > 0 ? 7
                                                    : 6;
    const uint64_t layers = per_layer * info->n_layer - info->n_recurrent;  // (these take one less)
    const uint64_t n = 30;  // tokens by which the answers differ: the cost of the prompt cancels
    const vlm_engine_stats start = stats_after(engine, session, 4, alone);
    const vlm_engine_stats brief = stats_after(engine, session, 4, alone);
    const vlm_engine_stats end = stats_after(engine, session, 4 + (uint32_t) n, alone);
    const uint64_t dispatches =
        (end.n_dispatch - brief.n_dispatch) - (brief.n_dispatch - start.n_dispatch);
    const uint64_t read = (end.n_read - brief.n_read) - (brief.n_read - start.n_read);

    g_assert_cmpuint(dispatches, <=, n * (layers + 4));
    g_assert_cmpuint(read, <=, n * 4 * info->n_active * 110 / 100);  // (all F32)
    g_assert_cmpuint(read, >, n * info->n_active);
    g_assert_cmpuint(end.n_wait - brief.n_wait, ==, 4 + n);
    g_assert_cmpuint(end.n_alloc, ==, brief.n_alloc);
    g_assert_cmpuint(end.n_pipeline, ==, brief.n_pipeline);
}

void assert_same(const vlm_generation *a, const vlm_generation *b)
{
    g_assert_cmpmem(a->tokens, a->n_tokens * sizeof *a->tokens, b->tokens,
                    b->n_tokens * sizeof *b->tokens);
}

void add_for_type(const char *name, guint type, GTestDataFunc test)
{
    g_autofree char *path = g_strdup_printf("/sessions/%s/%s", name, vlm_kv_type_name(type));

    g_test_add_data_func(path, GUINT_TO_POINTER(type), test);
}
