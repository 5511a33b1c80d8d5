// SPDX-License-Identifier: LGPL-2.1-or-later
// check_tune.c — a tuning is measured when asked for, kept, used by the next engine, and gone when
// asked for.
//
//   check_tune MODEL.gguf MMPROJ.gguf
#include <glib/gstdio.h>
#include <string.h>

#include "runtime/tune.h"
#include "sessions_common.h"

static char *folder;

// Small enough for a second each.
static const vlm_tune_params quick = { .n_prompt = 16,
                                       .n_decode = 2,
                                       .n_batch = 2,
                                       .depth = 70,
                                       .width = 64,
                                       .height = 64,
                                       .n_round = 1 };

static guint count_files(const char *prefix)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    guint n = 0;

    for (const char *name; (name = g_dir_read_name(dir));)
        n += g_str_has_prefix(name, prefix);
    return n;
}

static void empty_folder(void)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
}

static void assert_tuning(vlm_engine *engine, const char *wanted)
{
    g_autofree char *tuning = vlm_engine_get_tuning(engine);

    g_assert_cmpstr(tuning, ==, wanted);
}

static vlm_generation *use(vlm_engine *engine)
{
    g_autoptr(vlm_session) session = new_session(engine, 2048);

    add_frames(session, 0, 8);
    return ask(session, "What happens?", 12);
}

// What was saved is what the next engine of that shape works with, and says the same.
static void test_kept(void)
{
    static const char *const tuning = "tile-panels=4,tile-tokens=16,attention-items=8";
    vlm_engine *engine = open_engine();
    g_autoptr(GError) error = NULL;

    if (!engine)
        return;
    empty_folder();
    assert_tuning(engine, "");
    g_autoptr(vlm_generation) first = use(engine);
    g_autofree char *name = vlm_tune_name(engine);
    g_assert_true(vlm_tuning_parse(engine->dev, tuning, &error));
    g_assert_true(vlm_tuning_save(engine->dev, name, NULL, &error));
    g_assert_no_error(error);
    vlm_engine_unref(engine);

    engine = open_engine();
    assert_tuning(engine, tuning);
    g_assert_cmpuint(engine->dev->tuning[VLM_TUNE_TILE_TOKENS], ==, 16);
    g_autoptr(vlm_generation) second = use(engine);
    assert_same(first, second);
    g_assert_cmpuint(count_files("tuning-"), ==, 1);
    g_assert_true(vlm_engine_untune(engine, &error));
    g_assert_no_error(error);
    assert_tuning(engine, "");
    g_assert_cmpuint(count_files("tuning-"), ==, 0);
    g_assert_true(vlm_engine_untune(engine, &error));
    g_autoptr(vlm_generation) third = use(engine);
    assert_same(first, third);
    vlm_engine_unref(engine);
    engine = open_engine();
    assert_tuning(engine, "");
    vlm_engine_unref(engine);
}

typedef struct trials {
    uint32_t n, n_all;
} trials;

static void on_trial(const char *name, uint32_t value, uint32_t n_done, uint32_t n_all,
                     gpointer user_data)
{
    trials *t = user_data;

    (void) value;
    g_assert_nonnull(name);
    g_assert_cmpuint(n_done, ==, t->n++);
    g_assert_cmpuint(n_done, <, n_all);
    t->n_all = n_all;
}

// Whatever is found, the engine, the file and the next engine agree.
static void test_run(void)
{
    vlm_engine *engine = open_engine();
    g_autoptr(GError) error = NULL;
    vlm_tune_params params = quick;
    vlm_tune_result result;
    trials t = { 0, 0 };

    if (!engine)
        return;
    empty_folder();
    g_autoptr(vlm_generation) first = use(engine);
    params.on_trial = on_trial;
    params.user_data = &t;
    g_assert_true(vlm_engine_tune(engine, &params, &result, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(t.n, >, 10);
    g_assert_cmpuint(t.n, <=, t.n_all);
    g_assert_cmpuint(result.n_size, >=, 4);
    g_autofree char *tuning = vlm_engine_get_tuning(engine);
    g_assert_cmpint(result.kept, ==, *tuning != 0);
    g_assert_cmpint(result.kept, ==, result.path != NULL);
    g_assert_cmpuint(count_files("tuning-"), ==, result.kept);
    if (result.kept)
        g_assert_true(g_file_test(result.path, G_FILE_TEST_IS_REGULAR));
    g_free(result.path);
    g_autoptr(vlm_generation) second = use(engine);
    assert_same(first, second);
    vlm_engine_unref(engine);
    // a list of all that was tried is no help
    g_assert_cmpuint(count_files("start-"), ==, 0);
    engine = open_engine();
    assert_tuning(engine, tuning);
    vlm_engine_unref(engine);
}

static gpointer tune_meanwhile(gpointer data)
{
    g_autoptr(GError) error = NULL;
    vlm_tune_result result;

    g_assert_true(vlm_engine_tune(data, &quick, &result, &error));
    g_assert_no_error(error);
    g_free(result.path);
    return NULL;
}

static void test_meanwhile(void)
{
    vlm_engine *engine = open_engine();

    if (!engine)
        return;
    empty_folder();
    g_autoptr(vlm_generation) first = use(engine);
    GThread *thread = g_thread_new("tune", tune_meanwhile, engine);
    for (guint i = 0; i < 3; i++) {
        g_autoptr(vlm_generation) other = use(engine);
        assert_same(first, other);
    }
    g_thread_join(thread);
    vlm_engine_unref(engine);
}

// A measurement that fails changes nothing.
static void test_fails(void)
{
    vlm_engine *engine = open_engine();
    vlm_tune_params params = quick;
    g_autoptr(GError) error = NULL;
    vlm_tune_result result;

    if (!engine)
        return;
    empty_folder();
    g_autoptr(vlm_generation) first = use(engine);
    g_autofree char *name = vlm_tune_name(engine);
    g_assert_true(vlm_tuning_parse(engine->dev, "tile-tokens=16", NULL));
    g_assert_true(vlm_tuning_save(engine->dev, name, NULL, NULL));
    params.depth = 20000;  // so that something is allocated
    engine->dev->fail_alloc_at = g_atomic_int_get(&engine->dev->n_alloc) + 1;
    g_assert_false(vlm_engine_tune(engine, &params, &result, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY);
    g_clear_error(&error);
    assert_tuning(engine, "tile-tokens=16");
    g_assert_null(result.path);
    g_assert_cmpuint(count_files("tuning-"), ==, 1);
    params.n_batch = 1000;
    g_assert_false(vlm_engine_tune(engine, &params, &result, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_autoptr(vlm_generation) second = use(engine);
    assert_same(first, second);
    vlm_engine_unref(engine);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 3);
    text_path = argv[1];
    mmproj_path = argv[2];
    folder = g_dir_make_tmp("vlm-tune-XXXXXX", &error);
    g_assert_no_error(error);
    g_setenv("VLM_CACHE_DIR", folder, TRUE);
    g_unsetenv("VLM_TUNING");
    g_test_add_func("/tune/kept", test_kept);
    g_test_add_func("/tune/run", test_run);
    g_test_add_func("/tune/meanwhile", test_meanwhile);
    g_test_add_func("/tune/fails", test_fails);
    const int failed = g_test_run();
    empty_folder();
    g_rmdir(folder);
    g_free(folder);
    return failed;
}
