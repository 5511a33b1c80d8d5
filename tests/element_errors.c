// SPDX-License-Identifier: LGPL-2.1-or-later
// element_errors.c — what the person is told when something fails, and what goes on.
#include "element_common.h"

// The element in NULL with a bus; not the rig, which expects it to start.
static GstElement *make_element(GstBus **bus)
{
    GstElement *element = gst_object_ref_sink(gst_element_factory_make("vlmcaption", NULL));

    *bus = gst_bus_new();
    gst_element_set_bus(element, *bus);
    return element;
}

static void drop_element(GstElement *element, GstBus *bus)
{
    gst_element_set_state(element, GST_STATE_NULL);
    gst_element_set_bus(element, NULL);
    gst_object_unref(bus);
    gst_object_unref(element);
}

// Takes exactly one error from the bus.
static GError *take_error(GstBus *bus)
{
    g_autoptr(GstMessage) message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    g_autoptr(GstMessage) another = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
    GError *error = NULL;

    fail_unless(message != NULL, "no error was posted");
    fail_unless(another == NULL, "more than one error was posted");
    gst_message_parse_error(message, &error, NULL);
    return error;
}

GST_START_TEST(test_missing_file)
{
    GstBus *bus;
    GstElement *element = make_element(&bus);
    g_autoptr(GError) error = NULL;

    g_object_set(element, "model", "/nowhere/model.gguf", NULL);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY),
                           GST_STATE_CHANGE_FAILURE);
    error = take_error(bus);
    fail_unless(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND));
    fail_unless(strstr(error->message, "/nowhere/model.gguf") != NULL);
    // The same element works once the property is right.
    g_object_set(element, "model", NULL, NULL);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_SUCCESS);
    drop_element(element, bus);
}
GST_END_TEST

typedef struct {
    vlm_error_code code;
    const char *domain;
    gint gst_code;
} Mapping;

GST_START_TEST(test_open_fails)
{
    static const Mapping mappings[] = {
        { VLM_ERROR_ARGS, "gst-resource-error-quark", GST_RESOURCE_ERROR_SETTINGS },
        { VLM_ERROR_NOT_FOUND, "gst-resource-error-quark", GST_RESOURCE_ERROR_NOT_FOUND },
        { VLM_ERROR_FORMAT, "gst-resource-error-quark", GST_RESOURCE_ERROR_READ },
        { VLM_ERROR_NO_DEVICE, "gst-resource-error-quark", GST_RESOURCE_ERROR_OPEN_READ },
        { VLM_ERROR_DEVICE_MEMORY, "gst-resource-error-quark", GST_RESOURCE_ERROR_NO_SPACE_LEFT },
        { VLM_ERROR_MEMORY_LIMIT, "gst-resource-error-quark", GST_RESOURCE_ERROR_NO_SPACE_LEFT },
        { VLM_ERROR_DEVICE_LOST, "gst-library-error-quark", GST_LIBRARY_ERROR_FAILED },
        { VLM_ERROR_DRIVER, "gst-library-error-quark", GST_LIBRARY_ERROR_FAILED },
    };
    const Mapping *m = &mappings[__i__];
    GstBus *bus;
    GstElement *element = make_element(&bus);
    g_autoptr(GError) error = NULL;

    fake_fail(FAKE_OPEN, 1, 1, m->code, "what happened");
    g_object_set(element, "model", "my-model.gguf", NULL);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_FAILURE);
    error = take_error(bus);
    fail_unless(g_error_matches(error, g_quark_from_string(m->domain), m->gst_code));
    // Which file, what happened, what to do.
    fail_unless(g_str_has_prefix(error->message, "my-model.gguf: what happened. "));
    fail_unless(strlen(error->message) > strlen("my-model.gguf: what happened. ") + 20);
    fail_unless(g_str_has_suffix(error->message, "."));
    drop_element(element, bus);
}
GST_END_TEST

GST_START_TEST(test_session_fails)
{
    GstBus *bus;
    GstElement *element = make_element(&bus);
    g_autoptr(GError) error = NULL;

    fake_fail(FAKE_CREATE, 1, 1, VLM_ERROR_ARGS, "context-size 1 is too small");
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_READY),
                           GST_STATE_CHANGE_SUCCESS);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_FAILURE);
    error = take_error(bus);
    fail_unless(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS));
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_SUCCESS);
    drop_element(element, bus);
}
GST_END_TEST

