// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_rope.c — the reference against numbers worked out by hand.
#include "ref_rope.h"

#include <glib.h>
#include <math.h>

static void test_one_pair(void)
{
    // pair 0 turns by the position itself: cos 2 = -0.4161468365, sin 2 = 0.9092974268
    const float x[] = { 1, 0 }, y[] = { 0, 3 };
    const uint32_t sections[4] = { 1, 0, 0, 0 }, position[3] = { 2, 50, 60 };
    double dst[2];

    ref_rope_imrope(dst, x, NULL, 0, 2, 1e6, sections, position);
    g_assert_cmpfloat_with_epsilon(dst[0], -0.4161468365, 1e-10);
    g_assert_cmpfloat_with_epsilon(dst[1], 0.9092974268, 1e-10);
    ref_rope_imrope(dst, y, NULL, 0, 2, 1e6, sections, position);
    g_assert_cmpfloat_with_epsilon(dst[0], -3 * 0.9092974268, 1e-9);
    g_assert_cmpfloat_with_epsilon(dst[1], -3 * 0.4161468365, 1e-9);
}

static void test_norm(void)
{
    // mean of squares 12.5, with eps 12.5 the divisor is 5; position 0 turns nothing
    const float x[] = { 3, 4 }, weight[] = { 10, 100 };
    const uint32_t sections[4] = { 1, 0, 0, 0 }, position[3] = { 0, 0, 0 };
    double dst[2];

    ref_rope_imrope(dst, x, weight, 12.5, 2, 1e6, sections, position);
    g_assert_cmpfloat_with_epsilon(dst[0], 6.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[1], 80.0, 1e-12);
}

static void test_axes(void)
{
    // 8 pairs, sections 4, 2, 2: t h w t h w t t; only the h axis moves here
    const uint32_t sections[4] = { 4, 2, 2, 0 }, position[3] = { 0, 1, 0 };
    float x[16];
    double dst[16], length = 0;

    for (int d = 0; d < 16; d++)
        x[d] = 1.0f;
    ref_rope_imrope(dst, x, NULL, 0, 16, 16.0, sections, position);
    for (int i = 0; i < 8; i++) {
        const gboolean turned = fabs(dst[i] - 1.0) > 1e-9;
        g_assert_cmpint(turned, ==, i == 1 || i == 4);
    }
    for (int d = 0; d < 16; d++)
        length += dst[d] * dst[d];
    g_assert_cmpfloat_with_epsilon(length, 16.0, 1e-12);
}

static void test_in_order(void)
{
    // head of 8, theta 10^4, sections 1, 2, 1: frequencies 1, 0.1, 0.01, 0.001 turn t, h, h, w
    const float x[] = { 1, 1, 1, 1, 0, 0, 0, 0 };
    const uint32_t sections[4] = { 1, 2, 1, 0 }, position[3] = { 2, 30, 500 };
    double dst[8];

    ref_rope_mrope(dst, x, 8, 1e4, sections, position);
    g_assert_cmpfloat_with_epsilon(dst[4], sin(2.0), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[5], sin(3.0), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[6], sin(0.3), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[7], sin(0.5), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[3], cos(0.5), 1e-12);
}

static void test_adjacent(void)
{
    // head of 4, theta 100: pair (0,1) turns by 2, pair (2,3) by 2 / 10
    const float x[] = { 1, 0, 0, 1 };
    double dst[4];

    ref_rope_adjacent(dst, x, 4, 100.0, 2);
    g_assert_cmpfloat_with_epsilon(dst[0], cos(2.0), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[1], sin(2.0), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[2], -sin(0.2), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[3], cos(0.2), 1e-12);
}

static void test_vision(void)
{
    // head of 8: pairs (0,4) and (1,5) by row * 1 and row / 100, (2,6) and (3,7) by the column
    const float x[] = { 1, 1, 1, 1, 0, 0, 0, 0 };
    double dst[8];

    ref_rope_vision(dst, x, 8, 2, 100);
    g_assert_cmpfloat_with_epsilon(dst[4], sin(2.0), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[5], sin(0.02), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[6], sin(100.0), 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[7], sin(1.0), 1e-12);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/rope/one-pair", test_one_pair);
    g_test_add_func("/ref/rope/norm", test_norm);
    g_test_add_func("/ref/rope/axes", test_axes);
    g_test_add_func("/ref/rope/in-order", test_in_order);
    g_test_add_func("/ref/rope/adjacent", test_adjacent);
    g_test_add_func("/ref/rope/vision", test_vision);
    return g_test_run();
}
