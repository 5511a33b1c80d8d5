// SPDX-License-Identifier: LGPL-2.1-or-later
// split_heads.comp — a[r, h] = src[r, 2 h], b[r, h] = src[r, 2 h + 1], heads of head_dim elements
//
// Workgroup: one subgroup per head (x) and row (y), lanes along the head.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_split_heads);

void main()
{
    const vlm_args_split_heads p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    const uint to = gl_WorkGroupID.x * p.head_dim;
    const uint from = row * p.src_stride + 2 * to;
    InF32 src = InF32(p.src);

    uint i = gl_LocalInvocationID.x;
    while (i < p.head_dim) {
        OutF32(p.a).v[row * p.a_stride + to + i] = src.v[from + i];
        OutF32(p.b).v[row * p.b_stride + to + i] = src.v[from + p.head_dim + i];
        i += gl_SubgroupSize;
    }
}
