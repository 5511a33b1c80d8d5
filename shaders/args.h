// SPDX-License-Identifier: LGPL-2.1-or-later
// shaders/args.h — arguments of every kernel, read by C and by GLSL.
//
// The one contract between host and device. A kernel gets one push constant, the address of its
// argument struct in a mapped ring. Rules that make both compilers agree on the layout:
//   - device addresses first, then 4-byte scalars, an even number of them;
//   - no vectors, matrices, arrays, bool or nested structs.
// C checks them below each struct; the registry test compares the size with the struct found in
// the SPIR-V, so stale code can't slip through.
#ifndef VLM_SHADERS_ARGS_H
#define VLM_SHADERS_ARGS_H

#ifdef VULKAN                       // GLSL
#define vlm_addr uvec2              // turned into a buffer_reference by its constructor
#define vlm_u32 uint
#define vlm_i32 int
#define vlm_f32 float
#define VLM_ARGS_CHECK(name, n_addr, n_scalar)
#else                               // C
#include <stdint.h>
typedef uint64_t vlm_addr;
typedef uint32_t vlm_u32;
typedef int32_t vlm_i32;
typedef float vlm_f32;
#define VLM_ARGS_CHECK(name, n_addr, n_scalar)                                       \
    _Static_assert(sizeof(struct name) == 8 * (n_addr) + 4 * (n_scalar), "padding"); \
    _Static_assert((n_scalar) % 2 == 0, "odd number of scalars");
#endif

struct vlm_args_rms_norm {
    vlm_addr dst;         // f32 [row, col]
    vlm_addr src;         // f32 [row, col]
    vlm_addr weight;      // f32 [col]
    vlm_u32  n_col;       // elements per row
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  src_stride;  // elements between rows
    vlm_f32  eps;         // added to the mean square
};
VLM_ARGS_CHECK(vlm_args_rms_norm, 3, 4)

struct vlm_args_rms_norm_gated {
    vlm_addr dst;          // f32 [row, head * col]
    vlm_addr src;          // f32 [row, head * col]
    vlm_addr weight;       // f32 [col]
    vlm_addr gate;         // f32 [row, head * col]
    vlm_u32  n_col;        // elements per head
    vlm_u32  dst_stride;   // elements between rows
    vlm_u32  src_stride;   // elements between rows
    vlm_u32  gate_stride;  // elements between rows
    vlm_f32  eps;          // added to the mean square
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_rms_norm_gated, 4, 6)

struct vlm_args_layer_norm {
    vlm_addr dst;         // f32 [row, col]
    vlm_addr src;         // f32 [row, col]
    vlm_addr weight;      // f32 [col]
    vlm_addr bias;        // f32 [col]
    vlm_u32  n_col;       // elements per row
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  src_stride;  // elements between rows
    vlm_f32  eps;         // added to the variance
};
VLM_ARGS_CHECK(vlm_args_layer_norm, 4, 4)

struct vlm_args_rows_move {
    vlm_addr dst;         // f32 [row, col]
    vlm_addr src;         // f32 [row, col]
    vlm_addr index;       // u32 [workgroup y]
    vlm_u32  n_col;       // elements per row
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  src_stride;  // elements between rows
    vlm_u32  span;        // columns per workgroup, a multiple of the subgroup size
};
VLM_ARGS_CHECK(vlm_args_rows_move, 3, 4)

struct vlm_args_swiglu {
    vlm_addr dst;          // f32 [row, col]
    vlm_addr gate;         // f32 [row, col]
    vlm_addr up;           // f32 [row, col]
    vlm_u32  n_col;        // elements per row
    vlm_u32  dst_stride;   // elements between rows
    vlm_u32  gate_stride;  // elements between rows
    vlm_u32  up_stride;    // elements between rows
    vlm_u32  span;         // columns per workgroup, a multiple of the subgroup size
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_swiglu, 3, 6)

