// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/caption_run.c — the pipeline of `vlm caption`, from the input to the file of captions.
//
// input (decoder, convert, flip, queue) ! vlmcaption ! fakesink. Captions arrive as element
// messages; everything here runs in the main thread.
#include "caption_run.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "media.h"
#include "progress.h"
#include "vlm.h"

GST_PLUGIN_STATIC_DECLARE(vlm);

#define PROGRESS_MS 200

typedef struct runner {
    const caption_job *job;
    GstElement *pipeline, *source;
    GMainLoop *loop;
    subtitle_file *file;
    progress bar;
    char *missing;  // plugins that GStreamer lacks
    guint64 n_captions;
    gboolean interrupted;
    GError *error;  // what ended the loop
} runner;

// --------------------------------------------------------------------------------- properties

// "0.5" is a fraction for people, but not for GStreamer.
static gboolean set_fraction(GValue *value, const char *text)
{
    char *end = NULL;
    double number = g_ascii_strtod(text, &end);
    gint num, den;

    if (gst_value_deserialize(value, text))
        return TRUE;
    if (end == text || *end || !(number > 0 && number <= 1000))
        return FALSE;
    gst_util_double_to_fraction(number, &num, &den);
    gst_value_set_fraction(value, num, den);
    return TRUE;
}

// Seconds to nanoseconds.
static gboolean set_time(GValue *value, const char *text)
{
    char *end = NULL;
    double number = g_ascii_strtod(text, &end);

    if (end == text || *end || !(number >= 0 && number <= 1e9))
        return FALSE;
    g_value_set_uint64(value, (guint64) (number * GST_SECOND + 0.5));
    return TRUE;
}

static gboolean value_from_text(GParamSpec *spec, GValue *value, const char *text)
{
    if (spec->value_type == G_TYPE_STRING) {
        g_value_set_string(value, text);
        return TRUE;
    }
    if (spec->value_type == GST_TYPE_FRACTION)
        return set_fraction(value, text);
    if (spec->value_type == G_TYPE_UINT64 && strcmp(spec->name, "caption-interval") == 0)
        return set_time(value, text);
    return gst_value_deserialize(value, text);
}

gboolean caption_set(GObject *element, const caption_setting *setting, GError **error)
{
    GParamSpec *spec = g_object_class_find_property(G_OBJECT_GET_CLASS(element), setting->property);
    g_auto(GValue) value = G_VALUE_INIT;

    g_return_val_if_fail(spec, FALSE);
    g_value_init(&value, spec->value_type);
    if (!value_from_text(spec, &value, setting->value)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s %s: that is no value for it (%s)",
                    setting->option, setting->value, g_param_spec_get_blurb(spec));
        return FALSE;
    }
    if (g_param_value_validate(spec, &value)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s %s: out of range (%s)", setting->option,
                    setting->value, g_param_spec_get_blurb(spec));
        return FALSE;
    }
    g_object_set_property(element, setting->property, &value);
    return TRUE;
}

// ----------------------------------------------------------------------------------- messages

static void stop(runner *r, GError *error)
{
    if (!r->error)
        r->error = error;
    else
        g_clear_error(&error);
    g_main_loop_quit(r->loop);
}

static guint64 get_time(const GstStructure *structure, const char *field)
{
    guint64 time = GST_CLOCK_TIME_NONE;

    gst_structure_get_uint64(structure, field, &time);
    return time;
}

