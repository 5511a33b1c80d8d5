// SPDX-License-Identifier: LGPL-2.1-or-later
// element_pipelines.c — vlmcaption among other elements: muxers, overlays, tees, whole files.
// Tests whose elements are not installed pass without doing anything.
#include "element_common.h"

#include <glib/gstdio.h>

static gboolean have(const char *const *factories)
{
    for (guint i = 0; factories[i] != NULL; i++) {
        g_autoptr(GstElementFactory) factory = gst_element_factory_find(factories[i]);

        if (factory == NULL)
            return FALSE;
    }
    return TRUE;
}

static GstElement *make(const char *line)
{
    g_autoptr(GError) error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);

    fail_unless(error == NULL, "%s: %s", line, error != NULL ? error->message : "");
    return pipeline;
}

// Plays to the end. Returns the captions.
static GPtrArray *play(GstElement *pipeline)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(pipeline);
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    gboolean done = FALSE;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    while (!done) {
        g_autoptr(GstMessage) message = gst_bus_timed_pop(bus, GST_CLOCK_TIME_NONE);
        g_autoptr(GError) error = NULL;
        g_autofree char *debug = NULL;

        switch (GST_MESSAGE_TYPE(message)) {
        case GST_MESSAGE_ELEMENT:
            if (gst_message_has_name(message, "vlm-caption"))
                g_ptr_array_add(texts, g_strdup(gst_structure_get_string(
                                           gst_message_get_structure(message), "text")));
            break;
        case GST_MESSAGE_WARNING:
            gst_message_parse_warning(message, &error, &debug);
            fail("warning: %s (%s)", error->message, debug);
            break;
        case GST_MESSAGE_ERROR:
            gst_message_parse_error(message, &error, &debug);
            fail("error: %s (%s)", error->message, debug);
            break;
        case GST_MESSAGE_EOS:
            done = TRUE;
            break;
        default:
            break;
        }
    }
    return texts;
}

static void finish(GstElement *pipeline)
{
    fail_unless_equals_int(gst_element_set_state(pipeline, GST_STATE_NULL),
                           GST_STATE_CHANGE_SUCCESS);
    gst_object_unref(pipeline);
}

#define SOURCE(n) "videotestsrc num-buffers=" #n " ! video/x-raw,width=64,height=48,framerate=30/1"

// Collects the buffers of a fakesink with signal-handoffs=true.
static void collect(GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer data)
{
    (void) sink;
    (void) pad;
    g_ptr_array_add(data, gst_buffer_ref(buffer));
}

static GPtrArray *collect_from(GstElement *pipeline, const char *name)
{
    g_autoptr(GstElement) sink = gst_bin_get_by_name(GST_BIN(pipeline), name);
    GPtrArray *buffers = g_ptr_array_new_with_free_func((GDestroyNotify) gst_buffer_unref);

    fail_unless(sink != NULL);
    g_signal_connect(sink, "handoff", G_CALLBACK(collect), buffers);
    return buffers;
}

// All bytes of the buffers, as a string.
static char *join(GPtrArray *buffers)
{
    GString *all = g_string_new(NULL);

    for (guint i = 0; i < buffers->len; i++) {
        GstMapInfo map;

        fail_unless(gst_buffer_map(g_ptr_array_index(buffers, i), &map, GST_MAP_READ));
        g_string_append_len(all, (const char *) map.data, (gssize) map.size);
        gst_buffer_unmap(g_ptr_array_index(buffers, i), &map);
    }
    return g_string_free(all, FALSE);
}

