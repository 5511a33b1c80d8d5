// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmmeta.c — one caption, as a record, as metadata of a buffer and as an element message.
#include "gstvlmmeta.h"

GstVlmCue *gst_vlm_cue_new (void)
{
  return g_atomic_rc_box_new0 (GstVlmCue);
}

GstVlmCue *gst_vlm_cue_ref (GstVlmCue *cue)
{
  return g_atomic_rc_box_acquire (cue);
}

static void clear (gpointer data)
{
  g_free (((GstVlmCue *) data)->text);
}

void gst_vlm_cue_unref (GstVlmCue *cue)
{
  g_atomic_rc_box_release_full (cue, clear);
}

static void fill (GstStructure *structure, const GstVlmCue *cue)
{
  gst_structure_set (structure, "text", G_TYPE_STRING, cue->text, "timestamp", G_TYPE_UINT64,
                     cue->timestamp, "stream-time", G_TYPE_UINT64, cue->stream_time, "running-time",
                     G_TYPE_UINT64, cue->running_time, "duration", G_TYPE_UINT64, cue->duration,
                     "number", G_TYPE_UINT64, cue->number, "tokens", G_TYPE_UINT, cue->tokens,
                     "latency", G_TYPE_UINT64, cue->latency, NULL);
}

GstMessage *gst_vlm_cue_to_message (const GstVlmCue *cue, GstObject *source)
{
  GstStructure *structure = gst_structure_new_empty (GST_VLM_MESSAGE_NAME);

  fill (structure, cue);
  return gst_message_new_element (source, structure);
}

void gst_vlm_meta_register (void)
{
  static gsize done = 0;
  static const gchar *no_tags[] = { NULL };

  if (!g_once_init_enter (&done))
    return;
  gst_meta_register_custom (GST_VLM_META_NAME, no_tags, NULL, NULL, NULL);
  g_once_init_leave (&done, 1);
}

GstBuffer *gst_vlm_meta_attach (GstBuffer *buffer, const GstVlmCue *cue, const char *source)
{
  GstCustomMeta *meta;
  GstStructure *structure;

  buffer = gst_buffer_make_writable (buffer);
  meta = gst_buffer_add_custom_meta (buffer, GST_VLM_META_NAME);
  structure = gst_custom_meta_get_structure (meta);
  fill (structure, cue);
  gst_structure_set (structure, "element", G_TYPE_STRING, source, NULL);
  return buffer;
}
