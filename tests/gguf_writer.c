// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/gguf_writer.c — writes GGUF files for tests.
#include "gguf_writer.h"

#include "base/number.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>

#define ALIGNMENT   32
#define CHUNK_BYTES (1u << 20)

// Value types, numbered as in the file.
enum {
    TYPE_U16 = 2,
    TYPE_U32 = 4,
    TYPE_I32 = 5,
    TYPE_F32 = 6,
    TYPE_BOOL = 7,
    TYPE_STRING = 8,
    TYPE_ARRAY = 9,
};

typedef struct pair {
    char *key;
    uint32_t type;
    GByteArray *raw;
} pair;

typedef struct tensor {
    char *name;
    vlm_dtype dtype;
    uint32_t n_dims;
    uint64_t ne[4];
    uint64_t row_bytes, n_rows;
    gguf_fill fill;
    gpointer user;
    GDestroyNotify destroy;
} tensor;

struct gguf_writer {
    GPtrArray *pairs;
    GPtrArray *tensors;
};

static void pair_free(gpointer data)
{
    pair *p = data;

    g_free(p->key);
    g_byte_array_unref(p->raw);
    g_free(p);
}

static void tensor_free(gpointer data)
{
    tensor *t = data;

    if (t->destroy)
        t->destroy(t->user);
    g_free(t->name);
    g_free(t);
}

gguf_writer *gguf_writer_new(void)
{
    gguf_writer *w = g_new0(gguf_writer, 1);

    w->pairs = g_ptr_array_new_with_free_func(pair_free);
    w->tensors = g_ptr_array_new_with_free_func(tensor_free);
    return w;
}

void gguf_writer_free(gguf_writer *w)
{
    if (!w)
        return;
    g_ptr_array_unref(w->pairs);
    g_ptr_array_unref(w->tensors);
    g_free(w);
}

static void put_u32(GByteArray *a, uint32_t v)
{
    uint8_t raw[4];

    vlm_store_le32(raw, v);
    g_byte_array_append(a, raw, sizeof raw);
}

static void put_u64(GByteArray *a, uint64_t v)
{
    uint8_t raw[8];

    vlm_store_le64(raw, v);
    g_byte_array_append(a, raw, sizeof raw);
}

static void put_string(GByteArray *a, const char *s)
{
    const gsize len = strlen(s);

    put_u64(a, len);
    g_byte_array_append(a, (const guint8 *) s, (guint) len);
}

static GByteArray *add_pair(gguf_writer *w, const char *key, uint32_t type)
{
    pair *p = g_new0(pair, 1);

    p->key = g_strdup(key);
    p->type = type;
    p->raw = g_byte_array_new();
    g_ptr_array_add(w->pairs, p);
    return p->raw;
}

static GByteArray *add_array(gguf_writer *w, const char *key, uint32_t type, guint n)
{
    GByteArray *a = add_pair(w, key, TYPE_ARRAY);

    put_u32(a, type);
    put_u64(a, n);
    return a;
}

void gguf_writer_u32(gguf_writer *w, const char *key, uint32_t value)
{
    put_u32(add_pair(w, key, TYPE_U32), value);
}

void gguf_writer_f32(gguf_writer *w, const char *key, float value)
{
    put_u32(add_pair(w, key, TYPE_F32), vlm_f32_bits(value));
}

void gguf_writer_bool(gguf_writer *w, const char *key, gboolean value)
{
    const guint8 byte = value != 0;

    g_byte_array_append(add_pair(w, key, TYPE_BOOL), &byte, 1);
}

void gguf_writer_str(gguf_writer *w, const char *key, const char *value)
{
    put_string(add_pair(w, key, TYPE_STRING), value);
}

void gguf_writer_i32_array(gguf_writer *w, const char *key, const int32_t *values, guint n)
{
    GByteArray *a = add_array(w, key, TYPE_I32, n);

    for (guint i = 0; i < n; i++)
        put_u32(a, (uint32_t) values[i]);
}

