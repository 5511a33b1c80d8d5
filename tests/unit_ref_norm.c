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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/rms_norm", test_rms_norm);
    return g_test_run();
}
