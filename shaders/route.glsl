// SPDX-License-Identifier: LGPL-2.1-or-later
// route.glsl — the experts of one token: the k largest logits, and their softmax among themselves.
//
// Equal to softmax over all experts, choice and renormalisation: the common divisor cancels. One
// subgroup, lanes along the experts; k passes, each finds the next one in the order (larger logit,
// lower index).
#include "order_key.glsl"

layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Coherent
{
    float v[];
};

// Token `tok` of logits [tok, stride], ids and gate [tok, k].
void route(Coherent logits, uint stride, uint n_expert, uint k, OutU32 ids, F32 gate, uint tok,
           uint lane)
{
    uint last_key = ~0u, last_expert = 0u, first_key = 0u;
    float sum = 0.0;
    uint j = 0;
    do {
        uint best_key = 0u, best = ~0u;
        uint e = lane;
        while (e < n_expert) {
            const uint key = key_of(floatBitsToUint(logits.v[tok * stride + e]));
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
            ids.v[tok * k + j] = last_expert;
            gate.v[tok * k + j] = weight;
        }
        j++;
    } while (j < k);

    if (lane == 0) {
        j = 0;
        do {
            gate.v[tok * k + j] = gate.v[tok * k + j] / sum;
            j++;
        } while (j < k);
    }
}
