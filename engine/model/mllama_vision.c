// SPDX-License-Identifier: LGPL-2.1-or-later
// model/mllama_vision.c — the tower of Llama 3.2 Vision: a picture is laid on a canvas of up to
// max_tiles tiles; local blocks, then gated global ones, look at all tiles together; the result and
// the inputs of a few layers go through one linear layer.
//
// The reference always runs max_tiles tiles, each with rows of zeros behind it up to a multiple of
// 8. Its mask forbids only pairs of rows that are both unused: rows of the picture look at all,
// unused ones at those of the picture. So unused rows count, and are computed here, too. Their
// order does not: here come the rows of all tiles, then those of zeros.
#define G_LOG_DOMAIN "vlm-model"
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "model/mllama.h"
#include "ops/ops.h"

// Of the published processor; files don't have them.
static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
static const float deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

// Of the norms before and between the two stacks; only that of blocks is in files.
#define OUTER_EPS 1e-5f

// ------------------------------------------------------------------------------ weights

static gboolean want_matrix(vlm_loader *loader, vlm_weight *out, vlm_gguf *gguf, const char *prefix,
                            const char *what, uint32_t n_row, uint32_t n_col, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s.%s.weight", prefix, what);

    return vlm_loader_matrix(loader, out, gguf, name, 1, n_row, n_col, error);
}

static gboolean want_vector(vlm_loader *loader, uint64_t *out, vlm_gguf *gguf, const char *prefix,
                            const char *what, uint32_t n, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s.%s", prefix, what);

    return vlm_loader_floats(loader, out, gguf, name, n, error);
}

static gboolean want_norm(vlm_loader *loader, uint64_t *weight, uint64_t *bias, vlm_gguf *gguf,
                          const char *prefix, const char *what, uint32_t n, GError **error)
{
    g_autofree char *w = g_strconcat(what, ".weight", NULL);
    g_autofree char *b = g_strconcat(what, ".bias", NULL);

    return want_vector(loader, weight, gguf, prefix, w, n, error)
           && want_vector(loader, bias, gguf, prefix, b, n, error);
}

static gboolean read_scalar(vlm_gguf *gguf, const char *prefix, const char *what, float *out,
                            GError **error)
{
    g_autofree char *name = g_strdup_printf("%s.%s", prefix, what);
    g_autofree float *value = NULL;

    if (!vlm_mllama_read_floats(gguf, name, 1, &value, error))
        return FALSE;
    *out = value[0];
    return TRUE;
}

static gboolean want_block(mllama_vision *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t i,
                           GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const uint32_t d = hp->n_embd, ff = hp->n_ff;
    const gboolean global = i >= hp->n_layer;
    mllama_block *b = &m->blocks[i];
    g_autofree char *prefix = global ? g_strdup_printf("v.global.blk.%u", i - hp->n_layer)
                                     : g_strdup_printf("v.blk.%u", i);
    g_autofree char *up_bias = g_strconcat(hp->up, ".bias", NULL);
    g_autofree char *down_bias = g_strconcat(hp->down, ".bias", NULL);

    return want_norm(loader, &b->ln1, &b->ln1_bias, gguf, prefix, hp->norm1, d, error)
           && want_norm(loader, &b->ln2, &b->ln2_bias, gguf, prefix, hp->norm2, d, error)
           && want_matrix(loader, &b->q, gguf, prefix, "attn_q", d, d, error)
           && want_matrix(loader, &b->k, gguf, prefix, "attn_k", d, d, error)
           && want_matrix(loader, &b->v, gguf, prefix, "attn_v", d, d, error)
           && want_matrix(loader, &b->out, gguf, prefix, hp->attn_out, d, d, error)
           && want_matrix(loader, &b->up, gguf, prefix, hp->up, ff, d, error)
           && want_matrix(loader, &b->down, gguf, prefix, hp->down, d, ff, error)
           && want_vector(loader, &b->up_bias, gguf, prefix, up_bias, ff, error)
           && want_vector(loader, &b->down_bias, gguf, prefix, down_bias, d, error)
           && (!global
               || (read_scalar(gguf, prefix, "attn_gate", &b->attn_gate, error)
                   && read_scalar(gguf, prefix, "ffn_gate", &b->ffn_gate, error)));
}

