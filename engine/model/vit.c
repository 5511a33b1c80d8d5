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
           && vlm_loader_floats(loader, bias, gguf, bias_name, n, error);
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
           && vlm_loader_floats(loader, &m->patch_bias, gguf, "v.patch_embd.bias", hp->n_embd,
                                error);
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
    return vlm_vit_want_norm(loader, &b->ln1, &b->ln1_bias, gguf, prefix, "ln1", d, error)
           && vlm_vit_want_norm(loader, &b->ln2, &b->ln2_bias, gguf, prefix, "ln2", d, error)
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
        || !vlm_loader_floats(loader, &m->position_embd, gguf, "v.position_embd.weight",
                              (uint64_t) hp->pos_side * hp->pos_side * d, error)
        || (hp->rotary
            && !vlm_loader_data(loader, &m->rope, pairs, hp->head_dim / 2 * sizeof *pairs, error))
        || !vlm_vit_want_norm(loader, &m->post_norm, &m->post_norm_bias, gguf, "v", "post_ln", d,
                              error))
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
    b->x = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->qkv = vlm_scratch_tensor(s, n_patch, 3 * hp->n_embd);
    b->attn = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->ff = vlm_scratch_tensor(s, n_patch, hp->n_ff);
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

// Row and column of every patch, in blocks of merge x merge.
static gboolean patch_positions(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                                uint64_t *addr, GError **error)
{
    const uint32_t merge = m->hp.merge;
    void *host = NULL;
    uint32_t i = 0;

    if (!vlm_cmd_table_alloc(cmd, (size_t) grid_h * grid_w * 16, &host, addr, error))
        return FALSE;
    uint32_t(*positions)[4] = host;
    for (uint32_t by = 0; by < grid_h; by += merge)
        for (uint32_t bx = 0; bx < grid_w; bx += merge)
            for (uint32_t y = by; y < by + merge; y++)
                for (uint32_t x = bx; x < bx + merge; x++, i++) {
                    positions[i][0] = positions[i][3] = 0;
                    positions[i][1] = y;
                    positions[i][2] = x;
                }
    return TRUE;
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

static gboolean run_block(const vlm_vit *m, vlm_cmd *cmd, const vlm_vit_block *w,
                          uint64_t positions, const vlm_vit_buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    const float scale = 1.0f / sqrtf((float) hp->head_dim);

    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln1, w->ln1_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!project_qkv(m, cmd, w, b, error))
        return FALSE;
    if (hp->rotary) {
        vlm_cmd_barrier(cmd);
        if (!vlm_op_rope_vision(cmd, &b->qkv, positions, m->rope, hp->n_head, hp->head_dim, error))
            return FALSE;
    }
    vlm_cmd_barrier(cmd);
    if (!vlm_op_attention_full(cmd, &b->attn, &b->qkv, b->x.n_row, hp->n_head, hp->head_dim, scale,
                               error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->x, &b->attn, &w->out,
                       &(vlm_matmul_post){ .bias = w->out_bias, .residual = &b->x }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln2, w->ln2_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->ff, &b->norm, &w->up,
                       &(vlm_matmul_post){ .bias = w->up_bias, .act = VLM_ACT_GELU_TANH }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return vlm_op_matmul(cmd, &b->x, &b->ff, &w->down,
                         &(vlm_matmul_post){ .bias = w->down_bias, .residual = &b->x }, error)
           && vlm_cmd_split(cmd, error);
}

gboolean vlm_vit_run(const vlm_vit *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                     const vlm_vit_buffers *b,
                     gboolean (*after_block)(gpointer user, uint32_t i, GError **error),
                     gpointer user, GError **error)
{
    const vlm_vision_hparams *hp = &m->hp;
    uint64_t positions = 0;

    if ((hp->rotary && !patch_positions(m, cmd, grid_h, grid_w, &positions, error))
        || !vlm_op_matmul(cmd, &b->x, &b->patches, &m->patch_embd,
                          &(vlm_matmul_post){ .bias = m->patch_bias }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_position_embed(cmd, &b->x, m->position_embd, hp->pos_side, grid_h, grid_w,
                               hp->merge, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    for (uint32_t i = 0; i < hp->n_layer; i++)
        if (!run_block(m, cmd, &m->blocks[i], positions, b, error)
            || (after_block && !after_block(user, i, error)))
            return FALSE;
    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, m->post_norm, m->post_norm_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

uint64_t vlm_vit_pixels_bytes(const vlm_vit *m, const vlm_picture_group *group)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < group->n_picture; i++)
        bytes = MAX(bytes, vlm_pixels_scratch_bytes(group->pixels[i], group->grid_w * m->hp.patch,
                                                    group->grid_h * m->hp.patch));
    return bytes;
}
