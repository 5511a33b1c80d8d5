// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_norm.c — the reference against numbers worked out by hand.
#include "ref_norm.h"

#include <glib.h>

static void test_rms_norm(void)
{
    // mean of squares: (9 + 16) / 2 = 12.5; with eps 12.5 the divisor is 5
    const float src[] = { 3, 4, -1 /* gap */, 0, 0, -1 };
    const float weight[] = { 10, 100 };
    double dst[4];

    ref_rms_norm(dst, src, weight, 2, 2, 3, 12.5f);
    g_assert_cmpfloat_with_epsilon(dst[0], 6.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[1], 80.0, 1e-12);
    g_assert_cmpfloat(dst[2], ==, 0.0);
}

static void test_rms_norm_gated(void)
{
    // as above; silu(ln 3) = 3/4 ln 3
    const float src[] = { 3, 4 }, weight[] = { 10, 100 }, gate[] = { 1.0986122887f, -2000.0f };
    double dst[2];

    ref_rms_norm_gated(dst, src, gate, weight, 2, 12.5f);
    g_assert_cmpfloat_with_epsilon(dst[0], 6 * 0.75 * 1.0986122887, 1e-6);
    g_assert_cmpfloat(dst[1], ==, 0.0);
}

static void test_layer_norm(void)
{
    // mean 3, variance 4; with eps 12 the divisor is 4
    const float src[] = { 1, 5, -1 /* gap */, 7, 7, -1 };
    const float weight[] = { 10, 100 }, bias[] = { 1, 2 };
    double dst[4];

    ref_layer_norm(dst, src, weight, bias, 2, 2, 3, 12.0f);
    g_assert_cmpfloat_with_epsilon(dst[0], -4.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[1], 52.0, 1e-12);
    g_assert_cmpfloat(dst[2], ==, 1.0);
    g_assert_cmpfloat(dst[3], ==, 2.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/rms_norm", test_rms_norm);
    g_test_add_func("/ref/rms_norm_gated", test_rms_norm_gated);
    g_test_add_func("/ref/layer_norm", test_layer_norm);
    return g_test_run();
}
