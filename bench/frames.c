// SPDX-License-Identifier: LGPL-2.1-or-later
// bench/frames.c — frames of system memory into the model: how many a second, how much is copied?
//
//   frames [--model=M] [--mmproj=M] [--size=1920x1080] [--frames=64] [--rounds=3]
//
// NV12 in memory of the allocator, a frame at a time, as from a live source: once lent to the
// engine (vlm_image.lent), once not, in turn. "host" is the time of the caller's processor for a
// frame: that is the copy, or making a buffer of the frame's pages.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vlm.h"

typedef struct options {
    char *model, *mmproj, *size;
    int n_frame, n_round;
    guint width, height;
} options;

static double thread_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void fill(guint8 *nv12, const options *o, guint number)
{
    const size_t bytes = (size_t) o->width * o->height * 3 / 2;

    for (size_t i = 0; i < bytes; i++)
        nv12[i] = (guint8) (i * 7 + (i >> 11) * (number + 1));
}

static gboolean show(vlm_engine *engine, const options *o, guint8 *nv12, gboolean lent,
                     GError **error)
{
    g_autoptr(vlm_session) session =
        vlm_session_create(engine, &(vlm_session_params){ .context_size = 2048 }, error);
    double wall = 0, host = 0;
    vlm_session_stats stats;

    if (!session)
        return FALSE;
    for (int i = 0; i < o->n_frame; i++) {
        vlm_image image = { .format = VLM_PIXEL_NV12,
                            .width = o->width,
                            .height = o->height,
                            .plane = { nv12, nv12 + (size_t) o->width * o->height },
                            .stride = { o->width, o->width },
                            .lent = lent };

        fill(nv12, o, (guint) i);
        if (!vlm_session_wait(session, error))
            return FALSE;
        const gint64 begin = g_get_monotonic_time();
        const double cpu = thread_seconds();
        if (!vlm_session_add_frame(session, &image, (gint64) i * 500000000, error))
            return FALSE;
        host += thread_seconds() - cpu;
        if (!vlm_session_wait(session, error))
            return FALSE;
        wall += (double) (g_get_monotonic_time() - begin) * 1e-6;
    }
    vlm_session_get_stats(session, &stats);
    printf("%-7s %7.1f frames/s  %9.0f bytes copied per frame  %3.0f %% in place  host %6.3f ms\n",
           lent ? "lent" : "copied", o->n_frame / wall, (double) stats.copied_bytes / o->n_frame,
           100.0 * (double) stats.n_in_place / o->n_frame, host * 1e3 / o->n_frame);
    fflush(stdout);
    return TRUE;
}

static gboolean run(const options *o, GError **error)
{
    g_autofree char *model = NULL, *mmproj = NULL;
    g_autofree guint8 *nv12 = g_malloc((size_t) o->width * o->height * 3 / 2);
    const char *name = o->model ? o->model : g_getenv("VLM_MODEL");

    if (!vlm_model_find(name ? name : "", o->mmproj, VLM_VISION_REQUIRED, &model, &mmproj, error))
        return FALSE;
    g_autoptr(vlm_engine) engine =
        vlm_engine_open(&(vlm_engine_params){ .model = model, .mmproj = mmproj }, error);
    if (!engine)
        return FALSE;
    for (int i = 0; i < o->n_round; i++)
        if (!show(engine, o, nv12, FALSE, error) || !show(engine, o, nv12, TRUE, error))
            return FALSE;
    return TRUE;
}

int main(int argc, char **argv)
{
    options o = { .n_frame = 64, .n_round = 3 };
    const GOptionEntry entries[] = {
        { "model", 0, 0, G_OPTION_ARG_FILENAME, &o.model, "Text GGUF", "FILE" },
        { "mmproj", 0, 0, G_OPTION_ARG_FILENAME, &o.mmproj, "Vision GGUF", "FILE" },
        { "size", 0, 0, G_OPTION_ARG_STRING, &o.size, "Of a frame (1920x1080)", "WxH" },
        { "frames", 0, 0, G_OPTION_ARG_INT, &o.n_frame, "Frames of a run (64)", "N" },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &o.n_round, "Runs of each kind (3)", "N" },
        { NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (g_option_context_parse(context, &argc, &argv, &error)
        && (sscanf(o.size ? o.size : "1920x1080", "%ux%u", &o.width, &o.height) != 2 || o.width < 2
            || o.height < 2 || o.width % 2 || o.height % 2 || o.width > VLM_MAX_SIDE
            || o.height > VLM_MAX_SIDE || o.n_frame < 1))
        g_set_error(&error, VLM_ERROR, VLM_ERROR_ARGS, "a size is two even numbers, 1920x1080");
    if (!error && run(&o, &error))
        return 0;
    g_printerr("%s\n", error->message);
    return 1;
}
