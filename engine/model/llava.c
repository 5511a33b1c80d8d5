// SPDX-License-Identifier: LGPL-2.1-or-later
// model/llava.c — LLaVA-1.5: a Llama decoder (Vicuna) behind CLIP's tower: files, pictures,
// prompt.
//
// Source: the paper (arXiv 2310.03744) and its implementation in transformers, which is the
// reference that tests/check_model.c compares with.
#define G_LOG_DOMAIN "vlm-model"
#include <string.h>

#include "base/error.h"
#include "model/decoder.h"
#include "model/vit.h"
#include "ops/ops.h"

typedef struct llava {
    vlm_decoder decoder;
    vlm_vit vit;
    vlm_vit_projector projector;  // [projection_dim, n_embd], [projection_dim, projection_dim]
} llava;

// ------------------------------------------------------------------------------ files

// A square picture of a fixed size, all of which is patches.
static gboolean read_tower(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error)
{
    // of LLaVA-1.6
    static const char *const grids[] = { "clip.vision.image_grid_pinpoints",
                                         "clip.vision.feature_layer" };

    for (guint i = 0; i < G_N_ELEMENTS(grids); i++)
        if (vlm_gguf_has(gguf, grids[i]))
            return vlm_gguf_key_error(gguf, grids[i], error,
                                      "is set, but of these models only LLaVA-1.5 is supported");
    if (!vlm_gguf_get_u32(gguf, "clip.vision.image_size", 32, 2048, &h->image_size, error))
        return FALSE;
    if (h->image_size % h->patch != 0)
        return vlm_gguf_key_error(gguf, "clip.vision.image_size", error,
                                  "is %u, not a multiple of patch_size %u", h->image_size,
                                  h->patch);
    h->pos_side = h->image_size / h->patch;
    return TRUE;
}

static const vlm_vision_tower tower = {
    .defaults = { .projector = "mlp",
                  .temporal = 1,
                  .merge = 1,
                  .separate_qkv = TRUE,
                  .class_token = TRUE,
                  .norm_first = TRUE,
                  .act = VLM_ACT_GELU_QUICK },
    .read = read_tower,
    .gelu_is_erf = TRUE,
    .may_swap_ffn = TRUE,
    .projector_of_rows = TRUE,  // its key is the width of another part of CLIP
};

static void llava_free(gpointer data)
{
    llava *m = data;

    if (!m)
        return;
    vlm_decoder_clear(&m->decoder);
    vlm_vit_clear(&m->vit);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(llava, llava_free)

static gpointer llava_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes, GError **error)
{
    g_autoptr(llava) m = g_new0(llava, 1);
    const vlm_text_hparams *hp = &m->decoder.hp;
    const vlm_vision_hparams *v = &m->vit.hp;

    if (!vlm_text_hparams_read(text, &m->decoder.hp, error)
        || !vlm_vision_hparams_read(vision, &m->vit.hp, error)
        || !vlm_hparams_check_pair(text, hp, vision, v, error))
        return NULL;
    *sizes = (vlm_model_sizes){
        .n_layer = hp->n_layer,
        .n_embd = hp->n_embd,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->ctx_train,
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .head_dim = hp->head_dim,
        .vision_layers = v->n_layer,
        .vision_embd = v->n_embd,
        .patch = v->patch,
        .merge = v->merge,
        .group_frames = 1,
        .n_planes = 1,
    };
    return g_steal_pointer(&m);
}

static gboolean llava_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                           GError **error)
{
    llava *m = data;
    const vlm_text_hparams *hp = &m->decoder.hp;
    const vlm_vision_hparams *v = &m->vit.hp;
    vlm_vit_projector *p = &m->projector;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    vlm_rope_pairs_adjacent(pairs, hp->head_dim, (double) hp->rope_theta);
    return vlm_decoder_want(&m->decoder, loader, text, pairs, error)
           && vlm_vit_want(&m->vit, loader, vision, error)
           && vlm_vit_want_linear(loader, &p->fc1, &p->fc1_bias, vision, "mm", "0",
                                  v->projection_dim, v->n_embd, error)
           && vlm_vit_want_linear(loader, &p->fc2, &p->fc2_bias, vision, "mm", "2",
                                  v->projection_dim, v->projection_dim, error);
}

// ------------------------------------------------------------------------------ pictures

// Every picture becomes one square of the tower's size.
static gboolean plan(gpointer data, const vlm_showing *showing, uint32_t width, uint32_t height,
                     vlm_plan *out, GError **error)
{
    const llava *m = data;

    (void) showing;
    (void) width;
    (void) height;
    (void) error;
    *out = (vlm_plan){ .grid_h = m->vit.hp.pos_side, .grid_w = m->vit.hp.pos_side };
    return TRUE;
}

// Work memory of encoding one picture.
typedef struct buffers {
    vlm_vit_buffers vit;
    vlm_tensor hidden;  // [patch, projection_dim]
} buffers;

static void lay_out(const llava *m, const vlm_picture_group *group, vlm_scratch *s, buffers *b)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t n_patch = hp->pos_side * hp->pos_side;

    vlm_vit_lay_out(&m->vit, n_patch, vlm_vit_pixels_bytes(&m->vit, group), s, &b->vit);
    b->hidden = vlm_scratch_tensor(s, n_patch, hp->projection_dim);
}

