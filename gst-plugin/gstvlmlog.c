// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmlog.c — the engine's log domains as GStreamer debug categories.
#include "gstvlmlog.h"

#include <gst/gst.h>

static const char *const domains[] = {
  "vlm-bench", "vlm-command", "vlm-device", "vlm-engine", "vlm-env",   "vlm-kernel",
  "vlm-kv",    "vlm-memory",  "vlm-model",  "vlm-ops",    "vlm-sched", "vlm-session",
};

static GstDebugLevel level_of (GLogLevelFlags level)
{
  switch (level & G_LOG_LEVEL_MASK) {
  case G_LOG_LEVEL_ERROR:
  case G_LOG_LEVEL_CRITICAL:
    return GST_LEVEL_ERROR;
  case G_LOG_LEVEL_WARNING:
    return GST_LEVEL_WARNING;
  case G_LOG_LEVEL_MESSAGE:
  case G_LOG_LEVEL_INFO:
    return GST_LEVEL_INFO;
  default:
    return GST_LEVEL_DEBUG;
  }
}

static void forward (const gchar *domain, GLogLevelFlags level, const gchar *message,
                     gpointer category)
{
  gst_debug_log (category, level_of (level), domain, "", 0, NULL, "%s", message);
  g_log_default_handler (domain, level, message, NULL);
}

void gst_vlm_log_init (void)
{
  static gsize done = 0;

  if (!g_once_init_enter (&done))
    return;
#ifndef GST_DISABLE_GST_DEBUG
  for (guint i = 0; i < G_N_ELEMENTS (domains); i++) {
    GstDebugCategory *category = NULL;

    GST_DEBUG_CATEGORY_INIT (category, domains[i], 0, "vision-language model engine");
    g_log_set_handler (domains[i], G_LOG_LEVEL_MASK | G_LOG_FLAG_FATAL | G_LOG_FLAG_RECURSION,
                       forward, category);
  }
#endif
  g_once_init_leave (&done, 1);
}
