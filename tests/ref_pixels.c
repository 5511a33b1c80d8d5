// SPDX-License-Identifier: LGPL-2.1-or-later
// ref_pixels.c — see ref_pixels.h.
#include "ref_pixels.h"

#include <math.h>

// Where a format has its samples: plane, bytes between samples of a row, byte of the first; chroma
// is shared by 2 pixels (sub_x) and 2 rows (sub_y).
typedef struct samples {
    int plane[3], step[3], first[3];
    int sub_x, sub_y;
    int yuv;
} samples;

static samples find_samples(vlm_pixel_format format)
{
    switch (format) {
    case VLM_PIXEL_RGB:
        return (samples){ { 0, 0, 0 }, { 3, 3, 3 }, { 0, 1, 2 }, 0, 0, 0 };
    case VLM_PIXEL_BGR:
        return (samples){ { 0, 0, 0 }, { 3, 3, 3 }, { 2, 1, 0 }, 0, 0, 0 };
    case VLM_PIXEL_RGBX:
        return (samples){ { 0, 0, 0 }, { 4, 4, 4 }, { 0, 1, 2 }, 0, 0, 0 };
    case VLM_PIXEL_BGRX:
        return (samples){ { 0, 0, 0 }, { 4, 4, 4 }, { 2, 1, 0 }, 0, 0, 0 };
    case VLM_PIXEL_XRGB:
        return (samples){ { 0, 0, 0 }, { 4, 4, 4 }, { 1, 2, 3 }, 0, 0, 0 };
    case VLM_PIXEL_XBGR:
        return (samples){ { 0, 0, 0 }, { 4, 4, 4 }, { 3, 2, 1 }, 0, 0, 0 };
    case VLM_PIXEL_I420:
        return (samples){ { 0, 1, 2 }, { 1, 1, 1 }, { 0, 0, 0 }, 1, 1, 1 };
    case VLM_PIXEL_YV12:
        return (samples){ { 0, 2, 1 }, { 1, 1, 1 }, { 0, 0, 0 }, 1, 1, 1 };
    case VLM_PIXEL_NV12:
        return (samples){ { 0, 1, 1 }, { 1, 2, 2 }, { 0, 0, 1 }, 1, 1, 1 };
    case VLM_PIXEL_NV21:
        return (samples){ { 0, 1, 1 }, { 1, 2, 2 }, { 0, 1, 0 }, 1, 1, 1 };
    case VLM_PIXEL_YUY2:
        return (samples){ { 0, 0, 0 }, { 2, 4, 4 }, { 0, 1, 3 }, 1, 0, 1 };
    case VLM_PIXEL_UYVY:
        return (samples){ { 0, 0, 0 }, { 2, 4, 4 }, { 1, 0, 2 }, 1, 0, 1 };
    default:
        return (samples){ { 0, 0, 0 }, { 1, 1, 1 }, { 0, 0, 0 }, 0, 0, 2 };  // grey
    }
}

static int sample(const vlm_image *image, const samples *s, int which, int x, int y)
{
    const int p = s->plane[which];

    return image->plane[p][(size_t) y * image->stride[p] + (size_t) (x * s->step[which])
                           + (size_t) s->first[which]];
}

// Chroma at a pixel times 16: the sample that covers it counts three times as much as the next one
// on the pixel's side, each way.
static int chroma16(const vlm_image *image, const samples *s, int which, int x, int y)
{
    const int last_x = (int) (image->width + 1) / 2 - 1;
    const int last_y = s->sub_y ? (int) (image->height + 1) / 2 - 1 : (int) image->height - 1;
    const int near_x = x / 2, near_y = s->sub_y ? y / 2 : y;
    const int far_x = CLAMP(x % 2 ? near_x + 1 : near_x - 1, 0, last_x);
    const int far_y = s->sub_y ? CLAMP(y % 2 ? near_y + 1 : near_y - 1, 0, last_y) : y;

    return 9 * sample(image, s, which, near_x, near_y) + 3 * sample(image, s, which, far_x, near_y)
           + 3 * sample(image, s, which, near_x, far_y) + sample(image, s, which, far_x, far_y);
}

