// SPDX-License-Identifier: LGPL-2.1-or-later
// delta_rule.comp — the gated delta rule, token by token
//
//   q, k = q, k / norm,  q = q / sqrt(D)
//   S = S * exp(a softplus(alpha + dt_bias)),  S = S + k (v - k S) sigmoid(beta),  dst = q S
//
// The columns of S don't know of each other: a lane has one of them, D registers, and needs nothing
// of its neighbours but their share of q and k.
//
// Workgroup: one subgroup per span of columns (x), value head (y) and sequence (z), lane = column
//            of S (element of v), walking along the tokens. q and k are spread over the lanes and
//            given to all by shuffles.
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "state.glsl"

layout(constant_id = 3) const uint SG = 8;    // lanes of a subgroup
layout(constant_id = 4) const uint D = 128;   // head_dim

VLM_ARGS(vlm_args_delta_rule);

const uint QV = (D + SG - 1) / SG;            // registers of a row of q

#define EACH(i, n) [[unroll]] for (uint i = 0; i < (n); i++)

// log(1 + exp(x))
float softplus(float x)
{
    const float y = exp(-abs(x));
    const float log1p = y < 0.02 ? y * (1.0 - y * (0.5 - y * (1.0 / 3.0 - 0.25 * y)))
                                 : log(1.0 + y);
    return max(x, 0.0) + log1p;
}

float sigmoid(float x)
{
    return x < -87.0 ? 0.0 : 1.0 / (1.0 + exp(-x));
}

float s[D];
float q[QV];
float k[QV];

void main()
{
    const vlm_args_delta_rule p = VLM_LOAD_ARGS;
    const uint lane = gl_LocalInvocationID.x;
    const uint head = gl_WorkGroupID.y;
    const uint col = gl_WorkGroupID.x * SG + lane;
    const uint safe = min(col, D - 1);
    const StateRows seq = load_state_rows(InU64(p.seqs), gl_WorkGroupID.z, p.offset);
    F32 state = F32(seq.state);
    InF32 qkv = InF32(p.qkv);
    const uint q_at = head % p.n_k_head * D;
    const uint k_at = q_at + p.n_k_head * D;
    const uint v_at = (2 * p.n_k_head + head) * D + safe;
    const float a = InF32(p.a).v[head];
    const float dt_bias = InF32(p.dt_bias).v[head];

    EACH(i, D) s[i] = state.v[(head * D + i) * D + safe];
    uint tok = seq.tok0;
    do {
        const uint row = tok * p.qkv_stride;
        float qq = 0.0;
        float kk = 0.0;
        EACH(i, QV) {
            const uint at = min(i * SG + lane, D - 1);
            const bool inside = i * SG + lane < D;
            q[i] = inside ? qkv.v[row + q_at + at] : 0.0;
            k[i] = inside ? qkv.v[row + k_at + at] : 0.0;
            qq += q[i] * q[i];
            kk += k[i] * k[i];
        }
        const float q_scale = inversesqrt(subgroupAdd(qq) + 1e-6) * inversesqrt(float(D));
        const float k_scale = inversesqrt(subgroupAdd(kk) + 1e-6);
        EACH(i, QV) {
            q[i] *= q_scale;
            k[i] *= k_scale;
        }
        const float decay = exp(a * softplus(InF32(p.alpha).v[tok * p.alpha_stride + head]
                                             + dt_bias));
        const float rate = sigmoid(InF32(p.beta).v[tok * p.beta_stride + head]);
        float known = 0.0;
        EACH(i, D) known += s[i] * from_lane(k[i / SG], i % SG);
        const float change = (qkv.v[row + v_at] - known * decay) * rate;
        float y = 0.0;
        EACH(i, D) {
            s[i] = s[i] * decay + from_lane(k[i / SG], i % SG) * change;
            y += s[i] * from_lane(q[i / SG], i % SG);
        }
        if (col < D)
            OutF32(p.dst).v[tok * p.dst_stride + head * D + col] = y;
        tok++;
    } while (tok < seq.tok0 + seq.n_tok);
    if (col < D) {
        EACH(i, D) state.v[(head * D + i) * D + col] = s[i];
    }
}
