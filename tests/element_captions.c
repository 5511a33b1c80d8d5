// SPDX-License-Identifier: LGPL-2.1-or-later
// element_captions.c — what vlmcaption says about film that plays, and when.
#include "element_common.h"

static GstBuffer *last_buffer(Rig *rig)
{
    GstBuffer *buffer = NULL, *next;

    while ((next = gst_harness_try_pull(rig->video)) != NULL) {
        gst_clear_buffer(&buffer);
        buffer = next;
    }
    return buffer;
}

static void push_at(Rig *rig, guint ms)
{
    rig_push(rig, ms, ms + 100);
}

// How often `line` stands in the engine's log.
static guint count_lines(const char *line)
{
    g_autofree char *log = fake_get_log();
    g_auto(GStrv) lines = g_strsplit(log, "\n", -1);
    guint n = 0;

    for (guint i = 0; lines[i] != NULL; i++)
        n += g_str_has_prefix(lines[i], line);
    return n;
}

GST_START_TEST(test_passthrough)
{
    Rig *rig = rig_new("", FALSE);
    GstBuffer *in = rig_frame(0), *out;

    // The very same buffer comes out, although the worker looks at it.
    fail_unless_equals_int(gst_harness_push(rig->video, in), GST_FLOW_OK);
    out = gst_harness_pull(rig->video);
    fail_unless(in == out);
    gst_buffer_unref(out);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_message)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstMessage) message = NULL;
    const GstStructure *s;
    guint tokens = 0;

    rig_push(rig, 0, 4100);
    message = rig_wait(rig, GST_MESSAGE_ELEMENT);
    fail_unless(GST_MESSAGE_SRC(message) == GST_OBJECT(rig->element));
    s = gst_message_get_structure(message);
    fail_unless_equals_string(gst_structure_get_name(s), "vlm-caption");
    fail_unless_equals_string(gst_structure_get_string(s, "text"), "8 frames from 0.000 to 3.500");
    fail_unless_equals_uint64(caption_field(s, "timestamp"), 0);
    fail_unless_equals_uint64(caption_field(s, "stream-time"), 0);
    fail_unless_equals_uint64(caption_field(s, "running-time"), 0);
    fail_unless_equals_uint64(caption_field(s, "duration"), 4 * GST_SECOND);
    fail_unless_equals_uint64(caption_field(s, "number"), 1);
    fail_unless(gst_structure_get_uint(s, "tokens", &tokens));
    fail_unless_equals_int(tokens, 7);
    fail_unless(gst_structure_has_field_typed(s, "latency", G_TYPE_UINT64));
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_last_words)
{
    Rig *rig = rig_new("", TRUE);
    g_autofree char *one = NULL, *last = NULL, *text = NULL;
    GstClockTime pts, duration;

    rig_push(rig, 0, 5500);
    rig_eos(rig);
    // The harness has seen EOS: both captions are there.
    fail_unless_equals_int(fake_count(FAKE_GENERATE), 2);
    one = rig_wait_caption(rig);
    last = rig_wait_caption(rig);
    fail_unless_equals_string(last, "3 frames from 4.000 to 5.000");
    g_free(rig_pull_text(rig, &pts, &duration));
    fail_unless_equals_uint64(pts, 0);
    fail_unless_equals_uint64(duration, 4 * GST_SECOND);
    text = rig_pull_text(rig, &pts, &duration);
    fail_unless_equals_string(text, last);
    fail_unless_equals_uint64(pts, 4 * GST_SECOND);
    fail_unless_equals_uint64(duration, 1500 * GST_MSECOND);
    // An odd frame was made complete.
    fail_unless_equals_int(fake_count(FAKE_END_FILM), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_meta)
{
    Rig *rig = rig_new("name=eye", FALSE);
    g_autoptr(GstBuffer) before = NULL;
    g_autoptr(GstBuffer) after = NULL;
    const GstStructure *s;

    rig_push(rig, 0, 4000);
    before = last_buffer(rig);
    fail_unless(buffer_caption(before) == NULL);
    // Upstream may wait here, so the caption is on the first buffer after its range, always.
    push_at(rig, 4000);
    after = last_buffer(rig);
    fail_unless_equals_string(buffer_caption(after), "8 frames from 0.000 to 3.500");
    s = gst_custom_meta_get_structure(gst_buffer_get_custom_meta(after, "VlmCaption"));
    fail_unless_equals_uint64(caption_field(s, "timestamp"), 0);
    fail_unless_equals_uint64(caption_field(s, "duration"), 4 * GST_SECOND);
    fail_unless_equals_string(gst_structure_get_string(s, "element"), "eye");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_meta_on_shared_buffer)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstBuffer) mine = rig_frame(4000);
    g_autoptr(GstBuffer) out = NULL;

    rig_push(rig, 0, 4000);
    gst_clear_buffer(&out);
    out = last_buffer(rig);
    gst_clear_buffer(&out);
    gst_harness_push(rig->video, gst_buffer_ref(mine));
    out = last_buffer(rig);
    // Somebody else's buffer is not touched, and its pixels are not copied.
    fail_unless(out != mine);
    fail_unless(buffer_caption(mine) == NULL);
    fail_unless(buffer_caption(out) != NULL);
    fail_unless(gst_buffer_peek_memory(out, 0) == gst_buffer_peek_memory(mine, 0));
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_sampling)
{
    Rig *rig = rig_new("frame-rate=3/1 caption-interval=1000000000", FALSE);
    g_autofree char *log = NULL;

    rig_push(rig, 0, 1000);
    rig_eos(rig);
    log = fake_get_log();
    fail_unless(strstr(log, "frame 0.000 64x48") != NULL);
    fail_unless(strstr(log, "frame 0.400 64x48") != NULL);
    fail_unless(strstr(log, "frame 0.700 64x48") != NULL);
    fail_unless_equals_int(count_lines("frame"), 3);
    rig_free(rig);
}
GST_END_TEST

