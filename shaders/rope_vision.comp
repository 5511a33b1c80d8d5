// SPDX-License-Identifier: LGPL-2.1-or-later
// rope_vision.comp — rotates the heads of q and k in place
//
// Workgroup: one subgroup per head (x: the heads of q, then those of k) and patch (y), lanes along
//            the pairs.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "rope.glsl"

VLM_ARGS(vlm_args_rope_vision);

void main()
{
    const vlm_args_rope_vision p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    const uint at = row * p.stride + gl_WorkGroupID.x * p.head_dim;
    F32 x = F32(p.qkv);

    uint i = gl_LocalInvocationID.x;
    while (i < p.head_dim / 2) {
        const Pair pair = load_pair(InU64(p.pairs), i);
        const vec2 r = rotation(InU32(p.positions).v[4 * row + pair.axis], pair.turn);
        const float a = x.v[at + pair.first];
        const float b = x.v[at + pair.second];
        x.v[at + pair.first] = a * r.x - b * r.y;
        x.v[at + pair.second] = b * r.x + a * r.y;
        i += gl_SubgroupSize;
    }
}
