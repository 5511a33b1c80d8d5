// SPDX-License-Identifier: LGPL-2.1-or-later
// model/tokenizer.c — text to tokens and back.
#define G_LOG_DOMAIN "vlm-model"

#include "model/tokenizer_private.h"

#include "model/spm.h"
#include "model/unigram.h"
#include "model/utf8_stream.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_MARKS       256  // combining marks that are normalised together
#define MAX_WHOLE_BYTES 512  // longest piece that is looked for among the tokens

vlm_tokenizer *vlm_tokenizer_ref(vlm_tokenizer *tok)
{
    g_return_val_if_fail(tok, NULL);
    g_atomic_ref_count_inc(&tok->ref_count);
    return tok;
}

void vlm_tokenizer_unref(vlm_tokenizer *tok)
{
    if (!tok || !g_atomic_ref_count_dec(&tok->ref_count))
        return;
    g_free(tok->texts.bytes);
    g_free(tok->texts.starts);
    g_free(tok->decoded.bytes);
    g_free(tok->decoded.starts);
    g_free(tok->types);
    g_free(tok->lookup);
    g_free(tok->specials);
    vlm_bpe_free(tok->bpe);
    g_free(tok->byte_end_ids);
    vlm_unigram_free(tok->unigram);
    vlm_pretokenizer_free(tok->pre);
    g_free(tok->scores);
    g_free(tok);
}

uint32_t vlm_tokenizer_n_vocab(const vlm_tokenizer *tok)
{
    return tok->n_vocab;
}

vlm_token_type vlm_tokenizer_type(const vlm_tokenizer *tok, uint32_t id)
{
    return id < tok->n_vocab ? (vlm_token_type) tok->types[id] : VLM_TOKEN_UNKNOWN;
}

gboolean vlm_tokenizer_find(const vlm_tokenizer *tok, const char *text, uint32_t *id)
{
    const gint64 found = vlm_tokenizer_lookup(tok, text, strlen(text));

    if (found >= 0)
        *id = (uint32_t) found;
    return found >= 0;
}

gboolean vlm_tokenizer_start(const vlm_tokenizer *tok, uint32_t *id)
{
    *id = tok->bos_id;
    return tok->has_start;
}

gboolean vlm_tokenizer_bos(const vlm_tokenizer *tok, uint32_t *id)
{
    *id = tok->bos_id;
    return tok->has_bos;
}

gboolean vlm_tokenizer_is_end(const vlm_tokenizer *tok, uint32_t id)
{
    for (guint i = 0; i < tok->n_end; i++) {
        if (tok->end_ids[i] == id)
            return TRUE;
    }
    return FALSE;
}

const uint32_t *vlm_tokenizer_end_ids(const vlm_tokenizer *tok, guint *n)
{
    *n = tok->n_end;
    return tok->end_ids;
}

const char *vlm_tokenizer_bytes(const vlm_tokenizer *tok, uint32_t id, gboolean first, size_t *len)
{
    const char *bytes = "";

    *len = 0;
    if (id >= tok->n_vocab)
        return bytes;
    bytes = vlm_strings_get(tok->decoded.bytes ? &tok->decoded : &tok->texts, id, len);
    if (first && tok->opens_with_blank && tok->types[id] == VLM_TOKEN_NORMAL && *len > 0
        && bytes[0] == ' ') {
        bytes++;
        (*len)--;
    }
    return bytes;
}

char *vlm_tokenizer_decode(const vlm_tokenizer *tok, const uint32_t *ids, size_t n,
                           gboolean keep_special)
{
    GString *text = g_string_new(NULL);
    vlm_utf8_stream stream = { .n_pending = 0 };
    gboolean first = TRUE;

    for (size_t i = 0; i < n; i++) {
        const gboolean control = vlm_tokenizer_type(tok, ids[i]) == VLM_TOKEN_CONTROL;
        size_t len;
        const char *bytes = vlm_tokenizer_bytes(tok, ids[i], first, &len);

        if (keep_special || !control)
            vlm_utf8_stream_push(&stream, bytes, len, text);
        first &= control;
    }
    vlm_utf8_stream_finish(&stream, text);
    return g_string_free(text, FALSE);
}

// Where the pieces of one text go.
typedef struct encoder {
    const vlm_tokenizer *tok;
    GArray *out;
    uint32_t *symbols;  // of one piece
    gsize capacity;
    gboolean continues;  // the text at hand goes on from an earlier one
} encoder;

static gboolean set_no_memory(GError **error)
{
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "no memory for a text of this length");
    return FALSE;
}

