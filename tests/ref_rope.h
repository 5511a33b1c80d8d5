// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_rope.h — plain C reference of ops/rope.h: angles in long double, no table of turns, no code
// shared with what it checks.
#ifndef VLM_TESTS_REF_ROPE_H
#define VLM_TESTS_REF_ROPE_H

#include <stddef.h>
#include <stdint.h>

// One head of Qwen3-VL: x / rms * weight (weight NULL: x), then interleaved M-RoPE at position
// (t, h, w). dst and x have head_dim elements, of which the first 2 (s0 + s1 + s2) rotate.
void ref_rope_imrope(double *dst, const float *x, const float *weight, double eps,
                     uint32_t head_dim, double theta, const uint32_t sections[4],
                     const uint32_t position[3]);

// One head of Qwen2-VL, without a norm: M-RoPE with the sections one after the other.
void ref_rope_mrope(double *dst, const float *x, uint32_t head_dim, double theta,
                    const uint32_t sections[4], const uint32_t position[3]);

// One head of Llama as its GGUF files have it: neighbours form pairs, all turned by `position`.
void ref_rope_adjacent(double *dst, const float *x, uint32_t head_dim, double theta,
                       uint32_t position);

// One head of the Qwen vision tower at (row, column).
void ref_rope_vision(double *dst, const float *x, uint32_t head_dim, uint32_t row, uint32_t column);

#endif
