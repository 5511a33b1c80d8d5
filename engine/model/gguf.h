// SPDX-License-Identifier: LGPL-2.1-or-later
// model/gguf.h — reads GGUF files, versions 2 and 3, little-endian.
//
// A vlm_gguf is an opened file (or a set of split parts opened as one): its key-value pairs and its
// tensor table, copied into memory and checked in full when it is opened. The file is hostile
// until proven otherwise: every count, length, type, size and offset is checked against the caps
// below and against what is left of the file before it is used or allocated for.
//
// Nothing is mapped. Tensor data is read with pread() from a descriptor that stays open, so a file
// that is truncated or replaced later gives an error (or the old content), never a fault.
//
// Thread-safety: an opened vlm_gguf is immutable; any number of threads may read it and its
// tensor data. ref and unref are atomic.
#ifndef VLM_MODEL_GGUF_H
#define VLM_MODEL_GGUF_H

#include "base/error.h"
#include "ops/quant.h"

#include <glib.h>
#include <stdint.h>

// Caps. Real files of the supported families stay far below each of them.
#define VLM_GGUF_MAX_META_BYTES   (256u << 20)  // header, pairs and tensor table together
#define VLM_GGUF_MAX_KEYS         4096u
#define VLM_GGUF_MAX_TENSORS      65536u
#define VLM_GGUF_MAX_KEY_BYTES    1024u
#define VLM_GGUF_MAX_NAME_BYTES   63u  // of a tensor; the format's own limit with its final zero
#define VLM_GGUF_MAX_STRING_BYTES (1u << 20)
#define VLM_GGUF_MAX_ARRAY_ELEMS  (4u << 20)
#define VLM_GGUF_MAX_ALIGNMENT    (1u << 20)
#define VLM_GGUF_MAX_PARTS        1000u

typedef struct vlm_gguf vlm_gguf;

// Types of values, numbered as in the file.
typedef enum vlm_gguf_type {
    VLM_GGUF_U8,
    VLM_GGUF_I8,
    VLM_GGUF_U16,
    VLM_GGUF_I16,
    VLM_GGUF_U32,
    VLM_GGUF_I32,
    VLM_GGUF_F32,
    VLM_GGUF_BOOL,
    VLM_GGUF_STRING,
    VLM_GGUF_ARRAY,
    VLM_GGUF_U64,
    VLM_GGUF_I64,
    VLM_GGUF_F64,
    VLM_GGUF_N_TYPE
} vlm_gguf_type;

// One tensor. ne[0] is the contiguous axis; unused axes are 1; all are at least 1.
typedef struct vlm_gguf_tensor {
    const char *name;
    vlm_dtype dtype;
    uint32_t n_dims;   // 1..4
    uint64_t ne[4];    // elements per axis, ne[0] a multiple of the dtype's block
    size_t bytes;      // of the whole tensor, without padding
    const void *data;  // only when opened from bytes; NULL for files: use vlm_gguf_read_tensor()
    uint64_t offset;   // of its first byte in its file
    uint32_t part;     // which file of a split set, 0 when there is one
} vlm_gguf_tensor;

// Strings of an array value. Borrowed from the vlm_gguf. Each is followed by a zero byte, but may
// also contain zero bytes and need not be UTF-8: the reader of the key decides.
typedef struct vlm_gguf_strings {
    guint n;
    const char *bytes;
    const uint32_t *offsets;  // n + 1; string i is offsets[i] .. offsets[i + 1] - 1, then its zero
} vlm_gguf_strings;

static inline const char *vlm_gguf_strings_at(const vlm_gguf_strings *s, guint i, size_t *len)
{
    *len = s->offsets[i + 1] - s->offsets[i] - 1;
    return s->bytes + s->offsets[i];
}

// Opens a regular file. The name of the first part of a split set ("-00001-of-0000N.gguf") opens
// all parts, which must lie beside it.
//
// Returns: a new reference, or NULL with NOT_FOUND (no such file or part), or FORMAT (anything
// else). The message begins with the path.
vlm_gguf *vlm_gguf_open(const char *path, GError **error);

// The same for a file in memory, called `name` in messages. Keeps a reference on `bytes`.
vlm_gguf *vlm_gguf_open_bytes(GBytes *bytes, const char *name, GError **error);

// Whether `path` ends as a part of a split set does, "-00002-of-00003.gguf": then *number is 2,
// *count 3 and *stem_len the bytes before that end.
gboolean vlm_gguf_split_name(const char *path, guint *number, guint *count, size_t *stem_len);

vlm_gguf *vlm_gguf_ref(vlm_gguf *gguf);
void vlm_gguf_unref(vlm_gguf *gguf);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_gguf, vlm_gguf_unref)

// Path or name as given on opening.
const char *vlm_gguf_path(const vlm_gguf *gguf);

