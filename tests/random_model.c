// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_model.c — random-weight models.
#include "random_model.h"

#include "random_fill.h"
#include "random_mllama.h"
#include "random_vocab.h"

#include <math.h>
#include <string.h>

static const char *const text_families[] = { "llama", "qwen2", "qwen3", "qwen3moe", NULL };

gboolean random_model_is_text(const random_model *m)
{
    return g_strv_contains(text_families, m->family);
}

gboolean random_model_is_smolvlm(const random_model *m)
{
    return g_str_equal(m->family, "smolvlm");
}

gboolean random_model_is_llava(const random_model *m)
{
    return g_str_equal(m->family, "llava");
}

// Of the architecture llama.
static gboolean is_llama(const random_model *m)
{
    return random_model_is_smolvlm(m) || random_model_is_llava(m)
           || g_str_equal(m->family, "llama");
}

gboolean random_model_is_mllama(const random_model *m)
{
    return g_str_equal(m->family, "mllama");
}

gboolean random_model_is_qwen35(const random_model *m)
{
    return g_str_has_prefix(m->family, "qwen35");
}

gboolean random_model_is_qwen2(const random_model *m)
{
    return g_str_has_prefix(m->family, "qwen2");
}

gboolean random_model_is_qwen25(const random_model *m)
{
    return g_str_equal(m->family, "qwen2.5vl");
}

const char *random_model_arch(const random_model *m)
{
    if (is_llama(m))
        return "llama";
    return random_model_is_qwen2(m) && !random_model_is_text(m) ? "qwen2vl" : m->family;
}

// A little more than a third for time; in Qwen2-VL a quarter, in Qwen3.5 a third.
void random_model_set_sections(random_model *m)
{
    const uint32_t pairs = m->rope_dim / 2;

    m->sections[1] = m->sections[2] = random_model_is_qwen2(m) ? pairs * 3 / 8 : pairs * 5 / 16;
    if (random_model_is_qwen35(m))
        m->sections[1] = (pairs + 1) / 3, m->sections[2] = pairs / 3;
    m->sections[0] = pairs - m->sections[1] - m->sections[2];
}

// What Qwen3.5 has besides: heads that rotate in part, gated delta nets.
static void init_qwen35(random_model *m)
{
    const gboolean tiny = m->head_dim < 128;

    m->n_deepstack = 0;
    m->rope_theta = 1e7f;
    m->head_dim = tiny ? m->head_dim : 256;
    m->rope_dim = tiny ? m->head_dim / 2 : 64;
    random_model_set_sections(m);
    m->interval = 4;
    m->delta_k_heads = 2;
    m->delta_v_heads = tiny ? 4 : 6;
    m->delta_head_dim = tiny ? 32 : 128;
    m->n_ff_shared = m->n_ff_expert;
}

// What the families have in common whatever their size.
static void set_family(random_model *model)
{
    model->seed = 1;
    model->rope_theta = 5e6f;
    model->rms_eps = 1e-6f;
    model->patch = 16;
    model->merge = 2;
    model->n_tile = 2;
    model->dtype = model->mmproj_dtype = VLM_DTYPE_F32;
    if (random_model_is_smolvlm(model)) {
        model->rope_theta = 1e5f;
        model->rms_eps = 1e-5f;
        model->n_deepstack = 0;
    }
    if (random_model_is_llava(model)) {
        model->rope_theta = 1e4f;
        model->rms_eps = 1e-5f;
        model->patch = 14;
        model->merge = 1;
        model->n_deepstack = 0;
    }
    if (random_model_is_text(model))
        model->n_deepstack = 0;
    if (random_model_is_qwen2(model)) {
        model->rope_theta = 1e6f;
        model->patch = 14;
        model->n_deepstack = 0;
        model->n_wa_pattern = 2;
        model->n_head = model->n_embd / model->head_dim;  // files don't say how wide heads are
    }
    if (random_model_is_mllama(model))
        random_mllama_init(model);
    model->rope_dim = model->head_dim;
    if (random_model_is_qwen35(model))
        init_qwen35(model);
    if (random_model_is_qwen2(model))
        random_model_set_sections(model);
}

