// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/models.c — which models are on this machine.
#include <string.h>

#include "base/error.h"
#include "model/hub.h"
#include "model/locate.h"
#include "runtime/engine_private.h"

#define SNAPSHOT_DEPTH 3
#define MANIFEST       "manifest="  // llama.cpp: "manifest=ORG=REPO=TAG.json"

static void entry_free(gpointer data)
{
    vlm_model_entry *entry = data;

    if (!entry)
        return;
    g_free(entry->name);
    g_free(entry->path);
    g_free(entry->mmproj_path);
    g_free(entry->architecture);
    g_free(entry->quantisation);
    g_free(entry->problem);
    g_free(entry);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_model_entry, entry_free)

// ---------------------------------------------------------------------------------- one entry

static const char *main_type(const vlm_gguf *gguf)
{
    guint counts[VLM_N_DTYPE] = { 0 }, best = 0;

    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++) {
        const vlm_gguf_tensor *t = vlm_gguf_tensor_at(gguf, i);

        // Vectors are F32 in every file.
        if (t->n_dims > 1)
            counts[t->dtype]++;
    }
    for (guint i = 1; i < VLM_N_DTYPE; i++) {
        if (counts[i] > counts[best])
            best = i;
    }
    return vlm_dtype_name((vlm_dtype) best);
}

static gboolean check_types(const vlm_gguf *gguf, GError **error)
{
    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++) {
        const vlm_gguf_tensor *t = vlm_gguf_tensor_at(gguf, i);

        if (!vlm_dtype_runs(t->dtype)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "weights of type %s don't run",
                        vlm_dtype_name(t->dtype));
            return FALSE;
        }
    }
    return TRUE;
}

// Fills what the text file says.
static gboolean read_text(vlm_model_entry *entry, vlm_gguf *text, GError **error)
{
    const char *arch;

    entry->file_bytes = vlm_gguf_file_bytes(text);
    entry->quantisation = vlm_file_quant(entry->path);
    if (!entry->quantisation)
        entry->quantisation = g_strdup(main_type(text));
    if (!vlm_gguf_get_str(text, "general.architecture", &arch, error))
        return FALSE;
    entry->architecture = g_strdup(arch);
    entry->supported = vlm_family_knows(text, error) && check_types(text, error);
    entry->text_only = entry->supported && !entry->mmproj_path && vlm_family_is_text(text);
    return entry->supported;
}

// The same of the vision file, and whether they are a pair.
static gboolean read_vision(vlm_model_entry *entry, vlm_gguf *text, GError **error)
{
    g_autoptr(vlm_gguf) vision = vlm_gguf_open(entry->mmproj_path, error);

    if (!vision)
        return FALSE;
    if (strcmp(entry->path, entry->mmproj_path) != 0)
        entry->file_bytes += vlm_gguf_file_bytes(vision);
    entry->supported = vlm_family_find(text, vision, error) != NULL;
    return entry->supported;
}

// Takes `mmproj`, which may be NULL.
static vlm_model_entry *entry_new(const char *place, const char *name, const char *path,
                                  char *mmproj)
{
    vlm_model_entry *entry = g_new0(vlm_model_entry, 1);
    g_autoptr(vlm_gguf) text = NULL;
    g_autoptr(GError) error = NULL;

    entry->place = place;
    entry->name = g_strdup(name);
    entry->path = g_strdup(path);
    entry->mmproj_path = mmproj;
    text = vlm_gguf_open(path, &error);
    if (text && read_text(entry, text, &error) && mmproj)
        read_vision(entry, text, &error);
    // Names and texts of a file go to somebody's terminal: callers escape them.
    if (error)
        entry->problem = g_strdup(error->message);
    else if (!mmproj)
        entry->problem = g_strdup("its vision file (mmproj) is not there");
    return entry;
}

// A file known by its path, with the mmproj beside it.
static void add_file(GPtrArray *entries, const char *place, const char *name, const char *path)
{
    g_ptr_array_add(entries, entry_new(place, name, path, vlm_find_mmproj(path, NULL)));
}

// ---------------------------------------------------------------------------------- places

// The shortest hub name that finds `path`, or NULL.
static char *hub_name_of(const vlm_hub_places *places, const vlm_hub_name *repo, const char *path)
{
    g_autofree char *quant = vlm_file_quant(path);
    const vlm_hub_name tries[] = { { repo->org, repo->repo, quant },
                                   { repo->org, repo->repo, NULL } };

    for (guint i = 0; i < G_N_ELEMENTS(tries); i++) {
        g_autofree char *found = NULL, *none = NULL;

        if (i == 0 && !quant)
            continue;
        if (vlm_locate_hub(places, &tries[i], FALSE, &found, &none, NULL)
            && strcmp(found, path) == 0)
            return g_strconcat(VLM_HUB_PREFIX, repo->org, "/", repo->repo, i == 0 ? ":" : NULL,
                               quant, NULL);
    }
    return NULL;
}

// Text models among `files` of `folder` whose names there begin with `prefix`.
static void add_repository(GPtrArray *entries, const char *place, const vlm_hub_places *places,
                           const vlm_hub_name *repo, const char *folder, const char *prefix,
                           char **files)
{
    g_autoptr(GPtrArray) texts = vlm_locate_texts(files);

    for (guint i = 0; i < texts->len; i++) {
        g_autofree char *file = g_strconcat(prefix, g_ptr_array_index(texts, i), NULL);
        g_autofree char *path = g_build_filename(folder, file, NULL);
        g_autofree char *name = hub_name_of(places, repo, path);
        g_autofree char *found = NULL, *mmproj = NULL;

        if (name) {
            g_autoptr(vlm_hub_name) parsed = vlm_hub_name_parse(name, NULL);

            vlm_locate_hub(places, parsed, TRUE, &found, &mmproj, NULL);
            g_ptr_array_add(entries, entry_new(place, name, path, g_steal_pointer(&mmproj)));
        } else {
            add_file(entries, place, path, path);
        }
    }
}

