// SPDX-License-Identifier: LGPL-2.1-or-later
// roofline_read.comp — dst[g, lane] = sum of the words that this lane of workgroup g has read
//
// Workgroup: one subgroup; it reads `n_step` times UNROLL * lanes * 16 bytes in a row.
// Shared:    none.
// Assumes:   src has whole workgroups' shares.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_roofline);

layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer InVec
{
    uvec4 v[];
};

#define UNROLL VLM_ROOFLINE_UNROLL

void main()
{
    const vlm_args_roofline p = VLM_LOAD_ARGS;
    const uint lane = gl_LocalInvocationID.x;
    InVec src = InVec(p.src);
    OutU32 dst = OutU32(p.dst);
    uint at = gl_WorkGroupID.x * p.n_step * UNROLL * gl_SubgroupSize + lane;
    uint step = 0u;
    uvec4 sum = uvec4(0u);

    do {
        uvec4 part[UNROLL];
        [[unroll]] for (uint i = 0u; i < UNROLL; i++)
            part[i] = src.v[at + i * gl_SubgroupSize];
        [[unroll]] for (uint i = 0u; i < UNROLL; i++)
            sum += part[i];
        at += UNROLL * gl_SubgroupSize;
        step++;
    } while (step < p.n_step);
    dst.v[gl_WorkGroupID.x * gl_SubgroupSize + lane] = sum.x + sum.y + sum.z + sum.w;
}
