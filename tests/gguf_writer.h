// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/gguf_writer.h — writes GGUF files (version 3) for tests.
//
// Key-value pairs and tensors are written in the order in which they were added. Programming
// errors (unfit row width, n_dims out of range) end the program. Thread-safety: unsafe.
#ifndef VLM_TESTS_GGUF_WRITER_H
#define VLM_TESTS_GGUF_WRITER_H

#include "ops/quant.h"

#include <glib.h>
#include <stdint.h>

typedef struct gguf_writer gguf_writer;

// Makes rows [first_row, first_row + n_rows) of a tensor at `dst`, in its own type. A row is ne[0]
// elements; rows are numbered over all other axes.
typedef void (*gguf_fill)(void *user, uint64_t first_row, uint64_t n_rows, void *dst);

gguf_writer *gguf_writer_new(void);
void gguf_writer_free(gguf_writer *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(gguf_writer, gguf_writer_free)

void gguf_writer_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_f32(gguf_writer *w, const char *key, float value);
void gguf_writer_bool(gguf_writer *w, const char *key, gboolean value);
void gguf_writer_str(gguf_writer *w, const char *key, const char *value);
void gguf_writer_i32_array(gguf_writer *w, const char *key, const int32_t *values, guint n);
void gguf_writer_f32_array(gguf_writer *w, const char *key, const float *values, guint n);
void gguf_writer_bool_array(gguf_writer *w, const char *key, const gboolean *values, guint n);
void gguf_writer_str_array(gguf_writer *w, const char *key, const char *const *values, guint n);

// A value given as its bytes, for files that are wrong on purpose: `type` and `raw` are written
// as they are.
void gguf_writer_raw(gguf_writer *w, const char *key, uint32_t type, const void *raw, gsize n);

// Replaces pairs already added, or does nothing: the way to damage a model made by others.
void gguf_writer_remove(gguf_writer *w, const char *key);

// `fill` is called while writing; `user` is freed by `destroy` (may be NULL) with the writer.
void gguf_writer_tensor(gguf_writer *w, const char *name, vlm_dtype dtype, uint32_t n_dims,
                        const uint64_t *ne, gguf_fill fill, gpointer user, GDestroyNotify destroy);
void gguf_writer_remove_tensor(gguf_writer *w, const char *name);

// Streams to a file; FALSE with a G_FILE_ERROR.
gboolean gguf_writer_write(const gguf_writer *w, const char *path, GError **error);

// The same as `count` files STEM-00001-of-0000N.gguf: pairs in the first, tensors spread in order;
// `bare_first`: the first has none of them (needs count >= 2).
gboolean gguf_writer_write_split(const gguf_writer *w, const char *stem, guint count,
                                 gboolean bare_first, GError **error);

// The same in memory.
GBytes *gguf_writer_to_bytes(const gguf_writer *w);

#endif
