// SPDX-License-Identifier: LGPL-2.1-or-later
// f16.glsl — f32 to f16 bits, round to nearest, ties to even. packHalf2x16() leaves the rounding to
// the driver; keys and values must not depend on it.

uint f16_bits(float x)
{
    const uint u = floatBitsToUint(x);
    const uint sign = (u >> 16) & 0x8000u;
    const uint magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u)  // 65520, halfway between the largest half and 2^16
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) {
        // below 2^-14: in units of 2^-24, rounded by hand, as f32 addition may flush subnormals
        const uint exponent = magnitude >> 23;
        if (exponent < 102u)       // below 2^-25: nearest is 0
            return sign;
        const uint fraction = (magnitude & 0x7fffffu) | 0x800000u;
        const uint shift = 126u - exponent;  // 14 ... 24
        const uint whole = fraction >> shift;
        const uint rest = fraction & ((1u << shift) - 1u);
        const uint half_ = 1u << (shift - 1u);
        return sign | (whole + (rest > half_ || (rest == half_ && (whole & 1u) != 0u) ? 1u : 0u));
    }
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
}
