// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/tuning.c — see gpu/tuning.h.
#define G_LOG_DOMAIN "vlm-kernel"
#include "gpu/tuning.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "gpu/cache_file.h"

#define PREFIX "tuning"
#define HEADER "gst-vlm tuning 1"

typedef struct tunable_row {
    vlm_tunable_info info;
    uint32_t def[2];  // [is_lavapipe]
} tunable_row;

#define COUNT(...) (sizeof((uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

static const tunable_row rows[VLM_N_TUNABLE] = {
#define ROW(id, name, cpu, gpu, help, ...)                                                         \
    { { name, help, { __VA_ARGS__ }, COUNT(__VA_ARGS__) }, { gpu, cpu } },
    VLM_TUNABLE_TABLE(ROW)
#undef ROW
};

const vlm_tunable_info *vlm_tunable_get_info(vlm_tunable tunable)
{
    g_return_val_if_fail(tunable < VLM_N_TUNABLE, NULL);
    return &rows[tunable].info;
}

uint32_t vlm_tunable_default(const vlm_device *dev, vlm_tunable tunable)
{
    return rows[tunable].def[dev->is_lavapipe != FALSE];
}

gboolean vlm_tunable_applies(const vlm_device *dev, vlm_tunable tunable)
{
    switch (tunable) {
    case VLM_TUNE_TILE_PANELS_ONE:
        return !(dev->caps & VLM_CAP_PARALLEL);
    case VLM_TUNE_TILE_PANELS:
    case VLM_TUNE_TILE_TOKENS:
        return !(dev->caps & (VLM_CAP_COOPMAT | VLM_CAP_INT_DOT));
    case VLM_TUNE_SPLIT_SUBGROUPS:
    case VLM_TUNE_SPLIT_MOST:
        return (dev->caps & (VLM_CAP_PARALLEL | VLM_CAP_INT_DOT)) != 0;
    case VLM_TUNE_DOT_PANELS:
    case VLM_TUNE_DOT_TOKENS:
        return (dev->caps & VLM_CAP_INT_DOT) != 0;
    case VLM_TUNE_MATRIX_FROM:
    case VLM_TUNE_MATRIX_TOKENS:
    case VLM_TUNE_MATRIX_PANELS:
        return (dev->caps & VLM_CAP_COOPMAT) != 0;
    default:
        return TRUE;
    }
}

void vlm_tuning_reset(vlm_device *dev)
{
    for (guint i = 0; i < VLM_N_TUNABLE; i++)
        dev->tuning[i] = vlm_tunable_default(dev, i);
}

static gboolean allowed(vlm_tunable tunable, uint64_t value)
{
    const vlm_tunable_info *info = &rows[tunable].info;

    for (uint32_t i = 0; i < info->n_value; i++)
        if (info->values[i] == value)
            return TRUE;
    return FALSE;
}

gboolean vlm_tuning_set(vlm_device *dev, vlm_tunable tunable, uint32_t value)
{
    if (!allowed(tunable, value))
        return FALSE;
    dev->tuning[tunable] = value;
    return TRUE;
}

static gboolean find(const char *name, vlm_tunable *tunable)
{
    for (guint i = 0; i < VLM_N_TUNABLE; i++) {
        if (g_str_equal(rows[i].info.name, name)) {
            *tunable = i;
            return TRUE;
        }
    }
    return FALSE;
}

// The names, or the values of one, with commas between them. Free with g_free().
static char *list_names(void)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < VLM_N_TUNABLE; i++)
        g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", rows[i].info.name);
    return g_string_free(text, FALSE);
}

static char *list_values(vlm_tunable tunable)
{
    const vlm_tunable_info *info = &rows[tunable].info;
    GString *text = g_string_new(NULL);

    for (uint32_t i = 0; i < info->n_value; i++)
        g_string_append_printf(text, "%s%u", i > 0 ? ", " : "", info->values[i]);
    return g_string_free(text, FALSE);
}

// "name=value" into a table of values.
static gboolean parse_pair(const char *pair, uint32_t values[VLM_N_TUNABLE], GError **error)
{
    g_auto(GStrv) halves = g_strsplit(pair, "=", 2);
    g_autofree char *name = g_strstrip(g_strdup(halves[0] ? halves[0] : ""));
    uint64_t value;
    vlm_tunable tunable;

    if (!find(name, &tunable)) {
        g_autofree char *names = list_names();
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "no tuning is called '%s'; there are %s",
                    name, names);
        return FALSE;
    }
    if (!halves[1]
        || !g_ascii_string_to_unsigned(g_strstrip(halves[1]), 10, 0, UINT32_MAX, &value, NULL)
        || !allowed(tunable, value)) {
        g_autofree char *list = list_values(tunable);
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s can be %s, not '%s'", name, list,
                    halves[1] ? halves[1] : "");
        return FALSE;
    }
    values[tunable] = (uint32_t) value;
    return TRUE;
}

gboolean vlm_tuning_parse(vlm_device *dev, const char *text, GError **error)
{
    g_auto(GStrv) pairs = g_strsplit(text, ",", -1);
    uint32_t values[VLM_N_TUNABLE];

    memcpy(values, dev->tuning, sizeof values);
    for (guint i = 0; pairs[i]; i++)
        if (!parse_pair(pairs[i], values, error))
            return FALSE;
    memcpy(dev->tuning, values, sizeof values);
    return TRUE;
}

// What differs from the defaults, with `separator` behind each.
static char *describe(const vlm_device *dev, char separator)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < VLM_N_TUNABLE; i++)
        if (dev->tuning[i] != vlm_tunable_default(dev, i))
            g_string_append_printf(text, "%s=%u%c", rows[i].info.name, dev->tuning[i], separator);
    return g_string_free(text, FALSE);
}

char *vlm_tuning_describe(const vlm_device *dev)
{
    char *text = describe(dev, ',');
    const size_t n = strlen(text);

    if (n > 0)
        text[n - 1] = 0;  // the last comma
    return text;
}

gboolean vlm_tuning_load(vlm_device *dev, const char *name)
{
    g_autofree char *path = vlm_cache_file_path(dev, PREFIX, name);
    g_auto(GStrv) lines = path ? vlm_cache_file_read(path, HEADER, 4 * VLM_N_TUNABLE) : NULL;

    for (guint i = 0; lines && lines[i]; i++) {
        g_autoptr(GError) error = NULL;
        if (*lines[i] && !parse_pair(lines[i], dev->tuning, &error))
            g_info("%s: left out: %s", path, error->message);
    }
    return lines != NULL;
}

gboolean vlm_tuning_save(const vlm_device *dev, const char *name, char **path, GError **error)
{
    g_autofree char *file = vlm_cache_file_path(dev, PREFIX, name);
    g_autofree char *text = describe(dev, '\n');
    g_autoptr(GError) reason = NULL;

    if (!file) {
        g_set_error_literal(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                            "a tuning is kept in the cache folder, and VLM_CACHE_DIR says that "
                            "there is none");
        return FALSE;
    }
    if (!*text) {
        if (g_unlink(file) != 0 && errno != ENOENT) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s can't be removed: %s", file,
                        g_strerror(errno));
            return FALSE;
        }
    } else if (!vlm_cache_file_write(file, HEADER, text, &reason)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "the tuning can't be saved: %s",
                    reason->message);
        return FALSE;
    }
    if (path)
        *path = g_steal_pointer(&file);
    return TRUE;
}
