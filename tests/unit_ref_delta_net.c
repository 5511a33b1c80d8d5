// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_delta_net.c — the reference against numbers worked out by hand.
#include "ref_delta_net.h"

#include <glib.h>
#include <math.h>

static void test_conv(void)
{
    // 1000*1 + 100*2 + 10*3 + 4 = 1234, whose sigmoid is 1; then 2345
    const float src[] = { 4, -1 /* gap */, 5, -1 }, weight[] = { 1000, 100, 10, 1 };
    float before[] = { 1, 2, 3 };
    double dst[2];

    ref_causal_conv(dst, src, 2, 2, weight, before);
    g_assert_cmpfloat_with_epsilon(dst[0], 1234.0, 1e-9);
    g_assert_cmpfloat_with_epsilon(dst[1], 2345.0, 1e-9);
    g_assert_cmpfloat(before[0], ==, 3);
    g_assert_cmpfloat(before[1], ==, 4);
    g_assert_cmpfloat(before[2], ==, 5);
    // silu(ln 3) = 3/4 ln 3
    const float half[] = { 0, 0, 0, 0.5f }, x[] = { 2.1972245773f };
    ref_causal_conv(dst, x, 1, 1, half, before);
    g_assert_cmpfloat_with_epsilon(dst[0], 0.75 * 1.0986122887, 1e-6);
}

static void test_delta(void)
{
    // softplus(ln(e - 1)) = 1, so a = -ln 2 halves the state; sigmoid(0) = 1/2. The keys' lengths
    // are so large that 1e-6 doesn't show.
    const float k[] = { 3e6f, 4e6f }, q[] = { 0, 5e6f }, v[] = { 10, -20 };
    double s[] = { 2, 4, 6, 8 }, dst[2];

    // S: 1 2 / 3 4; k = .6 .8; known = .6 + 2.4 = 3, 1.2 + 3.2 = 4.4; change: 3.5, -12.2
    ref_delta_rule(dst, s, q, k, v, log(exp(1.0) - 1.0) - 7.0, 0.0, 7.0, -log(2.0), 2);
    g_assert_cmpfloat_with_epsilon(s[0], 1 + 0.6 * 3.5, 1e-9);
    g_assert_cmpfloat_with_epsilon(s[1], 2 - 0.6 * 12.2, 1e-9);
    g_assert_cmpfloat_with_epsilon(s[2], 3 + 0.8 * 3.5, 1e-9);
    g_assert_cmpfloat_with_epsilon(s[3], 4 - 0.8 * 12.2, 1e-9);
    g_assert_cmpfloat_with_epsilon(dst[0], (3 + 0.8 * 3.5) / sqrt(2.0), 1e-9);
    g_assert_cmpfloat_with_epsilon(dst[1], (4 - 0.8 * 12.2) / sqrt(2.0), 1e-9);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/delta_net/conv", test_conv);
    g_test_add_func("/ref/delta_net/delta", test_delta);
    return g_test_run();
}
