// SPDX-License-Identifier: LGPL-2.1-or-later
// embed.comp — dst[t, c] = weight[ids[t], c], dequantised exactly as the file format says.
//
// Workgroup: one subgroup; lanes take the blocks of a row. Workgroup (x, y): LANES blocks from
//            x * LANES of token y.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"

VLM_ARGS(vlm_args_embed);

void main()
{
    const vlm_args_embed p = VLM_LOAD_ARGS;
    const uint tok = gl_WorkGroupID.y;
    const uint block = gl_WorkGroupID.x * LANES + gl_LocalInvocationID.x;
    const uint id = InU32(p.ids).v[tok];
    OutF32 dst = OutF32(p.dst);

    if (id == ~0u || block >= p.n_block)
        return;
    const uint row = id < p.n_row ? id : 0u;
    const uint row_lane = row % LANES;
    const uint unit = block / UNIT_BLOCKS;
    const uint j = block % UNIT_BLOCKS;
    const uint64_t unit_at = packUint2x32(p.weight) + 8u * row_lane
                           + uint64_t(row / LANES) * uint64_t(p.panel_bytes)
                           + uint64_t(unit) * uint64_t(HEAD_BYTES + UNIT_BLOCKS * BLOCK_BYTES);
    const uint64_t at = unit_at + HEAD_BYTES + uint64_t(j) * uint64_t(BLOCK_BYTES);
    const head_t head = open_head(unit_at, row_lane);
    const block_t b = open_block(head, j, at, row_lane);

    [[unroll]] for (int s = 0; s < BLOCK_WORDS; s++) {
        const uint64_t word = InU64(at).v[uint(s) * LANES];
        [[unroll]] for (int i = 0; i < WORD_K; i++) {
            const int k = s * WORD_K + i;
            const uint c = block * 32u + uint(k);
            precise float w = code(word, b, k);
            w = times_scale(b, k, w);
#if HAS_MINUS
            w = w - minus_of(b, k);
#endif
            if (CHECK_K == 0 || c < p.n_col)
                dst.v[tok * p.dst_stride + c] = w;
        }
    }
}
