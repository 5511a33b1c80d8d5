// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_attention.h — plain C reference of ops/attention.h. Straight loops, double accumulation, the
// whole row of scores in memory, no code shared with what it checks.
#ifndef VLM_TESTS_REF_ATTENTION_H
#define VLM_TESTS_REF_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

// 64 slots of one layer: keys [kv_head][slot][head_dim], then values the same way, f16 or f32; or
// per head as in ref_kv.h.
// Only slots begin ... end - 1 may be looked at.
typedef struct ref_page {
    const void *data;
    uint32_t begin;
    uint32_t end;
} ref_page;

typedef struct ref_heads {
    uint32_t n_head;
    uint32_t n_kv_head;
    uint32_t head_dim;
    int bits;  // of an element of the pages: 32, 16, 8 or 4
    double scale;
} ref_heads;

// n_tok tokens in slots slot0 ..., each looking at the valid slots up to its own; one that sees
// nothing gives zeros. dst is [n_tok, n_head * head_dim] without gaps.
// Returns the largest sum of |q_d k_d| * scale over all pairs that were looked at: what the
// rounding of a score is proportional to.
double ref_attention(double *dst, const float *q, size_t q_stride, const ref_page *pages,
                     uint32_t n_page, uint32_t n_tok, uint32_t slot0, const ref_heads *heads);

// Rows of each run of n_patch rows look at each other (`causal`: at those up to itself). qkv is
// [n_row, 3 * n_head * head_dim] with `stride` elements between rows, dst [n_row, n_head *
// head_dim] without gaps. Returns as above.
double ref_attention_full(double *dst, const float *qkv, size_t stride, uint32_t n_row,
                          uint32_t n_patch, int causal, const ref_heads *heads);

#endif
