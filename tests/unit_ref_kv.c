// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_kv.c — the reference of quantised pages against numbers worked out by hand.
#include "ref_kv.h"

#include <glib.h>
#include <math.h>
#include <string.h>

static void test_half(void)
{
    g_assert_cmphex(ref_kv_half(1.0), ==, 0x3c00);
    g_assert_cmphex(ref_kv_half(-2.0), ==, 0xc000);
    g_assert_cmphex(ref_kv_half(1.0 + 0x1p-11), ==, 0x3c00);      // tie, even below
    g_assert_cmphex(ref_kv_half(1.0 + 3 * 0x1p-11), ==, 0x3c02);  // tie, even above
    g_assert_cmphex(ref_kv_half(2.0 - 0x1p-12), ==, 0x4000);      // carries
    g_assert_cmphex(ref_kv_half(0x1p-24), ==, 0x0001);
    g_assert_cmphex(ref_kv_half(0x1p-25), ==, 0x0000);
    g_assert_cmphex(ref_kv_half(0x1p-14 - 0x1p-26), ==, 0x0400);
    g_assert_cmphex(ref_kv_half(65519), ==, 0x7bff);
    g_assert_cmphex(ref_kv_half(65520), ==, 0x7c00);
}

static void test_q8(void)
{
    // 63.5 is the largest: d = 1/2; 0.25 is half of that and goes up, -0.25 too
    float x[40] = { 63.5f, -63.5f, 0.25f, -0.25f, 0.2499f, 1.0f };
    uint8_t head[64 * (64 + 4)];
    uint16_t scale;

    x[32] = 254.0f, x[39] = -2.0f;  // the second block: d = 2
    memset(head, 0xee, sizeof head);
    g_assert_cmpuint(ref_kv_head_bytes(8, 40), ==, sizeof head);
    ref_kv_store(head, 8, 40, 3, x);
    const uint8_t *codes = head + (size_t) 3 * 64;
    g_assert_cmphex(codes[0], ==, 0x7f);
    g_assert_cmphex(codes[1], ==, 0x81);
    g_assert_cmphex(codes[2], ==, 1);
    g_assert_cmphex(codes[3], ==, 0);
    g_assert_cmphex(codes[4], ==, 0);
    g_assert_cmphex(codes[5], ==, 2);
    g_assert_cmphex(codes[39], ==, 0xff);
    g_assert_cmphex(codes[63], ==, 0);  // filled up
    memcpy(&scale, head + (size_t) 64 * 64 + 3 * 2, 2);
    g_assert_cmphex(scale, ==, 0x3800);
    memcpy(&scale, head + (size_t) 64 * 64 + (64 + 3) * 2, 2);
    g_assert_cmphex(scale, ==, 0x4000);
    g_assert_cmpfloat(ref_kv_value(head, 8, 40, 3, 1), ==, -63.5);
    g_assert_cmpfloat(ref_kv_value(head, 8, 40, 3, 39), ==, -2.0);
    g_assert_cmphex(head[2 * 64], ==, 0xee);  // another slot
}

static void test_q4(void)
{
    // from -2.5 to 5: d = 1/2, zero is code 5
    const float x[32] = { -2.5f, 5.0f, 0.0f, 0.25f, -0.25f, 0.74f, 4.9f };
    uint8_t head[64 * (16 + 2)];
    uint16_t scale;

    g_assert_cmpuint(ref_kv_head_bytes(4, 32), ==, sizeof head);
    ref_kv_store(head, 4, 32, 63, x);
    memcpy(&scale, head + (size_t) 64 * 16 + 63 * 2, 2);
    g_assert_cmphex(scale, ==, 0x3805);
    g_assert_cmphex(head[63 * 16], ==, 0xf0);
    g_assert_cmphex(head[63 * 16 + 1], ==, 0x65);
    g_assert_cmphex(head[63 * 16 + 2], ==, 0x65);
    g_assert_cmpfloat(ref_kv_value(head, 4, 32, 63, 0), ==, -2.5);
    g_assert_cmpfloat(ref_kv_value(head, 4, 32, 63, 1), ==, 5.0);
    g_assert_cmpfloat(ref_kv_value(head, 4, 32, 63, 3), ==, 0.5);
    g_assert_cmpfloat(ref_kv_value(head, 4, 32, 63, 31), ==, 0.0);
}

static void test_nothing_and_too_much(void)
{
    float x[32] = { 0 };
    uint8_t head[64 * (32 + 2)];

    for (int bits = 4; bits <= 8; bits += 4) {
        const size_t scale_at = (size_t) 64 * 4 * (size_t) bits;
        x[7] = 0;
        ref_kv_store(head, bits, 32, 0, x);
        g_assert_cmpfloat(ref_kv_value(head, bits, 32, 0, 7), ==, 0.0);
        const float bad[] = { NAN, INFINITY, -INFINITY, 3e38f };
        for (int i = 0; i < 4; i++) {
            x[7] = bad[i];
            ref_kv_store(head, bits, 32, 0, x);
            g_assert_cmphex(head[scale_at] | head[scale_at + 1] << 8, ==, 0x7e00);
            g_assert_true(isnan(ref_kv_value(head, bits, 32, 0, 1)));
        }
    }
}

static void test_transform(void)
{
    float x[40];

    for (int i = 0; i < 40; i++)
        x[i] = i == 5 ? 8 : i >= 32 ? 3 : 0;
    ref_kv_transform(x, 40, 0.125f);
    // row 5 of the matrix: the sign counts the ones that 5 and i have in common
    g_assert_cmpfloat(x[0], ==, 1.0);
    g_assert_cmpfloat(x[1], ==, -1.0);
    g_assert_cmpfloat(x[2], ==, 1.0);
    g_assert_cmpfloat(x[5], ==, 1.0);
    g_assert_cmpfloat(x[12], ==, -1.0);
    g_assert_cmpfloat(x[32], ==, 3.0);  // no whole block
    ref_kv_transform(x, 40, 0.25f);
    g_assert_cmpfloat(x[5], ==, 8.0);  // 32 / (8 * 4) times what it was
    g_assert_cmpfloat(x[6], ==, 0.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/kv/half", test_half);
    g_test_add_func("/ref/kv/q8", test_q8);
    g_test_add_func("/ref/kv/q4", test_q4);
    g_test_add_func("/ref/kv/nothing-and-too-much", test_nothing_and_too_much);
    g_test_add_func("/ref/kv/transform", test_transform);
    return g_test_run();
}
