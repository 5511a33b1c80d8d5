// SPDX-License-Identifier: LGPL-2.1-or-later
// model/bpe.c — byte-pair encoding with a heap of candidate merges.
//
// Symbols form a doubly linked list. Each pair of neighbours with a rule is a candidate in a binary
// heap ordered by (rank, position). A candidate is stale when its pair has changed since; this is
// noticed when it comes out. Every merge removes a symbol and adds at most two candidates, so a
// piece of n symbols takes O(n log n), whatever the rules are.
#include "model/bpe.h"

#define NONE        UINT32_MAX
#define SMALL_PIECE 64

// One slot of the table of rules.
typedef struct rule {
    uint32_t left, right;  // left NONE: empty slot
    uint32_t rank, merged;
} rule;

struct vlm_bpe {
    rule *table;  // open addressing, power of two, at most half full
    guint mask;
    uint32_t n_rules;
};

typedef struct symbol {
    uint32_t id;  // NONE once merged into its left neighbour
    uint32_t prev, next;
} symbol;

typedef struct candidate {
    uint32_t rank, at;
    uint32_t merged;
} candidate;

typedef struct heap {
    candidate *items;
    guint n;
} heap;

static guint slot_of(const vlm_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t) left << 32 | right) * 0x9e3779b97f4a7c15u;

    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return (guint) (x >> 32) & bpe->mask;
}

vlm_bpe *vlm_bpe_new(guint n_merges)
{
    vlm_bpe *bpe = g_new0(vlm_bpe, 1);
    gsize size = 16;

    while (size < 2 * (gsize) n_merges)
        size *= 2;
    bpe->mask = (guint) (size - 1);
    bpe->table = g_try_new(rule, size);
    if (!bpe->table) {
        g_free(bpe);
        return NULL;
    }
    for (gsize i = 0; i < size; i++)
        bpe->table[i].left = NONE;
    return bpe;
}

void vlm_bpe_free(vlm_bpe *bpe)
{
    if (!bpe)
        return;
    g_free(bpe->table);
    g_free(bpe);
}

// The slot of a pair, or the empty one where it belongs.
static rule *find(const vlm_bpe *bpe, uint32_t left, uint32_t right)
{
    guint i = slot_of(bpe, left, right);

    while (bpe->table[i].left != NONE
           && (bpe->table[i].left != left || bpe->table[i].right != right))
        i = (i + 1) & bpe->mask;
    return &bpe->table[i];
}

void vlm_bpe_add(vlm_bpe *bpe, uint32_t left, uint32_t right, uint32_t merged)
{
    rule *r = find(bpe, left, right);

    g_return_if_fail(2 * (gsize) bpe->n_rules <= bpe->mask);
    if (r->left == NONE)
        *r = (rule){ .left = left, .right = right, .rank = bpe->n_rules, .merged = merged };
    bpe->n_rules++;
}

static gboolean before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(heap *h, candidate c)
{
    guint i = h->n++;

    while (i > 0 && before(&c, &h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = c;
}

static candidate heap_pop(heap *h)
{
    const candidate top = h->items[0];
    const candidate last = h->items[--h->n];
    guint i = 0;

    while (2 * i + 1 < h->n) {
        guint child = 2 * i + 1;

        if (child + 1 < h->n && before(&h->items[child + 1], &h->items[child]))
            child++;
        if (!before(&h->items[child], &last))
            break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
    return top;
}

// Adds the pair that starts at symbol `at`, if there is a rule for it.
static void offer(const vlm_bpe *bpe, const symbol *s, heap *h, uint32_t at)
{
    if (at == NONE || s[at].next == NONE)
        return;
    const rule *r = find(bpe, s[at].id, s[s[at].next].id);
    if (r->left != NONE)
        heap_push(h, (candidate){ .rank = r->rank, .at = at, .merged = r->merged });
}

static void merge(const vlm_bpe *bpe, symbol *s, heap *h)
{
    while (h->n > 0) {
        const candidate c = heap_pop(h);
        symbol *left = &s[c.at];

        if (left->id == NONE || left->next == NONE)
            continue;
        const uint32_t right = left->next;
        const rule *r = find(bpe, left->id, s[right].id);
        if (r->left == NONE || r->rank != c.rank)
            continue;
        left->id = c.merged;
        left->next = s[right].next;
        s[right].id = NONE;
        if (left->next != NONE)
            s[left->next].prev = c.at;
        offer(bpe, s, h, left->prev);
        offer(bpe, s, h, c.at);
    }
}

gboolean vlm_bpe_merge(const vlm_bpe *bpe, const uint32_t *symbols, guint n, GArray *out)
{
    symbol small_symbols[SMALL_PIECE];
    candidate small_items[3 * SMALL_PIECE];
    g_autofree symbol *big_symbols = NULL;
    g_autofree candidate *big_items = NULL;
    symbol *s = small_symbols;
    heap h = { .items = small_items };

    if (n > SMALL_PIECE) {
        // n - 1 candidates to begin with and at most two more per merge, each replacing one.
        s = big_symbols = g_try_new(symbol, n);
        h.items = big_items = g_try_new(candidate, 3 * (gsize) n);
        if (!s || !h.items)
            return FALSE;
    }
    for (guint i = 0; i < n; i++)
        s[i] = (symbol){ .id = symbols[i], .prev = i - 1, .next = i + 1 < n ? i + 1 : NONE };
    for (guint i = 0; i + 1 < n; i++)
        offer(bpe, s, &h, i);
    merge(bpe, s, &h);
    for (guint i = 0; i < n; i++) {
        if (s[i].id != NONE)
            g_array_append_val(out, s[i].id);
    }
    return TRUE;
}
