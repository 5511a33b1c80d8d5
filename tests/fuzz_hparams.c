// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz_hparams.c — hostile hyper-parameters of text and vision files.
//
// The first byte chooses. 0 and 1: the rest is a text or vision GGUF file. 2 and 3: the rest is a
// list of changes to a sound text or vision file, seven bytes each: what to do, which key, a value.
// 4 and 5: changes to a CLIP or SigLIP file, six bytes each. What loads is checked
// against the promises of the headers.
#include "fuzz.h"

#include "model/dual_hparams.h"
#include "model/mmproj_hparams.h"
#include "model/tokenizer.h"
#include "random_dual.h"
#include "random_model.h"

#include <string.h>

static const char *const text_keys[] = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "rope.dimension_sections",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "attention.layer_norm_rms_epsilon",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "attention.key_length",
    "attention.value_length",
    "n_deepstack_layers",
    "ssm.state_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "ssm.inner_size",
    "attention.recurrent_layers",
    "full_attention_interval",
    "nextn_predict_layers",
    "expert_shared_feed_forward_length",
    "vocab_size",
};

static const char *const vision_keys[] = {
    "clip.has_vision_encoder",
    "clip.vision.projection_dim",
    "clip.vision.image_size",
    "clip.vision.patch_size",
    "clip.vision.embedding_length",
    "clip.vision.feed_forward_length",
    "clip.vision.block_count",
    "clip.vision.attention.head_count",
    "clip.vision.image_mean",
    "clip.vision.image_std",
    "clip.projector_type",
    "clip.vision.projector_type",
    "clip.use_gelu",
    "clip.vision.attention.layer_norm_epsilon",
    "clip.vision.spatial_merge_size",
    "clip.vision.is_deepstack_layers",
    "clip.vision.image_min_pixels",
    "clip.vision.image_max_pixels",
    "clip.vision.window_size",
    "clip.vision.n_wa_pattern",
    "clip.use_silu",
    "clip.vision.projector.scale_factor",
    "clip.vision.preproc_image_size",
    "clip.has_llava_projector",
};

static void smallest_model(random_model *m)
{
    random_model_init(m, "qwen3vlmoe", "tiny");
    m->n_layer = 2;
    m->n_embd = 8;
    m->n_head = 2;
    m->n_head_kv = 1;
    m->head_dim = 6;
    m->rope_dim = 6;
    m->sections[0] = m->sections[1] = m->sections[2] = 1;
    m->interval = 2;
    m->delta_k_heads = 1;
    m->delta_v_heads = 2;
    m->delta_head_dim = 4;
    m->n_ff_shared = 4;
    m->n_ahead = 0;
    m->n_expert = 2;
    m->n_expert_used = 1;
    m->n_ff_expert = 4;
    m->vit_layers = 2;
    m->vit_embd = 8;
    m->vit_heads = 2;
    m->vit_ff = 4;
    m->patch = 8;
    m->n_pos = 16;
    m->n_deepstack = 1;
}

static void check_text(const vlm_text_hparams *h)
{
    uint32_t pairs = 0;

    g_assert_true(h->n_layer >= 1 && h->n_layer <= VLM_MAX_LAYERS);
    g_assert_true(h->n_embd >= 1 && h->n_vocab >= 1 && h->ctx_train >= 1);
    g_assert_true(h->n_head_kv >= 1 && h->n_head % h->n_head_kv == 0);
    g_assert_true(h->head_dim % 2 == 0 && h->rope_dim % 2 == 0 && h->rope_dim <= h->head_dim);
    g_assert_true(h->rms_eps > 0 && h->rope_theta >= 1);
    g_assert_true(h->n_expert == 0 ? h->n_ff > 0 : h->n_ff_expert > 0);
    g_assert_true(h->n_expert_used <= h->n_expert);
    g_assert_true(h->n_deepstack <= h->n_layer && h->n_recurrent < h->n_layer);
    if (h->n_recurrent > 0)
        g_assert_true(h->delta_v_heads % h->delta_k_heads == 0 && h->delta_head_dim % 4 == 0
                      && h->delta_head_dim <= 256);
    for (guint i = 0; i < 4; i++)
        pairs += h->rope_sections[i];
    g_assert_cmpuint(pairs, ==, h->rope == VLM_ROPE_ADJACENT ? 0 : h->rope_dim / 2);
    if (h->rope != VLM_ROPE_IMROPE)
        g_assert_cmpuint(h->rope_dim, ==, h->head_dim);
}

