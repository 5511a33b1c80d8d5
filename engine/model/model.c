// SPDX-License-Identifier: LGPL-2.1-or-later
// model/model.c — see model/model.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/model.h"

#include <string.h>

#include "base/error.h"

// Every special token that the protocol writes must be one in the vocabulary: as plain text the
// model would not understand it.
static gboolean check_protocol(const vlm_model *model, GError **error)
{
    const vlm_protocol *p = model->family->protocol;
    const char *const texts[] = { p->system_open,  p->system_close, p->user_open,
                                  p->answer_open,  p->answer_close, p->visual_open,
                                  p->visual_close, p->image_token,  p->video_token };

    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *at = texts[i] ? texts[i] : "", *end;

        while ((at = strstr(at, "<|")) && (end = strstr(at, "|>"))) {
            g_autofree char *name = g_strndup(at, (gsize) (end + 2 - at));
            uint32_t id;

            if (!vlm_tokenizer_find(model->tokenizer, name, &id)
                || vlm_tokenizer_type(model->tokenizer, id) != VLM_TOKEN_CONTROL) {
                g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                            "%s: the vocabulary has no special token %s",
                            vlm_gguf_path(model->text), name);
                return FALSE;
            }
            at = end;
        }
    }
    for (const char *const *name = p->specials; name && *name; name++) {
        uint32_t id;
        if (!vlm_tokenizer_find(model->tokenizer, *name, &id)
            || vlm_tokenizer_type(model->tokenizer, id) == VLM_TOKEN_NORMAL) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: the vocabulary has no special token %s", vlm_gguf_path(model->text),
                        *name);
            return FALSE;
        }
    }
    return TRUE;
}

vlm_model *vlm_model_open(const char *path, const char *mmproj, GError **error)
{
    g_autoptr(vlm_model) model = g_new0(vlm_model, 1);
    const char *arch = NULL;

    model->text = vlm_gguf_open(path, error);
    if (!model->text)
        return NULL;
    if (!vlm_gguf_get_str_or(model->text, "general.architecture", "", &arch, error))
        return NULL;
    const gboolean is_vision = strcmp(arch, "clip") == 0;
    if (!vlm_family_knows(model->text, is_vision ? NULL : error)) {
        if (is_vision)
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: this is a vision file (mmproj); give the language model here and this "
                        "file as mmproj",
                        path);
        return NULL;
    }
    if (is_vision && !mmproj)  // a dual encoder: both towers are in the file, or reading says what
        mmproj = path;         // is missing
    if (mmproj && !(model->vision = vlm_gguf_open(mmproj, error)))
        return NULL;
    model->family = vlm_family_find(model->text, model->vision, error);
    if (!model->family)
        return NULL;
    model->data = model->family->read(model->text, model->vision, &model->sizes, error);
    if (!model->data)
        return NULL;
    model->tokenizer = (model->family->ranker ? model->family->ranker->tokenizer
                                              : vlm_tokenizer_new)(model->text, error);
    if (!model->tokenizer || !check_protocol(model, error))
        return NULL;
    return g_steal_pointer(&model);
}

void vlm_model_free(vlm_model *model)
{
    if (!model)
        return;
    if (model->data)
        model->family->free(model->data);
    vlm_tokenizer_unref(model->tokenizer);
    g_clear_pointer(&model->arenas, g_ptr_array_unref);
    vlm_expert_store_free(model->experts);
    vlm_gguf_unref(model->text);
    vlm_gguf_unref(model->vision);
    g_free(model);
}

gboolean vlm_model_upload(vlm_model *model, vlm_device *dev, const vlm_upload_params *params,
                          GError **error)
{
    g_autoptr(vlm_loader) loader = vlm_loader_create(dev);

    if (params->limit_experts)
        vlm_loader_limit_experts(loader, params->expert_slot_bytes,
                                 params->max_tok * model->sizes.n_expert_used);
    if (!model->family->want(model->data, loader, model->text, model->vision, error)
        || !vlm_loader_upload(loader, params->on_progress, params->user_data, &model->arenas,
                              error)) {
        g_prefix_error(error, "%s: ", vlm_gguf_path(model->text));
        return FALSE;
    }
    model->experts = vlm_loader_take_experts(loader);
    model->weight_bytes = vlm_loader_bytes(loader);
    model->load_bytes = vlm_loader_host_bytes(loader);
    return TRUE;
}

