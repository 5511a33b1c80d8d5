// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_coopmat.comp — softmax attention of many rows on matrix units.
//
//   dst[t, h] = sum over s of softmax_s(scale * q[t, h] . K[s]) V[s]
//
// What attention.comp computes, with its arguments and tables, for work items of ROWS rows; K and V
// are f16 or quantised (KV_BITS) in the paged form and f32 within images (FULL). Tiles of
// FlashAttention (Dao et al. 2022).
// The exponents' reference moves only when a row's maximum has outgrown it by SLACK (as in
// FlashAttention-4), because scaling the matrices of sums takes a matrix of factors.
//
// Workgroup: GROUPS subgroups, each with M rows of the item (x, as in attention.comp); KV head y.
// Shared:    q, then K and V, f16 [ROWS, head]; scores f32 and weights f16 [ROWS, COLS].
// Numbers:   q, K, V and weights (at most 2^SLACK) are rounded to f16; scores and sums are f32.
// Assumes:   HD a multiple of 4, LANES of M, COLS of N and K, N of PER_ROW.
//
// Slots that nobody may see are not read: their memory may hold anything.
#version 460
#ifdef KV_BITS
#extension GL_EXT_shader_16bit_storage : require
#endif
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
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

VLM_ARGS(vlm_args_attention);

layout(buffer_reference, std430, buffer_reference_align = 8) readonly buffer InVec2 { vec2 v[]; };

const uint ROWS = GROUPS * M;
const uint COLS = ROWS / 2u;                           // slots of a step
const uint WIDE = (HD + 15u) / 16u * 16u;              // head in whole matrices
const uint UNITS = WIDE / 4u, STRIDE = UNITS + 2u;     // f16vec4 of a row, between rows
const uint SCORE_STRIDE = COLS + 4u, WEIGHT_STRIDE = COLS / 4u + 2u;
const uint DS = WIDE / K, NS = COLS / N, OS = WIDE / N, KS = COLS / K;
const uint PER_ROW = LANES / M;                        // lanes of a row
const uint SPAN = COLS / PER_ROW;                      // slots of a lane
const float LOWEST = -3.0e38, SLACK = 8.0;

shared f16vec4 tile_shared[ROWS * STRIDE];
shared float score_shared[ROWS * SCORE_STRIDE];
shared f16vec4 weight_shared[ROWS * WEIGHT_STRIDE];

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
float base;    // what the exponents of this lane's row are relative to
float weight;  // this lane's part of the row's sum

void sync_subgroup()
{
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}

