// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/fetch_progress.c — what a person sees of a download.
#include "fetch_progress.h"

#include <stdio.h>
#include <unistd.h>

#define NAME_CHARS 40
#define DRAW_US    200000
#define SURE_AFTER 1000000  // microseconds until a rate is worth showing
#define US_PER_S   1e6

char *fetch_progress_text(const char *name, guint64 start, guint64 done, guint64 total,
                          gint64 elapsed_us)
{
    g_autofree char *have = g_format_size(done), *all = g_format_size(total);
    g_autofree char *base = g_path_get_basename(name);
    const glong length = g_utf8_strlen(base, -1);
    // The end of a name tells files of a model apart.
    const char *shown =
        length > NAME_CHARS ? g_utf8_offset_to_pointer(base, length - NAME_CHARS) : base;
    const double part = total > 0 ? (double) done / (double) total : 1;
    g_autofree char *text =
        g_strdup_printf("%s  %d %%  %s of %s", shown, (int) (part * 100), have, all);

    if (elapsed_us < SURE_AFTER || done <= start)
        return g_steal_pointer(&text);
    const double rate = (double) (done - start) / ((double) elapsed_us / US_PER_S);
    const guint64 left = (guint64) ((double) (total - done) / rate + 0.5);
    g_autofree char *speed = g_format_size((guint64) rate);
    return g_strdup_printf("%s  %s/s  %02" G_GUINT64_FORMAT ":%02u:%02u left", text, speed,
                           left / 3600, (guint) (left / 60 % 60), (guint) (left % 60));
}

void fetch_progress_init(fetch_progress *bar)
{
    *bar = (fetch_progress){ .terminal = isatty(STDERR_FILENO) };
}

void fetch_progress_begin(fetch_progress *bar, const char *name, guint64 there, guint64 total)
{
    g_autofree char *size = g_format_size(total);
    g_autofree char *have = g_format_size(there);

    bar->name = name;
    bar->start = there;
    bar->total = total;
    bar->start_us = g_get_monotonic_time();
    bar->last_us = 0;
    if (bar->terminal)
        return;
    if (there > 0)
        fprintf(stderr, "fetching %s (%s, %s are here)\n", name, size, have);
    else
        fprintf(stderr, "fetching %s (%s)\n", name, size);
}

void fetch_progress_update(fetch_progress *bar, guint64 done)
{
    const gint64 now = g_get_monotonic_time();

    // A server that begins again has no rate from before.
    if (done < bar->start) {
        bar->start = done;
        bar->start_us = now;
    }
    if (!bar->terminal || now - bar->last_us < DRAW_US)
        return;
    g_autofree char *text =
        fetch_progress_text(bar->name, bar->start, done, bar->total, now - bar->start_us);
    fprintf(stderr, "\r%s\033[K", text);
    fflush(stderr);
    bar->last_us = now;
    bar->drawn = TRUE;
}

void fetch_progress_end(fetch_progress *bar, gboolean complete)
{
    if (bar->drawn)
        fputs("\r\033[K", stderr);
    bar->drawn = FALSE;
    if (complete)
        fprintf(stderr, "fetched %s\n", bar->name);
}
