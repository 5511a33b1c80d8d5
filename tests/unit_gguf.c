// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_gguf.c — reading sound GGUF files: values, tensors, files that change, split sets.
#include "model/gguf.h"

#include "base/number.h"
#include "gguf_writer.h"
#include "random_model.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// --- numbers -------------------------------------------------------------------------------------

static void test_f16(void)
{
    static const struct {
        float x;
        uint16_t h;
    } known[] = {
        { 0.0f, 0x0000 },       { -0.0f, 0x8000 },    { 1.0f, 0x3c00 },     { -2.0f, 0xc000 },
        { 65504.0f, 0x7bff },   { 65519.9f, 0x7bff }, { 65520.0f, 0x7c00 }, { 1e9f, 0x7c00 },
        { 0x1p-14f, 0x0400 },   { 0x1p-24f, 0x0001 }, { 0x1p-25f, 0x0000 }, { 0x1.8p-25f, 0x0001 },
        { 0x1.8p-24f, 0x0002 }, { 1.0f / 3, 0x3555 }, { 2049.0f, 0x6800 },  { 2051.0f, 0x6802 },
    };

    for (guint i = 0; i < G_N_ELEMENTS(known); i++)
        g_assert_cmphex(vlm_f32_to_f16(known[i].x), ==, known[i].h);
    // Every half survives the way there and back; NaN stays NaN.
    for (guint h = 0; h < 65536; h++) {
        const float x = vlm_f16_to_f32((uint16_t) h);
        if (x != x)
            g_assert_cmphex(vlm_f32_to_f16(x) & 0x7e00, ==, 0x7e00);
        else
            g_assert_cmphex(vlm_f32_to_f16(x), ==, h);
    }
}

static void test_bf16(void)
{
    g_assert_cmphex(vlm_f32_to_bf16(1.0f), ==, 0x3f80);
    g_assert_cmphex(vlm_f32_to_bf16(vlm_f32_from_bits(0x3f808000)), ==, 0x3f80);  // tie to even
    g_assert_cmphex(vlm_f32_to_bf16(vlm_f32_from_bits(0x3f818000)), ==, 0x3f82);
    g_assert_cmphex(vlm_f32_to_bf16(vlm_f32_from_bits(0x3f808001)), ==, 0x3f81);
    g_assert_cmphex(vlm_f32_to_bf16(vlm_f32_from_bits(0x7f800001)) & 0x7fc0, ==, 0x7fc0);
    for (guint h = 0; h < 65536; h++) {
        const float x = vlm_bf16_to_f32((uint16_t) h);
        if (x == x)
            g_assert_cmphex(vlm_f32_to_bf16(x), ==, h);
    }
}

static void test_checked(void)
{
    uint64_t out = 7;

    g_assert_false(vlm_u64_add(UINT64_MAX, 1, &out));
    g_assert_false(vlm_u64_mul(1ull << 32, 1ull << 32, &out));
    g_assert_false(vlm_u64_align_up(UINT64_MAX - 3, 32, &out));
    g_assert_cmpuint(out, ==, 7);
    g_assert_true(vlm_u64_mul(0, UINT64_MAX, &out));
    g_assert_cmpuint(out, ==, 0);
    g_assert_true(vlm_u64_align_up(33, 32, &out));
    g_assert_cmpuint(out, ==, 64);
    g_assert_cmpuint(vlm_u64_div_up(UINT64_MAX, 2), ==, 1ull << 63);
    g_assert_false(vlm_is_power_of_two(0));
}

// --- values --------------------------------------------------------------------------------------

static vlm_gguf *open_writer(const gguf_writer *w)
{
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(GError) error = NULL;
    vlm_gguf *gguf = vlm_gguf_open_bytes(bytes, "FILE", &error);

    g_assert_no_error(error);
    return gguf;
}

