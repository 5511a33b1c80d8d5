// SPDX-License-Identifier: LGPL-2.1-or-later
// media/turns_read.c — examples and conversations: out of JSON.
#include <json-glib/json-glib.h>
#include <string.h>

#include "media.h"
#include "turns.h"

// What is being read, for messages.
typedef struct reader {
    turns *t;
    guint entry;  // 0 = the file itself
    char *folder;
} reader;

static void reader_clear(reader *r)
{
    g_free(r->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(reader, reader_clear)

static void turn_free(gpointer data)
{
    turn *one = data;

    g_clear_pointer(&one->parts, g_ptr_array_unref);
    g_free(one->answer);
    g_free(one);
}

// Sets the error; always FALSE.
static gboolean fail(const reader *r, vlm_error_code code, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static gboolean fail(const reader *r, vlm_error_code code, GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    if (r->entry > 0)
        g_set_error(error, TURNS_ERROR, (int) code, "%s, %s %u: %s", r->t->path, r->t->what,
                    r->entry, text);
    else
        g_set_error(error, TURNS_ERROR, (int) code, "%s: %s", r->t->path, text);
    return FALSE;
}

static turn *new_turn(const reader *r)
{
    turn *one = g_new0(turn, 1);

    one->entry = r->entry;
    g_ptr_array_add(r->t->list, one);
    return one;
}

// ------------------------------------------------------------------------------------- values

static const char *get_string(JsonNode *node)
{
    if (!node || !JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING)
        return NULL;
    return json_node_get_string(node);
}

// A member that is a string, or not there: *text is NULL then.
static gboolean get_text(const reader *r, JsonObject *object, const char *name, const char **text,
                         GError **error)
{
    JsonNode *node = json_object_get_member(object, name);

    *text = get_string(node);
    return *text || !node || fail(r, VLM_ERROR_FORMAT, error, "\"%s\" must be a string", name);
}

// Only members of the list, which ends with NULL, are there.
static gboolean check_members(const reader *r, JsonObject *object, const char *const *known,
                              GError **error)
{
    g_autoptr(GList) names = json_object_get_members(object);

    for (const GList *l = names; l; l = l->next) {
        if (g_strv_contains(known, l->data))
            continue;
        g_autofree char *list = g_strjoinv("\", \"", (char **) known);
        return fail(r, VLM_ERROR_FORMAT, error, "there is no \"%s\", only \"%s\"",
                    (const char *) l->data, list);
    }
    return TRUE;
}

// The file called `name` from the JSON file's folder, new; it must be there.
static char *find_file(const reader *r, const char *name, GError **error)
{
    g_autofree char *path = strstr(name, "://") || g_path_is_absolute(name)
                                ? g_strdup(name)
                                : g_build_filename(r->folder, name, NULL);
    g_autoptr(GError) cause = NULL;
    g_autofree char *uri = *name ? media_uri(path, &cause) : NULL;

    if (uri)
        return g_steal_pointer(&path);
    fail(r, cause ? (vlm_error_code) cause->code : VLM_ERROR_FORMAT, error, "%s",
         cause ? cause->message : "a file without a name");
    return NULL;
}

// A name or a list of names of files. Returns paths, NULL at their end.
static GPtrArray *get_files(const reader *r, JsonObject *object, const char *name, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    JsonNode *node = json_object_get_member(object, name);
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    const guint n = array ? json_array_get_length(array) : node != NULL;

    for (guint i = 0; i < n; i++) {
        const char *file = get_string(array ? json_array_get_element(array, i) : node);
        if (!file) {
            fail(r, VLM_ERROR_FORMAT, error, "\"%s\" must be a file's name or a list of such",
                 name);
            return NULL;
        }
        char *path = find_file(r, file, error);
        if (!path)
            return NULL;
        g_ptr_array_add(files, path);
    }
    g_ptr_array_add(files, NULL);
    return g_steal_pointer(&files);
}

// -------------------------------------------------------------------------------------- files

// The list that the file is; *parser owns it.
static JsonArray *load(const reader *r, JsonParser *parser, const char *wrapper, GError **error)
{
    g_autoptr(GError) cause = NULL;
    JsonNode *root;

    if (!g_file_test(r->t->path, G_FILE_TEST_IS_REGULAR)) {
        fail(r, VLM_ERROR_NOT_FOUND, error, "there is no such file");
        return NULL;
    }
    if (!json_parser_load_from_file(parser, r->t->path, &cause)) {
        const char *text = cause->message;
        if (g_str_has_prefix(text, r->t->path))
            text += strlen(r->t->path) + 1;
        fail(r, VLM_ERROR_FORMAT, error, "not JSON: %s", text);
        return NULL;
    }
    root = json_parser_get_root(parser);
    if (root && wrapper && JSON_NODE_HOLDS_OBJECT(root))
        root = json_object_get_member(json_node_get_object(root), wrapper);
    if (root && JSON_NODE_HOLDS_ARRAY(root) && json_array_get_length(json_node_get_array(root)) > 0)
        return json_node_get_array(root);
    fail(r, VLM_ERROR_FORMAT, error, "must be a list of %ss", r->t->what);
    return NULL;
}

// Entry r->entry as an object; NULL with the error set.
static JsonObject *get_entry(const reader *r, JsonArray *list, GError **error)
{
    JsonNode *node = json_array_get_element(list, r->entry - 1);

    if (JSON_NODE_HOLDS_OBJECT(node))
        return json_node_get_object(node);
    fail(r, VLM_ERROR_FORMAT, error, "must be an object");
    return NULL;
}

static turns *turns_new(const char *path, const char *what)
{
    turns *t = g_new0(turns, 1);

    t->path = g_strdup(path);
    t->what = what;
    t->list = g_ptr_array_new_with_free_func(turn_free);
    return t;
}

// ----------------------------------------------------------------------------------- examples

static gboolean get_fps(const reader *r, JsonObject *object, double *fps, GError **error)
{
    JsonNode *node = json_object_get_member(object, "fps");

    if (!node)
        return TRUE;
    if (JSON_NODE_HOLDS_VALUE(node) && !get_string(node))
        *fps = json_node_get_double(node);
    return (*fps >= 0.001 && *fps <= 1000)
           || fail(r, VLM_ERROR_FORMAT, error, "\"fps\" must be a number from 0.001 to 1000");
}

static gboolean read_example(const reader *r, JsonObject *object, const char *prompt,
                             GError **error)
{
    static const char *const known[] = { "image", "video", "fps", "prompt", "answer", NULL };
    turn *one = new_turn(r);
    const char *own = NULL, *answer = NULL;
    g_autoptr(GPtrArray) images = NULL, films = NULL;
    g_autoptr(GError) cause = NULL;

    if (!check_members(r, object, known, error) || !get_text(r, object, "prompt", &own, error)
        || !get_text(r, object, "answer", &answer, error) || !get_fps(r, object, &one->fps, error)
        || !(images = get_files(r, object, "image", error))
        || !(films = get_files(r, object, "video", error)))
        return FALSE;
    if (!answer || !*answer)
        return fail(r, VLM_ERROR_FORMAT, error, "has no \"answer\"");
    if (images->len + films->len == 2 && (!own || !*own))
        return fail(r, VLM_ERROR_FORMAT, error, "has neither \"image\", \"video\" nor \"prompt\"");
    one->answer = g_strdup(answer);
    one->parts = content_parse(own ? own : prompt, (const char *const *) images->pdata,
                               (const char *const *) films->pdata, &cause);
    return one->parts || fail(r, VLM_ERROR_FORMAT, error, "%s", cause->message);
}

turns *turns_read_examples(const char *path, const char *prompt, GError **error)
{
    g_autoptr(turns) t = turns_new(path, "example");
    g_auto(reader) r = { .t = t, .folder = g_path_get_dirname(path) };
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonArray *list = load(&r, parser, NULL, error);

    for (r.entry = 1; list && r.entry <= json_array_get_length(list); r.entry++) {
        JsonObject *object = get_entry(&r, list, error);
        if (!object || !read_example(&r, object, prompt ? prompt : "", error))
            return NULL;
    }
    return list ? g_steal_pointer(&t) : NULL;
}

// ----------------------------------------------------------------------------------- messages

// The file of an image or video: a member called as its type, or "path", or "url", or OpenAI's
// "image_url": {"url": ...}.
static const char *file_of(JsonObject *part, const char *type)
{
    const char *const names[] = { type, "path", "url" };
    const char *file = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(names) && !file; i++) {
        JsonNode *node = json_object_get_member(part, names[i]);
        file = get_string(node);
        if (!file && node && JSON_NODE_HOLDS_OBJECT(node)
            && json_object_has_member(json_node_get_object(node), "url"))
            file = get_string(json_object_get_member(json_node_get_object(node), "url"));
    }
    return file;
}

static gboolean read_file_part(const reader *r, JsonObject *object, const char *type,
                               GPtrArray *parts, GError **error)
{
    const gboolean is_image = g_str_has_prefix(type, "image");
    const char *name = file_of(object, type);

    if (!name)
        return fail(r, VLM_ERROR_FORMAT, error, "a part of type \"%s\" names no file", type);
    g_autofree char *path = find_file(r, name, error);
    if (!path)
        return FALSE;
    content_add(parts, is_image ? CONTENT_IMAGE : CONTENT_FILM, path, strlen(path));
    return TRUE;
}

static gboolean read_part(const reader *r, JsonNode *node, GPtrArray *parts, GError **error)
{
    static const char *const files[] = { "image", "image_url", "video", "video_url", NULL };
    JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    const char *type = NULL, *text = NULL;

    if (!object)
        return fail(r, VLM_ERROR_FORMAT, error, "a part of \"content\" must be an object");
    if (!get_text(r, object, "type", &type, error) || !get_text(r, object, "text", &text, error))
        return FALSE;
    if (g_strcmp0(type, "text") == 0 && text) {
        content_add(parts, CONTENT_TEXT, text, strlen(text));
        return TRUE;
    }
    if (type && g_strv_contains(files, type))
        return read_file_part(r, object, type, parts, error);
    return fail(r, VLM_ERROR_FORMAT, error,
                "a part of \"content\" must be of type \"text\", with a \"text\", \"image\" or "
                "\"video\"");
}

// The content of a message as parts, the last of them text.
static GPtrArray *read_content(const reader *r, JsonObject *message, GError **error)
{
    g_autoptr(GPtrArray) parts = content_new();
    JsonNode *node = json_object_get_member(message, "content");
    const char *text = get_string(node);

    if (text) {
        content_add(parts, CONTENT_TEXT, text, strlen(text));
        return g_steal_pointer(&parts);
    }
    if (!node || !JSON_NODE_HOLDS_ARRAY(node)) {
        fail(r, VLM_ERROR_FORMAT, error, "\"content\" must be a string or a list of parts");
        return NULL;
    }
    JsonArray *list = json_node_get_array(node);
    for (guint i = 0; i < json_array_get_length(list); i++)
        if (!read_part(r, json_array_get_element(list, i), parts, error))
            return NULL;
    const content_part *last = parts->len > 0 ? g_ptr_array_index(parts, parts->len - 1) : NULL;
    if (!last || last->kind != CONTENT_TEXT)
        content_add(parts, CONTENT_TEXT, "", 0);
    return g_steal_pointer(&parts);
}

// All texts of a message that may have nothing else, new.
static char *join_texts(const reader *r, const GPtrArray *parts, const char *role, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < parts->len; i++) {
        const content_part *part = g_ptr_array_index(parts, i);
        if (part->kind != CONTENT_TEXT) {
            fail(r, VLM_ERROR_FORMAT, error, "a message of role \"%s\" can only have text", role);
            return NULL;
        }
        g_string_append(text, part->text);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static gboolean read_message(const reader *r, JsonObject *object, GError **error)
{
    static const char *const known[] = { "role", "content", NULL };
    turn *last = r->t->list->len > 0 ? g_ptr_array_index(r->t->list, r->t->list->len - 1) : NULL;
    const gboolean waits = last && !last->answer;
    const char *role = NULL;

    if (!check_members(r, object, known, error) || !get_text(r, object, "role", &role, error))
        return FALSE;
    g_autoptr(GPtrArray) parts = read_content(r, object, error);
    if (!parts)
        return FALSE;
    if (g_strcmp0(role, "system") == 0) {
        if (r->entry > 1)
            return fail(r, VLM_ERROR_FORMAT, error, "the system's message must be the first");
        r->t->system = join_texts(r, parts, role, error);
        return r->t->system != NULL;
    }
    if (g_strcmp0(role, "user") == 0) {
        if (waits)
            return fail(r, VLM_ERROR_FORMAT, error,
                        "comes from the user, as the one before it; put both into one");
        new_turn(r)->parts = g_steal_pointer(&parts);
        return TRUE;
    }
    if (g_strcmp0(role, "assistant") != 0)
        return fail(r, VLM_ERROR_FORMAT, error,
                    "\"role\" must be \"system\", \"user\" or \"assistant\"");
    if (!waits)
        return fail(r, VLM_ERROR_FORMAT, error,
                    "comes from the assistant, but there is nothing to answer before it");
    last->answer = join_texts(r, parts, role, error);
    return last->answer != NULL;
}

turns *turns_read_messages(const char *path, GError **error)
{
    g_autoptr(turns) t = turns_new(path, "message");
    g_auto(reader) r = { .t = t, .folder = g_path_get_dirname(path) };
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonArray *list = load(&r, parser, "messages", error);

    for (r.entry = 1; list && r.entry <= json_array_get_length(list); r.entry++) {
        JsonObject *object = get_entry(&r, list, error);
        if (!object || !read_message(&r, object, error))
            return NULL;
    }
    return list ? g_steal_pointer(&t) : NULL;
}
