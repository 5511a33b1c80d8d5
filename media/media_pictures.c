// SPDX-License-Identifier: LGPL-2.1-or-later
// media/media_pictures.c — reads images and samples films.
#include "media.h"

#include <gst/app/gstappsink.h>

#define POLL_NS (100 * GST_MSECOND)

// What vlm_image knows; the engine's own shader converts colours, as it does in the element.
#define PICTURE_CAPS                                                                               \
    "video/x-raw,format={RGB,BGR,RGBx,RGBA,BGRx,BGRA,xRGB,ARGB,xBGR,ABGR,GRAY8,I420,YV12,"         \
    "NV12,NV21,YUY2,UYVY}"

static const struct {
    GstVideoFormat gst;
    vlm_pixel_format vlm;
} formats[] = {
    { GST_VIDEO_FORMAT_RGB, VLM_PIXEL_RGB },     { GST_VIDEO_FORMAT_BGR, VLM_PIXEL_BGR },
    { GST_VIDEO_FORMAT_RGBx, VLM_PIXEL_RGBX },   { GST_VIDEO_FORMAT_RGBA, VLM_PIXEL_RGBX },
    { GST_VIDEO_FORMAT_BGRx, VLM_PIXEL_BGRX },   { GST_VIDEO_FORMAT_BGRA, VLM_PIXEL_BGRX },
    { GST_VIDEO_FORMAT_xRGB, VLM_PIXEL_XRGB },   { GST_VIDEO_FORMAT_ARGB, VLM_PIXEL_XRGB },
    { GST_VIDEO_FORMAT_xBGR, VLM_PIXEL_XBGR },   { GST_VIDEO_FORMAT_ABGR, VLM_PIXEL_XBGR },
    { GST_VIDEO_FORMAT_GRAY8, VLM_PIXEL_GRAY8 }, { GST_VIDEO_FORMAT_I420, VLM_PIXEL_I420 },
    { GST_VIDEO_FORMAT_YV12, VLM_PIXEL_YV12 },   { GST_VIDEO_FORMAT_NV12, VLM_PIXEL_NV12 },
    { GST_VIDEO_FORMAT_NV21, VLM_PIXEL_NV21 },   { GST_VIDEO_FORMAT_YUY2, VLM_PIXEL_YUY2 },
    { GST_VIDEO_FORMAT_UYVY, VLM_PIXEL_UYVY },
};

// A pipeline that is being read. Samples come in order of time.
typedef struct reader {
    const char *input;
    GstElement *pipeline, *source;
    GstAppSink *sink;
    GstBus *bus;
    char *missing;
} reader;

static void reader_clear(reader *r)
{
    if (r->pipeline) {
        gst_element_set_state(r->pipeline, GST_STATE_NULL);
        gst_object_unref(r->bus);
        gst_object_unref(r->pipeline);
    }
    g_free(r->missing);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(reader, reader_clear)

static gboolean reader_open(reader *r, const char *input, GError **error)
{
    g_autoptr(GstCaps) caps = NULL;
    GstElement *sink;

    if (!media_init(error))
        return FALSE;
    r->input = input;
    r->source = media_source_new(input, error);
    sink = r->source ? gst_element_factory_make("appsink", NULL) : NULL;
    if (!sink) {
        if (r->source) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                        "GStreamer has no element 'appsink'; install Debian's package "
                        "gstreamer1.0-plugins-base");
            gst_object_unref(r->source);
        }
        return FALSE;
    }
    caps = gst_caps_from_string(PICTURE_CAPS);
    g_object_set(sink, "caps", caps, "sync", FALSE, "max-buffers", 4, "enable-last-sample", FALSE,
                 NULL);
    r->sink = GST_APP_SINK(sink);
    r->pipeline = gst_object_ref_sink(gst_pipeline_new(NULL));
    r->bus = gst_element_get_bus(r->pipeline);
    gst_bin_add_many(GST_BIN(r->pipeline), r->source, sink, NULL);
    // The reference that media_source_new() gave is ours; the bin took its own.
    gst_object_unref(r->source);
    gst_element_link(r->source, sink);
    gst_element_set_state(r->pipeline, GST_STATE_PLAYING);
    return TRUE;
}

// Looks at what the elements said. FALSE with the error set when one failed.
static gboolean reader_check(reader *r, GError **error)
{
    for (;;) {
        g_autoptr(GstMessage) message =
            gst_bus_pop_filtered(r->bus, GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT | GST_MESSAGE_EOS);

        if (!message)
            return TRUE;
        media_note_missing(message, &r->missing);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
            media_set_error(message, r->input, r->missing, error);
            return FALSE;
        }
    }
}

// The next sample, or NULL at the end or with the error set.
static GstSample *reader_next(reader *r, GError **error)
{
    for (;;) {
        GstSample *sample = gst_app_sink_try_pull_sample(r->sink, POLL_NS);

        if (sample)
            return sample;
        if (!reader_check(r, error))
            return NULL;
        if (gst_app_sink_is_eos(r->sink)) {
            if (!media_source_has_video(r->source))
                g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s' has no video%s%s", r->input,
                            r->missing ? " that can be played. " : "",
                            r->missing ? r->missing : "");
            return NULL;
        }
    }
}

