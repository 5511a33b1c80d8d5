// SPDX-License-Identifier: LGPL-2.1-or-later
// matmul.comp — products of f32 rows with packed weights.
//
//   dst[t, r] = act(sum over c of weight[r, c] * src[t, c] + bias[r]) + residual[t, r]
//
// With MOE defined, the weights are those of the experts and the tokens of a tile are slots that
// one expert serves, from the lists of moe_plan.comp or one by one from `ids`; nothing follows the
// product:
//
//   dst[s, r] = sum over c of weight[expert(s), r, c] * src[s / per_src, c]
//
// With MIX defined, the outputs of a token's experts are mixed into a residual stream:
//
//   dst[t, r] += sum over j of gate[t, j] * y(t * k + j),
//   y(s) = sum over c of weight[expert(s), r, c] * src[s, c]
//
// Constants add to these:
//   SET   a list of products of the same rows, one after the other in row tiles
//   PAIR  half of a tile's panels are of `weight`, half the same rows of `pair`, and
//         dst = silu(product with weight) * product with pair; no bias, act, residual
//   THEN  see last_group.glsl
//
// Workgroup: one subgroup, lane = row of a panel. A tile is TOKS tokens times PANELS panels;
//            workgroup (x, y) has token tile x and row tile y. MIX: TOKS is 1. With n row tiles,
//            row tile y has panels y, y + n, y + 2 n ...: what the workgroups of a CPU's core load
//            by one instruction, one workgroup after the other, then goes forward in memory, which
//            prefetchers need; panels side by side take up to 1.7 times as long.
// Shared:    none, and no barrier: on CPU drivers both cost more than the loads they save.
// Numbers:   products of a block are summed in f32 without its scale, blocks are then added up.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#define CODES_AS_MANTISSA
#include "weights.glsl"
#include "swiglu.glsl"
#include "experts.glsl"

layout(constant_id = 4) const uint TOKS = 1;          // at most MAX_TOKS
layout(constant_id = 5) const uint PANELS = 4;        // at most MAX_PANELS; even with PAIR
layout(constant_id = 6) const bool SHUFFLE = true;    // how lanes share activations
layout(constant_id = 7) const bool HAS_ACT = false;
layout(constant_id = 8) const bool SET = false;
layout(constant_id = 9) const bool PAIR = false;
layout(constant_id = 10) const uint THEN = 0;

const uint MAX_TOKS = 16, MAX_PANELS = 8;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer InVec4 { vec4 v[]; };

#ifndef MOE
#include "last_group.glsl"
#endif
#if defined(MOE)
VLM_ARGS(vlm_args_moe_matmul);
#elif defined(MIX)
VLM_ARGS(vlm_args_moe_mix);
#else
VLM_ARGS(vlm_args_matmul);
#include "act.glsl"
#endif

