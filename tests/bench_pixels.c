// SPDX-License-Identifier: LGPL-2.1-or-later
// bench_pixels.c — time of vlm_op_pixels() by size and format: wall and CPU ms per picture.
// Arguments: number of pictures per line (default 20). Prints figures, asserts none.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gpu/memory.h"
#include "ops/pixels.h"

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

static double wall_ms(void)
{
    return (double) g_get_monotonic_time() * 1e-3;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

static gboolean bench(vlm_device *dev, const char *name, vlm_pixel_format format, uint32_t width,
                      uint32_t height, uint32_t out_width, uint32_t out_height, int n,
                      GError **error)
{
    const size_t bytes = (size_t) width * height * 4;
    g_autofree uint8_t *memory = g_malloc0(bytes + 3 * 4 * VLM_MAX_SIDE);
    g_autofree double *wall = g_new(double, n);
    g_autofree double *cpu = g_new(double, n);
    const uint32_t wide = width * 4;  // at least a row of any format
    vlm_image image = { .format = format,
                        .width = width,
                        .height = height,
                        .plane = { memory, memory, memory },
                        .stride = { wide, wide, wide } };
    vlm_pixels_params params = { .out_width = out_width,
                                 .out_height = out_height,
                                 .patch = 16,
                                 .merge = 2,
                                 .n_time = 2,
                                 .mean = { 0.5f, 0.5f, 0.5f },
                                 .std = { 0.5f, 0.5f, 0.5f } };
    const uint32_t n_patch = out_width / 16 * (out_height / 16);
    vlm_pixels pixels;

    if (!vlm_pixels_layout(&image, &pixels, error))
        return FALSE;
    g_autoptr(vlm_buffer) picture = vlm_buffer_create(dev, pixels.bytes, VLM_MEMORY_UPLOAD, error);
    g_autoptr(vlm_buffer) out =
        vlm_buffer_create(dev, (size_t) n_patch * 1536 * 4, VLM_MEMORY_SCRATCH, error);
    g_autoptr(vlm_buffer) scratch = vlm_buffer_create(
        dev, vlm_pixels_scratch_bytes(&pixels, out_width, out_height), VLM_MEMORY_SCRATCH, error);
    g_autoptr(vlm_cmd) cmd =
        vlm_cmd_create(dev, vlm_pixels_args_bytes(&pixels, out_width, out_height), error);
    if (!picture || !out || !scratch || !cmd)
        return FALSE;
    const vlm_tensor patches = vlm_tensor_make(out->addr, n_patch, 1536);
    for (int i = -2; i < n; i++) {  // two runs to compile and warm up
        const double start = wall_ms(), used = cpu_ms();
        vlm_pixels_copy(&image, &pixels, picture->host);
        if (!vlm_cmd_begin(cmd, error)
            || !vlm_op_pixels(cmd, &patches, picture->addr, &pixels, scratch->addr, &params, error)
            || !vlm_cmd_run(cmd, error))
            return FALSE;
        if (i >= 0) {
            wall[i] = wall_ms() - start;
            cpu[i] = cpu_ms() - used;
        }
    }
    qsort(wall, (size_t) n, sizeof *wall, compare_doubles);
    qsort(cpu, (size_t) n, sizeof *cpu, compare_doubles);
    printf("%-5s %4ux%-4u to %3ux%-3u  %7.2f ms wall  %7.2f ms CPU (medians)  %7.2f CPU (best)\n",
           name, width, height, out_width, out_height, wall[n / 2], cpu[n / 2], cpu[0]);
    return TRUE;
}

int main(int argc, char **argv)
{
    static const uint32_t in[][2] = { { 1280, 720 }, { 1920, 1080 } };
    static const uint32_t out[][2] = { { 160, 96 }, { 448, 256 }, { 640, 352 } };
    static const struct {
        const char *name;
        vlm_pixel_format format;
    } formats[] = { { "NV12", VLM_PIXEL_NV12 },
                    { "I420", VLM_PIXEL_I420 },
                    { "YUY2", VLM_PIXEL_YUY2 },
                    { "RGB", VLM_PIXEL_RGB },
                    { "BGRX", VLM_PIXEL_BGRX } };
    const int n = argc > 1 ? atoi(argv[1]) : 20;
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_device) dev = NULL;

    if (n < 1 || n > 10000) {
        fprintf(stderr, "usage: bench_pixels [PICTURES]\n");
        return 2;
    }
    dev = vlm_device_create(&(vlm_device_params){ .caps_mask = VLM_CAPS_ALL }, &error);
    if (!dev) {
        fprintf(stderr, "%s\n", error->message);
        return 77;
    }
    printf("%s\n", dev->name);
    for (size_t f = 0; f < G_N_ELEMENTS(formats); f++) {
        for (size_t i = 0; i < G_N_ELEMENTS(in); i++) {
            for (size_t o = 0; o < (f == 0 ? G_N_ELEMENTS(out) : 1); o++) {
                if (!bench(dev, formats[f].name, formats[f].format, in[i][0], in[i][1], out[o][0],
                           out[o][1], n, &error)) {
                    fprintf(stderr, "%s\n", error->message);
                    return 1;
                }
            }
        }
    }
    return 0;
}
