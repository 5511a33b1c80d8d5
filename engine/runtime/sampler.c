// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/sampler.c — see runtime/sampler.h.
#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct vlm_sampler {
    vlm_sampling sampling;
    uint64_t state[2];
    uint32_t *banned;
    uint32_t n_banned;
    vlm_top_logit *candidates;  // kept from call to call
    double *weights;
    uint32_t n_room;
};

// Spreads a seed over the state (SplitMix64, Steele et al. 2014).
static uint64_t mix(uint64_t *x)
{
    uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

// Uniform in [0, 1) (xoroshiro128+, Blackman and Vigna 2018).
static double draw(vlm_sampler *s)
{
    const uint64_t a = s->state[0], sum = a + s->state[1], b = s->state[1] ^ a;

    s->state[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    s->state[1] = (b << 37) | (b >> 27);
    return (double) (sum >> 11) * 0x1p-53;
}

vlm_sampler *vlm_sampler_create(const vlm_sampling *sampling, const uint32_t *banned,
                                uint32_t n_banned)
{
    vlm_sampler *s = g_new0(vlm_sampler, 1);
    uint64_t seed = sampling->seed;

    s->sampling = *sampling;
    s->sampling.temperature = CLAMP(sampling->temperature, 0.0, 5.0);
    s->sampling.top_p = CLAMP(sampling->top_p, 0.0, 1.0);
    s->sampling.min_p = CLAMP(sampling->min_p, 0.0, 1.0);
    s->state[0] = mix(&seed);
    s->state[1] = mix(&seed);
    s->banned = g_memdup2(banned, n_banned * sizeof *banned);
    s->n_banned = n_banned;
    return s;
}

void vlm_sampler_destroy(vlm_sampler *s)
{
    if (!s)
        return;
    g_free(s->banned);
    g_free(s->candidates);
    g_free(s->weights);
    g_free(s);
}

static int by_logit(const void *pa, const void *pb)
{
    const vlm_top_logit *a = pa, *b = pb;

    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

static gboolean worse(vlm_top_logit a, vlm_top_logit b)
{
    return by_logit(&a, &b) > 0;
}

static void sift_down(vlm_top_logit *heap, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t worst = i;
        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (worse(heap[child], heap[worst]))
                worst = child;
        if (worst == i)
            return;
        const vlm_top_logit swap = heap[i];
        heap[i] = heap[worst];
        heap[worst] = swap;
        i = worst;
    }
}

// A heap of the best n_top so far with the worst of them on top.
void vlm_sampler_top(const float *logits, uint32_t n, uint32_t n_top, vlm_top_logit *top)
{
    if (n_top == 0)
        return;
    for (uint32_t i = 0; i < n; i++) {
        const float x = isnan(logits[i]) ? -INFINITY : logits[i];
        const vlm_top_logit entry = { i, x };
        if (i < n_top) {
            top[i] = entry;
            if (i + 1 == n_top)
                for (uint32_t j = n_top / 2 + 1; j-- > 0;)
                    sift_down(top, n_top, j);
        } else if (worse(top[0], entry)) {
            top[0] = entry;
            sift_down(top, n_top, 0);
        }
    }
    qsort(top, n_top, sizeof *top, by_logit);
}

// As vlm_op_argmax(): ties to the lower index, NaN never wins, 0 when there is nothing else.
static uint32_t greedy(const float *logits, uint32_t n)
{
    uint32_t best = 0;

    while (best < n && isnan(logits[best]))
        best++;
    for (uint32_t i = best + 1; i < n; i++)
        if (logits[i] > logits[best])  // false for NaN
            best = i;
    return best < n ? best : 0;
}

// How many of the candidates (largest first, with their weights) top-p and min-p leave.
static uint32_t cut(const vlm_sampling *p, const double *weights, uint32_t n, double total)
{
    uint32_t left = n;

    if (p->top_p > 0.0 && p->top_p < 1.0) {
        double sum = 0;
        for (left = 0; left < n && sum < p->top_p * total;)
            sum += weights[left++];
    }
    if (p->min_p > 0.0)
        while (left > 1 && weights[left - 1] < p->min_p * weights[0])
            left--;
    return MAX(left, 1);
}

gboolean vlm_sampler_is_plain(const vlm_sampler *s)
{
    return s->sampling.temperature <= 0.0 && s->n_banned == 0;
}

uint32_t vlm_sampler_choose(vlm_sampler *s, float *logits, uint32_t n)
{
    const vlm_sampling *p = &s->sampling;

    for (uint32_t i = 0; i < s->n_banned; i++)
        if (s->banned[i] < n)
            logits[s->banned[i]] = -INFINITY;
    if (p->temperature <= 0.0)
        return greedy(logits, n);

    const uint32_t k = p->top_k > 0 ? MIN(p->top_k, n) : n;
    if (s->n_room < k) {
        s->candidates = g_renew(vlm_top_logit, s->candidates, k);
        s->weights = g_renew(double, s->weights, k);
        s->n_room = k;
    }
    vlm_sampler_top(logits, n, k, s->candidates);
    if (!isfinite(s->candidates[0].logit))
        return greedy(logits, n);
    double total = 0;
    for (uint32_t i = 0; i < k; i++) {
        const double x = (double) s->candidates[i].logit - (double) s->candidates[0].logit;
        s->weights[i] = exp(x / p->temperature);
        total += s->weights[i];
    }
    const uint32_t left = cut(p, s->weights, k, total);
    total = 0;
    for (uint32_t i = 0; i < left; i++)
        total += s->weights[i];
    double at = draw(s) * total;
    for (uint32_t i = 0; i + 1 < left; i++) {
        if (at < s->weights[i])
            return s->candidates[i].token;
        at -= s->weights[i];
    }
    return s->candidates[left - 1].token;
}
