// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/kv.h — how keys and values lie in the pages of the cache.
#ifndef VLM_OPS_KV_H
#define VLM_OPS_KV_H

#include <glib.h>
#include <stdint.h>

#include "vlm.h"

#define VLM_PAGE_TOKENS 64u

#define VLM_KV_BLOCK 32u  // elements that share a scale in quantised pages

// A page holds VLM_PAGE_TOKENS slots of every layer, one layer after the other:
//   layer l: K [kv_head], then V [kv_head]
// so that copying a page (copy-on-write) is one copy. What one head has of K or V in a page:
//   f16, f32  elements [slot][head_dim]
//   q8, q4    codes [slot][block][32], then scales u16 [block][slot]; a block is 32 neighbours of
//             the head, the last is filled up with zeros
// Codes of q8 are i8, a scale d is f16, and an element is d * code with d = f16(max |x| / 127).
// Codes of q4 have 4 bits, the earlier of two in the lower ones. A scale holds the code of zero, z,
// in its lowest 4 bits and, with these cleared, an f16 d; an element is d * (code - z). Range and
// z are chosen with 0 in the range: d = (max(x, 0) - min(x, 0)) / 15, rounded to f16, then to a
// multiple of 16 in its bits, and z the code nearest to -min(x, 0) / d. Both types take the code
// nearest to x / d, halves up. A block with a value that is not finite, or too large, has d = NaN.
// Keys of q4 are kept as H k / 8 in each whole block, H the Walsh-Hadamard matrix of 32, and
// queries meet them as H q / 4: the products are the same, H H = 32, but one large element of a key
// no longer takes the others' bits (as in QuaRot, Ashkboos et al. 2024). H is computed in f32,
// neighbours first.
typedef struct vlm_kv_layout {
    vlm_kv_type type;
    uint32_t n_layer;
    uint32_t n_kv_head;
    uint32_t head_dim;  // of K and of V; a multiple of 2
} vlm_kv_layout;

// Bits of an element, without the scales.
static inline uint32_t vlm_kv_bits(vlm_kv_type type)
{
    static const uint32_t bits[] = {
        [VLM_KV_F16] = 16, [VLM_KV_F32] = 32, [VLM_KV_Q8] = 8, [VLM_KV_Q4] = 4
    };

    return bits[type];
}

// What every op demands of a layout: sides of sensible size, so that one layer of one page stays
// under 2^28 bytes.
static inline gboolean vlm_kv_layout_ok(const vlm_kv_layout *kv)
{
    return (guint) kv->type < VLM_N_KV_TYPE && kv->n_layer >= 1 && kv->n_layer <= 65536
           && kv->n_kv_head >= 1 && kv->n_kv_head <= 1024 && kv->head_dim >= 2
           && kv->head_dim <= 256 && kv->head_dim % 2 == 0;
}

// Bytes of what one head has of K (or V) in a page.
static inline uint64_t vlm_kv_head_bytes(const vlm_kv_layout *kv)
{
    const uint64_t n_block = (kv->head_dim + VLM_KV_BLOCK - 1) / VLM_KV_BLOCK;
    const uint32_t bits = vlm_kv_bits(kv->type);
    const uint64_t row =
        bits < 16 ? n_block * (VLM_KV_BLOCK * bits / 8 + 2) : (uint64_t) kv->head_dim * bits / 8;

    return VLM_PAGE_TOKENS * row;
}

// Bytes of K (or V) of one layer in a page.
static inline uint64_t vlm_kv_half_bytes(const vlm_kv_layout *kv)
{
    return vlm_kv_head_bytes(kv) * kv->n_kv_head;
}

static inline uint64_t vlm_kv_page_bytes(const vlm_kv_layout *kv)
{
    return 2 * vlm_kv_half_bytes(kv) * kv->n_layer;
}

// Where a token's keys and values go: the page's device address (a multiple of 64) plus the slot.
static inline uint64_t vlm_kv_slot(uint64_t page_addr, uint32_t slot)
{
    return page_addr + slot;
}

// One page of a sequence, in the order of the tokens. Slots outside [begin, end) are not looked at:
// pages whose oldest tokens were let go begin later, pages followed by others may end early.
typedef struct vlm_kv_page {
    uint64_t addr;
    uint32_t begin;
    uint32_t end;
} vlm_kv_page;

// One sequence of a batch. Its tokens are rows tok0 .. tok0 + n_tok - 1 of the batch and sit in
// consecutive logical slots slot0 ...; logical slot s is slot s % 64 of page s / 64 of the list.
// Token i looks at all valid slots <= slot0 + i.
typedef struct vlm_kv_sequence {
    uint64_t pages;  // device address of vlm_kv_page [n_page]
    uint32_t n_page;
    uint32_t tok0;
    uint32_t n_tok;
    uint32_t slot0;
} vlm_kv_sequence;

#endif
