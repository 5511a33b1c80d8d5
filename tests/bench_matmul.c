// SPDX-License-Identifier: LGPL-2.1-or-later
// bench_matmul.c — speed of products with packed weights.
//
//   bench_matmul [--device=NAME] [--type=NAME] [--tok=N,N,...] [--row=N] [--col=N] [--experts=N]
//                [--k=N] [--rounds=N]
//
// Prints GFLOP/s and GB/s of weights, by wall clock and by CPU time: on a CPU driver that shares
// the machine the latter is what compares kernels. Both are the best of the rounds. `first` is the
// CPU time of the first run, which includes the driver's compiler.
#define G_LOG_DOMAIN "bench"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/number.h"
#include "ops/ops.h"

typedef struct options {
    char *device, *type, *tok;
    int row, col, experts, k, rounds;
    gboolean table;
} options;

typedef struct bench {
    vlm_device *dev;
    vlm_cmd *cmd;
    GRand *rand;
} bench;

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void need(gboolean ok, GError *error)
{
    if (ok)
        return;
    fprintf(stderr, "%s\n", error->message);
    exit(1);
}

static vlm_buffer *buffer_new(bench *b, size_t bytes)
{
    GError *error = NULL;
    vlm_buffer *buf = vlm_buffer_create(b->dev, bytes, VLM_MEMORY_UPLOAD, &error);

    need(buf != NULL, error);
    return buf;
}

// Rows in the file's layout; block scales near 0.01.
static void fill_row(bench *b, vlm_dtype dtype, uint8_t *row, uint32_t n_col)
{
    const uint32_t bytes = vlm_dtype_block_bytes(dtype);
    const uint32_t n_block = n_col / vlm_dtype_block_elems(dtype);
    const uint16_t d = GUINT16_TO_LE(0x211f);

    for (uint32_t i = 0; i < n_block; i++, row += bytes) {
        const float x = (float) g_rand_double_range(b->rand, -1, 1);
        const uint16_t h = dtype == VLM_DTYPE_F16 ? vlm_f32_to_f16(x) : vlm_f32_to_bf16(x);

        if (dtype == VLM_DTYPE_F32) {
            memcpy(row, &x, 4);
            continue;
        }
        if (bytes == 2) {
            memcpy(row, &h, 2);
            continue;
        }
        for (uint32_t j = 0; j < bytes; j++)
            row[j] = (uint8_t) g_rand_int(b->rand);
        row[0] = 124;  // the exponent of MXFP4
        if (dtype != VLM_DTYPE_MXFP4 && dtype != VLM_DTYPE_Q3_K && dtype != VLM_DTYPE_Q6_K)
            memcpy(row, &d, 2);
        if (dtype == VLM_DTYPE_Q4_1 || dtype == VLM_DTYPE_Q5_1 || dtype == VLM_DTYPE_Q4_K
            || dtype == VLM_DTYPE_Q5_K)
            memcpy(row + 2, &d, 2);
        if (dtype == VLM_DTYPE_Q3_K || dtype == VLM_DTYPE_Q6_K || dtype == VLM_DTYPE_Q2_K)
            memcpy(row + bytes - 2, &d, 2);
        if (dtype == VLM_DTYPE_Q2_K)
            memcpy(row + bytes - 4, &d, 2);
    }
}

static vlm_buffer *weight_new(bench *b, vlm_weight *w, vlm_dtype dtype, uint32_t n_mat,
                              uint32_t n_row, uint32_t n_col)
{
    const uint32_t group = vlm_weight_row_group(b->dev);
    const uint64_t row_bytes = vlm_dtype_row_bytes(dtype, n_col);
    g_autofree uint8_t *rows = g_malloc(group * row_bytes);
    vlm_buffer *buf;

    *w = (vlm_weight){ .dtype = dtype,
                       .n_mat = n_mat,
                       .n_row = n_row,
                       .n_col = n_col,
                       .mat_bytes = vlm_weight_mat_bytes(b->dev, dtype, n_row, n_col) };
    buf = buffer_new(b, w->mat_bytes * n_mat);
    w->addr = buf->addr;
    for (uint32_t r = 0; r < group; r++)
        fill_row(b, dtype, rows + r * row_bytes, n_col);
    for (uint32_t m = 0; m < n_mat; m++)  // the same rows again and again: speed can't tell
        for (uint32_t r = 0; r < n_row; r += group)
            vlm_weight_pack(b->dev, w, rows, MIN(group, n_row - r),
                            (uint8_t *) buf->host + m * w->mat_bytes
                                + vlm_weight_row_offset(b->dev, w, r));
    return buf;
}

