// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/subtitles.h — writes captions as WebVTT, SubRip or JSON lines.
#ifndef VLM_TOOLS_SUBTITLES_H
#define VLM_TOOLS_SUBTITLES_H

#include <glib.h>

typedef enum subtitle_format {
    SUBTITLE_VTT,
    SUBTITLE_SRT,
    SUBTITLE_JSONL,
} subtitle_format;

typedef struct subtitle_cue {
    guint64 start, end;  // nanoseconds; end > start in what is written
    const char *text;    // valid UTF-8
    guint64 number;      // 1 for the first
    guint32 tokens;
    guint64 latency;  // nanoseconds
} subtitle_cue;

// The format that the end of a file's name asks for. Errors: ARGS.
gboolean subtitle_format_of(const char *path, subtitle_format *format, GError **error);

// "00:00:04.0"; hours grow beyond two digits. `digits` of the fraction, 1 or 3, cut rather than
// rounded. Returns a new string.
char *subtitle_time(guint64 ns, guint digits, char point);

// One line that a terminal and a subtitle file can show: white space and control characters become
// single blanks. Returns a new string.
char *subtitle_clean(const char *text);

// What the format wants instead of characters that mean something in it. Takes and returns one
// line; a new string.
char *subtitle_escape(const char *line, subtitle_format format);

// What stands before, and for, one cue. Return new strings.
char *subtitle_header(subtitle_format format);
char *subtitle_format_cue(const subtitle_cue *cue, subtitle_format format);

// Whether a file begins as one that subtitle_header() began. FALSE when it can't be read.
gboolean subtitle_is_ours(const char *path);

// A file being written. Each cue is in the file when subtitle_file_add() returns, so that nothing
// is lost when the program dies. Thread-safety: one thread.
typedef struct subtitle_file subtitle_file;

// Replaces the file. Errors: NOT_FOUND (can't be written).
subtitle_file *subtitle_file_open(const char *path, subtitle_format format, GError **error);
gboolean subtitle_file_add(subtitle_file *file, const subtitle_cue *cue, GError **error);
// Accepts NULL.
void subtitle_file_close(subtitle_file *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(subtitle_file, subtitle_file_close)

#endif
