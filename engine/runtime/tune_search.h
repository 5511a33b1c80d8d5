// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/tune_search.h — which sizes of kernels are the fastest, given somebody who measures.
//
// Coordinate descent: size after size, its allowed values are measured in turns with what kernels
// of that size serve, all other sizes being the best found so far. The best of the rounds counts,
// because whatever disturbs a measurement makes it longer; how far the second best is away says how
// much of a gain is noise. A round before them isn't counted: pipelines are made in it.
#ifndef VLM_RUNTIME_TUNE_SEARCH_H
#define VLM_RUNTIME_TUNE_SEARCH_H

#include "gpu/device.h"

// What can be measured.
typedef enum vlm_part_id {
    VLM_PART_PREFILL,
    VLM_PART_DECODE,
    VLM_PART_BATCH,  // decode of several sequences
    VLM_PART_DEEP,   // decode over a long context
    VLM_PART_FRAME,
    VLM_N_PART
} vlm_part_id;

typedef struct vlm_tune_search {
    const vlm_device *dev;  // whose defaults and capabilities count; its tuning is not looked at
    uint32_t parts;         // that can be measured: a bit for each vlm_part_id
    uint32_t n_round;       // >= 1
    // Measures a part with these values; `name` and `value` say what is being tried, as for
    // vlm_tune_params.on_trial.
    gboolean (*measure)(gpointer data, const uint32_t values[VLM_N_TUNABLE], vlm_part_id part,
                        const char *name, uint32_t value, double *seconds, GError **error);
    gpointer data;
} vlm_tune_search;

// Measurements that vlm_tune_search_run() makes at most.
uint32_t vlm_tune_search_count(const vlm_tune_search *search);

// Finds the values; those of sizes that the device doesn't look at stay defaults. Fills all of
// `result` but the path. Errors: those of measure().
gboolean vlm_tune_search_run(const vlm_tune_search *search, uint32_t values[VLM_N_TUNABLE],
                             vlm_tune_result *result, GError **error);

#endif
