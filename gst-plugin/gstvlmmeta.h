// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmmeta.h — one caption, as a record, as metadata of a buffer and as an element message.
#ifndef GST_VLM_META_H
#define GST_VLM_META_H

#include <gst/gst.h>

G_BEGIN_DECLS

// Name of the GstCustomMeta and of the element message. docs/elements.md lists their fields.
#define GST_VLM_META_NAME    "VlmCaption"
#define GST_VLM_MESSAGE_NAME "vlm-caption"

// One caption and the part of the film that it describes. Counted and, once it has been given
// away, never changed. Thread-safety: any thread.
typedef struct {
  char *text;                 // valid UTF-8 without white space around it, never NULL
  GstClockTime timestamp;     // PTS of the first moment
  GstClockTime stream_time;   // the same moment as the player shows it
  GstClockTime running_time;  // the same moment as sinks see it
  GstClockTime duration;      // never NONE
  guint64 number;             // 1 for the first caption since the element was started
  guint tokens;               // tokens decoded
  GstClockTime latency;       // from the end of the range at this element to the caption
} GstVlmCue;

GstVlmCue *gst_vlm_cue_new (void);
GstVlmCue *gst_vlm_cue_ref (GstVlmCue *cue);
void gst_vlm_cue_unref (GstVlmCue *cue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GstVlmCue, gst_vlm_cue_unref)

// The element message for a caption.
GstMessage *gst_vlm_cue_to_message (const GstVlmCue *cue, GstObject *source);

// Registers the metadata, once per process, with no tags: then converters, scalers and encoders
// keep it. Thread-safety: any thread.
void gst_vlm_meta_register (void);

// Puts a caption on a buffer. Takes `buffer` and returns it, or a shallow copy (the same memory)
// when somebody else holds it too. `source` names the element, for pipelines with several.
GstBuffer *gst_vlm_meta_attach (GstBuffer *buffer, const GstVlmCue *cue, const char *source);

G_END_DECLS

#endif
