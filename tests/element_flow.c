// SPDX-License-Identifier: LGPL-2.1-or-later
// element_flow.c — seeks, ends, stops and floods, each while vlmcaption is at different work.
#include "element_common.h"

// ------------------------------------------------------------------ frames from another thread

typedef struct {
    Rig *rig;
    guint from_ms, to_ms;
    gboolean eos;
    GstFlowReturn ret;
    GThread *thread;
} Pusher;

static gpointer push_frames(gpointer data)
{
    Pusher *p = data;

    for (guint ms = p->from_ms; ms < p->to_ms && p->ret == GST_FLOW_OK; ms += 100)
        p->ret = gst_harness_push(p->rig->video, rig_frame(ms));
    if (p->eos && p->ret == GST_FLOW_OK)
        gst_harness_push_event(p->rig->video, gst_event_new_eos());
    return NULL;
}

static Pusher *pusher_start(Rig *rig, guint from_ms, guint to_ms, gboolean eos)
{
    Pusher *p = g_new0(Pusher, 1);

    *p = (Pusher){ rig, from_ms, to_ms, eos, GST_FLOW_OK, NULL };
    p->thread = g_thread_new("pusher", push_frames, p);
    return p;
}

static GstFlowReturn pusher_join(Pusher *p)
{
    GstFlowReturn ret;

    g_thread_join(p->thread);
    ret = p->ret;
    g_free(p);
    return ret;
}

// ------------------------------------------------------------------ a branch that is stuck

typedef struct {
    GMutex lock;
    GCond cond;
    gboolean reached;
    gulong id;
    GstPad *pad;
} Stuck;

static GstPadProbeReturn on_blocked(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    Stuck *stuck = data;

    (void) pad;
    (void) info;
    g_mutex_lock(&stuck->lock);
    stuck->reached = TRUE;
    g_cond_broadcast(&stuck->cond);
    g_mutex_unlock(&stuck->lock);
    return GST_PAD_PROBE_OK;
}

// From the next caption on, pushes into the text pad do not return.
static void stuck_begin(Stuck *stuck, Rig *rig)
{
    *stuck = (Stuck){ 0 };
    stuck->pad = gst_pad_get_peer(rig->text->sinkpad);
    stuck->id = gst_pad_add_probe(stuck->pad, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER,
                                  on_blocked, stuck, NULL);
}

static void stuck_wait(Stuck *stuck)
{
    g_mutex_lock(&stuck->lock);
    while (!stuck->reached)
        g_cond_wait(&stuck->cond, &stuck->lock);
    g_mutex_unlock(&stuck->lock);
}

static void stuck_end(Stuck *stuck)
{
    gst_pad_remove_probe(stuck->pad, stuck->id);
    gst_object_unref(stuck->pad);
}

static void push_segment(Rig *rig, GstClockTime start)
{
    GstSegment segment;

    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.start = segment.time = segment.position = start;
    fail_unless(gst_harness_push_event(rig->video, gst_event_new_segment(&segment)));
}

// The next caption message is the one expected.
static void expect_caption(Rig *rig, const char *expected)
{
    g_autofree char *text = rig_wait_caption(rig);

    fail_unless_equals_string(text, expected);
}

typedef enum { AT_IDLE, AT_COPY, AT_ENCODE, AT_DECODE, AT_TEXT, N_AT } At;

// Brings the element to one of five points. Returns the thread that pushes, or NULL.
static Pusher *bring_to(Rig *rig, At at, Stuck *stuck, gboolean eos)
{
    Pusher *pusher = NULL;

    switch (at) {
    case AT_IDLE:
        rig_push(rig, 0, 2000);
        break;
    case AT_COPY:
        // One frame with the engine, four waiting, and upstream waits with the sixth.
        fake_hold(FAKE_FRAME);
        pusher = pusher_start(rig, 0, 3900, eos);
        fake_wait_held(FAKE_FRAME);
        while (gst_harness_buffers_received(rig->video) < 25)
            g_thread_yield();
        break;
    case AT_ENCODE:
        fake_hold(FAKE_FRAME);
        pusher = pusher_start(rig, 0, 1000, eos);
        fake_wait_held(FAKE_FRAME);
        break;
    case AT_DECODE:
        fake_hold(FAKE_GENERATE);
        pusher = pusher_start(rig, 0, 4100, eos);
        fake_wait_held(FAKE_GENERATE);
        break;
    default:
        stuck_begin(stuck, rig);
        rig_push(rig, 0, 4100);
        stuck_wait(stuck);
        break;
    }
    return pusher;
}

