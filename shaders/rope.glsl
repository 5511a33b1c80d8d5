// SPDX-License-Identifier: LGPL-2.1-or-later
// rope.glsl — the rotation of one pair: positions times turns in fixed point, sine and cosine.
//
// A turn is a 64-bit fraction, so position * turn modulo 2^64 is exact whatever the position; its
// upper 32 bits are the angle. Sine and cosine are Taylor polynomials on an eighth of a turn either
// side of 0, wrong by less than 3e-8 there, whatever the driver's own functions are worth.

struct Pair {
    uint64_t turn;
    uint axis;
    uint first;
    uint second;
};

// 24 bytes: u64 turn, u32 axis, first, second, pad
Pair load_pair(InU64 pairs, uint i)
{
    const uvec2 axis_first = unpackUint2x32(pairs.v[3 * i + 1]);
    return Pair(pairs.v[3 * i], axis_first.x, axis_first.y, uint(pairs.v[3 * i + 2]));
}

// (cos, sin) of position * turn.
vec2 rotation(uint position, uint64_t turn)
{
    const uint angle = unpackUint2x32(uint64_t(position) * turn).y;
    const uint quarter = (angle + 0x20000000u) >> 30;
    const int rest = int(angle - (quarter << 30));          // within an eighth of a turn of 0
    const float a = float(rest) * 1.4629180792671596e-9;    // 2 pi / 2^32
    const float b = a * a;
    const float s = a + a * b * (-1.6666667e-1 + b * (8.3333333e-3
                    + b * (-1.9841270e-4 + b * 2.7557319e-6)));
    const float c = 1.0 + b * (-0.5 + b * (4.1666667e-2 + b * (-1.3888889e-3 + b * 2.4801587e-5)));
    vec2 r = (quarter & 1u) != 0u ? vec2(-s, c) : vec2(c, s);
    return (quarter & 2u) != 0u ? -r : r;
}