// The same film gives the same captions on the same buffers, every time, by itself.
GST_START_TEST(test_same_every_time)
{
    g_autofree char *first_log = NULL;

    for (guint i = 0; i < 5; i++) {
        GstElement *pipeline = make(SOURCE(400) " ! vlmcaption ! fakesink name=v "
                                                "signal-handoffs=true");
        g_autoptr(GPtrArray) buffers = collect_from(pipeline, "v");
        g_autoptr(GPtrArray) texts = play(pipeline);
        g_autofree char *log = NULL;

        finish(pipeline);
        log = fake_get_log();
        if (first_log == NULL)
            first_log = g_strdup(log);
        fail_unless_equals_string(log, first_log);
        fail_unless_equals_int(texts->len, 4);
        fail_unless_equals_int(buffers->len, 400);
        for (guint b = 0; b < buffers->len; b++) {
            const char *caption = buffer_caption(g_ptr_array_index(buffers, b));

            // 120 frames are 4 s; a range's caption is on the frames of the next one.
            fail_unless((caption != NULL) == (b >= 120), "buffer %u", b);
            if (caption != NULL)
                fail_unless_equals_string(caption, g_ptr_array_index(texts, b / 120 - 1));
        }
        fake_start();
    }
}
GST_END_TEST

GST_START_TEST(test_webvtt)
{
    static const char *const needed[] = { "webvttenc", NULL };
    GstElement *pipeline;
    g_autoptr(GPtrArray) buffers = NULL;
    g_autoptr(GPtrArray) texts = NULL;
    g_autofree char *vtt = NULL;

    if (!have(needed))
        return;
    fake_set_answer("a --> <b>b</b>\n\n& c");
    pipeline = make(SOURCE(300) " ! vlmcaption name=c ! fakesink "
                                "c.text_src ! webvttenc ! fakesink name=t signal-handoffs=true");
    buffers = collect_from(pipeline, "t");
    texts = play(pipeline);
    finish(pipeline);
    vtt = join(buffers);
    fail_unless(g_str_has_prefix(vtt, "WEBVTT\n"));
    fail_unless(strstr(vtt, "00:00:00.000 --> 00:00:04.000\n"
                            "a --\u203a \u2039b\u203ab\u2039/b\u203a \uff06 c\n")
                    != NULL,
                "%s", vtt);
    fail_unless(strstr(vtt, "00:00:08.000 --> 00:00:10.000\n") != NULL);
}
GST_END_TEST

GST_START_TEST(test_srt)
{
    static const char *const needed[] = { "srtenc", NULL };
    GstElement *pipeline;
    g_autoptr(GPtrArray) buffers = NULL;
    g_autoptr(GPtrArray) texts = NULL;
    g_autofree char *srt = NULL;

    if (!have(needed))
        return;
    pipeline = make(SOURCE(240) " ! vlmcaption name=c ! fakesink "
                                "c.text_src ! srtenc ! fakesink name=t signal-handoffs=true");
    buffers = collect_from(pipeline, "t");
    texts = play(pipeline);
    finish(pipeline);
    srt = join(buffers);
    fail_unless(strstr(srt, "1\n00:00:00,000 --> 00:00:04,000\n8 frames") != NULL, "%s", srt);
    fail_unless(strstr(srt, "2\n00:00:04,000 --> 00:00:08,000\n8 frames") != NULL, "%s", srt);
}
GST_END_TEST

