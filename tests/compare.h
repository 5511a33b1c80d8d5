// SPDX-License-Identifier: LGPL-2.1-or-later
// compare.h — what the harness looks for in memory a kernel has written. Host code only, so
// that it can be tested itself.
#ifndef VLM_TESTS_COMPARE_H
#define VLM_TESTS_COMPARE_H

#include <glib.h>

#define GUARD_BYTES 256u
#define GUARD_WORD  0xC0DEFACEu  // around every buffer
#define UNWRITTEN   0x7FC0DEADu  // in every output before the kernel runs: a quiet NaN as f32

// Largest error accepted: absolute + relative * |reference|. Zero and zero: exact.
typedef struct tolerance {
    double absolute;
    double relative;
} tolerance;

// Fills a block of GUARD_BYTES, `bytes` of prefill and GUARD_BYTES.
void guard_fill(void *block, size_t bytes);

// Each returns NULL when all is well, otherwise one line to print. Free with g_free().
char *guard_check(const void *block, size_t bytes);

// `got` holds n_row rows of n_col 32-bit values, row_stride apart. Complains about a value that
// was never written, a gap between rows that was, NaN where the reference has none, and an
// error beyond `tol`.
char *compare_f32(const float *got, const double *want, size_t n_row, size_t n_col,
                  size_t row_stride, tolerance tol);
char *compare_i32(const gint32 *got, const gint32 *want, size_t n);

#endif
