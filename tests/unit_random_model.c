// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_random_model.c — random models have the keys and tensors that llama.cpp's converter writes.
#include "model/gguf.h"

#include "random_fill.h"
#include "random_model.h"

#include <math.h>
#include <string.h>

// Keys of published files that the converter took from somewhere else than the tiny models.
static const char *const more_keys[] = { "tokenizer.ggml.bos_token_id",
                                         "tokenizer.ggml.add_bos_token",
                                         "tokenizer.chat_template" };
// Keys of the recorded files that say nothing about the model.
static const char *const fewer_keys[] = { "general.size_label" };

static gboolean among(const char *key, const char *const *keys, guint n)
{
    for (guint i = 0; i < n; i++) {
        if (g_str_equal(key, keys[i]))
            return TRUE;
    }
    return FALSE;
}

static vlm_gguf *open_random(const char *family, const char *part)
{
    random_model model;

    g_assert_true(random_model_init(&model, family, "tiny"));
    g_autoptr(gguf_writer) w =
        g_str_equal(part, "text") ? random_model_text(&model) : random_model_mmproj(&model);
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(GError) error = NULL;
    vlm_gguf *gguf = vlm_gguf_open_bytes(bytes, family, &error);
    g_assert_no_error(error);
    return gguf;
}

// "k KEY TYPE", as the recording writes it.
static char *key_line(const vlm_gguf *gguf, guint i)
{
    vlm_gguf_type type;
    guint n;
    const gboolean is_array = vlm_gguf_value_type(gguf, i, &type, &n);

    return g_strdup_printf("k %s %s%s", vlm_gguf_key_at(gguf, i), is_array ? "array " : "",
                           vlm_gguf_type_name(type));
}

// "t NAME TYPE NE...", with V for the size of the vocabulary.
static char *tensor_line(const vlm_gguf *gguf, guint i)
{
    const vlm_gguf_tensor *t = vlm_gguf_tensor_at(gguf, i);
    GString *line = g_string_new(NULL);
    vlm_gguf_strings tokens = { .n = 0 };

    if (vlm_gguf_has(gguf, "tokenizer.ggml.tokens"))
        vlm_gguf_get_str_array(gguf, "tokenizer.ggml.tokens", 0, G_MAXUINT, &tokens, NULL);
    g_string_printf(line, "t %s %s", t->name, vlm_dtype_name(t->dtype));
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (tokens.n && t->ne[d] == tokens.n)
            g_string_append(line, " V");
        else
            g_string_append_printf(line, " %" G_GUINT64_FORMAT, t->ne[d]);
    }
    return g_string_free(line, FALSE);
}

// Compares one recorded file, `lines` up to the next "f", with ours. Returns the line after it.
static char **compare_file(char **lines)
{
    g_auto(GStrv) head = g_strsplit(*lines++, " ", 3);
    g_autoptr(vlm_gguf) gguf = open_random(head[1], head[2]);
    g_autoptr(GHashTable) ours = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < vlm_gguf_n_keys(gguf); i++) {
        if (!among(vlm_gguf_key_at(gguf, i), more_keys, G_N_ELEMENTS(more_keys)))
            g_hash_table_add(ours, key_line(gguf, i));
    }
    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++)
        g_hash_table_add(ours, tensor_line(gguf, i));
    for (; *lines && **lines && **lines != 'f'; lines++) {
        g_auto(GStrv) words = g_strsplit(*lines, " ", 3);

        if (among(words[1], fewer_keys, G_N_ELEMENTS(fewer_keys)))
            continue;
        if (!g_hash_table_remove(ours, *lines))
            g_error("%s %s lacks: %s", head[1], head[2], *lines);
    }
    g_autofree gpointer *extra = g_hash_table_get_keys_as_array(ours, NULL);
    if (extra[0])
        g_error("%s %s has besides: %s", head[1], head[2], (const char *) extra[0]);
    return lines;
}

static void test_converter(void)
{
    g_autofree char *path = g_build_filename(g_getenv("VECTORS_DIR"), "converter.txt", NULL);
    g_autofree char *text = NULL;
    guint n_file = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    char **line = lines + 1;  // after the comment
    while (*line && **line) {
        line = compare_file(line);
        n_file++;
    }
    g_assert_cmpuint(n_file, ==, 12);
}

// The files depend on nothing but their parameters: models made elsewhere are the same.
static void test_reproducible(void)
{
    static const struct {
        const char *name;
        uint64_t seed;
        float first, last;
    } known[] = {
        { "blk.0.attn_q.weight", 1, -2.05131459f, -0.884314895f },
        { "blk.0.attn_q.weight", 2, -1.39368141f, 1.719419f },
        { "output.weight", 1, -0.785655379f, -0.0863436013f },
    };

    for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
        float row[16];
        g_autofree random_fill *fill =
            random_fill_new(known[i].seed, known[i].name, VLM_DTYPE_F32, 16, 0, 1);

        random_fill_rows(fill, 3, 1, row);
        g_assert_cmpfloat(row[0], ==, known[i].first);
        g_assert_cmpfloat(row[15], ==, known[i].last);
    }
}

// Mean 0 and deviation 1 for values that are not quantised.
static void test_spread(void)
{
    enum { N = 65536 };
    g_autofree float *values = g_new(float, N);
    g_autofree random_fill *fill = random_fill_new(7, "x", VLM_DTYPE_F32, N, 0, 1);
    double sum = 0, squares = 0;

    random_fill_rows(fill, 0, 1, values);
    for (guint i = 0; i < N; i++) {
        sum += (double) values[i];
        squares += (double) values[i] * (double) values[i];
    }
    g_assert_cmpfloat(fabs(sum / N), <, 0.02);
    g_assert_cmpfloat(fabs(sqrt(squares / N) - 1), <, 0.02);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/random-model/converter", test_converter);
    g_test_add_func("/random-model/reproducible", test_reproducible);
    g_test_add_func("/random-model/spread", test_spread);
    return g_test_run();
}