// Muxers wait for text; the gaps keep them going, without any queue.
GST_START_TEST(test_muxers)
{
    static const struct {
        const char *needed[4];
        const char *line, *demux;
    } cases[] = {
        { { "matroskamux", "jpegenc", "matroskademux" },
          "! vlmcaption name=c ! jpegenc ! m. c.text_src ! matroskamux name=m",
          "matroskademux" },
        { { "qtmux", "jpegenc", "qtdemux" },
          "! vlmcaption name=c gap-mode=blank ! jpegenc ! m. c.text_src ! qtmux name=m",
          "qtdemux" },
        { { "mp4mux", "openh264enc", "h264parse" },
          "! vlmcaption name=c gap-mode=blank ! videoscale ! video/x-raw,width=320,height=240 "
          "! openh264enc gop-size=10 ! h264parse ! m. "
          "c.text_src ! mp4mux name=m",
          NULL },
    };
    g_autofree char *path = g_strdup_printf("%s/vlm-mux-%d", g_get_tmp_dir(), (int) getpid());

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *line =
            g_strdup_printf(SOURCE(300) " %s ! filesink location=%s", cases[i].line, path);
        GstElement *pipeline;

        if (!have(cases[i].needed))
            continue;
        pipeline = make(line);
        g_ptr_array_unref(play(pipeline));
        finish(pipeline);
        if (cases[i].demux != NULL) {
            g_autofree char *read =
                g_strdup_printf("filesrc location=%s ! %s name=d d.video_0 ! queue ! fakesink "
                                "d.subtitle_0 ! queue ! fakesink name=t signal-handoffs=true",
                                path, cases[i].demux);
            g_autoptr(GPtrArray) buffers = NULL;
            g_autofree char *all = NULL;

            pipeline = make(read);
            buffers = collect_from(pipeline, "t");
            g_ptr_array_unref(play(pipeline));
            finish(pipeline);
            all = join(buffers);
            fail_unless(strstr(all, "8 frames from 0.000 to 3.500") != NULL, "%s", all);
            fail_unless(strstr(all, "8 frames from 4.000 to 7.500") != NULL, "%s", all);
        }
        g_unlink(path);
        fake_start();
    }
}
GST_END_TEST

typedef struct {
    GMutex lock;
    guint n_white[3];  // pixels with text, by range
} Drawn;

static void look_at(GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer data)
{
    Drawn *drawn = data;
    GstMapInfo map;
    const guint64 range = GST_BUFFER_PTS(buffer) / (4 * GST_SECOND);

    (void) sink;
    (void) pad;
    fail_unless(gst_buffer_map(buffer, &map, GST_MAP_READ));
    g_mutex_lock(&drawn->lock);
    for (gsize i = 0; i < map.size; i++)
        drawn->n_white[MIN(range, 2)] += map.data[i] > 60;
    g_mutex_unlock(&drawn->lock);
    gst_buffer_unmap(buffer, &map);
}

// textoverlay waits for text before it shows a frame, and shows captions once they are known.
GST_START_TEST(test_overlays)
{
    static const char *const lines[] = {
        "textoverlay name=o ! fakesink name=v signal-handoffs=true c.text_src ! o.text_sink",
        "queue ! textoverlay name=o ! fakesink name=v signal-handoffs=true "
        "c.text_src ! queue ! o.text_sink",
    };
    static const char *const needed[] = { "textoverlay", NULL };

    if (!have(needed))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *line =
            g_strdup_printf("videotestsrc pattern=black num-buffers=120 "
                            "! video/x-raw,format=GRAY8,width=320,height=240,framerate=10/1 "
                            "! vlmcaption name=c ! %s",
                            lines[i]);
        GstElement *pipeline = make(line);
        g_autoptr(GstElement) sink = gst_bin_get_by_name(GST_BIN(pipeline), "v");
        Drawn drawn = { 0 };

        g_signal_connect(sink, "handoff", G_CALLBACK(look_at), &drawn);
        g_ptr_array_unref(play(pipeline));
        finish(pipeline);
        fail_unless_equals_int(drawn.n_white[0], 0);
        fail_unless(drawn.n_white[1] > 1000);
        fail_unless(drawn.n_white[2] > 1000);
        fake_start();
    }
}
GST_END_TEST

// Metadata without tags stays on buffers through what people put behind.
GST_START_TEST(test_meta_survives)
{
    GstElement *pipeline = make(
        SOURCE(150) " ! vlmcaption ! queue ! videoconvert ! video/x-raw,format=RGB ! videoscale "
                    "! video/x-raw,width=32,height=24 ! videorate ! identity "
                    "! fakesink name=v signal-handoffs=true");
    g_autoptr(GPtrArray) buffers = collect_from(pipeline, "v");
    g_autoptr(GPtrArray) texts = play(pipeline);

    finish(pipeline);
    fail_unless_equals_int(buffers->len, 150);
    fail_unless(buffer_caption(g_ptr_array_index(buffers, 119)) == NULL);
    fail_unless_equals_string(buffer_caption(g_ptr_array_index(buffers, 149)),
                              g_ptr_array_index(texts, 0));
}
GST_END_TEST

