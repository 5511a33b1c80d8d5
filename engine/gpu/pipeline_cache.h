// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/pipeline_cache.h — keeps what the driver compiled from one process to the next.
#ifndef VLM_GPU_PIPELINE_CACHE_H
#define VLM_GPU_PIPELINE_CACHE_H

#include "gpu/device.h"

// Makes dev->cache, filled from the file for this device in `dir` when there is one that is
// whole (a SHA-256 of the contents stands before them) and `dir` is not NULL. A file that is
// missing, damaged or of another driver is no error: the cache then starts empty.
gboolean vlm_pipeline_cache_load(vlm_device *dev, const char *dir, GError **error);

// Writes dev->cache back (to a new file that then replaces the old one) when pipelines were made.
// Failing to write is logged, nothing more.
void vlm_pipeline_cache_save(vlm_device *dev);

#endif