gboolean random_model_init(random_model *model, const char *family, const char *size)
{
    static const char *const families[] = { "qwen2vl", "qwen2.5vl", "qwen3vl", "qwen3vlmoe",
                                            "qwen35",  "qwen35moe", "smolvlm", "llava",
                                            "mllama",  "llama",     "qwen2",   "qwen3",
                                            "qwen3moe" };
    static const random_model tiny = {
        .n_layer = 4,
        .n_embd = 128,
        .n_head = 4,
        .n_head_kv = 2,
        .head_dim = 32,
        .n_ff = 256,
        .n_expert = 8,
        .n_expert_used = 2,
        .n_ff_expert = 64,
        .n_ctx = 8192,
        .sections = { 6, 5, 5 },
        .vit_layers = 4,
        .vit_embd = 64,
        .vit_heads = 4,
        .vit_ff = 128,
        .n_pos = 36,
        .deepstack = { 0, 1, 2 },
        .n_deepstack = 3,
    };
    static const random_model small = {
        .n_layer = 6,
        .n_embd = 512,
        .n_head = 8,
        .n_head_kv = 2,
        .head_dim = 128,
        .n_ff = 1024,
        .n_expert = 16,
        .n_expert_used = 4,
        .n_ff_expert = 256,
        .n_ctx = 8192,
        .sections = { 24, 20, 20 },
        .vit_layers = 6,
        .vit_embd = 144,
        .vit_heads = 2,
        .vit_ff = 288,
        .n_pos = 2304,
        .deepstack = { 1, 2, 4 },
        .n_deepstack = 3,
    };
    static const random_model bench = {
        .n_layer = 25,
        .n_embd = 768,
        .n_head = 6,
        .n_head_kv = 2,
        .head_dim = 128,
        .n_ff = 2048,
        .n_expert = 16,
        .n_expert_used = 4,
        .n_ff_expert = 512,
        .n_ctx = 32768,
        .sections = { 24, 20, 20 },
        .vit_layers = 12,
        .vit_embd = 768,
        .vit_heads = 12,
        .vit_ff = 3072,
        .n_pos = 2304,
        .deepstack = { 2, 5, 8 },
        .n_deepstack = 3,
    };

    if (g_str_equal(size, "tiny"))
        *model = tiny;
    else if (g_str_equal(size, "small"))
        *model = small;
    else if (g_str_equal(size, "bench160m"))
        *model = bench;
    else
        return FALSE;
    model->family = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(families); i++)
        if (g_str_equal(family, families[i]))
            model->family = families[i];
    if (!model->family)
        return FALSE;
    set_family(model);
    return TRUE;
}

static gboolean is_moe(const random_model *m)
{
    return g_str_has_suffix(m->family, "moe");
}

char *random_model_check(const random_model *m)
{
    const uint32_t side = (uint32_t) lround(sqrt(m->n_pos));

    if (!m->n_layer || !m->n_embd || !m->n_head || !m->n_head_kv || !m->head_dim || !m->vit_layers
        || !m->vit_embd || !m->vit_heads || !m->vit_ff || !m->patch || !m->merge)
        return g_strdup("every dimension must be at least 1");
    if (m->n_head % m->n_head_kv)
        return g_strdup("the number of heads must be a multiple of the number of KV heads");
    if (m->head_dim % 2 || m->rope_dim % 2 || m->rope_dim > m->head_dim
        || m->sections[0] + m->sections[1] + m->sections[2] != m->rope_dim / 2)
        return g_strdup("the rotary sections must add up to half of what rotates of a head");
    if (random_model_is_qwen35(m)
        && (m->interval < 2 || m->interval > m->n_layer || !m->delta_k_heads || !m->delta_v_heads
            || m->delta_v_heads % m->delta_k_heads || !m->delta_head_dim || m->delta_head_dim % 4))
        return g_strdup("the value heads must be a multiple of the key heads, their width of 4");
    if (m->vit_embd % m->vit_heads || m->vit_embd / m->vit_heads % 4)
        return g_strdup("the vision width must be a multiple of 4 times its heads");
    if (random_model_is_qwen2(m) && m->head_dim * m->n_head != m->n_embd)
        return g_strdup("the heads of Qwen2-VL must be as wide as the decoder together");
    if (random_model_is_llava(m) && m->merge != 1)
        return g_strdup("LLaVA merges no patches");
    if (side * side != m->n_pos)
        return g_strdup("the position table must be a square");
    if (is_moe(m)
        && (!m->n_expert || !m->n_ff_expert || m->n_expert_used < 1
            || m->n_expert_used > m->n_expert))
        return g_strdup("the number of used experts must be from 1 to the number of experts");
    if (!is_moe(m) && !m->n_ff)
        return g_strdup("the width of the feed-forward network must be at least 1");
    for (uint32_t i = 0; i < m->n_deepstack; i++) {
        if (m->deepstack[i] >= m->vit_layers || (i > 0 && m->deepstack[i] <= m->deepstack[i - 1]))
            return g_strdup("DeepStack layers must be ascending layers of the vision transformer");
    }
    if (random_model_is_mllama(m)
        && (m->n_embd != m->n_head * m->head_dim || m->n_layer < 2 || m->cross_every < 2
            || m->vit_layers < 3 || !m->n_global))
        return g_strdup("the heads must fill the width, and there must be two layers of each kind");
    if (m->margin > 0 && !random_model_is_smolvlm(m))
        return g_strdup("only SmolVLM's pictures have a margin");
    if (m->n_deepstack > m->n_layer)
        return g_strdup("more DeepStack layers than decoder layers");
    return NULL;
}