static vlm_gguf *open_values(void)
{
    static const float reals[] = { 0.5f, -1 };
    static const int32_t numbers[] = { 1, 2, 3 };
    static const int32_t negative[] = { 1, -2 };
    static const gboolean flags[] = { TRUE, FALSE };
    static const char *const strings[] = { "a", "", "\xea\xb3\xa0" };
    static const guint8 i64[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    static const guint8 u8[] = { 200 }, u16[] = { 1, 2 };
    static const guint8 f64_nan[] = { 0, 0, 0, 0, 0, 0, 0xf8, 0x7f };
    static const guint8 bad_text[] = { 1, 0, 0, 0, 0, 0, 0, 0, 0xff };
    g_autoptr(gguf_writer) w = gguf_writer_new();

    gguf_writer_u32(w, "u", 42);
    gguf_writer_f32(w, "f", 1.5f);
    gguf_writer_bool(w, "b", TRUE);
    gguf_writer_str(w, "s", "say \"hi\"\n\x01");
    gguf_writer_i32_array(w, "ua", numbers, 3);
    gguf_writer_i32_array(w, "na", negative, 2);
    gguf_writer_f32_array(w, "fa", reals, 2);
    gguf_writer_bool_array(w, "ba", flags, 2);
    gguf_writer_str_array(w, "sa", strings, 3);
    gguf_writer_str_array(w, "empty", strings, 0);
    gguf_writer_raw(w, "i64", VLM_GGUF_I64, i64, sizeof i64);
    gguf_writer_raw(w, "u8", VLM_GGUF_U8, u8, sizeof u8);
    gguf_writer_raw(w, "u16", VLM_GGUF_U16, u16, sizeof u16);
    gguf_writer_raw(w, "nan", VLM_GGUF_F64, f64_nan, sizeof f64_nan);
    gguf_writer_raw(w, "bad", VLM_GGUF_STRING, bad_text, sizeof bad_text);
    return open_writer(w);
}

static void test_values(void)
{
    g_autoptr(vlm_gguf) gguf = open_values();
    g_autofree uint32_t *numbers = NULL;
    g_autofree float *reals = NULL;
    g_autofree uint8_t *flags = NULL;
    vlm_gguf_strings strings;
    const char *text;
    gboolean flag;
    uint32_t u;
    float f;
    guint n;
    size_t len;

    g_assert_true(vlm_gguf_get_u32(gguf, "u", 0, 42, &u, NULL) && u == 42);
    g_assert_true(vlm_gguf_get_u32(gguf, "u8", 0, 255, &u, NULL) && u == 200);
    g_assert_true(vlm_gguf_get_u32(gguf, "u16", 0, 1000, &u, NULL) && u == 513);
    g_assert_true(vlm_gguf_get_u32_or(gguf, "none", 0, 5, 9, &u, NULL) && u == 9);
    g_assert_true(vlm_gguf_get_f32(gguf, "f", 0, 2, &f, NULL) && f > 1.4f);
    g_assert_true(vlm_gguf_get_f32_or(gguf, "none", 0, 2, 7, &f, NULL) && f > 6.9f);
    g_assert_true(vlm_gguf_get_bool_or(gguf, "b", FALSE, &flag, NULL) && flag);
    g_assert_true(vlm_gguf_get_bool_or(gguf, "none", TRUE, &flag, NULL) && flag);
    g_assert_true(vlm_gguf_get_str(gguf, "s", &text, NULL));
    g_assert_cmpstr(text, ==, "say \"hi\"\n\x01");
    g_assert_true(vlm_gguf_get_str_or(gguf, "none", "x", &text, NULL));
    g_assert_cmpstr(text, ==, "x");
    g_assert_true(vlm_gguf_get_u32_array(gguf, "ua", 3, 3, 3, &numbers, &n, NULL));
    g_assert_cmpuint(n, ==, 3);
    g_assert_cmpuint(numbers[2], ==, 3);
    g_assert_true(vlm_gguf_get_f32_array(gguf, "fa", 0, 9, &reals, &n, NULL));
    g_assert_cmpfloat(reals[1], ==, -1.0);
    g_assert_true(vlm_gguf_get_bool_array(gguf, "ba", 2, 2, &flags, &n, NULL));
    g_assert_true(flags[0] == 1 && flags[1] == 0);
    g_assert_true(vlm_gguf_get_str_array(gguf, "sa", 0, 3, &strings, NULL));
    g_assert_cmpstr(vlm_gguf_strings_at(&strings, 2, &len), ==, "\xea\xb3\xa0");
    g_assert_cmpuint(len, ==, 3);
    g_assert_true(vlm_gguf_get_str_array(gguf, "empty", 0, 3, &strings, NULL));
    g_assert_cmpuint(strings.n, ==, 0);
}

#define ASSERT_REFUSED(call, text)                                                                 \
    G_STMT_START                                                                                   \
    {                                                                                              \
        g_autoptr(GError) error = NULL;                                                            \
        g_assert_false(call);                                                                      \
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);                                        \
        g_assert_cmpstr(error->message, ==, "FILE: key " text);                                    \
    }                                                                                              \
    G_STMT_END

