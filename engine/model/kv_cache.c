// SPDX-License-Identifier: LGPL-2.1-or-later
// model/kv_cache.c — see model/kv_cache.h.
#define G_LOG_DOMAIN "vlm-kv"
#include "model/kv_cache.h"

#include <string.h>

#include "base/error.h"
#include "model/state_pool.h"

// One page of the pool.
typedef struct page {
    const vlm_buffer *slab;  // owned by the pool
    size_t offset;           // within the slab
    guint n_ref;
} page;

struct vlm_kv_pool {
    vlm_device *dev;  // not owned
    vlm_kv_layout layout;
    uint64_t page_bytes;
    GPtrArray *slabs;  // of vlm_buffer
    GPtrArray *pages;  // of page, all
    GPtrArray *free;   // of page, borrowed from `pages`
    gint64 n_reserved;
    gint64 n_seq;
    vlm_state_pool *states;  // NULL for models without
    vlm_kv_pool *cross;      // of pictures looked at beside; NULL for models without
    gint64 cross_pages;      // of a session
};

struct vlm_kv_seq {
    vlm_kv_pool *pool;
    GPtrArray *pages;  // of page, one reference each
    GArray *table;     // of vlm_kv_page, same order
    uint32_t n_slot;   // logical slots taken, page by page from the start of the list
    uint32_t n_tok;    // slots that can be looked at
    uint32_t n_prefix_page;
    uint32_t n_prefix_tok;
    vlm_state *state, *prefix_state;  // NULL: nothing seen yet
    vlm_kv_seq *cross;                // rows looked at beside; NULL: none
    uint64_t n_seen;                  // tokens ever appended
    uint64_t cross_seen;              // the same behind the last picture's token
};

#define MAX_SLAB_BYTES ((uint64_t) 512 << 20)

vlm_kv_pool *vlm_kv_pool_create(vlm_device *dev, const vlm_kv_layout *layout, uint64_t state_bytes)
{
    vlm_kv_pool *pool = g_new0(vlm_kv_pool, 1);

    pool->dev = dev;
    pool->layout = *layout;
    // Of 64 slots, so addresses are multiples of 64: the slot number rides in their low bits.
    pool->page_bytes = vlm_kv_page_bytes(layout);
    pool->slabs = g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    pool->pages = g_ptr_array_new_with_free_func(g_free);
    pool->free = g_ptr_array_new();
    pool->states = state_bytes > 0 ? vlm_state_pool_create(dev, state_bytes) : NULL;
    return pool;
}

void vlm_kv_pool_add_cross(vlm_kv_pool *pool, const vlm_kv_layout *layout, uint32_t max_rows)
{
    pool->cross = vlm_kv_pool_create(pool->dev, layout, 0);
    pool->cross_pages = vlm_kv_cross_pages(max_rows);
}

void vlm_kv_pool_destroy(vlm_kv_pool *pool)
{
    if (!pool)
        return;
    g_warn_if_fail(pool->n_seq == 0);
    vlm_kv_pool_destroy(pool->cross);
    g_ptr_array_unref(pool->free);
    g_ptr_array_unref(pool->pages);
    g_ptr_array_unref(pool->slabs);
    vlm_state_pool_destroy(pool->states);
    g_free(pool);
}

// Pages of a slab.
static uint64_t slab_pages(uint64_t page_bytes, uint64_t max_alloc)
{
    return MAX(1, MIN(MAX_SLAB_BYTES, max_alloc - VLM_GUARD_BYTES) / page_bytes);
}

uint64_t vlm_kv_pool_growth(uint64_t page_bytes, uint64_t n_page)
{
    const uint64_t per_slab = slab_pages(page_bytes, UINT64_MAX);

    return n_page * page_bytes + (n_page + per_slab - 1) / per_slab * VLM_GUARD_BYTES;
}

