// SPDX-License-Identifier: LGPL-2.1-or-later
// element_text.c — the text pad: what comes first, what keeps time moving, what may go wrong.
#include "element_common.h"

#include "../gst-plugin/gstvlmtext.h"

GST_START_TEST(test_events_come_first)
{
    static const GstEventType order[] = { GST_EVENT_STREAM_START, GST_EVENT_CAPS,
                                          GST_EVENT_SEGMENT };
    Rig *rig = rig_new("", TRUE);

    rig_push(rig, 0, 100);
    for (guint i = 0; i < G_N_ELEMENTS(order); i++) {
        g_autoptr(GstEvent) event = gst_harness_pull_event(rig->text);

        fail_unless_equals_int(GST_EVENT_TYPE(event), order[i]);
        if (i == 0) {
            g_autoptr(GstStream) stream = NULL;
            const gchar *id;
            GstStreamFlags flags;
            guint group;

            gst_event_parse_stream_flags(event, &flags);
            fail_unless(flags & GST_STREAM_FLAG_SPARSE);
            gst_event_parse_stream_start(event, &id);
            fail_unless(g_str_has_suffix(id, "/captions"));
            fail_unless(gst_event_parse_group_id(event, &group));
            gst_event_parse_stream(event, &stream);
            fail_unless_equals_int(gst_stream_get_stream_type(stream), GST_STREAM_TYPE_TEXT);
        } else if (i == 1) {
            g_autoptr(GstCaps) wanted = gst_caps_from_string("text/x-raw, format=utf8");
            GstCaps *caps;

            gst_event_parse_caps(event, &caps);
            fail_unless(gst_caps_is_equal(caps, wanted));
        } else {
            const GstSegment *segment;

            gst_event_parse_segment(event, &segment);
            fail_unless_equals_int(segment->format, GST_FORMAT_TIME);
        }
    }
    rig_free(rig);
}
GST_END_TEST