// A tensor whose elements are centre + std * (about normal).
static void add(gguf_writer *w, uint64_t seed, vlm_dtype dtype, float centre, float std,
                uint32_t n_dims, const uint64_t *ne, const char *name)
{
    random_fill *fill = random_fill_new(seed, name, dtype, ne[0], centre, std);

    gguf_writer_tensor(w, name, dtype, n_dims, ne, random_fill_rows, fill, g_free);
}

// A weight [n_in, n_out] or, with n_expert > 0, a stack of them. Deviation gain/sqrt(n_in).
static void G_GNUC_PRINTF(8, 9)
    add_matrix(gguf_writer *w, uint64_t seed, vlm_dtype want, float gain, uint64_t n_in,
               uint64_t n_out, uint64_t n_expert, const char *format, ...)
{
    const uint64_t ne[3] = { n_in, n_out, n_expert };
    va_list args;

    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    add(w, seed, random_fill_dtype(seed, name, want, n_in), 0, gain / sqrtf((float) n_in),
        n_expert ? 3 : 2, ne, name);
}

// A vector of any deviation.
static void G_GNUC_PRINTF(6, 7) add_spread(gguf_writer *w, uint64_t seed, float centre, float std,
                                           uint64_t n, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    add(w, seed, VLM_DTYPE_F32, centre, std, 1, &n, name);
}

// A norm's weight (centre 1) or a bias (centre 0): always F32.
static void G_GNUC_PRINTF(5, 6)
    add_vector(gguf_writer *w, uint64_t seed, float centre, uint64_t n, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    add(w, seed, VLM_DTYPE_F32, centre, 0.1f, 1, &n, name);
}

// A linear layer or a layer norm with bias, as in the vision transformer.
static void add_linear(gguf_writer *w, const random_model *m, uint64_t n_in, uint64_t n_out,
                       const char *stem)
{
    add_matrix(w, m->seed, m->mmproj_dtype, 1, n_in, n_out, 0, "%s.weight", stem);
    add_vector(w, m->seed, 0, n_out, "%s.bias", stem);
}

static void add_norm(gguf_writer *w, const random_model *m, uint64_t n, const char *stem)
{
    add_vector(w, m->seed, 1, n, "%s.weight", stem);
    if (!random_model_is_qwen25(m))
        add_vector(w, m->seed, 0, n, "%s.bias", stem);
}

// "general.file_type", as llama.cpp numbers it.
static uint32_t file_type(vlm_dtype dtype, gboolean k_mixture)
{
    switch (dtype) {
    case VLM_DTYPE_F32:
        return 0;
    case VLM_DTYPE_F16:
        return 1;
    case VLM_DTYPE_Q4_0:
        return 2;
    case VLM_DTYPE_Q4_1:
        return 3;
    case VLM_DTYPE_Q8_0:
        return 7;
    case VLM_DTYPE_Q5_0:
        return 8;
    case VLM_DTYPE_Q5_1:
        return 9;
    case VLM_DTYPE_Q2_K:
        return 10;
    case VLM_DTYPE_Q3_K:
        return 11;  // "small": nothing but Q3_K
    case VLM_DTYPE_Q4_K:
        return k_mixture ? 15 : 14;
    case VLM_DTYPE_Q5_K:
        return k_mixture ? 17 : 16;
    case VLM_DTYPE_Q6_K:
        return 18;
    case VLM_DTYPE_IQ4_NL:
        return 25;
    case VLM_DTYPE_IQ4_XS:
        return 30;
    case VLM_DTYPE_BF16:
        return 32;
    case VLM_DTYPE_MXFP4:
        return 38;
    case RANDOM_FILL_MIXED:
        return 15;
    default:
        g_assert_not_reached();
    }
}

