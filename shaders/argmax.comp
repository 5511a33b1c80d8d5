// SPDX-License-Identifier: LGPL-2.1-or-later
// argmax.comp — ids[r] = index of the largest element of row r
//
//   part[r, i] = (key, index) of the best of columns i * span ... of row r, see order_key.glsl
//
// Of equal keys the lowest index wins. A row without a number gives 0.
//
// Workgroup: one subgroup per part (x) of a row (y); the one that finishes last (is_last.glsl)
//            chooses among the row's parts.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "is_last.glsl"
#include "order_key.glsl"

VLM_ARGS(vlm_args_argmax);

layout(buffer_reference, std430, buffer_reference_align = 8) coherent buffer Parts { uvec2 v[]; };

const uvec2 NOTHING = uvec2(0u, 0xffffffffu);

// The best of what the lanes have, in all of them.
uvec2 best_of_lanes(uvec2 mine)
{
    const uint key = subgroupMax(mine.x);
    return uvec2(key, subgroupMin(mine.x == key ? mine.y : NOTHING.y));
}

void main()
{
    const vlm_args_argmax p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    const uint lane = gl_LocalInvocationID.x;
    InU32 src = InU32(p.src);
    Parts part = Parts(p.part);

    uvec2 best = NOTHING;
    const uint first = gl_WorkGroupID.x * p.span;
    const uint end = min(first + p.span, p.n_col);
    uint c = first + lane;
    while (c < end) {
        const uint key = key_of(src.v[row * p.src_stride + c]);
        if (key > best.x)
            best = uvec2(key, c);
        c += gl_SubgroupSize;
    }
    best = best_of_lanes(best);
    if (lane == 0)
        part.v[row * p.n_part + gl_WorkGroupID.x] = best;
    if (!is_last(p.counters, row, p.n_part))
        return;

    best = NOTHING;
    uint i = lane;
    while (i < p.n_part) {
        const uvec2 other = part.v[row * p.n_part + i];
        if (other.x > best.x)  // parts are in the order of the columns: a tie keeps the lower index
            best = other;
        i += gl_SubgroupSize;
    }
    best = best_of_lanes(best);
    if (lane == 0)
        OutU32(p.ids).v[row] = best.x == 0u ? 0u : best.y;
}
