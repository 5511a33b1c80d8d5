// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/ops.h — every tensor operation, one header per family.
//
// Every function records work into `cmd`; nothing runs before vlm_cmd_run(), none waits. All of
// them
//   - take outputs first, then inputs, then weights, then scalars;
//   - name shapes slowest axis first: [row, col];
//   - must not be given overlapping output and input unless "in place" is said (unchecked);
//   - leave barriers between dependent calls to the caller, and put those they need inside;
//   - return FALSE and set `error` (ARGS) when a "must" is broken, before recording anything;
//   - count their cost with vlm_cmd_add_cost() where it is more than a pass over the data;
//   - are checked against a C reference by tests/check_<family>.c.
//
// Thread-safety: unsafe, one thread per command.
#ifndef VLM_OPS_OPS_H
#define VLM_OPS_OPS_H

#include "ops/attention.h"
#include "ops/delta_net.h"
#include "ops/matmul.h"
#include "ops/moe.h"
#include "ops/norm.h"
#include "ops/pixels.h"
#include "ops/rope.h"
#include "ops/rows.h"

#endif
