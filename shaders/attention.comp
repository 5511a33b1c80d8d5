// SPDX-License-Identifier: LGPL-2.1-or-later
// attention.comp — softmax attention without a mask and without a matrix of scores
//
//   dst[t, h] = sum over s of softmax_s(scale * q[t, h] . K[s]) V[s]
//
// Online softmax (Milakov and Gimelshein 2018) over tiles (FlashAttention, Dao et al. 2022).
//
// A work item is one KV head (workgroup y) and up to MR rows, a row being a token and one of the
// query heads of that KV head, over all pages or over one of n_split runs of pages. K and V are
// read once per item. Scores: lane = slot, 64-bit loads along the head, q broadcast from registers.
// Values: lane = 64 bits of the head, the weights broadcast from the lanes of their slots.
//
//   paged    one sequence per table entry, causal by slot; pages lie anywhere
//   FULL     rows of one image look at each other, or at those before; q, k, v side by side
//   KV_BITS  keys and values are quantised; else f16 or f32
//
// Workgroup: one subgroup per work item (x, folded so that contiguous shares of the grid cost the
//            same) and KV head (y).
// Shared:    none.
//
// Slots that nobody may see are not read: their memory may hold anything.
#version 460
#ifdef KV_BITS
#extension GL_EXT_shader_16bit_storage : require
#endif
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "attention.glsl"

layout(constant_id = 3) const uint SG = 8;           // lanes of a subgroup
layout(constant_id = 4) const uint HD = 64;          // head_dim
layout(constant_id = 5) const uint MR = 8;           // rows of an item
layout(constant_id = 6) const uint NR = 1;           // groups of SG slots per step
layout(constant_id = 7) const bool KV_F32 = false;   // elements of K and V

VLM_ARGS(vlm_args_attention);

layout(buffer_reference, std430, buffer_reference_align = 8) writeonly buffer OutU64
{
    uint64_t v[];
};

const uint E = KV_F32 ? 2 : 4;                       // elements in 64 bits
const uint KV_BYTES = KV_F32 ? 4 : 2;
const uint UNITS = HD / E;                           // 64-bit units of a head's row
#ifndef KV_BITS
const uint HEAD_BYTES = 64 * HD * KV_BYTES;
#endif
const uint QV = (HD + 2 * SG - 1) / (2 * SG) * 2;    // registers of a row of q
const uint CHUNKS = (UNITS + SG - 1) / SG;           // loads per row of V
const uint AV = CHUNKS * E;                          // registers of a row of sums
const uint SCORES = MR * NR;
const float LOWEST = -3.0e38;

#define EACH(i, n) [[unroll]] for (uint i = 0; i < (n); i++)

vec4 elements(uint64_t bits)
{
    const uvec2 u = unpackUint2x32(bits);
    if (KV_F32)
        return vec4(uintBitsToFloat(u.x), uintBitsToFloat(u.y), 0.0, 0.0);
    return vec4(unpackHalf2x16(u.x), unpackHalf2x16(u.y));
}

uint64_t bits(float x, float y)
{
    return packUint2x32(uvec2(floatBitsToUint(x), floatBitsToUint(y)));
}

uvec2 plus(uvec2 addr, uint64_t bytes)
{
    return unpackUint2x32(packUint2x32(addr) + bytes);
}

float q[MR * QV];
float sum[MR * AV];
float top[MR];
float weight[MR];

#ifdef KV_BITS
#include "attention_quant.glsl"
#endif

// Adds slots lo ... hi - 1 of a run of slots whose keys start at `k` and values at `v`, `stride`
// bytes apart. Row m sees those below see[m].
void attend(uvec2 k, uvec2 v, uint stride, uint lo, uint hi, int see[MR])
{
    const uint lane = gl_LocalInvocationID.x;
    uint s = lo;

    do {
        float score[SCORES];
        EACH(i, SCORES) score[i] = 0.0;
        EACH(g, NR) {
#ifdef KV_BITS
            add_scores(k, min(s + g * SG + lane, hi - 1), g, score);
#else
            InU64 key = InU64(plus(k, min(s + g * SG + lane, hi - 1) * stride));
            EACH(u, UNITS) {
                const vec4 x = elements(key.v[u]);
                EACH(e, E) {
                    const uint d = u * E + e;
                    EACH(m, MR)
                        score[m * NR + g] += from_lane(q[m * QV + d / (2 * SG) * 2 + d % 2],
                                                               d / 2 % SG) * x[e];
                }
            }
#endif
        }
        EACH(m, MR) {
            float best = LOWEST;
            EACH(g, NR) {
                const uint slot = s + g * SG + lane;
                const bool seen = slot < hi && int(slot) < see[m];
                score[m * NR + g] = seen ? score[m * NR + g] : LOWEST;
                best = max(best, score[m * NR + g]);
            }
            const float now = max(top[m], subgroupMax(best));
            const float keep = exp2(top[m] - now);
            weight[m] *= keep;
            EACH(i, AV) sum[m * AV + i] *= keep;
            EACH(g, NR) {
                const float x = score[m * NR + g];
                score[m * NR + g] = x > LOWEST ? exp2(x - now) : 0.0;
                weight[m] += score[m * NR + g];
            }
            top[m] = now;
        }
        EACH(g, NR) {
#ifdef KV_BITS
            vec2 scale[CHUNKS];
            load_scales(v, min(s + g * SG + lane, hi - 1), scale);
#endif
            EACH(j, SG) {
                const uint slot = min(s + g * SG + j, hi - 1);
#ifndef KV_BITS
                InU64 value = InU64(plus(v, slot * stride));
#endif
                EACH(c, CHUNKS) {
#ifdef KV_BITS
                    const vec4 x = load_values(v, slot, c, j, scale);
#else
                    const vec4 x = elements(value.v[min(c * SG + lane, UNITS - 1)]);
#endif
                    EACH(m, MR) {
                        const float w = from_lane(score[m * NR + g], j);
                        EACH(e, E) sum[m * AV + c * E + e] += w * x[e];
                    }
                }
            }
        }
        s += NR * SG;
    } while (s < hi);
}