static void on_caption(runner *r, const GstStructure *structure)
{
    subtitle_cue cue = {
        .text = gst_structure_get_string(structure, "text"),
        .start = get_time(structure, "stream-time"),
        .latency = get_time(structure, "latency"),
        .number = ++r->n_captions,
    };
    guint64 duration = get_time(structure, "duration");
    g_autofree char *start = NULL, *end = NULL, *text = NULL, *line = NULL;
    GError *error = NULL;

    if (!GST_CLOCK_TIME_IS_VALID(cue.start))
        cue.start = get_time(structure, "timestamp");
    cue.end = cue.start + (GST_CLOCK_TIME_IS_VALID(duration) ? duration : 0);
    gst_structure_get_uint(structure, "tokens", &cue.tokens);
    if (!subtitle_file_add(r->file, &cue, &error)) {
        stop(r, error);
        return;
    }
    if (r->job->quiet)
        return;
    start = subtitle_time(cue.start, 1, '.');
    end = subtitle_time(cue.end, 1, '.');
    text = subtitle_clean(cue.text);
    line = g_strdup_printf("[%s - %s] %s", start, end, text);
    progress_print(&r->bar, line);
}

static void on_error(runner *r, GstMessage *message)
{
    GstObject *source = GST_MESSAGE_SRC(message);
    GError *error = NULL;

    // What vlmcaption says is meant for people as it is; with anything else it's the input.
    if (source && strcmp(GST_OBJECT_NAME(source), "caption") == 0) {
        g_autoptr(GError) cause = NULL;

        gst_message_parse_error(message, &cause, NULL);
        g_set_error(&error, VLM_ERROR, VLM_ERROR_DRIVER, "%s", cause->message);
    } else {
        media_set_error(message, r->job->input, r->missing, &error);
    }
    stop(r, error);
}

static gboolean on_message(GstBus *bus, GstMessage *message, gpointer user_data)
{
    runner *r = user_data;

    (void) bus;
    switch (GST_MESSAGE_TYPE(message)) {
    case GST_MESSAGE_ELEMENT:
        if (gst_message_has_name(message, "vlm-caption"))
            on_caption(r, gst_message_get_structure(message));
        else
            media_note_missing(message, &r->missing);
        break;
    case GST_MESSAGE_WARNING: {
        g_autoptr(GError) warning = NULL;

        gst_message_parse_warning(message, &warning, NULL);
        progress_clear(&r->bar);
        g_printerr("vlm caption: warning: %s\n", warning->message);
        break;
    }
    case GST_MESSAGE_ERROR:
        on_error(r, message);
        break;
    case GST_MESSAGE_EOS:
        g_main_loop_quit(r->loop);
        break;
    default:
        break;
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_tick(gpointer user_data)
{
    runner *r = user_data;
    gint64 done = 0, total = 0;

    if (!gst_element_query_position(r->pipeline, GST_FORMAT_TIME, &done) || done < 0)
        return G_SOURCE_CONTINUE;
    if (!gst_element_query_duration(r->pipeline, GST_FORMAT_TIME, &total) || total < 0)
        total = 0;
    progress_draw(&r->bar, (guint64) done, (guint64) total);
    return G_SOURCE_CONTINUE;
}

static gboolean on_signal(gpointer user_data)
{
    runner *r = user_data;

    r->interrupted = TRUE;
    g_main_loop_quit(r->loop);
    // A second signal kills, should stopping hang.
    return G_SOURCE_REMOVE;
}

// ----------------------------------------------------------------------------------- pipeline

static GstElement *make(const char *factory, const char *name, GError **error)
{
    GstElement *element = gst_element_factory_make(factory, name);

    if (!element)
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "GStreamer has no element '%s'",
                    factory);
    return element;
}

static gboolean build(runner *r, GError **error)
{
    GstElement *caption, *sink;

    GST_PLUGIN_STATIC_REGISTER(vlm);
    r->pipeline = gst_object_ref_sink(gst_pipeline_new(NULL));
    r->source = media_source_new(r->job->input, error);
    if (!r->source)
        return FALSE;
    gst_bin_add(GST_BIN(r->pipeline), r->source);
    caption = make("vlmcaption", "caption", error);
    if (!caption)
        return FALSE;
    gst_bin_add(GST_BIN(r->pipeline), caption);
    sink = make("fakesink", NULL, error);
    if (!sink)
        return FALSE;
    gst_bin_add(GST_BIN(r->pipeline), sink);
    g_object_set(sink, "sync", FALSE, "enable-last-sample", FALSE, NULL);
    for (guint i = 0; i < r->job->settings->len; i++) {
        if (!caption_set(G_OBJECT(caption), g_ptr_array_index(r->job->settings, i), error))
            return FALSE;
    }
    return gst_element_link_many(r->source, caption, sink, NULL);
}

// What an element posted while its state changed.
static void take_error(runner *r)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(r->pipeline);
    g_autoptr(GstMessage) message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);

    if (message)
        on_error(r, message);
    else
        g_set_error(&r->error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s' can't be played", r->job->input);
}

