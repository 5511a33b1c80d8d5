// SPDX-License-Identifier: LGPL-2.1-or-later
// pixels_y.comp — columns of RGB filtered to another height, normalised, cut into patches.
//
//   v = clamp((sum over t of weight[y, t] * src[start[y] + t, x] + one half) >> shift)
//   dst[place_x[x] + place_y[y] + channel * channel_stride] = levels[channel, v]
//
// levels[c, v] is a load per value. Where the host has found (v - mean) * high + (v - mean) * low
// to give the same bits for all 256 values, that is computed (TABLE false); where a pair of pixels
// is always side by side in dst and at a multiple of 8 bytes, it is stored at once (PAIRS).
//
// PICTURE: dst is a picture of R, G, B, 255 instead, of the 8-bit values.
//
// Workgroup: one subgroup; a lane makes 2 pixels of a row. x: pairs of pixels, y: rows of the
// output. Shared:    none.
// In place:  no.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_pixels_y);

layout(buffer_reference, std430, buffer_reference_align = 8) writeonly buffer OutU64
{
    uint64_t v[];
};

layout(constant_id = 3) const bool TABLE = true;
layout(constant_id = 4) const bool PAIRS = false;
layout(constant_id = 5) const bool PICTURE = false;

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

float value(vlm_args_pixels_y p, uint channel, int total)
{
    const vec3 mean = vec3(p.mean_r, p.mean_g, p.mean_b);
    const vec3 high = vec3(p.high_r, p.high_g, p.high_b);
    const vec3 low = vec3(p.low_r, p.low_g, p.low_b);
    const int v = clamp(total >> p.shift, 0, 255);

    if (TABLE)
        return InF32(p.levels).v[channel * 256 + uint(v)];
    precise const float t = float(v) - mean[channel];
    precise const float a = t * high[channel];
    precise const float b = t * low[channel];
    precise const float sum = a + b;
    return sum;
}

uint pixel(vlm_args_pixels_y p, uint i)
{
    uint v = 0xff000000u;
    [[unroll]] for (uint c = 0; c < 3; c++)
        v |= uint(clamp(sum[i][c] >> p.shift, 0, 255)) << 8 * c;
    return v;
}

void main()
{
    const vlm_args_pixels_y p = VLM_LOAD_ARGS;
    const uint pair = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    const uint y = gl_WorkGroupID.y;
    const uint stride = p.src_stride >> 1;
    InU64 src = InU64(p.src);
    InU64 weight = InU64(p.weight);

    if (2 * pair >= p.n_out)
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

    const uint place = InU32(p.place_y).v[y];
    if (PICTURE) {
        // rows are padded to whole blocks: there is a second pixel
        OutU32(p.dst).v[place + 2 * pair] = pixel(p, 0);
        OutU32(p.dst).v[place + 2 * pair + 1] = pixel(p, 1);
        return;
    }
    [[unroll]] for (uint c = 0; c < 3; c++) {
        const float a = value(p, c, sum[0][c]), b = value(p, c, sum[1][c]);
        const uint to = place + c * p.channel_stride;
        if (PAIRS) {
            OutU64(p.dst).v[InU32(p.place_x).v[2 * pair] + to >> 1] =
                packUint2x32(uvec2(floatBitsToUint(a), floatBitsToUint(b)));
        } else {
            OutF32(p.dst).v[InU32(p.place_x).v[2 * pair] + to] = a;
            if (2 * pair + 1 < p.n_out)
                OutF32(p.dst).v[InU32(p.place_x).v[2 * pair + 1] + to] = b;
        }
    }
}
