// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/roofline.c — see ops/roofline.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/roofline.h"

#include "args.h"
#include "base/error.h"

#define MAX_GROUPS 65535u

uint32_t vlm_roofline_step_bytes(const vlm_device *dev)
{
    return VLM_ROOFLINE_UNROLL * dev->subgroup_size * 16;
}

static gboolean record(vlm_cmd *cmd, vlm_kernel_id id, uint64_t dst, uint64_t src, uint32_t n_group,
                       uint32_t n_step, GError **error)
{
    const struct vlm_args_roofline args = { .dst = dst, .src = src, .n_step = n_step };
    const vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };

    VLM_REQUIRE(dst != 0 && src != 0, error);
    VLM_REQUIRE(n_group >= 1 && n_group <= MAX_GROUPS && n_step >= 1, error);
    return vlm_cmd_dispatch(cmd, id, &spec, &args, sizeof args, (uint32_t[3]){ n_group, 1, 1 },
                            error);
}

gboolean vlm_op_roofline_read(vlm_cmd *cmd, uint64_t dst, uint64_t src, uint32_t n_group,
                              uint32_t n_step, GError **error)
{
    const uint64_t bytes =
        (uint64_t) n_group * n_step * vlm_roofline_step_bytes(vlm_cmd_device(cmd));

    VLM_REQUIRE(src % 16 == 0 && bytes / 16 <= UINT32_MAX, error);
    return record(cmd, VLM_K_roofline_read, dst, src, n_group, n_step, error);
}

gboolean vlm_op_roofline_fma(vlm_cmd *cmd, uint64_t dst, uint64_t src, uint32_t n_group,
                             uint32_t n_step, GError **error)
{
    return record(cmd, VLM_K_roofline_fma, dst, src, n_group, n_step, error);
}