void main()
{
    const vlm_args_attention p = VLM_LOAD_ARGS;
    const uint lane = gl_LocalInvocationID.x;
    const uint head = gl_WorkGroupID.y;
    const uint item = gl_WorkGroupID.x;
#ifdef FULL
    const uint n_row = p.n_seq;
    const uint n_tile = (n_row + MR - 1) / MR;
    const uint tok0 = item / n_tile * n_row;
    const uint tile = item % n_tile;
    const uint group = 1;
#else
    uint at = 0;
    while (at + 1 < p.n_seq && uint(InU64(p.seqs).v[5 * (at + 1) + 3]) <= item)
        at++;
    const Seq seq = load_seq(InU64(p.seqs), at);
    const uint n_row = seq.n_row;
    const uint n_tile = (n_row + MR - 1) / MR;
    const uint tok0 = seq.tok0;
    const uint split = (item - seq.item0) % seq.n_split;
    const uint step = (item - seq.item0) / seq.n_split;
    const uint tile = (step & 1u) == 0u ? step / 2 : n_tile - 1 - step / 2;
    const uint group = p.group;
#endif

    int see[MR];
    EACH(m, MR) {
        const uint row = min(tile * MR + m, n_row - 1);
        const uint tok = row / group;
        InU64 from = InU64(plus(p.q, uint64_t((tok0 + tok) * p.q_stride
                                                    + (head * group + row % group) * HD) * 4));
        EACH(i, QV / 2) {
            const uvec2 x = unpackUint2x32(from.v[min(i * SG + lane, HD / 2 - 1)]);
            q[m * QV + 2 * i] = uintBitsToFloat(x.x) * p.scale;
            q[m * QV + 2 * i + 1] = uintBitsToFloat(x.y) * p.scale;
        }
        EACH(i, AV) sum[m * AV + i] = 0.0;
        top[m] = LOWEST;
        weight[m] = 0.0;
#ifdef FULL
        see[m] = int(p.group != 0 ? row + 1 : n_row);
#else
        see[m] = int(seq.slot0 + tok + 1);
#endif
    }

#ifdef FULL
    const uint stride = p.q_stride * 4;
    const uvec2 k = plus(p.seqs, uint64_t(tok0) * stride + head * (HD * 4));
    attend(k, plus(k, p.half_bytes), stride, 0, uint(see[MR - 1]), see);
#else
    const uint last = seq.slot0 + (min(tile * MR + MR, n_row) - 1) / group;  // slot seen last
    const uint end_page = min(min(split * seq.split_pages + seq.split_pages, seq.n_page),
                              last / 64 + 1);
    uint page = split * seq.split_pages;
    if (page < end_page) do {
        const uint64_t addr = InU64(seq.pages).v[2 * page];
        const uvec2 range = unpackUint2x32(InU64(seq.pages).v[2 * page + 1]);
        const uint hi = min(min(range.y, 64u), last + 1 - page * 64);
        if (range.x < hi) {
            const uvec2 k = unpackUint2x32(addr
                                           + packUint2x32(uvec2(p.layer_low, p.layer_high))
                                           + head * HEAD_BYTES);
            int see_here[MR];
            EACH(m, MR) see_here[m] = see[m] - int(page * 64);
            attend(k, plus(k, p.half_bytes), HD * KV_BYTES, range.x, hi, see_here);
        }
        page++;
    } while (page < end_page);
#endif

    EACH(m, MR) {
        const uint row = tile * MR + m;
        const uint tok = tok0 + row / group;
        const uint q_head = head * group + row % group;
        const float total = subgroupAdd(weight[m]);
        if (row < n_row) {
            float factor = total > 0.0 ? 1.0 / total : 0.0;
            OutU64 to = OutU64(unpackUint2x32(packUint2x32(p.dst)
                                          + uint64_t(tok * p.dst_stride + q_head * HD) * 4));
#ifndef FULL
            if (seq.n_split > 1) {
                const uint part = seq.part0 + (head * n_row + row) * seq.n_split + split;
                to = OutU64(unpackUint2x32(packUint2x32(p.part) + uint64_t(part) * (HD + 2) * 4));
                factor = 1.0;
                if (lane == 0)
                    to.v[HD / 2] = bits(top[m], total);
            }
#endif
            EACH(c, CHUNKS) {
                const uint unit = c * SG + lane;
                if (unit < UNITS) {
                    EACH(e, E / 2)
                        to.v[unit * (E / 2) + e] = bits(sum[m * AV + c * E + 2 * e] * factor,
                                                        sum[m * AV + c * E + 2 * e + 1] * factor);
                }
            }
        }
    }
}