#define VLM_ROOFLINE_UNROLL 8  // loads of 16 bytes that a lane has in flight
#define VLM_ROOFLINE_CHAINS 16 // independent multiply-adds of a lane

struct vlm_args_roofline {
    vlm_addr dst;     // u32 or f32 [workgroup, lane]
    vlm_addr src;     // words to read, or f32 [2]
    vlm_u32  n_step;  // passes of the loop
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_roofline, 2, 2)

struct vlm_args_split_heads {
    vlm_addr a;           // f32 [row, head * head_dim]
    vlm_addr b;           // f32 [row, head * head_dim]
    vlm_addr src;         // f32 [row, head * 2 * head_dim]
    vlm_u32  head_dim;
    vlm_u32  a_stride;    // elements between rows
    vlm_u32  b_stride;    // elements between rows
    vlm_u32  src_stride;  // elements between rows
};
VLM_ARGS_CHECK(vlm_args_split_heads, 3, 4)

struct vlm_args_causal_conv {
    vlm_addr dst;         // f32 [tok, col]
    vlm_addr src;         // f32 [tok, col]
    vlm_addr weight;      // f32 [col, 4]
    vlm_addr seqs;        // vlm_state_rows [workgroup y]
    vlm_addr offset;      // a number: bytes from a sequence's state to the layer's, f32 [3, col]
    vlm_u32  n_col;
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  src_stride;  // elements between rows
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_causal_conv, 5, 4)

struct vlm_args_delta_rule {
    vlm_addr dst;          // f32 [tok, n_v_head * D]
    vlm_addr qkv;          // f32 [tok, (2 n_k_head + n_v_head) * D]
    vlm_addr alpha;        // f32 [tok, n_v_head]
    vlm_addr beta;         // f32 [tok, n_v_head]
    vlm_addr dt_bias;      // f32 [n_v_head]
    vlm_addr a;            // f32 [n_v_head]
    vlm_addr seqs;         // vlm_state_rows [workgroup z]
    vlm_addr offset;       // a number: bytes from a sequence's state to S, f32 [n_v_head, D, D]
    vlm_u32  n_k_head;
    vlm_u32  dst_stride;   // elements between rows
    vlm_u32  qkv_stride;   // elements between rows
    vlm_u32  alpha_stride; // elements between rows
    vlm_u32  beta_stride;  // elements between rows
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_delta_rule, 8, 6)

struct vlm_args_argmax {
    vlm_addr src;         // f32 [row, col]
    vlm_addr part;        // u32 [row, part, 2]: order key and index of each part's best
    vlm_addr ids;         // u32 [row]
    vlm_addr counters;    // u32 [row], all zero
    vlm_u32  n_col;       // elements per row
    vlm_u32  src_stride;  // elements between rows
    vlm_u32  n_part;      // parts of a row
    vlm_u32  span;        // columns per part, a multiple of the subgroup size
};
VLM_ARGS_CHECK(vlm_args_argmax, 4, 4)

struct vlm_args_position_embed {
    vlm_addr dst;         // f32 [patch, col]
    vlm_addr table;       // f32 [side * side, col]
    vlm_u32  n_col;       // elements per row
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  side;        // rows and columns of the table
    vlm_u32  h;           // patch rows of an image
    vlm_u32  w;           // patch columns of an image
    vlm_u32  merge;       // side of a block of patches
    vlm_u32  span;        // columns per workgroup, a multiple of the subgroup size
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_position_embed, 2, 8)

