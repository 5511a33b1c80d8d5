// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmflow.c — the dataflow of `vlmcaption`: buffers, events, queries, captions.
#include "gstvlmcaption.h"
#include "gstvlmerror.h"

#include <string.h>

GST_DEBUG_CATEGORY_EXTERN (gst_vlm_caption_debug);
#define GST_CAT_DEFAULT gst_vlm_caption_debug

// ------------------------------------------------------------------ shared state

GstVlmText *gst_vlm_flow_get_text (GstPad *pad)
{
  return gst_pad_get_element_private (pad);
}

// The text pad with a reference, or NULL.
static GstPad *get_textpad (GstVlmCaption *self)
{
  GstPad *pad;

  g_mutex_lock (&self->lock);
  pad = self->textpad != NULL ? gst_object_ref (self->textpad) : NULL;
  g_mutex_unlock (&self->lock);
  return pad;
}

void gst_vlm_flow_interrupt (GstVlmCaption *self)
{
  g_mutex_lock (&self->lock);
  self->epoch++;
  g_clear_pointer (&self->cue, gst_vlm_cue_unref);
  g_mutex_unlock (&self->lock);
  gst_vlm_worker_interrupt (self->worker);
}

// What a flush forgets.
static void reset_film (GstVlmCaption *self)
{
  gst_vlm_timeline_reset (&self->timeline);
  self->next_ts = GST_CLOCK_TIME_NONE;
  self->have_mode = FALSE;
  self->ended = FALSE;
  g_mutex_lock (&self->lock);
  gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
  g_clear_pointer (&self->cue, gst_vlm_cue_unref);
  g_mutex_unlock (&self->lock);
}

void gst_vlm_flow_reset (GstVlmCaption *self)
{
  reset_film (self);
  self->have_info = FALSE;
  gst_video_info_init (&self->info);
  g_mutex_lock (&self->lock);
  self->n_captions = 0;
  self->n_seen = 0;
  g_clear_pointer (&self->stream_id, g_free);
  g_mutex_unlock (&self->lock);
}

// Asks upstream once per segment whether it is live: only then frames may be dropped. Who does not
// answer is taken for live, because a live source must never be held up.
static gboolean must_wait (GstVlmCaption *self)
{
  GstVlmWhenBusy when_busy;

  GST_OBJECT_LOCK (self);
  when_busy = self->settings.when_busy;
  GST_OBJECT_UNLOCK (self);
  if (when_busy != GST_VLM_WHEN_BUSY_AUTO) {
    self->have_mode = FALSE;
    return when_busy == GST_VLM_WHEN_BUSY_WAIT;
  }
  if (!self->have_mode) {
    g_autoptr (GstQuery) query = gst_query_new_latency ();
    gboolean live = TRUE;

    if (gst_pad_peer_query (self->sinkpad, query))
      gst_query_parse_latency (query, &live, NULL, NULL);
    self->wait = !live;
    self->have_mode = TRUE;
    GST_DEBUG_OBJECT (self, "upstream is %s", live ? "live" : "not live");
  }
  return self->wait;
}

// ------------------------------------------------------------------ captions

static void on_caption (const GstVlmRange *range, const vlm_generation *answer,
                        GstClockTime latency, gpointer user_data)
{
  GstVlmCaption *self = user_data;
  g_autoptr (GstVlmCue) cue = gst_vlm_cue_new ();
  gboolean stale, post;

  cue->text = g_strstrip (g_utf8_make_valid (answer->text, -1));
  cue->timestamp =
      gst_segment_position_from_stream_time (&range->segment, GST_FORMAT_TIME, range->start);
  if (!GST_CLOCK_TIME_IS_VALID (cue->timestamp))
    cue->timestamp = range->segment.start;
  cue->stream_time = range->start;
  cue->running_time =
      gst_segment_to_running_time (&range->segment, GST_FORMAT_TIME, cue->timestamp);
  cue->duration = range->end - range->start;
  cue->tokens = answer->n_tokens;
  cue->latency = latency;

  GST_OBJECT_LOCK (self);
  post = self->settings.post_messages;
  GST_OBJECT_UNLOCK (self);
  g_mutex_lock (&self->lock);
  stale = range->epoch != self->epoch || *cue->text == '\0';
  if (!stale)
    cue->number = ++self->n_captions;
  g_mutex_unlock (&self->lock);
  if (stale)
    return;
  GST_INFO_OBJECT (
      self, "caption %" G_GUINT64_FORMAT " of %" GST_TIME_FORMAT " + %" GST_TIME_FORMAT ": %s",
      cue->number, GST_TIME_ARGS (cue->stream_time), GST_TIME_ARGS (cue->duration), cue->text);
  if (post)
    gst_element_post_message (GST_ELEMENT (self), gst_vlm_cue_to_message (cue, GST_OBJECT (self)));

  g_mutex_lock (&self->lock);
  if (range->epoch == self->epoch) {
    g_clear_pointer (&self->cue, gst_vlm_cue_unref);
    self->cue = gst_vlm_cue_ref (cue);
    if (self->textpad != NULL)
      gst_vlm_text_push (gst_vlm_flow_get_text (self->textpad), cue);
  }
  g_mutex_unlock (&self->lock);
}

