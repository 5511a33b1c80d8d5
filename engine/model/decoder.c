// SPDX-License-Identifier: LGPL-2.1-or-later
// model/decoder.c — see model/decoder.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/decoder.h"

#include <math.h>

#include "base/error.h"
#include "model/scratch.h"
#include "ops/ops.h"

// ------------------------------------------------------------------------------ weights

// Tensors of one decoder layer are called "blk.<il>.<what>.weight".
static gboolean want_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *gguf, uint32_t il,
                            const char *what, uint32_t n_mat, uint32_t n_row, uint32_t n_col,
                            GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s.weight", il, what);

    return vlm_loader_matrix(loader, out, gguf, name, n_mat, n_row, n_col, error);
}

static gboolean want_experts(vlm_decoder *m, vlm_loader *loader, vlm_weight *out, vlm_gguf *gguf,
                             uint32_t il, const char *what, uint32_t n_row, uint32_t n_col,
                             GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s.weight", il, what);

    return vlm_loader_experts(loader, out, &m->experts, gguf, name, il, m->hp.n_expert, n_row,
                              n_col, error);
}

static gboolean want_vector(vlm_loader *loader, uint64_t *out, vlm_gguf *gguf, uint32_t il,
                            const char *what, uint32_t n, GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s.weight", il, what);

    return vlm_loader_floats(loader, out, gguf, name, n, error);
}

static gboolean want_bias(vlm_loader *loader, uint64_t *out, vlm_gguf *gguf, uint32_t il,
                          const char *what, uint32_t n, GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s.bias", il, what);

    return vlm_loader_floats(loader, out, gguf, name, n, error);
}

static gboolean want_attention(vlm_decoder *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t il,
                               GError **error)
{
    const vlm_text_hparams *hp = &m->hp;
    vlm_decoder_layer *layer = &m->layers[il];
    const uint32_t n_q = hp->n_head * hp->head_dim, n_kv = hp->n_head_kv * hp->head_dim;
    const uint32_t d = hp->n_embd;

    return (!hp->head_norms
            || (want_vector(loader, &layer->q_norm, gguf, il, "attn_q_norm", hp->head_dim, error)
                && want_vector(loader, &layer->k_norm, gguf, il, "attn_k_norm", hp->head_dim,
                               error)))
           && (!hp->qkv_bias
               || (want_bias(loader, &layer->q_bias, gguf, il, "attn_q", n_q, error)
                   && want_bias(loader, &layer->k_bias, gguf, il, "attn_k", n_kv, error)
                   && want_bias(loader, &layer->v_bias, gguf, il, "attn_v", n_kv, error)))
           && want_matrix(loader, &layer->q, gguf, il, "attn_q", 1, n_q, d, error)
           && want_matrix(loader, &layer->k, gguf, il, "attn_k", 1, n_kv, d, error)
           && want_matrix(loader, &layer->v, gguf, il, "attn_v", 1, n_kv, d, error)
           && want_matrix(loader, &layer->o, gguf, il, "attn_output", 1, d, n_q, error);
}

static gboolean want_shared_expert(vlm_decoder *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t il,
                                   GError **error)
{
    vlm_decoder_layer *layer = &m->layers[il];
    const uint32_t d = m->hp.n_embd, ff = m->hp.n_ff_shared;

    return want_matrix(loader, &layer->shared_score, gguf, il, "ffn_gate_inp_shexp", 1, 1, d, error)
           && want_matrix(loader, &layer->shared_gate, gguf, il, "ffn_gate_shexp", 1, ff, d, error)
           && want_matrix(loader, &layer->shared_up, gguf, il, "ffn_up_shexp", 1, ff, d, error)
           && want_matrix(loader, &layer->shared_down, gguf, il, "ffn_down_shexp", 1, d, ff, error);
}