static gboolean grow(vlm_kv_pool *pool, guint64 n_page, GError **error)
{
    const guint64 max_page = slab_pages(pool->page_bytes, pool->dev->max_alloc);

    while (n_page > 0) {
        const guint64 n = MIN(n_page, max_page);
        vlm_buffer *slab =
            vlm_buffer_create(pool->dev, (size_t) (n * pool->page_bytes), VLM_MEMORY_KV, error);
        if (!slab)
            return FALSE;
        g_ptr_array_add(pool->slabs, slab);
        for (guint64 i = 0; i < n; i++) {
            page *p = g_new0(page, 1);
            p->slab = slab;
            p->offset = (size_t) (i * pool->page_bytes);
            g_ptr_array_add(pool->pages, p);
            g_ptr_array_add(pool->free, p);
        }
        n_page -= n;
    }
    return TRUE;
}

gboolean vlm_kv_pool_reserve(vlm_kv_pool *pool, gint64 n_page, gint64 n_state, GError **error)
{
    const gint64 want = pool->n_reserved + n_page;

    g_return_val_if_fail(want >= 0, FALSE);
    if (want > (gint64) pool->pages->len
        && !grow(pool, (guint64) (want - (gint64) pool->pages->len), error)) {
        g_prefix_error(error, "a context of %" G_GINT64_FORMAT " tokens does not fit: ",
                       n_page * VLM_PAGE_TOKENS);
        return FALSE;
    }
    if (pool->states && !vlm_state_pool_reserve(pool->states, n_state, error))
        return FALSE;
    if (pool->cross) {
        const gint64 n = pool->cross_pages;
        if (!vlm_kv_pool_reserve(pool->cross, n_state > 0 ? n : n_state < 0 ? -n : 0, 0, error)) {
            g_prefix_error(error, "pictures beside it: ");
            return FALSE;
        }
    }
    pool->n_reserved = want;
    return TRUE;
}

uint64_t vlm_kv_pool_bytes(const vlm_kv_pool *pool)
{
    return pool->pages->len * pool->page_bytes
           + (pool->states ? vlm_state_pool_bytes(pool->states) : 0)
           + (pool->cross ? vlm_kv_pool_bytes(pool->cross) : 0);
}

guint vlm_kv_pool_n_used(const vlm_kv_pool *pool)
{
    return pool->pages->len - pool->free->len;
}

const vlm_kv_layout *vlm_kv_pool_layout(const vlm_kv_pool *pool)
{
    return &pool->layout;
}

static page *page_take(vlm_kv_pool *pool, GError **error)
{
    page *p;

    if (pool->free->len == 0 && !grow(pool, 16, error))
        return NULL;
    p = g_ptr_array_remove_index_fast(pool->free, pool->free->len - 1);
    p->n_ref = 1;
    return p;
}

static void page_drop(vlm_kv_pool *pool, page *p)
{
    if (--p->n_ref == 0)
        g_ptr_array_add(pool->free, p);
}

vlm_kv_seq *vlm_kv_seq_create(vlm_kv_pool *pool)
{
    vlm_kv_seq *seq = g_new0(vlm_kv_seq, 1);

    seq->pool = pool;
    seq->pages = g_ptr_array_new();
    seq->table = g_array_new(FALSE, FALSE, sizeof(vlm_kv_page));
    pool->n_seq++;
    return seq;
}

static void drop_pages(vlm_kv_seq *seq, guint from, guint n)
{
    for (guint i = from; i < from + n; i++)
        page_drop(seq->pool, g_ptr_array_index(seq->pages, i));
    if (n > 0) {
        g_ptr_array_remove_range(seq->pages, from, n);
        g_array_remove_range(seq->table, from, n);
    }
}

void vlm_kv_seq_destroy(vlm_kv_seq *seq)
{
    if (!seq)
        return;
    drop_pages(seq, 0, seq->pages->len);
    vlm_state_drop(seq->pool->states, &seq->state);
    vlm_state_drop(seq->pool->states, &seq->prefix_state);
    vlm_kv_seq_destroy(seq->cross);
    seq->pool->n_seq--;
    g_ptr_array_unref(seq->pages);
    g_array_unref(seq->table);
    g_free(seq);
}

static guint n_used_pages(const vlm_kv_seq *seq)
{
    return (seq->n_slot + VLM_PAGE_TOKENS - 1) / VLM_PAGE_TOKENS;
}

