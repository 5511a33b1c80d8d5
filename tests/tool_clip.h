// SPDX-License-Identifier: LGPL-2.1-or-later
// tool_clip.h — films made for a test.
#ifndef TOOL_CLIP_H
#define TOOL_CLIP_H

#include <gst/gst.h>

// Writes a film: a pipeline in the notation of gst-launch, in which "OUT" stands for the file's
// name. GStreamer must be initialised.
static inline void tool_clip_make(const char *pipeline_text, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(pipeline_text, "OUT", 2);
    g_autofree char *text = g_strjoinv(path, parts);
    g_autoptr(GError) error = NULL;
    g_autoptr(GstElement) pipeline = gst_parse_launch(text, &error);
    g_autoptr(GstBus) bus = NULL;
    g_autoptr(GstMessage) message = NULL;

    g_assert_no_error(error);
    bus = gst_element_get_bus(pipeline);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message =
        gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    g_assert_cmpint(GST_MESSAGE_TYPE(message), ==, GST_MESSAGE_EOS);
    gst_element_set_state(pipeline, GST_STATE_NULL);
}

#endif
