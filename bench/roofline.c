// SPDX-License-Identifier: LGPL-2.1-or-later
// bench/roofline.c — what the device can do at most, as JSON: the limit that speeds are held to.
//
//   roofline [--device DEVICE]
//
// {"device": ..., "bytes_per_second": ..., "operations_per_second": ...}: the best of several runs
// of the kernels of ops/roofline.h, an operation being one f32 multiplication or addition. For a
// CPU driver the same is measured in plain C on all processors, and the better of the two is
// given: what the driver's compiler makes of a kernel is no limit of the machine.
#include "ops/roofline.h"

#include "args.h"

#include <stdio.h>
#include <string.h>

#define SECONDS 0.4  // per measurement

typedef struct rates {
    double bytes, operations;  // per second
} rates;

static double seconds_since(gint64 start)
{
    return 1e-6 * (double) (g_get_monotonic_time() - start);
}

// ------------------------------------------------------------------------------ device

// Seconds of the fastest run of one kernel; 0 with an error.
static double best_run(vlm_cmd *cmd, gboolean read, uint64_t dst, uint64_t src, uint32_t n_group,
                       uint32_t n_step, GError **error)
{
    const gint64 start = g_get_monotonic_time();
    double best = 0;

    for (int i = 0; i < 3 || seconds_since(start) < SECONDS; i++) {
        gint64 at;
        if (!vlm_cmd_begin(cmd, error)
            || !(read ? vlm_op_roofline_read : vlm_op_roofline_fma)(cmd, dst, src, n_group, n_step,
                                                                    error))
            return 0;
        at = g_get_monotonic_time();
        if (!vlm_cmd_run(cmd, error))
            return 0;
        if (i > 0 && (best == 0 || seconds_since(at) < best))  // the first compiles
            best = seconds_since(at);
    }
    return best;
}

static gboolean measure_device(vlm_device *dev, rates *out, GError **error)
{
    const gboolean cpu = dev->type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    const uint32_t n_group = cpu ? 1024 : 16384;
    const uint32_t step = vlm_roofline_step_bytes(dev);
    const uint32_t n_read = MAX((cpu ? 128u << 20 : 1u << 30) / n_group / step, 1);
    const uint32_t n_fma = cpu ? 2048 : 16384;
    const double bytes = (double) n_group * n_read * step;
    const double operations =
        2.0 * VLM_ROOFLINE_CHAINS * n_fma * (double) n_group * dev->subgroup_size;
    g_autoptr(vlm_buffer) src = vlm_buffer_create(dev, (size_t) bytes, VLM_MEMORY_SCRATCH, error);
    g_autoptr(vlm_buffer) dst = vlm_buffer_create(dev, (size_t) n_group * dev->subgroup_size * 4,
                                                  VLM_MEMORY_SCRATCH, error);
    g_autoptr(vlm_buffer) factors = vlm_buffer_create(dev, 8, VLM_MEMORY_UPLOAD, error);
    g_autoptr(vlm_cmd) cmd = vlm_cmd_create(dev, 1u << 16, error);
    double seconds;

    if (!src || !dst || !factors || !cmd)
        return FALSE;
    ((float *) factors->host)[0] = 0.999f;
    ((float *) factors->host)[1] = 0.001f;
    seconds = best_run(cmd, TRUE, dst->addr, src->addr, n_group, n_read, error);
    if (seconds == 0)
        return FALSE;
    out->bytes = bytes / seconds;
    seconds = best_run(cmd, FALSE, dst->addr, factors->addr, n_group, n_fma, error);
    if (seconds == 0)
        return FALSE;
    out->operations = operations / seconds;
    return TRUE;
}

// ------------------------------------------------------------------------------ processors

// One thread's part.
typedef struct share {
    const uint64_t *words;
    size_t n_word;
    guint n_fma;
    uint64_t sum;
    float result;
} share;

