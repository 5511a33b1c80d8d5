// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmtext.c — what the text pad sends, and when.
#include "gstvlmtext.h"

#include <string.h>

GST_DEBUG_CATEGORY_EXTERN (gst_vlm_caption_debug);
#define GST_CAT_DEFAULT gst_vlm_caption_debug

#define GAP_STEP  (1 * GST_SECOND)     // longest GAP
#define GAP_AHEAD (500 * GST_MSECOND)  // so that not every frame makes an event
#define CUE_STEP  (500 * GST_MSECOND)  // length of a cue that fills time
#define CUE_AHEAD (1 * GST_SECOND)     // muxers hold one cue and want to see another
#define GAP_JUMP  (3600 * GST_SECOND)  // time that jumps further is not filled
#define MAX_CUES  64                   // captions that wait for a branch that is stuck

typedef struct {
  GstVlmCue *cue;
  GstClockTime shown_at;  // where it is shown at the earliest
} Item;

static void item_free (gpointer data)
{
  Item *item = data;

  gst_vlm_cue_unref (item->cue);
  g_free (item);
}

// Times in the queue are running times: they stay true when the segment changes.
struct _GstVlmText {
  GstPad *pad;

  GMutex lock;  // protects everything below
  GCond wake;
  gboolean flushing;  // the task has to leave
  gboolean pushing;
  gboolean dead;  // downstream said EOS or an error: nothing goes out until a flush
  GstVlmGapMode gap_mode;
  GstVlmTextTime text_time;

  char *stream_id;
  guint group_id;
  GstSegment segment;  // format UNDEFINED: none yet
  gboolean need_start, need_caps, need_segment;

  GQueue items;   // of Item
  char *current;  // what cues that fill time say until current_until, with GST_VLM_GAP_BLANK
  GstClockTime current_until;
  gboolean moving;        // advance was called since the segment
  GstClockTime position;  // all before it has been sent
  GstClockTime gap_until;
  gboolean eos, eos_sent;
};

GType gst_vlm_gap_mode_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    { GST_VLM_GAP_EVENTS, "GAP events", "events" },
    { GST_VLM_GAP_BLANK, "Cues of half a second without end, for qtmux and mp4mux", "blank" },
    { 0, NULL, NULL },
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstVlmGapMode", values));
  return type;
}

GType gst_vlm_text_time_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    { GST_VLM_TEXT_TIME_AUTO, "shown before elements that draw on video, else range", "auto" },
    { GST_VLM_TEXT_TIME_RANGE, "The time that the caption describes", "range" },
    { GST_VLM_TEXT_TIME_SHOWN, "From the end of that time on, when it can be shown", "shown" },
    { 0, NULL, NULL },
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstVlmTextTime", values));
  return type;
}

char *gst_vlm_text_make_safe (const char *text)
{
  GString *out = g_string_new (NULL);

  for (const char *p = text; *p != '\0'; p = g_utf8_next_char (p)) {
    const gunichar c = g_utf8_get_char (p);

    if (g_unichar_isspace (c) || g_unichar_iscntrl (c)) {
      if (out->len > 0 && out->str[out->len - 1] != ' ')
        g_string_append_c (out, ' ');
    } else if (c == '<') {
      g_string_append (out, "\u2039");
    } else if (c == '>') {
      g_string_append (out, "\u203a");
    } else if (c == '&') {
      g_string_append (out, "\uff06");
    } else if (g_unichar_isdefined (c)) {
      g_string_append_unichar (out, c);
    }
  }
  g_strchomp (out->str);
  return g_string_free (out, FALSE);
}

// ------------------------------------------------------------------ who reads the text

static gpointer ref_pad (gconstpointer pad, gpointer user_data)
{
  (void) user_data;
  return gst_object_ref ((gpointer) pad);
}

