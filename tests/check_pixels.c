// SPDX-License-Identifier: LGPL-2.1-or-later
// check_pixels.c — pictures to patches: every format and awkward size against the reference and
// against what transformers computed. Integers up to a table of values: bits must be equal.
#include <string.h>

#include "check.h"
#include "ref_pixels.h"
#include "vectors.h"

static const char *const format_name[VLM_N_PIXEL_FORMAT] = {
    "RGB",  "BGR",  "RGBX", "BGRX", "XRGB", "XBGR", "GRAY8",
    "I420", "YV12", "NV12", "NV21", "YUY2", "UYVY",
};

typedef enum content { NOISE, EXTREMES, FLAT, N_CONTENT } content;

typedef struct shape {
    uint32_t width, height, out_width, out_height;
    uint32_t patch, merge, n_time, time;
} shape;

// What the output is a part of; 0 = the whole.
typedef struct cut {
    uint32_t full_width, full_height, left, top;
} cut;

// A picture in host memory whose rows are followed by `pad` bytes that nobody should read.
static void make_image(check *ck, vlm_image *image, uint8_t **memory, uint32_t pad, content kind)
{
    const uint32_t w = image->width, h = image->height, half = (w + 1) / 2, half_h = (h + 1) / 2;
    uint32_t row[3] = { w, 0, 0 }, n_row[3] = { h, half_h, half_h };
    size_t bytes = 0, at = 0;

    switch (image->format) {
    case VLM_PIXEL_RGB:
    case VLM_PIXEL_BGR:
        row[0] = 3 * w;
        break;
    case VLM_PIXEL_RGBX:
    case VLM_PIXEL_BGRX:
    case VLM_PIXEL_XRGB:
    case VLM_PIXEL_XBGR:
        row[0] = 4 * w;
        break;
    case VLM_PIXEL_YUY2:
    case VLM_PIXEL_UYVY:
        row[0] = 4 * half;
        break;
    case VLM_PIXEL_NV12:
    case VLM_PIXEL_NV21:
        row[1] = 2 * half;
        break;
    case VLM_PIXEL_I420:
    case VLM_PIXEL_YV12:
        row[1] = row[2] = half;
        break;
    default:
        break;
    }
    for (int i = 0; i < 3; i++)
        bytes += (size_t) (row[i] + pad) * n_row[i];
    *memory = g_malloc(bytes);
    uint32_t seed = g_rand_int(ck->rand);
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        (*memory)[i] = kind == NOISE      ? (uint8_t) (seed >> 24)
                       : kind == EXTREMES ? (uint8_t) (seed >> 31 ? 255 : 0)
                                          : 200;
    }
    for (int i = 0; i < 3 && row[i]; i++) {
        image->plane[i] = *memory + at;
        image->stride[i] = row[i] + pad;
        at += (size_t) (row[i] + pad) * n_row[i];
    }
}

// Compares every word of the output, gaps and columns of other times included.
static char *compare_words(const uint32_t *got, const uint32_t *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (got[i] != want[i])
            return g_strdup_printf("word %" G_GSIZE_FORMAT ": got 0x%08x, want 0x%08x", i, got[i],
                                   want[i]);
    }
    return NULL;
}

// Runs the op on `image` into `out`, [n_patch, row_stride]. FALSE: reported as failed.
static gboolean run_op(check *ck, const vlm_image *image, const shape *s, const cut *c,
                       const float mean[3], const float std[3], check_buf *out, uint32_t row_stride,
                       const char *what)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(check_buf) picture = NULL;
    g_autoptr(check_buf) scratch = NULL;
    vlm_pixels pixels;
    vlm_pixels_params params = { .out_width = s->out_width,
                                 .out_height = s->out_height,
                                 .patch = s->patch,
                                 .merge = s->merge,
                                 .n_time = s->n_time,
                                 .time = s->time,
                                 .full_width = c->full_width,
                                 .full_height = c->full_height,
                                 .left = c->left,
                                 .top = c->top,
                                 .mean = { mean[0], mean[1], mean[2] },
                                 .std = { std[0], std[1], std[2] } };
    vlm_tensor patches = { out->addr, s->out_width / s->patch * (s->out_height / s->patch),
                           3 * s->n_time * s->patch * s->patch, row_stride };
    gboolean ok = vlm_pixels_layout(image, &pixels, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
    picture = check_buf_new(ck, pixels.bytes);
    scratch = check_buf_new(ck, vlm_pixels_scratch_bytes(&pixels, s->out_width, s->out_height));
    vlm_pixels_copy(image, &pixels, picture->data);
    check_buf *bufs[] = { out, picture, scratch };
    ok =
        vlm_cmd_begin(ck->cmd, &error)
        && vlm_op_pixels(ck->cmd, &patches, picture->addr, &pixels, scratch->addr, &params, &error);
    return check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what);
}

