// SPDX-License-Identifier: LGPL-2.1-or-later
// model/vit.c — see model/vit.h.
#define G_LOG_DOMAIN "vlm-model"
#include "model/vit.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/ops.h"

// ------------------------------------------------------------------------------ weights

// A linear layer "<prefix>.<what>" with its bias.
gboolean vlm_vit_want_linear(vlm_loader *loader, vlm_weight *w, uint64_t *bias, vlm_gguf *gguf,
                             const char *prefix, const char *what, uint32_t n_row, uint32_t n_col,
                             GError **error)
{
    g_autofree char *weight_name = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias_name = g_strdup_printf("%s.%s.bias", prefix, what);

    return vlm_loader_matrix(loader, w, gguf, weight_name, 1, n_row, n_col, error)
           && vlm_loader_floats(loader, bias, gguf, bias_name, n_row, error);
}

gboolean vlm_vit_want_norm(vlm_loader *loader, uint64_t *weight, uint64_t *bias, vlm_gguf *gguf,
                           const char *prefix, const char *what, uint32_t n, GError **error)
{
    g_autofree char *weight_name = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias_name = g_strdup_printf("%s.%s.bias", prefix, what);

    return vlm_loader_floats(loader, weight, gguf, weight_name, n, error)
           && (!bias || vlm_loader_floats(loader, bias, gguf, bias_name, n, error));
}

gboolean vlm_vit_want_projector(vlm_loader *loader, vlm_vit_projector *w, vlm_gguf *gguf,
                                const char *prefix, const char *fc1, const char *fc2,
                                uint32_t width, uint32_t n_out, GError **error)
{
    return vlm_vit_want_linear(loader, &w->fc1, &w->fc1_bias, gguf, prefix, fc1, width, width,
                               error)
           && vlm_vit_want_linear(loader, &w->fc2, &w->fc2_bias, gguf, prefix, fc2, n_out, width,
                                  error);
}

// The patch convolution is stored as one tensor [out][colour][y][x] per frame of the group; as a
// matrix over (colour, time, y, x) it is one product.
static gboolean want_patch_embd(vlm_vit *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    const size_t n_plane = (size_t) hp->patch * hp->patch;
    const char *const names[] = { "v.patch_embd.weight", "v.patch_embd.weight.1" };
    const uint64_t ne[4] = { hp->patch, hp->patch, 3, hp->n_embd };
    g_autofree uint8_t *rows = NULL;
    g_autoptr(GBytes) bytes = NULL;
    vlm_dtype dtype = VLM_DTYPE_F32;
    size_t width = 4, total = 0;

    VLM_REQUIRE(hp->temporal >= 1 && hp->temporal <= G_N_ELEMENTS(names), error);
    for (uint32_t t = 0; t < hp->temporal; t++) {
        const vlm_gguf_tensor *tensor = vlm_gguf_require_tensor(gguf, names[t], 4, ne, error);
        g_autofree uint8_t *one = NULL;
        if (!tensor)
            return FALSE;
        if (t == 0) {
            dtype = tensor->dtype;
            width = dtype == VLM_DTYPE_F32 ? 4 : 2;
            total = tensor->bytes * hp->temporal;
            rows = g_try_malloc(total);
        }
        one = g_try_malloc(tensor->bytes);
        if (tensor->dtype != dtype || vlm_dtype_block_elems(dtype) != 1 || !rows || !one) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: tensor %s can't be used as %s",
                        vlm_gguf_path(gguf), names[t], vlm_dtype_name(tensor->dtype));
            return FALSE;
        }
        if (!vlm_gguf_read_tensor(gguf, tensor, 0, one, tensor->bytes, error))
            return FALSE;
        for (size_t i = 0; i < (size_t) hp->n_embd * 3; i++)
            memcpy(rows + (i * hp->temporal + t) * n_plane * width, one + i * n_plane * width,
                   n_plane * width);
    }
    bytes = g_bytes_new_take(g_steal_pointer(&rows), total);
    return vlm_loader_matrix_bytes(loader, &m->patch_embd, dtype, hp->n_embd,
                                   (uint32_t) (3 * hp->temporal * n_plane), bytes, error)
           && (!hp->patch_bias
               || vlm_loader_floats(loader, &m->patch_bias, gguf, "v.patch_embd.bias", hp->n_embd,
                                    error));
}

