// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/kv.h — how keys and values lie in the pages of the cache.
#ifndef VLM_OPS_KV_H
#define VLM_OPS_KV_H

#include <glib.h>
#include <stdint.h>

#include "vlm.h"

#define VLM_PAGE_TOKENS 64u

// A page holds VLM_PAGE_TOKENS slots of every layer, one layer after the other:
//   layer l: K [kv_head][slot][head_dim], then V [kv_head][slot][head_dim]
// so that copying a page (copy-on-write) is one copy. Elements are f16 or f32; the layout has room
// for quantised ones: only the bytes of a head's row change.
typedef struct vlm_kv_layout {
    vlm_kv_type type;
    uint32_t n_layer;
    uint32_t n_kv_head;
    uint32_t head_dim;  // of K and of V; a multiple of 2
} vlm_kv_layout;

// What every op demands of a layout: sides of sensible size, so that one layer of one page stays
// under 2^28 bytes.
static inline gboolean vlm_kv_layout_ok(const vlm_kv_layout *kv)
{
    return (kv->type == VLM_KV_F16 || kv->type == VLM_KV_F32) && kv->n_layer >= 1
           && kv->n_layer <= 65536 && kv->n_kv_head >= 1 && kv->n_kv_head <= 1024
           && kv->head_dim >= 2 && kv->head_dim <= 256 && kv->head_dim % 2 == 0;
}

// Bytes of one head's row of one slot.
static inline uint64_t vlm_kv_row_bytes(const vlm_kv_layout *kv)
{
    return (uint64_t) kv->head_dim * (kv->type == VLM_KV_F32 ? 4 : 2);
}

// Bytes of K (or V) of one layer in a page.
static inline uint64_t vlm_kv_half_bytes(const vlm_kv_layout *kv)
{
    return vlm_kv_row_bytes(kv) * kv->n_kv_head * VLM_PAGE_TOKENS;
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
