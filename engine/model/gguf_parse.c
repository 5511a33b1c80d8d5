// SPDX-License-Identifier: LGPL-2.1-or-later
// model/gguf_parse.c — header, key-value pairs and tensor table of one GGUF file.
//
// Written against hostile input: lengths and counts are compared with a cap and with the bytes
// that are left before anything is allocated, sums and products of file values are checked, and
// there is one way out of every failure.
#define G_LOG_DOMAIN "vlm-model"

#include "model/gguf_private.h"

#include "base/number.h"

#define WINDOW_BYTES (64u << 10)

// Smallest encodings: key length, one byte of key, type, one byte of value; name length, one byte
// of name, n_dims, one axis, type, offset.
#define MIN_PAIR_BYTES   (8 + 1 + 4 + 1)
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8)

// A cursor over a part, reading through a window.
typedef struct reader {
    const vlm_gguf_part *part;
    uint64_t pos;
    uint64_t limit;       // end of what may be read: of the file, or of the metadata cap
    uint64_t window_pos;  // where `window` starts in the file
    size_t window_len;
    uint8_t *window;
} reader;

static void reader_finish(reader *r)
{
    g_free(r->window);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(reader, reader_finish)

static gboolean G_GNUC_PRINTF(3, 4)
    fail(const vlm_gguf_part *part, GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: %s", part->path, what);
    return FALSE;
}

static uint64_t reader_left(const reader *r)
{
    return r->limit - r->pos;
}

// TRUE when `n` more bytes may be read; `what` names them in the error.
static gboolean reader_need(const reader *r, uint64_t n, const char *what, GError **error)
{
    if (n <= reader_left(r))
        return TRUE;
    if (r->limit < r->part->size)
        return fail(r->part, error, "metadata is larger than the %u MiB allowed",
                    VLM_GGUF_MAX_META_BYTES >> 20);
    return fail(r->part, error,
                "file is truncated: %s needs %" G_GUINT64_FORMAT " bytes at byte %" G_GUINT64_FORMAT
                ", %" G_GUINT64_FORMAT " are left",
                what, n, r->pos, reader_left(r));
}

static gboolean reader_read(reader *r, void *dst, size_t n, const char *what, GError **error)
{
    uint8_t *out = dst;

    if (!reader_need(r, n, what, error))
        return FALSE;
    while (n > 0) {
        if (r->pos < r->window_pos || r->pos >= r->window_pos + r->window_len) {
            r->window_pos = r->pos;
            r->window_len = (size_t) MIN(WINDOW_BYTES, reader_left(r));
            if (!vlm_gguf_part_read(r->part, r->pos, r->window, r->window_len, error)) {
                r->window_len = 0;
                return FALSE;
            }
        }
        const size_t at = (size_t) (r->pos - r->window_pos);
        const size_t take = MIN(n, r->window_len - at);
        memcpy(out, r->window + at, take);
        out += take;
        r->pos += take;
        n -= take;
    }
    return TRUE;
}

static gboolean reader_u32(reader *r, uint32_t *out, const char *what, GError **error)
{
    uint8_t raw[4];

    if (!reader_read(r, raw, sizeof raw, what, error))
        return FALSE;
    *out = vlm_load_le32(raw);
    return TRUE;
}

static gboolean reader_u64(reader *r, uint64_t *out, const char *what, GError **error)
{
    uint8_t raw[8];

    if (!reader_read(r, raw, sizeof raw, what, error))
        return FALSE;
    *out = vlm_load_le64(raw);
    return TRUE;
}

static gpointer try_alloc(const reader *r, uint64_t bytes, GError **error)
{
    gpointer p = bytes <= G_MAXSIZE ? g_try_malloc((gsize) MAX(bytes, 1)) : NULL;

    if (!p)
        fail(r->part, error, "no memory for %" G_GUINT64_FORMAT " bytes of metadata", bytes);
    return p;
}

// A key or a tensor name: printable ASCII without blanks, 1..max bytes. NULL on error.
static char *read_name(reader *r, uint32_t max, const char *what, guint number, GError **error)
{
    g_autofree char *name = NULL;
    uint64_t len;

    if (!reader_u64(r, &len, what, error))
        return NULL;
    if (len == 0 || len > max) {
        fail(r->part, error,
             "%s number %u has a length of %" G_GUINT64_FORMAT " bytes, allowed are 1 to %u", what,
             number, len, max);
        return NULL;
    }
    name = g_malloc((gsize) len + 1);  // at most 1 KiB
    if (!reader_read(r, name, (size_t) len, what, error))
        return NULL;
    name[len] = 0;
    for (size_t i = 0; i < len; i++) {
        if (!g_ascii_isgraph(name[i])) {
            fail(r->part, error,
                 "%s number %u contains the byte 0x%02x, only printable ASCII is allowed", what,
                 number, (guint8) name[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&name);
}

static void kv_free(gpointer data)
{
    vlm_gguf_kv *kv = data;

    if (!kv)
        return;
    g_free(kv->key);
    g_free(kv->blob);
    g_free(kv->offsets);
    g_free(kv);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_gguf_kv, kv_free)

guint vlm_gguf_name_hash(gconstpointer name)
{
    static gsize seed;
    uint64_t hash;

    if (g_once_init_enter(&seed))
        g_once_init_leave(&seed, (gsize) g_random_int() | 1);  // never 0, which is "not yet"
    hash = 0xcbf29ce484222325u ^ seed;
    for (const char *p = name; *p; p++)
        hash = (hash ^ (guint8) *p) * 0x100000001b3u;
    hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9u;
    return (guint) (hash >> 32);
}

void vlm_gguf_pairs_init(vlm_gguf_pairs *pairs)
{
    pairs->list = g_ptr_array_new_with_free_func(kv_free);
    pairs->index = g_hash_table_new(vlm_gguf_name_hash, g_str_equal);
}

void vlm_gguf_pairs_finish(vlm_gguf_pairs *pairs)
{
    g_clear_pointer(&pairs->index, g_hash_table_unref);
    g_clear_pointer(&pairs->list, g_ptr_array_unref);
}

guint vlm_gguf_type_bytes(vlm_gguf_type type)
{
    static const guint bytes[VLM_GGUF_N_TYPE] = {
        [VLM_GGUF_U8] = 1,  [VLM_GGUF_I8] = 1,  [VLM_GGUF_U16] = 2, [VLM_GGUF_I16] = 2,
        [VLM_GGUF_U32] = 4, [VLM_GGUF_I32] = 4, [VLM_GGUF_F32] = 4, [VLM_GGUF_BOOL] = 1,
        [VLM_GGUF_U64] = 8, [VLM_GGUF_I64] = 8, [VLM_GGUF_F64] = 8,
    };

    return type < VLM_GGUF_N_TYPE ? bytes[type] : 0;
}

// The n strings of a value, stored one after the other with a zero after each.
static gboolean read_strings(reader *r, vlm_gguf_kv *kv, GError **error)
{
    gsize capacity = kv->is_array ? (gsize) kv->n * 16 : 0;
    gsize used = 0;

    kv->offsets = try_alloc(r, ((uint64_t) kv->n + 1) * sizeof *kv->offsets, error);
    if (!kv->offsets)
        return FALSE;
    kv->offsets[0] = 0;
    for (guint i = 0; i < kv->n; i++) {
        uint64_t len;

        if (!reader_u64(r, &len, "the length of a string", error))
            return FALSE;
        if (len > VLM_GGUF_MAX_STRING_BYTES)
            return fail(r->part, error,
                        "key %s: string %u has a length of %" G_GUINT64_FORMAT
                        " bytes, at most %u are allowed",
                        kv->key, i, len, VLM_GGUF_MAX_STRING_BYTES);
        if (!reader_need(r, len, "a string", error))
            return FALSE;
        // Both terms are far below 2^31: all strings lie inside the metadata cap.
        if (!kv->blob || used + len + 1 > capacity) {
            capacity = MAX(capacity * 2, used + (gsize) len + 1);
            uint8_t *grown = g_try_realloc(kv->blob, capacity);
            if (!grown)
                return fail(r->part, error, "no memory for the strings of key %s", kv->key);
            kv->blob = grown;
        }
        if (!reader_read(r, kv->blob + used, (size_t) len, "a string", error))
            return FALSE;
        used += (gsize) len;
        kv->blob[used++] = 0;
        kv->offsets[i + 1] = (uint32_t) used;
    }
    if (!kv->blob)
        kv->blob = g_malloc0(1);
    return TRUE;
}

static gboolean read_numbers(reader *r, vlm_gguf_kv *kv, GError **error)
{
    const uint64_t bytes = (uint64_t) kv->n * vlm_gguf_type_bytes(kv->type);

    if (!reader_need(r, bytes, "a value", error))
        return FALSE;
    kv->blob = try_alloc(r, bytes, error);
    if (!kv->blob || !reader_read(r, kv->blob, (size_t) bytes, "a value", error))
        return FALSE;
    if (kv->type == VLM_GGUF_BOOL) {
        for (guint i = 0; i < kv->n; i++) {
            if (kv->blob[i] > 1)
                return fail(r->part, error, "key %s: a boolean has the value %u", kv->key,
                            kv->blob[i]);
        }
    }
    return TRUE;
}

static gboolean read_pair(reader *r, guint number, vlm_gguf_pairs *pairs, GError **error)
{
    g_autoptr(vlm_gguf_kv) kv = g_new0(vlm_gguf_kv, 1);
    uint32_t type;

    kv->key = read_name(r, VLM_GGUF_MAX_KEY_BYTES, "key", number, error);
    if (!kv->key)
        return FALSE;
    if (g_hash_table_contains(pairs->index, kv->key))
        return fail(r->part, error, "key %s appears twice", kv->key);
    if (!reader_u32(r, &type, "the type of a value", error))
        return FALSE;
    kv->n = 1;
    if (type == VLM_GGUF_ARRAY) {
        uint64_t n;

        kv->is_array = TRUE;
        if (!reader_u32(r, &type, "the type of an array", error)
            || !reader_u64(r, &n, "the length of an array", error))
            return FALSE;
        if (type == VLM_GGUF_ARRAY)
            return fail(r->part, error, "key %s: arrays of arrays are not supported", kv->key);
        if (type >= VLM_GGUF_N_TYPE)
            return fail(r->part, error, "key %s: unknown value type %u", kv->key, type);
        if (n > VLM_GGUF_MAX_ARRAY_ELEMS)
            return fail(r->part, error,
                        "key %s: array of %" G_GUINT64_FORMAT " elements, at most %u are allowed",
                        kv->key, n, VLM_GGUF_MAX_ARRAY_ELEMS);
        // A string takes at least its eight bytes of length.
        const uint64_t elem = type == VLM_GGUF_STRING ? 8 : vlm_gguf_type_bytes(type);
        if (!reader_need(r, n * elem, "an array", error))
            return FALSE;
        kv->n = (guint) n;
    }
    if (type >= VLM_GGUF_N_TYPE)
        return fail(r->part, error, "key %s: unknown value type %u", kv->key, type);
    kv->type = type;
    if (!(kv->type == VLM_GGUF_STRING ? read_strings(r, kv, error) : read_numbers(r, kv, error)))
        return FALSE;
    g_hash_table_insert(pairs->index, kv->key, kv);
    g_ptr_array_add(pairs->list, g_steal_pointer(&kv));
    return TRUE;
}

// The alignment of tensor data: 32 unless the file says otherwise.
static gboolean find_alignment(const reader *r, const vlm_gguf_pairs *pairs, uint32_t *out,
                               GError **error)
{
    const vlm_gguf_kv *kv = g_hash_table_lookup(pairs->index, "general.alignment");

    *out = 32;
    if (!kv)
        return TRUE;
    if (kv->type != VLM_GGUF_U32 || kv->is_array)
        return fail(r->part, error, "key general.alignment is not of type u32");
    *out = vlm_load_le32(kv->blob);
    if (!vlm_is_power_of_two(*out) || *out > VLM_GGUF_MAX_ALIGNMENT)
        return fail(r->part, error,
                    "key general.alignment is %u, it must be a power of two and at most %u", *out,
                    VLM_GGUF_MAX_ALIGNMENT);
    return TRUE;
}

// Bytes of the tensor from its type and axes; checks all of them.
static gboolean measure_tensor(const reader *r, vlm_gguf_tensor *t, GError **error)
{
    const vlm_dtype_info *info = vlm_dtype_lookup(t->dtype);
    uint64_t n = 1, bytes;

    if (!info)
        return fail(r->part, error, "tensor %s has the unknown type %u", t->name, (guint) t->dtype);
    for (guint i = 0; i < 4; i++) {
        if (t->ne[i] == 0 || t->ne[i] > INT64_MAX)
            return fail(r->part, error, "tensor %s: axis %u has %" G_GINT64_FORMAT " elements",
                        t->name, i, (gint64) t->ne[i]);
        if (!vlm_u64_mul(n, t->ne[i], &n))
            return fail(r->part, error, "tensor %s: the number of its elements overflows", t->name);
    }
    if (t->ne[0] % info->block_elems != 0)
        return fail(r->part, error,
                    "tensor %s: rows of %" G_GUINT64_FORMAT
                    " elements are not a multiple of the %u of a %s block",
                    t->name, t->ne[0], info->block_elems, info->name);
    if (!vlm_u64_mul(n / info->block_elems, info->block_bytes, &bytes) || bytes > G_MAXSIZE)
        return fail(r->part, error, "tensor %s: its size in bytes overflows", t->name);
    t->bytes = (size_t) bytes;
    return TRUE;
}

static gboolean read_tensor_entry(reader *r, vlm_gguf *gguf, guint number, guint part_index,
                                  uint32_t alignment, GError **error)
{
    g_autofree char *name = read_name(r, VLM_GGUF_MAX_NAME_BYTES, "tensor name", number, error);
    vlm_gguf_tensor t = { .ne = { 1, 1, 1, 1 }, .part = part_index };
    uint32_t type;

    if (!name)
        return FALSE;
    t.name = name;
    if (g_hash_table_contains(gguf->tensor_index, name))
        return fail(r->part, error, "tensor %s appears twice", name);
    if (!reader_u32(r, &t.n_dims, "the tensor table", error))
        return FALSE;
    if (t.n_dims < 1 || t.n_dims > G_N_ELEMENTS(t.ne))
        return fail(r->part, error, "tensor %s has %u dimensions, allowed are 1 to 4", name,
                    t.n_dims);
    for (guint i = 0; i < t.n_dims; i++) {
        if (!reader_u64(r, &t.ne[i], "the tensor table", error))
            return FALSE;
    }
    if (!reader_u32(r, &type, "the tensor table", error)
        || !reader_u64(r, &t.offset, "the tensor table", error))
        return FALSE;
    t.dtype = (vlm_dtype) type;
    if (!measure_tensor(r, &t, error))
        return FALSE;
    if (t.offset % alignment != 0)
        return fail(r->part, error,
                    "tensor %s: offset %" G_GUINT64_FORMAT " is not a multiple of the alignment %u",
                    name, t.offset, alignment);
    g_array_append_val(gguf->tensors, t);
    g_hash_table_insert(gguf->tensor_index, g_steal_pointer(&name),
                        GUINT_TO_POINTER(gguf->tensors->len));
    return TRUE;
}

static gint compare_offsets(gconstpointer a, gconstpointer b)
{
    const vlm_gguf_tensor *ta = *(const vlm_gguf_tensor *const *) a;
    const vlm_gguf_tensor *tb = *(const vlm_gguf_tensor *const *) b;

    return ta->offset < tb->offset ? -1 : ta->offset > tb->offset;
}

// Places the tensors from index `first` on in the data section: inside the file, no overlap.
static gboolean place_tensors(const reader *r, vlm_gguf *gguf, guint first, uint32_t alignment,
                              GError **error)
{
    const uint64_t size = r->part->size;
    const guint8 *mem = r->part->bytes ? g_bytes_get_data(r->part->bytes, NULL) : NULL;
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    uint64_t start;

    // The position is at most the metadata cap and the alignment at most 1 MiB: no overflow.
    if (!vlm_u64_align_up(r->pos, alignment, &start))
        return fail(r->part, error, "the position of the tensor data overflows");
    for (guint i = first; i < gguf->tensors->len; i++) {
        vlm_gguf_tensor *t = &g_array_index(gguf->tensors, vlm_gguf_tensor, i);

        if (start > size || t->offset > size - start || t->bytes > size - start - t->offset)
            return fail(r->part, error,
                        "file is truncated or damaged: tensor %s needs %" G_GSIZE_FORMAT
                        " bytes at offset %" G_GUINT64_FORMAT
                        " of the data, the file has %" G_GUINT64_FORMAT " bytes of data",
                        t->name, t->bytes, t->offset, start > size ? 0 : size - start);
        t->offset += start;
        if (mem)
            t->data = mem + t->offset;
        g_ptr_array_add(sorted, t);
    }
    g_ptr_array_sort(sorted, compare_offsets);
    for (guint i = 1; i < sorted->len; i++) {
        const vlm_gguf_tensor *a = g_ptr_array_index(sorted, i - 1);
        const vlm_gguf_tensor *b = g_ptr_array_index(sorted, i);

        if (b->offset - a->offset < a->bytes)
            return fail(r->part, error, "the data of tensors %s and %s overlap", a->name, b->name);
    }
    return TRUE;
}

static gboolean read_header(reader *r, uint32_t *version, uint64_t *n_tensors, uint64_t *n_pairs,
                            GError **error)
{
    uint8_t magic[4];

    if (r->part->size < sizeof magic || !reader_read(r, magic, sizeof magic, "the magic", NULL)
        || memcmp(magic, "GGUF", sizeof magic) != 0)
        return fail(r->part, error, "not a GGUF file");
    if (!reader_u32(r, version, "the header", error))
        return FALSE;
    if (*version != 0 && (*version & 0xffff) == 0)
        return fail(r->part, error,
                    "big-endian GGUF files are not supported, convert the model again as "
                    "little-endian");
    if (*version == 1)
        return fail(r->part, error, "GGUF version 1 is too old, convert the model again");
    if (*version != 2 && *version != 3)
        return fail(r->part, error, "GGUF version %u is not supported, only 2 and 3 are", *version);
    if (!reader_u64(r, n_tensors, "the header", error)
        || !reader_u64(r, n_pairs, "the header", error))
        return FALSE;
    if (*n_tensors > VLM_GGUF_MAX_TENSORS)
        return fail(r->part, error,
                    "header declares %" G_GUINT64_FORMAT " tensors, at most %u are allowed",
                    *n_tensors, VLM_GGUF_MAX_TENSORS);
    if (*n_pairs > VLM_GGUF_MAX_KEYS)
        return fail(r->part, error,
                    "header declares %" G_GUINT64_FORMAT " key-value pairs, at most %u are allowed",
                    *n_pairs, VLM_GGUF_MAX_KEYS);
    return reader_need(r, *n_pairs * MIN_PAIR_BYTES + *n_tensors * MIN_TENSOR_BYTES,
                       "what the header declares", error);
}

gboolean vlm_gguf_parse_part(vlm_gguf *gguf, guint part_index, vlm_gguf_pairs *pairs,
                             GError **error)
{
    const vlm_gguf_part *part = g_ptr_array_index(gguf->parts, part_index);
    const guint first = gguf->tensors->len;
    uint64_t n_tensors = 0, n_pairs = 0;
    uint32_t version = 0, alignment = 0;
    g_auto(reader) r = { .part = part,
                         .limit = MIN(part->size, VLM_GGUF_MAX_META_BYTES),
                         .window = g_malloc(WINDOW_BYTES) };

    if (!read_header(&r, &version, &n_tensors, &n_pairs, error))
        return FALSE;
    for (guint i = 0; i < n_pairs; i++) {
        if (!read_pair(&r, i, pairs, error))
            return FALSE;
    }
    if (!find_alignment(&r, pairs, &alignment, error))
        return FALSE;
    for (guint i = 0; i < n_tensors; i++) {
        if (!read_tensor_entry(&r, gguf, i, part_index, alignment, error))
            return FALSE;
    }
    if (part_index == 0)
        gguf->version = version;
    return place_tensors(&r, gguf, first, alignment, error);
}
