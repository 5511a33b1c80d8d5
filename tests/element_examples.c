// SPDX-License-Identifier: LGPL-2.1-or-later
// element_examples.c — the property examples: what the model is shown, when, and what is wrong.
#include <glib/gstdio.h>

#include "element_common.h"
#include "tool_clip.h"

static char *folder;

static char *file_of(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

// A file with this text in the folder; its path.
static char *write_json(const char *text)
{
    char *path = file_of("examples.json");

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    return path;
}

static void make_folder(void)
{
    folder = g_dir_make_tmp("examples-XXXXXX", NULL);
    g_autofree char *red = file_of("red.png");
    g_autofree char *blue = file_of("blue.png");
    g_autofree char *clip = file_of("clip.mkv");
    g_autofree char *broken = file_of("broken.png");

    tool_clip_make("videotestsrc num-buffers=1 pattern=red ! video/x-raw,format=RGB,width=33,"
                   "height=17 ! pngenc ! filesink location=OUT",
                   red);
    tool_clip_make("videotestsrc num-buffers=1 pattern=blue ! video/x-raw,format=RGB,width=8,"
                   "height=8 ! pngenc ! filesink location=OUT",
                   blue);
    tool_clip_make("videotestsrc num-buffers=20 ! video/x-raw,format=I420,width=16,height=16,"
                   "framerate=10/1 ! matroskamux ! filesink location=OUT",
                   clip);
    g_assert_true(g_file_set_contents(broken, "\x89PNG\r\n\x1a\nno more", -1, NULL));
}

static void remove_folder(void)
{
    static const char *const names[] = { "red.png", "blue.png", "clip.mkv", "broken.png",
                                         "examples.json" };

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = file_of(names[i]);
        g_unlink(path);
    }
    g_rmdir(folder);
    g_clear_pointer(&folder, g_free);
}

static void setup(void)
{
    element_setup();
    make_folder();
}

static void teardown(void)
{
    remove_folder();
    element_teardown();
}

static guint count_lines(const char *beginning)
{
    g_autofree char *log = fake_get_log();
    g_auto(GStrv) lines = g_strsplit(log, "\n", 0);
    guint n = 0;

    for (char **line = lines; *line; line++)
        n += g_str_has_prefix(*line, beginning);
    return n;
}

static Rig *rig_with(const char *path, const char *more)
{
    g_autofree char *properties = g_strdup_printf("examples=%s %s", path, more);

    return rig_new(properties, FALSE);
}

// Pictures, texts and films arrive in order, before the film, once.
GST_START_TEST(test_shown)
{
    g_autofree char *path = write_json(
        "[{\"image\": \"red.png\", \"answer\": \"A red one.\"},"
        " {\"image\": [\"red.png\", \"blue.png\"], \"prompt\": \"Is <image> larger than <image>?\","
        "  \"answer\": \"Yes.\"},"
        " {\"video\": \"clip.mkv\", \"fps\": 1, \"prompt\": \"\", \"answer\": \"Noise.\"},"
        " {\"video\": \"clip.mkv\", \"image\": \"blue.png\", \"answer\": \"Both.\"},"
        " {\"prompt\": \"And now?\", \"answer\": \"Words.\"}]");
    Rig *rig = rig_with(path, "prompt=\"What is it?\" frame-rate=1/1 caption-interval=1000000000");
    g_autofree char *set = NULL, *first = NULL, *second = NULL, *log = NULL;

    g_object_get(rig->element, "examples", &set, NULL);
    fail_unless_equals_string(set, path);
    rig_push(rig, 0, 2100);
    g_free(rig_wait_caption(rig));
    g_free(rig_wait_caption(rig));
    log = fake_get_log();
    fail_unless(
        strstr(log,
               "create context 0 system '' examples\n"
               "example [image 33x17 255 0 0]What is it? -> A red one.\n"
               "example Is [image 33x17 255 0 0] larger than [image 8x8 0 0 255]? -> Yes.\n"
               "example [frame 16x16 at 0.00][frame 16x16 at 1.00] -> Noise.\n"
               "example [image 8x8 0 0 255][frame 16x16 at 0.00][frame 16x16 at 1.00]What is it? "
               "-> Both.\n"
               "example And now? -> Words.\n"
               "frame 0.000 ")
            != NULL,
        "%s", log);
    fail_unless_equals_int(count_lines("example "), 5);
    rig_free(rig);
}
GST_END_TEST

