// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/matmul.h — weights on the device and products with them.
#ifndef VLM_OPS_MATMUL_H
#define VLM_OPS_MATMUL_H

#include "ops/quant.h"
#include "ops/tensor.h"

// A stack of weight matrices on the device, still quantised as in the file but repacked for the
// device's lanes (lossless). Owns nothing. One matrix: n_mat = 1; experts: n_mat = n_expert.
// Experts may lie anywhere: `table` then says where, and kernels look it up when they run.
typedef struct vlm_weight {
    vlm_dtype dtype;
    uint32_t n_mat;
    uint32_t n_row;      // outputs
    uint32_t n_col;      // inputs, the contiguous axis in the file
    uint64_t addr;       // device address, a multiple of 64
    uint64_t mat_bytes;  // of a matrix in the packed form; without `table` from one to the next
    uint64_t table;  // device address of u64 [n_mat]: bytes from `addr`, which may then be 0, to
                     // each matrix, a multiple of 64 in all; 0 = no table
} vlm_weight;

// TRUE for the types that products can read, those of vlm_dtype_runs(). ops/pack.c says how each is
// held.
gboolean vlm_weight_supported(vlm_dtype dtype);

// Bytes of one packed matrix on this device. 0 when it would overflow.
uint64_t vlm_weight_mat_bytes(const vlm_device *dev, vlm_dtype dtype, uint32_t n_row,
                              uint32_t n_col);

// Rows that must be packed together: ranges given to vlm_weight_pack() start at a multiple of it.
uint32_t vlm_weight_row_group(const vlm_device *dev);

// Where the packed form of the rows from `row` (a multiple of the row group) starts in a matrix.
uint64_t vlm_weight_row_offset(const vlm_device *dev, const vlm_weight *weight, uint32_t row);

// Packs `n_row` rows in the file's layout into `dst`, which takes
// vlm_weight_row_offset(row0 + n_row rounded up) - vlm_weight_row_offset(row0) bytes; rows past
// the end of the matrix become zeros. Host only. Thread-safety: safe.
void vlm_weight_pack(const vlm_device *dev, const vlm_weight *weight, const void *rows,
                     uint32_t n_row, void *dst);

typedef enum vlm_act {
    VLM_ACT_NONE,
    VLM_ACT_GELU_TANH,   // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    VLM_ACT_GELU_ERF,    // 0.5 x (1 + erf(x / sqrt(2)))
    VLM_ACT_SILU,        // x / (1 + exp(-x))
    VLM_ACT_SIGMOID,     // 1 / (1 + exp(-x))
    VLM_ACT_GELU_QUICK,  // x / (1 + exp(-1.702 x))
} vlm_act;

// RMSNorm of whole rows of a product, as vlm_op_rms_norm() makes it.
typedef struct vlm_matmul_norm {
    const vlm_tensor *dst;  // f32 [tok, row]; not the product's dst
    uint64_t weight;        // device address of f32 [row]
    float eps;              // > 0
} vlm_matmul_norm;

// What follows the product, in this order.
typedef struct vlm_matmul_post {
    uint64_t bias;  // device address of f32 [row], 0 = none
    vlm_act act;
    const vlm_tensor *residual;   // f32 [tok, row], added last; may be dst itself; NULL = none
    const vlm_matmul_norm *norm;  // of the rows that dst has in the end; NULL = none
} vlm_matmul_post;

// Linear layer.
//
//   dst[t, r] = act(sum over c of weight[r, c] * src[t, c] + bias[r]) + residual[t, r]
//
//   dst     out  f32 [tok, row]
//   src     in   f32 [tok, col]   row_stride a multiple of 4, addr of 16
//   weight  in   [row, col], n_mat = 1
//   post    in   NULL = nothing
//
// f32 activations and accumulation, whatever the weight's type: sums over the columns that share a
// scale (16 or 32) without it, then over such blocks in order. Matrix units and integer dot
// products round: see ops/matmul_coopmat.h and ops/matmul_dot.h.
// Must: 1 <= tok <= 65535, n_row <= 2^19, n_col <= 2^24, n_col a multiple of the type's block. Up
// to 31 elements after the last row of src are read (see VLM_GUARD_BYTES) and not used.
// Cost: one dispatch, tiles of 1, 2, 4 or 8 tokens; a tile past the end works in vain. A norm is
// made by the workgroup that finishes a tile of tokens last (shaders/last_group.glsl); on matrix
// units, and where rows or addresses are no multiples of four elements, by a second dispatch.
// Shader: shaders/matmul.comp, one module per type    Reference: ref_matmul
gboolean vlm_op_matmul(vlm_cmd *cmd, const vlm_tensor *dst, const vlm_tensor *src,
                       const vlm_weight *weight, const vlm_matmul_post *post, GError **error);

#define VLM_MATMUL_MAX_SET 4u

// One of several products of the same rows.
typedef struct vlm_matmul_part {
    const vlm_tensor *dst;
    const vlm_weight *weight;
    vlm_matmul_post post;  // no norm
} vlm_matmul_part;

// Several linear layers of the same rows: q, k and v, for instance.
//
//   src  in  f32 [tok, col]   row_stride a multiple of 4, addr of 16
//
// Must: 1 <= n_part <= VLM_MATMUL_MAX_SET, else as vlm_op_matmul().
// Cost: one dispatch for each type of weights among the parts, on matrix units for each part.
gboolean vlm_op_matmul_set(vlm_cmd *cmd, const vlm_tensor *src, const vlm_matmul_part *parts,
                           uint32_t n_part, GError **error);

// The gated first half of a feed-forward network.
//
//   both[t, r] = silu(g) * u,   g = sum over c of gate[r, c] * src[t, c], u the same with `up`
//
//   both  out  f32 [tok, 2 * row]   the result is in the first `row` columns, the others are work
//                                   memory
//   src   in   f32 [tok, col]       row_stride a multiple of 4, addr of 16
//   gate  in   [row, col]
//   up    in   [row, col]
//
// Cost: one dispatch where both weights have one type and tokens are few; else three.
gboolean vlm_op_matmul_swiglu(vlm_cmd *cmd, const vlm_tensor *both, const vlm_tensor *src,
                              const vlm_weight *gate, const vlm_weight *up, GError **error);

// Rows of a weight, dequantised: token embeddings.
//
//   dst[t, c] = weight[ids[t], c]
//
//   dst     out  f32 [tok, col]
//   ids     in   u32 [tok]   device address; an id >= n_row reads row 0; UINT32_MAX leaves the
//                            row of dst as it is
//
// To the bit what the file format defines. Must: 1 <= tok <= 65535, else as vlm_op_matmul().
// Cost: one dispatch, one lane per block of 32 columns.
// Shader: shaders/embed.comp, one module per type    Reference: ref_dequant
gboolean vlm_op_embed(vlm_cmd *cmd, const vlm_tensor *dst, uint64_t ids, const vlm_weight *weight,
                      GError **error);

#endif