static uint64_t encode_bytes(gpointer data, const vlm_device *dev, const vlm_picture_group *group)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    lay_out(data, group, &s, &b);
    return s.used;
}

// The shorter side gets the tower's size, the longer one keeps the aspect, rounded down (in
// doubles, as the reference has it); what is in the middle of it counts.
static gboolean preprocess(const llava *m, vlm_cmd *cmd, const vlm_picture_group *group,
                           const buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const vlm_pixels *from = group->pixels[0];
    const uint32_t side = hp->image_size;
    const double scaled = (double) side * MAX(from->width, from->height);
    const uint32_t longer = (uint32_t) (scaled / MIN(from->width, from->height));
    const gboolean wide = from->width > from->height;
    vlm_pixels_params params = {
        .out_width = side,
        .out_height = side,
        .patch = hp->patch,
        .merge = hp->merge,
        .n_time = 1,
        .full_width = wide ? longer : side,
        .full_height = wide ? side : longer,
    };

    params.left = (params.full_width - side) / 2;
    params.top = (params.full_height - side) / 2;
    memcpy(params.mean, hp->mean, sizeof params.mean);
    memcpy(params.std, hp->std, sizeof params.std);
    if (!vlm_op_pixels(cmd, &b->vit.patches, group->picture[0], from, b->vit.pixels, &params,
                       error))
        return FALSE;
    vlm_cmd_barrier(cmd);
    return TRUE;
}

// Files store the layers up to the one whose output counts: all of them run. The class token's row
// ends here.
static gboolean encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                       const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const llava *m = data;
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t n_patch = hp->pos_side * hp->pos_side;
    vlm_scratch s = { .addr = scratch->addr };
    buffers b;

    lay_out(m, group, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes && group->n_picture == 1, error);
    if (trace && trace->pixels)
        b.vit.patches = vlm_tensor_make(trace->pixels, b.vit.patches.n_row, b.vit.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!preprocess(m, cmd, group, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!vlm_vit_run(&m->vit, cmd, hp->pos_side, hp->pos_side, &b.vit, NULL, NULL, error))
        return FALSE;
    const vlm_tensor rows = vlm_tensor_rows(&b.vit.x, 1, n_patch);
    const vlm_tensor out = vlm_tensor_make(group->out, n_patch, hp->projection_dim);
    if (!vlm_vit_project(cmd, &m->projector, &out, &rows, &b.hidden, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}

// ------------------------------------------------------------------------------ prompt

// The model was trained with single pictures: a film is its frames, each as a picture of its own.
static char *group_label(const gint64 *times, uint32_t n)
{
    (void) times;
    (void) n;
    return g_strdup("");
}

static const char *const specials[] = { "</s>", NULL };

// Vicuna's, version 1. The blanks of a turn belong to what follows them.
static const vlm_protocol protocol = {
    .system_open = "",
    .system_close = " ",
    .system_default = "A chat between a curious user and an artificial intelligence assistant. The "
                      "assistant gives helpful, detailed, and polite answers to the user's "
                      "questions.",
    .user_open = "USER:",
    .text_open = " ",
    .still_open = " ",
    .answer_open = " ASSISTANT:",
    .answer_close = "</s>",
    .visual_open = "",
    .visual_close = "",
    .visual_next = "\n",
    .image_token = "<image>",  // not in every vocabulary
    .video_token = "<image>",
    .specials = specials,
    .group_label = group_label,
};

// Rows of a picture count like words.
static uint32_t grid_positions(gconstpointer data, const vlm_grid *grid, uint32_t (*positions)[4])
{
    const uint32_t n = grid->rows * grid->cols;

    (void) data;
    for (uint32_t i = 0; i < n; i++) {
        positions[i][0] = positions[i][1] = positions[i][2] = grid->first + i;
        positions[i][3] = 0;
    }
    return grid->first + n;
}

// ------------------------------------------------------------------------------ decoder

static uint64_t decode_bytes(gpointer data, const vlm_device *dev, uint32_t n_tok, uint32_t n_out)
{
    const llava *m = data;

    return vlm_decoder_bytes(&m->decoder, dev, n_tok, n_out);
}

static gboolean decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                       const vlm_buffer *scratch, const vlm_tensor *logits, const vlm_trace *trace,
                       GError **error)
{
    const llava *m = data;

    return vlm_decoder_run(&m->decoder, cmd, batch, kv, scratch, logits, trace, error);
}

static const char *const archs[] = { "llama", NULL };
static const vlm_text_arch text_archs[] = {
    { .name = "llama", .rope = VLM_ROPE_ADJACENT },
    { .name = NULL },
};
static const vlm_vision_tower *const towers[] = { &tower, NULL };
static const char *const projectors[] = { "mlp", NULL };

const vlm_family vlm_family_llava = {
    .archs = archs,
    .projectors = projectors,
    .text_archs = text_archs,
    .towers = towers,
    .protocol = &protocol,
    .read = llava_read,
    .free = llava_free,
    .want = llava_want,
    .decode_bytes = decode_bytes,
    .encode_bytes = encode_bytes,
    .decode = decode,
    .encode = encode,
    .plan = plan,
    .grid_positions = grid_positions,
};