static void test_refused_values(void)
{
    g_autoptr(vlm_gguf) gguf = open_values();
    vlm_gguf_strings strings;
    const char *text;
    uint32_t *numbers;
    uint8_t *flags;
    float *reals;
    gboolean flag;
    uint32_t u;
    float f;
    guint n;

    ASSERT_REFUSED(vlm_gguf_get_u32(gguf, "none", 0, 9, &u, &error), "none is missing");
    ASSERT_REFUSED(vlm_gguf_get_u32(gguf, "u", 50, 60, &u, &error), "u is 42, expected 50 to 60");
    ASSERT_REFUSED(vlm_gguf_get_u32(gguf, "i64", 0, 9, &u, &error), "i64 is -1, expected 0 to 9");
    ASSERT_REFUSED(vlm_gguf_get_u32(gguf, "s", 0, 9, &u, &error),
                   "s is of type string, expected an integer");
    ASSERT_REFUSED(vlm_gguf_get_u32(gguf, "ua", 0, 9, &u, &error),
                   "ua is an array of i32, expected an integer");
    ASSERT_REFUSED(vlm_gguf_get_u32(gguf, "b", 0, 9, &u, &error),
                   "b is of type bool, expected an integer");
    ASSERT_REFUSED(vlm_gguf_get_f32(gguf, "u", 0, 9, &f, &error),
                   "u is of type u32, expected a real number");
    ASSERT_REFUSED(vlm_gguf_get_f32(gguf, "nan", 0, 9, &f, &error), "nan is nan, expected 0 to 9");
    ASSERT_REFUSED(vlm_gguf_get_f32(gguf, "f", 2, 9, &f, &error), "f is 1.5, expected 2 to 9");
    ASSERT_REFUSED(vlm_gguf_get_bool_or(gguf, "u", FALSE, &flag, &error),
                   "u is of type u32, expected a boolean");
    ASSERT_REFUSED(vlm_gguf_get_str(gguf, "bad", &text, &error), "bad is not valid UTF-8 text");
    ASSERT_REFUSED(vlm_gguf_get_str(gguf, "sa", &text, &error),
                   "sa is an array of string, expected a string");
    ASSERT_REFUSED(vlm_gguf_get_u32_array(gguf, "u", 0, 9, 9, &numbers, &n, &error),
                   "u is of type u32, expected an array of integers");
    ASSERT_REFUSED(vlm_gguf_get_u32_array(gguf, "na", 0, 9, 9, &numbers, &n, &error),
                   "na is -2, expected 0 to 9");
    ASSERT_REFUSED(vlm_gguf_get_u32_array(gguf, "ua", 4, 4, 9, &numbers, &n, &error),
                   "ua has 3 elements, expected 4");
    ASSERT_REFUSED(vlm_gguf_get_u32_array(gguf, "ua", 4, 5, 9, &numbers, &n, &error),
                   "ua has 3 elements, expected 4 to 5");
    ASSERT_REFUSED(vlm_gguf_get_u32_array(gguf, "fa", 0, 9, 9, &numbers, &n, &error),
                   "fa is an array of f32, expected an array of integers");
    ASSERT_REFUSED(vlm_gguf_get_f32_array(gguf, "ua", 0, 9, &reals, &n, &error),
                   "ua is an array of i32, expected an array of real numbers");
    ASSERT_REFUSED(vlm_gguf_get_bool_array(gguf, "ua", 0, 9, &flags, &n, &error),
                   "ua is an array of i32, expected an array of booleans");
    ASSERT_REFUSED(vlm_gguf_get_str_array(gguf, "ua", 0, 9, &strings, &error),
                   "ua is an array of i32, expected an array of strings");
}

