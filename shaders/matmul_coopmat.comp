// SPDX-License-Identifier: LGPL-2.1-or-later
// matmul_coopmat.comp — products of many f32 rows with packed weights on matrix units.
//
//   dst[t, r] = act(sum over c of weight[r, c] * src[t, c] + bias[r]) + residual[t, r]
//
// and, with MOE defined, the products of moe_plan.comp's tiles: see matmul.comp, whose arguments
// these are.
//
// Workgroup: GROUPS subgroups. A tile is TOKS tokens times GROUPS panels of LANES rows; subgroup g
//            has panel g: it unpacks its weights, 32 columns at a time, and multiplies them with
//            the tokens that all subgroups have fetched together. Workgroup (x, y) has token
//            tile x and row tile y.
// Shared:    activations [TOKS, 32] and weights [GROUPS * LANES, 32] as f16; without COOPMAT2 a
//            matrix of results for each subgroup. With it (VK_NV_cooperative_matrix2) functions of
//            single elements add bias and the like to the matrices and store those at the edges.
// Numbers:   activations and unpacked weights are rounded to f16 (activations are held within its
//            range), sums are f32.
// Assumes:   TOKS a multiple of M, LANES one of N, 32 one of K; TOKS * 8 one of the local size.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#ifdef COOPMAT2
#extension GL_NV_cooperative_matrix2 : require
#endif
#include "common.glsl"
#include "weights.glsl"
#include "experts.glsl"

layout(constant_id = 4) const uint TOKS = 64;
layout(constant_id = 5) const uint GROUPS = 4;  // subgroups
layout(constant_id = 6) const uint M = 16;      // of the device's matrices: tokens,
layout(constant_id = 7) const uint N = 16;      // rows
layout(constant_id = 8) const uint K = 16;      // and columns
layout(constant_id = 9) const bool HAS_ACT = false;

const uint STRIDE = 10u;  // f16vec4 between rows of 32: two more than needed spread the banks
const uint MS = TOKS / M, NS = LANES / N;
const uint FETCHES = TOKS * 8u / (GROUPS * LANES);  // groups of four activations of a lane
const uint MAX_FETCHES = 64;

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer InVec4 { vec4 v[]; };

shared f16vec4 x_shared[TOKS * STRIDE];
shared f16vec4 w_shared[GROUPS * LANES * STRIDE];

#ifdef MOE
VLM_ARGS(vlm_args_moe_matmul);
#define ARGS vlm_args_moe_matmul
#else
VLM_ARGS(vlm_args_matmul);
#define ARGS vlm_args_matmul
#include "act.glsl"
#endif

ARGS p;
uint first, n_tok;  // of the tile

// Of token t of the tile.
#ifdef MOE
#define DST_ROW(t) InU32(p.slots).v[first + (t)]
#define SRC_ROW(t) (InU32(p.slots).v[first + (t)] / p.per_src)
#else
#define DST_ROW(t) (first + (t))
#define SRC_ROW(t) (first + (t))
#endif

// What follows a sum.
float finish(float y, uint to, uint row)
{
#ifndef MOE
    if (any(notEqual(p.bias, uvec2(0))))
        y += InF32(p.bias).v[row];
    if (HAS_ACT)
        y = activate(y, p.act);
    if (any(notEqual(p.residual, uvec2(0))))
        y += InF32(p.residual).v[to * p.residual_stride + row];
#endif
    return y;
}

#ifdef COOPMAT2
// Of element (r, c) of the matrix that begins at token t0 of the tile and at row row0. What reads
// and what writes are two: nothing says how often a function is called for an element, and the
// residual may lie where results go.
float finish_one(const in uint r, const in uint c, const in float y, const in uint t0,
                 const in uint row0)
{
    return t0 + r < n_tok && row0 + c < p.n_row ? finish(y, DST_ROW(t0 + r), row0 + c) : y;
}

float put_one(const in uint r, const in uint c, const in float y, const in uint t0,
              const in uint row0)
{
    if (t0 + r < n_tok && row0 + c < p.n_row)
        OutF32(p.dst).v[DST_ROW(t0 + r) * p.dst_stride + row0 + c] = y;
    return y;
}
#else
shared float out_shared[GROUPS * M * N];
#endif

