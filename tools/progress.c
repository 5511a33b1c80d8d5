// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/progress.c — a bar on the last line of the terminal that lines of text can pass.
//
// Bar and lines come from one thread, and standard output is flushed before the bar goes to
// stderr: so neither can appear inside the other.
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH  30
#define SURE_AFTER 2000000  // microseconds until a guess of the time left is worth showing
#define US_PER_S   1000000
#define NS_PER_S   1000000000u

static char *clock_text(guint64 seconds)
{
    return g_strdup_printf("%02" G_GUINT64_FORMAT ":%02u:%02u", seconds / 3600,
                           (guint) (seconds / 60 % 60), (guint) (seconds % 60));
}

char *progress_text(guint64 done, guint64 total, gint64 elapsed_us)
{
    char bar[BAR_WIDTH + 1];
    double part;
    int n;
    g_autofree char *left = NULL;

    if (total == 0) {
        left = clock_text(done / NS_PER_S);
        return g_strdup_printf("%s watched", left);
    }
    part = MIN(1.0, (double) done / (double) total);
    n = (int) (part * BAR_WIDTH);
    memset(bar, '#', (gsize) n);
    memset(bar + n, ' ', (gsize) (BAR_WIDTH - n));
    bar[BAR_WIDTH] = '\0';
    if (elapsed_us < SURE_AFTER || part < 1e-6)
        return g_strdup_printf("[%s] %3d %%", bar, (int) (part * 100.0));
    left = clock_text((guint64) ((double) elapsed_us * (1.0 - part) / part / US_PER_S + 0.5));
    return g_strdup_printf("[%s] %3d %%  %s left", bar, (int) (part * 100.0), left);
}

void progress_init(progress *bar, gboolean wanted)
{
    *bar = (progress){
        .shown = wanted && isatty(STDERR_FILENO),
        .start_us = g_get_monotonic_time(),
    };
}

static void show(progress *bar)
{
    fprintf(stderr, "\r%s\033[K", bar->text);
    fflush(stderr);
    bar->drawn = TRUE;
}

void progress_draw(progress *bar, guint64 done, guint64 total)
{
    if (!bar->shown)
        return;
    g_free(bar->text);
    bar->text = progress_text(done, total, g_get_monotonic_time() - bar->start_us);
    show(bar);
}

static void hide(progress *bar)
{
    if (!bar->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    bar->drawn = FALSE;
}

void progress_print(progress *bar, const char *line)
{
    gboolean again = bar->drawn;

    hide(bar);
    puts(line);
    fflush(stdout);
    if (again)
        show(bar);
}

void progress_clear(progress *bar)
{
    hide(bar);
    g_clear_pointer(&bar->text, g_free);
}
