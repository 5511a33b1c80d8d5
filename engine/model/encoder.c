// SPDX-License-Identifier: LGPL-2.1-or-later
// model/encoder.c — see model/encoder.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/encoder.h"

#include <math.h>

#include "ops/ops.h"

// ------------------------------------------------------------------------------ weights

gboolean vlm_encoder_want_norm(vlm_loader *loader, uint64_t *weight, uint64_t *bias, vlm_gguf *gguf,
                               const char *prefix, const char *what, uint32_t n, GError **error)
{
    g_autofree char *weight_name = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias_name = g_strdup_printf("%s.%s.bias", prefix, what);

    return vlm_loader_floats(loader, weight, gguf, weight_name, n, error)
           && vlm_loader_floats(loader, bias, gguf, bias_name, n, error);
}

gboolean vlm_encoder_want_linear(vlm_loader *loader, vlm_weight *weight, uint64_t *bias,
                                 vlm_gguf *gguf, const char *prefix, const char *what,
                                 uint32_t n_row, uint32_t n_col, GError **error)
{
    g_autofree char *weight_name = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias_name = g_strdup_printf("%s.%s.bias", prefix, what);

    return vlm_loader_matrix(loader, weight, gguf, weight_name, 1, n_row, n_col, error)
           && vlm_loader_floats(loader, bias, gguf, bias_name, n_row, error);
}

static gboolean want_block(const vlm_encoder_hparams *hp, vlm_encoder_block *b, vlm_loader *loader,
                           vlm_gguf *gguf, const char *prefix, GError **error)
{
    static const char *const qkv[] = { "attn_q", "attn_k", "attn_v" };
    const uint32_t d = hp->n_embd, ff = hp->n_ff;
    const char *up = hp->swapped ? "ffn_down" : "ffn_up";
    const char *down = hp->swapped ? "ffn_up" : "ffn_down";

    for (guint i = 0; i < G_N_ELEMENTS(qkv); i++)
        if (!vlm_encoder_want_linear(loader, &b->qkv[i], &b->qkv_bias[i], gguf, prefix, qkv[i], d,
                                     d, error))
            return FALSE;
    return vlm_encoder_want_norm(loader, &b->ln1, &b->ln1_bias, gguf, prefix, "ln1", d, error)
           && vlm_encoder_want_norm(loader, &b->ln2, &b->ln2_bias, gguf, prefix, "ln2", d, error)
           && vlm_encoder_want_linear(loader, &b->out, &b->out_bias, gguf, prefix, "attn_out", d, d,
                                      error)
           && vlm_encoder_want_linear(loader, &b->up, &b->up_bias, gguf, prefix, up, ff, d, error)
           && vlm_encoder_want_linear(loader, &b->down, &b->down_bias, gguf, prefix, down, d, ff,
                                      error);
}

gboolean vlm_encoder_want(vlm_encoder *m, vlm_loader *loader, vlm_gguf *gguf, const char *prefix,
                          GError **error)
{
    if (!m->blocks)
        m->blocks = g_new0(vlm_encoder_block, m->hp.n_layer);
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        g_autofree char *block = g_strdup_printf("%s.blk.%u", prefix, i);

        if (!want_block(&m->hp, &m->blocks[i], loader, gguf, block, error))
            return FALSE;
    }
    return TRUE;
}

void vlm_encoder_clear(vlm_encoder *m)
{
    g_clear_pointer(&m->blocks, g_free);
}

// ------------------------------------------------------------------------------ graph

void vlm_encoder_lay_out(const vlm_encoder *m, uint32_t n_row, vlm_scratch *s,
                         vlm_encoder_buffers *b)
{
    const vlm_encoder_hparams *hp = &m->hp;

    b->x = vlm_scratch_tensor(s, n_row, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n_row, hp->n_embd);
    b->qkv = vlm_scratch_tensor(s, n_row, 3 * hp->n_embd);
    b->attn = vlm_scratch_tensor(s, n_row, hp->n_embd);
    b->ff = vlm_scratch_tensor(s, n_row, hp->n_ff);
}

vlm_tensor vlm_encoder_part(const vlm_encoder_buffers *b, uint32_t i)
{
    vlm_tensor part = b->qkv;

    part.n_col /= 3;
    part.addr += (uint64_t) i * part.n_col * 4;
    return part;
}

static gboolean attend(const vlm_encoder_hparams *hp, vlm_cmd *cmd, const vlm_encoder_block *w,
                       const vlm_encoder_buffers *b, uint32_t n_row, GError **error)
{
    const float scale = 1.0f / sqrtf((float) hp->head_dim);

    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln1, w->ln1_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    for (uint32_t i = 0; i < 3; i++) {
        const vlm_tensor part = vlm_encoder_part(b, i);
        if (!vlm_op_matmul(cmd, &part, &b->norm, &w->qkv[i],
                           &(vlm_matmul_post){ .bias = w->qkv_bias[i] }, error))
            return FALSE;
    }
    vlm_cmd_barrier(cmd);
    if (!vlm_op_attention_full(cmd, &b->attn, &b->qkv, n_row, hp->n_head, hp->head_dim, scale,
                               hp->causal, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->x, &b->attn, &w->out,
                       &(vlm_matmul_post){ .bias = w->out_bias, .residual = &b->x }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

static gboolean feed_forward(const vlm_encoder_hparams *hp, vlm_cmd *cmd,
                             const vlm_encoder_block *w, const vlm_encoder_buffers *b,
                             GError **error)
{
    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln2, w->ln2_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->ff, &b->norm, &w->up,
                       &(vlm_matmul_post){ .bias = w->up_bias, .act = hp->act }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, &b->x, &b->ff, &w->down,
                         &(vlm_matmul_post){ .bias = w->down_bias, .residual = &b->x }, error)
           && vlm_cmd_split(cmd, error);
}

gboolean vlm_encoder_run(const vlm_encoder *m, vlm_cmd *cmd, const vlm_encoder_buffers *b,
                         uint32_t n_row, GError **error)
{
    for (uint32_t i = 0; i < m->hp.n_layer; i++)
        if (!attend(&m->hp, cmd, &m->blocks[i], b, n_row, error)
            || !feed_forward(&m->hp, cmd, &m->blocks[i], b, error))
            return FALSE;
    return TRUE;
}