static gint64 sample_time(GstSample *sample)
{
    GstClockTime pts = GST_BUFFER_PTS(gst_sample_get_buffer(sample));
    const GstSegment *segment = gst_sample_get_segment(sample);
    guint64 time;

    if (!GST_CLOCK_TIME_IS_VALID(pts) || segment->format != GST_FORMAT_TIME)
        return -1;
    time = gst_segment_to_stream_time(segment, GST_FORMAT_TIME, pts);
    return GST_CLOCK_TIME_IS_VALID(time) && time <= G_MAXINT64 ? (gint64) time : -1;
}

static vlm_color_matrix matrix_of(const GstVideoInfo *info)
{
    switch (info->colorimetry.matrix) {
    case GST_VIDEO_COLOR_MATRIX_BT709:
        return VLM_MATRIX_BT709;
    case GST_VIDEO_COLOR_MATRIX_BT2020:
        return VLM_MATRIX_BT2020;
    default:
        return VLM_MATRIX_BT601;
    }
}

static gboolean fill_image(const GstVideoFrame *frame, vlm_image *image, GError **error)
{
    const GstVideoInfo *info = &frame->info;
    guint i = 0;

    while (i < G_N_ELEMENTS(formats) && formats[i].gst != GST_VIDEO_INFO_FORMAT(info))
        i++;
    if (i == G_N_ELEMENTS(formats)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "pixel format %s can't be used",
                    info->finfo->name);
        return FALSE;
    }
    *image = (vlm_image){
        .format = formats[i].vlm,
        .width = (uint32_t) GST_VIDEO_FRAME_WIDTH(frame),
        .height = (uint32_t) GST_VIDEO_FRAME_HEIGHT(frame),
        .matrix = matrix_of(info),
        .full_range = info->colorimetry.range == GST_VIDEO_COLOR_RANGE_0_255,
    };
    for (guint p = 0; p < GST_VIDEO_FRAME_N_PLANES(frame) && p < G_N_ELEMENTS(image->plane); p++) {
        image->plane[p] = GST_VIDEO_FRAME_PLANE_DATA(frame, p);
        image->stride[p] = (uint32_t) GST_VIDEO_FRAME_PLANE_STRIDE(frame, p);
    }
    return TRUE;
}

// Maps the sample and hands it over as the picture of `time_ns`.
static gboolean give(GstSample *sample, gint64 time_ns, media_func func, gpointer user_data,
                     GError **error)
{
    media_picture picture = { .time_ns = time_ns };
    GstVideoInfo info;
    gboolean ok;

    if (!gst_video_info_from_caps(&info, gst_sample_get_caps(sample))
        || !gst_video_frame_map(&picture.frame, &info, gst_sample_get_buffer(sample),
                                GST_MAP_READ)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "a decoded picture can't be read");
        return FALSE;
    }
    ok = fill_image(&picture.frame, &picture.image, error) && func(&picture, user_data, error);
    gst_video_frame_unmap(&picture.frame);
    return ok;
}

gboolean media_read_image(const char *input, media_func func, gpointer user_data, GError **error)
{
    g_auto(reader) r = { 0 };
    g_autoptr(GstSample) sample = NULL;
    g_autoptr(GError) cause = NULL;

    if (!reader_open(&r, input, error))
        return FALSE;
    sample = reader_next(&r, &cause);
    if (sample)
        return give(sample, sample_time(sample), func, user_data, error);
    if (cause)
        g_propagate_error(error, g_steal_pointer(&cause));
    else
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s' holds no picture", input);
    return FALSE;
}

// When picture i is due, in nanoseconds.
static gint64 due(guint64 i, double fps)
{
    return (gint64) ((double) i * 1e9 / fps + 0.5);
}

gboolean media_read_film(const char *input, double fps, media_func func, gpointer user_data,
                         GError **error)
{
    g_auto(reader) r = { 0 };
    g_autoptr(GstSample) before = NULL;  // its time is `time`, and it lasts until `end`
    g_autoptr(GError) cause = NULL;
    gint64 time = 0, end = 0;
    guint64 i = 0;

    if (!reader_open(&r, input, error))
        return FALSE;
    for (;;) {
        g_autoptr(GstSample) sample = reader_next(&r, &cause);
        gint64 now = sample ? sample_time(sample) : -1;

        if (cause) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return FALSE;
        }
        if (sample && now < 0)
            now = end;  // a picture without a time follows the one before it
        // `before` is nearest to all that is due up to half way to its successor.
        for (; before && (sample ? due(i, fps) <= time + (now - time) / 2 : due(i, fps) < end);
             i++) {
            if (!give(before, due(i, fps), func, user_data, error))
                return FALSE;
        }
        if (!sample)
            break;
        g_clear_pointer(&before, gst_sample_unref);
        before = g_steal_pointer(&sample);
        time = now;
        end = now
              + (GST_BUFFER_DURATION_IS_VALID(gst_sample_get_buffer(before))
                     ? (gint64) GST_BUFFER_DURATION(gst_sample_get_buffer(before))
                     : 1);
    }
    if (before && i == 0)
        return give(before, 0, func, user_data, error);
    if (!before)
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s' holds no picture", input);
    return before != NULL;
}
