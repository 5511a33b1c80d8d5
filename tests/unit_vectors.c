// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_vectors.c — the reader of recorded references, on files made by hand and on those kept here.
#include "vectors.h"

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

// Two arrays: "a" f32 2x2 and "input", text.
static const char head[] = "vlm-vectors 1\ndata 78\narray a f32 2x2 0\narray input u8 62 16\nend\n";
static const char input[62] = "system Be brief.\ntext see \nframe 5 4 1 500000000\nprompt What?\n";

// The file above with its header replaced by `header`, cut to `size` bytes when that is not 0.
static vectors *open_made(const char *header, gsize size, GError **error)
{
    g_autofree char *dir = g_dir_make_tmp("vectors-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "made.vec", NULL);
    g_autoptr(GString) file = g_string_new(header);
    // 1, -2, 3, 0.5
    static const uint8_t values[16] = { 0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 64, 64, 0, 0, 0, 63 };
    vectors *v;

    while (file->len % 64)
        g_string_append_c(file, ' ');
    g_string_append_len(file, (const char *) values, sizeof values);
    g_string_append_len(file, input, sizeof input);
    g_assert_true(g_file_set_contents(path, file->str, (gssize) (size ? size : file->len), NULL));
    v = vectors_open(path, error);
    g_unlink(path);
    g_rmdir(dir);
    return v;
}

static void test_arrays(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vectors) v = open_made(head, 0, &error);
    const vectors_array *a;
    gsize n;

    g_assert_no_error(error);
    g_assert_cmpuint(vectors_count(v), ==, 2);
    g_assert_null(vectors_find(v, "b"));
    a = vectors_find(v, "a");
    g_assert_true(a == vectors_at(v, 0) && a->dtype == VECTORS_F32);
    g_assert_cmpuint(a->n_dims, ==, 2);
    g_assert_cmpuint(a->shape[0] * a->shape[1], ==, a->n);
    g_assert_cmpuint(a->shape[2], ==, 1);
    const float *x = vectors_f32(v, "a", &n);
    g_assert_cmpuint(n, ==, 4);
    g_assert_true(x[0] == 1 && x[1] == -2 && x[2] == 3 && x[3] == 0.5f);
}

static void test_inputs(void)
{
    g_autoptr(vectors) v = open_made(head, 0, NULL);
    g_autoptr(GPtrArray) inputs = vectors_inputs(v);
    const vectors_input *in;

    g_assert_cmpuint(inputs->len, ==, 4);
    in = g_ptr_array_index(inputs, 0);
    g_assert_cmpint(in->kind, ==, VECTORS_SYSTEM);
    g_assert_cmpstr(in->text, ==, "Be brief.");
    in = g_ptr_array_index(inputs, 1);
    g_assert_cmpint(in->kind, ==, VECTORS_TEXT);
    g_assert_cmpstr(in->text, ==, "see ");  // blanks at the end count
    in = g_ptr_array_index(inputs, 2);
    g_assert_cmpint(in->kind, ==, VECTORS_FRAME);
    g_assert_true(in->width == 5 && in->height == 4 && in->index == 1);
    g_assert_cmpint(in->time_ns, ==, 500000000);
    in = g_ptr_array_index(inputs, 3);
    g_assert_cmpint(in->kind, ==, VECTORS_PROMPT);
    g_assert_cmpstr(in->text, ==, "What?");
}

static void test_malformed(void)
{
    static const char *const headers[] = {
        "",
        "vlm-vectors 2\ndata 78\nend\n",
        "vlm-vectors 1\nend\n",
        "vlm-vectors 1\ndata 79\nend\n",
        "vlm-vectors 1\ndata 78\narray a f32 2x2 0\n",
        "vlm-vectors 1\ndata 78\narray a f32 2x2\nend\n",
        "vlm-vectors 1\ndata 78\narray a f16 2x2 0\nend\n",
        "vlm-vectors 1\ndata 78\narray a f32 2x-2 0\nend\n",
        "vlm-vectors 1\ndata 78\narray a f32 1x1x1x1x1 0\nend\n",
        "vlm-vectors 1\ndata 78\narray a f32 2x2 8\nend\n",
        "vlm-vectors 1\ndata 78\narray a f32 4x4 16\nend\n",
        "vlm-vectors 1\ndata 78\narray a u8 1 80\nend\n",
        "vlm-vectors 1\ndata 78\narray a u8 4294967295x4294967295x4294967295 0\nend\n",
        "vlm-vectors 1\ndata 78\nextra a u8 1 0\nend\n",
    };

    for (guint i = 0; i < G_N_ELEMENTS(headers); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(open_made(headers[i], 0, &error));
        g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL);
    }
    for (gsize size = 1; size < 128 + 78; size++)
        g_assert_null(open_made(head, size, NULL));
}

