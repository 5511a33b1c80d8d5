// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen3vl_vision.c — the vision tower of Qwen3-VL: patches to rows for the decoder.
#define G_LOG_DOMAIN "vlm-model"
#include "model/qwen3vl.h"

#include "base/error.h"
#include "ops/ops.h"

// ------------------------------------------------------------------------------ weights

gboolean vlm_qwen3vl_want_vision(qwen3vl *m, vlm_loader *loader, vlm_gguf *vision, GError **error)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t merged = hp->n_embd * hp->merge * hp->merge;

    if (!vlm_vit_want(&m->vit, loader, vision, error)
        || !vlm_vit_want_projector(loader, &m->merger, vision, "mm", "0", "2", merged,
                                   hp->projection_dim, error))
        return FALSE;
    for (uint32_t i = 0; i < hp->n_deepstack; i++) {
        qwen3vl_tap *tap = &m->deepstack[i];
        g_autofree char *prefix = g_strdup_printf("v.deepstack.%u", hp->deepstack_layers[i]);
        if (!vlm_vit_want_norm(loader, &tap->norm, &tap->norm_bias, vision, prefix, "norm", merged,
                               error)
            || !vlm_vit_want_projector(loader, &tap->projector, vision, prefix, "fc1", "fc2",
                                       merged, hp->projection_dim, error))
            return FALSE;
    }
    return TRUE;
}

// ------------------------------------------------------------------------------ graph

// Work memory of encoding one group.
typedef struct buffers {
    vlm_vit_buffers vit;
    vlm_tensor merged;  // [token, merge^2 * n_embd], normalised
    vlm_tensor hidden;  // [token, merge^2 * n_embd]
} buffers;

static void lay_out(const qwen3vl *m, uint32_t n_patch, uint64_t pixels_bytes, vlm_scratch *s,
                    buffers *b)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t n_merge = hp->merge * hp->merge, n_token = n_patch / n_merge;

    vlm_vit_lay_out(&m->vit, n_patch, pixels_bytes, s, &b->vit);
    b->merged = vlm_scratch_tensor(s, n_token, n_merge * hp->n_embd);
    b->hidden = vlm_scratch_tensor(s, n_token, n_merge * hp->n_embd);
}

uint64_t vlm_qwen3vl_encode_bytes(gpointer data, const vlm_device *dev,
                                  const vlm_picture_group *group)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    const qwen3vl *m = data;
    lay_out(m, group->grid_h * group->grid_w, vlm_vit_pixels_bytes(&m->vit, group), &s, &b);
    return s.used;
}

// One plane of the output: the rows of `group->out` for the decoder.
static vlm_tensor out_plane(const qwen3vl *m, const vlm_picture_group *group, uint32_t plane)
{
    const uint32_t n_token = group->grid_h * group->grid_w / (m->vit.hp.merge * m->vit.hp.merge);
    const uint64_t bytes = (uint64_t) n_token * m->vit.hp.projection_dim * 4;

    return vlm_tensor_make(group->out + plane * bytes, n_token, m->vit.hp.projection_dim);
}

// What the taps need to know.
typedef struct tower {
    const qwen3vl *m;
    vlm_cmd *cmd;
    const vlm_picture_group *group;
    const buffers *b;
    uint32_t tap;  // the next one
} tower;

static gboolean deepstack_tap(gpointer user, uint32_t i, GError **error)
{
    tower *t = user;
    const vlm_vision_hparams *hp = &t->m->vit.hp;

    if (t->tap >= hp->n_deepstack || hp->deepstack_layers[t->tap] != i)
        return TRUE;
    const qwen3vl_tap *w = &t->m->deepstack[t->tap++];
    const vlm_tensor x = vlm_vit_merged(&t->b->vit.x, hp->merge * hp->merge);
    const vlm_tensor out = out_plane(t->m, t->group, t->tap);
    if (!vlm_op_layer_norm(t->cmd, &t->b->merged, &x, w->norm, w->norm_bias, hp->eps, error))
        return FALSE;
    vlm_cmd_barrier(t->cmd);
    return vlm_vit_project(t->cmd, &w->projector, &out, &t->b->merged, &t->b->hidden, error);
}

static gboolean run_tower(const qwen3vl *m, vlm_cmd *cmd, const vlm_picture_group *group,
                          const buffers *b, GError **error)
{
    const uint32_t n_merge = m->vit.hp.merge * m->vit.hp.merge;
    const vlm_tensor merged = vlm_vit_merged(&b->vit.norm, n_merge);
    const vlm_tensor out = out_plane(m, group, 0);
    tower t = { .m = m, .cmd = cmd, .group = group, .b = b };

    return vlm_vit_run(&m->vit, cmd, group->grid_h, group->grid_w, &b->vit, deepstack_tap, &t,
                       error)
           && vlm_vit_project(cmd, &m->merger, &out, &merged, &b->hidden, error);
}

gboolean vlm_qwen3vl_encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                            const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const qwen3vl *m = data;
    vlm_scratch s = { .addr = scratch->addr };
    buffers b;

    lay_out(m, group->grid_h * group->grid_w, vlm_vit_pixels_bytes(&m->vit, group), &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes, error);
    VLM_REQUIRE(m->vit.hp.n_embd % 4 == 0 && group->n_picture >= 1, error);
    if (trace && trace->pixels)
        b.vit.patches = vlm_tensor_make(trace->pixels, b.vit.patches.n_row, b.vit.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!vlm_vit_preprocess(&m->vit, cmd, group, &b.vit, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!run_tower(m, cmd, group, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}
