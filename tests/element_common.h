// SPDX-License-Identifier: LGPL-2.1-or-later
// element_common.h — a vlmcaption on the scripted engine, with a bus and a text pad, for tests.
#ifndef ELEMENT_COMMON_H
#define ELEMENT_COMMON_H

#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/video/video.h>

#include "fake_engine.h"

// Frames of 64x48 pixels.
#define TEST_CAPS(format) "video/x-raw,format=" format ",width=64,height=48,framerate=10/1"

typedef struct {
    GstHarness *video;  // sink and src
    GstHarness *text;   // text_src, or NULL
    GstElement *element;
    GstBus *bus;
} Rig;

// Sets up an element (properties as a gst-launch line has them, when-busy=wait unless said) that
// takes I420 frames at 10/s. `with_text`: requests the text pad, too.
Rig *rig_new(const char *properties, gboolean with_text);
void rig_free(Rig *rig);

// A grey frame of the harness's I420 caps at `ms`, 100 ms long.
GstBuffer *rig_frame(guint ms);
// Pushes the frames from `from_ms` on, 10 per second, before `to_ms`; all must be taken.
void rig_push(Rig *rig, guint from_ms, guint to_ms);
void rig_eos(Rig *rig);

// The next message of `type`; messages of other types before it are dropped, an error fails the
// test. Unref it.
// Element messages are vlm-caption.
GstMessage *rig_wait(Rig *rig, GstMessageType type);
// The text of the next caption message. Free it.
char *rig_wait_caption(Rig *rig);
// TRUE when no message of `type` waits.
gboolean rig_is_quiet(Rig *rig, GstMessageType type);
// The next buffer of the text pad; its text. Free it.
char *rig_pull_text(Rig *rig, GstClockTime *pts, GstClockTime *duration);

// A field of a caption.
guint64 caption_field(const GstStructure *structure, const char *name);
// A counter of the element's stats.
guint64 rig_stat(Rig *rig, const char *name);

// Text of the caption on a buffer, or NULL.
const char *buffer_caption(GstBuffer *buffer);

// Runs a suite; registers the element.
int element_main(Suite *suite, const char *name);

// fake_start(), for tcase_add_checked_fixture().
void element_setup(void);
// Nothing of the engine may be left.
void element_teardown(void);

#endif
