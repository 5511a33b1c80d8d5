// SPDX-License-Identifier: LGPL-2.1-or-later
// causal_conv.comp — a convolution of four taps along the tokens of a sequence, then SiLU
//
//   y = w0 x[t-3] + w1 x[t-2] + w2 x[t-1] + w3 x[t],  dst[t] = y / (1 + exp(-y))
//
// Workgroup: one subgroup per span of channels (x) and sequence (y), lane = channel, walking along
//            the tokens with the last three inputs in registers.
// Shared:    none.
// In place:  dst == src is allowed, each element is read before it is written.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "state.glsl"

VLM_ARGS(vlm_args_causal_conv);

void main()
{
    const vlm_args_causal_conv p = VLM_LOAD_ARGS;
    const uint c = gl_WorkGroupID.x * gl_SubgroupSize + gl_LocalInvocationID.x;
    const StateRows seq = load_state_rows(InU64(p.seqs), gl_WorkGroupID.y, p.offset);
    F32 state = F32(seq.state);
    F32 dst = F32(p.dst);
    F32 src = F32(p.src);
    InF32 weight = InF32(p.weight);

    if (c < p.n_col) {
        const float w0 = weight.v[4 * c];
        const float w1 = weight.v[4 * c + 1];
        const float w2 = weight.v[4 * c + 2];
        const float w3 = weight.v[4 * c + 3];
        float x3 = state.v[c];
        float x2 = state.v[p.n_col + c];
        float x1 = state.v[2 * p.n_col + c];
        uint t = 0;
        do {
            const float x = src.v[(seq.tok0 + t) * p.src_stride + c];
            const float y = w0 * x3 + w1 * x2 + w2 * x1 + w3 * x;
            // below -87 the true value is under the normal range of f32
            const float sigmoid = y < -87.0 ? 0.0 : 1.0 / (1.0 + exp(-y));
            dst.v[(seq.tok0 + t) * p.dst_stride + c] = y * sigmoid;
            x3 = x2;
            x2 = x1;
            x1 = x;
            t++;
        } while (t < seq.n_tok);
        state.v[c] = x3;
        state.v[p.n_col + c] = x2;
        state.v[2 * p.n_col + c] = x1;
    }
}
