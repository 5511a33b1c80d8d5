// SPDX-License-Identifier: LGPL-2.1-or-later
// model/dual_hparams.c — hyper-parameters of a dual encoder.
#define G_LOG_DOMAIN "vlm-model"
#include "model/dual_hparams.h"

#include <math.h>
#include <string.h>

#define MAX_WIDTH 65536u

// What published CLIP models have learned, ln 100, for files that don't say.
#define DEFAULT_LOGIT_SCALE 4.6051702f

static gboolean has_tower(const vlm_gguf *gguf, const char *key)
{
    const char *arch = NULL;
    gboolean has = FALSE;

    return vlm_gguf_get_str(gguf, "general.architecture", &arch, NULL) && g_str_equal(arch, "clip")
           && vlm_gguf_get_bool_or(gguf, key, FALSE, &has, NULL) && has;
}

gboolean vlm_dual_has_text(const vlm_gguf *gguf)
{
    return has_tower(gguf, "clip.has_text_encoder");
}

// A vision tower alone with a projector is that of a vision-language model.
gboolean vlm_dual_has_vision(const vlm_gguf *gguf)
{
    gboolean llava = FALSE;

    return has_tower(gguf, "clip.has_vision_encoder") && !vlm_gguf_has(gguf, "clip.projector_type")
           && vlm_gguf_get_bool_or(gguf, "clip.has_llava_projector", FALSE, &llava, NULL) && !llava;
}

// The keys that both towers have, under "clip.text." and "clip.vision.".
static gboolean read_tower(const vlm_gguf *gguf, const char *tower, vlm_encoder_hparams *h,
                           uint32_t *dim, GError **error)
{
    const struct {
        const char *name;
        uint32_t max, *out;
    } rows[] = {
        { "block_count", VLM_MAX_LAYERS, &h->n_layer },
        { "embedding_length", MAX_WIDTH, &h->n_embd },
        { "feed_forward_length", MAX_WIDTH, &h->n_ff },
        { "attention.head_count", 1024, &h->n_head },
        { "projection_dim", MAX_WIDTH, dim },
    };
    g_autofree char *width = g_strdup_printf("clip.%s.embedding_length", tower);
    g_autofree char *eps = g_strdup_printf("clip.%s.attention.layer_norm_epsilon", tower);
    g_autofree char *name = g_strdup_printf("%c.blk.0.ffn_down.weight", tower[0]);

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *key = g_strdup_printf("clip.%s.%s", tower, rows[i].name);
        if (!vlm_gguf_get_u32(gguf, key, 1, rows[i].max, rows[i].out, error))
            return FALSE;
    }
    if (!vlm_gguf_get_f32(gguf, eps, 1e-12f, 0.1f, &h->eps, error))
        return FALSE;
    h->head_dim = h->n_embd / h->n_head;
    if (h->n_embd % h->n_head != 0 || h->head_dim % 4 != 0 || h->head_dim > 256)
        return vlm_gguf_key_error(gguf, width, error,
                                  "is %u, not %u heads of a multiple of 4 up to 256", h->n_embd,
                                  h->n_head);
    // Published files have the two matrices of the perceptron under each other's names; the shape
    // tells, unless it is square: then the file is taken for one of those.
    const vlm_gguf_tensor *down = vlm_gguf_tensor_find(gguf, name);
    h->swapped = down && down->n_dims == 2 && down->ne[0] == h->n_embd && down->ne[1] == h->n_ff;
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

static gboolean read_vision(const vlm_gguf *gguf, vlm_dual_hparams *h, uint32_t *dim,
                            GError **error)
{
    if (!read_tower(gguf, "vision", &h->vision, dim, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.patch_size", 4, 64, &h->patch, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.image_size", 32, 2048, &h->image_size, error)
        || !read_colours(gguf, "clip.vision.image_mean", 0, h->mean, error)
        || !read_colours(gguf, "clip.vision.image_std", 1e-3f, h->std, error))
        return FALSE;
    h->side = h->image_size / h->patch;
    if (h->side == 0)
        return vlm_gguf_key_error(gguf, "clip.vision.image_size", error,
                                  "is %u, less than a patch of %u", h->image_size, h->patch);
    if (h->siglip && *dim != h->vision.n_embd)
        return vlm_gguf_key_error(gguf, "clip.vision.projection_dim", error,
                                  "is %u, but the tower's width is %u", *dim, h->vision.n_embd);
    return TRUE;
}