static void add_u32(gguf_writer *w, const random_model *m, const char *key, uint32_t value)
{
    g_autofree char *full = g_strdup_printf("%s.%s", random_model_arch(m), key);

    gguf_writer_u32(w, full, value);
}

static void add_f32(gguf_writer *w, const random_model *m, const char *key, float value)
{
    g_autofree char *full = g_strdup_printf("%s.%s", random_model_arch(m), key);

    gguf_writer_f32(w, full, value);
}

static gboolean is_recurrent(const random_model *m, uint32_t il)
{
    return random_model_is_qwen35(m) && il < m->n_layer && (il + 1) % m->interval != 0;
}

static void add_delta_keys(gguf_writer *w, const random_model *m)
{
    g_autofree char *key = g_strdup_printf("%s.attention.recurrent_layers", random_model_arch(m));
    g_autofree gboolean *flags = g_new0(gboolean, m->n_layer + m->n_ahead);

    for (uint32_t il = 0; il < m->n_layer; il++)
        flags[il] = is_recurrent(m, il);
    if (is_moe(m))
        add_u32(w, m, "expert_shared_feed_forward_length", m->n_ff_shared);
    add_u32(w, m, "ssm.conv_kernel", 4);
    add_u32(w, m, "ssm.state_size", m->delta_head_dim);
    add_u32(w, m, "ssm.group_count", m->delta_k_heads);
    add_u32(w, m, "ssm.time_step_rank", m->delta_v_heads);
    add_u32(w, m, "ssm.inner_size", m->delta_v_heads * m->delta_head_dim);
    gguf_writer_bool_array(w, key, flags, m->n_layer + m->n_ahead);
    add_u32(w, m, "full_attention_interval", m->interval);
    if (m->n_ahead > 0)
        add_u32(w, m, "nextn_predict_layers", m->n_ahead);
}

static void add_text_keys(gguf_writer *w, const random_model *m)
{
    const int32_t sections[4] = { (int32_t) m->sections[0], (int32_t) m->sections[1],
                                  (int32_t) m->sections[2], 0 };
    g_autofree char *sections_key =
        g_strdup_printf("%s.rope.dimension_sections", random_model_arch(m));

    gguf_writer_str(w, "general.architecture", random_model_arch(m));
    gguf_writer_str(w, "general.type", "model");
    gguf_writer_str(w, "general.name", "Random");
    add_u32(w, m, "block_count", m->n_layer + m->n_ahead);
    add_u32(w, m, "context_length", m->n_ctx);
    add_u32(w, m, "embedding_length", m->n_embd);
    add_u32(w, m, "feed_forward_length", m->n_ff);
    add_u32(w, m, "attention.head_count", m->n_head);
    add_u32(w, m, "attention.head_count_kv", m->n_head_kv);
    if (is_llama(m) || random_model_is_qwen35(m))
        add_u32(w, m, "rope.dimension_count", m->rope_dim);
    if (!is_llama(m) && !random_model_is_text(m))
        gguf_writer_i32_array(w, sections_key, sections, 4);
    if (!random_model_is_llava(m) || m->rope_theta < 1e4f || m->rope_theta > 1e4f)
        add_f32(w, m, "rope.freq_base", m->rope_theta);  // published LLaVA files leave it out
    add_f32(w, m, "attention.layer_norm_rms_epsilon", m->rms_eps);
    if (is_moe(m)) {
        add_u32(w, m, "expert_count", m->n_expert);
        add_u32(w, m, "expert_used_count", m->n_expert_used);
        add_u32(w, m, "expert_feed_forward_length", m->n_ff_expert);
    }
    const gboolean usual = m->head_dim * m->n_head == m->n_embd;
    if (!random_model_is_qwen2(m) && !(random_model_is_llava(m) && usual)) {
        add_u32(w, m, "attention.key_length", m->head_dim);
        add_u32(w, m, "attention.value_length", m->head_dim);
    }
    gguf_writer_u32(w, "general.file_type", file_type(m->dtype, m->k_mixture));
    if (random_model_is_qwen35(m))
        add_delta_keys(w, m);
    else if (!is_llama(m) && !random_model_is_qwen2(m) && !random_model_is_text(m))
        add_u32(w, m, "n_deepstack_layers", m->n_deepstack);
    gguf_writer_u32(w, "general.quantization_version", 2);
}

