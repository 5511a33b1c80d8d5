// SPDX-License-Identifier: LGPL-2.1-or-later
// matmul_split.comp — products of few f32 rows with packed weights, for GPUs.
//
//   dst[t, r] = act(sum over c of weight[r, c] * src[t, c] + bias[r]) + residual[t, r]
//
// and, with MOE or MIX defined and the constants SET, PAIR and THEN, what matmul.comp, whose
// arguments these are, says of them. What bounds such a product is reading the weights: columns are
// split between subgroups, so that many loads are under way even where a matrix has few rows.
//
// Workgroup: N_GROUP subgroups over one panel of LANES rows, lane = row; subgroup g has units g,
//            g + N_GROUP, ... of it. Workgroup (x, y) has token tile x of TOKS and panel y. PAIR: a
//            panel of each matrix. MIX: TOKS is 1, units of a token's experts follow one another.
// Shared:    the subgroups' sums, f32 [N_GROUP, matrices * TOKS, LANES].
// Numbers:   products of the columns that share a scale are summed in f32 without it; then by
//            subgroup, then the subgroups in order.
// Assumes:   there are at least N_GROUP units.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"
#include "swiglu.glsl"
#include "experts.glsl"

layout(constant_id = 4) const uint TOKS = 1;  // at most MAX_TOKS
layout(constant_id = 5) const uint N_GROUP = 8;
layout(constant_id = 6) const bool HAS_ACT = false;
layout(constant_id = 7) const bool SET = false;
layout(constant_id = 8) const bool PAIR = false;
layout(constant_id = 9) const uint THEN = 0;

const uint MAX_TOKS = 8;
const uint N_MATRIX = PAIR ? 2 : 1;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer InVec4 { vec4 v[]; };

shared float sums[N_GROUP * N_MATRIX * TOKS * LANES];

#ifndef MOE
#define WIDE
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
    const uint lane = gl_LocalInvocationID.x % LANES, group = gl_LocalInvocationID.x / LANES;
    uint panel = gl_WorkGroupID.y;
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
#define DST_ROW(t) (single ? first : InU32(p.slots).v[first + (t)])
#define SRC_ROW(t) (DST_ROW(t) / p.per_src)
#elif defined(MIX)
    const vlm_args_moe_mix p = VLM_LOAD_ARGS;
    const uint first = gl_WorkGroupID.x, n_tok = 1;
    const uint64_t matrix = 0;
#define DST_ROW(t) first
#define SRC_ROW(t) (first * p.k)
#else
    vlm_args_matmul p = VLM_LOAD_ARGS;
    if (SET) {
        while (panel >= p.n_row_tile) {
            panel -= p.n_row_tile;
            p = ArgsRef(p.next).a;
        }
    }
    const uint64_t matrix = 0;
    const uint first = gl_WorkGroupID.x * TOKS;
    const uint n_tok = min(p.n_tok - first, TOKS);
#define DST_ROW(t) (first + (t))
#define SRC_ROW(t) (first + (t))
#endif
    const uint64_t in_matrix = matrix + uint64_t(panel) * uint64_t(p.panel_bytes) + 8u * lane;
    uint64_t from[N_MATRIX];
    from[0] = packUint2x32(p.weight) + in_matrix;
#ifndef MIX
    if (PAIR)
        from[N_MATRIX - 1] = packUint2x32(p.pair) + in_matrix;
#endif
    const uint n_unit = (p.n_block + UNIT_BLOCKS - 1u) / UNIT_BLOCKS;

    // Tokens past the end repeat the last one and aren't stored.
    uint64_t x_row[MAX_TOKS];
    [[unroll]] for (uint t = 0; t < TOKS; t++)
        x_row[t] = packUint2x32(p.src)
                 + uint64_t(SRC_ROW(min(t, n_tok - 1u))) * uint64_t(p.src_stride) * 4ul;
    float acc[N_MATRIX][MAX_TOKS];
    [[unroll]] for (uint m = 0; m < N_MATRIX; m++)
        [[unroll]] for (uint t = 0; t < TOKS; t++)
            acc[m][t] = 0.0;

#ifdef MIX
    const uint n_item = p.k * n_unit;
#else
    const uint n_item = n_unit;
