// SPDX-License-Identifier: LGPL-2.1-or-later
// pixels_x.comp — a picture in any format to 8-bit RGB, its rows filtered to another width.
//
//   R = clamp((cy Y + crv V + off_r) >> 20), G and B alike; Y, U, V and the coefficients are
//   integers, U and V with 4 fractional bits: chroma is interpolated with the weights 3:1 both ways
//   (4:2:0) or along the row (4:2:2).
//   dst[y, i] = clamp((sum over x of weight[i, x] * RGB[y, x] + one half) >> shift)
//   |sum| < 2^31: the weights of an output add up to about 2^shift <= 2^22, those below 0 to a
// small
//   part of that.
//
// Workgroup: one subgroup; a lane is the rows 2 q - 1 and 2 q, which lie between the same two rows
// of
//            chroma, and makes 4 outputs side by side of each from the blocks of 8 pixels that any
//            of them needs. So a pixel is read and converted about twice, a weight serves two
//            rows and a store is 8 bytes. x: groups of 4 outputs, y: q.
// Shared:    none.
// In place:  no.
// Reads whole blocks: rows are padded to 8 pixels.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_pixels_x);

layout(buffer_reference, std430, buffer_reference_align = 8) writeonly buffer OutU64
{
    uint64_t v[];
};

layout(constant_id = 3) const uint KIND = 0;
const uint PACKED4 = 0, PACKED3 = 1, GRAY = 2, SEMI = 3, PLANAR = 4, PACKED422 = 5;

// Three levels of each pixel of a block.
int red[8], green[8], blue[8];

uvec2 load8(uvec2 base, uint byte)
{
    return unpackUint2x32(InU64(base).v[byte >> 3]);
}

uint load4(uvec2 base, uint byte)
{
    return InU32(base).v[byte >> 2];
}

uint byte_of(uvec2 word, uint i)
{
    return (i < 4 ? word.x : word.y) >> (8 * (i & 3)) & 0xffu;
}

int level(int v)
{
    return clamp(v >> 20, 0, 255);
}

// Row r of pair q; a neighbour where the picture ends: what comes of it is not stored.
uint row_of(vlm_args_pixels_x p, uint q, uint r)
{
    return min(max(2 * q + r, 1) - 1, p.n_row - 1);
}

void set_rgb(vlm_args_pixels_x p, uint i, uint word)
{
    red[i] = int(word >> p.shift0 & 0xffu);
    green[i] = int(word >> p.shift1 & 0xffu);
    blue[i] = int(word >> p.shift2 & 0xffu);
}

void convert_rgb4(vlm_args_pixels_x p, uint y, uint block)
{
    [[unroll]] for (uint i = 0; i < 4; i++) {
        const uvec2 two = load8(p.plane0, y * p.stride0 + block * 32 + 8 * i);
        set_rgb(p, 2 * i, two.x);
        set_rgb(p, 2 * i + 1, two.y);
    }
}

void convert_rgb3(vlm_args_pixels_x p, uint y, uint block)
{
    const uint at = y * p.stride0 + block * 24;
    const uvec2 a = load8(p.plane0, at), b = load8(p.plane0, at + 8), c = load8(p.plane0, at + 16);

    set_rgb(p, 0, a.x);
    set_rgb(p, 1, a.x >> 24 | a.y << 8);
    set_rgb(p, 2, a.y >> 16 | b.x << 16);
    set_rgb(p, 3, b.x >> 8);
    set_rgb(p, 4, b.y);
    set_rgb(p, 5, b.y >> 24 | c.x << 8);
    set_rgb(p, 6, c.x >> 16 | c.y << 16);
    set_rgb(p, 7, c.y >> 8);
}

void convert_gray(vlm_args_pixels_x p, uint y, uint block)
{
    const uvec2 luma = load8(p.plane0, y * p.stride0 + block * 8);

    [[unroll]] for (uint i = 0; i < 8; i++)
        red[i] = green[i] = blue[i] = level(p.cy * int(byte_of(luma, i)) + p.off_y);
}

// The four chroma samples of a block for the rows 2 q - 1 (x) and 2 q (y), U in the low half of a
// word and V in the high one, times 4: interpolated between rows already.
void load_chroma(vlm_args_pixels_x p, uint q, uint block, out uvec4 c[2])
{
    if (KIND == PACKED422) {
        [[unroll]] for (uint r = 0; r < 2; r++) {
            const uint at = row_of(p, q, r) * p.stride0 + block * 16;
            const uvec4 w = uvec4(load8(p.plane0, at), load8(p.plane0, at + 8));
            c[r] = (w >> p.shift1 & 0xffu) << 2 | (w >> p.shift2 & 0xffu) << 18;
        }
        return;
    }
    const uint above = max(q, 1) - 1, below = min(q, (p.n_row - 1) >> 1);
    uvec4 a, b;
    if (KIND == SEMI) {
        const uvec2 two = load8(p.plane1, above * p.stride1 + block * 8);
        const uvec2 more = load8(p.plane1, below * p.stride1 + block * 8);
        const uvec4 wa = uvec4(two.x, two.x >> 16, two.y, two.y >> 16);
        const uvec4 wb = uvec4(more.x, more.x >> 16, more.y, more.y >> 16);
        a = (wa >> p.shift1 & 0xffu) | (wa >> p.shift2 & 0xffu) << 16;
        b = (wb >> p.shift1 & 0xffu) | (wb >> p.shift2 & 0xffu) << 16;
    } else {
        const uvec4 byte = uvec4(0, 8, 16, 24);
        const uint at = above * p.stride1 + block * 4, to = below * p.stride1 + block * 4;
        a = (uvec4(load4(p.plane1, at)) >> byte & 0xffu)
          | (uvec4(load4(p.plane2, at)) >> byte & 0xffu) << 16;
        b = (uvec4(load4(p.plane1, to)) >> byte & 0xffu)
          | (uvec4(load4(p.plane2, to)) >> byte & 0xffu) << 16;
    }
    c[0] = a * 3 + b;
    c[1] = b * 3 + a;
}