GST_START_TEST(test_flush)
{
    const At at = (At) __i__;
    Rig *rig = rig_new("", TRUE);
    Stuck stuck;
    Pusher *pusher = bring_to(rig, at, &stuck, FALSE);
    g_autofree char *text = NULL;
    GstClockTime pts;

    fail_unless(gst_harness_push_event(rig->video, gst_event_new_flush_start()));
    if (pusher != NULL)
        pusher_join(pusher);
    if (at == AT_TEXT) {
        stuck_end(&stuck);
        expect_caption(rig, "8 frames from 0.000 to 3.500");
    }
    // What was on its way is not wanted any more.
    fake_release(FAKE_FRAME);
    fake_release(FAKE_GENERATE);
    fail_unless(gst_harness_push_event(rig->video, gst_event_new_flush_stop(TRUE)));
    fail_unless(rig_is_quiet(rig, GST_MESSAGE_ELEMENT));
    while (gst_harness_try_pull(rig->text) != NULL)
        fail("text before the flush");

    push_segment(rig, 20 * GST_SECOND);
    rig_push(rig, 20000, 24100);
    expect_caption(rig, "8 frames from 20.000 to 23.500");
    text = rig_pull_text(rig, &pts, NULL);
    fail_unless_equals_uint64(pts, 20 * GST_SECOND);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_flush_storm)
{
    Rig *rig = rig_new("", TRUE);

    for (guint i = 0; i < 500; i++) {
        rig_push(rig, i * 1000, i * 1000 + 600);
        gst_harness_push_event(rig->video, gst_event_new_flush_start());
        gst_harness_push_event(rig->video, gst_event_new_flush_stop(TRUE));
        push_segment(rig, (i + 1) * GST_SECOND);
    }
    rig_push(rig, 500000, 504100);
    expect_caption(rig, "8 frames from 500.000 to 503.500");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_eos)
{
    const At at = (At) __i__;
    Rig *rig = rig_new("", TRUE);
    Stuck stuck;
    Pusher *pusher = bring_to(rig, at, &stuck, TRUE);
    g_autofree char *last = NULL;
    GstEventType type;

    if (pusher == NULL)
        rig_eos(rig);
    fake_release(FAKE_FRAME);
    fake_release(FAKE_GENERATE);
    if (pusher != NULL)
        fail_unless_equals_int(pusher_join(pusher), GST_FLOW_OK);
    if (at == AT_TEXT)
        stuck_end(&stuck);
    // All that was seen was said before the video ended.
    if (at == AT_DECODE || at == AT_TEXT) {
        expect_caption(rig, "8 frames from 0.000 to 3.500");
        g_free(rig_pull_text(rig, NULL, NULL));
    }
    last = rig_wait_caption(rig);
    fail_unless_equals_string(last, at == AT_IDLE     ? "4 frames from 0.000 to 1.500"
                                    : at == AT_COPY   ? "8 frames from 0.000 to 3.500"
                                    : at == AT_ENCODE ? "2 frames from 0.000 to 0.500"
                                                      : "1 frames from 4.000 to 4.000");
    g_free(rig_pull_text(rig, NULL, NULL));
    do {
        g_autoptr(GstEvent) event = gst_harness_pull_event(rig->text);

        type = GST_EVENT_TYPE(event);
    } while (type != GST_EVENT_EOS);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_eos_without_frames)
{
    Rig *rig = rig_new("", TRUE);

    rig_eos(rig);
    fail_unless_equals_int(fake_count(FAKE_GENERATE), 0);
    rig_free(rig);
}
GST_END_TEST

