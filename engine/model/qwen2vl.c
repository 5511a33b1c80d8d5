// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen2vl.c — Qwen2-VL and Qwen2.5-VL: one decoder, two towers; files, pictures, prompt.
//
// Source: the technical reports (arXiv 2409.12191, 2502.13923) and their implementation in
// transformers, which is the reference that tests/check_model.c compares with.
#define G_LOG_DOMAIN "vlm-model"
#include "base/error.h"
#include "model/decoder.h"
#include "model/vit.h"
#include "ops/ops.h"

typedef struct qwen2vl {
    vlm_decoder decoder;
    vlm_vit vit;
    vlm_vit_projector merger;  // behind the tower's last norm
    gboolean counts_seconds;   // a film's positions follow its time (2.5), not the number of frames
} qwen2vl;

// ------------------------------------------------------------------------------ files

// Limits of a still image for files that do not carry their own, and the pixels of a side of the
// windows of Qwen2.5-VL, as published.
#define DEFAULT_MIN_PIXELS    3136u
#define DEFAULT_MAX_PIXELS    12845056u
#define DEFAULT_WINDOW_PIXELS 112u

// Without learned positions. Converters write no merge size (2 in all published models), and older
// ones a width of the perceptron that is not its own: the tensors say what it is.
static gboolean read_tower(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error)
{
    uint32_t pixels;

    if (!vlm_gguf_get_u32_or(gguf, "clip.vision.spatial_merge_size", 1, 8, 2, &h->merge, error)
        || !vlm_vision_read_pixel_limits(gguf, h, error))
        return FALSE;
    h->separate_qkv = !vlm_gguf_tensor_find(gguf, "v.blk.0.attn_qkv.weight");
    if (h->window == 0)
        return TRUE;
    if (!vlm_gguf_get_u32_or(gguf, "clip.vision.window_size", h->patch * h->merge, 4096, h->window,
                             &pixels, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.n_wa_pattern", 1, VLM_MAX_LAYERS, &h->full_every,
                             error))
        return FALSE;
    h->window = MAX(pixels / h->merge / h->patch, 1) * h->merge;
    return TRUE;
}

static const vlm_vision_tower tower_2 = {
    .defaults = { .projector = "qwen2vl_merger",
                  .temporal = 2,
                  .rotary = TRUE,
                  .act = VLM_ACT_GELU_QUICK,
                  .image_min_pixels = DEFAULT_MIN_PIXELS,
                  .image_max_pixels = DEFAULT_MAX_PIXELS },
    .read = read_tower,
    .may_swap_ffn = TRUE,
    .ffn_by_tensors = TRUE,
};

static const vlm_vision_tower tower_25 = {
    .defaults = { .projector = "qwen2.5vl_merger",
                  .temporal = 2,
                  .rotary = TRUE,
                  .rms_norms = TRUE,
                  .gated_ffn = TRUE,
                  .act = VLM_ACT_SILU,
                  .window = DEFAULT_WINDOW_PIXELS,
                  .image_min_pixels = DEFAULT_MIN_PIXELS,
                  .image_max_pixels = DEFAULT_MAX_PIXELS },
    .read = read_tower,
    .ffn_by_tensors = TRUE,
};

static void qwen2vl_free(gpointer data)
{
    qwen2vl *m = data;

    if (!m)
        return;
    vlm_decoder_clear(&m->decoder);
    vlm_vit_clear(&m->vit);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(qwen2vl, qwen2vl_free)

static gpointer qwen2vl_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes,
                             GError **error)
{
    g_autoptr(qwen2vl) m = g_new0(qwen2vl, 1);
    const vlm_text_hparams *hp = &m->decoder.hp;
    const vlm_vision_hparams *v = &m->vit.hp;

    if (!vlm_text_hparams_read(text, &m->decoder.hp, error)
        || !vlm_vision_hparams_read(vision, &m->vit.hp, error)
        || !vlm_hparams_check_pair(text, hp, vision, v, error))
        return NULL;
    m->counts_seconds = g_str_equal(v->projector, "qwen2.5vl_merger");
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
        .group_frames = v->temporal,
        .n_planes = 1,
    };
    return g_steal_pointer(&m);
}

