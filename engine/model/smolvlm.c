// SPDX-License-Identifier: LGPL-2.1-or-later
// model/smolvlm.c — SmolVLM2: a Llama decoder behind a SigLIP tower (idefics3): files, pictures,
// prompt.
//
// Source: the paper (arXiv 2504.05299) and its implementation in transformers, which is the
// reference that tests/check_model.c compares with.
#define G_LOG_DOMAIN "vlm-model"
#include "base/error.h"
#include "model/decoder.h"
#include "model/vit.h"
#include "ops/ops.h"

typedef struct smolvlm {
    vlm_decoder decoder;
    vlm_vit vit;
    vlm_weight connector;  // [projection_dim, merge^2 * n_embd]
} smolvlm;

// ------------------------------------------------------------------------------ files

#define MAX_TILES_A_SIDE 8u

// A square picture of a fixed size, of which whole patches are used.
static gboolean read_tower(const vlm_gguf *gguf, vlm_vision_hparams *h, GError **error)
{
    if (!vlm_gguf_get_u32(gguf, "clip.vision.projector.scale_factor", 1, 8, &h->merge, error)
        || !vlm_gguf_get_u32(gguf, "clip.vision.image_size", 32, 2048, &h->image_size, error)
        || !vlm_gguf_get_u32_or(gguf, "clip.vision.preproc_image_size", 1, 4096,
                                MIN(4 * h->image_size, 4096), &h->longest_edge, error))
        return FALSE;
    // A still becomes the square of this many tiles, each a picture of its own; published: 4.
    if (h->longest_edge > MAX_TILES_A_SIDE * h->image_size)
        return vlm_gguf_key_error(gguf, "clip.vision.preproc_image_size", error,
                                  "is %u, more than %u times image_size %u", h->longest_edge,
                                  MAX_TILES_A_SIDE, h->image_size);
    h->pos_side = h->image_size / h->patch;
    if (h->pos_side == 0 || h->pos_side % h->merge != 0)
        return vlm_gguf_key_error(gguf, "clip.vision.image_size", error,
                                  "is %u: %u patches a side, not a multiple of scale_factor %u",
                                  h->image_size, h->pos_side, h->merge);
    if (h->image_size % 4 != 0)
        return vlm_gguf_key_error(gguf, "clip.vision.image_size", error,
                                  "is %u, not a multiple of 4", h->image_size);
    return TRUE;
}

static const vlm_vision_tower tower = {
    .defaults = { .projector = "idefics3",
                  .temporal = 1,
                  .separate_qkv = TRUE,
                  .patch_bias = TRUE,
                  .act = VLM_ACT_GELU_TANH },
    .read = read_tower,
    .scale_factor = TRUE,
    .may_swap_ffn = TRUE,
    .one_matrix = TRUE,
};