static void check_vision(const vlm_vision_hparams *h)
{
    g_assert_true(h->patch >= 4 && h->merge >= 1 && h->n_ff >= 1);
    g_assert_true(g_str_has_prefix(h->projector, "qwen2") ? h->pos_side == 0 : h->pos_side >= 1);
    g_assert_true(h->window % h->merge == 0 && (h->window > 0) == (h->full_every > 0));
    g_assert_true(h->n_layer >= 1 && h->n_layer <= VLM_MAX_LAYERS);
    g_assert_true(h->n_head * h->head_dim == h->n_embd && h->head_dim % 4 == 0);
    g_assert_true(h->eps > 0 && h->n_deepstack <= VLM_MAX_DEEPSTACK);
    if (g_str_equal(h->projector, "idefics3")) {
        g_assert_true(h->pos_side % h->merge == 0 && h->image_size % 4 == 0);
        g_assert_true(h->pos_side * h->patch <= h->image_size && h->longest_edge >= 1);
    }
    if (g_str_equal(h->projector, "mlp"))
        g_assert_true(h->merge == 1 && h->pos_side * h->patch == h->image_size);
    g_assert_true(h->image_min_pixels <= h->image_max_pixels);
    for (guint i = 0; i < 3; i++)
        g_assert_true(h->std[i] > 0 && h->mean[i] >= 0);
    for (guint i = 0; i < h->n_deepstack; i++)
        g_assert_true(h->deepstack_layers[i] < h->n_layer);
}

