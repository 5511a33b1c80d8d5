// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/cache_file.c — see gpu/cache_file.h.
#define G_LOG_DOMAIN "vlm-kernel"
#include "gpu/cache_file.h"

#include <string.h>

#define MAX_FILE_SIZE (256u << 10)

char *vlm_cache_file_path(const vlm_device *dev, const char *prefix, const char *name)
{
    if (!dev->cache_path)
        return NULL;
    g_autofree char *dir = g_path_get_dirname(dev->cache_path);
    g_autofree char *cache = g_path_get_basename(dev->cache_path);  // says which device and driver
    g_autofree char *both = g_strconcat(cache, "|", name, NULL);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, both, -1);
    g_autofree char *file = g_strdup_printf("%s-%.24s.txt", prefix, sum);

    return g_build_filename(dir, file, NULL);
}

// The first line of a file with these others. Free with g_free().
static char *first_line(const char *header, const char *lines)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, lines, -1);

    return g_strconcat(header, " ", sum, NULL);
}

GStrv vlm_cache_file_read(const char *path, const char *header, gint max_lines)
{
    g_autofree char *contents = NULL, *first = NULL;
    gsize bytes;

    if (!g_file_get_contents(path, &contents, &bytes, NULL) || bytes > MAX_FILE_SIZE)
        return NULL;
    char *lines = strchr(contents, '\n');
    if (!lines)
        return NULL;
    *lines++ = 0;
    first = first_line(header, lines);
    if (!g_str_equal(contents, first)) {
        g_info("%s is damaged or of another version", path);
        return NULL;
    }
    return g_strsplit(lines, "\n", max_lines);
}

gboolean vlm_cache_file_write(const char *path, const char *header, const char *text,
                              GError **error)
{
    g_autofree char *first = first_line(header, text);
    g_autofree char *all = g_strconcat(first, "\n", text, NULL);
    g_autofree char *dir = g_path_get_dirname(path);

    g_mkdir_with_parents(dir, 0700);
    return g_file_set_contents(path, all, -1, error);
}