#endif
    uint item = group;
    do {
#ifdef MIX
        const uint choice = item / n_unit, unit = item % n_unit;
        const uint expert = min(InU32(p.ids).v[first * p.k + choice], p.n_expert - 1u);
        const uint64_t unit_at = expert_at(p.table, p.mat_bytes, expert)
                               + uint64_t(unit) * uint64_t(HEAD_BYTES + UNIT_BLOCKS * BLOCK_BYTES);
        const uint x_skip = choice * p.src_stride * 4u;
        const float gate = InF32(p.gate).v[first * p.k + choice];
#else
        const uint unit = item;
        const uint64_t unit_at = uint64_t(unit) * uint64_t(HEAD_BYTES + UNIT_BLOCKS * BLOCK_BYTES);
        const uint x_skip = 0;
        const float gate = 1.0;
#endif
        const uint n_block = min(p.n_block - unit * UNIT_BLOCKS, UNIT_BLOCKS);
        [[unroll]] for (uint m = 0; m < N_MATRIX; m++) {
            uint64_t w_at = from[m] + unit_at;
            const head_t head = open_head(w_at, lane);
            w_at += HEAD_BYTES;
            uint j = 0;
            do {
                const block_t b = open_block(head, j, w_at, lane);
                const uint block = unit * UNIT_BLOCKS + j;
                uint64_t word[BLOCK_WORDS];
                [[unroll]] for (uint s = 0; s < BLOCK_WORDS; s++)
                    word[s] = InU64(w_at).v[s * LANES];
                w_at += BLOCK_BYTES;

                float part[MAX_TOKS];  // of the columns that share a scale
                float x_sum[MAX_TOKS];
                [[unroll]] for (int k = 0; k < 32; k += 4) {
                    vec4 w;
                    [[unroll]] for (int i = 0; i < 4; i++)
                        w[i] = code(word[(k + i) / WORD_K], b, k + i);
                    [[unroll]] for (uint t = 0; t < TOKS; t++) {
                        vec4 x = InVec4(x_row[t] + x_skip + 128u * block).v[k / 4];
#if CHECK_K
                        const uvec4 c = block * 32u + uint(k) + uvec4(0, 1, 2, 3);
                        x = mix(vec4(0.0), x, lessThan(c, uvec4(p.n_col)));
#endif
                        if (k % SCALE_K == 0)
                            part[t] = x_sum[t] = 0.0;
                        part[t] += dot(x, w);
#if HAS_MINUS
                        x_sum[t] += x.x + x.y + x.z + x.w;
#endif
                        if (k % SCALE_K == SCALE_K - 4)
                            acc[m][t] +=
                                gate * (times_scale(b, k, part[t]) - minus_of(b, k) * x_sum[t]);
                    }
                }
                j++;
            } while (j < n_block);
        }
        item += N_GROUP;
    } while (item < n_item);

    [[unroll]] for (uint m = 0; m < N_MATRIX; m++)
        [[unroll]] for (uint t = 0; t < TOKS; t++)
            sums[((group * N_MATRIX + m) * TOKS + t) * LANES + lane] = acc[m][t];
    barrier();
    uint e = gl_LocalInvocationID.x;
    while (e < TOKS * LANES) {
        const uint t = e / LANES, row = panel * LANES + e % LANES;
        if (t < n_tok && row < p.n_row) {
            float y[N_MATRIX];
            [[unroll]] for (uint m = 0; m < N_MATRIX; m++) {
                y[m] = sums[m * TOKS * LANES + e];
                [[unroll]] for (uint g = 1; g < N_GROUP; g++)
                    y[m] += sums[(g * N_MATRIX + m) * TOKS * LANES + e];
            }
            if (PAIR)
                y[0] = swiglu(y[0], y[N_MATRIX - 1]);
            const uint at = DST_ROW(t) * p.dst_stride + row;
#if defined(MOE)
            OutF32(p.dst).v[at] = y[0];
#elif defined(MIX)
            store_sum(p.dst, at, InF32(p.dst).v[at] + y[0]);
#else
            if (any(notEqual(p.bias, uvec2(0))))
                y[0] += InF32(p.bias).v[row];
            if (HAS_ACT)
                y[0] = activate(y[0], p.act);
            if (any(notEqual(p.residual, uvec2(0))))
                y[0] += InF32(p.residual).v[DST_ROW(t) * p.residual_stride + row];
            store_sum(p.dst, at, y[0]);
#endif
        }
        e += N_GROUP * LANES;
    }
#ifndef MOE
    then(p.then, gl_WorkGroupID.x, gl_NumWorkGroups.y, first, n_tok);
#endif
}
