// SPDX-License-Identifier: LGPL-2.1-or-later
// model/tokenizer_labels.c — the vocabularies of dual encoders: CLIP's byte pairs, SigLIP's pieces.
#define G_LOG_DOMAIN "vlm-model"
#include <string.h>
#include <utf8proc.h>

#include "model/tokenizer_private.h"
#include "model/unigram.h"

#define WORD_END "</w>"

static const char key_tokens[] = "tokenizer.ggml.tokens";

// ------------------------------------------------------------------------------ text

void vlm_tokenizer_append_lower(GString *out, const char *text, size_t len)
{
    for (const char *p = text; p < text + len; p = g_utf8_next_char(p)) {
        const gunichar c = g_utf8_get_char(p);

        if (c == 0x130)  // the one letter that becomes two
            g_string_append(out, "i\xcc\x87");
        else
            g_string_append_unichar(out, (gunichar) utf8proc_tolower((utf8proc_int32_t) c));
    }
}

// White space as Python has it: the property, and four separators of ASCII.
static gboolean is_space(gunichar c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0
           || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029
           || c == 0x202f || c == 0x205f || c == 0x3000;
}

// U+2581 is the vocabulary's blank: the text's own become blanks, and one stands before the text.
GString *vlm_tokenizer_canonical(const char *text, size_t len)
{
    GString *lower = g_string_sized_new(len + 1), *out = g_string_new("\xe2\x96\x81");
    gboolean blank = FALSE;

    vlm_tokenizer_append_lower(lower, text, len);
    for (const char *p = lower->str; p < lower->str + lower->len; p = g_utf8_next_char(p)) {
        const gunichar c = g_utf8_get_char(p);

        if (c < 0x80 && g_ascii_ispunct((char) c))
            continue;
        if (is_space(c) || c == 0x2581) {
            blank = TRUE;
            continue;
        }
        if (blank)
            g_string_append_c(out, ' ');
        blank = FALSE;
        g_string_append_unichar(out, c);
    }
    g_string_free(lower, TRUE);
    return out;
}

// ------------------------------------------------------------------------------ CLIP

// Ids of the bytes that end a word: spelled like the byte with </w> behind it.
static gboolean load_word_ends(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    tok->byte_end_ids = g_new(uint32_t, 256);
    for (guint b = 0; b < 256; b++) {
        size_t len;
        if (tok->byte_ids[b] == UINT32_MAX)
            return vlm_gguf_key_error(gguf, key_tokens, error, "has no token for the byte 0x%02x",
                                      b);
        const char *byte = vlm_strings_get(&tok->texts, tok->byte_ids[b], &len);
        g_autofree char *text = g_strdup_printf("%.*s" WORD_END, (int) len, byte);
        const gint64 id = vlm_tokenizer_lookup(tok, text, strlen(text));

        if (id < 0)
            return vlm_gguf_key_error(gguf, key_tokens, error,
                                      "has no token for the byte 0x%02x at the end of a word", b);
        tok->byte_end_ids[b] = (uint32_t) id;
    }
    return TRUE;
}

// The single symbols that a token is spelled with; FALSE when it isn't spelled in bytes.
static gboolean spell(const vlm_tokenizer *tok, const char *text, size_t len, GArray *symbols)
{
    const gboolean ends =
        len > strlen(WORD_END) && memcmp(text + len - strlen(WORD_END), WORD_END, 4) == 0;
    const char *end = text + len - (ends ? strlen(WORD_END) : 0);

    g_array_set_size(symbols, 0);
    for (const char *p = text, *next; p < end; p = next) {
        next = g_utf8_next_char(p);
        const size_t n = (size_t) ((next == end ? text + len : next) - p);
        const gint64 id = vlm_tokenizer_lookup(tok, p, n);
        const uint32_t symbol = (uint32_t) id;

        if (id < 0)
            return FALSE;
        g_array_append_val(symbols, symbol);
    }
    return TRUE;
}

