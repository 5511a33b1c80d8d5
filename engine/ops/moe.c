// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/moe.c — sparse mixture of experts: routing and grouped products.
#define G_LOG_DOMAIN "vlm-ops"
#include "args.h"
#include "base/error.h"
#include "ops/matmul_coopmat.h"
#include "ops/matmul_dot.h"
#include "ops/matmul_split.h"
#include "ops/moe_plan.h"
#include "ops/ops.h"

#define MAX_TOK    65535u
#define MAX_K      16u
#define MAX_EXPERT 1024u
#define MAX_SLOT   (1u << 18)  // tiles are counted in one direction of a dispatch

// Slots of a workgroup that sorts: enough that a prompt of a small model needs one dispatch, few
// enough that GPUs find work for many.
#define CHUNK_SLOTS 1024u

// Steps of moe_plan.comp.
enum { STEP_COUNT = 1, STEP_SCAN = 2, STEP_PERMUTE = 4 };

static size_t align64(size_t n)
{
    return (n + 63) & ~(size_t) 63;
}

gboolean vlm_moe_find_layout(uint32_t n_tok, uint32_t k, uint32_t n_expert, uint32_t tile,
                             vlm_moe_layout *layout)
{
    if (n_tok < 1 || n_tok > MAX_TOK || k < 1 || k > MAX_K || k > n_expert || n_expert > MAX_EXPERT)
        return FALSE;
    const uint32_t n_slot = n_tok * k;

    // Tiles as large as the average number of slots of an expert. Below two of them sorting costs
    // more time than reading some weights twice.
    if (n_slot > MAX_SLOT)
        return FALSE;
    layout->tile_slots =
        tile > 0 ? tile : vlm_tile_tokens(MAX(n_slot / n_expert, 1), VLM_TILE_TOKENS);
    layout->chunk_slots = CHUNK_SLOTS;
    layout->n_chunk = (n_slot - 1) / CHUNK_SLOTS + 1;
    // sum of ceil(n_e / tile) over experts that have any
    layout->max_tiles =
        layout->tile_slots == 1 ? n_slot : MIN(n_slot, n_slot / layout->tile_slots + n_expert);
    layout->n_tile = 0;
    layout->tiles = 64;
    layout->slots = align64(layout->tiles + (size_t) 16 * layout->max_tiles);
    layout->counts = align64(layout->slots + (size_t) 4 * n_slot);
    layout->bytes = align64(layout->counts + (size_t) 4 * layout->n_chunk * n_expert);
    return TRUE;
}

size_t vlm_moe_plan_bytes(const vlm_device *dev, uint32_t n_tok, uint32_t k, uint32_t n_expert)
{
    vlm_moe_layout layout;

    (void) dev;  // the same for all of them so far
    return vlm_moe_find_layout(n_tok, k, n_expert, 0, &layout) ? layout.bytes : 0;
}

uint32_t vlm_moe_matrix_tile(const vlm_device *dev, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                             const vlm_dtype *dtypes, uint32_t n_dtype)
{
    const uint32_t mean = (uint32_t) ((uint64_t) n_tok * k / MAX(n_expert, 1));

    for (uint32_t i = 0; i < n_dtype; i++)
        if (!vlm_coopmat_takes(dev, dtypes[i], mean))
            return 0;
    return vlm_coopmat_tile(dev, mean);
}

gboolean vlm_op_moe_route(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                          uint32_t k, GError **error)
{
    VLM_REQUIRE(ids != 0 && gate != 0 && vlm_tensor_ok(logits), error);
    VLM_REQUIRE(logits->n_row <= MAX_TOK && logits->n_col <= MAX_EXPERT, error);
    VLM_REQUIRE(k >= 1 && k <= MAX_K && k <= logits->n_col, error);

    const struct vlm_args_moe_route args = {
        .ids = ids,
        .gate = gate,
        .logits = logits->addr,
        .stride = logits->row_stride,
        .n_expert = logits->n_col,
        .k = k,
    };
    const vlm_kernel_spec spec = { .local = { vlm_cmd_device(cmd)->subgroup_size } };
    return vlm_cmd_dispatch(cmd, VLM_K_moe_route, &spec, &args, sizeof args,
                            (uint32_t[3]){ logits->n_row, 1, 1 }, error);
}

gboolean vlm_op_moe_router(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                           const vlm_tensor *src, const vlm_weight *weight, uint32_t k,
                           GError **error)
{
    VLM_REQUIRE(ids != 0 && gate != 0 && vlm_tensor_ok(logits), error);
    VLM_REQUIRE(logits->n_row <= MAX_TOK && logits->n_col <= MAX_EXPERT, error);
    VLM_REQUIRE(k >= 1 && k <= MAX_K && k <= logits->n_col, error);
    return vlm_matmul_route(cmd, ids, gate, logits, src, weight, k, error);
}

