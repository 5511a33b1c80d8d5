// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/sampler.h — from logits to a token.
#ifndef VLM_RUNTIME_SAMPLER_H
#define VLM_RUNTIME_SAMPLER_H

#include "vlm.h"

// Holds the random state of one answer. Thread-safety: none.
typedef struct vlm_sampler vlm_sampler;

// Values outside their range are clamped to it: temperature 0..5, top_p and min_p 0..1.
vlm_sampler *vlm_sampler_create(const vlm_sampling *sampling, const uint32_t *banned,
                                uint32_t n_banned);
void vlm_sampler_destroy(vlm_sampler *sampler);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_sampler, vlm_sampler_destroy)

// Chooses a token from `logits` [n], which it may change (banned tokens become -inf). Greedy when
// the temperature is 0: the largest logit, ties to the lower id. Otherwise, in this order: top-k,
// softmax at the temperature, top-p (the smallest set of likeliest tokens whose probabilities
// reach top_p; Holtzman et al. 2020), min-p (at least min_p times the largest probability; Nguyen
// et al. 2024), a draw. NaN logits count as -inf; when nothing is left, token 0.
uint32_t vlm_sampler_choose(vlm_sampler *sampler, float *logits, uint32_t n);

// TRUE when it chooses the largest logit, whatever it is.
gboolean vlm_sampler_is_plain(const vlm_sampler *sampler);

// The `n_top` largest logits, largest first, ties to the lower id, as the device computed them.
// Must: n_top <= n.
void vlm_sampler_top(const float *logits, uint32_t n, uint32_t n_top, vlm_top_logit *top);

#endif
