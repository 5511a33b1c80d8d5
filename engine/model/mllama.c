// SPDX-License-Identifier: LGPL-2.1-or-later
// model/mllama.c — Llama 3.2 Vision: a Llama 3 decoder, some of whose layers look at the rows of a
// picture instead of the sequence: files, decoder, prompt.
//
// A picture is one token of the sequence. Its rows get keys and values once, which lie beside those
// of the sequence (vlm_kv_seq_add_cross()). Tokens look at the newest run of pictures without
// text between them, as the reference's processor has it; those before the first picture pass by
// the layers.
#define G_LOG_DOMAIN "vlm-model"
#include "model/mllama.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "model/decoder.h"
#include "ops/ops.h"

// Rows of a picture whose keys and values are computed at a time.
#define CROSS_ROWS 512u

typedef struct mllama_layer {
    uint64_t attn_norm, ffn_norm;  // f32 [n_embd]
    vlm_weight q, k, v, o;
    vlm_weight gate, up, down;
    uint32_t il_kv;           // number among the layers of its kind
    uint64_t q_norm, k_norm;  // f32 [head_dim], of layers that look at pictures
    float attn_gate, ffn_gate;
} mllama_layer;

typedef struct mllama {
    mllama_text_hparams hp;
    mllama_vision vision;
    vlm_weight token_embd, output;
    uint64_t output_norm;
    uint64_t rope;   // vlm_rope_pair [head_dim / 2]
    uint64_t still;  // the same, that turn by nothing
    mllama_layer *layers;
} mllama;

// ------------------------------------------------------------------------------ files

static void mllama_free(gpointer data)
{
    mllama *m = data;

    if (!m)
        return;
    g_free(m->layers);
    vlm_mllama_vision_clear(&m->vision);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(mllama, mllama_free)

static gpointer mllama_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes,
                            GError **error)
{
    g_autoptr(mllama) m = g_new0(mllama, 1);
    const mllama_text_hparams *hp = &m->hp;
    const mllama_vision_hparams *v = &m->vision.hp;

    if (!vlm_mllama_text_hparams_read(text, &m->hp, error)
        || !vlm_mllama_vision_hparams_read(vision, &m->vision.hp, error))
        return NULL;
    if (v->n_out != hp->n_embd) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s does not belong to %s: it makes rows of width %u, the text model takes %u",
                    vlm_gguf_path(vision), vlm_gguf_path(text), v->n_out, hp->n_embd);
        return NULL;
    }
    *sizes = (vlm_model_sizes){
        .n_layer = hp->n_layer,
        .n_embd = hp->n_embd,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->ctx_train,
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .n_cross = hp->n_cross,
        .cross_rows = v->max_tiles * v->n_pos,
        .vision_layers = v->n_layer + v->n_global,
        .vision_embd = v->n_embd,
        .patch = v->patch,
        .merge = 1,
        .group_frames = 1,
        .film_groups = 1,
        .n_planes = 1,
    };
    return g_steal_pointer(&m);
}

static gboolean want_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *gguf, uint32_t il,
                            const char *what, uint32_t n_row, uint32_t n_col, GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s.weight", il, what);

    return vlm_loader_matrix(loader, out, gguf, name, 1, n_row, n_col, error);
}

static gboolean want_vector(vlm_loader *loader, uint64_t *out, vlm_gguf *gguf, uint32_t il,
                            const char *what, uint32_t n, GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s.weight", il, what);

    return vlm_loader_floats(loader, out, gguf, name, n, error);
}

// Gates are stored as they are trained: their tangent counts.
static gboolean read_gate(vlm_gguf *gguf, uint32_t il, const char *what, float *out, GError **error)
{
    g_autofree char *name = g_strdup_printf("blk.%u.%s", il, what);
    g_autofree float *value = NULL;

    if (!vlm_mllama_read_floats(gguf, name, 1, &value, error))
        return FALSE;
    *out = tanhf(value[0]);
    return TRUE;
}

