// SPDX-License-Identifier: LGPL-2.1-or-later
// model/tokenizer_load.c — builds a tokenizer from the keys of a GGUF file.
//
// Everything is checked here, so that encoding and decoding only meet sound tables: spellings are
// valid UTF-8, not empty and unique, printable bytes have a token, merges are made of known tokens,
// and special ids exist.
#define G_LOG_DOMAIN "vlm-model"

#include "model/spm.h"
#include "model/tokenizer_private.h"

#include <string.h>

#define MAX_SPECIAL_BYTES 256u  // bounds the time of looking for specials at one position

static const char key_tokens[] = "tokenizer.ggml.tokens";
static const char key_types[] = "tokenizer.ggml.token_type";
static const char key_scores[] = "tokenizer.ggml.scores";
static const char key_merges[] = "tokenizer.ggml.merges";

// The byte that a character of the byte-level alphabet stands for, or -1. Printable bytes stand
// for themselves; the other 68 are U+0100 and on, in order.
static int byte_of_char(gunichar c)
{
    guint next = 256;

    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int) c;
    for (guint b = 0; b < 256; b++) {
        const gboolean printable =
            (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        if (!printable && c == next++)
            return (int) b;
    }
    return -1;
}

// Slot of a spelling, or the empty one where it belongs. Seeded, so that a file cannot be made to
// collide.
static guint lookup_slot(const vlm_tokenizer *tok, const char *text, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u ^ tok->lookup_seed;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (guint8) text[i]) * 0x100000001b3u;
    hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9u;
    guint slot = (guint) (hash >> 32) & tok->lookup_mask;
    for (; tok->lookup[slot] != 0; slot = (slot + 1) & tok->lookup_mask) {
        size_t other_len;
        const char *other = vlm_strings_get(&tok->texts, tok->lookup[slot] - 1, &other_len);

        if (other_len == len && memcmp(other, text, len) == 0)
            break;
    }
    return slot;
}

gint64 vlm_tokenizer_lookup(const vlm_tokenizer *tok, const char *text, size_t len)
{
    return (gint64) tok->lookup[lookup_slot(tok, text, len)] - 1;
}

static gboolean no_memory(const vlm_gguf *gguf, GError **error)
{
    return vlm_gguf_key_error(gguf, key_tokens, error, "needs more memory than there is");
}

// Copies and checks the spellings and builds the lookup table.
gboolean vlm_tokenizer_load_texts(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    vlm_gguf_strings tokens;
    size_t total = 0, size = 16;

    if (!vlm_gguf_get_str_array(gguf, key_tokens, 1, VLM_TOKENIZER_MAX_VOCAB, &tokens, error))
        return FALSE;
    tok->n_vocab = tokens.n;
    while (size < 2 * (size_t) tokens.n)
        size *= 2;
    tok->lookup = g_try_new0(uint32_t, size);
    tok->lookup_mask = (guint) (size - 1);
    tok->lookup_seed = g_random_int();
    tok->texts.starts = g_try_new(uint32_t, (gsize) tokens.n + 1);
    tok->texts.bytes = g_try_malloc(tokens.offsets[tokens.n] + 1);
    if (!tok->lookup || !tok->texts.starts || !tok->texts.bytes)
        return no_memory(gguf, error);
    for (uint32_t id = 0; id < tokens.n; id++) {
        size_t len;
        const char *text = vlm_gguf_strings_at(&tokens, id, &len);

        if (len == 0 || len > VLM_TOKENIZER_MAX_TOKEN_BYTES)
            return vlm_gguf_key_error(gguf, key_tokens, error,
                                      "has a token %u of %" G_GSIZE_FORMAT
                                      " bytes, allowed are 1 to %u",
                                      id, len, VLM_TOKENIZER_MAX_TOKEN_BYTES);
        if (!g_utf8_validate(text, (gssize) len, NULL))
            return vlm_gguf_key_error(gguf, key_tokens, error,
                                      "has a token %u that is not valid UTF-8", id);
        const guint slot = lookup_slot(tok, text, len);
        if (tok->lookup[slot] != 0)
            return vlm_gguf_key_error(gguf, key_tokens, error, "has the same token at %u and %u",
                                      tok->lookup[slot] - 1, id);
        memcpy(tok->texts.bytes + total, text, len);
        tok->texts.starts[id] = (uint32_t) total;
        total += len;
        tok->texts.starts[id + 1] = (uint32_t) total;
        tok->max_token_bytes = MAX(tok->max_token_bytes, (uint32_t) len);
        tok->lookup[slot] = id + 1;
    }
    return TRUE;
}

