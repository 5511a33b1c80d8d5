// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_pixels.h — plain C reference of ops/pixels.h: straight loops, one pixel at a time, no code
// shared with what it checks.
#ifndef VLM_TESTS_REF_PIXELS_H
#define VLM_TESTS_REF_PIXELS_H

#include "vlm.h"

// [height, width, 3] bytes of R, G, B, by the integers that ops/pixels.h documents.
void ref_pixels_rgb(uint8_t *rgb, const vlm_image *image);
// The same in double and not rounded, straight from the definitions of the matrices.
void ref_pixels_rgb_f64(double *rgb, const vlm_image *image);

// Antialiased bicubic filter of torch for bytes, [height, width, 3] to [out_height, out_width, 3]:
// weights in double, then 16-bit integers; first along rows, rounded to bytes, then along columns.
// With `lobes` (3): Lanczos' filter instead.
void ref_pixels_resize(uint8_t *dst, uint32_t out_width, uint32_t out_height, const uint8_t *src,
                       uint32_t width, uint32_t height, int lobes);

// Normalises [height, width, 3] bytes and puts them where patches want them: dst has row_stride
// elements between rows, columns are channel, time, y, x. Only those of `time` are written.
void ref_pixels_patches(float *dst, uint32_t row_stride, const uint8_t *rgb, uint32_t width,
                        uint32_t height, uint32_t patch, uint32_t merge, uint32_t n_time,
                        uint32_t time, const float mean[3], const float std[3]);

#endif