// Worked out by hand; a change here means that every recorded picture is another one.
static void test_picture(void)
{
    uint8_t rgb[16 * 8 * 3];
    const uint8_t *last = rgb + 7 * 16 * 3;  // row 7 is noise

    vectors_picture(16, 8, 0, rgb);
    g_assert_true(rgb[0] == 255 && rgb[1] == 255 && rgb[2] == 255);  // checkerboard
    g_assert_true(rgb[8 * 3] == 136 && rgb[8 * 3 + 1] == 0 && rgb[8 * 3 + 2] == 92);
    g_assert_true(rgb[4 * 48] == 230 && rgb[4 * 48 + 1] == 30 && rgb[4 * 48 + 2] == 40);
    g_assert_true(rgb[2 * 48 + 36] == 20 && rgb[2 * 48 + 37] == 60 && rgb[2 * 48 + 38] == 220);
    g_assert_cmpuint(last[0], ==, (7u * 19349663u) >> 8 & 255);
    vectors_picture(16, 8, 1, rgb);
    g_assert_cmpuint(rgb[4 * 48], ==, 0);  // the square has moved by 8
    g_assert_cmpuint(rgb[4 * 48 + 24], ==, 230);
    vectors_picture(1, 1, 3, rgb);  // no division by zero
}

static void test_measures(void)
{
    const float want[4] = { 1, -2, 3, 0.5f }, got[4] = { 1, -2.03f, 3, 0.5f };
    const float nan[4] = { 1, -2, NAN, 0.5f }, zero[4] = { 0 };
    const float even[2] = { 7, 7 }, odd[2] = { logf(3), 0 };
    double sum[4];

    vectors_checksum(want, 4, sum);
    g_assert_cmpfloat(sum[0], ==, 2.5);
    g_assert_cmpfloat(sum[1], ==, 6.5);
    g_assert_cmpfloat_with_epsilon(sum[2], sqrt(14.25), 1e-12);
    g_assert_cmpfloat_with_epsilon(sum[3], 1 - 2 * cos(0.1) + 3 * cos(0.2) + 0.5 * cos(0.3), 1e-12);
    g_assert_cmpfloat(vectors_error(want, want, 4), ==, 0);
    g_assert_cmpfloat_with_epsilon(vectors_error(got, want, 4), 0.01, 1e-7);
    g_assert_true(isinf(vectors_error(nan, want, 4)));
    g_assert_true(isinf(vectors_error(want, zero, 4)));
    g_assert_cmpfloat(vectors_kl(want, want, 4), ==, 0);
    // want 3/4, 1/4; got 1/2, 1/2
    g_assert_cmpfloat_with_epsilon(vectors_kl(even, odd, 2), 0.75 * log(1.5) + 0.25 * log(0.5),
                                   1e-6);
}

// Every file of the set opens, and its parts agree with one another.
static void test_recorded(void)
{
    g_autoptr(GError) error = NULL;
    const char *folder = g_getenv("VECTORS_DIR");
    g_autoptr(GDir) dir = folder ? g_dir_open(folder, 0, NULL) : NULL;
    const char *name;

    if (!dir) {
        g_test_skip("VECTORS_DIR is not set");
        return;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        gsize n_ids, n_positions, n_logits, n_greedy, n_gap;

        if (!g_str_has_prefix(name, "model-") || !g_str_has_suffix(name, ".vec"))
            continue;
        g_autoptr(vectors) v = vectors_open(path, &error);
        g_assert_no_error(error);
        g_autoptr(GPtrArray) inputs = vectors_inputs(v);
        const int32_t *greedy = vectors_i32(v, "greedy_ids", &n_greedy);
        const float *logits = vectors_f32(v, "logits", &n_logits);
        vectors_i32(v, "input_ids", &n_ids);
        vectors_i32(v, "position_ids", &n_positions);
        vectors_f32(v, "greedy_gap", &n_gap);
        g_assert_cmpuint(inputs->len, >, 0);
        g_assert_cmpuint(n_positions, ==, 3 * n_ids);
        g_assert_cmpuint(n_greedy, ==, n_gap);
        for (gsize i = 0; i < n_logits; i++)
            g_assert_true(isfinite(logits[i]));
        for (gsize i = 0; i < n_greedy; i++)
            g_assert_cmpint(greedy[i], <, (int32_t) n_logits);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vectors/arrays", test_arrays);
    g_test_add_func("/vectors/inputs", test_inputs);
    g_test_add_func("/vectors/malformed", test_malformed);
    g_test_add_func("/vectors/picture", test_picture);
    g_test_add_func("/vectors/measures", test_measures);
    g_test_add_func("/vectors/recorded", test_recorded);
    return g_test_run();
}
