// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/profile.h — where a recording's time goes, by timestamps between dispatches.
#ifndef VLM_GPU_PROFILE_H
#define VLM_GPU_PROFILE_H

#include "gpu/recorder.h"

// Time of the dispatches of one stage, since the profile was made.
typedef struct vlm_profile_row {
    const char *stage;  // static
    guint n_dispatch;
    double ms;
} vlm_profile_row;

// A dispatch's time is the time from the end of the one before to its own end, so barriers and gaps
// are in it. Thread-safety: unsafe. For gpu/command.c, which says when.
typedef struct vlm_profile vlm_profile;

// Errors: ARGS on a device without timestamps, DRIVER.
vlm_profile *vlm_profile_new(vlm_device *dev, GError **error);
void vlm_profile_free(vlm_profile *profile);

// A recording starts.
void vlm_profile_begin(vlm_profile *profile, vlm_recorder *recorder);

// A dispatch of `stage` was recorded. Those beyond the first 8191 of a recording are not counted.
void vlm_profile_stamp(vlm_profile *profile, vlm_recorder *recorder, const char *stage);

// The recording was run: adds its times to those of its stages.
void vlm_profile_end(vlm_profile *profile);

// In order of first use; of vlm_profile_row, owned by the profile.
const GArray *vlm_profile_rows(const vlm_profile *profile);

#endif
