// SPDX-License-Identifier: LGPL-2.1-or-later
// model/spm.h — the byte-pair encoding of SentencePiece (Kudo and Richardson 2018), by scores.
#ifndef VLM_MODEL_SPM_H
#define VLM_MODEL_SPM_H

#include "model/tokenizer.h"

#define VLM_SPM_BLANK "\xe2\x96\x81"  // stands for a blank in a vocabulary and in texts for it

// Appends the tokens of `len` bytes of valid UTF-8 in which blanks are VLM_SPM_BLANK: characters
// are joined to the token with the highest score, leftmost first among equals, as long as two
// neighbours make one; a character that is no token becomes its bytes. O(n log n) lookups. FALSE:
// no memory.
gboolean vlm_spm_encode(const vlm_tokenizer *tok, const char *text, size_t len, GArray *out);

#endif
