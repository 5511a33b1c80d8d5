// SPDX-License-Identifier: LGPL-2.1-or-later
// ops/pixels.c — pictures: layout, sizes, filter tables, dispatches.
#define G_LOG_DOMAIN "vlm-ops"
#include "ops/pixels.h"

#include <math.h>
#include <string.h>

#include "args.h"
#include "base/error.h"
#include "base/number.h"

// As in the shaders.
#define BLOCK 8u  // pixels that pixels_x converts at once; rows are padded to that
#define GROUP 4u  // outputs that it makes from them
#define TAPS  4u  // rows that pixels_y adds at once

#define PAD_LINES       64u         // that decoders have below a plane, at most
#define DISPATCH_PIXELS (4u << 20)  // read by one dispatch
#define MAX_FULL_SIDE   (1u << 26)  // that a picture is stretched to before a part is taken

// How pixels_x reads a format (its constant KIND).
typedef enum pixels_kind {
    KIND_PACKED4,
    KIND_PACKED3,
    KIND_GRAY,
    KIND_SEMI,
    KIND_PLANAR,
    KIND_PACKED422
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
    case KIND_PACKED4:
        return (plane_size){ 4 * width, 4, 4 * wide, height };
    case KIND_PACKED3:
        return (plane_size){ 3 * width, 3, 3 * wide, height };
    case KIND_PACKED422:
        return (plane_size){ 4 * half, 4, 2 * wide, height };
    default:
        return (plane_size){ width, 1, wide, height };
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
    *pixels = (vlm_pixels){ .format = image->format,
                            .width = image->width,
                            .height = image->height,
                            .matrix = image->matrix,
                            .full_range = image->full_range };
    for (uint32_t i = 0; i < formats[image->format].n_plane; i++) {
        const plane_size plane = get_plane(image->format, image->width, image->height, i);

        // a single row is never followed by another: its stride is not looked at
        if (!image->plane[i] || (plane.n_row > 1 && image->stride[i] < plane.row)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "plane %u of a %s picture %u pixels wide: %s (stride %u, row %u bytes)", i,
                        formats[image->format].name, image->width,
                        image->plane[i] ? "rows overlap" : "no data", image->stride[i], plane.row);
            return FALSE;
        }
        pixels->offset[i] = (uint32_t) at;
        pixels->stride[i] = plane.padded;
        at += ((uint64_t) plane.padded * plane.n_row + 15) / 16 * 16;  // at most 1 GiB in all
    }
    pixels->bytes = (uint32_t) at;
    return TRUE;
}

// Rows of whole blocks, addresses and strides as the shader's loads of 8 bytes want them.
static gboolean readable_in_place(const vlm_image *image, const plane_size *plane, uint32_t i)
{
    const uint32_t unit = formats[image->format].kind == KIND_PLANAR && i > 0 ? 4 : 8;

    return plane->row == plane->padded && image->stride[i] % unit == 0
           && (uintptr_t) image->plane[i] % unit == 0
           && (i < 2 || image->stride[i] == image->stride[1]);
}

gboolean vlm_pixels_in_place(const vlm_image *image, vlm_pixels *pixels, const uint8_t **first)
{
    const uint8_t *end = image->plane[0];
    vlm_pixels there = *pixels;

    for (uint32_t i = 0; i < formats[image->format].n_plane; i++) {
        const plane_size plane = get_plane(image->format, image->width, image->height, i);
        const uint8_t *from = image->plane[i];

        if (!readable_in_place(image, &plane, i) || from < end
            || (i > 0 && (uint64_t) (from - end) > (uint64_t) PAD_LINES * image->stride[i - 1]))
            return FALSE;
        there.offset[i] = (uint32_t) (from - image->plane[0]);
        there.stride[i] = image->stride[i];
        end = from + (size_t) (plane.n_row - 1) * image->stride[i] + plane.row;
        if ((uint64_t) (end - image->plane[0]) > INT32_MAX)
            return FALSE;
    }
    there.bytes = (uint32_t) (end - image->plane[0]);
    *pixels = there;
    *first = image->plane[0];
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
                    "at most 200 times the shorter one",
                    width, height);
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