// Appends the token that a piece is as a whole, if there is one.
static gboolean append_whole(encoder *e, const char *piece, size_t len)
{
    const vlm_tokenizer *tok = e->tok;
    char spelling[2 * MAX_WHOLE_BYTES];  // bytes are spelled with one or two
    size_t n = 0;

    if (len > MAX_WHOLE_BYTES)
        return FALSE;
    for (size_t i = 0; i < len; i++) {
        size_t n_byte;
        if (tok->byte_ids[(guint8) piece[i]] == UINT32_MAX)
            return FALSE;
        const char *byte = vlm_strings_get(&tok->texts, tok->byte_ids[(guint8) piece[i]], &n_byte);

        if (n + n_byte > sizeof spelling)
            return FALSE;
        memcpy(spelling + n, byte, n_byte);
        n += n_byte;
    }
    const gint64 found = vlm_tokenizer_lookup(tok, spelling, n);
    if (found < 0 || tok->types[found] != VLM_TOKEN_NORMAL)
        return FALSE;
    const uint32_t id = (uint32_t) found;
    g_array_append_val(e->out, id);
    return TRUE;
}

// A vlm_piece_func: merges one piece.
static gboolean encode_piece(void *user, const char *piece, size_t len, GError **error)
{
    encoder *e = user;

    if (vlm_pretokenizer_keeps_whole(e->tok->pre) && append_whole(e, piece, len))
        return TRUE;
    if (len > e->capacity) {
        g_free(e->symbols);
        e->capacity = MAX(len, 256);
        e->symbols = g_try_new(uint32_t, e->capacity);
        if (!e->symbols) {
            e->capacity = 0;
            return set_no_memory(error);
        }
    }
    guint n = 0;
    for (size_t i = 0; i < len; i++) {
        const gboolean ends = e->tok->byte_end_ids && i + 1 == len;
        const uint32_t id = (ends ? e->tok->byte_end_ids : e->tok->byte_ids)[(guint8) piece[i]];
        if (id != UINT32_MAX)  // bytes without a token are passed over, as the reference does
            e->symbols[n++] = id;
    }
    return vlm_bpe_merge(e->tok->bpe, e->symbols, n, e->out) || set_no_memory(error);
}

static gboolean is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((guint8) text[i] & 0x80)
            return FALSE;
    }
    return TRUE;
}

// Appends the NFC of `len` bytes of valid UTF-8 without long runs of marks.
static gboolean append_nfc_part(GString *out, const char *text, size_t len, GError **error)
{
    utf8proc_uint8_t *nfc = NULL;
    const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *) text, (utf8proc_ssize_t) len,
                                            &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);

    if (n >= 0)
        g_string_append_len(out, (const char *) nfc, n);
    free(nfc);
    return n >= 0 || set_no_memory(error);
}

static gboolean append_nfc(GString *out, const char *text, size_t len, GError **error)
{
    const char *start = text, *end = text + len;
    guint n_marks = 0;

    for (const char *p = text; p < end; p = g_utf8_next_char(p)) {
        const utf8proc_property_t *property =
            utf8proc_get_property((utf8proc_int32_t) g_utf8_get_char(p));

        n_marks = property->combining_class != 0 ? n_marks + 1 : 0;
        if (n_marks > MAX_MARKS) {
            if (!append_nfc_part(out, start, (size_t) (p - start), error))
                return FALSE;
            start = p;
            n_marks = 1;
        }
    }
    return append_nfc_part(out, start, (size_t) (end - start), error);
}

// The same with SentencePiece's vocabulary.
static gboolean encode_pieces(encoder *e, const char *text, size_t len, GError **error)
{
    g_autoptr(GString) escaped = g_string_sized_new(len + 16);

    if (e->tok->opens_with_blank && !e->continues)
        g_string_append(escaped, VLM_SPM_BLANK);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ')
            g_string_append(escaped, VLM_SPM_BLANK);
        else
            g_string_append_c(escaped, text[i]);
    }
    return vlm_spm_encode(e->tok, escaped->str, escaped->len, e->out) || set_no_memory(error);
}

// Encodes text between special tokens.
static gboolean encode_plain(encoder *e, const char *text, size_t len, GError **error)
{
    if (len == 0)
        return TRUE;
    if (e->tok->unigram) {
        GString *canonical = vlm_tokenizer_canonical(text, len);
        const gboolean done = vlm_unigram_encode(e->tok->unigram, e->tok, canonical->str,
                                                 canonical->len, e->out, error);
        g_string_free(canonical, TRUE);
        return done;
    }
    if (e->tok->scores)
        return encode_pieces(e, text, len, error);
    if (!e->tok->lower && (!vlm_pretokenizer_wants_nfc(e->tok->pre) || is_ascii(text, len)))
        return vlm_pretokenizer_cut(e->tok->pre, text, len, encode_piece, e, error);

    GString *nfc = g_string_sized_new(len + 1);
    gboolean ok = append_nfc(nfc, text, len, error);
    if (ok && e->tok->lower) {
        GString *lower = g_string_sized_new(nfc->len + 1);
        vlm_tokenizer_append_lower(lower, nfc->str, nfc->len);
        g_string_free(nfc, TRUE);
        nfc = lower;
    }
    ok = ok && vlm_pretokenizer_cut(e->tok->pre, nfc->str, nfc->len, encode_piece, e, error);
    g_string_free(nfc, TRUE);
    return ok;
}

