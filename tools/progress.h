// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/progress.h — a bar on the last line of the terminal that lines of text can pass.
#ifndef VLM_TOOLS_PROGRESS_H
#define VLM_TOOLS_PROGRESS_H

#include <glib.h>

typedef struct progress {
    gboolean shown;   // whether there is a bar at all
    gboolean drawn;   // whether it stands on the screen now
    gint64 start_us;  // when the work began, g_get_monotonic_time()
    char *text;       // the bar as it was last
} progress;

// The bar is shown when `wanted` and stderr is a terminal. Thread-safety: one thread.
void progress_init(progress *bar, gboolean wanted);

// Draws the bar for `done` of `total` nanoseconds of video; total 0 = nobody knows.
void progress_draw(progress *bar, guint64 done, guint64 total);

// Prints a line on standard output, above the bar.
void progress_print(progress *bar, const char *line);

// Takes the bar off the screen. To be called before anything else prints.
void progress_clear(progress *bar);

// The bar as text: "[######              ]  30 %  00:01:12 left". Exact, for tests.
// `elapsed_us`: since the start. Returns a new string.
char *progress_text(guint64 done, guint64 total, gint64 elapsed_us);

#endif
