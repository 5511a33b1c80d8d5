// SPDX-License-Identifier: LGPL-2.1-or-later
// model/hub.c — hub names, and the choice of files by their names.
#define G_LOG_DOMAIN "vlm-model"

#include "model/hub.h"

#include <string.h>

#include "base/env.h"
#include "model/gguf.h"

#define MAX_NAME_BYTES      255
#define MAX_PATH_BYTES      1024
#define MAX_QUANTS_IN_ERROR 20

// The best first. See vlm_model_find() in vlm.h and docs/models.md.
static const char *const text_order[] = { "Q4_K_M", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S",
                                          "Q4_K_S", "Q4_0", "F16",  "BF16",   "F32" };
static const char *const vision_order[] = { "F16", "BF16", "Q8_0", "F32" };

// ---------------------------------------------------------------------------------- hub names

// An organisation, a repository or a quantisation: nothing that means something to a file system.
static gboolean is_word(const char *text)
{
    if (!*text || *text == '.' || *text == '-' || strlen(text) > 96 || strstr(text, ".."))
        return FALSE;
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("._-", *p))
            return FALSE;
    }
    return TRUE;
}

vlm_hub_name *vlm_hub_name_parse(const char *name, GError **error)
{
    g_autoptr(vlm_hub_name) parsed = g_new0(vlm_hub_name, 1);

    if (g_str_has_prefix(name, VLM_HUB_PREFIX)) {
        g_auto(GStrv) quant = g_strsplit(name + strlen(VLM_HUB_PREFIX), ":", 2);
        g_auto(GStrv) repo = g_strsplit(quant[0] ? quant[0] : "", "/", 2);
        const gboolean pair = g_strv_length(repo) == 2;

        parsed->org = g_strdup(pair ? repo[0] : "");
        parsed->repo = g_strdup(pair ? repo[1] : "");
        parsed->quant = quant[0] ? g_strdup(quant[1]) : NULL;
        if (is_word(parsed->org) && is_word(parsed->repo)
            && (!parsed->quant || is_word(parsed->quant)))
            return g_steal_pointer(&parsed);
    }
    g_autofree char *shown = g_strescape(name, NULL);
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "%s: a model of a hub is named " VLM_HUB_PREFIX "ORG/REPO or " VLM_HUB_PREFIX
                "ORG/REPO:QUANT, as " VLM_HUB_PREFIX "Qwen/Qwen3-VL-2B-Instruct-GGUF:Q8_0",
                shown);
    return NULL;
}

void vlm_hub_name_free(vlm_hub_name *name)
{
    if (!name)
        return;
    g_free(name->org);
    g_free(name->repo);
    g_free(name->quant);
    g_free(name);
}

// ---------------------------------------------------------------------------------- places

static const char *setting(vlm_env_id id)
{
    const char *value = vlm_env_string(id);

    return value && *value ? value : NULL;
}

// The token that the hub's own tools keep. Anything but one word of printable characters is none.
static char *read_token(const char *home)
{
    g_autofree char *path = g_build_filename(home, "token", NULL);
    g_autofree char *token = g_strdup(setting(VLM_ENV_HF_TOKEN));

    if (!token && !g_file_get_contents(path, &token, NULL, NULL))
        return NULL;
    g_strstrip(token);
    for (const char *p = token; *p; p++) {
        if (!g_ascii_isgraph(*p))
            return NULL;
    }
    return *token ? g_steal_pointer(&token) : NULL;
}

