// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_coopmat.comp — softmax attention of many rows on matrix units.
//
//   dst[t, h] = sum over s of softmax_s(scale * q[t, h] . K[s]) V[s]
//
// What attention.comp computes, with its arguments and tables, for work items of ROWS rows; K and V
// are f16 or quantised (KV_BITS) in the paged form and f32 within images (FULL). Tiles of
// FlashAttention (Dao et al. 2022). Between the two products it is attention_coopmat1.glsl or, with
// COOPMAT2 defined, attention_coopmat2.glsl.
//
// Workgroup: GROUPS subgroups, each with M rows of the item (x, as in attention.comp); KV head y.
// Shared:    q, then K and V, f16 [ROWS, head]; without COOPMAT2 also scores f32 and weights f16
//            [ROWS, COLS].
// Numbers:   q, K, V and weights are rounded to f16; scores and sums are f32.
// Assumes:   HD a multiple of 4, COLS of N, K and SCORE_N; without COOPMAT2 M * PARTS of LANES,
//            LANES and N of PARTS, COLS of 4 * PARTS.
//
// Slots that nobody may see are not read: their memory may hold anything.
#version 460
#ifdef KV_BITS
#extension GL_EXT_shader_16bit_storage : require
#endif
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#ifdef COOPMAT2
#extension GL_NV_cooperative_matrix2 : require
#endif
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_vote : require
#include "common.glsl"
#include "attention.glsl"

layout(constant_id = 3) const uint LANES = 32;
layout(constant_id = 4) const uint HD = 64;     // head_dim
layout(constant_id = 5) const uint GROUPS = 4;  // subgroups
layout(constant_id = 6) const uint M = 16;      // of the device's matrices
layout(constant_id = 7) const uint N = 16;
layout(constant_id = 8) const uint K = 16;
layout(constant_id = 9) const uint SCORE_N = 16;  // columns of a matrix of scores, with COOPMAT2
layout(constant_id = 10) const uint PARTS = 2;    // lanes that share a row, without it

VLM_ARGS(vlm_args_attention);

layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer InVec2 { vec2 v[]; };

const uint ROWS = GROUPS * M;
const uint COLS = ROWS / 2u;                           // slots of a step
const uint WIDE = (HD + 15u) / 16u * 16u;              // head in whole matrices
const uint UNITS = WIDE / 4u, STRIDE = UNITS + 2u;     // f16vec4 of a row, between rows
const uint DS = WIDE / K, OS = WIDE / N;
const float LOWEST = -3.0e38;

shared f16vec4 tile_shared[ROWS * STRIDE];

#ifdef KV_BITS
#include "attention_block.glsl"
#else
const uint HEAD_BYTES = 64u * HD * 2u;
#endif

#define EACH(i, n) [[unroll]] for (uint i = 0; i < (n); i++)

uvec2 plus(uvec2 addr, uint64_t bytes)
{
    return unpackUint2x32(packUint2x32(addr) + bytes);
}

// Four elements of a row of f32, 0 past the head's end.
f16vec4 unit_f32(uvec2 row, uint unit)
{
    if (unit >= HD / 4u)
        return f16vec4(0.0);
    InVec2 from = InVec2(row);
    return f16vec4(clamp(vec4(from.v[2u * unit], from.v[2u * unit + 1u]), -65504.0, 65504.0));
}

f16vec4 unit_f16(uvec2 row, uint unit)
{
    if (unit >= HD / 4u)
        return f16vec4(0.0);
    const uvec2 u = unpackUint2x32(InU64(row).v[unit]);
    return f16vec4(unpackFloat2x16(u.x), unpackFloat2x16(u.y));
}

#ifdef KV_BITS
f16vec4 unit_quant(uvec2 slots, uint slot, uint unit)
{
    if (unit >= HD / 4u)
        return f16vec4(0.0);
    const vec2 scale = load_scale(InU16(plus(slots, 64u * CODE_BYTES)), unit * 4u / BLOCK, slot);
    const uint word = InU32(plus(slots, slot * CODE_BYTES)).v[unit * 4u / WORD_CODES]
                    >> unit * 4u % WORD_CODES * KV_BITS;
    const vec4 x = vec4(code(word, 0u), code(word, 1u), code(word, 2u), code(word, 3u));
    if (!(scale.x < 65504.0))  // NaN spoils what it touches, as in attention.comp
        return f16vec4(scale.x);
    return f16vec4(clamp((x - scale.y) * scale.x, -65504.0, 65504.0));
}
#endif

// Four elements of a slot of a run of slots, `stride` bytes apart.
f16vec4 unit_of(uvec2 slots, uint stride, uint slot, uint unit)
{
#ifdef KV_BITS
    return unit_quant(slots, slot, unit);
#elif defined(FULL)
    return unit_f32(plus(slots, slot * stride), unit);
#else
    return unit_f16(plus(slots, slot * stride), unit);
#endif
}

coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> q[DS];
coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[OS];

uint n_row, first_row, group;  // rows of the item, this subgroup's first, those of a token
uint n_split;                  // results that are joined by attention_merge.comp
uvec2 out_addr;                // row r's result: r / out_group * out_stride + r % out_group * HD
uint out_group, out_stride;

