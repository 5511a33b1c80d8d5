// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/pipeline_list.c — remembers which pipelines a model took.
//
// First a line with a checksum of all others; these have kernel, a hash of its SPIR-V, local size,
// then its own constants:
//
//   matmul_q8_0 1f0c93aa 8 1 1 8 2
#define G_LOG_DOMAIN "vlm-kernel"
#include "gpu/pipeline_list.h"

#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "gpu/cache_file.h"
#include "gpu/kernel.h"

#define PREFIX      "start"
#define HEADER      "gst-vlm pipelines 1"
#define MAX_LIST    1024u  // lines
#define MAX_THREADS 8u

// FNV-1a over words.
static uint32_t spirv_hash(const vlm_kernel_info *info)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < info->spirv_bytes / 4; i++)
        h = (h ^ info->spirv[i]) * 16777619u;
    return h;
}

static gboolean find_kernel(const char *name, vlm_kernel_id *id)
{
    for (guint i = 0; i < VLM_N_KERNEL; i++) {
        if (g_str_equal(vlm_kernel_get_info(i)->name, name)) {
            *id = i;
            return TRUE;
        }
    }
    return FALSE;
}

// FALSE when the line is none, or of another version of the kernel.
static gboolean parse_line(const char *line, vlm_kernel_id *id, vlm_kernel_spec *spec)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    const guint n = g_strv_length(words);
    uint64_t value[4 + VLM_MAX_SPEC];

    if (n < 5 || n > G_N_ELEMENTS(value) + 1 || !find_kernel(words[0], id))
        return FALSE;
    for (guint i = 1; i < n; i++)
        if (!g_ascii_string_to_unsigned(words[i], i == 1 ? 16 : 10, 0, UINT32_MAX, &value[i - 1],
                                        NULL))
            return FALSE;
    memset(spec, 0, sizeof *spec);
    for (guint i = 0; i < 3; i++)
        spec->local[i] = (uint32_t) value[1 + i];
    spec->n_own = n - 5;
    for (guint i = 0; i < spec->n_own; i++)
        spec->own[i] = (uint32_t) value[4 + i];
    return value[0] == spirv_hash(vlm_kernel_get_info(*id));
}

// A pipeline to make.
typedef struct wanted {
    vlm_kernel_id id;
    vlm_kernel_spec spec;
} wanted;

// What several threads make together.
typedef struct making {
    vlm_device *dev;
    const wanted *list;
    gint n, next;
} making;

static gpointer make_some(gpointer data)
{
    making *m = data;

    for (gint i; (i = g_atomic_int_add(&m->next, 1)) < m->n;) {
        g_autoptr(GError) error = NULL;
        if (!vlm_kernel_get(m->dev, m->list[i].id, &m->list[i].spec, &error))
            g_debug("not made ahead: %s", error->message);
    }
    return NULL;
}

// On this thread and as many more as there are processors, and can be started.
static void make_all(making *m)
{
    const guint n = CLAMP(g_get_num_processors(), 1, MAX_THREADS) - 1;
    GThread *threads[MAX_THREADS];

    for (guint i = 0; i < n; i++)
        threads[i] = g_thread_try_new("vlm-pipelines", make_some, m, NULL);
    make_some(m);
    for (guint i = 0; i < n; i++)
        if (threads[i])
            g_thread_join(threads[i]);
}

uint32_t vlm_pipeline_list_make(vlm_device *dev, const char *name)
{
    const gint64 start = g_get_monotonic_time();
    g_autofree char *path = vlm_cache_file_path(dev, PREFIX, name);
    g_auto(GStrv) lines = path ? vlm_cache_file_read(path, HEADER, MAX_LIST) : NULL;
    g_autofree wanted *list = NULL;
    gint n = 0;

    if (!lines)
        return 0;
    list = g_new(wanted, g_strv_length(lines) + 1);
    for (guint i = 0; lines[i]; i++)
        n += parse_line(lines[i], &list[n].id, &list[n].spec);
    make_all(&(making){ dev, list, n, 0 });
    n = g_atomic_int_get(&dev->n_pipeline);
    g_debug("%d pipelines made ahead in %.1f ms", n,
            (double) (g_get_monotonic_time() - start) / 1000.0);
    return (uint32_t) n;
}

static gint compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

void vlm_pipeline_list_save(vlm_device *dev, const char *name)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *path = vlm_cache_file_path(dev, PREFIX, name);
    g_autoptr(GError) error = NULL;
    GHashTableIter iter;
    gpointer value;

    if (!path || g_atomic_int_get(&dev->n_pipeline) == 0 || g_atomic_int_get(&dev->lost))
        return;
    g_mutex_lock(&dev->pipelines_lock);
    g_hash_table_iter_init(&iter, dev->pipelines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const vlm_kernel *kernel = value;
        const vlm_kernel_info *info = vlm_kernel_get_info(kernel->id);
        GString *line = g_string_new(NULL);

        g_string_printf(line, "%s %08x %u %u %u", info->name, spirv_hash(info),
                        kernel->spec.local[0], kernel->spec.local[1], kernel->spec.local[2]);
        for (uint32_t i = 0; i < kernel->spec.n_own; i++)
            g_string_append_printf(line, " %u", kernel->spec.own[i]);
        g_ptr_array_add(lines, g_string_free(line, FALSE));
    }
    g_mutex_unlock(&dev->pipelines_lock);
    g_ptr_array_sort(lines, compare_lines);
    for (guint i = 0; i < MIN(lines->len, MAX_LIST - 1); i++)
        g_string_append_printf(text, "%s\n", (const char *) g_ptr_array_index(lines, i));
    if (!vlm_cache_file_write(path, HEADER, text->str, &error))
        g_info("list of pipelines not saved: %s", error->message);
}

void vlm_pipeline_list_forget(const vlm_device *dev, const char *name)
{
    g_autofree char *path = vlm_cache_file_path(dev, PREFIX, name);

    if (path)
        g_unlink(path);
}
