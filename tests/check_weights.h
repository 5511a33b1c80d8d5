// SPDX-License-Identifier: LGPL-2.1-or-later
// check_weights.h — random weights for the checks of products.
#ifndef VLM_TESTS_CHECK_WEIGHTS_H
#define VLM_TESTS_CHECK_WEIGHTS_H

#include "check.h"

typedef struct check_weight {
    vlm_weight w;
    check_buf *buf;
    check_buf *apart, *table;  // of a scattered one, else NULL
    float *values;             // [n_mat, n_row, n_col], dequantised
} check_weight;

// Makes n_mat matrices of random blocks in the file's layout, packs and dequantises them. `fill`
// is for the numbers of F32, F16 and BF16; for block types it says what the scales look like:
// zero, one, large, subnormal, else ordinary; codes use the whole range of the type.
check_weight *check_weight_new(check *ck, vlm_dtype dtype, uint32_t n_mat, uint32_t n_row,
                               uint32_t n_col, check_fill fill);
// Moves every matrix to a place of its own in another buffer, with gaps and in an order of its own,
// and gives the weight the table of them. What was there becomes NaNs and large codes.
void check_weight_scatter(check *ck, check_weight *cw);
void check_weight_free(check_weight *cw);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(check_weight, check_weight_free)

#define CHECK_N_WEIGHT_TYPE 16
extern const vlm_dtype check_weight_types[CHECK_N_WEIGHT_TYPE];  // all that run

// The activations that products with `dtype` work with: src itself, or rounded where products that
// aren't on `matrix` units round here. Changes src where a value is so near the middle between two
// codes that the last bit of a division decides. [n_row, stride], free with g_free().
float *check_activations(check *ck, vlm_dtype dtype, gboolean matrix, float *src, uint32_t n_row,
                         uint32_t n_col, uint32_t stride);

// Rows of a product of one token that is large enough for tiles of more panels, see
// vlm_tile_choose(): a multiple of four, whose panels are no multiple of a tile's.
uint32_t check_wide_rows(const check *ck);

// The error that a product may have, relative to the sum of the magnitudes of its terms.
double check_sum_tolerance(vlm_dtype dtype);

// As compare_f32() with an error of at most relative * scale + of_value * |want| per element,
// scale [n_row, n_col]: what rounding does to a sum is proportional to its terms, not its value.
char *check_compare_sum(const float *got, const double *want, const double *scale, size_t n_row,
                        size_t n_col, size_t row_stride, double relative, double of_value);

#endif