static void on_warning (const GError *error, gpointer user_data)
{
  gst_vlm_error_post (user_data, GST_MESSAGE_WARNING, error, NULL);
}

static void on_failed (const GError *error, gpointer user_data)
{
  gst_vlm_error_post (user_data, GST_MESSAGE_ERROR, error, NULL);
}

const GstVlmWorkerCallbacks gst_vlm_flow_callbacks = { on_caption, on_warning, on_failed };

// Asks for the caption of a range that ended.
static GstFlowReturn request_caption (GstVlmCaption *self, const GstVlmStep *step, gboolean last,
                                      gboolean wait)
{
  GstVlmQuestion question = gst_vlm_caption_copy_question (self);
  GstVlmRange range = { .start = step->start,
                        .end = step->end,
                        .n_sampled = step->n_sampled,
                        .segment = self->segment,
                        .last = last };

  // The position is no part of the translation, and two ranges of one segment shall compare equal.
  range.segment.position = range.segment.start;
  g_mutex_lock (&self->lock);
  range.epoch = self->epoch;
  g_mutex_unlock (&self->lock);
  return gst_vlm_worker_push_caption (self->worker, &range, &question, wait);
}

// Ends the film: what was seen becomes a caption, what follows begins anew.
static GstFlowReturn end_film (GstVlmCaption *self)
{
  const gboolean wait = must_wait (self);
  const GstVlmStep step = gst_vlm_timeline_close (&self->timeline);
  GstFlowReturn ret = step.closed ? request_caption (self, &step, TRUE, wait) : GST_FLOW_OK;

  if (ret == GST_FLOW_OK)
    gst_vlm_worker_push_reset (self->worker, wait);
  return ret;
}

// ------------------------------------------------------------------ buffers

// When a buffer is shown.
typedef struct {
  GstClockTime stream, stream_end;    // NONE: not to be looked at
  GstClockTime running, running_end;  // NONE: outside of the segment
} Moment;

static Moment locate (GstVlmCaption *self, GstClockTime ts, GstClockTime duration)
{
  const GstSegment *segment = &self->segment;
  Moment m = { GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE };

  m.running = gst_segment_to_running_time (segment, GST_FORMAT_TIME, ts);
  if (!GST_CLOCK_TIME_IS_VALID (m.running))
    return m;
  m.running_end = m.running + (GstClockTime) ((double) duration / ABS (segment->rate));
  // A film that runs backwards makes no sense to the model.
  if (segment->rate < 0 || segment->applied_rate < 0)
    return m;
  m.stream = gst_segment_to_stream_time (segment, GST_FORMAT_TIME, ts);
  if (GST_CLOCK_TIME_IS_VALID (m.stream))
    m.stream_end = m.stream + duration;
  return m;
}

// Finds a time for every buffer, also those that have none.
static Moment locate_buffer (GstVlmCaption *self, GstBuffer *buffer)
{
  GstClockTime ts = GST_BUFFER_DTS_OR_PTS (buffer);
  GstClockTime duration = GST_BUFFER_DURATION (buffer);
  const gint fps_n = GST_VIDEO_INFO_FPS_N (&self->info);
  const gint fps_d = GST_VIDEO_INFO_FPS_D (&self->info);

  if (GST_BUFFER_PTS_IS_VALID (buffer))
    ts = GST_BUFFER_PTS (buffer);
  if (self->segment.format != GST_FORMAT_TIME)
    return (Moment){ GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE,
                     GST_CLOCK_TIME_NONE };
  if (!GST_CLOCK_TIME_IS_VALID (duration) && fps_n > 0)
    duration = gst_util_uint64_scale_int (GST_SECOND, fps_d, fps_n);
  if (!GST_CLOCK_TIME_IS_VALID (ts)) {
    ts = GST_CLOCK_TIME_IS_VALID (self->next_ts) ? self->next_ts : self->segment.start;
    // Without a rate nobody knows how time passes from one such buffer to the next.
    if (!GST_CLOCK_TIME_IS_VALID (duration))
      ts = GST_CLOCK_TIME_NONE;
  }
  if (!GST_CLOCK_TIME_IS_VALID (duration) || duration == 0)
    duration = gst_util_uint64_scale_int (GST_SECOND, self->timeline.rate_d, self->timeline.rate_n);
  if (GST_CLOCK_TIME_IS_VALID (ts))
    self->next_ts = ts + duration;
  return locate (self, ts, duration);
}