// Another model, chosen in READY, is loaded on the way to PAUSED.
GST_START_TEST(test_model_changed_in_ready)
{
    GstBus *bus;
    GstElement *element = make_element(&bus);
    g_autoptr(GError) error = NULL;

    gst_element_set_state(element, GST_STATE_READY);
    g_object_set(element, "device", "1", NULL);
    gst_element_set_state(element, GST_STATE_PAUSED);
    fail_unless_equals_int(fake_n_uploads(), 2);
    fail_unless_equals_int(fake_n_engines(), 1);
    gst_element_set_state(element, GST_STATE_READY);
    g_object_set(element, "model", "/nowhere", NULL);
    fail_unless_equals_int(gst_element_set_state(element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_FAILURE);
    error = take_error(bus);
    drop_element(element, bus);
}
GST_END_TEST

static GError *take_warning(Rig *rig)
{
    g_autoptr(GstMessage) message = rig_wait(rig, GST_MESSAGE_WARNING);
    GError *error = NULL;

    gst_message_parse_warning(message, &error, NULL);
    return error;
}

// One caption fails: a warning, and the next one comes.
GST_START_TEST(test_caption_fails)
{
    Rig *rig = rig_new("", TRUE);
    g_autoptr(GError) warning = NULL;
    g_autofree char *text = NULL;

    fake_fail(FAKE_GENERATE, 1, 2, VLM_ERROR_ARGS, "the prompt is too long");
    rig_push(rig, 0, 12100);
    warning = take_warning(rig);
    fail_unless(strstr(warning->message, "the prompt is too long") != NULL);
    text = rig_wait_caption(rig);
    fail_unless_equals_string(text, "24 frames from 0.000 to 11.500");
    // The same trouble is told once and counted each time.
    fail_unless(rig_is_quiet(rig, GST_MESSAGE_WARNING));
    fail_unless_equals_uint64(rig_stat(rig, "errors"), 2);
    fail_unless_equals_uint64(rig_stat(rig, "captions"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_frame_fails)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GError) warning = NULL;
    g_autofree char *text = NULL;

    fake_fail(FAKE_FRAME, 2, 1, VLM_ERROR_FORMAT, "a frame of this kind");
    rig_push(rig, 0, 4100);
    warning = take_warning(rig);
    text = rig_wait_caption(rig);
    fail_unless_equals_string(text, "7 frames from 0.000 to 3.500");
    fail_unless(g_error_matches(warning, GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE));
    rig_free(rig);
}
GST_END_TEST

// A buffer that is smaller than its caps say.
GST_START_TEST(test_short_buffer)
{
    Rig *rig = rig_new("", FALSE);
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 100, NULL);

    gst_buffer_memset(buffer, 0, 0, 100);
    GST_BUFFER_PTS(buffer) = 0;
    fail_unless_equals_int(gst_harness_push(rig->video, buffer), GST_FLOW_OK);
    g_error_free(take_warning(rig));
    rig_push(rig, 500, 4100);
    g_free(rig_wait_caption(rig));
    rig_free(rig);
}
GST_END_TEST