static void add_attention(gguf_writer *w, const random_model *m, uint32_t il, vlm_dtype better)
{
    const uint64_t d = m->n_embd, q = (uint64_t) m->n_head * m->head_dim;
    const uint64_t kv = (uint64_t) m->n_head_kv * m->head_dim, seed = m->seed;
    const uint64_t n_q = random_model_is_qwen35(m) ? 2 * q : q;  // a gate behind each head
    const gboolean head_norms = !is_llama(m) && !random_model_is_qwen2(m);
    const vlm_dtype t = m->dtype;

    add_matrix(w, seed, t, 1, d, n_q, 0, "blk.%u.attn_q.weight", il);
    if (head_norms)
        add_vector(w, seed, 1, m->head_dim, "blk.%u.attn_q_norm.weight", il);
    add_matrix(w, seed, t, 1, d, kv, 0, "blk.%u.attn_k.weight", il);
    if (head_norms)
        add_vector(w, seed, 1, m->head_dim, "blk.%u.attn_k_norm.weight", il);
    if (random_model_is_qwen2(m)) {
        add_vector(w, seed, 0, q, "blk.%u.attn_q.bias", il);
        add_vector(w, seed, 0, kv, "blk.%u.attn_k.bias", il);
        add_vector(w, seed, 0, kv, "blk.%u.attn_v.bias", il);
    }
    add_matrix(w, seed, better, 1, d, kv, 0, "blk.%u.attn_v.weight", il);
    add_matrix(w, seed, t, 1, q, d, 0, "blk.%u.attn_output.weight", il);
}

static void add_delta_net(gguf_writer *w, const random_model *m, uint32_t il)
{
    const uint64_t d = m->n_embd, heads = m->delta_v_heads, hd = m->delta_head_dim, seed = m->seed;
    const uint64_t all = (2 * m->delta_k_heads + heads) * hd, conv_ne[2] = { 4, all };
    g_autofree char *conv = g_strdup_printf("blk.%u.ssm_conv1d.weight", il);
    const vlm_dtype t = m->dtype;

    add_matrix(w, seed, t, 1, d, all, 0, "blk.%u.attn_qkv.weight", il);
    add_matrix(w, seed, t, 1, d, heads * hd, 0, "blk.%u.attn_gate.weight", il);
    add(w, seed, VLM_DTYPE_F32, 0, 0.5f, 2, conv_ne, conv);
    add_spread(w, seed, 0, 0.5f, heads, "blk.%u.ssm_dt.bias", il);
    add_spread(w, seed, -0.5f, 0.14f, heads, "blk.%u.ssm_a", il);  // negative: |z| < 3.5
    add_matrix(w, seed, t, 1, d, heads, 0, "blk.%u.ssm_alpha.weight", il);
    add_matrix(w, seed, t, 1, d, heads, 0, "blk.%u.ssm_beta.weight", il);
    add_vector(w, seed, 1, hd, "blk.%u.ssm_norm.weight", il);
    add_matrix(w, seed, t, 1, heads * hd, d, 0, "blk.%u.ssm_out.weight", il);
}

static void add_experts(gguf_writer *w, const random_model *m, uint32_t il, vlm_dtype better)
{
    const uint64_t d = m->n_embd, ff = m->n_ff_expert, e = m->n_expert, seed = m->seed;
    const vlm_dtype t = m->dtype;

    add_matrix(w, seed, VLM_DTYPE_F32, 1, d, e, 0, "blk.%u.ffn_gate_inp.weight", il);
    if (m->fused_gate_up) {
        add_matrix(w, seed, t, 1, d, 2 * ff, e, "blk.%u.ffn_gate_up_exps.weight", il);
    } else {
        add_matrix(w, seed, t, 1, d, ff, e, "blk.%u.ffn_gate_exps.weight", il);
        add_matrix(w, seed, t, 1, d, ff, e, "blk.%u.ffn_up_exps.weight", il);
    }
    add_matrix(w, seed, better, 1, ff, d, e, "blk.%u.ffn_down_exps.weight", il);
    if (!random_model_is_qwen35(m))
        return;
    add_matrix(w, seed, VLM_DTYPE_F32, 1, d, 1, 0, "blk.%u.ffn_gate_inp_shexp.weight", il);
    add_matrix(w, seed, t, 1, d, m->n_ff_shared, 0, "blk.%u.ffn_gate_shexp.weight", il);
    add_matrix(w, seed, t, 1, d, m->n_ff_shared, 0, "blk.%u.ffn_up_shexp.weight", il);
    add_matrix(w, seed, t, 1, m->n_ff_shared, d, 0, "blk.%u.ffn_down_shexp.weight", il);
}

