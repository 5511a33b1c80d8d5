// SPDX-License-Identifier: LGPL-2.1-or-later
// model/hparams.c — hyper-parameters of a decoder.
#define G_LOG_DOMAIN "vlm-model"

#include "model/hparams.h"

#include "base/number.h"
#include "model/family.h"

#include <string.h>

#define MAX_WIDTH   65536u
#define MAX_VOCAB   (1u << 20)
#define MAX_CONTEXT (1u << 24)
#define MAX_HEADS   1024u
#define MAX_EXPERTS 1024u
#define MAX_USED    16u   // experts per token, as ops/moe.h takes them
#define MAX_HEAD    256u  // elements, a multiple of 8, as ops/attention.h takes them

// A key of this architecture: "ARCH.NAME".
typedef struct arch_key {
    char text[64];
} arch_key;

static arch_key key_of(const vlm_text_hparams *h, const char *name)
{
    arch_key key;

    g_snprintf(key.text, sizeof key.text, "%s.%s", h->arch, name);
    return key;
}

#define KEY(name) key_of(h, name).text

static gboolean get_u32(const vlm_gguf *gguf, const vlm_text_hparams *h, const char *name,
                        uint32_t max, uint32_t *out, GError **error)
{
    return vlm_gguf_get_u32(gguf, KEY(name), 1, max, out, error);
}

static gboolean read_arch(const vlm_gguf *gguf, vlm_text_hparams *h, gboolean *sparse,
                          gboolean *hybrid, GError **error)
{
    g_autofree char *known = NULL;
    const char *name;

    if (!vlm_gguf_get_str(gguf, "general.architecture", &name, error))
        return FALSE;
    const vlm_text_arch *arch = vlm_family_text_arch(name, &known);
    if (arch) {
        h->arch = arch->name;
        h->rope = arch->rope;
        h->head_norms = arch->head_norms;
        h->ffn_norm = arch->hybrid ? "post_attention_norm" : "ffn_norm";
        h->qkv_bias = arch->qkv_bias;
        *sparse = arch->sparse;
        *hybrid = arch->hybrid;
        return TRUE;
    }
    if (g_str_equal(name, "clip")) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: is the vision part (mmproj) of a model, give the text part here",
                    vlm_gguf_path(gguf));
        return FALSE;
    }
    g_autofree char *shown = g_utf8_substring(name, 0, MIN(g_utf8_strlen(name, -1), 40));
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                "%s: architecture %s is not supported, only %s are", vlm_gguf_path(gguf), shown,
                known);
    return FALSE;
}

// head_count_kv: one number, or one per layer that are all the same.
static gboolean read_kv_heads(const vlm_gguf *gguf, vlm_text_hparams *h, GError **error)
{
    const arch_key key = key_of(h, "attention.head_count_kv");
    g_autofree uint32_t *per_layer = NULL;
    guint n;

    if (!vlm_gguf_has(gguf, key.text)) {
        h->n_head_kv = h->n_head;
        return TRUE;
    }
    if (vlm_gguf_get_u32(gguf, key.text, 1, MAX_HEADS, &h->n_head_kv, NULL))
        return TRUE;
    if (!vlm_gguf_get_u32_array(gguf, key.text, h->n_layer, h->n_layer, MAX_HEADS, &per_layer, &n,
                                NULL))
        return vlm_gguf_get_u32(gguf, key.text, 1, MAX_HEADS, &h->n_head_kv, error);
    h->n_head_kv = per_layer[0];
    for (guint i = 0; i < n; i++) {
        if (per_layer[i] != h->n_head_kv || per_layer[i] == 0)
            return vlm_gguf_key_error(gguf, key.text, error,
                                      "is %u for layer %u and %u for layer 0", per_layer[i], i,
                                      h->n_head_kv);
    }
    return TRUE;
}