// The device is opened again and captions go on, without what was seen before.
GST_START_TEST(test_device_lost)
{
    Rig *rig = rig_new("", TRUE);
    g_autofree char *text = NULL;

    fake_fail(FAKE_FRAME, 5, 1, VLM_ERROR_DEVICE_LOST, "the device is lost");
    rig_push(rig, 0, 4100);
    g_error_free(take_warning(rig));
    text = rig_wait_caption(rig);
    fail_unless_equals_string(text, "4 frames from 2.000 to 3.500");
    fail_unless_equals_int(fake_n_uploads(), 2);
    fail_unless_equals_uint64(rig_stat(rig, "device-lost"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_device_lost_in_caption)
{
    Rig *rig = rig_new("", TRUE);
    g_autofree char *text = NULL;

    fake_fail(FAKE_GENERATE, 1, 1, VLM_ERROR_DEVICE_LOST, "the device is lost");
    rig_push(rig, 0, 8100);
    g_error_free(take_warning(rig));
    text = rig_wait_caption(rig);
    fail_unless_equals_string(text, "8 frames from 4.000 to 7.500");
    rig_free(rig);
}
GST_END_TEST

// Three times in ten minutes are bad luck, a fourth is an error. The text pad still ends.
GST_START_TEST(test_device_lost_for_good)
{
    Rig *rig = rig_new("", TRUE);
    g_autoptr(GError) error = NULL;
    GstFlowReturn ret = GST_FLOW_OK;
    GstEventType type;

    fake_fail(FAKE_FRAME, 2, 1000, VLM_ERROR_DEVICE_LOST, "the device is lost");
    for (guint ms = 0; ms < 20000 && ret == GST_FLOW_OK; ms += 100)
        ret = gst_harness_push(rig->video, rig_frame(ms));
    fail_unless_equals_int(ret, GST_FLOW_ERROR);
    error = take_error(rig->bus);
    fail_unless(g_error_matches(error, GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED));
    fail_unless_equals_uint64(rig_stat(rig, "device-lost"), 4);
    rig_eos(rig);
    do {
        g_autoptr(GstEvent) event = gst_harness_pull_event(rig->text);

        type = GST_EVENT_TYPE(event);
    } while (type != GST_EVENT_EOS);
    // Stopped and started, it works again.
    gst_element_set_state(rig->element, GST_STATE_NULL);
    fail_unless_equals_int(gst_element_set_state(rig->element, GST_STATE_PLAYING),
                           GST_STATE_CHANGE_SUCCESS);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_reopening_fails)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GError) error = NULL;
    GstFlowReturn ret = GST_FLOW_OK;

    fake_fail(FAKE_FRAME, 1, 1, VLM_ERROR_DEVICE_LOST, "the device is lost");
    fake_fail(FAKE_OPEN, 1, 1, VLM_ERROR_NO_DEVICE, "there is no device any more");
    for (guint ms = 0; ms < 20000 && ret == GST_FLOW_OK; ms += 100)
        ret = gst_harness_push(rig->video, rig_frame(ms));
    fail_unless_equals_int(ret, GST_FLOW_ERROR);
    error = take_error(rig->bus);
    fail_unless(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ));
    rig_free(rig);
}
GST_END_TEST

static gpointer stop(gpointer element)
{
    gst_element_set_state(element, GST_STATE_NULL);
    return NULL;
}

// The pause before a lost device is opened again ends when the element is stopped.
GST_START_TEST(test_stop_while_device_is_lost)
{
    Rig *rig = rig_new("when-busy=drop", FALSE);

    fake_fail(FAKE_FRAME, 1, 1, VLM_ERROR_DEVICE_LOST, "the device is lost");
    rig_push(rig, 0, 100);
    g_error_free(take_warning(rig));
    g_thread_join(g_thread_new("stops", stop, rig->element));
    fail_unless_equals_int(fake_n_engines(), 0);
    rig_free(rig);
}
GST_END_TEST

// A handler on the bus that runs in the thread that posts finds no lock held.
static GstBusSyncReply on_message(GstBus *bus, GstMessage *message, gpointer element)
{
    g_autoptr(GstStructure) stats = NULL;

    (void) bus;
    (void) message;
    g_object_get(element, "stats", &stats, NULL);
    g_object_set(element, "prompt", "Again?", "gap-mode", 0, NULL);
    gst_object_unref(gst_element_get_static_pad(element, "src"));
    return GST_BUS_PASS;
}

GST_START_TEST(test_no_lock_over_messages)
{
    Rig *rig = rig_new("", TRUE);
    char *answer;

    gst_bus_set_sync_handler(rig->bus, on_message, rig->element, NULL);
    fake_fail(FAKE_FRAME, 1, 1, VLM_ERROR_DRIVER, "a frame was refused");
    rig_push(rig, 0, 4100);
    rig_eos(rig);
    g_signal_emit_by_name(rig->element, "ask", "Still there?", &answer);
    g_free(answer);
    gst_bus_set_sync_handler(rig->bus, NULL, NULL, NULL);
    rig_free(rig);
}
GST_END_TEST

static Suite *errors_suite(void)
{
    Suite *s = suite_create("errors");
    TCase *tc = tcase_create("errors");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, element_setup, element_teardown);
    tcase_add_test(tc, test_missing_file);
    tcase_add_loop_test(tc, test_open_fails, 0, 8);
    tcase_add_test(tc, test_session_fails);
    tcase_add_test(tc, test_model_changed_in_ready);
    tcase_add_test(tc, test_caption_fails);
    tcase_add_test(tc, test_frame_fails);
    tcase_add_test(tc, test_short_buffer);
    tcase_add_test(tc, test_device_lost);
    tcase_add_test(tc, test_device_lost_in_caption);
    tcase_add_test(tc, test_device_lost_for_good);
    tcase_add_test(tc, test_reopening_fails);
    tcase_add_test(tc, test_stop_while_device_is_lost);
    tcase_add_test(tc, test_no_lock_over_messages);
    return s;
}

int main(void)
{
    return element_main(errors_suite(), "element_errors");
}
