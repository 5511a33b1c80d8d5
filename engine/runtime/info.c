// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/info.c — what a model is and needs; where models are found.
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "model/mmproj_hparams.h"
#include "runtime/engine_private.h"

// Lanes assumed when no device is open; only the padding of small matrices depends on it.
#define NOMINAL_LANES 32u

// Adds up elements and bytes by type: "Q8_0 (142 tensors), F32 (61 tensors)".
static void count_tensors(const vlm_gguf *gguf, guint counts[VLM_N_DTYPE], uint64_t *n_parameters,
                          uint64_t *n_expert_parameters)
{
    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++) {
        const vlm_gguf_tensor *t = vlm_gguf_tensor_at(gguf, i);
        uint64_t n = 1;
        for (uint32_t d = 0; d < t->n_dims; d++)
            n *= t->ne[d];
        counts[t->dtype]++;
        *n_parameters += n;
        if (strstr(t->name, "_exps."))
            *n_expert_parameters += n;
    }
}

static char *describe_types(const guint counts[VLM_N_DTYPE])
{
    guint left[VLM_N_DTYPE];
    GString *out = g_string_new(NULL);

    memcpy(left, counts, sizeof left);
    for (;;) {
        guint best = 0;
        for (guint i = 1; i < VLM_N_DTYPE; i++)
            if (left[i] > left[best])
                best = i;
        if (left[best] == 0)
            return g_string_free(out, FALSE);
        g_string_append_printf(out, "%s%s (%u tensors)", out->len ? ", " : "",
                               vlm_dtype_name((vlm_dtype) best), left[best]);
        left[best] = 0;
    }
}

// Rows of one item in a step. A step should take about 0.25 s on a CPU (45 GFLOP/s assumed) and
// be large enough to keep a GPU busy; fixed when the engine opens, so that results don't depend on
// how fast it happens to run.
uint32_t vlm_info_step_rows(const vlm_model_info *info, gboolean is_cpu)
{
    const double flops_per_row = 2.0 * (double) MAX(info->n_active, 1);

    if (!is_cpu)
        return 512;
    return (uint32_t) CLAMP(0.25 * 45e9 / flops_per_row, 16.0, 256.0) / 16 * 16;
}

uint64_t vlm_info_work_bytes(const vlm_model *model, const vlm_device *dev, uint32_t max_tok)
{
    const vlm_ranker *ranker = model->family->ranker;

    if (ranker)
        return ranker->bytes(model->data, VLM_RANK_ROWS / model->sizes.n_ctx_train + 1,
                             model->sizes.n_ctx_train);
    return model->family->decode_bytes(model->data, dev, max_tok, VLM_MAX_SEQUENCES)
           + (uint64_t) VLM_MAX_SEQUENCES * model->sizes.n_vocab * 4 + VLM_ARGS_BYTES
           + (uint64_t) 2 * VLM_MAX_SEQUENCES * 4 + 4 * (uint64_t) VLM_GUARD_BYTES;
}

void vlm_info_set_work(vlm_model_info *info, const vlm_model *model, const vlm_device *dev,
                       uint32_t max_tok)
{
    const vlm_model_sizes *s = &model->sizes;

    info->scratch_bytes = vlm_info_work_bytes(model, dev, max_tok);
    if (s->n_expert > 0)
        info->expert_table_bytes =
            vlm_expert_store_overhead(s->n_layer, s->n_expert, max_tok * s->n_expert_used);
}

