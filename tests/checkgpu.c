// SPDX-License-Identifier: LGPL-2.1-or-later
// checkgpu.c — every kernel on every device against the C reference.
//
//   checkgpu [--list] [--op=NAME] [--device=N] [--caps=MASK] [--tall]
//            [--tuning=least|most|NAME=VALUE,..] [--seed=N] [--validate]
//
// Runs each op under a ladder of capabilities, so that each variant gets its turn, and ends
// with the question whether every kernel the device can run was dispatched. With --tuning only the
// ops that have sizes to tune are run, with the least or the most of each, or with those that are
// named. Exit: 0 fine, 1 failure, 77 no device.
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const check_kv_name[VLM_N_KV_TYPE] = { "f16", "f32", "q8", "q4" };

const char *const check_fill_name[N_FILL + 1] = {
    "zero", "one", "large", "tiny", "one-hot", "normal", "offset", "least",
};

static const struct {
    const char *name;
    void (*run)(check *ck);
    gboolean tall;   // has cases of its own for tall matrices
    gboolean tuned;  // has kernels whose sizes a tuning can change
} ops[] = {
    { "attention", check_attention, TRUE, TRUE },
    { "delta_net", check_delta_net, FALSE, FALSE },
    { "fused", check_fused, FALSE, TRUE },
    { "matmul", check_matmul, TRUE, TRUE },
    { "moe", check_moe, TRUE, TRUE },
    { "norm", check_norm, FALSE, FALSE },
    { "pixels", check_pixels, FALSE, FALSE },
    { "rope", check_rope, FALSE, FALSE },
    { "roofline", check_roofline, FALSE, FALSE },
    { "rows", check_rows, FALSE, FALSE },
};

// Products that round activations take the place of others where they can, and of the two ways to
// use matrix units a device takes the better. Both also with matrices of 16 rows, as GPUs have.
typedef struct rung {
    uint32_t caps;
    gboolean tall;
} rung;

static const rung ladder[] = {
    { 0, FALSE },
    { VLM_CAP_INT_DOT, FALSE },
    { VLM_CAP_COOPMAT, FALSE },
    { VLM_CAPS_ALL & ~VLM_CAP_INT_DOT, FALSE },
    { VLM_CAP_COOPMAT, TRUE },
    { VLM_CAP_COOPMAT | VLM_CAP_COOPMAT2, TRUE },
};

check_buf *check_buf_new(check *ck, size_t bytes)
{
    g_autoptr(GError) error = NULL;
    check_buf *cb = g_new0(check_buf, 1);

    g_assert(bytes % 4 == 0);
    cb->buf = vlm_buffer_create(ck->dev, bytes + 2 * GUARD_BYTES, VLM_MEMORY_UPLOAD, &error);
    g_assert_no_error(error);
    guard_fill(cb->buf->host, bytes);
    cb->data = (char *) cb->buf->host + GUARD_BYTES;
    cb->addr = cb->buf->addr + GUARD_BYTES;
    cb->bytes = bytes;
    return cb;
}

void check_buf_free(check_buf *cb)
{
    vlm_buffer_destroy(cb->buf);
    g_free(cb);
}

// Box-Muller; the other half of the pair is thrown away.
static double normal(GRand *rand)
{
    double u = 1.0 - g_rand_double(rand);
    return sqrt(-2.0 * log(u)) * cos(2.0 * G_PI * g_rand_double(rand));
}

void check_fill_f32(check *ck, float *dst, size_t n, check_fill fill)
{
    size_t hot = (size_t) g_rand_int_range(ck->rand, 0, (gint32) n);

    for (size_t i = 0; i < n; i++) {
        switch (fill) {
        case FILL_ZERO:
            dst[i] = 0.0f;
            break;
        case FILL_ONE:
            dst[i] = 1.0f;
            break;
        case FILL_LARGE:
            dst[i] = i % 2 ? 1e15f : -1e15f;
            break;
        case FILL_TINY:
            dst[i] = 1e-12f;
            break;
        case FILL_LEAST:
            dst[i] = 0x1p-126f;
            break;
        case FILL_ONE_HOT:
            dst[i] = i == hot ? 3.0f : 0.0f;
            break;
        case FILL_NORMAL:
            dst[i] = (float) normal(ck->rand);
            break;
        default:
            dst[i] = (float) (1000.0 + normal(ck->rand));
            break;
        }
    }
}

