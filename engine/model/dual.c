// SPDX-License-Identifier: LGPL-2.1-or-later
// model/dual.c — dual encoders: CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343).
//
// Two encoders, one for labels and one for pictures, lead to the same space, where the cosine of a
// picture and a label says how well they match. There is no decoder, no cache and no sampling. The
// reference is transformers' CLIPModel and SiglipModel.
#define G_LOG_DOMAIN "vlm-model"
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/dual_hparams.h"
#include "model/family.h"
#include "model/tokenizer.h"
#include "ops/ops.h"

typedef struct pooling_head {  // SigLIP: a learned query looks at all patches
    uint64_t probe;
    vlm_weight qkv[3], out, up, down;
    uint64_t qkv_bias[3], out_bias, up_bias, down_bias, ln, ln_bias;
} pooling_head;

typedef struct dual {
    vlm_dual_hparams hp;
    vlm_encoder text, vision;
    vlm_weight token_embd, text_position;  // [n_vocab, text], [n_ctx, text]
    vlm_weight text_projection;            // [dim, text]
    uint64_t text_norm, text_norm_bias, text_projection_bias;
    vlm_weight patch_embd, position;  // [vision, 3 * patch^2], [row, vision]
    uint64_t patch_bias;              // SigLIP
    uint64_t class_embd;              // CLIP: f32 [vision], row 0
    uint64_t pre_norm, pre_norm_bias;
    uint64_t post_norm, post_norm_bias;
    vlm_weight projection;  // CLIP: [dim, vision]
    pooling_head head;
} dual;

// ------------------------------------------------------------------------------ files

static void dual_free(gpointer data)
{
    dual *m = data;

    if (!m)
        return;
    vlm_encoder_clear(&m->text);
    vlm_encoder_clear(&m->vision);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(dual, dual_free)

static uint32_t n_patch(const dual *m)
{
    return m->hp.side * m->hp.side;
}

// Rows of the vision tower: CLIP has one more, the first, which becomes the picture's.
static uint32_t n_row(const dual *m)
{
    return n_patch(m) + (m->hp.siglip ? 0 : 1);
}

static gpointer dual_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes, GError **error)
{
    g_autoptr(dual) m = g_new0(dual, 1);
    const vlm_dual_hparams *hp = &m->hp;

    if (!vlm_dual_hparams_read(text, vision, &m->hp, error))
        return NULL;
    m->text.hp = hp->text;
    m->vision.hp = hp->vision;
    *sizes = (vlm_model_sizes){
        .n_layer = hp->text.n_layer,
        .n_embd = hp->dim,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->n_ctx,
        .n_head = hp->text.n_head,
        .n_head_kv = hp->text.n_head,
        .head_dim = hp->text.head_dim,
        .vision_layers = hp->vision.n_layer,
        .vision_embd = hp->vision.n_embd,
        .patch = hp->patch,
        .merge = 1,
        .group_frames = 1,
        .n_planes = 1,
    };
    return g_steal_pointer(&m);
}

// The patch convolution [out][colour][y][x], as a matrix over (colour, y, x).
static gboolean want_patch_embd(dual *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    const vlm_dual_hparams *hp = &m->hp;
    const uint64_t ne[4] = { hp->patch, hp->patch, 3, hp->vision.n_embd };
    const vlm_gguf_tensor *t = vlm_gguf_require_tensor(gguf, "v.patch_embd.weight", 4, ne, error);
    g_autofree uint8_t *rows = NULL;
    g_autoptr(GBytes) bytes = NULL;

    if (!t)
        return FALSE;
    rows = g_try_malloc(t->bytes);
    if (!rows || vlm_dtype_block_elems(t->dtype) != 1 || !vlm_weight_supported(t->dtype)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: tensor %s can't be used as %s",
                    vlm_gguf_path(gguf), t->name, vlm_dtype_name(t->dtype));
        return FALSE;
    }
    if (!vlm_gguf_read_tensor(gguf, t, 0, rows, t->bytes, error))
        return FALSE;
    bytes = g_bytes_new_take(g_steal_pointer(&rows), t->bytes);
    return vlm_loader_matrix_bytes(loader, &m->patch_embd, t->dtype, hp->vision.n_embd,
                                   3 * hp->patch * hp->patch, bytes, error);
}