// The caps say nothing about the rate; the timestamps do.
GST_START_TEST(test_variable_rate)
{
    static const guint times[] = { 0, 40, 80, 700, 730, 2900, 2940, 3000, 3499, 3500 };
    Rig *rig = rig_new("", FALSE);

    gst_harness_set_src_caps_str(rig->video,
                                 "video/x-raw,format=I420,width=64,height=48,framerate=0/1");
    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        GstBuffer *buffer = rig_frame(times[i]);

        GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
        gst_harness_push(rig->video, buffer);
    }
    rig_eos(rig);
    // 0, 0.7 (after 0.5), 2.9 (after 2.5), 3.0, 3.5
    fail_unless_equals_int(count_lines("frame"), 5);
    fail_unless_equals_int(count_lines("frame 0.700"), 1);
    fail_unless_equals_int(count_lines("frame 2.900"), 1);
    fail_unless_equals_int(count_lines("frame 3.500"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_missing_pts)
{
    Rig *rig = rig_new("", FALSE);

    // The caps' rate fills in for every timestamp; or the ones that are missing.
    for (guint i = 0; i < 41; i++) {
        GstBuffer *buffer = rig_frame(i * 100);

        if (i != 20)
            GST_BUFFER_PTS(buffer) = GST_CLOCK_TIME_NONE;
        GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
        fail_unless_equals_int(gst_harness_push(rig->video, buffer), GST_FLOW_OK);
    }
    fail_unless_equals_int(count_lines("generate"), 1);
    rig_eos(rig);
    fail_unless_equals_int(count_lines("frame"), 9);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_dts_only)
{
    Rig *rig = rig_new("", FALSE);

    for (guint i = 0; i < 41; i++) {
        GstBuffer *buffer = rig_frame(i * 100);

        GST_BUFFER_DTS(buffer) = GST_BUFFER_PTS(buffer);
        GST_BUFFER_PTS(buffer) = GST_CLOCK_TIME_NONE;
        gst_harness_push(rig->video, buffer);
    }
    fail_unless_equals_int(count_lines("generate"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_no_time_at_all)
{
    Rig *rig = rig_new("", FALSE);

    gst_harness_set_src_caps_str(rig->video,
                                 "video/x-raw,format=I420,width=64,height=48,framerate=0/1");
    for (guint i = 0; i < 100; i++) {
        GstBuffer *buffer = rig_frame(0);

        GST_BUFFER_PTS(buffer) = GST_BUFFER_DURATION(buffer) = GST_CLOCK_TIME_NONE;
        fail_unless_equals_int(gst_harness_push(rig->video, buffer), GST_FLOW_OK);
    }
    fail_unless_equals_uint64(rig_stat(rig, "frames"), 100);
    fail_unless_equals_uint64(rig_stat(rig, "sampled"), 0);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_time_goes_back)
{
    Rig *rig = rig_new("", FALSE);
    g_autofree char *one = NULL, *two = NULL;

    rig_push(rig, 10000, 12000);
    // A little: frames out of order. A lot: another film.
    push_at(rig, 11500);
    rig_push(rig, 0, 1000);
    rig_eos(rig);
    fail_unless_equals_int(count_lines("reset"), 1);
    one = rig_wait_caption(rig);
    two = rig_wait_caption(rig);
    fail_unless_equals_string(one, "4 frames from 10.000 to 11.500");
    fail_unless_equals_string(two, "2 frames from 0.000 to 0.500");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_time_jumps_ahead)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstMessage) message = NULL;

    rig_push(rig, 0, 1000);
    push_at(rig, 3600000);
    // The caption ends with what was seen, and the film goes on.
    message = rig_wait(rig, GST_MESSAGE_ELEMENT);
    fail_unless_equals_uint64(caption_field(gst_message_get_structure(message), "duration"),
                              GST_SECOND);
    rig_eos(rig);
    fail_unless_equals_int(count_lines("reset"), 0);
    fail_unless_equals_int(count_lines("frame 3600.000"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_long_gap)
{
    Rig *rig = rig_new("", TRUE);
    GstClockTime end = 0;
    guint n = 0;

    gst_harness_push_event(rig->video, gst_event_new_gap(0, 60 * GST_SECOND));
    while (end < 60 * GST_SECOND) {
        g_autoptr(GstEvent) event = gst_harness_pull_event(rig->text);

        if (GST_EVENT_TYPE(event) == GST_EVENT_GAP) {
            GstClockTime at, duration;

            gst_event_parse_gap(event, &at, &duration);
            fail_unless(duration <= GST_SECOND);
            fail_unless_equals_uint64(at, end);
            end = at + duration;
            n++;
        }
    }
    fail_unless(n >= 60);
    rig_push(rig, 60000, 61000);
    rig_eos(rig);
    fail_unless_equals_int(count_lines("frame 60.000"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_gap_before_segment)
{
    Rig *rig = rig_new("", FALSE);
    GstHarness *h = gst_harness_new("vlmcaption");

    gst_harness_push_event(h, gst_event_new_stream_start("s"));
    gst_harness_push_event(h, gst_event_new_gap(0, GST_SECOND));
    gst_harness_teardown(h);
    rig_free(rig);
}
GST_END_TEST

// A gap closes the range that it runs over: its caption does not wait for the next frame.
GST_START_TEST(test_gap_ends_range)
{
    Rig *rig = rig_new("", FALSE);
    g_autofree char *text = NULL;

    rig_push(rig, 0, 3000);
    gst_harness_push_event(rig->video, gst_event_new_gap(3 * GST_SECOND, 2 * GST_SECOND));
    text = rig_wait_caption(rig);
    fail_unless_equals_string(text, "6 frames from 0.000 to 2.500");
    rig_free(rig);
}
GST_END_TEST

static void push_segment(Rig *rig, double rate, GstClockTime start, GstClockTime time,
                         GstClockTime base)
{
    GstSegment segment;

    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.rate = rate;
    segment.start = segment.position = start;
    segment.time = time;
    segment.base = base;
    if (rate < 0)
        segment.stop = start + 100 * GST_SECOND;
    fail_unless(gst_harness_push_event(rig->video, gst_event_new_segment(&segment)));
}

// PTS, stream time and running time are three things.
GST_START_TEST(test_segment_times)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstMessage) message = NULL;
    const GstStructure *s;

    push_segment(rig, 1.0, 100 * GST_SECOND, 20 * GST_SECOND, 7 * GST_SECOND);
    rig_push(rig, 100000, 104100);
    message = rig_wait(rig, GST_MESSAGE_ELEMENT);
    s = gst_message_get_structure(message);
    fail_unless_equals_uint64(caption_field(s, "timestamp"), 100 * GST_SECOND);
    fail_unless_equals_uint64(caption_field(s, "stream-time"), 20 * GST_SECOND);
    fail_unless_equals_uint64(caption_field(s, "running-time"), 7 * GST_SECOND);
    fail_unless_equals_string(gst_structure_get_string(s, "text"),
                              "8 frames from 20.000 to 23.500");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_fast_playback)
{
    Rig *rig = rig_new("", TRUE);
    g_autoptr(GstMessage) message = NULL;
    GstClockTime pts, duration;

    push_segment(rig, 2.0, 0, 0, 0);
    rig_push(rig, 0, 8100);
    gst_message_unref(rig_wait(rig, GST_MESSAGE_ELEMENT));
    message = rig_wait(rig, GST_MESSAGE_ELEMENT);
    fail_unless_equals_uint64(caption_field(gst_message_get_structure(message), "stream-time"),
                              4 * GST_SECOND);
    fail_unless_equals_uint64(caption_field(gst_message_get_structure(message), "running-time"),
                              2 * GST_SECOND);
    g_free(rig_pull_text(rig, &pts, &duration));
    g_free(rig_pull_text(rig, &pts, &duration));
    fail_unless_equals_uint64(pts, 4 * GST_SECOND);
    fail_unless_equals_uint64(duration, 4 * GST_SECOND);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_backwards_playback)
{
    Rig *rig = rig_new("", TRUE);

    push_segment(rig, -1.0, 0, 0, 0);
    for (guint ms = 10000; ms > 0; ms -= 100)
        push_at(rig, ms);
    rig_eos(rig);
    fail_unless_equals_int(fake_count(FAKE_FRAME), 0);
    fail_unless_equals_int(gst_harness_buffers_received(rig->video), 100);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_segment_in_bytes)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstMessage) message = NULL;
    g_autoptr(GError) error = NULL;
    GstSegment segment;

    gst_segment_init(&segment, GST_FORMAT_BYTES);
    gst_harness_push_event(rig->video, gst_event_new_segment(&segment));
    message = gst_bus_pop_filtered(rig->bus, GST_MESSAGE_ERROR);
    fail_unless(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    fail_unless(g_error_matches(error, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT));
    rig_free(rig);
}
GST_END_TEST

// A segment that goes on where the last one was leaves the film alone; another one is another film.
GST_START_TEST(test_new_segment)
{
    Rig *rig = rig_new("", FALSE);
    g_autofree char *one = NULL, *two = NULL;

    rig_push(rig, 0, 1000);
    push_segment(rig, 1.0, 0, 0, 0);
    rig_push(rig, 1000, 2000);
    push_segment(rig, 1.0, 50 * GST_SECOND, 50 * GST_SECOND, 2 * GST_SECOND);
    rig_push(rig, 50000, 51000);
    rig_eos(rig);
    fail_unless_equals_int(count_lines("reset"), 1);
    one = rig_wait_caption(rig);
    two = rig_wait_caption(rig);
    fail_unless_equals_string(one, "4 frames from 0.000 to 1.500");
    fail_unless_equals_string(two, "2 frames from 50.000 to 50.500");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_properties_while_playing)
{
    Rig *rig = rig_new("", FALSE);

    rig_push(rig, 0, 4100);
    g_object_set(rig->element, "prompt", "What colour?", "max-tokens", 9, "temperature", 0.5,
                 "caption-interval", 2 * GST_SECOND, NULL);
    gst_util_set_object_arg(G_OBJECT(rig->element), "frame-rate", "5/1");
    rig_push(rig, 4100, 6100);
    rig_eos(rig);
    fail_unless_equals_int(count_lines("generate 'Describe what happens in the last few seconds.'"
                                       " 128 0"),
                           1);
    fail_unless_equals_int(count_lines("generate 'What colour?' 9 0.5"), 2);
    fail_unless_equals_int(count_lines("frame 4.600"), 1);
    fail_unless_equals_int(count_lines("frame 4.800"), 1);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_frozen_properties)
{
    Rig *rig = rig_new("system-prompt=Brief. context-size=512", FALSE);
    g_autofree char *model = NULL;

    fail_unless_equals_int(count_lines("create context 512 system 'Brief.'"), 1);
    g_object_set(rig->element, "model", "/other", NULL);
    gst_message_unref(rig_wait(rig, GST_MESSAGE_WARNING));
    g_object_get(rig->element, "model", &model, NULL);
    fail_unless(model == NULL);
    rig_free(rig);
}
GST_END_TEST

// The type of the context belongs to the engine: another one in READY opens another engine.
GST_START_TEST(test_kv_type)
{
    static const char *const names[] = { "auto", "f16", "q8", "q4" };
    static const char *const opened[] = { "open default|beside|best", "open default|beside|best",
                                          "open default|beside|best|q8",
                                          "open default|beside|best|q4" };

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *settings = g_strdup_printf("kv-type=%s", names[i]);
        Rig *rig = rig_new(settings, FALSE);

        fail_unless_equals_int(count_lines(opened[i]), i == 0 ? 1 : i == 1 ? 2 : 1);
        gst_util_set_object_arg(G_OBJECT(rig->element), "kv-type", "q8");
        gst_message_unref(rig_wait(rig, GST_MESSAGE_WARNING));
        rig_free(rig);
    }
    Rig *rig = rig_new("kv-type=q4", FALSE);
    const guint before = count_lines("open default|beside|best|q8");
    gst_element_set_state(rig->element, GST_STATE_READY);
    gst_util_set_object_arg(G_OBJECT(rig->element), "kv-type", "q8");
    gst_element_set_state(rig->element, GST_STATE_PAUSED);
    fail_unless_equals_int(count_lines("open default|beside|best|q8"), before + 1);
    rig_free(rig);
}
GST_END_TEST

static void set_in_ready(Rig *rig, const char *property, guint value)
{
    gst_element_set_state(rig->element, GST_STATE_READY);
    g_object_set(rig->element, property, value, NULL);
    gst_element_set_state(rig->element, GST_STATE_PAUSED);
}

// So does the limit of device memory: elements share an engine only with the same one. Under a
// limit the engine is made for a context, too.
GST_START_TEST(test_device_memory)
{
    static const char open_100[] = "open default|beside|best|104857600 bytes";
    Rig *none = rig_new("", FALSE);
    Rig *rig = rig_new("device-memory=100", FALSE);
    Rig *same = rig_new("device-memory=100", FALSE);
    Rig *most = rig_new("device-memory=4294967295", FALSE);
    guint mib = 1;

    g_object_get(none->element, "device-memory", &mib, NULL);
    fail_unless_equals_int(mib, 0);
    fail_unless_equals_int(count_lines(open_100), 2);
    fail_unless_equals_int(count_lines("open default|beside|best|4503599626321920 bytes"), 1);
    fail_unless_equals_int(fake_n_engines(), 3);
    g_object_set(rig->element, "device-memory", 200, NULL);
    gst_message_unref(rig_wait(rig, GST_MESSAGE_WARNING));
    g_object_get(rig->element, "device-memory", &mib, NULL);
    fail_unless_equals_int(mib, 100);

    set_in_ready(rig, "device-memory", 200);
    fail_unless_equals_int(count_lines("open default|beside|best|209715200 bytes"), 1);
    fail_unless_equals_int(fake_n_engines(), 4);
    set_in_ready(same, "context-size", 1024);
    fail_unless_equals_int(count_lines(open_100), 3);
    set_in_ready(same, "context-size", 1024);
    fail_unless_equals_int(count_lines(open_100), 3);
    set_in_ready(none, "context-size", 1024);
    fail_unless_equals_int(count_lines("open default"), 6);
    rig_free(most);
    rig_free(same);
    rig_free(rig);
    rig_free(none);
}
GST_END_TEST

GST_START_TEST(test_no_messages)
{
    Rig *rig = rig_new("post-messages=false", TRUE);

    rig_push(rig, 0, 4100);
    g_free(rig_pull_text(rig, NULL, NULL));
    fail_unless(rig_is_quiet(rig, GST_MESSAGE_ELEMENT));
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_stats)
{
    Rig *rig = rig_new("", FALSE);

    rig_push(rig, 0, 8500);
    rig_eos(rig);
    fail_unless_equals_uint64(rig_stat(rig, "frames"), 85);
    fail_unless_equals_uint64(rig_stat(rig, "sampled"), 17);
    fail_unless_equals_uint64(rig_stat(rig, "dropped"), 0);
    fail_unless_equals_uint64(rig_stat(rig, "captions"), 3);
    fail_unless_equals_uint64(rig_stat(rig, "tokens"), 21);
    fail_unless_equals_uint64(rig_stat(rig, "errors"), 0);
    fail_unless_equals_uint64(rig_stat(rig, "device-memory"), 1000);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_empty_answer)
{
    Rig *rig = rig_new("", TRUE);
    g_autofree char *text = NULL;

    fake_set_answer(" \n ");
    rig_push(rig, 0, 4100);
    fail_unless(rig_is_quiet(rig, GST_MESSAGE_ELEMENT));
    fake_set_answer("\n A cat.  ");
    rig_push(rig, 4100, 8100);
    text = rig_wait_caption(rig);
    fail_unless_equals_string(text, "A cat.");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_ask)
{
    Rig *rig = rig_new("", FALSE);
    g_autofree char *answer = NULL, *none = NULL;

    rig_push(rig, 0, 2000);
    g_signal_emit_by_name(rig->element, "ask", "How many?", &answer);
    fail_unless_equals_string(answer, "4 frames from 0.000 to 1.500");
    fail_unless_equals_int(count_lines("generate 'How many?'"), 1);
    gst_element_set_state(rig->element, GST_STATE_READY);
    g_signal_emit_by_name(rig->element, "ask", "And now?", &none);
    fail_unless(none == NULL);
    rig_free(rig);
}
GST_END_TEST

// One frame per caption: a pair never fills, so the frame is completed by itself.
GST_START_TEST(test_single_frames)
{
    Rig *rig = rig_new("frame-rate=1/1 caption-interval=1000000000", FALSE);

    rig_push(rig, 0, 3000);
    rig_eos(rig);
    fail_unless_equals_int(fake_count(FAKE_GENERATE), 3);
    fail_unless_equals_int(fake_count(FAKE_END_FILM), 3);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_two_elements)
{
    Rig *a = rig_new("", FALSE), *b = rig_new("", FALSE);

    fail_unless_equals_int(fake_n_uploads(), 1);
    fail_unless_equals_int(fake_n_sessions(), 2);
    rig_push(a, 0, 4100);
    rig_push(b, 0, 2000);
    rig_eos(b);
    fail_unless_equals_uint64(rig_stat(a, "captions"), 1);
    fail_unless_equals_uint64(rig_stat(b, "captions"), 1);
    rig_free(a);
    fail_unless_equals_int(fake_n_engines(), 1);
    rig_free(b);
}
GST_END_TEST

GST_START_TEST(test_property_conventions)
{
    GstElement *element = gst_element_factory_make("vlmcaption", NULL);
    guint n;
    g_autofree GParamSpec **specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &n);
    GstElementFactory *factory = gst_element_get_factory(element);

    for (guint i = 0; i < n; i++) {
        const GParamFlags mutable =
            specs[i]->flags
            & (GST_PARAM_MUTABLE_READY | GST_PARAM_MUTABLE_PAUSED | GST_PARAM_MUTABLE_PLAYING);

        if (specs[i]->owner_type != G_OBJECT_TYPE(element))
            continue;
        fail_unless(*g_param_spec_get_blurb(specs[i]) != '\0');
        // One mutable flag where there is something to set.
        if (specs[i]->flags & G_PARAM_WRITABLE)
            fail_unless(mutable != 0 && (mutable & (mutable - 1)) == 0, "%s", specs[i]->name);
    }
    fail_unless_equals_string(gst_element_factory_get_metadata(factory, GST_ELEMENT_METADATA_KLASS),
                              "Filter/Analyzer/Video");
    fail_unless_equals_int(gst_plugin_feature_get_rank(GST_PLUGIN_FEATURE(factory)), GST_RANK_NONE);
    gst_object_unref(element);
}
GST_END_TEST

