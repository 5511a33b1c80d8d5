// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_rope.c — the tables of rotary pairs. Needs no device.
#include "ops/rope.h"

static void test_tables(void)
{
    vlm_rope_pair pairs[64];
    const uint32_t sections[4] = { 24, 20, 20, 0 };
    uint32_t n[3] = { 0 };

    // 2^64 / (2 pi) = 2935890503282001226.5, and a hundredth of it; the last bit depends on the C
    // library
    vlm_rope_pairs_vision(pairs, 8);
    g_assert_cmpuint(pairs[0].turn - 2935890503282001225u, <=, 2);
    g_assert_cmpuint(pairs[1].turn - 29358905032820011u, <=, 2);
    g_assert_cmpuint(pairs[1].axis, ==, 1);
    g_assert_cmpuint(pairs[3].axis, ==, 2);
    g_assert_cmpuint(pairs[3].turn, ==, pairs[1].turn);
    g_assert_cmpuint(pairs[3].first, ==, 3);
    g_assert_cmpuint(pairs[3].second, ==, 7);

    vlm_rope_pairs_adjacent(pairs, 8, 1e4);
    g_assert_cmpuint(pairs[3].axis, ==, 0);
    g_assert_cmpuint(pairs[3].first, ==, 6);
    g_assert_cmpuint(pairs[3].second, ==, 7);
    g_assert_cmpuint(pairs[2].turn - 29358905032820011u, <=, 2);

    vlm_rope_pairs_mrope(pairs, 128, 1e6, (const uint32_t[4]){ 16, 24, 24, 0 });
    g_assert_cmpuint(pairs[15].axis, ==, 0);
    g_assert_cmpuint(pairs[16].axis, ==, 1);
    g_assert_cmpuint(pairs[39].axis, ==, 1);
    g_assert_cmpuint(pairs[40].axis, ==, 2);
    g_assert_cmpuint(pairs[63].axis, ==, 2);
    g_assert_cmpuint(pairs[63].second, ==, 127);

    vlm_rope_pairs_imrope(pairs, 128, 128, 5e6, sections);
    for (uint32_t i = 0; i < 64; i++)
        n[pairs[i].axis]++;
    g_assert_cmpuint(n[1], ==, 20);
    g_assert_cmpuint(n[2], ==, 20);
    g_assert_cmpuint(pairs[61].axis, ==, 0);  // beyond 3 * 20
    g_assert_cmpuint(pairs[62].axis, ==, 0);
    g_assert_cmpuint(pairs[58].axis, ==, 1);
    g_assert_cmpuint(pairs[59].axis, ==, 2);

    // two of four pairs turn: elements 0 to 3 of 8
    vlm_rope_pairs_imrope(pairs, 8, 4, 1e4, (const uint32_t[4]){ 1, 1, 0, 0 });
    g_assert_cmpuint(pairs[1].turn - 29358905032820011u, <=, 2);  // 1e4^(-2/4)
    g_assert_cmpuint(pairs[1].axis, ==, 1);
    g_assert_cmpuint(pairs[1].second, ==, 3);
    g_assert_cmpuint(pairs[2].turn, ==, 0);
    g_assert_cmpuint(pairs[2].first, ==, 4);
    g_assert_cmpuint(pairs[3].second, ==, 7);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rope/tables", test_tables);
    return g_test_run();
}
