// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/fetch_progress.h — what a person sees of a download.
#ifndef VLM_TOOLS_FETCH_PROGRESS_H
#define VLM_TOOLS_FETCH_PROGRESS_H

#include <glib.h>

// Of one file after the other. On a terminal a line that changes, else a line per file; on stderr.
typedef struct fetch_progress {
    gboolean terminal;
    gboolean drawn;
    const char *name;  // of the file, borrowed
    guint64 total;     // its bytes
    guint64 start;     // those that were there when it began
    gint64 start_us;   // when that was, g_get_monotonic_time()
    gint64 last_us;    // when the line was drawn last
} fetch_progress;

void fetch_progress_init(fetch_progress *bar);
void fetch_progress_begin(fetch_progress *bar, const char *name, guint64 there, guint64 total);
void fetch_progress_update(fetch_progress *bar, guint64 done);
// Takes the line away, and says in another whether the file is complete.
void fetch_progress_end(fetch_progress *bar, gboolean complete);

// "NAME  45 %  1.2 GB of 2.6 GB  34.5 MB/s  00:00:42 left"; `done` counts from `start`. A new
// string. Exact, for tests.
char *fetch_progress_text(const char *name, guint64 start, guint64 done, guint64 total,
                          gint64 elapsed_us);

#endif
