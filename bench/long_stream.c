// SPDX-License-Identifier: LGPL-2.1-or-later
// bench/long_stream.c — hours of video through `vlmcaption`: do memory and latency stay flat?
//
//   long_stream CLIP.webm OUT.csv [HOURS [FRAME_RATE [CAPTION_SECONDS [CONTEXT_SIZE]]]]
//
// The clip is decoded once and repeated with growing timestamps, as fast as the model takes it.
// One line of the CSV per caption; bench/plot_stream.py draws it.
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "media.h"

GST_PLUGIN_STATIC_DECLARE(vlm);

#define NS_PER_HOUR (3600.0 * 1e9)

typedef struct stream {
    GPtrArray *frames;  // GstBuffer
    GstCaps *caps;
    double rate;  // frames per second
    double hours, seconds;
    guint context;
    GstElement *pipeline, *source, *caption;
    FILE *csv;
    gint64 begin_us, last_us;  // monotonic
    guint64 n_captions;
} stream;

// Keeps a copy of a frame of the clip, packed as I420.
static gboolean keep_frame(const media_picture *picture, gpointer user_data, GError **error)
{
    stream *s = user_data;
    GstVideoFrame copy;
    GstBuffer *buffer;
    GstVideoInfo info;

    gst_video_info_set_format(&info, GST_VIDEO_FRAME_FORMAT(&picture->frame), picture->image.width,
                              picture->image.height);
    info.colorimetry = picture->frame.info.colorimetry;
    GST_VIDEO_INFO_FPS_N(&info) = 0;
    buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info), NULL);
    if (!gst_video_frame_map(&copy, &info, buffer, GST_MAP_WRITE)) {
        gst_buffer_unref(buffer);
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "a frame can't be copied");
        return FALSE;
    }
    gst_video_frame_copy(&copy, &picture->frame);
    gst_video_frame_unmap(&copy);
    g_ptr_array_add(s->frames, buffer);
    if (!s->caps)
        s->caps = gst_video_info_to_caps(&info);
    return TRUE;
}

// Resident memory of this process in bytes.
static guint64 resident(void)
{
    guint64 pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");

    if (statm) {
        if (fscanf(statm, "%*s %" G_GUINT64_FORMAT, &pages) != 1)
            pages = 0;
        fclose(statm);
    }
    return pages * (guint64) sysconf(_SC_PAGESIZE);
}

static guint64 get_uint64(const GstStructure *structure, const char *name)
{
    guint64 value = 0;

    gst_structure_get_uint64(structure, name, &value);
    return value;
}

static void note_caption(stream *s, const GstStructure *caption)
{
    g_autoptr(GstStructure) stats = NULL;
    gint64 now = g_get_monotonic_time();
    guint used = 0;

    g_object_get(s->caption, "stats", &stats, NULL);
    gst_structure_get_uint(stats, "context-used", &used);
    fprintf(s->csv, "%.3f,%.3f,%.3f,%.1f,%.1f,%u,%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT "\n",
            (double) get_uint64(caption, "stream-time") / NS_PER_HOUR,
            (double) (now - s->begin_us) * 1e-6, (double) (now - s->last_us) * 1e-6,
            (double) resident() / 1048576.0,
            (double) get_uint64(stats, "device-memory") / 1048576.0, used,
            get_uint64(stats, "evicted"), get_uint64(stats, "dropped"));
    fflush(s->csv);
    s->last_us = now;
    s->n_captions++;
}

// Pushes the frames; appsrc blocks while its queue is full, so this is a thread of its own.
static gpointer feed(gpointer user_data)
{
    stream *s = user_data;
    guint64 n = (guint64) (s->hours * 3600.0 * s->rate);
    GstFlowReturn flow = GST_FLOW_OK;

    for (guint64 i = 0; i < n && flow == GST_FLOW_OK; i++) {
        GstBuffer *frame = g_ptr_array_index(s->frames, i % s->frames->len);
        GstBuffer *buffer = gst_buffer_copy(frame);  // shares the memory

        GST_BUFFER_PTS(buffer) = (GstClockTime) ((double) i * 1e9 / s->rate);
        GST_BUFFER_DURATION(buffer) = (GstClockTime) (1e9 / s->rate);
        flow = gst_app_src_push_buffer(GST_APP_SRC(s->source), buffer);
    }
    gst_app_src_end_of_stream(GST_APP_SRC(s->source));
    return NULL;
}