static gpointer read_share(gpointer data)
{
    share *s = data;
    uint64_t sum[8] = { 0 };

    for (size_t i = 0; i + 8 <= s->n_word; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += s->words[i + (size_t) k];
    for (int k = 0; k < 8; k++)
        s->sum += sum[k];
    return NULL;
}

// Twelve chains: enough for two units with a latency of five. A function for every width that the
// compiler can't choose by itself when the program starts.
#define CHAINS 12
#define FMA_LOOP(name, width, target)                                                              \
    target static float name(guint n)                                                              \
    {                                                                                              \
        typedef float wide __attribute__((vector_size(4 * (width))));                              \
        const wide x = (wide){ 0 } + 0.999f, y = (wide){ 0 } + 0.001f;                             \
        wide a[CHAINS];                                                                            \
        float sum = 0;                                                                             \
                                                                                                   \
        for (int k = 0; k < CHAINS; k++)                                                           \
            a[k] = x * (float) k;                                                                  \
        for (guint i = 0; i < n; i++)                                                              \
            for (int k = 0; k < CHAINS; k++)                                                       \
                a[k] = a[k] * x + y;                                                               \
        for (int k = 0; k < CHAINS; k++)                                                           \
            sum += a[k][0];                                                                        \
        return sum;                                                                                \
    }
FMA_LOOP(fma_4, 4, )
#if defined(__x86_64__)
FMA_LOOP(fma_8, 8, __attribute__((target("avx2,fma"))))
FMA_LOOP(fma_16, 16, __attribute__((target("avx512f"))))
#endif

// Multiply-adds of one vector instruction here.
static guint fma_width(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 8;
#endif
    return 4;
}

static gpointer fma_share(gpointer data)
{
    share *s = data;

    switch (fma_width()) {
#if defined(__x86_64__)
    case 16:
        s->result = fma_16(s->n_fma);
        break;
    case 8:
        s->result = fma_8(s->n_fma);
        break;
#endif
    default:
        s->result = fma_4(s->n_fma);
    }
    return NULL;
}

// Seconds of the fastest of several rounds of all threads.
static double best_threads(GThreadFunc part, share *shares, guint n)
{
    const gint64 start = g_get_monotonic_time();
    g_autofree GThread **threads = g_new(GThread *, n);
    double best = 0;

    for (int i = 0; i < 3 || seconds_since(start) < SECONDS; i++) {
        const gint64 at = g_get_monotonic_time();
        for (guint t = 0; t < n; t++)
            threads[t] = g_thread_new("roofline", part, &shares[t]);
        for (guint t = 0; t < n; t++)
            g_thread_join(threads[t]);
        if (i > 0 && (best == 0 || seconds_since(at) < best))
            best = seconds_since(at);
    }
    return best;
}

static void measure_processors(rates *out)
{
    const guint n = g_get_num_processors(), n_fma = 1u << 22;
    const size_t n_word = (size_t) 16 << 20;  // of each thread: far more than a cache
    g_autofree uint64_t *words = g_new(uint64_t, n_word * n);
    g_autofree share *shares = g_new0(share, n);

    memset(words, 1, n_word * n * 8);
    for (guint t = 0; t < n; t++)
        shares[t] = (share){ .words = words + t * n_word, .n_word = n_word, .n_fma = n_fma };
    out->bytes = (double) (n_word * n * 8) / best_threads(read_share, shares, n);
    out->operations =
        2.0 * fma_width() * CHAINS * n_fma * (double) n / best_threads(fma_share, shares, n);
}

int main(int argc, char **argv)
{
    const gboolean named = argc == 3 && g_str_equal(argv[1], "--device");
    g_autoptr(GError) error = NULL;
    rates device = { 0 }, host = { 0 };

    if (argc != 1 && !named) {
        fprintf(stderr, "usage: roofline [--device DEVICE]\n");
        return 2;
    }
    g_autoptr(vlm_device) dev =
        vlm_device_create(&(vlm_device_params){ .select = named ? argv[2] : NULL }, &error);
    if (!dev || !measure_device(dev, &device, &error)) {
        fprintf(stderr, "roofline: %s\n", error->message);
        return 1;
    }
    if (dev->type == VK_PHYSICAL_DEVICE_TYPE_CPU)
        measure_processors(&host);
    printf("{\"device\": \"%s\", \"bytes_per_second\": %.4g, \"operations_per_second\": %.4g, "
           "\"kernel_bytes_per_second\": %.4g, \"kernel_operations_per_second\": %.4g}\n",
           dev->name, MAX(device.bytes, host.bytes), MAX(device.operations, host.operations),
           device.bytes, device.operations);
    return 0;
}
