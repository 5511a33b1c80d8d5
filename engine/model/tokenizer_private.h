// SPDX-License-Identifier: LGPL-2.1-or-later
// model/tokenizer_private.h — what tokenizer.c and tokenizer_load.c share.
#ifndef VLM_MODEL_TOKENIZER_PRIVATE_H
#define VLM_MODEL_TOKENIZER_PRIVATE_H

#include "model/tokenizer.h"

#include "model/bpe.h"
#include "model/pretokenizer.h"

#define VLM_TOKENIZER_MAX_END 9u

// n strings in one block; string i is bytes[starts[i] .. starts[i + 1] - 1].
typedef struct vlm_strings {
    char *bytes;
    uint32_t *starts;
} vlm_strings;

struct vlm_tokenizer {
    gatomicrefcount ref_count;
    uint32_t n_vocab;
    vlm_strings texts;    // as spelled in the file
    vlm_strings decoded;  // what they stand for
    uint8_t *types;       // vlm_token_type
    uint32_t *lookup;     // open addressing: id + 1 by spelling, 0 empty
    guint lookup_mask;
    uint32_t lookup_seed;
    uint32_t byte_ids[256];  // token of each single byte; UINT32_MAX = none
    uint32_t *specials;      // control and user-defined tokens, sorted by spelling
    guint n_specials;
    uint32_t end_ids[VLM_TOKENIZER_MAX_END];
    guint n_end;
    vlm_bpe *bpe;           // of a byte-level vocabulary, else NULL
    vlm_pretokenizer *pre;  // the same
    gboolean is_spm;        // a SentencePiece vocabulary, joined by score
    float *scores;          // the same, else NULL
    uint32_t max_token_bytes;
    gboolean opens_with_blank;  // a text gets a blank before it, which decoding takes away
    gboolean has_bos;           // a text starts with this token
    gboolean has_start;         // and so does a conversation, without its protocol's doing
    uint32_t bos_id;
    gboolean lower;               // text is brought to lower case
    uint32_t *byte_end_ids;       // token of a byte that ends a word; NULL: ends aren't marked
    struct vlm_unigram *unigram;  // instead of merges
};

static inline const char *vlm_strings_get(const vlm_strings *s, uint32_t i, size_t *len)
{
    *len = s->starts[i + 1] - s->starts[i];
    return s->bytes + s->starts[i];
}

// Parts of loading that both kinds of vocabulary share, in this order. FORMAT.
gboolean vlm_tokenizer_load_texts(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error);
gboolean vlm_tokenizer_load_types(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error);
gboolean vlm_tokenizer_load_decoded(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error);
gboolean vlm_tokenizer_load_merges(vlm_tokenizer *tok, const vlm_gguf *gguf, GError **error);

// Appends `len` bytes of valid UTF-8 in lower case, character by character.
void vlm_tokenizer_append_lower(GString *out, const char *text, size_t len);

// The text of a label of SigLIP as its vocabulary is to see it.
GString *vlm_tokenizer_canonical(const char *text, size_t len);

// Id of the token spelled `text`, or -1.
gint64 vlm_tokenizer_lookup(const vlm_tokenizer *tok, const char *text, size_t len);

#endif
