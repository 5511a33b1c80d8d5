// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/delta_net.c — layers that keep a state of fixed size.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/delta_net.h"

#include "args.h"
#include "base/error.h"

#define MAX_GROUPS 65535u

G_STATIC_ASSERT(sizeof(vlm_state_rows) == 16);  // the kernels read it as two u64

gboolean vlm_op_causal_conv(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                            uint64_t weight, uint64_t seqs, uint32_t n_seq, uint64_t offset,
                            GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(dst->n_row == src->n_row && dst->n_col == src->n_col, error);
    VLM_REQUIRE(src->n_row <= MAX_GROUPS && n_seq >= 1 && n_seq <= src->n_row, error);
    VLM_REQUIRE(src->n_col <= MAX_GROUPS * (lanes / 4) && weight != 0 && seqs != 0, error);
    VLM_REQUIRE(offset % 4 == 0, error);

    const struct vlm_args_causal_conv args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight,
        .seqs = seqs,
        .offset = offset,
        .n_col = src->n_col,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
    };
    const vlm_kernel_spec spec = { .local = { lanes } };
    return vlm_cmd_dispatch(cmd, VLM_K_causal_conv, &spec, &args, sizeof args,
                            (uint32_t[3]){ (src->n_col - 1) / lanes + 1, n_seq, 1 }, error);
}

gboolean vlm_op_delta_rule(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *qkv,
                           const vlm_tensor *alpha, const vlm_tensor *beta, uint64_t dt_bias,
                           uint64_t a, const vlm_delta_shape *shape, uint64_t seqs, uint32_t n_seq,
                           uint64_t offset, GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size, d = shape->head_dim;

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(qkv), error);
    VLM_REQUIRE(vlm_tensor_ok(alpha) && vlm_tensor_ok(beta), error);
    VLM_REQUIRE(d >= 4 && d <= 256 && d % 4 == 0, error);
    VLM_REQUIRE(shape->n_k_head >= 1 && shape->n_v_head <= 4096, error);
    VLM_REQUIRE(shape->n_v_head >= 1 && shape->n_v_head % shape->n_k_head == 0, error);
    VLM_REQUIRE(qkv->n_col == (2 * shape->n_k_head + shape->n_v_head) * d, error);
    VLM_REQUIRE(dst->n_col == shape->n_v_head * d && dst->n_row == qkv->n_row, error);
    VLM_REQUIRE(alpha->n_col == shape->n_v_head && alpha->n_row == qkv->n_row, error);
    VLM_REQUIRE(beta->n_col == shape->n_v_head && beta->n_row == qkv->n_row, error);
    VLM_REQUIRE(qkv->n_row <= MAX_GROUPS && n_seq >= 1 && n_seq <= qkv->n_row, error);
    VLM_REQUIRE(dt_bias != 0 && a != 0 && seqs != 0 && offset % 4 == 0, error);

    const struct vlm_args_delta_rule args = {
        .dst = dst->addr,
        .qkv = qkv->addr,
        .alpha = alpha->addr,
        .beta = beta->addr,
        .dt_bias = dt_bias,
        .a = a,
        .seqs = seqs,
        .offset = offset,
        .n_k_head = shape->n_k_head,
        .dst_stride = dst->row_stride,
        .qkv_stride = qkv->row_stride,
        .alpha_stride = alpha->row_stride,
        .beta_stride = beta->row_stride,
    };
    const vlm_kernel_spec spec = { .local = { lanes }, .own = { lanes, d }, .n_own = 2 };
    vlm_cmd_add_cost(cmd, 7.0 * dst->n_col * d * dst->n_row);
    return vlm_cmd_dispatch(cmd, VLM_K_delta_rule, &spec, &args, sizeof args,
                            (uint32_t[3]){ (d - 1) / lanes + 1, shape->n_v_head, n_seq }, error);
}