static gboolean load_scores(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    g_autofree float *scores = NULL;
    guint n;

    // Not used by byte-level vocabularies, but wrong when present means a damaged file.
    if (!tok->is_spm && !vlm_gguf_has(gguf, key_scores))
        return TRUE;
    if (!vlm_gguf_get_f32_array(gguf, key_scores, tok->n_vocab, tok->n_vocab, &scores, &n, error))
        return FALSE;
    if (tok->is_spm)
        tok->scores = g_steal_pointer(&scores);
    return TRUE;
}

gboolean vlm_tokenizer_load_types(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    g_autofree uint32_t *types = NULL;
    guint n;

    tok->types = g_try_malloc(tok->n_vocab);
    if (!tok->types)
        return no_memory(gguf, error);
    memset(tok->types, VLM_TOKEN_NORMAL, tok->n_vocab);
    if (!tok->is_spm && !vlm_gguf_has(gguf, key_types))
        return TRUE;
    if (!vlm_gguf_get_u32_array(gguf, key_types, tok->n_vocab, tok->n_vocab, VLM_TOKEN_BYTE, &types,
                                &n, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (types[i] < VLM_TOKEN_NORMAL)
            return vlm_gguf_key_error(gguf, key_types, error, "has type 0 for token %u", i);
        tok->types[i] = (uint8_t) types[i];
    }
    return TRUE;
}

// Blanks for what stands for them.
static gssize decode_blanks(const char *text, size_t len, char *dst)
{
    const size_t n_blank = strlen(VLM_SPM_BLANK);
    gssize n = 0;

    for (size_t i = 0; i < len;) {
        if (len - i >= n_blank && memcmp(text + i, VLM_SPM_BLANK, n_blank) == 0) {
            dst[n++] = ' ';
            i += n_blank;
        } else {
            dst[n++] = text[i++];
        }
    }
    return n;
}

// Writes what a token stands for to `dst` (at most its spelling's length); -1 for a bad byte token.
static gssize decode_token(const char *text, size_t len, vlm_token_type type, gboolean spm,
                           char *dst)
{
    if (type == VLM_TOKEN_BYTE) {  // exactly "<0x41>"
        if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>' || !g_ascii_isxdigit(text[3])
            || !g_ascii_isxdigit(text[4]))
            return -1;
        dst[0] = (char) (g_ascii_xdigit_value(text[3]) << 4 | g_ascii_xdigit_value(text[4]));
        return 1;
    }
    if (spm && (type == VLM_TOKEN_NORMAL || type == VLM_TOKEN_USER_DEFINED))
        return decode_blanks(text, len, dst);
    if (!spm && type == VLM_TOKEN_NORMAL) {
        const char *p = text;
        gssize n = 0;

        while (p < text + len) {
            const int byte = byte_of_char(g_utf8_get_char(p));
            if (byte < 0)
                break;
            dst[n++] = (char) byte;
            p = g_utf8_next_char(p);
        }
        if (p == text + len)
            return n;
        // A spelling outside the byte-level alphabet stands for itself.
    }
    memcpy(dst, text, len);
    return (gssize) len;
}

gboolean vlm_tokenizer_load_decoded(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    size_t total = 0;

    tok->decoded.starts = g_try_new(uint32_t, (gsize) tok->n_vocab + 1);
    tok->decoded.bytes = g_try_malloc(tok->texts.starts[tok->n_vocab]);
    if (!tok->decoded.starts || !tok->decoded.bytes)
        return no_memory(gguf, error);
    memset(tok->byte_ids, 0xff, sizeof tok->byte_ids);
    for (uint32_t id = 0; id < tok->n_vocab; id++) {
        size_t len;
        const char *text = vlm_strings_get(&tok->texts, id, &len);
        const gssize n =
            decode_token(text, len, tok->types[id], tok->is_spm, tok->decoded.bytes + total);

        if (n < 0)
            return vlm_gguf_key_error(gguf, key_tokens, error,
                                      "has a token %u of type byte that is not spelled <0xHH>", id);
        if (tok->types[id] == (tok->is_spm ? VLM_TOKEN_BYTE : VLM_TOKEN_NORMAL) && n == 1)
            tok->byte_ids[(guint8) tok->decoded.bytes[total]] = id;
        tok->decoded.starts[id] = (uint32_t) total;
        total += (size_t) n;
        tok->decoded.starts[id + 1] = (uint32_t) total;
    }
    // Published byte-level vocabularies lack control characters and bytes that UTF-8 hardly uses:
    // the trainer met none.
    for (guint b = 0; b < 256; b++) {
        const gboolean common = b == '\n' || (b >= ' ' && b < 0x7f);
        if (tok->byte_ids[b] == UINT32_MAX && (common || tok->is_spm))
            return vlm_gguf_key_error(gguf, key_tokens, error, "has no token for the byte 0x%02x",
                                      b);
    }
    return TRUE;
}