// They stay in the session when a new film begins, and are shown again to a new session.
GST_START_TEST(test_again)
{
    g_autofree char *path = write_json("[{\"image\": \"red.png\", \"answer\": \"Red.\"}]");
    Rig *rig = rig_with(path, "caption-interval=1000000000");

    rig_push(rig, 0, 1100);
    g_free(rig_wait_caption(rig));
    gst_harness_push_event(rig->video, gst_event_new_flush_start());
    gst_harness_push_event(rig->video, gst_event_new_flush_stop(TRUE));
    fake_wait_done(FAKE_RESET, 1);
    fail_unless_equals_int(count_lines("example "), 1);

    fake_fail(FAKE_FRAME, 1, 1, VLM_ERROR_DEVICE_LOST, "the device is lost");
    gst_harness_push_event(rig->video,
                           gst_event_new_segment(&(GstSegment){ .rate = 1,
                                                                .applied_rate = 1,
                                                                .format = GST_FORMAT_TIME,
                                                                .stop = GST_CLOCK_TIME_NONE,
                                                                .duration = GST_CLOCK_TIME_NONE }));
    rig_push(rig, 0, 1100);
    fail_unless_equals_uint64(rig_stat(rig, "device-lost"), 1);
    fail_unless_equals_int(count_lines("create"), 2);
    fail_unless_equals_int(count_lines("example "), 2);
    rig_free(rig);
}
GST_END_TEST

// What an interrupt cut short is shown after it.
GST_START_TEST(test_interrupted)
{
    g_autofree char *path = write_json("[{\"image\": \"red.png\", \"answer\": \"Red.\"}]");
    Rig *rig = rig_with(path, "when-busy=drop caption-interval=1000000000");

    fake_fail(FAKE_FRAME, 1, 1, VLM_ERROR_DEVICE_LOST, "the device is lost");
    fake_hold(FAKE_EXAMPLE);
    rig_push(rig, 0, 100);
    fake_wait_held(FAKE_EXAMPLE);  // the new session is being shown its examples
    gst_harness_push_event(rig->video, gst_event_new_flush_start());
    fake_release(FAKE_EXAMPLE);
    gst_harness_push_event(rig->video, gst_event_new_flush_stop(TRUE));
    fake_wait_done(FAKE_EXAMPLE, 3);  // before, cancelled, after
    fail_unless_equals_int(count_lines("example "), 2);
    rig_free(rig);
}
GST_END_TEST

// The same files, the same prompt: shared. Another prompt: not.
GST_START_TEST(test_shared)
{
    g_autofree char *path = write_json("[{\"image\": \"red.png\", \"answer\": \"Red.\"}]");
    g_autofree char *red = file_of("red.png");
    Rig *a = rig_with(path, ""), *b = rig_with(path, ""), *c = rig_with(path, "prompt=Other?");

    fail_unless_equals_int(count_lines("create context 0 system '' examples of another"), 1);
    fail_unless_equals_int(count_lines("example "), 2);
    // nor when a picture is another one meanwhile
    tool_clip_make("videotestsrc num-buffers=1 pattern=blue ! video/x-raw,format=RGB,width=33,"
                   "height=18 ! pngenc ! filesink location=OUT",
                   red);
    Rig *d = rig_with(path, "");
    fail_unless_equals_int(count_lines("example "), 3);
    rig_free(a);
    rig_free(b);
    rig_free(c);
    rig_free(d);
}
GST_END_TEST

// Before it runs only.
GST_START_TEST(test_property)
{
    Rig *rig = rig_new("", FALSE);
    g_autofree char *set = NULL;
    g_autoptr(GstMessage) warning = NULL;

    g_object_set(rig->element, "examples", "/nowhere.json", NULL);
    warning = rig_wait(rig, GST_MESSAGE_WARNING);
    g_object_get(rig->element, "examples", &set, NULL);
    fail_unless(set == NULL);
    fail_unless_equals_int(count_lines("example "), 0);
    rig_free(rig);
}
GST_END_TEST

#define IMAGE "\"image\": \"red.png\", "