void gguf_writer_f32_array(gguf_writer *w, const char *key, const float *values, guint n)
{
    GByteArray *a = add_array(w, key, TYPE_F32, n);

    for (guint i = 0; i < n; i++)
        put_u32(a, vlm_f32_bits(values[i]));
}

void gguf_writer_bool_array(gguf_writer *w, const char *key, const gboolean *values, guint n)
{
    GByteArray *a = add_array(w, key, TYPE_BOOL, n);

    for (guint i = 0; i < n; i++) {
        const guint8 byte = values[i] != 0;
        g_byte_array_append(a, &byte, 1);
    }
}

void gguf_writer_str_array(gguf_writer *w, const char *key, const char *const *values, guint n)
{
    GByteArray *a = add_array(w, key, TYPE_STRING, n);

    for (guint i = 0; i < n; i++)
        put_string(a, values[i]);
}

void gguf_writer_raw(gguf_writer *w, const char *key, uint32_t type, const void *raw, gsize n)
{
    g_byte_array_append(add_pair(w, key, type), raw, (guint) n);
}

void gguf_writer_remove(gguf_writer *w, const char *key)
{
    for (guint i = 0; i < w->pairs->len; i++) {
        if (g_str_equal(((const pair *) g_ptr_array_index(w->pairs, i))->key, key)) {
            g_ptr_array_remove_index(w->pairs, i);
            return;
        }
    }
}

void gguf_writer_tensor(gguf_writer *w, const char *name, vlm_dtype dtype, uint32_t n_dims,
                        const uint64_t *ne, gguf_fill fill, gpointer user, GDestroyNotify destroy)
{
    tensor *t = g_new0(tensor, 1);

    g_assert(n_dims >= 1 && n_dims <= 4);
    g_assert(ne[0] % vlm_dtype_block_elems(dtype) == 0);
    t->name = g_strdup(name);
    t->dtype = dtype;
    t->n_dims = n_dims;
    t->n_rows = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        t->ne[i] = ne[i];
        if (i > 0)
            t->n_rows *= ne[i];
    }
    t->row_bytes = vlm_dtype_row_bytes(dtype, ne[0]);
    t->fill = fill;
    t->user = user;
    t->destroy = destroy;
    g_ptr_array_add(w->tensors, t);
}

