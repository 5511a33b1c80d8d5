// SPDX-License-Identifier: LGPL-2.1-or-later
// matmul_dot.comp — products of rows rounded to 8 bits with packed weights, in integers.
//
//   dst[t, r] = act(sum over c of weight[r, c] * x[t, c] + bias[r]) + residual[t, r]
//
// and, with MOE or MIX defined and the constants SET, PAIR and THEN, what matmul.comp, whose
// arguments these are, says of them. x is src, each block of 32 columns as codes times a scale:
//
//   scale = largest magnitude * (1 / 127),  code = nearest integer to src * (127 / largest)
//
// or 0 where the largest is below 1e-30. A block with NaN or infinity makes no finite results.
//
// Workgroup: N_GROUP subgroups, lane = row of a panel. Without ROWS all have one panel, subgroup g
//            units g, g + N_GROUP, ... of it, and workgroup (x, y) has token tile x and panel y.
//            With ROWS subgroup g has panel y * N_GROUP + g. PAIR: a panel of each matrix. MIX:
//            TOKS is 1, units of a token's experts follow one another; never with ROWS.
// Shared:    rounded activations of AREA_BLOCKS blocks, of each subgroup or (ROWS) of all; the
//            subgroups' sums, f32 [N_GROUP, matrices * TOKS, LANES] (ROWS: N_GROUP).
// Numbers:   integers within columns that share both scales; then f32, by subgroup, then the
//            subgroups in order.
// Assumes:   whole subgroups of LANES, a multiple of 8; without ROWS at least N_GROUP units.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"
#include "dot.glsl"
#include "swiglu.glsl"
#include "experts.glsl"

layout(constant_id = 4) const uint TOKS = 1;  // at most MAX_TOKS
layout(constant_id = 5) const uint N_GROUP = 8;
layout(constant_id = 6) const bool HAS_ACT = false;
layout(constant_id = 7) const bool SET = false;
layout(constant_id = 8) const bool PAIR = false;
layout(constant_id = 9) const uint THEN = 0;
layout(constant_id = 10) const bool ROWS = false;

const uint MAX_TOKS = 16;
const uint N_MATRIX = PAIR ? 2 : 1;
const uint AREA_BLOCKS = 4;  // a unit has 4 or 8

// A rounded block: two of codes, then scale (bits) and the sums of the codes of each half.
const uint BLOCK_QUADS = 3;
shared uvec4 rounded[(ROWS ? 1 : N_GROUP) * TOKS * AREA_BLOCKS * BLOCK_QUADS];
shared float sums[ROWS ? N_GROUP : N_GROUP * N_MATRIX * TOKS * LANES];

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

// Makes shared memory of those who use an area visible to them.
void area_barrier()
{
    if (ROWS)
        barrier();
    else
        subgroupBarrier();
}

// Rounds the four columns of word q of a block; the eight lanes of a block come together.
void round_word(uint64_t row_at, uint block, uint q, uint place)
{
    InF32 x = InF32(row_at + 128u * block + 4u * first_of(q));
    const vec4 v = vec4(x.v[0], x.v[STEP], x.v[2 * STEP], x.v[3 * STEP]);
    // As bits, NaN is larger than infinity, which is larger than all numbers.
    const uvec4 bits = floatBitsToUint(v) & 0x7fffffffu;
    uint most = max(max(bits.x, bits.y), max(bits.z, bits.w));
    most = max(most, subgroupShuffleXor(most, 1u));
    most = max(most, subgroupShuffleXor(most, 2u));
    most = max(most, subgroupShuffleXor(most, 4u));
    const float largest = most < floatBitsToUint(1e-30) ? 0.0 : uintBitsToFloat(most);
    const float steps = largest == 0.0 ? 0.0 : 127.0 / largest;
    const ivec4 code = ivec4(roundEven(v * steps));
    rounded[place * BLOCK_QUADS + q / 4u][q % 4u] =
        uint(code.x & 255) | uint(code.y & 255) << 8 | uint(code.z & 255) << 16
        | uint(code.w & 255) << 24;
    int sum = code.x + code.y + code.z + code.w;
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    if (q == 0u)
        rounded[place * BLOCK_QUADS + 2u].x = floatBitsToUint(largest * (1.0 / 127.0));
    if (q % 4u == 0u)
        rounded[place * BLOCK_QUADS + 2u][1u + q / 4u] = uint(sum);
}

