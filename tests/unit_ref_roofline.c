// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_roofline.c — the reference of the measuring kernels against numbers worked out by hand.
#include "ref_roofline.h"

#include <glib.h>

static void test_read(void)
{
    const uint32_t src[16] = { 1, 2, 3, 4, 10, 20, 30, 40, 0xffffffff, 0, 0, 2, 5, 5, 5, 5 };

    g_assert_cmpuint(ref_roofline_read(src, 4, 2, 0), ==, 11);  // 10 and 2^32 + 1
    g_assert_cmpuint(ref_roofline_read(src, 4, 2, 1), ==, 120);
    g_assert_cmpuint(ref_roofline_read(src, 4, 4, 3), ==, 20);
}

static void test_fma(void)
{
    // 3 -> 2.5 -> 2.25, 4 -> 3 -> 2.5
    g_assert_cmpfloat(ref_roofline_fma(0.5f, 1.0f, 2, 2, 3), ==, 4.75);
    g_assert_cmpfloat(ref_roofline_fma(2.0f, 0.0f, 1, 3, 1), ==, 8.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/roofline/read", test_read);
    g_test_add_func("/ref/roofline/fma", test_fma);
    return g_test_run();
}