// The picture at its full size, then the part that is wanted.
static void resize_part(uint8_t *dst, const shape *s, const cut *c, const uint8_t *rgb)
{
    const uint32_t w = c->full_width ? c->full_width : s->out_width;
    const uint32_t h = c->full_height ? c->full_height : s->out_height;
    g_autofree uint8_t *full = g_new(uint8_t, (size_t) w * h * 3);

    ref_pixels_resize(full, w, h, rgb, s->width, s->height, 0);
    for (uint32_t y = 0; y < s->out_height; y++)
        memcpy(dst + (size_t) y * s->out_width * 3,
               full + ((size_t) (y + c->top) * w + c->left) * 3, (size_t) s->out_width * 3);
}

static void part_case(check *ck, vlm_image image, const shape *s, const cut *c, uint32_t pad,
                      content kind)
{
    // the means of Qwen2-VL take the table of levels, those of Qwen3-VL two factors
    static const float means[2][3] = { { 0.48145466f, 0.4578275f, 0.1f }, { 0.5f, 0.5f, 0.5f } };
    static const float stds[2][3] = { { 0.26862954f, 0.26130258f, 1.7f }, { 0.5f, 0.5f, 0.5f } };
    const float *mean = means[pad % 2], *std = stds[pad % 2];
    const uint32_t stride = 3 * s->n_time * s->patch * s->patch + pad;
    const size_t n = (size_t) (s->out_width / s->patch) * (s->out_height / s->patch) * stride;
    g_autofree uint8_t *memory = NULL;
    g_autofree uint8_t *rgb = NULL;
    g_autofree uint8_t *small = g_new(uint8_t, (size_t) s->out_width * s->out_height * 3);
    g_autofree uint32_t *want = g_new(uint32_t, n);
    g_autofree char *what = g_strdup_printf(
        "%s %ux%u to %ux%u of %ux%u patch %u merge %u time %u/%u matrix %d range %d pad %u content "
        "%d",
        format_name[image.format], s->width, s->height, s->out_width, s->out_height, c->full_width,
        c->full_height, s->patch, s->merge, s->time, s->n_time, (int) image.matrix,
        image.full_range, pad, (int) kind);
    g_autoptr(check_buf) out = check_buf_new(ck, n * 4);

    image.width = s->width;
    image.height = s->height;
    make_image(ck, &image, &memory, pad, kind);
    rgb = g_new(uint8_t, (size_t) s->width * s->height * 3);
    ref_pixels_rgb(rgb, &image);
    resize_part(small, s, c, rgb);
    for (size_t i = 0; i < n; i++)
        want[i] = UNWRITTEN;
    ref_pixels_patches((float *) want, stride, small, s->out_width, s->out_height, s->patch,
                       s->merge, s->n_time, s->time, mean, std);
    if (run_op(ck, &image, s, c, mean, std, out, stride, what))
        check_verdict(ck, what, compare_words(out->data, want, n));
}

static void pixels_case(check *ck, vlm_image image, const shape *s, uint32_t pad, content kind)
{
    part_case(ck, image, s, &(cut){ 0 }, pad, kind);
}

