// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmframe.h — a video buffer as a picture that the engine takes.
//
// Formats that the engine knows are given as they lie in the buffer (strides and offsets from
// GstVideoMeta, matrix and range from the caps). All others, pixels that are not square, and
// cropped buffers are converted with GstVideoConverter to the nearest of them first. Interlaced
// pictures are taken as they are, both fields together.
#ifndef GST_VLM_FRAME_H
#define GST_VLM_FRAME_H

#include <gst/video/video.h>

#include "vlm.h"

G_BEGIN_DECLS

// Keeps the converter from frame to frame. Thread-safety: one thread.
typedef struct _GstVlmFrame GstVlmFrame;

GstVlmFrame *gst_vlm_frame_new (void);
void gst_vlm_frame_free (GstVlmFrame *frame);

// Maps `buffer` and fills `image`, which is valid until gst_vlm_frame_unmap().
// Errors: GST_STREAM_ERROR, when the memory cannot be read or the size is out of range.
gboolean gst_vlm_frame_map (GstVlmFrame *frame, GstBuffer *buffer, const GstVideoInfo *info,
                            vlm_image *image, GError **error);
void gst_vlm_frame_unmap (GstVlmFrame *frame);

G_END_DECLS

#endif