gboolean vlm_tokenizer_load_merges(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    vlm_gguf_strings merges;
    char joined[VLM_TOKENIZER_MAX_TOKEN_BYTES];

    if (tok->is_spm)
        return TRUE;
    if (!vlm_gguf_get_str_array(gguf, key_merges, 0, VLM_GGUF_MAX_ARRAY_ELEMS, &merges, error))
        return FALSE;
    tok->bpe = vlm_bpe_new(merges.n);
    if (!tok->bpe)
        return no_memory(gguf, error);
    for (guint i = 0; i < merges.n; i++) {
        size_t len;
        const char *text = vlm_gguf_strings_at(&merges, i, &len);
        const char *blank = len > 2 ? memchr(text + 1, ' ', len - 2) : NULL;
        gint64 left = -1, right = -1, merged = -1;

        if (blank && len - 1 <= sizeof joined) {
            const size_t left_len = (size_t) (blank - text), right_len = len - left_len - 1;

            memcpy(joined, text, left_len);
            memcpy(joined + left_len, blank + 1, right_len);
            left = vlm_tokenizer_lookup(tok, joined, left_len);
            right = vlm_tokenizer_lookup(tok, blank + 1, right_len);
            merged = vlm_tokenizer_lookup(tok, joined, left_len + right_len);
        }
        // Were the result a control token, text from outside could make one.
        if (left < 0 || right < 0 || merged < 0 || tok->types[merged] != VLM_TOKEN_NORMAL)
            return vlm_gguf_key_error(gguf, key_merges, error,
                                      "has a rule %u that does not join two tokens to a normal one",
                                      i);
        vlm_bpe_add(tok->bpe, (uint32_t) left, (uint32_t) right, (uint32_t) merged);
    }
    return TRUE;
}

