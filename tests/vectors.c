// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/vectors.c — reads recorded references and measures distances to them.
#include "vectors.h"

#include <math.h>
#include <string.h>

#define MAGIC      "vlm-vectors 1"
#define ALIGN_DATA 64u
#define ALIGN_ITEM 16u

struct vectors {
    char *path;
    char *contents;    // the whole file
    GPtrArray *array;  // of vectors_array *
};

static const struct {
    const char *name;
    gsize bytes;
} dtypes[VECTORS_N_DTYPE] = {
    [VECTORS_U8] = { "u8", 1 },
    [VECTORS_I32] = { "i32", 4 },
    [VECTORS_F32] = { "f32", 4 },
    [VECTORS_F64] = { "f64", 8 },
};

static void array_free(gpointer data)
{
    vectors_array *a = data;

    g_free(a->name);
    g_free(a);
}

void vectors_free(vectors *v)
{
    if (!v)
        return;
    g_clear_pointer(&v->array, g_ptr_array_unref);
    g_free(v->contents);
    g_free(v->path);
    g_free(v);
}

// "3x70" to the axes of `a` and its number of elements.
static gboolean parse_shape(const char *text, vectors_array *a)
{
    g_auto(GStrv) axes = g_strsplit(text, "x", 0);

    a->n_dims = g_strv_length(axes);
    if (a->n_dims < 1 || a->n_dims > VECTORS_MAX_DIMS)
        return FALSE;
    a->n = 1;
    for (guint i = 0; i < VECTORS_MAX_DIMS; i++) {
        guint64 axis = 1;

        if (i < a->n_dims && !g_ascii_string_to_unsigned(axes[i], 10, 0, G_MAXUINT32, &axis, NULL))
            return FALSE;
        if (!g_size_checked_mul(&a->n, a->n, (gsize) axis))
            return FALSE;
        a->shape[i] = (uint32_t) axis;
    }
    return TRUE;
}

static void to_host_order(void *data, gsize n, gsize bytes)
{
#if G_BYTE_ORDER == G_BIG_ENDIAN
    uint8_t *p = data;

    for (gsize i = 0; i < n; i++, p += bytes) {
        for (gsize k = 0; k < bytes / 2; k++) {
            const uint8_t low = p[k];
            p[k] = p[bytes - 1 - k];
            p[bytes - 1 - k] = low;
        }
    }
#else
    (void) data;
    (void) n;
    (void) bytes;
#endif
}

// One "array" line, split into words.
static gboolean parse_array(vectors *v, char **word, char *data, gsize n_data)
{
    vectors_array *a = g_new0(vectors_array, 1);
    guint64 offset;
    gsize bytes;

    g_ptr_array_add(v->array, a);
    a->name = g_strdup(word[1]);
    while (a->dtype < VECTORS_N_DTYPE && !g_str_equal(word[2], dtypes[a->dtype].name))
        a->dtype++;
    if (a->dtype == VECTORS_N_DTYPE || !parse_shape(word[3], a)
        || !g_ascii_string_to_unsigned(word[4], 10, 0, n_data, &offset, NULL) || offset % ALIGN_ITEM
        || !g_size_checked_mul(&bytes, a->n, dtypes[a->dtype].bytes)
        || bytes > n_data - (gsize) offset)
        return FALSE;
    a->data = data + offset;
    to_host_order(data + offset, a->n, dtypes[a->dtype].bytes);
    return TRUE;
}

