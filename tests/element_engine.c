// SPDX-License-Identifier: LGPL-2.1-or-later
// element_engine.c — vlmcaption on the real engine: examples stay while the film goes by, a limit
// of device memory is kept.
//
//   element_engine TEXT.gguf MMPROJ.gguf
//
// GLib test program (TAP); skips without a device.
#include <glib/gstdio.h>
#include <gst/gst.h>

#include "../gst-plugin/gstvlmcaption.h"
#include "tool_clip.h"
#include "vlm.h"

static const char *text_path, *mmproj_path;
static char *folder, *json_path;

static void write_examples(void)
{
    g_autofree char *png = g_build_filename(folder, "red.png", NULL);

    tool_clip_make("videotestsrc num-buffers=1 pattern=red ! video/x-raw,format=RGB,width=64,"
                   "height=64 ! pngenc ! filesink location=OUT",
                   png);
    g_assert_true(g_file_set_contents(
        json_path,
        "[{\"image\": \"red.png\", \"prompt\": \"What is it?\", \"answer\": \"Red.\"},"
        " {\"image\": \"red.png\", \"prompt\": \"And this?\", \"answer\": \"Red again.\"}]",
        -1, NULL));
}

static gboolean have_device(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) devices = vlm_device_list(&error);

    for (guint i = 0; devices && i < devices->len; i++)
        if (!((vlm_device_entry *) g_ptr_array_index(devices, i))->unusable)
            return TRUE;
    g_test_skip("no device");
    return FALSE;
}

// A pipeline of `n` frames at two a second, a caption at each 10 seconds.
static GstElement *make_pipeline(guint n, const char *examples, GstElement **element)
{
    g_autofree char *line = g_strdup_printf(
        "videotestsrc num-buffers=%u pattern=ball ! video/x-raw,width=64,height=64,framerate=2/1 ! "
        "vlmcaption name=c model=%s mmproj=%s context-size=512 max-tokens=4 when-busy=wait "
        "caption-interval=10000000000 %s%s ! fakesink sync=false",
        n, text_path, mmproj_path, examples ? "examples=" : "", examples ? examples : "");
    g_autoptr(GError) error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);

    g_assert_no_error(error);
    *element = gst_bin_get_by_name(GST_BIN(pipeline), "c");
    return pipeline;
}

// Plays to the end; the number of captions. `texts`, if there is one, gets their words.
static guint play_to(GstElement *pipeline, GString *texts)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(pipeline);
    guint n = 0;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    for (;;) {
        g_autoptr(GstMessage) message = gst_bus_timed_pop_filtered(
            bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT);
        g_autoptr(GError) error = NULL;

        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
            gst_message_parse_error(message, &error, NULL);
        g_assert_no_error(error);
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS)
            return n;
        if (!gst_message_has_name(message, "vlm-caption"))
            continue;
        n++;
        if (texts)
            g_string_append_printf(
                texts, "%s\n",
                gst_structure_get_string(gst_message_get_structure(message), "text"));
    }
}

static guint play(GstElement *pipeline)
{
    return play_to(pipeline, NULL);
}

static guint64 stat_of(GstElement *element, const char *name)
{
    g_autoptr(GstStructure) stats = NULL;
    const GValue *value;

    g_object_get(element, "stats", &stats, NULL);
    value = gst_structure_get_value(stats, name);
    return G_VALUE_HOLDS_UINT(value) ? g_value_get_uint(value) : g_value_get_uint64(value);
}

// Forgets the film; what is left in the context then.
static guint64 forget(GstElement *element)
{
    g_autofree char *answer = NULL;
    g_autoptr(GstPad) pad = gst_element_get_static_pad(element, "sink");

    gst_pad_send_event(pad, gst_event_new_flush_start());
    gst_pad_send_event(pad, gst_event_new_flush_stop(TRUE));
    g_signal_emit_by_name(element, "ask", "Well?", &answer);
    g_assert_nonnull(answer);
    return stat_of(element, "context-used");
}