static gboolean read_heads(const vlm_gguf *gguf, vlm_text_hparams *h, GError **error)
{
    const gboolean has_width = vlm_gguf_has(gguf, KEY("attention.key_length"));
    uint32_t value_length;

    if (!get_u32(gguf, h, "attention.head_count", MAX_HEADS, &h->n_head, error)
        || !read_kv_heads(gguf, h, error))
        return FALSE;
    if (h->n_head_kv > h->n_head || h->n_head % h->n_head_kv != 0)
        return vlm_gguf_key_error(gguf, KEY("attention.head_count"), error,
                                  "is %u, not a multiple of the %u of head_count_kv", h->n_head,
                                  h->n_head_kv);
    if (!has_width && h->n_embd % h->n_head != 0)
        return vlm_gguf_key_error(gguf, KEY("attention.head_count"), error,
                                  "is %u and does not divide embedding_length, which is %u",
                                  h->n_head, h->n_embd);
    if (!vlm_gguf_get_u32_or(gguf, KEY("attention.key_length"), 1, MAX_WIDTH, h->n_embd / h->n_head,
                             &h->head_dim, error)
        || !vlm_gguf_get_u32_or(gguf, KEY("attention.value_length"), 1, MAX_WIDTH, h->head_dim,
                                &value_length, error))
        return FALSE;
    if (h->head_dim < 8 || h->head_dim > MAX_HEAD || h->head_dim % 8 != 0) {
        const char *key = has_width ? "attention.key_length" : "attention.head_count";
        return vlm_gguf_key_error(gguf, KEY(key), error,
                                  "makes heads of %u elements, expected a multiple of 8 up to %u",
                                  h->head_dim, MAX_HEAD);
    }
    if (value_length != h->head_dim)
        return vlm_gguf_key_error(gguf, KEY("attention.value_length"), error,
                                  "is %u and key_length is %u, they must be equal", value_length,
                                  h->head_dim);
    return TRUE;
}

