// SPDX-License-Identifier: LGPL-2.1-or-later
// pixels_rgb.comp — a band of a picture in any format to 8-bit RGB.
//
//   R = clamp((cy Y + crv V + off_r) >> 20), G and B alike; Y, U, V and the coefficients are
//   integers, U and V with 4 fractional bits: chroma is interpolated with the weights 3:1 both ways
//   (4:2:0) or along the row (4:2:2).
//
// Workgroup: one subgroup; a lane makes 8 pixels of the rows 2 q - 1 and 2 q, which lie between the
//            same two rows of chroma. x: blocks of 8 pixels, y: q.
// Shared:    none.
// In place:  no.
// Reads whole blocks: rows are padded to 8 pixels.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_pixels_rgb);

layout(buffer_reference, std430, buffer_reference_align = 8) writeonly buffer OutU64
{
    uint64_t v[];
};

layout(constant_id = 3) const uint KIND = 0;
const uint PACKED4 = 0, PACKED3 = 1, GRAY = 2, SEMI = 3, PLANAR = 4, PACKED422 = 5;

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

uint level(int v)
{
    return uint(clamp(v >> 20, 0, 255));
}

// Three levels at the bits shift0, shift1, shift2 of a word.
uint reorder(vlm_args_pixels_rgb p, uint word)
{
    return (word >> p.shift0 & 0xffu) | (word >> p.shift1 & 0xffu) << 8
         | (word >> p.shift2 & 0xffu) << 16;
}

void store(vlm_args_pixels_rgb p, uint row, uint block, uint pixel[8])
{
    OutU64 dst = OutU64(p.dst);
    const uint at = (row * p.dst_stride >> 1) + block * 4;

    [[unroll]] for (uint i = 0; i < 4; i++)
        dst.v[at + i] = packUint2x32(uvec2(pixel[2 * i], pixel[2 * i + 1]));
}

// `chroma`: U in the low half of a word and V in the high one, both times 4, of the samples one
// before the block to one after it.
void store_yuv(vlm_args_pixels_rgb p, uint row, uint block, uvec2 luma, uint chroma[6])
{
    uint pixel[8];

    [[unroll]] for (uint i = 0; i < 8; i++) {
        const uint uv = chroma[i / 2 + 1] * 3 + chroma[i / 2 + 2 * (i & 1)];
        const int u = int(uv & 0xffffu), v = int(uv >> 16);
        const int y = p.cy * int(byte_of(luma, i));
        pixel[i] = level(y + p.crv * v + p.off_r)
                 | level(y + p.cgu * u + p.cgv * v + p.off_g) << 8
                 | level(y + p.cbu * u + p.off_b) << 16;
    }
    store(p, row, block, pixel);
}

// The six chroma samples of a block from those of one plane row.
void load_semi(vlm_args_pixels_rgb p, uint row, uint block, bool first, bool last, out uint c[6])
{
    const uint at = row * p.stride1 + block * 8;
    const uvec2 inner = load8(p.plane1, at);
    const uint before = first ? inner.x << 16 : load4(p.plane1, at - 4);
    const uint after = last ? inner.y >> 16 : load4(p.plane1, at + 8);
    const uint pair[6] = { before >> 16, inner.x & 0xffffu, inner.x >> 16, inner.y & 0xffffu,
                           inner.y >> 16, after & 0xffffu };

    [[unroll]] for (uint i = 0; i < 6; i++)
        c[i] = (pair[i] >> p.shift1 & 0xffu) | (pair[i] >> p.shift2 & 0xffu) << 16;
}

void load_planar(vlm_args_pixels_rgb p, uint row, uint block, bool first, bool last, out uint c[6])
{
    const uint at = row * p.stride1 + block * 4;
    const uint u = load4(p.plane1, at), v = load4(p.plane2, at);
    const uint u0 = first ? u << 24 : load4(p.plane1, at - 4);
    const uint v0 = first ? v << 24 : load4(p.plane2, at - 4);
    const uint u1 = last ? u >> 24 : load4(p.plane1, at + 4);
    const uint v1 = last ? v >> 24 : load4(p.plane2, at + 4);

    c[0] = u0 >> 24 | v0 >> 24 << 16;
    [[unroll]] for (uint i = 0; i < 4; i++)
        c[i + 1] = (u >> 8 * i & 0xffu) | (v >> 8 * i & 0xffu) << 16;
    c[5] = (u1 & 0xffu) | (v1 & 0xffu) << 16;
}

