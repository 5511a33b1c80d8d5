// SPDX-License-Identifier: LGPL-2.1-or-later
// bench_attention.c — how fast attention runs on the first device.
//
//   bench_attention [CASE [TYPE]]      a part of the case's name; f16, q8 or q4
//
// Prints per case: the first run (with the driver's compilation), the best wall time of the rest,
// and work per CPU-second of this process, which on a CPU driver and a shared machine is the
// steadier figure. Nothing is judged.
#include "gpu/memory.h"
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench_case {
    const char *name;
    uint32_t head_dim;
    uint32_t n_head;
    uint32_t n_kv_head;  // 0: full attention within images
    uint32_t n_tok;
    uint32_t slot0;  // full attention: number of images
} bench_case;

static const bench_case cases[] = {
    { "prefill 512 hd 64 8/2", 64, 8, 2, 512, 0 },
    { "prefill 256 @2048 hd 128 8/2", 128, 8, 2, 256, 2048 },
    { "decode @8192 hd 64 9/3", 64, 9, 3, 1, 8192 },
    { "decode @8192 hd 128 16/2", 128, 16, 2, 1, 8192 },
    { "decode @8192 hd 128 4/4", 128, 4, 4, 1, 8192 },
    { "prefill 240 @1000 hd 32 6/2", 32, 6, 2, 240, 1000 },
    { "decode @2048 hd 32 6/2", 32, 6, 2, 1, 2048 },
    { "full 2 x 256 hd 64 4", 64, 4, 0, 256, 2 },
    { "full 2 x 256 hd 32 4", 32, 4, 0, 256, 2 },
    { "full 1 x 880 hd 72 2", 72, 2, 0, 880, 1 },
};

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = sinf((float) (i * 37 % 1013));
}

typedef struct bench {
    vlm_cmd *cmd;
    vlm_tensor dst;
    vlm_tensor src;
    vlm_kv_layout kv;
    vlm_kv_sequence seq;
} bench;

static gboolean record(const bench *b, const bench_case *c, GError **error)
{
    const float scale = 1.0f / sqrtf((float) c->head_dim);

    if (!vlm_cmd_begin(b->cmd, error))
        return FALSE;
    return c->n_kv_head ? vlm_op_attention(b->cmd, &b->dst, &b->src, &b->seq, 1, &b->kv, 0,
                                           c->n_head, scale, error)
                        : vlm_op_attention_full(b->cmd, &b->dst, &b->src, c->n_tok, c->n_head,
                                                c->head_dim, scale, FALSE, error);
}

static gboolean time_case(const bench *b, const bench_case *c, GError **error)
{
    const uint32_t width = c->n_head * c->head_dim;
    static const char *const names[VLM_N_KV_TYPE] = { "f16", "f32", "q8", "q4" };
    double flops, bytes = 0, first = 0, best = 1e9, cpu0 = 0, cpu = 1e9;
    const gint64 start = g_get_monotonic_time();

    if (c->n_kv_head) {
        flops = 4.0 * width * c->n_tok * (c->slot0 + 0.5 * (c->n_tok + 1));
        bytes = 2.0 * (double) vlm_kv_half_bytes(&b->kv) / 64 * (c->slot0 + c->n_tok);
    } else {
        flops = 4.0 * width * c->n_tok * c->n_tok * c->slot0;
    }
    for (int i = 0; i < 3 || (i < 60 && g_get_monotonic_time() - start < 2000000); i++) {
        const gint64 at = g_get_monotonic_time();
        cpu0 = cpu_seconds();
        if (!record(b, c, error) || !vlm_cmd_run(b->cmd, error))
            return FALSE;
        const double wall = 1e-6 * (double) (g_get_monotonic_time() - at);
        if (i == 0) {
            first = wall;
            continue;
        }
        best = MIN(best, wall);
        cpu = MIN(cpu, cpu_seconds() - cpu0);
    }
    printf("%-30s %s first %6.0f ms  best %8.3f ms  %6.2f GFLOP/s  per CPU-s %6.2f GFLOP", c->name,
           c->n_kv_head ? names[b->kv.type] : "   ", 1e3 * first, 1e3 * best, 1e-9 * flops / best,
           1e-9 * flops / cpu);
    if (c->n_tok == 1)
        printf("  %5.2f GB of KV", 1e-9 * bytes / cpu);
    printf("\n");
    return TRUE;
}

