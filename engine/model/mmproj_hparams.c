// SPDX-License-Identifier: LGPL-2.1-or-later
// model/mmproj_hparams.c — hyper-parameters of a vision tower.
#define G_LOG_DOMAIN "vlm-model"

#include "model/mmproj_hparams.h"

#include "base/number.h"
#include "model/family.h"

#include <string.h>

#define MAX_WIDTH 65536u
#define MAX_HEAD  256u  // as ops/attention.h takes them

gboolean vlm_vision_projector(const vlm_gguf *gguf, const char **projector, GError **error)
{
    static const char key[] = "clip.projector_type";
    g_autofree char *blocks = NULL;
    const char *arch;
    gboolean llava;

    if (!vlm_gguf_get_str_or(gguf, "clip.vision.projector_type", NULL, projector, error)
        || !vlm_gguf_get_str_or(gguf, "general.architecture", "", &arch, error)
        || !vlm_gguf_get_bool_or(gguf, "clip.has_llava_projector", FALSE, &llava, error))
        return FALSE;
    // Other converters put the tower's keys beside the decoder's, under its name.
    blocks = g_strdup_printf("%s.vision.block_count", arch);
    if (!*projector && !g_str_equal(arch, "clip") && vlm_gguf_has(gguf, blocks))
        *projector = arch;
    else if (!*projector && llava && !vlm_gguf_has(gguf, key))
        *projector = "mlp";  // the first files, before there were kinds
    return *projector || vlm_gguf_get_str(gguf, key, projector, error);
}

static const vlm_vision_tower *find_tower(const vlm_gguf *gguf, GError **error)
{
    const vlm_vision_tower *tower;
    const char *arch, *projector;
    g_autofree char *known = NULL;
    gboolean has_vision;

    if (!vlm_gguf_get_str(gguf, "general.architecture", &arch, error)
        || !vlm_gguf_get_bool_or(gguf, "clip.has_vision_encoder", FALSE, &has_vision, error))
        return NULL;
    if (!g_str_equal(arch, "clip")) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: is not the vision part (mmproj) of a model", vlm_gguf_path(gguf));
        return NULL;
    }
    if (!has_vision) {
        vlm_gguf_key_error(gguf, "clip.has_vision_encoder", error, "is not true");
        return NULL;
    }
    if (!vlm_vision_projector(gguf, &projector, error))
        return NULL;
    tower = vlm_family_tower(projector, &known);
    if (!tower) {
        g_autofree char *shown =
            g_utf8_substring(projector, 0, MIN(g_utf8_strlen(projector, -1), 40));
        vlm_gguf_key_error(gguf, "clip.projector_type", error, "is %s, only %s are supported",
                           shown, known);
    }
    return tower;
}

// Neither key means quick GELU.
static gboolean check_activation(const vlm_gguf *gguf, const vlm_vision_tower *tower,
                                 vlm_vision_hparams *h, GError **error)
{
    gboolean gelu, silu;

    if (!vlm_gguf_get_bool_or(gguf, "clip.use_gelu", FALSE, &gelu, error)
        || !vlm_gguf_get_bool_or(gguf, "clip.use_silu", FALSE, &silu, error))
        return FALSE;
    if (h->act == VLM_ACT_GELU_TANH && (!gelu || silu))
        return vlm_gguf_key_error(gguf, "clip.use_gelu", error,
                                  "is not true or clip.use_silu is, other activations are not "
                                  "supported");
    if (h->act == VLM_ACT_SILU && (!silu || gelu))
        return vlm_gguf_key_error(gguf, "clip.use_silu", error,
                                  "is not true or clip.use_gelu is, other activations are not "
                                  "supported");
    if (tower->gelu_is_erf && gelu && !silu) {
        h->act = VLM_ACT_GELU_ERF;
        return TRUE;
    }
    if (h->act == VLM_ACT_GELU_QUICK && (gelu || silu))
        return vlm_gguf_key_error(gguf, gelu ? "clip.use_gelu" : "clip.use_silu", error,
                                  "is true, but a %s tower has quick GELU", h->projector);
    return TRUE;
}

