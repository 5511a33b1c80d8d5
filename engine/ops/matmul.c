// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul.c — products with packed weights, rows of weights.
#define G_LOG_DOMAIN "vlm-ops"
#include <string.h>

#include "args.h"
#include "base/error.h"
#include "ops/matmul_coopmat.h"
#include "ops/matmul_dot.h"
#include "ops/matmul_split.h"
#include "ops/ops.h"

gboolean vlm_weight_ok(const vlm_device *dev, const vlm_weight *weight)
{
    return weight->addr % 64 == 0 && weight->table % 8 == 0 && weight->n_mat >= 1
           && (weight->addr != 0 || weight->table != 0)
           && vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col) - 1 < UINT32_MAX
           && weight->mat_bytes
                  >= vlm_weight_mat_bytes(dev, weight->dtype, weight->n_row, weight->n_col)
           && weight->n_row >= 1 && weight->n_row <= VLM_WEIGHT_MAX_ROWS
           && weight->n_col <= VLM_WEIGHT_MAX_COLS;
}

static const vlm_kernel_id matmul_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(matmul);
static const vlm_kernel_id split_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(matmul_split);
static const vlm_kernel_id dot_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_CODED_TYPE(matmul_dot);
static const vlm_kernel_id embed_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(embed);

uint32_t vlm_tile_tokens(uint32_t n_tok, uint32_t most)
{
    uint32_t n = 1;

    while (n < n_tok && n < most)
        n *= 2;
    return n;
}

// The defaults are as fast as any on lavapipe; twice as large a tile of many tokens gives 20 % more
// with Q8_0 and less with the K types, and takes the compiler twice as long.
vlm_tile vlm_tile_of(const vlm_device *dev, uint32_t n_tok, uint64_t n_panel)
{
    const uint32_t usual = 4, groups_per_processor = 4;

    if (n_tok == 1) {
        // Twice the panels load activations half as often and keep twice as many lines of memory
        // coming: on lavapipe 10 % faster out of a cache, 15 % out of memory. With more tokens it
        // gains nothing.
        const uint32_t most = dev->tuning[VLM_TUNE_TILE_PANELS_ONE];
        const uint64_t enough = (uint64_t) most * groups_per_processor * g_get_num_processors();
        return (vlm_tile){ 1, n_panel >= enough ? most : MIN(most, usual) };
    }
    return (vlm_tile){ n_tok, n_tok <= 4 ? usual : dev->tuning[VLM_TUNE_TILE_PANELS] };
}

vlm_tile vlm_tile_choose(const vlm_device *dev, uint32_t n_tok, uint64_t n_panel)
{
    return vlm_tile_of(dev, vlm_tile_tokens(n_tok, dev->tuning[VLM_TUNE_TILE_TOKENS]), n_panel);
}

vlm_kernel_spec vlm_tile_spec(const vlm_device *dev, vlm_tile tile, vlm_tile_use use)
{
    // Lanes load two activations each and pass them around where such a run of 2 * lanes fits a
    // block: few loads, which is what CPU drivers are slow at. With more lanes (GPUs) all of them
    // load the same four.
    const gboolean shuffle = dev->subgroup_size <= 16;

    return (vlm_kernel_spec){
        .local = { dev->subgroup_size },
        .own = { dev->subgroup_size, tile.n_tok, tile.n_panel, shuffle, use.act, use.set, use.pair,
                 use.then },
        .n_own = 8,
    };
}

// A kernel with its specialization, and the tokens and panels of its workgroups.
typedef struct choice {
    vlm_kernel_id kernel;
    vlm_kernel_spec spec;
    uint32_t tile_tok, tile_panel;
} choice;

static uint32_t count_panels(const vlm_device *dev, const vlm_weight *weight)
{
    return (weight->n_row - 1) / dev->subgroup_size + 1;
}

static choice choose_coopmat(const vlm_device *dev, const vlm_weight *weight, uint32_t n_tok,
                             gboolean has_act)
{
    const uint32_t tile = vlm_coopmat_tile(dev, n_tok);

    return (choice){ vlm_coopmat_kernel(dev, weight->dtype, FALSE),
                     vlm_coopmat_spec(dev, tile, has_act), tile, vlm_coopmat_panels(dev, tile) };
}

