// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_moe.h — plain C reference of expert routing and mixing. double throughout.
#ifndef VLM_TESTS_REF_MOE_H
#define VLM_TESTS_REF_MOE_H

#include <stddef.h>
#include <stdint.h>

// ids, gate [tok, k] from logits [tok, expert]: softmax over all experts, the k largest in
// descending order (ties to the lower index), divided by their sum. No NaN.
void ref_moe_route(int32_t *ids, double *gate, const float *logits, size_t stride, size_t n_tok,
                   size_t n_expert, size_t k);

// order [slot]: slots sorted by ids[slot], equal ones in their own order.
void ref_moe_plan(int32_t *order, const int32_t *ids, size_t n_slot, size_t n_expert);

// out, scale [slot, row]: weight [expert, row, col] of expert ids[slot] times src[slot / per_src].
void ref_moe_matmul(double *out, double *scale, const float *src, size_t src_stride,
                    const float *weight, const int32_t *ids, size_t n_slot, size_t per_src,
                    size_t n_row, size_t n_col);

// out, scale [tok, col]: dst [tok, col] + sum over j of gate[tok, j] * src[tok * k + j, col].
void ref_moe_combine(double *out, double *scale, const float *dst, size_t dst_stride,
                     const float *src, size_t src_stride, const float *gate, size_t n_tok, size_t k,
                     size_t n_col);

#endif