static gboolean want_layer(mllama *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t il,
                           GError **error)
{
    static const char *const names[2][4] = {
        { "attn_q", "attn_k", "attn_v", "attn_output" },
        { "cross_attn_q_proj", "cross_attn_k_proj", "cross_attn_v_proj", "cross_attn_o_proj" },
    };
    const mllama_text_hparams *hp = &m->hp;
    const char *const *name = names[hp->is_cross[il]];
    const uint32_t n_q = hp->n_head * hp->head_dim, n_kv = hp->n_head_kv * hp->head_dim;
    const uint32_t d = hp->n_embd, ff = hp->n_ff;
    mllama_layer *layer = &m->layers[il];

    return want_vector(loader, &layer->attn_norm, gguf, il, "attn_norm", d, error)
           && want_vector(loader, &layer->ffn_norm, gguf, il, "ffn_norm", d, error)
           && want_matrix(loader, &layer->q, gguf, il, name[0], n_q, d, error)
           && want_matrix(loader, &layer->k, gguf, il, name[1], n_kv, d, error)
           && want_matrix(loader, &layer->v, gguf, il, name[2], n_kv, d, error)
           && want_matrix(loader, &layer->o, gguf, il, name[3], d, n_q, error)
           && want_matrix(loader, &layer->gate, gguf, il, "ffn_gate", ff, d, error)
           && want_matrix(loader, &layer->up, gguf, il, "ffn_up", ff, d, error)
           && want_matrix(loader, &layer->down, gguf, il, "ffn_down", d, ff, error)
           && (!hp->is_cross[il]
               || (want_vector(loader, &layer->q_norm, gguf, il, "cross_attn_q_norm", hp->head_dim,
                               error)
                   && want_vector(loader, &layer->k_norm, gguf, il, "cross_attn_k_norm",
                                  hp->head_dim, error)
                   && read_gate(gguf, il, "cross_attn_attn_gate", &layer->attn_gate, error)
                   && read_gate(gguf, il, "cross_attn_mlp_gate", &layer->ffn_gate, error)));
}

// Rotary pairs; the file has a divisor for each frequency.
static gboolean want_rope(mllama *m, vlm_loader *loader, vlm_gguf *text, GError **error)
{
    const uint32_t n = m->hp.head_dim / 2;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, n);
    g_autofree vlm_rope_pair *still = g_new0(vlm_rope_pair, n);

    vlm_rope_pairs_adjacent(pairs, m->hp.head_dim, (double) m->hp.rope_theta);
    for (uint32_t i = 0; i < n; i++)
        still[i] = (vlm_rope_pair){ .first = 2 * i, .second = 2 * i + 1 };
    return vlm_decoder_scale_rope(text, pairs, n, error)
           && vlm_loader_data(loader, &m->rope, pairs, n * sizeof *pairs, error)
           && vlm_loader_data(loader, &m->still, still, n * sizeof *still, error);
}

static gboolean mllama_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                            GError **error)
{
    mllama *m = data;
    const mllama_text_hparams *hp = &m->hp;
    const vlm_gguf_tensor *output = vlm_gguf_tensor_find(text, "output.weight");
    uint32_t n_self = 0, n_cross = 0;

    if (!m->layers)
        m->layers = g_new0(mllama_layer, hp->n_layer);
    if (!vlm_loader_matrix(loader, &m->token_embd, text, "token_embd.weight", 1, hp->n_embd_row,
                           hp->n_embd, error)
        || (output
            && !vlm_loader_matrix(loader, &m->output, text, "output.weight", 1,
                                  (uint32_t) output->ne[1], hp->n_embd, error))
        || !vlm_loader_floats(loader, &m->output_norm, text, "output_norm.weight", hp->n_embd,
                              error)
        || !want_rope(m, loader, text, error))
        return FALSE;
    for (uint32_t il = 0; il < hp->n_layer; il++) {
        m->layers[il].il_kv = hp->is_cross[il] ? n_cross++ : n_self++;
        if (!want_layer(m, loader, text, il, error))
            return FALSE;
    }
    return vlm_mllama_vision_want(&m->vision, loader, vision, error);
}

// ------------------------------------------------------------------------------ pictures

// Frames of a film are shown as stills are.
static gboolean plan(gpointer data, const vlm_showing *showing, uint32_t width, uint32_t height,
                     vlm_plan *out, GError **error)
{
    const mllama *m = data;

    (void) showing;
    return vlm_mllama_vision_plan(&m->vision, width, height, out, error);
}

static uint64_t encode_bytes(gpointer data, const vlm_device *dev, const vlm_picture_group *group)
{
    const mllama *m = data;

    (void) dev;
    return vlm_mllama_vision_bytes(&m->vision, group);
}

static gboolean encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                       const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const mllama *m = data;

    return vlm_mllama_vision_encode(&m->vision, cmd, group, scratch, trace, error);
}

// Rows of pictures have no position in the sequence.
static uint32_t grid_positions(gconstpointer data, const vlm_grid *grid, uint32_t (*positions)[4])
{
    (void) data;
    (void) positions;
    return grid->first;
}