static void smolvlm_free(gpointer data)
{
    smolvlm *m = data;

    if (!m)
        return;
    vlm_decoder_clear(&m->decoder);
    vlm_vit_clear(&m->vit);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(smolvlm, smolvlm_free)

static gpointer smolvlm_read(vlm_gguf *text, vlm_gguf *vision, vlm_model_sizes *sizes,
                             GError **error)
{
    g_autoptr(smolvlm) m = g_new0(smolvlm, 1);
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

static gboolean smolvlm_want(gpointer data, vlm_loader *loader, vlm_gguf *text, vlm_gguf *vision,
                             GError **error)
{
    smolvlm *m = data;
    const vlm_text_hparams *hp = &m->decoder.hp;
    const vlm_vision_hparams *v = &m->vit.hp;
    g_autofree vlm_rope_pair *pairs = g_new0(vlm_rope_pair, hp->head_dim / 2);

    vlm_rope_pairs_adjacent(pairs, hp->head_dim, (double) hp->rope_theta);
    return vlm_decoder_want(&m->decoder, loader, text, pairs, error)
           && vlm_vit_want(&m->vit, loader, vision, error)
           && vlm_loader_matrix(loader, &m->connector, vision, "mm.model.fc.weight", 1,
                                v->projection_dim, v->n_embd * v->merge * v->merge, error);
}

// ------------------------------------------------------------------------------ pictures

typedef struct size {
    uint32_t width, height;
} size;

// The first resize: the longer side gets `longest`, the other keeps the aspect, rounded down and
// then up to an even number. Doubles, in the reference's order.
static size longest_edge(uint32_t width, uint32_t height, uint32_t longest)
{
    const double aspect = (double) width / (double) height;
    uint32_t w = longest, h = longest;

    if (width >= height)
        h = (uint32_t) ((double) longest / aspect);
    else
        w = (uint32_t) ((double) longest * aspect);
    // the longer side stays as it is, even or odd
    if (width >= height)
        h += h % 2;
    else
        w += w % 2;
    return (size){ MAX(w, 1), MAX(h, 1) };
}

static uint32_t round_up(uint32_t n, uint32_t unit)
{
    return (n + unit - 1) / unit * unit;
}

// The second resize of a still that is cut up: both sides to multiples of a tile's.
static size whole_tiles(size s, uint32_t tile)
{
    const double aspect = (double) s.width / (double) s.height;

    if (s.width >= s.height) {
        const uint32_t w = round_up(s.width, tile);
        return (size){ w, round_up(MAX((uint32_t) ((double) w / aspect), 1), tile) };
    }
    const uint32_t h = round_up(s.height, tile);
    return (size){ round_up(MAX((uint32_t) ((double) h * aspect), 1), tile), h };
}

static gboolean plan(gpointer data, const vlm_showing *showing, uint32_t width, uint32_t height,
                     vlm_plan *out, GError **error)
{
    const smolvlm *m = data;
    const vlm_vision_hparams *hp = &m->vit.hp;

    (void) error;
    *out = (vlm_plan){ .grid_h = hp->pos_side, .grid_w = hp->pos_side };
    if (showing->is_still) {
        const size s = whole_tiles(longest_edge(width, height, hp->longest_edge), hp->image_size);
        if (s.width > hp->image_size || s.height > hp->image_size) {
            out->tile_rows = s.height / hp->image_size;
            out->tile_cols = s.width / hp->image_size;
        }
    }
    return TRUE;
}

// The pictures between the one that came and the square that goes into the tower. Each is rounded
// to 8 bits, as the reference's are.
typedef struct stages {
    vlm_pixels picture[3];
    uint64_t at[3];
    uint32_t n;
} stages;

static void add_stage(stages *st, vlm_scratch *s, uint32_t width, uint32_t height)
{
    st->picture[st->n] = vlm_pixels_rgbx(width, height);
    st->at[st->n] = vlm_scratch_bytes(s, st->picture[st->n].bytes);
    st->n++;
}

static void lay_out_stages(const smolvlm *m, const vlm_picture_group *group, vlm_scratch *s,
                           stages *st)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const vlm_pixels *from = group->pixels[0];
    const size first = longest_edge(from->width, from->height,
                                    group->is_still ? hp->longest_edge : hp->image_size);

    st->n = 0;
    add_stage(st, s, first.width, first.height);
    if (group->is_still) {
        const size tiles = whole_tiles(first, hp->image_size);
        add_stage(st, s, tiles.width, tiles.height);
    }
    if (group->tile.row == 0)
        add_stage(st, s, hp->image_size, hp->image_size);
}

// Work memory of encoding one picture.
typedef struct buffers {
    stages stages;
    vlm_vit_buffers vit;
} buffers;

static void lay_out(const smolvlm *m, const vlm_picture_group *group, vlm_scratch *s, buffers *b)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const vlm_pixels *from = group->pixels[0];
    uint64_t pixels_bytes = 0;

    lay_out_stages(m, group, s, &b->stages);
    for (uint32_t i = 0; i <= b->stages.n; i++) {
        const vlm_pixels *to = &b->stages.picture[MIN(i, b->stages.n - 1)];
        pixels_bytes = MAX(pixels_bytes, vlm_pixels_scratch_bytes(from, to->width, to->height));
        from = to;
    }
    vlm_vit_lay_out(&m->vit, hp->pos_side * hp->pos_side, pixels_bytes, s, &b->vit);
}

static uint64_t encode_bytes(gpointer data, const vlm_device *dev, const vlm_picture_group *group)
{
    vlm_scratch s = { 0 };
    buffers b;

    (void) dev;
    lay_out(data, group, &s, &b);
    return s.used;
}