// Without matrix units, which do nothing of what `use` has, but for an activation function.
static choice choose_plain(const vlm_device *dev, const vlm_weight *weight, uint32_t n_panel,
                           uint32_t n_tok, vlm_tile_use use)
{
    const uint32_t n_item = vlm_weight_units(weight->dtype, weight->n_col);

    if (vlm_dot_takes(dev, weight->dtype)) {
        const uint32_t tile_tok = vlm_dot_tile(dev, n_panel, n_tok);
        const vlm_kernel_spec spec =
            vlm_dot_spec(dev, n_panel, n_item, tile_tok, (n_tok - 1) / tile_tok + 1, use);
        return (choice){ dot_kernels[weight->dtype], spec, tile_tok, vlm_dot_panels(&spec) };
    }
    if (vlm_split_takes(dev, n_tok)) {
        const uint32_t tile_tok = vlm_tile_tokens(n_tok, VLM_SPLIT_MAX_TOKENS);
        const uint32_t n_tile = (n_tok - 1) / tile_tok + 1;
        return (choice){ split_kernels[weight->dtype],
                         vlm_split_spec(dev, n_panel, n_item, tile_tok, n_tile, use), tile_tok, 1 };
    }
    const vlm_tile tile = vlm_tile_choose(dev, n_tok, (use.pair ? 2 : 1) * (uint64_t) n_panel);
    return (choice){ matmul_kernels[weight->dtype], vlm_tile_spec(dev, tile, use), tile.n_tok,
                     use.pair ? tile.n_panel / 2 : tile.n_panel };
}

static struct vlm_args_matmul args_of(const vlm_device *dev, const vlm_tensor *src,
                                      const vlm_matmul_part *part, uint32_t tile_panel)
{
    const vlm_tensor *residual = part->post.residual;
    const vlm_weight *weight = part->weight;

    return (struct vlm_args_matmul){
        .dst = part->dst->addr,
        .src = src->addr,
        .weight = weight->addr,
        .bias = part->post.bias,
        .residual = residual ? residual->addr : 0,
        .panel_bytes = (uint32_t) vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col),
        .n_tok = src->n_row,
        .n_row = weight->n_row,
        .n_col = weight->n_col,
        .n_block = (weight->n_col - 1) / 32 + 1,
        .dst_stride = part->dst->row_stride,
        .src_stride = src->row_stride,
        .residual_stride = residual ? residual->row_stride : 0,
        .act = part->post.act,
        .n_row_tile = (count_panels(dev, weight) - 1) / tile_panel + 1,
    };
}