vlm_hub_places *vlm_hub_places_get(void)
{
    vlm_hub_places *places = g_new0(vlm_hub_places, 1);
    const char *user = g_get_user_cache_dir();
    const char *offline = setting(VLM_ENV_HF_HUB_OFFLINE);
    g_autofree char *home = setting(VLM_ENV_HF_HOME) ? g_strdup(setting(VLM_ENV_HF_HOME))
                                                     : g_build_filename(user, "huggingface", NULL);

    places->cache = setting(VLM_ENV_HF_HUB_CACHE) ? g_strdup(setting(VLM_ENV_HF_HUB_CACHE))
                                                  : g_build_filename(home, "hub", NULL);
    places->llama_cache = setting(VLM_ENV_LLAMA_CACHE) ? g_strdup(setting(VLM_ENV_LLAMA_CACHE))
                                                       : g_build_filename(user, "llama.cpp", NULL);
    places->endpoint = g_strdup(setting(VLM_ENV_HF_ENDPOINT));
    while (g_str_has_suffix(places->endpoint, "/"))
        places->endpoint[strlen(places->endpoint) - 1] = 0;
    places->token = read_token(home);
    // The values that the hub's own library takes for yes.
    static const char *const yes[] = { "1", "on", "yes", "true", NULL };
    g_autofree char *lower = g_ascii_strdown(offline ? offline : "", -1);
    places->offline = g_strv_contains(yes, lower);
    return places;
}

void vlm_hub_places_free(vlm_hub_places *places)
{
    if (!places)
        return;
    g_free(places->cache);
    g_free(places->llama_cache);
    g_free(places->endpoint);
    g_free(places->token);
    g_free(places);
}

// ---------------------------------------------------------------------------------- file names

gboolean vlm_file_name_is_safe(const char *name)
{
    if (!*name || strlen(name) > MAX_PATH_BYTES || !g_utf8_validate(name, -1, NULL))
        return FALSE;
    for (const char *p = name; *p; p = g_utf8_next_char(p)) {
        if (g_unichar_iscntrl(g_utf8_get_char(p)) || *p == '\\')
            return FALSE;
    }
    g_auto(GStrv) parts = g_strsplit(name, "/", -1);
    for (char **part = parts; *part; part++) {
        if (!**part || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0
            || strlen(*part) > MAX_NAME_BYTES)
            return FALSE;
    }
    return TRUE;
}

vlm_file_kind vlm_file_kind_of(const char *path)
{
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *lower = g_ascii_strdown(base, -1);
    guint number, count;
    size_t stem_len;

    if (!g_str_has_suffix(lower, ".gguf") || strstr(lower, "imatrix"))
        return VLM_FILE_OTHER;
    if (strstr(lower, "mmproj"))
        return VLM_FILE_VISION;
    if (vlm_gguf_split_name(path, &number, &count, &stem_len) && number != 1)
        return VLM_FILE_PART;
    return VLM_FILE_TEXT;
}

// The file's name without folder, ending and number of its part.
static char *stem_of(const char *path)
{
    char *base = g_path_get_basename(path);
    guint number, count;
    size_t stem_len;

    if (vlm_gguf_split_name(base, &number, &count, &stem_len))
        base[stem_len] = 0;
    else if (strlen(base) > strlen(".gguf"))
        base[strlen(base) - strlen(".gguf")] = 0;
    return base;
}

char *vlm_file_quant(const char *path)
{
    g_autofree char *stem = stem_of(path);
    g_autofree char *upper = g_ascii_strup(stem, -1);

    // "x-UD-Q4_K_XL", "x.Q8_0", "x_F16": a mark, a known beginning, a digit.
    for (size_t at = strlen(upper); at-- > 0;) {
        static const char *const starts[] = { "Q", "IQ", "TQ", "F", "BF", "MXFP" };

        if (at > 0 && g_ascii_isalnum(upper[at - 1]))
            continue;
        if (strpbrk(upper + at, "-."))
            break;
        for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
            if (g_str_has_prefix(upper + at, starts[i])
                && g_ascii_isdigit(upper[at + strlen(starts[i])]))
                return g_strdup(upper + at);
        }
    }
    return NULL;
}

// Whether a file is of quantisation `quant`: its name ends so, or its folder is called so.
static gboolean has_quant(const char *path, const char *quant)
{
    g_autofree char *stem = stem_of(path);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *last = g_path_get_basename(folder);
    const size_t len = strlen(stem), n = strlen(quant);

    if (g_ascii_strcasecmp(last, quant) == 0)
        return TRUE;
    return len >= n && g_ascii_strcasecmp(stem + len - n, quant) == 0
           && (len == n || !g_ascii_isalnum(stem[len - n - 1]));
}