static gboolean read_sections(const vlm_gguf *gguf, vlm_text_hparams *h, GError **error)
{
    g_autofree uint32_t *sections = NULL;
    guint n;
    uint64_t sum = 0;

    if (!vlm_gguf_get_u32_array(gguf, KEY("rope.dimension_sections"), 3, 4, 512, &sections, &n,
                                error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        h->rope_sections[i] = sections[i];
        sum += sections[i];
    }
    if (sum != h->rope_dim / 2 || h->rope_sections[3] != 0)
        return vlm_gguf_key_error(gguf, KEY("rope.dimension_sections"), error,
                                  "is [%u, %u, %u, %u], expected three numbers that add up to %u",
                                  h->rope_sections[0], h->rope_sections[1], h->rope_sections[2],
                                  h->rope_sections[3], h->rope_dim / 2);
    return TRUE;
}

static gboolean read_rope(const vlm_gguf *gguf, vlm_text_hparams *h, GError **error)
{
    const char *scaling;

    // Llama's files leave out a base that is Llama's own.
    h->rope_theta = 10000;
    if ((h->rope != VLM_ROPE_ADJACENT || vlm_gguf_has(gguf, KEY("rope.freq_base")))
        && !vlm_gguf_get_f32(gguf, KEY("rope.freq_base"), 1, 1e12f, &h->rope_theta, error))
        return FALSE;
    if (!vlm_gguf_get_u32_or(gguf, KEY("rope.dimension_count"), 2, h->head_dim, h->head_dim,
                             &h->rope_dim, error)
        || !vlm_gguf_get_str_or(gguf, KEY("rope.scaling.type"), "none", &scaling, error))
        return FALSE;
    if (h->rope_dim % 2 != 0)
        return vlm_gguf_key_error(gguf, KEY("rope.dimension_count"), error,
                                  "is %u, expected an even number", h->rope_dim);
    if (!g_str_equal(scaling, "none"))
        return vlm_gguf_key_error(gguf, KEY("rope.scaling.type"), error,
                                  "is something else than \"none\", which is not supported");
    if (h->rope == VLM_ROPE_IMROPE)
        return read_sections(gguf, h, error);
    if (h->rope_dim != h->head_dim)
        return vlm_gguf_key_error(gguf, KEY("rope.dimension_count"), error,
                                  "is %u and heads have %u elements, they must be equal",
                                  h->rope_dim, h->head_dim);
    return h->rope != VLM_ROPE_MROPE || read_sections(gguf, h, error);
}

static gboolean read_ffn(const vlm_gguf *gguf, vlm_text_hparams *h, gboolean sparse, GError **error)
{
    if (!sparse)
        return get_u32(gguf, h, "feed_forward_length", 1u << 20, &h->n_ff, error);
    if (!get_u32(gguf, h, "expert_count", MAX_EXPERTS, &h->n_expert, error)
        || !get_u32(gguf, h, "expert_used_count", MAX_USED, &h->n_expert_used, error)
        || !get_u32(gguf, h, "expert_feed_forward_length", MAX_WIDTH, &h->n_ff_expert, error))
        return FALSE;
    if (h->n_expert_used > h->n_expert)
        return vlm_gguf_key_error(gguf, KEY("expert_used_count"), error,
                                  "is %u, more than expert_count %u", h->n_expert_used,
                                  h->n_expert);
    h->fused_gate_up = vlm_gguf_tensor_find(gguf, "blk.0.ffn_gate_up_exps.weight") != NULL;
    return TRUE;
}

// Layers that predict tokens further ahead sit behind the others and are counted with them. They
// are not used.
static gboolean read_layers(const vlm_gguf *gguf, vlm_text_hparams *h, gboolean hybrid,
                            uint32_t *n_ahead, GError **error)
{
    if (!get_u32(gguf, h, "block_count", VLM_MAX_LAYERS, &h->n_layer, error)
        || !vlm_gguf_get_u32_or(gguf, KEY("nextn_predict_layers"), 0, hybrid ? 8 : 0, 0, n_ahead,
                                error))
        return FALSE;
    if (*n_ahead >= h->n_layer)
        return vlm_gguf_key_error(gguf, KEY("nextn_predict_layers"), error,
                                  "is %u and leaves none of the %u layers of block_count", *n_ahead,
                                  h->n_layer);
    h->n_layer -= *n_ahead;
    return TRUE;
}

// Which layers are recurrent: said for each, or every layer but each N-th.
static gboolean read_layer_kinds(const vlm_gguf *gguf, vlm_text_hparams *h, uint32_t n_block,
                                 GError **error)
{
    static const char list[] = "attention.recurrent_layers", every[] = "full_attention_interval";
    const gboolean has_list = vlm_gguf_has(gguf, KEY(list));
    g_autofree uint8_t *flags = NULL;
    uint32_t interval = 4;
    guint n;

    if (has_list
            ? !vlm_gguf_get_bool_array(gguf, KEY(list), h->n_layer, n_block, &flags, &n, error)
            : !vlm_gguf_get_u32_or(gguf, KEY(every), 1, VLM_MAX_LAYERS, interval, &interval, error))
        return FALSE;
    for (uint32_t il = 0; il < h->n_layer; il++) {
        h->recurrent[il] = has_list ? flags[il] != 0 : (il + 1) % interval != 0;
        h->n_recurrent += h->recurrent[il];
    }
    if (h->n_recurrent == 0 || h->n_recurrent == h->n_layer)
        return vlm_gguf_key_error(gguf, has_list ? KEY(list) : KEY(every), error,
                                  "makes %u of %u layers recurrent, expected some and not all",
                                  h->n_recurrent, h->n_layer);
    return TRUE;
}

// Shape of the recurrent layers. The number of all channels is what products can have as rows.
#define MAX_CHANNELS (1u << 19)
static gboolean read_delta(const vlm_gguf *gguf, vlm_text_hparams *h, uint32_t n_block,
                           GError **error)
{
    uint32_t kernel, inner;

    if (!read_layer_kinds(gguf, h, n_block, error)
        || !get_u32(gguf, h, "ssm.group_count", MAX_HEADS, &h->delta_k_heads, error)
        || !get_u32(gguf, h, "ssm.time_step_rank", MAX_HEADS, &h->delta_v_heads, error)
        || !get_u32(gguf, h, "ssm.state_size", 256, &h->delta_head_dim, error)
        || !get_u32(gguf, h, "ssm.inner_size", MAX_CHANNELS, &inner, error)
        || !vlm_gguf_get_u32(gguf, KEY("ssm.conv_kernel"), 4, 4, &kernel, error))
        return FALSE;
    if (h->delta_head_dim % 4 != 0)
        return vlm_gguf_key_error(gguf, KEY("ssm.state_size"), error, "is %u, not a multiple of 4",
                                  h->delta_head_dim);
    if (h->delta_v_heads % h->delta_k_heads != 0)
        return vlm_gguf_key_error(gguf, KEY("ssm.time_step_rank"), error,
                                  "is %u, not a multiple of the %u of ssm.group_count",
                                  h->delta_v_heads, h->delta_k_heads);
    if (inner != h->delta_v_heads * h->delta_head_dim)
        return vlm_gguf_key_error(gguf, KEY("ssm.inner_size"), error,
                                  "is %u, expected ssm.time_step_rank times ssm.state_size, %u",
                                  inner, h->delta_v_heads * h->delta_head_dim);
    if ((2 * h->delta_k_heads + h->delta_v_heads) * h->delta_head_dim > MAX_CHANNELS)
        return vlm_gguf_key_error(gguf, KEY("ssm.group_count"), error,
                                  "is %u: more than %u channels of queries, keys and values",
                                  h->delta_k_heads, MAX_CHANNELS);
    return h->n_expert == 0
           || get_u32(gguf, h, "expert_shared_feed_forward_length", MAX_WIDTH, &h->n_ff_shared,
                      error);
}

static gboolean read_vocab(const vlm_gguf *gguf, vlm_text_hparams *h, GError **error)
{
    vlm_gguf_strings tokens;
    uint32_t declared;

    if (!vlm_gguf_get_str_array(gguf, "tokenizer.ggml.tokens", 1, MAX_VOCAB, &tokens, error)
        || !vlm_gguf_get_u32_or(gguf, KEY("vocab_size"), 1, MAX_VOCAB, tokens.n, &declared, error))
        return FALSE;
    if (declared != tokens.n)
        return vlm_gguf_key_error(gguf, KEY("vocab_size"), error,
                                  "is %u, but tokenizer.ggml.tokens has %u entries", declared,
                                  tokens.n);
    h->n_vocab = tokens.n;
    return TRUE;
}

// Keys that would change the graph in a way that the engine does not know, with the only value
// that leaves it as it is.
static gboolean check_unsupported(const vlm_gguf *gguf, const vlm_text_hparams *h, GError **error)
{
    static const struct {
        const char *name;
        uint32_t neutral;
    } numbers[] = {
        { "attention.sliding_window", 0 },  { "expert_gating_func", 1 },  // softmax
        { "expert_group_count", 0 },        { "expert_shared_count", 0 },
        { "leading_dense_block_count", 0 },
    };
    gboolean norm;
    float scale;

    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        const uint32_t neutral = numbers[i].neutral;
        uint32_t value;

        if (!vlm_gguf_get_u32_or(gguf, KEY(numbers[i].name), neutral, neutral, neutral, &value,
                                 error))
            return FALSE;
    }
    if (!vlm_gguf_get_bool_or(gguf, KEY("expert_weights_norm"), TRUE, &norm, error)
        || !vlm_gguf_get_f32_or(gguf, KEY("expert_weights_scale"), 1, 1, 1, &scale, error))
        return FALSE;
    return norm
           || vlm_gguf_key_error(gguf, KEY("expert_weights_norm"), error,
                                 "is false, which is not supported");
}

