// SPDX-License-Identifier: LGPL-2.1-or-later
// model/mllama_hparams.c — hyper-parameters of Llama 3.2 Vision, as Ollama's converter writes them:
// both halves under "mllama.", in one file or in two.
#define G_LOG_DOMAIN "vlm-model"
#include "base/error.h"
#include "base/number.h"
#include "model/mllama.h"

#include <string.h>

#define MAX_WIDTH 65536u
#define MAX_VOCAB (1u << 20)
#define MAX_TILES 16u
#define MAX_ROWS  65535u  // of a picture, as products take them

static uint32_t round_up_8(uint32_t n)
{
    return (n + 7) / 8 * 8;
}

// ------------------------------------------------------------------------------ text

static gboolean read_cross_layers(const vlm_gguf *gguf, mllama_text_hparams *h, GError **error)
{
    static const char key[] = "mllama.attention.cross_attention_layers";
    g_autofree uint32_t *layers = NULL;
    guint n = 0;

    if (!vlm_gguf_get_u32_array(gguf, key, 1, VLM_MAX_LAYERS, h->n_layer - 1, &layers, &n, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (h->is_cross[layers[i]])
            return vlm_gguf_key_error(gguf, key, error, "names layer %u twice", layers[i]);
        h->is_cross[layers[i]] = 1;
    }
    h->n_cross = n;
    if (n == h->n_layer)
        return vlm_gguf_key_error(gguf, key, error, "names every layer");
    return TRUE;
}

static gboolean read_heads(const vlm_gguf *gguf, mllama_text_hparams *h, GError **error)
{
    uint32_t rotated;

    if (!vlm_gguf_get_u32(gguf, "mllama.attention.head_count", 1, 1024, &h->n_head, error)
        || !vlm_gguf_get_u32_or(gguf, "mllama.attention.head_count_kv", 1, 1024, h->n_head,
                                &h->n_head_kv, error))
        return FALSE;
    if (h->n_head % h->n_head_kv != 0)
        return vlm_gguf_key_error(gguf, "mllama.attention.head_count", error,
                                  "is %u, not a multiple of the %u of head_count_kv", h->n_head,
                                  h->n_head_kv);
    h->head_dim = h->n_embd / h->n_head;
    if (h->n_embd % h->n_head != 0 || h->head_dim % 8 != 0 || h->head_dim > 256)
        return vlm_gguf_key_error(gguf, "mllama.attention.head_count", error,
                                  "is %u: heads of embedding_length %u must have a multiple of 8 "
                                  "and at most 256 elements",
                                  h->n_head, h->n_embd);
    if (!vlm_gguf_get_u32_or(gguf, "mllama.rope.dimension_count", 1, MAX_WIDTH, h->head_dim,
                             &rotated, error))
        return FALSE;
    return rotated == h->head_dim
           || vlm_gguf_key_error(gguf, "mllama.rope.dimension_count", error,
                                 "is %u and heads have %u elements, they must be equal", rotated,
                                 h->head_dim);
}

// The embedding table may have more rows than there are tokens, the output matrix fewer: published
// models never answer with the token of a picture.
static gboolean read_vocab(const vlm_gguf *gguf, mllama_text_hparams *h, GError **error)
{
    const vlm_gguf_tensor *embd = vlm_gguf_tensor_find(gguf, "token_embd.weight");
    const vlm_gguf_tensor *output = vlm_gguf_tensor_find(gguf, "output.weight");
    vlm_gguf_strings tokens;

    if (!vlm_gguf_get_str_array(gguf, "tokenizer.ggml.tokens", 1, MAX_VOCAB, &tokens, error))
        return FALSE;
    h->n_token = tokens.n;
    if (!embd || embd->n_dims != 2 || embd->ne[1] < h->n_token || embd->ne[1] > MAX_VOCAB) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: tensor token_embd.weight has no row for each of the %u tokens",
                    vlm_gguf_path(gguf), h->n_token);
        return FALSE;
    }
    h->n_embd_row = (uint32_t) embd->ne[1];
    h->tied_output = !output;
    h->n_vocab = h->n_token;
    if (output) {
        if (output->n_dims != 2 || output->ne[1] < 1 || output->ne[1] > h->n_embd_row) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: tensor output.weight has more rows than token_embd.weight",
                        vlm_gguf_path(gguf));
            return FALSE;
        }
        h->n_vocab = (uint32_t) MIN(output->ne[1], h->n_token);
    }
    return TRUE;
}