static gboolean qwen2vl_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                             GError **error)
{
    qwen2vl *m = data;
    const vlm_text_hparams *hp = &m->decoder.hp;
    const vlm_vision_hparams *v = &m->vit.hp;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    vlm_rope_pairs_mrope(pairs, hp->head_dim, (double) hp->rope_theta, hp->rope_sections);
    return vlm_decoder_want(&m->decoder, loader, text, pairs, error)
           && vlm_vit_want(&m->vit, loader, vision, error)
           && vlm_vit_want_projector(loader, &m->merger, vision, "mm", "0", "2",
                                     v->n_embd * v->merge * v->merge, v->projection_dim, error);
}

// ------------------------------------------------------------------------------ pictures

// Pixels of a frame in the published recipe for films: at least, at most, the sum over all frames
// of a film (counted by pairs), and what a frame may always have, however many there are.
#define FRAME_MIN_PIXELS  100352u
#define FRAME_MAX_PIXELS  602112u
#define FILM_PAIR_PIXELS  180633600u
#define FRAME_FREE_PIXELS 105369u

#define MAX_PATCHES 65535u  // rows of an operator

static gboolean plan(gpointer data, const vlm_showing *showing, uint32_t width, uint32_t height,
                     vlm_plan *out, GError **error)
{
    const qwen2vl *m = data;
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t most = MIN(hp->image_max_pixels, MAX_PATCHES * hp->patch * hp->patch);
    uint64_t min = hp->image_min_pixels, max = most;
    uint32_t w = 0, h = 0;

    if (!showing->is_still) {
        // a stream is a film of frames without number
        const uint64_t share =
            showing->film_frames > 0 ? FILM_PAIR_PIXELS / showing->film_frames : 0;
        max = MIN(MAX(MIN(share, FRAME_MAX_PIXELS), FRAME_FREE_PIXELS), most);
        if (showing->max_pixels > 0)
            max = MIN(MAX(showing->max_pixels, hp->image_min_pixels), most);
        min = FRAME_MIN_PIXELS;
    }
    if (!vlm_pixels_smart_resize(width, height, hp->patch * hp->merge, MIN(min, max), max, 0, &w,
                                 &h, error))
        return FALSE;
    *out = (vlm_plan){ .grid_h = h / hp->patch, .grid_w = w / hp->patch };
    return TRUE;
}

// Work memory of encoding one group.
typedef struct buffers {
    vlm_vit_buffers vit;
    vlm_tensor hidden;  // [token, merge^2 * n_embd]
} buffers;

static void lay_out(const qwen2vl *m, const vlm_picture_group *group, vlm_scratch *s, buffers *b)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t n_patch = group->grid_h * group->grid_w, n_merge = hp->merge * hp->merge;

    vlm_vit_lay_out(&m->vit, n_patch, vlm_vit_pixels_bytes(&m->vit, group), s, &b->vit);
    b->hidden = vlm_scratch_tensor(s, n_patch / n_merge, n_merge * hp->n_embd);
}

static uint64_t encode_bytes(gpointer data, const vlm_device *dev, const vlm_picture_group *group)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    lay_out(data, group, &s, &b);
    return s.used;
}

