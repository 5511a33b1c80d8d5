// SPDX-License-Identifier: LGPL-2.1-or-later
// model/gguf.c — opening GGUF files, split sets, and access to their tensors.
#define G_LOG_DOMAIN "vlm-model"

#include "model/gguf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void part_free(gpointer data)
{
    vlm_gguf_part *part = data;

    if (!part)
        return;
    if (part->fd >= 0)
        close(part->fd);
    g_clear_pointer(&part->bytes, g_bytes_unref);
    g_free(part->path);
    g_free(part);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_gguf_part, part_free)

static vlm_gguf_part *part_open(const char *path, GString *identity, GError **error)
{
    g_autoptr(vlm_gguf_part) part = g_new0(vlm_gguf_part, 1);
    struct stat st;

    part->path = g_strdup(path);
    // Without O_NONBLOCK opening a FIFO would wait for a writer.
    part->fd = g_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (part->fd < 0) {
        const int code = errno;
        g_set_error(error, VLM_ERROR, code == ENOENT ? VLM_ERROR_NOT_FOUND : VLM_ERROR_FORMAT,
                    "%s: cannot be opened: %s", path, g_strerror(code));
        return NULL;
    }
    if (fstat(part->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: is not a regular file", path);
        return NULL;
    }
    part->size = (uint64_t) st.st_size;
    g_string_append_printf(identity,
                           "%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT
                           ":%" G_GINT64_FORMAT ".%09ld;",
                           (guint64) st.st_dev, (guint64) st.st_ino, part->size,
                           (gint64) st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return g_steal_pointer(&part);
}

gboolean vlm_gguf_part_read(const vlm_gguf_part *part, uint64_t offset, void *dst, size_t n,
                            GError **error)
{
    uint8_t *out = dst;

    if (part->bytes) {
        gsize size;
        const uint8_t *data = g_bytes_get_data(part->bytes, &size);

        g_return_val_if_fail(offset <= size && n <= size - offset, FALSE);
        if (n > 0)
            memcpy(out, data + offset, n);
        return TRUE;
    }
    while (n > 0) {
        const ssize_t got = pread(part->fd, out, MIN(n, 64u << 20), (off_t) offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: reading failed: %s", part->path,
                        g_strerror(errno));
            return FALSE;
        }
        if (got == 0) {
            g_set_error(
                error, VLM_ERROR, VLM_ERROR_FORMAT,
                "%s: file became shorter while it was in use: nothing at byte %" G_GUINT64_FORMAT,
                part->path, offset);
            return FALSE;
        }
        out += got;
        offset += (uint64_t) got;
        n -= (size_t) got;
    }
    return TRUE;
}

static void gguf_free(vlm_gguf *gguf)
{
    if (gguf->tensors) {
        for (guint i = 0; i < gguf->tensors->len; i++)
            g_free((char *) g_array_index(gguf->tensors, vlm_gguf_tensor, i).name);
        g_array_unref(gguf->tensors);
    }
    g_clear_pointer(&gguf->tensor_index, g_hash_table_unref);
    vlm_gguf_pairs_finish(&gguf->pairs);
    g_clear_pointer(&gguf->parts, g_ptr_array_unref);
    g_free(gguf->identity);
    g_free(gguf->path);
    g_free(gguf);
}

static vlm_gguf *gguf_new(const char *path)
{
    vlm_gguf *gguf = g_new0(vlm_gguf, 1);

    g_atomic_ref_count_init(&gguf->ref_count);
    gguf->path = g_strdup(path);
    gguf->parts = g_ptr_array_new_with_free_func(part_free);
    gguf->tensors = g_array_new(FALSE, FALSE, sizeof(vlm_gguf_tensor));
    gguf->tensor_index = g_hash_table_new(vlm_gguf_name_hash, g_str_equal);
    vlm_gguf_pairs_init(&gguf->pairs);
    return gguf;
}

gboolean vlm_gguf_split_name(const char *path, guint *number, guint *count, size_t *stem_len)
{
    static const char pattern[] = "-ddddd-of-ddddd.gguf";
    const size_t suffix_len = sizeof pattern - 1, len = strlen(path);

    if (len < suffix_len)
        return FALSE;
    const char *suffix = path + len - suffix_len;
    for (size_t i = 0; i < suffix_len; i++) {
        if (pattern[i] == 'd' && i < suffix_len - 5 ? !g_ascii_isdigit(suffix[i])
                                                    : suffix[i] != pattern[i])
            return FALSE;
    }
    *number = (guint) g_ascii_strtoull(suffix + 1, NULL, 10);
    *count = (guint) g_ascii_strtoull(suffix + 10, NULL, 10);
    *stem_len = len - suffix_len;
    return TRUE;
}

// One of the keys split.no, split.count of a part, or `dflt` when it is absent or not a number.
static uint64_t split_key(const vlm_gguf_pairs *pairs, const char *key, uint64_t dflt)
{
    const vlm_gguf_kv *kv = g_hash_table_lookup(pairs->index, key);
    const guint bytes = kv ? vlm_gguf_type_bytes(kv->type) : 0;
    uint64_t value = 0;

    if (bytes == 0 || kv->is_array || kv->type == VLM_GGUF_F32 || kv->type == VLM_GGUF_F64)
        return dflt;
    for (guint i = 0; i < bytes; i++)
        value |= (uint64_t) kv->blob[i] << 8 * i;
    return value;
}

// Opens parts 2..count beside the first one, which has been parsed.
static gboolean open_other_parts(vlm_gguf *gguf, uint64_t count, GString *identity, GError **error)
{
    guint name_number, name_count;
    size_t stem_len;

    if (!vlm_gguf_split_name(gguf->path, &name_number, &name_count, &stem_len)
        || name_count != count) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: is one of %" G_GUINT64_FORMAT
                    " parts, but its name does not end in -00001-of-%05u.gguf",
                    gguf->path, count, (guint) MIN(count, 99999));
        return FALSE;
    }
    for (guint i = 1; i < count; i++) {
        g_autofree char *path = g_strdup_printf("%.*s-%05u-of-%05u.gguf", (int) stem_len,
                                                gguf->path, i + 1, name_count);
        vlm_gguf_part *part = part_open(path, identity, error);

        if (!part) {
            g_prefix_error(error, "%s: part %u of %u: ", gguf->path, i + 1, name_count);
            return FALSE;
        }
        g_ptr_array_add(gguf->parts, part);
        vlm_gguf_pairs pairs;
        vlm_gguf_pairs_init(&pairs);
        g_autoptr(GError) trouble = NULL;
        const gboolean ok = vlm_gguf_parse_part(gguf, i, &pairs, &trouble);
        const gboolean numbered = ok || g_hash_table_contains(pairs.index, "split.no");
        const uint64_t number = split_key(&pairs, "split.no", UINT64_MAX);
        const uint64_t of = split_key(&pairs, "split.count", 0);
        vlm_gguf_pairs_finish(&pairs);
        // A wrong number comes first: it is why the tensors of a copied part appear twice.
        if (numbered && (number != i || of != count)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: is not part %u of %u of this model", path, i + 1, name_count);
            return FALSE;
        }
        if (!ok) {
            g_propagate_error(error, g_steal_pointer(&trouble));
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean open_split(vlm_gguf *gguf, GString *identity, GError **error)
{
    const uint64_t count = split_key(&gguf->pairs, "split.count", 1);
    const uint64_t number = split_key(&gguf->pairs, "split.no", 0);
    const uint64_t declared = split_key(&gguf->pairs, "split.tensors.count", 0);

    if (count <= 1)
        return TRUE;
    if (count > VLM_GGUF_MAX_PARTS) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: is one of %" G_GUINT64_FORMAT " parts, at most %u are allowed", gguf->path,
                    count, VLM_GGUF_MAX_PARTS);
        return FALSE;
    }
    if (number != 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: is part %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                    ", open the first part instead",
                    gguf->path, number + 1, count);
        return FALSE;
    }
    if (!open_other_parts(gguf, count, identity, error))
        return FALSE;
    if (declared != 0 && declared != gguf->tensors->len) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: the %" G_GUINT64_FORMAT
                    " parts hold %u tensors, expected %" G_GUINT64_FORMAT,
                    gguf->path, count, gguf->tensors->len, declared);
        return FALSE;
    }
    return TRUE;
}

