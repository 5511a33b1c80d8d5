// SPDX-License-Identifier: LGPL-2.1-or-later
// model/unigram.c — see model/unigram.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/unigram.h"

#include <math.h>
#include <string.h>

#include "model/tokenizer_private.h"

#define UNKNOWN_PENALTY 10.0f
#define MAX_MAP_BYTES   (16u << 20)
#define BLANK           "\xe2\x96\x81"  // U+2581

struct vlm_unigram {
    float *scores;  // [n_vocab]
    float unknown_score;
    uint32_t unknown_id;
    size_t longest;  // bytes of the longest piece
    // The normalisation: a double array trie from byte strings to places in `strings`.
    uint32_t *trie;
    size_t n_trie;
    char *strings;  // each ends with a zero byte, and so does the block
    size_t n_strings;
};

void vlm_unigram_free(vlm_unigram *unigram)
{
    if (!unigram)
        return;
    g_free(unigram->scores);
    g_free(unigram->trie);
    g_free(unigram->strings);
    g_free(unigram);
}

// ------------------------------------------------------------------------------ files

static gboolean load_scores(vlm_unigram *u, const vlm_gguf *gguf, const vlm_tokenizer *tok,
                            GError **error)
{
    static const char key[] = "tokenizer.ggml.scores";
    float least = INFINITY;
    guint n = 0;

    if (!vlm_gguf_get_f32_array(gguf, key, tok->n_vocab, tok->n_vocab, &u->scores, &n, error)
        || !vlm_gguf_get_u32(gguf, "tokenizer.ggml.unknown_token_id", 0, tok->n_vocab - 1,
                             &u->unknown_id, error))
        return FALSE;
    for (uint32_t id = 0; id < tok->n_vocab; id++) {
        size_t len;

        if (!isfinite(u->scores[id]))
            return vlm_gguf_key_error(gguf, key, error, "has no number for token %u", id);
        if (tok->types[id] != VLM_TOKEN_NORMAL)
            continue;
        vlm_strings_get(&tok->texts, id, &len);
        if (len > VLM_UNIGRAM_MAX_PIECE_BYTES)
            return vlm_gguf_key_error(gguf, "tokenizer.ggml.tokens", error,
                                      "has a piece %u of %" G_GSIZE_FORMAT
                                      " bytes, at most %u are allowed",
                                      id, len, VLM_UNIGRAM_MAX_PIECE_BYTES);
        u->longest = MAX(u->longest, len);
        least = fminf(least, u->scores[id]);
    }
    u->unknown_score = isfinite(least) ? least - UNKNOWN_PENALTY : -UNKNOWN_PENALTY;
    return TRUE;
}

// The table: the size of the trie in bytes, the trie, the strings; little-endian.
static gboolean load_map(vlm_unigram *u, const vlm_gguf *gguf, GError **error)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    g_autofree uint32_t *bytes = NULL;
    guint n = 0;

    if (!vlm_gguf_has(gguf, key))
        return TRUE;
    if (!vlm_gguf_get_u32_array(gguf, key, 4, MAX_MAP_BYTES, 255, &bytes, &n, error))
        return FALSE;
    const size_t trie_bytes = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (size_t) bytes[3] << 24;
    if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes + 4 >= n || bytes[n - 1] != 0)
        return vlm_gguf_key_error(gguf, key, error, "is not a table of SentencePiece");
    u->n_trie = trie_bytes / 4;
    u->n_strings = n - 4 - trie_bytes;
    u->trie = g_try_new(uint32_t, u->n_trie);
    u->strings = g_try_malloc(u->n_strings);
    if (!u->trie || !u->strings)
        return vlm_gguf_key_error(gguf, key, error, "needs more memory than there is");
    for (size_t i = 0; i < u->n_trie; i++) {
        const uint32_t *b = bytes + 4 + 4 * i;
        u->trie[i] = b[0] | b[1] << 8 | b[2] << 16 | b[3] << 24;
    }
    for (size_t i = 0; i < u->n_strings; i++)
        u->strings[i] = (char) bytes[4 + trie_bytes + i];
    return TRUE;
}

vlm_unigram *vlm_unigram_new(const vlm_gguf *gguf, const vlm_tokenizer *tok, GError **error)
{
    g_autoptr(vlm_unigram) u = g_new0(vlm_unigram, 1);

    return load_scores(u, gguf, tok, error) && load_map(u, gguf, error) ? g_steal_pointer(&u)
                                                                        : NULL;
}

// ------------------------------------------------------------------------------ normalisation

// Units of the trie (Darts-clone): bits 0..7 the byte that leads here, bit 8 "a leaf follows",
// bits 10.. the offset of the children, times 256 with bit 9. A leaf has bit 31 and a value.
static size_t children(uint32_t unit)
{
    return (size_t) (unit >> 10) << ((unit & 0x200) >> 6);
}

