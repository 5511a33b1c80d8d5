// SPDX-License-Identifier: LGPL-2.1-or-later
// model/qwen3vl.c — Qwen3-VL, dense (qwen3vl) and sparse (qwen3vlmoe): files, prompt.
//
// Source: the model's technical report (arXiv 2511.21631) and its implementation in transformers,
// which is the reference that tests/check_model.c compares with.
#define G_LOG_DOMAIN "vlm-model"
#include "model/qwen3vl.h"

#include "base/error.h"
#include "ops/ops.h"

// ------------------------------------------------------------------------------ files

static void qwen3vl_free(gpointer data)
{
    qwen3vl *m = data;

    if (!m)
        return;
    vlm_decoder_clear(&m->decoder);
    vlm_vit_clear(&m->vit);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(qwen3vl, qwen3vl_free)

// Frames of films of unknown length: the published recipe spends at most 25,165,824 pixels on the
// (at most 768) frames of a film, 32768 each, when it has many; short films get more. A stream has
// many.
#define FRAME_MIN_PIXELS 4096u
#define FRAME_MAX_PIXELS 131072u

// Limits of a still image in the published processor configuration, for files that do not carry
// their own.
#define DEFAULT_MIN_PIXELS 65536u
#define DEFAULT_MAX_PIXELS 16777216u

static gboolean read_deepstack(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error)
{
    static const char key[] = "clip.vision.is_deepstack_layers";
    g_autofree uint8_t *flags = NULL;
    guint n;

    if (!vlm_gguf_has(gguf, key))
        return TRUE;
    if (!vlm_gguf_get_bool_array(gguf, key, h->n_layer, h->n_layer, &flags, &n, error))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (!flags[i])
            continue;
        if (h->n_deepstack == VLM_MAX_DEEPSTACK)
            return vlm_gguf_key_error(gguf, key, error, "marks more than %u layers",
                                      VLM_MAX_DEEPSTACK);
        h->deepstack_layers[h->n_deepstack++] = i;
    }
    return TRUE;
}

static gboolean read_tower(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error)
{
    uint32_t image_size;

    if (!vlm_gguf_get_u32(gguf, "clip.vision.spatial_merge_size", 1, 8, &h->merge, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.image_size", 32, 4096, &image_size, error)
        || !vlm_vision_read_pixel_limits(gguf, h, error))
        return FALSE;
    if (image_size % h->patch != 0)
        return vlm_gguf_key_error(gguf, "clip.vision.image_size", error,
                                  "is %u, not a multiple of patch_size %u", image_size, h->patch);
    h->pos_side = image_size / h->patch;
    return read_deepstack(gguf, h, error);
}

const vlm_vision_tower vlm_qwen3vl_tower = {
    .defaults = { .projector = "qwen3vl_merger",
                  .temporal = 2,
                  .rotary = TRUE,
                  .patch_bias = TRUE,
                  .act = VLM_ACT_GELU_TANH,
                  .image_min_pixels = DEFAULT_MIN_PIXELS,
                  .image_max_pixels = DEFAULT_MAX_PIXELS },
    .read = read_tower,
};

gboolean vlm_qwen3vl_read_hparams(qwen3vl *m, vlm_gguf *text, vlm_gguf *vision,
                                  vlm_model_sizes *sizes, GError **error)
{
    if (!vlm_text_hparams_read(text, &m->decoder.hp, error)
        || !vlm_vision_hparams_read(vision, &m->vit.hp, error)
        || !vlm_hparams_check_pair(text, &m->decoder.hp, vision, &m->vit.hp, error))
        return FALSE;
    *sizes = (vlm_model_sizes){
        .n_layer = m->decoder.hp.n_layer,
        .n_embd = m->decoder.hp.n_embd,
        .n_vocab = m->decoder.hp.n_vocab,
        .n_ctx_train = m->decoder.hp.ctx_train,
        .n_head = m->decoder.hp.n_head,
        .n_head_kv = m->decoder.hp.n_head_kv,
        .head_dim = m->decoder.hp.head_dim,
        .n_expert = m->decoder.hp.n_expert,
        .n_expert_used = m->decoder.hp.n_expert_used,
        .vision_layers = m->vit.hp.n_layer,
        .vision_embd = m->vit.hp.n_embd,
        .patch = m->vit.hp.patch,
        .merge = m->vit.hp.merge,
        .group_frames = m->vit.hp.temporal,
        .n_planes = 1 + m->vit.hp.n_deepstack,
    };
    return TRUE;
}

static gpointer qwen3vl_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes,
                             GError **error)
{
    g_autoptr(qwen3vl) m = g_new0(qwen3vl, 1);

    return vlm_qwen3vl_read_hparams(m, text, vision, sizes, error) ? g_steal_pointer(&m) : NULL;
}

gboolean vlm_qwen3vl_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                          GError **error)
{
    qwen3vl *m = data;
    const vlm_text_hparams *hp = &m->decoder.hp;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    vlm_rope_pairs_imrope(pairs, hp->head_dim, hp->rope_dim, hp->rope_theta, hp->rope_sections);
    return vlm_decoder_want(&m->decoder, loader, text, pairs, error)
           && vlm_qwen3vl_want_vision(m, loader, vision, error);
}

