// SPDX-License-Identifier: LGPL-2.1-or-later
// matmul_split.comp — products of few f32 rows with packed weights, for GPUs.
//
//   dst[t, r] = act(sum over c of weight[r, c] * src[t, c] + bias[r]) + residual[t, r]
//
// and, with MOE defined, the products of moe_plan.comp's tiles: see matmul.comp, whose arguments
// these are. What bounds such a product is reading the weights: columns are split between
// subgroups, so that many loads are under way even where a matrix has few rows.
//
// Workgroup: GROUPS subgroups over one panel of LANES rows, lane = row; subgroup g has units g,
//            g + GROUPS, ... of it. Workgroup (x, y) has token tile x of TOKS and panel y.
// Shared:    the subgroups' sums, f32 [GROUPS, TOKS, LANES].
// Numbers:   products of the columns that share a scale are summed in f32 without it; then by
//            subgroup, then the subgroups in order.
// Assumes:   the panel has at least GROUPS units.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"

layout(constant_id = 4) const uint TOKS = 1;  // at most MAX_TOKS
layout(constant_id = 5) const uint GROUPS = 8;
layout(constant_id = 6) const bool HAS_ACT = false;

const uint MAX_TOKS = 8;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer InVec4 { vec4 v[]; };

shared float sums[GROUPS * TOKS * LANES];

#ifdef MOE
VLM_ARGS(vlm_args_moe_matmul);
#else
VLM_ARGS(vlm_args_matmul);
#include "act.glsl"
#endif

void main()
{
    const uint lane = gl_LocalInvocationID.x % LANES, group = gl_LocalInvocationID.x / LANES;
#ifdef MOE
    const vlm_args_moe_matmul p = VLM_LOAD_ARGS;
    const uint tile = gl_WorkGroupID.x;
    if (tile >= InU32(p.n_tile).v[0])
        return;
    const uint expert = InU32(p.tiles).v[4u * tile];
    const uint first = InU32(p.tiles).v[4u * tile + 1u];
    const uint n_tok = InU32(p.tiles).v[4u * tile + 2u];
    const uint64_t weight = packUint2x32(p.weight) + packUint2x32(p.mat_bytes) * uint64_t(expert);
#define DST_ROW(t) InU32(p.slots).v[first + (t)]
#define SRC_ROW(t) (InU32(p.slots).v[first + (t)] / p.per_src)
#else
    const vlm_args_matmul p = VLM_LOAD_ARGS;
    const uint64_t weight = packUint2x32(p.weight);
    const uint first = gl_WorkGroupID.x * TOKS;
    const uint n_tok = p.n_tok - first;
#define DST_ROW(t) (first + (t))
#define SRC_ROW(t) (first + (t))
#endif
    const uint64_t panel =
        weight + uint64_t(gl_WorkGroupID.y) * uint64_t(p.panel_bytes) + 8u * lane;
    const uint n_unit = (p.n_block + UNIT_BLOCKS - 1u) / UNIT_BLOCKS;

    // Tokens past the end repeat the last one and aren't stored.
    uint64_t x_row[MAX_TOKS];
    [[unroll]] for (uint t = 0; t < TOKS; t++)
        x_row[t] = packUint2x32(p.src)
                 + uint64_t(SRC_ROW(min(t, n_tok - 1u))) * uint64_t(p.src_stride) * 4ul;
    float acc[MAX_TOKS];
    [[unroll]] for (uint t = 0; t < TOKS; t++)
        acc[t] = 0.0;

    uint unit = group;
    do {
        uint64_t w_at = panel + uint64_t(unit) * uint64_t(HEAD_BYTES + UNIT_BLOCKS * BLOCK_BYTES);
        const head_t head = open_head(w_at, lane);
        const uint n_block = min(p.n_block - unit * UNIT_BLOCKS, UNIT_BLOCKS);
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
                    vec4 x = InVec4(x_row[t] + 128u * block).v[k / 4];
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
                        acc[t] += scale_of(b, k) * part[t] - minus_of(b, k) * x_sum[t];
                }
            }
            j++;
        } while (j < n_block);
        unit += GROUPS;
    } while (unit < n_unit);

    [[unroll]] for (uint t = 0; t < TOKS; t++)
        sums[(group * TOKS + t) * LANES + lane] = acc[t];
    barrier();
    uint e = gl_LocalInvocationID.x;
    while (e < TOKS * LANES) {
        const uint t = e / LANES, row = gl_WorkGroupID.y * LANES + e % LANES;
        if (t < n_tok && row < p.n_row) {
            float y = sums[e];
            [[unroll]] for (uint g = 1; g < GROUPS; g++)
                y += sums[g * TOKS * LANES + e];
            const uint to = DST_ROW(t);
#ifndef MOE
            if (any(notEqual(p.bias, uvec2(0))))
                y += InF32(p.bias).v[row];
            if (HAS_ACT)
                y = activate(y, p.act);
            if (any(notEqual(p.residual, uvec2(0))))
                y += InF32(p.residual).v[to * p.residual_stride + row];
#endif
            OutF32(p.dst).v[to * p.dst_stride + row] = y;
        }
        e += GROUPS * LANES;
    }
}