// Time passes: ends ranges, begins films. `look`: there is a frame; `sample` says whether it is
// wanted. Waits for the caption of a range that ended when frames may wait.
static GstFlowReturn pass_time (GstVlmCaption *self, const Moment *m, gboolean look, gboolean wait,
                                gboolean *sample)
{
  GstFlowReturn ret = GST_FLOW_OK;
  GstVlmStep step;
  gint rate_n, rate_d;
  GstClockTime interval;

  *sample = FALSE;
  if (!GST_CLOCK_TIME_IS_VALID (m->stream))
    return GST_FLOW_OK;
  GST_OBJECT_LOCK (self);
  rate_n = self->settings.rate_n;
  rate_d = self->settings.rate_d;
  interval = self->settings.interval;
  GST_OBJECT_UNLOCK (self);
  gst_vlm_timeline_set_grid (&self->timeline, rate_n, rate_d, interval);
  step =
      gst_vlm_timeline_step (&self->timeline, m->stream, m->stream_end, self->segment.time, look);
  if (step.closed)
    ret = request_caption (self, &step, step.restart, wait);
  if (step.restart && ret == GST_FLOW_OK)
    gst_vlm_worker_push_reset (self->worker, wait);
  *sample = step.sample;
  return ret;
}

// Tells the text pad how far the video has come.
static void advance_text (GstVlmCaption *self, const Moment *m, gboolean wait)
{
  g_autoptr (GstPad) pad = get_textpad (self);
  GstClockTime limit = GST_CLOCK_TIME_NONE;

  if (pad == NULL || !GST_CLOCK_TIME_IS_VALID (m->running))
    return;
  // A caption that is waited for comes at the boundary: no silence is promised beyond it.
  if (wait && self->timeline.running && GST_CLOCK_TIME_IS_VALID (m->stream))
    limit = m->running
            + (GstClockTime) ((double) (self->timeline.end - m->stream) / ABS (self->segment.rate));
  gst_vlm_text_advance (gst_vlm_flow_get_text (pad), m->running, m->running_end, limit);
}

static GstBuffer *attach_caption (GstVlmCaption *self, GstBuffer *buffer)
{
  g_autoptr (GstVlmCue) cue = NULL;

  g_mutex_lock (&self->lock);
  self->n_seen++;
  if (self->cue != NULL)
    cue = gst_vlm_cue_ref (self->cue);
  g_mutex_unlock (&self->lock);
  return cue != NULL ? gst_vlm_meta_attach (buffer, cue, GST_OBJECT_NAME (self)) : buffer;
}

GstFlowReturn gst_vlm_flow_chain (GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
  GstVlmCaption *self = GST_VLM_CAPTION (parent);
  GstFlowReturn ret = GST_FLOW_NOT_NEGOTIATED;

  (void) pad;
  if (self->have_info) {
    const gboolean wait = must_wait (self);
    const Moment m = locate_buffer (self, buffer);
    gboolean sample;

    ret = pass_time (self, &m, TRUE, wait, &sample);
    // After the wait: the caption of the range before is known now.
    buffer = attach_caption (self, buffer);
    if (ret == GST_FLOW_OK && sample)
      ret = gst_vlm_worker_push_frame (self->worker, buffer, &self->info, m.stream, wait);
    if (ret == GST_FLOW_OK)
      advance_text (self, &m, wait);
  }
  if (ret != GST_FLOW_OK) {
    gst_buffer_unref (buffer);
    return ret;
  }
  return gst_pad_push (self->srcpad, buffer);
}

// ------------------------------------------------------------------ events

