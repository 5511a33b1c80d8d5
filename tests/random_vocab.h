// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_vocab.h — a small BPE vocabulary: byte-level of the Qwen, SmolVLM or Llama 3 form,
// or SentencePiece's of the Llama form.
#ifndef VLM_TESTS_RANDOM_VOCAB_H
#define VLM_TESTS_RANDOM_VOCAB_H

#include "gguf_writer.h"

// Tokens 0..255 are the bytes, then the merged ones, then the family's special tokens, then unused
// "[PADn]" up to a multiple of 64. The content does not depend on anything.
typedef struct random_vocab {
    GPtrArray *tokens;  // of char *, in the byte-level alphabet
    GPtrArray *merges;  // of char *, "left right", best first
    GArray *types;      // of int32_t
    GArray *scores;     // of float: the Llama form, which has no merges; else NULL
    const char *pre;    // pre-tokenizer
    const char *end;    // token that ends an answer
    const char *bos;    // the file asks for it before every text; NULL: for none
    const char *pad;
} random_vocab;

random_vocab *random_vocab_new(void);
random_vocab *random_vocab_new_smolvlm(void);
// With a token that no merge makes; the last one is "<|image|>".
random_vocab *random_vocab_new_llama3(void);
// SentencePiece's: <unk>, <s>, </s>, the bytes, joined tokens, characters, <image>, unused ones.
random_vocab *random_vocab_new_llava(void);
void random_vocab_free(random_vocab *vocab);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(random_vocab, random_vocab_free)

// Adds unused tokens until there are n.
void random_vocab_pad(random_vocab *vocab, uint32_t n);

// Id of a token by its text; ends the program when there is none.
uint32_t random_vocab_id(const random_vocab *vocab, const char *text);

// Adds the keys tokenizer.* to a model file.
void random_vocab_add(const random_vocab *vocab, gguf_writer *w);

#endif
