// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_tuning.c — sizes of kernels: lists of values, texts, the file, and what the search picks
// when the clock is a table.
#include <glib/gstdio.h>
#include <string.h>

#include "runtime/tune_search.h"

typedef struct fixture {
    char *dir;
    vlm_device dev;
} fixture;

static void set_up(fixture *f, gconstpointer data)
{
    (void) data;
    f->dir = g_dir_make_tmp("vlm-tuning-XXXXXX", NULL);
    g_assert_nonnull(f->dir);
    f->dev = (vlm_device){ .is_lavapipe = TRUE };
    f->dev.cache_path = g_build_filename(f->dir, "pipelines-1-2.bin", NULL);
    vlm_tuning_reset(&f->dev);
}

static void tear_down(fixture *f, gconstpointer data)
{
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);

    (void) data;
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dev.cache_path);
    g_free(f->dir);
}

static void assert_defaults(const vlm_device *dev)
{
    g_autofree char *text = vlm_tuning_describe(dev);

    g_assert_cmpstr(text, ==, "");
    for (guint i = 0; i < VLM_N_TUNABLE; i++)
        g_assert_cmpuint(dev->tuning[i], ==, vlm_tunable_default(dev, i));
}

// Every default of every kind of device is on its list, lists ascend, names differ.
static void test_lists(fixture *f, gconstpointer data)
{
    (void) data;
    for (guint i = 0; i < VLM_N_TUNABLE; i++) {
        const vlm_tunable_info *info = vlm_tunable_get_info(i);
        g_assert_cmpuint(info->n_value, >=, 2);
        for (guint j = 1; j < info->n_value; j++)
            g_assert_cmpuint(info->values[j - 1], <, info->values[j]);
        for (guint j = 0; j < i; j++)
            g_assert_cmpstr(info->name, !=, vlm_tunable_get_info(j)->name);
        for (guint kind = 0; kind < 2; kind++) {
            f->dev.is_lavapipe = kind != 0;
            g_assert_true(vlm_tuning_set(&f->dev, i, vlm_tunable_default(&f->dev, i)));
        }
        g_assert_false(vlm_tuning_set(&f->dev, i, 3));
        g_assert_false(vlm_tuning_set(&f->dev, i, 0));
    }
    assert_defaults(&f->dev);
}

static void test_text(fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    (void) data;
    g_assert_true(vlm_tuning_parse(&f->dev, "attention-items=64, tile-tokens = 16", &error));
    g_assert_no_error(error);
    g_assert_cmpuint(f->dev.tuning[VLM_TUNE_ATTENTION_ITEMS], ==, 64);
    g_assert_cmpuint(f->dev.tuning[VLM_TUNE_TILE_TOKENS], ==, 16);
    text = vlm_tuning_describe(&f->dev);
    g_assert_cmpstr(text, ==, "tile-tokens=16,attention-items=64");
}

static void test_bad_text(fixture *f, gconstpointer data)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "speed=9", "no tuning is called 'speed'" },
        { "tile-tokens", "tile-tokens can be 8, 16, not ''" },
        { "tile-tokens=", "tile-tokens can be 8, 16, not ''" },
        { "tile-tokens=12", "tile-tokens can be 8, 16, not '12'" },
        { "tile-tokens=-8", "tile-tokens can be 8, 16, not '-8'" },
        { "tile-tokens=4294967304", "tile-tokens can be 8, 16, not '4294967304'" },
        { "attention-items=64,tile-tokens=x", "tile-tokens can be 8, 16, not 'x'" },
        { "attention-items=64,,", "no tuning is called ''" },
    };

    (void) data;
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(vlm_tuning_parse(&f->dev, rows[i].text, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_assert_true(g_str_has_prefix(error->message, rows[i].says));
        assert_defaults(&f->dev);
    }
}

