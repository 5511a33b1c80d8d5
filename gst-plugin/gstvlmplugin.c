// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmplugin.c — the plugin `vlm`. Registers elements; opens no device.
#include "gstvlmcaption.h"
#include "gstvlmlog.h"

// Asked for by GST_PLUGIN_DEFINE.
#define PACKAGE "gst-vlm"

static gboolean plugin_init (GstPlugin *plugin)
{
  gst_vlm_log_init ();
  return GST_ELEMENT_REGISTER (vlmcaption, plugin);
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, vlm,
                   "Captions video with vision-language models in Vulkan compute", plugin_init,
                   VLM_VERSION, "LGPL", "gst-vlm", "gst-vlm")