// One axis of the filter: output i is the sum over t < count[i] of weight[i, t] * in[first[i] + t],
// plus one half, >> shift. Owns its arrays.
typedef struct taps {
    uint32_t n_in, n_out;
    vlm_filter filter;
    uint32_t n_max;  // count[i] <= n_max
    uint32_t shift;
    uint32_t *first;  // [n_out]
    uint32_t *count;  // [n_out]
    int16_t *weight;  // [n_out, n_max]
} taps;

static void taps_clear(taps *t)
{
    g_free(t->first);
    g_free(t->count);
    g_free(t->weight);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(taps, taps_clear)

// Inputs to either side of an output that count for it, where none are skipped.
static const double radius[] = {
    [VLM_FILTER_BICUBIC] = 2, [VLM_FILTER_LANCZOS] = 3, [VLM_FILTER_BILINEAR] = 1
};

// Most inputs that count for one output, were there no edges.
static uint32_t max_taps(uint32_t n_in, uint32_t n_out, vlm_filter filter)
{
    const double scale = (double) n_in / n_out;

    return (uint32_t) ceil(radius[filter] * MAX(scale, 1)) * 2 + 1;
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

static double sinc(double x)
{
    return x == 0 ? 1 : sin(G_PI * x) / (G_PI * x);
}

// Lanczos' with three lobes, as Pillow and torch have it.
static double lanczos(double x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static double triangle(double x)
{
    return fmax(1 - fabs(x), 0);
}

static double filter_at(vlm_filter filter, double x)
{
    switch (filter) {
    case VLM_FILTER_LANCZOS:
        return lanczos(x);
    case VLM_FILTER_BILINEAR:
        return triangle(x);
    default:
        return cubic(x);
    }
}

// Outputs [first, first + n) of the `full` that an axis is stretched to.
typedef struct part {
    uint32_t full, first, n;
} part;

// The arithmetic, rounding by rounding, is that of the reference: the bits count. So does the
// largest weight, be it inside the part or not.
static gboolean taps_init(taps *f, uint32_t n_in, part p, vlm_filter filter, GError **error)
{
    const double scale = (double) n_in / p.full;
    const double support = radius[filter] * MAX(scale, 1);
    const double inverse = scale >= 1 ? 1 / scale : 1;
    const uint32_t n_out = p.n, n_max = MIN(max_taps(n_in, p.full, filter), n_in);
    g_autofree double *real = g_try_new(double, (size_t) n_max *(n_out + 1));
    double largest = 0;

    *f = (taps){ n_in,
                 n_out,
                 filter,
                 n_max,
                 0,
                 g_try_new(uint32_t, n_out),
                 g_try_new(uint32_t, n_out),
                 g_try_new(int16_t, (size_t) n_max * n_out) };
    if (!real || !f->first || !f->count || !f->weight) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "no memory for a filter of %u x %u taps",
                    n_out, n_max);
        return FALSE;
    }
    for (uint32_t j = 0; j < p.full; j++) {
        const gboolean inside = j >= p.first && j - p.first < n_out;
        const uint32_t i = inside ? j - p.first : n_out;  // the last row is for the others
        const double center = scale * (j + 0.5);
        const double low = center - support + 0.5;
        const uint32_t first = low > 0 ? (uint32_t) low : 0;
        const uint32_t end = (uint32_t) fmin(center + support + 0.5, n_in);
        const uint32_t count = end > first ? MIN(end - first, n_max) : 0;
        double *w = real + (size_t) i * n_max;
        double total = 0;

        for (uint32_t t = 0; t < count; t++) {
            const double x = ((double) t + first - center + 0.5) * inverse;
            w[t] = filter_at(filter, x);
            total += w[t];
        }
        for (uint32_t t = 0; t < count; t++) {
            w[t] /= total;
            largest = fmax(largest, w[t]);
        }
        if (inside) {
            f->first[i] = first;
            f->count[i] = count;
        }
    }
    while (f->shift < 22 && (int) (0.5 + largest * (1 << (f->shift + 1))) < 1 << 15)
        f->shift++;
    for (uint32_t i = 0; i < n_out; i++) {
        for (uint32_t t = 0; t < f->count[i]; t++) {
            const double v = real[(size_t) i * n_max + t] * (1 << f->shift);
            f->weight[(size_t) i * n_max + t] = (int16_t) (v < 0 ? v - 0.5 : v + 0.5);
        }
    }
    return TRUE;
}

// Most blocks that a group of outputs needs.
static uint32_t max_blocks(uint32_t n_in, uint32_t n_out, vlm_filter filter)
{
    const uint32_t between = (uint32_t) ceil((double) n_in / n_out * (GROUP - 1)) + 1;

    return MIN((max_taps(n_in, n_out, filter) + between + 2 * BLOCK - 2) / BLOCK,
               (n_in + BLOCK - 1) / BLOCK);
}

// Weights as pixels_x wants them: [group of outputs, 8 * n_block, output of the group], and the
// first block of each group. Sets what `args` says of them.
static gboolean pack_x(vlm_cmd *cmd, const taps *f, struct vlm_args_pixels_x *args, GError **error)
{
    const uint32_t n_group = (f->n_out + GROUP - 1) / GROUP;
    const uint32_t total = (f->n_in + BLOCK - 1) / BLOCK;
    uint32_t n_block = 1;
    void *start = NULL, *weight = NULL;

    for (uint32_t g = 0; g < n_group; g++) {
        const uint32_t last = MIN(GROUP * g + GROUP, f->n_out) - 1;  // ends are in order
        const uint32_t end = f->first[last] + f->count[last];
        n_block = MAX(n_block, (end + BLOCK - 1) / BLOCK - f->first[GROUP * g] / BLOCK);
    }
    const size_t group_bytes = sizeof(int16_t) * GROUP * BLOCK * n_block;
    if (!vlm_cmd_table_alloc(cmd, group_bytes * n_group, &weight, &args->weight, error)
        || !vlm_cmd_table_alloc(cmd, n_group * sizeof(uint32_t), &start, &args->start, error))
        return FALSE;
    memset(weight, 0, group_bytes * n_group);
    for (uint32_t i = 0; i < f->n_out; i++) {
        const uint32_t g = i / GROUP;
        const uint32_t block = MIN(f->first[GROUP * g] / BLOCK, total - n_block);
        int16_t *to = (int16_t *) weight + (size_t) g * GROUP * BLOCK * n_block + i % GROUP;

        ((uint32_t *) start)[g] = block;
        for (uint32_t t = 0; t < f->count[i]; t++)
            to[(size_t) (f->first[i] - block * BLOCK + t) * GROUP] =
                f->weight[(size_t) i * f->n_max + t];
    }
    args->n_block = n_block;
    args->shift = f->shift;
    return TRUE;
}

// The same for pixels_y: [output, 4 * n_group], and the first row of each output. Groups of taps
// may reach past the last row, up to a multiple of 4 rows.
static gboolean pack_y(vlm_cmd *cmd, const taps *f, struct vlm_args_pixels_y *args, GError **error)
{
    uint32_t longest = 1;
    void *start = NULL, *weight = NULL;

    for (uint32_t i = 0; i < f->n_out; i++)
        longest = MAX(longest, f->count[i]);
    const uint32_t n_group = (longest + TAPS - 1) / TAPS;
    const uint32_t last = (f->n_in + TAPS - 1) / TAPS * TAPS - n_group * TAPS;
    const size_t bytes = (size_t) n_group * TAPS * sizeof(int16_t) * f->n_out;
    if (!vlm_cmd_table_alloc(cmd, bytes, &weight, &args->weight, error)
        || !vlm_cmd_table_alloc(cmd, f->n_out * sizeof(uint32_t), &start, &args->start, error))
        return FALSE;
    memset(weight, 0, bytes);
    for (uint32_t i = 0; i < f->n_out; i++) {
        const uint32_t row = MIN(f->first[i], last);

        ((uint32_t *) start)[i] = row;
        memcpy((int16_t *) weight + (size_t) i * n_group * TAPS + (f->first[i] - row),
               f->weight + (size_t) i * f->n_max, f->count[i] * sizeof(int16_t));
    }
    args->n_group = n_group;
    args->shift = f->shift;
    return TRUE;
}

// ------------------------------------------------------------------------------------- record

// Pixels of a row after the first pass.
static uint32_t row_pixels(uint32_t out_width)
{
    return (out_width + GROUP - 1) / GROUP * GROUP;
}

size_t vlm_pixels_scratch_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height)
{
    (void) out_height;
    const size_t n_row = (pixels->height + TAPS - 1) / TAPS * TAPS;  // the filter reads that far

    return n_row * row_pixels(out_width) * 4;
}