static void test_listing(void)
{
    static const char *const expected[] = {
        "42",
        "1.5",
        "true",
        "\"say \\\"hi\\\"\\n\\x01\"",
        "[1, 2, ... 3 in all]",
        "[1, -2]",
        "[0.5, -1]",
        "[true, false]",
        "[\"a\", \"\", ... 3 in all]",
        "[]",
        "-1",
        "200",
        "513",
        "nan",
        "\"\xef\xbf\xbd\"",
    };
    g_autoptr(vlm_gguf) gguf = open_values();
    vlm_gguf_type type;
    guint n;

    g_assert_cmpuint(vlm_gguf_n_keys(gguf), ==, G_N_ELEMENTS(expected));
    for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
        g_autofree char *text = vlm_gguf_value_to_text(gguf, i, 2);
        g_assert_cmpstr(text, ==, expected[i]);
    }
    g_assert_cmpstr(vlm_gguf_key_at(gguf, 4), ==, "ua");
    g_assert_true(vlm_gguf_value_type(gguf, 4, &type, &n));
    g_assert_cmpuint(n, ==, 3);
    g_assert_cmpstr(vlm_gguf_type_name(type), ==, "i32");
    g_assert_cmpuint(vlm_gguf_version(gguf), ==, 3);
}

// --- files ---------------------------------------------------------------------------------------

typedef struct folder {
    char *path;
} folder;

static void folder_init(folder *f)
{
    f->path = g_dir_make_tmp("vlm-gguf-XXXXXX", NULL);
    g_assert_nonnull(f->path);
}