void check_fill_i8(check *ck, gint8 *dst, size_t n, check_fill fill)
{
    size_t hot = (size_t) g_rand_int_range(ck->rand, 0, (gint32) n);

    for (size_t i = 0; i < n; i++) {
        switch (fill) {
        case FILL_ZERO:
            dst[i] = 0;
            break;
        case FILL_ONE:
            dst[i] = 1;
            break;
        case FILL_LARGE:
            dst[i] = -128;
            break;
        case FILL_TINY:
            dst[i] = -1;
            break;
        case FILL_ONE_HOT:
            dst[i] = i == hot ? 127 : 0;
            break;
        default:
            dst[i] = (gint8) g_rand_int_range(ck->rand, -128, 128);
            break;
        }
    }
}

void check_verdict(check *ck, const char *what, char *why)
{
    ck->n_case++;
    if (!why)
        return;
    ck->n_fail++;
    printf(
        "FAIL %s %s on %s: %s\n     repeat: checkgpu --op=%s --device=%u --caps=0x%x%s --seed=%u\n",
        ck->op, what, ck->dev->name, why, ck->op, ck->device_index, ck->dev->caps,
        ck->dev->tall_matrices ? " --tall" : "", ck->seed);
    g_free(why);
}

gboolean check_run(check *ck, gboolean recorded, GError *error, check_buf *const *bufs, size_t n,
                   const char *what)
{
    g_autoptr(GError) run_error = NULL;

    if (!recorded || !vlm_cmd_run(ck->cmd, &run_error)) {
        check_verdict(ck, what, g_strdup(recorded ? run_error->message : error->message));
        return FALSE;
    }
    for (size_t i = 0; i < n; i++) {
        char *why = guard_check(bufs[i]->buf->host, bufs[i]->bytes);
        if (why) {
            check_verdict(ck, what, why);
            return FALSE;
        }
    }
    return TRUE;
}

typedef struct options {
    char *op, *tuning;
    int device;
    int caps;
    int seed;
    gboolean list;
    gboolean tall;
    gboolean validate;
} options;

// What the rungs of a device have come to.
typedef struct climbed {
    uint32_t have;                    // caps of the device
    rung used[G_N_ELEMENTS(ladder)];  // those that were run
    guint n_used;
    guint n_dispatch[VLM_N_KERNEL];
} climbed;

// Gives a device the least or the most of all sizes, or those in a text.
static gboolean tune(vlm_device *dev, const char *text, GError **error)
{
    const gboolean least = g_str_equal(text, "least");

    if (!least && !g_str_equal(text, "most"))
        return vlm_tuning_parse(dev, text, error);
    for (guint i = 0; i < VLM_N_TUNABLE; i++) {
        const vlm_tunable_info *info = vlm_tunable_get_info(i);
        vlm_tuning_set(dev, i, info->values[least ? 0 : info->n_value - 1]);
    }
    return TRUE;
}

// One rung: opens the device and runs the ops, unless a rung before came to the same. FALSE: there
// is no such device.
static gboolean run_rung(const options *opt, guint index, rung r, climbed *sum, guint *n_case,
                         guint *n_fail)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *select = g_strdup_printf("%u", index);
    g_autoptr(vlm_device) dev = vlm_device_create(&(vlm_device_params){ .select = select,
                                                                        .caps_mask = r.caps,
                                                                        .slow_caps = TRUE,
                                                                        .tall_matrices = r.tall,
                                                                        .validate = opt->validate },
                                                  &error);

    if (!dev) {
        if (!g_error_matches(error, VLM_ERROR, VLM_ERROR_NO_DEVICE)) {
            printf("FAIL device %u: %s\n", index, error->message);
            ++*n_fail;
        }
        return FALSE;
    }
    if (opt->tuning && !tune(dev, opt->tuning, &error)) {
        printf("FAIL %s\n", error->message);
        ++*n_fail;
        return FALSE;
    }
    sum->have = dev->caps_have;
    for (guint i = 0; i < sum->n_used; i++)
        if (sum->used[i].caps == dev->caps && sum->used[i].tall == dev->tall_matrices)
            return TRUE;
    sum->used[sum->n_used++] = (rung){ dev->caps, dev->tall_matrices };
    for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
        g_autoptr(vlm_cmd) cmd = NULL;
        check ck = {
            .dev = dev, .seed = (guint32) opt->seed, .op = ops[i].name, .device_index = index
        };

        if ((opt->op && strcmp(opt->op, ops[i].name) != 0) || (dev->tall_matrices && !ops[i].tall)
            || (opt->tuning && !ops[i].tuned))
            continue;
        cmd = vlm_cmd_create(dev, 4u << 20, &error);
        g_assert_no_error(error);
        ck.cmd = cmd;
        ck.rand = g_rand_new_with_seed(ck.seed);
        ops[i].run(&ck);
        g_rand_free(ck.rand);
        printf("%-4s %-10s caps 0x%x%s  %4u cases  %s\n", ck.n_fail ? "FAIL" : "ok", ops[i].name,
               dev->caps, dev->tall_matrices ? " tall" : "", ck.n_case, dev->name);
        fflush(stdout);
        *n_case += ck.n_case;
        *n_fail += ck.n_fail;
    }
    for (guint k = 0; k < VLM_N_KERNEL; k++)
        sum->n_dispatch[k] += (guint) dev->n_dispatch[k];
    if (dev->n_validation) {
        printf("FAIL device %u: %d validation messages\n", index, dev->n_validation);
        ++*n_fail;
    }
    return TRUE;
}