vlm_model_info *vlm_info_of_model(vlm_model *model, const char *path, const char *mmproj,
                                  GError **error)
{
    const vlm_model_sizes *s = &model->sizes;
    g_autoptr(vlm_model_info) info = g_new0(vlm_model_info, 1);
    guint counts[VLM_N_DTYPE] = { 0 };
    uint64_t n_expert_parameters = 0;
    const char *text = NULL;

    info->path = g_strdup(path);
    info->mmproj_path = g_strdup(mmproj || !model->vision ? mmproj : vlm_gguf_path(model->vision));
    if (!vlm_gguf_get_str(model->text, "general.architecture", &text, error))
        return NULL;
    info->architecture = g_strdup(text);
    if (!vlm_gguf_get_str_or(model->text, "general.name", NULL, &text, error))
        return NULL;
    info->name = g_strdup(text);
    info->ranks_labels = model->family->ranker != NULL;
    text = "none";
    if (model->vision && !info->ranks_labels && !vlm_vision_projector(model->vision, &text, error))
        return NULL;
    info->projector = model->vision ? g_strdup(text) : NULL;
    count_tensors(model->text, counts, &info->n_parameters, &n_expert_parameters);
    info->n_active = info->n_parameters - n_expert_parameters;
    if (s->n_expert > 0)
        info->n_active += n_expert_parameters / s->n_expert * s->n_expert_used;
    const gboolean second_file =
        model->vision
        && !g_str_equal(vlm_gguf_identity(model->text), vlm_gguf_identity(model->vision));
    if (second_file)
        count_tensors(model->vision, counts, &info->n_parameters, &n_expert_parameters);
    info->quantisation = describe_types(counts);
    info->file_bytes =
        vlm_gguf_file_bytes(model->text) + (second_file ? vlm_gguf_file_bytes(model->vision) : 0);
    info->n_layer = s->n_layer;
    info->n_embd = s->n_embd;
    info->n_head = s->n_head;
    info->n_head_kv = s->n_head_kv;
    info->head_dim = s->head_dim;
    info->n_vocab = s->n_vocab;
    info->context_length = s->n_ctx_train;
    info->n_expert = s->n_expert;
    info->n_expert_used = s->n_expert_used;
    info->n_recurrent = s->n_recurrent;
    info->vision_layers = s->vision_layers;
    info->vision_embd = s->vision_embd;
    info->wants_film_length = model->family->protocol->tells_length || model->sizes.film_groups > 0;
    info->patch_size = s->patch;
    info->merge_size = s->merge;
    if (!vlm_model_weight_bytes(model, NOMINAL_LANES, &info->weight_bytes, &info->expert_bytes,
                                error))
        return NULL;
    for (guint type = 0; !info->ranks_labels && type < VLM_N_KV_TYPE; type++) {
        const vlm_kv_layout kv = vlm_model_kv_layout(model, type);
        info->kv_bytes_per_token[type] = vlm_kv_page_bytes(&kv) / VLM_PAGE_TOKENS;
        const vlm_kv_layout cross = vlm_model_cross_layout(model, type);
        if (s->cross_rows > 0)
            info->picture_bytes[type] =
                vlm_kv_pool_growth(vlm_kv_page_bytes(&cross), vlm_kv_cross_pages(s->cross_rows));
    }
    const vlm_device nominal = { .subgroup_size = NOMINAL_LANES };
    if (s->state_bytes > 0)
        info->state_bytes = VLM_SESSION_STATES * (s->state_bytes + VLM_GUARD_BYTES);
    vlm_info_set_work(info, model, &nominal, vlm_info_step_rows(info, FALSE) + VLM_MAX_SEQUENCES);
    info->frame_bytes = vlm_info_frame_bytes(model);
    return g_steal_pointer(&info);
}

const char *vlm_kv_type_name(vlm_kv_type type)
{
    static const char *const names[VLM_N_KV_TYPE] = { "f16", "f32", "q8", "q4" };

    return names[type];
}

vlm_model_info *vlm_model_info_read(const char *model, const char *mmproj, vlm_vision vision,
                                    GError **error)
{
    g_autofree char *text_path = NULL, *vision_path = NULL;
    g_autoptr(vlm_model) opened =
        vlm_model_find(model, mmproj, vision, &text_path, &vision_path, error)
            ? vlm_model_open(text_path, vision_path, error)
            : NULL;

    return opened ? vlm_info_of_model(opened, text_path, vision_path, error) : NULL;
}

uint64_t vlm_model_context_bytes(const vlm_model_info *info, vlm_kv_type type,
                                 uint32_t context_size)
{
    if (info->ranks_labels)  // no context
        return 0;
    return vlm_kv_pool_growth(info->kv_bytes_per_token[type] * VLM_PAGE_TOKENS,
                              (uint64_t) vlm_context_pages(context_size))
           + info->state_bytes + info->picture_bytes[type];
}

void vlm_model_info_free(vlm_model_info *info)
{
    if (!info)
        return;
    g_free(info->path);
    g_free(info->mmproj_path);
    g_free(info->architecture);
    g_free(info->name);
    g_free(info->projector);
    g_free(info->quantisation);
    g_free(info);
}

char *vlm_find_mmproj(const char *model, GError **error)
{
    return vlm_model_find_mmproj(model, error);
}

char *vlm_default_model(GError **error)
{
    const char *asked = vlm_env_string(VLM_ENV_MODEL);
    const char *const places[] = { VLM_DATA_DIR, VLM_SOURCE_MODELS };

    if (asked)
        return g_strdup(asked);
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(places[i], "shapes.gguf", NULL);
        if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
            return g_steal_pointer(&path);
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                "no model was given and the default one is neither in %s nor in %s", places[0],
                places[1]);
    return NULL;
}