// Loads the model, shows it its examples and starts. The output is replaced only when that worked.
static gboolean start(runner *r)
{
    // READY alone first: there the model is loaded, and nothing of the input is read yet.
    if (gst_element_set_state(r->pipeline, GST_STATE_READY) == GST_STATE_CHANGE_FAILURE) {
        take_error(r);
        return FALSE;
    }
    // On the way to PAUSED come the examples; captions wait on the bus until the loop runs.
    if (gst_element_set_state(r->pipeline, GST_STATE_PAUSED) == GST_STATE_CHANGE_FAILURE) {
        take_error(r);
        return FALSE;
    }
    r->file = subtitle_file_open(r->job->output, r->job->format, &r->error);
    if (!r->file)
        return FALSE;
    if (gst_element_set_state(r->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE) {
        take_error(r);
        return FALSE;
    }
    return TRUE;
}

static void loop(runner *r)
{
    g_autoptr(GstBus) bus = gst_element_get_bus(r->pipeline);
    guint sources[] = {
        gst_bus_add_watch(bus, on_message, r),
        g_timeout_add(PROGRESS_MS, on_tick, r),
    };
    guint signals[] = {
        g_unix_signal_add(SIGINT, on_signal, r),
        g_unix_signal_add(SIGTERM, on_signal, r),
        g_unix_signal_add(SIGHUP, on_signal, r),
    };

    g_main_loop_run(r->loop);
    progress_clear(&r->bar);
    for (guint i = 0; i < G_N_ELEMENTS(sources); i++)
        g_source_remove(sources[i]);
    for (guint i = 0; i < G_N_ELEMENTS(signals); i++) {
        GSource *source = g_main_context_find_source_by_id(NULL, signals[i]);

        if (source)
            g_source_destroy(source);
    }
    if (!r->error && !r->interrupted && !media_source_has_video(r->source))
        g_set_error(&r->error, VLM_ERROR, VLM_ERROR_FORMAT, "'%s' has no video%s%s", r->job->input,
                    r->missing ? " that can be played. " : "", r->missing ? r->missing : "");
}

static void runner_clear(runner *r)
{
    if (r->pipeline) {
        gst_element_set_state(r->pipeline, GST_STATE_NULL);
        gst_object_unref(r->pipeline);
    }
    gst_clear_object(&r->source);
    g_clear_pointer(&r->loop, g_main_loop_unref);
    subtitle_file_close(r->file);
    g_free(r->missing);
    g_clear_error(&r->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(runner, runner_clear)

gboolean caption_run(const caption_job *job, gboolean *interrupted, GError **error)
{
    g_auto(runner) r = { .job = job };

    if (!build(&r, error))
        return FALSE;
    r.loop = g_main_loop_new(NULL, FALSE);
    progress_init(&r.bar, !job->quiet);
    if (start(&r))
        loop(&r);
    if (r.error) {
        g_propagate_error(error, g_steal_pointer(&r.error));
        return FALSE;
    }
    *interrupted = r.interrupted;
    if (!job->quiet)
        g_printerr("%s%" G_GUINT64_FORMAT " captions are in %s\n",
                   r.interrupted ? "interrupted; " : "", r.n_captions, job->output);
    return TRUE;
}
