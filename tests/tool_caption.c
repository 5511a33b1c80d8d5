// SPDX-License-Identifier: LGPL-2.1-or-later
// tool_caption.c — `vlm caption` from a film to a file of captions, on an engine that plays a
// script.
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "caption_run.h"
#include "fake_engine.h"
#include "tool_clip.h"

static char *folder;

static char *file_name(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

// A film of 10 s at 10 frames/s. Free and unlink it.
static char *make_film(void)
{
    char *path = file_name("film.mkv");

    tool_clip_make("videotestsrc num-buffers=100 ! video/x-raw,format=I420,width=64,height=48,"
                   "framerate=10/1 ! matroskamux ! filesink location=OUT",
                   path);
    return path;
}

static void add(GPtrArray *settings, const char *option, const char *property, const char *value)
{
    const caption_setting setting = { option, property, value };

    g_ptr_array_add(settings, g_memdup2(&setting, sizeof setting));
}

// Runs, and returns what was written, NULL when nothing was.
static char *run(const char *input, subtitle_format format, GPtrArray *settings,
                 gboolean *interrupted, GError **error)
{
    g_autofree char *output = file_name("out");
    caption_job job = {
        .input = input, .output = output, .format = format, .settings = settings, .quiet = TRUE
    };
    char *text = NULL;

    if (caption_run(&job, interrupted, error))
        g_assert_true(g_file_get_contents(output, &text, NULL, NULL));
    g_unlink(output);
    return text;
}

static void test_film(void)
{
    g_autofree char *film = make_film();
    g_autoptr(GPtrArray) settings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autofree char *vtt = NULL, *srt = NULL;
    gboolean interrupted = FALSE;

    fake_start();
    fake_set_answer("a <b> & c\n\n--> d");
    add(settings, "--interval", "caption-interval", "5");
    vtt = run(film, SUBTITLE_VTT, settings, &interrupted, &error);
    g_assert_no_error(error);
    g_assert_false(interrupted);
    g_assert_cmpstr(vtt, ==,
                    "WEBVTT captions by gst-vlm\n\n"
                    "00:00:00.000 --> 00:00:05.000\na &lt;b&gt; &amp; c --&gt; d\n\n"
                    "00:00:05.000 --> 00:00:10.000\na &lt;b&gt; &amp; c --&gt; d\n\n");
    srt = run(film, SUBTITLE_SRT, settings, &interrupted, &error);
    g_assert_no_error(error);
    g_assert_true(g_str_has_prefix(srt, "1\n00:00:00,000 --> 00:00:05,000\na "));
    g_assert_cmpuint(fake_n_engines(), ==, 0);
    g_unlink(film);
}

static gpointer interrupt(gpointer unused)
{
    (void) unused;
    fake_wait_held(FAKE_GENERATE);
    fake_step(FAKE_GENERATE, 1);
    fake_wait_done(FAKE_GENERATE, 1);
    fake_wait_held(FAKE_GENERATE);
    kill(getpid(), SIGINT);
    return NULL;
}

// What was said before Ctrl-C is in the file, and the model that is in the middle of a caption
// doesn't hold us.
static void test_interrupt(void)
{
    g_autofree char *film = make_film();
    g_autoptr(GPtrArray) settings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gboolean interrupted = FALSE;
    GThread *thread;

    fake_start();
    fake_set_answer("one");
    fake_hold(FAKE_GENERATE);
    add(settings, "--interval", "caption-interval", "2");
    thread = g_thread_new("interrupt", interrupt, NULL);
    text = run(film, SUBTITLE_VTT, settings, &interrupted, &error);
    g_thread_join(thread);
    g_assert_no_error(error);
    g_assert_true(interrupted);
    g_assert_cmpstr(text, ==,
                    "WEBVTT captions by gst-vlm\n\n00:00:00.000 --> 00:00:02.000\none\n\n");
    fake_release(FAKE_GENERATE);
    g_unlink(film);
}

static void check_fails(const char *input, const char *option, const char *property,
                        const char *value, const char *pattern)
{
    g_autoptr(GPtrArray) settings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gboolean interrupted = FALSE;

    if (option)
        add(settings, option, property, value);
    text = run(input, SUBTITLE_VTT, settings, &interrupted, &error);
    g_assert_null(text);
    g_assert_nonnull(error);
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("'%s' is not like '%s'", error->message, pattern);
}

static void test_failures(void)
{
    g_autofree char *film = make_film();
    g_autofree char *words = file_name("words.mkv");
    g_autofree char *sound = file_name("sound.ogg");
    g_autofree char *none = file_name("none.mkv");

    fake_start();
    g_assert_true(g_file_set_contents(words, "only words\n", -1, NULL));
    tool_clip_make("audiotestsrc num-buffers=10 ! vorbisenc ! oggmux ! filesink location=OUT",
                   sound);
    check_fails(none, NULL, NULL, NULL, "there is no file '*none.mkv'");
    check_fails(words, NULL, NULL, NULL, "*words.mkv*");
    check_fails(sound, NULL, NULL, NULL, "*sound.ogg*");
    check_fails(film, "--max-tokens", "max-tokens", "many", "--max-tokens many: *");
    check_fails(film, "--max-tokens", "max-tokens", "0", "--max-tokens 0: out of range*");
    check_fails(film, "--temp", "temperature", "-1", "--temp -1: out of range*");
    check_fails(film, "--interval", "caption-interval", "0", "--interval 0: out of range*");
    check_fails(film, "--frame-rate", "frame-rate", "fast", "--frame-rate fast: *");
    fake_fail(FAKE_OPEN, 1, 1, VLM_ERROR_NOT_FOUND, "no model 'x.gguf' here");
    check_fails(film, NULL, NULL, NULL, "*no model 'x.gguf' here*");
    g_unlink(film);
    g_unlink(words);
    g_unlink(sound);
}

static void check_rate(const char *text, gint num, gint den)
{
    g_autoptr(GstElement) element =
        gst_object_ref_sink(gst_element_factory_make("vlmcaption", NULL));
    const caption_setting setting = { "--frame-rate", "frame-rate", text };
    g_autoptr(GError) error = NULL;
    g_auto(GValue) value = G_VALUE_INIT;

    caption_set(G_OBJECT(element), &setting, &error);
    g_assert_no_error(error);
    g_value_init(&value, GST_TYPE_FRACTION);
    g_object_get_property(G_OBJECT(element), "frame-rate", &value);
    g_assert_cmpint(gst_value_get_fraction_numerator(&value), ==, num);
    g_assert_cmpint(gst_value_get_fraction_denominator(&value), ==, den);
}

static void test_rates(void)
{
    check_rate("2", 2, 1);
    check_rate("0.5", 1, 2);
    check_rate("1/3", 1, 3);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    gst_init(NULL, NULL);
    folder = g_dir_make_tmp("vlm-XXXXXX", NULL);
    g_test_add_func("/tool/film", test_film);
    g_test_add_func("/tool/rates", test_rates);
    g_test_add_func("/tool/failures", test_failures);
    g_test_add_func("/tool/interrupt", test_interrupt);
    result = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    return result;
}
