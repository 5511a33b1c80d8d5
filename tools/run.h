// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/run.h — what the ways to run a prompt share.
#ifndef VLM_TOOLS_RUN_H
#define VLM_TOOLS_RUN_H

#include <json-glib/json-glib.h>

#include "turns.h"
#include "vlm.h"

// How sessions are made and prompts answered.
typedef struct run_options {
    vlm_session_params session;
    vlm_generate_params generate;
    double fps;
    gboolean measured;                // sessions are told how long films are before they are shown
    const turns *examples, *history;  // what sessions begin with; NULL = nothing
} run_options;

// A session with its examples and history in it. Errors: those of vlm_session_create() and
// turns_feed().
vlm_session *run_session(vlm_engine *engine, const run_options *options, GError **error);

// Answers a prompt; with `print` the text appears on standard output as it is decoded.
// Errors: those of vlm_session_generate().
vlm_generation *run_generate(vlm_session *session, const vlm_generate_params *params,
                             gboolean print, GError **error);

// Members "tokens" and, where they were asked for, "top".
void run_add_tokens(JsonBuilder *builder, const vlm_generation *generation);

// Answers every line of a file of JSON objects ("-" = standard input):
//   {"id": .., "image": ["a.png"], "video": "clip.webm", "fps": 2, "prompts": ["..", ".."],
//    "max_tokens": 64}
// Images and the film are encoded once per line. Prints {"id", "prompt", "text"} per prompt, with
// top logits also "tokens" and "top", or {"id", "error"}. Returns an exit code.
int run_batch(vlm_engine *engine, const char *path, const run_options *options);

#endif