// ------------------------------------------------------------------------------ prompt

// "<12.5 seconds>": the mean of the frames' times. Exact ties round to even, as printf does.
char *vlm_qwen3vl_group_label(const gint64 *times, uint32_t n)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += (double) times[i] / 1e9;
    return g_strdup_printf("<%s seconds>", g_ascii_formatd(number, sizeof number, "%.1f", sum / n));
}

static const vlm_protocol protocol = {
    .system_open = "<|im_start|>system\n",
    .system_close = "<|im_end|>\n",
    .user_open = "<|im_start|>user\n",
    .answer_open = "<|im_end|>\n<|im_start|>assistant\n",
    .answer_close = "<|im_end|>\n",
    .visual_open = "<|vision_start|>",
    .visual_close = "<|vision_end|>",
    .image_token = "<|image_pad|>",
    .video_token = "<|video_pad|>",
    .group_label = vlm_qwen3vl_group_label,
};

// The pixel budget of all frames of a film of known length (the published video processor).
#define FILM_MIN_PIXELS 4096u
#define FILM_MAX_PIXELS 25165824u

// Stills by the rule for images; frames by the rule for films when the film's length is known, each
// frame by itself in a stream.
gboolean vlm_qwen3vl_plan(gpointer data, const vlm_showing *showing, uint32_t width,
                          uint32_t height, vlm_plan *out, GError **error)
{
    const qwen3vl *m = data;
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t factor = hp->patch * hp->merge, most = hp->image_max_pixels;
    const gboolean is_film = !showing->is_still && showing->film_frames > 1;
    const uint64_t frame_min = MIN(FRAME_MIN_PIXELS, most);
    uint64_t max = showing->film_frames > 0 ? most : MIN(FRAME_MAX_PIXELS, most);
    uint32_t w = 0, h = 0;

    if (showing->max_pixels > 0)
        max = MAX(showing->max_pixels, frame_min);
    if (is_film
        && !vlm_pixels_smart_resize(width, height, factor, FILM_MIN_PIXELS, FILM_MAX_PIXELS,
                                    showing->film_frames, &w, &h, error))
        return FALSE;
    if (!is_film || (uint64_t) w * h > max) {
        const uint64_t min = showing->is_still ? hp->image_min_pixels : frame_min;
        if (showing->is_still)
            max = most;
        if (!vlm_pixels_smart_resize(width, height, factor, MIN(min, max), max, 0, &w, &h, error))
            return FALSE;
    }
    *out = (vlm_plan){ .grid_h = h / hp->patch, .grid_w = w / hp->patch };
    return TRUE;
}

// A grid sits at one moment: t stays, h and w count from the start; what follows starts behind the
// longer side (Qwen2-VL, arXiv 2409.12191).
uint32_t vlm_qwen3vl_grid_positions(gconstpointer data, const vlm_grid *grid,
                                    uint32_t (*positions)[4])
{
    (void) data;
    for (uint32_t y = 0; y < grid->rows; y++) {
        for (uint32_t x = 0; x < grid->cols; x++) {
            uint32_t *p = positions[y * grid->cols + x];
            p[0] = grid->first;
            p[1] = grid->first + y;
            p[2] = grid->first + x;
            p[3] = 0;
        }
    }
    return grid->first + MAX(grid->rows, grid->cols);
}

// ------------------------------------------------------------------------------ graphs

uint64_t vlm_qwen3vl_decode_bytes(gpointer data, const vlm_device *dev, uint32_t n_tok,
                                  uint32_t n_out)
{
    const qwen3vl *m = data;

    return vlm_decoder_bytes(&m->decoder, dev, n_tok, n_out);
}

gboolean vlm_qwen3vl_decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                            const vlm_buffer *scratch, const vlm_tensor *logits,
                            const vlm_trace *trace, GError **error)
{
    const qwen3vl *m = data;

    return vlm_decoder_run(&m->decoder, cmd, batch, kv, scratch, logits, trace, error);
}

static const char *const archs[] = { "qwen3vl", "qwen3vlmoe", NULL };
static const vlm_text_arch text_archs[] = {
    { .name = "qwen3vl", .rope = VLM_ROPE_IMROPE, .head_norms = TRUE },
    { .name = "qwen3vlmoe", .rope = VLM_ROPE_IMROPE, .head_norms = TRUE, .sparse = TRUE },
    { .name = NULL },
};
static const vlm_vision_tower *const towers[] = { &vlm_qwen3vl_tower, NULL };
static const char *const projectors[] = { "qwen3vl_merger", NULL };

const vlm_family vlm_family_qwen3vl = {
    .archs = archs,
    .projectors = projectors,
    .text_archs = text_archs,
    .towers = towers,
    .protocol = &protocol,
    .read = qwen3vl_read,
    .free = qwen3vl_free,
    .want = vlm_qwen3vl_want,
    .decode_bytes = vlm_qwen3vl_decode_bytes,
    .encode_bytes = vlm_qwen3vl_encode_bytes,
    .decode = vlm_qwen3vl_decode,
    .encode = vlm_qwen3vl_encode,
    .plan = vlm_qwen3vl_plan,
    .grid_positions = vlm_qwen3vl_grid_positions,
};