// Keys that would change the graph in a way that the engine does not know.
static gboolean check_unsupported(const vlm_gguf *gguf, const vlm_vision_tower *tower,
                                  vlm_vision_hparams *h, GError **error)
{
    static const char *const windows[] = { "clip.vision.wa_layer_indexes",
                                           "clip.vision.window_size", "clip.vision.n_wa_pattern" };
    const guint n = h->window > 0 ? 1 : G_N_ELEMENTS(windows);
    uint32_t scale;

    if (!check_activation(gguf, tower, h, error)
        || (!tower->scale_factor
            && !vlm_gguf_get_u32_or(gguf, "clip.vision.projector.scale_factor", 1, 8, 1, &scale,
                                    error)))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (vlm_gguf_has(gguf, windows[i]))
            return vlm_gguf_key_error(gguf, windows[i], error,
                                      "is set, but such attention windows are not supported");
    }
    return TRUE;
}

static gboolean read_colours(const vlm_gguf *gguf, const char *key, float min, float *out,
                             GError **error)
{
    g_autofree float *values = NULL;
    guint n;

    if (!vlm_gguf_get_f32_array(gguf, key, 3, 3, &values, &n, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (!(values[i] >= min && values[i] <= 10.0f))
            return vlm_gguf_key_error(gguf, key, error, "has the value %g, expected %g to 10",
                                      (double) values[i], (double) min);
        out[i] = values[i];
    }
    return TRUE;
}

gboolean vlm_vision_read_pixel_limits(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error)
{
    if (!vlm_gguf_get_u32_or(gguf, "clip.vision.image_min_pixels", 1, 1u << 30, h->image_min_pixels,
                             &h->image_min_pixels, error)
        || !vlm_gguf_get_u32_or(gguf, "clip.vision.image_max_pixels", 1, 1u << 30,
                                h->image_max_pixels, &h->image_max_pixels, error))
        return FALSE;
    if (h->image_min_pixels > h->image_max_pixels)
        return vlm_gguf_key_error(gguf, "clip.vision.image_min_pixels", error,
                                  "is %u, more than the %u of image_max_pixels",
                                  h->image_min_pixels, h->image_max_pixels);
    return TRUE;
}

// Old converters gave the two matrices of the perceptron each other's names; the shape tells.
static void find_swapped(const vlm_gguf *gguf, const vlm_vision_tower *tower, vlm_vision_hparams *h)
{
    const vlm_gguf_tensor *down = vlm_gguf_tensor_find(gguf, "v.blk.0.ffn_down.weight");

    h->swapped_ffn = down && down->n_dims == 2 && tower->may_swap_ffn && !h->gated_ffn
                     && h->n_ff != h->n_embd && down->ne[0] == h->n_embd && down->ne[1] == h->n_ff;
}

// The width of the perceptron: from its key, or from its tensors where the key can't be trusted.
static gboolean read_ffn(const vlm_gguf *gguf, const vlm_vision_tower *tower, vlm_vision_hparams *h,
                         GError **error)
{
    static const char key[] = "clip.vision.feed_forward_length";
    const vlm_gguf_tensor *up = vlm_gguf_tensor_find(gguf, "v.blk.0.ffn_up.bias");
    const vlm_gguf_tensor *down = vlm_gguf_tensor_find(gguf, "v.blk.0.ffn_down.bias");

    if (!tower->ffn_by_tensors)
        return vlm_gguf_get_u32(gguf, key, 1, MAX_WIDTH, &h->n_ff, error);
    // One of the two biases is as wide as the tower.
    const uint64_t n = up && down ? (up->ne[0] != h->n_embd ? up->ne[0] : down->ne[0]) : h->n_embd;
    if (n > MAX_WIDTH)
        return vlm_gguf_key_error(gguf, key, error,
                                  "aside, the feed-forward network has a width of "
                                  "%" G_GUINT64_FORMAT ", expected 1 to %u",
                                  n, MAX_WIDTH);
    h->n_ff = (uint32_t) n;
    return TRUE;
}

// The width of the rows for the decoder: from its key, or from the projector.
static gboolean read_projection(const vlm_gguf *gguf, const vlm_vision_tower *tower,
                                vlm_vision_hparams *h, GError **error)
{
    static const char key[] = "clip.vision.projection_dim";
    const vlm_gguf_tensor *bias = vlm_gguf_tensor_find(gguf, "mm.2.bias");

    if (!tower->projector_of_rows)
        return vlm_gguf_get_u32(gguf, key, 1, MAX_WIDTH, &h->projection_dim, error);
    if (!bias || bias->ne[0] > MAX_WIDTH) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: tensor mm.2.bias %s",
                    vlm_gguf_path(gguf), bias ? "is too wide" : "is missing");
        return FALSE;
    }
    h->projection_dim = (uint32_t) bias->ne[0];
    return TRUE;
}