// Red and blue's part in luma.
static void luma_weights(vlm_color_matrix matrix, double *kr, double *kb)
{
    *kr = matrix == VLM_MATRIX_BT709 ? 0.2126 : matrix == VLM_MATRIX_BT2020 ? 0.2627 : 0.299;
    *kb = matrix == VLM_MATRIX_BT709 ? 0.0722 : matrix == VLM_MATRIX_BT2020 ? 0.0593 : 0.114;
}

void ref_pixels_rgb_f64(double *rgb, const vlm_image *image)
{
    const samples s = find_samples(image->format);
    double kr, kb;

    luma_weights(image->matrix, &kr, &kb);
    for (int y = 0; y < (int) image->height; y++) {
        for (int x = 0; x < (int) image->width; x++, rgb += 3) {
            if (s.yuv == 0) {
                for (int c = 0; c < 3; c++)
                    rgb[c] = sample(image, &s, c, x, y);
                continue;
            }
            double luma = sample(image, &s, 0, x, y), cb = 0, cr = 0;
            if (s.yuv == 1) {
                cb = chroma16(image, &s, 1, x, y) / 16.0 - 128;
                cr = chroma16(image, &s, 2, x, y) / 16.0 - 128;
            }
            if (!image->full_range) {
                luma = (luma - 16) * 255 / 219;
                cb = cb * 255 / 224;
                cr = cr * 255 / 224;
            }
            const double red = luma + 2 * (1 - kr) * cr, blue = luma + 2 * (1 - kb) * cb;
            rgb[0] = CLAMP(red, 0, 255);
            rgb[1] = CLAMP((luma - kr * red - kb * blue) / (1 - kr - kb), 0, 255);
            rgb[2] = CLAMP(blue, 0, 255);
        }
    }
}

static int64_t fixed(double v, int bits)
{
    return (int64_t) floor(ldexp(v, bits) + 0.5);
}

static uint8_t level(int64_t v)
{
    const double l = floor((double) v / (1 << 20) + 0.5);

    return (uint8_t) CLAMP(l, 0, 255);
}

void ref_pixels_rgb(uint8_t *rgb, const vlm_image *image)
{
    const samples s = find_samples(image->format);
    const double luma = image->full_range ? 1 : 255.0 / 219;
    const double chroma = image->full_range ? 1 : 255.0 / 224;
    double kr, kb;

    luma_weights(image->matrix, &kr, &kb);
    const double kg = 1 - kr - kb;
    const int64_t cy = fixed(luma, 20);
    const int64_t crv = fixed(chroma * 2 * (1 - kr), 16);
    const int64_t cbu = fixed(chroma * 2 * (1 - kb), 16);
    const int64_t cgv = -fixed(chroma * 2 * (1 - kr) * kr / kg, 16);
    const int64_t cgu = -fixed(chroma * 2 * (1 - kb) * kb / kg, 16);

    for (int y = 0; y < (int) image->height; y++) {
        for (int x = 0; x < (int) image->width; x++, rgb += 3) {
            if (s.yuv == 0) {
                for (int c = 0; c < 3; c++)
                    rgb[c] = (uint8_t) sample(image, &s, c, x, y);
                continue;
            }
            const int64_t l = cy * (sample(image, &s, 0, x, y) - (image->full_range ? 0 : 16));
            const int64_t u = s.yuv == 1 ? chroma16(image, &s, 1, x, y) - 2048 : 0;
            const int64_t v = s.yuv == 1 ? chroma16(image, &s, 2, x, y) - 2048 : 0;
            rgb[0] = level(l + crv * v);
            rgb[1] = level(l + cgu * u + cgv * v);
            rgb[2] = level(l + cbu * u);
        }
    }
}

static double cubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static double lanczos(double x, int lobes)
{
    if (x == 0)
        return 1;
    if (fabs(x) >= lobes)
        return 0;
    return lobes * sin(G_PI * x) * sin(G_PI * x / lobes) / (G_PI * G_PI * x * x);
}

static double triangle(double x)
{
    return fabs(x) < 1 ? 1 - fabs(x) : 0;
}

