// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen3vl_vision.c — the vision tower of Qwen3-VL: patches to rows for the decoder.
#define G_LOG_DOMAIN "vlm-model"
#include "model/qwen3vl.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/ops.h"

// ------------------------------------------------------------------------------ weights

// A linear layer "<prefix>.<what>" with its bias.
static gboolean want_linear(vlm_loader *loader, vlm_weight *w, uint64_t *bias, vlm_gguf *gguf,
                            const char *prefix, const char *what, uint32_t n_row, uint32_t n_col,
                            GError **error)
{
    g_autofree char *weight_name = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias_name = g_strdup_printf("%s.%s.bias", prefix, what);

    return vlm_loader_matrix(loader, w, gguf, weight_name, 1, n_row, n_col, error)
           && vlm_loader_floats(loader, bias, gguf, bias_name, n_row, error);
}

static gboolean want_norm(vlm_loader *loader, uint64_t *weight, uint64_t *bias, vlm_gguf *gguf,
                          const char *prefix, const char *what, uint32_t n, GError **error)
{
    g_autofree char *weight_name = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias_name = g_strdup_printf("%s.%s.bias", prefix, what);

    return vlm_loader_floats(loader, weight, gguf, weight_name, n, error)
           && vlm_loader_floats(loader, bias, gguf, bias_name, n, error);
}