// What every tile's rows begin with: the class token, then the positions of the patches, gated.
static gboolean want_base(mllama_vision *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    const size_t d = m->hp.n_embd, n = m->hp.n_pos * d;
    g_autofree float *class_embd = NULL, *positions = NULL;
    float gate = 0;

    if (!vlm_mllama_read_floats(gguf, "v.class_embd", d, &class_embd, error)
        || !vlm_mllama_read_floats(gguf, "v.position_embd.weight", n, &positions, error)
        || !read_scalar(gguf, "v.position_embd", "gate", &gate, error)
        || !read_scalar(gguf, "v.tile_position_embd", "gate", &m->tile_pos_gate, error))
        return FALSE;
    g_autofree float *rows = g_try_new0(float, n + d);
    VLM_REQUIRE(rows != NULL, error);
    for (size_t i = 0; i < n; i++)
        rows[i] = gate * positions[i] + (i < d ? class_embd[i] : 0);
    return vlm_loader_data(loader, &m->base, rows, (n + d) * sizeof *rows, error);
}

// A row for each arrangement and tile, gated, and one of zeros.
static gboolean want_tile_rows(mllama_vision *m, vlm_loader *loader, uint64_t *out, vlm_gguf *gguf,
                               const char *stem, GError **error)
{
    const size_t n = (size_t) (m->hp.n_ratio + 1) * m->hp.max_tiles * m->hp.n_embd;
    g_autofree char *name = g_strconcat(stem, ".weight", NULL);
    g_autofree float *values = NULL;
    float gate = 0;

    if (!read_scalar(gguf, stem, "gate", &gate, error)
        || !vlm_mllama_read_floats(gguf, name, n, &values, error))
        return FALSE;
    g_autofree float *rows = g_try_new0(float, n + m->hp.n_embd);
    VLM_REQUIRE(rows != NULL, error);
    for (size_t i = 0; i < n; i++)
        rows[i] = gate * values[i];
    return vlm_loader_data(loader, out, rows, (n + m->hp.n_embd) * sizeof *rows, error);
}

// The columns of mm.0: those of the result, then for each element those of all taps. Cut into one
// matrix for the result and one for each tap.
static gboolean want_connector(mllama_vision *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const vlm_gguf_tensor *t = vlm_gguf_tensor_find(gguf, "mm.0.weight");
    const size_t width = t && t->dtype == VLM_DTYPE_F32 ? 4 : 2, d = hp->n_embd;
    const size_t n_col = (hp->n_tap + 1) * d;

    if (!t || vlm_dtype_block_elems(t->dtype) != 1 || !vlm_weight_supported(t->dtype)) {
        g_set_error(
            error, VLM_ERROR, VLM_ERROR_FORMAT,
            "%s: tensor mm.0.weight has a type whose columns can't be sorted, expected F32, "
            "F16 or BF16",
            vlm_gguf_path(gguf));
        return FALSE;
    }
    g_autofree uint8_t *all = g_try_malloc(t->bytes);
    VLM_REQUIRE(all != NULL, error);
    if (!vlm_gguf_read_tensor(gguf, t, 0, all, t->bytes, error))
        return FALSE;
    for (uint32_t part = 0; part <= hp->n_tap; part++) {
        const size_t bytes = (size_t) hp->n_out * d * width;
        g_autofree uint8_t *rows = g_try_malloc(bytes);
        VLM_REQUIRE(rows != NULL, error);
        for (size_t r = 0; r < hp->n_out; r++)
            for (size_t c = 0; c < d; c++) {
                const size_t from = part == 0 ? c : d + c * hp->n_tap + part - 1;
                memcpy(rows + (r * d + c) * width, all + (r * n_col + from) * width, width);
            }
        g_autoptr(GBytes) owned = g_bytes_new_take(g_steal_pointer(&rows), bytes);
        if (!vlm_loader_matrix_bytes(loader, &m->connector[part], t->dtype, hp->n_out, hp->n_embd,
                                     owned, error))
            return FALSE;
    }
    return vlm_loader_floats(loader, &m->connector_bias, gguf, "mm.0.bias", hp->n_out, error);
}