static void load(GBytes *bytes, gboolean vision)
{
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", NULL);
    g_autoptr(GError) error = NULL;
    vlm_vision_hparams v;
    vlm_text_hparams t;

    if (!gguf)
        return;
    if (vision ? vlm_vision_hparams_read(gguf, &v, &error)
               : vlm_text_hparams_read(gguf, &t, &error)) {
        if (vision)
            check_vision(&v);
        else
            check_text(&t);
    } else {
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
}

static const char *const projectors[] = { "idefics3",         "none",
                                          "qwen3vl_merger",   "qwen2vl_merger",
                                          "qwen2.5vl_merger", "mlp" };

static void change(gguf_writer *w, const char *key, guint action, uint32_t value)
{
    const int32_t numbers[4] = { (int8_t) value, (int8_t) (value >> 8), (int8_t) (value >> 16),
                                 (int8_t) (value >> 24) };
    const gboolean flags[4] = { value & 1, value & 2, value & 4, value & 8 };
    float real;

    memcpy(&real, &value, sizeof real);
    const float reals[4] = { real, (float) numbers[1], (float) numbers[2], (float) numbers[3] };
    const guint n = value >> 30 ? 3 : 1 + (value >> 28);

    gguf_writer_remove(w, key);
    if (action == 0)
        gguf_writer_u32(w, key, value);
    else if (action == 1)
        gguf_writer_u32(w, key, value & 0xff);
    else if (action == 2)
        gguf_writer_f32(w, key, real);
    else if (action == 3)
        gguf_writer_bool(w, key, value & 1);
    else if (action == 4)
        gguf_writer_str(w, key, projectors[value % G_N_ELEMENTS(projectors)]);
    else if (action == 5)
        gguf_writer_i32_array(w, key, numbers, n);
    else if (action == 6)
        gguf_writer_f32_array(w, key, reals, n);
    else if (action == 7)
        gguf_writer_bool_array(w, key, flags, n);
}

static void apply_changes(const uint8_t *data, size_t size, gboolean vision)
{
    random_model model;

    smallest_model(&model);
    if (size > 0 && data[0] % 2)
        model.family = "qwen3vl";
    if (size > 0 && data[0] & 8) {
        model.family = data[0] % 2 ? "qwen35" : "qwen35moe";
        model.n_deepstack = 0;
        model.n_ahead = data[0] >> 4 & 1;
        model.fused_gate_up = data[0] >> 5 & 1;
    } else if (size > 0 && data[0] % 4 >= 2) {
        model.family = "smolvlm";
        model.n_deepstack = 0;
    }
    if (size > 0 && data[0] % 16 >= 12) {
        model.family = data[0] % 2 ? "qwen2.5vl" : "qwen2vl";
        model.n_wa_pattern = 2;
    }
    if (size > 0 && data[0] % 64 >= 60) {
        model.family = "llava";
        model.merge = 1;
        model.old_names = data[0] % 2;
    }
    g_autoptr(gguf_writer) w = vision ? random_model_mmproj(&model) : random_model_text(&model);
    for (size_t i = 1; i + 7 <= size && i < 80; i += 7) {
        uint32_t value;
        g_autofree char *key =
            vision ? g_strdup(vision_keys[data[i + 1] % G_N_ELEMENTS(vision_keys)])
                   : g_strconcat(random_model_arch(&model), ".",
                                 text_keys[data[i + 1] % G_N_ELEMENTS(text_keys)], NULL);

        memcpy(&value, data + i + 2, sizeof value);
        change(w, key, data[i] % 9, value);
    }
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    load(bytes, vision);
}

static const char *const dual_keys[] = {
    "clip.text.block_count",
    "clip.text.embedding_length",
    "clip.text.attention.head_count",
    "clip.text.projection_dim",
    "clip.text.feed_forward_length",
    "clip.text.context_length",
    "clip.vision.block_count",
    "clip.vision.embedding_length",
    "clip.vision.image_size",
    "clip.vision.patch_size",
    "clip.vision.image_mean",
    "clip.vision.image_std",
    "clip.vision.projection_dim",
    "clip.vision.attention.head_count",
    "clip.has_text_encoder",
    "clip.has_vision_encoder",
    "clip.use_gelu",
    "clip.model_type",
    "clip.logit_scale",
    "clip.logit_bias",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.model",
};

// Changes to a sound dual encoder; what loads as a vocabulary must take any text.
static void change_dual(const uint8_t *data, size_t size, gboolean siglip)
{
    random_dual model;
    vlm_dual_hparams h;

    random_dual_init(&model, siglip);
    model.n_layer = model.vit_layers = 1;
    g_autoptr(gguf_writer) w = random_dual_file(&model, RANDOM_DUAL_BOTH);
    for (size_t i = 0; i + 6 <= size && i < 60; i += 6) {
        uint32_t value;

        memcpy(&value, data + i + 2, sizeof value);
        change(w, dual_keys[data[i + 1] % G_N_ELEMENTS(dual_keys)], data[i] % 9, value);
    }
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", NULL);
    g_autoptr(GError) error = NULL;
    if (!gguf)
        return;
    if (vlm_dual_hparams_read(gguf, gguf, &h, &error)) {
        g_assert_true(h.side >= 1 && h.side * h.patch <= h.image_size && h.dim >= 1);
        g_assert_true(h.text.n_head * h.text.head_dim == h.text.n_embd);
        g_assert_true(h.vision.n_head * h.vision.head_dim == h.vision.n_embd);
        for (guint i = 0; i < 3; i++)
            g_assert_true(h.std[i] > 0 && h.mean[i] >= 0);
    } else {
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    }
    g_autoptr(vlm_tokenizer) tok = vlm_tokenizer_new_labels(gguf, NULL);
    g_autoptr(GArray) ids =
        tok ? vlm_tokenizer_encode(tok, (const char *) data, (gssize) size, FALSE, NULL) : NULL;
    for (guint i = 0; ids && i < ids->len; i++)
        g_assert_cmpuint(g_array_index(ids, uint32_t, i), <, vlm_tokenizer_n_vocab(tok));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 4 || data[0] == 5) {
        change_dual(data + 1, size - 1, data[0] == 5);
        return 0;
    }
    const guint mode = data[0] % 4;
    if (mode >= 2) {
        apply_changes(data + 1, size - 1, mode == 3);
        return 0;
    }
    g_autoptr(GBytes) bytes = g_bytes_new(data + 1, size - 1);
    load(bytes, mode == 1);
    return 0;
}