// TRUE when the text that leaves `pad` ends in an element that draws it on video: then it is needed
// when it can be shown. A file wants to know which time it describes.
static gboolean is_drawn (GstPad *pad, guint depth)
{
  g_autoptr (GstPad) peer = gst_pad_get_peer (pad);
  g_autoptr (GstElement) element = NULL;
  g_autoptr (GstCaps) video = NULL;
  g_autoptr (GstCaps) text = NULL;
  GList *src_pads;
  gboolean drawn = FALSE, alone;

  if (peer == NULL || depth == 0)
    return FALSE;
  element = gst_pad_get_parent_element (peer);
  if (element == NULL) {
    // Our bin ends here: go on outside of it.
    g_autoptr (GstProxyPad) outside =
        GST_IS_PROXY_PAD (peer) ? gst_proxy_pad_get_internal (GST_PROXY_PAD (peer)) : NULL;

    return outside != NULL && is_drawn (GST_PAD (outside), depth - 1);
  }
  video = gst_caps_from_string ("video/x-raw(ANY)");
  text = gst_caps_new_empty_simple ("text/x-raw");
  GST_OBJECT_LOCK (element);
  alone = element->numsinkpads == 1;
  src_pads = g_list_copy_deep (element->srcpads, ref_pad, NULL);
  GST_OBJECT_UNLOCK (element);
  for (GList *l = src_pads; l != NULL && !drawn; l = l->next) {
    g_autoptr (GstCaps) caps = gst_pad_get_current_caps (l->data);

    if (caps == NULL)
      caps = gst_pad_get_pad_template_caps (l->data);
    if (gst_caps_is_any (caps) || gst_caps_can_intersect (caps, text))
      drawn = gst_caps_is_any (caps) && !alone ? TRUE : is_drawn (l->data, depth - 1);
    else
      drawn = gst_caps_can_intersect (caps, video);
  }
  g_list_free_full (src_pads, gst_object_unref);
  return drawn;
}

// ------------------------------------------------------------------ the task

// PTS of a running time. A moment before the segment becomes the segment's first.
static GstClockTime to_position (const GstSegment *segment, GstClockTime running_time)
{
  guint64 position = 0;

  if (gst_segment_position_from_running_time_full (segment, GST_FORMAT_TIME, running_time,
                                                   &position)
      > 0)
    return position;
  return segment->rate > 0 ? segment->start : segment->stop;
}

static GstClockTime to_running_duration (const GstSegment *segment, GstClockTime duration)
{
  return (GstClockTime) ((double) duration / ABS (segment->rate));
}

static GstBuffer *make_buffer (const char *text, GstClockTime pts, GstClockTime duration)
{
  GstBuffer *buffer = gst_buffer_new_memdup (text, strlen (text));

  GST_BUFFER_PTS (buffer) = pts;
  GST_BUFFER_DURATION (buffer) = duration;
  return buffer;
}

// The next piece of time without news, until at most `until`. Lock held; moves the position.
static GstMiniObject *take_gap (GstVlmText *text, GstClockTime until)
{
  const gboolean cues = text->gap_mode == GST_VLM_GAP_BLANK && text->segment.rate > 0;
  const GstClockTime end = MIN (until, text->position + (cues ? CUE_STEP : GAP_STEP));
  const GstClockTime from = to_position (&text->segment, text->position);
  const GstClockTime to = to_position (&text->segment, end);
  const gboolean showing = text->current != NULL && text->position < text->current_until;

  text->position = end;
  if (text->segment.rate < 0)
    return GST_MINI_OBJECT (gst_event_new_gap (to, GST_CLOCK_TIME_NONE));
  if (!cues)
    return GST_MINI_OBJECT (gst_event_new_gap (from, to - from));
  return GST_MINI_OBJECT (make_buffer (showing ? text->current : " ", from, to - from));
}

// The next caption, or what has to come before it. Lock held.
static GstMiniObject *take_cue (GstVlmText *text, gboolean shown)
{
  const Item *next = g_queue_peek_head (&text->items);
  const gboolean cues = text->gap_mode == GST_VLM_GAP_BLANK;
  g_autofree char *safe = NULL;
  Item *item;
  GstClockTime at, duration;
  GstMiniObject *object;

  if ((shown || cues) && text->position < next->shown_at)
    return take_gap (text, next->shown_at);
  item = g_queue_pop_head (&text->items);
  duration = to_running_duration (&text->segment, item->cue->duration);
  safe = gst_vlm_text_make_safe (item->cue->text);
  if (cues) {
    // A muxer that needs the next cue to let video pass cannot wait for a long one to end: the
    // caption goes out in pieces, like the blank cues before and after it.
    g_free (text->current);
    text->current = g_steal_pointer (&safe);
    text->current_until = text->position + duration;
    text->gap_until = MAX (text->gap_until, text->position + 1);
    object = take_gap (text, text->position + CUE_STEP);
  } else {
    at = shown ? text->position : item->cue->running_time;
    object =
        GST_MINI_OBJECT (make_buffer (safe, to_position (&text->segment, at), item->cue->duration));
    text->position = MAX (text->position, at + duration);
  }
  item_free (item);
  return object;
}