// "models--ORG--REPO", "manifest=ORG=REPO=TAG.json": the repository, or NULL.
static vlm_hub_name *repository_of(const char *file, const char *start, const char *mark)
{
    g_autofree char *name = NULL;

    if (!g_str_has_prefix(file, start))
        return NULL;
    g_auto(GStrv) parts = g_strsplit(file + strlen(start), mark, 3);
    if (g_strv_length(parts) < 2)
        return NULL;
    name = g_strconcat(VLM_HUB_PREFIX, parts[0], "/", parts[1], NULL);
    return vlm_hub_name_parse(name, NULL);
}

static void add_hub_cache(GPtrArray *entries, const vlm_hub_places *places)
{
    g_autoptr(GDir) dir = g_dir_open(places->cache, 0, NULL);
    const char *file;

    while (dir && (file = g_dir_read_name(dir))) {
        g_autoptr(vlm_hub_name) repo = repository_of(file, "models--", "--");
        g_autofree char *folder = repo ? vlm_locate_repo_folder(places, repo) : NULL;
        g_auto(GStrv) snapshots = folder ? vlm_locate_snapshots(folder) : NULL;

        for (guint i = 0; snapshots && snapshots[i]; i++) {
            g_auto(GStrv) files = vlm_locate_files(snapshots[i], SNAPSHOT_DEPTH);

            add_repository(entries, "hub cache", places, repo, snapshots[i], "", files);
        }
    }
}

// The repository that a file of the flat cache belongs to, by the manifests there; or NULL.
static vlm_hub_name *flat_repository(char **files, const char *file)
{
    for (; *files; files++) {
        g_autoptr(vlm_hub_name) repo = repository_of(*files, MANIFEST, "=");
        g_autofree char *prefix = repo ? vlm_locate_flat_prefix(repo) : NULL;

        if (prefix && g_str_has_prefix(file, prefix))
            return g_steal_pointer(&repo);
    }
    return NULL;
}

static void add_flat_cache(GPtrArray *entries, const vlm_hub_places *places)
{
    static const char place[] = "llama.cpp cache";
    g_auto(GStrv) files = vlm_locate_files(places->llama_cache, 0);
    g_autoptr(GPtrArray) texts = vlm_locate_texts(files);

    for (guint i = 0; i < texts->len; i++) {
        const char *file = g_ptr_array_index(texts, i);
        g_autofree char *path = g_build_filename(places->llama_cache, file, NULL);
        g_autoptr(vlm_hub_name) repo = flat_repository(files, file);
        g_autofree char *prefix = repo ? vlm_locate_flat_prefix(repo) : NULL;
        char *one[] = { repo ? (char *) file + strlen(prefix) : NULL, NULL };

        if (repo)
            add_repository(entries, place, places, repo, places->llama_cache, prefix, one);
        else
            add_file(entries, place, path, path);
    }
}

static void add_default(GPtrArray *entries)
{
    g_autofree char *name = vlm_default_model(NULL);
    g_autofree char *path = NULL, *mmproj = NULL;
    g_autoptr(GError) error = NULL;

    if (!name)
        return;
    if (vlm_model_find(name, NULL, VLM_VISION_OPTIONAL, &path, &mmproj, &error)) {
        g_ptr_array_add(entries, entry_new("default", name, path, g_steal_pointer(&mmproj)));
    } else {
        vlm_model_entry *entry = g_new0(vlm_model_entry, 1);

        entry->place = "default";
        entry->name = g_strdup(name);
        entry->path = g_strdup(name);
        entry->problem = g_strdup(error->message);
        g_ptr_array_add(entries, entry);
    }
}

static gint compare_entries(gconstpointer a, gconstpointer b)
{
    const vlm_model_entry *x = *(const vlm_model_entry *const *) a;
    const vlm_model_entry *y = *(const vlm_model_entry *const *) b;
    const int by_name = strcmp(x->name, y->name);

    return by_name != 0 ? by_name : strcmp(x->path, y->path);
}

static void append_sorted(GPtrArray *entries, GPtrArray *more)
{
    g_ptr_array_sort(more, compare_entries);
    while (more->len > 0)
        g_ptr_array_add(entries, g_ptr_array_steal_index(more, 0));
}

GPtrArray *vlm_model_list(const char *const *folders, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);
    g_autoptr(GPtrArray) part = g_ptr_array_new_with_free_func(entry_free);
    g_autoptr(vlm_hub_places) places = vlm_hub_places_get();

    add_default(entries);
    add_hub_cache(part, places);
    append_sorted(entries, part);
    add_flat_cache(part, places);
    append_sorted(entries, part);
    for (; folders && *folders; folders++) {
        g_auto(GStrv) files = vlm_locate_files(*folders, 0);
        g_autoptr(GPtrArray) texts = vlm_locate_texts(files);

        if (!g_file_test(*folders, G_FILE_TEST_IS_DIR)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: there is no such folder",
                        *folders);
            return NULL;
        }
        for (guint i = 0; i < texts->len; i++) {
            g_autofree char *path = g_build_filename(*folders, g_ptr_array_index(texts, i), NULL);

            add_file(part, "folder", path, path);
        }
        append_sorted(entries, part);
    }
    return g_steal_pointer(&entries);
}
