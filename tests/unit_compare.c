// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_compare.c — the harness must notice what it is there to notice.
#include "compare.h"

#include <math.h>
#include <string.h>

static const double want[4] = { 1, 2, 3, 4 };
static const tolerance tol = { 0, 1e-3 };

// Two rows of two, three apart: the third and sixth are gaps.
static float *good(char *block)
{
    float *v = (float *) (void *) (block + GUARD_BYTES);

    guard_fill(block, 6 * 4);
    v[0] = 1, v[1] = 2, v[3] = 3, v[4] = 4;
    return v;
}

static void assert_notices(const char *text, char *why)
{
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, text));
    g_free(why);
}

static void test_values(void)
{
    _Alignas(8) char block[2 * GUARD_BYTES + 24];
    const guint32 unwritten = UNWRITTEN;
    float *v = good(block);

    g_assert_null(compare_f32(v, want, 2, 2, 3, tol));
    g_assert_null(guard_check(block, 24));
    v[1] = 2.001f;
    g_assert_null(compare_f32(v, want, 2, 2, 3, tol));
    v[1] = 2.01f;
    assert_notices("[0, 1] is 2.00999", compare_f32(v, want, 2, 2, 3, tol));
    v = good(block);
    v[3] = NAN;
    assert_notices("[1, 0] is NaN", compare_f32(v, want, 2, 2, 3, tol));
    memcpy(&v[3], &unwritten, 4);
    assert_notices("[1, 0] was never written", compare_f32(v, want, 2, 2, 3, tol));
    v = good(block);
    v[5] = 0;
    assert_notices("[1, 2] is between rows", compare_f32(v, want, 2, 2, 3, tol));
}

static void test_guards(void)
{
    _Alignas(8) char block[2 * GUARD_BYTES + 24];

    good(block);
    block[GUARD_BYTES + 24] ^= 1;
    assert_notices("after", guard_check(block, 24));
    good(block);
    block[GUARD_BYTES - 1] ^= 1;
    assert_notices("before", guard_check(block, 24));
    good(block);
    block[0] ^= 1;
    assert_notices("256 bytes before", guard_check(block, 24));
}

static void test_integers(void)
{
    const gint32 expected[] = { 5, (gint32) UNWRITTEN };
    gint32 got[] = { 5, (gint32) UNWRITTEN };

    g_assert_null(compare_i32(got, expected, 2));
    got[0] = 6;
    assert_notices("[0] is 6, expected 5", compare_i32(got, expected, 2));
    got[0] = (gint32) UNWRITTEN;
    assert_notices("never written", compare_i32(got, expected, 2));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare/values", test_values);
    g_test_add_func("/compare/guards", test_guards);
    g_test_add_func("/compare/integers", test_integers);
    return g_test_run();
}
