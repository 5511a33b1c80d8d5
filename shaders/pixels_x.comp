// SPDX-License-Identifier: LGPL-2.1-or-later
// pixels_x.comp — rows of RGB filtered to another width.
//
//   dst[y, i] = clamp((sum over t of weight[i, t] * src[y, start[i] + t] + one half) >> shift)
//   for R, G and B, all in integers: |sum| < 2^31 since the weights of an output sum to about
//   2^shift <= 2^22 in at most twice that much of both signs.
//
// Workgroup: one subgroup; lanes along x, 4 rows so that weights are read once for them.
//            x: outputs, y: groups of 4 rows of the band.
// Shared:    none.
// In place:  no.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_pixels_x);

const uint ROWS = 4;

int sum_r[ROWS], sum_g[ROWS], sum_b[ROWS];

void add(uint row, uint pixel, int weight)
{
    sum_r[row] += int(pixel & 0xffu) * weight;
    sum_g[row] += int(pixel >> 8 & 0xffu) * weight;
    sum_b[row] += int(pixel >> 16) * weight;
}

void main()
{
    const vlm_args_pixels_x p = VLM_LOAD_ARGS;
    const uint x = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    const uint row = gl_WorkGroupID.y * ROWS;
    InU64 src = InU64(p.src);
    InU64 weight = InU64(p.weight);
    OutU32 dst = OutU32(p.dst);
    uint at[ROWS];

    if (x >= p.n_out)
        return;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        at[r] = (min(row + r, p.n_src_row - 1) * p.src_stride + InU32(p.start).v[x]) >> 1;
        sum_r[r] = sum_g[r] = sum_b[r] = 1 << (p.shift - 1);
    }
    uint w_at = x, g = 0;
    do {
        const uvec2 w = unpackUint2x32(weight.v[w_at]);
        const int w0 = int(w.x << 16) >> 16, w1 = int(w.x) >> 16;
        const int w2 = int(w.y << 16) >> 16, w3 = int(w.y) >> 16;
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const uvec2 a = unpackUint2x32(src.v[at[r]]), b = unpackUint2x32(src.v[at[r] + 1]);
            add(r, a.x, w0);
            add(r, a.y, w1);
            add(r, b.x, w2);
            add(r, b.y, w3);
            at[r] += 2;
        }
        w_at += p.n_out;
        g++;
    } while (g < p.n_group);

    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const int y = p.first_row + int(row + r);
        if (row + r < p.n_src_row && y >= 0 && y < int(p.n_row))
            dst.v[uint(y) * p.dst_stride + x] =
                uint(clamp(sum_r[r] >> p.shift, 0, 255))
                | uint(clamp(sum_g[r] >> p.shift, 0, 255)) << 8
                | uint(clamp(sum_b[r] >> p.shift, 0, 255)) << 16;
    }
}