// Pairs of rows: a multiple of the lanes of a subgroup.
static uint32_t pairs_per_dispatch(const vlm_pixels *pixels, uint32_t lanes)
{
    return MAX(DISPATCH_PIXELS / 2 / pixels->width / lanes, 1) * lanes;
}

size_t vlm_pixels_args_bytes(const vlm_pixels *pixels, uint32_t out_width, uint32_t out_height)
{
    const size_t x =
        (size_t) max_blocks(pixels->width, out_width, VLM_FILTER_LANCZOS) * BLOCK * sizeof(int16_t)
        + 2 * sizeof(uint32_t);
    const size_t y =
        ((size_t) max_taps(pixels->height, out_height, VLM_FILTER_LANCZOS) + TAPS) * sizeof(int16_t)
        + 2 * sizeof(uint32_t);
    const size_t n_dispatch = pixels->height / 2 / pairs_per_dispatch(pixels, 4) + 1;

    return x * row_pixels(out_width) + y * out_height + 3 * 256 * sizeof(float)
           + n_dispatch * (sizeof(struct vlm_args_pixels_x) + 16) + sizeof(struct vlm_args_pixels_y)
           + 8 * 16;  // each entry is padded to 16
}

// Colour conversion in fixed point, 20 fractional bits; chroma comes with 4 more.
static void set_color(const vlm_pixels *pixels, struct vlm_args_pixels_x *args)
{
    static const double weights[][2] = {
        // of red and blue in luma
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
    args->off_y = half - (pixels->full_range ? 0 : 16 * args->cy);
    args->off_r = args->off_y - mid * args->crv;
    args->off_g = args->off_y - mid * (args->cgu + args->cgv);
    args->off_b = args->off_y - mid * args->cbu;
}

// The first pass, in dispatches of rows between which the work may be submitted.
static gboolean record_x(vlm_cmd *cmd, const vlm_pixels *pixels, struct vlm_args_pixels_x *x,
                         GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;
    const uint32_t n_group = x->dst_stride / GROUP;
    const uint32_t n_pair = pixels->height / 2 + 1;
    const uint32_t n_most = pairs_per_dispatch(pixels, lanes);
    const vlm_kernel_spec spec = { .local = { lanes },
                                   .own = { formats[pixels->format].kind },
                                   .n_own = 1 };

    for (uint32_t q = 0; q < n_pair; q += n_most) {
        const uint32_t n = MIN(n_most, n_pair - q);

        x->first_pair = q;
        if (!vlm_cmd_dispatch(cmd, VLM_K_pixels_x, &spec, x, sizeof *x,
                              (uint32_t[3]){ n_group, (n + lanes - 1) / lanes, 1 }, error))
            return FALSE;
        vlm_cmd_add_cost(cmd, 100.0 * n * n_group * x->n_block * BLOCK);
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
        at_y[y] =
            (y / side * blocks * merge * merge + y % side / patch * merge) * patches->row_stride
            + y % patch * patch + params->time * patch * patch;
}

// Finds `high` and `low` with which t * high + t * low, each step rounded, is t / std for every
// t = v - mean: `high` has so few bits that t * high is exact when t has few as well. FALSE: some
// value would differ.
static gboolean find_factors(float mean, float std, float *high, float *low)
{
    int exponent;
    const double inverse = 1.0 / (double) std;

    frexp(inverse, &exponent);
    *high = (float) ldexp(rint(ldexp(inverse, 15 - exponent)), exponent - 15);
    *low = (float) (inverse - (double) *high);
    for (int v = 0; v < 256; v++) {
        const float t = (float) v - mean;
        const float a = t * *high, b = t * *low;
        if (a + b != t / std)
            return FALSE;
    }
    return TRUE;
}

// (v - 255 mean) / (255 std) in f32, for each 8-bit value: a division on the device need not
// round as the reference does. Where two factors do, they go to `args` and the table stays
// empty: FALSE.
static gboolean fill_levels(const vlm_pixels_params *params, float *levels,
                            struct vlm_args_pixels_y *args)
{
    float mean[3], std[3], high[3], low[3];
    gboolean factors = TRUE;

    for (int c = 0; c < 3; c++) {
        mean[c] = params->mean[c] * 255.0f;
        std[c] = params->std[c] * 255.0f;
        factors &= find_factors(mean[c], std[c], &high[c], &low[c]);
    }
    if (factors) {
        args->mean_r = mean[0], args->mean_g = mean[1], args->mean_b = mean[2];
        args->high_r = high[0], args->high_g = high[1], args->high_b = high[2];
        args->low_r = low[0], args->low_g = low[1], args->low_b = low[2];
        return FALSE;
    }
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++)
            levels[c * 256 + v] = ((float) v - mean[c]) / std[c];
    }
    return TRUE;
}

