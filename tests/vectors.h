// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/vectors.h — recorded references: what transformers computed, see tests/oracle/README.md.
//
// A .vec file holds the named arrays of one case. It is a text header and raw data:
//
//   vlm-vectors 1
//   data BYTES                          of the data after the header
//   array NAME DTYPE SHAPE OFFSET       DTYPE u8, i32, f32 or f64; SHAPE as 3x70, slowest axis
//   ...                                 first; OFFSET from the start of the data, multiple of 16
//   end
//
// then spaces and a line feed up to a multiple of 64, then the data, little-endian.
//
// Thread-safety: an opened file is immutable.
#ifndef VLM_TESTS_VECTORS_H
#define VLM_TESTS_VECTORS_H

#include <glib.h>
#include <stdint.h>

#define VECTORS_MAX_DIMS 4

typedef enum vectors_dtype {
    VECTORS_U8,
    VECTORS_I32,
    VECTORS_F32,
    VECTORS_F64,
    VECTORS_N_DTYPE
} vectors_dtype;

typedef struct vectors_array {
    char *name;
    vectors_dtype dtype;
    guint n_dims;                      // 1 to VECTORS_MAX_DIMS
    uint32_t shape[VECTORS_MAX_DIMS];  // slowest axis first; unused ones are 1
    gsize n;                           // elements
    const void *data;                  // aligned for its type, in the host's byte order
} vectors_array;

typedef struct vectors vectors;

// Errors: those of g_file_get_contents(), G_FILE_ERROR_INVAL for a malformed file; the message
// names the file.
vectors *vectors_open(const char *path, GError **error);
void vectors_free(vectors *v);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vectors, vectors_free)

guint vectors_count(const vectors *v);
const vectors_array *vectors_at(const vectors *v, guint i);  // in file order

// NULL when there is none of that name. Borrowed.
const vectors_array *vectors_find(const vectors *v, const char *name);

// Data of an array that must be there and of that type: anything else ends the program with a
// message. *n, when not NULL, is the number of elements.
const float *vectors_f32(const vectors *v, const char *name, gsize *n);
const double *vectors_f64(const vectors *v, const char *name, gsize *n);
const int32_t *vectors_i32(const vectors *v, const char *name, gsize *n);
// A u8 array as a string; a new one for g_free().
char *vectors_text(const vectors *v, const char *name);

// ------------------------------------------------------------------------- inputs of a case
//
// The array "input" is text with one line for each thing that is given to the model, in order:
//
//   system TEXT
//   text TEXT                      part of the user's turn
//   image WIDTH HEIGHT INDEX       vectors_picture() of these
//   frame WIDTH HEIGHT INDEX NS    the same, as a frame of the film at NS nanoseconds
//   answer TEXT                    ends the user's turn; the next one follows
//   prompt TEXT                    last part of the user's turn

typedef enum vectors_kind {
    VECTORS_SYSTEM,
    VECTORS_TEXT,
    VECTORS_IMAGE,
    VECTORS_FRAME,
    VECTORS_ANSWER,
    VECTORS_PROMPT,
    VECTORS_N_KIND
} vectors_kind;

typedef struct vectors_input {
    vectors_kind kind;
    char *text;                     // NULL for pictures
    uint32_t width, height, index;  // of a picture
    int64_t time_ns;                // of a frame
} vectors_input;

// The lines of "input" as vectors_input; ends the program when one is malformed. Free with
// g_ptr_array_unref().
GPtrArray *vectors_inputs(const vectors *v);

// Writes the test picture `index` as [height, width, 3] bytes R, G, B to `rgb`: gradients, a
// checkerboard, a square that moves with the index, a disc and a strip of noise. Integer
// arithmetic only: every machine makes the same bytes.
void vectors_picture(uint32_t width, uint32_t height, uint32_t index, uint8_t *rgb);

// ------------------------------------------------------------------------- measures
//
// One definition each, used by every comparison of this project (docs/numerics.md).

// Four numbers that change with values and with their order: sum x, sum |x|, sqrt(sum x^2) and
// sum x[k] * cos(k / 10).
void vectors_checksum(const float *x, gsize n, double sum[4]);

// Relative error: max |got - want| / max |want|; infinity when `got` has a NaN or infinity.
double vectors_error(const float *got, const float *want, gsize n);

// Kullback-Leibler divergence of softmax(got) from softmax(want), in nats: how many nats are lost
// by predicting with `got` what is distributed as `want`.
double vectors_kl(const float *got, const float *want, gsize n);

#endif
