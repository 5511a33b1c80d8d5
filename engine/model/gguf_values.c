// SPDX-License-Identifier: LGPL-2.1-or-later
// model/gguf_values.c — typed access to the key-value pairs of a GGUF file.
//
// There is no untyped access: every getter checks the stored type, the length and the range.
#define G_LOG_DOMAIN "vlm-model"

#include "model/gguf_private.h"

#include "base/number.h"

#include <math.h>

const char *vlm_gguf_type_name(vlm_gguf_type type)
{
    static const char *const names[VLM_GGUF_N_TYPE] = { "u8",  "i8",  "u16",  "i16",    "u32",
                                                        "i32", "f32", "bool", "string", "array",
                                                        "u64", "i64", "f64" };

    return (guint) type < VLM_GGUF_N_TYPE ? names[type] : "unknown";
}

static const vlm_gguf_kv *find(const vlm_gguf *gguf, const char *key)
{
    return g_hash_table_lookup(gguf->pairs.index, key);
}

gboolean vlm_gguf_has(const vlm_gguf *gguf, const char *key)
{
    return find(gguf, key) != NULL;
}

gboolean vlm_gguf_key_error(const vlm_gguf *gguf, const char *key, GError **error,
                            const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: key %s %s", gguf->path, key, what);
    return FALSE;
}

static gboolean missing(const vlm_gguf *gguf, const char *key, GError **error)
{
    return vlm_gguf_key_error(gguf, key, error, "is missing");
}

// "is a string, expected ..."
static gboolean wrong_type(const vlm_gguf *gguf, const vlm_gguf_kv *kv, const char *expected,
                           GError **error)
{
    if (kv->is_array)
        return vlm_gguf_key_error(gguf, kv->key, error, "is an array of %s, expected %s",
                                  vlm_gguf_type_name(kv->type), expected);
    return vlm_gguf_key_error(gguf, kv->key, error, "is of type %s, expected %s",
                              vlm_gguf_type_name(kv->type), expected);
}

static gboolean is_integer(vlm_gguf_type type)
{
    return type <= VLM_GGUF_I32 || type == VLM_GGUF_U64 || type == VLM_GGUF_I64;
}

static gboolean is_real(vlm_gguf_type type)
{
    return type == VLM_GGUF_F32 || type == VLM_GGUF_F64;
}

static gboolean is_signed(vlm_gguf_type type)
{
    return type == VLM_GGUF_I8 || type == VLM_GGUF_I16 || type == VLM_GGUF_I32
           || type == VLM_GGUF_I64;
}

// Element i of an integer or boolean value as its low 64 bits, sign-extended; *negative for a
// signed type below zero.
static uint64_t integer_at(const vlm_gguf_kv *kv, guint i, gboolean *negative)
{
    const guint bytes = vlm_gguf_type_bytes(kv->type);
    const uint8_t *src = kv->blob + (gsize) i * bytes;
    uint64_t value = 0;

    for (guint b = 0; b < bytes; b++)
        value |= (uint64_t) src[b] << 8 * b;
    *negative = is_signed(kv->type) && (src[bytes - 1] & 0x80);
    if (*negative && bytes < 8)
        value |= UINT64_MAX << 8 * bytes;
    return value;
}

