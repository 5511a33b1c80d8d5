// SPDX-License-Identifier: LGPL-2.1-or-later
// check_experts.c — a sparse model on a device that is too small for it.
//
//   check_experts TEXT.gguf [MMPROJ.gguf]
//
// The memory of the device is limited to what must be there and none, a third or all of the
// experts. Tokens, logits and probabilities are those of the model without a limit to the bit, the
// limit is kept, and experts that are chosen often come to the device. With VLM_DEVICE_MEMORY in
// the environment: the limit that it means. GLib test program (TAP); skips without a device.
#include <string.h>

#include "sessions_common.h"

#define CONTEXT 1024u
#define PLANNED 2048u  // room for the session and for scoring beside it
#define N_SCORE 400u
#define N_STEP  16u  // tokens, few enough for one step

static vlm_engine *open_limited(uint64_t device_memory)
{
    g_autoptr(GError) error = NULL;
    vlm_engine *engine = vlm_engine_open(
        &(vlm_engine_params){ .model = text_path,
                              .mmproj = mmproj_path,
                              .vision = mmproj_path ? VLM_VISION_REQUIRED : VLM_VISION_NONE,
                              .kv_type = VLM_KV_F32,
                              .device_memory = device_memory,
                              .context_size = PLANNED },
        &error);

    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_NO_DEVICE)) {
        g_test_skip(error->message);
        return NULL;
    }
    g_assert_no_error(error);
    return engine;
}

static vlm_engine_stats stats_of(vlm_engine *engine)
{
    vlm_engine_stats stats;

    vlm_engine_get_stats(engine, &stats);
    return stats;
}

