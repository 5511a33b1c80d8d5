// SPDX-License-Identifier: LGPL-2.1-or-later
// swiglu.comp — dst[r, c] = gate[r, c] / (1 + exp(-gate[r, c])) * up[r, c]
//
//   SIGMOID  dst[r, c] = 1 / (1 + exp(-gate[r, c])) * up[r, c]
//
// Workgroup: one subgroup per row (y) and span of columns (x).
// Shared:    none.
// In place:  dst == gate or dst == up is allowed, each element is read before it is written.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "swiglu.glsl"

VLM_ARGS(vlm_args_swiglu);

void main()
{
    const vlm_args_swiglu p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    F32 dst = F32(p.dst);
    F32 gate = F32(p.gate);
    F32 up = F32(p.up);
    const uint first = gl_WorkGroupID.x * p.span;
    const uint end = min(first + p.span, p.n_col);

    uint c = first + gl_LocalInvocationID.x;
    while (c < end) {
        const float x = gate.v[row * p.gate_stride + c];
        const float y = up.v[row * p.up_stride + c];
#ifdef SIGMOID
        dst.v[row * p.dst_stride + c] = sigmoid_of(x) * y;
#else
        dst.v[row * p.dst_stride + c] = swiglu(x, y);
#endif
        c += gl_SubgroupSize;
    }
}
