// SPDX-License-Identifier: LGPL-2.1-or-later
// pixels_y.comp — columns of RGB filtered to another height, normalised, cut into patches.
//
//   v = clamp((sum over t of weight[y, t] * src[start[y] + t, x] + one half) >> shift)
//   dst[place_x[x] + place_y[y] + channel * channel_stride] = levels[channel, v]
//
// Workgroup: one subgroup; a lane makes 2 pixels of a row. x: pairs of pixels, y: rows of the output.
// Shared:    none.
// In place:  no.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_pixels_y);

int sum[2][3];

void add(uvec2 two, int weight)
{
    sum[0][0] += int(two.x & 0xffu) * weight;
    sum[0][1] += int(two.x >> 8 & 0xffu) * weight;
    sum[0][2] += int(two.x >> 16) * weight;
    sum[1][0] += int(two.y & 0xffu) * weight;
    sum[1][1] += int(two.y >> 8 & 0xffu) * weight;
    sum[1][2] += int(two.y >> 16) * weight;
}

void main()
{
    const vlm_args_pixels_y p = VLM_LOAD_ARGS;
    const uint pair = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    const uint y = gl_WorkGroupID.y;
    const uint stride = p.src_stride >> 1;
    InU64 src = InU64(p.src);
    InU64 weight = InU64(p.weight);
    InF32 levels = InF32(p.levels);
    OutF32 dst = OutF32(p.dst);

    if (pair >= stride)
        return;
    [[unroll]] for (uint i = 0; i < 6; i++)
        sum[i / 3][i % 3] = 1 << (p.shift - 1);
    uint at = InU32(p.start).v[y] * stride + pair, g = 0;
    do {
        const uvec2 w = unpackUint2x32(weight.v[y * p.n_group + g]);
        add(unpackUint2x32(src.v[at]), int(w.x << 16) >> 16);
        add(unpackUint2x32(src.v[at + stride]), int(w.x) >> 16);
        add(unpackUint2x32(src.v[at + 2 * stride]), int(w.y << 16) >> 16);
        add(unpackUint2x32(src.v[at + 3 * stride]), int(w.y) >> 16);
        at += 4 * stride;
        g++;
    } while (g < p.n_group);

    [[unroll]] for (uint i = 0; i < 2; i++) {
        const uint x = 2 * pair + i;
        if (x < p.n_out) {
            const uint place = InU32(p.place_x).v[x] + InU32(p.place_y).v[y];
            [[unroll]] for (uint c = 0; c < 3; c++)
                dst.v[place + c * p.channel_stride] =
                    levels.v[c * 256 + uint(clamp(sum[i][c] >> p.shift, 0, 255))];
        }
    }
}