static const struct {
    const char *json;  // NULL: there is no file
    gint code;         // of GstResourceError
    const char *text;  // after the file's name
} wrong[] = {
    { NULL, GST_RESOURCE_ERROR_NOT_FOUND, ": there is no such file. " },
    { "{", GST_RESOURCE_ERROR_READ, ": not JSON: 1:" },
    { "{}", GST_RESOURCE_ERROR_READ, ": must be a list of examples. " },
    { "[]", GST_RESOURCE_ERROR_READ, ": must be a list of examples. " },
    { "[3]", GST_RESOURCE_ERROR_READ, ", example 1: must be an object. " },
    { "[{" IMAGE "\"answer\": \"A\"}, {" IMAGE "\"prompt\": \"?\"}]", GST_RESOURCE_ERROR_READ,
      ", example 2: has no \"answer\". " },
    { "[{\"answer\": \"A\"}]", GST_RESOURCE_ERROR_READ,
      ", example 1: has neither \"image\", \"video\" nor \"prompt\". " },
    { "[{" IMAGE "\"answer\": 3}]", GST_RESOURCE_ERROR_READ,
      ", example 1: \"answer\" must be a string. " },
    { "[{" IMAGE "\"anwser\": \"A\"}]", GST_RESOURCE_ERROR_READ,
      ", example 1: there is no \"anwser\", only \"image\", \"video\", \"fps\", \"prompt\", "
      "\"answer\". " },
    { "[{\"image\": {}, \"answer\": \"A\"}]", GST_RESOURCE_ERROR_READ,
      ", example 1: \"image\" must be a file's name or a list of such. " },
    { "[{\"image\": \"\", \"answer\": \"A\"}]", GST_RESOURCE_ERROR_READ,
      ", example 1: a file without a name. " },
    { "[{\"image\": \"none.png\", \"answer\": \"A\"}]", GST_RESOURCE_ERROR_NOT_FOUND,
      ", example 1: there is no file '" },
    { "[{" IMAGE "\"prompt\": \"<image> <image>\", \"answer\": \"A\"}]", GST_RESOURCE_ERROR_READ,
      ", example 1: the prompt has 2 times <image> but there are 1 of them. " },
    { "[{\"video\": \"clip.mkv\", \"fps\": 0, \"answer\": \"A\"}]", GST_RESOURCE_ERROR_READ,
      ", example 1: \"fps\" must be a number from 0.001 to 1000. " },
    { "[{" IMAGE "\"answer\": \"A\"}, {\"image\": \"broken.png\", \"answer\": \"A\"}]",
      GST_RESOURCE_ERROR_READ, ", example 2: '" },
    // of the session, see test_wrong()
    { "[{" IMAGE "\"answer\": \"A\"}, {" IMAGE "\"answer\": \"B\"}]", GST_RESOURCE_ERROR_SETTINGS,
      ", example 2: too many tokens. " },
};

// One error that names the file, the example, what is wrong and what to do.
GST_START_TEST(test_wrong)
{
    g_autofree char *path = write_json(wrong[__i__].json ? wrong[__i__].json : "");
    g_autofree char *beginning = g_strconcat(path, wrong[__i__].text, NULL);
    GstElement *element = gst_object_ref_sink(gst_element_factory_make("vlmcaption", NULL));
    g_autoptr(GstBus) bus = gst_bus_new();
    g_autoptr(GstMessage) message = NULL, another = NULL;
    g_autoptr(GError) error = NULL;

    if (!wrong[__i__].json)
        g_unlink(path);
    if (wrong[__i__].code == GST_RESOURCE_ERROR_SETTINGS)
        fake_fail(FAKE_EXAMPLE, 2, 1, VLM_ERROR_ARGS, "too many tokens");
    gst_element_set_bus(element, bus);
    g_object_set(element, "examples", path, NULL);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_FAILURE);
    message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    another = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    fail_unless(message != NULL && another == NULL);
    gst_message_parse_error(message, &error, NULL);
    fail_unless(g_str_has_prefix(error->message, beginning), "%s", error->message);
    fail_unless(strstr(error->message, "property examples") != NULL, "%s", error->message);
    fail_unless(g_error_matches(error, GST_RESOURCE_ERROR, wrong[__i__].code));
    // without them it starts
    g_object_set(element, "examples", NULL, NULL);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_SUCCESS);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_element_set_bus(element, NULL);
    gst_object_unref(element);
}
GST_END_TEST

static Suite *examples_suite(void)
{
    Suite *s = suite_create("examples");
    TCase *tc = tcase_create("examples");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_shown);
    tcase_add_test(tc, test_again);
    tcase_add_test(tc, test_interrupted);
    tcase_add_test(tc, test_shared);
    tcase_add_test(tc, test_property);
    tcase_add_loop_test(tc, test_wrong, 0, G_N_ELEMENTS(wrong));
    return s;
}

int main(void)
{
    return element_main(examples_suite(), "element_examples");
}