// Elements in a row and side by side share one engine; each writes its own metadata.
GST_START_TEST(test_several_elements)
{
    GstElement *pipeline =
        make(SOURCE(150) " ! tee name=t "
                         "t. ! queue ! vlmcaption name=a ! vlmcaption name=b ! fakesink name=v "
                         "signal-handoffs=true "
                         "t. ! queue ! vlmcaption name=c ! fakesink "
                         "t. ! queue ! fakesink name=w signal-handoffs=true");
    g_autoptr(GPtrArray) buffers = collect_from(pipeline, "v");
    g_autoptr(GPtrArray) plain = collect_from(pipeline, "w");
    g_autoptr(GPtrArray) texts = play(pipeline);
    gpointer state = NULL;
    GstMeta *meta;
    guint n = 0;

    fail_unless_equals_int(fake_n_uploads(), 1);
    fail_unless_equals_int(fake_n_sessions(), 3);
    finish(pipeline);
    fail_unless_equals_int(texts->len, 6);
    while ((meta = gst_buffer_iterate_meta(g_ptr_array_index(buffers, 149), &state)) != NULL)
        n += gst_meta_info_is_custom(meta->info)
             && gst_custom_meta_has_name((GstCustomMeta *) meta, "VlmCaption");
    fail_unless_equals_int(n, 2);
    // The other branches of the tee see their buffers untouched.
    for (guint i = 0; i < plain->len; i++)
        fail_unless(buffer_caption(g_ptr_array_index(plain, i)) == NULL);
}
GST_END_TEST

GST_START_TEST(test_seek)
{
    GstElement *pipeline = make("videotestsrc ! video/x-raw,width=64,height=48,framerate=30/1 "
                                "! vlmcaption name=c ! fakesink c.text_src ! fakesink");
    g_autoptr(GstBus) bus = gst_element_get_bus(pipeline);

    gst_element_set_state(pipeline, GST_STATE_PAUSED);
    // The text sink has its first word, or its silence: the pipeline is ready.
    fail_unless_equals_int(gst_element_get_state(pipeline, NULL, NULL, GST_CLOCK_TIME_NONE),
                           GST_STATE_CHANGE_SUCCESS);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    for (guint i = 1; i <= 50; i++)
        fail_unless(gst_element_seek_simple(pipeline, GST_FORMAT_TIME,
                                            GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE,
                                            i * 100 * GST_SECOND));
    for (;;) {
        g_autoptr(GstMessage) message =
            gst_bus_timed_pop_filtered(bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_ELEMENT);
        const guint64 time = caption_field(gst_message_get_structure(message), "stream-time");

        if (time >= 5000 * GST_SECOND) {
            fail_unless_equals_uint64(time, 5000 * GST_SECOND);
            break;
        }
    }
    finish(pipeline);
}
GST_END_TEST

GST_START_TEST(test_state_cycles)
{
    GstElement *pipeline = make("videotestsrc ! video/x-raw,width=64,height=48,framerate=30/1 "
                                "! vlmcaption name=c ! fakesink c.text_src ! fakesink");

    for (guint i = 0; i < 100; i++) {
        gst_element_set_state(pipeline, GST_STATE_PLAYING);
        if (i % 10 == 0)
            fake_wait_done(FAKE_GENERATE, i / 10 + 1);
        fail_unless_equals_int(gst_element_set_state(pipeline, GST_STATE_NULL),
                               GST_STATE_CHANGE_SUCCESS);
    }
    gst_element_set_state(pipeline, GST_STATE_READY);
    for (guint i = 0; i < 100; i++) {
        gst_element_set_state(pipeline, GST_STATE_PAUSED);
        gst_element_set_state(pipeline, GST_STATE_READY);
    }
    // Loaded once per cycle from NULL, once for all from READY.
    fail_unless_equals_int(fake_n_uploads(), 101);
    finish(pipeline);
}
GST_END_TEST

