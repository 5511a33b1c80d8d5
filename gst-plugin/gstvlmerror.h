// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmerror.h — how the engine's errors reach the person.
#ifndef GST_VLM_ERROR_H
#define GST_VLM_ERROR_H

#include <gst/gst.h>

G_BEGIN_DECLS

// Posts one element error (or warning) for an error of the engine: what happened, with the names
// in it, and what to do about it. `file` is the model that was being opened, or NULL.
// Must: no lock held; bus handlers may run in this call. Thread-safety: any thread.
void gst_vlm_error_post (GstElement *element, GstMessageType type, const GError *error,
                         const char *file);

G_END_DECLS

#endif
