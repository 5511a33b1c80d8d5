// SPDX-License-Identifier: LGPL-2.1-or-later
// rms_norm.comp — dst[r, c] = src[r, c] / sqrt(mean(src[r, :]^2) + eps) * weight[c]
//
//   GATED  the same for each head of n_col columns, times silu(gate) = gate / (1 + exp(-gate))
//
// Workgroup: one subgroup per row (x; GATED: y, and x is the head), lanes along the columns.
// Shared:    none.
// In place:  dst == src is allowed, each element is read before it is written.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#ifdef GATED
VLM_ARGS(vlm_args_rms_norm_gated);
#else
VLM_ARGS(vlm_args_rms_norm);
#endif

void main()
{
#ifdef GATED
    const vlm_args_rms_norm_gated p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    const uint col0 = gl_WorkGroupID.x * p.n_col;
#else
    const vlm_args_rms_norm p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.x;
    const uint col0 = 0;
#endif
    const uint src_at = row * p.src_stride + col0;
    const uint dst_at = row * p.dst_stride + col0;
    const uint lane = gl_LocalInvocationID.x;
    InF32 src = InF32(p.src);
    OutF32 dst = OutF32(p.dst);
    InF32 weight = InF32(p.weight);

    float sum = 0.0;
    uint c = lane;
    while (c < p.n_col) {
        const float x = src.v[src_at + c];
        sum += x * x;
        c += gl_SubgroupSize;
    }
    const float scale = inversesqrt(subgroupAdd(sum) / float(p.n_col) + p.eps);

    c = lane;
    while (c < p.n_col) {
        float y = src.v[src_at + c] * scale * weight.v[c];
#ifdef GATED
        const float g = InF32(p.gate).v[row * p.gate_stride + col0 + c];
        // below -87 the true value is under the normal range of f32
        y *= g < -87.0 ? 0.0 : g / (1.0 + exp(-g));
#endif
        dst.v[dst_at + c] = y;
        c += gl_SubgroupSize;
    }
}
