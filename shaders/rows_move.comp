// SPDX-License-Identifier: LGPL-2.1-or-later
// rows_move.comp — whole rows by index
//
//   GATHER        dst[i, c] = src[index[i], c]
//   SCATTER       dst[index[i], c] = src[i, c]
//   SCATTER, ADD  dst[index[i], c] += src[i, c]
//
// Workgroup: one subgroup per index (y) and span of columns (x).
// Shared:    none.
// In place:  no.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_rows_move);

void main()
{
    const vlm_args_rows_move p = VLM_LOAD_ARGS;
    const uint i = gl_WorkGroupID.y;
    const uint other = InU32(p.index).v[i];
#ifdef GATHER
    const uint from = other * p.src_stride;
    const uint to = i * p.dst_stride;
#else
    const uint from = i * p.src_stride;
    const uint to = other * p.dst_stride;
#endif
    InF32 src = InF32(p.src);
    F32 dst = F32(p.dst);
    const uint first = gl_WorkGroupID.x * p.span;
    const uint end = min(first + p.span, p.n_col);

    uint c = first + gl_LocalInvocationID.x;
    while (c < end) {
#ifdef ADD
        dst.v[to + c] += src.v[from + c];
#else
        dst.v[to + c] = src.v[from + c];
#endif
        c += gl_SubgroupSize;
    }
}
