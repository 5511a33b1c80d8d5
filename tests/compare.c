// SPDX-License-Identifier: LGPL-2.1-or-later
// compare.c — see compare.h.
#include "compare.h"

#include <math.h>
#include <string.h>

static void fill_words(void *at, size_t bytes, guint32 word)
{
    for (size_t i = 0; i + 4 <= bytes; i += 4)
        memcpy((char *) at + i, &word, 4);
}

static guint32 bits_at(const void *base, size_t index)
{
    guint32 word;

    memcpy(&word, (const char *) base + 4 * index, 4);
    return word;
}

void guard_fill(void *block, size_t bytes)
{
    char *p = block;

    fill_words(p, GUARD_BYTES, GUARD_WORD);
    fill_words(p + GUARD_BYTES, bytes, UNWRITTEN);
    fill_words(p + GUARD_BYTES + bytes, GUARD_BYTES, GUARD_WORD);
}

char *guard_check(const void *block, size_t bytes)
{
    const size_t n = GUARD_BYTES / 4;

    for (size_t i = 0; i < n; i++) {
        size_t before = n - 1 - i;
        if (bits_at(block, before) != GUARD_WORD)
            return g_strdup_printf("wrote %" G_GSIZE_FORMAT " bytes before the buffer",
                                   4 * (i + 1));
        if (bits_at(block, n + bytes / 4 + i) != GUARD_WORD)
            return g_strdup_printf("wrote %" G_GSIZE_FORMAT " bytes after the buffer", 4 * i);
    }
    return NULL;
}

char *compare_f32(const float *got, const double *want, size_t n_row, size_t n_col,
                  size_t row_stride, tolerance tol)
{
    for (size_t r = 0; r < n_row; r++) {
        for (size_t c = 0; c < row_stride; c++) {
            size_t at = r * row_stride + c;
            gboolean untouched = bits_at(got, at) == UNWRITTEN;

            if (c >= n_col) {
                if (!untouched)
                    return g_strdup_printf("[%zu, %zu] is between rows but was written", r, c);
                continue;
            }
            double ref = want[r * n_col + c];
            double error = fabs(got[at] - ref);
            if (untouched)
                return g_strdup_printf("[%zu, %zu] was never written", r, c);
            if (isnan(got[at]) && !isnan(ref))
                return g_strdup_printf("[%zu, %zu] is NaN, expected %.9g", r, c, ref);
            if (!isnan(ref) && error > tol.absolute + tol.relative * fabs(ref))
                return g_strdup_printf("[%zu, %zu] is %.9g, expected %.9g, error %.3g", r, c,
                                       (double) got[at], ref, error);
        }
    }
    return NULL;
}

char *compare_i32(const gint32 *got, const gint32 *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bits_at(got, i) == UNWRITTEN && want[i] != got[i])
            return g_strdup_printf("[%zu] was never written", i);
        if (got[i] != want[i])
            return g_strdup_printf("[%zu] is %d, expected %d", i, got[i], want[i]);
    }
    return NULL;
}
