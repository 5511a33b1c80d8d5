// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/tune.h — the tuning of an engine's device. The rest of it is in vlm.h.
#ifndef VLM_RUNTIME_TUNE_H
#define VLM_RUNTIME_TUNE_H

#include "runtime/engine_private.h"

// Gives the device what VLM_TUNING says, else what was saved for it and models of this shape. For
// engines that are being opened, before their work memory is made.
void vlm_tune_load(vlm_engine *engine);

// What a tuning is kept under: a model's shape and types, wherever its file is. Free with g_free().
char *vlm_tune_name(const vlm_engine *engine);

#endif