static double real_at(const vlm_gguf_kv *kv, guint i)
{
    if (kv->type == VLM_GGUF_F32)
        return vlm_f32_from_bits(vlm_load_le32(kv->blob + (gsize) i * 4));

    const uint64_t bits = vlm_load_le64(kv->blob + (gsize) i * 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static gboolean u32_at(const vlm_gguf *gguf, const vlm_gguf_kv *kv, guint i, uint32_t min,
                       uint32_t max, uint32_t *out, GError **error)
{
    gboolean negative;
    const uint64_t value = integer_at(kv, i, &negative);

    if (negative)
        return vlm_gguf_key_error(gguf, kv->key, error,
                                  "is %" G_GINT64_FORMAT ", expected %u to %u", (gint64) value, min,
                                  max);
    if ((value < min || value > max) && min == max)
        return vlm_gguf_key_error(gguf, kv->key, error, "is %" G_GUINT64_FORMAT ", expected %u",
                                  value, min);
    if (value < min || value > max)
        return vlm_gguf_key_error(gguf, kv->key, error,
                                  "is %" G_GUINT64_FORMAT ", expected %u to %u", value, min, max);
    *out = (uint32_t) value;
    return TRUE;
}

static gboolean get_u32(const vlm_gguf *gguf, const vlm_gguf_kv *kv, uint32_t min, uint32_t max,
                        uint32_t *out, GError **error)
{
    if (kv->is_array || !is_integer(kv->type))
        return wrong_type(gguf, kv, "an integer", error);
    return u32_at(gguf, kv, 0, min, max, out, error);
}

gboolean vlm_gguf_get_u32(const vlm_gguf *gguf, const char *key, uint32_t min, uint32_t max,
                          uint32_t *out, GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    return kv ? get_u32(gguf, kv, min, max, out, error) : missing(gguf, key, error);
}

gboolean vlm_gguf_get_u32_or(const vlm_gguf *gguf, const char *key, uint32_t min, uint32_t max,
                             uint32_t dflt, uint32_t *out, GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    if (kv)
        return get_u32(gguf, kv, min, max, out, error);
    *out = dflt;
    return TRUE;
}

static gboolean get_f32(const vlm_gguf *gguf, const vlm_gguf_kv *kv, float min, float max,
                        float *out, GError **error)
{
    if (kv->is_array || !is_real(kv->type))
        return wrong_type(gguf, kv, "a real number", error);

    const double value = real_at(kv, 0);
    if (!(value >= (double) min && value <= (double) max))  // NaN fails both
        return vlm_gguf_key_error(gguf, kv->key, error, "is %g, expected %g to %g", value,
                                  (double) min, (double) max);
    *out = (float) value;
    return TRUE;
}

gboolean vlm_gguf_get_f32(const vlm_gguf *gguf, const char *key, float min, float max, float *out,
                          GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    return kv ? get_f32(gguf, kv, min, max, out, error) : missing(gguf, key, error);
}

gboolean vlm_gguf_get_f32_or(const vlm_gguf *gguf, const char *key, float min, float max,
                             float dflt, float *out, GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    if (kv)
        return get_f32(gguf, kv, min, max, out, error);
    *out = dflt;
    return TRUE;
}

gboolean vlm_gguf_get_bool_or(const vlm_gguf *gguf, const char *key, gboolean dflt, gboolean *out,
                              GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    *out = dflt;
    if (!kv)
        return TRUE;
    if (kv->is_array || kv->type != VLM_GGUF_BOOL)
        return wrong_type(gguf, kv, "a boolean", error);
    *out = kv->blob[0] != 0;
    return TRUE;
}

static gboolean get_str(const vlm_gguf *gguf, const vlm_gguf_kv *kv, const char **out,
                        GError **error)
{
    if (kv->is_array || kv->type != VLM_GGUF_STRING)
        return wrong_type(gguf, kv, "a string", error);
    // Fails at zero bytes as well.
    if (!g_utf8_validate((const char *) kv->blob, kv->offsets[1] - 1, NULL))
        return vlm_gguf_key_error(gguf, kv->key, error, "is not valid UTF-8 text");
    *out = (const char *) kv->blob;
    return TRUE;
}

gboolean vlm_gguf_get_str(const vlm_gguf *gguf, const char *key, const char **out, GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    return kv ? get_str(gguf, kv, out, error) : missing(gguf, key, error);
}

gboolean vlm_gguf_get_str_or(const vlm_gguf *gguf, const char *key, const char *dflt,
                             const char **out, GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    if (kv)
        return get_str(gguf, kv, out, error);
    *out = dflt;
    return TRUE;
}

static gboolean is_bool(vlm_gguf_type type)
{
    return type == VLM_GGUF_BOOL;
}

static gboolean is_string(vlm_gguf_type type)
{
    return type == VLM_GGUF_STRING;
}

// The pair `key` if it is an array of the right type and length, else NULL with an error.
static const vlm_gguf_kv *find_array(const vlm_gguf *gguf, const char *key,
                                     gboolean (*fits)(vlm_gguf_type), const char *expected,
                                     guint min_n, guint max_n, GError **error)
{
    const vlm_gguf_kv *kv = find(gguf, key);

    if (!kv) {
        missing(gguf, key, error);
        return NULL;
    }
    if (!kv->is_array || !fits(kv->type)) {
        wrong_type(gguf, kv, expected, error);
        return NULL;
    }
    if (kv->n < min_n || kv->n > max_n) {
        if (min_n == max_n)
            vlm_gguf_key_error(gguf, key, error, "has %u elements, expected %u", kv->n, min_n);
        else
            vlm_gguf_key_error(gguf, key, error, "has %u elements, expected %u to %u", kv->n, min_n,
                               max_n);
        return NULL;
    }
    return kv;
}

// Memory for the copy of an array; its size was bounded when the file was read.
static gpointer alloc_copy(const vlm_gguf *gguf, const char *key, guint n, gsize elem,
                           GError **error)
{
    gpointer copy = g_try_malloc_n(MAX(n, 1), elem);

    if (!copy)
        vlm_gguf_key_error(gguf, key, error, "needs more memory than there is");
    return copy;
}

gboolean vlm_gguf_get_u32_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                uint32_t max, uint32_t **out, guint *n, GError **error)
{
    const vlm_gguf_kv *kv =
        find_array(gguf, key, is_integer, "an array of integers", min_n, max_n, error);

    if (!kv)
        return FALSE;
    g_autofree uint32_t *copy = alloc_copy(gguf, key, kv->n, sizeof *copy, error);
    if (!copy)
        return FALSE;
    for (guint i = 0; i < kv->n; i++) {
        if (!u32_at(gguf, kv, i, 0, max, &copy[i], error))
            return FALSE;
    }
    *n = kv->n;
    *out = g_steal_pointer(&copy);
    return TRUE;
}

gboolean vlm_gguf_get_f32_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                float **out, guint *n, GError **error)
{
    const vlm_gguf_kv *kv =
        find_array(gguf, key, is_real, "an array of real numbers", min_n, max_n, error);

    if (!kv)
        return FALSE;
    g_autofree float *copy = alloc_copy(gguf, key, kv->n, sizeof *copy, error);
    if (!copy)
        return FALSE;
    for (guint i = 0; i < kv->n; i++) {
        const double value = real_at(kv, i);

        if (!(fabs(value) <= (double) G_MAXFLOAT))
            return vlm_gguf_key_error(gguf, key, error, "has the value %g at index %u", value, i);
        copy[i] = (float) value;
    }
    *n = kv->n;
    *out = g_steal_pointer(&copy);
    return TRUE;
}

