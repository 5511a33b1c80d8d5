// SPDX-License-Identifier: LGPL-2.1-or-later
// order_key.glsl — floats as unsigned integers in the order of the numbers.
//
// NaN is 0, below -inf up to +inf; -0 is equal to +0.

uint key_of(uint bits)
{
    const uint magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return 0u;
    return bits != magnitude && magnitude != 0u ? ~bits : magnitude | 0x80000000u;
}

float value_of(uint key)
{
    return uintBitsToFloat((key & 0x80000000u) != 0u ? key & 0x7fffffffu : ~key);
}
