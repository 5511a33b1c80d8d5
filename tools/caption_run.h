// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/caption_run.h — the pipeline of `vlm caption`, from the input to the file of captions.
#ifndef VLM_TOOLS_CAPTION_RUN_H
#define VLM_TOOLS_CAPTION_RUN_H

#include <gst/gst.h>

#include "subtitles.h"

// An option that becomes a property of `vlmcaption`.
typedef struct caption_setting {
    const char *option;  // for messages
    const char *property;
    const char *value;
} caption_setting;

typedef struct caption_job {
    const char *input, *output;
    subtitle_format format;
    const GPtrArray *settings;  // caption_setting
    gboolean quiet;
} caption_job;

// Sets a property from the text of an option; seconds become nanoseconds for properties that are
// times. Errors: ARGS (no such value, out of range).
gboolean caption_set(GObject *element, const caption_setting *setting, GError **error);

// Captions the input to its end, or until SIGINT or SIGTERM, which sets `interrupted`. GStreamer
// must be initialised. Blocks.
// Errors: ARGS, NOT_FOUND, FORMAT, and what the element reports.
gboolean caption_run(const caption_job *job, gboolean *interrupted, GError **error);

#endif