static void test_kept(void)
{
    GstElement *element;
    guint64 kept, none;

    if (!have_device())
        return;
    write_examples();
    GstElement *pipeline = make_pipeline(240, json_path, &element);
    g_assert_cmpuint(play(pipeline), ==, 12);
    g_assert_cmpuint(stat_of(element, "evicted"), >, 512);
    g_assert_cmpuint(stat_of(element, "context-used"), <=, 512);
    g_assert_cmpuint(stat_of(element, "context-used"), >, 128);
    const guint64 in_film = stat_of(element, "context-kept");
    kept = forget(element);
    g_assert_cmpuint(in_film, ==, kept);
    g_assert_cmpuint(stat_of(element, "context-kept"), ==, kept);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(element);
    gst_object_unref(pipeline);

    // two pictures of 2 x 2 rows or more, and words
    pipeline = make_pipeline(4, NULL, &element);
    play(pipeline);
    none = forget(element);
    g_assert_cmpuint(kept, >, none + 30);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(element);
    gst_object_unref(pipeline);

    // and they are all of it: a short film leaves the same behind
    pipeline = make_pipeline(4, json_path, &element);
    play(pipeline);
    g_assert_cmpuint(forget(element), ==, kept);
    g_assert_cmpuint(stat_of(element, "evicted"), ==, 0);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

// More examples than the context holds: one error that says which was too much.
static void test_too_long(void)
{
    g_autoptr(GString) json = g_string_new("[");
    g_autoptr(GstBus) bus = NULL;
    g_autoptr(GstMessage) message = NULL;
    g_autoptr(GError) error = NULL;
    GstElement *element;

    if (!have_device())
        return;
    write_examples();
    for (guint i = 0; i < 40; i++)
        g_string_append(json, "{\"image\": \"red.png\", \"answer\": \"Red.\"},\n");
    g_string_append(json, "{\"image\": \"red.png\", \"answer\": \"Red.\"}]");
    g_assert_true(g_file_set_contents(json_path, json->str, -1, NULL));
    GstElement *pipeline = make_pipeline(4, json_path, &element);
    bus = gst_element_get_bus(pipeline);
    g_assert_cmpint(gst_element_set_state(pipeline, GST_STATE_PAUSED), ==,
                    GST_STATE_CHANGE_FAILURE);
    message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    g_assert_nonnull(message);
    gst_message_parse_error(message, &error, NULL);
    g_assert_true(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS));
    g_autofree char *pattern = g_strdup_printf(
        "%s, example *: up to here the examples have * tokens, too many for a context of 512 (128 "
        "of them kept for answers). *",
        json_path);
    g_assert_true(g_pattern_match_simple(pattern, error->message));
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

// Asks for a limit that is too low: one error that says the least in MiB, which this returns.
static guint64 refuse_limit(GstElement *pipeline, GstElement *element, guint mib)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(pipeline);
    g_autoptr(GstMessage) message = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *pattern =
        g_strdup_printf("the limit of device memory is too low, at least * MiB are needed: %s *. "
                        "Raise the property device-memory *.",
                        text_path);

    g_object_set(element, "device-memory", mib, NULL);
    g_assert_cmpint(gst_element_set_state(pipeline, GST_STATE_PAUSED), ==,
                    GST_STATE_CHANGE_FAILURE);
    message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    g_assert_nonnull(message);
    g_assert_null(gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR));
    g_assert_true(GST_MESSAGE_SRC(message) == GST_OBJECT(element));
    gst_message_parse_error(message, &error, NULL);
    g_assert_error(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT);
    if (!g_pattern_match_simple(pattern, error->message))
        g_error("'%s' is not like '%s'", error->message, pattern);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    return g_ascii_strtoull(strstr(error->message, "at least ") + strlen("at least "), NULL, 10);
}

// The engine that an element of make_pipeline() has with this limit, or a new one.
static vlm_engine *open_as_element(guint64 mib)
{
    g_autoptr(GError) error = NULL;
    vlm_engine *engine = vlm_engine_open(&(vlm_engine_params){ .model = text_path,
                                                               .mmproj = mmproj_path,
                                                               .device_memory = mib << 20,
                                                               .context_size = 512 },
                                         &error);

    g_assert_no_error(error);
    return engine;
}

// Experts with the host change no caption; what must be on the device is asked for by an error.
static void test_limit(void)
{
    g_autoptr(GString) want = g_string_new(NULL), got = g_string_new(NULL);
    GstElement *element;
    vlm_engine_stats stats;

    if (!have_device())
        return;
    GstElement *pipeline = make_pipeline(60, NULL, &element);
    g_assert_cmpuint(play_to(pipeline, want), ==, 3);
    gst_element_set_state(pipeline, GST_STATE_NULL);

    const guint64 least = refuse_limit(pipeline, element, 1);
    g_assert_cmpuint(refuse_limit(pipeline, element, (guint) least - 1), ==, least);
    g_object_set(element, "device-memory", (guint) least, NULL);
    g_assert_cmpuint(play_to(pipeline, got), ==, 3);
    g_assert_cmpstr(got->str, ==, want->str);
    g_assert_cmpuint(stat_of(element, "device-memory"), <=, least << 20);
    g_autoptr(vlm_engine) same = open_as_element(least);
    vlm_engine_get_stats(same, &stats);
    g_assert_cmpuint(stats.expert_host_bytes, >, 0);
    g_assert_cmpuint(stats.n_expert_miss, >, 0);
    const guint64 n_upload = stats.n_upload;
    g_autoptr(vlm_engine) other = open_as_element(least + 1);
    vlm_engine_get_stats(other, &stats);
    g_assert_true(same != other);
    g_assert_cmpuint(stats.n_upload, ==, n_upload + 1);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(element);
    gst_object_unref(pipeline);
}

int main(int argc, char **argv)
{
    g_autofree char *png = NULL;
    int result;

    gst_init(&argc, &argv);
    g_test_init(&argc, &argv, NULL);
    if (argc != 3) {
        g_printerr("usage: element_engine TEXT.gguf MMPROJ.gguf\n");
        return 2;
    }
    text_path = argv[1];
    mmproj_path = argv[2];
    GST_ELEMENT_REGISTER(vlmcaption, NULL);
    folder = g_dir_make_tmp("examples-XXXXXX", NULL);
    json_path = g_build_filename(folder, "examples.json", NULL);
    g_test_add_func("/element/examples-kept", test_kept);
    g_test_add_func("/element/examples-too-long", test_too_long);
    g_test_add_func("/element/limit", test_limit);
    result = g_test_run();
    png = g_build_filename(folder, "red.png", NULL);
    g_unlink(png);
    g_unlink(json_path);
    g_rmdir(folder);
    g_free(json_path);
    g_free(folder);
    return result;
}