gboolean vlm_moe_plan_single(const vlm_moe_plan *plan)
{
    vlm_moe_layout layout;

    return vlm_moe_find_layout(plan->n_tok, plan->k, plan->n_expert, plan->tile, &layout)
           && layout.tile_slots == 1;
}

gboolean vlm_op_moe_plan(vlm_cmd *cmd, const vlm_moe_plan *plan, GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;
    const vlm_kernel_spec spec = { .local = { lanes }, .own = { lanes }, .n_own = 1 };
    vlm_moe_layout layout;

    VLM_REQUIRE(plan->addr != 0 && plan->addr % 64 == 0 && plan->ids != 0, error);
    VLM_REQUIRE(vlm_moe_find_layout(plan->n_tok, plan->k, plan->n_expert, plan->tile, &layout),
                error);

    struct vlm_args_moe_plan args = {
        .ids = plan->ids,
        .n_tile = plan->addr + layout.n_tile,
        .tiles = plan->addr + layout.tiles,
        .slots = plan->addr + layout.slots,
        .counts = plan->addr + layout.counts,
        .n_slot = plan->n_tok * plan->k,
        .chunk_slots = layout.chunk_slots,
        .n_chunk = layout.n_chunk,
        .n_expert = plan->n_expert,
        .tile_slots = layout.tile_slots,
    };
    if (layout.tile_slots == 1)
        return TRUE;
    if (layout.n_chunk == 1) {
        args.steps = STEP_COUNT | STEP_SCAN | STEP_PERMUTE;
        return vlm_cmd_dispatch(cmd, VLM_K_moe_plan, &spec, &args, sizeof args,
                                (uint32_t[3]){ 1, 1, 1 }, error);
    }
    for (args.steps = STEP_COUNT; args.steps <= STEP_PERMUTE; args.steps *= 2) {
        const uint32_t n_group = args.steps == STEP_SCAN ? 1 : layout.n_chunk;

        if (args.steps != STEP_COUNT)
            vlm_cmd_barrier(cmd);
        if (!vlm_cmd_dispatch(cmd, VLM_K_moe_plan, &spec, &args, sizeof args,
                              (uint32_t[3]){ n_group, 1, 1 }, error))
            return FALSE;
    }
    return TRUE;
}

// The kernel for a plan's tiles, its specialization and the panels of its tiles.
static vlm_kernel_id choose_kernel(const vlm_device *dev, const vlm_weight *weight,
                                   uint32_t n_panel, const vlm_moe_plan *plan,
                                   const vlm_moe_layout *layout, gboolean pair,
                                   vlm_kernel_spec *spec, uint32_t *tile_panel)
{
    static const vlm_kernel_id kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(moe_matmul);
    static const vlm_kernel_id split_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(moe_matmul_split);
    static const vlm_kernel_id dot_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_CODED_TYPE(moe_matmul_dot);
    const vlm_tile_use use = { .pair = pair };

    if (plan->tile > 0) {
        *spec = vlm_coopmat_spec(dev, plan->tile, FALSE);
        *tile_panel = vlm_coopmat_panels(dev, plan->tile);
        return vlm_coopmat_kernel(dev, weight->dtype, TRUE);
    }
    if (vlm_dot_takes(dev, weight->dtype)) {
        *spec = vlm_dot_spec(dev, n_panel, vlm_weight_units(weight->dtype, weight->n_col),
                             layout->tile_slots, layout->max_tiles, use);
        *tile_panel = vlm_dot_panels(spec);
        return dot_kernels[weight->dtype];
    }
    if (vlm_split_takes(dev, layout->tile_slots)) {
        *spec = vlm_split_spec(dev, n_panel, vlm_weight_units(weight->dtype, weight->n_col),
                               layout->tile_slots, layout->max_tiles, use);
        *tile_panel = 1;
        return split_kernels[weight->dtype];
    }
    const vlm_tile tile = vlm_tile_of(dev, layout->tile_slots,
                                      (pair ? 2 : 1) * (uint64_t) n_panel * layout->max_tiles);
    *spec = vlm_tile_spec(dev, tile, use);
    *tile_panel = pair ? tile.n_panel / 2 : tile.n_panel;
    return kernels[weight->dtype];
}

