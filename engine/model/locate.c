// SPDX-License-Identifier: LGPL-2.1-or-later
// model/locate.c — finds model files by path, folder or hub name; no network.
#define G_LOG_DOMAIN "vlm-model"

#include "model/locate.h"

#include <string.h>

#include "model/hub.h"
#include "model/model.h"

#define MAX_FILES       10000  // of a folder; more are not looked at
#define MAX_NAMES_SHOWN 8
#define SNAPSHOT_DEPTH  3

// ---------------------------------------------------------------------------------- folders

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void add_files(GPtrArray *files, const char *folder, const char *below, guint depth)
{
    g_autofree char *path = g_build_filename(folder, below, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;

    while (dir && files->len < MAX_FILES && (entry = g_dir_read_name(dir))) {
        g_autofree char *name = below ? g_strconcat(below, "/", entry, NULL) : g_strdup(entry);
        g_autofree char *full = g_build_filename(folder, name, NULL);

        // A link that leads nowhere is neither: a cache keeps those of files it has lost.
        if (g_file_test(full, G_FILE_TEST_IS_REGULAR))
            g_ptr_array_add(files, g_steal_pointer(&name));
        else if (depth > 0 && g_file_test(full, G_FILE_TEST_IS_DIR))
            add_files(files, folder, name, depth - 1);
    }
}

char **vlm_locate_files(const char *folder, guint depth)
{
    GPtrArray *files = g_ptr_array_new();

    add_files(files, folder, NULL, depth);
    g_ptr_array_sort(files, compare_names);
    g_ptr_array_add(files, NULL);
    return (char **) g_ptr_array_free(files, FALSE);
}

GPtrArray *vlm_locate_texts(char **files)
{
    GPtrArray *texts = g_ptr_array_new();

    for (; *files; files++) {
        if (vlm_file_kind_of(*files) == VLM_FILE_TEXT)
            g_ptr_array_add(texts, *files);
    }
    return texts;
}

// The one text GGUF of a folder.
static char *find_in_folder(const char *folder, GError **error)
{
    g_auto(GStrv) files = vlm_locate_files(folder, 0);
    g_autoptr(GPtrArray) texts = vlm_locate_texts(files);
    g_autoptr(GString) names = g_string_new(NULL);

    if (texts->len == 1)
        return g_build_filename(folder, g_ptr_array_index(texts, 0), NULL);
    if (texts->len == 0) {
        const char *later = NULL;

        for (guint i = 0; files[i] && !later; i++)
            later = vlm_file_kind_of(files[i]) == VLM_FILE_PART ? files[i] : NULL;
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                    "%s: there is no text model (*.gguf) in this folder%s%s%s", folder,
                    later ? "; " : "", later ? later : "", later ? " lacks its first part" : "");
        return NULL;
    }
    for (guint i = 0; i < MIN(texts->len, MAX_NAMES_SHOWN); i++)
        g_string_append_printf(names, "%s%s", i ? ", " : "",
                               (const char *) g_ptr_array_index(texts, i));
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "%s: this folder holds %u models, name one of them: %s%s", folder, texts->len,
                names->str, texts->len > MAX_NAMES_SHOWN ? ", ..." : "");
    return NULL;
}

// ---------------------------------------------------------------------------------- caches

char *vlm_locate_repo_folder(const vlm_hub_places *places, const vlm_hub_name *name)
{
    g_autofree char *base = g_strdup_printf("models--%s--%s", name->org, name->repo);

    return g_build_filename(places->cache, base, NULL);
}

char **vlm_locate_snapshots(const char *repo_folder)
{
    g_autofree char *ref = g_build_filename(repo_folder, "refs", "main", NULL);
    g_autofree char *all = g_build_filename(repo_folder, "snapshots", NULL);
    g_autofree char *current = NULL;
    g_autoptr(GDir) dir = g_dir_open(all, 0, NULL);
    GPtrArray *found = g_ptr_array_new();
    const char *name;

    if (g_file_get_contents(ref, &current, NULL, NULL))
        g_strstrip(current);
    while (dir && found->len < MAX_FILES && (name = g_dir_read_name(dir))) {
        if (g_strcmp0(name, current) != 0)
            g_ptr_array_add(found, g_build_filename(all, name, NULL));
    }
    g_ptr_array_sort(found, compare_names);
    if (current && vlm_file_name_is_safe(current) && !strchr(current, '/'))
        g_ptr_array_insert(found, 0, g_build_filename(all, current, NULL));
    g_ptr_array_add(found, NULL);
    return (char **) g_ptr_array_free(found, FALSE);
}

// Chooses among `files` of `folder`, whose names there begin with `prefix`.
static gboolean take(const char *folder, const char *prefix, char **files, const char *quant,
                     gboolean with_mmproj, char **model_path, char **mmproj_path, GError **error)
{
    g_auto(GStrv) chosen = vlm_hub_choose((const char *const *) files, quant, with_mmproj, error);
    g_autofree char *text = NULL, *vision = NULL;

    if (!chosen) {
        g_prefix_error(error, "%s: ", folder);
        return FALSE;
    }
    text = g_strconcat(prefix, chosen[0], NULL);
    *model_path = g_build_filename(folder, text, NULL);
    if (with_mmproj) {
        vision = g_strconcat(prefix, chosen[g_strv_length(chosen) - 1], NULL);
        *mmproj_path = g_build_filename(folder, vision, NULL);
    }
    return TRUE;
}

