// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/pipeline_list.h — remembers which pipelines a model took, to make them ahead.
//
// The pipeline cache has what the driver compiled; which kernels with which constants a model takes
// shows only while it runs (batches, long contexts, stills). The list is kept beside the cache; a
// process that opens the same model again makes all of them at once, and none while a film runs.
#ifndef VLM_GPU_PIPELINE_LIST_H
#define VLM_GPU_PIPELINE_LIST_H

#include "gpu/device.h"

// Makes the pipelines that were there when the list `name` of this device was saved. Those that
// can't be made, of kernels that have changed since, and whole damaged lists are left out: they are
// made when they are needed. Returns how many there are. Thread-safety: safe.
uint32_t vlm_pipeline_list_make(vlm_device *dev, const char *name);

// Saves the list of all pipelines of the device. Nothing without a cache folder, when there are
// none, or on a lost device; a list that can't be written is an info message. `name` is any text.
void vlm_pipeline_list_save(vlm_device *dev, const char *name);

// Removes the list, when other pipelines will be needed from now on.
void vlm_pipeline_list_forget(const vlm_device *dev, const char *name);

#endif