gboolean vlm_gguf_check_tensors(const vlm_gguf *gguf, const vlm_expected_tensor *rows, guint n_rows,
                                const uint32_t *layers, guint n_layers, GHashTable *known,
                                GError **error)
{
    for (guint r = 0; r < n_rows; r++) {
        const char *percent = strstr(rows[r].name, "%u");
        const guint n = percent ? n_layers : 1;
        uint32_t n_dims = 0;

        while (n_dims < VLM_MAX_EXPECTED_DIMS && rows[r].ne[n_dims] != 0)
            n_dims++;
        for (guint i = 0; i < n; i++) {
            g_autofree char *name =
                percent ? g_strdup_printf("%.*s%u%s", (int) (percent - rows[r].name), rows[r].name,
                                          layers[i], percent + 2)
                        : g_strdup(rows[r].name);

            if (rows[r].optional && !vlm_gguf_tensor_find(gguf, name))
                continue;
            const vlm_gguf_tensor *t =
                vlm_gguf_require_tensor(gguf, name, n_dims, rows[r].ne, error);
            if (!t)
                return FALSE;
            if (n_dims == 1 && t->dtype != VLM_DTYPE_F32) {
                g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                            "%s: tensor %s has type %s, expected F32", vlm_gguf_path(gguf), name,
                            vlm_dtype_name(t->dtype));
                return FALSE;
            }
            g_hash_table_add(known, g_steal_pointer(&name));
        }
    }
    return TRUE;
}

