// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/pixels.c — pictures: layout, sizes, filter tables, dispatches.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/pixels.h"

#include <math.h>
#include <string.h>

#include "args.h"
#include "base/error.h"
#include "base/number.h"

#define BLOCK      8u           // pixels a lane converts at once; rows are padded to that
#define BAND_BYTES (4u << 20)   // of RGB between the first two passes: stays in a CPU's cache
#define X_ROWS     4u           // rows a workgroup of pixels_x filters; as in the shader
#define TAPS       4u           // taps of one 64-bit word of weights

// How pixels_rgb reads a format (its constant KIND).
typedef enum pixels_kind {
    KIND_PACKED4, KIND_PACKED3, KIND_GRAY, KIND_SEMI, KIND_PLANAR, KIND_PACKED422
} pixels_kind;

// `shift`: bits of R, G, B (packed RGB), of Y, U, V in a 32-bit word (4:2:2: of the first Y), or of
// U and V in a 16-bit pair (semi-planar, from index 1). `swap`: planes 1 and 2 change places.
static const struct {
    const char *name;
    pixels_kind kind;
    uint32_t n_plane;
    uint32_t shift[3];
    gboolean swap;
} formats[VLM_N_PIXEL_FORMAT] = {
    [VLM_PIXEL_RGB] = { "RGB", KIND_PACKED3, 1, { 0, 8, 16 }, FALSE },
    [VLM_PIXEL_BGR] = { "BGR", KIND_PACKED3, 1, { 16, 8, 0 }, FALSE },
    [VLM_PIXEL_RGBX] = { "RGBX", KIND_PACKED4, 1, { 0, 8, 16 }, FALSE },
    [VLM_PIXEL_BGRX] = { "BGRX", KIND_PACKED4, 1, { 16, 8, 0 }, FALSE },
    [VLM_PIXEL_XRGB] = { "XRGB", KIND_PACKED4, 1, { 8, 16, 24 }, FALSE },
    [VLM_PIXEL_XBGR] = { "XBGR", KIND_PACKED4, 1, { 24, 16, 8 }, FALSE },
    [VLM_PIXEL_GRAY8] = { "GRAY8", KIND_GRAY, 1, { 0 }, FALSE },
    [VLM_PIXEL_I420] = { "I420", KIND_PLANAR, 3, { 0 }, FALSE },
    [VLM_PIXEL_YV12] = { "YV12", KIND_PLANAR, 3, { 0 }, TRUE },
    [VLM_PIXEL_NV12] = { "NV12", KIND_SEMI, 2, { 0, 0, 8 }, FALSE },
    [VLM_PIXEL_NV21] = { "NV21", KIND_SEMI, 2, { 0, 8, 0 }, FALSE },
    [VLM_PIXEL_YUY2] = { "YUY2", KIND_PACKED422, 1, { 0, 8, 24 }, FALSE },
    [VLM_PIXEL_UYVY] = { "UYVY", KIND_PACKED422, 1, { 8, 0, 16 }, FALSE },
};

// ------------------------------------------------------------------------------------- layout

typedef struct plane_size {
    uint32_t row;     // bytes of a row of samples
    uint32_t sample;  // bytes that repeat at the end of a row
    uint32_t padded;  // bytes of a row of whole blocks
    uint32_t n_row;
} plane_size;

static plane_size get_plane(vlm_pixel_format format, uint32_t width, uint32_t height, uint32_t i)
{
    const uint32_t wide = (width + BLOCK - 1) / BLOCK * BLOCK;
    const uint32_t half = (width + 1) / 2;

    if (i > 0) {
        const uint32_t bytes = formats[format].kind == KIND_SEMI ? 2 : 1;
        return (plane_size){ bytes * half, bytes, bytes * wide / 2, (height + 1) / 2 };
    }
    switch (formats[format].kind) {
    case KIND_PACKED4: return (plane_size){ 4 * width, 4, 4 * wide, height };
    case KIND_PACKED3: return (plane_size){ 3 * width, 3, 3 * wide, height };
    case KIND_PACKED422: return (plane_size){ 4 * half, 4, 2 * wide, height };
    default: return (plane_size){ width, 1, wide, height };
    }
}