static GstEvent *make_stream_start (GstVlmText *text)
{
  GstEvent *event = gst_event_new_stream_start (text->stream_id);
  g_autoptr (GstCaps) caps =
      gst_caps_new_simple ("text/x-raw", "format", G_TYPE_STRING, "utf8", NULL);
  g_autoptr (GstStream) stream =
      gst_stream_new (text->stream_id, caps, GST_STREAM_TYPE_TEXT, GST_STREAM_FLAG_SPARSE);

  gst_event_set_stream_flags (event, GST_STREAM_FLAG_SPARSE);
  gst_event_set_group_id (event, text->group_id);
  gst_event_set_stream (event, stream);
  return event;
}

// What goes out next; NULL when there is nothing. Lock held.
static GstMiniObject *take_next (GstVlmText *text, gboolean shown)
{
  if (text->stream_id == NULL)
    return NULL;
  if (text->need_start) {
    text->need_start = FALSE;
    return GST_MINI_OBJECT (make_stream_start (text));
  }
  if (text->need_caps) {
    g_autoptr (GstCaps) caps =
        gst_caps_new_simple ("text/x-raw", "format", G_TYPE_STRING, "utf8", NULL);

    text->need_caps = FALSE;
    return GST_MINI_OBJECT (gst_event_new_caps (caps));
  }
  if (text->segment.format == GST_FORMAT_TIME) {
    if (text->need_segment) {
      text->need_segment = FALSE;
      return GST_MINI_OBJECT (gst_event_new_segment (&text->segment));
    }
    if (!text->dead && !g_queue_is_empty (&text->items))
      return take_cue (text, shown);
    if (!text->dead && !text->eos && text->position < text->gap_until)
      return take_gap (text, text->gap_until);
  }
  if (text->eos && !text->eos_sent) {
    text->eos_sent = TRUE;
    return GST_MINI_OBJECT (gst_event_new_eos ());
  }
  return NULL;
}

static gboolean asks_for_shown (GstVlmText *text)
{
  GstVlmTextTime mode;

  g_mutex_lock (&text->lock);
  mode = text->text_time;
  g_mutex_unlock (&text->lock);
  if (mode != GST_VLM_TEXT_TIME_AUTO)
    return mode == GST_VLM_TEXT_TIME_SHOWN;
  return is_drawn (text->pad, 16);
}

static void task (gpointer data)
{
  GstVlmText *text = data;
  GstMiniObject *object = NULL;
  GstFlowReturn ret = GST_FLOW_OK;
  // Asks other elements, so not under the lock; it changes only when pads are linked.
  const gboolean shown = asks_for_shown (text);

  g_mutex_lock (&text->lock);
  while (!text->flushing && (object = take_next (text, shown)) == NULL)
    g_cond_wait (&text->wake, &text->lock);
  text->pushing = !text->flushing;
  g_mutex_unlock (&text->lock);
  if (object == NULL) {
    gst_pad_pause_task (text->pad);
    return;
  }
  // A refused event is the branch's own affair: the next buffer tells.
  if (GST_IS_EVENT (object))
    gst_pad_push_event (text->pad, GST_EVENT_CAST (object));
  else
    ret = gst_pad_push (text->pad, GST_BUFFER_CAST (object));

  g_mutex_lock (&text->lock);
  text->pushing = FALSE;
  if (ret == GST_FLOW_EOS || (ret < GST_FLOW_EOS && !text->flushing)) {
    GST_DEBUG_OBJECT (text->pad, "downstream takes no more text: %s", gst_flow_get_name (ret));
    text->dead = TRUE;
    g_queue_clear_full (&text->items, item_free);
  }
  g_mutex_unlock (&text->lock);
}

// ------------------------------------------------------------------ for the element

GstVlmText *gst_vlm_text_new (GstPad *pad)
{
  GstVlmText *text = g_new0 (GstVlmText, 1);

  text->pad = pad;
  text->flushing = TRUE;
  g_mutex_init (&text->lock);
  g_cond_init (&text->wake);
  g_queue_init (&text->items);
  gst_segment_init (&text->segment, GST_FORMAT_UNDEFINED);
  return text;
}

static void forget (GstVlmText *text)
{
  g_queue_clear_full (&text->items, item_free);
  gst_segment_init (&text->segment, GST_FORMAT_UNDEFINED);
  text->need_segment = text->moving = text->dead = text->eos = text->eos_sent = FALSE;
  text->position = text->gap_until = text->current_until = 0;
  g_clear_pointer (&text->current, g_free);
}

void gst_vlm_text_free (GstVlmText *text)
{
  forget (text);
  g_free (text->stream_id);
  g_mutex_clear (&text->lock);
  g_cond_clear (&text->wake);
  g_free (text);
}

