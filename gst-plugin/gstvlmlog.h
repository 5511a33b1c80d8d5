// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmlog.h — the engine's log domains as GStreamer debug categories.
#ifndef GST_VLM_LOG_H
#define GST_VLM_LOG_H

#include <glib.h>

G_BEGIN_DECLS

// Creates a debug category for every log domain of the engine ("vlm-device", "vlm-model", ...) and
// forwards the domain's messages to it: GST_DEBUG=vlm-model:6 shows them. Messages also keep going
// to GLib's default handler, so that G_MESSAGES_DEBUG works as before. Calling it again does
// nothing. Thread-safety: any thread.
void gst_vlm_log_init (void);

G_END_DECLS

#endif