// Names this content: device, inode, size and modification time of each part. Equal strings mean
// the same file, unless somebody rewrites it and sets its clock back.
const char *vlm_gguf_identity(const vlm_gguf *gguf);

uint32_t vlm_gguf_version(const vlm_gguf *gguf);
uint64_t vlm_gguf_file_bytes(const vlm_gguf *gguf);  // all parts together

// --- key-value pairs ---------------------------------------------------------------------------
//
// Each getter comes in two forms. The plain one requires the key; `_or` gives `dflt` when the key
// is absent. Both return FALSE with FORMAT, naming file, key, what was expected and what was
// found, when the value has another type or is out of range. Integers of any width and sign are
// accepted for u32 if their value is in range; F32 and F64 for f32 if finite.

gboolean vlm_gguf_has(const vlm_gguf *gguf, const char *key);

gboolean vlm_gguf_get_u32(const vlm_gguf *gguf, const char *key, uint32_t min, uint32_t max,
                          uint32_t *out, GError **error);
gboolean vlm_gguf_get_u32_or(const vlm_gguf *gguf, const char *key, uint32_t min, uint32_t max,
                             uint32_t dflt, uint32_t *out, GError **error);
gboolean vlm_gguf_get_f32(const vlm_gguf *gguf, const char *key, float min, float max, float *out,
                          GError **error);
gboolean vlm_gguf_get_f32_or(const vlm_gguf *gguf, const char *key, float min, float max,
                             float dflt, float *out, GError **error);
gboolean vlm_gguf_get_bool_or(const vlm_gguf *gguf, const char *key, gboolean dflt, gboolean *out,
                              GError **error);

// Valid UTF-8 without zero bytes; borrowed from the vlm_gguf.
gboolean vlm_gguf_get_str(const vlm_gguf *gguf, const char *key, const char **out, GError **error);
gboolean vlm_gguf_get_str_or(const vlm_gguf *gguf, const char *key, const char *dflt,
                             const char **out, GError **error);

// Arrays of min_n to max_n elements. *out is a copy for g_free(), never NULL on success.
gboolean vlm_gguf_get_u32_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                uint32_t max, uint32_t **out, guint *n, GError **error);
gboolean vlm_gguf_get_f32_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                float **out, guint *n, GError **error);
// One byte per element, 0 or 1.
gboolean vlm_gguf_get_bool_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                 uint8_t **out, guint *n, GError **error);
// Borrowed, see vlm_gguf_strings.
gboolean vlm_gguf_get_str_array(const vlm_gguf *gguf, const char *key, guint min_n, guint max_n,
                                vlm_gguf_strings *out, GError **error);

// The pairs in file order, for listings.
guint vlm_gguf_n_keys(const vlm_gguf *gguf);
const char *vlm_gguf_key_at(const vlm_gguf *gguf, guint i);
// TRUE when the value is an array (of *n elements of *type), else *n = 1.
gboolean vlm_gguf_value_type(const vlm_gguf *gguf, guint i, vlm_gguf_type *type, guint *n);
// The value as text for people: strings quoted and escaped, at most `max_items` elements of an
// array. A new string for g_free().
char *vlm_gguf_value_to_text(const vlm_gguf *gguf, guint i, guint max_items);

const char *vlm_gguf_type_name(vlm_gguf_type type);

// Sets a FORMAT error "PATH: key KEY ..." and returns FALSE, for checks between keys.
gboolean vlm_gguf_key_error(const vlm_gguf *gguf, const char *key, GError **error,
                            const char *format, ...) G_GNUC_PRINTF(4, 5);

// --- tensors -----------------------------------------------------------------------------------

guint vlm_gguf_n_tensors(const vlm_gguf *gguf);
const vlm_gguf_tensor *vlm_gguf_tensor_at(const vlm_gguf *gguf, guint i);  // in file order

// NULL when there is none of that name.
const vlm_gguf_tensor *vlm_gguf_tensor_find(const vlm_gguf *gguf, const char *name);

// Finds a tensor and checks that the engine can run its type and that its shape is exactly
// ne[0..n_dims-1], contiguous axis first; trailing axes of 1 may be missing in the file.
// NULL with FORMAT naming the file, the tensor, its shape and the expected one.
const vlm_gguf_tensor *vlm_gguf_require_tensor(const vlm_gguf *gguf, const char *name,
                                               uint32_t n_dims, const uint64_t *ne, GError **error);

// Copies `bytes` bytes from byte `offset` of the tensor's data to `dst`. May block on the file.
// FALSE: ARGS (outside the tensor) or FORMAT (the file has shrunk or cannot be read).
gboolean vlm_gguf_read_tensor(const vlm_gguf *gguf, const vlm_gguf_tensor *tensor, uint64_t offset,
                              void *dst, size_t bytes, GError **error);

#endif
