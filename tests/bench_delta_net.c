// SPDX-License-Identifier: LGPL-2.1-or-later
// bench_delta_net.c — how fast the layers with a recurrent state run on the first device.
//
//   bench_delta_net [CASE]
//
// Prints per case the first run (with the driver's compilation), the best wall time of the rest,
// and work per CPU-second of this process, as bench_attention. Nothing is judged.
#include "gpu/memory.h"
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct bench_case {
    const char *name;
    gboolean conv;
    vlm_delta_shape shape;
    uint32_t n_tok;  // of each sequence
    uint32_t n_seq;
} bench_case;

static const bench_case cases[] = {
    { "delta 16/32 x 128, 1 token", FALSE, { 16, 32, 128 }, 1, 1 },
    { "delta 16/32 x 128, 128 tokens", FALSE, { 16, 32, 128 }, 128, 1 },
    { "delta 16/32 x 128, 8 x 1 token", FALSE, { 16, 32, 128 }, 1, 8 },
    { "conv 8192, 1 token", TRUE, { 16, 32, 128 }, 1, 1 },
    { "conv 8192, 128 tokens", TRUE, { 16, 32, 128 }, 128, 1 },
};

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

// One buffer for everything; offsets count floats.
typedef struct bench {
    vlm_cmd *cmd;
    vlm_buffer *memory;
    size_t n_used;
} bench;

static uint64_t take(bench *b, size_t n, float base)
{
    float *x = (float *) b->memory->host + b->n_used;
    const uint64_t addr = b->memory->addr + b->n_used * 4;

    for (size_t i = 0; i < n; i++)
        x[i] = base + 0.1f * sinf((float) (i * 37 % 1013));
    b->n_used += (n + 63) & ~(size_t) 63;
    return addr;
}

static gboolean run_case(vlm_device *dev, const bench_case *c, GError **error)
{
    const uint32_t d = c->shape.head_dim, hv = c->shape.n_v_head, n_row = c->n_tok * c->n_seq;
    const uint32_t n_qkv = (2 * c->shape.n_k_head + hv) * d;
    const size_t n_state =
        (size_t) (c->conv ? vlm_conv_state_bytes(n_qkv) : vlm_delta_state_bytes(&c->shape)) / 4;
    const double flops = c->conv ? 8.0 * n_qkv * n_row : 7.0 * hv * d * d * n_row;
    const double bytes = 8.0 * (double) n_state * c->n_seq;
    g_autoptr(vlm_cmd) cmd = vlm_cmd_create(dev, 1u << 20, error);
    g_autoptr(vlm_buffer) memory =
        vlm_buffer_create(dev, (n_state * c->n_seq + (size_t) 2 * n_row * n_qkv + 8 * n_qkv) * 4,
                          VLM_MEMORY_UPLOAD, error);
    bench b = { .cmd = cmd, .memory = memory };
    double first = 0, best = 1e9, cpu = 1e9;

    if (!cmd || !memory)
        return FALSE;
    const vlm_tensor qkv = vlm_tensor_make(take(&b, (size_t) n_row * n_qkv, 0.1f), n_row, n_qkv);
    const vlm_tensor dst = vlm_tensor_make(take(&b, (size_t) n_row * hv * d, 0), n_row, hv * d);
    const vlm_tensor gate = vlm_tensor_make(take(&b, (size_t) n_row * hv, 0), n_row, hv);
    const uint64_t weight = take(&b, 4 * (size_t) n_qkv, 0.2f), a = take(&b, hv, -0.5f);
    const uint64_t states = take(&b, n_state * c->n_seq, 0);
    vlm_state_rows rows[8];
    for (uint32_t i = 0; i < c->n_seq; i++)
        rows[i] = (vlm_state_rows){ states + i * n_state * 4, i * c->n_tok, c->n_tok };
    const gint64 start = g_get_monotonic_time();
    for (int i = 0; i < 3 || (i < 60 && g_get_monotonic_time() - start < 2000000); i++) {
        const gint64 at = g_get_monotonic_time();
        const double cpu0 = cpu_seconds();
        uint64_t table = 0;
        if (!vlm_cmd_begin(cmd, error)
            || !vlm_cmd_table(cmd, rows, c->n_seq * sizeof *rows, &table, error)
            || !(c->conv ? vlm_op_causal_conv(cmd, &qkv, &qkv, weight, table, c->n_seq, 0, error)
                         : vlm_op_delta_rule(cmd, &dst, &qkv, &gate, &gate, a, a, &c->shape, table,
                                             c->n_seq, 0, error))
            || !vlm_cmd_run(cmd, error))
            return FALSE;
        const double wall = 1e-6 * (double) (g_get_monotonic_time() - at);
        if (i == 0)
            first = wall;
        else
            best = MIN(best, wall);
        if (i > 0)
            cpu = MIN(cpu, cpu_seconds() - cpu0);
    }
    printf("%-30s first %6.0f ms  best %8.3f ms  %6.2f GFLOP/s  per CPU-s %6.2f GFLOP %5.2f GB\n",
           c->name, 1e3 * first, 1e3 * best, 1e-9 * flops / best, 1e-9 * flops / cpu,
           1e-9 * bytes / cpu);
    return TRUE;
}

int main(int argc, char **argv)
{
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
        if (!run_case(dev, &cases[i], &error)) {
            fprintf(stderr, "%s: %s\n", cases[i].name, error->message);
            return 1;
        }
    }
    return 0;
}