static gboolean run_case(vlm_device *dev, const bench_case *c, vlm_kv_type type, GError **error)
{
    const uint32_t width = c->n_head * c->head_dim;
    const uint32_t rows = c->n_kv_head ? c->n_tok : c->n_tok * c->slot0;
    const uint32_t src_width = c->n_kv_head ? width : 3 * width;
    const uint32_t n_page = c->n_kv_head ? (c->slot0 + c->n_tok - 1) / 64 + 1 : 1;
    const vlm_kv_layout kv = { type, 1, MAX(c->n_kv_head, 1), c->head_dim };
    const size_t page_bytes = (size_t) vlm_kv_page_bytes(&kv);
    g_autoptr(vlm_buffer) src =
        vlm_buffer_create(dev, (size_t) rows * src_width * 4, VLM_MEMORY_UPLOAD, error);
    g_autoptr(vlm_buffer) dst =
        vlm_buffer_create(dev, (size_t) rows * width * 4, VLM_MEMORY_SCRATCH, error);
    g_autoptr(vlm_buffer) pages =
        vlm_buffer_create(dev, n_page * page_bytes, VLM_MEMORY_UPLOAD, error);
    g_autoptr(vlm_buffer) table =
        vlm_buffer_create(dev, n_page * sizeof(vlm_kv_page), VLM_MEMORY_UPLOAD, error);
    g_autoptr(vlm_cmd) cmd = vlm_cmd_create(dev, 1u << 20, error);

    if (!src || !dst || !pages || !table || !cmd)
        return FALSE;
    fill(src->host, (size_t) rows * src_width);
    // halves that make scales, too
    for (size_t i = 0; i < n_page * page_bytes / 2; i++)
        ((uint16_t *) pages->host)[i] = (uint16_t) (0x3000 + i * 977 % 0x800);
    for (uint32_t i = 0; i < n_page; i++)
        ((vlm_kv_page *) table->host)[i] = (vlm_kv_page){ pages->addr + i * page_bytes, 0, 64 };

    const bench b = {
        .cmd = cmd,
        .dst = vlm_tensor_make(dst->addr, rows, width),
        .src = vlm_tensor_make(src->addr, rows, src_width),
        .kv = kv,
        .seq = { table->addr, n_page, 0, c->n_tok, c->slot0 },
    };
    return time_case(&b, c, error);
}

static vlm_kv_type wanted(const char *name)
{
    return strcmp(name, "q8") == 0 ? VLM_KV_Q8 : strcmp(name, "q4") == 0 ? VLM_KV_Q4 : VLM_KV_F16;
}

int main(int argc, char **argv)
{
    static const vlm_kv_type types[] = { VLM_KV_F16, VLM_KV_Q8, VLM_KV_Q4 };
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_device) dev = vlm_device_create(&(vlm_device_params){ .caps_mask = 0 }, &error);

    if (!dev) {
        fprintf(stderr, "%s\n", error->message);
        return g_error_matches(error, VLM_ERROR, VLM_ERROR_NO_DEVICE) ? 77 : 1;
    }
    printf("%s, driver version 0x%x\n", dev->name, dev->driver_version);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (argc > 1 && !strstr(cases[i].name, argv[1]))
            continue;
        for (size_t t = 0; t < (cases[i].n_kv_head ? G_N_ELEMENTS(types) : 1); t++) {
            if (argc > 2 && types[t] != wanted(argv[2]))
                continue;
            if (!run_case(dev, &cases[i], types[t], &error)) {
                fprintf(stderr, "%s: %s\n", cases[i].name, error->message);
                return 1;
            }
        }
    }
    return 0;
}