// Parts of one type of weights. `pair` and `then`: what the kernel's arguments of these names say.
static gboolean record(vlm_cmd *cmd, const choice *c, const vlm_tensor *src,
                       const vlm_matmul_part *parts, uint32_t n_part, uint64_t pair, uint64_t then,
                       GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    uint32_t n_row_tile = 0;
    uint64_t next = 0;

    for (uint32_t i = n_part; i-- > 0;) {
        const vlm_weight *weight = parts[i].weight;
        struct vlm_args_matmul args = args_of(dev, src, &parts[i], c->tile_panel);

        args.next = next;
        args.pair = pair;
        args.then = then;
        n_row_tile += args.n_row_tile;
        vlm_cmd_add_read(cmd, (pair ? 2 : 1) * ((src->n_row - 1) / c->tile_tok + 1)
                                  * (uint64_t) args.panel_bytes * count_panels(dev, weight));
        vlm_cmd_add_cost(cmd, (pair ? 4.0 : 2.0) * src->n_row * weight->n_row * weight->n_col);
        if (i > 0) {
            void *place;
            if (!vlm_cmd_table_alloc(cmd, sizeof args, &place, &next, error))
                return FALSE;
            if (args.next == 0)
                args.next = next;
            memcpy(place, &args, sizeof args);
            continue;
        }
        const uint32_t groups[3] = { (src->n_row - 1) / c->tile_tok + 1, n_row_tile, 1 };
        if (!vlm_cmd_dispatch(cmd, c->kernel, &c->spec, &args, sizeof args, groups, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vlm_matmul_record(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           const vlm_weight *weight, const vlm_matmul_post *post,
                           const vlm_kernel_spec *spec, GError **error)
{
    const choice c = { matmul_kernels[weight->dtype], *spec, spec->own[1], spec->own[2] };

    return record(cmd, &c, src, &(vlm_matmul_part){ dst, weight, *post }, 1, 0, 0, error);
}

static gboolean part_ok(const vlm_device *dev, const vlm_tensor *src, const vlm_matmul_part *part,
                        GError **error)
{
    const vlm_tensor *residual = part->post.residual, *dst = part->dst;
    const vlm_matmul_norm *norm = part->post.norm;
    const vlm_weight *weight = part->weight;

    VLM_REQUIRE(src->n_row >= 1 && src->n_row <= 65535 && dst->n_row == src->n_row, error);
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(src->row_stride % 4 == 0 && src->addr % 16 == 0, error);
    VLM_REQUIRE(vlm_weight_supported(weight->dtype) && vlm_weight_ok(dev, weight), error);
    VLM_REQUIRE(weight->n_mat == 1 && weight->table == 0, error);
    VLM_REQUIRE(weight->n_col == src->n_col && weight->n_row == dst->n_col, error);
    VLM_REQUIRE(!residual
                    || (vlm_tensor_ok(residual) && residual->n_row == dst->n_row
                        && residual->n_col == dst->n_col),
                error);
    VLM_REQUIRE(!norm
                    || (vlm_tensor_ok(norm->dst) && norm->dst->n_row == dst->n_row
                        && norm->dst->n_col == dst->n_col && norm->weight != 0 && norm->eps > 0
                        && norm->dst->addr != dst->addr),
                error);
    return TRUE;
}

gboolean vlm_op_matmul(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                       const vlm_weight *weight, const vlm_matmul_post *post, GError **error)
{
    const vlm_matmul_part part = { dst, weight, post ? *post : (vlm_matmul_post){ 0 } };
    const vlm_matmul_norm *norm = part.post.norm;
    const vlm_device *dev = vlm_cmd_device(cmd);
    const gboolean has_act = part.post.act != VLM_ACT_NONE;
    const uint32_t n_tok = src->n_row;

    if (!part_ok(dev, src, &part, error))
        return FALSE;
    const gboolean matrix = vlm_coopmat_takes(dev, weight->dtype, n_tok);
    const uint32_t n_tile = (n_tok - 1) / vlm_tile_tokens(n_tok, VLM_TILE_TOKENS) + 1;  // at most
    const gboolean fused = norm && !matrix && vlm_then_norm_takes(dst, norm, n_tile);
    const vlm_tile_use use = { .act = has_act, .then = fused ? VLM_THEN_NORM : VLM_THEN_NOTHING };
    const choice c = matrix ? choose_coopmat(dev, weight, n_tok, has_act)
                            : choose_plain(dev, weight, count_panels(dev, weight), n_tok, use);
    uint64_t then = 0;

    if ((fused && !vlm_then_norm(cmd, dst, norm, n_tile, &then, error))
        || !record(cmd, &c, src, &part, 1, 0, then, error))
        return FALSE;
    if (!norm || fused)
        return TRUE;
    vlm_cmd_barrier(cmd);
    return vlm_op_rms_norm(cmd, norm->dst, dst, norm->weight, norm->eps, error);
}

gboolean vlm_matmul_route(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                          const vlm_tensor *src, const vlm_weight *weight, uint32_t k,
                          GError **error)
{
    const vlm_matmul_part part = { logits, weight, { 0 } };
    const vlm_device *dev = vlm_cmd_device(cmd);
    uint64_t then = 0;

    if (!part_ok(dev, src, &part, error))
        return FALSE;
    if (vlm_coopmat_takes(dev, weight->dtype, src->n_row)) {
        if (!vlm_op_matmul(cmd, logits, src, weight, NULL, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
        return vlm_op_moe_route(cmd, ids, gate, logits, k, error);
    }
    const choice c = choose_plain(dev, weight, count_panels(dev, weight), src->n_row,
                                  (vlm_tile_use){ .then = VLM_THEN_ROUTE });
    return vlm_then_route(cmd, ids, gate, logits, k, (src->n_row - 1) / c.tile_tok + 1, &then,
                          error)
           && record(cmd, &c, src, &part, 1, 0, then, error);
}

gboolean vlm_op_matmul_set(vlm_cmd *cmd, const vlm_tensor *src, const vlm_matmul_part *parts,
                           uint32_t n_part, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    gboolean done[VLM_MATMUL_MAX_SET] = { FALSE };

    VLM_REQUIRE(n_part >= 1 && n_part <= VLM_MATMUL_MAX_SET, error);
    for (uint32_t i = 0; i < n_part; i++) {
        VLM_REQUIRE(!parts[i].post.norm, error);
        if (!part_ok(dev, src, &parts[i], error))
            return FALSE;
    }
    for (uint32_t i = 0; i < n_part; i++) {
        const vlm_weight *weight = parts[i].weight;
        vlm_matmul_part same[VLM_MATMUL_MAX_SET];
        uint32_t n = 0, n_panel = 0;
        vlm_tile_use use = { 0 };

        if (done[i])
            continue;
        if (vlm_coopmat_takes(dev, weight->dtype, src->n_row)) {
            if (!vlm_op_matmul(cmd, parts[i].dst, src, weight, &parts[i].post, error))
                return FALSE;
            continue;
        }
        for (uint32_t j = i; j < n_part; j++) {
            if (parts[j].weight->dtype != weight->dtype)
                continue;
            done[j] = TRUE;
            same[n++] = parts[j];
            n_panel += count_panels(dev, parts[j].weight);
            use.act |= parts[j].post.act != VLM_ACT_NONE;
        }
        use.set = n > 1;
        const choice c = choose_plain(dev, weight, n_panel, src->n_row, use);
        if (!record(cmd, &c, src, same, n, 0, 0, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vlm_op_matmul_swiglu(vlm_cmd *cmd, const vlm_tensor *both, const vlm_tensor *src,
                              const vlm_weight *gate, const vlm_weight *up, GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const vlm_tensor first = { both->addr, both->n_row, gate->n_row, both->row_stride };
    const vlm_tensor second = { both->addr + 4 * (uint64_t) gate->n_row, both->n_row, up->n_row,
                                both->row_stride };
    const vlm_matmul_part part = { &first, gate, { 0 } }, other = { &second, up, { 0 } };

    VLM_REQUIRE(vlm_tensor_ok(both) && both->n_col == 2 * gate->n_row, error);
    VLM_REQUIRE(gate->n_row == up->n_row, error);
    if (!part_ok(dev, src, &part, error) || !part_ok(dev, src, &other, error))
        return FALSE;
    if (gate->dtype == up->dtype && !vlm_coopmat_takes(dev, gate->dtype, src->n_row)) {
        const choice c = choose_plain(dev, gate, count_panels(dev, gate), src->n_row,
                                      (vlm_tile_use){ .pair = TRUE });
        return record(cmd, &c, src, &part, 1, up->addr, 0, error);
    }
    if (!vlm_op_matmul_set(cmd, src, (vlm_matmul_part[]){ part, other }, 2, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_swiglu(cmd, &first, &first, &second, error);
}

gboolean vlm_op_embed(vlm_cmd *cmd, const vlm_tensor *dst, uint64_t ids, const vlm_weight *weight,
                      GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);

    VLM_REQUIRE(vlm_tensor_ok(dst) && dst->n_row <= 65535 && ids != 0, error);
    VLM_REQUIRE(vlm_weight_supported(weight->dtype) && vlm_weight_ok(dev, weight), error);
    VLM_REQUIRE(weight->n_mat == 1 && weight->table == 0 && weight->n_col == dst->n_col, error);

    const uint32_t n_block = (weight->n_col - 1) / 32 + 1;
    const vlm_kernel_spec spec = { .local = { dev->subgroup_size },
                                   .own = { dev->subgroup_size },
                                   .n_own = 1 };
    const struct vlm_args_embed args = {
        .dst = dst->addr,
        .ids = ids,
        .weight = weight->addr,
        .panel_bytes = (uint32_t) vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col),
        .n_row = weight->n_row,
        .n_col = weight->n_col,
        .n_block = n_block,
        .dst_stride = dst->row_stride,
    };
    return vlm_cmd_dispatch(cmd, embed_kernels[weight->dtype], &spec, &args, sizeof args,
                            (uint32_t[3]){ (n_block - 1) / dev->subgroup_size + 1, dst->n_row, 1 },
                            error);
}