gboolean vlm_gguf_check_no_others(const vlm_gguf *gguf, const char *prefix, GHashTable *known,
                                  const char *model, GError **error)
{
    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++) {
        const char *name = vlm_gguf_tensor_at(gguf, i)->name;

        if (g_str_has_prefix(name, prefix) && !g_hash_table_contains(known, name)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: tensor %s is not part of a %s model", vlm_gguf_path(gguf), name,
                        model);
            return FALSE;
        }
    }
    return TRUE;
}

// Tensors of layers that are not used belong to the file all the same.
static void ignore_layers(const vlm_gguf *gguf, uint32_t first, uint32_t n, GHashTable *known)
{
    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++) {
        const char *name = vlm_gguf_tensor_at(gguf, i)->name;
        for (uint32_t il = first; il < first + n; il++) {
            g_autofree char *prefix = g_strdup_printf("blk.%u.", il);
            if (g_str_has_prefix(name, prefix))
                g_hash_table_add(known, g_strdup(name));
        }
    }
}

static gboolean check_attention_tensors(const vlm_gguf *gguf, const vlm_text_hparams *h,
                                        GHashTable *known, GError **error)
{
    const uint64_t d = h->n_embd, hd = h->head_dim;
    const uint64_t q = (uint64_t) h->n_head * hd, kv = (uint64_t) h->n_head_kv * hd;
    const vlm_expected_tensor attention[] = {
        { "blk.%u.attn_q.weight", { d, h->n_recurrent > 0 ? 2 * q : q }, FALSE },
        { "blk.%u.attn_k.weight", { d, kv }, FALSE },
        { "blk.%u.attn_v.weight", { d, kv }, FALSE },
        { "blk.%u.attn_output.weight", { q, d }, FALSE },
    };
    const vlm_expected_tensor head_norms[] = {
        { "blk.%u.attn_q_norm.weight", { hd }, FALSE },
        { "blk.%u.attn_k_norm.weight", { hd }, FALSE },
    };
    const vlm_expected_tensor biases[] = {
        { "blk.%u.attn_q.bias", { q }, FALSE },
        { "blk.%u.attn_k.bias", { kv }, FALSE },
        { "blk.%u.attn_v.bias", { kv }, FALSE },
    };
    uint32_t layers[VLM_MAX_LAYERS];
    guint n = 0;

    for (uint32_t il = 0; il < h->n_layer; il++)
        if (!h->recurrent[il])
            layers[n++] = il;
    return vlm_gguf_check_tensors(gguf, attention, G_N_ELEMENTS(attention), layers, n, known, error)
           && (!h->head_norms
               || vlm_gguf_check_tensors(gguf, head_norms, G_N_ELEMENTS(head_norms), layers, n,
                                         known, error))
           && (!h->qkv_bias
               || vlm_gguf_check_tensors(gguf, biases, G_N_ELEMENTS(biases), layers, n, known,
                                         error));
}

