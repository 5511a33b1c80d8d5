// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_hub.c — names of models and files: what is one, what it says, which is chosen.
#include "model/hub.h"

#include <string.h>

static void test_hub_names(void)
{
    static const struct {
        const char *name, *org, *repo, *quant;  // org NULL: refused
    } rows[] = {
        { "hf:a/b", "a", "b", NULL },
        { "hf:Qwen/Qwen3-VL-2B.x_y-GGUF:q8_0", "Qwen", "Qwen3-VL-2B.x_y-GGUF", "q8_0" },
        { "a/b", NULL, NULL, NULL },
        { "hf:", NULL, NULL, NULL },
        { "hf:a", NULL, NULL, NULL },
        { "hf:a/", NULL, NULL, NULL },
        { "hf:/b", NULL, NULL, NULL },
        { "hf:a/b:", NULL, NULL, NULL },
        { "hf:a/b:c:d", NULL, NULL, NULL },
        { "hf:a/b/c", NULL, NULL, NULL },
        { "hf:../b", NULL, NULL, NULL },
        { "hf:a/..", NULL, NULL, NULL },
        { "hf:a/b..c", NULL, NULL, NULL },
        { "hf:.a/b", NULL, NULL, NULL },
        { "hf:a/b\nc", NULL, NULL, NULL },
        { "hf:a/b c", NULL, NULL, NULL },
        { "hf:a/b:../x", NULL, NULL, NULL },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(vlm_hub_name) name = vlm_hub_name_parse(rows[i].name, &error);

        if (!rows[i].org) {
            g_assert_null(name);
            g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
            g_assert_null(strchr(error->message, '\n'));
            continue;
        }
        g_assert_no_error(error);
        g_assert_cmpstr(name->org, ==, rows[i].org);
        g_assert_cmpstr(name->repo, ==, rows[i].repo);
        g_assert_cmpstr(name->quant, ==, rows[i].quant);
    }
}