static gboolean want_ffn(vlm_decoder *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t il,
                         GError **error)
{
    const vlm_text_hparams *hp = &m->hp;
    vlm_decoder_layer *layer = &m->layers[il];
    const uint32_t d = hp->n_embd, e = hp->n_expert, ff = e > 0 ? hp->n_ff_expert : hp->n_ff;

    if (e == 0)
        return want_matrix(loader, &layer->gate, gguf, il, "ffn_gate", 1, ff, d, error)
               && want_matrix(loader, &layer->up, gguf, il, "ffn_up", 1, ff, d, error)
               && want_matrix(loader, &layer->down, gguf, il, "ffn_down", 1, d, ff, error);
    return want_matrix(loader, &layer->router, gguf, il, "ffn_gate_inp", 1, e, d, error)
           && (hp->fused_gate_up
                   ? want_experts(m, loader, &layer->gate, gguf, il, "ffn_gate_up_exps", 2 * ff, d,
                                  error)
                   : want_experts(m, loader, &layer->gate, gguf, il, "ffn_gate_exps", ff, d, error)
                         && want_experts(m, loader, &layer->up, gguf, il, "ffn_up_exps", ff, d,
                                         error))
           && want_experts(m, loader, &layer->down, gguf, il, "ffn_down_exps", d, ff, error)
           && (hp->n_ff_shared == 0 || want_shared_expert(m, loader, gguf, il, error));
}

static gboolean want_layer(vlm_decoder *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t il,
                           GError **error)
{
    vlm_decoder_layer *layer = &m->layers[il];
    const uint32_t d = m->hp.n_embd;

    return want_vector(loader, &layer->attn_norm, gguf, il, "attn_norm", d, error)
           && want_vector(loader, &layer->ffn_norm, gguf, il, m->hp.ffn_norm, d, error)
           && (m->mixer ? m->mixer->want(m->mixer_user, loader, gguf, il, error)
                        : want_attention(m, loader, gguf, il, error))
           && want_ffn(m, loader, gguf, il, error);
}

gboolean vlm_decoder_scale_rope(vlm_gguf *text, vlm_rope_pair *pairs, uint32_t n, GError **error)
{
    static const char name[] = "rope_freqs.weight";
    const vlm_gguf_tensor *t = vlm_gguf_tensor_find(text, name);
    g_autofree float *factors = g_new(float, n);

    if (!t)
        return TRUE;
    VLM_REQUIRE(t->bytes == n * sizeof *factors, error);
    if (!vlm_gguf_read_tensor(text, t, 0, factors, t->bytes, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++) {
        if (!(factors[i] >= 1e-3f && factors[i] <= 1e6f)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s: tensor %s has the value %g, expected 0.001 to 1000000",
                        vlm_gguf_path(text), name, (double) factors[i]);
            return FALSE;
        }
        // (a frequency of more than a turn per token is that without the whole turns)
        pairs[i].turn = (uint64_t) fmodl((long double) pairs[i].turn / (long double) factors[i],
                                         18446744073709551616.0L);
    }
    return TRUE;
}

gboolean vlm_decoder_want(vlm_decoder *m, vlm_loader *loader, vlm_gguf *text,
                          const vlm_rope_pair *pairs, GError **error)
{
    const vlm_text_hparams *hp = &m->hp;
    const uint32_t n_pair = hp->head_dim / 2;
    g_autofree vlm_rope_pair *scaled = g_memdup2(pairs, n_pair * sizeof *pairs);

    if (!m->layers)
        m->layers = g_new0(vlm_decoder_layer, hp->n_layer);
    if (!vlm_loader_matrix(loader, &m->token_embd, text, "token_embd.weight", 1, hp->n_vocab,
                           hp->n_embd, error)
        || (!hp->tied_output
            && !vlm_loader_matrix(loader, &m->output, text, "output.weight", 1, hp->n_vocab,
                                  hp->n_embd, error))
        || !vlm_loader_floats(loader, &m->output_norm, text, "output_norm.weight", hp->n_embd,
                              error)
        || !vlm_decoder_scale_rope(text, scaled, n_pair, error)
        || !vlm_loader_data(loader, &m->rope, scaled, n_pair * sizeof *scaled, error))
        return FALSE;
    for (uint32_t il = 0; il < hp->n_layer; il++)
        if (!want_layer(m, loader, text, il, error))
            return FALSE;
    return TRUE;
}