// Names the text stream after the video stream. FALSE: it had that name before.
static gboolean name_text (GstVlmCaption *self, GstEvent *event)
{
  g_autoptr (GstPad) pad = get_textpad (self);
  g_autofree char *stream_id = NULL;
  const gchar *upstream;
  guint group_id = 0;
  gboolean same;

  gst_event_parse_stream_start (event, &upstream);
  if (!gst_event_parse_group_id (event, &group_id))
    group_id = gst_util_group_id_next ();
  stream_id = g_strconcat (upstream, "/captions", NULL);
  g_mutex_lock (&self->lock);
  same = g_strcmp0 (stream_id, self->stream_id) == 0;
  g_free (self->stream_id);
  self->stream_id = g_strdup (stream_id);
  self->group_id = group_id;
  g_mutex_unlock (&self->lock);
  if (pad != NULL && (!same || self->ended))
    gst_vlm_text_stream_start (gst_vlm_flow_get_text (pad), stream_id, group_id);
  return !same;
}

static gboolean take_stream_start (GstVlmCaption *self, GstEvent *event)
{
  gboolean first;

  g_mutex_lock (&self->lock);
  first = self->stream_id == NULL;
  g_mutex_unlock (&self->lock);
  // Another stream is another film; the same one may say its name again.
  if ((name_text (self, event) && !first) || self->ended)
    end_film (self);
  self->ended = FALSE;
  return gst_pad_push_event (self->srcpad, event);
}

static gboolean take_caps (GstVlmCaption *self, GstEvent *event)
{
  GstCaps *caps;
  GstVideoInfo info;

  gst_event_parse_caps (event, &caps);
  if (!gst_video_info_from_caps (&info, caps)) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT, ("Cannot read video of this kind."),
                       ("caps %" GST_PTR_FORMAT, (gpointer) caps));
    gst_event_unref (event);
    return FALSE;
  }
  self->info = info;
  self->have_info = TRUE;
  return gst_pad_push_event (self->srcpad, event);
}

// TRUE when time in the new segment goes on where it was.
static gboolean continues (GstVlmCaption *self, const GstSegment *next)
{
  const GstSegment *old = &self->segment;

  if (old->format != GST_FORMAT_TIME || !self->timeline.running)
    return TRUE;
  return old->rate == next->rate && old->applied_rate == next->applied_rate
         && old->start - old->time == next->start - next->time
         && old->start - old->base == next->start - next->base && old->offset == next->offset;
}

static gboolean take_segment (GstVlmCaption *self, GstEvent *event)
{
  g_autoptr (GstPad) pad = get_textpad (self);
  const GstSegment *segment;

  gst_event_parse_segment (event, &segment);
  if (segment->format != GST_FORMAT_TIME) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT, ("Video without times cannot be captioned."),
                       ("segment in format %s; a source like appsrc needs format=time",
                        gst_format_get_name (segment->format)));
    gst_event_unref (event);
    return FALSE;
  }
  if (!continues (self, segment))
    end_film (self);
  g_mutex_lock (&self->lock);
  self->segment = *segment;
  g_mutex_unlock (&self->lock);
  self->next_ts = GST_CLOCK_TIME_NONE;
  self->have_mode = FALSE;
  if (pad != NULL)
    gst_vlm_text_segment (gst_vlm_flow_get_text (pad), segment);
  return gst_pad_push_event (self->srcpad, event);
}

static gboolean take_gap (GstVlmCaption *self, GstEvent *event)
{
  GstClockTime ts, duration;

  gst_event_parse_gap (event, &ts, &duration);
  if (self->segment.format == GST_FORMAT_TIME && GST_CLOCK_TIME_IS_VALID (ts)) {
    const gboolean wait = must_wait (self);
    const GstClockTime end = GST_CLOCK_TIME_IS_VALID (duration) ? ts + duration : ts;
    // Time has passed when the gap is over: its last moment is what counts.
    const Moment from = locate (self, ts, end - ts);
    const Moment to = locate (self, end, 0);
    gboolean sample;

    if (GST_CLOCK_TIME_IS_VALID (to.stream))
      pass_time (self, &to, FALSE, wait, &sample);
    advance_text (self, &from, FALSE);
  }
  return gst_pad_push_event (self->srcpad, event);
}

// The last words come out before the end of the stream does.
static gboolean take_eos (GstVlmCaption *self, GstEvent *event)
{
  g_autoptr (GstPad) pad = get_textpad (self);
  const GstVlmStep step = gst_vlm_timeline_close (&self->timeline);

  if (step.closed)
    request_caption (self, &step, TRUE, FALSE);
  gst_vlm_worker_drain (self->worker);
  self->ended = TRUE;
  if (pad != NULL)
    gst_vlm_text_eos (gst_vlm_flow_get_text (pad));
  return gst_pad_push_event (self->srcpad, event);
}