// Published files have no merges. The tokens are in the order in which training made them, each of
// two that were there before: what the earlier rules leave of its spelling are those two.
static gboolean rebuild_merges(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    g_autoptr(GArray) symbols = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GArray) left = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    tok->bpe = vlm_bpe_new(tok->n_vocab);
    if (!tok->bpe)
        return vlm_gguf_key_error(gguf, key_tokens, error, "needs more memory than there is");
    for (uint32_t id = 0; id < tok->n_vocab; id++) {
        size_t len;
        const char *text = vlm_strings_get(&tok->texts, id, &len);

        if (tok->types[id] != VLM_TOKEN_NORMAL)
            continue;
        g_array_set_size(left, 0);
        const gboolean ok =
            spell(tok, text, len, symbols)
            && (symbols->len == 1
                || vlm_bpe_merge(tok->bpe, (const uint32_t *) (void *) symbols->data, symbols->len,
                                 left));
        if (ok && symbols->len == 1)
            continue;
        if (!ok || left->len != 2)
            return vlm_gguf_key_error(gguf, key_tokens, error,
                                      "has a token %u that two earlier ones don't make", id);
        vlm_bpe_add(tok->bpe, g_array_index(left, uint32_t, 0), g_array_index(left, uint32_t, 1),
                    id);
    }
    return TRUE;
}

// A special token, which a published file has no type for.
static gboolean mark_special(vlm_tokenizer *tok, const vlm_gguf *gguf, const char *name,
                             uint32_t *id, GError **error)
{
    const gint64 found = vlm_tokenizer_lookup(tok, name, strlen(name));

    if (found < 0)
        return vlm_gguf_key_error(gguf, key_tokens, error, "has no token %s", name);
    tok->types[found] = VLM_TOKEN_CONTROL;
    *id = (uint32_t) found;
    return TRUE;
}

static gboolean load_clip(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    uint32_t start;

    tok->pre = vlm_pretokenizer_new("clip", error);
    tok->lower = TRUE;
    tok->n_end = 1;
    return tok->pre && mark_special(tok, gguf, "<|startoftext|>", &start, error)
           && mark_special(tok, gguf, "<|endoftext|>", &tok->end_ids[0], error)
           && vlm_tokenizer_load_decoded(tok, gguf, error) && load_word_ends(tok, gguf, error)
           && (vlm_gguf_has(gguf, "tokenizer.ggml.merges")
                   ? vlm_tokenizer_load_merges(tok, gguf, error)
                   : rebuild_merges(tok, gguf, error));
}

// ------------------------------------------------------------------------------ SigLIP

static gboolean load_siglip(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    tok->n_end = 1;
    if (!vlm_gguf_get_u32(gguf, "tokenizer.ggml.eos_token_id", 0, tok->n_vocab - 1,
                          &tok->end_ids[0], error))
        return FALSE;
    tok->unigram = vlm_unigram_new(gguf, tok, error);
    return tok->unigram != NULL;
}

vlm_tokenizer *vlm_tokenizer_new_labels(const vlm_gguf *gguf, GError **error)
{
    static const char model_key[] = "tokenizer.ggml.model";
    g_autoptr(vlm_tokenizer) tok = g_new0(vlm_tokenizer, 1);
    const char *model = NULL;

    g_atomic_ref_count_init(&tok->ref_count);
    if (!vlm_gguf_get_str_or(gguf, model_key, "clip", &model, error))
        return NULL;
    const gboolean siglip = g_str_equal(model, "t5");
    if (!siglip && !g_str_equal(model, "clip") && !g_str_equal(model, "gpt2")) {
        g_autofree char *shown = g_utf8_substring(model, 0, MIN(g_utf8_strlen(model, -1), 40));
        vlm_gguf_key_error(gguf, model_key, error, "is %s, only clip, gpt2 and t5 are supported",
                           shown);
        return NULL;
    }
    if (!vlm_tokenizer_load_texts(tok, gguf, error) || !vlm_tokenizer_load_types(tok, gguf, error)
        || !(siglip ? load_siglip : load_clip)(tok, gguf, error))
        return NULL;
    return g_steal_pointer(&tok);
}
