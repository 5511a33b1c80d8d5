// SPDX-License-Identifier: LGPL-2.1-or-later
// media/turns.h — examples and conversations from JSON files: turns of a user and their answers.
//
// Examples, a list:
//   [{"image": "cat.png", "answer": "A cat."},
//    {"image": ["a.png", "b.png"], "prompt": "Compare <image> with <image>.", "answer": "..."},
//    {"video": "clip.webm", "fps": 2, "prompt": "What happens?", "answer": "..."}]
// A conversation, a list or {"messages": list}:
//   [{"role": "system", "content": "Be brief."},
//    {"role": "user", "content": [{"type": "image", "image": "cat.png"},
//                                 {"type": "text", "text": "What is it?"}]},
//    {"role": "assistant", "content": "A cat."}, ...]
// Names of files are relative to the JSON file. Nothing else is in an object: a name that is not
// known is an error.
#ifndef VLM_MEDIA_TURNS_H
#define VLM_MEDIA_TURNS_H

#include "content.h"

// What is wrong with a file of turns, or with what it names: NOT_FOUND, FORMAT and ARGS of
// VLM_ERROR, the message beginning with the file and the entry.
#define TURNS_ERROR (turns_error_quark())
GQuark turns_error_quark(void);

typedef struct turn {
    guint entry;       // of the file, from 1
    GPtrArray *parts;  // of content_part; the last one is text, perhaps empty
    char *answer;      // NULL: it is what is to be answered
    double fps;        // of its films; 0 = as the caller says
} turn;

typedef struct turns {
    char *path;        // of the file
    const char *what;  // "example" or "message", what an entry is called
    char *system;      // NULL = none
    GPtrArray *list;   // of turn
} turns;

void turns_free(turns *t);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(turns, turns_free)

// Reads examples; those without a prompt are asked `prompt`. Files that they name must be there,
// and are not read yet. Errors: TURNS_ERROR.
turns *turns_read_examples(const char *path, const char *prompt, GError **error);

// Reads a conversation. Only its last turn may lack an answer. Errors: TURNS_ERROR.
turns *turns_read_messages(const char *path, GError **error);

// For vlm_session_params.examples_key: from all texts, rates and the identity of all files.
char *turns_key(const turns *t, double fps);

// Adds all turns that have answers. Blocks. Errors: TURNS_ERROR, those of content_feed() that are
// not about the input (lost device, cancelled, ...).
gboolean turns_feed(vlm_session *session, const turns *t, double fps, gboolean measured,
                    GError **error);

#endif
