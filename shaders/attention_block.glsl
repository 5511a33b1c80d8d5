// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_block.glsl — what a block of KV_BITS bits of keys or values holds (ops/kv.h).

const uint BLOCK = 32;
const uint N_BLOCK = (HD + BLOCK - 1) / BLOCK;
const uint CODE_BYTES = N_BLOCK * (BLOCK / 8) * KV_BITS;   // of a slot; then 64 slots' scales
const uint HEAD_BYTES = 64 * (CODE_BYTES + 2 * N_BLOCK);
const uint WORD_CODES = 32 / KV_BITS;

layout(buffer_reference, std430, buffer_reference_align = 2) readonly buffer InU16
{
    uint16_t v[];
};

// Scale and zero code of block `b` of a slot: a code c is worth (c - y) x.
vec2 load_scale(InU16 scales, uint b, uint slot)
{
    const uint bits = uint(scales.v[b * 64 + slot]);
#if KV_BITS == 8
    return vec2(unpackHalf2x16(bits).x, 0.0);
#else
    return vec2(unpackHalf2x16(bits & 0xfff0u).x, float(bits & 15u));
#endif
}

// Code i of a word.
float code(uint word, uint i)
{
#if KV_BITS == 8
    return float(bitfieldExtract(int(word), int(8 * i), 8));
#else
    return float(bitfieldExtract(word, int(4 * i), 4));
#endif
}
