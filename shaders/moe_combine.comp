// SPDX-License-Identifier: LGPL-2.1-or-later
// moe_combine.comp — dst[t, c] += sum over j of gate[t, j] * src[t * k + j, c], j ascending
//
// Workgroup: one subgroup; (x, y) has columns from x * 4 * subgroup size of token y.
// Shared:    none.
// In place:  dst is read and written by the same lane.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_moe_combine);

void main()
{
    const vlm_args_moe_combine p = VLM_LOAD_ARGS;
    const uint tok = gl_WorkGroupID.y;
    InF32 src = InF32(p.src);
    InF32 gate = InF32(p.gate);
    F32 dst = F32(p.dst);

    uint c = gl_WorkGroupID.x * 4u * gl_SubgroupSize + gl_LocalInvocationID.x;
    uint turn = 0;
    while (turn < 4u && c < p.n_col) {
        float sum = 0.0;
        uint j = 0;
        do {
            sum += gate.v[tok * p.k + j] * src.v[(tok * p.k + j) * p.src_stride + c];
            j++;
        } while (j < p.k);
        dst.v[tok * p.dst_stride + c] += sum;
        c += gl_SubgroupSize;
        turn++;
    }
}