gboolean vlm_decoder_want_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *text, uint32_t il,
                                 const char *what, uint32_t n_row, uint32_t n_col, GError **error)
{
    return want_matrix(loader, out, text, il, what, 1, n_row, n_col, error);
}

gboolean vlm_decoder_want_floats(vlm_loader *loader, uint64_t *out, vlm_gguf *text, uint32_t il,
                                 const char *what, uint64_t n, GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s", il, what);

    return vlm_loader_floats(loader, out, text, name, n, error);
}

void vlm_decoder_clear(vlm_decoder *m)
{
    g_clear_pointer(&m->layers, g_free);
}

// ------------------------------------------------------------------------------ graph

// Work memory of a step.
typedef struct buffers {
    vlm_tensor x;           // [tok, n_embd] residual stream
    vlm_tensor norm;        // [tok, n_embd]
    vlm_tensor q;           // [tok, n_head * head_dim]
    vlm_tensor k, v;        // [tok, n_head_kv * head_dim]
    vlm_tensor attn;        // [tok, n_head * head_dim]
    vlm_tensor both;        // [tok * k, 2 ff]: see vlm_op_matmul_swiglu()
    vlm_tensor gated;       // [tok * k, ff]: the first columns of it
    vlm_tensor router;      // [tok, n_expert]
    uint64_t expert_ids;    // [n_layer, tok, k]
    uint64_t expert_gate;   // [tok, k]
    vlm_tensor expert_out;  // [tok * k, n_embd]
    vlm_moe_plan plan;
    vlm_tensor shared_both;               // [tok, 2 n_ff_shared]
    vlm_tensor shared_score, shared_out;  // [tok, 1], [tok, n_embd]
    uint64_t mixer;                       // what m->mixer asked for
    vlm_tensor out;                       // [n_out, n_embd]
} buffers;

static vlm_tensor first_columns(const vlm_tensor *t, uint32_t n)
{
    return (vlm_tensor){ t->addr, t->n_row, n, t->row_stride };
}

static void lay_out_experts(const vlm_decoder *m, const vlm_device *dev, uint32_t n_tok,
                            vlm_scratch *s, buffers *b)
{
    const vlm_text_hparams *hp = &m->hp;
    const uint32_t k = hp->n_expert_used;

    b->router = vlm_scratch_tensor(s, n_tok, hp->n_expert);
    // (all layers', which those who count them read when the step is done)
    b->expert_ids = vlm_scratch_bytes(s, (uint64_t) hp->n_layer * n_tok * k * 4);
    b->expert_gate = vlm_scratch_bytes(s, (uint64_t) n_tok * k * 4);
    b->expert_out = vlm_scratch_tensor(s, n_tok * k, hp->n_embd);
    b->plan = (vlm_moe_plan){
        .addr = vlm_scratch_bytes(s, vlm_moe_plan_bytes(dev, n_tok, k, hp->n_expert)),
        .ids = b->expert_ids,
        .n_tok = n_tok,
        .k = k,
        .n_expert = hp->n_expert,
    };
    if (hp->n_ff_shared == 0)
        return;
    b->shared_both = vlm_scratch_tensor(s, n_tok, 2 * hp->n_ff_shared);
    b->shared_score = vlm_tensor_make(vlm_scratch_bytes(s, (uint64_t) n_tok * 4), n_tok, 1);
    b->shared_out = vlm_scratch_tensor(s, n_tok, hp->n_embd);
}

static void lay_out(const vlm_decoder *m, const vlm_device *dev, uint32_t n_tok, uint32_t n_out,
                    vlm_scratch *s, buffers *b)
{
    const vlm_text_hparams *hp = &m->hp;
    const uint32_t n_q = hp->n_head * hp->head_dim, n_kv = hp->n_head_kv * hp->head_dim;
    const uint32_t k = hp->n_expert > 0 ? hp->n_expert_used : 1;
    const uint32_t ff = hp->n_expert > 0 ? hp->n_ff_expert : hp->n_ff;

    b->x = vlm_scratch_tensor(s, n_tok, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n_tok, hp->n_embd);
    if (m->mixer) {
        b->mixer = vlm_scratch_bytes(s, m->mixer->bytes(m->mixer_user, n_tok));
    } else {
        b->q = vlm_scratch_tensor(s, n_tok, n_q);
        b->k = vlm_scratch_tensor(s, n_tok, n_kv);
        b->v = vlm_scratch_tensor(s, n_tok, n_kv);
        b->attn = vlm_scratch_tensor(s, n_tok, n_q);
    }
    b->both = vlm_scratch_tensor(s, n_tok * k, 2 * ff);
    b->gated = first_columns(&b->both, ff);
    b->out = vlm_scratch_tensor(s, MAX(n_out, 1), hp->n_embd);
    if (hp->n_expert > 0)
        lay_out_experts(m, dev, n_tok, s, b);
}