vlm_gguf *vlm_gguf_open(const char *path, GError **error)
{
    g_return_val_if_fail(path, NULL);

    g_autoptr(vlm_gguf) gguf = gguf_new(path);
    g_autoptr(GString) identity = g_string_new(NULL);
    vlm_gguf_part *part = part_open(path, identity, error);

    if (!part)
        return NULL;
    g_ptr_array_add(gguf->parts, part);
    if (!vlm_gguf_parse_part(gguf, 0, &gguf->pairs, error) || !open_split(gguf, identity, error))
        return NULL;
    gguf->identity = g_strdup(identity->str);
    g_debug("%s: GGUF version %u, %u pairs, %u tensors, %u part(s)", path, gguf->version,
            gguf->pairs.list->len, gguf->tensors->len, gguf->parts->len);
    return g_steal_pointer(&gguf);
}

vlm_gguf *vlm_gguf_open_bytes(GBytes *bytes, const char *name, GError **error)
{
    g_return_val_if_fail(bytes && name, NULL);

    g_autoptr(vlm_gguf) gguf = gguf_new(name);
    vlm_gguf_part *part = g_new0(vlm_gguf_part, 1);

    part->path = g_strdup(name);
    part->fd = -1;
    part->bytes = g_bytes_ref(bytes);
    part->size = g_bytes_get_size(bytes);
    g_ptr_array_add(gguf->parts, part);
    if (!vlm_gguf_parse_part(gguf, 0, &gguf->pairs, error))
        return NULL;
    if (split_key(&gguf->pairs, "split.count", 1) > 1) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: is one part of a split model", name);
        return NULL;
    }
    gguf->identity = g_strdup_printf("memory:%p", (void *) bytes);
    return g_steal_pointer(&gguf);
}