static void add_text_layer(gguf_writer *w, const random_model *m, uint32_t il)
{
    const uint64_t d = m->n_embd, seed = m->seed;
    const vlm_dtype t = m->dtype;
    const vlm_dtype better = m->k_mixture && il % 2 == 0 ? VLM_DTYPE_Q6_K : t;

    add_vector(w, seed, 1, d, "blk.%u.attn_norm.weight", il);
    if (is_recurrent(m, il))
        add_delta_net(w, m, il);
    else
        add_attention(w, m, il, better);
    add_vector(w, seed, 1, d, "blk.%u.%s.weight", il,
               random_model_is_qwen35(m) ? "post_attention_norm" : "ffn_norm");
    if (is_moe(m)) {
        add_experts(w, m, il, better);
        return;
    }
    add_matrix(w, seed, t, 1, d, m->n_ff, 0, "blk.%u.ffn_gate.weight", il);
    add_matrix(w, seed, t, 1, d, m->n_ff, 0, "blk.%u.ffn_up.weight", il);
    add_matrix(w, seed, better, 1, m->n_ff, d, 0, "blk.%u.ffn_down.weight", il);
}

// A layer that predicts one token further, as the converter names its parts.
static void add_ahead_layer(gguf_writer *w, const random_model *m, uint32_t il)
{
    const uint64_t d = m->n_embd;

    add_text_layer(w, m, il);
    add_matrix(w, m->seed, m->dtype, 1, 2 * d, d, 0, "blk.%u.nextn.eh_proj.weight", il);
    add_vector(w, m->seed, 1, d, "blk.%u.nextn.enorm.weight", il);
    add_vector(w, m->seed, 1, d, "blk.%u.nextn.hnorm.weight", il);
    add_vector(w, m->seed, 1, d, "blk.%u.nextn.shared_head_norm.weight", il);
}

gguf_writer *random_model_text(const random_model *m)
{
    if (random_model_is_mllama(m))
        return random_mllama_text(m);
    gguf_writer *w = gguf_writer_new();
    g_autoptr(random_vocab) vocab = random_model_is_llava(m)     ? random_vocab_new_llava()
                                    : random_model_is_smolvlm(m) ? random_vocab_new_smolvlm()
                                                                 : random_vocab_new();

    random_vocab_pad(vocab, m->n_vocab);
    const uint64_t embd_ne[2] = { m->n_embd, vocab->tokens->len };
    const vlm_dtype embd_type =
        random_fill_dtype(m->seed, "token_embd.weight", m->dtype, m->n_embd);
    add_text_keys(w, m);
    if (random_model_is_qwen35(m))
        vocab->pre = "qwen35";
    random_vocab_add(vocab, w);
    // the frequencies of Llama 3.1 have divisors
    if (g_str_equal(m->family, "llama") && !m->plain_rope)
        add_spread(w, m->seed, 4, 0.8f, m->head_dim / 2, "rope_freqs.weight");
    add(w, m->seed, embd_type, 0, m->tied ? 1 / sqrtf((float) m->n_embd) : 1, 2, embd_ne,
        "token_embd.weight");
    for (uint32_t il = 0; il < m->n_layer; il++)
        add_text_layer(w, m, il);
    for (uint32_t il = m->n_layer; il < m->n_layer + m->n_ahead; il++)
        add_ahead_layer(w, m, il);
    add_vector(w, m->seed, 1, m->n_embd, "output_norm.weight");
    if (!m->tied)
        add_matrix(w, m->seed, m->k_mixture ? VLM_DTYPE_Q6_K : m->dtype, 2, m->n_embd,
                   vocab->tokens->len, 0, "output.weight");
    return w;
}