// What the reference calls a filter: lobes, 0 for the bicubic one, 1 for the bilinear one.
static const int lobes_of[] = {
    [VLM_FILTER_BICUBIC] = 0, [VLM_FILTER_LANCZOS] = 3, [VLM_FILTER_BILINEAR] = 1
};

// A picture made on the device, then seen through a window: the same bytes, opaque.
static void resize_case(check *ck, vlm_image image, const shape *s, vlm_filter filter)
{
    g_autofree uint8_t *memory = NULL;
    g_autofree uint8_t *rgb = g_new(uint8_t, (size_t) s->width * s->height * 3);
    g_autofree uint8_t *want = g_new(uint8_t, (size_t) s->out_width * s->out_height * 3);
    g_autofree char *what =
        g_strdup_printf("%s %ux%u to a picture of %ux%u, filter %d", format_name[image.format],
                        s->width, s->height, s->out_width, s->out_height, (int) filter);
    const vlm_pixels to = vlm_pixels_rgbx(s->out_width, s->out_height);
    g_autoptr(check_buf) out = check_buf_new(ck, to.bytes);
    g_autoptr(GError) error = NULL;
    vlm_pixels pixels;

    image.width = s->width;
    image.height = s->height;
    make_image(ck, &image, &memory, 1, NOISE);
    ref_pixels_rgb(rgb, &image);
    ref_pixels_resize(want, s->out_width, s->out_height, rgb, s->width, s->height,
                      lobes_of[filter]);
    g_assert_true(vlm_pixels_layout(&image, &pixels, &error));
    g_autoptr(check_buf) picture = check_buf_new(ck, pixels.bytes);
    g_autoptr(check_buf) scratch =
        check_buf_new(ck, vlm_pixels_scratch_bytes(&pixels, s->out_width, s->out_height));
    check_buf *bufs[] = { out, picture, scratch };
    vlm_pixels_copy(&image, &pixels, picture->data);
    const gboolean ok = vlm_cmd_begin(ck->cmd, &error)
                        && vlm_op_pixels_resize(ck->cmd, out->addr, &to, picture->addr, &pixels,
                                                scratch->addr, filter, &error);
    if (!check_run(ck, ok, error, bufs, G_N_ELEMENTS(bufs), what))
        return;
    const uint32_t left = s->out_width > 4 ? 4 : 0, top = s->out_height / 2;
    const vlm_pixels window =
        vlm_pixels_window(&to, left, top, s->out_width - left, s->out_height - top);
    char *fault = NULL;
    for (uint32_t y = 0; y < window.height && !fault; y++)
        for (uint32_t x = 0; x < window.width && !fault; x++) {
            const uint8_t *got =
                (const uint8_t *) out->data + window.offset[0] + y * window.stride[0] + 4 * x;
            const uint8_t *rgb_want = want + ((size_t) (y + top) * s->out_width + x + left) * 3;
            if (memcmp(got, rgb_want, 3) != 0 || got[3] != 255)
                fault = g_strdup_printf("pixel %u, %u is %u %u %u %u, want %u %u %u", x + left,
                                        y + top, got[0], got[1], got[2], got[3], rgb_want[0],
                                        rgb_want[1], rgb_want[2]);
        }
    check_verdict(ck, what, fault);
}