// Row `r` of this subgroup's; those past the end repeat the last one and aren't stored.
uint row_of(uint r)
{
    return min(first_row + r, n_row - 1u);
}

F32 result_of(uint row)
{
    return F32(plus(out_addr, (uint64_t(row / out_group) * out_stride
                               + row % out_group * HD) * 4ul));
}

// Slots lo ... hi - 1, at most COLS: keys to the first rows of the tile, values to the last.
void fetch(uvec2 k, uvec2 v, uint stride, uint lo, uint hi)
{
    uint i = gl_SubgroupID * LANES + gl_SubgroupInvocationID;

    barrier();  // nobody looks at the tile before
    while (i < 2u * COLS * UNITS) {
        const uint r = i / UNITS, unit = i % UNITS;
        const uint slot = min(lo + r % COLS, hi - 1u);
        tile_shared[r * STRIDE + unit] = unit_of(r < COLS ? k : v, stride, slot, unit);
        i += GROUPS * LANES;
    }
    barrier();
}

#ifdef COOPMAT2
#include "attention_coopmat2.glsl"
#else
#include "attention_coopmat1.glsl"
#endif

void main()
{
    const vlm_args_attention p = VLM_LOAD_ARGS;
    const uint lane = gl_SubgroupInvocationID, group_id = gl_SubgroupID;
    const uint head = gl_WorkGroupID.y;
    const uint item = gl_WorkGroupID.x;
#ifdef FULL
    n_row = p.n_seq;
    const uint n_tile = (n_row + ROWS - 1u) / ROWS;
    const uint tok0 = item / n_tile * n_row;
    const uint tile = item % n_tile;
    group = 1u;
    n_split = 1u;
#else
    uint at = 0;
    while (at + 1 < p.n_seq && uint(InU64(p.seqs).v[5 * (at + 1) + 3]) <= item)
        at++;
    const Seq seq = load_seq(InU64(p.seqs), at);
    n_row = seq.n_row;
    n_split = seq.n_split;
    const uint n_tile = (n_row + ROWS - 1u) / ROWS;
    const uint tok0 = seq.tok0;
    const uint split = (item - seq.item0) % seq.n_split;
    const uint step = (item - seq.item0) / seq.n_split;
    const uint tile = (step & 1u) == 0u ? step / 2u : n_tile - 1u - step / 2u;
    group = p.group;
#endif
    first_row = tile * ROWS + group_id * M;
    out_addr = plus(p.dst, uint64_t(tok0 * p.dst_stride + head * group * HD) * 4ul);
    out_group = group;
    out_stride = p.dst_stride;
#ifndef FULL
    if (n_split > 1u) {
        const uint part = seq.part0 + head * n_row * n_split + split;
        out_addr = plus(p.part, uint64_t(part) * (HD + 2u) * 4ul);
        out_group = 1u;
        out_stride = n_split * (HD + 2u);
    }
#endif

    uint i = group_id * LANES + lane;
    while (i < ROWS * UNITS) {
        const uint row = min(tile * ROWS + i / UNITS, n_row - 1u), unit = i % UNITS;
        const uvec2 from = plus(p.q, uint64_t((tok0 + row / group) * p.q_stride
                                              + (head * group + row % group) * HD) * 4ul);
        vec4 x = vec4(0.0);
        if (unit < HD / 4u)
            x = vec4(InVec2(from).v[2u * unit], InVec2(from).v[2u * unit + 1u]) * p.scale;
        tile_shared[i / UNITS * STRIDE + unit] = f16vec4(clamp(x, -65504.0, 65504.0));
        i += GROUPS * LANES;
    }
    barrier();
    EACH(d, DS)
        coopMatLoad(q[d], tile_shared, group_id * M * STRIDE + d * K / 4u, STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
    EACH(o, OS)
        sum[o] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    begin();

#ifdef FULL
    const uint stride = p.q_stride * 4u;
    const uvec2 k = plus(p.seqs, uint64_t(tok0) * stride + head * (HD * 4u));
    uint slot = 0u;
    do {
        attend(k, plus(k, p.half_bytes), stride, slot, min(slot + COLS, n_row), int(n_row));
        slot += COLS;
    } while (slot < n_row);
#else
    const uint last = seq.slot0 + (min(tile * ROWS + ROWS, n_row) - 1u) / group;  // seen last
    const uint end_page = min(min(split * seq.split_pages + seq.split_pages, seq.n_page),
                              last / 64u + 1u);
    uint page = split * seq.split_pages;
    if (page < end_page) do {
        const uint64_t addr = InU64(seq.pages).v[2u * page];
        const uvec2 range = unpackUint2x32(InU64(seq.pages).v[2u * page + 1u]);
        const uint hi = min(min(range.y, 64u), last + 1u - page * 64u);
        const uvec2 k = unpackUint2x32(addr + packUint2x32(uvec2(p.layer_low, p.layer_high))
                                       + head * HEAD_BYTES);
        uint slot = range.x;
        while (slot < hi) {
            attend(k, plus(k, p.half_bytes), HD * 2u, slot, min(slot + COLS, hi),
                   int(seq.slot0 + 1u) - int(page * 64u));
            slot += COLS;
        }
        page++;
    } while (page < end_page);
#endif
    end();
}
