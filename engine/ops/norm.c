// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/norm.c — normalisation of rows.
#define G_LOG_DOMAIN "vlm-ops"
#include "args.h"
#include "base/error.h"
#include "ops/ops.h"

gboolean vlm_op_rms_norm(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                         uint64_t weight, float eps, GError **error)
{
    VLM_REQUIRE(src->n_row >= 1 && src->n_row <= 65535 && src->n_col >= 1, error);
    VLM_REQUIRE(dst->n_row == src->n_row && dst->n_col == src->n_col, error);
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(weight != 0 && eps > 0, error);

    struct vlm_args_rms_norm args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight,
        .n_col = src->n_col,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .eps = eps,
    };
    vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_rms_norm, &spec, &args, sizeof args,
                            (uint32_t[3]){ src->n_row, 1, 1 }, error);
}

gboolean vlm_op_rms_norm_gated(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                               const vlm_tensor *gate, uint64_t weight, uint32_t n_head, float eps,
                               GError **error)
{
    VLM_REQUIRE(src->n_row >= 1 && src->n_row <= 65535 && n_head >= 1 && n_head <= 65535, error);
    VLM_REQUIRE(src->n_col >= n_head && src->n_col % n_head == 0, error);
    VLM_REQUIRE(dst->n_row == src->n_row && dst->n_col == src->n_col, error);
    VLM_REQUIRE(gate->n_row == src->n_row && gate->n_col == src->n_col, error);
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src) && vlm_tensor_ok(gate), error);
    VLM_REQUIRE(weight != 0 && eps > 0, error);

    struct vlm_args_rms_norm_gated args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight,
        .gate = gate->addr,
        .n_col = src->n_col / n_head,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .gate_stride = gate->row_stride,
        .eps = eps,
    };
    vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_rms_norm_gated, &spec, &args, sizeof args,
                            (uint32_t[3]){ n_head, src->n_row, 1 }, error);
}

gboolean vlm_op_layer_norm(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           uint64_t weight, uint64_t bias, float eps, GError **error)
{
    VLM_REQUIRE(src->n_row >= 1 && src->n_row <= 65535 && src->n_col >= 1, error);
    VLM_REQUIRE(dst->n_row == src->n_row && dst->n_col == src->n_col, error);
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(weight != 0 && bias != 0 && eps > 0, error);

    struct vlm_args_layer_norm args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight,
        .bias = bias,
        .n_col = src->n_col,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .eps = eps,
    };
    vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_layer_norm, &spec, &args, sizeof args,
                            (uint32_t[3]){ src->n_row, 1, 1 }, error);
}
