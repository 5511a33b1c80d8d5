// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_rows.c — the reference against numbers worked out by hand.
#include "ref_rows.h"

#include <glib.h>
#include <math.h>

static void test_swiglu(void)
{
    // 1 / (1 + exp(-ln 3)) = 3/4
    const float gate[] = { 0.0f, 1.0986122887f, -1000.0f }, up[] = { 5, 8, 7 };
    double dst[3];

    ref_swiglu(dst, gate, up, 3);
    g_assert_cmpfloat(dst[0], ==, 0.0);
    g_assert_cmpfloat_with_epsilon(dst[1], 6 * 1.0986122887, 1e-6);
    g_assert_cmpfloat(dst[2], ==, 0.0);
    ref_sigmoid_gate(dst, gate, up, 3);
    g_assert_cmpfloat(dst[0], ==, 2.5);
    g_assert_cmpfloat_with_epsilon(dst[1], 6, 1e-6);
    g_assert_cmpfloat(dst[2], ==, 0.0);
}

static void test_argmax(void)
{
    const float a[] = { NAN, 2, 7, 7, -INFINITY }, b[] = { NAN, NAN }, c[] = { -INFINITY, NAN },
                d[] = { -0.0f, 0.0f };

    g_assert_cmpuint(ref_argmax(a, 5), ==, 2);
    g_assert_cmpuint(ref_argmax(b, 2), ==, 0);
    g_assert_cmpuint(ref_argmax(c, 2), ==, 0);
    g_assert_cmpuint(ref_argmax(d, 2), ==, 0);
}

static void test_position_embed(void)
{
    // table 0 10 / 20 30 over 2 x 4 patches in blocks of 2: columns at 0, 1/3, 2/3, 1
    const float table[] = { 0, 10, 20, 30 };
    const double want[] = { 0, 10 / 3.0, 20, 20 + 10 / 3.0, 20 / 3.0, 10, 20 + 20 / 3.0, 30 };
    double dst[8];

    ref_position_embed(dst, table, 1, 2, 2, 4, 2);
    for (int i = 0; i < 8; i++)
        g_assert_cmpfloat_with_epsilon(dst[i], want[i], 1e-12);
    ref_position_embed(dst, table, 1, 2, 1, 1, 1);
    g_assert_cmpfloat(dst[0], ==, 0.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/rows/swiglu", test_swiglu);
    g_test_add_func("/ref/rows/argmax", test_argmax);
    g_test_add_func("/ref/rows/position-embed", test_position_embed);
    return g_test_run();
}