// One picture of the recorded ones: bytes put together again from the values of the device, the
// first values and checksums of all of them.
static void vector_case(check *ck, const vectors *v, guint n, const int32_t *row)
{
    const float *means = vectors_f32(v, "means", NULL) + 6 * row[5];
    const float *first = vectors_f32(v, "first", NULL) + 16 * n;
    const double *sums = vectors_f64(v, "sums", NULL) + 4 * n;
    const shape s = {
        (uint32_t) row[0], (uint32_t) row[1], (uint32_t) row[3], (uint32_t) row[4], 16, 2, 2, 0
    };
    g_autofree char *what = g_strdup_printf("transformers' picture %u: %ux%u to %ux%u", n, s.width,
                                            s.height, s.out_width, s.out_height);
    g_autofree char *levels_name = g_strdup_printf("levels_%u", n);
    const vectors_array *levels = vectors_find(v, levels_name);
    g_autofree uint8_t *rgb = g_new(uint8_t, (size_t) s.width * s.height * 3);
    vlm_image image = { .format = VLM_PIXEL_RGB,
                        .width = s.width,
                        .height = s.height,
                        .plane = { rgb },
                        .stride = { 3 * s.width } };
    const size_t n_value = (size_t) s.out_width * s.out_height * 6;
    g_autoptr(check_buf) out = check_buf_new(ck, n_value * 4);
    double got[4];
    shape second = s;

    second.time = 1;  // transformers shows a still to both frames; films here have two equal ones
    vectors_picture(s.width, s.height, (uint32_t) row[2], rgb);
    if (!run_op(ck, &image, &s, &(cut){ 0 }, means, means + 3, out, 1536, what)
        || !run_op(ck, &image, &second, &(cut){ 0 }, means, means + 3, out, 1536, what))
        return;
    const float *values = out->data;
    size_t n_same = 0;
    while (n_same < 16 && values[n_same] == first[n_same])
        n_same++;
    if (n_same < 16) {
        check_verdict(ck, what, g_strdup("the first 16 values differ"));
        return;
    }
    vectors_checksum(out->data, n_value, got);
    for (int i = 0; i < 4; i++) {
        if (ABS(got[i] - sums[i]) > 1e-9 * ABS(sums[1])) {  // sums in another order
            check_verdict(
                ck, what,
                g_strdup_printf("checksum %d: got %.12g, want %.12g", i, got[i], sums[i]));
            return;
        }
    }
    if (levels) {
        g_autofree float *want = g_new(float, n_value);
        ref_pixels_patches(want, 1536, levels->data, s.out_width, s.out_height, 16, 2, 2, 0, means,
                           means + 3);
        ref_pixels_patches(want, 1536, levels->data, s.out_width, s.out_height, 16, 2, 2, 1, means,
                           means + 3);
        check_verdict(ck, what, compare_words(out->data, (const uint32_t *) want, n_value));
        return;
    }
    check_verdict(ck, what, NULL);
}