// Of columns that share both scales.
float scaled(float scale, float minus, int product, int sum)
{
#if HAS_MINUS
    return scale * float(product) - minus * float(sum);
#elif ZERO > 0
    return scale * float(product - ZERO * sum);
#else
    return scale * float(product);
#endif
}

// Of a block of weights with the rounded one at `place`.
float block_sum(uvec4 w[2], block_t b, uint place)
{
    const uvec4 rest = rounded[place * BLOCK_QUADS + 2u];
    int product[2];
    [[unroll]] for (uint h = 0; h < 2; h++) {
        const uvec4 x = rounded[place * BLOCK_QUADS + h];
        product[h] = dot4(w[h].x, x.x) + dot4(w[h].y, x.y) + dot4(w[h].z, x.z) + dot4(w[h].w, x.w);
    }
    const float step = uintBitsToFloat(rest.x);
#if HEAD == HEAD_E8  // by the weights' scale last, which may be below the numbers of f32
    return times_scale(b, 0, step * float(product[0] + product[1]));
#elif SCALE_K == 32
    return step * scaled(b.scale, b.minus, product[0] + product[1], int(rest.y) + int(rest.z));
#else
    return step * (scaled(b.scale, b.minus, product[0], int(rest.y))
                   + scaled(b.scale_16, b.minus_16, product[1], int(rest.z)));
#endif
}

void main()
{
    const uint lane = gl_LocalInvocationID.x % LANES, group = gl_LocalInvocationID.x / LANES;
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
        while (row_tile >= p.n_row_tile) {
            row_tile -= p.n_row_tile;
            p = ArgsRef(p.next).a;
        }
    }
    const uint64_t matrix = 0;
    const uint first = gl_WorkGroupID.x * TOKS;
    const uint n_tok = min(p.n_tok - first, TOKS);
#define DST_ROW(t) (first + (t))
#define SRC_ROW(t) (first + (t))
#endif
    // Panels past the end repeat the last one and aren't stored.
    const uint panel = ROWS ? row_tile * N_GROUP + group : row_tile;
    const uint stored_panel = min(panel, (p.n_row - 1u) / LANES);
    const uint64_t in_matrix =
        matrix + uint64_t(stored_panel) * uint64_t(p.panel_bytes) + 8u * lane;
    uint64_t from[N_MATRIX];
    from[0] = packUint2x32(p.weight) + in_matrix;
#ifndef MIX
    if (PAIR)
        from[N_MATRIX - 1] = packUint2x32(p.pair) + in_matrix;
#endif
    const uint n_unit = (p.n_block + UNIT_BLOCKS - 1u) / UNIT_BLOCKS;
    const uint area = (ROWS ? 0u : group) * TOKS * AREA_BLOCKS;
    const uint n_helper = ROWS ? N_GROUP * LANES : LANES;  // lanes that round for one area

    float acc[N_MATRIX][MAX_TOKS];
    [[unroll]] for (uint m = 0; m < N_MATRIX; m++)
        [[unroll]] for (uint t = 0; t < TOKS; t++)
            acc[m][t] = 0.0;

#ifdef MIX
    const uint n_item = p.k * n_unit;
#else
    const uint n_item = n_unit;
