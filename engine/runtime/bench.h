// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/bench.h — one measurement of an engine, for bench.c and tune.c.
#ifndef VLM_RUNTIME_BENCH_H
#define VLM_RUNTIME_BENCH_H

#include "runtime/engine_private.h"

// vlm_engine_bench() on the scheduler's thread, without the lock.
gboolean vlm_bench_run(vlm_engine *engine, const vlm_bench_params *params, vlm_bench_result *result,
                       GError **error);

#endif
