// SPDX-License-Identifier: LGPL-2.1-or-later
// roofline_fma.comp — dst[g, lane] = sum of CHAINS numbers, each n_step times a = a * x + y
//
// Workgroup: one subgroup. Nothing is read inside the loop; the chains are independent, so that
//            what is measured is how many f32 multiply-adds the device finishes.
// Shared:    none.
// Assumes:   src: f32 [2], x and y.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_roofline);

#define CHAINS VLM_ROOFLINE_CHAINS

void main()
{
    const vlm_args_roofline p = VLM_LOAD_ARGS;
    const uint lane = gl_LocalInvocationID.x;
    InF32 src = InF32(p.src);
    OutF32 dst = OutF32(p.dst);
    const float x = src.v[0], y = src.v[1];
    float a[CHAINS];
    uint step = 0u;

    [[unroll]] for (uint i = 0u; i < CHAINS; i++)
        a[i] = float(i + lane);
    do {
        [[unroll]] for (uint i = 0u; i < CHAINS; i++)
            a[i] = fma(a[i], x, y);
        step++;
    } while (step < p.n_step);
    float sum = 0.0;
    [[unroll]] for (uint i = 0u; i < CHAINS; i++)
        sum += a[i];
    dst.v[gl_WorkGroupID.x * gl_SubgroupSize + lane] = sum;
}