// The patch convolution is stored as one tensor [out][colour][y][x] per frame of the group; as a
// matrix over (colour, time, y, x) it is one product.
static gboolean want_patch_embd(qwen3vl *m, vlm_loader *loader, vlm_gguf *gguf, GError **error)
{
    const vlm_vision_hparams *hp = &m->vision;
    const size_t n_plane = (size_t) hp->patch * hp->patch;
    const char *const names[] = { "v.patch_embd.weight", "v.patch_embd.weight.1" };
    const uint64_t ne[4] = { hp->patch, hp->patch, 3, hp->n_embd };
    g_autofree uint8_t *rows = NULL;
    g_autoptr(GBytes) bytes = NULL;
    vlm_dtype dtype = VLM_DTYPE_F32;
    size_t width = 4, total = 0;

    VLM_REQUIRE(hp->temporal == G_N_ELEMENTS(names), error);
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

static gboolean want_block(qwen3vl *m, vlm_loader *loader, vlm_gguf *gguf, uint32_t i,
                           GError **error)
{
    const uint32_t d = m->vision.n_embd, ff = m->vision.n_ff;
    qwen3vl_block *b = &m->blocks[i];
    g_autofree char *prefix = g_strdup_printf("v.blk.%u", i);

    return want_norm(loader, &b->ln1, &b->ln1_bias, gguf, prefix, "ln1", d, error)
           && want_norm(loader, &b->ln2, &b->ln2_bias, gguf, prefix, "ln2", d, error)
           && want_linear(loader, &b->qkv, &b->qkv_bias, gguf, prefix, "attn_qkv", 3 * d, d, error)
           && want_linear(loader, &b->out, &b->out_bias, gguf, prefix, "attn_out", d, d, error)
           && want_linear(loader, &b->up, &b->up_bias, gguf, prefix, "ffn_up", ff, d, error)
           && want_linear(loader, &b->down, &b->down_bias, gguf, prefix, "ffn_down", d, ff, error);
}

gboolean vlm_qwen3vl_want_vision(qwen3vl *m, vlm_loader *loader, vlm_gguf *vision, GError **error)
{
    const vlm_vision_hparams *hp = &m->vision;
    const uint32_t d = hp->n_embd, merged = d * hp->merge * hp->merge;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    vlm_rope_pairs_vision(pairs, hp->head_dim);
    if (!want_patch_embd(m, loader, vision, error)
        || !vlm_loader_floats(loader, &m->position_embd, vision, "v.position_embd.weight",
                              (uint64_t) hp->pos_side * hp->pos_side * d, error)
        || !vlm_loader_data(loader, &m->vision_rope, pairs, hp->head_dim / 2 * sizeof *pairs, error)
        || !want_norm(loader, &m->merger.norm, &m->merger.norm_bias, vision, "v", "post_ln", d,
                      error)
        || !want_linear(loader, &m->merger.fc1, &m->merger.fc1_bias, vision, "mm", "0", merged,
                        merged, error)
        || !want_linear(loader, &m->merger.fc2, &m->merger.fc2_bias, vision, "mm", "2",
                        hp->projection_dim, merged, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_layer; i++)
        if (!want_block(m, loader, vision, i, error))
            return FALSE;
    for (uint32_t i = 0; i < hp->n_deepstack; i++) {
        qwen3vl_merger *tap = &m->deepstack[i];
        g_autofree char *prefix = g_strdup_printf("v.deepstack.%u", hp->deepstack_layers[i]);
        if (!want_norm(loader, &tap->norm, &tap->norm_bias, vision, prefix, "norm", merged, error)
            || !want_linear(loader, &tap->fc1, &tap->fc1_bias, vision, prefix, "fc1", merged,
                            merged, error)
            || !want_linear(loader, &tap->fc2, &tap->fc2_bias, vision, prefix, "fc2",
                            hp->projection_dim, merged, error))
            return FALSE;
    }
    return TRUE;
}

// ------------------------------------------------------------------------------ graph

// Work memory of encoding one group.
typedef struct buffers {
    vlm_tensor patches;  // [patch, 3 * temporal * patch^2]
    vlm_tensor x;        // [patch, n_embd] residual stream
    vlm_tensor norm;     // [patch, n_embd]
    vlm_tensor qkv;      // [patch, 3 * n_embd]
    vlm_tensor attn;     // [patch, n_embd]
    vlm_tensor ff;       // [patch, n_ff]
    vlm_tensor merged;   // [token, merge^2 * n_embd], normalised
    vlm_tensor hidden;   // [token, merge^2 * n_embd]
    uint64_t pixels;     // scratch of the preprocessing
} buffers;

static void lay_out(const qwen3vl *m, uint32_t n_patch, uint64_t pixels_bytes, vlm_scratch *s,
                    buffers *b)
{
    const vlm_vision_hparams *hp = &m->vision;
    const uint32_t n_merge = hp->merge * hp->merge, n_token = n_patch / n_merge;

    b->patches = vlm_scratch_tensor(s, n_patch, 3 * hp->temporal * hp->patch * hp->patch);
    b->x = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->norm = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->qkv = vlm_scratch_tensor(s, n_patch, 3 * hp->n_embd);
    b->attn = vlm_scratch_tensor(s, n_patch, hp->n_embd);
    b->ff = vlm_scratch_tensor(s, n_patch, hp->n_ff);
    b->merged = vlm_scratch_tensor(s, n_token, n_merge * hp->n_embd);
    b->hidden = vlm_scratch_tensor(s, n_token, n_merge * hp->n_embd);
    b->pixels = vlm_scratch_bytes(s, MAX(pixels_bytes, 64));
}

uint64_t vlm_qwen3vl_encode_bytes(gpointer data, const vlm_device *dev, uint32_t grid_h,
                                  uint32_t grid_w, uint64_t pixels_bytes)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    lay_out(data, grid_h * grid_w, pixels_bytes, &s, &b);
    return s.used;
}

// Rows of merge^2 patches seen as one row: n_embd is a multiple of 4, so there are no gaps.
static vlm_tensor as_merged(const vlm_tensor *t, uint32_t n_merge)
{
    return vlm_tensor_make(t->addr, t->n_row / n_merge, t->n_col * n_merge);
}

static gboolean preprocess(const qwen3vl *m, vlm_cmd *cmd, const vlm_picture_group *group,
                           const buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->vision;
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
static gboolean patch_positions(const qwen3vl *m, vlm_cmd *cmd, uint32_t grid_h, uint32_t grid_w,
                                uint64_t *addr, GError **error)
{
    const uint32_t merge = m->vision.merge;
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

static gboolean run_block(const qwen3vl *m, vlm_cmd *cmd, const qwen3vl_block *w,
                          uint64_t positions, const buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->vision;
    const float scale = 1.0f / sqrtf((float) hp->head_dim);

    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, w->ln1, w->ln1_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_matmul(cmd, &b->qkv, &b->norm, &w->qkv, &(vlm_matmul_post){ .bias = w->qkv_bias },
                       error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_rope_vision(cmd, &b->qkv, positions, m->vision_rope, hp->n_head, hp->head_dim,
                            error))
        return FALSE;
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

// dst = fc2(gelu(fc1(src)))
static gboolean project(vlm_cmd *cmd, const qwen3vl_merger *w, const vlm_tensor *dst,
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

// One plane of the output: the rows of `group->out` for the decoder.
static vlm_tensor out_plane(const qwen3vl *m, const vlm_picture_group *group, uint32_t plane)
{
    const uint32_t n_token = group->grid_h * group->grid_w / (m->vision.merge * m->vision.merge);
    const uint64_t bytes = (uint64_t) n_token * m->vision.projection_dim * 4;

    return vlm_tensor_make(group->out + plane * bytes, n_token, m->vision.projection_dim);
}

static gboolean run_tower(const qwen3vl *m, vlm_cmd *cmd, const vlm_picture_group *group,
                          const buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->vision;
    const vlm_tensor x_merged = as_merged(&b->x, hp->merge * hp->merge);
    const vlm_tensor norm_merged = as_merged(&b->norm, hp->merge * hp->merge);
    uint64_t positions = 0;
    uint32_t tap = 0;

    if (!patch_positions(m, cmd, group->grid_h, group->grid_w, &positions, error)
        || !vlm_op_matmul(cmd, &b->x, &b->patches, &m->patch_embd,
                          &(vlm_matmul_post){ .bias = m->patch_bias }, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    if (!vlm_op_position_embed(cmd, &b->x, m->position_embd, hp->pos_side, group->grid_h,
                               group->grid_w, hp->merge, error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        if (!run_block(m, cmd, &m->blocks[i], positions, b, error))
            return FALSE;
        if (tap < hp->n_deepstack && hp->deepstack_layers[tap] == i) {
            const qwen3vl_merger *w = &m->deepstack[tap++];
            const vlm_tensor out = out_plane(m, group, tap);
            if (!vlm_op_layer_norm(cmd, &b->merged, &x_merged, w->norm, w->norm_bias, hp->eps,
                                   error))
                return FALSE;
            vlm_cmd_barrier(cmd);
            if (!project(cmd, w, &out, &b->merged, &b->hidden, error))
                return FALSE;
        }
    }
    if (!vlm_op_layer_norm(cmd, &b->norm, &b->x, m->merger.norm, m->merger.norm_bias, hp->eps,
                           error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    const vlm_tensor out = out_plane(m, group, 0);
    return project(cmd, &m->merger, &out, &norm_merged, &b->hidden, error);
}

gboolean vlm_qwen3vl_encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const qwen3vl *m = data;
    vlm_scratch s = { .addr = scratch->addr };
    uint64_t pixels_bytes = 0;
    buffers b;

    for (uint32_t i = 0; i < group->n_picture; i++)
        pixels_bytes = MAX(pixels_bytes, vlm_pixels_scratch_bytes(group->pixels[i],
                                                                  group->grid_w * m->vision.patch,
                                                                  group->grid_h * m->vision.patch));
    lay_out(m, group->grid_h * group->grid_w, pixels_bytes, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes, error);
    VLM_REQUIRE(m->vision.n_embd % 4 == 0 && group->n_picture >= 1, error);
    if (trace && trace->pixels)
        b.patches = vlm_tensor_make(trace->pixels, b.patches.n_row, b.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!preprocess(m, cmd, group, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!run_tower(m, cmd, group, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}