// An EOS that waits for the engine leaves when somebody seeks.
GST_START_TEST(test_flush_in_eos)
{
    Rig *rig = rig_new("", TRUE);
    Pusher *pusher;

    fake_hold(FAKE_GENERATE);
    pusher = pusher_start(rig, 0, 1000, TRUE);
    fake_wait_held(FAKE_GENERATE);
    gst_harness_push_event(rig->video, gst_event_new_flush_start());
    pusher_join(pusher);
    gst_harness_push_event(rig->video, gst_event_new_flush_stop(TRUE));
    fake_release(FAKE_GENERATE);
    push_segment(rig, 0);
    rig_push(rig, 0, 4100);
    expect_caption(rig, "8 frames from 0.000 to 3.500");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_another_stream)
{
    const gboolean with_eos = __i__ == 1;
    Rig *rig = rig_new("", TRUE);

    rig_push(rig, 0, 1000);
    if (with_eos)
        rig_eos(rig);
    gst_harness_push_event(rig->video, gst_event_new_stream_start("second"));
    gst_harness_set_src_caps_str(rig->video, TEST_CAPS("I420"));
    rig_push(rig, 0, 600);
    rig_eos(rig);
    expect_caption(rig, "2 frames from 0.000 to 0.500");
    expect_caption(rig, "2 frames from 0.000 to 0.500");
    fail_unless_equals_int(fake_count(FAKE_RESET), 1);
    rig_free(rig);
}
GST_END_TEST

// Who says his name again has not started anew.
GST_START_TEST(test_sticky_events_again)
{
    Rig *rig = rig_new("", TRUE);
    g_autoptr(GstEvent) start =
        gst_pad_get_sticky_event(rig->video->srcpad, GST_EVENT_STREAM_START, 0);
    g_autoptr(GstEvent) caps = gst_pad_get_sticky_event(rig->video->srcpad, GST_EVENT_CAPS, 0);
    g_autoptr(GstEvent) segment =
        gst_pad_get_sticky_event(rig->video->srcpad, GST_EVENT_SEGMENT, 0);
    g_autoptr(GstPad) sink = gst_pad_get_peer(rig->video->srcpad);

    rig_push(rig, 0, 1000);
    gst_pad_send_event(sink, gst_event_ref(start));
    gst_pad_send_event(sink, gst_event_ref(caps));
    gst_pad_send_event(sink, gst_event_ref(segment));
    rig_push(rig, 1000, 4100);
    expect_caption(rig, "8 frames from 0.000 to 3.500");
    fail_unless_equals_int(fake_count(FAKE_RESET), 0);
    rig_free(rig);
}
GST_END_TEST

// ------------------------------------------------------------------ stopping

GST_START_TEST(test_null_at)
{
    const At at = (At) __i__;
    Rig *rig = rig_new("", TRUE);
    Stuck stuck;
    Pusher *pusher = bring_to(rig, at, &stuck, FALSE);

    // Nothing is released: the cancel has to do it.
    fail_unless_equals_int(gst_element_set_state(rig->element, GST_STATE_NULL),
                           GST_STATE_CHANGE_SUCCESS);
    fail_unless_equals_int(fake_n_sessions(), 0);
    fail_unless_equals_int(fake_n_engines(), 0);
    // At AT_ENCODE all that is pushed may have come in before.
    if (pusher != NULL) {
        const GstFlowReturn ret = pusher_join(pusher);

        fail_unless(ret == GST_FLOW_FLUSHING || (ret == GST_FLOW_OK && at == AT_ENCODE));
    }
    if (at == AT_TEXT)
        stuck_end(&stuck);
    rig_free(rig);
}
GST_END_TEST

static gpointer ask(gpointer element)
{
    char *answer = NULL;

    g_signal_emit_by_name(element, "ask", "What?", &answer);
    return answer;
}

// A question that waits for the engine comes back without an answer.
GST_START_TEST(test_null_in_ask)
{
    Rig *rig = rig_new("", FALSE);
    GThread *thread;

    rig_push(rig, 0, 1000);
    fake_hold(FAKE_GENERATE);
    thread = g_thread_new("asks", ask, rig->element);
    fake_wait_held(FAKE_GENERATE);
    gst_element_set_state(rig->element, GST_STATE_NULL);
    fail_unless(g_thread_join(thread) == NULL);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_pause_while_inferring)
{
    Rig *rig = rig_new("", FALSE);
    Pusher *pusher;

    fake_hold(FAKE_GENERATE);
    pusher = pusher_start(rig, 0, 4100, FALSE);
    fake_wait_held(FAKE_GENERATE);
    fail_unless_equals_int(gst_element_set_state(rig->element, GST_STATE_PAUSED),
                           GST_STATE_CHANGE_SUCCESS);
    fail_unless_equals_int(gst_element_set_state(rig->element, GST_STATE_PLAYING),
                           GST_STATE_CHANGE_SUCCESS);
    fake_release(FAKE_GENERATE);
    fail_unless_equals_int(pusher_join(pusher), GST_FLOW_OK);
    expect_caption(rig, "8 frames from 0.000 to 3.500");
    rig_free(rig);
}
GST_END_TEST

