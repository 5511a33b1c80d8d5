// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen35.c — Qwen3.5 and 3.6, dense (qwen35) and sparse (qwen35moe): files, prompt, layers.
//
// Three of four layers are gated delta nets, which keep a state of fixed size; the others attend
// and gate what attention gives. The tower is Qwen3-VL's without DeepStack.
// Source: the implementation in transformers, which is the reference that tests/check_model.c
// compares with; gated delta net: Yang et al. 2024 (arXiv 2412.06464).
#define G_LOG_DOMAIN "vlm-model"
#include <math.h>

#include "base/error.h"
#include "model/qwen3vl.h"
#include "ops/ops.h"

typedef struct qwen35_layer {
    uint32_t index;  // among the layers of its kind
    // layers that attend
    vlm_weight q;  // [n_head * 2 * head_dim, n_embd]: of each head the query, then the gate
    vlm_weight k, v, o;
    uint64_t q_norm, k_norm;  // f32 [head_dim]
    // gated delta nets
    vlm_weight qkv;          // [(2 k_heads + v_heads) * D, n_embd]
    vlm_weight z, out;       // [v_heads * D, n_embd] and its transpose's shape
    vlm_weight alpha, beta;  // [v_heads, n_embd]
    uint64_t conv;           // f32 [channel, 4]
    uint64_t dt_bias, a;     // f32 [v_heads]
    uint64_t norm;           // f32 [D]
} qwen35_layer;

typedef struct qwen35 {
    qwen3vl base;  // first: the tower's functions take it
    vlm_delta_shape shape;
    uint64_t conv_bytes;   // of a layer's state: the convolution's part comes first
    uint64_t state_bytes;  // both
    qwen35_layer *layers;
} qwen35;

// ------------------------------------------------------------------------------ files

static void qwen35_free(gpointer data)
{
    qwen35 *m = data;

    if (!m)
        return;
    vlm_decoder_clear(&m->base.decoder);
    vlm_vit_clear(&m->base.vit);
    g_free(m->layers);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(qwen35, qwen35_free)

static gboolean want_mixer(gpointer user, vlm_loader *loader, vlm_gguf *text, uint32_t il,
                           GError **error);
static uint64_t mixer_bytes(gconstpointer user, uint32_t n_tok);
static gboolean run_mixer(gconstpointer user, const vlm_decoder_mix *mix, GError **error);

static const vlm_decoder_mixer mixer = { want_mixer, mixer_bytes, run_mixer };

static gpointer qwen35_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes,
                            GError **error)
{
    g_autoptr(qwen35) m = g_new0(qwen35, 1);
    vlm_decoder *decoder = &m->base.decoder;
    const vlm_text_hparams *hp = &decoder->hp;
    uint32_t n[2] = { 0 };

    if (!vlm_qwen3vl_read_hparams(&m->base, text, vision, sizes, error))
        return NULL;
    if (hp->n_deepstack > 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: has DeepStack layers, which models of architecture %s do not",
                    vlm_gguf_path(text), hp->arch);
        return NULL;
    }
    m->shape = (vlm_delta_shape){ hp->delta_k_heads, hp->delta_v_heads, hp->delta_head_dim };
    m->conv_bytes =
        vlm_conv_state_bytes((2 * hp->delta_k_heads + hp->delta_v_heads) * hp->delta_head_dim);
    m->state_bytes = m->conv_bytes + vlm_delta_state_bytes(&m->shape);
    sizes->n_recurrent = hp->n_recurrent;
    sizes->state_bytes = m->state_bytes * hp->n_recurrent;
    m->layers = g_new0(qwen35_layer, hp->n_layer);
    for (uint32_t il = 0; il < hp->n_layer; il++)
        m->layers[il].index = n[hp->recurrent[il]]++;
    decoder->mixer = &mixer;
    decoder->mixer_user = m;
    return g_steal_pointer(&m);
}

static gboolean want_delta(const qwen35 *m, qwen35_layer *layer, vlm_loader *loader, vlm_gguf *text,
                           uint32_t il, GError **error)
{
    const uint32_t d = m->base.decoder.hp.n_embd, hd = m->shape.head_dim, hv = m->shape.n_v_head;
    const uint32_t n_qkv = (2 * m->shape.n_k_head + hv) * hd;

    return vlm_decoder_want_matrix(loader, &layer->qkv, text, il, "attn_qkv", n_qkv, d, error)
           && vlm_decoder_want_matrix(loader, &layer->z, text, il, "attn_gate", hv * hd, d, error)
           && vlm_decoder_want_matrix(loader, &layer->alpha, text, il, "ssm_alpha", hv, d, error)
           && vlm_decoder_want_matrix(loader, &layer->beta, text, il, "ssm_beta", hv, d, error)
           && vlm_decoder_want_matrix(loader, &layer->out, text, il, "ssm_out", d, hv * hd, error)
           && vlm_decoder_want_floats(loader, &layer->conv, text, il, "ssm_conv1d.weight",
                                      4 * (uint64_t) n_qkv, error)
           && vlm_decoder_want_floats(loader, &layer->dt_bias, text, il, "ssm_dt.bias", hv, error)
           && vlm_decoder_want_floats(loader, &layer->a, text, il, "ssm_a", hv, error)
           && vlm_decoder_want_floats(loader, &layer->norm, text, il, "ssm_norm.weight", hd, error);
}