// The longest special token that begins at `text`, or -1. Specials are sorted by spelling; the
// range [low, high) of those that share the first n bytes narrows byte by byte.
static gint64 special_at(const vlm_tokenizer *tok, const char *text, size_t len, gboolean control,
                         size_t *special_len)
{
    guint low = 0, high = tok->n_specials;
    gint64 best = -1;

    for (size_t n = 0; low < high; n++) {
        size_t first_len;

        vlm_strings_get(&tok->texts, tok->specials[low], &first_len);
        if (first_len == n) {  // spelled exactly like the n bytes read so far
            const uint32_t id = tok->specials[low++];
            if (control || tok->types[id] == VLM_TOKEN_USER_DEFINED) {
                best = id;
                *special_len = n;
            }
        }
        if (n == len)
            break;
        // The part of the range whose byte number n is text[n].
        const guint8 wanted = (guint8) text[n];
        guint bounds[2];
        for (guint side = 0; side < 2; side++) {
            guint a = low, b = high;
            while (a < b) {
                const guint mid = a + (b - a) / 2;
                size_t mid_len;
                const char *mid_text = vlm_strings_get(&tok->texts, tok->specials[mid], &mid_len);
                const guint8 byte = (guint8) mid_text[n];
                if (byte < wanted || (side == 1 && byte == wanted))
                    a = mid + 1;
                else
                    b = mid;
            }
            bounds[side] = a;
        }
        low = bounds[0];
        high = bounds[1];
    }
    return best;
}

// Cuts valid UTF-8 at special tokens and encodes what is between. Control tokens are special from
// byte `control_from` on.
static gboolean encode_valid(encoder *e, const char *text, size_t len, size_t control_from,
                             GError **error)
{
    size_t plain = 0, at = 0;

    while (at < len && e->tok->n_specials > 0) {
        size_t special_len = 0;
        const gint64 id = special_at(e->tok, text + at, len - at, at >= control_from, &special_len);

        if (id < 0) {
            at++;
            continue;
        }
        const uint32_t special = (uint32_t) id;
        if (!encode_plain(e, text + plain, at - plain, error))
            return FALSE;
        g_array_append_val(e->out, special);
        e->continues = FALSE;
        at += special_len;
        plain = at;
    }
    return encode_plain(e, text + plain, len - plain, error);
}

static gboolean check_length(size_t n, GError **error)
{
    if (n <= VLM_TOKENIZER_MAX_TEXT_BYTES)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "text has %" G_GSIZE_FORMAT " bytes, at most %u are allowed", n,
                VLM_TOKENIZER_MAX_TEXT_BYTES);
    return FALSE;
}

gboolean vlm_tokenizer_append(const vlm_tokenizer *tok, const char *text, gssize len,
                              gboolean parse_special, GArray *out, GError **error)
{
    const size_t n = len < 0 ? strlen(text) : (size_t) len;
    const size_t control_from = parse_special ? 0 : SIZE_MAX;
    const guint before = out->len;
    encoder e = { .tok = tok, .out = out };
    gboolean ok;

    if (!check_length(n, error))
        return FALSE;
    if (is_ascii(text, n)) {
        ok = encode_valid(&e, text, n, control_from, error);
    } else {
        GString *valid = g_string_sized_new(n + 1);
        vlm_utf8_stream stream = { .n_pending = 0 };

        vlm_utf8_stream_push(&stream, text, n, valid);
        vlm_utf8_stream_finish(&stream, valid);
        ok = encode_valid(&e, valid->str, valid->len, control_from, error);
        g_string_free(valid, TRUE);
    }
    g_free(e.symbols);
    if (!ok)
        g_array_set_size(out, before);
    return ok;
}

gboolean vlm_tokenizer_append_turn(const vlm_tokenizer *tok, const char *text, const char *protocol,
                                   gboolean continues, GArray *out, GError **error)
{
    const size_t n_text = strlen(text);
    const guint before = out->len;
    encoder e = { .tok = tok, .out = out, .continues = continues };
    g_autoptr(GString) valid = g_string_sized_new(n_text + strlen(protocol) + 1);
    vlm_utf8_stream stream = { .n_pending = 0 };

    if (!check_length(n_text + strlen(protocol), error))
        return FALSE;
    vlm_utf8_stream_push(&stream, text, n_text, valid);
    vlm_utf8_stream_finish(&stream, valid);
    const size_t control_from = valid->len;
    g_string_append(valid, protocol);
    const gboolean ok = encode_valid(&e, valid->str, valid->len, control_from, error);
    g_free(e.symbols);
    if (!ok)
        g_array_set_size(out, before);
    return ok;
}

GArray *vlm_tokenizer_encode(const vlm_tokenizer *tok, const char *text, gssize len,
                             gboolean parse_special, GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    return vlm_tokenizer_append(tok, text, len, parse_special, out, error) ? g_steal_pointer(&out)
                                                                           : NULL;
}