static gboolean encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                       const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const qwen2vl *m = data;
    const vlm_vision_hparams *hp = &m->vit.hp;
    vlm_scratch s = { .addr = scratch->addr };
    buffers b;

    lay_out(m, group, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes && hp->n_embd % 4 == 0, error);
    if (trace && trace->pixels)
        b.vit.patches = vlm_tensor_make(trace->pixels, b.vit.patches.n_row, b.vit.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!vlm_vit_preprocess(&m->vit, cmd, group, &b.vit, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!vlm_vit_run(&m->vit, cmd, group->grid_h, group->grid_w, &b.vit, NULL, NULL, error))
        return FALSE;
    const vlm_tensor merged = vlm_vit_merged(&b.vit.norm, hp->merge * hp->merge);
    const vlm_tensor out = vlm_tensor_make(group->out, merged.n_row, hp->projection_dim);
    if (!vlm_vit_project(cmd, &m->merger, &out, &merged, &b.hidden, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}

// ------------------------------------------------------------------------------ prompt

// One bracket around the whole film, no text between its frames.
static char *film_open(uint32_t n_frames, gint64 duration)
{
    (void) n_frames;
    (void) duration;
    return g_strdup(VLM_SPECIAL("<|vision_start|>"));
}

static char *group_label(const gint64 *times, uint32_t n)
{
    (void) times;
    (void) n;
    return g_strdup("");
}

static const vlm_protocol protocol = {
    .system_open = "<|im_start|>system\n",
    .system_close = "<|im_end|>\n",
    .system_default = "You are a helpful assistant.",
    .user_open = "<|im_start|>user\n",
    .answer_open = "<|im_end|>\n<|im_start|>assistant\n",
    .answer_close = "<|im_end|>\n",
    .visual_open = "<|vision_start|>",
    .visual_close = "<|vision_end|>",
    .group_open = "",
    .group_close = "",
    .image_token = "<|image_pad|>",
    .video_token = "<|video_pad|>",
    .film_open = film_open,
    .film_close = VLM_SPECIAL("<|vision_end|>"),
    .group_label = group_label,
};

#define TOKENS_PER_SECOND 2        // of the published Qwen2.5-VL models; files don't say
#define TIME_ERROR_NS     1000000  // films keep times in milliseconds, which may be rounded down

// Where a group of frames is on the axis of time, from its film's start.
static uint32_t film_step(const qwen2vl *m, const vlm_grid *grid)
{
    if (!m->counts_seconds)
        return grid->film_group;
    return (uint32_t) ((grid->film_time + TIME_ERROR_NS) / (1000000000 / TOKENS_PER_SECOND));
}

// All groups of a film start at one place, as one block of time x rows x columns; what follows
// comes behind all three.
static uint32_t grid_positions(gconstpointer data, const vlm_grid *grid, uint32_t (*positions)[4])
{
    const uint32_t start = grid->is_still ? grid->first : grid->film_first;
    const uint32_t step = grid->is_still ? 0 : film_step(data, grid);

    for (uint32_t y = 0; y < grid->rows; y++) {
        for (uint32_t x = 0; x < grid->cols; x++) {
            uint32_t *p = positions[y * grid->cols + x];
            p[0] = start + step;
            p[1] = start + y;
            p[2] = start + x;
            p[3] = 0;
        }
    }
    return MAX(grid->first, start + MAX(step + 1, MAX(grid->rows, grid->cols)));
}

// ------------------------------------------------------------------------------ decoder

static uint64_t decode_bytes(gpointer data, const vlm_device *dev, uint32_t n_tok, uint32_t n_out)
{
    const qwen2vl *m = data;

    return vlm_decoder_bytes(&m->decoder, dev, n_tok, n_out);
}

static gboolean decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                       const vlm_buffer *scratch, const vlm_tensor *logits, const vlm_trace *trace,
                       GError **error)
{
    const qwen2vl *m = data;

    return vlm_decoder_run(&m->decoder, cmd, batch, kv, scratch, logits, trace, error);
}

static const char *const archs[] = { "qwen2vl", NULL };
static const vlm_text_arch text_archs[] = {
    { .name = "qwen2vl", .rope = VLM_ROPE_MROPE, .qkv_bias = TRUE },
    { .name = NULL },
};
static const vlm_vision_tower *const towers[] = { &tower_2, &tower_25, NULL };
static const char *const projectors[] = { "qwen2vl_merger", "qwen2.5vl_merger", NULL };

const vlm_family vlm_family_qwen2vl = {
    .archs = archs,
    .projectors = projectors,
    .text_archs = text_archs,
    .towers = towers,
    .protocol = &protocol,
    .read = qwen2vl_read,
    .free = qwen2vl_free,
    .want = qwen2vl_want,
    .decode_bytes = decode_bytes,
    .encode_bytes = encode_bytes,
    .decode = decode,
    .encode = encode,
    .plan = plan,
    .grid_positions = grid_positions,
};