// `pair`: address of the other matrices that make a result with rows of `weight`, or NULL.
static gboolean record(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                       const vlm_weight *weight, const uint64_t *pair, const vlm_moe_plan *plan,
                       gboolean src_per_token, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const uint32_t n_panel = (dst->n_col - 1) / dev->subgroup_size + 1;
    vlm_moe_layout layout;
    vlm_kernel_spec spec;
    uint32_t tile_panel;

    VLM_REQUIRE(plan->addr != 0 && plan->addr % 64 == 0 && plan->ids != 0, error);
    VLM_REQUIRE(vlm_moe_find_layout(plan->n_tok, plan->k, plan->n_expert, plan->tile, &layout),
                error);
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(dst->n_row == plan->n_tok * plan->k, error);
    VLM_REQUIRE(src->n_row == (src_per_token ? plan->n_tok : dst->n_row), error);
    VLM_REQUIRE(src->row_stride % 4 == 0 && src->addr % 16 == 0, error);
    VLM_REQUIRE(vlm_weight_supported(weight->dtype) && vlm_weight_ok(dev, weight), error);
    VLM_REQUIRE(weight->n_mat == plan->n_expert && weight->n_col == src->n_col, error);
    VLM_REQUIRE(plan->tile == 0 || weight->dtype != VLM_DTYPE_F32, error);

    const vlm_kernel_id id =
        choose_kernel(dev, weight, n_panel, plan, &layout, pair != NULL, &spec, &tile_panel);
    const struct vlm_args_moe_matmul args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight->addr,
        .mat_bytes = weight->table ? 0 : weight->mat_bytes,
        .table = weight->table ? weight->table : weight->addr,
        .pair = pair ? *pair : 0,
        .ids = plan->ids,
        .n_tile = plan->addr + layout.n_tile,
        .tiles = plan->addr + layout.tiles,
        .slots = plan->addr + layout.slots,
        .panel_bytes = (uint32_t) vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col),
        .n_row = dst->n_col,
        .n_col = weight->n_col,
        .n_block = (weight->n_col - 1) / 32 + 1,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .per_src = src_per_token ? plan->k : 1,
        .n_expert = layout.tile_slots == 1 ? plan->n_expert : 0,
    };
    vlm_cmd_add_read(cmd,
                     (pair ? 2 : 1) * (uint64_t) layout.max_tiles * n_panel * args.panel_bytes);
    vlm_cmd_add_cost(cmd, (pair ? 4.0 : 2.0) * dst->n_row * dst->n_col * weight->n_col);
    return vlm_cmd_dispatch(cmd, id, &spec, &args, sizeof args,
                            (uint32_t[3]){ layout.max_tiles, (n_panel - 1) / tile_panel + 1, 1 },
                            error);
}

gboolean vlm_op_moe_matmul(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           const vlm_weight *weight, const vlm_moe_plan *plan,
                           gboolean src_per_token, GError **error)
{
    VLM_REQUIRE(weight->n_row == dst->n_col, error);
    return record(cmd, dst, src, weight, NULL, plan, src_per_token, error);
}

gboolean vlm_op_moe_swiglu(vlm_cmd *cmd, const vlm_tensor *both, const vlm_tensor *src,
                           const vlm_weight *gate, const vlm_weight *up, const vlm_moe_plan *plan,
                           GError **error)
{
    const uint32_t n_row = up ? gate->n_row : gate->n_row / 2;
    const vlm_tensor first = { both->addr, both->n_row, n_row, both->row_stride };
    const vlm_tensor second = { both->addr + 4 * (uint64_t) n_row, both->n_row, n_row,
                                both->row_stride };
    gboolean has_pair = FALSE;
    uint64_t pair = 0;

    VLM_REQUIRE(vlm_tensor_ok(both) && both->n_col == 2 * n_row, error);
    VLM_REQUIRE(up ? up->n_row == n_row : gate->n_row == 2 * n_row, error);
    // one distance from expert to expert, or one table of them, is that of both
    if (up && up->dtype == gate->dtype && up->mat_bytes == gate->mat_bytes
        && up->table == gate->table) {
        has_pair = TRUE;
        pair = up->addr;
    } else if (!up && n_row % vlm_weight_row_group(vlm_cmd_device(cmd)) == 0) {
        has_pair = TRUE;
        pair = gate->addr + vlm_weight_row_offset(vlm_cmd_device(cmd), gate, n_row);
    }
    if (has_pair && plan->tile == 0)
        return record(cmd, &first, src, gate, &pair, plan, TRUE, error);
    if (up ? !vlm_op_moe_matmul(cmd, &first, src, gate, plan, TRUE, error)
                 || !vlm_op_moe_matmul(cmd, &second, src, up, plan, TRUE, error)
           : !vlm_op_moe_matmul(cmd, both, src, gate, plan, TRUE, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_swiglu(cmd, &first, &first, &second, error);
}

// Every slot is a tile: one workgroup has all choices of a token for its rows.
static gboolean mix_single(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           const vlm_weight *weight, uint64_t gate, const vlm_moe_plan *plan,
                           const vlm_matmul_norm *norm, GError **error)
{
    static const vlm_kernel_id kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(moe_mix);
    static const vlm_kernel_id split_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(moe_mix_split);
    static const vlm_kernel_id dot_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_CODED_TYPE(moe_mix_dot);
    const vlm_device *dev = vlm_cmd_device(cmd);
    const uint32_t n_panel = (weight->n_row - 1) / dev->subgroup_size + 1;
    const vlm_tile tile = vlm_tile_of(dev, 1, (uint64_t) n_panel * plan->n_tok);
    const vlm_tile_use use = { .then = norm ? VLM_THEN_NORM : VLM_THEN_NOTHING };
    const gboolean dot = vlm_dot_takes(dev, weight->dtype), split = vlm_split_takes(dev, 1);
    const uint32_t n_item = plan->k * vlm_weight_units(weight->dtype, weight->n_col);
    const vlm_kernel_spec spec = dot     ? vlm_dot_mix_spec(dev, n_panel, n_item, plan->n_tok, use)
                                 : split ? vlm_split_spec(dev, n_panel, n_item, 1, plan->n_tok, use)
                                         : vlm_tile_spec(dev, tile, use);
    struct vlm_args_moe_mix args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight->addr,
        .mat_bytes = weight->table ? 0 : weight->mat_bytes,
        .table = weight->table ? weight->table : weight->addr,
        .ids = plan->ids,
        .gate = gate,
        .panel_bytes = (uint32_t) vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col),
        .n_row = weight->n_row,
        .n_col = weight->n_col,
        .n_block = (weight->n_col - 1) / 32 + 1,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .k = plan->k,
        .n_expert = plan->n_expert,
    };
    const uint32_t tile_panel = dot || split ? 1 : tile.n_panel;
    const vlm_kernel_id *const kernel = dot ? dot_kernels : split ? split_kernels : kernels;

    if (norm && !vlm_then_norm(cmd, dst, norm, plan->n_tok, &args.then, error))
        return FALSE;
    vlm_cmd_add_read(cmd, (uint64_t) src->n_row * n_panel * args.panel_bytes);
    vlm_cmd_add_cost(cmd, 2.0 * src->n_row * weight->n_row * weight->n_col);
    return vlm_cmd_dispatch(cmd, kernel[weight->dtype], &spec, &args, sizeof args,
                            (uint32_t[3]){ plan->n_tok, (n_panel - 1) / tile_panel + 1, 1 }, error);
}

