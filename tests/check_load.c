// SPDX-License-Identifier: LGPL-2.1-or-later
// check_load.c — what loading a model takes of the host's memory, and that staging changes nothing.
//
//   check_load TEXT.gguf MMPROJ.gguf
//
// The files are loaded twice: into memory that the host sees, and as on a discrete GPU, where all
// goes through staging. TAP output; exit status 77 without a device.
#include <stdio.h>
#include <string.h>

#include "gpu/memory.h"
#include "model/model.h"

#define MOST_BYTES ((gint64) 48 << 20)  // of the host beyond the file, however large a tensor is

static guint n_test, n_fail;

static void verdict(gboolean ok, const char *what)
{
    n_test++;
    n_fail += !ok;
    printf("%s %u - %s\n", ok ? "ok" : "not ok", n_test, what);
}

// Largest resident size so far, without what of it lies in files.
static double resident_mb(void)
{
    g_autofree char *status = NULL;
    unsigned long kb = 0;
    const char *line;

    if (g_file_get_contents("/proc/self/status", &status, NULL, NULL)
        && (line = strstr(status, "VmHWM:")))
        sscanf(line, "VmHWM: %lu", &kb);
    return (double) kb / 1e3;
}

static uint64_t largest_tensor(const vlm_model *model)
{
    uint64_t most = 0;

    for (guint i = 0; i < vlm_gguf_n_tensors(model->text); i++)
        most = MAX(most, vlm_gguf_tensor_at(model->text, i)->bytes);
    return most;
}

static vlm_model *load(vlm_device *dev, char **argv)
{
    g_autoptr(GError) error = NULL;
    vlm_model *model = vlm_model_open(argv[1], argv[2], &error);

    g_assert_no_error(error);
    vlm_model_upload(model, dev, &(vlm_upload_params){ 0 }, &error);
    g_assert_no_error(error);
    return model;
}

// Bytes past the last tensor of an arena, and between two, are whatever they were.
static guint64 n_different(const vlm_model *a, const vlm_model *b)
{
    guint64 n = 0;

    for (guint i = 0; i < a->arenas->len; i++) {
        vlm_buffer *x = g_ptr_array_index(a->arenas, i), *y = g_ptr_array_index(b->arenas, i);
        g_autofree guint8 *got = g_malloc(y->bytes);
        g_autoptr(GError) error = NULL;

        vlm_buffer_read(y, 0, got, y->bytes, &error);
        g_assert_no_error(error);
        for (size_t k = 0; k < y->bytes; k++)
            n += got[k] != ((const guint8 *) x->host)[k];
    }
    return n;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_device) dev = vlm_device_create(&(vlm_device_params){ 0 }, &error);

    g_assert_cmpint(argc, ==, 3);
    if (!dev) {
        printf("1..0 # SKIP %s\n", error->message);
        return 77;
    }
    dev->hide_local = TRUE;
    const double before = resident_mb();
    vlm_model *staged = load(dev, argv);
    const gint64 host = (gint64) staged->load_bytes + dev->bytes_most[VLM_MEMORY_UPLOAD]
                        + dev->bytes_most[VLM_MEMORY_READBACK];
    const gint64 staging = dev->bytes_most[VLM_MEMORY_UPLOAD];

    printf("# largest tensor %.1f MB, weights %.1f MB; host: %.1f MB, of which staging %.1f MB; "
           "resident memory grew by %.1f MB, weights included where they are the host's\n",
           (double) largest_tensor(staged) / 1e6, (double) staged->weight_bytes / 1e6,
           (double) host / 1e6, (double) staging / 1e6, resident_mb() - before);
    verdict(staging > 0, "weights went through staging");
    verdict((gint64) largest_tensor(staged) > MOST_BYTES, "a tensor is larger than the limit");
    verdict(host <= MOST_BYTES, "the host's memory is bounded");

    dev->hide_local = FALSE;
    vlm_model *mapped = load(dev, argv);
    if (((vlm_buffer *) g_ptr_array_index(mapped->arenas, 0))->host)
        verdict(n_different(mapped, staged) == 0, "staged weights are those written directly");
    vlm_model_free(mapped);
    vlm_model_free(staged);
    printf("1..%u\n", n_test);
    return n_fail > 0;
}
