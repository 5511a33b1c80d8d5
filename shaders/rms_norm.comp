// SPDX-License-Identifier: LGPL-2.1-or-later
// rms_norm.comp — dst[r, c] = src[r, c] / sqrt(mean(src[r, :]^2) + eps) * weight[c]
//
// Workgroup: one subgroup per row, lanes along the columns.
// Shared:    none.
// In place:  dst == src is allowed, each element is read before it is written.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_rms_norm);

void main()
{
    const vlm_args_rms_norm p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.x;
    const uint lane = gl_LocalInvocationID.x;
    InF32 src = InF32(p.src);
    OutF32 dst = OutF32(p.dst);
    InF32 weight = InF32(p.weight);

    float sum = 0.0;
    uint c = lane;
    while (c < p.n_col) {
        const float x = src.v[row * p.src_stride + c];
        sum += x * x;
        c += gl_SubgroupSize;
    }
    const float scale = inversesqrt(subgroupAdd(sum) / float(p.n_col) + p.eps);

    c = lane;
    while (c < p.n_col) {
        dst.v[row * p.dst_stride + c] = src.v[row * p.src_stride + c] * scale * weight.v[c];
        c += gl_SubgroupSize;
    }
}
