// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_quant.glsl — keys and values of attention.comp out of blocks of KV_BITS bits (ops/kv.h)
//
// Keys: lane = slot, a block's product is taken from the bare codes and scaled once.
// Values: lane = 4 elements of the head, as wide as with f16, so that small heads fill the lanes.

#include "attention_block.glsl"

// Each chunk of values lies within one block: its scale comes from the lane that has the slot.
const bool NARROW = 4 * SG <= BLOCK;

// Adds q . key of `slot` to the scores of group g of slots.
void add_scores(uvec2 k, uint slot, uint g, inout float score[SCORES])
{
    InU64 key = InU64(plus(k, slot * CODE_BYTES));
    InU16 scales = InU16(plus(k, 64 * CODE_BYTES));
    EACH(b, N_BLOCK) {
        const vec2 scale = load_scale(scales, b, slot);
        float part[MR];
        EACH(m, MR) part[m] = 0.0;
        EACH(u, KV_BITS / 2) {
            const uvec2 words = unpackUint2x32(key.v[b * (KV_BITS / 2) + u]);
            EACH(e, 2 * WORD_CODES) {
                const uint d = b * BLOCK + u * 2 * WORD_CODES + e;
                if (d < HD) {
                    const float x = code(words[e / WORD_CODES], e % WORD_CODES) - scale.y;
                    EACH(m, MR)
                        part[m] += from_lane(q[m * QV + d / (2 * SG) * 2 + d % 2], d / 2 % SG) * x;
                }
            }
        }
        EACH(m, MR) score[m * NR + g] += part[m] * scale.x;
    }
}

// Scales of the blocks of values that this lane's slot has, one for each chunk.
void load_scales(uvec2 v, uint slot, out vec2 scale[CHUNKS])
{
    if (NARROW) {
        EACH(c, CHUNKS)
            scale[c] = load_scale(InU16(plus(v, 64 * CODE_BYTES)), c * SG * 4 / BLOCK, slot);
    }
}

// The 4 values of chunk c of `slot` that are this lane's; lane j has its scales.
vec4 load_values(uvec2 v, uint slot, uint c, uint j, vec2 scale[CHUNKS])
{
    const uint unit = min(c * SG + gl_LocalInvocationID.x, UNITS - 1);
    const uint first = unit * 4 % WORD_CODES;
    const uint word = InU32(plus(v, slot * CODE_BYTES)).v[unit * 4 / WORD_CODES] >> first * KV_BITS;
    const vec2 head = NARROW ? vec2(from_lane(scale[c].x, j), from_lane(scale[c].y, j))
                             : load_scale(InU16(plus(v, 64 * CODE_BYTES)), unit * 4 / BLOCK, slot);
    const vec4 x = vec4(code(word, 0), code(word, 1), code(word, 2), code(word, 3));
    return (x - head.y) * head.x;
}