// ------------------------------------------------------------------ busy

// The harness says that it is live: whatever the engine does, video goes on.
GST_START_TEST(test_live_is_never_held_up)
{
    Rig *rig = rig_new("when-busy=auto", TRUE);

    fake_hold(FAKE_FRAME);
    rig_push(rig, 0, 100);
    fake_wait_held(FAKE_FRAME);
    rig_push(rig, 100, 60000);
    fail_unless_equals_int(gst_harness_buffers_received(rig->video), 600);
    fail_unless_equals_uint64(rig_stat(rig, "sampled"), 120);
    // One with the engine, four waiting.
    fail_unless_equals_uint64(rig_stat(rig, "dropped"), 115);
    fake_release(FAKE_FRAME);
    rig_free(rig);
}
GST_END_TEST

// A caption that waits is joined by the next: nothing piles up, nothing is left out.
GST_START_TEST(test_late_captions_join)
{
    Rig *rig = rig_new("when-busy=drop", FALSE);
    g_autoptr(GstMessage) message = NULL;
    const GstStructure *s;

    for (guint i = 0; i < 8; i++) {
        rig_push(rig, i * 500, i * 500 + 500);
        fake_wait_done(FAKE_FRAME, i + 1);
    }
    fake_hold(FAKE_GENERATE);
    rig_push(rig, 4000, 4100);
    fake_wait_held(FAKE_GENERATE);
    rig_push(rig, 4100, 16100);
    fake_release(FAKE_GENERATE);
    expect_caption(rig, "8 frames from 0.000 to 3.500");
    message = rig_wait(rig, GST_MESSAGE_ELEMENT);
    s = gst_message_get_structure(message);
    fail_unless_equals_uint64(caption_field(s, "stream-time"), 4 * GST_SECOND);
    fail_unless_equals_uint64(caption_field(s, "duration"), 12 * GST_SECOND);
    fail_unless_equals_uint64(caption_field(s, "number"), 2);
    rig_free(rig);
}
GST_END_TEST

// Time that jumps back all the time must not fill the queue.
GST_START_TEST(test_restart_storm)
{
    Rig *rig = rig_new("when-busy=drop", FALSE);

    fake_hold(FAKE_FRAME);
    for (guint i = 0; i < 1000; i++) {
        rig_push(rig, 10000, 10100);
        rig_push(rig, 0, 100);
    }
    fake_release(FAKE_FRAME);
    rig_eos(rig);
    fail_unless(fake_count(FAKE_RESET) < 10);
    rig_free(rig);
}
GST_END_TEST

// ------------------------------------------------------------------ negotiation

static GstBuffer *black_frame(const char *caps_string, guint ms)
{
    g_autoptr(GstCaps) caps = gst_caps_from_string(caps_string);
    GstVideoInfo info;
    GstBuffer *buffer;

    fail_unless(gst_video_info_from_caps(&info, caps));
    buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&info), NULL);
    gst_buffer_memset(buffer, 0, 16, GST_VIDEO_INFO_SIZE(&info));
    GST_BUFFER_PTS(buffer) = ms * GST_MSECOND;
    GST_BUFFER_DURATION(buffer) = 100 * GST_MSECOND;
    return buffer;
}

