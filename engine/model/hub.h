// SPDX-License-Identifier: LGPL-2.1-or-later
// model/hub.h — names of model files, and what they say; see vlm.h for hub names.
#ifndef VLM_MODEL_HUB_H
#define VLM_MODEL_HUB_H

#include "base/error.h"

// What the name of a file, or of a path, says that it is.
typedef enum vlm_file_kind {
    VLM_FILE_OTHER,   // no GGUF, or none to run (importance matrices)
    VLM_FILE_TEXT,    // a text model, or the first part of one
    VLM_FILE_PART,    // a later part
    VLM_FILE_VISION,  // "mmproj" in its name
} vlm_file_kind;

vlm_file_kind vlm_file_kind_of(const char *path);

// The quantisation that a file's name ends with ("Q4_K_M"), in capitals; NULL when there is none. A
// new string.
char *vlm_file_quant(const char *path);

// Whether `name` is a path relative to a folder that stays inside it, without control characters.
gboolean vlm_file_name_is_safe(const char *name);

#endif
