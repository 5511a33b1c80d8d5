// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmcaption.h — the element `vlmcaption`.
//
// gstvlmcaption.c has the GObject: properties, pads, states. gstvlmflow.c has the dataflow:
// buffers, events, queries, captions.
//
// Threads: the streaming thread of the sink pad, the worker (gstvlmworker.h), the task of the text
// pad (gstvlmtext.h), and the application's. Locks: OBJECT_LOCK for the settings; `lock` for what
// the threads share; neither is held over a push, an event, a query, a message or a call of the
// engine. Order: `lock` before those of worker and text.
#ifndef GST_VLM_CAPTION_H
#define GST_VLM_CAPTION_H

#include <gst/gst.h>
#include <gst/video/video.h>

#include "gstvlmmeta.h"
#include "gstvlmtext.h"
#include "gstvlmtimeline.h"
#include "gstvlmworker.h"

G_BEGIN_DECLS

#define GST_TYPE_VLM_CAPTION (gst_vlm_caption_get_type ())
G_DECLARE_FINAL_TYPE (GstVlmCaption, gst_vlm_caption, GST, VLM_CAPTION, GstElement)

GST_ELEMENT_REGISTER_DECLARE (vlmcaption)

typedef enum {
  GST_VLM_WHEN_BUSY_AUTO,  // DROP when upstream is live, else WAIT
  GST_VLM_WHEN_BUSY_WAIT,
  GST_VLM_WHEN_BUSY_DROP,
} GstVlmWhenBusy;

typedef struct {
  GstVlmSetup setup;
  GstVlmQuestion question;
  gint rate_n, rate_d;
  GstClockTime interval;
  GstVlmWhenBusy when_busy;
  GstVlmGapMode gap_mode;
  GstVlmTextTime text_time;
  gboolean post_messages;
} GstVlmSettings;

struct _GstVlmCaption {
  GstElement parent;

  GstPad *sinkpad, *srcpad;
  GstVlmWorker *worker;
  GstVlmSettings settings;  // OBJECT_LOCK
  GstVlmSetup opened;       // what the engine was opened with; state changes only

  GMutex lock;      // protects:
  GstPad *textpad;  //   NULL while not requested
  GstVlmCue *cue;   //   the newest caption
  guint epoch;      //   one more with every flush; older captions are not wanted
  guint64 n_captions;
  guint64 n_seen;
  char *stream_id;  //   of the text
  guint group_id;
  GstSegment segment;  //   written by the streaming thread, which reads it unlocked

  // Streaming thread.
  GstVideoInfo info;
  gboolean have_info;
  gboolean have_mode, wait;  // whether to wait for the engine, once it has been found out
  GstVlmTimeline timeline;
  GstClockTime next_ts;  // where a buffer without PTS would be
  gboolean ended;        // EOS was seen
};

// The dataflow's functions, for the class.
GstFlowReturn gst_vlm_flow_chain (GstPad *pad, GstObject *parent, GstBuffer *buffer);
gboolean gst_vlm_flow_sink_event (GstPad *pad, GstObject *parent, GstEvent *event);
gboolean gst_vlm_flow_sink_query (GstPad *pad, GstObject *parent, GstQuery *query);
gboolean gst_vlm_flow_text_event (GstPad *pad, GstObject *parent, GstEvent *event);
gboolean gst_vlm_flow_text_activate (GstPad *pad, GstObject *parent, GstPadMode mode,
                                     gboolean active);
GstIterator *gst_vlm_flow_links (GstPad *pad, GstObject *parent);
extern const GstVlmWorkerCallbacks gst_vlm_flow_callbacks;

// Puts the dataflow back to how it was when the element was made.
void gst_vlm_flow_reset (GstVlmCaption *self);

// Makes everything that waits return, and captions on their way unwanted.
void gst_vlm_flow_interrupt (GstVlmCaption *self);

// The text of a pad that gst_vlm_caption_request_new_pad() made.
GstVlmText *gst_vlm_flow_get_text (GstPad *pad);

// Copies the settings that a caption needs. Free the prompt.
GstVlmQuestion gst_vlm_caption_copy_question (GstVlmCaption *self);

G_END_DECLS

#endif
