// SPDX-License-Identifier: LGPL-2.1-or-later
// rope_append.comp — head norms, rotation, and the way into the KV cache
//
//   q[t, h] = rotate(q[t, h] / rms * q_norm)         in place
//   K[slot] = rotate(k[t, h] / rms * k_norm), V[slot] = v[t, h]
//
// With KV_BITS pages are quantised: lanes take blocks of the head, keys first. With 4 bits, keys
// and queries are transformed before, block by block.
//
// Workgroup: one subgroup per head (x: the heads of q, then those of k and v) and token (y), lanes
//            along the pairs.
// Shared:    with KV_BITS the rotated head, 256 f32.
#version 460
#extension GL_EXT_shader_16bit_storage : require
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "f16.glsl"
#include "rope.glsl"

VLM_ARGS(vlm_args_rope_append);

#ifdef KV_BITS
#include "kv_quant.glsl"

shared float rotated[256];

void store(uint64_t row, uint i, float x, bool f32_pages)
{
    rotated[i] = x;
}
#else
layout(buffer_reference, std430, buffer_reference_align = 2) writeonly buffer OutU16
{
    uint16_t v[];
};

void store(uint64_t row, uint i, float x, bool f32_pages)
{
    if (f32_pages)
        OutF32(unpackUint2x32(row)).v[i] = x;
    else
        OutU16(unpackUint2x32(row)).v[i] = uint16_t(f16_bits(x));
}
#endif

// 1 / rms of a head, 1 without a norm.
float head_scale(InF32 x, uint at, uint n, bool norm, float eps)
{
    float sum = 0.0;
    uint i = gl_LocalInvocationID.x;
    while (i < n) {
        const float a = x.v[at + i];
        sum += a * a;
        i += gl_SubgroupSize;
    }
    const float total = subgroupAdd(sum);
    return norm ? inversesqrt(total / float(n) + eps) : 1.0;
}

void main()
{
    const vlm_args_rope_append p = VLM_LOAD_ARGS;
    const uint tok = gl_WorkGroupID.y;
    const bool is_q = gl_WorkGroupID.x < p.n_head;
    const uint head = is_q ? gl_WorkGroupID.x : gl_WorkGroupID.x - p.n_head;
    const uint at = tok * (is_q ? p.q_stride : p.k_stride) + head * p.head_dim;
    const uint v_at = tok * p.v_stride + head * p.head_dim;
    const uvec2 src = is_q ? p.q : p.k;
    const bool norm = (p.norms & (is_q ? 1u : 2u)) != 0u;
    const bool f32_pages = p.f32_pages != 0u;
    InF32 weight = InF32(is_q ? p.q_norm : p.k_norm);
    const float scale = head_scale(InF32(src), at, p.head_dim, norm, p.eps);

    // Page addresses are multiples of 64: the low 6 bits are the slot.
    const uint64_t entry = InU64(p.slots).v[tok];
    const uint slot = uint(entry) & (p.page_slots - 1u);
    const uint64_t k_layer = (entry & ~uint64_t(p.page_slots - 1u))
                           + packUint2x32(uvec2(p.layer_low, p.layer_high));
#ifdef KV_BITS
    const uint n_block = (p.head_dim + KV_BLOCK - 1u) / KV_BLOCK;
    const uint block_bytes = 4u * KV_BITS;
    const uint64_t k_head = k_layer
                          + uint64_t(head * p.page_slots) * (n_block * (block_bytes + 2u));
    const uint64_t k_row = 0ul;
#else
    const uint64_t row_bytes = uint64_t(p.head_dim * (f32_pages ? 4u : 2u));
    const uint64_t k_row = k_layer + (head * p.page_slots + slot) * row_bytes;
#endif
    const bool stored = !is_q && entry != 0ul;

    uint i = gl_LocalInvocationID.x;
    while (i < p.head_dim / 2) {
        const Pair pair = load_pair(InU64(p.pairs), i);
        const vec2 r = rotation(InU32(p.positions).v[4 * tok + pair.axis], pair.turn);
        float a = InF32(src).v[at + pair.first] * scale;
        float b = InF32(src).v[at + pair.second] * scale;
        if (norm) {
            a *= weight.v[pair.first];
            b *= weight.v[pair.second];
        }
        const float x = a * r.x - b * r.y;
        const float y = b * r.x + a * r.y;
        if (is_q) {
#if KV_BITS == 4
            rotated[pair.first] = x;
            rotated[pair.second] = y;
#else
            F32(p.q).v[at + pair.first] = x;
            F32(p.q).v[at + pair.second] = y;
#endif
        }
        if (stored) {
            store(k_row, pair.first, x, f32_pages);
            store(k_row, pair.second, y, f32_pages);
#ifndef KV_BITS
            const uint64_t v_row = k_row + p.half_bytes;
            store(v_row, i, InF32(p.v).v[v_at + i], f32_pages);
            store(v_row, i + p.head_dim / 2, InF32(p.v).v[v_at + i + p.head_dim / 2], f32_pages);
#endif
        }
        i += gl_SubgroupSize;
    }
#ifdef KV_BITS
    barrier();
#if KV_BITS == 4
    i = gl_LocalInvocationID.x;
    while (is_q && i < n_block) {
        float x[KV_BLOCK];
        [[unroll]] for (uint e = 0u; e < KV_BLOCK; e++)
            x[e] = rotated[min(i * KV_BLOCK + e, p.head_dim - 1u)];
        if (i * KV_BLOCK + KV_BLOCK <= p.head_dim) {
            transform(x);
            [[unroll]] for (uint e = 0u; e < KV_BLOCK; e++)
                x[e] *= 0.25;
        }
        [[unroll]] for (uint e = 0u; e < KV_BLOCK; e++) {
            if (i * KV_BLOCK + e < p.head_dim)
                F32(p.q).v[at + i * KV_BLOCK + e] = x[e];
        }
        i += gl_SubgroupSize;
    }
#endif
    i = gl_LocalInvocationID.x;
    while (stored && i < 2u * n_block) {
        const uint block = i < n_block ? i : i - n_block;
        const uint64_t half_ = k_head + (i < n_block ? 0u : p.half_bytes);
        float x[KV_BLOCK];
        [[unroll]] for (uint e = 0u; e < KV_BLOCK; e++) {
            const uint d = block * KV_BLOCK + e;
            const uint within = min(d, p.head_dim - 1u);
            const float a = i < n_block ? rotated[within] : InF32(p.v).v[v_at + within];
            x[e] = d < p.head_dim ? a : 0.0;
        }
#if KV_BITS == 4
        if (i < n_block && block * KV_BLOCK + KV_BLOCK <= p.head_dim) {
            transform(x);
            [[unroll]] for (uint e = 0u; e < KV_BLOCK; e++)
                x[e] *= 0.125;
        }
#endif
        store_block(x, unpackUint2x32(half_ + (slot * n_block + block) * block_bytes),
                    unpackUint2x32(half_ + p.page_slots * n_block * block_bytes
                                   + (block * p.page_slots + slot) * 2u));
        i += gl_SubgroupSize;
    }
#endif
}