static gboolean check_delta_tensors(const vlm_gguf *gguf, const vlm_text_hparams *h,
                                    GHashTable *known, GError **error)
{
    const uint64_t d = h->n_embd, hd = h->delta_head_dim, heads = h->delta_v_heads;
    const uint64_t values = heads * hd, all = 2 * h->delta_k_heads * hd + values;
    const vlm_expected_tensor rows[] = {
        { "blk.%u.attn_qkv.weight", { d, all }, FALSE },
        { "blk.%u.attn_gate.weight", { d, values }, FALSE },
        { "blk.%u.ssm_conv1d.weight", { 4, all }, FALSE },
        { "blk.%u.ssm_dt.bias", { heads }, FALSE },
        { "blk.%u.ssm_a", { heads }, FALSE },
        { "blk.%u.ssm_alpha.weight", { d, heads }, FALSE },
        { "blk.%u.ssm_beta.weight", { d, heads }, FALSE },
        { "blk.%u.ssm_norm.weight", { hd }, FALSE },
        { "blk.%u.ssm_out.weight", { values, d }, FALSE },
    };
    uint32_t layers[VLM_MAX_LAYERS];
    guint n = 0;

    for (uint32_t il = 0; il < h->n_layer; il++)
        if (h->recurrent[il])
            layers[n++] = il;
    return vlm_gguf_check_tensors(gguf, rows, G_N_ELEMENTS(rows), layers, n, known, error);
}

static gboolean check_ffn_tensors(const vlm_gguf *gguf, const vlm_text_hparams *h,
                                  const uint32_t *layers, GHashTable *known, GError **error)
{
    const uint64_t d = h->n_embd, e = h->n_expert, ff = h->n_ff_expert, shared = h->n_ff_shared;
    const vlm_expected_tensor dense[] = {
        { "blk.%u.ffn_gate.weight", { d, h->n_ff }, FALSE },
        { "blk.%u.ffn_up.weight", { d, h->n_ff }, FALSE },
        { "blk.%u.ffn_down.weight", { h->n_ff, d }, FALSE },
    };
    const vlm_expected_tensor sparse[] = {
        { "blk.%u.ffn_gate_inp.weight", { d, e }, FALSE },
        { "blk.%u.ffn_down_exps.weight", { ff, d, e }, FALSE },
    };
    const vlm_expected_tensor apart[] = {
        { "blk.%u.ffn_gate_exps.weight", { d, ff, e }, FALSE },
        { "blk.%u.ffn_up_exps.weight", { d, ff, e }, FALSE },
    };
    const vlm_expected_tensor fused[] = {
        { "blk.%u.ffn_gate_up_exps.weight", { d, 2 * ff, e }, FALSE },
    };
    const vlm_expected_tensor every[] = {
        { "blk.%u.ffn_gate_inp_shexp.weight", { d, 1 }, FALSE },
        { "blk.%u.ffn_gate_shexp.weight", { d, shared }, FALSE },
        { "blk.%u.ffn_up_shexp.weight", { d, shared }, FALSE },
        { "blk.%u.ffn_down_shexp.weight", { shared, d }, FALSE },
    };

    if (e == 0)
        return vlm_gguf_check_tensors(gguf, dense, G_N_ELEMENTS(dense), layers, h->n_layer, known,
                                      error);
    return vlm_gguf_check_tensors(gguf, sparse, G_N_ELEMENTS(sparse), layers, h->n_layer, known,
                                  error)
           && vlm_gguf_check_tensors(gguf, h->fused_gate_up ? fused : apart,
                                     h->fused_gate_up ? G_N_ELEMENTS(fused) : G_N_ELEMENTS(apart),
                                     layers, h->n_layer, known, error)
           && (shared == 0
               || vlm_gguf_check_tensors(gguf, every, G_N_ELEMENTS(every), layers, h->n_layer,
                                         known, error));
}