// One block. The attention's matrices are one or, as most towers have them, three.
static gboolean want_block(vlm_vit *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t i,
                           GError **error)
{
    static const char *const separate[] = { "attn_q", "attn_k", "attn_v" };
    const uint32_t d = m->hp.n_embd, ff = m->hp.n_ff;
    // Old converters gave the two matrices of the perceptron each other's names.
    const char *up = m->hp.swapped_ffn ? "ffn_down" : "ffn_up";
    const char *down = m->hp.swapped_ffn ? "ffn_up" : "ffn_down";
    vlm_vit_block *b = &m->blocks[i];
    g_autofree char *prefix = g_strdup_printf("v.blk.%u", i);

    if (!m->hp.separate_qkv
        && !vlm_vit_want_linear(loader, &b->qkv[0], &b->qkv_bias[0], gguf, prefix, "attn_qkv",
                                3 * d, d, error))
        return FALSE;
    for (guint j = 0; m->hp.separate_qkv && j < G_N_ELEMENTS(separate); j++)
        if (!vlm_vit_want_linear(loader, &b->qkv[j], &b->qkv_bias[j], gguf, prefix, separate[j], d,
                                 d, error))
            return FALSE;
    return vlm_vit_want_norm(loader, &b->ln1, m->hp.rms_norms ? NULL : &b->ln1_bias, gguf, prefix,
                             "ln1", d, error)
           && vlm_vit_want_norm(loader, &b->ln2, m->hp.rms_norms ? NULL : &b->ln2_bias, gguf,
                                prefix, "ln2", d, error)
           && (!m->hp.gated_ffn
               || vlm_vit_want_linear(loader, &b->gate, &b->gate_bias, gguf, prefix, "ffn_gate", ff,
                                      d, error))
           && vlm_vit_want_linear(loader, &b->out, &b->out_bias, gguf, prefix, "attn_out", d, d,
                                  error)
           && vlm_vit_want_linear(loader, &b->up, &b->up_bias, gguf, prefix, up, ff, d, error)
           && vlm_vit_want_linear(loader, &b->down, &b->down_bias, gguf, prefix, down, d, ff,
                                  error);
}