struct vlm_args_rope_append {
    vlm_addr q;           // f32 [tok, n_head * head_dim]
    vlm_addr k;           // f32 [tok, n_kv_head * head_dim]
    vlm_addr v;           // f32 [tok, n_kv_head * head_dim]
    vlm_addr q_norm;      // f32 [head_dim], unused when its flag is 0
    vlm_addr k_norm;      // f32 [head_dim], unused when its flag is 0
    vlm_addr positions;   // u32 [tok, 4]
    vlm_addr pairs;       // vlm_rope_pair [head_dim / 2]
    vlm_addr slots;       // u64 [tok]: page address + slot, 0 = don't store
    vlm_u32  n_head;      // query heads; workgroups x beyond them are heads of k and v
    vlm_u32  head_dim;    // even
    vlm_u32  q_stride;    // elements between rows
    vlm_u32  k_stride;    // elements between rows
    vlm_u32  v_stride;    // elements between rows
    vlm_u32  page_slots;  // slots of a page
    vlm_u32  layer_low;   // bytes from the page's start to K of the layer, low and high half
    vlm_u32  layer_high;
    vlm_u32  half_bytes;  // bytes from K to V of the layer
    vlm_u32  norms;       // 1: q is normalised, 2: k is, 3: both
    vlm_f32  eps;         // added to the mean square
    vlm_u32  f32_pages;   // 1: pages hold f32, 0: f16
};
VLM_ARGS_CHECK(vlm_args_rope_append, 8, 12)

struct vlm_args_rope_vision {
    vlm_addr qkv;         // f32 [patch, 3 * n_head * head_dim]
    vlm_addr positions;   // u32 [patch, 4]
    vlm_addr pairs;       // vlm_rope_pair [head_dim / 2]
    vlm_u32  head_dim;    // even
    vlm_u32  stride;      // elements between rows
};
VLM_ARGS_CHECK(vlm_args_rope_vision, 3, 2)

// What the last workgroup of a tile does, see last_group.glsl.
struct vlm_args_then {
    vlm_addr src;         // f32 [tok, col]: rows that the product made
    vlm_addr dst;         // norm: f32 [tok, col]; route: ids, u32 [tok, k]
    vlm_addr weight;      // norm: f32 [col]; route: gates, f32 [tok, k]
    vlm_addr counters;    // u32 [tile], all zero
    vlm_u32  n_col;       // norm: elements per row, a multiple of 4; route: experts
    vlm_u32  src_stride;  // elements between rows
    vlm_u32  dst_stride;  // elements between rows
    vlm_u32  k;           // route: experts of a token
    vlm_f32  eps;         // norm: added to the mean square
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_then, 4, 6)

// Products with packed weights. `n_block`: blocks of 32 columns in a row.
struct vlm_args_matmul {
    vlm_addr dst;          // f32 [tok, row]
    vlm_addr src;          // f32 [tok, col]
    vlm_addr weight;       // packed [row, col]
    vlm_addr bias;         // f32 [row] or 0
    vlm_addr residual;     // f32 [tok, row] or 0
    vlm_addr next;         // vlm_args_matmul of the product whose row tiles come after these; the
                           // last one's own, as CPU drivers read it once too often
    vlm_addr pair;         // packed [row, col] of `up` when `weight` is that of the gate
    vlm_addr then;         // vlm_args_then
    vlm_u32  panel_bytes;  // between panels of `weight`
    vlm_u32  n_tok;
    vlm_u32  n_row;
    vlm_u32  n_col;
    vlm_u32  n_block;
    vlm_u32  dst_stride;   // elements between rows
    vlm_u32  src_stride;
    vlm_u32  residual_stride;
    vlm_u32  act;          // vlm_act
    vlm_u32  n_row_tile;   // workgroups y of this product
};
VLM_ARGS_CHECK(vlm_args_matmul, 8, 10)

struct vlm_args_embed {
    vlm_addr dst;          // f32 [tok, col]
    vlm_addr ids;          // u32 [tok]
    vlm_addr weight;       // packed [row, col]
    vlm_u32  panel_bytes;
    vlm_u32  n_row;
    vlm_u32  n_col;
    vlm_u32  n_block;
    vlm_u32  dst_stride;
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_embed, 3, 6)

