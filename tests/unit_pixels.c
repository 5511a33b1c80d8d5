// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_pixels.c — layout of pictures and the size that they are stretched to, without a device.
#include <string.h>

#include "ops/pixels.h"
#include "vectors.h"

static const char *vectors_dir;

// Planes, offsets and strides of one format at 37 x 53, an odd size, in blocks of 8 pixels.
static void test_layout(void)
{
    static const struct {
        vlm_pixel_format format;
        uint32_t stride[3], offset[3], bytes;
    } cases[] = {
        { VLM_PIXEL_RGB, { 120 }, { 0 }, 6368 },
        { VLM_PIXEL_BGRX, { 160 }, { 0 }, 8480 },
        { VLM_PIXEL_GRAY8, { 40 }, { 0 }, 2128 },
        { VLM_PIXEL_I420, { 40, 20, 20 }, { 0, 2128, 2672 }, 3216 },
        { VLM_PIXEL_NV12, { 40, 40 }, { 0, 2128 }, 3216 },
        { VLM_PIXEL_UYVY, { 80 }, { 0 }, 4240 },
    };
    static const uint8_t byte;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        vlm_image image = { .format = cases[i].format,
                            .width = 37,
                            .height = 53,
                            .plane = { &byte, &byte, &byte },
                            .stride = { 148, 38, 38 } };
        vlm_pixels pixels;

        g_assert_true(vlm_pixels_layout(&image, &pixels, &error));
        g_assert_no_error(error);
        for (int p = 0; p < 3; p++) {
            g_assert_cmpuint(pixels.stride[p], ==, cases[i].stride[p]);
            g_assert_cmpuint(pixels.offset[p], ==, cases[i].offset[p]);
        }
        g_assert_cmpuint(pixels.bytes, ==, cases[i].bytes);
    }
}