static gboolean want_mixer(gpointer user, vlm_loader *loader, vlm_gguf *text, uint32_t il,
                           GError **error)
{
    qwen35 *m = user;
    const vlm_text_hparams *hp = &m->base.decoder.hp;
    qwen35_layer *layer = &m->layers[il];
    const uint32_t d = hp->n_embd, hd = hp->head_dim;
    const uint32_t n_q = hp->n_head * hd, n_kv = hp->n_head_kv * hd;

    if (hp->recurrent[il])
        return want_delta(m, layer, loader, text, il, error);
    return vlm_decoder_want_matrix(loader, &layer->q, text, il, "attn_q", 2 * n_q, d, error)
           && vlm_decoder_want_matrix(loader, &layer->k, text, il, "attn_k", n_kv, d, error)
           && vlm_decoder_want_matrix(loader, &layer->v, text, il, "attn_v", n_kv, d, error)
           && vlm_decoder_want_matrix(loader, &layer->o, text, il, "attn_output", d, n_q, error)
           && vlm_decoder_want_floats(loader, &layer->q_norm, text, il, "attn_q_norm.weight", hd,
                                      error)
           && vlm_decoder_want_floats(loader, &layer->k_norm, text, il, "attn_k_norm.weight", hd,
                                      error);
}

// ------------------------------------------------------------------------------ layers

// Work memory of a layer's first half, of both kinds in the same place.
typedef struct buffers {
    vlm_tensor both;           // [tok, n_head * 2 * head_dim]
    vlm_tensor q, gate, attn;  // [tok, n_head * head_dim]
    vlm_tensor k, v;           // [tok, n_head_kv * head_dim]
    vlm_tensor qkv;            // [tok, channel]
    vlm_tensor z, y;           // [tok, v_heads * D]
    vlm_tensor alpha, beta;    // [tok, v_heads]
} buffers;

static void lay_out(const qwen35 *m, uint32_t n_tok, vlm_scratch *s, buffers *b)
{
    const vlm_text_hparams *hp = &m->base.decoder.hp;
    const uint32_t n_q = hp->n_head * hp->head_dim, n_kv = hp->n_head_kv * hp->head_dim;
    const uint32_t hd = m->shape.head_dim, hv = m->shape.n_v_head;
    vlm_scratch delta = *s;

    b->both = vlm_scratch_tensor(s, n_tok, 2 * n_q);
    b->q = vlm_scratch_tensor(s, n_tok, n_q);
    b->gate = vlm_scratch_tensor(s, n_tok, n_q);
    b->attn = vlm_scratch_tensor(s, n_tok, n_q);
    b->k = vlm_scratch_tensor(s, n_tok, n_kv);
    b->v = vlm_scratch_tensor(s, n_tok, n_kv);
    b->qkv = vlm_scratch_tensor(&delta, n_tok, (2 * m->shape.n_k_head + hv) * hd);
    b->z = vlm_scratch_tensor(&delta, n_tok, hv * hd);
    b->y = vlm_scratch_tensor(&delta, n_tok, hv * hd);
    b->alpha = vlm_scratch_tensor(&delta, n_tok, hv);
    b->beta = vlm_scratch_tensor(&delta, n_tok, hv);
    s->used = MAX(s->used, delta.used);
}

static uint64_t mixer_bytes(gconstpointer user, uint32_t n_tok)
{
    vlm_scratch s = { 0 };
    buffers b;

    lay_out(user, n_tok, &s, &b);
    return s.used;
}