gboolean vlm_vit_want(vlm_vit *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    const uint32_t d = hp->n_embd;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    vlm_rope_pairs_vision(pairs, hp->head_dim);
    if (!m->blocks)
        m->blocks = g_new0(vlm_vit_block, hp->n_layer);
    if (!want_patch_embd(m, loader, gguf, error)
        || (hp->pos_side > 0
            && !vlm_loader_floats(loader, &m->position_embd, gguf, "v.position_embd.weight",
                                  ((uint64_t) hp->pos_side * hp->pos_side + hp->class_token) * d,
                                  error))
        || (hp->class_token
            && !vlm_loader_floats(loader, &m->class_embd, gguf, "v.class_embd", d, error))
        || (hp->rotary
            && !vlm_loader_data(loader, &m->rope, pairs, hp->head_dim / 2 * sizeof *pairs, error))
        || !vlm_vit_want_norm(loader, &m->norm, hp->rms_norms ? NULL : &m->norm_bias, gguf, "v",
                              hp->norm_first ? "pre_ln" : "post_ln", d, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_layer; i++)
        if (!want_block(m, loader, gguf, i, error))
            return FALSE;
    return TRUE;
}

void vlm_vit_clear(vlm_vit *m)
{
    g_clear_pointer(&m->blocks, g_free);
}

// ------------------------------------------------------------------------------ graph

void vlm_vit_lay_out(const vlm_vit *m, uint32_t n_patch, uint64_t pixels_bytes, vlm_scratch *s,
                     vlm_vit_buffers *b)
{
    const vlm_vision_hparams *hp = &m->hp;

    b->patches = vlm_scratch_tensor(s, n_patch, 3 * hp->temporal * hp->patch * hp->patch);
    n_patch += hp->class_token ? 1 : 0;
    b->x = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->qkv = vlm_scratch_tensor(s, n_patch, 3 * hp->n_embd);
    b->attn = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->ff = vlm_scratch_tensor(s, n_patch, hp->n_ff);
    if (hp->gated_ffn)
        b->up = vlm_scratch_tensor(s, n_patch, hp->n_ff);
    b->pixels = vlm_scratch_bytes(s, MAX(pixels_bytes, 64));
}

vlm_tensor vlm_vit_merged(const vlm_tensor *t, uint32_t n_merge)
{
    return vlm_tensor_make(t->addr, t->n_row / n_merge, t->n_col * n_merge);
}

gboolean vlm_vit_preprocess(const vlm_vit *m, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_vit_buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    vlm_pixels_params params = {
        .out_width = group->grid_w * hp->patch,
        .out_height = group->grid_h * hp->patch,
        .patch = hp->patch,
        .merge = hp->merge,
        .n_time = hp->temporal,
    };

    memcpy(params.mean, hp->mean, sizeof params.mean);
    memcpy(params.std, hp->std, sizeof params.std);
    for (uint32_t t = 0; t < hp->temporal; t++) {
        const uint32_t i = MIN(t, group->n_picture - 1);  // a still fills every frame
        params.time = t;
        if (!vlm_op_pixels(cmd, &b->patches, group->picture[i], group->pixels[i], b->pixels,
                           &params, error))
            return FALSE;
        vlm_cmd_barrier(cmd);  // the scratch is used again
    }
    return TRUE;
}

// How the rows of a tower with attention windows are ordered: those of a window side by side, and
// windows of one size as well, so that each size is one call of the attention.
typedef struct windows {
    uint64_t order;  // device address of u32 [patch]: which one a row is; 0 = in their own order
    uint32_t *host;  // the same for the host, owned
    uint32_t n_size;
    struct {
        uint32_t n_window, n_patch;  // windows of this size, patches in one
    } size[4];                       // whole ones, those cut off right, below, at both sides
} windows;

static void windows_clear(windows *win)
{
    g_free(win->host);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(windows, windows_clear)

// Appends the patches of all windows of h x w blocks of merge x merge patches that fit into the
// blocks from (top, left) to (bottom, right).
static uint32_t append_windows(windows *win, uint32_t n, uint32_t n_merge, uint32_t grid_cols,
                               const uint32_t from[2], const uint32_t to[2], uint32_t h, uint32_t w)
{
    const uint32_t first = n;

    if (h == 0 || w == 0)
        return n;
    for (uint32_t top = from[0]; top + h <= to[0]; top += h)
        for (uint32_t left = from[1]; left + w <= to[1]; left += w)
            for (uint32_t y = top; y < top + h; y++)
                for (uint32_t x = left; x < left + w; x++)
                    for (uint32_t k = 0; k < n_merge; k++)
                        win->host[n++] = (y * grid_cols + x) * n_merge + k;
    if (n > first) {
        win->size[win->n_size].n_patch = h * w * n_merge;
        win->size[win->n_size++].n_window = (n - first) / (h * w * n_merge);
    }
    return n;
}

static gboolean find_windows(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                             windows *win, GError **error)
{
    const uint32_t merge = m->hp.merge, side = m->hp.window / merge, n_merge = merge * merge;
    const uint32_t rows = grid_h / merge, cols = grid_w / merge;
    uint32_t n = 0;

    if (m->hp.window == 0)
        return TRUE;
    win->host = g_new(uint32_t, (size_t) grid_h * grid_w);
    const uint32_t whole[2] = { rows / side * side, cols / side * side };
    const uint32_t h = rows - whole[0], w = cols - whole[1];
    n = append_windows(win, n, n_merge, cols, (uint32_t[2]){ 0, 0 }, whole, side, side);
    n = append_windows(win, n, n_merge, cols, (uint32_t[2]){ 0, whole[1] },
                       (uint32_t[2]){ whole[0], cols }, side, w);
    n = append_windows(win, n, n_merge, cols, (uint32_t[2]){ whole[0], 0 },
                       (uint32_t[2]){ rows, whole[1] }, h, side);
    n = append_windows(win, n, n_merge, cols, whole, (uint32_t[2]){ rows, cols }, h, w);
    VLM_REQUIRE(n == grid_h * grid_w, error);
    return vlm_cmd_table(cmd, win->host, n * sizeof *win->host, &win->order, error);
}

// Row and column of every patch: blocks of merge x merge, or in the order of windows.
static gboolean patch_positions(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                                const windows *win, uint64_t *addr, GError **error)
{
    const uint32_t merge = m->hp.merge, n_merge = merge * merge, cols = grid_w / merge;
    void *host = NULL;

    if (!vlm_cmd_table_alloc(cmd, (size_t) grid_h * grid_w * 16, &host, addr, error))
        return FALSE;
    uint32_t(*positions)[4] = host;
    for (uint32_t i = 0; i < grid_h * grid_w; i++) {
        const uint32_t patch = win->host ? win->host[i] : i;
        const uint32_t block = patch / n_merge, k = patch % n_merge;
        positions[i][0] = positions[i][3] = 0;
        positions[i][1] = block / cols * merge + k / merge;
        positions[i][2] = block % cols * merge + k % merge;
    }
    return TRUE;
}

static gboolean normalise(const vlm_vit *m, vlm_cmd *cmd, const vlm_tensor *dst,
                          const vlm_tensor *src, uint64_t weight, uint64_t bias, GError **error)
{
    return m->hp.rms_norms ? vlm_op_rms_norm(cmd, dst, src, weight, m->hp.eps, error)
                           : vlm_op_layer_norm(cmd, dst, src, weight, bias, m->hp.eps, error);
}

// qkv = the three projections of the normalised rows, side by side.
static gboolean project_qkv(const vlm_vit *m, vlm_cmd *cmd, const vlm_vit_block *w,
                            const vlm_vit_buffers *b, GError **error)
{
    const uint32_t n = m->hp.separate_qkv ? 3 : 1, n_col = b->qkv.n_col / n;

    for (uint32_t i = 0; i < n; i++) {
        vlm_tensor part = b->qkv;
        part.addr += (uint64_t) i * n_col * 4;
        part.n_col = n_col;
        if (!vlm_op_matmul(cmd, &part, &b->norm, &w->qkv[i],
                           &(vlm_matmul_post){ .bias = w->qkv_bias[i] }, error))
            return FALSE;
    }
    return TRUE;
}

// Attention among all patches, or within each window.
static gboolean attend(const vlm_vit *m, vlm_cmd *cmd, const windows *win, gboolean within,
                       const vlm_vit_buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    const float scale = 1.0f / sqrtf((float) hp->head_dim);
    uint32_t first = 0;

    if (!within)
        return vlm_op_attention_full(cmd, &b->attn, &b->qkv, b->x.n_row, hp->n_head, hp->head_dim,
                                     scale, FALSE, error);
    for (uint32_t i = 0; i < win->n_size; i++) {
        const uint32_t n_row = win->size[i].n_window * win->size[i].n_patch;
        const vlm_tensor qkv = vlm_tensor_rows(&b->qkv, first, n_row);
        const vlm_tensor attn = vlm_tensor_rows(&b->attn, first, n_row);
        if (!vlm_op_attention_full(cmd, &attn, &qkv, win->size[i].n_patch, hp->n_head, hp->head_dim,
                                   scale, FALSE, error))
            return FALSE;
        first += n_row;
    }
    return TRUE;
}

// x += down(act(up n)), or down(act(gate n) * up n), of the normalised x.
static gboolean feed_forward(const vlm_vit *m, vlm_cmd *cmd, const vlm_vit_block *w,
                             const vlm_vit_buffers *b, GError **error)
{
    if (m->hp.gated_ffn) {
        VLM_REQUIRE(m->hp.act == VLM_ACT_SILU, error);
        if (!vlm_op_matmul(cmd, &b->ff, &b->norm, &w->gate,
                           &(vlm_matmul_post){ .bias = w->gate_bias }, error)
            || !vlm_op_matmul(cmd, &b->up, &b->norm, &w->up,
                              &(vlm_matmul_post){ .bias = w->up_bias }, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
        if (!vlm_op_swiglu(cmd, &b->ff, &b->ff, &b->up, error))
            return FALSE;
    } else if (!vlm_op_matmul(cmd, &b->ff, &b->norm, &w->up,
                              &(vlm_matmul_post){ .bias = w->up_bias, .act = m->hp.act }, error)) {
        return FALSE;
    }
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, &b->x, &b->ff, &w->down,
                         &(vlm_matmul_post){ .bias = w->down_bias, .residual = &b->x }, error);
}

static gboolean run_block(const vlm_vit *m, vlm_cmd *cmd, uint32_t i, uint64_t positions,
                          const windows *win, const vlm_vit_buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    const vlm_vit_block *w = &m->blocks[i];
    const gboolean within = hp->window > 0 && (i + 1) % hp->full_every != 0;

    vlm_cmd_stage(cmd, "vision norms");
    if (!normalise(m, cmd, &b->norm, &b->x, w->ln1, w->ln1_bias, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "vision q, k, v");
    if (!project_qkv(m, cmd, w, b, error))
        return FALSE;
    if (hp->rotary) {
        vlm_cmd_barrier(cmd);
        if (!vlm_op_rope_vision(cmd, &b->qkv, positions, m->rope, hp->n_head, hp->head_dim, error))
            return FALSE;
    }
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "vision attention");
    if (!attend(m, cmd, win, within, b, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "vision output");
    if (!vlm_op_matmul(cmd, &b->x, &b->attn, &w->out,
                       &(vlm_matmul_post){ .bias = w->out_bias, .residual = &b->x }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "vision norms");
    if (!normalise(m, cmd, &b->norm, &b->x, w->ln2, w->ln2_bias, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    vlm_cmd_stage(cmd, "vision feed-forward");
    if (!feed_forward(m, cmd, w, b, error))
        return FALSE;
    vlm_cmd_stage(cmd, NULL);
    return vlm_cmd_split(cmd, error);
}

// Row 0 of b->x = the class token at its position: a grid of one place.
static gboolean embed_class(const vlm_vit *m, vlm_cmd *cmd, const vlm_vit_buffers *b,
                            GError **error)
{
    static const uint32_t zero = 0;
    const vlm_tensor row = vlm_tensor_rows(&b->x, 0, 1);
    const vlm_tensor embd = vlm_tensor_make(m->class_embd, 1, m->hp.n_embd);
    uint64_t index;

    if (!vlm_cmd_table(cmd, &zero, sizeof zero, &index, error)
        || !vlm_op_rows_gather(cmd, &row, &embd, index, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_position_embed(cmd, &row, m->position_embd, 1, 1, 1, 1, error);
}

// b->x = the patches' embeddings, in the order of the windows where there are any.
static gboolean embed_patches(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                              const windows *win, const vlm_vit_buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    const uint32_t first = hp->class_token ? 1 : 0;
    const vlm_tensor x = vlm_tensor_rows(win->order ? &b->norm : &b->x, first, b->x.n_row - first);

    if (hp->class_token && !embed_class(m, cmd, b, error))
        return FALSE;
    if (!vlm_op_matmul(cmd, &x, &b->patches, &m->patch_embd,
                       &(vlm_matmul_post){ .bias = m->patch_bias }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (hp->pos_side > 0) {
        const uint64_t table = m->position_embd + (uint64_t) first * hp->n_embd * 4;
        if (!vlm_op_position_embed(cmd, &x, table, hp->pos_side, grid_h, grid_w, hp->merge, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
    }
    if (hp->norm_first) {
        if (!normalise(m, cmd, &b->x, &b->x, m->norm, m->norm_bias, error))
            return FALSE;
        vlm_cmd_barrier(cmd);
    }
    if (!win->order)
        return TRUE;
    if (!vlm_op_rows_gather(cmd, &b->x, &x, win->order, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

gboolean vlm_vit_run(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                     const vlm_vit_buffers *b,
                     gboolean (*after_block)(gpointer user, uint32_t i, GError **error),
                     gpointer user, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    uint64_t positions = 0;
    g_auto(windows) win = { 0 };

    if (!find_windows(m, cmd, grid_h, grid_w, &win, error)
        || (hp->rotary && !patch_positions(m, cmd, grid_h, grid_w, &win, &positions, error))
        || !embed_patches(m, cmd, grid_h, grid_w, &win, b, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_layer; i++)
        if (!run_block(m, cmd, i, positions, &win, b, error)
            || (after_block && !after_block(user, i, error)))
            return FALSE;
    if (hp->norm_first)
        return TRUE;
    if (!normalise(m, cmd, win.order ? &b->attn : &b->norm, &b->x, m->norm, m->norm_bias, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!win.order)
        return TRUE;
    if (!vlm_op_rows_scatter(cmd, &b->norm, &b->attn, win.order, FALSE, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

gboolean vlm_vit_project(vlm_cmd *cmd, const vlm_vit_projector *w, const vlm_tensor *dst,
                         const vlm_tensor *src, const vlm_tensor *hidden, GError **error)
{
    if (!vlm_op_matmul(cmd, hidden, src, &w->fc1,
                       &(vlm_matmul_post){ .bias = w->fc1_bias, .act = VLM_ACT_GELU_ERF }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, dst, hidden, &w->fc2, &(vlm_matmul_post){ .bias = w->fc2_bias },
                         error)
           && vlm_cmd_split(cmd, error);
}

uint64_t vlm_vit_pixels_bytes(const vlm_vit *m, const vlm_picture_group *group)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < group->n_picture; i++)
        bytes = MAX(bytes, vlm_pixels_scratch_bytes(group->pixels[i], group->grid_w * m->hp.patch,
                                                    group->grid_h * m->hp.patch));
    return bytes;
}
