// SPDX-License-Identifier: LGPL-2.1-or-later
// weights.glsl — reading packed weights.
//
// Define WEIGHT as one of the W_ types below, then include. The packed form is made by
// engine/ops/pack.c and described there: LANES rows make a panel, lane = row; a panel is a
// sequence of units, a unit is a head (scales) and UNIT_BLOCKS blocks of 32 columns (fewer in the
// last unit). Everything is 64-bit words, one per lane, so that one load brings as much as it can.
//
// A kernel keeps a running address per panel, lane offset (8 * lane) included, and calls
//   head_t h = open_head(at, lane);         at += HEAD_BYTES
//   block_t b = open_block(h, j, at, lane);    j: number of the block in its unit
//   uint64_t w = InU64(at).v[s * LANES]  word s of the block, WORD_K columns; at += BLOCK_BYTES
//   float x = code(w, b, k);             the number stored for column k of the block
// The weight is scale_of(b, k) * code - minus_of(b, k). A product with the scale is written
// times_scale(b, k, x): it is exact wherever x and the result are not subnormal in f32, which
// devices may take for zero, also where the scale is. CODES_AS_MANTISSA, to be defined before, is
// for kernels of CPUs: another way to the same codes.
//
// Types that aren't floats are made of parts, see below: a layout of heads, bits of codes in two
// planes, and what a code stands for.
#define W_F32    0
#define W_F16    1
#define W_BF16   2
#define W_Q8_0   3
#define W_Q4_0   4
#define W_Q4_1   5
#define W_Q5_0   6
#define W_Q5_1   7
#define W_Q2_K   8
#define W_Q3_K   9
#define W_Q4_K   10
#define W_Q5_K   11
#define W_Q6_K   12
#define W_IQ4_NL 13
#define W_IQ4_XS 14
#define W_MXFP4  15

layout(constant_id = 3) const uint LANES = 8;  // rows of a panel, the local size

const uint BLOCK_K = 32;

#define LO(w) unpackUint2x32(w).x
#define HI(w) unpackUint2x32(w).y

#if WEIGHT == W_F32 || WEIGHT == W_F16 || WEIGHT == W_BF16
#define HAS_HEAD    0
#define HAS_MINUS   0
#define UNIT_BLOCKS 1u
#define SCALE_K     32  // columns that share a scale
#define CHECK_K     1   // rows may end inside a block: columns past the end hold zero
#if WEIGHT == W_F32
#define WORD_K 2
#else
#define WORD_K 4
#endif
#define HEAD_BYTES  0u
#define BLOCK_BYTES (LANES * 8u * uint(32 / WORD_K))

struct head_t { uint none; };
struct block_t { uint none; };

head_t open_head(uint64_t at, uint lane) { return head_t(0); }
block_t open_block(head_t h, uint j, uint64_t at, uint lane) { return block_t(0); }
float times_scale(block_t b, int k, float x) { return x; }
float minus_of(block_t b, int k) { return 0.0; }