static void test_file(fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;

    (void) data;
    g_assert_true(vlm_tuning_set(&f->dev, VLM_TUNE_TILE_PANELS, 4));
    g_assert_true(vlm_tuning_set(&f->dev, VLM_TUNE_ATTENTION_PAGES, 2));
    g_assert_true(vlm_tuning_save(&f->dev, "a model", &path, &error));
    g_assert_no_error(error);
    g_assert_true(g_file_test(path, G_FILE_TEST_IS_REGULAR));
    vlm_tuning_reset(&f->dev);
    assert_defaults(&f->dev);
    // another model, another driver
    g_assert_false(vlm_tuning_load(&f->dev, "another model"));
    g_autofree char *mine = f->dev.cache_path;
    f->dev.cache_path = g_build_filename(f->dir, "pipelines-1-3.bin", NULL);
    g_assert_false(vlm_tuning_load(&f->dev, "a model"));
    assert_defaults(&f->dev);
    g_free(f->dev.cache_path);
    f->dev.cache_path = g_steal_pointer(&mine);
    g_assert_true(vlm_tuning_load(&f->dev, "a model"));
    g_assert_cmpuint(f->dev.tuning[VLM_TUNE_TILE_PANELS], ==, 4);
    g_assert_cmpuint(f->dev.tuning[VLM_TUNE_ATTENTION_PAGES], ==, 2);
    // defaults need no file
    vlm_tuning_reset(&f->dev);
    g_assert_true(vlm_tuning_save(&f->dev, "a model", NULL, &error));
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_assert_true(vlm_tuning_save(&f->dev, "a model", NULL, &error));
}

// A flipped bit anywhere makes the file none.
static void test_damaged(fixture *f, gconstpointer data)
{
    g_autofree char *path = NULL, *contents = NULL;
    gsize bytes;

    (void) data;
    g_assert_true(vlm_tuning_set(&f->dev, VLM_TUNE_TILE_PANELS, 4));
    g_assert_true(vlm_tuning_save(&f->dev, "m", &path, NULL));
    g_assert_true(g_file_get_contents(path, &contents, &bytes, NULL));
    vlm_tuning_reset(&f->dev);
    for (gsize i = 0; i < bytes; i++) {
        contents[i] ^= 1;
        g_assert_true(g_file_set_contents(path, contents, (gssize) bytes, NULL));
        g_assert_false(vlm_tuning_load(&f->dev, "m"));
        assert_defaults(&f->dev);
        contents[i] ^= 1;
    }
    for (gsize n = 0; n < bytes; n++) {
        g_assert_true(g_file_set_contents(path, contents, (gssize) n, NULL));
        g_assert_false(vlm_tuning_load(&f->dev, "m"));
    }
    assert_defaults(&f->dev);
}

// Whole, but with lines of another version: those that are known count.
static void test_other_lines(fixture *f, gconstpointer data)
{
    static const char lines[] = "warp-speed=9\ntile-tokens=64\n\nno sense\ntile-panels=4\n";
    g_autofree char *path = NULL, *sum = NULL, *text = NULL;

    (void) data;
    g_assert_true(vlm_tuning_set(&f->dev, VLM_TUNE_TILE_PANELS, 4));
    g_assert_true(vlm_tuning_save(&f->dev, "m", &path, NULL));
    vlm_tuning_reset(&f->dev);
    sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, lines, -1);
    text = g_strdup_printf("gst-vlm tuning 1 %s\n%s", sum, lines);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_true(vlm_tuning_load(&f->dev, "m"));
    g_autofree char *is = vlm_tuning_describe(&f->dev);
    g_assert_cmpstr(is, ==, "tile-panels=4");
}

static void test_no_folder(fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void) data;
    g_clear_pointer(&f->dev.cache_path, g_free);
    g_assert_false(vlm_tuning_load(&f->dev, "m"));
    g_assert_false(vlm_tuning_save(&f->dev, "m", NULL, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "VLM_CACHE_DIR"));
    g_clear_error(&error);
    // a file stands where the folder should be
    g_autofree char *file = g_build_filename(f->dir, "file", NULL);
    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    f->dev.cache_path = g_build_filename(file, "pipelines-1-2.bin", NULL);
    g_assert_true(vlm_tuning_set(&f->dev, VLM_TUNE_TILE_PANELS, 4));
    g_assert_false(vlm_tuning_save(&f->dev, "m", NULL, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND);
}