// One output of the filter: its first input, the number of inputs and their weights.
static int weights_of(double *w, int *first, int i, int n_in, int n_out, int lobes)
{
    const double scale = (double) n_in / n_out;
    const double support = (lobes ? lobes : 2) * (scale >= 1 ? scale : 1);
    const double inverse = scale >= 1 ? 1 / scale : 1;
    const double center = scale * (i + 0.5);
    double total = 0;

    *first = MAX((int) (center - support + 0.5), 0);
    int n = MIN((int) (center + support + 0.5), n_in) - *first;
    n = MIN(n, (int) ceil(support) * 2 + 1);
    for (int t = 0; t < n; t++) {
        const double x = (t + *first - center + 0.5) * inverse;
        w[t] = lobes == 1 ? triangle(x) : lobes ? lanczos(x, lobes) : cubic(x);
        total += w[t];
    }
    for (int t = 0; t < n; t++)
        w[t] /= total;
    return n;
}

// Filters n_line lines of n_in pixels; pixel i of line j is at src[j * line + i * step].
static void filter_lines(uint8_t *dst, size_t dst_line, size_t dst_step, int n_out,
                         const uint8_t *src, size_t line, size_t step, int n_in, int n_line,
                         int lobes)
{
    const double scale = (double) n_in / n_out;
    g_autofree double *w = g_new0(double, (size_t) (6 * MAX(scale, 1)) + 12);
    double largest = 0;
    int bits = 0, first, n;

    for (int i = 0; i < n_out; i++) {
        n = weights_of(w, &first, i, n_in, n_out, lobes);
        for (int t = 0; t < n; t++)
            largest = MAX(largest, w[t]);
    }
    while (bits < 22 && (int) (0.5 + largest * (1 << (bits + 1))) < 32768)
        bits++;
    for (int i = 0; i < n_out; i++) {
        n = weights_of(w, &first, i, n_in, n_out, lobes);
        for (int t = 0; t < n; t++)
            w[t] = trunc(w[t] * (1 << bits) + (w[t] < 0 ? -0.5 : 0.5));
        for (int j = 0; j < n_line; j++) {
            const uint8_t *from = src + (size_t) j * line + (size_t) first * step;
            double sum[3] = { 0 };  // integers below 2^53: exact
            for (int t = 0; t < n; t++) {
                for (int c = 0; c < 3; c++)
                    sum[c] += w[t] * from[(size_t) t * step + c];
            }
            for (int c = 0; c < 3; c++) {
                const double v = floor(sum[c] / (1 << bits) + 0.5);
                dst[(size_t) j * dst_line + (size_t) i * dst_step + c] = (uint8_t) CLAMP(v, 0, 255);
            }
        }
    }
}

void ref_pixels_resize(uint8_t *dst, uint32_t out_width, uint32_t out_height, const uint8_t *src,
                       uint32_t width, uint32_t height, int lobes)
{
    g_autofree uint8_t *half = g_new(uint8_t, (size_t) out_width * height * 3);

    filter_lines(half, (size_t) out_width * 3, 3, (int) out_width, src, (size_t) width * 3, 3,
                 (int) width, (int) height, lobes);
    filter_lines(dst, 3, (size_t) out_width * 3, (int) out_height, half, 3, (size_t) out_width * 3,
                 (int) height, (int) out_width, lobes);
}

void ref_pixels_patches(float *dst, uint32_t row_stride, const uint8_t *rgb, uint32_t width,
                        uint32_t height, uint32_t patch, uint32_t merge, uint32_t n_time,
                        uint32_t time, const float mean[3], const float std[3])
{
    size_t row = 0;

    for (uint32_t by = 0; by < height / patch; by += merge)
        for (uint32_t bx = 0; bx < width / patch; bx += merge)
            for (uint32_t py = by; py < by + merge; py++)
                for (uint32_t px = bx; px < bx + merge; px++, row++)
                    for (uint32_t c = 0; c < 3; c++)
                        for (uint32_t y = 0; y < patch; y++)
                            for (uint32_t x = 0; x < patch; x++) {
                                const size_t at =
                                    ((size_t) (py * patch + y) * width + px * patch + x) * 3 + c;
                                const size_t col =
                                    ((size_t) (c * n_time + time) * patch + y) * patch + x;
                                dst[row * row_stride + col] =
                                    ((float) rgb[at] - mean[c] * 255.0f) / (std[c] * 255.0f);
                            }
}
