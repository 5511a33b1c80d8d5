// SPDX-License-Identifier: LGPL-2.1-or-later
// model/utf8_stream.h — turns a stream of bytes into valid UTF-8, code point by code point.
//
// Tokens may end in the middle of a code point. What is not yet complete waits; what can never
// become valid gives one U+FFFD per maximal ill-formed part, as the Unicode standard recommends
// (chapter 3, "U+FFFD Substitution of Maximal Subparts") and as common decoders do.
#ifndef VLM_MODEL_UTF8_STREAM_H
#define VLM_MODEL_UTF8_STREAM_H

#include <glib.h>
#include <stdint.h>

// Zero-initialised is empty. Thread-safety: unsafe.
typedef struct vlm_utf8_stream {
    uint8_t pending[4];
    guint n_pending;
} vlm_utf8_stream;

// Appends to `out` every code point that `len` more bytes complete. `out` stays valid UTF-8.
void vlm_utf8_stream_push(vlm_utf8_stream *stream, const void *bytes, size_t len, GString *out);

// Ends the stream: an incomplete code point becomes U+FFFD.
void vlm_utf8_stream_finish(vlm_utf8_stream *stream, GString *out);

#endif