static gboolean check_text_tensors(const vlm_gguf *gguf, mllama_text_hparams *h, GError **error)
{
    const uint64_t d = h->n_embd, hd = h->head_dim, ff = h->n_ff;
    const uint64_t q = (uint64_t) h->n_head * hd, kv = (uint64_t) h->n_head_kv * hd;
    const vlm_gguf_tensor *output = vlm_gguf_tensor_find(gguf, "output.weight");
    const vlm_expected_tensor common[] = {
        { "token_embd.weight", { d, h->n_embd_row }, FALSE },
        { "output_norm.weight", { d }, FALSE },
        { "output.weight", { d, output ? output->ne[1] : 1 }, TRUE },
        { "rope_freqs.weight", { hd / 2 }, TRUE },
        { "blk.%u.attn_norm.weight", { d }, FALSE },
        { "blk.%u.ffn_norm.weight", { d }, FALSE },
        { "blk.%u.ffn_gate.weight", { d, ff }, FALSE },
        { "blk.%u.ffn_up.weight", { d, ff }, FALSE },
        { "blk.%u.ffn_down.weight", { ff, d }, FALSE },
    };
    const vlm_expected_tensor self[] = {
        { "blk.%u.attn_q.weight", { d, q }, FALSE },
        { "blk.%u.attn_k.weight", { d, kv }, FALSE },
        { "blk.%u.attn_v.weight", { d, kv }, FALSE },
        { "blk.%u.attn_output.weight", { q, d }, FALSE },
    };
    const vlm_expected_tensor cross[] = {
        { "blk.%u.cross_attn_q_proj.weight", { d, q }, FALSE },
        { "blk.%u.cross_attn_k_proj.weight", { d, kv }, FALSE },
        { "blk.%u.cross_attn_v_proj.weight", { d, kv }, FALSE },
        { "blk.%u.cross_attn_o_proj.weight", { q, d }, FALSE },
        { "blk.%u.cross_attn_q_norm.weight", { hd }, FALSE },
        { "blk.%u.cross_attn_k_norm.weight", { hd }, FALSE },
        { "blk.%u.cross_attn_attn_gate", { 1 }, FALSE },
        { "blk.%u.cross_attn_mlp_gate", { 1 }, FALSE },
    };
    static const char *const prefixes[] = { "blk.", "token", "output", "rope" };
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint32_t all[VLM_MAX_LAYERS], selves[VLM_MAX_LAYERS], crosses[VLM_MAX_LAYERS];
    uint32_t n_self = 0, n_cross = 0;

    for (uint32_t il = 0; il < h->n_layer; il++) {
        all[il] = il;
        if (h->is_cross[il])
            crosses[n_cross++] = il;
        else
            selves[n_self++] = il;
    }
    if (!vlm_gguf_check_tensors(gguf, common, G_N_ELEMENTS(common), all, h->n_layer, known, error)
        || !vlm_gguf_check_tensors(gguf, self, G_N_ELEMENTS(self), selves, n_self, known, error)
        || !vlm_gguf_check_tensors(gguf, cross, G_N_ELEMENTS(cross), crosses, n_cross, known,
                                   error))
        return FALSE;
    // The other half may be in the same file.
    for (guint i = 0; i < G_N_ELEMENTS(prefixes); i++)
        if (!vlm_gguf_check_no_others(gguf, prefixes[i], known, "mllama", error))
            return FALSE;
    return TRUE;
}