gboolean vlm_pixels_layout(const vlm_image *image, vlm_pixels *pixels, GError **error)
{
    uint64_t at = 0;

    VLM_REQUIRE((unsigned) image->format < VLM_N_PIXEL_FORMAT, error);
    VLM_REQUIRE((unsigned) image->matrix <= VLM_MATRIX_BT2020, error);
    if (image->width < 1 || image->width > VLM_MAX_SIDE || image->height < 1
        || image->height > VLM_MAX_SIDE) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "a picture of %u x %u pixels: sides may be 1 to %u", image->width,
                    image->height, VLM_MAX_SIDE);
        return FALSE;
    }
    *pixels = (vlm_pixels){ .format = image->format, .width = image->width,
                            .height = image->height, .matrix = image->matrix,
                            .full_range = image->full_range };
    for (uint32_t i = 0; i < formats[image->format].n_plane; i++) {
        const plane_size plane = get_plane(image->format, image->width, image->height, i);

        // a single row is never followed by another: its stride is not looked at
        if (!image->plane[i] || (plane.n_row > 1 && image->stride[i] < plane.row)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "plane %u of a %s picture %u pixels wide: %s (stride %u, row %u bytes)", i,
                        formats[image->format].name, image->width,
                        image->plane[i] ? "rows overlap" : "no data", image->stride[i],
                        plane.row);
            return FALSE;
        }
        pixels->offset[i] = (uint32_t) at;
        pixels->stride[i] = plane.padded;
        at += ((uint64_t) plane.padded * plane.n_row + 15) / 16 * 16;  // at most 1 GiB in all
    }
    pixels->bytes = (uint32_t) at;
    return TRUE;
}

void vlm_pixels_copy(const vlm_image *image, const vlm_pixels *pixels, void *dst)
{
    for (uint32_t i = 0; i < formats[pixels->format].n_plane; i++) {
        const plane_size plane = get_plane(pixels->format, pixels->width, pixels->height, i);
        uint8_t *to = (uint8_t *) dst + pixels->offset[i];
        const uint8_t *from = image->plane[i];

        for (uint32_t y = 0; y < plane.n_row; y++) {
            const uint8_t *src = from + (size_t) y * image->stride[i];
            uint8_t *row = to + (size_t) y * pixels->stride[i];

            memcpy(row, src, plane.row);
            for (uint32_t x = plane.row; x < plane.padded; x++)
                row[x] = row[x - plane.sample];
        }
    }
}

// ------------------------------------------------------------------------------------- size

gboolean vlm_pixels_smart_resize(uint32_t width, uint32_t height, uint32_t factor,
                                 uint64_t min_pixels, uint64_t max_pixels, uint32_t n_frames,
                                 uint32_t *out_width, uint32_t *out_height, GError **error)
{
    VLM_REQUIRE(width >= 1 && width <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(height >= 1 && height <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(factor >= 1 && factor <= 4096, error);
    VLM_REQUIRE(min_pixels >= 1 && min_pixels <= max_pixels, error);
    VLM_REQUIRE(max_pixels <= (uint64_t) 1 << 52, error);
    VLM_REQUIRE(n_frames != 1 && n_frames <= 1u << 24, error);  // products stay exact in f64

    const double f = factor;
    const double n = n_frames ? n_frames : 1;
    const double n_even = n_frames ? rint(n / 2) * 2 : 1;  // rint: halves to even
    double w = width, h = height, ow, oh;

    if (n_frames && (h < f || w < f)) {
        const double scale = fmax(f / h, f / w);
        h = floor(h * scale);
        w = floor(w * scale);
    }
    if (fmax(h, w) / fmin(h, w) > 200) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "a picture of %u x %u pixels is too long for the model: the longer side may be "
                    "at most 200 times the shorter one", width, height);
        return FALSE;
    }
    oh = rint(h / f) * f;
    ow = rint(w / f) * f;
    if (n_even * oh * ow > (double) max_pixels) {
        const double beta = sqrt(n * h * w / (double) max_pixels);
        oh = fmax(f, floor(h / beta / f) * f);
        ow = fmax(f, floor(w / beta / f) * f);
    } else if (n_even * oh * ow < (double) min_pixels) {
        const double beta = sqrt((double) min_pixels / (n * h * w));
        oh = ceil(h * beta / f) * f;
        ow = ceil(w * beta / f) * f;
    }
    if (ow < 1 || oh < 1 || ow > VLM_MAX_SIDE || oh > VLM_MAX_SIDE) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "a picture of %u x %u pixels would become %.0f x %.0f: sides may be 1 to %u",
                    width, height, ow, oh, VLM_MAX_SIDE);
        return FALSE;
    }
    *out_width = (uint32_t) ow;
    *out_height = (uint32_t) oh;
    return TRUE;
}