void gguf_writer_remove_tensor(gguf_writer *w, const char *name)
{
    for (guint i = 0; i < w->tensors->len; i++) {
        if (g_str_equal(((const tensor *) g_ptr_array_index(w->tensors, i))->name, name)) {
            g_ptr_array_remove_index(w->tensors, i);
            return;
        }
    }
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// Header, pairs and tensor table, padded up to where the data begins.
static GByteArray *make_head(const gguf_writer *w)
{
    static const guint8 zeros[ALIGNMENT];
    GByteArray *head = g_byte_array_new();
    uint64_t offset = 0;

    g_byte_array_append(head, (const guint8 *) "GGUF", 4);
    put_u32(head, 3);
    put_u64(head, w->tensors->len);
    put_u64(head, w->pairs->len);
    for (guint i = 0; i < w->pairs->len; i++) {
        const pair *p = g_ptr_array_index(w->pairs, i);

        put_string(head, p->key);
        put_u32(head, p->type);
        g_byte_array_append(head, p->raw->data, p->raw->len);
    }
    for (guint i = 0; i < w->tensors->len; i++) {
        const tensor *t = g_ptr_array_index(w->tensors, i);

        put_string(head, t->name);
        put_u32(head, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++)
            put_u64(head, t->ne[d]);
        put_u32(head, t->dtype);
        put_u64(head, offset);
        offset += padded(t->row_bytes * t->n_rows);
    }
    g_byte_array_append(head, zeros, (guint) (padded(head->len) - head->len));
    return head;
}

// Where the output goes: a stream or an array.
typedef struct sink {
    FILE *file;
    GByteArray *bytes;
} sink;

static gboolean sink_put(sink *s, const void *data, gsize n)
{
    if (s->file)
        return fwrite(data, 1, n, s->file) == n;
    g_byte_array_append(s->bytes, data, (guint) n);
    return TRUE;
}

static gboolean put_tensor(const tensor *t, sink *s)
{
    static const guint8 zeros[ALIGNMENT];
    const uint64_t bytes = t->row_bytes * t->n_rows;
    const uint64_t step = MAX(CHUNK_BYTES / t->row_bytes, 1);
    g_autofree guint8 *chunk = g_malloc(step * t->row_bytes);

    for (uint64_t row = 0; row < t->n_rows; row += step) {
        const uint64_t n = MIN(step, t->n_rows - row);

        t->fill(t->user, row, n, chunk);
        if (!sink_put(s, chunk, n * t->row_bytes))
            return FALSE;
    }
    return sink_put(s, zeros, padded(bytes) - bytes);
}

static gboolean put_all(const gguf_writer *w, sink *s)
{
    g_autoptr(GByteArray) head = make_head(w);

    if (!sink_put(s, head->data, head->len))
        return FALSE;
    for (guint i = 0; i < w->tensors->len; i++) {
        if (!put_tensor(g_ptr_array_index(w->tensors, i), s))
            return FALSE;
    }
    return TRUE;
}

gboolean gguf_writer_write(const gguf_writer *w, const char *path, GError **error)
{
    sink s = { .file = g_fopen(path, "wb") };
    gboolean ok = s.file && put_all(w, &s);
    int code = errno;

    if (s.file && fclose(s.file) != 0 && ok) {
        code = errno;
        ok = FALSE;
    }
    if (!ok)
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "%s: cannot be written: %s",
                    path, g_strerror(code));
    return ok;
}

// A number of 16 bits and one of 32 bits with a sign, as the published tool writes them.
static void add_split_keys(gguf_writer *w, guint number, guint count, guint n_tensors)
{
    const guint8 no[2] = { (guint8) number, (guint8) (number >> 8) };
    const guint8 of[2] = { (guint8) count, (guint8) (count >> 8) };

    gguf_writer_raw(w, "split.no", TYPE_U16, no, sizeof no);
    gguf_writer_raw(w, "split.count", TYPE_U16, of, sizeof of);
    put_u32(add_pair(w, "split.tensors.count", TYPE_I32), n_tensors);
}

gboolean gguf_writer_write_split(const gguf_writer *w, const char *stem, guint count,
                                 gboolean bare_first, GError **error)
{
    const guint holders = bare_first ? count - 1 : count;
    const guint n = w->tensors->len;
    gboolean ok = count >= 1 && holders >= 1;

    for (guint i = 0; ok && i < count; i++) {
        g_autofree char *path = g_strdup_printf("%s-%05u-of-%05u.gguf", stem, i + 1, count);
        g_autoptr(gguf_writer) keys = gguf_writer_new();
        g_autoptr(GPtrArray) pairs = g_ptr_array_new(), tensors = g_ptr_array_new();
        const gguf_writer part = { .pairs = pairs, .tensors = tensors };  // borrows
        const guint at = bare_first ? i - 1 : i;

        add_split_keys(keys, i, count, n);
        if (i == 0)
            g_ptr_array_extend(pairs, w->pairs, NULL, NULL);
        g_ptr_array_extend(pairs, keys->pairs, NULL, NULL);
        for (guint t = 0; t < n && !(bare_first && i == 0); t++)
            if (t >= n * at / holders && t < n * (at + 1) / holders)
                g_ptr_array_add(tensors, g_ptr_array_index(w->tensors, t));
        ok = gguf_writer_write(&part, path, error);
    }
    return ok;
}

GBytes *gguf_writer_to_bytes(const gguf_writer *w)
{
    sink s = { .bytes = g_byte_array_new() };

    put_all(w, &s);
    return g_byte_array_free_to_bytes(s.bytes);
}