uint64_t vlm_decoder_bytes(const vlm_decoder *m, const vlm_device *dev, uint32_t n_tok,
                           uint32_t n_out)
{
    vlm_scratch s = { 0 };
    buffers b;

    lay_out(m, dev, n_tok, n_out, &s, &b);
    return s.used;
}

// x += plane `plane` of the visual rows (plane 0 replaces instead).
static gboolean add_visual(vlm_cmd *cmd, const vlm_batch *batch, const vlm_tensor *x,
                           uint32_t plane, GError **error)
{
    for (uint32_t i = 0; i < batch->n_visual; i++) {
        const vlm_visual_rows *v = &batch->visual[i];
        const uint64_t row = (uint64_t) plane * v->n_row + v->first;
        const vlm_tensor src = vlm_tensor_make(v->addr + row * x->n_col * 4, v->n, x->n_col);
        uint64_t index = 0;
        void *host = NULL;
        if (!vlm_cmd_table_alloc(cmd, v->n * sizeof(uint32_t), &host, &index, error))
            return FALSE;
        for (uint32_t j = 0; j < v->n; j++)
            ((uint32_t *) host)[j] = v->tok0 + j;
        if (!vlm_op_rows_scatter(cmd, x, &src, index, plane > 0, error))
            return FALSE;
    }
    return TRUE;
}