// The tensors of all towers, with those that only some have left out where they are optional.
static gboolean check_tower(const vlm_gguf *gguf, const vlm_vision_hparams *h,
                            const uint32_t *layers, GHashTable *known, GError **error)
{
    const uint64_t d = h->n_embd, ff = h->n_ff, p = h->patch;
    const uint64_t n_pos = (uint64_t) h->pos_side * h->pos_side + (h->class_token ? 1 : 0);
    const gboolean last_norm = !h->norm_first;
    static const char *const ffn[][4] = {
        { "v.blk.%u.ffn_up.weight", "v.blk.%u.ffn_up.bias", "v.blk.%u.ffn_down.weight",
          "v.blk.%u.ffn_down.bias" },
        { "v.blk.%u.ffn_down.weight", "v.blk.%u.ffn_down.bias", "v.blk.%u.ffn_up.weight",
          "v.blk.%u.ffn_up.bias" },
    };
    const char *const *name = ffn[h->swapped_ffn];
    const struct {
        gboolean has;
        vlm_expected_tensor tensor;
    } tower[] = {
        { TRUE, { "v.patch_embd.weight", { p, p, 3, d }, FALSE } },
        { h->temporal > 1, { "v.patch_embd.weight.1", { p, p, 3, d }, FALSE } },
        { h->patch_bias, { "v.patch_embd.bias", { d }, FALSE } },
        { n_pos > 0, { "v.position_embd.weight", { d, n_pos }, FALSE } },
        { h->class_token, { "v.class_embd", { d }, FALSE } },
        { h->norm_first, { "v.pre_ln.weight", { d }, FALSE } },
        { h->norm_first, { "v.pre_ln.bias", { d }, FALSE } },
        { last_norm, { "v.post_ln.weight", { d }, FALSE } },
        { last_norm && !h->rms_norms, { "v.post_ln.bias", { d }, FALSE } },
        { TRUE, { "v.blk.%u.ln1.weight", { d }, FALSE } },
        { !h->rms_norms, { "v.blk.%u.ln1.bias", { d }, FALSE } },
        { !h->separate_qkv, { "v.blk.%u.attn_qkv.weight", { d, 3 * d }, FALSE } },
        { !h->separate_qkv, { "v.blk.%u.attn_qkv.bias", { 3 * d }, FALSE } },
        { h->separate_qkv, { "v.blk.%u.attn_q.weight", { d, d }, FALSE } },
        { h->separate_qkv, { "v.blk.%u.attn_q.bias", { d }, FALSE } },
        { h->separate_qkv, { "v.blk.%u.attn_k.weight", { d, d }, FALSE } },
        { h->separate_qkv, { "v.blk.%u.attn_k.bias", { d }, FALSE } },
        { h->separate_qkv, { "v.blk.%u.attn_v.weight", { d, d }, FALSE } },
        { h->separate_qkv, { "v.blk.%u.attn_v.bias", { d }, FALSE } },
        { TRUE, { "v.blk.%u.attn_out.weight", { d, d }, FALSE } },
        { TRUE, { "v.blk.%u.attn_out.bias", { d }, FALSE } },
        { TRUE, { "v.blk.%u.ln2.weight", { d }, FALSE } },
        { !h->rms_norms, { "v.blk.%u.ln2.bias", { d }, FALSE } },
        { h->gated_ffn, { "v.blk.%u.ffn_gate.weight", { d, ff }, FALSE } },
        { h->gated_ffn, { "v.blk.%u.ffn_gate.bias", { ff }, FALSE } },
        { TRUE, { name[0], { d, ff }, FALSE } },
        { TRUE, { name[1], { ff }, FALSE } },
        { TRUE, { name[2], { ff, d }, FALSE } },
        { TRUE, { name[3], { d }, FALSE } },
    };

    for (guint i = 0; i < G_N_ELEMENTS(tower); i++)
        if (tower[i].has
            && !vlm_gguf_check_tensors(gguf, &tower[i].tensor, 1, layers, h->n_layer, known, error))
            return FALSE;
    return TRUE;
}

