// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/pixels.h — from a picture as it comes to the rows the vision tower wants.
//
// Everything up to the normalisation is integer arithmetic, so every device gives the same bits,
// and for RGB pictures they are those of the Qwen2-VL image processor of Hugging Face transformers
// (torch's 8-bit antialiased bicubic filter); tests/vectors/pixels.txt holds recorded results.
#ifndef VLM_OPS_PIXELS_H
#define VLM_OPS_PIXELS_H

#include "ops/tensor.h"

// A picture on the device: the planes of a vlm_image one after the other. Rows are padded to
// whole blocks of 8 pixels, which vlm_pixels_copy() fills with copies of the row's last sample.
typedef struct vlm_pixels {
    vlm_pixel_format format;
    uint32_t width, height;
    uint32_t offset[3];  // bytes from the start of the picture to each plane, multiples of 16
    uint32_t stride[3];  // bytes between rows, a multiple of 4
    uint32_t bytes;      // of the whole, a multiple of 16
    vlm_color_matrix matrix;
    gboolean full_range;
} vlm_pixels;

// Checks `image` (format, sizes, pointers, strides) and lays it out. Errors: ARGS.
// Thread-safety: safe.
gboolean vlm_pixels_layout(const vlm_image *image, vlm_pixels *pixels, GError **error);
// The other way to lay out a picture: where it is. FALSE when kernels can't read it there (rows
// that end inside a block of 8 pixels, odd strides or addresses, planes far apart or out of order).
// *first becomes the first byte of the picture, pixels->bytes the number of bytes from there to its
// last, and offsets count from *first. Must: `image` was laid out before. Thread-safety: safe.
gboolean vlm_pixels_in_place(const vlm_image *image, vlm_pixels *pixels, const uint8_t **first);
// Copies the planes to `dst`, pixels->bytes long. `image` is the one that was laid out; its
// pointers and strides may have changed. Host only. Thread-safety: safe.
void vlm_pixels_copy(const vlm_image *image, const vlm_pixels *pixels, void *dst);

// The size a picture is stretched to, by the rules of transformers' Qwen2-VL image processor
// (n_frames 0) and Qwen3-VL video processor (frames of the whole film, 2 to 2^24): both sides to
// the nearest multiple of `factor` (halves to even), scaled to keep width * height (times n_frames
// rounded to an even number, for a film) between min_pixels and max_pixels. The limits are those of
// the reference: the result may pass max_pixels where a side can't get shorter than `factor`.
// Must: 1 <= min_pixels <= max_pixels <= 2^52; factor 1 to 4096.
// Errors: ARGS (also for an aspect ratio over 200, as in the reference). Thread-safety: safe.
gboolean vlm_pixels_smart_resize(uint32_t width, uint32_t height, uint32_t factor,
                                 uint64_t min_pixels, uint64_t max_pixels, uint32_t n_frames,
                                 uint32_t *out_width, uint32_t *out_height, GError **error);

// Device scratch that vlm_op_pixels() needs for a picture of this size: about
// 4 * out_width * height bytes.
size_t vlm_pixels_scratch_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height);
// Room in the argument ring (vlm_cmd_create()) that one vlm_op_pixels() of this size takes.
size_t vlm_pixels_args_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height);

typedef struct vlm_pixels_params {
    uint32_t out_width, out_height;  // multiples of patch * merge, up to VLM_MAX_SIDE
    uint32_t patch, merge;           // pixels of a patch's side; patches of a block's side
    uint32_t n_time;                 // frames in a row of patches (2 for Qwen)
    uint32_t time;                   // which of them this picture is
    // Not 0: stretched to this size first, of which the part from (left, top) on is taken.
    uint32_t full_width, full_height, left, top;
    float mean[3], std[3];  // of (value / 255)
} vlm_pixels_params;

// Converts to RGB (8 bits, rounded), stretches with an antialiased bicubic filter (a = -0.5; each
// pass rounded to 8 bits, as the reference does), normalises and cuts into patches.
//
//   patches  out  f32 [n_patch, 3 * n_time * patch * patch]; columns are channel, time, y, x; rows
//                 in blocks of merge x merge: block row, block column, row in block, column in
//                 block. Only the columns of `time` are written.
//   picture  in   device address of the picture, a multiple of 16
//   scratch  in   device address of vlm_pixels_scratch_bytes(), a multiple of 16
//
// Colour: R = cy (Y - y0) + crv (V - 128) and so on with coefficients of 20 fractional bits (crv
// and the like: 16), y0 = 16 and the factors 255/219 and 255/224 unless full_range. Chroma lies in
// the middle of the pixels it covers, both ways (GStreamer videoconvert's default), and is
// interpolated linearly.
//
// Records dispatches with barriers between them, none before the first and none after the last.
// Shaders: pixels_x, pixels_y. Reference: tests/ref_pixels.c. Tolerance: none, bits equal.
gboolean vlm_op_pixels(vlm_cmd *cmd, const vlm_tensor *patches, uint64_t picture,
                       const vlm_pixels *pixels, uint64_t scratch, const vlm_pixels_params *params,
                       GError **error);

// Antialiased filters, each pass rounded to 8 bits.
typedef enum vlm_filter {
    VLM_FILTER_BICUBIC,  // a = -0.5, what vlm_op_pixels() uses
    VLM_FILTER_LANCZOS,  // three lobes
    VLM_FILTER_BILINEAR,
} vlm_filter;

// A picture that vlm_op_pixels_resize() makes: RGBX. Must: sides from 1 to VLM_MAX_SIDE.
vlm_pixels vlm_pixels_rgbx(uint32_t width, uint32_t height);
// The same picture seen through a window. Must: RGBX, the window inside, left a
// multiple of 4.
vlm_pixels vlm_pixels_window(const vlm_pixels *pixels, uint32_t left, uint32_t top, uint32_t width,
                             uint32_t height);
// Converts and stretches as vlm_op_pixels() does, but with any filter and to a picture of 8-bit
// values: for reference processors that resize more than once. `dst` is the device address of `out`
// (vlm_pixels_rgbx), a multiple of 16; the rest as above.
gboolean vlm_op_pixels_resize(vlm_cmd *cmd, uint64_t dst, const vlm_pixels *out, uint64_t picture,
                              const vlm_pixels *pixels, uint64_t scratch, vlm_filter filter,
                              GError **error);

#endif