static gboolean build(stream *s, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("appsrc name=source format=time block=true max-buffers=4 ! "
                        "vlmcaption name=caption when-busy=wait "
                        "caption-interval=%" G_GUINT64_FORMAT " context-size=%u ! "
                        "fakesink sync=false",
                        (guint64) (s->seconds * 1e9), s->context);
    gint rate_n, rate_d;

    GST_PLUGIN_STATIC_REGISTER(vlm);
    s->pipeline = gst_parse_launch(text, error);
    if (!s->pipeline)
        return FALSE;
    s->source = gst_bin_get_by_name(GST_BIN(s->pipeline), "source");
    s->caption = gst_bin_get_by_name(GST_BIN(s->pipeline), "caption");
    gst_util_double_to_fraction(s->rate, &rate_n, &rate_d);
    g_object_set(s->caption, "frame-rate", rate_n, rate_d, NULL);
    g_object_set(s->source, "caps", s->caps, NULL);
    return TRUE;
}

static gboolean run(stream *s, GError **error)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(s->pipeline);
    GThread *thread;
    gboolean ok = TRUE;

    gst_element_set_state(s->pipeline, GST_STATE_PLAYING);
    s->begin_us = s->last_us = g_get_monotonic_time();
    fprintf(s->csv, "film_hours,wall_s,caption_s,rss_mib,device_mib,context_tokens,evicted_tokens,"
                    "dropped_frames\n");
    thread = g_thread_new("feed", feed, s);
    for (gboolean more = TRUE; more;) {
        g_autoptr(GstMessage) message = gst_bus_timed_pop_filtered(
            bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_ELEMENT | GST_MESSAGE_EOS | GST_MESSAGE_ERROR);

        if (gst_message_has_name(message, "vlm-caption"))
            note_caption(s, gst_message_get_structure(message));
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
            gst_message_parse_error(message, error, NULL);
            ok = FALSE;
        }
        more = GST_MESSAGE_TYPE(message) == GST_MESSAGE_ELEMENT;
    }
    gst_element_set_state(s->pipeline, GST_STATE_NULL);
    g_thread_join(thread);
    return ok;
}

static void stream_clear(stream *s)
{
    g_clear_pointer(&s->frames, g_ptr_array_unref);
    gst_clear_caps(&s->caps);
    gst_clear_object(&s->source);
    gst_clear_object(&s->caption);
    gst_clear_object(&s->pipeline);
    if (s->csv)
        fclose(s->csv);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(stream, stream_clear)

int main(int argc, char **argv)
{
    g_auto(stream) s = {
        .hours = argc > 3 ? g_ascii_strtod(argv[3], NULL) : 3,
        .rate = argc > 4 ? g_ascii_strtod(argv[4], NULL) : 2,
        .seconds = argc > 5 ? g_ascii_strtod(argv[5], NULL) : 4,
        .context = argc > 6 ? (guint) strtoul(argv[6], NULL, 10) : 2048,
    };
    g_autoptr(GError) error = NULL;

    if (argc < 3 || !(s.hours > 0 && s.rate > 0 && s.rate <= 1000 && s.seconds >= 0.1)) {
        g_printerr("usage: %s CLIP OUT.csv [HOURS [FRAME_RATE [CAPTION_SECONDS [CONTEXT_SIZE]]]]\n",
                   argv[0]);
        return 2;
    }
    s.frames = g_ptr_array_new_with_free_func((GDestroyNotify) gst_buffer_unref);
    s.csv = fopen(argv[2], "we");
    if (!s.csv) {
        g_printerr("%s can't be written\n", argv[2]);
        return 1;
    }
    if (!media_read_film(argv[1], s.rate, keep_frame, &s, &error) || !build(&s, &error)
        || !run(&s, &error)) {
        g_printerr("%s\n", error->message);
        return 1;
    }
    g_print("%" G_GUINT64_FORMAT
            " captions of %.2f hours in %.0f s, resident %.1f MiB at the end\n",
            s.n_captions, s.hours, (double) (s.last_us - s.begin_us) * 1e-6,
            (double) resident() / 1048576.0);
    return 0;
}