static void test_file_names(void)
{
    static const struct {
        const char *path;
        vlm_file_kind kind;
        const char *quant;
    } rows[] = {
        { "a-Q4_K_M.gguf", VLM_FILE_TEXT, "Q4_K_M" },
        { "a.q8_0.gguf", VLM_FILE_TEXT, "Q8_0" },
        { "dir/A-UD-Q4_K_XL-00001-of-00003.gguf", VLM_FILE_TEXT, "Q4_K_XL" },
        { "dir/A-UD-Q4_K_XL-00002-of-00003.gguf", VLM_FILE_PART, "Q4_K_XL" },
        { "a_bf16.GGUF", VLM_FILE_TEXT, "BF16" },
        { "a-IQ4_XS.gguf", VLM_FILE_TEXT, "IQ4_XS" },
        { "Qwen3VL-2B.gguf", VLM_FILE_TEXT, NULL },
        { "shapes.gguf", VLM_FILE_TEXT, NULL },
        { "F16.gguf", VLM_FILE_TEXT, "F16" },
        { "mmproj-a-F16.gguf", VLM_FILE_VISION, "F16" },
        { "a.mmproj-Q8_0.gguf", VLM_FILE_VISION, "Q8_0" },
        { "a-imatrix.gguf", VLM_FILE_OTHER, NULL },
        { "imatrix_unsloth.gguf_file", VLM_FILE_OTHER, NULL },
        { "README.md", VLM_FILE_OTHER, NULL },
        { "mmproj/a-Q8_0.gguf", VLM_FILE_TEXT, "Q8_0" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *quant = vlm_file_quant(rows[i].path);

        g_test_message("%s", rows[i].path);
        g_assert_cmpint(vlm_file_kind_of(rows[i].path), ==, rows[i].kind);
        if (rows[i].kind != VLM_FILE_OTHER)
            g_assert_cmpstr(quant, ==, rows[i].quant);
    }
}

static void test_safe_names(void)
{
    static const char *const good[] = { "a.gguf", "dir/a b.gguf", "\xc3\xa4/..a", "a..b" };
    static const char *const bad[] = { "",          "/a",    "..",   "../a", "a/../b",
                                       "a/..",      "./a",   "a//b", "a/",   "a\nb",
                                       "a\x1b[2Jb", "a\x7f", "a\\b", "\xff", "\xc2\x9bZ" };
    g_autofree char *wide = g_strnfill(256, 'x');
    g_autofree char *part = g_strnfill(200, 'y');
    g_autofree char *deep =
        g_strdup_printf("%s/%s/%s/%s/%s/%s", part, part, part, part, part, part);

    for (guint i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(vlm_file_name_is_safe(good[i]));
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(vlm_file_name_is_safe(bad[i]));
    g_assert_false(vlm_file_name_is_safe(wide));
    g_assert_false(vlm_file_name_is_safe(deep));
}

static void test_choice(void)
{
    static const struct {
        const char *files, *quant;  // separated by blanks
        gboolean with_mmproj;
        const char *chosen;  // in order; NULL: none
        const char *error;
    } rows[] = {
        { "a-Q8_0.gguf a-Q4_K_M.gguf a-F16.gguf mmproj-a.gguf", NULL, TRUE,
          "a-Q4_K_M.gguf mmproj-a.gguf", NULL },
        { "a-Q8_0.gguf a-F16.gguf mmproj-a.gguf", NULL, TRUE, "a-Q8_0.gguf mmproj-a.gguf", NULL },
        { "a-IQ1_S.gguf a-F32.gguf a-BF16.gguf a-F16.gguf", NULL, FALSE, "a-F16.gguf", NULL },
        { "z.gguf bb.gguf b.gguf a-x.gguf", NULL, FALSE, "b.gguf", NULL },
        { "a-Q8_0.gguf a-Q4_K_M.gguf", "q8_0", FALSE, "a-Q8_0.gguf", NULL },
        { "a-UD-Q4_K_M.gguf a-Q4_K_M.gguf", "Q4_K_M", FALSE, "a-Q4_K_M.gguf", NULL },
        { "a-Q4_K_M.gguf a-Q4_K_S.gguf", "Q4_K", FALSE, NULL,
          "there is no text GGUF of quantisation Q4_K, but one of Q4_K_M, Q4_K_S" },
        { "a-IQ4_K.gguf", "Q4_K", FALSE, NULL,
          "there is no text GGUF of quantisation Q4_K, but one of IQ4_K" },
        { "Q6_K/part.gguf a-Q8_0.gguf", "Q6_K", FALSE, "Q6_K/part.gguf", NULL },
        { "a-Q8_0.gguf mmproj-BF16.gguf mmproj-F16.gguf mmproj-F32.gguf", NULL, TRUE,
          "a-Q8_0.gguf mmproj-F16.gguf", NULL },
        { "a-Q8_0.gguf mmproj-Q8_0.gguf mmproj-BF16.gguf mmproj-F32.gguf", NULL, TRUE,
          "a-Q8_0.gguf mmproj-BF16.gguf", NULL },
        { "a-Q8_0.gguf mmproj-F32.gguf mmproj-Q8_0.gguf", NULL, TRUE,
          "a-Q8_0.gguf mmproj-Q8_0.gguf", NULL },
        { "a-Q8_0.gguf", NULL, TRUE, NULL,
          "a-Q8_0.gguf is there without its vision file (mmproj)" },
        { "a-Q8_0-00002-of-00002.gguf mmproj.gguf a-Q8_0-00001-of-00002.gguf", NULL, TRUE,
          "a-Q8_0-00001-of-00002.gguf a-Q8_0-00002-of-00002.gguf mmproj.gguf", NULL },
        { "d/a-Q8_0-00001-of-00003.gguf d/a-Q8_0-00003-of-00003.gguf", NULL, FALSE, NULL,
          "d/a-Q8_0-00002-of-00003.gguf is missing" },
        { "a-Q8_0-00001-of-90000.gguf", NULL, FALSE, NULL,
          "a-Q8_0-00001-of-90000.gguf has more than 1000 parts" },
        { "../a-Q8_0.gguf /b-Q8_0.gguf", NULL, FALSE, NULL, "there is no text GGUF" },
        { "../mmproj.gguf a-Q8_0.gguf", NULL, TRUE, NULL,
          "a-Q8_0.gguf is there without its vision file (mmproj)" },
        { "README.md", NULL, FALSE, NULL, "there is no text GGUF" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(GStrv) files = g_strsplit(rows[i].files, " ", -1);
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) chosen =
            vlm_hub_choose((const char *const *) files, rows[i].quant, rows[i].with_mmproj, &error);
        g_autofree char *text = chosen ? g_strjoinv(" ", chosen) : NULL;

        g_test_message("%s", rows[i].files);
        g_assert_cmpstr(text, ==, rows[i].chosen);
        g_assert_cmpstr(error ? error->message : NULL, ==, rows[i].error);
        if (!chosen)
            g_assert_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hub/names", test_hub_names);
    g_test_add_func("/hub/files", test_file_names);
    g_test_add_func("/hub/safe", test_safe_names);
    g_test_add_func("/hub/choice", test_choice);
    return g_test_run();
}