gboolean vlm_model_weight_bytes(vlm_model *model, uint32_t subgroup_size, uint64_t *bytes,
                                uint64_t *expert_bytes, GError **error)
{
    // Sizing asks a device for nothing but these.
    vlm_device nominal = { .name = "any device",
                           .subgroup_size = subgroup_size,
                           .max_alloc = UINT64_MAX / 2 };
    g_autoptr(vlm_loader) loader = vlm_loader_create(&nominal);

    if (!model->family->want(model->data, loader, model->text, model->vision, error))
        return FALSE;
    *bytes = vlm_loader_bytes(loader);
    *expert_bytes = vlm_loader_expert_bytes(loader);
    return TRUE;
}

vlm_kv_layout vlm_model_kv_layout(const vlm_model *model, vlm_kv_type type)
{
    if (model->family->ranker)
        return (vlm_kv_layout){ 0 };
    return (vlm_kv_layout){ .type = type,
                            .n_layer = model->sizes.n_layer - model->sizes.n_recurrent
                                       - model->sizes.n_cross,
                            .n_kv_head = model->sizes.n_head_kv,
                            .head_dim = model->sizes.head_dim };
}

// Queries meet pictures without having been through rope_append, so their keys must not be
// transformed: q8 where the context is q4.
vlm_kv_layout vlm_model_cross_layout(const vlm_model *model, vlm_kv_type type)
{
    vlm_kv_layout layout = vlm_model_kv_layout(model, type == VLM_KV_Q4 ? VLM_KV_Q8 : type);

    layout.n_layer = model->sizes.n_cross;
    return layout;
}

vlm_kv_pool *vlm_model_kv_pool(const vlm_model *model, vlm_device *dev, vlm_kv_type type)
{
    const vlm_kv_layout kv = vlm_model_kv_layout(model, type);
    const vlm_kv_layout cross = vlm_model_cross_layout(model, type);
    vlm_kv_pool *pool = vlm_kv_pool_create(dev, &kv, model->sizes.state_bytes);

    if (cross.n_layer > 0)
        vlm_kv_pool_add_cross(pool, &cross, model->sizes.cross_rows);
    return pool;
}

static size_t common_prefix(const char *a, const char *b)
{
    size_t n = 0;

    while (a[n] && g_ascii_tolower(a[n]) == g_ascii_tolower(b[n]))
        n++;
    return n;
}

// A file name without "mmproj" and the mark that follows or precedes it.
static char *without_mmproj(const char *name)
{
    g_autofree char *lower = g_ascii_strdown(name, -1);
    const char *at = strstr(lower, "mmproj");
    const size_t from = (size_t) (at - lower);
    size_t to = from + strlen("mmproj");

    if (strchr("-_.", name[to]) && name[to])
        to++;
    return g_strdup_printf("%.*s%s", (int) from, name, name + to);
}

// Whether a file that isn't a vision file has a vision tower, too, or is a dual encoder's.
static gboolean holds_both(const char *path)
{
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open(path, NULL);
    const vlm_family *family = gguf ? vlm_family_find(gguf, NULL, NULL) : NULL;
    const char *arch = NULL;

    if (family && family->ranker)
        return family->ranker->has_vision(gguf);
    return gguf && vlm_gguf_tensor_find(gguf, "v.patch_embd.weight")
           && vlm_gguf_get_str_or(gguf, "general.architecture", "clip", &arch, NULL)
           && vlm_gguf_tensor_find(gguf, "token_embd.weight") && strcmp(arch, "clip") != 0;
}

char *vlm_model_find_mmproj(const char *path, GError **error)
{
    if (holds_both(path))
        return g_strdup(path);

    g_autofree char *dir_name = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *best = NULL;
    g_autoptr(GDir) dir = g_dir_open(dir_name, 0, NULL);
    size_t best_length = 0;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *lower = g_ascii_strdown(name, -1);
        if (!strstr(lower, "mmproj") || !g_str_has_suffix(lower, ".gguf")
            || strcmp(name, base) == 0)
            continue;
        g_autofree char *rest = without_mmproj(name);
        const size_t length = common_prefix(rest, base);
        // the order of a folder's entries is anybody's guess: the first by name wins a tie
        if (!best || length > best_length || (length == best_length && strcmp(name, best) < 0)) {
            g_free(g_steal_pointer(&best));
            best = g_strdup(name);
            best_length = length;
        }
    }
    if (best)
        return g_build_filename(dir_name, best, NULL);
    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: no such file", path);
    else
        g_set_error(
            error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
            "%s: no vision file found in %s (*mmproj*.gguf); a vision-language model comes as "
            "two files, say where the second is with mmproj",
            path, dir_name);
    return NULL;
}