// Silence is told before the video buffer goes out, so nobody waits for text that does not come.
GST_START_TEST(test_gaps)
{
    Rig *rig = rig_new("", TRUE);
    GstClockTime end = 0;

    rig_push(rig, 0, 3000);
    while (end < 3 * GST_SECOND) {
        g_autoptr(GstEvent) event = gst_harness_pull_event(rig->text);
        GstClockTime at, duration;

        if (GST_EVENT_TYPE(event) != GST_EVENT_GAP)
            continue;
        gst_event_parse_gap(event, &at, &duration);
        fail_unless_equals_uint64(at, end);
        fail_unless(duration > 0 && duration <= GST_SECOND);
        end = at + duration;
    }
    // Nothing is promised past the moment when the next caption comes.
    fail_unless(end <= 4 * GST_SECOND);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_blank_cues)
{
    Rig *rig = rig_new("gap-mode=blank", TRUE);
    GstClockTime end = 0, pts, duration;

    rig_push(rig, 0, 8100);
    // Short cues without a hole, and none of them late: muxers that know no gaps go on. The caption
    // comes when it is known, and stays for as long as its range.
    while (end < 8 * GST_SECOND) {
        g_autofree char *text = rig_pull_text(rig, &pts, &duration);
        const gboolean blank = strcmp(text, " ") == 0;

        fail_unless_equals_uint64(pts, end);
        fail_unless(duration <= GST_SECOND / 2);
        end = pts + duration;
        if (!blank)
            fail_unless_equals_string(text, "8 frames from 0.000 to 3.500");
        fail_unless(blank ? pts < 6 * GST_SECOND : pts >= 4 * GST_SECOND);
    }
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_shown)
{
    Rig *rig = rig_new("text-time=shown", TRUE);
    g_autofree char *text = NULL;
    GstClockTime pts, duration;

    rig_push(rig, 0, 8100);
    text = rig_pull_text(rig, &pts, &duration);
    fail_unless_equals_string(text, "8 frames from 0.000 to 3.500");
    fail_unless_equals_uint64(pts, 4 * GST_SECOND);
    fail_unless_equals_uint64(duration, 4 * GST_SECOND);
    g_free(rig_pull_text(rig, &pts, &duration));
    fail_unless_equals_uint64(pts, 8 * GST_SECOND);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_safe)
{
    static const char *const cases[][2] = {
        { "A cat.", "A cat." },
        { "a --> b", "a --\u203a b" },
        { "one\n\ntwo\r\nthree", "one two three" },
        { "<b>bold</b> & <c>", "\u2039b\u203abold\u2039/b\u203a \uff06 \u2039c\u203a" },
        { "\t  tabs\tand\v\f blanks \n", "tabs and blanks" },
        { "bell\aesc\033[0m", "bell esc [0m" },
        { "\u00fcber \u4e2d\u6587 \U0001f600", "\u00fcber \u4e2d\u6587 \U0001f600" },
        { "line\u2028para\u2029end\xc2\x85", "line para end" },
        { "", "" },
        { " \n ", "" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *safe = gst_vlm_text_make_safe(cases[i][0]);

        fail_unless_equals_string(safe, cases[i][1]);
    }
}
GST_END_TEST

// What a picture makes the model say must not become markup; apps get what it said.
GST_START_TEST(test_injection)
{
    Rig *rig = rig_new("", TRUE);
    g_autofree char *said = NULL, *text = NULL;

    fake_set_answer("x\n\n00:00.000 --> 99:00.000\n<b>&amp;");
    rig_push(rig, 0, 4100);
    said = rig_wait_caption(rig);
    fail_unless_equals_string(said, "x\n\n00:00.000 --> 99:00.000\n<b>&amp;");
    text = rig_pull_text(rig, NULL, NULL);
    fail_unless(strpbrk(text, "<>&\n") == NULL);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_broken_utf8)
{
    Rig *rig = rig_new("", TRUE);
    g_autofree char *said = NULL, *text = NULL;

    fake_set_answer("half \xe4\xb8 a character \xff");
    rig_push(rig, 0, 4100);
    said = rig_wait_caption(rig);
    text = rig_pull_text(rig, NULL, NULL);
    fail_unless(g_utf8_validate(said, -1, NULL));
    fail_unless(g_utf8_validate(text, -1, NULL));
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_not_linked)
{
    Rig *rig = rig_new("", FALSE);
    GstPad *pad = gst_element_request_pad_simple(rig->element, "text_src");
    GstHarness *late;
    g_autofree char *text = NULL;
    GstClockTime pts;

    fail_unless(pad != NULL);
    rig_push(rig, 0, 4100);
    g_free(rig_wait_caption(rig));
    // Linked later: the events that come first are made up for. Captions of before are gone.
    late = gst_harness_new_with_element(rig->element, NULL, "text_src");
    gst_harness_play(late);
    rig->text = late;
    rig_push(rig, 4100, 8100);
    do {
        g_free(text);
        text = rig_pull_text(rig, &pts, NULL);
    } while (pts == 0);
    fail_unless_equals_string(text, "8 frames from 4.000 to 7.500");
    gst_element_release_request_pad(rig->element, pad);
    gst_object_unref(pad);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_requested_in_mid_stream)
{
    Rig *rig = rig_new("", FALSE);
    g_autofree char *text = NULL;
    g_autoptr(GstEvent) first_event = NULL;

    rig_push(rig, 0, 5000);
    g_free(rig_wait_caption(rig));
    rig->text = gst_harness_new_with_element(rig->element, NULL, "text_src");
    gst_harness_play(rig->text);
    // What came first before the pad was linked comes again with what follows.
    rig_push(rig, 5000, 8100);
    first_event = gst_harness_pull_event(rig->text);
    fail_unless_equals_int(GST_EVENT_TYPE(first_event), GST_EVENT_STREAM_START);
    text = rig_pull_text(rig, NULL, NULL);
    fail_unless_equals_string(text, "8 frames from 4.000 to 7.500");
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_only_one)
{
    Rig *rig = rig_new("", TRUE);

    GstPadTemplate *template = gst_element_get_pad_template(rig->element, "text_src");

    fail_unless(gst_element_request_pad(rig->element, template, NULL, NULL) == NULL);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_release_and_request)
{
    Rig *rig = rig_new("", FALSE);

    for (guint i = 0; i < 20; i++) {
        GstPad *pad = gst_element_request_pad_simple(rig->element, "text_src");

        rig_push(rig, i * 1000, i * 1000 + 1000);
        gst_element_release_request_pad(rig->element, pad);
        gst_object_unref(pad);
    }
    rig_free(rig);
}
GST_END_TEST

typedef struct {
    GMutex lock;
    GCond cond;
    gboolean reached;
} Reached;

// A sink that takes no text until it is flushed.
static GstPadProbeReturn on_blocked(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    Reached *reached = data;

    (void) pad;
    (void) info;
    g_mutex_lock(&reached->lock);
    reached->reached = TRUE;
    g_cond_broadcast(&reached->cond);
    g_mutex_unlock(&reached->lock);
    return GST_PAD_PROBE_OK;
}

GST_START_TEST(test_release_while_stuck)
{
    Rig *rig = rig_new("", TRUE);
    GstPad *pad = gst_pad_get_peer(rig->text->sinkpad);
    Reached reached = { 0 };

    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER, on_blocked,
                      &reached, NULL);
    rig_push(rig, 0, 4100);
    g_mutex_lock(&reached.lock);
    while (!reached.reached)
        g_cond_wait(&reached.cond, &reached.lock);
    g_mutex_unlock(&reached.lock);
    gst_element_release_request_pad(rig->element, pad);
    gst_object_unref(pad);
    rig_push(rig, 4100, 9000);
    rig_free(rig);
}
GST_END_TEST