// Fills `v` from v->contents. Returns NULL, or what is wrong.
static const char *parse(vectors *v, gsize size)
{
    const char *end = g_strstr_len(v->contents, (gssize) size, "\nend\n");
    guint64 n_data = 0;
    gsize head;

    if (!end || !g_str_has_prefix(v->contents, MAGIC "\n"))
        return "not a file of vectors";
    head = (gsize) (end - v->contents) + strlen("\nend\n");
    head = (head + ALIGN_DATA - 1) / ALIGN_DATA * ALIGN_DATA;

    g_autofree char *text = g_strndup(v->contents, (gsize) (end - v->contents));
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    if (g_strv_length(lines) < 2 || !g_str_has_prefix(lines[1], "data ")
        || !g_ascii_string_to_unsigned(lines[1] + 5, 10, 0, G_MAXSIZE, &n_data, NULL))
        return "the second line does not say how much data there is";
    if (head > size || size - head != n_data)
        return "the file is longer or shorter than its header says";
    for (char **line = lines + 2; *line; line++) {
        g_auto(GStrv) word = g_strsplit(*line, " ", 0);

        if (g_strv_length(word) != 5 || !g_str_equal(word[0], "array")
            || !parse_array(v, word, v->contents + head, (gsize) n_data))
            return "a line of the header is malformed";
    }
    return NULL;
}

vectors *vectors_open(const char *path, GError **error)
{
    g_autoptr(vectors) v = g_new0(vectors, 1);
    const char *fault;
    gsize size;

    v->path = g_strdup(path);
    v->array = g_ptr_array_new_with_free_func(array_free);
    if (!g_file_get_contents(path, &v->contents, &size, error))
        return NULL;
    fault = parse(v, size);
    if (fault) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: %s", path, fault);
        return NULL;
    }
    return g_steal_pointer(&v);
}

guint vectors_count(const vectors *v)
{
    return v->array->len;
}

const vectors_array *vectors_at(const vectors *v, guint i)
{
    return g_ptr_array_index(v->array, i);
}

const vectors_array *vectors_find(const vectors *v, const char *name)
{
    for (guint i = 0; i < v->array->len; i++) {
        const vectors_array *a = g_ptr_array_index(v->array, i);

        if (g_str_equal(a->name, name))
            return a;
    }
    return NULL;
}

static const void *require(const vectors *v, const char *name, vectors_dtype dtype, gsize *n)
{
    const vectors_array *a = vectors_find(v, name);

    if (!a || a->dtype != dtype)
        g_error("%s: no array %s of type %s", v->path, name, dtypes[dtype].name);
    if (n)
        *n = a->n;
    return a->data;
}

const float *vectors_f32(const vectors *v, const char *name, gsize *n)
{
    return require(v, name, VECTORS_F32, n);
}

const double *vectors_f64(const vectors *v, const char *name, gsize *n)
{
    return require(v, name, VECTORS_F64, n);
}

const int32_t *vectors_i32(const vectors *v, const char *name, gsize *n)
{
    return require(v, name, VECTORS_I32, n);
}

char *vectors_text(const vectors *v, const char *name)
{
    gsize n;
    const char *text = require(v, name, VECTORS_U8, &n);

    return g_strndup(text, n);
}

static void input_free(gpointer data)
{
    vectors_input *input = data;

    g_free(input->text);
    g_free(input);
}

// Numbers separated by blanks, exactly n of them.
static gboolean parse_numbers(const char *text, gint64 *number, guint n)
{
    g_auto(GStrv) word = g_strsplit(text, " ", 0);

    if (g_strv_length(word) != n)
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (!g_ascii_string_to_signed(word[i], 10, 0, G_MAXINT64, &number[i], NULL))
            return FALSE;
    }
    return TRUE;
}

static vectors_input *parse_input(const char *line)
{
    static const char *const names[VECTORS_N_KIND] = {
        [VECTORS_SYSTEM] = "system ", [VECTORS_TEXT] = "text ",     [VECTORS_IMAGE] = "image ",
        [VECTORS_FRAME] = "frame ",   [VECTORS_ANSWER] = "answer ", [VECTORS_PROMPT] = "prompt ",
    };
    vectors_input *input = g_new0(vectors_input, 1);
    gint64 number[4] = { 0 };

    while (input->kind < VECTORS_N_KIND && !g_str_has_prefix(line, names[input->kind]))
        input->kind++;
    if (input->kind == VECTORS_N_KIND)
        g_error("an input that is neither text nor picture: %s", line);
    line += strlen(names[input->kind]);
    if (input->kind != VECTORS_IMAGE && input->kind != VECTORS_FRAME) {
        input->text = g_strdup(line);
        return input;
    }
    if (!parse_numbers(line, number, input->kind == VECTORS_FRAME ? 4 : 3))
        g_error("malformed picture: %s", line);
    input->width = (uint32_t) number[0];
    input->height = (uint32_t) number[1];
    input->index = (uint32_t) number[2];
    input->time_ns = number[3];
    return input;
}