#endif
    // Every subgroup comes to every barrier, also to those of a subgroup: Mesa 26's CPU driver
    // makes them barriers of the workgroup.
    const uint n_pass = ROWS ? n_item : (n_item + N_GROUP - 1u) / N_GROUP;
    uint pass = 0;
    do {
        const uint wanted = ROWS ? pass : pass * N_GROUP + group;
        const bool mine = wanted < n_item;
        const uint item = min(wanted, n_item - 1u);
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
        const uint n_block = mine ? min(p.n_block - unit * UNIT_BLOCKS, UNIT_BLOCKS) : 0u;
        head_t head[N_MATRIX];
        uint64_t w_at[N_MATRIX];
        [[unroll]] for (uint m = 0; m < N_MATRIX; m++) {
            head[m] = open_head(from[m] + unit_at, lane);
            w_at[m] = from[m] + unit_at + HEAD_BYTES;
        }
        uint block0 = 0;
        do {
            area_barrier();  // what was there has been used
            // Tokens and blocks past the end repeat the last one and aren't used.
            uint i = ROWS ? gl_LocalInvocationID.x : lane;
            if (block0 < n_block && i < TOKS * AREA_BLOCKS * 8u) {
                do {
                    const uint t = i / (AREA_BLOCKS * 8u), b = i / 8u % AREA_BLOCKS;
                    const uint64_t row_at =
                        packUint2x32(p.src) + x_skip
                        + uint64_t(SRC_ROW(min(t, n_tok - 1u))) * uint64_t(p.src_stride) * 4ul;
                    round_word(row_at, unit * UNIT_BLOCKS + min(block0 + b, n_block - 1u), i % 8u,
                               area + t * AREA_BLOCKS + b);
                    i += n_helper;
                } while (i < TOKS * AREA_BLOCKS * 8u);
            }
            area_barrier();
            uint j = block0;
            if (j < n_block) {
                do {
                    [[unroll]] for (uint m = 0; m < N_MATRIX; m++) {
                        const block_t b = open_block(head[m], j, w_at[m], lane);
                        uint64_t word[BLOCK_WORDS];
                        [[unroll]] for (uint s = 0; s < BLOCK_WORDS; s++)
                            word[s] = InU64(w_at[m]).v[s * LANES];
                        w_at[m] += BLOCK_BYTES;
                        uvec4 w[2];
                        [[unroll]] for (int q = 0; q < 8; q++)
                            w[q / 4][q % 4] = code_word(word, b, q);
                        [[unroll]] for (uint t = 0; t < TOKS; t++) {
                            const uint place = area + t * AREA_BLOCKS + j % AREA_BLOCKS;
                            acc[m][t] += gate * block_sum(w, b, place);
                        }
                    }
                    j++;
                } while (j < min(n_block, block0 + AREA_BLOCKS));
            }
            block0 += AREA_BLOCKS;
        } while (block0 < UNIT_BLOCKS);
        pass++;
    } while (pass < n_pass);

    if (!ROWS) {
        [[unroll]] for (uint m = 0; m < N_MATRIX; m++)
            [[unroll]] for (uint t = 0; t < TOKS; t++)
                sums[((group * N_MATRIX + m) * TOKS + t) * LANES + lane] = acc[m][t];
        barrier();
    }
    const uint row = panel * LANES + lane;
    [[unroll]] for (uint t = 0; t < TOKS; t++) {
        // Subgroups take turns with the tokens that they have all worked at.
        if ((ROWS || t % N_GROUP == group) && t < n_tok && row < p.n_row) {
            float y[N_MATRIX];
            [[unroll]] for (uint m = 0; m < N_MATRIX; m++) {
                y[m] = acc[m][t];
                if (!ROWS) {
                    y[m] = sums[(m * TOKS + t) * LANES + lane];
                    [[unroll]] for (uint g = 1; g < N_GROUP; g++)
                        y[m] += sums[((g * N_MATRIX + m) * TOKS + t) * LANES + lane];
                }
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
    }
#ifndef MOE
    then(p.then, gl_WorkGroupID.x, gl_NumWorkGroups.y, first, n_tok);
#endif
}
