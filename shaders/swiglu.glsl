// SPDX-License-Identifier: LGPL-2.1-or-later
// swiglu.glsl — the gate of a feed-forward network: silu(gate) * up.

// exp() may overflow to infinity for a very negative gate: the quotient is then the right 0.
float sigmoid_of(float x)
{
    // below -87 the true value is under the normal range of f32
    return x < -87.0 ? 0.0 : 1.0 / (1.0 + exp(-x));
}

float swiglu(float gate, float up)
{
    return gate * sigmoid_of(gate) * up;
}
