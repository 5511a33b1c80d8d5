// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/rows.c — moving and combining whole rows, and picking from them.
#define G_LOG_DOMAIN "vlm-ops"
#include "args.h"
#include "base/error.h"
#include "ops/ops.h"

#define MAX_GROUPS  65535u
#define SPAN_STEPS  16u    // elements per lane of one workgroup
#define ARGMAX_SPAN 2048u  // least columns of one part

// Columns that one workgroup takes.
static uint32_t span_of(const vlm_device *dev)
{
    return SPAN_STEPS * dev->subgroup_size;
}

static gboolean same_shape(const vlm_tensor *a, const vlm_tensor *b)
{
    return a->n_row == b->n_row && a->n_col == b->n_col;
}

static gboolean move(vlm_cmd *cmd, vlm_kernel_id id, const vlm_tensor *dst, const vlm_tensor *src,
                     uint64_t index, uint32_t n_index, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const uint32_t span = span_of(dev);
    struct vlm_args_rows_move args = {
        .dst = dst->addr,
        .src = src->addr,
        .index = index,
        .n_col = dst->n_col,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .span = span,
    };
    vlm_kernel_spec spec = { .local = { dev->subgroup_size } };
    return vlm_cmd_dispatch(cmd, id, &spec, &args, sizeof args,
                            (uint32_t[3]){ (dst->n_col - 1) / span + 1, n_index, 1 }, error);
}

gboolean vlm_op_rows_gather(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                            uint64_t index, GError **error)
{
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(dst->n_col == src->n_col && dst->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(index != 0, error);

    return move(cmd, VLM_K_rows_gather, dst, src, index, dst->n_row, error);
}

gboolean vlm_op_rows_scatter(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                             uint64_t index, gboolean add, GError **error)
{
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(dst->n_col == src->n_col && src->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(index != 0, error);

    return move(cmd, add ? VLM_K_rows_scatter_add : VLM_K_rows_scatter, dst, src, index, src->n_row,
                error);
}

static gboolean gated(vlm_cmd *cmd, vlm_kernel_id id, const vlm_tensor *dst, const vlm_tensor *gate,
                      const vlm_tensor *up, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const uint32_t span = span_of(dev);

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(gate) && vlm_tensor_ok(up), error);
    VLM_REQUIRE(same_shape(dst, gate) && same_shape(dst, up), error);
    VLM_REQUIRE(dst->n_row <= MAX_GROUPS, error);

    struct vlm_args_swiglu args = {
        .dst = dst->addr,
        .gate = gate->addr,
        .up = up->addr,
        .n_col = dst->n_col,
        .dst_stride = dst->row_stride,
        .gate_stride = gate->row_stride,
        .up_stride = up->row_stride,
        .span = span,
    };
    vlm_kernel_spec spec = { .local = { dev->subgroup_size } };
    return vlm_cmd_dispatch(cmd, id, &spec, &args, sizeof args,
                            (uint32_t[3]){ (dst->n_col - 1) / span + 1, dst->n_row, 1 }, error);
}

gboolean vlm_op_swiglu(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *gate,
                       const vlm_tensor *up, GError **error)
{
    return gated(cmd, VLM_K_swiglu, dst, gate, up, error);
}

gboolean vlm_op_sigmoid_gate(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *gate,
                             const vlm_tensor *up, GError **error)
{
    return gated(cmd, VLM_K_sigmoid_gate, dst, gate, up, error);
}

gboolean vlm_op_split_heads(vlm_cmd *cmd, const vlm_tensor *a, const vlm_tensor *b,
                            const vlm_tensor *src, uint32_t head_dim, GError **error)
{
    VLM_REQUIRE(vlm_tensor_ok(a) && vlm_tensor_ok(b) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(same_shape(a, b) && a->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(head_dim >= 1 && a->n_col % head_dim == 0, error);
    VLM_REQUIRE(src->n_row == a->n_row && src->n_col == 2 * (uint64_t) a->n_col, error);
    VLM_REQUIRE(a->n_col / head_dim <= MAX_GROUPS, error);

    const struct vlm_args_split_heads args = {
        .a = a->addr,
        .b = b->addr,
        .src = src->addr,
        .head_dim = head_dim,
        .a_stride = a->row_stride,
        .b_stride = b->row_stride,
        .src_stride = src->row_stride,
    };
    const vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_split_heads, &spec, &args, sizeof args,
                            (uint32_t[3]){ a->n_col / head_dim, a->n_row, 1 }, error);
}

gboolean vlm_op_argmax(vlm_cmd *cmd, uint64_t ids, const vlm_tensor *src, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const uint32_t lanes = dev->subgroup_size;
    uint64_t part = 0;

    VLM_REQUIRE(vlm_tensor_ok(src) && src->n_row <= VLM_MAX_COUNTERS, error);
    VLM_REQUIRE(ids != 0, error);

    // Parts of equal length, whole subgroups, about twice as many as an idle GPU wants.
    const uint32_t wanted = MIN((src->n_col - 1) / ARGMAX_SPAN + 1, 256u);
    const uint32_t span = ((src->n_col - 1) / wanted / lanes + 1) * lanes;
    const uint32_t n_part = (src->n_col - 1) / span + 1;
    if (!vlm_cmd_scratch(cmd, (size_t) src->n_row * n_part * 8, &part, error))
        return FALSE;

    struct vlm_args_argmax args = {
        .src = src->addr,
        .part = part,
        .ids = ids,
        .counters = vlm_cmd_counters(cmd, src->n_row),
        .n_col = src->n_col,
        .src_stride = src->row_stride,
        .n_part = n_part,
        .span = span,
    };
    vlm_kernel_spec spec = { .local = { lanes } };
    return vlm_cmd_dispatch(cmd, VLM_K_argmax, &spec, &args, sizeof args,
                            (uint32_t[3]){ n_part, src->n_row, 1 }, error);
}

gboolean vlm_op_position_embed(vlm_cmd *cmd, const vlm_tensor *dst, uint64_t table, uint32_t side,
                               uint32_t h, uint32_t w, uint32_t merge, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const uint32_t span = span_of(dev);

    VLM_REQUIRE(vlm_tensor_ok(dst) && dst->n_row <= MAX_GROUPS, error);
    VLM_REQUIRE(table != 0 && side >= 1 && side <= 4096, error);
    VLM_REQUIRE((uint64_t) side * side * dst->n_col <= UINT32_MAX, error);
    VLM_REQUIRE(merge >= 1 && merge <= 8, error);
    VLM_REQUIRE(h >= 1 && w >= 1 && h <= MAX_GROUPS && w <= MAX_GROUPS, error);
    VLM_REQUIRE(h % merge == 0 && w % merge == 0, error);
    VLM_REQUIRE(dst->n_row % ((uint64_t) h * w) == 0, error);

    struct vlm_args_position_embed args = {
        .dst = dst->addr,
        .table = table,
        .n_col = dst->n_col,
        .dst_stride = dst->row_stride,
        .side = side,
        .h = h,
        .w = w,
        .merge = merge,
        .span = span,
    };
    vlm_kernel_spec spec = { .local = { dev->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_position_embed, &spec, &args, sizeof args,
                            (uint32_t[3]){ (dst->n_col - 1) / span + 1, dst->n_row, 1 }, error);
}