typedef struct job {
    vlm_weight weight;
    vlm_tensor dst, src;
    vlm_moe_plan plan;  // k == 0: not a mixture
} job;

static gboolean record(bench *b, const job *j, uint32_t n, GError **error)
{
    if (!vlm_cmd_begin(b->cmd, error))
        return FALSE;
    if (j->plan.k && !vlm_op_moe_plan(b->cmd, &j->plan, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++) {
        vlm_cmd_barrier(b->cmd);
        if (j->plan.k
                ? !vlm_op_moe_matmul(b->cmd, &j->dst, &j->src, &j->weight, &j->plan, TRUE, error)
                : !vlm_op_matmul(b->cmd, &j->dst, &j->src, &j->weight, NULL, error))
            return FALSE;
    }
    return TRUE;
}

static void run(bench *b, const options *opt, vlm_dtype dtype, uint32_t n_tok)
{
    const uint32_t k = opt->experts ? (uint32_t) opt->k : 1;
    const uint32_t n_row = (uint32_t) opt->row, n_col = (uint32_t) opt->col;
    const double flop = 2.0 * n_tok * k * n_row * n_col;
    // about 50 ms of one core
    const uint32_t n = (uint32_t) CLAMP(5e8 / flop, 1, 200);
    const uint32_t n_expert = MAX((uint32_t) opt->experts, 1);
    double first = 0, wall = INFINITY, cpu = INFINITY;
    GError *error = NULL;
    job j = { 0 };
    g_autoptr(vlm_buffer) weight = weight_new(b, &j.weight, dtype, n_expert, n_row, n_col);
    g_autoptr(vlm_buffer) src = buffer_new(b, (size_t) n_tok * n_col * 4);
    g_autoptr(vlm_buffer) dst = buffer_new(b, (size_t) n_tok * k * n_row * 4);
    g_autoptr(vlm_buffer) ids = buffer_new(b, (size_t) n_tok * k * 4);
    g_autoptr(vlm_buffer) plan =
        buffer_new(b, MAX(vlm_moe_plan_bytes(b->dev, n_tok, k, n_expert), 64));

    g_autoptr(vlm_buffer) table = buffer_new(b, 8 * (size_t) n_expert);

    g_assert_nonnull(weight);  // kept until the end of the run
    for (uint32_t m = 0; m < n_expert; m++)
        ((uint64_t *) table->host)[m] = m * j.weight.mat_bytes;
    if (opt->table)
        j.weight.table = table->addr;
    j.src = vlm_tensor_make(src->addr, n_tok, n_col);
    j.dst = vlm_tensor_make(dst->addr, n_tok * k, n_row);
    if (opt->experts)
        j.plan = (vlm_moe_plan){ plan->addr, ids->addr, n_tok, k, n_expert, 0 };
    for (size_t i = 0; i < (size_t) n_tok * n_col; i++)
        ((float *) src->host)[i] = (float) g_rand_double_range(b->rand, -1, 1);
    for (uint32_t s = 0; s < n_tok * k; s++)  // k experts next to each other, from a random one
        ((uint32_t *) ids->host)[s] =
            s % k ? (((uint32_t *) ids->host)[s - 1] + 1) % n_expert
                  : (uint32_t) g_rand_int_range(b->rand, 0, (gint32) n_expert);

    for (int round = -1; round < opt->rounds; round++) {
        const uint32_t times = round < 0 ? 1 : n;

        need(record(b, &j, times, &error), error);
        const gint64 t0 = g_get_monotonic_time();
        const double c0 = cpu_seconds();
        need(vlm_cmd_run(b->cmd, &error), error);
        const double t = (double) (g_get_monotonic_time() - t0) * 1e-6;
        if (round < 0) {
            first = cpu_seconds() - c0;
            continue;
        }
        wall = MIN(wall, t / times);
        cpu = MIN(cpu, (cpu_seconds() - c0) / times);
    }
    // every expert that has a slot is read at least once
    const double read = (double) j.weight.mat_bytes * MIN(n_tok * k, n_expert);
    printf("%-5s %4u tok [%5u, %5u]", vlm_dtype_name(dtype), n_tok, n_row, n_col);
    if (opt->experts)
        printf(" x %u of %u", k, n_expert);
    printf(
        "  %8.3f ms  %6.2f GFLOP/s  %6.2f per CPU-s  %6.2f GB/s  %6.2f per CPU-s  first %4.0f ms\n",
        wall * 1e3, flop / wall * 1e-9, flop / cpu * 1e-9, read / wall * 1e-9, read / cpu * 1e-9,
        first * 1e3);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const vlm_dtype types[] = {
        VLM_DTYPE_F32,  VLM_DTYPE_F16,    VLM_DTYPE_BF16,   VLM_DTYPE_Q8_0,
        VLM_DTYPE_Q4_0, VLM_DTYPE_Q4_1,   VLM_DTYPE_Q5_0,   VLM_DTYPE_Q5_1,
        VLM_DTYPE_Q2_K, VLM_DTYPE_Q3_K,   VLM_DTYPE_Q4_K,   VLM_DTYPE_Q5_K,
        VLM_DTYPE_Q6_K, VLM_DTYPE_IQ4_NL, VLM_DTYPE_IQ4_XS, VLM_DTYPE_MXFP4,
    };
    options opt = { .row = 1536, .col = 768, .k = 8, .rounds = 5 };
    GOptionEntry entries[] = {
        { "device", 0, 0, G_OPTION_ARG_STRING, &opt.device, "Device", "NAME" },
        { "type", 0, 0, G_OPTION_ARG_STRING, &opt.type, "This weight type only", "NAME" },
        { "tok", 0, 0, G_OPTION_ARG_STRING, &opt.tok, "Numbers of tokens", "N,N" },
        { "row", 0, 0, G_OPTION_ARG_INT, &opt.row, "Outputs", "N" },
        { "col", 0, 0, G_OPTION_ARG_INT, &opt.col, "Inputs, a multiple of 256", "N" },
        { "experts", 0, 0, G_OPTION_ARG_INT, &opt.experts, "Grouped products of N experts", "N" },
        { "k", 0, 0, G_OPTION_ARG_INT, &opt.k, "Experts per token", "N" },
        { "table", 0, 0, G_OPTION_ARG_NONE, &opt.table, "Experts with a table of their places",
          NULL },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &opt.rounds, "Rounds, the best counts", "N" },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(vlm_device) dev = NULL;
    g_autoptr(vlm_cmd) cmd = NULL;
    g_auto(GStrv) toks = NULL;
    GError *error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    need(g_option_context_parse(context, &argc, &argv, &error), error);
    dev = vlm_device_create(&(vlm_device_params){ .select = opt.device }, &error);
    if (!dev) {
        fprintf(stderr, "%s\n", error->message);
        return 77;
    }
    cmd = vlm_cmd_create(dev, 1 << 20, &error);
    need(cmd != NULL, error);
    bench b = { dev, cmd, g_rand_new_with_seed(1) };
    toks = g_strsplit(opt.tok ? opt.tok : "1,2,4,8,192", ",", -1);
    printf("%s, %s\n", dev->name, dev->driver);
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if (!opt.type || g_ascii_strcasecmp(opt.type, vlm_dtype_name(types[i])) == 0)
            for (char **t = toks; *t; t++)
                run(&b, &opt, types[i], (uint32_t) CLAMP(atoi(*t), 1, 65535));
    g_rand_free(b.rand);
    g_free(opt.device);
    g_free(opt.type);
    g_free(opt.tok);
    return 0;
}