// The picture through its stages, with the filter that the reference uses on a CPU (older versions
// of it, and on GPUs all, take bicubic instead), the last one or the wanted tile of it to patches.
static gboolean preprocess(const smolvlm *m, vlm_cmd *cmd, const vlm_picture_group *group,
                           const buffers *b, GError **error)
{
    const vlm_vision_hparams *hp = &m->vit.hp;
    const stages *st = &b->stages;
    const uint32_t side = hp->pos_side * hp->patch;  // whole patches: less than image_size for some
    const vlm_pixels *from = group->pixels[0];
    uint64_t at = group->picture[0];

    for (uint32_t i = 0; i < st->n; i++) {
        if (!vlm_op_pixels_resize(cmd, st->at[i], &st->picture[i], at, from, b->vit.pixels,
                                  VLM_FILTER_LANCZOS, error))
            return FALSE;
        vlm_cmd_barrier(cmd);  // the scratch is used again
        from = &st->picture[i];
        at = st->at[i];
    }
    const uint32_t left = group->tile.row ? (group->tile.col - 1) * hp->image_size : 0;
    const uint32_t top = group->tile.row ? (group->tile.row - 1) * hp->image_size : 0;
    const vlm_pixels window = vlm_pixels_window(from, left, top, side, side);
    vlm_picture_group part = { .n_picture = 1,
                               .picture = { at },
                               .pixels = { &window },
                               .grid_h = hp->pos_side,
                               .grid_w = hp->pos_side };
    return vlm_vit_preprocess(&m->vit, cmd, &part, &b->vit, error);
}