static gboolean check_text_tensors(const vlm_gguf *gguf, vlm_text_hparams *h, uint32_t n_ahead,
                                   GError **error)
{
    const uint64_t d = h->n_embd, v = h->n_vocab;
    g_autofree char *ffn_norm = g_strdup_printf("blk.%%u.%s.weight", h->ffn_norm);
    // Divisors of the rotary frequencies (Llama 3.1 and later).
    const vlm_expected_tensor rope[] = { { "rope_freqs.weight", { h->head_dim / 2 }, TRUE } };
    const vlm_expected_tensor common[] = {
        { "token_embd.weight", { d, v }, FALSE },
        { "output_norm.weight", { d }, FALSE },
        { "output.weight", { d, v }, TRUE },
        { "blk.%u.attn_norm.weight", { d }, FALSE },
        { ffn_norm, { d }, FALSE },
    };
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint32_t layers[VLM_MAX_LAYERS];

    for (uint32_t il = 0; il < h->n_layer; il++)
        layers[il] = il;
    ignore_layers(gguf, h->n_layer, n_ahead, known);
    if (!vlm_gguf_check_tensors(gguf, common, G_N_ELEMENTS(common), layers, h->n_layer, known,
                                error)
        || !check_attention_tensors(gguf, h, known, error)
        || (h->rope == VLM_ROPE_ADJACENT
            && !vlm_gguf_check_tensors(gguf, rope, G_N_ELEMENTS(rope), NULL, 0, known, error))
        || (h->n_recurrent > 0 && !check_delta_tensors(gguf, h, known, error))
        || !check_ffn_tensors(gguf, h, layers, known, error)
        || !vlm_gguf_check_no_others(gguf, "", known, h->arch, error))
        return FALSE;
    h->tied_output = !vlm_gguf_tensor_find(gguf, "output.weight");
    return TRUE;
}

gboolean vlm_text_hparams_read(const vlm_gguf *gguf, vlm_text_hparams *out, GError **error)
{
    vlm_text_hparams hparams = { 0 };
    vlm_text_hparams *h = &hparams;
    gboolean sparse = FALSE, hybrid = FALSE;
    uint32_t n_ahead = 0;

    if (!read_arch(gguf, h, &sparse, &hybrid, error)
        || !read_layers(gguf, h, hybrid, &n_ahead, error)
        || !get_u32(gguf, h, "embedding_length", MAX_WIDTH, &h->n_embd, error)
        || !get_u32(gguf, h, "context_length", MAX_CONTEXT, &h->ctx_train, error)
        || !read_heads(gguf, h, error) || !read_rope(gguf, h, error)
        || !vlm_gguf_get_f32(gguf, KEY("attention.layer_norm_rms_epsilon"), 1e-12f, 0.1f,
                             &h->rms_eps, error)
        || !read_ffn(gguf, h, sparse, error)
        || (hybrid && !read_delta(gguf, h, h->n_layer + n_ahead, error))
        || !vlm_gguf_get_u32_or(gguf, KEY("n_deepstack_layers"), 0,
                                MIN(h->n_layer, VLM_MAX_DEEPSTACK), 0, &h->n_deepstack, error)
        || !check_unsupported(gguf, h, error) || !read_vocab(gguf, h, error)
        || !check_text_tensors(gguf, h, n_ahead, error))
        return FALSE;
    *out = hparams;
    return TRUE;
}