// What the longest entry that `text` begins with becomes; NULL: it begins with none.
static const char *mapped(const vlm_unigram *u, const char *text, size_t len, size_t *used)
{
    const char *best = NULL;
    size_t at = u->n_trie > 0 ? children(u->trie[0]) : 0;

    for (size_t i = 0; u->n_trie > 0 && i < len; i++) {
        at ^= (guint8) text[i];
        if (at >= u->n_trie || (u->trie[at] & 0x800000ffu) != (guint8) text[i])
            break;
        const uint32_t unit = u->trie[at];
        at ^= children(unit);
        if ((unit & 0x100) == 0)
            continue;
        if (at >= u->n_trie || (u->trie[at] & 0x7fffffffu) >= u->n_strings)
            break;
        best = u->strings + (u->trie[at] & 0x7fffffffu);
        *used = i + 1;
    }
    return best;
}

// The text as the pieces are spelled: one blank between words, none at the end.
static GString *normalise(const vlm_unigram *u, const char *text, size_t len)
{
    GString *out = g_string_sized_new(len + 16);
    gboolean was_blank = FALSE;

    for (size_t at = 0; at < len;) {
        size_t used = (size_t) (g_utf8_next_char(text + at) - (text + at));
        const char *to = mapped(u, text + at, len - at, &used);
        size_t n = to ? strlen(to) : used;

        to = to ? to : text + at;
        at += used;
        for (; was_blank && n > 0 && *to == ' '; n--)
            to++;
        for (size_t i = 0; i < n; i++) {
            was_blank = to[i] == ' ';
            if (was_blank)
                g_string_append(out, BLANK);
            else
                g_string_append_c(out, to[i]);
        }
    }
    while (g_str_has_suffix(out->str, BLANK))
        g_string_truncate(out, out->len - strlen(BLANK));
    return out;
}

// ------------------------------------------------------------------------------ search

// The best way to a place in the text.
typedef struct node {
    float score;
    uint32_t id;     // the last piece
    uint32_t start;  // where that begins; UINT32_MAX: no way leads here
} node;

static void offer(node *to, const node *from, uint32_t start, uint32_t id, float score)
{
    const float total = from->score + score;

    if (to->start == UINT32_MAX || total > to->score)
        *to = (node){ .score = total, .id = id, .start = start };
}

static void search(const vlm_unigram *u, const vlm_tokenizer *tok, const char *text, uint32_t len,
                   node *nodes)
{
    for (uint32_t at = 0; at < len;) {
        const uint32_t one = MIN((uint32_t) g_utf8_skip[(guint8) text[at]], len - at);
        gboolean known = FALSE;

        for (uint32_t n = 1; n <= MIN(u->longest, len - at); n++) {
            const gint64 id = vlm_tokenizer_lookup(tok, text + at, n);

            if (id < 0 || tok->types[id] != VLM_TOKEN_NORMAL)
                continue;
            known |= n == one;
            offer(&nodes[at + n], &nodes[at], at, (uint32_t) id, u->scores[id]);
        }
        if (!known)
            offer(&nodes[at + one], &nodes[at], at, u->unknown_id, u->unknown_score);
        at += one;
    }
}

gboolean vlm_unigram_encode(const vlm_unigram *unigram, const vlm_tokenizer *tok, const char *text,
                            size_t len, GArray *out, GError **error)
{
    GString *normal = normalise(unigram, text, len);
    const uint32_t n = (uint32_t) normal->len;
    g_autofree node *nodes = g_try_new(node, (gsize) n + 1);
    const guint first = out->len;

    if (!nodes) {
        g_string_free(normal, TRUE);
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "no memory for a text of this length");
        return FALSE;
    }
    for (uint32_t i = 0; i <= n; i++)
        nodes[i] = (node){ .start = i == 0 ? 0 : UINT32_MAX };
    search(unigram, tok, normal->str, n, nodes);
    for (uint32_t at = n; at > 0; at = nodes[at].start) {
        const gboolean again = out->len > first && nodes[at].id == unigram->unknown_id
                               && g_array_index(out, uint32_t, out->len - 1) == nodes[at].id;
        if (!again)
            g_array_append_val(out, nodes[at].id);
    }
    for (guint i = first, j = out->len; i + 1 < j; i++) {
        const uint32_t id = g_array_index(out, uint32_t, --j);
        g_array_index(out, uint32_t, j) = g_array_index(out, uint32_t, i);
        g_array_index(out, uint32_t, i) = id;
    }
    g_string_free(normal, TRUE);
    return TRUE;
}
