// SPDX-License-Identifier: LGPL-2.1-or-later
// moe_route.comp — ids[t] = the k largest logits[t], gate[t] = their softmax among themselves
//
// Equal to softmax over all experts, choice and renormalisation: the common divisor cancels.
//
// Workgroup: one subgroup per token, lanes along the experts; k passes, each finds the next one in
//            the order (larger logit, lower index).
// Shared:    none.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

VLM_ARGS(vlm_args_moe_route);

// Integers in the order of the numbers; both zeros alike, NaN below everything.
uint key_of(float x)
{
    const uint u = floatBitsToUint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0u;
    if ((u & 0x7fffffffu) == 0u)
        return 0x80000000u;
    return (u & 0x80000000u) != 0u ? ~u : u | 0x80000000u;
}

float value_of(uint key)
{
    return uintBitsToFloat((key & 0x80000000u) != 0u ? key & 0x7fffffffu : ~key);
}

void main()
{
    const vlm_args_moe_route p = VLM_LOAD_ARGS;
    const uint tok = gl_WorkGroupID.x;
    const uint lane = gl_LocalInvocationID.x;
    InF32 logits = InF32(p.logits);
    OutU32 ids = OutU32(p.ids);
    F32 gate = F32(p.gate);

    uint last_key = ~0u, last_expert = 0u, first_key = 0u;
    float sum = 0.0;
    uint j = 0;
    do {
        uint best_key = 0u, best = ~0u;
        uint e = lane;
        while (e < p.n_expert) {
            const uint key = key_of(logits.v[tok * p.stride + e]);
            const bool later = key < last_key || (key == last_key && e > last_expert);
            if (later && (best == ~0u || key > best_key)) {
                best_key = key;
                best = e;
            }
            e += gl_SubgroupSize;
        }
        last_key = subgroupMax(best_key);
        last_expert = subgroupMin(best_key == last_key ? best : ~0u);
        if (j == 0)
            first_key = last_key;
        const float weight =
            last_key == first_key ? 1.0 : exp(value_of(last_key) - value_of(first_key));
        sum += weight;
        if (lane == 0) {
            ids.v[tok * p.k + j] = last_expert;
            gate.v[tok * p.k + j] = weight;
        }
        j++;
    } while (j < p.k);

    if (lane == 0) {
        j = 0;
        do {
            gate.v[tok * p.k + j] = gate.v[tok * p.k + j] / sum;
            j++;
        } while (j < p.k);
    }
}