void gst_vlm_text_configure (GstVlmText *text, GstVlmGapMode gap_mode, GstVlmTextTime text_time)
{
  g_mutex_lock (&text->lock);
  text->gap_mode = gap_mode;
  text->text_time = text_time;
  g_mutex_unlock (&text->lock);
}

gboolean gst_vlm_text_start (GstVlmText *text, gboolean fresh)
{
  g_mutex_lock (&text->lock);
  text->flushing = FALSE;
  if (fresh) {
    text->need_start = text->need_caps = TRUE;
    text->need_segment = text->segment.format == GST_FORMAT_TIME;
    text->eos_sent = FALSE;
  }
  g_mutex_unlock (&text->lock);
  return gst_pad_start_task (text->pad, task, text, NULL);
}

gboolean gst_vlm_text_stop (GstVlmText *text)
{
  g_mutex_lock (&text->lock);
  text->flushing = TRUE;
  g_cond_broadcast (&text->wake);
  g_mutex_unlock (&text->lock);
  return gst_pad_stop_task (text->pad);
}

void gst_vlm_text_flush (GstVlmText *text)
{
  g_mutex_lock (&text->lock);
  forget (text);
  g_mutex_unlock (&text->lock);
}

void gst_vlm_text_stream_start (GstVlmText *text, const char *stream_id, guint group_id)
{
  g_mutex_lock (&text->lock);
  g_free (text->stream_id);
  text->stream_id = g_strdup (stream_id);
  text->group_id = group_id;
  text->need_start = text->need_caps = TRUE;
  text->dead = text->eos = text->eos_sent = FALSE;
  g_cond_broadcast (&text->wake);
  g_mutex_unlock (&text->lock);
}

void gst_vlm_text_segment (GstVlmText *text, const GstSegment *segment)
{
  g_mutex_lock (&text->lock);
  text->segment = *segment;
  text->need_segment = TRUE;
  text->moving = FALSE;
  // Running time may begin again, with a new stream for example.
  if (segment->base < text->position)
    text->position = text->gap_until = segment->base;
  g_cond_broadcast (&text->wake);
  g_mutex_unlock (&text->lock);
}

void gst_vlm_text_advance (GstVlmText *text, GstClockTime time, GstClockTime end,
                           GstClockTime limit)
{
  g_mutex_lock (&text->lock);
  // What comes before the first frame of a segment, or a jump, is no silence worth telling.
  if (time > text->position && time - text->position > (text->moving ? GAP_JUMP : GAP_STEP))
    text->position = time;
  text->moving = TRUE;
  if (text->gap_mode == GST_VLM_GAP_BLANK) {
    if (end + CUE_AHEAD > text->gap_until) {
      text->gap_until = end + CUE_AHEAD + CUE_STEP;
      g_cond_broadcast (&text->wake);
    }
    g_mutex_unlock (&text->lock);
    return;
  }
  if (GST_CLOCK_TIME_IS_VALID (limit))
    end = MIN (end, MAX (limit, time));
  if (end > text->gap_until) {
    text->gap_until = end + GAP_AHEAD;
    if (GST_CLOCK_TIME_IS_VALID (limit))
      text->gap_until = MIN (text->gap_until, MAX (limit, end));
    g_cond_broadcast (&text->wake);
  }
  g_mutex_unlock (&text->lock);
}

void gst_vlm_text_push (GstVlmText *text, GstVlmCue *cue)
{
  g_mutex_lock (&text->lock);
  if (!text->dead && !text->eos && *cue->text != '\0') {
    Item *item = g_new0 (Item, 1);

    item->cue = gst_vlm_cue_ref (cue);
    item->shown_at = MAX (text->gap_until,
                          cue->running_time + to_running_duration (&text->segment, cue->duration));
    g_queue_push_tail (&text->items, item);
    if (g_queue_get_length (&text->items) > MAX_CUES) {
      GST_WARNING_OBJECT (text->pad, "the text branch is stuck, dropping its oldest caption");
      item_free (g_queue_pop_head (&text->items));
    }
    g_cond_broadcast (&text->wake);
  }
  g_mutex_unlock (&text->lock);
}

void gst_vlm_text_eos (GstVlmText *text)
{
  g_mutex_lock (&text->lock);
  text->eos = TRUE;
  g_cond_broadcast (&text->wake);
  g_mutex_unlock (&text->lock);
}

gboolean gst_vlm_text_is_pushing (GstVlmText *text)
{
  gboolean pushing;

  g_mutex_lock (&text->lock);
  pushing = text->pushing;
  g_mutex_unlock (&text->lock);
  return pushing;
}