vlm_kv_seq *vlm_kv_seq_fork(const vlm_kv_seq *seq)
{
    vlm_kv_seq *fork = vlm_kv_seq_create(seq->pool);

    const guint n_page = n_used_pages(seq);  // pages prepared and not used stay the parent's
    for (guint i = 0; i < n_page; i++) {
        page *p = g_ptr_array_index(seq->pages, i);
        p->n_ref++;
        g_ptr_array_add(fork->pages, p);
    }
    g_array_append_vals(fork->table, seq->table->data, n_page);
    fork->n_slot = seq->n_slot;
    fork->n_tok = seq->n_tok;
    fork->n_prefix_page = seq->n_prefix_page;
    fork->n_prefix_tok = seq->n_prefix_tok;
    fork->state = vlm_state_ref(seq->state);
    fork->prefix_state = vlm_state_ref(seq->prefix_state);
    fork->cross = seq->cross ? vlm_kv_seq_fork(seq->cross) : NULL;
    fork->n_seen = seq->n_seen;
    fork->cross_seen = seq->cross_seen;
    return fork;
}

uint32_t vlm_kv_seq_n_tokens(const vlm_kv_seq *seq)
{
    return seq->n_tok;
}

uint32_t vlm_kv_seq_n_prefix(const vlm_kv_seq *seq)
{
    return seq->n_prefix_tok;
}

static uint64_t page_addr(const page *p)
{
    return p->slab->addr + p->offset;
}

// Replaces the shared last page by a copy of it.
static gboolean unshare_last(vlm_kv_seq *seq, vlm_cmd *cmd, GError **error)
{
    const guint last = seq->n_slot / VLM_PAGE_TOKENS;
    page *shared = g_ptr_array_index(seq->pages, last);
    page *own = page_take(seq->pool, error);

    if (!own)
        return FALSE;
    vlm_cmd_copy(cmd, own->slab, own->offset, shared->slab, shared->offset,
                 (size_t) seq->pool->page_bytes);
    vlm_cmd_barrier(cmd);
    page_drop(seq->pool, shared);
    g_ptr_array_index(seq->pages, last) = own;
    g_array_index(seq->table, vlm_kv_page, last).addr = page_addr(own);
    return TRUE;
}

gboolean vlm_kv_seq_prepare(vlm_kv_seq *seq, vlm_cmd *cmd, uint32_t n_tok, GError **error)
{
    const guint64 n_need = ((guint64) seq->n_slot + n_tok + VLM_PAGE_TOKENS - 1) / VLM_PAGE_TOKENS;

    if (n_tok == 0)
        return TRUE;
    if (seq->n_slot % VLM_PAGE_TOKENS != 0
        && ((page *) g_ptr_array_index(seq->pages, seq->n_slot / VLM_PAGE_TOKENS))->n_ref > 1
        && !unshare_last(seq, cmd, error))
        return FALSE;
    if (seq->pool->states && !vlm_state_own(seq->pool->states, cmd, &seq->state, error))
        return FALSE;
    while (seq->pages->len < n_need) {
        page *p = page_take(seq->pool, error);
        if (!p)
            return FALSE;
        vlm_kv_page entry = { page_addr(p), 0, VLM_PAGE_TOKENS };
        g_ptr_array_add(seq->pages, p);
        g_array_append_val(seq->table, entry);
    }
    return TRUE;
}

uint32_t vlm_kv_seq_append(vlm_kv_seq *seq, uint32_t n_tok, uint64_t *slots)
{
    const uint32_t first = seq->n_slot;

    for (uint32_t i = 0; i < n_tok; i++) {
        const uint32_t s = first + i;
        const vlm_kv_page *p = &g_array_index(seq->table, vlm_kv_page, s / VLM_PAGE_TOKENS);
        slots[i] = vlm_kv_slot(p->addr, s % VLM_PAGE_TOKENS);
    }
    seq->n_slot += n_tok;
    seq->n_tok += n_tok;
    seq->n_seen += n_tok;
    return first;
}