// A branch that is stuck for long costs its oldest captions, no memory.
GST_START_TEST(test_stuck_for_long)
{
    Rig *rig = rig_new("caption-interval=1000000000", TRUE);
    GstPad *pad = gst_pad_get_peer(rig->text->sinkpad);
    Reached reached = { 0 };
    gulong id = gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER,
                                  on_blocked, &reached, NULL);
    g_autofree char *text = NULL;
    GstClockTime pts = 0;
    guint n = 0;

    rig_push(rig, 0, 200100);
    gst_pad_remove_probe(pad, id);
    gst_object_unref(pad);
    rig_eos(rig);
    while (pts < 200 * GST_SECOND) {
        g_free(text);
        text = rig_pull_text(rig, &pts, NULL);
        n++;
    }
    // The first, which was being pushed, and those that were kept.
    fail_unless(n <= 66);
    rig_free(rig);
}
GST_END_TEST

GST_START_TEST(test_upstream_events)
{
    Rig *rig = rig_new("", TRUE);
    GstEvent *event;
    gboolean seek = FALSE, qos = FALSE;

    rig_push(rig, 0, 1000);
    gst_pad_push_event(rig->text->sinkpad, gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 0.1, 1, 2));
    gst_pad_push_event(rig->text->sinkpad,
                       gst_event_new_seek(1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                          GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_NONE, 0));
    while ((event = gst_harness_try_pull_upstream_event(rig->video)) != NULL) {
        seek |= GST_EVENT_TYPE(event) == GST_EVENT_SEEK;
        qos |= GST_EVENT_TYPE(event) == GST_EVENT_QOS;
        gst_event_unref(event);
    }
    fail_unless(seek);
    fail_if(qos);
    rig_free(rig);
}
GST_END_TEST

static Suite *text_suite(void)
{
    Suite *s = suite_create("text");
    TCase *tc = tcase_create("text");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, element_setup, element_teardown);
    tcase_add_test(tc, test_events_come_first);
    tcase_add_test(tc, test_gaps);
    tcase_add_test(tc, test_blank_cues);
    tcase_add_test(tc, test_shown);
    tcase_add_test(tc, test_safe);
    tcase_add_test(tc, test_injection);
    tcase_add_test(tc, test_broken_utf8);
    tcase_add_test(tc, test_not_linked);
    tcase_add_test(tc, test_requested_in_mid_stream);
    tcase_add_test(tc, test_only_one);
    tcase_add_test(tc, test_release_and_request);
    tcase_add_test(tc, test_release_while_stuck);
    tcase_add_test(tc, test_stuck_for_long);
    tcase_add_test(tc, test_upstream_events);
    return s;
}

int main(void)
{
    return element_main(text_suite(), "element_text");
}
