// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/run_batch.c — `vlm run --batch`: many prompts from a file of JSON lines.
#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "json_out.h"
#include "run.h"
#include "tool.h"

// One line of the file.
typedef struct batch_line {
    JsonNode *id;       // NULL = none
    GPtrArray *images;  // strings, NULL at the end
    GPtrArray *films;
    GPtrArray *prompts;
    double fps;         // 0 = as the options say
    gint64 max_tokens;  // 0 = as the options say
} batch_line;

static void batch_line_clear(batch_line *line)
{
    g_clear_pointer(&line->id, json_node_unref);
    g_clear_pointer(&line->images, g_ptr_array_unref);
    g_clear_pointer(&line->films, g_ptr_array_unref);
    g_clear_pointer(&line->prompts, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(batch_line, batch_line_clear)

static gboolean is_string(JsonNode *node)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING;
}

// A string or an array of strings.
static GPtrArray *get_strings(JsonObject *object, const char *name, GError **error)
{
    g_autoptr(GPtrArray) strings = g_ptr_array_new_with_free_func(g_free);
    JsonNode *node = json_object_get_member(object, name);
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    guint n = array ? json_array_get_length(array) : node && !JSON_NODE_HOLDS_NULL(node);

    for (guint i = 0; i < n; i++) {
        JsonNode *item = array ? json_array_get_element(array, i) : node;

        if (!is_string(item)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "\"%s\" must be a string or an array of strings", name);
            return NULL;
        }
        g_ptr_array_add(strings, g_strdup(json_node_get_string(item)));
    }
    g_ptr_array_add(strings, NULL);
    return g_steal_pointer(&strings);
}

static gboolean get_number(JsonObject *object, const char *name, double max, double *number,
                           GError **error)
{
    JsonNode *node = json_object_get_member(object, name);

    if (!node)
        return TRUE;
    if (JSON_NODE_HOLDS_VALUE(node) && !is_string(node))
        *number = json_node_get_double(node);
    if (*number > 0 && *number <= max)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "\"%s\" must be a number above 0, up to %g",
                name, max);
    return FALSE;
}

static gboolean parse_line(const char *text, batch_line *line, GError **error)
{
    g_autoptr(JsonNode) root = json_from_string(text, error);
    JsonObject *object;
    double max_tokens = 0;

    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        if (!error || !*error)
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "this is no JSON object");
        return FALSE;
    }
    object = json_node_get_object(root);
    if (json_object_has_member(object, "id"))
        line->id = json_object_dup_member(object, "id");
    line->images = get_strings(object, "image", error);
    line->films = line->images ? get_strings(object, "video", error) : NULL;
    line->prompts = line->films ? get_strings(object, "prompts", error) : NULL;
    if (!line->prompts || !get_number(object, "fps", 1000, &line->fps, error)
        || !get_number(object, "max_tokens", 1 << 24, &max_tokens, error))
        return FALSE;
    line->max_tokens = (gint64) max_tokens;
    if (line->prompts->len > 1)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "\"prompts\" is missing or empty");
    return FALSE;
}

static void print_result(JsonNode *id, const char *prompt, const char *name, const char *text,
                         const vlm_generation *generation)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    if (id) {
        json_builder_set_member_name(builder, "id");
        json_builder_add_value(builder, json_node_copy(id));
    }
    if (prompt)
        json_out_string(builder, "prompt", prompt);
    json_out_string(builder, name, text);
    if (generation && generation->top)
        run_add_tokens(builder, generation);
    json_builder_end_object(builder);
    json_out_print(builder);
}

// Answers all prompts of a line about the same images and films.
static gboolean answer_line(vlm_session *session, const batch_line *line,
                            const run_options *options, GError **error)
{
    vlm_generate_params params = options->generate;
    g_autoptr(GPtrArray) parts = content_parse("", (const char *const *) line->images->pdata,
                                               (const char *const *) line->films->pdata, error);

    if (!parts
        || !content_feed(session, parts, line->fps > 0 ? line->fps : options->fps,
                         options->measured, error))
        return FALSE;
    params.keep = FALSE;
    if (line->max_tokens)
        params.max_tokens = (guint32) line->max_tokens;
    for (guint i = 0; i + 1 < line->prompts->len; i++) {
        g_autoptr(vlm_generation) generation = NULL;

        params.prompt = g_ptr_array_index(line->prompts, i);
        generation = vlm_session_generate(session, &params, error);
        if (!generation)
            return FALSE;
        print_result(line->id, params.prompt, "text", generation->text, generation);
    }
    return TRUE;
}

static GInputStream *open_stream(const char *path, GError **error)
{
    g_autoptr(GFile) file = NULL;

    if (strcmp(path, "-") == 0)
        file = g_file_new_for_path("/dev/stdin");
    else
        file = g_file_new_for_path(path);
    return G_INPUT_STREAM(g_file_read(file, NULL, error));
}

int run_batch(vlm_engine *engine, const char *path, const run_options *options)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GInputStream) stream = open_stream(path, &error);
    g_autoptr(vlm_session) session = NULL;
    g_autoptr(GDataInputStream) data = NULL;
    int result = TOOL_OK;

    if (stream)
        session = run_session(engine, options, &error);
    if (!session) {
        g_printerr("vlm run: %s\n", error->message);
        return TOOL_FAILED;
    }
    data = g_data_input_stream_new(stream);
    for (;;) {
        g_autofree char *text = g_data_input_stream_read_line_utf8(data, NULL, NULL, &error);
        g_auto(batch_line) line = { 0 };

        if (!text && !error)
            return result;
        if (text && !*g_strstrip(text))
            continue;
        if (error || !parse_line(text, &line, &error)
            || !answer_line(session, &line, options, &error)
            || !vlm_session_reset(session, &error)) {
            print_result(line.id, NULL, "error", error->message, NULL);
            result = TOOL_FAILED;
            if (!text || g_error_matches(error, VLM_ERROR, VLM_ERROR_DEVICE_LOST))
                return result;
            g_clear_error(&error);
            // What the failed line left must not colour the next one.
            if (!vlm_session_reset(session, NULL))
                return result;
        }
    }
}