gboolean vlm_op_moe_mix(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                        const vlm_weight *weight, uint64_t gate, const vlm_moe_plan *plan,
                        const vlm_tensor *work, const vlm_matmul_norm *norm, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src) && gate != 0 && plan->ids != 0, error);
    VLM_REQUIRE(plan->k >= 1 && plan->k <= MAX_K && dst->n_row == plan->n_tok, error);
    VLM_REQUIRE(src->n_row == plan->n_tok * plan->k && src->n_col == weight->n_col, error);
    VLM_REQUIRE(src->row_stride % 4 == 0 && src->addr % 16 == 0, error);
    VLM_REQUIRE(vlm_weight_supported(weight->dtype) && vlm_weight_ok(dev, weight), error);
    VLM_REQUIRE(weight->n_mat == plan->n_expert && weight->n_row == dst->n_col, error);
    VLM_REQUIRE(!norm
                    || (vlm_tensor_ok(norm->dst) && norm->dst->n_row == dst->n_row
                        && norm->dst->n_col == dst->n_col && norm->weight != 0 && norm->eps > 0),
                error);

    const gboolean then = norm && vlm_then_norm_takes(dst, norm, plan->n_tok);
    if (vlm_moe_plan_single(plan)) {
        if (!mix_single(cmd, dst, src, weight, gate, plan, then ? norm : NULL, error))
            return FALSE;
        if (!norm || then)
            return TRUE;
    } else {
        if (!vlm_op_moe_matmul(cmd, work, src, weight, plan, FALSE, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
        if (!vlm_op_moe_combine(cmd, dst, work, gate, plan->k, error))
            return FALSE;
    }
    if (!norm)
        return TRUE;
    vlm_cmd_barrier(cmd);
    return vlm_op_rms_norm(cmd, norm->dst, dst, norm->weight, norm->eps, error);
}

gboolean vlm_op_moe_combine(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                            uint64_t gate, uint32_t k, GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;

    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src) && gate != 0, error);
    VLM_REQUIRE(k >= 1 && k <= MAX_K && dst->n_row <= MAX_TOK, error);
    VLM_REQUIRE(src->n_row == dst->n_row * k && src->n_col == dst->n_col, error);

    const struct vlm_args_moe_combine args = {
        .dst = dst->addr,
        .src = src->addr,
        .gate = gate,
        .n_col = dst->n_col,
        .k = k,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
    };
    const vlm_kernel_spec spec = { .local = { lanes } };
    return vlm_cmd_dispatch(cmd, VLM_K_moe_combine, &spec, &args, sizeof args,
                            (uint32_t[3]){ (dst->n_col - 1) / (4 * lanes) + 1, dst->n_row, 1 },
                            error);
}