static gboolean check_vision_tensors(const vlm_gguf *gguf, const vlm_vision_tower *tower,
                                     const vlm_vision_hparams *h, GError **error)
{
    const uint64_t out = h->projection_dim;
    const uint64_t merged = (uint64_t) h->n_embd * h->merge * h->merge;
    const uint64_t hidden = tower->projector_of_rows ? out : merged;
    const vlm_expected_tensor two[] = {
        { "mm.0.weight", { merged, hidden }, FALSE },
        { "mm.0.bias", { hidden }, FALSE },
        { "mm.2.weight", { hidden, out }, FALSE },
        { "mm.2.bias", { out }, FALSE },
    };
    const vlm_expected_tensor one[] = {
        { "mm.model.fc.weight", { merged, out }, FALSE },
    };
    const vlm_expected_tensor *own = tower->one_matrix ? one : two;
    const guint n_own = tower->one_matrix ? G_N_ELEMENTS(one) : G_N_ELEMENTS(two);
    const vlm_expected_tensor taps[] = {
        { "v.deepstack.%u.norm.weight", { merged }, FALSE },
        { "v.deepstack.%u.norm.bias", { merged }, FALSE },
        { "v.deepstack.%u.fc1.weight", { merged, merged }, FALSE },
        { "v.deepstack.%u.fc1.bias", { merged }, FALSE },
        { "v.deepstack.%u.fc2.weight", { merged, out }, FALSE },
        { "v.deepstack.%u.fc2.bias", { out }, FALSE },
    };
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint32_t layers[VLM_MAX_LAYERS];

    for (uint32_t il = 0; il < h->n_layer; il++)
        layers[il] = il;
    return check_tower(gguf, h, layers, known, error)
           && vlm_gguf_check_tensors(gguf, own, n_own, layers, h->n_layer, known, error)
           && vlm_gguf_check_tensors(gguf, taps, G_N_ELEMENTS(taps), h->deepstack_layers,
                                     h->n_deepstack, known, error)
           && vlm_gguf_check_no_others(gguf, "v.", known, h->projector, error)
           && vlm_gguf_check_no_others(gguf, "mm.", known, h->projector, error);
}

gboolean vlm_vision_hparams_read(const vlm_gguf *gguf, vlm_vision_hparams *out, GError **error)
{
    const vlm_vision_tower *tower = find_tower(gguf, error);

    if (!tower)
        return FALSE;
    vlm_vision_hparams hparams = tower->defaults, *h = &hparams;
    if (!check_unsupported(gguf, tower, h, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.block_count", 1, VLM_MAX_LAYERS, &h->n_layer, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.embedding_length", 1, MAX_WIDTH, &h->n_embd, error)
        || !read_ffn(gguf, tower, h, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.attention.head_count", 1, 1024, &h->n_head, error)
        || !read_projection(gguf, tower, h, error)
        || !vlm_gguf_get_f32(gguf, "clip.vision.attention.layer_norm_epsilon", 1e-12f, 0.1f,
                             &h->eps, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.patch_size", 4, 64, &h->patch, error)
        || !tower->read(gguf, h, error)
        || !read_colours(gguf, "clip.vision.image_mean", 0, h->mean, error)
        || !read_colours(gguf, "clip.vision.image_std", 1e-3f, h->std, error))
        return FALSE;
    h->head_dim = h->n_embd / h->n_head;
    if (h->n_embd % h->n_head != 0 || h->head_dim % 4 != 0 || h->head_dim > MAX_HEAD)
        return vlm_gguf_key_error(gguf, "clip.vision.embedding_length", error,
                                  "is %u, not %u heads of a multiple of 4 up to %u elements",
                                  h->n_embd, h->n_head, MAX_HEAD);
    find_swapped(gguf, tower, h);
    if (!check_vision_tensors(gguf, tower, h, error))
        return FALSE;
    *out = hparams;
    return TRUE;
}

gboolean vlm_hparams_check_pair(const vlm_gguf *text_gguf, const vlm_text_hparams *text,
                                const vlm_gguf *vision_gguf, const vlm_vision_hparams *vision,
                                GError **error)
{
    if (vision->projection_dim != text->n_embd) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s does not belong to %s: it makes rows of width %u, the text model takes %u",
                    vlm_gguf_path(vision_gguf), vlm_gguf_path(text_gguf), vision->projection_dim,
                    text->n_embd);
        return FALSE;
    }
    if (vision->n_deepstack != text->n_deepstack) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s does not belong to %s: it has %u DeepStack layers, the text model takes %u",
                    vlm_gguf_path(vision_gguf), vlm_gguf_path(text_gguf), vision->n_deepstack,
                    text->n_deepstack);
        return FALSE;
    }
    return TRUE;
}