// What must be on the device, and a limit with so many percent of the experts.
static uint64_t limit_for(vlm_engine *engine, guint percent)
{
    const vlm_model_info *info = vlm_engine_get_info(engine);
    g_autoptr(GError) error = NULL;
    vlm_placement placement;

    g_assert_false(vlm_model_place(info, VLM_KV_F32, PLANNED, 1, &placement, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
    return placement.needed_bytes + info->expert_bytes / 100 * percent;
}

// Probabilities of `n` tokens: `one` again and again, or many of them in turn where it is 0.
static void score_some(vlm_engine *engine, uint32_t one, uint32_t n, double *out)
{
    const uint32_t n_vocab = vlm_engine_get_info(engine)->n_vocab;
    g_autoptr(GError) error = NULL;
    uint32_t tokens[N_SCORE];

    for (uint32_t i = 0; i < n; i++)
        tokens[i] = one > 0 ? one : i * 7 % MIN(n_vocab, 300);
    vlm_engine_score(engine, tokens, n, 1, out, &error);
    g_assert_no_error(error);
}

static void score(vlm_engine *engine, uint32_t one, double *out)
{
    score_some(engine, one, N_SCORE, out);
}

typedef struct results {
    double scores[3][N_SCORE - 1];
    vlm_generation *answers[2];
} results;

static void results_clear(results *r)
{
    vlm_generation_free(r->answers[0]);
    vlm_generation_free(r->answers[1]);
}

// Prompts of many rows a step, and answers of one.
static void use(vlm_engine *engine, uint64_t limit, results *r)
{
    g_autoptr(vlm_session) session = new_session(engine, CONTEXT);
    g_autoptr(GError) error = NULL;

    g_assert_true(vlm_session_add_text(session, "The sun goes down.", &error));
    r->answers[0] = ask(session, "What happens?", 60);
    if (limit > 0)  // no frame yet
        g_assert_cmpuint(stats_of(engine).total_bytes, <=,
                         limit - vlm_engine_get_info(engine)->frame_bytes);
    if (mmproj_path)
        add_frames(session, 0, 4);
    score(engine, 0, r->scores[0]);
    score(engine, 65, r->scores[1]);
    score(engine, 66, r->scores[2]);
    r->answers[1] = ask(session, "And then?", 60);
    if (limit > 0)
        g_assert_cmpuint(stats_of(engine).total_bytes, <=, limit);
}

static void assert_equal(const results *a, const results *b)
{
    g_assert_cmpmem(a->scores, sizeof a->scores, b->scores, sizeof b->scores);
    for (int i = 0; i < 2; i++) {
        assert_same(a->answers[i], b->answers[i]);
        g_assert_cmpuint(a->answers[i]->n_top_logits, ==, 1);
        g_assert_cmpmem(a->answers[i]->top, a->answers[i]->n_tokens * sizeof(vlm_top_logit),
                        b->answers[i]->top, b->answers[i]->n_tokens * sizeof(vlm_top_logit));
    }
}

static void test_same(void)
{
    static const guint percents[] = { 0, 30, 60 };
    g_autoptr(vlm_engine) whole = open_limited(0);
    results want;

    if (!whole)
        return;
    const uint64_t experts = vlm_engine_get_info(whole)->expert_bytes;
    use(whole, 0, &want);
    g_assert_cmpuint(stats_of(whole).host_bytes, ==, 0);
    g_assert_cmpuint(stats_of(whole).expert_host_bytes, ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(percents); i++) {
        const uint64_t limit = limit_for(whole, percents[i]);
        g_autoptr(vlm_engine) engine = open_limited(limit);
        results got;
        use(engine, limit, &got);
        const vlm_engine_stats stats = stats_of(engine);
        g_test_message("%u %% of %.1f MB: %.1f MB in slots, %" G_GUINT64_FORMAT
                       " hits, %" G_GUINT64_FORMAT " misses, %" G_GUINT64_FORMAT
                       " moved, %.2f of %.2f MB of the device",
                       percents[i], (double) experts / 1e6, (double) stats.expert_slot_bytes / 1e6,
                       stats.n_expert_hit, stats.n_expert_miss, stats.n_expert_moved,
                       (double) stats.total_bytes / 1e6, (double) limit / 1e6);
        assert_equal(&want, &got);
        results_clear(&got);
        g_assert_cmpuint(stats.expert_host_bytes, ==, experts);
        g_assert_cmpuint(stats.host_bytes, >=, experts);
        g_assert_cmpuint(stats.expert_slot_bytes, <=, experts / 100 * percents[i]);
        g_assert_cmpuint(stats.expert_slot_bytes, >=, experts / 100 * (percents[i] * 9 / 10));
        g_assert_cmpuint(stats.n_expert_miss, >, 0);
        g_assert_true((stats.n_expert_hit > 0) == (percents[i] > 0));
        g_assert_true((stats.n_expert_moved > 0) == (percents[i] > 0));
    }
    // a limit above all that is needed changes nothing
    g_autoptr(vlm_engine) roomy = open_limited(limit_for(whole, 101));
    g_assert_cmpuint(stats_of(roomy).expert_host_bytes, ==, 0);
    results_clear(&want);
}

// Scores one token again and again, a step at a time, and adds what the first of two steps read: a
// step is counted when the next one begins.
static void add_reads(vlm_engine *engine, uint32_t token, double *hits, double *misses)
{
    double scores[N_STEP];

    score_some(engine, token, N_STEP, scores);
    const vlm_engine_stats from = stats_of(engine);
    score_some(engine, token, N_STEP, scores);
    const vlm_engine_stats to = stats_of(engine);
    *hits += (double) (to.n_expert_hit - from.n_expert_hit);
    *misses += (double) (to.n_expert_miss - from.n_expert_miss);
}

// One token again and again chooses few experts; they come to the device, and those of the next
// token after them.
static void test_hot(void)
{
    static const uint32_t tokens[] = { 67, 32, 101, 280, 150 };
    g_autoptr(vlm_engine) whole = open_limited(0);
    double scores[N_STEP], first[2] = { 0, 0 }, then[2] = { 0, 0 };

    if (!whole)
        return;
    g_autoptr(vlm_engine) engine = open_limited(limit_for(whole, 40));
    for (guint i = 0; i < G_N_ELEMENTS(tokens); i++) {
        add_reads(engine, tokens[i], &first[0], &first[1]);
        for (int n = 0; n < 60; n++)
            score_some(engine, tokens[i], N_STEP, scores);
        add_reads(engine, tokens[i], &then[0], &then[1]);
    }
    const double before = first[0] / (first[0] + first[1]), after = then[0] / (then[0] + then[1]);
    const uint64_t n_moved = stats_of(engine).n_expert_moved;
    g_test_message("of the experts that were read %.0f %% were on the device at first, %.0f %% "
                   "later; %" G_GUINT64_FORMAT " moved",
                   100 * before, 100 * after, n_moved);
    g_assert_cmpfloat(after, >, before + 0.2);
    g_assert_cmpuint(n_moved, >, 0);
}

// A context beyond the one that room was kept for doesn't take more than the limit.
static void test_no_more(void)
{
    g_autoptr(vlm_engine) whole = open_limited(0);
    g_autoptr(GError) error = NULL;

    if (!whole)
        return;
    const uint64_t limit = limit_for(whole, 30);
    g_autoptr(vlm_engine) engine = open_limited(limit);
    g_assert_null(
        vlm_session_create(engine, &(vlm_session_params){ .context_size = 1u << 20 }, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_MEMORY_LIMIT);
    g_autofree char *says =
        g_strdup_printf("exceed the limit of device memory, %.1f MiB", (double) limit / 1048576);
    g_assert_nonnull(strstr(error->message, says));
    g_autoptr(vlm_session) session = new_session(engine, CONTEXT);
    vlm_generation_free(ask(session, "Well?", 4));
    g_assert_cmpuint(stats_of(engine).total_bytes, <=, limit);
}

static void test_too_low(void)
{
    g_autoptr(vlm_engine) whole = open_limited(0);
    g_autoptr(GError) error = NULL;

    if (!whole)
        return;
    const uint64_t least = limit_for(whole, 0);
    const vlm_engine_params params = { .model = text_path,
                                       .mmproj = mmproj_path,
                                       .vision = VLM_VISION_OPTIONAL,
                                       .kv_type = VLM_KV_F32,
                                       .device_memory = least - 1,
                                       .context_size = PLANNED };
    g_assert_null(vlm_engine_open(&params, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_MEMORY_LIMIT);
    g_autofree char *needs = g_strdup_printf("%.1f MiB", (double) least / 1048576);
    g_autofree char *advice = g_strdup_printf(
        "the limit of device memory is too low, at least %" G_GUINT64_FORMAT " MiB are needed: ",
        (guint64) (least + 1048575) / 1048576);
    g_test_message("%s", error->message);
    g_assert_true(g_str_has_prefix(error->message, advice));
    g_assert_nonnull(strstr(error->message, needs));
    g_assert_nonnull(strstr(error->message, text_path));
    g_assert_nonnull(strstr(error->message, "2048 tokens"));
}

// Who asks for the same limit shares an engine, who asks for another one doesn't.
static void test_shared(void)
{
    g_autoptr(vlm_engine) whole = open_limited(0);

    if (!whole)
        return;
    const uint64_t limit = limit_for(whole, 30), n_upload = stats_of(whole).n_upload;
    g_autoptr(vlm_engine) engine = open_limited(limit);
    g_autoptr(vlm_engine) same = open_limited(limit);
    g_autoptr(vlm_engine) less = open_limited(limit_for(whole, 0));
    g_assert_true(same == engine && engine != whole && less != whole && less != engine);
    g_assert_cmpuint(stats_of(whole).n_upload, ==, n_upload + 2);
    g_assert_cmpuint(stats_of(whole).expert_host_bytes, ==, 0);
    g_assert_cmpuint(stats_of(less).expert_slot_bytes, <, stats_of(engine).expert_slot_bytes);
}

// What the environment says is a limit like any other, for those who ask for none.
static void test_environment(void)
{
    const uint64_t mib = g_ascii_strtoull(g_getenv("VLM_DEVICE_MEMORY"), NULL, 10);
    g_autoptr(vlm_engine) engine = open_limited(0);

    if (!engine)
        return;
    g_autoptr(vlm_engine) same = open_limited(mib << 20);
    g_autoptr(vlm_engine) other = open_limited((mib << 20) - 1);
    g_assert_true(same == engine && other != engine);
    g_assert_cmpuint(stats_of(engine).n_upload, ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, >=, 2);
    text_path = argv[1];
    mmproj_path = argc > 2 ? argv[2] : NULL;
    if (g_getenv("VLM_DEVICE_MEMORY")) {
        g_test_add_func("/experts/environment", test_environment);
        return g_test_run();
    }
    g_test_add_func("/experts/same", test_same);
    g_test_add_func("/experts/shared", test_shared);
    g_test_add_func("/experts/hot", test_hot);
    g_test_add_func("/experts/no-more", test_no_more);
    g_test_add_func("/experts/too-low", test_too_low);
    return g_test_run();
}