struct vlm_args_pixels_x {
    vlm_addr dst;         // u32 [row, dst_stride]: R, G, B, 0 from the low byte up
    vlm_addr plane0;      // u8 [row, stride0]; the picture's only plane, or Y
    vlm_addr plane1;      // u8 [row, stride1]: U, or U and V interleaved
    vlm_addr plane2;      // u8 [row, stride1]: V
    vlm_addr weight;      // i16 [group of 4 outputs, 8 * n_block, output of the group]
    vlm_addr start;       // u32 [group]: its first block of 8 pixels
    vlm_u32  stride0;     // bytes between rows
    vlm_u32  stride1;     // bytes between rows
    vlm_u32  shift0;      // bits: see the table of formats in ops/pixels.c
    vlm_u32  shift1;
    vlm_u32  shift2;
    vlm_u32  n_row;       // of the picture
    vlm_u32  first_pair;  // of this dispatch; pair q is the rows 2 q - 1 and 2 q
    vlm_u32  last_block;  // of a row of the picture
    vlm_u32  n_block;     // of a group
    vlm_u32  dst_stride;  // pixels between rows, a multiple of 4
    vlm_u32  shift;       // fractional bits of a weight
    vlm_i32  cy;          // 20 fractional bits
    vlm_i32  crv;         // of V in R, 16 fractional bits, as the next three
    vlm_i32  cgu;
    vlm_i32  cgv;
    vlm_i32  cbu;
    vlm_i32  off_y;       // added to cy * Y for grey, 20 fractional bits, one half included
    vlm_i32  off_r;       // the same for R, G, B with the middle of chroma taken off
    vlm_i32  off_g;
    vlm_i32  off_b;
};
VLM_ARGS_CHECK(vlm_args_pixels_x, 6, 20)

struct vlm_args_pixels_y {
    vlm_addr dst;         // f32: patches
    vlm_addr src;         // u32 [row, src_stride]: R, G, B, 0
    vlm_addr weight;      // i16 [row of the output, n_group, 4]
    vlm_addr start;       // u32 [row of the output]: its first row of src
    vlm_addr place_x;     // u32 [n_out]: index in dst of column x, plus ...
    vlm_addr place_y;     // u32 [row of the output]: ... that of row y
    vlm_addr levels;      // f32 [3, 256]: value of each 8-bit level of R, G, B
    vlm_u32  n_out;       // pixels of a row
    vlm_u32  src_stride;  // pixels between rows, even
    vlm_u32  n_group;     // groups of 4 taps
    vlm_u32  shift;       // fractional bits of a weight
    vlm_u32  channel_stride;  // elements of dst between R, G and B
    vlm_f32  mean_r;      // instead of levels: what is taken off, and the two parts of the factor
    vlm_f32  mean_g;
    vlm_f32  mean_b;
    vlm_f32  high_r;
    vlm_f32  high_g;
    vlm_f32  high_b;
    vlm_f32  low_r;
    vlm_f32  low_g;
    vlm_f32  low_b;
};
VLM_ARGS_CHECK(vlm_args_pixels_y, 7, 14)

struct vlm_args_attention {
    vlm_addr dst;          // f32 [tok, n_head * head_dim]
    vlm_addr q;            // f32 [tok, n_head * head_dim]
    vlm_addr seqs;         // [n_seq] of 40 bytes, see attention.comp; full attention: keys, bytes
    vlm_addr part;         // f32 [part, head_dim + 2]: sums, maximum, weight of split rows
    vlm_u32  n_seq;        // sequences; full attention: rows per image
    vlm_u32  group;        // query heads per KV head; full attention: 1 when causal, else 0
    vlm_u32  dst_stride;   // elements between rows
    vlm_u32  q_stride;     // elements between rows
    vlm_u32  layer_low;    // bytes from a page's start to K of the layer, low and high half
    vlm_u32  layer_high;
    vlm_u32  half_bytes;   // bytes from K to V
    vlm_f32  scale;        // of q . k, times log2(e)
};
VLM_ARGS_CHECK(vlm_args_attention, 4, 8)