// The pictures that tests/oracle/pixels.py gave to transformers' own processors.
static void check_vectors(check *ck)
{
    const char *dir = g_getenv("VECTORS_DIR");
    g_autofree char *path = g_build_filename(dir ? dir : "tests/vectors", "pixels.vec", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(vectors) v = vectors_open(path, &error);
    gsize n;

    if (!v) {
        check_verdict(ck, "recorded pictures (set VECTORS_DIR)", g_strdup(error->message));
        return;
    }
    const int32_t *rows = vectors_i32(v, "pictures", &n);
    for (guint i = 0; i < n / 7; i++)
        vector_case(ck, v, i, rows + 7 * i);
}

void check_pixels(check *ck)
{
    static const shape small[] = {
        { 1, 1, 32, 32, 16, 2, 2, 0 },   { 2, 1, 4, 4, 2, 1, 1, 0 },
        { 1, 2, 8, 4, 2, 2, 2, 1 },      { 9, 7, 3, 9, 3, 1, 3, 1 },
        { 8, 8, 8, 8, 2, 2, 2, 0 },      { 37, 53, 32, 64, 16, 2, 2, 1 },
        { 63, 33, 56, 28, 14, 2, 2, 0 }, { 130, 66, 16, 32, 4, 2, 1, 0 },
        { 70, 50, 6, 10, 2, 1, 2, 1 },   { 50, 70, 21, 35, 7, 1, 1, 0 },
    };
    static const shape large[] = {
        { 1, 4000, 32, 128, 16, 2, 2, 0 },   { 4000, 1, 128, 32, 16, 2, 2, 1 },
        { 400, 800, 352, 640, 16, 2, 2, 0 }, { 1280, 720, 160, 96, 16, 2, 2, 1 },
        { 16383, 83, 256, 32, 16, 2, 2, 0 }, { 82, 16384, 32, 64, 16, 2, 2, 1 },
        { 1919, 1081, 32, 32, 16, 2, 2, 0 }, { 16384, 2, 1, 1, 1, 1, 1, 0 },
    };
    // middles, corners, and a filter whose largest weight is outside the part
    static const struct {
        shape s;
        cut c;
    } parts[] = {
        { { 37, 53, 28, 28, 14, 1, 1, 0 }, { 28, 40, 0, 6 } },
        { { 1, 40, 28, 28, 14, 1, 1, 0 }, { 28, 1120, 0, 546 } },
        { { 40, 1, 28, 28, 14, 1, 1, 0 }, { 1120, 28, 546, 0 } },
        { { 400, 800, 42, 42, 14, 1, 1, 0 }, { 42, 84, 0, 21 } },
        { { 90, 70, 14, 28, 7, 2, 2, 1 }, { 61, 47, 47, 19 } },
        { { 9, 7, 4, 4, 2, 1, 1, 0 }, { 5, 5, 1, 1 } },
        { { 20, 24, 8, 8, 2, 1, 1, 0 }, { 40, 48, 16, 16 } },
    };
    static const vlm_pixel_format planar[] = { VLM_PIXEL_NV12, VLM_PIXEL_I420, VLM_PIXEL_YUY2,
                                               VLM_PIXEL_RGB };

    for (int f = 0; f < VLM_N_PIXEL_FORMAT; f++) {
        for (size_t i = 0; i < G_N_ELEMENTS(small); i++) {
            vlm_image image = { .format = (vlm_pixel_format) f };
            image.matrix = (vlm_color_matrix) (i % 3);
            image.full_range = i / 3 % 2;
            pixels_case(ck, image, &small[i], (uint32_t) i, NOISE);
            pixels_case(ck, image, &small[i], 0, EXTREMES);
        }
        for (int m = 0; m < 6; m++) {
            vlm_image image = { .format = (vlm_pixel_format) f };
            image.matrix = (vlm_color_matrix) (m % 3);
            image.full_range = m / 3;
            pixels_case(ck, image, &(shape){ 41, 29, 32, 32, 16, 2, 2, 0 }, 3,
                        (content) (m % N_CONTENT));
        }
    }
    for (size_t i = 0; i < 4 * G_N_ELEMENTS(parts); i++)
        part_case(ck, (vlm_image){ .format = planar[i % 4] }, &parts[i / 4].s, &parts[i / 4].c,
                  (uint32_t) i % 3, i % 2 ? NOISE : EXTREMES);
    for (size_t i = 0; i < G_N_ELEMENTS(large); i++) {
        vlm_image image = { .format = planar[i % G_N_ELEMENTS(planar)],
                            .matrix = VLM_MATRIX_BT709 };
        pixels_case(ck, image, &large[i], i % 3, i % 2 ? NOISE : EXTREMES);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(small); i++) {
        for (int filter = 0; filter < 3; filter++) {
            resize_case(ck, (vlm_image){ .format = planar[i % G_N_ELEMENTS(planar)] }, &small[i],
                        (vlm_filter) filter);
            resize_case(ck, (vlm_image){ .format = VLM_PIXEL_RGBX }, &small[i],
                        (vlm_filter) filter);
        }
    }
    resize_case(ck, (vlm_image){ .format = VLM_PIXEL_NV12 },
                &(shape){ .width = 1280, .height = 720, .out_width = 201, .out_height = 97 },
                VLM_FILTER_LANCZOS);
    resize_case(ck, (vlm_image){ .format = VLM_PIXEL_RGB },
                &(shape){ .width = 16383, .height = 7, .out_width = 96, .out_height = 2 },
                VLM_FILTER_LANCZOS);
    if (ck->dev->caps == 0)  // no kernel here depends on caps: once is enough for 33 Mpixel
        pixels_case(ck, (vlm_image){ .format = VLM_PIXEL_NV12, .matrix = VLM_MATRIX_BT2020 },
                    &(shape){ 7680, 4320, 320, 192, 16, 2, 2, 0 }, 0, NOISE);
    check_vectors(ck);
}