static gboolean want_head(dual *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    static const char *const qkv[] = { "attn_q", "attn_k", "attn_v" };
    const uint32_t d = m->hp.vision.n_embd, ff = m->hp.vision.n_ff;
    static const char prefix[] = "v.head";
    pooling_head *h = &m->head;

    for (guint i = 0; i < G_N_ELEMENTS(qkv); i++)
        if (!vlm_encoder_want_linear(loader, &h->qkv[i], &h->qkv_bias[i], gguf, prefix, qkv[i], d,
                                     d, error))
            return FALSE;
    return vlm_loader_floats(loader, &h->probe, gguf, "v.head.probe", d, error)
           && vlm_loader_floats(loader, &m->patch_bias, gguf, "v.patch_embd.bias", d, error)
           && vlm_encoder_want_linear(loader, &h->out, &h->out_bias, gguf, prefix, "attn_out", d, d,
                                      error)
           && vlm_encoder_want_norm(loader, &h->ln, &h->ln_bias, gguf, prefix, "ln", d, error)
           && vlm_encoder_want_linear(loader, &h->up, &h->up_bias, gguf, prefix, "ffn_up", ff, d,
                                      error)
           && vlm_encoder_want_linear(loader, &h->down, &h->down_bias, gguf, prefix, "ffn_down", d,
                                      ff, error);
}

static gboolean want_clip(dual *m, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                          GError **error)
{
    const uint32_t d = m->hp.vision.n_embd;

    return vlm_loader_floats(loader, &m->class_embd, vision, "v.class_embd", d, error)
           && vlm_encoder_want_norm(loader, &m->pre_norm, &m->pre_norm_bias, vision, "v", "pre_ln",
                                    d, error)
           && vlm_loader_matrix(loader, &m->projection, vision, "visual_projection.weight", 1,
                                m->hp.dim, d, error)
           && vlm_loader_matrix(loader, &m->text_projection, text, "text_projection.weight", 1,
                                m->hp.dim, m->hp.text.n_embd, error);
}

static gboolean dual_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                          GError **error)
{
    dual *m = data;
    const uint32_t t = m->hp.text.n_embd, v = m->hp.vision.n_embd;

    return vlm_loader_matrix(loader, &m->token_embd, text, "t.token_embd.weight", 1, m->hp.n_vocab,
                             t, error)
           && vlm_loader_matrix(loader, &m->text_position, text, "t.position_embd.weight", 1,
                                m->hp.n_ctx, t, error)
           && vlm_encoder_want_norm(loader, &m->text_norm, &m->text_norm_bias, text, "t", "post_ln",
                                    t, error)
           && vlm_encoder_want(&m->text, loader, text, "t", error)
           && want_patch_embd(m, loader, vision, error)
           && vlm_loader_matrix(loader, &m->position, vision, "v.position_embd.weight", 1, n_row(m),
                                v, error)
           && vlm_encoder_want_norm(loader, &m->post_norm, &m->post_norm_bias, vision, "v",
                                    "post_ln", v, error)
           && vlm_encoder_want(&m->vision, loader, vision, "v", error)
           && (m->hp.siglip ? want_head(m, loader, vision, error)
                                  && vlm_encoder_want_linear(loader, &m->text_projection,
                                                             &m->text_projection_bias, text, "t",
                                                             "head", m->hp.dim, t, error)
                            : want_clip(m, loader, text, vision, error));
}

// ------------------------------------------------------------------------------ pictures

// One row comes out of every picture.
static gboolean plan(gpointer data, const vlm_showing *showing, uint32_t width, uint32_t height,
                     vlm_plan *out, GError **error)
{
    (void) data, (void) showing, (void) width, (void) height, (void) error;
    *out = (vlm_plan){ .grid_h = 1, .grid_w = 1 };
    return TRUE;
}

// Work memory of encoding one picture.
typedef struct buffers {
    vlm_encoder_buffers rows;
    vlm_tensor patches;         // [patch, 3 * patch^2]
    vlm_tensor one, other, ff;  // [1, vision], [1, vision], [1, ff]: the picture's own row
    uint64_t pixels;
} buffers;

