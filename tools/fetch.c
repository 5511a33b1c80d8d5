// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/fetch.c — downloads models of a hub: what to fetch, where it goes.
#include "fetch.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fetch_file.h"

#define MAX_LISTING_BYTES (16u << 20)
#define MAX_PAGES         50
#define MAX_DEPTH         16
#define MAX_FILE_BYTES    ((guint64) 1 << 50)
#define SPARE_BYTES       ((guint64) 64 << 20)  // left free on the file system
#define COMMIT_CHARS      40

// Set by the signals that end a download.
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    stopped = number;
}

static void file_free(gpointer data)
{
    fetch_file *file = data;

    if (!file)
        return;
    g_free(file->name);
    g_free(file->oid);
    g_free(file);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(fetch_file, file_free)

static void job_clear(fetch_job *job)
{
    vlm_hub_name_free(job->name);
    vlm_hub_places_free(job->places);
    http_client_free(job->http);
    g_free(job->folder);
    g_free(job->commit);
    g_free(job->wanted);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(fetch_job, job_clear)

static gboolean is_hex(const char *text, size_t n)
{
    return text && strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

// ---------------------------------------------------------------------------------- the listing

// Members of the hub's answers, of whatever type they are.
static const char *get_string(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && json_node_get_value_type(node) == G_TYPE_STRING ? json_node_get_string(node)
                                                                   : NULL;
}

static guint64 get_size(JsonObject *object)
{
    JsonNode *node = json_object_get_member(object, "size");
    const gint64 size =
        node && json_node_get_value_type(node) == G_TYPE_INT64 ? json_node_get_int(node) : 0;

    return size > 0 && (guint64) size < MAX_FILE_BYTES ? (guint64) size : 0;
}

// NULL for what is no file, or has neither checksum nor size.
static fetch_file *file_from(JsonNode *node)
{
    JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    JsonNode *lfs = object ? json_object_get_member(object, "lfs") : NULL;
    JsonObject *content = lfs && JSON_NODE_HOLDS_OBJECT(lfs) ? json_node_get_object(lfs) : object;
    const gboolean large = content != object;

    if (!object || g_strcmp0(get_string(object, "type"), "file") != 0 || !get_string(object, "path")
        || !is_hex(get_string(content, "oid"), large ? 64 : 40) || get_size(content) == 0)
        return NULL;
    fetch_file *file = g_new0(fetch_file, 1);
    file->name = g_strdup(get_string(object, "path"));
    file->oid = g_strdup(get_string(content, "oid"));
    file->size = get_size(content);
    file->lfs = large;
    return file;
}

// Whether brackets are nested no deeper than a list of files has them: the parser calls itself for
// each, and its stack has an end. It also knows comments, which could hide them: JSON has none.
static gboolean is_flat(const GString *body)
{
    gboolean quoted = FALSE;
    guint depth = 0;

    for (gsize i = 0; i < body->len && depth <= MAX_DEPTH; i++) {
        const char c = body->str[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{'))
            depth++;
        else if (!quoted && (c == ']' || c == '}') && depth > 0)
            depth--;
        else if (!quoted && !g_ascii_isalnum(c) && !g_ascii_isspace(c) && !strchr(":,+-.]}", c))
            return FALSE;
    }
    return depth <= MAX_DEPTH;
}

static gboolean add_page(GPtrArray *files, const GString *body, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;

    if (body->len >= MAX_LISTING_BYTES || !is_flat(body)
        || !json_parser_load_from_data(parser, body->str, (gssize) body->len, NULL)
        || !(root = json_parser_get_root(parser)) || !JSON_NODE_HOLDS_ARRAY(root)) {
        g_set_error_literal(error, VLM_ERROR, VLM_ERROR_FORMAT,
                            "the hub's list of files can't be read");
        return FALSE;
    }
    JsonArray *array = json_node_get_array(root);
    for (guint i = 0; i < json_array_get_length(array); i++) {
        fetch_file *file = file_from(json_array_get_element(array, i));

        if (file)
            g_ptr_array_add(files, file);
    }
    return TRUE;
}

static gboolean on_listing(const http_reply *reply, const void *data, gsize n, gpointer user_data)
{
    GString *body = user_data;

    (void) reply;
    if (n > MAX_LISTING_BYTES - MIN(body->len, MAX_LISTING_BYTES))
        return FALSE;
    g_string_append_len(body, data, (gssize) n);
    return TRUE;
}

// Every file of the repository.
static GPtrArray *list_files(fetch_job *job, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(file_free);
    g_autofree char *base = g_strconcat(job->places->endpoint, "/", NULL);
    g_autofree char *url = g_strdup_printf("%sapi/models/%s/%s/tree/main?recursive=true", base,
                                           job->name->org, job->name->repo);

    for (guint page = 0; url && page < MAX_PAGES; page++) {
        g_autoptr(GString) body = g_string_new(NULL);
        g_auto(http_reply) reply = { 0 };
        const http_request request = { .url = url, .on_data = on_listing, .user_data = body };
        gboolean again;

        if (!http_send(job->http, &request, &reply, &again, error))
            return NULL;
        if (reply.status != 200) {
            fetch_status_error(job, reply.status, error);
            return NULL;
        }
        if (!add_page(files, body, error))
            return NULL;
        g_free(url);
        url = reply.next && g_str_has_prefix(reply.next, base) ? g_strdup(reply.next) : NULL;
    }
    return g_steal_pointer(&files);
}

static fetch_file *find_file(const GPtrArray *files, const char *name)
{
    for (guint i = 0; i < files->len; i++) {
        fetch_file *file = g_ptr_array_index(files, i);

        if (strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

// Those of the files that make the model; borrowed.
static GPtrArray *choose_files(fetch_job *job, const GPtrArray *files, vlm_vision vision,
                               GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autoptr(GPtrArray) chosen = g_ptr_array_new();

    for (guint i = 0; i < files->len; i++)
        g_ptr_array_add(names, ((const fetch_file *) g_ptr_array_index(files, i))->name);
    g_ptr_array_add(names, NULL);
    const char *const *all = (const char *const *) names->pdata;
    g_auto(GStrv) picked = NULL;
    if (vision == VLM_VISION_OPTIONAL)
        picked = vlm_hub_choose(all, job->name->quant, TRUE, NULL);
    if (!picked)
        picked = vlm_hub_choose(all, job->name->quant, vision == VLM_VISION_REQUIRED, error);
    if (!picked)
        return NULL;
    for (char **name = picked; *name; name++)
        g_ptr_array_add(chosen, find_file(files, *name));
    job->wanted = g_strjoinv(", ", picked);
    return g_steal_pointer(&chosen);
}

// ---------------------------------------------------------------------------------- checks before

// An ETag without its quotes.
static char *bare_etag(const char *etag)
{
    const char *begin = g_str_has_prefix(etag, "W/") ? etag + 2 : etag;
    const size_t n = strlen(begin);

    return n >= 2 && *begin == '"' ? g_strndup(begin + 1, n - 2) : g_strdup(begin);
}

// Asks the hub what a file is: the commit, and the checksum once more.
static gboolean check_file(fetch_job *job, const fetch_file *file, GError **error)
{
    g_autofree char *url = fetch_file_url(job, file);
    g_auto(http_reply) reply = { 0 };
    const http_request request = { .url = url, .head = TRUE };
    gboolean again;

    if (!http_send(job->http, &request, &reply, &again, error))
        return FALSE;
    if (reply.status < 200 || reply.status > 399) {
        fetch_status_error(job, reply.status, error);
        return FALSE;
    }
    g_autofree char *oid = reply.linked_etag ? bare_etag(reply.linked_etag) : NULL;
    const char *commit = is_hex(reply.commit, COMMIT_CHARS) ? reply.commit : "main";
    if ((file->lfs && oid && strcmp(oid, file->oid) != 0)
        || (job->commit && strcmp(job->commit, commit) != 0)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "the hub says two things about %s; perhaps it is being changed, try again",
                    file->name);
        return FALSE;
    }
    if (!job->commit)
        job->commit = g_strdup(commit);
    return TRUE;
}

// Room for what is still missing.
static gboolean check_space(const fetch_job *job, const GPtrArray *files, GError **error)
{
    struct statvfs fs;
    guint64 wanted = 0, there;

    for (guint i = 0; i < files->len; i++)
        wanted += fetch_file_left(job, g_ptr_array_index(files, i));  // 1000 files of 2^50: fits
    if (wanted == 0 || statvfs(job->places->cache, &fs) < 0)
        return TRUE;
    if (!g_uint64_checked_mul(&there, fs.f_bavail, fs.f_frsize) || there >= wanted + SPARE_BYTES)
        return TRUE;
    g_autofree char *need = g_format_size(wanted), *have = g_format_size(there);
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                "%s are to be fetched into %s, where %s are free; HF_HUB_CACHE moves the cache",
                need, job->places->cache, have);
    return FALSE;
}

// ---------------------------------------------------------------------------------- links

// Links the file's name in the snapshot to its content.
static gboolean link_file(const fetch_job *job, const fetch_file *file, GError **error)
{
    g_autofree char *path =
        g_build_filename(job->folder, "snapshots", job->commit, file->name, NULL);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *temporary = g_strdup_printf("%s.%d.tmp", path, (int) getpid());
    g_autoptr(GString) target = g_string_new("../../");
    g_autofree char *blob = fetch_file_blob(job, file);

    for (const char *p = file->name; *p; p++) {
        if (*p == '/')
            g_string_append(target, "../");
    }
    g_string_append_printf(target, "blobs/%s", file->oid);
    g_unlink(temporary);
    // File systems without symbolic links mostly have hard ones.
    if (g_mkdir_with_parents(folder, 0755) < 0
        || (symlink(target->str, temporary) < 0 && link(blob, temporary) < 0)
        || g_rename(temporary, path) < 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: can't be linked: %s", path,
                    g_strerror(errno));
        return FALSE;
    }
    return TRUE;
}

static gboolean write_ref(const fetch_job *job, GError **error)
{
    g_autofree char *folder = g_build_filename(job->folder, "refs", NULL);
    g_autofree char *path = g_build_filename(folder, "main", NULL);
    g_autoptr(GError) trouble = NULL;

    g_mkdir_with_parents(folder, 0755);
    if (g_file_set_contents(path, job->commit, -1, &trouble))
        return TRUE;
    g_set_error_literal(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, trouble->message);
    return FALSE;
}

// ---------------------------------------------------------------------------------- all of it

static gboolean fetch_files(fetch_job *job, vlm_vision vision, GError **error)
{
    g_autoptr(GPtrArray) files = list_files(job, error);
    g_autoptr(GPtrArray) chosen = files ? choose_files(job, files, vision, error) : NULL;

    if (!chosen)
        return FALSE;
    for (guint i = 0; i < chosen->len; i++) {
        if (!check_file(job, g_ptr_array_index(chosen, i), error))
            return FALSE;
    }
    if (g_mkdir_with_parents(job->places->cache, 0755) < 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: can't be made: %s",
                    job->places->cache, g_strerror(errno));
        return FALSE;
    }
    if (!check_space(job, chosen, error))
        return FALSE;
    for (guint i = 0; i < chosen->len; i++) {
        const fetch_file *file = g_ptr_array_index(chosen, i);

        if (!fetch_file_get(job, file, &stopped, error))
            return FALSE;
    }
    // The snapshot is complete or not there: others look at its names.
    for (guint i = 0; i < chosen->len; i++) {
        if (!link_file(job, g_ptr_array_index(chosen, i), error))
            return FALSE;
    }
    return write_ref(job, error);
}

static gboolean prepare(fetch_job *job, GError **error)
{
    g_autofree char *base = NULL;

    job->name = vlm_hub_name_parse(job->text, error);
    if (!job->name)
        return FALSE;
    job->places = vlm_hub_places_get();
    base = g_strdup_printf("models--%s--%s", job->name->org, job->name->repo);
    job->folder = g_build_filename(job->places->cache, base, NULL);
    if (job->places->offline) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                    "%s: HF_HUB_OFFLINE says that nothing is fetched", job->text);
        return FALSE;
    }
    job->http = http_client_new(job->places->endpoint, job->places->token, &stopped, error);
    fetch_progress_init(&job->bar);
    return job->http != NULL;
}

static void append(GError *error, const char *text)
{
    char *message = g_strconcat(error->message, text, NULL);

    g_free(error->message);
    error->message = message;
}

// Says whose trouble it was and what else can be done.
static void explain(const fetch_job *job, GError **error)
{
    g_autofree char *hint = NULL;

    g_prefix_error(error, "%s: ", job->text);
    if (g_error_matches(*error, VLM_ERROR, VLM_ERROR_CANCELLED))
        hint = g_strdup_printf("; what came is kept, 'vlm models fetch %s' goes on with it",
                               job->text);
    else if (g_error_matches(*error, VLM_ERROR, VLM_ERROR_NOT_FOUND))
        hint = g_strdup_printf("\nWhat can't be fetched here can be brought: put %s into a folder "
                               "and say --model FOLDER",
                               job->wanted ? job->wanted : "a text GGUF and its mmproj");
    if (hint)
        append(*error, hint);
}

gboolean fetch_model(const char *name, vlm_vision vision, GError **error)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    g_auto(fetch_job) job = { .text = name };
    struct sigaction before[G_N_ELEMENTS(signals)];
    const struct sigaction action = { .sa_handler = on_signal };
    g_autoptr(GError) trouble = NULL;
    gboolean ok;

    if (!prepare(&job, error))
        return FALSE;
    stopped = 0;
    for (guint i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &action, &before[i]);
    ok = fetch_files(&job, vision, &trouble);
    for (guint i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &before[i], NULL);
    if (!ok) {
        explain(&job, &trouble);
        g_propagate_error(error, g_steal_pointer(&trouble));
    }
    return ok;
}

gboolean fetch_if_missing(const tool_model_options *options, GError **error)
{
    const vlm_vision vision = options->no_mmproj ? VLM_VISION_NONE : options->vision;
    const gboolean given = options->mmproj && *options->mmproj;
    g_autofree char *name =
        options->model && *options->model ? g_strdup(options->model) : vlm_default_model(error);
    g_autofree char *path = NULL, *mmproj = NULL;
    g_autoptr(GError) trouble = NULL, failed = NULL;

    if (!name)
        return FALSE;
    if (!g_str_has_prefix(name, VLM_HUB_PREFIX)
        || vlm_model_find(name, options->mmproj,
                          vision == VLM_VISION_NONE ? vision : VLM_VISION_REQUIRED, &path, &mmproj,
                          &trouble))
        return TRUE;
    g_autoptr(vlm_hub_places) places = vlm_hub_places_get();
    // A model of text may be whole as it is: only the hub can tell, and need not be reached for it.
    const gboolean is_usable =
        vision == VLM_VISION_OPTIONAL
        && vlm_model_find(name, options->mmproj, vision, &path, &mmproj, NULL);
    // Without network, or with no name to ask for, what was said is all there is to say.
    if (!g_error_matches(trouble, VLM_ERROR, VLM_ERROR_NOT_FOUND) || places->offline)
        failed = g_steal_pointer(&trouble);
    else if (fetch_model(name, given ? VLM_VISION_NONE : vision, &failed))
        return TRUE;
    if (is_usable && !g_error_matches(failed, VLM_ERROR, VLM_ERROR_CANCELLED))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&failed));
    return FALSE;
}
