// SPDX-License-Identifier: LGPL-2.1-or-later
// argmax.comp — index of the largest element of each row, in two passes
//
//   part   part[r, i] = (key, index) of the best of columns i * span ... of row r
//   MERGE  ids[r] = index of the best part
//
// A key orders floats as unsigned integers: NaN is 0, then -inf up to +inf, -0 equal to +0. Of
// equal keys the lowest index wins. A row without a number gives 0.
//
// Workgroup: part: one subgroup per part (x) and row (y); merge: one subgroup per row (y).
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_argmax);

const uint NONE = 0xffffffffu;

uint key_of(uint bits)
{
    const uint magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return 0u;
    return bits != magnitude && magnitude != 0u ? ~bits : magnitude | 0x80000000u;
}

void main()
{
    const vlm_args_argmax p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    const uint lane = gl_LocalInvocationID.x;
    uint best = 0u;
    uint where = NONE;

#ifdef MERGE
    InU32 part = InU32(p.part);
    uint i = lane;
    while (i < p.n_part) {
        const uint key = part.v[2 * (row * p.n_part + i)];
        const uint index = part.v[2 * (row * p.n_part + i) + 1];
        if (key > best) {  // parts are in the order of the columns, so a tie keeps the lower index
            best = key;
            where = index;
        }
        i += gl_SubgroupSize;
    }
#else
    InU32 src = InU32(p.src);
    const uint first = gl_WorkGroupID.x * p.span;
    const uint end = min(first + p.span, p.n_col);
    uint c = first + lane;
    while (c < end) {
        const uint key = key_of(src.v[row * p.src_stride + c]);
        if (key > best) {
            best = key;
            where = c;
        }
        c += gl_SubgroupSize;
    }
#endif
    const uint top = subgroupMax(best);
    const uint index = subgroupMin(best == top ? where : NONE);

    if (lane == 0) {
#ifdef MERGE
        OutU32(p.ids).v[row] = top == 0u ? 0u : index;
#else
        OutU32(p.part).v[2 * (row * p.n_part + gl_WorkGroupID.x)] = top;
        OutU32(p.part).v[2 * (row * p.n_part + gl_WorkGroupID.x) + 1] = index;
#endif
    }
}