// x += o(attention(rope(q), rope(k), v)), of b->norm, the normalised x; then `post`.
static gboolean attention(const vlm_decoder *m, const vlm_decoder_mix *mix, const buffers *b,
                          GError **error)
{
    const vlm_text_hparams *hp = &m->hp;
    const vlm_decoder_layer *layer = &m->layers[mix->il];
    const float scale = 1.0f / sqrtf((float) hp->head_dim);
    const vlm_matmul_part qkv[] = { { &b->q, &layer->q, { .bias = layer->q_bias } },
                                    { &b->k, &layer->k, { .bias = layer->k_bias } },
                                    { &b->v, &layer->v, { .bias = layer->v_bias } } };
    vlm_cmd *cmd = mix->cmd;

    vlm_cmd_stage(cmd, "q, k, v");
    if (!vlm_op_matmul_set(cmd, &b->norm, qkv, G_N_ELEMENTS(qkv), error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "rotate, append");
    if (!vlm_op_rope_append(cmd, &b->q, &b->k, &b->v, layer->q_norm, layer->k_norm, hp->rms_eps,
                            mix->tables->positions, m->rope, mix->tables->slots, mix->kv, mix->il,
                            hp->n_head, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "attention");
    if (!vlm_op_attention(cmd, &b->attn, &b->q, mix->tables->seqs, mix->batch->n_seq, mix->kv,
                          mix->il, hp->n_head, scale, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "attention output");
    return vlm_op_matmul(cmd, &b->x, &b->attn, &layer->o, &mix->post, error);
}

// x += down(silu(gate n) * up n), of the normalised x; then its norm.
static gboolean dense_ffn(vlm_cmd *cmd, const vlm_decoder_layer *layer, const buffers *b,
                          const vlm_matmul_norm *norm, GError **error)
{
    const vlm_matmul_post post = { .residual = &b->x, .norm = norm };

    vlm_cmd_stage(cmd, "gate, up");
    if (!vlm_op_matmul_swiglu(cmd, &b->both, &b->norm, &layer->gate, &layer->up, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "down");
    return vlm_op_matmul(cmd, &b->x, &b->gated, &layer->down, &post, error);
}

// x += sigmoid(score n) * down(silu(gate n) * up n), of the normalised x.
static gboolean shared_expert(vlm_cmd *cmd, const vlm_decoder_layer *layer, const buffers *b,
                              GError **error)
{
    const vlm_tensor gated = first_columns(&b->shared_both, b->shared_both.n_col / 2);

    vlm_cmd_stage(cmd, "shared expert");
    if (!vlm_op_matmul(cmd, &b->shared_score, &b->norm, &layer->shared_score,
                       &(vlm_matmul_post){ .act = VLM_ACT_SIGMOID }, error)
        || !vlm_op_matmul_swiglu(cmd, &b->shared_both, &b->norm, &layer->shared_gate,
                                 &layer->shared_up, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->shared_out, &gated, &layer->shared_down, NULL, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_moe_combine(cmd, &b->x, &b->shared_out, b->shared_score.addr, 1, error);
}

// The same as dense_ffn() with the k experts that the router chooses for each token, mixed by their
// weights, and the expert of every token where there is one.
static gboolean sparse_ffn(const vlm_decoder *m, vlm_cmd *cmd, uint32_t il, buffers *b,
                           const vlm_matmul_norm *norm, GError **error)
{
    const vlm_decoder_layer *layer = &m->layers[il];
    const uint32_t k = m->hp.n_expert_used;
    const gboolean shared = m->hp.n_ff_shared > 0;
    const vlm_dtype types[] = { layer->gate.dtype, layer->down.dtype, layer->up.dtype };
    const vlm_weight *up = m->hp.fused_gate_up ? NULL : &layer->up;

    // (One product that makes gate and up leaves no weight for up.)
    b->plan.tile = vlm_moe_matrix_tile(vlm_cmd_device(cmd), b->plan.n_tok, k, b->plan.n_expert,
                                       types, up ? 3 : 2);
    b->plan.ids = b->expert_ids + (uint64_t) il * b->plan.n_tok * k * 4;
    vlm_cmd_stage(cmd, "router");
    if (!vlm_op_moe_router(cmd, b->plan.ids, b->expert_gate, &b->router, &b->norm, &layer->router,
                           k, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_moe_plan_single(&b->plan)) {
        if (!vlm_op_moe_plan(cmd, &b->plan, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
    }
    vlm_cmd_stage(cmd, "gate, up of experts");
    if (!vlm_op_moe_swiglu(cmd, &b->both, &b->norm, &layer->gate, up, &b->plan, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "down of experts");
    if (!vlm_op_moe_mix(cmd, &b->x, &b->gated, &layer->down, b->expert_gate, &b->plan,
                        &b->expert_out, shared ? NULL : norm, error))
        return FALSE;
    if (!shared)
        return TRUE;
    vlm_cmd_barrier(cmd);
    if (!shared_expert(cmd, layer, b, error))
        return FALSE;
    if (!norm)
        return TRUE;
    vlm_cmd_barrier(cmd);
    return vlm_op_rms_norm(cmd, norm->dst, &b->x, norm->weight, norm->eps, error);
}

static gboolean trace_layer(vlm_cmd *cmd, const vlm_trace *trace, const vlm_tensor *x, uint32_t il,
                            GError **error)
{
    const uint64_t bytes = (uint64_t) x->n_row * x->n_col * 4;
    const vlm_tensor dst = vlm_tensor_make(trace->layers + il * bytes, x->n_row, x->n_col);
    uint64_t index = 0;
    void *host = NULL;

    if (!vlm_cmd_table_alloc(cmd, x->n_row * sizeof(uint32_t), &host, &index, error))
        return FALSE;
    for (uint32_t i = 0; i < x->n_row; i++)
        ((uint32_t *) host)[i] = i;
    return vlm_op_rows_gather(cmd, &dst, x, index, error);
}

// The weight of the norm that what comes after layer il begins with.
static uint64_t next_norm(const vlm_decoder *m, uint32_t il)
{
    return il + 1 < m->hp.n_layer ? m->layers[il + 1].attn_norm : m->output_norm;
}

// b->norm is the normalised x, before and after.
static gboolean run_layer(const vlm_decoder *m, vlm_cmd *cmd, const vlm_batch *batch,
                          const vlm_batch_tables *tables, const vlm_kv_layout *kv, uint32_t il,
                          buffers *b, const vlm_trace *trace, GError **error)
{
    const vlm_decoder_layer *layer = &m->layers[il];
    const float eps = m->hp.rms_eps;
    const gboolean add = il < m->hp.n_deepstack && batch->n_visual > 0;
    const vlm_matmul_norm ffn_norm = { &b->norm, layer->ffn_norm, eps };
    const vlm_matmul_norm next = { &b->norm, next_norm(m, il), eps };
    const vlm_decoder_mix mix = { .cmd = cmd,
                                  .batch = batch,
                                  .tables = tables,
                                  .kv = kv,
                                  .il = il,
                                  .x = &b->x,
                                  .norm = &b->norm,
                                  .post = { .residual = &b->x, .norm = &ffn_norm },
                                  .scratch = b->mixer };

    vlm_cmd_stage(cmd, NULL);  // a mixer's kernels one by one
    if (m->mixer ? !m->mixer->run(m->mixer_user, &mix, error) : !attention(m, &mix, b, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (m->hp.n_expert > 0 ? !sparse_ffn(m, cmd, il, b, add ? NULL : &next, error)
                           : !dense_ffn(cmd, layer, b, add ? NULL : &next, error))
        return FALSE;
    if (trace && trace->layers) {
        vlm_cmd_barrier(cmd);
        if (!trace_layer(cmd, trace, &b->x, il, error))
            return FALSE;
    }
    if (add) {
        vlm_cmd_barrier(cmd);
        if (!add_visual(cmd, batch, &b->x, 1 + il, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
        if (!vlm_op_rms_norm(cmd, &b->norm, &b->x, next.weight, eps, error))
            return FALSE;
    }
    return vlm_cmd_split(cmd, error);
}

// TRUE when every row's logits are wanted, in order: all decoding of answers.
static gboolean wants_all(const vlm_batch *batch)
{
    for (uint32_t i = 0; i < batch->n_out; i++)
        if (batch->out_rows[i] != i)
            return FALSE;
    return batch->n_out == batch->n_tok;
}

gboolean vlm_decoder_run(const vlm_decoder *m, vlm_cmd *cmd, vlm_batch *batch,
                         const vlm_kv_layout *kv, const vlm_buffer *scratch,
                         const vlm_tensor *logits, const vlm_trace *trace, GError **error)
{
    const vlm_weight *head = m->hp.tied_output ? &m->token_embd : &m->output;
    vlm_scratch s = { .addr = scratch->addr };
    vlm_batch_tables tables;
    buffers b;

    lay_out(m, vlm_cmd_device(cmd), batch->n_tok, batch->n_out, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes, error);
    vlm_cmd_stage(cmd, "embedding");
    if (m->experts)
        vlm_expert_store_begin(m->experts, cmd);
    if (!vlm_batch_upload(batch, cmd, &tables, error)
        || !vlm_op_embed(cmd, &b.x, tables.ids, &m->token_embd, error)
        || !add_visual(cmd, batch, &b.x, 0, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rms_norm(cmd, &b.norm, &b.x, m->layers[0].attn_norm, m->hp.rms_eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    for (uint32_t il = 0; il < m->hp.n_layer; il++)
        if (!run_layer(m, cmd, batch, &tables, kv, il, &b, trace, error))
            return FALSE;
    if (m->experts)  // (a layer ends with a barrier)
        vlm_expert_store_end(m->experts, cmd, scratch, (size_t) (b.expert_ids - scratch->addr),
                             batch->n_tok * m->hp.n_expert_used);
    if (batch->n_out == 0)
        return TRUE;
    vlm_cmd_stage(cmd, "output");
    if (wants_all(batch))
        return vlm_op_matmul(cmd, logits, &b.norm, head, NULL, error);
    if (!vlm_op_rows_gather(cmd, &b.out, &b.norm, tables.out_rows, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, logits, &b.out, head, NULL, error);
}