uvec2 load_luma(vlm_args_pixels_x p, uint y, uint block)
{
    if (KIND != PACKED422)
        return load8(p.plane0, y * p.stride0 + block * 8);
    const uint at = y * p.stride0 + block * 16;
    const uvec4 w = uvec4(load8(p.plane0, at), load8(p.plane0, at + 8)) >> p.shift0;
    const uvec4 two = (w & 0xffu) | (w >> 8 & 0xff00u);
    return uvec2(two.x | two.y << 16, two.z | two.w << 16);
}

// `before` and `after`: the chroma samples next to those of the block.
void convert_yuv(vlm_args_pixels_x p, uint y, uint block, uint before, uvec4 c, uint after)
{
    const uvec2 luma = load_luma(p, y, block);
    const uint chroma[6] = { before, c.x, c.y, c.z, c.w, after };

    [[unroll]] for (uint i = 0; i < 8; i++) {
        const uint uv = chroma[i / 2 + 1] * 3 + chroma[i / 2 + 2 * (i & 1)];
        const int u = int(uv & 0xffffu), v = int(uv >> 16);
        const int l = p.cy * int(byte_of(luma, i));
        red[i] = level(l + p.crv * v + p.off_r);
        green[i] = level(l + p.cgu * u + p.cgv * v + p.off_g);
        blue[i] = level(l + p.cbu * u + p.off_b);
    }
}

uint pack(vlm_args_pixels_x p, int r, int g, int b)
{
    return uint(clamp(r >> p.shift, 0, 255)) | uint(clamp(g >> p.shift, 0, 255)) << 8
         | uint(clamp(b >> p.shift, 0, 255)) << 16;
}

void main()
{
    const vlm_args_pixels_x p = VLM_LOAD_ARGS;
    const bool yuv = KIND == SEMI || KIND == PLANAR || KIND == PACKED422;
    const uint q = p.first_pair + gl_WorkGroupID.y * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    const uint group = gl_WorkGroupID.x;
    InU64 weight = InU64(p.weight);
    uint block = InU32(p.start).v[group];
    uint before[2];
    uvec4 chroma[2], next[2];
    int sum_r[2][4], sum_g[2][4], sum_b[2][4];

    if (2 * q > p.n_row)
        return;
    if (yuv) {
        load_chroma(p, q, max(block, 1) - 1, next);
        load_chroma(p, q, block, chroma);
    }
    [[unroll]] for (uint r = 0; r < 2; r++) {
        before[r] = block == 0 ? chroma[r].x : next[r].w;
        [[unroll]] for (uint k = 0; k < 4; k++)
            sum_r[r][k] = sum_g[r][k] = sum_b[r][k] = 1 << (p.shift - 1);
    }
    uint at = group * p.n_block * 8, i = 0;
    do {
        int w[4][8];

        [[unroll]] for (uint j = 0; j < 8; j++) {
            const uvec2 four = unpackUint2x32(weight.v[at + j]);
            w[0][j] = int(four.x << 16) >> 16;
            w[1][j] = int(four.x) >> 16;
            w[2][j] = int(four.y << 16) >> 16;
            w[3][j] = int(four.y) >> 16;
        }
        if (yuv)
            load_chroma(p, q, min(block + 1, p.last_block), next);
        [[unroll]] for (uint r = 0; r < 2; r++) {
            const uint y = row_of(p, q, r);
            if (KIND == PACKED4) {
                convert_rgb4(p, y, block);
            } else if (KIND == PACKED3) {
                convert_rgb3(p, y, block);
            } else if (KIND == GRAY) {
                convert_gray(p, y, block);
            } else {
                const uint after = block == p.last_block ? chroma[r].w : next[r].x;
                convert_yuv(p, y, block, before[r], chroma[r], after);
                before[r] = chroma[r].w;
                chroma[r] = next[r];
            }
            [[unroll]] for (uint k = 0; k < 4; k++) {
                [[unroll]] for (uint j = 0; j < 8; j++)
                    sum_r[r][k] += w[k][j] * red[j];
                [[unroll]] for (uint j = 0; j < 8; j++)
                    sum_g[r][k] += w[k][j] * green[j];
                [[unroll]] for (uint j = 0; j < 8; j++)
                    sum_b[r][k] += w[k][j] * blue[j];
            }
        }
        block++;
        at += 8;
        i++;
    } while (i < p.n_block);

    [[unroll]] for (uint r = 0; r < 2; r++) {
        if (2 * q + r >= 1 && 2 * q + r <= p.n_row) {
            const uint to = ((2 * q + r - 1) * p.dst_stride >> 1) + group * 2;
            [[unroll]] for (uint k = 0; k < 4; k += 2)
                OutU64(p.dst).v[to + k / 2] = packUint2x32(
                    uvec2(pack(p, sum_r[r][k], sum_g[r][k], sum_b[r][k]),
                          pack(p, sum_r[r][k + 1], sum_g[r][k + 1], sum_b[r][k + 1])));
        }
    }
}
