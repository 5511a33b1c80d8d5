// SPDX-License-Identifier: LGPL-2.1-or-later
// model/spm.c — see model/spm.h.
//
// Symbols are pieces of the text in a doubly linked list. Each pair of neighbours that is a token
// is a candidate in a binary heap ordered by (score, position). A candidate is stale when one of
// its symbols has grown since; this is noticed when it comes out. Every join removes a symbol and
// adds at most two candidates.
#include "model/spm.h"

#include "model/tokenizer_private.h"

#include <string.h>

#define NONE UINT32_MAX

typedef struct symbol {
    uint32_t start, len;  // bytes of the text; len 0 once joined to its left neighbour
    uint32_t prev, next;
} symbol;

typedef struct candidate {
    float score;
    uint32_t at;   // the left symbol
    uint32_t len;  // bytes of both
} candidate;

typedef struct spm {
    const vlm_tokenizer *tok;
    const char *text;
    symbol *symbols;
    candidate *heap;
    guint n_heap;
} spm;

// The token that text may be joined to: none of those that text must not make.
static gint64 find_token(const vlm_tokenizer *tok, const char *text, size_t len)
{
    const gint64 id = len <= tok->max_token_bytes ? vlm_tokenizer_lookup(tok, text, len) : -1;

    return id >= 0
                   && (tok->types[id] == VLM_TOKEN_NORMAL
                       || tok->types[id] == VLM_TOKEN_USER_DEFINED)
               ? id
               : -1;
}

static gboolean before(const candidate *a, const candidate *b)
{
    return a->score > b->score || (!(a->score < b->score) && a->at < b->at);
}

static void heap_push(spm *s, candidate c)
{
    guint i = s->n_heap++;

    while (i > 0 && before(&c, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = c;
}

static candidate heap_pop(spm *s)
{
    const candidate top = s->heap[0];
    const candidate last = s->heap[--s->n_heap];
    guint i = 0;

    while (2 * i + 1 < s->n_heap) {
        guint child = 2 * i + 1;

        if (child + 1 < s->n_heap && before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!before(&s->heap[child], &last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

// Adds the pair that starts at symbol `at`, if it is a token.
static void offer(spm *s, uint32_t at)
{
    if (at == NONE || s->symbols[at].next == NONE)
        return;
    const symbol *left = &s->symbols[at];
    const uint32_t len = left->len + s->symbols[left->next].len;
    const gint64 id = find_token(s->tok, s->text + left->start, len);
    if (id >= 0)
        heap_push(s, (candidate){ .score = s->tok->scores[id], .at = at, .len = len });
}

static void join(spm *s)
{
    while (s->n_heap > 0) {
        const candidate c = heap_pop(s);
        symbol *left = &s->symbols[c.at];

        if (left->len == 0 || left->next == NONE || left->len + s->symbols[left->next].len != c.len)
            continue;
        symbol *right = &s->symbols[left->next];
        left->len = c.len;
        left->next = right->next;
        right->len = 0;
        if (left->next != NONE)
            s->symbols[left->next].prev = c.at;
        offer(s, left->prev);
        offer(s, c.at);
    }
}

gboolean vlm_spm_encode(const vlm_tokenizer *tok, const char *text, size_t len, GArray *out)
{
    const char *end = text + len;
    uint32_t n = 0;

    for (const char *p = text; p < end; p = g_utf8_next_char(p))
        n++;
    if (n == 0)
        return TRUE;
    // n - 1 candidates to begin with and at most two more per join, each replacing one.
    g_autofree symbol *symbols = g_try_new(symbol, n);
    g_autofree candidate *heap = g_try_new(candidate, 3 * (gsize) n);
    spm s = { .tok = tok, .text = text, .symbols = symbols, .heap = heap };
    if (!symbols || !heap)
        return FALSE;
    uint32_t i = 0;
    for (const char *p = text; p < end; p = g_utf8_next_char(p), i++)
        symbols[i] = (symbol){ .start = (uint32_t) (p - text),
                               .len = (uint32_t) (g_utf8_next_char(p) - p),
                               .prev = i - 1,  // NONE for the first
                               .next = i + 1 < n ? i + 1 : NONE };
    for (i = 0; i + 1 < n; i++)
        offer(&s, i);
    join(&s);
    for (i = 0; i != NONE; i = symbols[i].next) {
        const char *piece = text + symbols[i].start;
        const gint64 found = find_token(tok, piece, symbols[i].len);
        const uint32_t id = (uint32_t) found;

        if (found >= 0)
            g_array_append_val(out, id);
        for (uint32_t b = 0; found < 0 && b < symbols[i].len; b++)
            g_array_append_val(out, tok->byte_ids[(guint8) piece[b]]);
    }
    return TRUE;
}
