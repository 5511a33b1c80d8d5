// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul.c — products with packed weights, rows of weights.
#define G_LOG_DOMAIN "vlm-ops"
#include "args.h"
#include "base/error.h"
#include "ops/matmul_coopmat.h"
#include "ops/matmul_split.h"
#include "ops/ops.h"

gboolean vlm_weight_ok(const vlm_device *dev, const vlm_weight *weight)
{
    return weight->addr % 64 == 0 && weight->addr != 0 && weight->n_mat >= 1
           && vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col) - 1 < UINT32_MAX
           && weight->mat_bytes
                  >= vlm_weight_mat_bytes(dev, weight->dtype, weight->n_row, weight->n_col)
           && weight->n_row >= 1 && weight->n_row <= VLM_WEIGHT_MAX_ROWS
           && weight->n_col <= VLM_WEIGHT_MAX_COLS;
}

static const vlm_kernel_id matmul_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(matmul);
static const vlm_kernel_id coopmat_kernels[VLM_N_DTYPE] =
    VLM_KERNEL_BY_ROUNDED_TYPE(matmul_coopmat);
static const vlm_kernel_id split_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(matmul_split);
static const vlm_kernel_id embed_kernels[VLM_N_DTYPE] = VLM_KERNEL_BY_TYPE(embed);

vlm_tile vlm_tile_choose(uint32_t n_tok)
{
    // As fast as any on lavapipe; twice as large a tile gives 20 % more with Q8_0 and less with the
    // K types, and takes the compiler twice as long.
    if (n_tok == 1)
        return (vlm_tile){ 1, 4 };
    if (n_tok == 2)
        return (vlm_tile){ 2, 4 };
    if (n_tok <= 4)
        return (vlm_tile){ 4, 4 };
    return (vlm_tile){ 8, 2 };
}

vlm_kernel_spec vlm_tile_spec(const vlm_device *dev, vlm_tile tile, gboolean has_act)
{
    // Lanes load two activations each and pass them around where such a run of 2 * lanes fits a
    // block: few loads, which is what CPU drivers are slow at. With more lanes (GPUs) all of them
    // load the same four.
    const gboolean shuffle = dev->subgroup_size <= 16;

    return (vlm_kernel_spec){
        .local = { dev->subgroup_size },
        .own = { dev->subgroup_size, tile.n_tok, tile.n_panel, shuffle, has_act },
        .n_own = 5,
    };
}

// Tiles of tile_tok tokens times tile_panel panels of one of the kernels.
static gboolean record(vlm_cmd *cmd, vlm_kernel_id kernel, const vlm_kernel_spec *spec,
                       uint32_t tile_tok, uint32_t tile_panel, const vlm_tensor *dst,
                       const vlm_tensor *src, const vlm_weight *weight, const vlm_matmul_post *post,
                       GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);
    const vlm_tensor *residual = post->residual;
    const uint32_t n_tok = src->n_row;
    const uint32_t n_panel = (weight->n_row - 1) / dev->subgroup_size + 1;
    const struct vlm_args_matmul args = {
        .dst = dst->addr,
        .src = src->addr,
        .weight = weight->addr,
        .bias = post->bias,
        .residual = residual ? residual->addr : 0,
        .panel_bytes = (uint32_t) vlm_weight_panel_bytes(dev, weight->dtype, weight->n_col),
        .n_tok = n_tok,
        .n_row = weight->n_row,
        .n_col = weight->n_col,
        .n_block = (weight->n_col - 1) / 32 + 1,
        .dst_stride = dst->row_stride,
        .src_stride = src->row_stride,
        .residual_stride = residual ? residual->row_stride : 0,
        .act = post->act,
    };

    vlm_cmd_add_cost(cmd, 2.0 * n_tok * weight->n_row * weight->n_col);
    return vlm_cmd_dispatch(
        cmd, kernel, spec, &args, sizeof args,
        (uint32_t[3]){ (n_tok - 1) / tile_tok + 1, (n_panel - 1) / tile_panel + 1, 1 }, error);
}

gboolean vlm_matmul_record(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           const vlm_weight *weight, const vlm_matmul_post *post,
                           const vlm_kernel_spec *spec, GError **error)
{
    return record(cmd, matmul_kernels[weight->dtype], spec, spec->own[1], spec->own[2], dst, src,
                  weight, post, error);
}

gboolean vlm_op_matmul(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                       const vlm_weight *weight, const vlm_matmul_post *post, GError **error)
{
    static const vlm_matmul_post nothing = { 0 };
    const vlm_device *dev = vlm_cmd_device(cmd);
    const vlm_tensor *residual;

    if (!post)
        post = &nothing;
    residual = post->residual;
    VLM_REQUIRE(src->n_row >= 1 && src->n_row <= 65535 && dst->n_row == src->n_row, error);
    VLM_REQUIRE(vlm_tensor_ok(dst) && vlm_tensor_ok(src), error);
    VLM_REQUIRE(src->row_stride % 4 == 0 && src->addr % 16 == 0, error);
    VLM_REQUIRE(vlm_weight_supported(weight->dtype) && vlm_weight_ok(dev, weight), error);
    VLM_REQUIRE(weight->n_mat == 1, error);
    VLM_REQUIRE(weight->n_col == src->n_col && weight->n_row == dst->n_col, error);
    VLM_REQUIRE(!residual
                    || (vlm_tensor_ok(residual) && residual->n_row == dst->n_row
                        && residual->n_col == dst->n_col),
                error);

    if (vlm_coopmat_takes(dev, weight->dtype, src->n_row)) {
        const uint32_t tile = vlm_coopmat_tile(dev, src->n_row);
        const vlm_kernel_spec matrix = vlm_coopmat_spec(dev, tile, post->act != VLM_ACT_NONE);
        return record(cmd, coopmat_kernels[weight->dtype], &matrix, tile, vlm_coopmat_panels(dev),
                      dst, src, weight, post, error);
    }
    if (vlm_split_takes(dev, src->n_row)) {
        const uint32_t tile = vlm_tile_choose(src->n_row).n_tok;
        const vlm_kernel_spec split = vlm_split_spec(dev, weight, tile, (src->n_row - 1) / tile + 1,
                                                     post->act != VLM_ACT_NONE);
        return record(cmd, split_kernels[weight->dtype], &split, tile, 1, dst, src, weight, post,
                      error);
    }
    const vlm_kernel_spec spec =
        vlm_tile_spec(dev, vlm_tile_choose(src->n_row), post->act != VLM_ACT_NONE);
    return vlm_matmul_record(cmd, dst, src, weight, post, &spec, error);
}

gboolean vlm_op_embed(vlm_cmd *cmd, const vlm_tensor *dst, uint64_t ids, const vlm_weight *weight,
                      GError **error)
{
    const vlm_device *dev = vlm_cmd_device(cmd);

    VLM_REQUIRE(vlm_tensor_ok(dst) && dst->n_row <= 65535 && ids != 0, error);
    VLM_REQUIRE(vlm_weight_supported(weight->dtype) && vlm_weight_ok(dev, weight), error);
    VLM_REQUIRE(weight->n_mat == 1 && weight->n_col == dst->n_col, error);

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
