// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/pixels.h — from a picture as it comes to the rows the vision tower wants.
#ifndef VLM_OPS_PIXELS_H
#define VLM_OPS_PIXELS_H

#include "ops/tensor.h"

// A picture on the device: the planes of a vlm_image one after the other, rows padded to 4 bytes.
typedef struct vlm_pixels {
    vlm_pixel_format format;
    uint32_t width, height;
    uint32_t offset[3];  // bytes from the start of the picture to each plane
    uint32_t stride[3];  // bytes between rows, a multiple of 4
    uint32_t bytes;      // of the whole, a multiple of 16
    vlm_color_matrix matrix;
    gboolean full_range;
} vlm_pixels;

// Checks `image` (sizes, pointers, strides) and lays it out. Errors: ARGS.
gboolean vlm_pixels_layout(const vlm_image *image, vlm_pixels *pixels, GError **error);
// Copies the planes to `dst`, pixels->bytes long. Host only.
void vlm_pixels_copy(const vlm_image *image, const vlm_pixels *pixels, void *dst);

// The size an image is stretched to (Qwen's rule): both sides to the nearest multiple of
// `factor` (halves to even), scaled to keep between min_pixels and max_pixels.
// Errors: ARGS (aspect ratio of 200 or more, as in the reference).
gboolean vlm_pixels_smart_resize(uint32_t width, uint32_t height, uint32_t factor,
                                 uint64_t min_pixels, uint64_t max_pixels, uint32_t *out_width,
                                 uint32_t *out_height, GError **error);

// Device scratch that vlm_op_pixels() needs for a picture of this size.
size_t vlm_pixels_scratch_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height);

typedef struct vlm_pixels_params {
    uint32_t out_width, out_height;  // multiples of patch * merge
    uint32_t patch, merge;           // pixels of a patch's side; patches of a block's side
    uint32_t n_time;                 // frames in a row of patches (2 for Qwen)
    uint32_t time;                   // which of them this picture is
    float mean[3], std[3];           // of (value / 255)
} vlm_pixels_params;

// Converts to RGB (8 bits, rounded), stretches with an antialiased bicubic filter (a = -0.5; each
// pass rounded to 8 bits, as the reference does), normalises and cuts into patches.
//
//   patches  out  f32 [n_patch, 3 * n_time * patch * patch]; columns are channel, time, y, x; rows in
//                 blocks of merge x merge: block row, block column, row in block, column in block.
//                 Only the columns of `time` are written.
//   picture  in   device address of the picture
//   scratch  in   device address of vlm_pixels_scratch_bytes()
gboolean vlm_op_pixels(vlm_cmd *cmd, const vlm_tensor *patches, uint64_t picture,
                       const vlm_pixels *pixels, uint64_t scratch, const vlm_pixels_params *params,
                       GError **error);

#endif
