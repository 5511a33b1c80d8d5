// SPDX-License-Identifier: LGPL-2.1-or-later
// element_common.c — a vlmcaption on the scripted engine, with a bus and a text pad, for tests.
#include "element_common.h"

#include "../gst-plugin/gstvlmcaption.h"

Rig *rig_new(const char *properties, gboolean with_text)
{
    Rig *rig = g_new0(Rig, 1);
    const char *busy = strstr(properties, "when-busy") != NULL ? "" : "when-busy=wait ";
    g_autofree char *line = g_strconcat("vlmcaption ", busy, properties, NULL);
    g_autoptr(GError) error = NULL;

    rig->element = gst_parse_launch_full(line, NULL, GST_PARSE_FLAG_NONE, &error);
    g_assert_no_error(error);
    gst_object_ref_sink(rig->element);
    rig->bus = gst_bus_new();
    gst_element_set_bus(rig->element, rig->bus);
    rig->video = gst_harness_new_with_element(rig->element, "sink", "src");
    if (with_text) {
        rig->text = gst_harness_new_with_element(rig->element, NULL, "text_src");
        gst_harness_play(rig->text);
    }
    gst_harness_set_src_caps_str(rig->video, TEST_CAPS("I420"));
    return rig;
}

void rig_free(Rig *rig)
{
    if (rig->text != NULL)
        gst_harness_teardown(rig->text);
    gst_harness_teardown(rig->video);
    gst_element_set_state(rig->element, GST_STATE_NULL);
    gst_element_set_bus(rig->element, NULL);
    gst_object_unref(rig->element);
    gst_object_unref(rig->bus);
    g_free(rig);
}

GstBuffer *rig_frame(guint ms)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 64 * 48 * 3 / 2, NULL);

    gst_buffer_memset(buffer, 0, 128, 64 * 48 * 3 / 2);
    GST_BUFFER_PTS(buffer) = ms * GST_MSECOND;
    GST_BUFFER_DURATION(buffer) = 100 * GST_MSECOND;
    return buffer;
}

void rig_push(Rig *rig, guint from_ms, guint to_ms)
{
    for (guint ms = from_ms; ms < to_ms; ms += 100)
        fail_unless_equals_int(gst_harness_push(rig->video, rig_frame(ms)), GST_FLOW_OK);
}

void rig_eos(Rig *rig)
{
    fail_unless(gst_harness_push_event(rig->video, gst_event_new_eos()));
}

GstMessage *rig_wait(Rig *rig, GstMessageType type)
{
    GstMessage *message =
        gst_bus_timed_pop_filtered(rig->bus, GST_CLOCK_TIME_NONE, type | GST_MESSAGE_ERROR);

    if (GST_MESSAGE_TYPE(message) != type) {
        g_autoptr(GError) error = NULL;

        gst_message_parse_error(message, &error, NULL);
        fail("unexpected error: %s", error->message);
    }
    return message;
}

char *rig_wait_caption(Rig *rig)
{
    g_autoptr(GstMessage) message = rig_wait(rig, GST_MESSAGE_ELEMENT);
    const GstStructure *structure = gst_message_get_structure(message);

    fail_unless_equals_string(gst_structure_get_name(structure), "vlm-caption");
    return g_strdup(gst_structure_get_string(structure, "text"));
}

gboolean rig_is_quiet(Rig *rig, GstMessageType type)
{
    g_autoptr(GstMessage) message = gst_bus_pop_filtered(rig->bus, type);

    return message == NULL;
}

char *rig_pull_text(Rig *rig, GstClockTime *pts, GstClockTime *duration)
{
    g_autoptr(GstBuffer) buffer = gst_harness_pull(rig->text);
    GstMapInfo map;
    char *text;

    fail_unless(buffer != NULL);
    if (pts != NULL)
        *pts = GST_BUFFER_PTS(buffer);
    if (duration != NULL)
        *duration = GST_BUFFER_DURATION(buffer);
    fail_unless(gst_buffer_map(buffer, &map, GST_MAP_READ));
    text = g_strndup((const char *) map.data, map.size);
    gst_buffer_unmap(buffer, &map);
    fail_unless_equals_uint64(strlen(text), map.size);
    return text;
}

guint64 caption_field(const GstStructure *structure, const char *name)
{
    guint64 value = 0;

    fail_unless(gst_structure_get_uint64(structure, name, &value), "no field %s", name);
    return value;
}

guint64 rig_stat(Rig *rig, const char *name)
{
    g_autoptr(GstStructure) stats = NULL;

    g_object_get(rig->element, "stats", &stats, NULL);
    return caption_field(stats, name);
}

const char *buffer_caption(GstBuffer *buffer)
{
    GstCustomMeta *meta = gst_buffer_get_custom_meta(buffer, "VlmCaption");

    return meta != NULL ? gst_structure_get_string(gst_custom_meta_get_structure(meta), "text")
                        : NULL;
}

void element_setup(void)
{
    fake_start();
}

void element_teardown(void)
{
    fail_unless_equals_int(fake_n_sessions(), 0);
    fail_unless_equals_int(fake_n_engines(), 0);
}

int element_main(Suite *suite, const char *name)
{
    gst_check_init(NULL, NULL);
    if (!GST_ELEMENT_REGISTER(vlmcaption, NULL))
        return 1;
    return gst_check_run_suite(suite, name, name);
}