static void folder_finish(folder *f)
{
    g_autoptr(GDir) dir = g_dir_open(f->path, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(f->path, name, NULL);
        g_remove(path);
    }
    g_rmdir(f->path);
    g_free(f->path);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(folder, folder_finish)

static void fill_count(void *user, uint64_t first_row, uint64_t n_rows, void *dst)
{
    float *out = dst;

    for (uint64_t i = 0; i < 4 * n_rows; i++)
        out[i] = (float) (GPOINTER_TO_UINT(user) + 4 * first_row + i);
}

static void add_tensor(gguf_writer *w, const char *name, guint start, uint64_t rows)
{
    const uint64_t ne[2] = { 4, rows };

    gguf_writer_tensor(w, name, VLM_DTYPE_F32, 2, ne, fill_count, GUINT_TO_POINTER(start), NULL);
}

static char *write_file(const folder *f, const char *name, const gguf_writer *w)
{
    char *path = g_build_filename(f->path, name, NULL);
    g_autoptr(GError) error = NULL;

    gguf_writer_write(w, path, &error);
    g_assert_no_error(error);
    return path;
}

static void assert_refused_file(const char *path, vlm_error_code code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open(path, &error);
    g_autofree char *expected = g_strdup_printf("%s: %s", path, text);

    g_assert_null(gguf);
    g_assert_error(error, VLM_ERROR, (gint) code);
    g_assert_cmpstr(error->message, ==, expected);
}

static void test_tensors(void)
{
    g_auto(folder) f = { NULL };
    g_autoptr(gguf_writer) w = gguf_writer_new();
    g_autoptr(GError) error = NULL;
    const uint64_t shape[2] = { 4, 3 }, wrong[3] = { 4, 3, 2 };
    float values[4];

    folder_init(&f);
    add_tensor(w, "a", 100, 3);
    add_tensor(w, "b", 200, 5);
    g_autofree char *path = write_file(&f, "m.gguf", w);
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open(path, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(vlm_gguf_n_tensors(gguf), ==, 2);
    g_assert_null(vlm_gguf_tensor_find(gguf, "c"));
    const vlm_gguf_tensor *b = vlm_gguf_tensor_find(gguf, "b");
    g_assert_true(b == vlm_gguf_tensor_at(gguf, 1));
    g_assert_cmpuint(b->bytes, ==, 80);
    g_assert_null(b->data);
    g_assert_true(vlm_gguf_read_tensor(gguf, b, 64, values, sizeof values, NULL));
    g_assert_cmpfloat(values[3], ==, 219.0);
    g_assert_false(vlm_gguf_read_tensor(gguf, b, 72, values, sizeof values, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_clear_error(&error);
    g_assert_false(vlm_gguf_read_tensor(gguf, b, UINT64_MAX, values, 2, NULL));
    g_assert_true(vlm_gguf_require_tensor(gguf, "a", 2, shape, NULL)
                  == vlm_gguf_tensor_at(gguf, 0));
    g_assert_null(vlm_gguf_require_tensor(gguf, "a", 3, wrong, &error));
    g_assert_true(
        g_str_has_suffix(error->message, "tensor a has shape [4, 3], expected [4, 3, 2]"));
}

static void test_not_files(void)
{
    g_auto(folder) f = { NULL };

    folder_init(&f);
    g_autofree char *none = g_build_filename(f.path, "none.gguf", NULL);
    g_autofree char *fifo = g_build_filename(f.path, "fifo", NULL);
    g_autofree char *empty = g_build_filename(f.path, "empty", NULL);

    assert_refused_file(none, VLM_ERROR_NOT_FOUND, "cannot be opened: No such file or directory");
    assert_refused_file(f.path, VLM_ERROR_FORMAT, "is not a regular file");
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    assert_refused_file(fifo, VLM_ERROR_FORMAT, "is not a regular file");
    assert_refused_file("/dev/zero", VLM_ERROR_FORMAT, "is not a regular file");
    g_assert_true(g_file_set_contents(empty, "", 0, NULL));
    assert_refused_file(empty, VLM_ERROR_FORMAT, "not a GGUF file");
}

// Cut after every byte of a whole model (in steps where there is only data): always an error.
static void test_truncated(void)
{
    random_model model;

    random_model_init(&model, "qwen3vlmoe", "tiny");
    model.n_layer = 1;
    model.n_deepstack = 1;
    g_autoptr(gguf_writer) w = random_model_text(&model);
    g_autoptr(GBytes) whole = gguf_writer_to_bytes(w);
    const gsize size = g_bytes_get_size(whole);

    for (gsize n = 0; n < size; n += n < 20000 ? 1 : 4001) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(whole, 0, n);
        g_autoptr(GError) error = NULL;
        g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(cut, "FILE", &error);

        g_assert_null(gguf);
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    }
}

// A file that shrinks while it is in use gives an error, not a signal.
static void test_shrinks(void)
{
    g_auto(folder) f = { NULL };
    g_autoptr(gguf_writer) w = gguf_writer_new();
    g_autoptr(GError) error = NULL;
    float values[4];

    folder_init(&f);
    gguf_writer_str(w, "s", "text");
    add_tensor(w, "a", 0, 4096);
    g_autofree char *path = write_file(&f, "m.gguf", w);
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open(path, NULL);
    g_assert_nonnull(gguf);
    const vlm_gguf_tensor *a = vlm_gguf_tensor_find(gguf, "a");
    g_assert_cmpint(truncate(path, 4096), ==, 0);
    g_assert_true(vlm_gguf_read_tensor(gguf, a, 0, values, sizeof values, NULL));
    g_assert_false(vlm_gguf_read_tensor(gguf, a, 65520, values, sizeof values, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    g_assert_nonnull(strstr(error->message, "became shorter"));
    const char *text;
    g_assert_true(vlm_gguf_get_str(gguf, "s", &text, NULL));
}

// Sparse pairs of 32 MiB each, more than the metadata cap allows in all.
static void test_metadata_cap(void)
{
    g_auto(folder) f = { NULL };

    folder_init(&f);
    g_autofree char *path = g_build_filename(f.path, "big", NULL);
    FILE *file = g_fopen(path, "wb");
    guint8 head[24] = "GGUF\3";

    g_assert_nonnull(file);
    vlm_store_le64(head + 16, 9);
    g_assert_cmpuint(fwrite(head, 1, sizeof head, file), ==, sizeof head);
    for (guint8 i = 0; i < 9; i++) {
        guint8 pair[25] = { 1, 0, 0, 0, 0, 0, 0, 0, 'a' + i, 9, 0, 0, 0, 10 };

        vlm_store_le64(pair + 17, VLM_GGUF_MAX_ARRAY_ELEMS);
        g_assert_cmpuint(fwrite(pair, 1, sizeof pair, file), ==, sizeof pair);
        g_assert_cmpint(fseek(file, 8l * VLM_GGUF_MAX_ARRAY_ELEMS, SEEK_CUR), ==, 0);
    }
    g_assert_cmpuint(fwrite(head, 1, sizeof head, file), ==, sizeof head);
    g_assert_cmpint(fclose(file), ==, 0);
    assert_refused_file(path, VLM_ERROR_FORMAT, "metadata is larger than the 256 MiB allowed");
}

// --- split sets ----------------------------------------------------------------------------------

static char *write_part(const folder *f, const char *name, guint8 number, guint8 count,
                        uint32_t n_tensors, const char *tensor)
{
    g_autoptr(gguf_writer) w = gguf_writer_new();
    const guint8 no[2] = { number, 0 }, of[2] = { count, 0 };

    gguf_writer_raw(w, "split.no", VLM_GGUF_U16, no, sizeof no);
    gguf_writer_raw(w, "split.count", VLM_GGUF_U16, of, sizeof of);
    gguf_writer_u32(w, "split.tensors.count", n_tensors);
    add_tensor(w, tensor, 100 * number, 2);
    return write_file(f, name, w);
}

static void test_split(void)
{
    g_auto(folder) f = { NULL };
    g_autoptr(GError) error = NULL;
    float values[4];

    folder_init(&f);
    g_autofree char *one = write_part(&f, "m-00001-of-00002.gguf", 0, 2, 2, "a");
    g_autofree char *two = write_part(&f, "m-00002-of-00002.gguf", 1, 2, 2, "b");
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open(one, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(vlm_gguf_n_tensors(gguf), ==, 2);
    const vlm_gguf_tensor *b = vlm_gguf_tensor_find(gguf, "b");
    g_assert_cmpuint(b->part, ==, 1);
    g_assert_true(vlm_gguf_read_tensor(gguf, b, 16, values, sizeof values, NULL));
    g_assert_cmpfloat(values[0], ==, 104.0);

    assert_refused_file(two, VLM_ERROR_FORMAT, "is part 2 of 2, open the first part instead");
}

static void test_split_damaged(void)
{
    g_auto(folder) f = { NULL };

    folder_init(&f);
    g_autofree char *one = write_part(&f, "m-00001-of-00002.gguf", 0, 2, 2, "a");
    g_autofree char *two = g_build_filename(f.path, "m-00002-of-00002.gguf", NULL);
    g_autofree char *missing =
        g_strdup_printf("part 2 of 2: %s: cannot be opened: No such file or directory", two);
    assert_refused_file(one, VLM_ERROR_NOT_FOUND, missing);

    g_autoptr(GError) error = NULL;
    g_free(write_part(&f, "m-00002-of-00002.gguf", 0, 2, 2, "b"));  // another first part
    g_assert_null(vlm_gguf_open(one, &error));
    g_assert_true(g_str_has_suffix(error->message, "is not part 2 of 2 of this model"));
    g_clear_error(&error);
    g_free(write_part(&f, "m-00002-of-00002.gguf", 1, 2, 2, "a"));  // the same tensor again
    g_assert_null(vlm_gguf_open(one, &error));
    g_assert_true(g_str_has_suffix(error->message, "tensor a appears twice"));

    g_free(write_part(&f, "m-00001-of-00002.gguf", 0, 2, 3, "a"));
    g_free(write_part(&f, "m-00002-of-00002.gguf", 1, 2, 3, "b"));
    assert_refused_file(one, VLM_ERROR_FORMAT, "the 2 parts hold 2 tensors, expected 3");

    g_autofree char *named = write_part(&f, "m.gguf", 0, 2, 2, "a");
    assert_refused_file(named, VLM_ERROR_FORMAT,
                        "is one of 2 parts, but its name does not end in -00001-of-00002.gguf");
}

// A second part by words: "no=N" and "of=N" its numbers, "cut=N" leaves out the last bytes, one
// letter a tensor. What has none of them is the content itself.
static char *write_script(const folder *f, const char *name, const char *script)
{
    g_auto(GStrv) words = g_strsplit(script, " ", -1);
    g_autoptr(gguf_writer) w = gguf_writer_new();
    char *path = g_build_filename(f->path, name, NULL);
    gsize cut = 0, size;

    for (char **word = words; *word; word++) {
        const char *number = strchr(*word, '=');
        const guint8 raw[2] = { (guint8) atoi(number ? number + 1 : "0"), 0 };

        if (g_str_has_prefix(*word, "no="))
            gguf_writer_raw(w, "split.no", VLM_GGUF_U16, raw, sizeof raw);
        else if (g_str_has_prefix(*word, "of="))
            gguf_writer_raw(w, "split.count", VLM_GGUF_U16, raw, sizeof raw);
        else if (g_str_has_prefix(*word, "cut="))
            cut = (gsize) atoi(*word + 4);
        else if (strlen(*word) == 1)
            add_tensor(w, *word, 0, 2);
        else
            g_clear_pointer(&w, gguf_writer_free);
        if (!w)
            break;
    }
    if (!w || !*script) {
        g_assert_true(g_file_set_contents(path, script, -1, NULL));
        return path;
    }
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    const char *data = g_bytes_get_data(bytes, &size);
    g_assert_true(g_file_set_contents(path, data, (gssize) (size - cut), NULL));
    return path;
}

// A first part that is sound beside a second one that is not.
static void test_split_hostile(void)
{
    static const struct {
        const char *id, *script;  // see write_script()
        const char *error;
    } rows[] = {
        { "empty file", "", "not a GGUF file" },
        { "text", "no model", "not a GGUF file" },
        { "counted otherwise", "no=1 of=3 b", "is not part 2 of 2 of this model" },
        { "numbered otherwise", "no=2 of=2 b", "is not part 2 of 2 of this model" },
        { "the first part again", "no=0 of=2 a", "is not part 2 of 2 of this model" },
        { "no numbers", "b", "is not part 2 of 2 of this model" },
        { "cut off", "no=1 of=2 b cut=8",
          "file is truncated or damaged: tensor b needs 32 bytes at offset 0 of the data, the file "
          "has 24 bytes of data" },
        { "data missing", "no=1 of=2 b cut=40",
          "file is truncated or damaged: tensor b needs 32 bytes at offset 0 of the data, the file "
          "has 0 bytes of data" },
        { "a tensor of the first", "no=1 of=2 a", "tensor a appears twice" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(folder) f = { NULL };
        g_autoptr(GError) error = NULL;

        folder_init(&f);
        g_autofree char *one = write_part(&f, "m-00001-of-00002.gguf", 0, 2, 2, "a");
        g_autofree char *two = write_script(&f, "m-00002-of-00002.gguf", rows[i].script);
        g_autofree char *expected = g_strdup_printf("%s: %s", two, rows[i].error);
        g_test_message("%s", rows[i].id);
        g_assert_null(vlm_gguf_open(one, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_cmpstr(error->message, ==, expected);
    }
}

// What the first part says of the whole.
static void test_split_counts(void)
{
    g_auto(folder) f = { NULL };
    g_autoptr(gguf_writer) w = gguf_writer_new();

    folder_init(&f);
    gguf_writer_u32(w, "split.count", 70000);
    g_autofree char *many = write_file(&f, "m-00001-of-70000.gguf", w);
    assert_refused_file(many, VLM_ERROR_FORMAT, "is one of 70000 parts, at most 1000 are allowed");
    g_autofree char *three = write_part(&f, "m-00001-of-00003.gguf", 0, 2, 2, "a");
    assert_refused_file(three, VLM_ERROR_FORMAT,
                        "is one of 2 parts, but its name does not end in -00001-of-00002.gguf");
}

// The writer of the tests makes what the reader reads, whatever the number of parts.
static void test_split_written(void)
{
    static const char *const names[] = { "a", "b", "c", "d", "e" };
    g_auto(folder) f = { NULL };
    g_autoptr(gguf_writer) w = gguf_writer_new();

    folder_init(&f);
    gguf_writer_str(w, "general.architecture", "x");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        add_tensor(w, names[i], 100 * i, 2);
    for (guint count = 1; count <= 7; count++) {
        g_autofree char *stem = g_strdup_printf("%s/w", f.path);
        g_autofree char *one = g_strdup_printf("%s-00001-of-%05u.gguf", stem, count);
        g_autoptr(GError) error = NULL;

        g_assert_true(gguf_writer_write_split(w, stem, count, count > 1, &error));
        g_autoptr(vlm_gguf) gguf = vlm_gguf_open(one, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(vlm_gguf_n_tensors(gguf), ==, G_N_ELEMENTS(names));
        for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
            const vlm_gguf_tensor *t = vlm_gguf_tensor_find(gguf, names[i]);
            float values[8];
            g_assert_true(vlm_gguf_read_tensor(gguf, t, 0, values, sizeof values, NULL));
            g_assert_cmpfloat(values[1], ==, (float) (100 * i + 1));
            g_assert_true(count == 1 || t->part > 0);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/number/f16", test_f16);
    g_test_add_func("/number/bf16", test_bf16);
    g_test_add_func("/number/checked", test_checked);
    g_test_add_func("/gguf/values", test_values);
    g_test_add_func("/gguf/refused-values", test_refused_values);
    g_test_add_func("/gguf/listing", test_listing);
    g_test_add_func("/gguf/tensors", test_tensors);
    g_test_add_func("/gguf/not-files", test_not_files);
    g_test_add_func("/gguf/truncated", test_truncated);
    g_test_add_func("/gguf/shrinks", test_shrinks);
    g_test_add_func("/gguf/metadata-cap", test_metadata_cap);
    g_test_add_func("/gguf/split", test_split);
    g_test_add_func("/gguf/split-damaged", test_split_damaged);
    g_test_add_func("/gguf/split-hostile", test_split_hostile);
    g_test_add_func("/gguf/split-counts", test_split_counts);
    g_test_add_func("/gguf/split-written", test_split_written);
    return g_test_run();
}