// ------------------------------------------------------------------------------ decoder

// Work memory of a step.
typedef struct buffers {
    vlm_tensor x;                          // [tok, n_embd] residual stream
    vlm_tensor norm;                       // [tok, n_embd]
    vlm_tensor q;                          // [tok, n_head * head_dim]
    vlm_tensor k, v;                       // [tok, n_head_kv * head_dim]
    vlm_tensor attn;                       // [tok, n_head * head_dim]
    vlm_tensor both;                       // [tok, 2 n_ff]: see vlm_op_matmul_swiglu()
    vlm_tensor part;                       // [tok, n_embd] what a gate lets through to x
    vlm_tensor cross_k, cross_v, cross_q;  // [CROSS_ROWS, n_head_kv * head_dim]
    vlm_tensor out;                        // [n_out, n_embd]
} buffers;

static void lay_out(const mllama *m, uint32_t n_tok, uint32_t n_out, vlm_scratch *s, buffers *b)
{
    const mllama_text_hparams *hp = &m->hp;
    const uint32_t n_q = hp->n_head * hp->head_dim, n_kv = hp->n_head_kv * hp->head_dim;

    b->x = vlm_scratch_tensor(s, n_tok, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n_tok, hp->n_embd);
    b->q = vlm_scratch_tensor(s, n_tok, n_q);
    b->k = vlm_scratch_tensor(s, n_tok, n_kv);
    b->v = vlm_scratch_tensor(s, n_tok, n_kv);
    b->attn = vlm_scratch_tensor(s, n_tok, n_q);
    b->both = vlm_scratch_tensor(s, n_tok, 2 * hp->n_ff);
    b->part = vlm_scratch_tensor(s, n_tok, hp->n_embd);
    b->cross_k = vlm_scratch_tensor(s, CROSS_ROWS, n_kv);
    b->cross_v = vlm_scratch_tensor(s, CROSS_ROWS, n_kv);
    b->cross_q = vlm_scratch_tensor(s, CROSS_ROWS, n_kv);
    b->out = vlm_scratch_tensor(s, MAX(n_out, 1), hp->n_embd);
}

static uint64_t decode_bytes(gpointer data, const vlm_device *dev, uint32_t n_tok, uint32_t n_out)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    lay_out(data, n_tok, n_out, &s, &b);
    return s.used;
}

// What a step works on.
typedef struct step {
    const mllama *m;
    vlm_cmd *cmd;
    const vlm_batch *batch;
    const vlm_batch_tables *tables;
    const vlm_kv_layout *kv;  // of the sequence
    vlm_kv_layout cross;      // of pictures
    uint64_t zeros;           // u32 [CROSS_ROWS, 4]
    const buffers *b;
} step;

static vlm_tensor first_rows(const vlm_tensor *t, uint32_t n)
{
    return (vlm_tensor){ t->addr, n, t->n_col, t->row_stride };
}