static void lay_out(const dual *m, const vlm_picture_group *group, vlm_scratch *s, buffers *b)
{
    const vlm_dual_hparams *hp = &m->hp;
    const uint32_t side = hp->side * hp->patch;

    vlm_encoder_lay_out(&m->vision, n_row(m), s, &b->rows);
    b->patches = vlm_scratch_tensor(s, n_patch(m), 3 * hp->patch * hp->patch);
    b->one = vlm_scratch_tensor(s, 1, hp->vision.n_embd);
    b->other = vlm_scratch_tensor(s, 1, hp->vision.n_embd);
    b->ff = vlm_scratch_tensor(s, 1, hp->vision.n_ff);
    b->pixels = vlm_scratch_bytes(s, vlm_pixels_scratch_bytes(group->pixels[0], side, side));
}

static uint64_t encode_bytes(gpointer data, const vlm_device *dev, const vlm_picture_group *group)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    lay_out(data, group, &s, &b);
    return s.used;
}

// The longer side of a picture whose shorter one becomes `side`, in doubles as in the reference.
static uint32_t longer_side(uint32_t side, uint32_t longer, uint32_t shorter)
{
    return (uint32_t) ((double) ((uint64_t) side * longer) / shorter);
}

// CLIP: the shorter side is stretched to the square's, the middle is cut out. SigLIP: both sides
// are. Where the square is no multiple of a patch, the rest to the right and below is left out.
static gboolean preprocess(const dual *m, vlm_cmd *cmd, const vlm_picture_group *group,
                           const buffers *b, GError **error)
{
    const vlm_dual_hparams *hp = &m->hp;
    const vlm_pixels *from = group->pixels[0];
    const uint32_t side = hp->image_size;
    vlm_pixels_params params = {
        .out_width = hp->side * hp->patch,
        .out_height = hp->side * hp->patch,
        .patch = hp->patch,
        .merge = 1,
        .n_time = 1,
        .full_width = side,
        .full_height = side,
    };

    memcpy(params.mean, hp->mean, sizeof params.mean);
    memcpy(params.std, hp->std, sizeof params.std);
    if (!hp->siglip && from->width <= from->height) {
        params.full_height = longer_side(side, from->height, from->width);
        params.top = (params.full_height - side) / 2;
    } else if (!hp->siglip) {
        params.full_width = longer_side(side, from->width, from->height);
        params.left = (params.full_width - side) / 2;
    }
    if (!vlm_op_pixels(cmd, &b->patches, group->picture[0], from, b->pixels, &params, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

// Device address of the numbers 0 .. n - 1, each `period` of them starting over.
static gboolean counting(vlm_cmd *cmd, uint32_t n, uint32_t period, uint64_t *addr, GError **error)
{
    void *host = NULL;

    if (!vlm_cmd_table_alloc(cmd, (size_t) n * sizeof(uint32_t), &host, addr, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++)
        ((uint32_t *) host)[i] = i % period;
    return TRUE;
}

// x = positions + (class row, patches).
static gboolean embed(const dual *m, vlm_cmd *cmd, const buffers *b, GError **error)
{
    const vlm_encoder_hparams *hp = &m->vision.hp;
    const vlm_tensor *x = &b->rows.x;
    vlm_tensor patch_rows = *x;
    uint64_t ids = 0;

    patch_rows.n_row = n_patch(m);
    patch_rows.addr += (uint64_t) (x->n_row - patch_rows.n_row) * x->row_stride * 4;
    if (!counting(cmd, x->n_row, x->n_row, &ids, error)
        || !vlm_op_embed(cmd, x, ids, &m->position, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &patch_rows, &b->patches, &m->patch_embd,
                       &(vlm_matmul_post){ .bias = m->patch_bias, .residual = &patch_rows }, error))
        return FALSE;
    if (!m->hp.siglip) {
        const vlm_tensor row = vlm_tensor_make(m->class_embd, 1, hp->n_embd);
        if (!vlm_op_rows_scatter(cmd, x, &row, ids, TRUE, error))  // to row 0
            return FALSE;
        vlm_cmd_barrier(cmd);
        if (!vlm_op_layer_norm(cmd, x, x, m->pre_norm, m->pre_norm_bias, hp->eps, error))
            return FALSE;
    }
    vlm_cmd_barrier(cmd);
    return TRUE;
}

// CLIP: the class row, normalised and projected.
static gboolean pool_class(const dual *m, vlm_cmd *cmd, const buffers *b, const vlm_tensor *out,
                           GError **error)
{
    vlm_tensor row = b->rows.x;

    row.n_row = 1;
    if (!vlm_op_layer_norm(cmd, &b->one, &row, m->post_norm, m->post_norm_bias, m->hp.vision.eps,
                           error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, out, &b->one, &m->projection, NULL, error);
}

// SigLIP: the probe looks at all rows, then a perceptron. All rows get the probe's query: that
// costs a layer's attention and needs no kernel of its own.
static gboolean pool_attention(const dual *m, vlm_cmd *cmd, const buffers *b, const vlm_tensor *out,
                               GError **error)
{
    const vlm_encoder_hparams *hp = &m->vision.hp;
    const pooling_head *h = &m->head;
    const vlm_encoder_buffers *r = &b->rows;
    const vlm_tensor probe = vlm_tensor_make(h->probe, 1, hp->n_embd);
    const vlm_tensor query = vlm_encoder_part(r, 0);
    vlm_tensor seen = r->attn;
    uint64_t zeros = 0;

    seen.n_row = 1;
    if (!counting(cmd, r->x.n_row, 1, &zeros, error)
        || !vlm_op_layer_norm(cmd, &r->norm, &r->x, m->post_norm, m->post_norm_bias, hp->eps, error)
        || !vlm_op_matmul(cmd, &b->one, &probe, &h->qkv[0],
                          &(vlm_matmul_post){ .bias = h->qkv_bias[0] }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    for (uint32_t i = 1; i < 3; i++) {
        const vlm_tensor part = vlm_encoder_part(r, i);
        if (!vlm_op_matmul(cmd, &part, &r->norm, &h->qkv[i],
                           &(vlm_matmul_post){ .bias = h->qkv_bias[i] }, error))
            return FALSE;
    }
    if (!vlm_op_rows_gather(cmd, &query, &b->one, zeros, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_attention_full(cmd, &r->attn, &r->qkv, r->x.n_row, hp->n_head, hp->head_dim,
                               1.0f / sqrtf((float) hp->head_dim), FALSE, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->one, &seen, &h->out, &(vlm_matmul_post){ .bias = h->out_bias },
                       error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_layer_norm(cmd, &b->other, &b->one, h->ln, h->ln_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->ff, &b->other, &h->up,
                       &(vlm_matmul_post){ .bias = h->up_bias, .act = hp->act }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, out, &b->ff, &h->down,
                         &(vlm_matmul_post){ .bias = h->down_bias, .residual = &b->one }, error);
}

static gboolean encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                       const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const dual *m = data;
    const vlm_tensor out = vlm_tensor_make(group->out, 1, m->hp.dim);
    vlm_scratch s = { .addr = scratch->addr };
    buffers b;

    lay_out(m, group, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes && group->n_picture == 1, error);
    if (trace && trace->pixels)
        b.patches = vlm_tensor_make(trace->pixels, b.patches.n_row, b.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!preprocess(m, cmd, group, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!embed(m, cmd, &b, error)
        || !vlm_encoder_run(&m->vision, cmd, &b.rows, b.rows.x.n_row, error)
        || !(m->hp.siglip ? pool_attention : pool_class)(m, cmd, &b, &out, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}

// ------------------------------------------------------------------------------ labels

// CLIP: <|startoftext|> label <|endoftext|>. SigLIP: label </s>, filled up with </s>: its tower
// looks at all positions and takes the last.
static gboolean label_tokens(gconstpointer data, const vlm_tokenizer *tok, const char *label,
                             GArray *out, GError **error)
{
    const dual *m = data;
    const guint first = out->len, n_ctx = m->hp.n_ctx;
    guint n_end = 0;
    const uint32_t end = vlm_tokenizer_end_ids(tok, &n_end)[0];
    uint32_t start = 0;

    if (!m->hp.siglip && vlm_tokenizer_find(tok, "<|startoftext|>", &start))
        g_array_append_val(out, start);
    if (!vlm_tokenizer_append(tok, label, -1, FALSE, out, error))
        return FALSE;
    if (out->len - first > n_ctx - 1)  // a longer label is cut, as the reference does
        g_array_set_size(out, first + n_ctx - 1);
    do {
        g_array_append_val(out, end);
    } while (m->hp.siglip && out->len - first < n_ctx);
    return TRUE;
}

// Work memory of n labels of up to n_tok tokens.
static void lay_out_labels(const dual *m, uint32_t n_label, uint32_t n_tok, vlm_scratch *s,
                           vlm_encoder_buffers *b, vlm_tensor *pooled)
{
    vlm_encoder_lay_out(&m->text, n_label * n_tok, s, b);
    *pooled = vlm_scratch_tensor(s, n_label, m->hp.text.n_embd);
}

static uint64_t label_bytes(gconstpointer data, uint32_t n_label, uint32_t n_tok)
{
    vlm_scratch s = { 0 };
    vlm_encoder_buffers b;
    vlm_tensor pooled;

    lay_out_labels(data, n_label, n_tok, &s, &b, &pooled);
    return s.used;
}

static gboolean encode_labels(gpointer data, vlm_cmd *cmd, const vlm_labels *labels,
                              const vlm_buffer *scratch, uint64_t out_addr, GError **error)
{
    const dual *m = data;
    const uint32_t rows = labels->n_label * labels->n_tok;
    const vlm_tensor out = vlm_tensor_make(out_addr, labels->n_label, m->hp.dim);
    vlm_scratch s = { .addr = scratch->addr };
    uint64_t ids = 0, positions = 0, identity = 0, last = 0;
    vlm_encoder_buffers b;
    vlm_tensor pooled;
    void *host = NULL;

    lay_out_labels(m, labels->n_label, labels->n_tok, &s, &b, &pooled);
    VLM_REQUIRE(s.used <= scratch->bytes && labels->n_tok <= m->hp.n_ctx, error);
    vlm_tensor normed = b.norm;
    normed.n_row = labels->n_label;
    if (!vlm_cmd_table(cmd, labels->ids, rows * sizeof *labels->ids, &ids, error)
        || !counting(cmd, rows, labels->n_tok, &positions, error)
        || !counting(cmd, rows, rows, &identity, error)
        || !vlm_cmd_table_alloc(cmd, labels->n_label * sizeof(uint32_t), &host, &last, error)
        || !vlm_op_embed(cmd, &b.x, ids, &m->token_embd, error)
        || !vlm_op_embed(cmd, &b.norm, positions, &m->text_position, error))
        return FALSE;
    for (uint32_t i = 0; i < labels->n_label; i++)
        ((uint32_t *) host)[i] = i * labels->n_tok + labels->len[i] - 1;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rows_scatter(cmd, &b.x, &b.norm, identity, TRUE, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_encoder_run(&m->text, cmd, &b, labels->n_tok, error)
        || !vlm_op_rows_gather(cmd, &pooled, &b.x, last, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_layer_norm(cmd, &normed, &pooled, m->text_norm, m->text_norm_bias, m->hp.text.eps,
                           error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, &out, &normed, &m->text_projection,
                         &(vlm_matmul_post){ .bias = m->text_projection_bias }, error);
}

// CLIP: one of the labels fits (softmax). SigLIP: each fits or doesn't (sigmoid).
static void score(gconstpointer data, const double *cosines, uint32_t n, double *logits,
                  double *probabilities)
{
    const vlm_dual_hparams *hp = &((const dual *) data)->hp;
    double top = -INFINITY, total = 0;

    for (uint32_t i = 0; i < n; i++) {
        logits[i] = (double) hp->scale * cosines[i] + (double) hp->bias;
        top = fmax(top, logits[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        probabilities[i] = hp->siglip ? 1 / (1 + exp(-logits[i])) : exp(logits[i] - top);
        total += probabilities[i];
    }
    for (uint32_t i = 0; !hp->siglip && i < n; i++)
        probabilities[i] /= total;
}

// ------------------------------------------------------------------------------ family

static char *no_label(const gint64 *times, uint32_t n)
{
    (void) times, (void) n;
    return g_strdup("");
}

// Nothing is written around anything.
static const vlm_protocol protocol = {
    .system_open = "",
    .system_close = "",
    .user_open = "",
    .answer_open = "",
    .answer_close = "",
    .visual_open = "",
    .visual_close = "",
    .image_token = "",
    .video_token = "",
    .group_label = no_label,
};

static const vlm_ranker ranker = {
    .is_one = vlm_dual_has_text,
    .has_vision = vlm_dual_has_vision,
    .tokenizer = vlm_tokenizer_new_labels,
    .tokens = label_tokens,
    .bytes = label_bytes,
    .encode = encode_labels,
    .score = score,
};

static const char *const archs[] = { "clip", NULL };

const vlm_family vlm_family_dual = {
    .archs = archs,
    .ranker = &ranker,
    .protocol = &protocol,
    .read = dual_read,
    .free = dual_free,
    .want = dual_want,
    .encode_bytes = encode_bytes,
    .encode = encode,
    .plan = plan,
};
