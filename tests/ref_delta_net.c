// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_delta_net.c — see ref_delta_net.h.
#include "ref_delta_net.h"

#include <math.h>

void ref_causal_conv(double *dst, const float *src, size_t n_tok, size_t stride,
                     const float weight[4], float before[3])
{
    for (size_t t = 0; t < n_tok; t++) {
        const float x = src[t * stride];
        const double y = (double) weight[0] * before[0] + (double) weight[1] * before[1]
                         + (double) weight[2] * before[2] + (double) weight[3] * x;

        dst[t] = y / (1.0 + exp(-y));
        before[0] = before[1];
        before[1] = before[2];
        before[2] = x;
    }
}

static double inverse_length(const float *x, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double) x[i] * x[i];
    return 1.0 / sqrt(sum + 1e-6);
}

void ref_delta_rule(double *dst, double *s, const float *q, const float *k, const float *v,
                    double alpha, double beta, double dt_bias, double a, size_t d)
{
    const double q_scale = inverse_length(q, d) / sqrt((double) d), k_scale = inverse_length(k, d);
    const double decay = exp(a * log1p(exp(alpha + dt_bias)));
    const double rate = 1.0 / (1.0 + exp(-beta));

    for (size_t i = 0; i < d * d; i++)
        s[i] *= decay;
    for (size_t j = 0; j < d; j++) {
        double known = 0.0, y = 0.0;

        for (size_t i = 0; i < d; i++)
            known += s[i * d + j] * k[i] * k_scale;
        for (size_t i = 0; i < d; i++) {
            s[i * d + j] += k[i] * k_scale * (v[j] - known) * rate;
            y += s[i * d + j] * q[i] * q_scale;
        }
        dst[j] = y;
    }
}