static gboolean read_text(const vlm_gguf *gguf, vlm_dual_hparams *h, uint32_t *dim, GError **error)
{
    vlm_gguf_strings tokens;

    if (!read_tower(gguf, "text", &h->text, dim, error)
        || !vlm_gguf_get_u32(gguf, "clip.text.context_length", 4, 4096, &h->n_ctx, error)
        || !vlm_gguf_get_str_array(gguf, "tokenizer.ggml.tokens", 1, 1u << 20, &tokens, error))
        return FALSE;
    h->n_vocab = tokens.n;
    h->text.causal = !h->siglip;
    return TRUE;
}

// What is the same for both towers is read from the text file.
static gboolean read_kind(const vlm_gguf *gguf, vlm_dual_hparams *h, GError **error)
{
    const char *kind;
    gboolean gelu, silu;
    float scale;

    if (!vlm_gguf_get_str_or(gguf, "clip.model_type", "clip", &kind, error)
        || !vlm_gguf_get_bool_or(gguf, "clip.use_gelu", FALSE, &gelu, error)
        || !vlm_gguf_get_bool_or(gguf, "clip.use_silu", FALSE, &silu, error))
        return FALSE;
    h->siglip = g_str_equal(kind, "siglip");
    if (!h->siglip && !g_str_equal(kind, "clip")) {
        g_autofree char *shown = g_utf8_substring(kind, 0, MIN(g_utf8_strlen(kind, -1), 40));
        return vlm_gguf_key_error(gguf, "clip.model_type", error,
                                  "is %s, only clip and siglip are supported", shown);
    }
    if (silu)
        return vlm_gguf_key_error(gguf, "clip.use_silu", error, "is true, which is not supported");
    if (!vlm_gguf_get_f32_or(gguf, "clip.logit_scale", -20.0f, 20.0f,
                             h->siglip ? NAN : DEFAULT_LOGIT_SCALE, &scale, error)
        || !vlm_gguf_get_f32_or(gguf, "clip.logit_bias", -1000.0f, 1000.0f, h->siglip ? NAN : 0.0f,
                                &h->bias, error))
        return FALSE;
    if (isnan(scale) || isnan(h->bias))
        return vlm_gguf_key_error(gguf, isnan(scale) ? "clip.logit_scale" : "clip.logit_bias",
                                  error, "is missing");
    h->scale = expf(scale);
    h->text.act = h->vision.act = h->siglip ? VLM_ACT_GELU_TANH
                                  : gelu    ? VLM_ACT_GELU_ERF
                                            : VLM_ACT_GELU_QUICK;
    return TRUE;
}