char *vlm_locate_flat_prefix(const vlm_hub_name *name)
{
    return g_strdup_printf("%s_%s_", name->org, name->repo);
}

// The files of a flat cache that belong to a repository, without what says so.
static char **flat_files(const char *folder, const char *prefix)
{
    g_auto(GStrv) all = vlm_locate_files(folder, 0);
    GPtrArray *files = g_ptr_array_new();

    for (char **name = all; *name; name++) {
        if (g_str_has_prefix(*name, prefix))
            g_ptr_array_add(files, g_strdup(*name + strlen(prefix)));
    }
    g_ptr_array_add(files, NULL);
    return (char **) g_ptr_array_free(files, FALSE);
}

gboolean vlm_locate_hub(const vlm_hub_places *places, const vlm_hub_name *name,
                        gboolean with_mmproj, char **model_path, char **mmproj_path, GError **error)
{
    g_autofree char *repo = vlm_locate_repo_folder(places, name);
    g_auto(GStrv) snapshots = vlm_locate_snapshots(repo);
    g_autofree char *prefix = vlm_locate_flat_prefix(name);
    g_autoptr(GError) first = NULL;  // of several troubles, that of the current snapshot

    for (char **snapshot = snapshots; *snapshot; snapshot++) {
        g_auto(GStrv) files = vlm_locate_files(*snapshot, SNAPSHOT_DEPTH);

        if (take(*snapshot, "", files, name->quant, with_mmproj, model_path, mmproj_path,
                 first || !*files ? NULL : &first))
            return TRUE;
    }
    g_auto(GStrv) files = flat_files(places->llama_cache, prefix);
    if (take(places->llama_cache, prefix, files, name->quant, with_mmproj, model_path, mmproj_path,
             first || !*files ? NULL : &first))
        return TRUE;
    if (first)
        g_propagate_error(error, g_steal_pointer(&first));
    else
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "nothing of it in %s and %s",
                    places->cache, places->llama_cache);
    return FALSE;
}

static gboolean find_on_hub(const char *text, gboolean with_mmproj, char **model_path,
                            char **mmproj_path, GError **error)
{
    g_autoptr(vlm_hub_places) places = vlm_hub_places_get();
    g_autoptr(vlm_hub_name) name = vlm_hub_name_parse(text, error);
    g_autoptr(GError) why = NULL;

    if (!name)
        return FALSE;
    if (vlm_locate_hub(places, name, with_mmproj, model_path, mmproj_path, &why))
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                "%s is not on this machine (%s): run 'vlm models fetch %s' first, or put a text "
                "GGUF and its mmproj from %s/%s/%s into a folder and name the folder",
                text, why->message, text, places->endpoint, name->org, name->repo);
    return FALSE;
}

// ---------------------------------------------------------------------------------- any name

// Whether the model can do without a vision file that nobody asked to leave out: it is one of text,
// and the file that was found, if any, is that of another.
static gboolean is_text_model(const char *path, const char *found)
{
    g_autoptr(vlm_gguf) text = vlm_gguf_open(path, NULL);
    g_autoptr(vlm_gguf) vision = found ? vlm_gguf_open(found, NULL) : NULL;

    return text && vlm_family_is_text(text)
           && (!found || (vision && !vlm_family_find(text, vision, NULL)));
}

gboolean vlm_model_find(const char *name, const char *mmproj, vlm_vision vision, char **model_path,
                        char **mmproj_path, GError **error)
{
    const gboolean given = mmproj && *mmproj && vision != VLM_VISION_NONE;
    const gboolean search = !given && vision != VLM_VISION_NONE;
    gboolean may_lack = FALSE;
    g_autofree char *text = NULL, *found = NULL;
    g_autoptr(GError) trouble = NULL;

    g_return_val_if_fail(name && model_path && mmproj_path, FALSE);
    if (g_str_has_prefix(name, VLM_HUB_PREFIX)) {
        if (!find_on_hub(name, search, &text, &found, &trouble)) {
            may_lack = search && vision == VLM_VISION_OPTIONAL
                       && find_on_hub(name, FALSE, &text, &found, NULL)
                       && is_text_model(text, NULL);
            if (!may_lack) {
                g_propagate_error(error, g_steal_pointer(&trouble));
                return FALSE;
            }
        }
    } else if (g_file_test(name, G_FILE_TEST_IS_DIR)) {
        text = find_in_folder(name, error);
    } else {
        text = g_strdup(name);
    }
    if (!text)
        return FALSE;
    if (search && !found && !may_lack && !(found = vlm_model_find_mmproj(text, &trouble))
        && !(vision == VLM_VISION_OPTIONAL && is_text_model(text, NULL))) {
        g_propagate_error(error, g_steal_pointer(&trouble));
        return FALSE;
    }
    if (found && vision == VLM_VISION_OPTIONAL && is_text_model(text, found))
        g_clear_pointer(&found, g_free);
    *model_path = g_steal_pointer(&text);
    *mmproj_path = given ? g_strdup(mmproj) : g_steal_pointer(&found);
    return TRUE;
}
