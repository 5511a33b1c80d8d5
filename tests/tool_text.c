// SPDX-License-Identifier: LGPL-2.1-or-later
// tool_text.c — what `vlm` makes of numbers, times and captions.
#include <glib/gstdio.h>
#include <string.h>

#include "fetch_progress.h"
#include "json_out.h"
#include "options.h"
#include "progress.h"
#include "subtitles.h"
#include "vlm.h"

#define S 1000000000u  // nanoseconds

static void check_text(char *got, const char *expected)
{
    g_assert_cmpstr(got, ==, expected);
    g_free(got);
}

static void test_time(void)
{
    check_text(subtitle_time(0, 1, '.'), "00:00:00.0");
    check_text(subtitle_time(4 * (guint64) S, 1, '.'), "00:00:04.0");
    check_text(subtitle_time(59 * (guint64) S + 999999999, 3, '.'), "00:00:59.999");
    check_text(subtitle_time(59 * (guint64) S + 999999999, 1, '.'), "00:00:59.9");
    check_text(subtitle_time(3661 * (guint64) S + 5000000, 3, ','), "01:01:01,005");
    check_text(subtitle_time(360000 * (guint64) S, 3, '.'), "100:00:00.000");
}

static void test_clean(void)
{
    check_text(subtitle_clean("  two\n\nlines\tand\r\nmore  "), "two lines and more");
    check_text(subtitle_clean("a\x1b[31mred\x07"), "a [31mred");
    check_text(subtitle_clean("Gr\xc3\xbc\xc3\x9f\x65 \xe2\x80\xa8 \xf0\x9f\x98\x80"),
               "Gr\xc3\xbc\xc3\x9f\x65 \xf0\x9f\x98\x80");
    check_text(subtitle_clean(" \n "), "");
}

// What a model says may have any character in it.
static void test_json(void)
{
    for (guint c = 1; c < 128; c++) {
        g_autoptr(JsonBuilder) builder = json_builder_new();
        const char said[] = { 'a', (char) c, 'b', '\0' };

        json_builder_begin_object(builder);
        json_out_string(builder, "text", said);
        json_builder_end_object(builder);
        g_autofree char *text = json_out_text(builder);
        for (const char *p = text; *p; p++)
            g_assert_false(g_ascii_iscntrl(*p) && *p != 0x7f);
        g_autoptr(JsonParser) parser = json_parser_new();
        g_assert_true(json_parser_load_from_data(parser, text, -1, NULL));
        JsonObject *object = json_node_get_object(json_parser_get_root(parser));
        g_assert_cmpstr(json_object_get_string_member(object, "text"), ==, said);
    }
}

static void test_escape(void)
{
    check_text(subtitle_escape("a --> b <i>&c", SUBTITLE_VTT), "a --&gt; b &lt;i&gt;&amp;c");
    check_text(subtitle_escape("a --> b <i>{\\an8}&", SUBTITLE_SRT),
               "a --\xe2\x80\xba b \xe2\x80\xb9i\xe2\x80\xba(\\an8)&");
    check_text(subtitle_escape("a --> b <i>\"", SUBTITLE_JSONL), "a --> b <i>\"");
}

static void test_cue(void)
{
    subtitle_cue cue = {
        .start = 4 * (guint64) S,
        .end = 8 * (guint64) S,
        .text = "A <red>\n\ncircle & \"more\"",
        .number = 2,
        .tokens = 7,
        .latency = S / 2,
    };

    check_text(subtitle_format_cue(&cue, SUBTITLE_VTT),
               "00:00:04.000 --> 00:00:08.000\nA &lt;red&gt; circle &amp; \"more\"\n\n");
    check_text(subtitle_format_cue(&cue, SUBTITLE_SRT),
               "2\n00:00:04,000 --> 00:00:08,000\n"
               "A \xe2\x80\xb9red\xe2\x80\xba circle & \"more\"\n\n");
    check_text(
        subtitle_format_cue(&cue, SUBTITLE_JSONL),
        "{\"number\":2,\"start\":4.000,\"end\":8.000,\"text\":\"A <red> circle & \\\"more\\\"\","
        "\"tokens\":7,\"latency\":0.500}\n");
    // A cue that lasts no time is one that no player shows.
    cue.end = cue.start;
    cue.text = "x";
    check_text(subtitle_format_cue(&cue, SUBTITLE_VTT), "00:00:04.000 --> 00:00:04.001\nx\n\n");
}

