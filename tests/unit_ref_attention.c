// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_attention.c — the reference against numbers worked out by hand.
#include "ref_attention.h"

#include <glib.h>
#include <math.h>

// One KV head of two elements: keys and values of 64 slots.
typedef struct one_head {
    float key[64][2];
    float value[64][2];
} one_head;

static one_head nothing(void)
{
    one_head page;

    for (int s = 0; s < 64; s++) {
        for (int d = 0; d < 2; d++)
            page.key[s][d] = page.value[s][d] = NAN;
    }
    return page;
}

static void test_weights(void)
{
    // scores 0 and ln 3: weights 1/4 and 3/4; the token before sees the first slot only
    const float q[] = { 1, 0, -1 /* gap */, 1, 0, -1 };
    const ref_heads heads = { 1, 1, 2, 32, 0.5 };
    one_head page = nothing();
    const ref_page pages[] = { { &page, 5, 7 } };
    double dst[4], most;

    page.key[5][0] = 0, page.key[5][1] = 9, page.value[5][0] = 4, page.value[5][1] = 8;
    page.key[6][0] = 2 * logf(3), page.key[6][1] = 9, page.value[6][0] = 40, page.value[6][1] = 0;
    most = ref_attention(dst, q, 3, pages, 1, 2, 5, &heads);
    g_assert_cmpfloat_with_epsilon(dst[0], 4.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[1], 8.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[2], 31.0, 1e-5);
    g_assert_cmpfloat_with_epsilon(dst[3], 2.0, 1e-6);
    g_assert_cmpfloat_with_epsilon(most, log(3), 1e-6);
}

static void test_nothing_to_see(void)
{
    const float q[] = { 1, 1 };
    const ref_heads heads = { 1, 1, 2, 32, 1.0 };
    one_head page = nothing();
    const ref_page pages[] = { { &page, 3, 64 } };
    double dst[2] = { 7, 7 };

    ref_attention(dst, q, 2, pages, 1, 1, 2, &heads);
    g_assert_cmpfloat(dst[0], ==, 0.0);
    g_assert_cmpfloat(dst[1], ==, 0.0);
}

static void test_half(void)
{
    // f16 page of two KV heads of two elements; heads 0, 1 read the first and 2, 3 the second;
    // 0x4200 is 3, 0xc500 is -5, 0x0001 is 2^-24
    const float q[] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    const ref_heads heads = { 4, 2, 2, 16, 1.0 };
    uint16_t page[2][2][64][2] = { 0 };
    const ref_page pages[] = { { page, 0, 1 } };
    double dst[8];

    page[1][0][0][0] = 0x4200, page[1][0][0][1] = 0xc500;
    page[1][1][0][0] = 0x0001, page[1][1][0][1] = 0x8000;
    ref_attention(dst, q, 8, pages, 1, 1, 0, &heads);
    g_assert_cmpfloat(dst[2], ==, 3.0);
    g_assert_cmpfloat(dst[3], ==, -5.0);
    g_assert_cmpfloat(dst[4], ==, 0x1p-24);
    g_assert_cmpfloat(dst[7], ==, 0.0);
}

static void test_full(void)
{
    // two images of two rows, one head of one element; rows: q, k, v
    const float qkv[] = { 0, 5, 1, 0, 6, 3, logf(3), 0, 10, 0, 1, 20 };
    const ref_heads heads = { 1, 1, 1, 32, 1.0 };
    double dst[4];

    ref_attention_full(dst, qkv, 3, 4, 2, 0, &heads);
    g_assert_cmpfloat_with_epsilon(dst[0], 2.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[1], 2.0, 1e-12);
    g_assert_cmpfloat_with_epsilon(dst[2], 17.5, 1e-5);
    g_assert_cmpfloat_with_epsilon(dst[3], 15.0, 1e-12);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/attention/weights", test_weights);
    g_test_add_func("/ref/attention/nothing-to-see", test_nothing_to_see);
    g_test_add_func("/ref/attention/half", test_half);
    g_test_add_func("/ref/attention/full", test_full);
    return g_test_run();
}