float code(uint64_t w, block_t b, int k)
{
#if WEIGHT == W_F32
    return uintBitsToFloat(k % 2 == 0 ? LO(w) : HI(w));
#elif WEIGHT == W_F16
    const vec2 pair = unpackHalf2x16(k % 4 < 2 ? LO(w) : HI(w));
    return k % 2 == 0 ? pair.x : pair.y;
#else
    const uint pair = k % 4 < 2 ? LO(w) : HI(w);
    return uintBitsToFloat(k % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
#endif
}

#else
// Heads. Words of 64 bits, then what is left as a half word of 32.
#define HEAD_HALF    0  // four f16 scales, one per block
#define HEAD_HALF_M  1  // the same; four f16 minima
#define HEAD_E8      2  // eight 8-bit exponents, one per block
#define HEAD_SIX     3  // eight 6-bit scales, less 32, and f16 d
#define HEAD_SIX_M   4  // eight 6-bit scales and f16 d; eight 6-bit minima and f16 dmin
#define HEAD_SIX_16  5  // as HEAD_SIX for the first 16 columns of each block; the same for the last
#define HEAD_BYTE_16 6  // sixteen 8-bit scales, one per 16 columns; f32 d
#define HEAD_FOUR_M  7  // sixteen 4-bit scales; sixteen 4-bit minima; f16 d and dmin

// The types. LOW_BITS of a code are in the words of a block, HIGH_BITS in a plane after them. A
// code stands for itself less ZERO, or it is the place of a number in TABLE; 8 bits are signed.
#if WEIGHT == W_Q8_0
#define HEAD HEAD_HALF
#define LOW_BITS 8
#elif WEIGHT == W_Q4_0
#define HEAD HEAD_HALF
#define ZERO 8
#elif WEIGHT == W_Q4_1
#define HEAD HEAD_HALF_M
#elif WEIGHT == W_Q5_0
#define HEAD HEAD_HALF
#define HIGH_BITS 1
#define ZERO 16
#elif WEIGHT == W_Q5_1
#define HEAD HEAD_HALF_M
#define HIGH_BITS 1
#elif WEIGHT == W_Q2_K
#define HEAD HEAD_FOUR_M
#define LOW_BITS 2
#elif WEIGHT == W_Q3_K
#define HEAD HEAD_SIX_16
#define LOW_BITS 2
#define HIGH_BITS 1
#define ZERO 4
#elif WEIGHT == W_Q4_K
#define HEAD HEAD_SIX_M
#elif WEIGHT == W_Q5_K
#define HEAD HEAD_SIX_M
#define HIGH_BITS 1
#elif WEIGHT == W_Q6_K
#define HEAD HEAD_BYTE_16
#define HIGH_BITS 2
#define ZERO 32
#elif WEIGHT == W_IQ4_NL || WEIGHT == W_IQ4_XS
#if WEIGHT == W_IQ4_NL
#define HEAD HEAD_HALF
#else
#define HEAD HEAD_SIX
#endif
// -127 -104 -83 -65  -49 -35 -22 -10  1 13 25 38  53 69 89 113, a byte each
#define TABLE uvec4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u)
#elif WEIGHT == W_MXFP4
#define HEAD HEAD_E8
// 0 1 2 3  4 6 8 12  0 -1 -2 -3  -4 -6 -8 -12
#define TABLE uvec4(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu)
#endif
#ifndef LOW_BITS
#define LOW_BITS 4
#endif
#ifndef HIGH_BITS
#define HIGH_BITS 0
#endif
#ifndef ZERO
#define ZERO 0
#endif

#define HAS_HEAD 1
#define CHECK_K  0
#if HEAD == HEAD_HALF || HEAD == HEAD_HALF_M
#define UNIT_BLOCKS 4u
#else
#define UNIT_BLOCKS 8u
#endif
#if HEAD == HEAD_HALF_M || HEAD == HEAD_SIX_M || HEAD == HEAD_FOUR_M
#define HAS_MINUS 1
#else
#define HAS_MINUS 0
#endif
#if HEAD == HEAD_SIX_16 || HEAD == HEAD_BYTE_16 || HEAD == HEAD_FOUR_M
#define SCALE_K 16
#else
#define SCALE_K 32
#endif
#if HEAD == HEAD_BYTE_16 || HEAD == HEAD_FOUR_M
#define HEAD_WORDS 2
#define HEAD_REST  1
#elif HEAD == HEAD_HALF || HEAD == HEAD_E8 || HEAD == HEAD_SIX
#define HEAD_WORDS 1
#define HEAD_REST  0
#else
#define HEAD_WORDS 2
#define HEAD_REST  0
#endif
#define HEAD_BYTES  (LANES * uint(8 * HEAD_WORDS + 4 * HEAD_REST))
#define WORD_K      (64 / LOW_BITS)
#define BLOCK_BYTES (LANES * uint(4 * (LOW_BITS + HIGH_BITS)))

struct head_t { uint64_t first, second; uint rest; };

head_t open_head(uint64_t at, uint lane)
{
    head_t h = head_t(InU64(at).v[0], 0ul, 0u);
#if HEAD_WORDS == 2
    h.second = InU64(at).v[LANES];
#endif
#if HEAD_REST == 1
    h.rest = InU32(at + 8u * uint(HEAD_WORDS) * LANES - 4u * lane).v[0];
#endif
    return h;
}

float half_at(uint64_t w, uint bit)
{
    return unpackHalf2x16(uint(w >> bit) & 0xffffu).x;
}

// Number j of 6 bits, less `zero`, times the half at the end.
float six_at(uint64_t w, uint j, int zero)
{
    return half_at(w, 48) * float(int(uint(w >> (6u * j)) & 63u) - zero);
}

#if HEAD == HEAD_E8
struct block_t { float scale, factor, minus; uvec2 high; };  // the scale: scale * factor
float times_scale(block_t b, int k, float x)
{
    precise const float y = b.factor * x;
    return b.scale * y;
}
float minus_of(block_t b, int k) { return b.minus; }
#elif SCALE_K == 32
struct block_t { float scale, minus; uvec2 high; };
float times_scale(block_t b, int k, float x) { return b.scale * x; }
float minus_of(block_t b, int k) { return b.minus; }
#else
struct block_t { float scale, minus, scale_16, minus_16; uvec2 high; };  // _16: the last columns
float times_scale(block_t b, int k, float x) { return (k < 16 ? b.scale : b.scale_16) * x; }
float minus_of(block_t b, int k) { return k < 16 ? b.minus : b.minus_16; }
#endif

block_t open_block(head_t h, uint j, uint64_t at, uint lane)
{
    block_t b;
    b.minus = 0.0;
#if HEAD == HEAD_HALF || HEAD == HEAD_HALF_M
    b.scale = half_at(h.first, 16u * j);
#if HAS_MINUS
    b.minus = -half_at(h.second, 16u * j);
#endif
#elif HEAD == HEAD_E8
    // 2^(e - 128); the lowest two are below f32's normal numbers, so they are in two parts
    const uint e = uint(h.first >> (8u * j)) & 255u;
    b.scale = uintBitsToFloat((max(e, 2u) - 1u) << 23);
    b.factor = e == 0u ? 0.25 : e == 1u ? 0.5 : 1.0;
#elif HEAD == HEAD_SIX
    b.scale = six_at(h.first, j, 32);
#elif HEAD == HEAD_SIX_M
    b.scale = six_at(h.first, j, 0);
    b.minus = six_at(h.second, j, 0);
#elif HEAD == HEAD_SIX_16
    b.scale = six_at(h.first, j, 32);
    b.scale_16 = six_at(h.second, j, 32);
#elif HEAD == HEAD_BYTE_16
    const uint pair = uint((j < 4u ? h.first : h.second) >> (16u * (j & 3u)));
    const float d = uintBitsToFloat(h.rest);
    b.scale = d * float(int(pair << 24) >> 24);
    b.scale_16 = d * float(int(pair << 16) >> 24);
#else
    const uint scales = uint(h.first >> (8u * j)), minima = uint(h.second >> (8u * j));
    const vec2 d = unpackHalf2x16(h.rest);
    b.scale = d.x * float(scales & 15u);
    b.scale_16 = d.x * float(scales >> 4 & 15u);
    b.minus = d.y * float(minima & 15u);
    b.minus_16 = d.y * float(minima >> 4 & 15u);
#endif
#if HIGH_BITS == 1
    b.high = uvec2(InU32(at + uint(4 * LOW_BITS) * LANES - 4u * lane).v[0], 0u);
#elif HIGH_BITS == 2
    b.high = unpackUint2x32(InU64(at).v[uint(LOW_BITS / 2) * LANES]);
#endif
    return b;
}

// Byte i of a word as a signed number.
float signed_byte(uint64_t w, int i)
{
    const uint u = i < 4 ? LO(w) : HI(w);
    return float(int(u << (24 - 8 * (i & 3))) >> 24);
}

// High bits of column k, above the low ones.
uint high_bits(block_t b, int k)
{
    const uint word = HIGH_BITS == 2 && k >= 16 ? b.high.y : b.high.x;
    const int at = HIGH_BITS * (HIGH_BITS == 2 ? k % 16 : k);
    const uint there = at < LOW_BITS ? word << (LOW_BITS - at) : word >> (at - LOW_BITS);
    return there & (((1u << HIGH_BITS) - 1u) << LOW_BITS);
}

// The code of the bits `bits` << `bit` of a word, less `zero`; bits of `flip` are turned over
// first, so signed codes have `zero` = `flip` = 128. The code becomes the last places of the
// mantissa of 2^(23 - bit), which is then taken off: exact. That is a logic operation of three
// inputs and an addition, where shift, mask and conversion wait for the few units of a CPU that do
// these.
float as_mantissa(uint word, uint bits, int bit, uint flip, int zero)
{
    const uint one = (150u - uint(bit)) << 23;  // 2^(23 - bit)
    return uintBitsToFloat((word & (bits << bit)) ^ (one | flip << bit))
           - (uintBitsToFloat(one) + float(zero));
}

float code(uint64_t w, block_t b, int k)
{
#if LOW_BITS == 8
#ifdef CODES_AS_MANTISSA
    const uint half_word = k % 8 < 4 ? LO(w) : HI(w);
    return as_mantissa(k % 4 < 2 ? half_word : half_word >> 16, 255u, 8 * (k % 2), 128u, 128);
#else
    return signed_byte(w, k % 8);
#endif
#elif defined(CODES_AS_MANTISSA) && HIGH_BITS == 0 && !defined(TABLE) && LOW_BITS == 4
    const uint half_word = k % 16 < 8 ? LO(w) : HI(w);
    return as_mantissa(k % 8 < 5 ? half_word : half_word >> 12, 15u,
                       4 * (k % 8 < 5 ? k % 8 : k % 8 - 3), 0u, ZERO);
#else
    const int i = LOW_BITS * (k % WORD_K);
    uint q = (i < 32 ? LO(w) >> i : HI(w) >> (i - 32)) & ((1u << LOW_BITS) - 1u);
#if HIGH_BITS > 0
    q |= high_bits(b, k);
#endif
#ifdef TABLE
    // Chosen out of four words: an array would be read from memory, lane by lane.
    const uvec4 table = TABLE;
    const uint four = q < 8u ? (q < 4u ? table.x : table.y) : (q < 12u ? table.z : table.w);
    return float(int(four << (24u - 8u * (q & 3u))) >> 24);
#elif ZERO > 0
    return float(int(q) - ZERO);
#else
    return float(q);
#endif
#endif
}
#endif

#define BLOCK_WORDS (32 / WORD_K)