static guint rank_of(const char *path, const char *const *order, guint n)
{
    for (guint i = 0; i < n; i++) {
        if (has_quant(path, order[i]))
            return i;
    }
    return n;
}

// ---------------------------------------------------------------------------------- the choice

// The best of `kind` by rank, then the shortest, then the first by the alphabet. NULL without one.
static const char *choose_one(const char *const *files, vlm_file_kind kind, const char *quant,
                              const char *const *order, guint n_order)
{
    const char *best = NULL;
    guint best_rank = 0;

    for (; *files; files++) {
        if (!vlm_file_name_is_safe(*files) || vlm_file_kind_of(*files) != kind
            || (quant && !has_quant(*files, quant)))
            continue;
        const guint rank = rank_of(*files, order, n_order);
        const size_t length = strlen(*files);
        if (!best || rank < best_rank || (rank == best_rank && length < strlen(best))
            || (rank == best_rank && length == strlen(best) && strcmp(*files, best) < 0)) {
            best = *files;
            best_rank = rank;
        }
    }
    return best;
}

// "Q4_K_M, Q8_0": what there is instead.
static char *quants_of(const char *const *files)
{
    g_autoptr(GPtrArray) quants = g_ptr_array_new_with_free_func(g_free);

    for (; *files && quants->len < MAX_QUANTS_IN_ERROR; files++) {
        g_autofree char *quant =
            vlm_file_name_is_safe(*files) && vlm_file_kind_of(*files) == VLM_FILE_TEXT
                ? vlm_file_quant(*files)
                : NULL;

        if (quant && !g_ptr_array_find_with_equal_func(quants, quant, g_str_equal, NULL))
            g_ptr_array_add(quants, g_steal_pointer(&quant));
    }
    g_ptr_array_add(quants, NULL);
    return g_strjoinv(", ", (char **) quants->pdata);
}

// Adds the parts of `head`, all of which must be among the files.
static gboolean add_parts(const char *const *files, const char *head, GPtrArray *chosen,
                          GError **error)
{
    guint number, count;
    size_t stem_len;

    if (!vlm_gguf_split_name(head, &number, &count, &stem_len) || count < 1) {
        g_ptr_array_add(chosen, g_strdup(head));
        return TRUE;
    }
    if (count > VLM_GGUF_MAX_PARTS) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s has more than %u parts", head,
                    VLM_GGUF_MAX_PARTS);
        return FALSE;
    }
    for (guint i = 1; i <= count; i++) {
        g_autofree char *part =
            g_strdup_printf("%.*s-%05u-of-%05u.gguf", (int) stem_len, head, i, count);

        if (!g_strv_contains(files, part)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s is missing", part);
            return FALSE;
        }
        g_ptr_array_add(chosen, g_steal_pointer(&part));
    }
    return TRUE;
}

char **vlm_hub_choose(const char *const *files, const char *quant, gboolean with_mmproj,
                      GError **error)
{
    g_autoptr(GPtrArray) chosen = g_ptr_array_new_with_free_func(g_free);
    const char *text =
        choose_one(files, VLM_FILE_TEXT, quant, text_order, G_N_ELEMENTS(text_order));
    const char *vision =
        choose_one(files, VLM_FILE_VISION, NULL, vision_order, G_N_ELEMENTS(vision_order));

    if (!text) {
        g_autofree char *there = quants_of(files);

        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "there is no text GGUF%s%s%s%s",
                    quant ? " of quantisation " : "", quant ? quant : "",
                    *there ? ", but one of " : "", there);
        return NULL;
    }
    if (!add_parts(files, text, chosen, error))
        return NULL;
    if (with_mmproj && !vision) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                    "%s is there without its vision file (mmproj)", text);
        return NULL;
    }
    if (with_mmproj)
        g_ptr_array_add(chosen, g_strdup(vision));
    g_ptr_array_add(chosen, NULL);
    // The strings go with the array of pointers.
    g_ptr_array_set_free_func(chosen, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&chosen), FALSE);
}