GST_START_TEST(test_caps_change)
{
    static const char *const caps[] = {
        "video/x-raw,format=I420,width=64,height=48,framerate=10/1",
        "video/x-raw,format=RGB,width=33,height=17,framerate=0/1",
        "video/x-raw,format=NV12,width=320,height=240,framerate=30/1,interlace-mode=interleaved",
        "video/x-raw,format=v210,width=64,height=48,framerate=10/1,colorimetry=bt709",
        "video/x-raw,format=YUY2,width=64,height=48,framerate=10/1,pixel-aspect-ratio=16/1",
    };
    Rig *rig = rig_new("", TRUE);
    g_autofree char *log = NULL;

    for (guint i = 0; i < 1000; i++) {
        const char *now = caps[i % G_N_ELEMENTS(caps)];

        gst_harness_set_src_caps_str(rig->video, now);
        fail_unless_equals_int(gst_harness_push(rig->video, black_frame(now, i * 100)),
                               GST_FLOW_OK);
    }
    log = fake_get_log();
    fail_unless(strstr(log, "frame 0.500 64x48") != NULL);
    // The film goes on through all of it.
    fail_unless_equals_int(fake_count(FAKE_RESET), 0);
    fail_unless_equals_int(fake_count(FAKE_GENERATE), 24);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_discont_storm)
{
    Rig *rig = rig_new("", FALSE);

    for (guint ms = 0; ms < 4100; ms += 100) {
        GstBuffer *buffer = rig_frame(ms);

        GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DISCONT);
        gst_harness_push(rig->video, buffer);
    }
    expect_caption(rig, "8 frames from 0.000 to 3.500");
    fail_unless_equals_int(fake_count(FAKE_RESET), 0);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_caps_before_stream_start)
{
    GstHarness *h = gst_harness_new("vlmcaption");
    g_autoptr(GstPad) sink = gst_pad_get_peer(h->srcpad);
    g_autoptr(GstCaps) caps = gst_caps_from_string(TEST_CAPS("I420"));

    // The core grumbles about the order; the element must not fall over it.
    gst_pad_send_event(sink, gst_event_new_caps(caps));
    ASSERT_WARNING(gst_pad_send_event(sink, gst_event_new_stream_start("late")));
    gst_harness_teardown(h);
}
GST_END_TEST

GST_START_TEST(test_latency)
{
    Rig *rig = rig_new("", TRUE);
    g_autoptr(GstQuery) query = gst_query_new_latency();
    gboolean live = FALSE;
    GstClockTime min = 0;

    gst_harness_set_upstream_latency(rig->video, 40 * GST_MSECOND);
    fail_unless_equals_uint64(gst_harness_query_latency(rig->video), 40 * GST_MSECOND);
    fail_unless(gst_pad_peer_query(rig->text->sinkpad, query));
    gst_query_parse_latency(query, &live, &min, NULL);
    fail_unless(live);
    fail_unless_equals_uint64(min, 40 * GST_MSECOND);
    rig_free(rig);
}
GST_END_TEST

static GstPadProbeReturn count_probe(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    (void) pad;
    if (GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_QUERY_BOTH) {
        GstQuery *query = GST_PAD_PROBE_INFO_QUERY(info);

        if (GST_QUERY_TYPE(query) == GST_QUERY_CUSTOM)
            ++*(guint *) data;
    }
    return GST_PAD_PROBE_OK;
}

GST_START_TEST(test_unknown_events_and_queries)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstQuery) query =
        gst_query_new_custom(GST_QUERY_CUSTOM, gst_structure_new_empty("odd"));
    guint n = 0;
    gboolean seen = FALSE;
    GstEvent *event;

    gst_harness_push_event(rig->video, gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM,
                                                            gst_structure_new_empty("odd-down")));
    while ((event = gst_harness_try_pull_event(rig->video)) != NULL) {
        seen |= gst_event_has_name(event, "odd-down");
        gst_event_unref(event);
    }
    fail_unless(seen);
    gst_harness_push_upstream_event(
        rig->video,
        gst_event_new_custom(GST_EVENT_CUSTOM_UPSTREAM, gst_structure_new_empty("odd-up")));
    seen = FALSE;
    while ((event = gst_harness_try_pull_upstream_event(rig->video)) != NULL) {
        seen |= gst_event_has_name(event, "odd-up");
        gst_event_unref(event);
    }
    fail_unless(seen);
    gst_pad_add_probe(rig->video->sinkpad,
                      GST_PAD_PROBE_TYPE_QUERY_DOWNSTREAM | GST_PAD_PROBE_TYPE_PUSH, count_probe,
                      &n, NULL);
    gst_pad_peer_query(rig->video->srcpad, query);
    fail_unless(n > 0);
    rig_free(rig);
}
GST_END_TEST

static GstPadProbeReturn offer_pool(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    GstQuery *query = GST_PAD_PROBE_INFO_QUERY(info);

    (void) pad;
    (void) data;
    if (GST_QUERY_TYPE(query) != GST_QUERY_ALLOCATION)
        return GST_PAD_PROBE_OK;
    gst_query_add_allocation_pool(query, NULL, 4608, 2, 4);
    gst_query_add_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL);
    return GST_PAD_PROBE_HANDLED;
}

