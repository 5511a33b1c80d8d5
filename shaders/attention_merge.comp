// SPDX-License-Identifier: LGPL-2.1-or-later
// attention_merge.comp — joins what attention.comp found in each run of pages
//
//   dst[row] = sum over runs of 2^(top - max top) sums / sum over runs of 2^(top - max top) weight
//
// Workgroup: one subgroup per KV head (x), row of that head (y) and sequence (z), lanes along the
//            head. Rows past the end of a sequence and sequences that were not split do nothing.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "attention.glsl"

VLM_ARGS(vlm_args_attention_merge);

void main()
{
    const vlm_args_attention_merge p = VLM_LOAD_ARGS;
    const uint head = gl_WorkGroupID.x;
    const uint row = gl_WorkGroupID.y;
    const Seq seq = load_seq(InU64(p.seqs), gl_WorkGroupID.z);
    InF32 part = InF32(p.part);

    if (row < seq.n_row && seq.n_split > 1) {
        const uint record = p.head_dim + 2;
        const uint first = (seq.part0 + (head * seq.n_row + row) * seq.n_split) * record;
        const uint to = (seq.tok0 + row / p.group) * p.dst_stride
                      + (head * p.group + row % p.group) * p.head_dim;
        float top = -3.0e38;
        uint i = 0;
        do {
            top = max(top, part.v[first + i * record + p.head_dim]);
            i++;
        } while (i < seq.n_split);

        uint d = gl_LocalInvocationID.x;
        while (d < p.head_dim) {
            float sum = 0.0;
            float weight = 0.0;
            i = 0;
            do {
                const uint at = first + i * record;
                const float keep = exp2(part.v[at + p.head_dim] - top);
                sum += keep * part.v[at + d];
                weight += keep * part.v[at + p.head_dim + 1];
                i++;
            } while (i < seq.n_split);
            OutF32(p.dst).v[to + d] = weight > 0.0 ? sum / weight : 0.0;
            d += gl_SubgroupSize;
        }
    }
}
