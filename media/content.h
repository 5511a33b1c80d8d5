// SPDX-License-Identifier: LGPL-2.1-or-later
// media/content.h — a prompt with images and films in it, fed to a session.
#ifndef VLM_MEDIA_CONTENT_H
#define VLM_MEDIA_CONTENT_H

#include "vlm.h"

typedef enum content_kind {
    CONTENT_TEXT,
    CONTENT_IMAGE,
    CONTENT_FILM,
} content_kind;

typedef struct content_part {
    content_kind kind;
    char *text;  // the text, or the file's name
} content_part;

// Splits a prompt at its "<image>" and "<video>" markers, which stand for the images and films in
// their order. Those that have no marker come first. Returns an array of content_part, free with
// g_ptr_array_unref(); the last part is always text, perhaps empty: the question.
// `images` and `films` may be NULL. Errors: ARGS (more markers than files).
GPtrArray *content_parse(const char *prompt, const char *const *images, const char *const *films,
                         GError **error);

// An empty array for content_add().
GPtrArray *content_new(void);

// Adds a part of `bytes` bytes of text, or with a file's name.
void content_add(GPtrArray *parts, content_kind kind, const char *text, gsize bytes);

// Adds all parts but the last one to the session; films are sampled at `fps`. With `measured` (for
// models that want a film's length) films, not cameras, are read twice: first to count their
// frames. Blocks. Errors: those of media.h and of vlm_session_add_frame().
gboolean content_feed(vlm_session *session, const GPtrArray *parts, double fps, gboolean measured,
                      GError **error);

// The text of the last part.
const char *content_question(const GPtrArray *parts);

#endif
