// SPDX-License-Identifier: LGPL-2.1-or-later
// bench/passthrough.c — what `vlmcaption` adds to a live pipeline while it makes captions.
//
//   passthrough [SECONDS [ROUNDS [PROPERTIES]]]
//
// 1920x1080 NV12 at 60 frames per second from a source that keeps time, through `identity` and
// through `vlmcaption` in turn, SECONDS each (10), ROUNDS times (3). Two times of each buffer: from
// the element's sink pad to its source pad ("inside"), and from when it was due to when it left
// ("late", which has the source's and the machine's share in it).
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>

GST_PLUGIN_STATIC_DECLARE(vlm);

#define WIDTH  1920
#define HEIGHT 1080
#define RATE   60
#define WARM   RATE  // buffers that are not counted

typedef struct run {
    const char *element;
    GstElement *pipeline, *source;
    GArray *inside, *late;  // of gint64, nanoseconds
    gint64 began_ns, entered_ns;
    guint n_buffer, n_caption;
} run;

static gint64 now_ns(void)
{
    return (gint64) gst_util_get_timestamp();
}

static GstPadProbeReturn on_enter(GstPad *pad, GstPadProbeInfo *info, gpointer user_data)
{
    run *r = user_data;

    (void) pad, (void) info;
    r->entered_ns = now_ns();
    return GST_PAD_PROBE_OK;
}

static GstPadProbeReturn on_leave(GstPad *pad, GstPadProbeInfo *info, gpointer user_data)
{
    run *r = user_data;
    const gint64 now = now_ns();
    const gint64 due = r->began_ns + (gint64) GST_BUFFER_PTS(GST_PAD_PROBE_INFO_BUFFER(info));
    const gint64 inside = now - r->entered_ns, late = now - due;

    (void) pad;
    if (r->n_buffer++ < WARM)
        return GST_PAD_PROBE_OK;
    g_array_append_val(r->inside, inside);
    g_array_append_val(r->late, late);
    return GST_PAD_PROBE_OK;
}

static void add_probes(run *r)
{
    g_autoptr(GstElement) element = gst_bin_get_by_name(GST_BIN(r->pipeline), "it");
    g_autoptr(GstPad) sink = gst_element_get_static_pad(element, "sink");
    g_autoptr(GstPad) src = gst_element_get_static_pad(element, "src");

    gst_pad_add_probe(sink, GST_PAD_PROBE_TYPE_BUFFER, on_enter, r, NULL);
    gst_pad_add_probe(src, GST_PAD_PROBE_TYPE_BUFFER, on_leave, r, NULL);
}

static gboolean build(run *r, GError **error)
{
    g_autofree char *text = g_strdup_printf(
        "appsrc name=source is-live=true format=time max-buffers=8 leaky-type=downstream "
        "caps=video/x-raw,format=NV12,width=%d,height=%d,framerate=%d/1 ! "
        "%s name=it ! fakesink sync=false async=false",
        WIDTH, HEIGHT, RATE, r->element);

    r->pipeline = gst_parse_launch(text, error);
    if (!r->pipeline)
        return FALSE;
    r->source = gst_bin_get_by_name(GST_BIN(r->pipeline), "source");
    add_probes(r);
    return TRUE;
}

// Every buffer has its own GstBuffer and shares one of eight pieces of memory.
static void feed(run *r, GPtrArray *frames, guint n)
{
    r->began_ns = now_ns();
    for (guint i = 0; i < n; i++) {
        const gint64 pts = (gint64) gst_util_uint64_scale(i, GST_SECOND, RATE);
        const gint64 wait = r->began_ns + pts - now_ns();
        GstBuffer *buffer = gst_buffer_copy(g_ptr_array_index(frames, i % frames->len));

        GST_BUFFER_PTS(buffer) = (GstClockTime) pts;
        GST_BUFFER_DURATION(buffer) = GST_SECOND / RATE;
        if (wait > 0)
            g_usleep((gulong) wait / 1000);
        if (gst_app_src_push_buffer(GST_APP_SRC(r->source), buffer) != GST_FLOW_OK)
            return;
    }
    gst_app_src_end_of_stream(GST_APP_SRC(r->source));
}

