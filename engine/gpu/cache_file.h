// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/cache_file.h — small text files about a device, kept in the cache folder.
//
// The first line is a header with a checksum (SHA-256) of all others, so that a damaged file or one
// of another version counts as none.
#ifndef VLM_GPU_CACHE_FILE_H
#define VLM_GPU_CACHE_FILE_H

#include "gpu/device.h"

// "PREFIX-HASH.txt" in the device's cache folder, the hash being of the device, its driver and
// `name`, any text. NULL without a cache folder. Free with g_free().
char *vlm_cache_file_path(const vlm_device *dev, const char *prefix, const char *name);

// The lines behind the header, at most `max_lines`; NULL when there is no whole file with this
// header. Free with g_strfreev().
GStrv vlm_cache_file_read(const char *path, const char *header, gint max_lines);

// Writes header, checksum and `text`, whole lines, to a new file that then replaces the old one;
// makes the folder. Errors: those of g_file_set_contents().
gboolean vlm_cache_file_write(const char *path, const char *header, const char *text,
                              GError **error);

#endif