void main()
{
    uint row_tile = gl_WorkGroupID.y;
#if defined(MOE)
    const vlm_args_moe_matmul p = VLM_LOAD_ARGS;
    const uint tile = gl_WorkGroupID.x;
    const bool single = p.n_expert > 0;
    if (!single && tile >= InU32(p.n_tile).v[0])
        return;
    uint expert, first = tile, n_tok = 1;
    if (single) {
        expert = min(InU32(p.ids).v[tile], p.n_expert - 1u);
    } else {
        expert = InU32(p.tiles).v[4u * tile];
        first = InU32(p.tiles).v[4u * tile + 1u];
        n_tok = InU32(p.tiles).v[4u * tile + 2u];
    }
    const uint64_t matrix = expert_at(p.table, p.mat_bytes, expert);
    uint dst_row[MAX_TOKS];
    uint src_row[MAX_TOKS];
    [[unroll]] for (uint t = 0; t < TOKS; t++) {
        dst_row[t] = first;
        if (!single)
            dst_row[t] = InU32(p.slots).v[first + min(t, n_tok - 1u)];
        src_row[t] = dst_row[t] / p.per_src;
    }
#elif defined(MIX)
    const vlm_args_moe_mix p = VLM_LOAD_ARGS;
    const uint first = gl_WorkGroupID.x, n_tok = 1;
    uint64_t matrix;
    uint dst_row[MAX_TOKS];
    uint src_row[MAX_TOKS];
    dst_row[0] = first;
#else
    vlm_args_matmul p = VLM_LOAD_ARGS;
    if (SET) {
        while (row_tile >= p.n_row_tile) {
            row_tile -= p.n_row_tile;
            p = ArgsRef(p.next).a;
        }
    }
    const uint64_t matrix = 0;
    const uint first = gl_WorkGroupID.x * TOKS;
    const uint n_tok = min(p.n_tok - first, TOKS);
    uint dst_row[MAX_TOKS];
    uint src_row[MAX_TOKS];
    [[unroll]] for (uint t = 0; t < TOKS; t++) {
        dst_row[t] = first + t;
        src_row[t] = first + min(t, n_tok - 1u);
    }
#endif
    const uint lane = gl_LocalInvocationID.x;
    const uint of_weight = PAIR ? PANELS / 2 : PANELS;  // panels of the tile
    const uint last_panel = (p.n_row - 1u) / LANES;
#if defined(MOE) || defined(MIX)
    const uint n_row_tile = gl_NumWorkGroups.y;
#else
    const uint n_row_tile = SET ? p.n_row_tile : gl_NumWorkGroups.y;
#endif
    // With many tokens a weight is scaled once and used often; with few it is cheaper to scale
    // sums, and to subtract minima times the sum of activations.
    const bool fold = TOKS < 4;

    float acc[MAX_TOKS][MAX_PANELS];
    [[unroll]] for (uint t = 0; t < TOKS; t++)
        [[unroll]] for (uint n = 0; n < PANELS; n++)
            acc[t][n] = 0.0;

#ifdef MIX
    float mixed[MAX_PANELS];
    [[unroll]] for (uint n = 0; n < PANELS; n++)
        mixed[n] = 0.0;
    uint choice = first * p.k;
    do {
    const uint expert = min(InU32(p.ids).v[choice], p.n_expert - 1u);
    matrix = expert_at(p.table, p.mat_bytes, expert);
    src_row[0] = choice;
    [[unroll]] for (uint n = 0; n < PANELS; n++)
        acc[0][n] = 0.0;
#endif
    // Tokens and panels past the end repeat the last one and aren't stored.
    uint64_t x_at[MAX_TOKS];
    [[unroll]] for (uint t = 0; t < TOKS; t++)
        x_at[t] = packUint2x32(p.src)
                + uint64_t(src_row[t] * p.src_stride) * 4ul
                + (SHUFFLE ? 8u * lane : 0u);
    uint64_t w_at[MAX_PANELS];
    [[unroll]] for (uint n = 0; n < PANELS; n++) {
        uint64_t weight = packUint2x32(p.weight);
#ifndef MIX
        if (PAIR && n >= of_weight)
            weight = packUint2x32(p.pair);
#endif
        const uint panel = min(row_tile + n % of_weight * n_row_tile, last_panel);
        w_at[n] = weight + matrix + uint64_t(panel) * uint64_t(p.panel_bytes) + 8u * lane;
    }

    uint block = 0;
    do {
        head_t head[MAX_PANELS];
        [[unroll]] for (uint n = 0; n < PANELS; n++) {
            head[n] = open_head(w_at[n], lane);
            w_at[n] += HEAD_BYTES;
        }
        const uint n_block = min(p.n_block - block, UNIT_BLOCKS);
        uint j = 0;
        do {
            block_t b[MAX_PANELS];
            [[unroll]] for (uint n = 0; n < PANELS; n++)
                b[n] = open_block(head[n], j, w_at[n], lane);

            float part[MAX_TOKS][MAX_PANELS];  // of the columns that share a scale
            float x_sum[MAX_TOKS];
            uint64_t word[MAX_PANELS];
            uint64_t x_pair[MAX_TOKS];  // lane l: activations 2 l and 2 l + 1 of a run of 2 * LANES
            vec4 x_quad[MAX_TOKS];
            [[unroll]] for (int k = 0; k < 32; k++) {
                if (k % SCALE_K == 0) {
                    [[unroll]] for (uint t = 0; t < TOKS; t++) {
                        x_sum[t] = 0.0;
                        [[unroll]] for (uint n = 0; n < PANELS; n++)
                            part[t][n] = 0.0;
                    }
                }
                if (SHUFFLE && k % int(2 * LANES) == 0) {
                    [[unroll]] for (uint t = 0; t < TOKS; t++)
                        x_pair[t] = InU64(x_at[t]).v[k / 2];
#if CHECK_K
                    const uint c = (block + j) * 32u + uint(k) + 2u * lane;
                    const uvec2 keep = uvec2(c < p.n_col ? ~0u : 0u, c + 1u < p.n_col ? ~0u : 0u);
                    [[unroll]] for (uint t = 0; t < TOKS; t++)
                        x_pair[t] = packUint2x32(unpackUint2x32(x_pair[t]) & keep);
#endif
                }
                if (!SHUFFLE && k % 4 == 0) {
                    [[unroll]] for (uint t = 0; t < TOKS; t++) {
                        x_quad[t] = InVec4(x_at[t]).v[k / 4];
#if CHECK_K
                        const uvec4 c = (block + j) * 32u + uint(k) + uvec4(0, 1, 2, 3);
                        x_quad[t] = mix(vec4(0.0), x_quad[t], lessThan(c, uvec4(p.n_col)));
#endif
                    }
                }
                if (k % WORD_K == 0) {
                    [[unroll]] for (uint n = 0; n < PANELS; n++)
                        word[n] = InU64(w_at[n]).v[uint(k / WORD_K) * LANES];
                }
                float w[MAX_PANELS];
                [[unroll]] for (uint n = 0; n < PANELS; n++) {
                    w[n] = code(word[n], b[n], k);
#if HAS_MINUS
                    if (!fold)
                        w[n] = times_scale(b[n], k, w[n]) - minus_of(b[n], k);
#endif
                }
                [[unroll]] for (uint t = 0; t < TOKS; t++) {
                    float x = x_quad[t][k % 4];
                    if (SHUFFLE) {
                        const uint mine = k % 2 == 0 ? LO(x_pair[t]) : HI(x_pair[t]);
                        x = subgroupShuffle(uintBitsToFloat(mine), uint(k) % (2u * LANES) / 2u);
                    }
#if HAS_MINUS
                    if (fold)
                        x_sum[t] += x;
#endif
                    [[unroll]] for (uint n = 0; n < PANELS; n++)
                        part[t][n] += x * w[n];
                }
                if (k % SCALE_K == SCALE_K - 1) {
                    [[unroll]] for (uint t = 0; t < TOKS; t++) {
                        [[unroll]] for (uint n = 0; n < PANELS; n++) {
#if !HAS_HEAD
                            acc[t][n] += part[t][n];
#elif HAS_MINUS
                            acc[t][n] += fold ? times_scale(b[n], k, part[t][n])
                                                    - minus_of(b[n], k) * x_sum[t]
                                              : part[t][n];
#else
                            acc[t][n] += times_scale(b[n], k, part[t][n]);
#endif
                        }
                    }
                }
            }
            [[unroll]] for (uint t = 0; t < TOKS; t++)
                x_at[t] += 128u;
            [[unroll]] for (uint n = 0; n < PANELS; n++)
                w_at[n] += BLOCK_BYTES;
            j++;
        } while (j < n_block);
        block += UNIT_BLOCKS;
    } while (block < p.n_block);

#ifdef MIX
    const float gate = InF32(p.gate).v[choice];
    [[unroll]] for (uint n = 0; n < PANELS; n++)
        mixed[n] += gate * acc[0][n];
    choice++;
    } while (choice < (first + 1u) * p.k);
#endif

    [[unroll]] for (uint n = 0; n < of_weight; n++) {
        const uint row = (row_tile + n * n_row_tile) * LANES + lane;
        if (row < p.n_row) {
#ifdef MIX
            const uint at = first * p.dst_stride + row;
            store_sum(p.dst, at, InF32(p.dst).v[at] + mixed[n]);
#else
            float bias = 0.0;
#ifndef MOE
            if (any(notEqual(p.bias, uvec2(0))))
                bias = InF32(p.bias).v[row];
#endif
            [[unroll]] for (uint t = 0; t < TOKS; t++) {
                if (t < n_tok) {
                    float y = acc[t][n] + bias;
                    if (PAIR)
                        y = swiglu(acc[t][n], acc[t][n + of_weight]);
#ifdef MOE
                    OutF32(p.dst).v[dst_row[t] * p.dst_stride + row] = y;
#else
                    if (HAS_ACT)
                        y = activate(y, p.act);
                    if (any(notEqual(p.residual, uvec2(0))))
                        y += InF32(p.residual).v[dst_row[t] * p.residual_stride + row];
                    store_sum(p.dst, dst_row[t] * p.dst_stride + row, y);
#endif
                }
            }
#endif
        }
    }
#ifndef MOE
    then(p.then, gl_WorkGroupID.x, gl_NumWorkGroups.y, first, n_tok);
#endif
}