// Adds slots lo ... hi - 1, at most COLS, of a run whose keys start at `k` and values at `v`,
// `stride` bytes apart. This lane's row sees those below `see`.
void attend(uvec2 k, uvec2 v, uint stride, uint lo, uint hi, int see)
{
    const uint lane = gl_SubgroupInvocationID, group = gl_SubgroupID;
    const uint row = lane / PER_ROW, first = lane % PER_ROW * SPAN;
    const uint at = (group * M + row) * SCORE_STRIDE + first;

    barrier();  // nobody looks at the tile before
    uint i = group * LANES + lane;
    while (i < 2u * COLS * UNITS) {
        const uint r = i / UNITS, unit = i % UNITS;
        const uint slot = min(lo + r % COLS, hi - 1u);
        tile_shared[r * STRIDE + unit] = unit_of(r < COLS ? k : v, stride, slot, unit);
        i += GROUPS * LANES;
    }
    barrier();
    EACH(n, NS) {
        coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> s =
            coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
        EACH(d, DS) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> key;
            coopMatLoad(key, tile_shared, n * N * STRIDE + d * K / 4u, STRIDE,
                        gl_CooperativeMatrixLayoutColumnMajor);
            s = coopMatMulAdd(q[d], key, s);
        }
        coopMatStore(s, score_shared, group * M * SCORE_STRIDE + n * N, SCORE_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
    }
    sync_subgroup();

    float score[SPAN];
    float best = LOWEST;
    EACH(c, SPAN) {
        const uint slot = lo + first + c;
        score[c] = slot < hi && int(slot) < see ? score_shared[at + c] : LOWEST;
        best = max(best, score[c]);
    }
    [[unroll]] for (uint mask = 1u; mask < PER_ROW; mask *= 2u)
        best = max(best, subgroupShuffleXor(best, mask));
    float keep = 1.0;
    if (best > base + SLACK) {
        keep = exp2(base - best);  // 0 at the first slot seen
        weight *= keep;
        base = best;
    }
    EACH(c, SPAN / 4u) {
        vec4 w;
        EACH(e, 4u) w[e] = score[4u * c + e] > LOWEST ? exp2(score[4u * c + e] - base) : 0.0;
        const f16vec4 rounded = f16vec4(w);
        weight += float(rounded.x) + float(rounded.y) + float(rounded.z) + float(rounded.w);
        weight_shared[(group * M + row) * WEIGHT_STRIDE + first / 4u + c] = rounded;
    }
    // No barriers inside: CPU drivers take those of a subgroup for those of the workgroup.
    const bool move = subgroupAny(keep != 1.0);
    sync_subgroup();
    if (move) {
        const uint to = (group * M + row) * SCORE_STRIDE + lane % PER_ROW * (N / PER_ROW);
        EACH(c, N / PER_ROW) score_shared[to + c] = keep;
    }
    sync_subgroup();
    if (move) {
        coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> factor;
        coopMatLoad(factor, score_shared, group * M * SCORE_STRIDE, SCORE_STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
        EACH(o, OS) sum[o] = sum[o] * factor;
    }
    EACH(j, KS) {
        coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> w;
        coopMatLoad(w, weight_shared, group * M * WEIGHT_STRIDE + j * K / 4u, WEIGHT_STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
        EACH(o, OS) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> value;
            coopMatLoad(value, tile_shared, (COLS + j * K) * STRIDE + o * N / 4u, STRIDE,
                        gl_CooperativeMatrixLayoutRowMajor);
            sum[o] = coopMatMulAdd(w, value, sum[o]);
        }
    }
}

void main()
{
    const vlm_args_attention p = VLM_LOAD_ARGS;
    const uint lane = gl_SubgroupInvocationID, group_id = gl_SubgroupID;
    const uint head = gl_WorkGroupID.y;
    const uint item = gl_WorkGroupID.x;
#ifdef FULL
    const uint n_row = p.n_seq;
    const uint n_tile = (n_row + ROWS - 1u) / ROWS;
    const uint tok0 = item / n_tile * n_row;
    const uint tile = item % n_tile;
    const uint group = 1u;
#else
    uint at = 0;
    while (at + 1 < p.n_seq && uint(InU64(p.seqs).v[5 * (at + 1) + 3]) <= item)
        at++;
    const Seq seq = load_seq(InU64(p.seqs), at);
    const uint n_row = seq.n_row;
    const uint n_tile = (n_row + ROWS - 1u) / ROWS;
    const uint tok0 = seq.tok0;
    const uint split = (item - seq.item0) % seq.n_split;
    const uint step = (item - seq.item0) / seq.n_split;
    const uint tile = (step & 1u) == 0u ? step / 2u : n_tile - 1u - step / 2u;
    const uint group = p.group;
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
    base = LOWEST;
    weight = 0.0;
    const uint my_row = min(tile * ROWS + group_id * M + lane / PER_ROW, n_row - 1u);

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
                   int(seq.slot0 + my_row / group + 1u) - int(page * 64u));
            slot += COLS;
        }
        page++;
    } while (page < end_page);
#endif

    float total = weight;
    [[unroll]] for (uint mask = 1u; mask < PER_ROW; mask *= 2u)
        total += subgroupShuffleXor(total, mask);
    const uint first_row = tile * ROWS + group_id * M;
    float factor = total > 0.0 ? 1.0 / total : 0.0;
#ifndef FULL
    if (seq.n_split > 1u) {
        factor = 1.0;
        if (lane % PER_ROW == 0u && first_row + lane / PER_ROW < n_row) {
            const uint part = seq.part0 + (head * n_row + my_row) * seq.n_split + split;
            F32 to = F32(plus(p.part, uint64_t(part) * (HD + 2u) * 4ul));
            to.v[HD] = base;
            to.v[HD + 1u] = total;
        }
    }
#endif
    EACH(o, OS) {
        coopMatStore(sum[o], score_shared, group_id * M * SCORE_STRIDE, SCORE_STRIDE,
                     gl_CooperativeMatrixLayoutRowMajor);
        sync_subgroup();
        EACH(j, M * N / LANES) {
            const uint e = j * LANES + lane;
            const uint row = first_row + e / N, d = o * N + e % N;
            const float x = score_shared[(group_id * M + e / N) * SCORE_STRIDE + e % N]
                          * subgroupShuffle(factor, e / N * PER_ROW);
            if (row < n_row && d < HD) {
                F32 to = F32(plus(p.dst, uint64_t((tok0 + row / group) * p.dst_stride
                                                  + (head * group + row % group) * HD) * 4ul));
#ifndef FULL
                if (seq.n_split > 1u) {
                    const uint part = seq.part0 + (head * n_row + row) * seq.n_split + split;
                    to = F32(plus(p.part, uint64_t(part) * (HD + 2u) * 4ul));
                }
#endif
                to.v[d] = x;
            }
        }
        sync_subgroup();
    }
}
