// SPDX-License-Identifier: LGPL-2.1-or-later
// model/gguf_private.h — what gguf.c, gguf_parse.c and gguf_values.c share.
#ifndef VLM_MODEL_GGUF_PRIVATE_H
#define VLM_MODEL_GGUF_PRIVATE_H

#include "model/gguf.h"

// One key-value pair. A scalar is an array of one element with is_array FALSE.
typedef struct vlm_gguf_kv {
    char *key;
    vlm_gguf_type type;  // of the elements; never VLM_GGUF_ARRAY
    gboolean is_array;
    guint n;
    uint8_t *blob;      // numbers: n little-endian elements; strings: the bytes, each with a zero
    uint32_t *offsets;  // strings only: n + 1 starts in `blob`
} vlm_gguf_kv;

// Pairs of one file, with an index by key.
typedef struct vlm_gguf_pairs {
    GPtrArray *list;    // of vlm_gguf_kv, owned
    GHashTable *index;  // key (borrowed) -> vlm_gguf_kv (borrowed)
} vlm_gguf_pairs;

// One file.
typedef struct vlm_gguf_part {
    char *path;
    int fd;         // -1 when the content is in memory
    GBytes *bytes;  // NULL when the content is in a file
    uint64_t size;
} vlm_gguf_part;

struct vlm_gguf {
    gatomicrefcount ref_count;
    char *path;
    char *identity;
    uint32_t version;
    GPtrArray *parts;  // of vlm_gguf_part, owned
    vlm_gguf_pairs pairs;
    GArray *tensors;           // of vlm_gguf_tensor; each name is owned
    GHashTable *tensor_index;  // name (borrowed) -> index in `tensors` + 1
};

// A GHashFunc for keys and names, seeded per process: no file can make them all collide.
guint vlm_gguf_name_hash(gconstpointer name);

void vlm_gguf_pairs_init(vlm_gguf_pairs *pairs);
void vlm_gguf_pairs_finish(vlm_gguf_pairs *pairs);

// Bytes of an element of a numeric type, 0 for strings and arrays.
guint vlm_gguf_type_bytes(vlm_gguf_type type);

// Copies bytes [offset, offset + n) of a part to dst. FORMAT error on a short or failed read.
gboolean vlm_gguf_part_read(const vlm_gguf_part *part, uint64_t offset, void *dst, size_t n,
                            GError **error);

// Reads header, pairs and tensor table of part number `part_index`. Appends its tensors to the
// gguf's table and its pairs to `pairs`, which the caller has initialised.
gboolean vlm_gguf_parse_part(vlm_gguf *gguf, guint part_index, vlm_gguf_pairs *pairs,
                             GError **error);

#endif