GPtrArray *vectors_inputs(const vectors *v)
{
    g_autofree char *text = vectors_text(v, "input");
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    GPtrArray *inputs = g_ptr_array_new_with_free_func(input_free);

    for (char **line = lines; *line; line++) {
        if (**line)
            g_ptr_array_add(inputs, parse_input(*line));
    }
    return inputs;
}

static void paint(uint8_t *rgb, uint32_t r, uint32_t g, uint32_t b)
{
    rgb[0] = (uint8_t) r;
    rgb[1] = (uint8_t) g;
    rgb[2] = (uint8_t) b;
}

void vectors_picture(uint32_t width, uint32_t height, uint32_t index, uint8_t *rgb)
{
    const int64_t w = width, h = height, quarter = MAX(h / 4, 1), radius = h / 6;
    const int64_t left = (int64_t) index * 8 % MAX(w - quarter, 1);

    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++, rgb += 3) {
            const int64_t dx = x - 3 * w / 4, dy = y - h / 3;
            const uint32_t noise =
                ((uint32_t) x * 73856093u) ^ ((uint32_t) y * 19349663u) ^ (index * 83492791u);

            paint(rgb, (uint32_t) (x * 255 / MAX(w - 1, 1)), (uint32_t) (y * 255 / MAX(h - 1, 1)),
                  (uint32_t) ((x + y) * 255 / MAX(w + h - 2, 1)));
            if (x < w / 4 && y < h / 4)
                memset(rgb, (x + y) / 4 % 2 == 0 ? 255 : 0, 3);
            if (y >= h - h / 8)
                paint(rgb, noise >> 8 & 255, noise >> 16 & 255, noise >> 24);
            if (y >= h / 2 && y < h / 2 + quarter && x >= left && x < left + quarter)
                paint(rgb, 230, 30, 40);
            if (dx * dx + dy * dy < radius * radius)
                paint(rgb, 20, 60, 220);
        }
    }
}

void vectors_checksum(const float *x, gsize n, double sum[4])
{
    double plain = 0, magnitude = 0, square = 0, ordered = 0;

    for (gsize k = 0; k < n; k++) {
        plain += x[k];
        magnitude += fabs((double) x[k]);
        square += (double) x[k] * x[k];
        ordered += x[k] * cos((double) k * 0.1);
    }
    sum[0] = plain;
    sum[1] = magnitude;
    sum[2] = sqrt(square);
    sum[3] = ordered;
}

double vectors_error(const float *got, const float *want, gsize n)
{
    double error = 0, largest = 0;

    for (gsize k = 0; k < n; k++) {
        const double difference = fabs((double) got[k] - want[k]);

        if (!isfinite(got[k]))
            return INFINITY;
        error = MAX(error, difference);
        largest = MAX(largest, fabs((double) want[k]));
    }
    return error > 0 ? error / largest : 0;
}

// log(sum exp(x))
static double log_sum_exp(const float *x, gsize n)
{
    double top = -INFINITY, sum = 0;

    for (gsize k = 0; k < n; k++)
        top = MAX(top, x[k]);
    for (gsize k = 0; k < n; k++)
        sum += exp(x[k] - top);
    return top + log(sum);
}

double vectors_kl(const float *got, const float *want, gsize n)
{
    const double log_got = log_sum_exp(got, n), log_want = log_sum_exp(want, n);
    double kl = 0;

    for (gsize k = 0; k < n; k++)
        kl += exp(want[k] - log_want) * ((want[k] - log_want) - (got[k] - log_got));
    return MAX(kl, 0);
}