static gboolean finish(run *r, GError **error)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(r->pipeline);

    for (;;) {
        g_autoptr(GstMessage) message = gst_bus_timed_pop_filtered(
            bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_ELEMENT | GST_MESSAGE_EOS | GST_MESSAGE_ERROR);

        r->n_caption += gst_message_has_name(message, "vlm-caption");
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
            gst_message_parse_error(message, error, NULL);
            return FALSE;
        }
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS)
            return TRUE;
    }
}

static int by_size(gconstpointer a, gconstpointer b)
{
    const gint64 x = *(const gint64 *) a, y = *(const gint64 *) b;

    return (x > y) - (x < y);
}

static double part(GArray *values, double fraction)
{
    g_array_sort(values, by_size);
    if (values->len == 0)
        return 0;
    return (double) g_array_index(values, gint64, (guint) (fraction * (values->len - 1))) * 1e-6;
}

static void report(const run *r)
{
    printf("%-10.10s %6u buffers %3u captions  inside: median %.3f 99 %% %.3f most %.3f ms"
           "  late: median %.3f 99 %% %.3f ms\n",
           r->element, r->inside->len, r->n_caption, part(r->inside, 0.5), part(r->inside, 0.99),
           part(r->inside, 1), part(r->late, 0.5), part(r->late, 0.99));
    fflush(stdout);
}

static gboolean measure(run *r, GPtrArray *frames, guint n, GError **error)
{
    gboolean ok;

    if (!build(r, error))
        return FALSE;
    gst_element_set_state(r->pipeline, GST_STATE_PLAYING);
    // Live: the state change ends without a buffer, with the model loaded.
    gst_element_get_state(r->pipeline, NULL, NULL, GST_CLOCK_TIME_NONE);
    feed(r, frames, n);
    ok = finish(r, error);
    gst_element_set_state(r->pipeline, GST_STATE_NULL);
    gst_clear_object(&r->source);
    gst_clear_object(&r->pipeline);
    return ok;
}

static GPtrArray *make_frames(void)
{
    GPtrArray *frames = g_ptr_array_new_with_free_func((GDestroyNotify) gst_buffer_unref);
    const gsize bytes = (gsize) WIDTH * HEIGHT * 3 / 2;

    for (guint f = 0; f < 8; f++) {
        guint8 *data = g_malloc(bytes);

        for (gsize i = 0; i < bytes; i++)
            data[i] = (guint8) (i * 7 + (i >> 11) * (f + 1));
        g_ptr_array_add(frames, gst_buffer_new_wrapped(data, bytes));
    }
    return frames;
}

int main(int argc, char **argv)
{
    const guint seconds = argc > 1 ? (guint) strtoul(argv[1], NULL, 10) : 10;
    const guint rounds = argc > 2 ? (guint) strtoul(argv[2], NULL, 10) : 3;
    g_autofree char *caption =
        g_strdup_printf("vlmcaption %s", argc > 3 ? argv[3] : "caption-interval=1000000000");
    g_autoptr(GPtrArray) frames = NULL;
    g_autoptr(GError) error = NULL;
    run runs[] = { { .element = "identity" }, { .element = caption } };

    if (argc > 4 || seconds < 2 || seconds > 3600 || rounds < 1 || rounds > 1000) {
        g_printerr("usage: %s [SECONDS [ROUNDS [PROPERTIES]]]\n", argv[0]);
        return 2;
    }
    gst_init(NULL, NULL);
    GST_PLUGIN_STATIC_REGISTER(vlm);
    frames = make_frames();
    for (guint round = 0; round < rounds && !error; round++) {
        for (guint i = 0; i < G_N_ELEMENTS(runs) && !error; i++) {
            run *r = &runs[i];

            r->inside = g_array_new(FALSE, FALSE, sizeof(gint64));
            r->late = g_array_new(FALSE, FALSE, sizeof(gint64));
            r->n_buffer = r->n_caption = 0;
            if (measure(r, frames, seconds * RATE + WARM, &error))
                report(r);
            g_array_unref(r->inside);
            g_array_unref(r->late);
        }
    }
    if (!error)
        return 0;
    g_printerr("%s\n", error->message);
    return 1;
}
