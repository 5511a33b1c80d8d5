// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_kv.h — plain C reference of quantised pages (ops/kv.h): what one head has of keys or values
// in 64 slots, codes [slot][block][32], then scales u16 [block][slot].
#ifndef VLM_TESTS_REF_KV_H
#define VLM_TESTS_REF_KV_H

#include <stddef.h>
#include <stdint.h>

// Bytes of one head; `bits` is 8 or 4.
size_t ref_kv_head_bytes(int bits, uint32_t head_dim);

// Quantises the head_dim elements of x into `slot`.
void ref_kv_store(void *head, int bits, uint32_t head_dim, uint32_t slot, const float *x);

// Element d of `slot`.
double ref_kv_value(const void *head, int bits, uint32_t head_dim, uint32_t slot, uint32_t d);

// The nearest f16, ties to even, as bits.
uint16_t ref_kv_half(double x);

// What happens to keys and queries of q4: each whole block of 32 by the Walsh-Hadamard transform,
// in f32, neighbours first, times `scale`.
void ref_kv_transform(float *x, uint32_t head_dim, float scale);

#endif
