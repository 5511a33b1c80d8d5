// SPDX-License-Identifier: LGPL-2.1-or-later
// model/unigram.h — SentencePiece's unigram model: the likeliest pieces of a text (Kudo 2018).
//
// Thread-safety: immutable after creation.
#ifndef VLM_MODEL_UNIGRAM_H
#define VLM_MODEL_UNIGRAM_H

#include "model/tokenizer.h"

// The longest piece, in bytes: bounds the time that a position takes.
#define VLM_UNIGRAM_MAX_PIECE_BYTES 256u

typedef struct vlm_unigram vlm_unigram;

// From the keys scores, unknown_token_id and precompiled_charsmap; `tok` has the pieces and is not
// kept. Errors: FORMAT.
vlm_unigram *vlm_unigram_new(const vlm_gguf *gguf, const vlm_tokenizer *tok, GError **error);
void vlm_unigram_free(vlm_unigram *unigram);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_unigram, vlm_unigram_free)

// Normalises valid UTF-8 by the model's own table (SentencePiece's "nmt_nfkc" in published ones),
// writes blanks as U+2581 and appends the best pieces' ids to `out` (of uint32_t). Runs of
// characters that no piece has are one unknown token. Errors: ARGS (no memory).
gboolean vlm_unigram_encode(const vlm_unigram *unigram, const vlm_tokenizer *tok, const char *text,
                            size_t len, GArray *out, GError **error);

#endif
