// SPDX-License-Identifier: LGPL-2.1-or-later
// act.glsl — activation functions, numbered as vlm_act in engine/ops/matmul.h.
#define ACT_GELU_TANH 1u
#define ACT_GELU_ERF  2u
#define ACT_SILU      3u
#define ACT_SIGMOID   4u
#define ACT_GELU_QUICK 5u

// erf(x) with an error of about 2e-7 of the smaller of erf and erfc. Below 1 by the Maclaurin
// series to x^21. Above by erfc(a) = t exp(q(t) - a^2) with t = 1 / (1 + a / 2) and a polynomial q
// of degree 7, fitted to log(erfc(a) exp(a^2) / t) at Chebyshev nodes over 1 <= a <= 10.5; beyond
// that erfc is below the smallest f32.
float erf_of(float x)
{
    const float a = abs(x);
    const float s = x * x;
    if (a < 1.0) {
        // sum of (-1)^n x^(2n+1) / (n! (2n+1)) * 2 / sqrt(pi), to n = 10
        float p = 1.0 / 76204800.0;
        p = p * s - 1.0 / 6894720.0;
        p = p * s + 1.0 / 685440.0;
        p = p * s - 1.0 / 75600.0;
        p = p * s + 1.0 / 9360.0;
        p = p * s - 1.0 / 1320.0;
        p = p * s + 1.0 / 216.0;
        p = p * s - 1.0 / 42.0;
        p = p * s + 1.0 / 10.0;
        p = p * s - 1.0 / 3.0;
        p = p * s + 1.0;
        return 1.1283791671 * x * p;
    }
    const float t = 1.0 / (1.0 + 0.5 * a);
    float q = -0.149473786;
    q = q * t + 0.6658234;
    q = q * t - 0.936057687;
    q = q * t + 0.337828606;
    q = q * t - 0.0481977984;
    q = q * t + 0.398899555;
    q = q * t + 0.997645497;
    q = q * t - 1.26541531;
    const float erfc = t * exp(q - s);
    return x < 0.0 ? erfc - 1.0 : 1.0 - erfc;
}

float activate(float x, uint act)
{
    float y = x;
    if (act == ACT_GELU_TANH) {
        // 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u)), which neither cancels nor overflows to NaN
        const float u = 0.7978845608 * (x + 0.044715 * x * x * x);
        y = x / (1.0 + exp(-2.0 * u));
    } else if (act == ACT_GELU_ERF) {
        y = 0.5 * x * (1.0 + erf_of(0.7071067812 * x));
    } else if (act == ACT_SILU) {
        y = x / (1.0 + exp(-x));
    } else if (act == ACT_SIGMOID) {
        y = 1.0 / (1.0 + exp(-x));
    } else if (act == ACT_GELU_QUICK) {
        y = x / (1.0 + exp(-1.702 * x));
    }
    return y;
}