void vlm_kv_seq_take_back(vlm_kv_seq *seq, uint32_t n_tok)
{
    g_return_if_fail(n_tok <= seq->n_tok - seq->n_prefix_tok && n_tok <= seq->n_slot);
    seq->n_slot -= n_tok;
    seq->n_tok -= n_tok;
    seq->n_seen -= n_tok;
}

gboolean vlm_kv_seq_add_cross(vlm_kv_seq *seq, vlm_cmd *cmd, uint32_t n_row, gboolean alone,
                              uint64_t *slots, GError **error)
{
    const gboolean joins = seq->cross && !alone && seq->n_seen == seq->cross_seen;

    g_return_val_if_fail(seq->pool->cross != NULL, FALSE);
    if (!joins) {
        vlm_kv_seq_destroy(seq->cross);
        seq->cross = vlm_kv_seq_create(seq->pool->cross);
    }
    if (!vlm_kv_seq_prepare(seq->cross, cmd, n_row, error))
        return FALSE;
    vlm_kv_seq_append(seq->cross, n_row, slots);
    seq->cross_seen = seq->n_seen + 1;
    return TRUE;
}

const vlm_kv_seq *vlm_kv_seq_cross(const vlm_kv_seq *seq)
{
    return seq->cross;
}

uint32_t vlm_kv_seq_n_slots(const vlm_kv_seq *seq)
{
    return seq->n_slot;
}

uint64_t vlm_kv_seq_state(const vlm_kv_seq *seq)
{
    return seq->state ? vlm_state_addr(seq->state) : 0;
}

const vlm_kv_page *vlm_kv_seq_pages(const vlm_kv_seq *seq, uint32_t *n_page)
{
    *n_page = seq->table->len;
    return (const vlm_kv_page *) seq->table->data;
}

void vlm_kv_seq_seal_prefix(vlm_kv_seq *seq)
{
    const uint32_t n_page = n_used_pages(seq);

    drop_pages(seq, n_page, seq->pages->len - n_page);  // prepared, not used
    if (seq->n_slot % VLM_PAGE_TOKENS != 0)
        g_array_index(seq->table, vlm_kv_page, n_page - 1).end = seq->n_slot % VLM_PAGE_TOKENS;
    seq->n_slot = n_page * VLM_PAGE_TOKENS;
    seq->n_prefix_page = n_page;
    seq->n_prefix_tok = seq->n_tok;
    vlm_state_drop(seq->pool->states, &seq->prefix_state);
    seq->prefix_state = vlm_state_ref(seq->state);
}

void vlm_kv_seq_evict(vlm_kv_seq *seq, uint32_t n_tok)
{
    guint n_free = 0;

    g_return_if_fail(n_tok <= seq->n_tok - seq->n_prefix_tok);
    seq->n_tok -= n_tok;
    while (n_tok > 0) {
        const guint at = seq->n_prefix_page + n_free;
        vlm_kv_page *p = &g_array_index(seq->table, vlm_kv_page, at);
        const uint32_t last = MIN(p->end, seq->n_slot - at * VLM_PAGE_TOKENS);
        const uint32_t n = MIN(n_tok, last - p->begin);
        p->begin += n;
        n_tok -= n;
        if (p->begin < VLM_PAGE_TOKENS)
            break;  // either all is let go or the page still holds tokens or free slots
        n_free++;
    }
    drop_pages(seq, seq->n_prefix_page, n_free);
    seq->n_slot -= n_free * VLM_PAGE_TOKENS;
}

void vlm_kv_seq_truncate_to_prefix(vlm_kv_seq *seq)
{
    drop_pages(seq, seq->n_prefix_page, seq->pages->len - seq->n_prefix_page);
    seq->n_slot = seq->n_prefix_page * VLM_PAGE_TOKENS;
    seq->n_tok = seq->n_prefix_tok;
    vlm_state_drop(seq->pool->states, &seq->state);
    seq->state = vlm_state_ref(seq->prefix_state);
    g_clear_pointer(&seq->cross, vlm_kv_seq_destroy);
}