vlm_gguf *vlm_gguf_ref(vlm_gguf *gguf)
{
    g_return_val_if_fail(gguf, NULL);
    g_atomic_ref_count_inc(&gguf->ref_count);
    return gguf;
}

void vlm_gguf_unref(vlm_gguf *gguf)
{
    if (gguf && g_atomic_ref_count_dec(&gguf->ref_count))
        gguf_free(gguf);
}

const char *vlm_gguf_path(const vlm_gguf *gguf)
{
    return gguf->path;
}

const char *vlm_gguf_identity(const vlm_gguf *gguf)
{
    return gguf->identity;
}

uint32_t vlm_gguf_version(const vlm_gguf *gguf)
{
    return gguf->version;
}

uint64_t vlm_gguf_file_bytes(const vlm_gguf *gguf)
{
    uint64_t sum = 0;

    for (guint i = 0; i < gguf->parts->len; i++)
        sum += ((const vlm_gguf_part *) g_ptr_array_index(gguf->parts, i))->size;
    return sum;
}

guint vlm_gguf_n_tensors(const vlm_gguf *gguf)
{
    return gguf->tensors->len;
}

const vlm_gguf_tensor *vlm_gguf_tensor_at(const vlm_gguf *gguf, guint i)
{
    g_return_val_if_fail(i < gguf->tensors->len, NULL);
    return &g_array_index(gguf->tensors, vlm_gguf_tensor, i);
}

const vlm_gguf_tensor *vlm_gguf_tensor_find(const vlm_gguf *gguf, const char *name)
{
    const guint i = GPOINTER_TO_UINT(g_hash_table_lookup(gguf->tensor_index, name));

    return i ? &g_array_index(gguf->tensors, vlm_gguf_tensor, i - 1) : NULL;
}

static char *shape_text(const uint64_t *ne, uint32_t n_dims)
{
    GString *text = g_string_new("[");

    for (uint32_t i = 0; i < n_dims; i++)
        g_string_append_printf(text, "%s%" G_GUINT64_FORMAT, i ? ", " : "", ne[i]);
    return g_string_free(g_string_append_c(text, ']'), FALSE);
}

const vlm_gguf_tensor *vlm_gguf_require_tensor(const vlm_gguf *gguf, const char *name,
                                               uint32_t n_dims, const uint64_t *ne, GError **error)
{
    const vlm_gguf_tensor *t = vlm_gguf_tensor_find(gguf, name);

    g_return_val_if_fail(n_dims >= 1 && n_dims <= 4, NULL);
    if (!t) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: tensor %s is missing", gguf->path,
                    name);
        return NULL;
    }
    for (uint32_t i = 0; i < 4; i++) {
        if (t->ne[i] != (i < n_dims ? ne[i] : 1)) {
            g_autofree char *found = shape_text(t->ne, t->n_dims);
            g_autofree char *expected = shape_text(ne, n_dims);
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: tensor %s has shape %s, expected %s", gguf->path, name, found,
                        expected);
            return NULL;
        }
    }
    if (!vlm_dtype_runs(t->dtype)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: tensor %s has type %s, which is not supported; use F32, F16, BF16, Q8_0, "
                    "Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS or MXFP4",
                    gguf->path, name, vlm_dtype_name(t->dtype));
        return NULL;
    }
    return t;
}

gboolean vlm_gguf_read_tensor(const vlm_gguf *gguf, const vlm_gguf_tensor *tensor, uint64_t offset,
                              void *dst, size_t bytes, GError **error)
{
    VLM_REQUIRE(offset <= tensor->bytes && bytes <= tensor->bytes - offset, error);
    return vlm_gguf_part_read(g_ptr_array_index(gguf->parts, tensor->part), tensor->offset + offset,
                              dst, bytes, error);
}