static gint compare_specials(gconstpointer a, gconstpointer b, gpointer user)
{
    const vlm_tokenizer *tok = user;
    size_t a_len, b_len;
    const char *a_text = vlm_strings_get(&tok->texts, *(const uint32_t *) a, &a_len);
    const char *b_text = vlm_strings_get(&tok->texts, *(const uint32_t *) b, &b_len);
    const int order = memcmp(a_text, b_text, MIN(a_len, b_len));

    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static gboolean load_specials(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    for (uint32_t id = 0; id < tok->n_vocab; id++)
        tok->n_specials +=
            tok->types[id] == VLM_TOKEN_CONTROL || tok->types[id] == VLM_TOKEN_USER_DEFINED;
    tok->specials = g_try_new(uint32_t, MAX(tok->n_specials, 1));
    if (!tok->specials)
        return no_memory(gguf, error);
    for (uint32_t id = 0, n = 0; id < tok->n_vocab; id++) {
        size_t len;

        if (tok->types[id] != VLM_TOKEN_CONTROL && tok->types[id] != VLM_TOKEN_USER_DEFINED)
            continue;
        vlm_strings_get(&tok->texts, id, &len);
        if (len > MAX_SPECIAL_BYTES)
            return vlm_gguf_key_error(gguf, key_tokens, error,
                                      "has a special token %u of %" G_GSIZE_FORMAT
                                      " bytes, at most %u are allowed",
                                      id, len, MAX_SPECIAL_BYTES);
        tok->specials[n++] = id;
    }
    g_qsort_with_data(tok->specials, (gint) tok->n_specials, sizeof *tok->specials,
                      compare_specials, tok);
    return TRUE;
}

static void add_end(vlm_tokenizer *tok, gint64 id)
{
    if (id >= 0 && !vlm_tokenizer_is_end(tok, (uint32_t) id))
        tok->end_ids[tok->n_end++] = (uint32_t) id;
}

static gboolean load_ends(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    static const char *const end_keys[] = { "tokenizer.ggml.eos_token_id",
                                            "tokenizer.ggml.eot_token_id",
                                            "tokenizer.ggml.eom_token_id" };
    static const char *const other_keys[] = { "tokenizer.ggml.bos_token_id",
                                              "tokenizer.ggml.padding_token_id",
                                              "tokenizer.ggml.unknown_token_id" };
    static const char *const names[] = { "<|im_end|>", "<|endoftext|>",   "<|eot_id|>",
                                         "<|eom_id|>", "<|end_of_text|>", "</s>" };
    uint32_t id;

    G_STATIC_ASSERT(G_N_ELEMENTS(end_keys) + G_N_ELEMENTS(names) <= VLM_TOKENIZER_MAX_END);
    for (guint i = 0; i < G_N_ELEMENTS(end_keys); i++) {
        if (!vlm_gguf_has(gguf, end_keys[i]))
            continue;
        if (!vlm_gguf_get_u32(gguf, end_keys[i], 0, tok->n_vocab - 1, &id, error))
            return FALSE;
        add_end(tok, id);
    }
    for (guint i = 0; i < G_N_ELEMENTS(other_keys); i++) {
        if (!vlm_gguf_get_u32_or(gguf, other_keys[i], 0, tok->n_vocab - 1, 0, &id, error))
            return FALSE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const gint64 found = vlm_tokenizer_lookup(tok, names[i], strlen(names[i]));
        if (found >= 0 && tok->types[found] == VLM_TOKEN_CONTROL)
            add_end(tok, found);
    }
    if (tok->n_end == 0)
        return vlm_gguf_key_error(gguf, end_keys[0], error,
                                  "is missing and no token is known to end an answer");
    return TRUE;
}

// The token with which texts start. Files of SentencePiece vocabularies and of Llama 3's need not
// say that there is one; in conversations the prompt's protocol writes that of the latter.
static gboolean load_start(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    static const char key[] = "tokenizer.ggml.bos_token_id";
    const gint64 named = vlm_tokenizer_lookup(tok, "<s>", strlen("<s>"));
    gboolean add_bos;

    if (!vlm_gguf_get_bool_or(gguf, "tokenizer.ggml.add_bos_token",
                              tok->is_spm || vlm_pretokenizer_knows_bos(tok->pre), &add_bos, error))
        return FALSE;
    if (add_bos && !tok->is_spm && !vlm_pretokenizer_knows_bos(tok->pre))
        return vlm_gguf_key_error(gguf, "tokenizer.ggml.add_bos_token", error,
                                  "is true, which is not supported");
    tok->has_bos = add_bos && (tok->is_spm || vlm_gguf_has(gguf, key));
    tok->has_start = tok->has_bos && tok->is_spm;
    if (!tok->has_bos)
        return TRUE;
    if (!vlm_gguf_has(gguf, key) && named >= 0) {
        tok->bos_id = (uint32_t) named;
        return TRUE;
    }
    return vlm_gguf_get_u32(gguf, key, 0, tok->n_vocab - 1, &tok->bos_id, error);
}

// What SentencePiece's own files may ask for and the vocabularies of this kind don't.
static gboolean load_spm_kind(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    gboolean squeeze;

    tok->is_spm = TRUE;
    if (!vlm_gguf_get_bool_or(gguf, "tokenizer.ggml.add_space_prefix", TRUE, &tok->opens_with_blank,
                              error)
        || !vlm_gguf_get_bool_or(gguf, "tokenizer.ggml.remove_extra_whitespaces", FALSE, &squeeze,
                                 error))
        return FALSE;
    if (squeeze)
        return vlm_gguf_key_error(gguf, "tokenizer.ggml.remove_extra_whitespaces", error,
                                  "is true, which is not supported");
    if (vlm_gguf_has(gguf, "tokenizer.ggml.precompiled_charsmap"))
        return vlm_gguf_key_error(gguf, "tokenizer.ggml.precompiled_charsmap", error,
                                  "is set, but such normalisation is not supported");
    return TRUE;
}

static gboolean load_kind(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error)
{
    static const char model_key[] = "tokenizer.ggml.model", pre_key[] = "tokenizer.ggml.pre";
    const char *model, *pre;

    if (!vlm_gguf_get_str(gguf, model_key, &model, error))
        return FALSE;
    if (g_str_equal(model, "llama"))
        return load_spm_kind(tok, gguf, error);
    if (!g_str_equal(model, "gpt2")) {
        g_autofree char *shown = g_utf8_substring(model, 0, MIN(g_utf8_strlen(model, -1), 40));
        return vlm_gguf_key_error(gguf, model_key, error,
                                  "is %s, only gpt2 and llama are supported", shown);
    }
    if (!vlm_gguf_get_str(gguf, pre_key, &pre, error))
        return FALSE;
    tok->pre = vlm_pretokenizer_new(pre, error);
    if (!tok->pre)
        g_prefix_error(error, "%s: key %s: ", vlm_gguf_path(gguf), pre_key);
    return tok->pre != NULL;
}

vlm_tokenizer *vlm_tokenizer_new(const vlm_gguf *gguf, GError **error)
{
    g_autoptr(vlm_tokenizer) tok = g_new0(vlm_tokenizer, 1);

    g_atomic_ref_count_init(&tok->ref_count);
    if (!load_kind(tok, gguf, error) || !vlm_tokenizer_load_texts(tok, gguf, error)
        || !load_scores(tok, gguf, error) || !vlm_tokenizer_load_types(tok, gguf, error)
        || !vlm_tokenizer_load_decoded(tok, gguf, error)
        || !vlm_tokenizer_load_merges(tok, gguf, error) || !load_specials(tok, gguf, error)
        || !load_start(tok, gguf, error) || !load_ends(tok, gguf, error))
        return NULL;
    return g_steal_pointer(&tok);
}
