// SPDX-License-Identifier: LGPL-2.1-or-later
// media/media.c — inputs: from a name to raw pictures, and what to say when that fails.
#include "media.h"

#include <gst/pbutils/missing-plugins.h>
#include <string.h>

// Debian packages of what GStreamer reports as missing, by a part of its description.
static const struct {
    const char *part;
    const char *package;
} packages[] = {
    { "video/x-vp", "gstreamer1.0-plugins-good" },
    { "video/x-av1", "gstreamer1.0-plugins-bad" },
    { "image/", "gstreamer1.0-plugins-good" },
    { "decoder-", "gstreamer1.0-libav" },
    { "video/quicktime", "gstreamer1.0-plugins-good" },
    { "video/x-matroska", "gstreamer1.0-plugins-good" },
    { "video/webm", "gstreamer1.0-plugins-good" },
    { "video/x-msvideo", "gstreamer1.0-plugins-good" },
    { "video/x-flv", "gstreamer1.0-plugins-good" },
    { "video/mpegts", "gstreamer1.0-plugins-bad" },
    { "video/mpeg", "gstreamer1.0-plugins-bad" },
    { "urisource-", "gstreamer1.0-plugins-good" },
    { "v4l2src", "gstreamer1.0-plugins-good" },
    { "videoflip", "gstreamer1.0-plugins-good" },
    { "", "gstreamer1.0-plugins-base" },
};

static const char *package_of(const char *what)
{
    guint i = 0;

    while (!strstr(what, packages[i].part))
        i++;
    return packages[i].package;
}

gboolean media_init(GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (gst_init_check(NULL, NULL, &cause))
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "GStreamer can't be used: %s",
                cause ? cause->message : "unknown reason");
    return FALSE;
}

gboolean media_is_camera(const char *input)
{
    return g_str_has_prefix(input, "/dev/video");
}

char *media_uri(const char *input, GError **error)
{
    g_autoptr(GError) cause = NULL;
    char *uri;

    if (strstr(input, "://") && gst_uri_is_valid(input))
        return g_strdup(input);
    if (!g_file_test(input, G_FILE_TEST_EXISTS)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "there is no file '%s'", input);
        return NULL;
    }
    if (g_file_test(input, G_FILE_TEST_IS_DIR)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "'%s' is a folder, not a video", input);
        return NULL;
    }
    uri = gst_filename_to_uri(input, &cause);
    if (!uri)
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "'%s': %s", input, cause->message);
    return uri;
}

// Makes an element inside `bin`.
static GstElement *add(GstBin *bin, const char *factory, GError **error)
{
    GstElement *element = gst_element_factory_make(factory, NULL);

    if (element)
        gst_bin_add(bin, element);
    else
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                    "GStreamer has no element '%s'; install Debian's package %s", factory,
                    package_of(factory));
    return element;
}

// The first video stream is taken, all else is left alone.
static void link_video(GstElement *decoder, GstPad *pad, gpointer user_data)
{
    GstElement *convert = user_data;
    g_autoptr(GstPad) sink = gst_element_get_static_pad(convert, "sink");
    g_autoptr(GstCaps) caps = gst_pad_query_caps(pad, NULL);

    (void) decoder;
    if (gst_caps_is_empty(caps) || gst_caps_is_any(caps) || gst_pad_is_linked(sink)
        || !g_str_has_prefix(gst_structure_get_name(gst_caps_get_structure(caps, 0)), "video/"))
        return;
    if (GST_PAD_LINK_SUCCESSFUL(gst_pad_link(pad, sink)))
        g_object_set_data(G_OBJECT(GST_OBJECT_PARENT(convert)), "has-video", (gpointer) "yes");
}

gboolean media_source_has_video(GstElement *source)
{
    return g_object_get_data(G_OBJECT(source), "has-video") != NULL;
}

// Only video is decoded: a film whose sound nobody here can decode is captioned all the same.
static GstElement *add_decoder(GstBin *bin, const char *input, GError **error)
{
    g_autoptr(GstCaps) caps = gst_caps_from_string("video/x-raw");
    g_autofree char *uri = NULL;
    GstElement *decoder, *camera;

    if (media_is_camera(input)) {
        camera = add(bin, "v4l2src", error);
        decoder = camera ? add(bin, "decodebin", error) : NULL;
        if (!decoder)
            return NULL;
        g_object_set(camera, "device", input, NULL);
        gst_element_link(camera, decoder);
        return decoder;
    }
    uri = media_uri(input, error);
    decoder = uri ? add(bin, "uridecodebin", error) : NULL;
    if (!decoder)
        return NULL;
    g_object_set(decoder, "uri", uri, "caps", caps, "expose-all-streams", FALSE, NULL);
    return decoder;
}

GstElement *media_source_new(const char *input, GError **error)
{
    g_autoptr(GstElement) bin = gst_object_ref_sink(gst_bin_new("input"));
    GstElement *decoder = add_decoder(GST_BIN(bin), input, error);
    GstElement *convert, *flip, *queue;
    g_autoptr(GstPad) pad = NULL;

    // videoconvert and videoflip pass on what needs no work. videoflip turns the pictures of
    // phones upright, as players do.
    if (!decoder || !(convert = add(GST_BIN(bin), "videoconvert", error))
        || !(flip = add(GST_BIN(bin), "videoflip", error))
        || !(queue = add(GST_BIN(bin), "queue", error)))
        return NULL;
    gst_util_set_object_arg(G_OBJECT(flip), "video-direction", "auto");
    // Decoding goes on while the model looks; a few pictures are enough for that.
    g_object_set(queue, "max-size-buffers", 4, "max-size-bytes", 0, "max-size-time", (guint64) 0,
                 NULL);
    gst_element_link_many(convert, flip, queue, NULL);
    g_signal_connect(decoder, "pad-added", G_CALLBACK(link_video), convert);
    pad = gst_element_get_static_pad(queue, "src");
    gst_element_add_pad(bin, gst_ghost_pad_new("src", pad));
    return g_steal_pointer(&bin);
}

void media_note_missing(GstMessage *message, char **missing)
{
    g_autofree char *detail = NULL, *what = NULL;
    char *text;

    if (GST_MESSAGE_TYPE(message) != GST_MESSAGE_ELEMENT || !gst_is_missing_plugin_message(message))
        return;
    detail = gst_missing_plugin_message_get_installer_detail(message);
    what = gst_missing_plugin_message_get_description(message);
    if (!detail || strstr(detail, "decoder-audio/") || strstr(detail, "decoder-text/"))
        return;
    text =
        g_strdup_printf("%s%sGStreamer lacks: %s; install Debian's package %s",
                        *missing ? *missing : "", *missing ? "\n" : "", what, package_of(detail));
    g_free(*missing);
    *missing = text;
}

void media_set_error(GstMessage *message, const char *input, const char *missing, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *debug = NULL;
    const char *last;

    if (missing) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "'%s' can't be played. %s", input,
                    missing);
        return;
    }
    gst_message_parse_error(message, &cause, &debug);
    // The debug text is "file(line): function (): /path/of/element:\nwhat happened".
    last = debug ? strstr(debug, ":\n") : NULL;
    if (last && last[2])
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s': %s (%s)", input, cause->message,
                    last + 2);
    else
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s': %s", input, cause->message);
}