static gboolean take_flush_start (GstVlmCaption *self, GstEvent *event)
{
  g_autoptr (GstPad) pad = get_textpad (self);
  gboolean ret;

  gst_vlm_flow_interrupt (self);
  if (pad != NULL)
    gst_pad_push_event (pad, gst_event_ref (event));
  ret = gst_pad_push_event (self->srcpad, event);
  if (pad != NULL)
    gst_vlm_text_stop (gst_vlm_flow_get_text (pad));
  return ret;
}

static gboolean take_flush_stop (GstVlmCaption *self, GstEvent *event)
{
  g_autoptr (GstPad) pad = get_textpad (self);
  gboolean ret;

  reset_film (self);
  if (pad != NULL) {
    gst_vlm_text_flush (gst_vlm_flow_get_text (pad));
    gst_pad_push_event (pad, gst_event_ref (event));
  }
  ret = gst_pad_push_event (self->srcpad, event);
  gst_vlm_worker_resume (self->worker);
  if (pad != NULL && gst_pad_is_active (pad))
    gst_vlm_text_start (gst_vlm_flow_get_text (pad), FALSE);
  return ret;
}

gboolean gst_vlm_flow_sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  GstVlmCaption *self = GST_VLM_CAPTION (parent);

  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_STREAM_START:
    return take_stream_start (self, event);
  case GST_EVENT_CAPS:
    return take_caps (self, event);
  case GST_EVENT_SEGMENT:
    return take_segment (self, event);
  case GST_EVENT_GAP:
    return take_gap (self, event);
  case GST_EVENT_EOS:
    return take_eos (self, event);
  case GST_EVENT_FLUSH_START:
    return take_flush_start (self, event);
  case GST_EVENT_FLUSH_STOP:
    return take_flush_stop (self, event);
  default:
    return gst_pad_event_default (pad, parent, event);
  }
}

// Events from the text branch. Its lateness is no reason to slow the video down.
gboolean gst_vlm_flow_text_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_QOS:
  case GST_EVENT_RECONFIGURE:
    gst_event_unref (event);
    return TRUE;
  default:
    return gst_pad_event_default (pad, parent, event);
  }
}

gboolean gst_vlm_flow_text_activate (GstPad *pad, GstObject *parent, GstPadMode mode,
                                     gboolean active)
{
  GstVlmText *text = gst_vlm_flow_get_text (pad);

  (void) parent;
  if (mode != GST_PAD_MODE_PUSH)
    return FALSE;
  if (active)
    return gst_vlm_text_start (text, TRUE);
  gst_vlm_text_stop (text);
  gst_vlm_text_flush (text);
  return TRUE;
}

// ------------------------------------------------------------------ queries

// The worker keeps frames for a while: a pool has to have as many more.
static void ask_for_more_buffers (GstQuery *query)
{
  const guint more = GST_VLM_MAX_PENDING + 1;

  for (guint i = 0; i < gst_query_get_n_allocation_pools (query); i++) {
    GstBufferPool *pool;
    guint size, min, max;

    gst_query_parse_nth_allocation_pool (query, i, &pool, &size, &min, &max);
    min += more;
    gst_query_set_nth_allocation_pool (query, i, pool, size, min, max == 0 ? 0 : max + more);
    gst_clear_object (&pool);
  }
}

gboolean gst_vlm_flow_sink_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  GstVlmCaption *self = GST_VLM_CAPTION (parent);

  switch (GST_QUERY_TYPE (query)) {
  case GST_QUERY_ALLOCATION:
    if (!gst_pad_peer_query (self->srcpad, query))
      return FALSE;
    ask_for_more_buffers (query);
    return TRUE;
  case GST_QUERY_DRAIN:
    // Upstream wants its buffers back; a live one gets them when the frames are done with.
    if (must_wait (self))
      gst_vlm_worker_drain (self->worker);
    return gst_pad_query_default (pad, parent, query);
  default:
    return gst_pad_query_default (pad, parent, query);
  }
}

// Video goes from sink to src and nowhere else; the text pad only answers to the sink pad.
GstIterator *gst_vlm_flow_links (GstPad *pad, GstObject *parent)
{
  GstVlmCaption *self = GST_VLM_CAPTION (parent);
  GstPad *other = pad == self->sinkpad ? self->srcpad : self->sinkpad;
  g_auto (GValue) value = G_VALUE_INIT;

  g_value_init (&value, GST_TYPE_PAD);
  g_value_set_object (&value, other);
  return gst_iterator_new_single (GST_TYPE_PAD, &value);
}
