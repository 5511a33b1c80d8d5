// SPDX-License-Identifier: LGPL-2.1-or-later
// kv_quant.glsl — blocks of 32 keys or values in KV_BITS bits and 16 for the scale (ops/kv.h).
//
// Nothing here depends on how a driver divides or contracts: what decides a code is a comparison
// with a product that f32 holds exactly.

#define KV_BLOCK 32u

layout(buffer_reference, std430, buffer_reference_align = 2) writeonly buffer OutU16
{
    uint16_t v[];
};

// The Walsh-Hadamard transform of a block, not scaled. Additions only: no driver changes them.
void transform(inout float x[KV_BLOCK])
{
    [[unroll]] for (uint step = 1u; step < KV_BLOCK; step *= 2u) {
        [[unroll]] for (uint i = 0u; i < KV_BLOCK; i++) {
            if ((i & step) == 0u) {
                const float a = x[i];
                const float b = x[i + step];
                x[i] = a + b;
                x[i + step] = a - b;
            }
        }
    }
}

// The nearest whole number to x / d, halves up. `over` is about 1 / d; d has at most 11 bits.
float nearest(float x, float d, float over)
{
    float n = floor(x * over + 0.5);
    n += x >= (n + 0.5) * d ? 1.0 : 0.0;
    n -= x < (n - 0.5) * d ? 1.0 : 0.0;
    return n;
}

// Quantises one block: codes to `to`, the scale to `head`. A block with a value that is not finite
// or too large for the scale gets the scale NaN: it spoils what it touches, as it would in f16.
void store_block(float x[KV_BLOCK], uvec2 to, uvec2 head)
{
    uint most = 0u;
    float low = 0.0;
    float high = 0.0;
    [[unroll]] for (uint i = 0u; i < KV_BLOCK; i++) {
        most = max(most, floatBitsToUint(x[i]) & 0x7fffffffu);
        low = min(low, x[i]);
        high = max(high, x[i]);
    }
#if KV_BITS == 8
    uint scale = f16_bits(uintBitsToFloat(most) * (1.0 / 127.0));
    const float least = -127.0;
    const float largest = 127.0;
#else
    // the low 4 bits of the scale make room for the code of 0
    uint scale = (f16_bits((high - low) * (1.0 / 15.0)) + 8u) & 0xfff0u;
    const float least = 0.0;
    const float largest = 15.0;
#endif
    if (most >= 0x7f800000u || scale >= 0x7c00u)
        scale = 0x7e00u;
    const bool some = scale != 0u && scale < 0x7c00u;
    const float d = some ? unpackHalf2x16(scale).x : 1.0;
    const float over = 1.0 / d;
#if KV_BITS == 8
    const float zero = 0.0;
#else
    const float zero = some ? clamp(nearest(-low, d, over), least, largest) : 0.0;
#endif
    [[unroll]] for (uint w = 0u; w < KV_BITS; w++) {
        uint word = 0u;
        [[unroll]] for (uint i = 0u; i < 32u / KV_BITS; i++) {
            const float n = some ? nearest(x[w * (32u / KV_BITS) + i], d, over) : 0.0;
            const int code = int(clamp(n + zero, least, largest));
            word |= (uint(code) & ((1u << KV_BITS) - 1u)) << (i * KV_BITS);
        }
        OutU32(to).v[w] = word;
    }
    OutU16(head).v[0] = uint16_t(scale | uint(zero));
}
