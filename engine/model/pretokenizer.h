// SPDX-License-Identifier: LGPL-2.1-or-later
// model/pretokenizer.h — cuts text into the pieces inside which BPE merges.
//
// Thread-safety: immutable after creation, any number of threads may cut with one pretokenizer.
#ifndef VLM_MODEL_PRETOKENIZER_H
#define VLM_MODEL_PRETOKENIZER_H

#include <glib.h>

typedef struct vlm_pretokenizer vlm_pretokenizer;

// `name` is the value of tokenizer.ggml.pre; FORMAT when it is not known.
vlm_pretokenizer *vlm_pretokenizer_new(const char *name, GError **error);
void vlm_pretokenizer_free(vlm_pretokenizer *pre);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_pretokenizer, vlm_pretokenizer_free)

// Whether the family brings text to Unicode's form NFC before it is cut.
gboolean vlm_pretokenizer_wants_nfc(const vlm_pretokenizer *pre);

// Whether a piece that is a token is that token, whatever the merges say.
gboolean vlm_pretokenizer_keeps_whole(const vlm_pretokenizer *pre);
// Whether a file may ask for a token before every text: the prompts of the family write it.
gboolean vlm_pretokenizer_knows_bos(const vlm_pretokenizer *pre);

// Gets each piece, in order. FALSE stops; the function has then set `error`.
typedef gboolean (*vlm_piece_func)(void *user, const char *piece, size_t len, GError **error);

// Cuts `len` bytes of valid UTF-8. The pieces cover the text without gaps.
gboolean vlm_pretokenizer_cut(const vlm_pretokenizer *pre, const char *text, size_t len,
                              vlm_piece_func func, void *user, GError **error);

#endif
