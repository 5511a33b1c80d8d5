// SPDX-License-Identifier: LGPL-2.1-or-later
// media/media.h — pictures from files, streams and cameras, through GStreamer.
#ifndef VLM_MEDIA_MEDIA_H
#define VLM_MEDIA_MEDIA_H

#include <gst/gst.h>
#include <gst/video/video.h>

#include "vlm.h"

// ------------------------------------------------------------------------------------- inputs

// Initialises GStreamer. Errors: NOT_FOUND.
gboolean media_init(GError **error);

// Whether the input is a camera (/dev/videoN).
gboolean media_is_camera(const char *input);

// The URI of a file's name, or the input itself when it is a URI. Returns a new string.
// Errors: NOT_FOUND (no such file), ARGS (a folder).
char *media_uri(const char *input, GError **error);

// Elements from the input to raw pictures in system memory, upright: a bin with a pad "src".
// Returns a reference that the caller owns. Errors: NOT_FOUND (file, GStreamer plugin), ARGS.
GstElement *media_source_new(const char *input, GError **error);

// Whether a video stream was found in it so far. Thread-safety: any thread.
gboolean media_source_has_video(GstElement *source);

// Collects in `missing` what element messages say about plugins for video that are missing, with
// the Debian package of each. Start with NULL, free with g_free().
void media_note_missing(GstMessage *message, char **missing);

// Sets the error for an error message of the bus. Errors: NOT_FOUND (plugin), FORMAT.
void media_set_error(GstMessage *message, const char *input, const char *missing, GError **error);

// ------------------------------------------------------------------------------------ pictures

// A decoded picture in memory. `image` points into `frame`.
typedef struct media_picture {
    GstVideoFrame frame;
    vlm_image image;
    gint64 time_ns;  // stream time of the input, -1 = none
} media_picture;

// Called for each picture; `picture` is valid until it returns. Returning FALSE with the error set
// ends the reading.
typedef gboolean (*media_func)(const media_picture *picture, gpointer user_data, GError **error);

// The first picture of the input. Errors: NOT_FOUND, FORMAT, those of `func`.
gboolean media_read_image(const char *input, media_func func, gpointer user_data, GError **error);

// The film sampled at `fps`: picture i is the frame nearest to i/fps seconds, and its time_ns is
// i/fps seconds. Errors: as above.
gboolean media_read_film(const char *input, double fps, media_func func, gpointer user_data,
                         GError **error);

#endif