int main(int argc, char **argv)
{
    options opt = { .device = -1, .caps = -1, .seed = 1 };
    GOptionEntry entries[] = {
        { "list", 0, 0, G_OPTION_ARG_NONE, &opt.list, "List kernels", NULL },
        { "op", 0, 0, G_OPTION_ARG_STRING, &opt.op, "This op only", "NAME" },
        { "device", 0, 0, G_OPTION_ARG_INT, &opt.device, "This device only", "N" },
        { "caps", 0, 0, G_OPTION_ARG_INT, &opt.caps, "These caps only", "MASK" },
        { "tall", 0, 0, G_OPTION_ARG_NONE, &opt.tall, "With --caps: matrices of 16 rows", NULL },
        { "tuning", 0, 0, G_OPTION_ARG_STRING, &opt.tuning,
          "Ops with sizes to tune only, with these", "least|most|NAME=VALUE,.." },
        { "seed", 0, 0, G_OPTION_ARG_INT, &opt.seed, "Random seed", "N" },
        { "validate", 0, 0, G_OPTION_ARG_NONE, &opt.validate, "Use the validation layer", NULL },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    guint n_device = 0, n_case = 0, n_fail = 0;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    if (opt.list) {
        for (guint k = 0; k < VLM_N_KERNEL; k++)
            printf("%-18s caps 0x%x\n", vlm_kernel_get_info(k)->name, vlm_kernel_get_info(k)->caps);
        return 0;
    }

    for (guint index = opt.device < 0 ? 0 : (guint) opt.device; index < 16; index++) {
        climbed sum = { 0 };
        gboolean opened = FALSE;

        if (opt.device >= 0 && index != (guint) opt.device)
            break;
        for (size_t i = 0; i < G_N_ELEMENTS(ladder); i++) {
            const rung asked = { (uint32_t) opt.caps, opt.tall };
            if (opt.caps >= 0 && i > 0)
                break;
            if (run_rung(&opt, index, opt.caps < 0 ? ladder[i] : asked, &sum, &n_case, &n_fail))
                opened = TRUE;
        }
        n_device += opened;
        for (guint k = 0; opened && !opt.op && !opt.tuning && opt.caps < 0 && k < VLM_N_KERNEL;
             k++) {
            const vlm_kernel_info *info = vlm_kernel_get_info(k);
            if ((info->caps & sum.have) != info->caps) {
                printf("skip %s: device %u lacks caps 0x%x\n", info->name, index,
                       info->caps & ~sum.have);
            } else if (sum.n_dispatch[k] == 0) {
                printf("FAIL %s: never dispatched on device %u\n", info->name, index);
                n_fail++;
            } else {
                printf("     %-16s %5u dispatches\n", info->name, sum.n_dispatch[k]);
            }
        }
    }
    printf("%u devices, %u cases, %u failures\n", n_device, n_case, n_fail);
    g_free(opt.op);
    g_free(opt.tuning);
    return n_fail ? 1 : n_device ? 0 : 77;
}
