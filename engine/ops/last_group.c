// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/last_group.c — see ops/last_group.h.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/last_group.h"

#include "args.h"

gboolean vlm_then_norm_takes(const vlm_tensor *src, const vlm_matmul_norm *norm, uint32_t n_tile)
{
    const vlm_tensor *dst = norm->dst;

    return n_tile <= VLM_MAX_COUNTERS && src->n_col % 4 == 0 && src->row_stride % 4 == 0
           && src->addr % 16 == 0 && dst->row_stride % 4 == 0 && dst->addr % 16 == 0
           && norm->weight % 16 == 0;
}

gboolean vlm_then_norm(vlm_cmd *cmd, const vlm_tensor *src, const vlm_matmul_norm *norm,
                       uint32_t n_tile, uint64_t *args, GError **error)
{
    const struct vlm_args_then then = {
        .src = src->addr,
        .dst = norm->dst->addr,
        .weight = norm->weight,
        .counters = vlm_cmd_counters(cmd, n_tile),
        .n_col = src->n_col,
        .src_stride = src->row_stride,
        .dst_stride = norm->dst->row_stride,
        .eps = norm->eps,
    };

    return vlm_cmd_table(cmd, &then, sizeof then, args, error);
}

gboolean vlm_then_route(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                        uint32_t k, uint32_t n_tile, uint64_t *args, GError **error)
{
    const struct vlm_args_then then = {
        .src = logits->addr,
        .dst = ids,
        .weight = gate,
        .counters = vlm_cmd_counters(cmd, n_tile),
        .n_col = logits->n_col,
        .src_stride = logits->row_stride,
        .k = k,
    };

    return vlm_cmd_table(cmd, &then, sizeof then, args, error);
}
