// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/content.h — a prompt with images and films in it, fed to a session.
#ifndef VLM_TOOLS_CONTENT_H
#define VLM_TOOLS_CONTENT_H

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

// Counts the frames that content_feed() will take from the film of a prompt that has one, and sets
// film_frames and film_duration. Reads the whole film; does nothing for a camera or several films.
// Errors: those of media.h.
gboolean content_measure(const GPtrArray *parts, double fps, vlm_session_params *params,
                         GError **error);

// Adds all parts but the last one to the session; films are sampled at `fps`. Blocks.
// Errors: those of media.h and of vlm_session_add_frame().
gboolean content_feed(vlm_session *session, const GPtrArray *parts, double fps, GError **error);

// The text of the last part.
const char *content_question(const GPtrArray *parts);

#endif
