// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmtext.h — what the text pad sends, and when.
//
// The pad has its own task, so a text branch that blocks holds up neither video nor inference.
// Captions and the news of how far the video has come are handed in and never block. Where there
// is no caption yet, GAP events (or blank cues) of at most one second keep time moving.
// Thread-safety: any thread, except where noted.
#ifndef GST_VLM_TEXT_H
#define GST_VLM_TEXT_H

#include <gst/gst.h>

#include "gstvlmmeta.h"

G_BEGIN_DECLS

typedef enum {
  GST_VLM_GAP_EVENTS,  // GAP events
  // For muxers that know no GAP events: time is filled with cues of half a second, about a second
  // ahead of the video, that have one space or, from when it can be shown, the caption.
  GST_VLM_GAP_BLANK,
} GstVlmGapMode;

typedef enum {
  GST_VLM_TEXT_TIME_AUTO,   // SHOWN into elements that draw on video, else RANGE
  GST_VLM_TEXT_TIME_RANGE,  // the time that the caption describes
  GST_VLM_TEXT_TIME_SHOWN,  // from the end of that time, when the caption can be shown
} GstVlmTextTime;

GType gst_vlm_gap_mode_get_type (void);
GType gst_vlm_text_time_get_type (void);

typedef struct _GstVlmText GstVlmText;

// `pad` is not owned; the task runs on it. It must outlive this.
GstVlmText *gst_vlm_text_new (GstPad *pad);
// Must: the pad is inactive.
void gst_vlm_text_free (GstVlmText *text);

void gst_vlm_text_configure (GstVlmText *text, GstVlmGapMode gap_mode, GstVlmTextTime text_time);

// Starts and stops the task. `fresh`: the pad was activated, so all events that come first are sent
// again; else it is the end of a flush. Stopping joins the task: whatever it pushes into must be
// flushing already.
gboolean gst_vlm_text_start (GstVlmText *text, gboolean fresh);
gboolean gst_vlm_text_stop (GstVlmText *text);

// Forgets captions, gaps, segment and end of stream.
void gst_vlm_text_flush (GstVlmText *text);

// The events that come first.
void gst_vlm_text_stream_start (GstVlmText *text, const char *stream_id, guint group_id);
void gst_vlm_text_segment (GstVlmText *text, const GstSegment *segment);

// The video is at `time` and the frame lasts until `end` (running time). Until then, or a little
// longer but not beyond `limit` (or NONE), there is nothing to say but what has been handed in.
void gst_vlm_text_advance (GstVlmText *text, GstClockTime time, GstClockTime end,
                           GstClockTime limit);
void gst_vlm_text_push (GstVlmText *text, GstVlmCue *cue);
void gst_vlm_text_eos (GstVlmText *text);

// TRUE while the task is in a push. For the release of a pad whose branch is stuck.
gboolean gst_vlm_text_is_pushing (GstVlmText *text);

// One line that subtitle formats take as it is: no line breaks or control characters, and
// look-alikes for the characters that WebVTT, SRT and Pango give a meaning ('<', '>', '&').
// Returns a new string, empty when nothing is left.
char *gst_vlm_text_make_safe (const char *text);

G_END_DECLS

#endif
