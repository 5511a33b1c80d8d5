// SPDX-License-Identifier: LGPL-2.1-or-later
// gstvlmerror.c — how the engine's errors reach the person.
#include "gstvlmerror.h"

#include <string.h>

#include "turns.h"
#include "vlm.h"

typedef struct {
  GQuark domain;
  gint code;
  const char *advice;
} Verdict;

static Verdict judge (const GError *error, gboolean opening)
{
  Verdict v = { GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED,
                "GST_DEBUG=vlm*:5 shows what the engine did" };

  if (error->domain == TURNS_ERROR)
    return (Verdict){ GST_RESOURCE_ERROR,
                      error->code == VLM_ERROR_NOT_FOUND ? GST_RESOURCE_ERROR_NOT_FOUND
                      : error->code == VLM_ERROR_ARGS    ? GST_RESOURCE_ERROR_SETTINGS
                                                         : GST_RESOURCE_ERROR_READ,
                      "Correct the file that the property examples names, or leave the property "
                      "unset; docs/elements.md says what it holds" };
  if (error->domain != VLM_ERROR)
    return v;
  switch (error->code) {
  case VLM_ERROR_ARGS:
    v = (Verdict){
      GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS,
      "Change the properties that this is about (context-size, prompt, system-prompt, ...)"
    };
    break;
  case VLM_ERROR_NOT_FOUND:
    v = (Verdict){
      GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND,
      "Set the property model to a vision-language model on this machine (docs/models.md "
      "says how one is named), mmproj to its vision file when that lies elsewhere, and "
      "device to one that `vlm devices` lists"
    };
    break;
  case VLM_ERROR_FORMAT:
    v = (Verdict){ GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_READ,
                   "Get the file again, or use a model and an mmproj that belong together and that "
                   "docs/models.md lists" };
    break;
  case VLM_ERROR_NO_DEVICE:
    v = (Verdict){
      GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ,
      "Set device to one that `vlm devices` lists, or install a Vulkan driver (on Debian "
      "mesa-vulkan-drivers, which also has one for the CPU)"
    };
    break;
  case VLM_ERROR_DEVICE_MEMORY:
    v = (Verdict){ GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                   "Use a smaller model or a smaller context-size, or set device to one with more "
                   "memory" };
    break;
  case VLM_ERROR_MEMORY_LIMIT:
    v = (Verdict){ GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT,
                   "Raise the property device-memory (in MiB; 0 = VLM_DEVICE_MEMORY in the "
                   "environment, else what is free), or lower context-size" };
    break;
  case VLM_ERROR_DEVICE_LOST:
    v.advice = "The driver gave up on the device; the system's log says why";
    break;
  default:
    break;
  }
  // Frames and prompts that do not fit are the stream's or the caller's, not a file's.
  if (!opening && error->code == VLM_ERROR_FORMAT)
    v = (Verdict){ GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE,
                   "Put videoconvert before this element" };
  return v;
}

void gst_vlm_error_post (GstElement *element, GstMessageType type, const GError *error,
                         const char *file)
{
  const Verdict v = judge (error, file != NULL);
  const char *about = file != NULL && strstr (error->message, file) == NULL ? file : NULL;
  char *text = g_strdup_printf ("%s%s%s. %s.", about != NULL ? about : "",
                                about != NULL ? ": " : "", error->message, v.advice);
  char *debug = g_strdup_printf ("%s (code %d): %s", g_quark_to_string (error->domain), error->code,
                                 error->message);

  gst_element_message_full (element, type, v.domain, v.code, text, debug, __FILE__, G_STRFUNC,
                            __LINE__);
}