// The blocks of one tower, whose tensors start with its letter.
static gboolean check_blocks(const vlm_gguf *gguf, char letter, const vlm_encoder_hparams *h,
                             GHashTable *known, GError **error)
{
    static const struct {
        const char *name;
        char in, out;  // d width, f feed-forward; in 0: a vector
    } rows[] = {
        { "ln1.weight", 0, 'd' },        { "ln1.bias", 0, 'd' },
        { "ln2.weight", 0, 'd' },        { "ln2.bias", 0, 'd' },
        { "attn_q.weight", 'd', 'd' },   { "attn_q.bias", 0, 'd' },
        { "attn_k.weight", 'd', 'd' },   { "attn_k.bias", 0, 'd' },
        { "attn_v.weight", 'd', 'd' },   { "attn_v.bias", 0, 'd' },
        { "attn_out.weight", 'd', 'd' }, { "attn_out.bias", 0, 'd' },
        { "ffn_up.weight", 'd', 'f' },   { "ffn_up.bias", 0, 'f' },
        { "ffn_down.weight", 'f', 'd' }, { "ffn_down.bias", 0, 'd' },
    };
    uint32_t layers[VLM_MAX_LAYERS];

    for (uint32_t il = 0; il < h->n_layer; il++)
        layers[il] = il;
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strdup_printf("%c.blk.%%u.%s", letter, rows[i].name);
        const gboolean swap = h->swapped && strstr(name, ".ffn_");
        const gboolean up = strstr(name, ".ffn_up.") != NULL;
        vlm_expected_tensor row = { .name = name };
        char in = rows[i].in, out = rows[i].out;

        if (swap) {
            in = in ? (up ? 'f' : 'd') : 0;
            out = up ? 'd' : 'f';
        }
        row.ne[0] = (in ? in : out) == 'f' ? h->n_ff : h->n_embd;
        row.ne[1] = !in ? 0 : out == 'f' ? h->n_ff : h->n_embd;
        if (!vlm_gguf_check_tensors(gguf, &row, 1, layers, h->n_layer, known, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_tensors(const vlm_gguf *text, const vlm_gguf *vision,
                              const vlm_dual_hparams *h, GError **error)
{
    const uint64_t t = h->text.n_embd, v = h->vision.n_embd, p = h->patch, ff = h->vision.n_ff;
    const uint64_t n_patch = (uint64_t) h->side * h->side;
    const vlm_expected_tensor text_rows[] = {
        { "t.token_embd.weight", { t, h->n_vocab }, FALSE },
        { "t.position_embd.weight", { t, h->n_ctx }, FALSE },
        { "t.post_ln.weight", { t }, FALSE },
        { "t.post_ln.bias", { t }, FALSE },
    };
    const vlm_expected_tensor text_clip[] = { { "text_projection.weight", { t, h->dim }, FALSE } };
    const vlm_expected_tensor text_siglip[] = {
        { "t.head.weight", { t, h->dim }, FALSE },
        { "t.head.bias", { h->dim }, FALSE },
    };
    const vlm_expected_tensor vision_rows[] = {
        { "v.patch_embd.weight", { p, p, 3, v }, FALSE },
        { "v.position_embd.weight", { v, n_patch + !h->siglip }, FALSE },
        { "v.post_ln.weight", { v }, FALSE },
        { "v.post_ln.bias", { v }, FALSE },
    };
    const vlm_expected_tensor vision_clip[] = {
        { "v.class_embd", { v }, FALSE },
        { "v.pre_ln.weight", { v }, FALSE },
        { "v.pre_ln.bias", { v }, FALSE },
        { "visual_projection.weight", { v, h->dim }, FALSE },
    };
    const vlm_expected_tensor vision_siglip[] = {
        { "v.patch_embd.bias", { v }, FALSE },          { "v.head.probe", { v }, FALSE },
        { "v.head.attn_q.weight", { v, v }, FALSE },    { "v.head.attn_q.bias", { v }, FALSE },
        { "v.head.attn_k.weight", { v, v }, FALSE },    { "v.head.attn_k.bias", { v }, FALSE },
        { "v.head.attn_v.weight", { v, v }, FALSE },    { "v.head.attn_v.bias", { v }, FALSE },
        { "v.head.attn_out.weight", { v, v }, FALSE },  { "v.head.attn_out.bias", { v }, FALSE },
        { "v.head.ln.weight", { v }, FALSE },           { "v.head.ln.bias", { v }, FALSE },
        { "v.head.ffn_up.weight", { v, ff }, FALSE },   { "v.head.ffn_up.bias", { ff }, FALSE },
        { "v.head.ffn_down.weight", { ff, v }, FALSE }, { "v.head.ffn_down.bias", { v }, FALSE },
    };
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

#define CHECK(gguf, rows)                                                                          \
    vlm_gguf_check_tensors(gguf, rows, G_N_ELEMENTS(rows), NULL, 0, known, error)
    return CHECK(text, text_rows) && (h->siglip ? CHECK(text, text_siglip) : CHECK(text, text_clip))
           && check_blocks(text, 't', &h->text, known, error) && CHECK(vision, vision_rows)
           && (h->siglip ? CHECK(vision, vision_siglip) : CHECK(vision, vision_clip))
           && check_blocks(vision, 'v', &h->vision, known, error)
           && vlm_gguf_check_no_others(text, "", known, h->siglip ? "siglip" : "clip", error)
           && vlm_gguf_check_no_others(vision, "", known, h->siglip ? "siglip" : "clip", error);
#undef CHECK
}

gboolean vlm_dual_hparams_read(const vlm_gguf *text, const vlm_gguf *vision, vlm_dual_hparams *out,
                               GError **error)
{
    vlm_dual_hparams h = { 0 };
    uint32_t dim = 0;

    if (!vlm_dual_has_text(text) || !vlm_dual_has_vision(vision)) {
        const gboolean no_text = !vlm_dual_has_text(text);
        return vlm_gguf_key_error(no_text ? text : vision,
                                  no_text ? "clip.has_text_encoder" : "clip.has_vision_encoder",
                                  error,
                                  "is not true, or this is not the tower of a dual encoder; name "
                                  "the text file as the model and the vision file as mmproj");
    }
    if (!read_kind(text, &h, error) || !read_text(text, &h, &h.dim, error)
        || !read_vision(vision, &h, &dim, error))
        return FALSE;
    if (dim != h.dim) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: pictures become %u numbers, but labels %u (%s)", vlm_gguf_path(vision),
                    dim, h.dim, vlm_gguf_path(text));
        return FALSE;
    }
    if (!check_tensors(text, vision, &h, error))
        return FALSE;
    *out = h;
    return TRUE;
}
