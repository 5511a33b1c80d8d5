// SPDX-License-Identifier: LGPL-2.1-or-later
// tool_media.c — images and films as `vlm run` reads them.
#include <glib/gstdio.h>
#include <string.h>

#include "content.h"
#include "media.h"
#include "tool_clip.h"

static char *folder;

static char *file_name(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

// --------------------------------------------------------------------------------------- films

// What was read: time and mean of the first plane.
typedef struct seen {
    GArray *times;
    GArray *means;
    guint stop_after;  // 0 = never
} seen;

static gboolean look(const media_picture *picture, gpointer user_data, GError **error)
{
    seen *s = user_data;
    const vlm_image *image = &picture->image;
    double sum = 0;

    g_assert_cmpuint(image->width, ==, 32);
    g_assert_cmpuint(image->height, ==, 16);
    for (guint y = 0; y < image->height; y++) {
        for (guint x = 0; x < image->width; x++)
            sum += image->plane[0][y * image->stride[0] + x];
    }
    sum /= 32 * 16;
    g_array_append_val(s->times, picture->time_ns);
    g_array_append_val(s->means, sum);
    if (s->stop_after && s->times->len == s->stop_after) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_CANCELLED, "enough");
        return FALSE;
    }
    return TRUE;
}

static void seen_clear(seen *s)
{
    g_array_unref(s->times);
    g_array_unref(s->means);
}

static seen seen_new(void)
{
    return (seen){
        .times = g_array_new(FALSE, FALSE, sizeof(gint64)),
        .means = g_array_new(FALSE, FALSE, sizeof(double)),
    };
}

// A film whose frame i is grey with the value 10 * i, written as uncompressed pictures.
static void make_steps(const char *path, guint n_frames, int fps)
{
    g_autofree char *text =
        g_strdup_printf("appsrc name=src caps=video/x-raw,format=GRAY8,width=32,height=16,"
                        "framerate=%d/1 format=time ! matroskamux ! filesink location=%s",
                        fps, path);
    g_autoptr(GstElement) pipeline = gst_parse_launch(text, NULL);
    g_autoptr(GstElement) src = gst_bin_get_by_name(GST_BIN(pipeline), "src");
    g_autoptr(GstBus) bus = gst_element_get_bus(pipeline);
    g_autoptr(GstMessage) message = NULL;
    GstFlowReturn flow;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    for (guint i = 0; i < n_frames; i++) {
        GstBuffer *buffer = gst_buffer_new_allocate(NULL, 32 * 16, NULL);

        gst_buffer_memset(buffer, 0, (guint8) (10 * i), 32 * 16);
        GST_BUFFER_PTS(buffer) = i * GST_SECOND / (guint) fps;
        GST_BUFFER_DURATION(buffer) = GST_SECOND / (guint) fps;
        g_signal_emit_by_name(src, "push-buffer", buffer, &flow);
        gst_buffer_unref(buffer);
    }
    g_signal_emit_by_name(src, "end-of-stream", &flow);
    message =
        gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    g_assert_cmpint(GST_MESSAGE_TYPE(message), ==, GST_MESSAGE_EOS);
    gst_element_set_state(pipeline, GST_STATE_NULL);
}