// Both rows of a pair of 4:2:0: the chroma rows q - 1 and q count 3:1 for one and 1:3 for the other.
void convert_420(vlm_args_pixels_rgb p, uint q, uint block, bool first, bool last)
{
    const uint n_chroma = (p.n_row + 1) >> 1;
    const uint above = max(q, 1) - 1, below = min(q, n_chroma - 1);
    uint a[6], b[6], c[6];

    if (KIND == SEMI) {
        load_semi(p, above, block, first, last, a);
        load_semi(p, below, block, first, last, b);
    } else {
        load_planar(p, above, block, first, last, a);
        load_planar(p, below, block, first, last, b);
    }
    const uint row = 2 * (q - p.first_pair);
    if (q > 0) {
        [[unroll]] for (uint i = 0; i < 6; i++)
            c[i] = a[i] * 3 + b[i];
        store_yuv(p, row, block, load8(p.plane0, (2 * q - 1) * p.stride0 + block * 8), c);
    }
    if (2 * q < p.n_row) {
        [[unroll]] for (uint i = 0; i < 6; i++)
            c[i] = b[i] * 3 + a[i];
        store_yuv(p, row + 1, block, load8(p.plane0, 2 * q * p.stride0 + block * 8), c);
    }
}

// One row of a format without rows of its own for chroma.
void convert_row(vlm_args_pixels_rgb p, uint y, uint row, uint block, bool first, bool last)
{
    uint pixel[8];

    if (KIND == PACKED4) {
        const uint at = y * p.stride0 + block * 32;
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uvec2 two = load8(p.plane0, at + 8 * i);
            pixel[2 * i] = reorder(p, two.x);
            pixel[2 * i + 1] = reorder(p, two.y);
        }
        store(p, row, block, pixel);
    } else if (KIND == PACKED3) {
        const uint at = y * p.stride0 + block * 24;
        const uvec2 w0 = load8(p.plane0, at), w1 = load8(p.plane0, at + 8),
                    w2 = load8(p.plane0, at + 16);
        pixel[0] = reorder(p, w0.x);
        pixel[1] = reorder(p, w0.x >> 24 | w0.y << 8);
        pixel[2] = reorder(p, w0.y >> 16 | w1.x << 16);
        pixel[3] = reorder(p, w1.x >> 8);
        pixel[4] = reorder(p, w1.y);
        pixel[5] = reorder(p, w1.y >> 24 | w2.x << 8);
        pixel[6] = reorder(p, w2.x >> 16 | w2.y << 16);
        pixel[7] = reorder(p, w2.y >> 8);
        store(p, row, block, pixel);
    } else if (KIND == GRAY) {
        const uvec2 luma = load8(p.plane0, y * p.stride0 + block * 8);
        [[unroll]] for (uint i = 0; i < 8; i++)
            pixel[i] = level(p.cy * int(byte_of(luma, i)) + p.off_y) * 0x010101u;
        store(p, row, block, pixel);
    } else {
        const uint at = y * p.stride0 + block * 16;
        const uvec2 w0 = load8(p.plane0, at), w1 = load8(p.plane0, at + 8);
        const uint word[6] = { first ? w0.x : load4(p.plane0, at - 4), w0.x, w0.y, w1.x, w1.y,
                               last ? w1.y : load4(p.plane0, at + 16) };
        uint chroma[6];
        uvec2 luma = uvec2(0);

        [[unroll]] for (uint i = 0; i < 6; i++)
            chroma[i] = (word[i] >> p.shift1 & 0xffu) << 2 | (word[i] >> p.shift2 & 0xffu) << 18;
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint two = word[i + 1] >> p.shift0;
            luma[i / 2] |= ((two & 0xffu) | (two >> 8 & 0xff00u)) << 16 * (i & 1);
        }
        store_yuv(p, row, block, luma, chroma);
    }
}

void main()
{
    const vlm_args_pixels_rgb p = VLM_LOAD_ARGS;
    const uint block = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    const uint q = p.first_pair + gl_WorkGroupID.y;
    const bool first = block == 0, last = block + 1 == p.n_block;

    if (block >= p.n_block)
        return;
    if (KIND == SEMI || KIND == PLANAR) {
        convert_420(p, q, block, first, last);
    } else {
        if (q > 0)
            convert_row(p, 2 * q - 1, 2 * gl_WorkGroupID.y, block, first, last);
        if (2 * q < p.n_row)
            convert_row(p, 2 * q, 2 * gl_WorkGroupID.y + 1, block, first, last);
    }
}