static void expect_layout_error(const vlm_image *image, const char *part)
{
    g_autoptr(GError) error = NULL;
    vlm_pixels pixels;

    g_assert_false(vlm_pixels_layout(image, &pixels, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_layout_errors(void)
{
    static const uint8_t byte;
    const vlm_image good = { .format = VLM_PIXEL_NV12,
                             .width = 9,
                             .height = 3,
                             .plane = { &byte, &byte },
                             .stride = { 9, 10 } };
    vlm_image image = good;
    vlm_pixels pixels;

    g_assert_true(vlm_pixels_layout(&good, &pixels, NULL));
    image.format = VLM_N_PIXEL_FORMAT;
    expect_layout_error(&image, "format");
    image = good;
    image.matrix = (vlm_color_matrix) 3;
    expect_layout_error(&image, "matrix");
    image = good;
    image.width = 0;
    expect_layout_error(&image, "0 x 3 pixels");
    image = good;
    image.height = VLM_MAX_SIDE + 1;
    expect_layout_error(&image, "9 x 16385 pixels");
    image = good;
    image.plane[1] = NULL;
    expect_layout_error(&image, "plane 1 of a NV12 picture");
    image = good;
    image.stride[0] = 8;
    expect_layout_error(&image, "rows overlap");
    image = good;
    image.stride[1] = 9;  // five pairs need ten bytes
    expect_layout_error(&image, "rows overlap");
    image.stride[1] = 0;
    image.height = 1;  // a single row of chroma has no next one
    image.stride[0] = 0;
    g_assert_true(vlm_pixels_layout(&image, &pixels, NULL));
}

// Rows keep their bytes and end in copies of the last sample; nothing past the rows is read.
static void test_copy(void)
{
    static const uint8_t y[] = { 1, 2, 3, 99, 99, 4, 5, 6 };  // 3 x 2, stride 5: no gap at the end
    static const uint8_t uv[] = { 10, 20, 11, 21 };
    const vlm_image image = {
        .format = VLM_PIXEL_NV21, .width = 3, .height = 2, .plane = { y, uv }, .stride = { 5, 4 }
    };
    static const uint8_t want[] = {
        1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 6, 6, 6, 6, 6, 6, 10, 20, 11, 21, 11, 21, 11, 21,
    };
    uint8_t got[32];
    vlm_pixels pixels;

    g_assert_true(vlm_pixels_layout(&image, &pixels, NULL));
    g_assert_cmpuint(pixels.bytes, ==, sizeof got);
    vlm_pixels_copy(&image, &pixels, got);
    g_assert_cmpmem(got, sizeof want, want, sizeof want);
}

// What transformers' own two functions answered, refusals included.
static void test_smart_resize(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(vectors_dir, "pixels.vec", NULL);
    g_autoptr(vectors) v = vectors_open(path, &error);
    gsize n = 0, n_refused = 0;

    g_assert_no_error(error);
    const int32_t *rows = vectors_i32(v, "smart_resize", &n);
    const int32_t *limits = vectors_i32(v, "limits", NULL);
    g_assert_cmpuint(n, >, 6000);
    for (gsize i = 0; i < n; i += 6) {
        const int32_t *row = rows + i, *limit = limits + 3 * row[3];
        uint32_t width = 0, height = 0;
        const gboolean ok = vlm_pixels_smart_resize(
            (uint32_t) row[0], (uint32_t) row[1], (uint32_t) limit[0], (uint64_t) limit[1],
            (uint64_t) limit[2], (uint32_t) row[2], &width, &height, NULL);

        if (ok != (row[4] != 0) || width != (uint32_t) row[4] || height != (uint32_t) row[5]) {
            g_error("%d x %d, %d frames, limits %d: got %u x %u, transformers %d x %d", row[0],
                    row[1], row[2], row[3], width, height, row[4], row[5]);
        }
        n_refused += !ok;
    }
    g_assert_cmpuint(n_refused, >, 50);
}

static void test_smart_resize_errors(void)
{
    static const struct {
        uint32_t width, height, factor;
        uint64_t min, max;
        uint32_t n_frames;
        const char *part;
    } cases[] = {
        { 0, 10, 32, 1, 1000, 0, "width" },
        { 10, 16385, 32, 1, 1000, 0, "height" },
        { 10, 10, 0, 1, 1000, 0, "factor" },
        { 10, 10, 32, 0, 1000, 0, "min_pixels" },
        { 10, 10, 32, 1001, 1000, 0, "min_pixels" },
        { 10, 10, 32, 1, (uint64_t) 1 << 53, 0, "max_pixels" },
        { 10, 10, 32, 1, 1000, 1, "n_frames" },
        { 1, 201, 32, 1, 1000, 0, "200 times" },
        { 4000, 1, 32, 1, 1000, 2, "200 times" },
        { 16384, 100, 32, 1u << 28, (uint64_t) 1 << 52, 0, "would become" },
    };
    uint32_t width, height;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(vlm_pixels_smart_resize(cases[i].width, cases[i].height, cases[i].factor,
                                               cases[i].min, cases[i].max, cases[i].n_frames,
                                               &width, &height, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_assert_nonnull(strstr(error->message, cases[i].part));
    }
    g_assert_true(vlm_pixels_smart_resize(1, 200, 32, 1, 65536, 0, &width, &height, NULL));
}

// Where kernels may read a picture that the caller has.
static void test_in_place(void)
{
    static const uint8_t block[4096] = { 0 };
    const uint8_t *at = (const uint8_t *) (((uintptr_t) block + 15) / 16 * 16);
    const vlm_image good = { .format = VLM_PIXEL_NV12,
                             .width = 32,
                             .height = 16,
                             .plane = { at, at + 40 * 18 },
                             .stride = { 40, 40 } };
    const uint8_t *first = NULL;
    vlm_pixels pixels;

    g_assert_true(vlm_pixels_layout(&good, &pixels, NULL));
    g_assert_true(vlm_pixels_in_place(&good, &pixels, &first));
    g_assert_true(first == at);
    g_assert_cmpuint(pixels.offset[1], ==, 40 * 18);
    g_assert_cmpuint(pixels.stride[1], ==, 40);
    g_assert_cmpuint(pixels.bytes, ==, 40 * 18 + 7 * 40 + 32);

    vlm_image bad[] = { good, good, good, good, good };
    bad[0].width = 30;                      // a row ends inside a block
    bad[1].stride[0] = 36;                  // rows at odd addresses
    bad[2].plane[1] = at + 40 * 18 + 4;     // so is a plane
    bad[3].plane[1] = at + 40 * 15;         // planes overlap
    bad[4].plane[1] = at + 40 * (16 + 65);  // who knows what lies between
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_true(vlm_pixels_layout(&bad[i], &pixels, NULL));
        g_assert_false(vlm_pixels_in_place(&bad[i], &pixels, &first));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    vectors_dir = g_getenv("VECTORS_DIR");
    g_assert_nonnull(vectors_dir);
    g_test_add_func("/pixels/layout", test_layout);
    g_test_add_func("/pixels/layout_errors", test_layout_errors);
    g_test_add_func("/pixels/copy", test_copy);
    g_test_add_func("/pixels/in_place", test_in_place);
    g_test_add_func("/pixels/smart_resize", test_smart_resize);
    g_test_add_func("/pixels/smart_resize_errors", test_smart_resize_errors);
    return g_test_run();
}