static GstPadProbeReturn stay_blocked(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    (void) pad;
    (void) info;
    (void) data;
    return GST_PAD_PROBE_OK;
}

// Down to NULL while the text branch takes nothing.
GST_START_TEST(test_null_with_full_queue)
{
    GstElement *pipeline = make("videotestsrc ! video/x-raw,width=64,height=48,framerate=30/1 "
                                "! vlmcaption name=c text-time=range ! fakesink "
                                "c.text_src ! queue max-size-buffers=1 max-size-bytes=0 "
                                "max-size-time=0 ! fakesink name=t");
    g_autoptr(GstElement) sink = gst_bin_get_by_name(GST_BIN(pipeline), "t");
    g_autoptr(GstPad) pad = gst_element_get_static_pad(sink, "sink");

    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER, stay_blocked, NULL,
                      NULL);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    fake_wait_done(FAKE_GENERATE, 5);
    finish(pipeline);
}
GST_END_TEST

// Captions are no quarks: an endless film does not fill the table.
GST_START_TEST(test_quarks)
{
    guint before, after;

    for (guint i = 0; i < 2; i++) {
        GstElement *pipeline = make(SOURCE(2000) " ! vlmcaption name=c caption-interval=100000000 "
                                                 "frame-rate=30/1 ! fakesink "
                                                 "c.text_src ! fakesink");

        before = g_quark_from_string(i == 0 ? "count-0" : "count-1");
        g_ptr_array_unref(play(pipeline));
        after = g_quark_from_string(i == 0 ? "count-2" : "count-3");
        finish(pipeline);
        fake_start();
    }
    fail_unless_equals_int(after, before + 1);
}
GST_END_TEST

// Nothing is left when pipelines are gone, stopped in whatever state.
GST_START_TEST(test_leaks)
{
    static const char *const pads[] = { "sink", "src", "text_src" };

    for (guint i = 0; i < 10; i++) {
        GstElement *pipeline =
            make(SOURCE(200) " ! vlmcaption name=c ! fakesink c.text_src ! fakesink");
        GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "c");
        GWeakRef refs[G_N_ELEMENTS(pads) + 1];

        g_weak_ref_init(&refs[0], element);
        for (guint k = 0; k < G_N_ELEMENTS(pads); k++) {
            g_autoptr(GstPad) pad = gst_element_get_static_pad(element, pads[k]);

            g_weak_ref_init(&refs[k + 1], pad);
        }
        gst_object_unref(element);
        if (i % 2 == 0)
            g_ptr_array_unref(play(pipeline));
        else
            gst_element_set_state(pipeline, GST_STATE_PLAYING);
        finish(pipeline);
        for (guint k = 0; k < G_N_ELEMENTS(refs); k++) {
            GObject *object;

            // Threads of the core may let go a little later; a leak ends in the test's time limit.
            while ((object = g_weak_ref_get(&refs[k])) != NULL) {
                g_object_unref(object);
                g_thread_yield();
            }
            g_weak_ref_clear(&refs[k]);
        }
    }
}
GST_END_TEST

static Suite *pipelines_suite(void)
{
    Suite *s = suite_create("pipelines");
    TCase *tc = tcase_create("pipelines");

    suite_add_tcase(s, tc);
    tcase_add_checked_fixture(tc, element_setup, element_teardown);
    tcase_add_test(tc, test_same_every_time);
    tcase_add_test(tc, test_webvtt);
    tcase_add_test(tc, test_srt);
    tcase_add_test(tc, test_muxers);
    tcase_add_test(tc, test_overlays);
    tcase_add_test(tc, test_meta_survives);
    tcase_add_test(tc, test_several_elements);
    tcase_add_test(tc, test_seek);
    tcase_add_test(tc, test_state_cycles);
    tcase_add_test(tc, test_null_with_full_queue);
    tcase_add_test(tc, test_quarks);
    tcase_add_test(tc, test_leaks);
    return s;
}

int main(void)
{
    return element_main(pipelines_suite(), "element_pipelines");
}
