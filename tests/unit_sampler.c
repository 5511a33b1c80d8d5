// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_sampler.c — choosing tokens: greedy, the filters, the distribution, odd logits.
#include "runtime/sampler.h"

#include <math.h>
#include <string.h>

#define N 8

static uint32_t choose(const vlm_sampling *sampling, const float *logits)
{
    g_autoptr(vlm_sampler) s = vlm_sampler_create(sampling, NULL, 0);
    float copy[N];

    memcpy(copy, logits, sizeof copy);
    return vlm_sampler_choose(s, copy, N);
}

static void test_greedy(void)
{
    const float ties[N] = { 1, 5, 5, -1, 0, 0, 0, 0 };
    const float nans[N] = { NAN, NAN, 3, NAN, 2, 1, 0, NAN };
    const float none[N] = { NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
    const float least[N] = { NAN, NAN, -INFINITY, NAN, -INFINITY, NAN, NAN, NAN };
    const vlm_sampling greedy = { 0 };

    g_assert_cmpuint(choose(&greedy, ties), ==, 1);
    g_assert_cmpuint(choose(&greedy, nans), ==, 2);
    g_assert_cmpuint(choose(&greedy, none), ==, 0);
    g_assert_cmpuint(choose(&greedy, least), ==, 2);
    g_assert_cmpuint(choose(&(vlm_sampling){ .temperature = 1 }, none), ==, 0);
}

static void test_banned(void)
{
    const uint32_t banned[] = { 1, 2, 99 };
    g_autoptr(vlm_sampler) s = vlm_sampler_create(&(vlm_sampling){ 0 }, banned, 3);
    float logits[N] = { 1, 5, 5, -1, 0, 0, 0, 0 };

    g_assert_cmpuint(vlm_sampler_choose(s, logits, N), ==, 0);
}

static void test_top(void)
{
    const float logits[N] = { 0, 3, NAN, 3, -2, 7, 1, INFINITY };
    vlm_top_logit top[N];

    vlm_sampler_top(logits, N, 4, top);
    g_assert_cmpuint(top[0].token, ==, 7);
    g_assert_cmpuint(top[1].token, ==, 5);
    g_assert_cmpuint(top[2].token, ==, 1);  // a tie: the lower id first
    g_assert_cmpuint(top[3].token, ==, 3);
    vlm_sampler_top(logits, N, N, top);
    g_assert_cmpuint(top[N - 1].token, ==, 2);
}

// Draws many times and compares the shares with the softmax over what the filters leave.
static void check_shares(const vlm_sampling *sampling, const float *logits, const double *want)
{
    g_autoptr(vlm_sampler) s = vlm_sampler_create(sampling, NULL, 0);
    const guint n_draw = 40000;
    guint count[N] = { 0 };

    for (guint i = 0; i < n_draw; i++) {
        float copy[N];
        memcpy(copy, logits, sizeof copy);
        count[vlm_sampler_choose(s, copy, N)]++;
    }
    for (guint i = 0; i < N; i++) {
        // five standard deviations of a binomial share
        const double sd = sqrt(want[i] * (1 - want[i]) / n_draw);
        g_assert_cmpfloat_with_epsilon((double) count[i] / n_draw, want[i], 5 * sd + 1e-12);
    }
}

static void test_filters(void)
{
    const float l = logf(2.0f);
    const float logits[N] = { 0, l, 2 * l, 3 * l, -INFINITY, -INFINITY, -INFINITY, -INFINITY };

    // weights 1, 2, 4, 8 of 15
    check_shares(&(vlm_sampling){ .temperature = 1 }, logits,
                 (double[N]){ 1 / 15.0, 2 / 15.0, 4 / 15.0, 8 / 15.0 });
    check_shares(&(vlm_sampling){ .temperature = 1, .top_k = 2 }, logits,
                 (double[N]){ 0, 0, 4 / 12.0, 8 / 12.0 });
    // 8/15 alone is below 0.6, with 4/15 it is above
    check_shares(&(vlm_sampling){ .temperature = 1, .top_p = 0.6 }, logits,
                 (double[N]){ 0, 0, 4 / 12.0, 8 / 12.0 });
    check_shares(&(vlm_sampling){ .temperature = 1, .min_p = 0.24 }, logits,
                 (double[N]){ 0, 2 / 14.0, 4 / 14.0, 8 / 14.0 });
    // temperature 0.5 squares the weights: 1, 4, 16, 64 of 85
    check_shares(&(vlm_sampling){ .temperature = 0.5 }, logits,
                 (double[N]){ 1 / 85.0, 4 / 85.0, 16 / 85.0, 64 / 85.0 });
}

static void test_seed(void)
{
    float logits[N] = { 0 };
    g_autoptr(vlm_sampler) a =
        vlm_sampler_create(&(vlm_sampling){ .temperature = 1, .seed = 5 }, NULL, 0);
    g_autoptr(vlm_sampler) b =
        vlm_sampler_create(&(vlm_sampling){ .temperature = 1, .seed = 5 }, NULL, 0);
    g_autoptr(vlm_sampler) c =
        vlm_sampler_create(&(vlm_sampling){ .temperature = 1, .seed = 6 }, NULL, 0);
    guint differ = 0;

    for (int i = 0; i < 64; i++) {
        const uint32_t x = vlm_sampler_choose(a, logits, N);
        g_assert_cmpuint(x, ==, vlm_sampler_choose(b, logits, N));
        differ += x != vlm_sampler_choose(c, logits, N);
    }
    g_assert_cmpuint(differ, >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sampler/greedy", test_greedy);
    g_test_add_func("/sampler/banned", test_banned);
    g_test_add_func("/sampler/top", test_top);
    g_test_add_func("/sampler/filters", test_filters);
    g_test_add_func("/sampler/seed", test_seed);
    return g_test_run();
}