// ------------------------------------------------------------------ the search

// A clock that is a table: each part takes a second, less what the values save.
typedef struct clock_table {
    double prefill_16;   // seconds of a prefill with tile-tokens=16
    double frame_16;     // of a frame
    double deep_64;      // of the long context with attention-items=64
    double worse_first;  // what the first counted measurement of each takes longer
    double together;     // what the tuned values take longer in the end; < 0: a second
    uint32_t n, fail_at;
    GHashTable *seen;  // "name value part", to know rounds apart
} clock_table;

static gboolean tick(gpointer data, const uint32_t values[VLM_N_TUNABLE], vlm_part_id part,
                     const char *name, uint32_t value, double *seconds, GError **error)
{
    clock_table *c = data;
    g_autofree char *key = g_strdup_printf("%s %u %d", name, value, part);
    const guint round = GPOINTER_TO_UINT(g_hash_table_lookup(c->seen, key));

    if (++c->n == c->fail_at) {
        g_set_error_literal(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST, "gone");
        return FALSE;
    }
    *seconds = 1;
    if (part == VLM_PART_PREFILL && values[VLM_TUNE_TILE_TOKENS] == 16)
        *seconds = c->prefill_16;
    if (part == VLM_PART_FRAME && values[VLM_TUNE_TILE_TOKENS] == 16)
        *seconds = c->frame_16;
    if (part == VLM_PART_DEEP && values[VLM_TUNE_ATTENTION_ITEMS] == 64)
        *seconds = c->deep_64;
    if (value > 0 && round == 0)
        *seconds *= 100;  // makes pipelines, must not count
    if (round == 1)
        *seconds += c->worse_first;
    if (value == 0 && values[VLM_TUNE_TILE_TOKENS] == 16)
        *seconds = c->together < 0 ? 1 : *seconds + c->together;
    g_hash_table_insert(c->seen, g_steal_pointer(&key), GUINT_TO_POINTER(round + 1));
    return TRUE;
}

static char *search_with(fixture *f, clock_table c, vlm_tune_result *result)
{
    vlm_tune_search search = {
        .dev = &f->dev, .parts = (1u << VLM_N_PART) - 1, .n_round = 3, .measure = tick, .data = &c
    };
    g_autoptr(GError) error = NULL;
    uint32_t values[VLM_N_TUNABLE];
    gboolean ok;

    c.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    ok = vlm_tune_search_run(&search, values, result, &error);
    g_hash_table_unref(c.seen);
    if (c.fail_at > 0) {
        g_assert_false(ok);
        g_assert_error(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST);
        return NULL;
    }
    g_assert_no_error(error);
    g_assert_cmpuint(c.n, <=, vlm_tune_search_count(&search));
    if (result->n_part > 0)
        g_assert_cmpuint(c.n, ==, vlm_tune_search_count(&search));
    memcpy(f->dev.tuning, values, sizeof values);
    return vlm_tuning_describe(&f->dev);
}

static const vlm_tune_size *size_of(const vlm_tune_result *result, const char *name)
{
    for (guint i = 0; i < result->n_size; i++)
        if (g_str_equal(result->sizes[i].name, name))
            return &result->sizes[i];
    return NULL;
}