gboolean vlm_mllama_text_hparams_read(const vlm_gguf *gguf, mllama_text_hparams *out,
                                      GError **error)
{
    mllama_text_hparams hparams = { 0 };
    mllama_text_hparams *h = &hparams;

    if (!vlm_gguf_get_u32(gguf, "mllama.block_count", 2, VLM_MAX_LAYERS, &h->n_layer, error)
        || !vlm_gguf_get_u32(gguf, "mllama.embedding_length", 8, MAX_WIDTH, &h->n_embd, error)
        || !vlm_gguf_get_u32(gguf, "mllama.context_length", 1, 1u << 24, &h->ctx_train, error)
        || !vlm_gguf_get_u32(gguf, "mllama.feed_forward_length", 1, 1u << 20, &h->n_ff, error)
        || !vlm_gguf_get_f32(gguf, "mllama.attention.layer_norm_rms_epsilon", 1e-12f, 0.1f,
                             &h->rms_eps, error)
        || !vlm_gguf_get_f32_or(gguf, "mllama.rope.freq_base", 1, 1e12f, 500000, &h->rope_theta,
                                error)
        || !read_heads(gguf, h, error) || !read_cross_layers(gguf, h, error)
        || !read_vocab(gguf, h, error) || !check_text_tensors(gguf, h, error))
        return FALSE;
    *out = hparams;
    return TRUE;
}

// ------------------------------------------------------------------------------ vision