// ------------------------------------------------------------------------------------- filter

// Taps of one axis: output i is the sum over t < TAPS * n_group of weight[i, t] * input[start[i] + t],
// divided by 2^shift. Weights that don't exist are 0; start + TAPS * n_group never passes n_in
// rounded up to a multiple of TAPS.
typedef struct filter {
    uint32_t n_in, n_out;
    uint32_t align;      // starts are multiples of it, 1 or 2
    uint32_t n_group;    // a bound until filter_fill() has found what is needed
    uint32_t shift;  // set by filter_fill()
} filter;

// Most inputs that count for one output.
static uint32_t max_taps(uint32_t n_in, uint32_t n_out)
{
    const double scale = (double) n_in / n_out;
    const double support = scale >= 1 ? 2 * scale : 2;

    return MIN(n_in, (uint32_t) ceil(support) * 2 + 1);
}

static filter filter_make(uint32_t n_in, uint32_t n_out, uint32_t align)
{
    const uint32_t n = MIN(max_taps(n_in, n_out) + align - 1, n_in);

    return (filter){ n_in, n_out, align, (n + TAPS - 1) / TAPS, 0 };
}

static size_t filter_weights_bytes(const filter *f)
{
    return (size_t) f->n_group * f->n_out * TAPS * sizeof(int16_t);
}

// Keys' cubic with a = -0.5, as Pillow and torch have it.
static double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2)
        return ((-0.5 * x + 2.5) * x - 4) * x + 2;
    return 0;
}

// Fills start[n_out] and weight, [n_group, n_out, TAPS] for `by_group`, else [n_out, n_group, TAPS].
// The sums are in the order of the reference: each rounding counts for equal bits.
static gboolean filter_fill(filter *f, gboolean by_group, uint32_t *start, int16_t *weight,
                            GError **error)
{
    const double scale = (double) f->n_in / f->n_out;
    const double support = scale >= 1 ? 2 * scale : 2;
    const double inverse = scale >= 1 ? 1 / scale : 1;
    const uint32_t n_max = max_taps(f->n_in, f->n_out);
    uint32_t longest = 1;
    g_autofree double *real = g_try_new(double, (size_t) n_max * f->n_out);
    g_autofree uint32_t *first = g_try_new(uint32_t, f->n_out);
    g_autofree uint32_t *count = g_try_new(uint32_t, f->n_out);
    double largest = 0;

    if (!real || !first || !count) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "no memory for a filter of %u x %u taps",
                    f->n_out, n_max);
        return FALSE;
    }
    for (uint32_t i = 0; i < f->n_out; i++) {
        const double center = scale * (i + 0.5);
        const double low = center - support + 0.5;
        const uint32_t end = (uint32_t) fmin(center + support + 0.5, f->n_in);
        double *w = real + (size_t) i * n_max;
        double total = 0;

        first[i] = low > 0 ? (uint32_t) low : 0;
        count[i] = end > first[i] ? MIN(end - first[i], n_max) : 0;
        for (uint32_t t = 0; t < count[i]; t++) {
            w[t] = cubic(((double) t + first[i] - center + 0.5) * inverse);
            total += w[t];
        }
        for (uint32_t t = 0; t < count[i]; t++) {
            w[t] /= total;
            largest = fmax(largest, w[t]);
        }
        longest = MAX(longest, first[i] % f->align + count[i]);
    }
    while (f->shift < 22 && (int) (0.5 + largest * (1 << (f->shift + 1))) < 1 << 15)
        f->shift++;

    f->n_group = (longest + TAPS - 1) / TAPS;
    const uint32_t last = (f->n_in + TAPS - 1) / TAPS * TAPS - TAPS * f->n_group;
    memset(weight, 0, filter_weights_bytes(f));
    for (uint32_t i = 0; i < f->n_out; i++) {
        start[i] = MIN(first[i] / f->align * f->align, last);
        for (uint32_t t = 0; t < count[i]; t++) {
            const double v = real[(size_t) i * n_max + t] * (1 << f->shift);
            const uint32_t at = first[i] - start[i] + t;
            const size_t group = by_group ? (size_t) (at / TAPS) * f->n_out + i
                                          : (size_t) i * f->n_group + at / TAPS;
            weight[group * TAPS + at % TAPS] = (int16_t) (v < 0 ? v - 0.5 : v + 0.5);
        }
    }
    return TRUE;
}

