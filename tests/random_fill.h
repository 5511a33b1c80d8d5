// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_fill.h — random tensor data that depends on seed, tensor name and index only.
#ifndef VLM_TESTS_RANDOM_FILL_H
#define VLM_TESTS_RANDOM_FILL_H

#include "ops/quant.h"

#include <stdint.h>

typedef struct random_fill random_fill;

// In place of a type: each tensor has one of its own, of all that the engine knows.
#define RANDOM_FILL_MIXED VLM_N_DTYPE

// The type in which a tensor with rows of n elements is stored where `want` is wanted: that one, or
// Q8_0 or F16 if its blocks don't fit.
vlm_dtype random_fill_dtype(uint64_t seed, const char *name, vlm_dtype want, uint64_t n);

// Elements are centre + std * z, z close to a standard normal variable (sum of four uniform ones,
// |z| < 3.5). Quantised types are written as random blocks of that deviation and need centre 0.
// Free with g_free().
random_fill *random_fill_new(uint64_t seed, const char *name, vlm_dtype dtype, uint64_t row_elems,
                             float centre, float std);

// A gguf_fill: writes rows [first_row, first_row + n_rows) of the tensor to dst.
void random_fill_rows(void *fill, uint64_t first_row, uint64_t n_rows, void *dst);

#endif