static gboolean read_taps(const vlm_gguf *gguf, mllama_vision_hparams *h, GError **error)
{
    static const char key[] = "mllama.vision.intermediate_layers_indices";
    g_autofree uint32_t *taps = NULL;
    guint n = 0;

    if (!vlm_gguf_get_u32_array(gguf, key, 0, MLLAMA_MAX_TAPS, h->n_layer - 1, &taps, &n, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (i > 0 && taps[i] <= taps[i - 1])
            return vlm_gguf_key_error(gguf, key, error, "is not ascending");
        h->taps[i] = taps[i];
    }
    h->n_tap = n;
    return TRUE;
}

static gboolean read_tiles(const vlm_gguf *gguf, mllama_vision_hparams *h, GError **error)
{
    uint32_t n_channel;

    if (!vlm_gguf_get_u32(gguf, "mllama.vision.image_size", 8, 2048, &h->image_size, error)
        || !vlm_gguf_get_u32(gguf, "mllama.vision.patch_size", 4, 64, &h->patch, error)
        || !vlm_gguf_get_u32(gguf, "mllama.vision.max_num_tiles", 1, MAX_TILES, &h->max_tiles,
                             error)
        || !vlm_gguf_get_u32_or(gguf, "mllama.vision.num_channels", 3, 3, 3, &n_channel, error))
        return FALSE;
    if (h->image_size % h->patch != 0 || h->image_size % 8 != 0)
        return vlm_gguf_key_error(gguf, "mllama.vision.image_size", error,
                                  "is %u, not a multiple of 8 and of patch_size %u", h->image_size,
                                  h->patch);
    const uint32_t side = h->image_size / h->patch;
    h->n_pos = side * side + 1;
    h->n_pad = round_up_8(h->n_pos) - h->n_pos;
    if ((uint64_t) (h->n_pos + h->n_pad) * h->max_tiles > MAX_ROWS)
        return vlm_gguf_key_error(gguf, "mllama.vision.max_num_tiles", error,
                                  "is %u: with %u patches each a picture has more than %u",
                                  h->max_tiles, h->n_pos - 1, MAX_ROWS);
    for (uint32_t rows = 1; rows <= h->max_tiles; rows++)
        h->n_ratio += h->max_tiles / rows;
    if ((uint64_t) (h->n_ratio + 1) * h->max_tiles * h->n_pos * h->n_embd > UINT32_MAX)
        return vlm_gguf_key_error(gguf, "mllama.vision.max_num_tiles", error,
                                  "is %u: the table of positions would have more than 2^32 numbers",
                                  h->max_tiles);
    return TRUE;
}

static gboolean has_weight(const vlm_gguf *gguf, const char *what)
{
    g_autofree char *name = g_strdup_printf("v.blk.0.%s.weight", what);

    return vlm_gguf_tensor_find(gguf, name) != NULL;
}

// Converters of different age have different names, and gave the two matrices of the perceptron
// each other's; the shape tells.
static void find_names(const vlm_gguf *gguf, mllama_vision_hparams *h)
{
    const vlm_gguf_tensor *down = vlm_gguf_tensor_find(gguf, "v.blk.0.ffn_down.weight");
    const gboolean swapped = down && down->n_dims == 2 && h->n_ff != h->n_embd
                             && down->ne[0] == h->n_embd && down->ne[1] == h->n_ff;

    h->norm1 = has_weight(gguf, "attn_norm") ? "attn_norm" : "ln1";
    h->norm2 = has_weight(gguf, "ffn_norm") ? "ffn_norm" : "ln2";
    h->attn_out = has_weight(gguf, "attn_output") ? "attn_output" : "attn_out";
    h->up = swapped ? "ffn_down" : "ffn_up";
    h->down = swapped ? "ffn_up" : "ffn_down";
}

// The tensors of `n` blocks, called "<prefix>.<i>.<what>".
static gboolean check_blocks(const vlm_gguf *gguf, const mllama_vision_hparams *h,
                             const char *prefix, uint32_t n, gboolean gated, GHashTable *known,
                             GError **error)
{
    const uint64_t d = h->n_embd, ff = h->n_ff;
    const struct {
        const char *what, *part;
        uint64_t n_in, n_out;
        gboolean gate;
    } parts[] = {
        { h->norm1, ".weight", d, 0, FALSE }, { h->norm1, ".bias", d, 0, FALSE },
        { h->norm2, ".weight", d, 0, FALSE }, { h->norm2, ".bias", d, 0, FALSE },
        { "attn_q", ".weight", d, d, FALSE }, { "attn_k", ".weight", d, d, FALSE },
        { "attn_v", ".weight", d, d, FALSE }, { h->attn_out, ".weight", d, d, FALSE },
        { h->up, ".weight", d, ff, FALSE },   { h->up, ".bias", ff, 0, FALSE },
        { h->down, ".weight", ff, d, FALSE }, { h->down, ".bias", d, 0, FALSE },
        { "attn_gate", "", 1, 0, TRUE },      { "ffn_gate", "", 1, 0, TRUE },
    };
    uint32_t layers[VLM_MAX_LAYERS];

    for (uint32_t i = 0; i < n; i++)
        layers[i] = i;
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (parts[i].gate && !gated)
            continue;
        g_autofree char *name =
            g_strdup_printf("%s.%%u.%s%s", prefix, parts[i].what, parts[i].part);
        const vlm_expected_tensor row = { name, { parts[i].n_in, parts[i].n_out }, FALSE };
        if (!vlm_gguf_check_tensors(gguf, &row, 1, layers, n, known, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_vision_tensors(const vlm_gguf *gguf, mllama_vision_hparams *h, GError **error)
{
    const uint64_t d = h->n_embd, tiles = (uint64_t) h->max_tiles * d, p = h->patch;
    const uint64_t ratios = h->n_ratio + 1, merged = (h->n_tap + 1) * d;
    const vlm_expected_tensor tower[] = {
        { "v.patch_embd.weight", { p, p, 3, d }, FALSE },
        { "v.class_embd", { d }, FALSE },
        { "v.position_embd.weight", { d, h->n_pos }, FALSE },
        { "v.position_embd.gate", { 1 }, FALSE },
        { "v.tile_position_embd.weight", { tiles * h->n_pos, ratios }, FALSE },
        { "v.tile_position_embd.gate", { 1 }, FALSE },
        { "v.pre_tile_position_embd.weight", { tiles, ratios }, FALSE },
        { "v.pre_tile_position_embd.gate", { 1 }, FALSE },
        { "v.post_tile_position_embd.weight", { tiles, ratios }, FALSE },
        { "v.post_tile_position_embd.gate", { 1 }, FALSE },
        { "v.pre_ln.weight", { d }, FALSE },
        { "v.pre_ln.bias", { d }, FALSE },
        { "v.post_ln.weight", { d }, FALSE },
        { "v.post_ln.bias", { d }, FALSE },
        { "mm.0.weight", { merged, h->n_out }, FALSE },
        { "mm.0.bias", { h->n_out }, FALSE },
    };
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    return vlm_gguf_check_tensors(gguf, tower, G_N_ELEMENTS(tower), NULL, 0, known, error)
           && check_blocks(gguf, h, "v.blk", h->n_layer, FALSE, known, error)
           && check_blocks(gguf, h, "v.global.blk", h->n_global, TRUE, known, error)
           && vlm_gguf_check_no_others(gguf, "v.", known, "mllama", error)
           && vlm_gguf_check_no_others(gguf, "mm.", known, "mllama", error);
}

gboolean vlm_mllama_vision_hparams_read(const vlm_gguf *gguf, mllama_vision_hparams *out,
                                        GError **error)
{
    const vlm_gguf_tensor *bias = vlm_gguf_tensor_find(gguf, "mm.0.bias");
    mllama_vision_hparams hparams = { 0 };
    mllama_vision_hparams *h = &hparams;

    if (!vlm_gguf_get_u32(gguf, "mllama.vision.block_count", 1, VLM_MAX_LAYERS, &h->n_layer, error)
        || !vlm_gguf_get_u32(gguf, "mllama.vision.global.block_count", 1, VLM_MAX_LAYERS,
                             &h->n_global, error)
        || !vlm_gguf_get_u32(gguf, "mllama.vision.embedding_length", 1, MAX_WIDTH, &h->n_embd,
                             error)
        || !vlm_gguf_get_u32(gguf, "mllama.vision.feed_forward_length", 1, MAX_WIDTH, &h->n_ff,
                             error)
        || !vlm_gguf_get_u32(gguf, "mllama.vision.attention.head_count", 1, 1024, &h->n_head, error)
        || !vlm_gguf_get_f32(gguf, "mllama.vision.attention.layer_norm_epsilon", 1e-12f, 0.1f,
                             &h->eps, error)
        || !read_taps(gguf, h, error) || !read_tiles(gguf, h, error))
        return FALSE;
    h->head_dim = h->n_embd / h->n_head;
    if (h->n_embd % h->n_head != 0 || h->head_dim % 8 != 0 || h->head_dim > 256)
        return vlm_gguf_key_error(gguf, "mllama.vision.embedding_length", error,
                                  "is %u: each of the %u heads must have a multiple of 8 and at "
                                  "most 256 elements",
                                  h->n_embd, h->n_head);
    if (!bias || bias->ne[0] < 1 || bias->ne[0] > MAX_WIDTH) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: no usable tensor mm.0.bias",
                    vlm_gguf_path(gguf));
        return FALSE;
    }
    h->n_out = (uint32_t) bias->ne[0];
    find_names(gguf, h);
    if (!check_vision_tensors(gguf, h, error))
        return FALSE;
    *out = hparams;
    return TRUE;
}

// ------------------------------------------------------------------------------ numbers

gboolean vlm_mllama_read_floats(vlm_gguf *gguf, const char *name, uint64_t n, float **out,
                                GError **error)
{
    const vlm_gguf_tensor *t = vlm_gguf_tensor_find(gguf, name);
    const size_t width = t && t->dtype == VLM_DTYPE_F32 ? 4 : 2;
    g_autofree uint8_t *raw = NULL;
    g_autofree float *values = NULL;

    if (!t || (t->dtype != VLM_DTYPE_F32 && t->dtype != VLM_DTYPE_F16 && t->dtype != VLM_DTYPE_BF16)
        || t->bytes != n * width) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: tensor %s is not one of type F32, F16 or BF16 and the expected size",
                    vlm_gguf_path(gguf), name);
        return FALSE;
    }
    raw = g_try_malloc(t->bytes);
    values = g_try_new(float, n);
    if (!raw || !values) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s: no memory for tensor %s",
                    vlm_gguf_path(gguf), name);
        return FALSE;
    }
    if (!vlm_gguf_read_tensor(gguf, t, 0, raw, t->bytes, error))
        return FALSE;
    for (uint64_t i = 0; i < n; i++) {
        uint16_t half = 0;
        if (width == 4) {
            memcpy(&values[i], raw + i * 4, 4);
            continue;
        }
        memcpy(&half, raw + i * 2, 2);
        values[i] = t->dtype == VLM_DTYPE_F16 ? vlm_f16_to_f32(half) : vlm_bf16_to_f32(half);
    }
    *out = g_steal_pointer(&values);
    return TRUE;
}