// ------------------------------------------------------------------------------------- record

// What is known before anything is recorded.
typedef struct plan {
    uint32_t stride;      // pixels of a row of RGB
    uint32_t x_stride;    // pixels of a row after the first pass
    uint32_t n_pair;      // row pairs of the picture: rows 2 q - 1 and 2 q
    uint32_t band_pairs;  // of a band
    filter x, y;
} plan;

static plan make_plan(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height)
{
    plan p = { .stride = (pixels->width + BLOCK - 1) / BLOCK * BLOCK,
               .x_stride = (out_width + 1) / 2 * 2,
               .n_pair = pixels->height / 2 + 1 };

    p.band_pairs = CLAMP(BAND_BYTES / (8 * p.stride), 1, p.n_pair);
    p.x = filter_make(pixels->width, out_width, 2);
    p.y = filter_make(pixels->height, out_height, 1);
    return p;
}

static size_t band_bytes(const plan *p)
{
    return (size_t) p->band_pairs * 2 * p->stride * 4;
}

size_t vlm_pixels_scratch_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height)
{
    const plan p = make_plan(pixels, out_width, out_height);
    const size_t n_row = (pixels->height + TAPS - 1) / TAPS * TAPS;  // the filter reads that far

    return band_bytes(&p) + n_row * p.x_stride * 4;
}

size_t vlm_pixels_args_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height)
{
    const plan p = make_plan(pixels, out_width, out_height);
    const size_t n_band = (p.n_pair + p.band_pairs - 1) / p.band_pairs;
    const size_t tables = filter_weights_bytes(&p.x) + filter_weights_bytes(&p.y)
                        + 2 * sizeof(uint32_t) * (p.x_stride + out_height) + 3 * 256 * 4;

    return tables + n_band * (sizeof(struct vlm_args_pixels_rgb) + sizeof(struct vlm_args_pixels_x))
         + sizeof(struct vlm_args_pixels_y) + 16 * (8 + 2 * n_band);
}

// Colour conversion in fixed point, 20 fractional bits; chroma comes with 4 more.
static void set_color(const vlm_pixels *pixels, struct vlm_args_pixels_rgb *args)
{
    static const double weights[][2] = {  // of red and blue in luma
        [VLM_MATRIX_BT601] = { 0.299, 0.114 },
        [VLM_MATRIX_BT709] = { 0.2126, 0.0722 },
        [VLM_MATRIX_BT2020] = { 0.2627, 0.0593 },
    };
    const double kr = weights[pixels->matrix][0], kb = weights[pixels->matrix][1];
    const double one = 1 << 20, sixteenth = 1 << 16;
    const double chroma = pixels->full_range ? 1 : 255.0 / 224;
    const int32_t half = 1 << 19, mid = 128 * 16;

    args->cy = (int32_t) lrint(one * (pixels->full_range ? 1 : 255.0 / 219));
    args->crv = (int32_t) lrint(sixteenth * chroma * 2 * (1 - kr));
    args->cbu = (int32_t) lrint(sixteenth * chroma * 2 * (1 - kb));
    args->cgv = (int32_t) lrint(-sixteenth * chroma * 2 * (1 - kr) * kr / (1 - kr - kb));
    args->cgu = (int32_t) lrint(-sixteenth * chroma * 2 * (1 - kb) * kb / (1 - kr - kb));
    const int32_t black = half - (pixels->full_range ? 0 : 16 * args->cy);
    args->off_y = black;
    args->off_r = black - mid * args->crv;
    args->off_g = black - mid * (args->cgu + args->cgv);
    args->off_b = black - mid * args->cbu;
}