// What sets a tower apart from others, in the converter's words.
static void add_tower_keys(gguf_writer *w, const random_model *m)
{
    const uint32_t side = (uint32_t) lround(sqrt(m->n_pos));
    g_autofree gboolean *flags = g_new0(gboolean, m->vit_layers);

    if (random_model_is_qwen2(m)) {
        gguf_writer_str(w, "clip.projector_type",
                        random_model_is_qwen25(m) ? "qwen2.5vl_merger" : "qwen2vl_merger");
        if (m->merge != 2)  // published files leave it out
            gguf_writer_u32(w, "clip.vision.spatial_merge_size", m->merge);
        if (!random_model_is_qwen25(m))
            return;
        gguf_writer_bool(w, "clip.use_silu", TRUE);
        gguf_writer_u32(w, "clip.vision.n_wa_pattern", m->n_wa_pattern);
        if (m->window > 0)
            gguf_writer_u32(w, "clip.vision.window_size", m->window);
        return;
    }
    if (random_model_is_llava(m)) {
        gguf_writer_bool(w, "clip.has_llava_projector", TRUE);
        gguf_writer_bool(w, "clip.use_gelu", m->gelu);
        if (!m->old_names)
            gguf_writer_str(w, "clip.projector_type", "mlp");
        return;
    }
    gguf_writer_bool(w, "clip.use_gelu", TRUE);
    if (random_model_is_smolvlm(m)) {
        gguf_writer_str(w, "clip.projector_type", "idefics3");
        gguf_writer_u32(w, "clip.vision.projector.scale_factor", m->merge);
        // two tiles a side and the whole: published models have four
        gguf_writer_u32(w, "clip.vision.preproc_image_size",
                        m->n_tile * (side * m->patch + m->margin));
        return;
    }
    for (uint32_t i = 0; i < m->n_deepstack; i++)
        flags[m->deepstack[i]] = TRUE;
    gguf_writer_str(w, "clip.projector_type", "qwen3vl_merger");
    gguf_writer_u32(w, "clip.vision.spatial_merge_size", m->merge);
    gguf_writer_bool_array(w, "clip.vision.is_deepstack_layers", flags, m->vit_layers);
}

static void add_mmproj_keys(gguf_writer *w, const random_model *m)
{
    static const float half[3] = { 0.5f, 0.5f, 0.5f };
    static const float clip_mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float clip_std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    const uint32_t side = (uint32_t) lround(sqrt(m->n_pos));
    const gboolean qwen2 = random_model_is_qwen2(m), llava = random_model_is_llava(m);
    const gboolean clip = qwen2 || llava;

    gguf_writer_str(w, "general.architecture", "clip");
    gguf_writer_str(w, "general.type", "mmproj");
    gguf_writer_str(w, "general.name", "Random");
    gguf_writer_u32(w, "general.file_type", file_type(m->mmproj_dtype, FALSE));
    gguf_writer_bool(w, "clip.has_vision_encoder", TRUE);
    // Of LLaVA the converter writes the width of another part of CLIP.
    gguf_writer_u32(w, "clip.vision.projection_dim", llava ? 768 : m->n_embd);
    gguf_writer_u32(w, "clip.vision.image_size", qwen2 ? 560 : side * m->patch + m->margin);
    gguf_writer_u32(w, "clip.vision.patch_size", m->patch);
    gguf_writer_u32(w, "clip.vision.embedding_length", m->vit_embd);
    // Of Qwen2-VL the converter writes the width of the decoder.
    gguf_writer_u32(w, "clip.vision.feed_forward_length",
                    qwen2 && !random_model_is_qwen25(m) ? m->n_embd : m->vit_ff);
    gguf_writer_u32(w, "clip.vision.block_count", m->vit_layers);
    gguf_writer_u32(w, "clip.vision.attention.head_count", m->vit_heads);
    gguf_writer_f32_array(w, "clip.vision.image_mean", clip ? clip_mean : half, 3);
    gguf_writer_f32_array(w, "clip.vision.image_std", clip ? clip_std : half, 3);
    gguf_writer_f32(w, "clip.vision.attention.layer_norm_epsilon", llava ? 1e-5f : 1e-6f);
    add_tower_keys(w, m);
    gguf_writer_u32(w, "general.quantization_version", 2);
}