// x += o(sigmoid(gate) * attention(rope(q), rope(k), v)), of the normalised x.
static gboolean attention(const qwen35 *m, const vlm_decoder_mix *mix, const buffers *b,
                          GError **error)
{
    const vlm_text_hparams *hp = &m->base.decoder.hp;
    const qwen35_layer *layer = &m->layers[mix->il];
    const float scale = 1.0f / sqrtf((float) hp->head_dim);
    const vlm_matmul_part qkv[] = { { &b->both, &layer->q, { 0 } },
                                    { &b->k, &layer->k, { 0 } },
                                    { &b->v, &layer->v, { 0 } } };

    if (!vlm_op_matmul_set(mix->cmd, mix->norm, qkv, G_N_ELEMENTS(qkv), error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_split_heads(mix->cmd, &b->q, &b->gate, &b->both, hp->head_dim, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_rope_append(mix->cmd, &b->q, &b->k, &b->v, layer->q_norm, layer->k_norm,
                            hp->rms_eps, mix->tables->positions, m->base.decoder.rope,
                            mix->tables->slots, mix->kv, layer->index, hp->n_head, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_attention(mix->cmd, &b->attn, &b->q, mix->tables->seqs, mix->batch->n_seq, mix->kv,
                          layer->index, hp->n_head, scale, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_sigmoid_gate(mix->cmd, &b->attn, &b->gate, &b->attn, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    return vlm_op_matmul(mix->cmd, mix->x, &b->attn, &layer->o, &mix->post, error);
}

// x += out(norm(delta(conv(qkv))) * silu(z)), of the normalised x.
static gboolean delta_net(const qwen35 *m, const vlm_decoder_mix *mix, const buffers *b,
                          GError **error)
{
    const qwen35_layer *layer = &m->layers[mix->il];
    const uint64_t state = m->state_bytes * layer->index, seqs = mix->tables->states;
    const uint32_t n_seq = mix->batch->n_seq;
    const vlm_matmul_part parts[] = { { &b->qkv, &layer->qkv, { 0 } },
                                      { &b->z, &layer->z, { 0 } },
                                      { &b->alpha, &layer->alpha, { 0 } },
                                      { &b->beta, &layer->beta, { 0 } } };

    if (!vlm_op_matmul_set(mix->cmd, mix->norm, parts, G_N_ELEMENTS(parts), error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_causal_conv(mix->cmd, &b->qkv, &b->qkv, layer->conv, seqs, n_seq, state, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_delta_rule(mix->cmd, &b->y, &b->qkv, &b->alpha, &b->beta, layer->dt_bias, layer->a,
                           &m->shape, seqs, n_seq, state + m->conv_bytes, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    if (!vlm_op_rms_norm_gated(mix->cmd, &b->y, &b->y, &b->z, layer->norm, m->shape.n_v_head,
                               m->base.decoder.hp.rms_eps, error))
        return FALSE;
    vlm_cmd_barrier(mix->cmd);
    return vlm_op_matmul(mix->cmd, mix->x, &b->y, &layer->out, &mix->post, error);
}

static gboolean run_mixer(gconstpointer user, const vlm_decoder_mix *mix, GError **error)
{
    const qwen35 *m = user;
    vlm_scratch s = { .addr = mix->scratch };
    buffers b;

    lay_out(m, mix->batch->n_tok, &s, &b);
    return m->base.decoder.hp.recurrent[mix->il] ? delta_net(m, mix, &b, error)
                                                 : attention(m, mix, &b, error);
}

// ------------------------------------------------------------------------------ prompt

static const char *const specials[] = { "<think>", "</think>", NULL };

// The model thinks aloud unless its answer begins with a thought that is over.
static const vlm_protocol protocol = {
    .system_open = "<|im_start|>system\n",
    .system_close = "<|im_end|>\n",
    .user_open = "<|im_start|>user\n",
    .answer_open = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    .known_open = "<|im_end|>\n<|im_start|>assistant\n",
    .answer_close = "<|im_end|>\n",
    .visual_open = "<|vision_start|>",
    .visual_close = "<|vision_end|>",
    .image_token = "<|image_pad|>",
    .video_token = "<|video_pad|>",
    .specials = specials,
    .group_label = vlm_qwen3vl_group_label,
};

static const char *const archs[] = { "qwen35", "qwen35moe", NULL };
static const vlm_text_arch text_archs[] = {
    { .name = "qwen35", .rope = VLM_ROPE_IMROPE, .head_norms = TRUE, .hybrid = TRUE },
    { .name = "qwen35moe",
      .rope = VLM_ROPE_IMROPE,
      .head_norms = TRUE,
      .sparse = TRUE,
      .hybrid = TRUE },
    { .name = NULL },
};
static const vlm_vision_tower *const towers[] = { &vlm_qwen3vl_tower, NULL };
static const char *const projectors[] = { "qwen3vl_merger", NULL };

const vlm_family vlm_family_qwen35 = {
    .archs = archs,
    .projectors = projectors,
    .text_archs = text_archs,
    .towers = towers,
    .protocol = &protocol,
    .read = qwen35_read,
    .free = qwen35_free,
    .want = vlm_qwen3vl_want,
    .decode_bytes = vlm_qwen3vl_decode_bytes,
    .encode_bytes = vlm_qwen3vl_encode_bytes,
    .decode = vlm_qwen3vl_decode,
    .encode = vlm_qwen3vl_encode,
    .plan = vlm_qwen3vl_plan,
    .grid_positions = vlm_qwen3vl_grid_positions,
};