static void check_sampling(int film_fps, guint n_frames, double fps, guint n, const guint *frames)
{
    g_autofree char *path = file_name("steps.mkv");
    g_autoptr(GError) error = NULL;
    seen s = seen_new();

    make_steps(path, n_frames, film_fps);
    media_read_film(path, fps, look, &s, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(s.times->len, ==, n);
    for (guint i = 0; i < n; i++) {
        gint64 time = (gint64) (i * 1e9 / fps + 0.5);

        g_assert_cmpint(g_array_index(s.times, gint64, i), ==, time);
        g_assert_cmpfloat(g_array_index(s.means, double, i), ==, 10.0 * frames[i]);
    }
    seen_clear(&s);
    g_unlink(path);
}

static void test_sampling(void)
{
    // 10 frames/s for 1 s: at 0, 0.5 s.
    check_sampling(10, 10, 2, 2, (const guint[]){ 0, 5 });
    // At 0, 1/3 and 2/3 s: the nearest of 0.3, 0.4 and 0.6, 0.7.
    check_sampling(10, 10, 3, 3, (const guint[]){ 0, 3, 7 });
    // More often than the film has frames: each is nearest to several.
    check_sampling(2, 3, 4, 6, (const guint[]){ 0, 0, 1, 1, 2, 2 });
    // Once in more than the whole film.
    check_sampling(10, 5, 0.5, 1, (const guint[]){ 0 });
}

static void test_stop(void)
{
    g_autofree char *path = file_name("stop.mkv");
    g_autoptr(GError) error = NULL;
    seen s = seen_new();

    make_steps(path, 10, 10);
    s.stop_after = 2;
    g_assert_false(media_read_film(path, 10, look, &s, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_CANCELLED);
    g_assert_cmpuint(s.times->len, ==, 2);
    seen_clear(&s);
    g_unlink(path);
}

// -------------------------------------------------------------------------------------- images

static gboolean look_red(const media_picture *picture, gpointer user_data, GError **error)
{
    const vlm_image *image = &picture->image;

    (void) error;
    g_assert_cmpuint(image->width, ==, 33);
    g_assert_cmpuint(image->height, ==, 17);
    g_assert_cmpint(image->format, ==, VLM_PIXEL_RGB);
    g_assert_cmpuint(image->stride[0], >=, 99);
    for (guint y = 0; y < image->height; y++) {
        g_assert_cmpuint(image->plane[0][y * image->stride[0]], ==, 255);
        g_assert_cmpuint(image->plane[0][y * image->stride[0] + 98], ==, 0);
    }
    ++*(guint *) user_data;
    return TRUE;
}

static void test_image(void)
{
    g_autofree char *path = file_name("red.png");
    g_autoptr(GError) error = NULL;
    guint n = 0;

    tool_clip_make("videotestsrc num-buffers=1 pattern=red ! "
                   "video/x-raw,format=RGB,width=33,height=17 ! pngenc ! filesink location=OUT",
                   path);
    media_read_image(path, look_red, &n, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(n, ==, 1);
    g_unlink(path);
}

static void check_fails(const char *path, vlm_error_code code, const char *pattern)
{
    g_autoptr(GError) error = NULL;
    guint n = 0;

    g_assert_false(media_read_image(path, look_red, &n, &error));
    g_assert_error(error, VLM_ERROR, (int) code);
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("'%s' is not like '%s'", error->message, pattern);
    g_assert_cmpuint(n, ==, 0);
}

static void test_no_image(void)
{
    g_autofree char *text = file_name("text.txt");
    g_autofree char *empty = file_name("empty.webm");
    g_autofree char *none = file_name("none.png");
    g_autofree char *sound = file_name("sound.ogg");

    g_assert_true(g_file_set_contents(text, "no picture, only words\n", -1, NULL));
    g_assert_true(g_file_set_contents(empty, "", 0, NULL));
    tool_clip_make("audiotestsrc num-buffers=10 ! vorbisenc ! oggmux ! filesink location=OUT",
                   sound);
    check_fails(none, VLM_ERROR_NOT_FOUND, "there is no file '*none.png'");
    check_fails(folder, VLM_ERROR_ARGS, "*is a folder*");
    check_fails(text, VLM_ERROR_FORMAT, "*text.txt*");
    check_fails(empty, VLM_ERROR_FORMAT, "*empty.webm*");
    check_fails(sound, VLM_ERROR_FORMAT, "*sound.ogg*");
    g_unlink(text);
    g_unlink(empty);
    g_unlink(sound);
}

// --------------------------------------------------------------------------------- the prompt

static void check_parts(const char *prompt, const char *expected)
{
    const char *const images[] = { "a", "b", NULL };
    const char *const films[] = { "f", NULL };
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) parts = content_parse(prompt, images, films, &error);
    g_autoptr(GString) got = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; i < parts->len; i++) {
        const content_part *part = g_ptr_array_index(parts, i);

        g_string_append_printf(got, "%c(%s)", "tif"[part->kind], part -> text);
    }
    g_assert_cmpstr(got->str, ==, expected);
}

static void test_prompt(void)
{
    g_autoptr(GError) error = NULL;

    check_parts("what?", "i(a)i(b)f(f)t(what?)");
    check_parts("<image> and <image>: <video>?", "i(a)t( and )i(b)t(: )f(f)t(?)");
    check_parts("<video><image>", "i(a)f(f)i(b)t()");
    check_parts("", "i(a)i(b)f(f)t()");
    g_assert_null(content_parse("<image>", NULL, NULL, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    gst_init(NULL, NULL);
    folder = g_dir_make_tmp("vlm-XXXXXX", NULL);
    g_test_add_func("/tool/prompt", test_prompt);
    g_test_add_func("/tool/image", test_image);
    g_test_add_func("/tool/no-image", test_no_image);
    g_test_add_func("/tool/sampling", test_sampling);
    g_test_add_func("/tool/stop", test_stop);
    result = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    return result;
}
