// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_moe.c — the reference against numbers worked out by hand.
#include <glib.h>
#include <math.h>

#include "ref_moe.h"

static void test_route(void)
{
    // e^0 = 1, e^ln2 = 2, e^ln6 = 6: of 1 + 2 + 6 + 6 = 15 the two sixes win, then the two
    const float l2 = logf(2), l6 = logf(6);
    const float logits[] = { 0, l6, l2, l6, 99 /* gap */, 3, 3, 3, 3, 99 };
    int32_t ids[6];
    double gate[6];

    ref_moe_route(ids, gate, logits, 5, 2, 4, 3);
    g_assert_cmpint(ids[0], ==, 1);
    g_assert_cmpint(ids[1], ==, 3);
    g_assert_cmpint(ids[2], ==, 2);
    g_assert_cmpfloat_with_epsilon(gate[0], 6.0 / 14, 1e-7);
    g_assert_cmpfloat_with_epsilon(gate[1], 6.0 / 14, 1e-7);
    g_assert_cmpfloat_with_epsilon(gate[2], 2.0 / 14, 1e-7);
    for (int j = 0; j < 3; j++) {
        g_assert_cmpint(ids[3 + j], ==, j);
        g_assert_cmpfloat_with_epsilon(gate[3 + j], 1.0 / 3, 1e-12);
    }
}

static void test_plan(void)
{
    const int32_t ids[] = { 2, 0, 2, 1, 0, 2 };
    const int32_t want[] = { 1, 4, 3, 0, 2, 5 };
    int32_t order[6];

    ref_moe_plan(order, ids, 6, 3);
    for (int i = 0; i < 6; i++)
        g_assert_cmpint(order[i], ==, want[i]);
}

static void test_matmul(void)
{
    const float src[] = { 1, 2, 99 /* gap */, 3, 4, 99 };
    const float weight[] = { 1, 0, 0, 1, /* expert 1 */ 10, 10, -1, 0 };
    const int32_t ids[] = { 1, 0, 0, 1 };
    const double want[] = { 30, -1, 1, 2, 3, 4, 70, -3 };
    double out[8], scale[8];

    ref_moe_matmul(out, scale, src, 3, weight, ids, 4, 2, 2, 2);
    for (int i = 0; i < 8; i++)
        g_assert_cmpfloat(out[i], ==, want[i]);
}

static void test_combine(void)
{
    const float dst[] = { 100, 200 };
    const float src[] = { 1, 2, -3, 4 };
    const float gate[] = { 0.25f, 0.75f };
    double out[2], scale[2];

    ref_moe_combine(out, scale, dst, 2, src, 2, gate, 1, 2, 2);
    g_assert_cmpfloat(out[0], ==, 98.0);
    g_assert_cmpfloat(out[1], ==, 203.5);
    g_assert_cmpfloat(scale[0], ==, 102.5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/moe/route", test_route);
    g_test_add_func("/ref/moe/plan", test_plan);
    g_test_add_func("/ref/moe/matmul", test_matmul);
    g_test_add_func("/ref/moe/combine", test_combine);
    return g_test_run();
}
