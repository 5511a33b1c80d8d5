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
// The weight is scale_of(b, k) * code - minus_of(b).
#define W_F32  0
#define W_F16  1
#define W_BF16 2
#define W_Q8_0 3
#define W_Q4_0 4
#define W_Q4_K 5
#define W_Q5_K 6
#define W_Q6_K 7

layout(constant_id = 3) const uint LANES = 8;  // rows of a panel, the local size

const uint BLOCK_K = 32;

#define LO(w) unpackUint2x32(w).x
#define HI(w) unpackUint2x32(w).y

float half_at(uint64_t w, uint bit)
{
    return unpackHalf2x16(uint(w >> bit) & 0xffffu).x;
}

// Byte i of a word as a signed number.
float signed_byte(uint64_t w, int i)
{
    const uint u = i < 4 ? LO(w) : HI(w);
    return float(int(u << (24 - 8 * (i & 3))) >> 24);
}

uint nibble(uint64_t w, int i)
{
    return ((i < 8 ? LO(w) : HI(w)) >> (4 * (i & 7))) & 15u;
}

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
float scale_of(block_t b, int k) { return 1.0; }
float minus_of(block_t b) { return 0.0; }

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

#elif WEIGHT == W_Q8_0 || WEIGHT == W_Q4_0
// head: four f16 scales, one per block
#define HAS_HEAD    1
#define HAS_MINUS   0
#define UNIT_BLOCKS 4u
#define SCALE_K     32
#define CHECK_K     0
#if WEIGHT == W_Q8_0
#define WORD_K 8
#else
#define WORD_K 16
#endif
#define HEAD_BYTES  (LANES * 8u)
#define BLOCK_BYTES (LANES * 8u * uint(32 / WORD_K))

struct head_t { uint64_t scales; };
struct block_t { float scale; };

head_t open_head(uint64_t at, uint lane) { return head_t(InU64(at).v[0]); }
block_t open_block(head_t h, uint j, uint64_t at, uint lane)
{
    return block_t(half_at(h.scales, 16 * j));
}
float scale_of(block_t b, int k) { return b.scale; }
float minus_of(block_t b) { return 0.0; }

float code(uint64_t w, block_t b, int k)
{
#if WEIGHT == W_Q8_0
    return signed_byte(w, k % 8);
#else
    return float(int(nibble(w, k % 16)) - 8);
#endif
}

#elif WEIGHT == W_Q4_K || WEIGHT == W_Q5_K
// head: eight 6-bit scales and f16 d; eight 6-bit minima and f16 dmin
#define HAS_HEAD    1
#define HAS_MINUS   1
#define UNIT_BLOCKS 8u
#define SCALE_K     32
#define CHECK_K     0
#define WORD_K      16
#define HEAD_BYTES  (LANES * 16u)
#if WEIGHT == W_Q4_K
#define BLOCK_BYTES (LANES * 16u)
#else
#define BLOCK_BYTES (LANES * 20u)  // two words of low bits, 32 bits of fifth bits
#endif

struct head_t { uint64_t scales, minima; };
struct block_t { float scale, minus; uint high; };

head_t open_head(uint64_t at, uint lane) { return head_t(InU64(at).v[0], InU64(at).v[LANES]); }

block_t open_block(head_t h, uint j, uint64_t at, uint lane)
{
    block_t b;
    b.scale = half_at(h.scales, 48) * float(uint(h.scales >> (6 * j)) & 63u);
    b.minus = half_at(h.minima, 48) * float(uint(h.minima >> (6 * j)) & 63u);
    b.high = 0;
#if WEIGHT == W_Q5_K
    b.high = InU32(at + 16u * LANES - 4u * lane).v[0];
#endif
    return b;
}

float scale_of(block_t b, int k) { return b.scale; }
float minus_of(block_t b) { return b.minus; }

float code(uint64_t w, block_t b, int k)
{
#if WEIGHT == W_Q4_K
    return float(nibble(w, k % 16));
#else
    const uint fifth = k < 4 ? b.high << (4 - k) : b.high >> (k - 4);
    return float(nibble(w, k % 16) | (fifth & 16u));
#endif
}

#else  // W_Q6_K
// head: sixteen 8-bit scales, d as f32; block: two words of low bits, one of high bits
#define HAS_HEAD    1
#define HAS_MINUS   0
#define UNIT_BLOCKS 8u
#define SCALE_K     16
#define CHECK_K     0
#define WORD_K      16
#define HEAD_BYTES  (LANES * 20u)
#define BLOCK_BYTES (LANES * 24u)

struct head_t { uint64_t low, high; float d; };
struct block_t { float scale0, scale1; uint64_t high; };

head_t open_head(uint64_t at, uint lane)
{
    return head_t(InU64(at).v[0], InU64(at).v[LANES],
                  InF32(at + 16u * LANES - 4u * lane).v[0]);
}

block_t open_block(head_t h, uint j, uint64_t at, uint lane)
{
    const uint pair = uint((j < 4u ? h.low : h.high) >> (16u * (j & 3u)));
    return block_t(h.d * float(int(pair << 24) >> 24), h.d * float(int(pair << 16) >> 24),
                   InU64(at).v[2u * LANES]);
}

float scale_of(block_t b, int k) { return k < 16 ? b.scale0 : b.scale1; }
float minus_of(block_t b) { return 0.0; }

float code(uint64_t w, block_t b, int k)
{
    const uint word = k < 16 ? LO(b.high) : HI(b.high);
    const int at = 2 * (k % 16);
    const uint high = at < 4 ? word << (4 - at) : word >> (at - 4);
    return float(int(nibble(w, k % 16) | (high & 48u)) - 32);
}
#endif

#define BLOCK_WORDS (32 / WORD_K)