static Suite *captions_suite(void)
{
    Suite *s = suite_create("captions");
    TCase *tc = tcase_create("captions");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, element_setup, element_teardown);
    tcase_add_test(tc, test_passthrough);
    tcase_add_test(tc, test_message);
    tcase_add_test(tc, test_last_words);
    tcase_add_test(tc, test_meta);
    tcase_add_test(tc, test_meta_on_shared_buffer);
    tcase_add_test(tc, test_sampling);
    tcase_add_test(tc, test_variable_rate);
    tcase_add_test(tc, test_missing_pts);
    tcase_add_test(tc, test_dts_only);
    tcase_add_test(tc, test_no_time_at_all);
    tcase_add_test(tc, test_time_goes_back);
    tcase_add_test(tc, test_time_jumps_ahead);
    tcase_add_test(tc, test_long_gap);
    tcase_add_test(tc, test_gap_before_segment);
    tcase_add_test(tc, test_gap_ends_range);
    tcase_add_test(tc, test_segment_times);
    tcase_add_test(tc, test_fast_playback);
    tcase_add_test(tc, test_backwards_playback);
    tcase_add_test(tc, test_segment_in_bytes);
    tcase_add_test(tc, test_new_segment);
    tcase_add_test(tc, test_properties_while_playing);
    tcase_add_test(tc, test_frozen_properties);
    tcase_add_test(tc, test_kv_type);
    tcase_add_test(tc, test_device_memory);
    tcase_add_test(tc, test_no_messages);
    tcase_add_test(tc, test_stats);
    tcase_add_test(tc, test_empty_answer);
    tcase_add_test(tc, test_ask);
    tcase_add_test(tc, test_single_frames);
    tcase_add_test(tc, test_two_elements);
    tcase_add_test(tc, test_property_conventions);
    return s;
}

int main(void)
{
    return element_main(captions_suite(), "element_captions");
}