// Downstream's offer passes, with as many more buffers as the worker may hold.
GST_START_TEST(test_allocation)
{
    Rig *rig = rig_new("", FALSE);
    g_autoptr(GstCaps) caps = gst_caps_from_string(TEST_CAPS("I420"));
    g_autoptr(GstQuery) query = gst_query_new_allocation(caps, TRUE);
    guint min, max;

    gst_pad_add_probe(rig->video->sinkpad,
                      GST_PAD_PROBE_TYPE_QUERY_DOWNSTREAM | GST_PAD_PROBE_TYPE_PUSH, offer_pool,
                      NULL, NULL);
    fail_unless(gst_pad_peer_query(rig->video->srcpad, query));
    gst_query_parse_nth_allocation_pool(query, 0, NULL, NULL, &min, &max);
    fail_unless_equals_int(min, 7);
    fail_unless_equals_int(max, 9);
    fail_unless(gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL));
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_caps_query)
{
    Rig *rig = rig_new("", TRUE);
    g_autoptr(GstCaps) wanted =
        gst_caps_from_string("video/x-raw,format=NV12,width=320,height=240,framerate=5/1");
    g_autoptr(GstCaps) gl = gst_caps_from_string(
        "video/x-raw(memory:GLMemory),format=RGBA,width=320,height=240,framerate=5/1");
    g_autoptr(GstCaps) got = NULL;

    gst_harness_set_sink_caps(rig->video, gst_caps_ref(wanted));
    got = gst_pad_peer_query_caps(rig->video->srcpad, NULL);
    fail_unless(gst_caps_is_equal(got, wanted));
    fail_if(gst_pad_peer_query_accept_caps(rig->video->srcpad, gl));
    rig_free(rig);
}
GST_END_TEST

static GstPadProbeReturn return_flow(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    (void) pad;
    gst_clear_buffer((GstBuffer **) &info->data);
    GST_PAD_PROBE_INFO_FLOW_RETURN(info) = (GstFlowReturn) GPOINTER_TO_INT(data);
    return GST_PAD_PROBE_HANDLED;
}

GST_START_TEST(test_downstream_refuses)
{
    static const GstFlowReturn flows[] = { GST_FLOW_ERROR, GST_FLOW_EOS, GST_FLOW_FLUSHING,
                                           GST_FLOW_NOT_NEGOTIATED };
    const GstFlowReturn refusal = flows[__i__];
    Rig *rig = rig_new("", TRUE);
    gulong id = gst_pad_add_probe(rig->text->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, return_flow,
                                  GINT_TO_POINTER(refusal), NULL);

    // The text branch's troubles are its own.
    rig_push(rig, 0, 8100);
    expect_caption(rig, "8 frames from 0.000 to 3.500");
    expect_caption(rig, "8 frames from 4.000 to 7.500");
    gst_pad_remove_probe(rig->text->sinkpad, id);
    // Video's are upstream's to know.
    gst_pad_add_probe(rig->video->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, return_flow,
                      GINT_TO_POINTER(refusal), NULL);
    fail_unless_equals_int(gst_harness_push(rig->video, rig_frame(8100)), refusal);
    rig_free(rig);
}
GST_END_TEST

static Suite *flow_suite(void)
{
    Suite *s = suite_create("flow");
    TCase *tc = tcase_create("flow");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, element_setup, element_teardown);
    tcase_add_loop_test(tc, test_flush, 0, N_AT);
    tcase_add_test(tc, test_flush_storm);
    tcase_add_loop_test(tc, test_eos, 0, N_AT);
    tcase_add_test(tc, test_eos_without_frames);
    tcase_add_test(tc, test_flush_in_eos);
    tcase_add_loop_test(tc, test_another_stream, 0, 2);
    tcase_add_test(tc, test_sticky_events_again);
    tcase_add_loop_test(tc, test_null_at, 0, N_AT);
    tcase_add_test(tc, test_null_in_ask);
    tcase_add_test(tc, test_pause_while_inferring);
    tcase_add_test(tc, test_live_is_never_held_up);
    tcase_add_test(tc, test_late_captions_join);
    tcase_add_test(tc, test_restart_storm);
    tcase_add_test(tc, test_caps_change);
    tcase_add_test(tc, test_discont_storm);
    tcase_add_test(tc, test_caps_before_stream_start);
    tcase_add_test(tc, test_latency);
    tcase_add_test(tc, test_unknown_events_and_queries);
    tcase_add_test(tc, test_allocation);
    tcase_add_test(tc, test_caps_query);
    tcase_add_loop_test(tc, test_downstream_refuses, 0, 4);
    return s;
}

int main(void)
{
    return element_main(flow_suite(), "element_flow");
}
