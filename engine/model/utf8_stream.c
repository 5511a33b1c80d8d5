// SPDX-License-Identifier: LGPL-2.1-or-later
// model/utf8_stream.c — turns a stream of bytes into valid UTF-8.
#include "model/utf8_stream.h"

static const char replacement[] = "\xef\xbf\xbd";

// Length of the code point that starts with `lead`, 0 when none does.
static guint sequence_length(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    if (lead >= 0xf0 && lead <= 0xf4)
        return 4;
    return 0;
}

// TRUE when `byte` may be at position `at` (1..3) of a sequence that starts with `lead`. The second
// byte is narrower for some leads: no overlong forms, no surrogates, nothing above U+10FFFF.
static gboolean continues(uint8_t lead, guint at, uint8_t byte)
{
    uint8_t low = 0x80, high = 0xbf;

    if (at == 1) {
        if (lead == 0xe0)
            low = 0xa0;
        else if (lead == 0xed)
            high = 0x9f;
        else if (lead == 0xf0)
            low = 0x90;
        else if (lead == 0xf4)
            high = 0x8f;
    }
    return byte >= low && byte <= high;
}

void vlm_utf8_stream_push(vlm_utf8_stream *stream, const void *bytes, size_t len, GString *out)
{
    const uint8_t *src = bytes;

    for (size_t i = 0; i < len; i++) {
        if (stream->n_pending > 0 && !continues(stream->pending[0], stream->n_pending, src[i])) {
            g_string_append(out, replacement);
            stream->n_pending = 0;
        }
        if (stream->n_pending == 0 && sequence_length(src[i]) == 0) {
            g_string_append(out, replacement);
            continue;
        }
        stream->pending[stream->n_pending++] = src[i];
        if (stream->n_pending == sequence_length(stream->pending[0])) {
            g_string_append_len(out, (const char *) stream->pending, stream->n_pending);
            stream->n_pending = 0;
        }
    }
}

void vlm_utf8_stream_finish(vlm_utf8_stream *stream, GString *out)
{
    if (stream->n_pending > 0)
        g_string_append(out, replacement);
    stream->n_pending = 0;
}
