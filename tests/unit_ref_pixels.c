// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_ref_pixels.c — the reference of pictures against numbers worked out by hand.
#include "ref_pixels.h"

#include <math.h>
#include <string.h>

// Video levels of pure colours: 601 by its definition, the others from published tables.
static void test_colors(void)
{
    static const struct {
        vlm_color_matrix matrix;
        gboolean full;
        uint8_t yuv[3], rgb[3];
    } cases[] = {
        { VLM_MATRIX_BT601, FALSE, { 16, 128, 128 }, { 0, 0, 0 } },
        { VLM_MATRIX_BT601, FALSE, { 235, 128, 128 }, { 255, 255, 255 } },
        { VLM_MATRIX_BT601, FALSE, { 81, 90, 240 }, { 254, 0, 0 } },
        { VLM_MATRIX_BT601, TRUE, { 76, 85, 255 }, { 254, 0, 0 } },
        { VLM_MATRIX_BT709, FALSE, { 63, 102, 240 }, { 255, 1, 0 } },
        { VLM_MATRIX_BT709, FALSE, { 173, 42, 26 }, { 0, 255, 1 } },
        { VLM_MATRIX_BT2020, FALSE, { 126, 128, 128 }, { 128, 128, 128 } },
        { VLM_MATRIX_BT709, TRUE, { 255, 0, 128 }, { 255, 255, 17 } },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const uint8_t *c = cases[i].yuv;
        uint8_t rgb[3];
        vlm_image image = { .format = VLM_PIXEL_I420,
                            .width = 1,
                            .height = 1,
                            .plane = { &c[0], &c[1], &c[2] },
                            .stride = { 1, 1, 1 },
                            .matrix = cases[i].matrix,
                            .full_range = cases[i].full };

        ref_pixels_rgb(rgb, &image);
        g_assert_cmpmem(rgb, 3, cases[i].rgb, 3);
    }
}

// Chroma 0 and 160 under four grey pixels: 3:1 between samples, the edges repeat.
static void test_chroma(void)
{
    static const uint8_t y[4] = { 100, 100, 100, 100 }, u[2] = { 128, 128 }, v[2] = { 128, 160 };
    const vlm_image image = { .format = VLM_PIXEL_I420,
                              .width = 4,
                              .height = 1,
                              .plane = { y, u, v },
                              .stride = { 4, 2, 2 },
                              .full_range = TRUE };
    double rgb[12];

    ref_pixels_rgb_f64(rgb, &image);
    for (int i = 0; i < 4; i++) {
        static const double step[] = { 0, 8, 24, 32 };
        g_assert_cmpfloat_with_epsilon(rgb[3 * i], 100 + 1.402 * step[i], 1e-9);
        g_assert_cmpfloat_with_epsilon(rgb[3 * i + 2], 100, 1e-9);
    }
}

// The integers stay within a rounding of the definition, over all formats with chroma.
static void test_integers(void)
{
    uint8_t bytes[16 * 16 * 2], rgb[16 * 16 * 3];
    double want[16 * 16 * 3];
    uint32_t seed = 1;
    double worst = 0;

    for (int n = 0; n < 6 * 40; n++) {
        vlm_image image = { .format = n % 2 ? VLM_PIXEL_YUY2 : VLM_PIXEL_NV12,
                            .width = 16,
                            .height = 16,
                            .plane = { bytes, bytes + 256 },
                            .stride = { n % 2 ? 32 : 16, 16 },
                            .matrix = (vlm_color_matrix) (n % 3),
                            .full_range = n / 3 % 2 };
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t) ((seed = seed * 1664525u + 1013904223u) >> 24);
        ref_pixels_rgb(rgb, &image);
        ref_pixels_rgb_f64(want, &image);
        for (size_t i = 0; i < sizeof rgb; i++)
            worst = MAX(worst, fabs(rgb[i] - want[i]));
    }
    g_assert_cmpfloat(worst, <=, 0.5 + 1e-3);
    g_assert_cmpfloat(worst, >, 0.49);
}

// Same size: the same bytes. One colour stays that colour at any size. A step between pixels 3
// and 4 of 8, halved: the cubic at 0.25, 0.75, 1.25, 1.75 is .8671875, .2265625, -.0703125,
// -.0234375.
static void test_resize(void)
{
    uint8_t src[8 * 3], dst[40 * 3];

    for (int i = 0; i < 24; i++)
        src[i] = (uint8_t) (i * 10);
    // Lanczos is 0 at whole distances as well: nothing moves
    ref_pixels_resize(dst, 4, 2, src, 4, 2, 3);
    g_assert_cmpmem(dst, 24, src, 24);
    ref_pixels_resize(dst, 4, 2, src, 4, 2, 0);
    g_assert_cmpmem(dst, 24, src, 24);
    memset(src, 77, sizeof src);
    ref_pixels_resize(dst, 5, 8, src, 2, 4, 0);
    for (int i = 0; i < 120; i++)
        g_assert_cmpuint(dst[i], ==, 77);
    memset(src, 0, sizeof src);
    memset(src + 4 * 3, 200, 4 * 3);
    ref_pixels_resize(dst, 4, 1, src, 8, 1, 0);
    g_assert_cmpuint(dst[0 * 3], ==, 0);    // 200 * -.0234375 / 1.8671875 = -2.5
    g_assert_cmpuint(dst[1 * 3], ==, 13);   // 200 * .1328125 / 2.0234375 = 13.1
    g_assert_cmpuint(dst[2 * 3], ==, 187);  // 200 * 1.890625 / 2.0234375 = 186.9
    g_assert_cmpuint(dst[3 * 3], ==, 203);  // 200 * 1.890625 / 1.8671875 = 202.51
}

// Four patches of one pixel in a block: the order of rows, and the columns of time 1.
static void test_patches(void)
{
    static const uint8_t rgb[] = { 0, 51, 102, 153, 204, 255, 255, 0, 51, 102, 153, 204 };
    static const float mean[3] = { 0, 0, 1 }, std[3] = { 1, 0.5f, 1 };
    float dst[4 * 7];

    for (int i = 0; i < 28; i++)
        dst[i] = -9;
    ref_pixels_patches(dst, 7, rgb, 2, 2, 1, 2, 2, 1, mean, std);
    for (int i = 0; i < 4; i++) {
        const float *row = dst + 7 * i;
        g_assert_cmpfloat(row[0], ==, -9);
        g_assert_cmpfloat_with_epsilon(row[1], rgb[3 * i] / 255.0, 1e-6);
        g_assert_cmpfloat(row[2], ==, -9);
        g_assert_cmpfloat_with_epsilon(row[3], rgb[3 * i + 1] / 127.5, 1e-6);
        g_assert_cmpfloat(row[4], ==, -9);
        g_assert_cmpfloat_with_epsilon(row[5], rgb[3 * i + 2] / 255.0 - 1, 1e-6);
        g_assert_cmpfloat(row[6], ==, -9);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ref/pixels/colors", test_colors);
    g_test_add_func("/ref/pixels/chroma", test_chroma);
    g_test_add_func("/ref/pixels/integers", test_integers);
    g_test_add_func("/ref/pixels/resize", test_resize);
    g_test_add_func("/ref/pixels/patches", test_patches);
    return g_test_run();
}
