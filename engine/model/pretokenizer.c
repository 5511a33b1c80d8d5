// SPDX-License-Identifier: LGPL-2.1-or-later
// model/pretokenizer.c — cuts text into pieces with the regular expression of a family.
//
// The expressions are the published ones of the tokenizers, with white space spelled out: the
// reference's \s is the Unicode property White_Space, PCRE2's \s also takes U+180E. A family is one
// row of the table. None of them can backtrack more than linearly in a run of one character class.
#define G_LOG_DOMAIN          "vlm-model"
#define PCRE2_CODE_UNIT_WIDTH 8

#include "model/pretokenizer.h"

#include "base/error.h"

#include <pcre2.h>

#define WS                                                                                         \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

static const struct {
    const char *name, *pattern;
    gboolean nfc;    // text is brought to this form first
    gboolean whole;  // a piece that is a token is that token, whatever the merges say
    gboolean bos;    // prompts begin with a token of their own
    gboolean drop;   // what no alternative takes is left out
} families[] = {
    { "qwen2",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
      "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
      "|\\p{N}"
      "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*"
      "|[" WS "]*[\\r\\n]+"
      "|[" WS "]+(?![^" WS "])"
      "|[" WS "]+",
      TRUE, FALSE, FALSE, FALSE },
    { "llama-bpe",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
      "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
      "|\\p{N}{1,3}"
      "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*"
      "|[" WS "]*[\\r\\n]+"
      "|[" WS "]+(?![^" WS "])"
      "|[" WS "]+",
      FALSE, TRUE, TRUE, FALSE },
    // The same, with combining marks among the letters.
    { "qwen35",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
      "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+"
      "|\\p{N}"
      "| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*"
      "|[" WS "]*[\\r\\n]+"
      "|[" WS "]+(?![^" WS "])"
      "|[" WS "]+",
      TRUE, FALSE, FALSE, FALSE },
    // The reference cuts digits out first and applies GPT-2's expression to what lies between them,
    // so that a run of blanks before a digit ends as one before the end of the text does.
    { "smollm",
      "\\p{N}"
      "|'s|'t|'re|'ve|'m|'ll|'d"
      "| ?\\p{L}+"
      "| ?[^" WS "\\p{L}\\p{N}]+"
      "|[" WS "]+(?![^" WS "\\p{N}])"
      "|[" WS "]+",
      FALSE, FALSE, FALSE, FALSE },
    { "clip", "'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^" WS "\\p{L}\\p{N}]+", TRUE, FALSE, FALSE,
      TRUE },
};

// Far above what any text needs: each match looks at one piece and the run of blanks after it.
#define MATCH_LIMIT 100000000u

struct vlm_pretokenizer {
    pcre2_code *code;
    pcre2_match_context *context;
    gboolean nfc, whole, bos, drop;
};

vlm_pretokenizer *vlm_pretokenizer_new(const char *name, GError **error)
{
    g_autoptr(vlm_pretokenizer) pre = g_new0(vlm_pretokenizer, 1);
    const char *pattern = NULL;
    int code;
    PCRE2_SIZE offset;

    for (guint i = 0; i < G_N_ELEMENTS(families); i++) {
        if (g_str_equal(name, families[i].name)) {
            pattern = families[i].pattern;
            pre->nfc = families[i].nfc;
            pre->whole = families[i].whole;
            pre->bos = families[i].bos;
            pre->drop = families[i].drop;
        }
    }
    if (!pattern) {
        g_autofree char *shown = g_utf8_substring(name, 0, MIN(g_utf8_strlen(name, -1), 40));
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "pre-tokenizer %s is not supported, only qwen2, qwen35, smollm and llama-bpe "
                    "are",
                    shown);
        return NULL;
    }
    pre->code = pcre2_compile((PCRE2_SPTR) pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                              &code, &offset, NULL);
    pre->context = pcre2_match_context_create(NULL);
    if (!pre->code || !pre->context) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "PCRE2 cannot compile pre-tokenizer %s",
                    name);
        return NULL;
    }
    pcre2_set_match_limit(pre->context, MATCH_LIMIT);
    // Without JIT support in the library matching is slower and otherwise the same.
    if (pcre2_jit_compile(pre->code, PCRE2_JIT_COMPLETE) != 0)
        g_debug("PCRE2 has no JIT here");
    return g_steal_pointer(&pre);
}

gboolean vlm_pretokenizer_wants_nfc(const vlm_pretokenizer *pre)
{
    return pre->nfc;
}

gboolean vlm_pretokenizer_keeps_whole(const vlm_pretokenizer *pre)
{
    return pre->whole;
}

gboolean vlm_pretokenizer_knows_bos(const vlm_pretokenizer *pre)
{
    return pre->bos;
}

void vlm_pretokenizer_free(vlm_pretokenizer *pre)
{
    if (!pre)
        return;
    pcre2_match_context_free(pre->context);
    pcre2_code_free(pre->code);
    g_free(pre);
}

gboolean vlm_pretokenizer_cut(const vlm_pretokenizer *pre, const char *text, size_t len,
                              vlm_piece_func func, void *user, GError **error)
{
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    gboolean ok = match != NULL;
    size_t at = 0;

    if (!ok)
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "no memory for cutting text");
    while (ok && at < len) {
        const int rc = pcre2_match(pre->code, (PCRE2_SPTR) text, len, at, PCRE2_NO_UTF_CHECK, match,
                                   pre->context);
        size_t start = len, end = len;

        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "text cannot be cut into words: PCRE2 error %d at byte %" G_GSIZE_FORMAT,
                        rc, at);
            ok = FALSE;
            break;
        }
        if (rc >= 0) {
            const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(match);
            start = ends[0];
            end = ends[1];
        }
        // What no alternative takes is a piece of its own.
        if (start > at && !pre->drop)
            ok = func(user, text + at, start - at, error);
        if (ok && end > start)
            ok = func(user, text + start, end - start, error);
        at = MAX(end, at + 1);
    }
    pcre2_match_data_free(match);
    return ok;
}