gboolean vlm_gguf_get_bool_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                 uint8_t **out, guint *n, GError **error)
{
    const vlm_gguf_kv *kv =
        find_array(gguf, key, is_bool, "an array of booleans", min_n, max_n, error);

    if (!kv)
        return FALSE;
    uint8_t *copy = alloc_copy(gguf, key, kv->n, 1, error);
    if (!copy)
        return FALSE;
    if (kv->n > 0)
        memcpy(copy, kv->blob, kv->n);
    *n = kv->n;
    *out = copy;
    return TRUE;
}

gboolean vlm_gguf_get_str_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                vlm_gguf_strings *out, GError **error)
{
    const vlm_gguf_kv *kv =
        find_array(gguf, key, is_string, "an array of strings", min_n, max_n, error);

    if (!kv)
        return FALSE;
    *out =
        (vlm_gguf_strings){ .n = kv->n, .bytes = (const char *) kv->blob, .offsets = kv->offsets };
    return TRUE;
}

guint vlm_gguf_n_keys(const vlm_gguf *gguf)
{
    return gguf->pairs.list->len;
}

const char *vlm_gguf_key_at(const vlm_gguf *gguf, guint i)
{
    g_return_val_if_fail(i < gguf->pairs.list->len, NULL);
    return ((const vlm_gguf_kv *) g_ptr_array_index(gguf->pairs.list, i))->key;
}

gboolean vlm_gguf_value_type(const vlm_gguf *gguf, guint i, vlm_gguf_type *type, guint *n)
{
    g_return_val_if_fail(i < gguf->pairs.list->len, FALSE);

    const vlm_gguf_kv *kv = g_ptr_array_index(gguf->pairs.list, i);
    *type = kv->type;
    *n = kv->n;
    return kv->is_array;
}

static void append_element(GString *text, const vlm_gguf_kv *kv, guint i)
{
    if (kv->type == VLM_GGUF_STRING) {
        const char *s = (const char *) kv->blob + kv->offsets[i];
        const gsize len = kv->offsets[i + 1] - kv->offsets[i] - 1;
        g_autofree char *valid = g_utf8_make_valid(s, (gssize) len);

        g_string_append_c(text, '"');
        for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
            const gunichar c = g_utf8_get_char(p);
            if (c == '\n')
                g_string_append(text, "\\n");
            else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
                g_string_append_printf(text, "\\x%02x", c);
            else if (c == '"' || c == '\\')
                g_string_append_printf(text, "\\%c", (char) c);
            else
                g_string_append_unichar(text, c);
        }
        g_string_append_c(text, '"');
    } else if (kv->type == VLM_GGUF_F32 || kv->type == VLM_GGUF_F64) {
        g_string_append_printf(text, "%.9g", real_at(kv, i));
    } else if (kv->type == VLM_GGUF_BOOL) {
        g_string_append(text, kv->blob[i] ? "true" : "false");
    } else {
        gboolean negative;
        const uint64_t value = integer_at(kv, i, &negative);
        if (negative)
            g_string_append_printf(text, "%" G_GINT64_FORMAT, (gint64) value);
        else
            g_string_append_printf(text, "%" G_GUINT64_FORMAT, value);
    }
}

char *vlm_gguf_value_to_text(const vlm_gguf *gguf, guint i, guint max_items)
{
    g_return_val_if_fail(i < gguf->pairs.list->len, NULL);

    const vlm_gguf_kv *kv = g_ptr_array_index(gguf->pairs.list, i);
    GString *text = g_string_new(kv->is_array ? "[" : NULL);

    if (!kv->is_array)
        max_items = 1;
    for (guint e = 0; e < kv->n && e < max_items; e++) {
        if (e > 0)
            g_string_append(text, ", ");
        append_element(text, kv, e);
    }
    if (kv->n > max_items)
        g_string_append_printf(text, "%s... %u in all", max_items ? ", " : "", kv->n);
    if (kv->is_array)
        g_string_append_c(text, ']');
    return g_string_free(text, FALSE);
}