// Both passes along rows, band after band, with a barrier after each dispatch.
static gboolean record_bands(vlm_cmd *cmd, const plan *p, struct vlm_args_pixels_rgb *rgb,
                             struct vlm_args_pixels_x *x, pixels_kind kind, GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;
    const vlm_kernel_spec rgb_spec = { .local = { lanes }, .own = { kind }, .n_own = 1 };
    const vlm_kernel_spec x_spec = { .local = { lanes } };

    for (uint32_t q = 0; q < p->n_pair; q += p->band_pairs) {
        const uint32_t n = MIN(p->band_pairs, p->n_pair - q);

        rgb->first_pair = q;
        x->first_row = 2 * (int32_t) q - 1;
        x->n_src_row = 2 * n;
        if (!vlm_cmd_dispatch(cmd, VLM_K_pixels_rgb, &rgb_spec, rgb, sizeof *rgb,
                              (uint32_t[3]){ (rgb->n_block + lanes - 1) / lanes, n, 1 }, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
        if (!vlm_cmd_dispatch(cmd, VLM_K_pixels_x, &x_spec, x, sizeof *x,
                              (uint32_t[3]){ (x->n_out + lanes - 1) / lanes,
                                             (2 * n + X_ROWS - 1) / X_ROWS, 1 }, error))
            return FALSE;
        vlm_cmd_add_cost(cmd, 2.0 * n * (40.0 * p->stride + 24.0 * p->x.n_group * p->x.n_out));
        if (!vlm_cmd_split(cmd, error))
            return FALSE;
    }
    return TRUE;
}

// Index of pixel 0 of the places that patches have for column x, or row y, of the picture: the
// sum of both is where a value goes.
static void fill_places(const vlm_tensor *patches, const vlm_pixels_params *params, uint32_t *at_x,
                        uint32_t *at_y)
{
    const uint32_t patch = params->patch, merge = params->merge, side = patch * merge;
    const uint32_t blocks = params->out_width / side;

    for (uint32_t x = 0; x < params->out_width; x++)
        at_x[x] = (x / side * merge * merge + x % side / patch) * patches->row_stride + x % patch;
    for (uint32_t y = 0; y < params->out_height; y++)
        at_y[y] = (y / side * blocks * merge * merge + y % side / patch * merge)
                * patches->row_stride + y % patch * patch + params->time * patch * patch;
}

// (v - 255 mean) / (255 std) in f32, for each 8-bit value: a division on the device need not
// round as the reference does.
static void fill_levels(const vlm_pixels_params *params, float *levels)
{
    for (int c = 0; c < 3; c++) {
        const float mean = params->mean[c] * 255.0f, std = params->std[c] * 255.0f;
        for (int v = 0; v < 256; v++)
            levels[c * 256 + v] = ((float) v - mean) / std;
    }
}

static gboolean check_params(const vlm_tensor *patches, const vlm_pixels *pixels,
                             const vlm_pixels_params *params, GError **error)
{
    VLM_REQUIRE((unsigned) pixels->format < VLM_N_PIXEL_FORMAT, error);
    VLM_REQUIRE(pixels->width >= 1 && pixels->width <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(pixels->height >= 1 && pixels->height <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(params->patch >= 1 && params->patch <= 1024, error);
    VLM_REQUIRE(params->merge >= 1 && params->merge <= 16, error);
    VLM_REQUIRE(params->out_width >= 1 && params->out_width <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(params->out_height >= 1 && params->out_height <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(params->out_width % (params->patch * params->merge) == 0, error);
    VLM_REQUIRE(params->out_height % (params->patch * params->merge) == 0, error);
    VLM_REQUIRE(params->n_time >= 1 && params->n_time <= 64, error);
    VLM_REQUIRE(params->time < params->n_time, error);
    for (int c = 0; c < 3; c++)
        VLM_REQUIRE(isfinite(params->mean[c]) && params->std[c] > 0, error);
    VLM_REQUIRE(vlm_tensor_ok(patches), error);
    VLM_REQUIRE(patches->n_row
                == params->out_width / params->patch * (params->out_height / params->patch), error);
    VLM_REQUIRE(patches->n_col == 3 * params->n_time * params->patch * params->patch, error);
    return TRUE;
}

gboolean vlm_op_pixels(vlm_cmd *cmd, const vlm_tensor *patches, uint64_t picture,
                       const vlm_pixels *pixels, uint64_t scratch, const vlm_pixels_params *params,
                       GError **error)
{
    if (!check_params(patches, pixels, params, error))
        return FALSE;
    VLM_REQUIRE(picture != 0 && picture % 16 == 0, error);
    VLM_REQUIRE(scratch != 0 && scratch % 16 == 0, error);

    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;
    const pixels_kind kind = formats[pixels->format].kind;
    const gboolean swap = formats[pixels->format].swap;
    const uint32_t *shift = formats[pixels->format].shift;
    plan p = make_plan(pixels, params->out_width, params->out_height);
    void *x_weight, *x_start, *x_place, *y_weight, *y_start, *y_place, *levels;
    struct vlm_args_pixels_rgb rgb = {
        .dst = scratch,
        .plane0 = picture + pixels->offset[0],
        .plane1 = picture + pixels->offset[swap ? 2 : 1],
        .plane2 = picture + pixels->offset[swap ? 1 : 2],
        .stride0 = pixels->stride[0],
        .stride1 = pixels->stride[1],  // planes 1 and 2 have rows of one length
        .shift0 = shift[0], .shift1 = shift[1], .shift2 = shift[2],
        .dst_stride = p.stride,
        .n_block = p.stride / BLOCK,
        .n_row = pixels->height,
    };
    struct vlm_args_pixels_x x = {
        .dst = scratch + band_bytes(&p), .src = scratch,
        .n_out = params->out_width, .n_row = pixels->height,
        .src_stride = p.stride, .dst_stride = p.x_stride,
    };
    struct vlm_args_pixels_y y = {
        .dst = patches->addr, .src = scratch + band_bytes(&p),
        .n_out = params->out_width, .src_stride = p.x_stride,
        .channel_stride = params->n_time * params->patch * params->patch,
    };

    if (!vlm_cmd_table_alloc(cmd, filter_weights_bytes(&p.x), &x_weight, &x.weight, error)
        || !vlm_cmd_table_alloc(cmd, p.x_stride * 4, &x_start, &x.start, error)
        || !vlm_cmd_table_alloc(cmd, filter_weights_bytes(&p.y), &y_weight, &y.weight, error)
        || !vlm_cmd_table_alloc(cmd, params->out_height * 4, &y_start, &y.start, error)
        || !vlm_cmd_table_alloc(cmd, p.x_stride * 4, &x_place, &y.place_x, error)
        || !vlm_cmd_table_alloc(cmd, params->out_height * 4, &y_place, &y.place_y, error)
        || !vlm_cmd_table_alloc(cmd, 3 * 256 * 4, &levels, &y.levels, error)
        || !filter_fill(&p.x, TRUE, x_start, x_weight, error)
        || !filter_fill(&p.y, FALSE, y_start, y_weight, error))
        return FALSE;
    fill_places(patches, params, x_place, y_place);
    fill_levels(params, levels);
    set_color(pixels, &rgb);
    x.n_group = p.x.n_group;
    x.shift = p.x.shift;
    y.n_group = p.y.n_group;
    y.shift = p.y.shift;

    if (!record_bands(cmd, &p, &rgb, &x, kind, error))
        return FALSE;
    vlm_cmd_add_cost(cmd, 24.0 * p.y.n_group * params->out_width * params->out_height);
    return vlm_cmd_dispatch(cmd, VLM_K_pixels_y, &(vlm_kernel_spec){ .local = { lanes } }, &y,
                            sizeof y, (uint32_t[3]){ (p.x_stride / 2 + lanes - 1) / lanes,
                                                     params->out_height, 1 }, error);
}
