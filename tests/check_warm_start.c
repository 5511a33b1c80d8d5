// SPDX-License-Identifier: LGPL-2.1-or-later
// check_warm_start.c — a model that has run before makes its pipelines before its first frame.
//
//   check_warm_start MODEL.gguf MMPROJ.gguf
#include <glib/gstdio.h>
#include <string.h>

#include "sessions_common.h"

static char *folder;

// A film, a caption and, in a second session, another at the same time. Closes the engine.
static vlm_generation *use(vlm_engine *engine)
{
    g_autoptr(vlm_session) one = new_session(engine, 2048), two = new_session(engine, 2048);

    add_frames(one, 0, 8);
    add_frames(two, 4, 8);
    vlm_generation_free(ask(two, "Who moves?", 4));
    return ask(one, "What happens?", 12);
}

static uint64_t count_pipelines(vlm_engine *engine)
{
    vlm_engine_stats stats;

    vlm_engine_get_stats(engine, &stats);
    return stats.n_pipeline;
}

// The path of the only list in the folder, or NULL.
static char *find_list(void)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    char *path = NULL;

    g_assert_nonnull(dir);
    for (const char *name; (name = g_dir_read_name(dir));) {
        if (g_str_has_prefix(name, "start-")) {
            g_assert_null(path);
            path = g_build_filename(folder, name, NULL);
        }
    }
    return path;
}

static void empty_folder(void)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
}

static void test_second(void)
{
    vlm_engine *engine = open_engine();
    uint64_t n;

    if (!engine)
        return;
    empty_folder();
    g_assert_cmpuint(count_pipelines(engine), ==, 0);
    g_autoptr(vlm_generation) first = use(engine);
    n = count_pipelines(engine);
    g_assert_cmpuint(n, >, 10);
    vlm_engine_unref(engine);

    engine = open_engine();
    g_assert_cmpuint(count_pipelines(engine), ==, n);
    g_autoptr(vlm_generation) second = use(engine);
    g_assert_cmpuint(count_pipelines(engine), ==, n);
    assert_same(first, second);
    vlm_engine_unref(engine);
}

// A list that somebody has changed, or that another version has written, makes nothing.
static void test_damaged(void)
{
    vlm_engine *engine = open_engine();
    g_autofree char *list = NULL;
    g_autoptr(GError) error = NULL;
    gsize bytes;

    if (!engine)
        return;
    empty_folder();
    g_autoptr(vlm_generation) first = use(engine);
    const uint64_t n = count_pipelines(engine);
    vlm_engine_unref(engine);
    g_autofree char *path = find_list();
    g_assert_nonnull(path);
    g_assert_true(g_file_get_contents(path, &list, &bytes, &error));
    for (guint i = 0; i < 5; i++) {
        g_autofree char *bad = g_memdup2(list, bytes + 1);
        gsize len = bytes;

        if (i == 0)
            len = bytes / 2;
        else if (i == 1)
            bad[bytes - 3] ^= 1;
        else if (i == 2)
            bad[0] = 'G';
        else if (i == 3)
            len = 0;
        else
            memset(bad, 0xff, bytes);
        g_assert_true(g_file_set_contents(path, bad, (gssize) len, &error));
        engine = open_engine();
        g_assert_cmpuint(count_pipelines(engine), ==, 0);
        if (i == 0) {
            g_autoptr(vlm_generation) again = use(engine);
            assert_same(first, again);
            g_assert_cmpuint(count_pipelines(engine), ==, n);
        }
        vlm_engine_unref(engine);
    }
}

// Lines that are none, of kernels that are none, or of other SPIR-V, are left out one by one.
static void test_lines(void)
{
    static const char *const lines[] = { "",
                                         "matmul",
                                         "nothing 00000000 8 1 1",
                                         "rms_norm 00000000 8 1 1",
                                         "rms_norm -1 8 1 1",
                                         "rms_norm 0 8 1 1 1 2 3 4 5 6 7 8 9",
                                         "rms_norm 0 99999999999 1 1" };
    vlm_engine *engine = open_engine();
    g_autofree char *list = NULL;
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    empty_folder();
    vlm_generation_free(use(engine));
    const uint64_t n = count_pipelines(engine);
    vlm_engine_unref(engine);
    g_autofree char *path = find_list();
    g_assert_true(g_file_get_contents(path, &list, NULL, &error));
    g_autoptr(GString) text = g_string_new(strchr(list, '\n') + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++)
        g_string_append_printf(text, "%s\n", lines[i]);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text->str, -1);
    g_autofree char *all = g_strdup_printf("gst-vlm pipelines 1 %s\n%s", sum, text->str);
    g_assert_true(g_file_set_contents(path, all, -1, &error));
    engine = open_engine();
    g_assert_cmpuint(count_pipelines(engine), ==, n);
    vlm_engine_unref(engine);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 3);
    text_path = argv[1];
    mmproj_path = argv[2];
    folder = g_dir_make_tmp("vlm-warm-XXXXXX", &error);
    g_assert_no_error(error);
    g_setenv("VLM_CACHE_DIR", folder, TRUE);
    g_test_add_func("/warm-start/second", test_second);
    g_test_add_func("/warm-start/damaged", test_damaged);
    g_test_add_func("/warm-start/lines", test_lines);
    const int failed = g_test_run();
    empty_folder();
    g_rmdir(folder);
    g_free(folder);
    return failed;
}