static void test_search(fixture *f, gconstpointer data)
{
    static const struct {
        clock_table clock;
        const char *finds;
        gboolean compared;  // something was found, kept or not
    } rows[] = {
        { { 1, 1, 1, 0, 0, 0, 0, NULL }, "", FALSE },
        { { .8, .9, .5, 0, 0, 0, 0, NULL }, "tile-tokens=16,attention-items=64", TRUE },
        { { .98, .98, 1, 0, 0, 0, 0, NULL }, "", FALSE },  // less than the margin
        { { .5, 1.1, 1, 0, 0, 0, 0, NULL }, "", FALSE },   // slower in one part
        { { .5, 1.02, 1, 0, 0, 0, 0, NULL }, "tile-tokens=16", TRUE },
        { { .8, .8, 1, .1, 0, 0, 0, NULL }, "tile-tokens=16", TRUE },  // the two best are near
        { { .8, .8, 1, 0, -1, 0, 0, NULL }, "", TRUE },                // together nothing is gained
        { { .8, .8, .8, 0, .5, 0, 0, NULL }, "", TRUE },               // together they are slower
    };

    (void) data;
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        vlm_tune_result result;
        g_autofree char *found = search_with(f, rows[i].clock, &result);

        g_test_message("row %u: '%s'", i, found);
        g_assert_cmpstr(found, ==, rows[i].finds);
        g_assert_cmpint(result.kept, ==, *found != 0);
        g_assert_cmpint(result.n_part > 0, ==, rows[i].compared);
        g_assert_null(result.path);
    }
}

// With two rounds the second best is the disturbed one, and the gain is not more than that.
static void test_noise(fixture *f, gconstpointer data)
{
    clock_table c = { .8, .8, 1, .5, 0, 0, 0, NULL };
    vlm_tune_search search = {
        .dev = &f->dev, .parts = 1u << VLM_PART_PREFILL, .n_round = 2, .measure = tick, .data = &c
    };
    uint32_t values[VLM_N_TUNABLE];
    vlm_tune_result result;

    (void) data;
    c.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_assert_true(vlm_tune_search_run(&search, values, &result, NULL));
    g_hash_table_unref(c.seen);
    g_assert_cmpuint(values[VLM_TUNE_TILE_TOKENS], ==, 8);
    g_assert_false(result.kept);
}

// Only sizes that the device looks at and that something measures.
static void test_applies(fixture *f, gconstpointer data)
{
    vlm_tune_result result;
    g_autofree char *cpu = search_with(f, (clock_table){ 1, 1, 1, 0, 0, 0, 0, NULL }, &result);

    (void) data;
    g_assert_nonnull(size_of(&result, "tile-panels-one"));
    g_assert_null(size_of(&result, "split-most"));
    g_assert_null(size_of(&result, "matrix-from"));
    f->dev.is_lavapipe = FALSE;
    f->dev.caps = VLM_CAP_PARALLEL | VLM_CAP_COOPMAT | VLM_CAP_INT_DOT;
    g_autofree char *gpu = search_with(f, (clock_table){ 1, 1, 1, 0, 0, 0, 0, NULL }, &result);
    g_assert_null(size_of(&result, "tile-panels-one"));
    g_assert_nonnull(size_of(&result, "split-most"));
    g_assert_nonnull(size_of(&result, "dot-panels"));
    g_assert_nonnull(size_of(&result, "matrix-from"));
    g_assert_cmpuint(size_of(&result, "attention-items")->otherwise, ==, 1024);
}

static void test_search_fails(fixture *f, gconstpointer data)
{
    vlm_tune_result result;

    (void) data;
    for (guint at = 1; at < 40; at += 13)
        g_assert_null(search_with(f, (clock_table){ .8, .8, .8, 0, 0, 0, at, NULL }, &result));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add("/tuning/" name, fixture, NULL, set_up, test, tear_down)
    ADD("lists", test_lists);
    ADD("text", test_text);
    ADD("bad text", test_bad_text);
    ADD("file", test_file);
    ADD("damaged file", test_damaged);
    ADD("lines of another version", test_other_lines);
    ADD("no folder", test_no_folder);
    ADD("search", test_search);
    ADD("search in noise", test_noise);
    ADD("search what applies", test_applies);
    ADD("search fails", test_search_fails);
    return g_test_run();
}