// The convolution as a matrix: patches don't overlap.
static gboolean want_patch_embd(mllama_vision *m, vlm_loader *loader, vlm_gguf *gguf,
                                GError **error)
{
    const vlm_gguf_tensor *t = vlm_gguf_tensor_find(gguf, "v.patch_embd.weight");
    const uint32_t n_col = 3 * m->hp.patch * m->hp.patch;

    if (!t || vlm_dtype_block_elems(t->dtype) != 1 || !vlm_weight_supported(t->dtype)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: tensor v.patch_embd.weight has a type that can't be run, expected F32, "
                    "F16 or BF16",
                    vlm_gguf_path(gguf));
        return FALSE;
    }
    g_autofree uint8_t *rows = g_try_malloc(t->bytes);
    VLM_REQUIRE(rows != NULL, error);
    if (!vlm_gguf_read_tensor(gguf, t, 0, rows, t->bytes, error))
        return FALSE;
    g_autoptr(GBytes) owned = g_bytes_new_take(g_steal_pointer(&rows), t->bytes);
    return vlm_loader_matrix_bytes(loader, &m->patch_embd, t->dtype, m->hp.n_embd, n_col, owned,
                                   error);
}

gboolean vlm_mllama_vision_want(mllama_vision *m, vlm_loader *loader, vlm_gguf *gguf,
                                GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const uint64_t n_tile_pos =
        (uint64_t) (hp->n_ratio + 1) * hp->max_tiles * hp->n_pos * hp->n_embd;
    g_autofree vlm_rope_pair *still = g_new0(vlm_rope_pair, hp->head_dim / 2);

    for (uint32_t i = 0; i < hp->head_dim / 2; i++)
        still[i] = (vlm_rope_pair){ .first = 2 * i, .second = 2 * i + 1 };
    if (!m->blocks)
        m->blocks = g_new0(mllama_block, hp->n_layer + hp->n_global);
    if (!want_patch_embd(m, loader, gguf, error) || !want_base(m, loader, gguf, error)
        || !vlm_loader_floats(loader, &m->tile_pos, gguf, "v.tile_position_embd.weight", n_tile_pos,
                              error)
        || !want_tile_rows(m, loader, &m->pre_tile, gguf, "v.pre_tile_position_embd", error)
        || !want_tile_rows(m, loader, &m->post_tile, gguf, "v.post_tile_position_embd", error)
        || !want_norm(loader, &m->pre_ln, &m->pre_ln_bias, gguf, "v", "pre_ln", hp->n_embd, error)
        || !want_norm(loader, &m->post_ln, &m->post_ln_bias, gguf, "v", "post_ln", hp->n_embd,
                      error)
        || !vlm_loader_data(loader, &m->still, still, hp->head_dim / 2 * sizeof *still, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_layer + hp->n_global; i++)
        if (!want_block(m, loader, gguf, i, error))
            return FALSE;
    return want_connector(m, loader, gguf, error);
}

void vlm_mllama_vision_clear(mllama_vision *m)
{
    g_clear_pointer(&m->blocks, g_free);
}

// ------------------------------------------------------------------------------ pictures

// A picture on its canvas.
typedef struct canvas {
    uint32_t rows, cols;     // of tiles
    uint32_t width, height;  // of the picture in its upper left corner
    uint32_t ratio;          // number of the arrangement, from 1
} canvas;

// The side that a picture's gets when it is scaled: rounded down, at least 1.
static uint32_t scaled(uint32_t side, double scale, uint32_t most)
{
    const double n = floor(side * scale);

    return n < 1 ? 1 : (uint32_t) MIN(n, most);
}

// Of all arrangements the one that enlarges the least, or if none does, shrinks the least; then the
// smallest, then the first, rows counted before columns. Doubles, in the reference's order.
static canvas choose_canvas(const mllama_vision_hparams *hp, uint32_t width, uint32_t height)
{
    const uint32_t tile = hp->image_size;
    canvas best = { 0 };
    double best_scale = 0;
    uint32_t ratio = 0;

    for (uint32_t rows = 1; rows <= hp->max_tiles; rows++) {
        for (uint32_t cols = 1; rows * cols <= hp->max_tiles; cols++) {
            const double scale_h = (double) (rows * tile) / height;
            const double scale_w = (double) (cols * tile) / width;
            const double scale = MIN(scale_h, scale_w);
            const gboolean better =
                best_scale >= 1 ? scale >= 1 && scale < best_scale : scale > best_scale;

            ratio++;
            if (better || (scale == best_scale && rows * cols < best.rows * best.cols)) {
                best = (canvas){ .rows = rows, .cols = cols, .ratio = ratio };
                best_scale = scale;
            }
        }
    }
    const uint32_t canvas_w = best.cols * tile, canvas_h = best.rows * tile;
    const uint32_t want_w = CLAMP(width, tile, canvas_w), want_h = CLAMP(height, tile, canvas_h);
    const double scale_h = (double) want_h / height, scale_w = (double) want_w / width;

    if (scale_w < scale_h) {
        best.width = want_w;
        best.height = scaled(height, scale_w, want_h);
    } else {
        best.height = want_h;
        best.width = scaled(width, scale_h, want_w);
    }
    return best;
}

gboolean vlm_mllama_vision_plan(const mllama_vision *m, uint32_t width, uint32_t height,
                                vlm_plan *plan, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const canvas c = choose_canvas(hp, width, height);
    const uint32_t side = hp->image_size / hp->patch;

    (void) error;
    *plan = (vlm_plan){ .grid_h = c.rows * side,
                        .grid_w = c.cols * side,
                        .n_cross = c.rows * c.cols * hp->n_pos };
    return TRUE;
}

// Work memory of encoding one picture.
typedef struct buffers {
    canvas canvas;
    vlm_pixels picture;  // the canvas
    uint64_t at;         // where it is
    uint64_t pixels;     // scratch of the preprocessing
    vlm_tensor patches;  // [tiles * (n_pos - 1), 3 * patch^2]
    uint32_t n_used;     // rows of the picture's tiles
    uint32_t n_tile;     // rows of all tiles
    vlm_tensor x;        // [rows, n_embd] residual stream; rows: n_tile and the zeros
    vlm_tensor tmp;      // [rows, n_embd]
    vlm_tensor norm;     // [rows, n_embd]
    vlm_tensor q, k, v;  // [rows, n_embd]
    vlm_tensor ff;       // [rows, n_ff]
    uint64_t kv;         // pages of one layer
    // tables in the ring, the same for all blocks
    uint64_t slots, positions, identity, ones;
    vlm_kv_sequence seqs[2];
    uint32_t n_seq;
} buffers;

static vlm_kv_layout layout_of(const mllama_vision_hparams *hp)
{
    return (vlm_kv_layout){
        .type = VLM_KV_F32, .n_layer = 1, .n_kv_head = hp->n_head, .head_dim = hp->head_dim
    };
}

static uint32_t n_pages(uint32_t n_row)
{
    return (n_row + VLM_PAGE_TOKENS - 1) / VLM_PAGE_TOKENS;
}

static void lay_out(const mllama_vision *m, const vlm_picture_group *group, vlm_scratch *s,
                    buffers *b)
{
    const mllama_vision_hparams *hp = &m->hp;
    const vlm_kv_layout kv = layout_of(hp);
    const vlm_pixels *from = group->pixels[0];
    const canvas c = choose_canvas(hp, from->width, from->height);
    const uint32_t n = (hp->n_pos + hp->n_pad) * hp->max_tiles, tiles = c.rows * c.cols;

    b->canvas = c;
    b->picture = vlm_pixels_rgbx(c.cols * hp->image_size, c.rows * hp->image_size);
    b->at = vlm_scratch_bytes(s, b->picture.bytes);
    const vlm_pixels tile = vlm_pixels_window(&b->picture, 0, 0, hp->image_size, hp->image_size);
    b->pixels =
        vlm_scratch_bytes(s, MAX(vlm_pixels_scratch_bytes(from, c.width, c.height),
                                 vlm_pixels_scratch_bytes(&tile, hp->image_size, hp->image_size)));
    b->patches = vlm_scratch_tensor(s, tiles * (hp->n_pos - 1), 3 * hp->patch * hp->patch);
    b->n_used = tiles * hp->n_pos;
    b->n_tile = hp->max_tiles * hp->n_pos;
    b->x = vlm_scratch_tensor(s, n, hp->n_embd);
    b->tmp = vlm_scratch_tensor(s, n, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n, hp->n_embd);
    b->q = vlm_scratch_tensor(s, n, hp->n_embd);
    b->k = vlm_scratch_tensor(s, n, hp->n_embd);
    b->v = vlm_scratch_tensor(s, n, hp->n_embd);
    b->ff = vlm_scratch_tensor(s, n, hp->n_ff);
    b->kv = vlm_scratch_bytes(s, vlm_kv_page_bytes(&kv) * n_pages(n));
}

uint64_t vlm_mllama_vision_bytes(const mllama_vision *m, const vlm_picture_group *group)
{
    vlm_scratch s = { 0 };
    buffers b;

    lay_out(m, group, &s, &b);
    return s.used;
}

// The picture into the corner of its black canvas, the canvas's tiles to patches.
static gboolean preprocess(const mllama_vision *m, vlm_cmd *cmd, const vlm_picture_group *group,
                           const vlm_buffer *scratch, const buffers *b, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const canvas *c = &b->canvas;
    const uint32_t side = hp->image_size, n_patch = hp->n_pos - 1;
    const vlm_pixels corner = vlm_pixels_window(&b->picture, 0, 0, c->width, c->height);
    vlm_pixels_params params = {
        .out_width = side, .out_height = side, .patch = hp->patch, .merge = 1, .n_time = 1
    };

    memcpy(params.mean, mean, sizeof mean);
    memcpy(params.std, deviation, sizeof deviation);
    vlm_cmd_zero(cmd, scratch, b->at - scratch->addr, b->picture.bytes);
    vlm_cmd_barrier(cmd);
    if (!vlm_op_pixels_resize(cmd, b->at, &corner, group->picture[0], group->pixels[0], b->pixels,
                              VLM_FILTER_BILINEAR, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    // (columns are written in pairs: beside an odd one comes a black one)
    for (uint32_t t = 0; t < c->rows * c->cols; t++) {
        const vlm_pixels tile =
            vlm_pixels_window(&b->picture, t % c->cols * side, t / c->cols * side, side, side);
        vlm_tensor patches = b->patches;
        patches.addr += (uint64_t) t * n_patch * patches.row_stride * 4;
        patches.n_row = n_patch;
        if (!vlm_op_pixels(cmd, &patches, b->at, &tile, b->pixels, &params, error))
            return FALSE;
        vlm_cmd_barrier(cmd);  // the scratch is used again
    }
    return TRUE;
}

// ------------------------------------------------------------------------------ graph

// Rows first ... first + n - 1 of a tensor.
static vlm_tensor rows_of(const vlm_tensor *t, uint32_t first, uint32_t n)
{
    return (vlm_tensor){ t->addr + (uint64_t) first * t->row_stride * 4, n, t->n_col,
                         t->row_stride };
}

static gboolean index_table(vlm_cmd *cmd, uint32_t n, uint32_t **host, uint64_t *addr,
                            GError **error)
{
    void *place = NULL;

    if (!vlm_cmd_table_alloc(cmd, (size_t) n * sizeof(uint32_t), &place, addr, error))
        return FALSE;
    *host = place;
    return TRUE;
}

// n times `value`: the gate of every row.
static gboolean gate_table(vlm_cmd *cmd, uint32_t n, float value, uint64_t *addr, GError **error)
{
    void *host = NULL;

    if (!vlm_cmd_table_alloc(cmd, (size_t) n * sizeof(float), &host, addr, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++)
        ((float *) host)[i] = value;
    return TRUE;
}

// x += gate * tmp
static gboolean add_gated(vlm_cmd *cmd, const vlm_tensor *x, const vlm_tensor *tmp, float gate,
                          GError **error)
{
    uint64_t gates = 0;

    return gate_table(cmd, x->n_row, gate, &gates, error)
           && vlm_op_moe_combine(cmd, x, tmp, gates, 1, error);
}

// The tables that all blocks share: keys and values go to pages one after the other; rows of the
// picture look at all of them, the others at the first n_used.
static gboolean make_tables(const mllama_vision *m, vlm_cmd *cmd, buffers *b, GError **error)
{
    const vlm_kv_layout kv = layout_of(&m->hp);
    const uint64_t page_bytes = vlm_kv_page_bytes(&kv);
    const uint32_t n = b->x.n_row, n_all = n_pages(n), n_some = n_pages(b->n_used);
    void *slots = NULL, *positions = NULL, *all = NULL, *some = NULL;
    uint64_t all_addr = 0, some_addr = 0;

    if (!vlm_cmd_table_alloc(cmd, n * sizeof(uint64_t), &slots, &b->slots, error)
        || !vlm_cmd_table_alloc(cmd, (size_t) n * 16, &positions, &b->positions, error)
        || !vlm_cmd_table_alloc(cmd, n_all * sizeof(vlm_kv_page), &all, &all_addr, error)
        || !vlm_cmd_table_alloc(cmd, n_some * sizeof(vlm_kv_page), &some, &some_addr, error))
        return FALSE;
    memset(positions, 0, (size_t) n * 16);
    for (uint32_t i = 0; i < n; i++)
        ((uint64_t *) slots)[i] =
            vlm_kv_slot(b->kv + i / VLM_PAGE_TOKENS * page_bytes, i % VLM_PAGE_TOKENS);
    for (uint32_t i = 0; i < n_all; i++) {
        const uint32_t at = i * VLM_PAGE_TOKENS;
        const uint64_t addr = b->kv + i * page_bytes;
        ((vlm_kv_page *) all)[i] = (vlm_kv_page){ addr, 0, MIN(n - at, VLM_PAGE_TOKENS) };
        if (i < n_some)
            ((vlm_kv_page *) some)[i] =
                (vlm_kv_page){ addr, 0, MIN(b->n_used - at, VLM_PAGE_TOKENS) };
    }
    b->seqs[0] = (vlm_kv_sequence){
        .pages = all_addr, .n_page = n_all, .tok0 = 0, .n_tok = b->n_used, .slot0 = n
    };
    b->seqs[1] = (vlm_kv_sequence){
        .pages = some_addr, .n_page = n_some, .tok0 = b->n_used, .n_tok = n - b->n_used, .slot0 = n
    };
    b->n_seq = n > b->n_used ? 2 : 1;
    return TRUE;
}

// x = norm(class or patches + positions + tile), rows of zeros behind it.
static gboolean embed(const mllama_vision *m, vlm_cmd *cmd, const buffers *b, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const uint32_t n = b->x.n_row, d = hp->n_embd, n_patch = hp->n_pos - 1;
    const uint32_t n_pre = (hp->n_ratio + 1) * hp->max_tiles, first = b->canvas.ratio;
    const vlm_tensor base = vlm_tensor_make(m->base, hp->n_pos + 1, d);
    const vlm_tensor tile_pos = vlm_tensor_make(m->tile_pos, n_pre * hp->n_pos, d);
    const vlm_tensor pre = vlm_tensor_make(m->pre_tile, n_pre + 1, d);
    const vlm_tensor x = rows_of(&b->x, 0, b->n_tile), tmp = rows_of(&b->tmp, 0, b->n_tile);
    const vlm_tensor patches = rows_of(&b->norm, 0, b->patches.n_row);
    uint32_t *of_base = NULL, *of_pos = NULL, *of_pre = NULL, *of_patch = NULL, *same = NULL;
    uint64_t base_at = 0, pos_at = 0, pre_at = 0, patch_at = 0, same_at = 0;

    if (!index_table(cmd, n, &of_base, &base_at, error)
        || !index_table(cmd, b->n_tile, &of_pos, &pos_at, error)
        || !index_table(cmd, b->n_tile, &of_pre, &pre_at, error)
        || !index_table(cmd, b->n_tile, &same, &same_at, error)
        || !index_table(cmd, patches.n_row, &of_patch, &patch_at, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++)
        of_base[i] = i < b->n_tile ? i % hp->n_pos : hp->n_pos;
    for (uint32_t i = 0; i < b->n_tile; i++) {
        same[i] = i;
        of_pos[i] = first * b->n_tile + i;
        of_pre[i] = i % hp->n_pos == 0 ? n_pre : first * hp->max_tiles + i / hp->n_pos;
    }
    for (uint32_t i = 0; i < patches.n_row; i++)
        of_patch[i] = i / n_patch * hp->n_pos + 1 + i % n_patch;
    if (!vlm_op_rows_gather(cmd, &b->x, &base, base_at, error)
        || !vlm_op_rows_gather(cmd, &tmp, &tile_pos, pos_at, error)
        || !vlm_op_matmul(cmd, &patches, &b->patches, &m->patch_embd, NULL, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!add_gated(cmd, &x, &tmp, m->tile_pos_gate, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rows_scatter(cmd, &x, &patches, patch_at, TRUE, error)
        || !vlm_op_rows_gather(cmd, &tmp, &pre, pre_at, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rows_scatter(cmd, &x, &tmp, same_at, TRUE, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_layer_norm(cmd, &x, &x, m->pre_ln, m->pre_ln_bias, OUTER_EPS, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

// norm = attention of the normalised x.
static gboolean attention(const mllama_vision *m, vlm_cmd *cmd, const mllama_block *w,
                          const buffers *b, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const vlm_kv_layout kv = layout_of(hp);
    const float scale = 1.0f / sqrtf((float) hp->head_dim);

    if (!vlm_op_matmul(cmd, &b->q, &b->norm, &w->q, NULL, error)
        || !vlm_op_matmul(cmd, &b->k, &b->norm, &w->k, NULL, error)
        || !vlm_op_matmul(cmd, &b->v, &b->norm, &w->v, NULL, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rope_append(cmd, &b->q, &b->k, &b->v, 0, 0, 0, b->positions, m->still, b->slots,
                            &kv, 0, hp->n_head, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_attention(cmd, &b->norm, &b->q, b->seqs, b->n_seq, &kv, 0, hp->n_head, scale,
                            error);
}

// dst = w * src, added to x by itself or gated.
static gboolean project(vlm_cmd *cmd, const buffers *b, const vlm_tensor *src, const vlm_weight *w,
                        uint64_t bias, gboolean gated, float gate, GError **error)
{
    if (!gated)
        return vlm_op_matmul(cmd, &b->x, src, w,
                             &(vlm_matmul_post){ .bias = bias, .residual = &b->x }, error);
    if (!vlm_op_matmul(cmd, &b->tmp, src, w, &(vlm_matmul_post){ .bias = bias }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return add_gated(cmd, &b->x, &b->tmp, gate, error);
}

static gboolean run_block(const mllama_vision *m, vlm_cmd *cmd, uint32_t i, const buffers *b,
                          GError **error)
{
    const mllama_block *w = &m->blocks[i];
    const gboolean gated = i >= m->hp.n_layer;

    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln1, w->ln1_bias, m->hp.eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!attention(m, cmd, w, b, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!project(cmd, b, &b->norm, &w->out, 0, gated, w->attn_gate, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln2, w->ln2_bias, m->hp.eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->ff, &b->norm, &w->up,
                       &(vlm_matmul_post){ .bias = w->up_bias, .act = VLM_ACT_GELU_ERF }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return project(cmd, b, &b->ff, &w->down, w->down_bias, gated, w->ffn_gate, error)
           && vlm_cmd_split(cmd, error);
}

// out (+)= connector[part] * the picture's rows of x; the first time with the bias.
static gboolean connect(const mllama_vision *m, vlm_cmd *cmd, const buffers *b, uint32_t part,
                        const vlm_tensor *out, gboolean first, GError **error)
{
    const vlm_tensor used = rows_of(&b->x, 0, b->n_used);

    if (!vlm_op_matmul(cmd, out, &used, &m->connector[part],
                       &(vlm_matmul_post){ .bias = first ? m->connector_bias : 0,
                                           .residual = first ? NULL : out },
                       error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

static gboolean between(const mllama_vision *m, vlm_cmd *cmd, const buffers *b, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    const uint32_t n = b->x.n_row, n_post = (hp->n_ratio + 1) * hp->max_tiles;
    const vlm_tensor post = vlm_tensor_make(m->post_tile, n_post + 1, hp->n_embd);
    uint32_t *of_post = NULL, *same = NULL;
    uint64_t post_at = 0, same_at = 0;

    if (!index_table(cmd, n, &of_post, &post_at, error)
        || !index_table(cmd, n, &same, &same_at, error))
        return FALSE;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t tile = i < b->n_tile ? i / hp->n_pos : (i - b->n_tile) / hp->n_pad;
        of_post[i] = b->canvas.ratio * hp->max_tiles + tile;
        same[i] = i;
    }
    if (!vlm_op_layer_norm(cmd, &b->x, &b->x, m->post_ln, m->post_ln_bias, OUTER_EPS, error)
        || !vlm_op_rows_gather(cmd, &b->tmp, &post, post_at, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rows_scatter(cmd, &b->x, &b->tmp, same_at, TRUE, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

gboolean vlm_mllama_vision_encode(const mllama_vision *m, vlm_cmd *cmd,
                                  const vlm_picture_group *group, const vlm_buffer *scratch,
                                  const vlm_trace *trace, GError **error)
{
    const mllama_vision_hparams *hp = &m->hp;
    vlm_scratch s = { .addr = scratch->addr };
    uint32_t tap = 0;
    buffers b;

    lay_out(m, group, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes, error);
    VLM_REQUIRE(group->n_picture == 1, error);
    const vlm_tensor out = vlm_tensor_make(group->out, b.n_used, hp->n_out);
    if (trace && trace->pixels)
        b.patches = vlm_tensor_make(trace->pixels, b.patches.n_row, b.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!preprocess(m, cmd, group, scratch, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!make_tables(m, cmd, &b, error) || !embed(m, cmd, &b, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        if (tap < hp->n_tap && hp->taps[tap] == i) {
            if (!connect(m, cmd, &b, 1 + tap, &out, tap == 0, error))
                return FALSE;
            tap++;
        }
        if (!run_block(m, cmd, i, &b, error))
            return FALSE;
    }
    if (!between(m, cmd, &b, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_global; i++)
        if (!run_block(m, cmd, hp->n_layer + i, &b, error))
            return FALSE;
    if (!connect(m, cmd, &b, 0, &out, hp->n_tap == 0, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}
