// SPDX-License-Identifier: LGPL-2.1-or-later
// position_embed.comp — adds a learned position table, interpolated bilinearly with aligned corners
//
// Patch (y, x) of an image of h x w lies at row y * (side - 1) / (h - 1) of the table, columns
// likewise; patches come in blocks of merge x merge.
//
// Workgroup: one subgroup per patch (y) and span of columns (x).
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_position_embed);

// Splits at * (side - 1) / (n - 1) into whole and fraction, exactly before the one division.
void split(uint at, uint n, uint side, out uint low, out uint high, out float fraction)
{
    const uint steps = max(n, 2u) - 1u;
    const uint num = at * (side - 1u);
    low = num / steps;
    fraction = float(num - low * steps) / float(steps);
    high = min(low + 1u, side - 1u);
}

void main()
{
    const vlm_args_position_embed p = VLM_LOAD_ARGS;
    const uint row = gl_WorkGroupID.y;
    const uint patch_ = row % (p.h * p.w);
    const uint block = patch_ / (p.merge * p.merge);
    const uint within = patch_ % (p.merge * p.merge);
    const uint blocks_per_row = p.w / p.merge;
    const uint y = block / blocks_per_row * p.merge + within / p.merge;
    const uint x = block % blocks_per_row * p.merge + within % p.merge;
    uint y0, y1, x0, x1;
    float fy, fx;
    split(y, p.h, p.side, y0, y1, fy);
    split(x, p.w, p.side, x0, x1, fx);

    InF32 table = InF32(p.table);
    F32 dst = F32(p.dst);
    const uint at00 = (y0 * p.side + x0) * p.n_col;
    const uint at01 = (y0 * p.side + x1) * p.n_col;
    const uint at10 = (y1 * p.side + x0) * p.n_col;
    const uint at11 = (y1 * p.side + x1) * p.n_col;
    const uint first = gl_WorkGroupID.x * p.span;
    const uint end = min(first + p.span, p.n_col);

    uint c = first + gl_LocalInvocationID.x;
    while (c < end) {
        const float top = (1.0 - fx) * table.v[at00 + c] + fx * table.v[at01 + c];
        const float bottom = (1.0 - fx) * table.v[at10 + c] + fx * table.v[at11 + c];
        dst.v[row * p.dst_stride + c] += (1.0 - fy) * top + fy * bottom;
        c += gl_SubgroupSize;
    }
}