struct vlm_args_attention_merge {
    vlm_addr dst;          // f32 [tok, n_head * head_dim]
    vlm_addr seqs;         // as vlm_args_attention
    vlm_addr part;         // f32 [part, head_dim + 2]
    vlm_u32  group;        // query heads per KV head
    vlm_u32  dst_stride;   // elements between rows
    vlm_u32  head_dim;
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_attention_merge, 3, 4)

struct vlm_args_moe_route {
    vlm_addr ids;        // u32 [tok, k]
    vlm_addr gate;       // f32 [tok, k]
    vlm_addr logits;     // f32 [tok, expert]
    vlm_u32  stride;     // elements between rows of logits
    vlm_u32  n_expert;
    vlm_u32  k;
    vlm_u32  unused;
};
VLM_ARGS_CHECK(vlm_args_moe_route, 3, 4)

struct vlm_args_moe_plan {
    vlm_addr ids;         // u32 [slot]
    vlm_addr n_tile;      // u32
    vlm_addr tiles;       // u32 [tile, 4]: expert, first, count, 0
    vlm_addr slots;       // u32 [slot], sorted by expert
    vlm_addr counts;      // u32 [chunk, expert], scratch
    vlm_u32  steps;       // MOE_PLAN_* of moe_plan.comp
    vlm_u32  n_slot;
    vlm_u32  chunk_slots; // slots per chunk
    vlm_u32  n_chunk;
    vlm_u32  n_expert;
    vlm_u32  tile_slots;  // most slots of a tile
};
VLM_ARGS_CHECK(vlm_args_moe_plan, 5, 6)

struct vlm_args_moe_matmul {
    vlm_addr dst;          // f32 [slot, row]
    vlm_addr src;          // f32 [slot / per_src, col]
    vlm_addr weight;       // packed [expert, row, col]
    vlm_addr mat_bytes;    // a number: between experts of `weight`; 0: `table` says where they are
    vlm_addr table;        // u64 [expert]: bytes from `weight` to each; or any memory of that size
    vlm_addr pair;         // as `weight`: of `up` when that is the gate's
    vlm_addr ids;          // u32 [slot]: expert of each
    vlm_addr n_tile;       // of the plan
    vlm_addr tiles;
    vlm_addr slots;
    vlm_u32  panel_bytes;
    vlm_u32  n_row;
    vlm_u32  n_col;
    vlm_u32  n_block;
    vlm_u32  dst_stride;
    vlm_u32  src_stride;
    vlm_u32  per_src;      // slots that share a row of src
    vlm_u32  n_expert;     // each slot is a tile, and there is no list; 0: there is
};
VLM_ARGS_CHECK(vlm_args_moe_matmul, 10, 8)

struct vlm_args_moe_mix {
    vlm_addr dst;          // f32 [tok, row], added to
    vlm_addr src;          // f32 [tok * k, col]
    vlm_addr weight;       // packed [expert, row, col]
    vlm_addr mat_bytes;    // as vlm_args_moe_matmul
    vlm_addr table;
    vlm_addr ids;          // u32 [tok, k]
    vlm_addr gate;         // f32 [tok, k]
    vlm_addr then;         // vlm_args_then
    vlm_u32  panel_bytes;
    vlm_u32  n_row;
    vlm_u32  n_col;
    vlm_u32  n_block;
    vlm_u32  dst_stride;
    vlm_u32  src_stride;
    vlm_u32  k;
    vlm_u32  n_expert;
};
VLM_ARGS_CHECK(vlm_args_moe_mix, 8, 8)

struct vlm_args_moe_combine {
    vlm_addr dst;         // f32 [tok, col]
    vlm_addr src;         // f32 [tok * k, col]
    vlm_addr gate;        // f32 [tok, k]
    vlm_u32  n_col;
    vlm_u32  k;
    vlm_u32  dst_stride;
    vlm_u32  src_stride;
};
VLM_ARGS_CHECK(vlm_args_moe_combine, 3, 4)

#endif
