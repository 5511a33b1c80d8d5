// SPDX-License-Identifier: LGPL-2.1-or-later
// dot.glsl — packed weights and rounded activations as words of four signed bytes.
//
// Include after weights.glsl, for types with codes. A block of 32 columns is eight words of four
// columns each, in the order in which codes leave a packed word with the fewest operations: word q
// has the columns first_of(q), first_of(q) + STEP, ... + 3 STEP, and the first four words have the
// first 16 columns. Activations are put into the same order when they are rounded.
//
// Needs VK_KHR_shader_integer_dot_product, of Vulkan 1.3. The instruction is named by its number
// (OpSDot, capabilities DotProductInput4x8BitPacked and DotProduct, packed operands), so that
// compilers from before GL_EXT_integer_dot_product make it, too.
#extension GL_EXT_spirv_intrinsics : require

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019],
                  id = 4450)
int packed_dot(uint a, uint b, spirv_literal int operand_format);

// Sum of the products of four pairs of signed bytes.
int dot4(uint a, uint b) { return packed_dot(a, b, 0); }

#define STEP (8 / LOW_BITS)

uint first_of(uint q)
{
    return q / uint(STEP) * uint(4 * STEP) + q % uint(STEP);
}

#if HIGH_BITS > 0
// Bits of four columns, HIGH_BITS each and STEP columns apart, at their place in four bytes.
uint spread(uint bits)
{
    const int apart = HIGH_BITS * STEP;
    const uint mask = (1u << HIGH_BITS) - 1u;
    return (bits & mask) << LOW_BITS | (bits & mask << apart) << (8 - apart + LOW_BITS)
         | (bits & mask << 2 * apart) << (16 - 2 * apart + LOW_BITS)
         | (bits & mask << 3 * apart) << (24 - 3 * apart + LOW_BITS);
}
#endif

#ifdef TABLE
uint from_table(uint q)
{
    const uvec4 table = TABLE;
    const uint four = q < 8u ? (q < 4u ? table.x : table.y) : (q < 12u ? table.z : table.w);
    return four >> 8u * (q & 3u) & 255u;
}
#endif

// Word q of a block as bytes that are codes, without ZERO taken away.
uint code_word(uint64_t word[BLOCK_WORDS], block_t b, int q)
{
#if LOW_BITS == 8
    return q % 2 == 0 ? LO(word[q / 2]) : HI(word[q / 2]);
#else
    // STEP words of four columns in half a word
    const uint64_t w = word[q / (2 * STEP)];
    const uint half_word = q / STEP % 2 == 0 ? LO(w) : HI(w);
    uint codes = half_word >> LOW_BITS * (q % STEP) & 0x01010101u * ((1u << LOW_BITS) - 1u);
#if HIGH_BITS > 0
    const int at = HIGH_BITS * int(first_of(uint(q)));
    codes |= spread((at < 32 ? b.high.x : b.high.y) >> at % 32);
#endif
#ifdef TABLE
    codes = from_table(codes & 15u) | from_table(codes >> 8 & 15u) << 8
          | from_table(codes >> 16 & 15u) << 16 | from_table(codes >> 24) << 24;
#endif
    return codes;
#endif
}