static void test_file(void)
{
    g_autofree char *folder = g_dir_make_tmp("vlm-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "a.vtt", NULL);
    g_autofree char *nowhere = g_build_filename(folder, "no", "a.vtt", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    subtitle_cue cue = { .end = S, .text = "one", .number = 1 };
    subtitle_file *file = subtitle_file_open(path, SUBTITLE_VTT, &error);

    g_assert_no_error(error);
    // Valid when nothing was said, and complete after each caption.
    g_assert_true(subtitle_is_ours(path));
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_true(g_str_has_prefix(text, "WEBVTT"));
    g_assert_true(g_str_has_suffix(text, "\n\n"));
    g_assert_true(subtitle_file_add(file, &cue, &error));
    g_clear_pointer(&text, g_free);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_true(g_str_has_suffix(text, "\n\n00:00:00.000 --> 00:00:01.000\none\n\n"));
    subtitle_file_close(file);

    g_assert_true(g_file_set_contents(path, "WEBVTT\n\n", -1, NULL));
    g_assert_false(subtitle_is_ours(path));
    g_assert_null(subtitle_file_open(nowhere, SUBTITLE_VTT, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND);
    g_unlink(path);
    g_rmdir(folder);
}

static void test_format(void)
{
    subtitle_format format = SUBTITLE_VTT;
    g_autoptr(GError) error = NULL;

    g_assert_true(subtitle_format_of("a.b.srt", &format, NULL) && format == SUBTITLE_SRT);
    g_assert_true(subtitle_format_of("x.jsonl", &format, NULL) && format == SUBTITLE_JSONL);
    g_assert_true(subtitle_format_of("x.vtt", &format, NULL) && format == SUBTITLE_VTT);
    g_assert_false(subtitle_format_of("x.txt", &format, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
}

static void test_progress(void)
{
    check_text(progress_text(0, 100, 0), "[                              ]   0 %");
    check_text(progress_text(25, 100, 10000000),
               "[#######                       ]  25 %  00:00:30 left");
    check_text(progress_text(101, 100, 10000000),
               "[##############################] 100 %  00:00:00 left");
    check_text(progress_text(61 * (guint64) S, 0, 10000000), "00:01:01 watched");
}

static void test_lists(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) list = tool_parse_list("-d", "0, 1024,7", 0, 2000, &error);
    guint32 width = 0, height = 0;

    g_assert_no_error(error);
    g_assert_cmpuint(list->len, ==, 3);
    g_assert_cmpuint(g_array_index(list, guint32, 1), ==, 1024);
    for (const char *const *bad = (const char *const[]){ "", "1,", "-1", "2001", "a", "1 2", NULL };
         *bad; bad++) {
        g_assert_null(tool_parse_list("-d", *bad, 0, 2000, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
        g_clear_error(&error);
    }
    g_assert_true(tool_parse_size("--image", "1280x720", &width, &height, NULL));
    g_assert_true(width == 1280 && height == 720);
    for (const char *const *bad = (const char *const[]){ "", "1280", "0x5", "5x", "99999x1", NULL };
         *bad; bad++)
        g_assert_false(tool_parse_size("--image", *bad, &width, &height, NULL));
}

static void test_fetch_progress(void)
{
    static const char name[] = "dir/m-Q8_0.gguf";
    static const char longer[] = "a-name-of-which-the-beginning-goes-00001-of-00003-Q4_K_M.gguf";
    const guint64 MB = 1000000;

    check_text(fetch_progress_text(name, 0, 0, 200 * MB, 0),
               "m-Q8_0.gguf  0 %  0 bytes of 200.0\u00a0MB");
    // no rate yet
    check_text(fetch_progress_text(name, 0, 50 * MB, 200 * MB, 999999),
               "m-Q8_0.gguf  25 %  50.0\u00a0MB of 200.0\u00a0MB");
    check_text(fetch_progress_text(name, 0, 50 * MB, 200 * MB, 10000000),
               "m-Q8_0.gguf  25 %  50.0\u00a0MB of 200.0\u00a0MB  5.0\u00a0MB/s  00:00:30 left");
    // what was there before has no part in the rate
    check_text(fetch_progress_text(name, 100 * MB, 101 * MB, 8000 * MB, 1000000),
               "m-Q8_0.gguf  1 %  101.0\u00a0MB of 8.0\u00a0GB  1.0\u00a0MB/s  02:11:39 left");
    check_text(fetch_progress_text(name, 0, 200 * MB, 200 * MB, 10000000),
               "m-Q8_0.gguf  100 %  200.0\u00a0MB of 200.0\u00a0MB  20.0\u00a0MB/s  00:00:00 left");
    check_text(fetch_progress_text(longer, 0, 0, MB, 0),
               "eginning-goes-00001-of-00003-Q4_K_M.gguf  0 %  0 bytes of 1.0\u00a0MB");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tool/time", test_time);
    g_test_add_func("/tool/clean", test_clean);
    g_test_add_func("/tool/escape", test_escape);
    g_test_add_func("/tool/json", test_json);
    g_test_add_func("/tool/cue", test_cue);
    g_test_add_func("/tool/file", test_file);
    g_test_add_func("/tool/format", test_format);
    g_test_add_func("/tool/progress", test_progress);
    g_test_add_func("/tool/fetch-progress", test_fetch_progress);
    g_test_add_func("/tool/lists", test_lists);
    return g_test_run();
}