// Blocks of merge x merge patches, side by side as the preprocessing has put them, to one row each.
static gboolean encode(gpointer data, vlm_cmd *cmd, const vlm_picture_group *group,
                       const vlm_buffer *scratch, const vlm_trace *trace, GError **error)
{
    const smolvlm *m = data;
    const vlm_vision_hparams *hp = &m->vit.hp;
    const uint32_t n_merge = hp->merge * hp->merge;
    vlm_scratch s = { .addr = scratch->addr };
    buffers b;

    lay_out(m, group, &s, &b);
    VLM_REQUIRE(s.used <= scratch->bytes, error);
    VLM_REQUIRE(group->n_picture == 1 && group->tile.row <= group->tile.rows, error);
    if (trace && trace->pixels)
        b.vit.patches = vlm_tensor_make(trace->pixels, b.vit.patches.n_row, b.vit.patches.n_col);
    vlm_cmd_stamp(cmd, VLM_STAMP_START);
    if (!preprocess(m, cmd, group, &b, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_PIXELS);
    if (!vlm_vit_run(&m->vit, cmd, hp->pos_side, hp->pos_side, &b.vit, NULL, NULL, error))
        return FALSE;
    const vlm_tensor merged = vlm_vit_merged(&b.vit.norm, n_merge);
    const vlm_tensor out = vlm_tensor_make(group->out, merged.n_row, hp->projection_dim);
    if (!vlm_op_matmul(cmd, &out, &merged, &m->connector, NULL, error))
        return FALSE;
    vlm_cmd_stamp(cmd, VLM_STAMP_END);
    return TRUE;
}

// ------------------------------------------------------------------------------ prompt

// Appends a number below 1000 in words.
static void append_hundreds(GString *out, uint32_t n)
{
    static const char *const ones[] = {
        "zero",     "one",     "two",     "three",     "four",     "five",     "six",
        "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
        "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    };
    static const char *const tens[] = { "twenty", "thirty",  "forty",  "fifty",
                                        "sixty",  "seventy", "eighty", "ninety" };

    if (n >= 100) {
        g_string_append_printf(out, "%s hundred", ones[n / 100]);
        if (n % 100 == 0)
            return;
        g_string_append(out, " and ");
        n %= 100;
    }
    if (n >= 20) {
        g_string_append(out, tens[n / 10 - 2]);
        if (n % 10 != 0)
            g_string_append_printf(out, "-%s", ones[n % 10]);
    } else {
        g_string_append(out, ones[n]);
    }
}

// A number in the words that the model was trained with: "one thousand, two hundred and five".
static void append_words(GString *out, uint32_t n)
{
    static const struct {
        uint32_t value;
        const char *name;
    } units[] = { { 1000000000, "billion" }, { 1000000, "million" }, { 1000, "thousand" } };
    const gsize start = out->len;

    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        if (n < units[i].value)
            continue;
        if (out->len > start)
            g_string_append(out, ", ");
        append_hundreds(out, n / units[i].value);
        g_string_append_printf(out, " %s", units[i].name);
        n %= units[i].value;
    }
    if (out->len == start || n > 0) {
        if (out->len > start)
            g_string_append(out, n < 100 ? " and " : ", ");
        append_hundreds(out, n);
    }
}

// "You are provided the following series of five frames from a 0:00:05 [H:MM:SS] video.\n". What is
// not known - a stream has no end - is left out.
static char *film_open(uint32_t n_frames, gint64 duration)
{
    GString *out = g_string_new("You are provided the following series of ");
    gint64 seconds = duration / (gint64) 1000000000;

    if (n_frames > 0) {
        append_words(out, n_frames);
        g_string_append_c(out, ' ');
    }
    g_string_append(out, "frames from a ");
    if (duration > 0) {
        const gint64 days = seconds / 86400;
        if (days > 0)
            g_string_append_printf(out, "%" G_GINT64_FORMAT " day%s, ", days, days > 1 ? "s" : "");
        seconds %= 86400;
        g_string_append_printf(out, "%u:%02u:%02u [H:MM:SS] ", (guint) (seconds / 3600),
                               (guint) (seconds / 60 % 60), (guint) (seconds % 60));
    }
    g_string_append(out, "video.\n");
    return g_string_free(out, FALSE);
}

static char *group_label(const gint64 *times, uint32_t n)
{
    const gint64 seconds = times[0] / (gint64) 1000000000;

    (void) n;
    return g_strdup_printf("\nFrame from %02" G_GINT64_FORMAT ":%02u:", seconds / 60,
                           (guint) (seconds % 60));
}

// A line end after each row of tiles, one more before the picture as a whole.
static char *tile_open(const vlm_tile *tile)
{
    if (tile->row == 0)
        return g_strdup_printf("%s<fake_token_around_image><global-img>", tile->rows ? "\n\n" : "");
    return g_strdup_printf("%s<fake_token_around_image><row_%u_col_%u>",
                           tile->row > 1 && tile->col == 1 ? "\n" : "", tile->row, tile->col);
}

static const char *const specials[] = { "<end_of_utterance>", "<fake_token_around_image>",
                                        "<global-img>", "<image>", NULL };

static const vlm_protocol protocol = {
    .system_open = "<|im_start|>System:",
    .system_close = "<end_of_utterance>\n",
    .user_open = "<|im_start|>User:",
    .user_next = "User:",
    .system_text_open = " ",
    .text_open = " ",
    .answer_open = "<end_of_utterance>\nAssistant:",
    .answer_close = "<end_of_utterance>\n",
    .visual_open = "",
    .visual_close = "<fake_token_around_image>",
    .image_token = "<image>",
    .video_token = "<image>",
    .specials = specials,
    .tile_open = tile_open,
    .film_open = film_open,
    .film_close = "\n\n",
    .tells_length = TRUE,
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
    const smolvlm *m = data;

    return vlm_decoder_bytes(&m->decoder, dev, n_tok, n_out);
}

static gboolean decode(gpointer data, vlm_cmd *cmd, vlm_batch *batch, const vlm_kv_layout *kv,
                       const vlm_buffer *scratch, const vlm_tensor *logits, const vlm_trace *trace,
                       GError **error)
{
    const smolvlm *m = data;

    return vlm_decoder_run(&m->decoder, cmd, batch, kv, scratch, logits, trace, error);
}

static const char *const archs[] = { "llama", NULL };
static const vlm_text_arch text_archs[] = {
    { .name = "llama", .rope = VLM_ROPE_ADJACENT },
    { .name = NULL },
};
static const vlm_vision_tower *const towers[] = { &tower, NULL };
static const char *const projectors[] = { "idefics3", NULL };

const vlm_family vlm_family_smolvlm = {
    .archs = archs,
    .projectors = projectors,
    .text_archs = text_archs,
    .towers = towers,
    .protocol = &protocol,
    .read = smolvlm_read,
    .free = smolvlm_free,
    .want = smolvlm_want,
    .decode_bytes = decode_bytes,
    .encode_bytes = encode_bytes,
    .decode = decode,
    .encode = encode,
    .plan = plan,
    .grid_positions = grid_positions,
};