// Keys and values of a piece of a picture for one layer, stored without a position.
static gboolean project_piece(const step *st, const mllama_layer *layer, const vlm_tensor *rows,
                              uint64_t slots, GError **error)
{
    const vlm_tensor k = first_rows(&st->b->cross_k, rows->n_row);
    const vlm_tensor v = first_rows(&st->b->cross_v, rows->n_row);
    const vlm_tensor q = first_rows(&st->b->cross_q, rows->n_row);  // nobody reads it

    if (!vlm_op_matmul(st->cmd, &k, rows, &layer->k, NULL, error)
        || !vlm_op_matmul(st->cmd, &v, rows, &layer->v, NULL, error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);
    if (!vlm_op_rope_append(st->cmd, &q, &k, &v, 0, layer->k_norm, st->m->hp.rms_eps, st->zeros,
                            st->m->still, slots, &st->cross, layer->il_kv, st->cross.n_kv_head,
                            error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);  // the work memory is used again
    return TRUE;
}

// Keys and values of the pictures that are new in this step, for every layer that looks at them.
static gboolean project_pictures(const step *st, GError **error)
{
    const uint32_t d = st->m->hp.n_embd;

    for (uint32_t i = 0; i < st->batch->n_cross; i++) {
        const vlm_cross_rows *c = &st->batch->cross[i];
        uint64_t slots = 0;

        if (!vlm_cmd_table(st->cmd, &g_array_index(st->batch->cross_slots, uint64_t, c->first_slot),
                           c->n * sizeof(uint64_t), &slots, error))
            return FALSE;
        for (uint32_t at = 0; at < c->n; at += CROSS_ROWS) {
            const vlm_tensor rows =
                vlm_tensor_make(c->addr + (uint64_t) at * d * 4, MIN(c->n - at, CROSS_ROWS), d);
            for (uint32_t il = 0; il < st->m->hp.n_layer; il++)
                if (st->m->hp.is_cross[il]
                    && !project_piece(st, &st->m->layers[il], &rows, slots + at * sizeof(uint64_t),
                                      error))
                    return FALSE;
            if (!vlm_cmd_split(st->cmd, error))
                return FALSE;
        }
    }
    return TRUE;
}

// attn = attention of the normalised x over the sequence.
static gboolean look_back(const step *st, const mllama_layer *layer, GError **error)
{
    const mllama_text_hparams *hp = &st->m->hp;
    const buffers *b = st->b;
    const float scale = 1.0f / sqrtf((float) hp->head_dim);
    const vlm_matmul_part qkv[] = { { &b->q, &layer->q, { 0 } },
                                    { &b->k, &layer->k, { 0 } },
                                    { &b->v, &layer->v, { 0 } } };

    if (!vlm_op_matmul_set(st->cmd, &b->norm, qkv, G_N_ELEMENTS(qkv), error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);
    if (!vlm_op_rope_append(st->cmd, &b->q, &b->k, &b->v, 0, 0, 0, st->tables->positions,
                            st->m->rope, st->tables->slots, st->kv, layer->il_kv, hp->n_head,
                            error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);
    return vlm_op_attention(st->cmd, &b->attn, &b->q, st->tables->seqs, st->batch->n_seq, st->kv,
                            layer->il_kv, hp->n_head, scale, error);
}

// attn = attention of the normalised x over the pictures of each sequence, zeros without.
static gboolean look_aside(const step *st, const mllama_layer *layer, GError **error)
{
    const mllama_text_hparams *hp = &st->m->hp;
    const buffers *b = st->b;
    const float scale = 1.0f / sqrtf((float) hp->head_dim);
    const vlm_tensor heads = vlm_tensor_make(b->q.addr, b->q.n_row * hp->n_head, hp->head_dim);

    if (!vlm_op_matmul(st->cmd, &b->q, &b->norm, &layer->q, NULL, error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);
    if (!vlm_op_rms_norm(st->cmd, &heads, &heads, layer->q_norm, hp->rms_eps, error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);
    return vlm_op_attention(st->cmd, &b->attn, &b->q, st->tables->cross, st->batch->n_seq,
                            &st->cross, layer->il_kv, hp->n_head, scale, error);
}

// x += gate * w src, for the rows that see a picture.
static gboolean add_gated(const step *st, const vlm_tensor *src, const vlm_weight *w, float gate,
                          GError **error)
{
    const vlm_batch *batch = st->batch;
    void *host = NULL;
    uint64_t gates = 0;

    if (!vlm_cmd_table_alloc(st->cmd, batch->n_tok * sizeof(float), &host, &gates, error))
        return FALSE;
    for (uint32_t i = 0; i < batch->n_seq; i++) {
        const vlm_kv_sequence *seq = &st->tables->cross[i];
        for (uint32_t t = 0; t < seq->n_tok; t++)
            ((float *) host)[seq->tok0 + t] = seq->n_page > 0 ? gate : 0;
    }
    if (!vlm_op_matmul(st->cmd, &st->b->part, src, w, NULL, error))
        return FALSE;
    vlm_cmd_barrier(st->cmd);
    return vlm_op_moe_combine(st->cmd, &st->b->x, &st->b->part, gates, 1, error);
}

static gboolean run_layer(const step *st, uint32_t il, GError **error)
{
    const mllama_layer *layer = &st->m->layers[il];
    const gboolean cross = st->m->hp.is_cross[il];
    const float eps = st->m->hp.rms_eps;
    const buffers *b = st->b;
    const vlm_tensor gated = { b->both.addr, b->both.n_row, st->m->hp.n_ff, b->both.row_stride };
    const vlm_matmul_norm norm = { &b->norm, layer->ffn_norm, eps };
    const vlm_matmul_post add = { .residual = &b->x },
                          add_norm = { .residual = &b->x, .norm = &norm };
    vlm_cmd *cmd = st->cmd;

    if (!vlm_op_rms_norm(cmd, &b->norm, &b->x, layer->attn_norm, eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (cross ? !look_aside(st, layer, error) : !look_back(st, layer, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (cross ? !add_gated(st, &b->attn, &layer->o, layer->attn_gate, error)
              : !vlm_op_matmul(cmd, &b->x, &b->attn, &layer->o, &add_norm, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (cross && !vlm_op_rms_norm(cmd, &b->norm, &b->x, layer->ffn_norm, eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul_swiglu(cmd, &b->both, &b->norm, &layer->gate, &layer->up, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return (cross ? add_gated(st, &gated, &layer->down, layer->ffn_gate, error)
                  : vlm_op_matmul(cmd, &b->x, &gated, &layer->down, &add, error))
           && vlm_cmd_split(cmd, error);
}

static gboolean trace_layer(const step *st, const vlm_trace *trace, uint32_t il, GError **error)
{
    const vlm_tensor *x = &st->b->x;
    const uint64_t bytes = (uint64_t) x->n_row * x->n_col * 4;
    const vlm_tensor dst = vlm_tensor_make(trace->layers + il * bytes, x->n_row, x->n_col);
    uint64_t index = 0;
    void *host = NULL;

    if (!vlm_cmd_table_alloc(st->cmd, x->n_row * sizeof(uint32_t), &host, &index, error))
        return FALSE;
    for (uint32_t i = 0; i < x->n_row; i++)
        ((uint32_t *) host)[i] = i;
    return vlm_op_rows_gather(st->cmd, &dst, x, index, error);
}

static gboolean decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                       const vlm_buffer *scratch, const vlm_tensor *logits, const vlm_trace *trace,
                       GError **error)
{
    const mllama *m = data;
    vlm_scratch s = { .addr = scratch->addr };
    vlm_batch_tables tables;
    buffers b;
    void *zeros = NULL;
    step st = { .m = m, .cmd = cmd, .batch = batch, .tables = &tables, .kv = kv, .b = &b };

    st.cross = *kv;
    st.cross.n_layer = m->hp.n_cross;
    lay_out(m, batch->n_tok, batch->n_out, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes, error);
    if (!vlm_batch_upload(batch, cmd, &tables, error)
        || !vlm_cmd_table_alloc(cmd, CROSS_ROWS * 16, &zeros, &st.zeros, error))
        return FALSE;
    memset(zeros, 0, CROSS_ROWS * 16);
    if (!project_pictures(&st, error)
        || !vlm_op_embed(cmd, &b.x, tables.ids, &m->token_embd, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    for (uint32_t il = 0; il < m->hp.n_layer; il++) {
        if ((!m->hp.is_cross[il] || tables.cross) && !run_layer(&st, il, error))
            return FALSE;
        if (trace && trace->layers && !trace_layer(&st, trace, il, error))
            return FALSE;
    }
    if (batch->n_out == 0)
        return TRUE;
    if (!vlm_op_rows_gather(cmd, &b.out, &b.x, tables.out_rows, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rms_norm(cmd, &b.out, &b.out, m->output_norm, m->hp.rms_eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    // (rows past the last token's, if there are any, are not asked for)
    vlm_weight head = m->hp.tied_output ? m->token_embd : m->output;
    head.n_row = m->hp.n_vocab;
    return vlm_op_matmul(cmd, logits, &b.out, &head, NULL, error);
}

// ------------------------------------------------------------------------------ prompt

// The model knows single pictures: of a film it gets the newest frame, and no time.
static char *group_label(const gint64 *times, uint32_t n)
{
    (void) times;
    (void) n;
    return g_strdup("");
}

static const vlm_protocol protocol = {
    .system_open = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n",
    .system_close = "<|eot_id|>",
    .user_open = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    .user_next = "<|start_header_id|>user<|end_header_id|>\n\n",
    .answer_open = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    .answer_close = "<|eot_id|>",
    .visual_open = "<|image|>",
    .visual_close = "",
    .image_token = "<|image|>",
    .video_token = "<|image|>",
    .group_label = group_label,
};

static const char *const archs[] = { "mllama", NULL };
static const char *const projectors[] = { "mllama", NULL };

const vlm_family vlm_family_mllama = {
    .archs = archs,
    .projectors = projectors,
    .protocol = &protocol,
    .read = mllama_read,
    .free = mllama_free,
    .want = mllama_want,
    .decode_bytes = decode_bytes,
    .encode_bytes = encode_bytes,
    .decode = decode,
    .encode = encode,
    .plan = plan,
    .grid_positions = grid_positions,
};
