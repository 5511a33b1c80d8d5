// SPDX-License-Identifier: LGPL-2.1-or-later
// check.h — the kernel test harness: buffers with canaries, shapes, fills, failure reports.
#ifndef VLM_TESTS_CHECK_H
#define VLM_TESTS_CHECK_H

#include "compare.h"
#include "gpu/memory.h"
#include "ops/ops.h"

typedef enum check_fill {
    FILL_ZERO,
    FILL_ONE,
    FILL_LARGE,
    FILL_TINY,
    FILL_ONE_HOT,
    FILL_NORMAL,
    FILL_OFFSET,
    N_FILL,
    FILL_LEAST = N_FILL,  // of weights: next to the subnormal numbers, or scales among these
} check_fill;

extern const char *const check_fill_name[N_FILL + 1];
extern const char *const check_kv_name[VLM_N_KV_TYPE];

// State of a run over one device opened with one set of caps.
typedef struct check {
    vlm_device *dev;
    vlm_cmd *cmd;
    GRand *rand;
    guint32 seed;
    const char *op;  // being checked, for reports
    guint device_index;
    guint n_case;
    guint n_fail;
} check;

// A device buffer with GUARD_BYTES on both sides. `data` is the host view of the inside.
typedef struct check_buf {
    vlm_buffer *buf;
    void *data;
    uint64_t addr;
    size_t bytes;
} check_buf;

// Outputs start as UNWRITTEN; inputs are then filled by the caller. Never fails: a test
// machine without memory for a test shape is an error of the test.
check_buf *check_buf_new(check *ck, size_t bytes);
void check_buf_free(check_buf *cb);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(check_buf, check_buf_free)

void check_fill_f32(check *ck, float *dst, size_t n, check_fill fill);
void check_fill_i8(check *ck, gint8 *dst, size_t n, check_fill fill);

// Runs what the op recorded and looks at the guards of all `n` buffers. `recorded` and `error`
// are what the op returned. FALSE: the case has failed and was reported; TRUE: the caller now
// compares and gives the verdict.
gboolean check_run(check *ck, gboolean recorded, GError *error, check_buf *const *bufs, size_t n,
                   const char *what);

// Reports `why` (taken, may be NULL) for the case described by `what`.
void check_verdict(check *ck, const char *what, char *why);

void check_attention(check *ck);
void check_delta_net(check *ck);
void check_fused(check *ck);
void check_matmul(check *ck);
void check_moe(check *ck);
void check_norm(check *ck);
void check_pixels(check *ck);
void check_roofline(check *ck);
void check_rope(check *ck);
void check_rows(check *ck);

#endif
