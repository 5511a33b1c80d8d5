// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/weight_kernels.h — what the kernels over packed weights have in common. For ops/ only.
#ifndef VLM_OPS_WEIGHT_KERNELS_H
#define VLM_OPS_WEIGHT_KERNELS_H

#include "ops/last_group.h"

// Workgroup counts (rows / 8 / panels of a tile) and 32-bit indices hold up to these.
#define VLM_WEIGHT_MAX_ROWS (1u << 19)
#define VLM_WEIGHT_MAX_COLS (1u << 24)

// Bytes of the subgroup_size rows that are interleaved; 0 for a type or width that can't be.
uint64_t vlm_weight_panel_bytes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_col);

// Units of a row: heads with their blocks (see ops/pack.c). 0 for a type that can't be read.
uint32_t vlm_weight_units(vlm_dtype dtype, uint32_t n_col);

// TRUE when kernels can read it: address, sizes, limits.
gboolean vlm_weight_ok(const vlm_device *dev, const vlm_weight *weight);

// Piece of a product that one workgroup makes: tokens times panels of rows.
typedef struct vlm_tile {
    uint32_t n_tok;
    uint32_t n_panel;
} vlm_tile;

// Tokens of a tile without a tuning, at most.
#define VLM_TILE_TOKENS 8u

// The least power of two that n_tok fit into, at most `most`, one itself.
uint32_t vlm_tile_tokens(uint32_t n_tok, uint32_t most);

// The tile of matmul.comp for products of n_tok tokens, as many of them as fit, and n_panel panels
// in a dispatch: more panels where each processor gets some workgroups all the same.
vlm_tile vlm_tile_choose(const vlm_device *dev, uint32_t n_tok, uint64_t n_panel);

// The same for tiles that have n_tok tokens, a power of two.
vlm_tile vlm_tile_of(const vlm_device *dev, uint32_t n_tok, uint64_t n_panel);

// What a product's kernel does besides multiplying: constants of matmul.comp.
typedef struct vlm_tile_use {
    gboolean act;   // an activation function follows
    gboolean set;   // several products follow one another
    gboolean pair;  // two matrices make one result
    vlm_then then;
} vlm_tile_use;

// Specialization of the products' kernels: lanes, tile, whether lanes share activations by
// shuffles, use.
enum { VLM_TILE_SHUFFLE = 3 };  // index in own[]
vlm_kernel_spec vlm_tile_spec(const vlm_device *dev, vlm_tile tile, vlm_tile_use use);

// vlm_op_matmul() by matmul.comp, without its checks and with another specialization. For it and
// its check.
gboolean vlm_matmul_record(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                           const vlm_weight *weight, const vlm_matmul_post *post,
                           const vlm_kernel_spec *spec, GError **error);

// vlm_op_moe_router(), which checks ids, gate and k.
gboolean vlm_matmul_route(vlm_cmd *cmd, uint64_t ids, uint64_t gate, const vlm_tensor *logits,
                          const vlm_tensor *src, const vlm_weight *weight, uint32_t k,
                          GError **error);

#define VLM_KERNELS_OF_CODES(op)                                                                   \
    [VLM_DTYPE_Q8_0] = VLM_K_##op##_q8_0, [VLM_DTYPE_Q4_0] = VLM_K_##op##_q4_0,                    \
    [VLM_DTYPE_Q4_1] = VLM_K_##op##_q4_1, [VLM_DTYPE_Q5_0] = VLM_K_##op##_q5_0,                    \
    [VLM_DTYPE_Q5_1] = VLM_K_##op##_q5_1, [VLM_DTYPE_Q2_K] = VLM_K_##op##_q2_k,                    \
    [VLM_DTYPE_Q3_K] = VLM_K_##op##_q3_k, [VLM_DTYPE_Q4_K] = VLM_K_##op##_q4_k,                    \
    [VLM_DTYPE_Q5_K] = VLM_K_##op##_q5_k, [VLM_DTYPE_Q6_K] = VLM_K_##op##_q6_k,                    \
    [VLM_DTYPE_IQ4_NL] = VLM_K_##op##_iq4_nl, [VLM_DTYPE_IQ4_XS] = VLM_K_##op##_iq4_xs,            \
    [VLM_DTYPE_MXFP4] = VLM_K_##op##_mxfp4

#define VLM_KERNELS_OF_HALVES(op)                                                                  \
    [VLM_DTYPE_F16] = VLM_K_##op##_f16, [VLM_DTYPE_BF16] = VLM_K_##op##_bf16

// Initialiser of a table of kernels by vlm_dtype.
#define VLM_KERNEL_BY_TYPE(op)                                                                     \
    {                                                                                              \
        [VLM_DTYPE_F32] = VLM_K_##op##_f32, VLM_KERNELS_OF_HALVES(op), VLM_KERNELS_OF_CODES(op)    \
    }

// The same of the kernels on matrix units, which F32 weights have none of.
#define VLM_KERNEL_BY_ROUNDED_TYPE(op)                                                             \
    {                                                                                              \
        VLM_KERNELS_OF_HALVES(op), VLM_KERNELS_OF_CODES(op)                                        \
    }

// The same of the kernels that round activations, which types that are numbers have none of.
#define VLM_KERNEL_BY_CODED_TYPE(op)                                                               \
    {                                                                                              \
        VLM_KERNELS_OF_CODES(op)                                                                   \
    }

#endif
