// SPDX-License-Identifier: LGPL-2.1-or-later
// model/tokenizer.h — text to tokens and back, from the tokenizer.ggml.* keys of a GGUF file.
//
// Byte-level byte-pair encoding ("gpt2") with the pre-tokenizer "qwen2", as Hugging Face's
// tokenizers do it: text is normalised to NFC, cut into pieces by a regular expression, and each
// piece is merged by rank. SentencePiece's byte-pair encoding ("llama"): blanks become U+2581, a
// text gets one before it, and characters are joined by the tokens' scores (model/spm.h); what is
// no token falls back to bytes. Special tokens are cut out first; the text behind one is a text of
// its own.
//
// Text need not be valid UTF-8: each maximal ill-formed part counts as one U+FFFD. Zero bytes are
// ordinary characters. Runs of more than 256 combining marks are normalised in parts, which keeps
// the time linear and differs from the reference only for such runs.
//
// Thread-safety: immutable after creation; ref and unref are atomic.
#ifndef VLM_MODEL_TOKENIZER_H
#define VLM_MODEL_TOKENIZER_H

#include "model/gguf.h"

#define VLM_TOKENIZER_MAX_VOCAB       (1u << 20)
#define VLM_TOKENIZER_MAX_TOKEN_BYTES 4096u        // of the text of one token
#define VLM_TOKENIZER_MAX_TEXT_BYTES  (16u << 20)  // of one text to encode

typedef struct vlm_tokenizer vlm_tokenizer;

// Kinds of token, numbered as in the file.
typedef enum vlm_token_type {
    VLM_TOKEN_NORMAL = 1,
    VLM_TOKEN_UNKNOWN = 2,
    VLM_TOKEN_CONTROL = 3,  // structure of a prompt, never text for a person
    VLM_TOKEN_USER_DEFINED = 4,
    VLM_TOKEN_UNUSED = 5,
    VLM_TOKEN_BYTE = 6,
} vlm_token_type;

// Copies all it needs. FORMAT, naming file and key, when the vocabulary is malformed or of another
// kind.
vlm_tokenizer *vlm_tokenizer_new(const vlm_gguf *gguf, GError **error);
// The same for the labels of a dual encoder. CLIP: byte pairs of lower-case words, the last symbol
// of a word marked with </w>, as Hugging Face's CLIPTokenizer has it; published files have neither
// merges nor the name of the kind, only tokens, whose order gives the merges. SigLIP
// (tokenizer.ggml.model "t5"): lower case, no punctuation, SentencePiece's unigram model.
vlm_tokenizer *vlm_tokenizer_new_labels(const vlm_gguf *gguf, GError **error);
vlm_tokenizer *vlm_tokenizer_ref(vlm_tokenizer *tok);
void vlm_tokenizer_unref(vlm_tokenizer *tok);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_tokenizer, vlm_tokenizer_unref)

uint32_t vlm_tokenizer_n_vocab(const vlm_tokenizer *tok);

// Appends the tokens of `len` bytes of text (-1: up to its zero byte) to `out`, a GArray of
// uint32_t. User-defined tokens are always recognised; control tokens only with `parse_special`,
// which is for prompts of our own making and never for text from outside. On failure `out` is as
// before. Errors: ARGS (text too long, or no memory).
gboolean vlm_tokenizer_append(const vlm_tokenizer *tok, const char *text, gssize len,
                              gboolean parse_special, GArray *out, GError **error);

// Tokens of `text`, from outside, and of `protocol`, with its control tokens, as those of one text.
// `continues`: it goes on from a text that was encoded before, so that no blank is put before it.
gboolean vlm_tokenizer_append_turn(const vlm_tokenizer *tok, const char *text, const char *protocol,
                                   gboolean continues, GArray *out, GError **error);

// The same as vlm_tokenizer_append() into a new array; NULL on failure.
GArray *vlm_tokenizer_encode(const vlm_tokenizer *tok, const char *text, gssize len,
                             gboolean parse_special, GError **error);

// The bytes that a token stands for, borrowed; not valid UTF-8 by itself, see utf8_stream.h.
// Empty for ids outside the vocabulary. Control tokens give their name: see vlm_token_type.
// `first`: of a text, where the blank that encoding puts before it is left out.
const char *vlm_tokenizer_bytes(const vlm_tokenizer *tok, uint32_t id, gboolean first, size_t *len);

// Text of n tokens as valid UTF-8, a new string; control tokens are left out unless `keep_special`.
char *vlm_tokenizer_decode(const vlm_tokenizer *tok, const uint32_t *ids, size_t n,
                           gboolean keep_special);

vlm_token_type vlm_tokenizer_type(const vlm_tokenizer *tok, uint32_t id);

// FALSE when no token is spelled like this. Special tokens are spelled as themselves, the others as
// the file has them: in the byte-level alphabet ("Ġthe") or with U+2581 ("▁the").
gboolean vlm_tokenizer_find(const vlm_tokenizer *tok, const char *text, uint32_t *id);

// TRUE when conversations start with a token that their protocol doesn't write: this one.
gboolean vlm_tokenizer_start(const vlm_tokenizer *tok, uint32_t *id);
// TRUE when plain texts start with a token: this one.
gboolean vlm_tokenizer_bos(const vlm_tokenizer *tok, uint32_t *id);

// TRUE for tokens that end an answer: the file's end-of-text and end-of-turn ids, <|im_end|>,
// <|endoftext|> and </s>. At least one token does.
gboolean vlm_tokenizer_is_end(const vlm_tokenizer *tok, uint32_t id);

// All of them, borrowed.
const uint32_t *vlm_tokenizer_end_ids(const vlm_tokenizer *tok, guint *n);

#endif