void main()
{
    const uint lane = gl_SubgroupInvocationID, group = gl_SubgroupID;
    const uint thread = group * LANES + lane;
    p = VLM_LOAD_ARGS;
#ifdef MOE
    const uint tile = gl_WorkGroupID.x;
    if (tile >= InU32(p.n_tile).v[0])
        return;
    const uint expert = InU32(p.tiles).v[4u * tile];
    first = InU32(p.tiles).v[4u * tile + 1u];
    n_tok = InU32(p.tiles).v[4u * tile + 2u];
    const uint64_t weight = packUint2x32(p.weight) + expert_at(p.table, p.mat_bytes, expert);
#else
    const uint64_t weight = packUint2x32(p.weight);
    first = gl_WorkGroupID.x * TOKS;
    n_tok = p.n_tok - first;
#endif
    const uint panel = gl_WorkGroupID.y * GROUPS + group;
    const uint last_panel = (p.n_row - 1u) / LANES;

    // Tokens and panels past the end repeat the last one and aren't stored.
    const uint part = thread % 8u;  // columns 4 * part ... of each block
    uint64_t x_at[MAX_FETCHES];
    [[unroll]] for (uint i = 0u; i < FETCHES; i++) {
        const uint t = min((i * GROUPS * LANES + thread) / 8u, n_tok - 1u);
        x_at[i] = packUint2x32(p.src)
                + (uint64_t(SRC_ROW(t)) * uint64_t(p.src_stride) + 4u * part) * 4ul;
    }
    uint64_t w_at = weight + uint64_t(min(panel, last_panel)) * uint64_t(p.panel_bytes) + 8u * lane;

    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> acc[MS * NS];
    [[unroll]] for (uint i = 0u; i < MS * NS; i++)
        acc[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);

    head_t head;
    uint block = 0u, j = 0u;
    do {
        // Loads first: they are under way while the subgroups wait for each other.
        if (j == 0u) {
            head = open_head(w_at, lane);
            w_at += HEAD_BYTES;
        }
        const block_t b = open_block(head, j, w_at, lane);
        uint64_t word[BLOCK_WORDS];
        [[unroll]] for (uint s = 0u; s < BLOCK_WORDS; s++)
            word[s] = InU64(w_at).v[s * LANES];
        w_at += BLOCK_BYTES;
        vec4 x[MAX_FETCHES];
        [[unroll]] for (uint i = 0u; i < FETCHES; i++) {
            x[i] = InVec4(x_at[i]).v[0];
            x_at[i] += 128u;
        }
        barrier();
        const uvec4 c = block * 32u + 4u * part + uvec4(0, 1, 2, 3);
        [[unroll]] for (uint i = 0u; i < FETCHES; i++) {
            // no infinities, which would make 0 * infinity; what is past the end is not read
            vec4 v = clamp(x[i], -65504.0, 65504.0);
            v = mix(v, x[i], isnan(x[i]));
            v = mix(vec4(0.0), v, lessThan(c, uvec4(p.n_col)));
            x_shared[(i * GROUPS * LANES + thread) / 8u * STRIDE + part] = f16vec4(v);
        }
        [[unroll]] for (int k = 0; k < 32; k += 4) {
            vec4 v;
            [[unroll]] for (int i = 0; i < 4; i++)
                v[i] = times_scale(b, k + i, code(word[(k + i) / WORD_K], b, k + i))
                     - minus_of(b, k + i);
            w_shared[thread * STRIDE + uint(k) / 4u] = f16vec4(v);
        }
        barrier();
        [[unroll]] for (uint k = 0u; k < 32u; k += K) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> w[NS];
            [[unroll]] for (uint n = 0u; n < NS; n++)
                coopMatLoad(w[n], w_shared, (group * LANES + n * N) * STRIDE + k / 4u, STRIDE,
                            gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (uint m = 0u; m < MS; m++) {
                coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
                coopMatLoad(a, x_shared, m * M * STRIDE + k / 4u, STRIDE,
                            gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (uint n = 0u; n < NS; n++)
                    acc[m * NS + n] = coopMatMulAdd(a, w[n], acc[m * NS + n]);
            }
        }
        block++;
        j = j + 1u == UNIT_BLOCKS ? 0u : j + 1u;
    } while (block < p.n_block);

#if defined(COOPMAT2) && !defined(MOE)
    // matrices are stored to rows that begin at multiples of 16 bytes
    const bool whole_rows = N % 4u == 0u && ((p.dst.x | p.dst_stride * 4u) & 15u) == 0u;
#endif
    [[unroll]] for (uint m = 0u; m < MS; m++) {
        [[unroll]] for (uint n = 0u; n < NS; n++) {
#ifdef COOPMAT2
            const uint t0 = m * M, row0 = panel * LANES + n * N;
#ifndef MOE  // whose rows are anywhere
            coopMatPerElementNV(acc[m * NS + n], acc[m * NS + n], finish_one, t0, row0);
            if (whole_rows && t0 + M <= n_tok && row0 + N <= p.n_row)
                coopMatStore(acc[m * NS + n], OutF32(p.dst).v,
                             (first + t0) * p.dst_stride + row0, p.dst_stride,
                             gl_CooperativeMatrixLayoutRowMajor);
            else
#endif
                coopMatPerElementNV(acc[m * NS + n], acc[m * NS + n], put_one, t0, row0);
#else
            coopMatStore(acc[m * NS + n], out_shared, group * M * N, N,
                         gl_CooperativeMatrixLayoutRowMajor);
            barrier();
            uint e = lane;
            do {
                const uint t = m * M + e / N, row = panel * LANES + n * N + e % N;
                if (t < n_tok && row < p.n_row) {
                    const uint to = DST_ROW(t);
                    OutF32(p.dst).v[to * p.dst_stride + row] =
                        finish(out_shared[group * M * N + e], to, row);
                }
                e += LANES;
            } while (e < M * N);
            barrier();
#endif
        }
    }
}
