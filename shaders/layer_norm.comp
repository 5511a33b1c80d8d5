// SPDX-License-Identifier: LGPL-2.1-or-later
// layer_norm.comp — dst[r, c] = (src[r, c] - mean) / sqrt(var + eps) * weight[c] + bias[c]
//
// Workgroup: one subgroup per row, lanes along the columns.
// Shared:    none.
// In place:  dst == src is allowed, each element is read before it is written.
//
// The mean comes from the distances to the row's first element and the variance from the distances
// to that mean, so that a large common offset cancels nothing that matters.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_layer_norm);

void main()
{
    const vlm_args_layer_norm p = VLM_LOAD_ARGS;
    const uint lane = gl_LocalInvocationID.x;
    const uint at = gl_WorkGroupID.x * p.src_stride;
    const uint to = gl_WorkGroupID.x * p.dst_stride;
    InF32 src = InF32(p.src);
    OutF32 dst = OutF32(p.dst);
    InF32 weight = InF32(p.weight);
    InF32 bias = InF32(p.bias);
    const float first = src.v[at];

    float sum = 0.0;
    uint c = lane;
    while (c < p.n_col) {
        sum += src.v[at + c] - first;
        c += gl_SubgroupSize;
    }
    const float shift = subgroupAdd(sum) / float(p.n_col);

    float square = 0.0;
    c = lane;
    while (c < p.n_col) {
        const float x = (src.v[at + c] - first) - shift;
        square += x * x;
        c += gl_SubgroupSize;
    }
    const float scale = inversesqrt(subgroupAdd(square) / float(p.n_col) + p.eps);

    c = lane;
    while (c < p.n_col) {
        const float x = (src.v[at + c] - first) - shift;
        dst.v[to + c] = x * scale * weight.v[c] + bias.v[c];
        c += gl_SubgroupSize;
    }
}