static gboolean check_params(const vlm_tensor *patches, const vlm_pixels_params *params,
                             GError **error)
{
    VLM_REQUIRE(params->patch >= 1 && params->patch <= 1024, error);
    VLM_REQUIRE(params->merge >= 1 && params->merge <= 16, error);
    VLM_REQUIRE(params->out_width % (params->patch * params->merge) == 0, error);
    VLM_REQUIRE(params->out_height % (params->patch * params->merge) == 0, error);
    VLM_REQUIRE(params->n_time >= 1 && params->n_time <= 64, error);
    VLM_REQUIRE(params->time < params->n_time, error);
    for (int c = 0; c < 3; c++)
        VLM_REQUIRE(isfinite(params->mean[c]) && params->std[c] > 0, error);
    VLM_REQUIRE(vlm_tensor_ok(patches), error);
    VLM_REQUIRE(patches->n_row
                    == params->out_width / params->patch * (params->out_height / params->patch),
                error);
    VLM_REQUIRE(patches->n_col == 3 * params->n_time * params->patch * params->patch, error);
    return TRUE;
}

// What both passes need besides where the second puts its results.
static gboolean prepare(vlm_cmd *cmd, uint64_t picture, const vlm_pixels *pixels, uint64_t scratch,
                        part across, part down, vlm_filter filter, struct vlm_args_pixels_x *x,
                        struct vlm_args_pixels_y *y, GError **error)
{
    VLM_REQUIRE((unsigned) pixels->format < VLM_N_PIXEL_FORMAT, error);
    VLM_REQUIRE(pixels->width >= 1 && pixels->width <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(pixels->height >= 1 && pixels->height <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(across.n >= 1 && across.n <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(down.n >= 1 && down.n <= VLM_MAX_SIDE, error);
    VLM_REQUIRE(across.full <= MAX_FULL_SIDE && down.full <= MAX_FULL_SIDE, error);
    VLM_REQUIRE((uint64_t) across.first + across.n <= across.full, error);
    VLM_REQUIRE((uint64_t) down.first + down.n <= down.full, error);
    VLM_REQUIRE(picture != 0 && picture % 16 == 0, error);
    VLM_REQUIRE(scratch != 0 && scratch % 16 == 0, error);

    const gboolean swap = formats[pixels->format].swap;
    const uint32_t *shift = formats[pixels->format].shift;
    const uint32_t stride = row_pixels(across.n);
    g_auto(taps) x_taps = { 0 };
    g_auto(taps) y_taps = { 0 };

    *x = (struct vlm_args_pixels_x){
        .dst = scratch,
        .plane0 = picture + pixels->offset[0],
        .plane1 = picture + pixels->offset[swap ? 2 : 1],
        .plane2 = picture + pixels->offset[swap ? 1 : 2],
        .stride0 = pixels->stride[0],
        .stride1 = pixels->stride[1],  // planes 1 and 2 have rows of one length
        .shift0 = shift[0],
        .shift1 = shift[1],
        .shift2 = shift[2],
        .n_row = pixels->height,
        .last_block = (pixels->width + BLOCK - 1) / BLOCK - 1,
        .dst_stride = stride,
    };
    *y = (struct vlm_args_pixels_y){ .src = scratch, .n_out = across.n, .src_stride = stride };
    set_color(pixels, x);
    return taps_init(&x_taps, pixels->width, across, filter, error)
           && taps_init(&y_taps, pixels->height, down, filter, error)
           && pack_x(cmd, &x_taps, x, error) && pack_y(cmd, &y_taps, y, error);
}

static gboolean record(vlm_cmd *cmd, const vlm_pixels *pixels, struct vlm_args_pixels_x *x,
                       const struct vlm_args_pixels_y *y, const vlm_kernel_spec *y_spec,
                       uint32_t out_height, GError **error)
{
    const uint32_t lanes = vlm_cmd_device(cmd)->subgroup_size;

    if (!record_x(cmd, pixels, x, error))
        return FALSE;
    vlm_cmd_add_cost(cmd, 24.0 * y->n_group * y->n_out * out_height);
    return vlm_cmd_dispatch(
        cmd, VLM_K_pixels_y, y_spec, y, sizeof *y,
        (uint32_t[3]){ ((y->n_out + 1) / 2 + lanes - 1) / lanes, out_height, 1 }, error);
}

gboolean vlm_op_pixels(vlm_cmd *cmd, const vlm_tensor *patches, uint64_t picture,
                       const vlm_pixels *pixels, uint64_t scratch, const vlm_pixels_params *params,
                       GError **error)
{
    struct vlm_args_pixels_x x;
    struct vlm_args_pixels_y y;
    void *place_x, *place_y, *levels;
    vlm_kernel_spec y_spec = { .local = { vlm_cmd_device(cmd)->subgroup_size }, .n_own = 3 };
    const part across = { params->full_width ? params->full_width : params->out_width, params->left,
                          params->out_width };
    const part down = { params->full_height ? params->full_height : params->out_height, params->top,
                        params->out_height };

    if (!check_params(patches, params, error)
        || !prepare(cmd, picture, pixels, scratch, across, down, VLM_FILTER_BICUBIC, &x, &y, error)
        || !vlm_cmd_table_alloc(cmd, y.src_stride * 4, &place_x, &y.place_x, error)
        || !vlm_cmd_table_alloc(cmd, params->out_height * 4, &place_y, &y.place_y, error)
        || !vlm_cmd_table_alloc(cmd, 3 * 256 * sizeof(float), &levels, &y.levels, error))
        return FALSE;
    y.dst = patches->addr;
    y.channel_stride = params->n_time * params->patch * params->patch;
    fill_places(patches, params, place_x, place_y);
    y_spec.own[0] = fill_levels(params, levels, &y);
    y_spec.own[1] =
        params->patch % 2 == 0 && patches->row_stride % 2 == 0 && patches->addr % 8 == 0;
    return record(cmd, pixels, &x, &y, &y_spec, params->out_height, error);
}

vlm_pixels vlm_pixels_rgbx(uint32_t width, uint32_t height)
{
    const uint32_t stride = 4 * ((width + BLOCK - 1) / BLOCK * BLOCK);

    return (vlm_pixels){ .format = VLM_PIXEL_RGBX,
                         .width = width,
                         .height = height,
                         .stride = { stride },
                         .bytes = stride * height,
                         .full_range = TRUE };
}

vlm_pixels vlm_pixels_window(const vlm_pixels *pixels, uint32_t left, uint32_t top, uint32_t width,
                             uint32_t height)
{
    vlm_pixels window = *pixels;

    window.offset[0] += top * pixels->stride[0] + 4 * left;
    window.width = width;
    window.height = height;
    return window;
}

gboolean vlm_op_pixels_resize(vlm_cmd *cmd, uint64_t dst, const vlm_pixels *out, uint64_t picture,
                              const vlm_pixels *pixels, uint64_t scratch, vlm_filter filter,
                              GError **error)
{
    const vlm_kernel_spec y_spec = { .local = { vlm_cmd_device(cmd)->subgroup_size },
                                     .own = { 0, 0, TRUE },
                                     .n_own = 3 };
    struct vlm_args_pixels_x x;
    struct vlm_args_pixels_y y;
    void *place_y;

    VLM_REQUIRE(out->format == VLM_PIXEL_RGBX && dst != 0 && dst % 16 == 0, error);
    if (!prepare(cmd, picture, pixels, scratch, (part){ out->width, 0, out->width },
                 (part){ out->height, 0, out->height }, filter, &x, &y, error)
        || !vlm_cmd_table_alloc(cmd, out->height * 4, &place_y, &y.place_y, error))
        return FALSE;
    y.dst = dst + out->offset[0];
    y.place_x = y.levels = y.place_y;  // not read
    for (uint32_t i = 0; i < out->height; i++)
        ((uint32_t *) place_y)[i] = i * (out->stride[0] / 4);
    return record(cmd, pixels, &x, &y, &y_spec, out->height, error);
}