static void add_vit_layer(gguf_writer *w, const random_model *m, uint32_t il)
{
    const gboolean separate = is_llama(m) || random_model_is_qwen2(m);
    const char *up = m->old_names ? "ffn_down" : "ffn_up";
    const char *down = m->old_names ? "ffn_up" : "ffn_down";
    const uint64_t d = m->vit_embd, ff = m->vit_ff;
    const struct {
        gboolean has;
        const char *name;
        uint64_t n_in, n_out;  // n_out 0: a norm
    } parts[] = {
        { TRUE, "ln1", d, 0 },        { !separate, "attn_qkv", d, 3 * d },
        { separate, "attn_q", d, d }, { separate, "attn_k", d, d },
        { separate, "attn_v", d, d }, { TRUE, "attn_out", d, d },
        { TRUE, "ln2", d, 0 },        { random_model_is_qwen25(m), "ffn_gate", d, ff },
        { TRUE, up, d, ff },          { TRUE, down, ff, d },
    };

    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_autofree char *stem = g_strdup_printf("v.blk.%u.%s", il, parts[i].name);

        if (parts[i].has && parts[i].n_out == 0)
            add_norm(w, m, parts[i].n_in, stem);
        else if (parts[i].has)
            add_linear(w, m, parts[i].n_in, parts[i].n_out, stem);
    }
}

gguf_writer *random_model_mmproj(const random_model *m)
{
    if (random_model_is_mllama(m))
        return m->one_file ? random_mllama_text(m) : random_mllama_mmproj(m);
    if (random_model_is_text(m))
        return NULL;
    gguf_writer *w = gguf_writer_new();
    const uint64_t d = m->vit_embd, merged = d * m->merge * m->merge;
    const gboolean llava = random_model_is_llava(m);
    const uint64_t patch_ne[4] = { m->patch, m->patch, 3, d };
    const uint64_t pos_ne[2] = { d, m->n_pos + (llava ? 1 : 0) };  // the class token's first
    // Two slices of 3 * patch * patch inputs each feed one output.
    const float n_slice = is_llama(m) ? 1 : 2;
    const float patch_std = 1 / sqrtf(3.0f * n_slice * (float) m->patch * (float) m->patch);
    // The converter keeps the convolution in F32 unless the whole file is F16.
    const vlm_dtype conv = m->mmproj_dtype == VLM_DTYPE_F16 ? VLM_DTYPE_F16 : VLM_DTYPE_F32;

    add_mmproj_keys(w, m);
    add(w, m->seed, conv, 0, patch_std, 4, patch_ne, "v.patch_embd.weight");
    if (n_slice > 1)
        add(w, m->seed, conv, 0, patch_std, 4, patch_ne, "v.patch_embd.weight.1");
    if (!random_model_is_qwen2(m) && !llava)
        add_vector(w, m->seed, 0, d, "v.patch_embd.bias");
    if (!random_model_is_qwen2(m))
        add(w, m->seed, llava ? conv : VLM_DTYPE_F32, 0, 0.3f, 2, pos_ne, "v.position_embd.weight");
    if (llava)
        add(w, m->seed, VLM_DTYPE_F32, 0, 0.3f, 1, &d, "v.class_embd");
    for (uint32_t il = 0; il < m->vit_layers; il++)
        add_vit_layer(w, m, il);
    add_norm(w, m, d, llava ? "v.pre_ln" : "v.post_ln");
    if (random_model_is_smolvlm(m)) {
        add_matrix(w, m->seed, m->mmproj_dtype, 1, merged, m->n_embd, 0, "mm.model.fc.weight");
        return w;
    }
    add_linear(w, m, merged, llava ? m->n_embd : merged, "mm.0");
    add_linear(w, m, llava ? m->n_embd : merged, m->n_embd, "mm.2");
    for (uint32_t i = 0; i < m->n_deepstack; i++) {
        g_autofree char *norm = g_strdup_printf("v.deepstack.%u.norm", m->deepstack[i]);
        g_autofree char *fc1 = g_strdup_printf("v.deepstack.%u.fc1", m->deepstack[i]);
        g_autofree char *fc2 = g_strdup_printf("v.deepstack.%u.fc2", m->deepstack[i]);

        add_norm(w, m, merged, norm);
        add_linear(w, m, merged, merged, fc1);
        add_linear(w, m, merged, m->n_embd, fc2);
    }
    return w;
}
