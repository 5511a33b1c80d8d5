// SPDX-License-Identifier: LGPL-2.1-or-later
// check_model.c — whole models against recorded references from transformers in float32.
//
//   check_model [--validate] [--bound=X] MAKE-MODEL VECTOR-FILE...
//
// Each file names a random model (written by make-model from the same seed), what is shown to it
// and what transformers computed with the same weights: see tests/vectors.h. Two things are
// compared:
//   - the graphs by themselves: preprocessing, vision tower, decoder layers, logits, with the
//     reference's own tokens and positions;
//   - the engine from outside (vlm.h): pictures and texts go in, greedy tokens and logits come out.
//     Conversations go in twice: as history, and as examples that are kept.
// TAP output; exit status 0 fine, 1 failure, 77 no device.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <glib/gstdio.h>

#include "base/env.h"
#include "model/model.h"
#include "vectors.h"

static double asked_bound = 1e-4;  // relative error of logits and rows
static double bound;               // of the model at hand
static gboolean validate;
static guint n_test, n_fail;

static void verdict(gboolean ok, const char *what, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void verdict(gboolean ok, const char *what, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *detail = g_strdup_vprintf(format, args);
    va_end(args);
    n_test++;
    n_fail += !ok;
    printf("%s %u - %s: %s\n", ok ? "ok" : "not ok", n_test, what, detail);
    fflush(stdout);
}

// Compares floats with the reference's.
static void compare(const char *what, const char *part, const float *got, const float *want,
                    gsize n)
{
    const double error = vectors_error(got, want, n);
    g_autofree char *name = g_strdup_printf("%s %s", what, part);

    verdict(error <= bound, name, "relative error %.2g of %.2g", error, bound);
}

static void compare_checksum(const char *what, const char *part, const float *got, gsize n,
                             const double want[4])
{
    g_autofree char *name = g_strdup_printf("%s %s checksum", what, part);
    double sum[4], worst = 0;

    vectors_checksum(got, n, sum);
    // all four are sums of n terms; the sum of magnitudes is the scale of each
    for (int i = 0; i < 4; i++)
        worst = MAX(worst, fabs(sum[i] - want[i]) / MAX(want[i == 2 ? 2 : 1], 1e-30));
    verdict(worst <= bound, name, "relative error %.2g of %.2g", worst, bound);
}

// ------------------------------------------------------------------------------ the graphs

// A model on a device with everything a graph needs, without engine and sessions.
typedef struct rig {
    const char *what;
    vlm_device *dev;
    vlm_model *model;
    vlm_kv_pool *pool;
    vlm_cmd *cmd;
    GPtrArray *rows;  // of vlm_buffer: encoded pictures, in order
    GArray *n_rows;   // of uint32_t: visual tokens of each
    GArray *still;    // of gboolean: stills, not frames
} rig;

static vlm_buffer *buffer_or_die(vlm_device *dev, size_t bytes, vlm_memory_use use)
{
    g_autoptr(GError) error = NULL;
    vlm_buffer *b = vlm_buffer_create(dev, bytes, use, &error);

    g_assert_no_error(error);
    return b;
}

// Encodes one group of pictures of one size; times are those of frames, or one still.
static void encode_group(rig *r, const vectors_input *const *inputs, uint32_t n_picture,
                         const vlm_plan *plan, gboolean is_still, vlm_tile tile,
                         GByteArray *pixels_out)
{
    const vlm_model_sizes *s = &r->model->sizes;
    g_autoptr(GPtrArray) pictures =
        g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    g_autoptr(GError) error = NULL;
    vlm_pixels layouts[4];
    vlm_picture_group group = { .n_picture = n_picture,
                                .grid_h = plan->grid_h,
                                .grid_w = plan->grid_w,
                                .is_still = is_still,
                                .tile = tile };

    for (uint32_t i = 0; i < n_picture; i++) {
        const vectors_input *in = inputs[i];
        g_autofree uint8_t *rgb = g_malloc((gsize) in->width * in->height * 3);
        vectors_picture(in->width, in->height, in->index, rgb);
        vlm_image image = { .format = VLM_PIXEL_RGB,
                            .width = in->width,
                            .height = in->height,
                            .plane = { rgb },
                            .stride = { in->width * 3 } };
        g_assert_true(vlm_pixels_layout(&image, &layouts[i], &error));
        vlm_buffer *picture = buffer_or_die(r->dev, layouts[i].bytes, VLM_MEMORY_UPLOAD);
        vlm_pixels_copy(&image, &layouts[i], picture->host);
        g_ptr_array_add(pictures, picture);
        group.picture[i] = picture->addr;
        group.pixels[i] = &layouts[i];
    }
    const uint32_t n =
        plan->n_cross > 0 ? plan->n_cross : group.grid_w * group.grid_h / (s->merge * s->merge);
    const uint32_t n_col = 3 * s->group_frames * s->patch * s->patch;
    const size_t patch_bytes = (size_t) group.grid_w * group.grid_h * n_col * 4;
    vlm_buffer *rows =
        buffer_or_die(r->dev, (size_t) n * s->n_planes * s->n_embd * 4, VLM_MEMORY_READBACK);
    g_autoptr(vlm_buffer) patches = buffer_or_die(r->dev, patch_bytes, VLM_MEMORY_READBACK);
    g_autoptr(vlm_buffer) scratch = buffer_or_die(
        r->dev, (size_t) r->model->family->encode_bytes(r->model->data, r->dev, &group),
        VLM_MEMORY_SCRATCH);
    const vlm_trace trace = { .pixels = patches->addr };

    group.out = rows->addr;
    g_assert_true(vlm_cmd_begin(r->cmd, &error));
    r->model->family->encode(r->model->data, r->cmd, &group, scratch, &trace, &error);
    g_assert_no_error(error);
    vlm_cmd_run(r->cmd, &error);
    g_assert_no_error(error);
    g_byte_array_append(pixels_out, patches->host, (guint) patch_bytes);
    g_ptr_array_add(r->rows, rows);
    g_array_append_val(r->n_rows, n);
    g_array_append_val(r->still, is_still);
}

static vlm_plan plan_of(const rig *r, const vectors_input *in, gboolean is_still, uint32_t n_film)
{
    const vlm_showing showing = { .is_still = is_still, .film_frames = n_film };
    g_autoptr(GError) error = NULL;
    vlm_plan plan;

    r->model->family->plan(r->model->data, &showing, in->width, in->height, &plan, &error);
    g_assert_no_error(error);
    return plan;
}

static void encode_still(rig *r, const vectors_input *in, GByteArray *pixels)
{
    const vlm_plan plan = plan_of(r, in, TRUE, 0);
    vlm_tile tile = { .rows = plan.tile_rows, .cols = plan.tile_cols };

    for (tile.row = 1; tile.row <= tile.rows; tile.row++)
        for (tile.col = 1; tile.col <= tile.cols; tile.col++)
            encode_group(r, &in, 1, &plan, TRUE, tile, pixels);
    tile.row = tile.col = 0;
    encode_group(r, &in, 1, &plan, TRUE, tile, pixels);
}

// The film that input `i` is a frame of: its number of frames, and its duration as the reference
// has it, frames at equal distances and each shown as long.
static uint32_t film_of(GPtrArray *inputs, guint i, gint64 *duration)
{
    gint64 first = 0, last = 0;
    uint32_t n = 0;

    while (i > 0 && ((vectors_input *) g_ptr_array_index(inputs, i - 1))->kind == VECTORS_FRAME)
        i--;
    for (; i < inputs->len; i++, n++) {
        const vectors_input *in = g_ptr_array_index(inputs, i);
        if (in->kind != VECTORS_FRAME)
            break;
        if (n == 0)
            first = in->time_ns;
        last = in->time_ns;
    }
    *duration = n > 1 ? (last - first) / (n - 1) * n : 0;
    return n;
}

static void encode_inputs(rig *r, const vectors *v)
{
    g_autoptr(GPtrArray) inputs = vectors_inputs(v);
    g_autoptr(GByteArray) pixels = g_byte_array_new();  // of stills
    g_autoptr(GByteArray) frames = g_byte_array_new();
    const uint32_t n_group = r->model->sizes.group_frames;
    const vectors_input *group[4];
    uint32_t n = 0;
    gint64 duration;

    for (guint i = 0; i < inputs->len; i++) {
        const vectors_input *in = g_ptr_array_index(inputs, i);
        if (in->kind == VECTORS_IMAGE)
            encode_still(r, in, pixels);
        if (in->kind == VECTORS_FRAME)
            group[n++] = in;
        const vectors_input *next = i + 1 < inputs->len ? g_ptr_array_index(inputs, i + 1) : NULL;
        if (n == n_group || (n > 0 && (!next || next->kind != VECTORS_FRAME))) {
            const vlm_plan plan = plan_of(r, group[0], FALSE, film_of(inputs, i, &duration));
            encode_group(r, group, n, &plan, FALSE, (vlm_tile){ 0 }, frames);
            n = 0;
        }
    }
    const gboolean apart = vectors_find(v, "pixel_values_videos_checksum") != NULL;
    if (!apart)  // one kind of pictures
        g_byte_array_append(pixels, frames->data, frames->len);
    if (vectors_find(v, "pixel_values_checksum"))
        compare_checksum(r->what, "pixels", (const float *) pixels->data, pixels->len / 4,
                         vectors_f64(v, "pixel_values_checksum", NULL));
    if (apart)
        compare_checksum(r->what, "pixels of frames", (const float *) frames->data, frames->len / 4,
                         vectors_f64(v, "pixel_values_videos_checksum", NULL));
}

// All encoded rows of one plane, one after the other: stills first, as the reference encodes them.
static GArray *collect_plane(const rig *r, uint32_t plane)
{
    const uint32_t d = r->model->sizes.n_embd;
    GArray *out = g_array_new(FALSE, FALSE, sizeof(float));

    for (guint i = 0; i < 2 * r->rows->len; i++) {
        const guint at = i % r->rows->len;
        const vlm_buffer *b = g_ptr_array_index(r->rows, at);
        const uint32_t n = g_array_index(r->n_rows, uint32_t, at);
        if (g_array_index(r->still, gboolean, at) == (i < r->rows->len))
            g_array_append_vals(out, (const float *) b->host + (gsize) plane * n * d, n * d);
    }
    return out;
}

static void check_vision(rig *r, const vectors *v)
{
    const uint32_t d = r->model->sizes.n_embd;

    for (uint32_t plane = 0; r->rows->len > 0 && plane < r->model->sizes.n_planes; plane++) {
        g_autofree char *part =
            plane == 0 ? g_strdup("vision_embeds") : g_strdup_printf("deepstack_%u", plane - 1);
        g_autofree char *sum_name = g_strconcat(part, "_checksum", NULL);
        g_autofree char *rows_name = g_strconcat(part, "_rows", NULL);
        g_autoptr(GArray) got = collect_plane(r, plane);
        g_autofree float *ends = g_new(float, 2 * d);
        memcpy(ends, got->data, d * 4);
        memcpy(ends + d, got->data + (got->len - d) * 4, d * 4);
        compare_checksum(r->what, part, (const float *) got->data, got->len,
                         vectors_f64(v, sum_name, NULL));
        compare(r->what, part, ends, vectors_f32(v, rows_name, NULL), 2 * d);
    }
}

// Where the step that starts at token `from` ends: pictures that are looked at beside the sequence
// begin steps of their own.
static uint32_t step_end(const rig *r, const int32_t *ids, uint32_t from, uint32_t n,
                         uint32_t image)
{
    if (r->model->sizes.n_cross == 0)
        return n;
    for (from++; from < n && (uint32_t) ids[from] != image; from++)
        ;
    return from;
}

// Gives the rows of pictures their places in the batch.
static void place_pictures(const rig *r, vlm_batch *batch, uint32_t image, uint32_t video)
{
    uint32_t left = 0;
    guint picture = 0;

    for (uint32_t i = 0; i < batch->n_tok; i++) {
        if (batch->ids[i] != image && batch->ids[i] != video)
            continue;
        batch->ids[i] = VLM_ID_VISUAL;
        if (left == 0) {
            const vlm_buffer *rows = g_ptr_array_index(r->rows, picture);
            left = g_array_index(r->n_rows, uint32_t, picture++);
            batch->visual[batch->n_visual++] = (vlm_visual_rows){
                .addr = rows->addr, .n_row = left, .first = 0, .n = left, .tok0 = i
            };
        }
        left--;
    }
}

// Fills a batch with the reference's tokens [from, to) and their positions.
static vlm_batch *make_batch(const rig *r, const vectors *v, uint32_t from, uint32_t to)
{
    const vlm_protocol *p = r->model->family->protocol;
    gsize n = 0, n_pos = 0;
    const int32_t *ids = vectors_i32(v, "input_ids", &n);
    const int32_t *pos = vectors_i32(v, "position_ids", &n_pos);
    vlm_batch *batch = vlm_batch_new(to - from, 1);
    uint32_t image = UINT32_MAX, video = UINT32_MAX;

    if (r->model->vision) {
        vlm_tokenizer_find(r->model->tokenizer, p->image_token, &image);
        vlm_tokenizer_find(r->model->tokenizer, p->video_token, &video);
    }
    for (uint32_t i = from; i < to; i++) {
        batch->ids[i - from] = (uint32_t) ids[i];
        for (uint32_t axis = 0; axis < 3; axis++)
            batch->positions[i - from][axis] = (uint32_t) pos[n_pos / n == 1 ? i : axis * n + i];
        batch->positions[i - from][3] = 0;
    }
    batch->n_tok = to - from;
    if (r->model->sizes.n_cross == 0)
        place_pictures(r, batch, image, video);
    return batch;
}

// The picture that the batch's first token stands for goes beside the sequence.
static void look_at(const rig *r, vlm_batch *batch, vlm_kv_seq *seq, guint picture)
{
    const vlm_buffer *rows = g_ptr_array_index(r->rows, picture);
    const uint32_t n = g_array_index(r->n_rows, uint32_t, picture);
    g_autoptr(GError) error = NULL;

    g_array_set_size(batch->cross_slots, n);
    batch->cross[batch->n_cross++] = (vlm_cross_rows){ .addr = rows->addr, .n = n };
    vlm_kv_seq_add_cross(seq, r->cmd, n, FALSE, &g_array_index(batch->cross_slots, uint64_t, 0),
                         &error);
    g_assert_no_error(error);
}

// One step over the tokens [from, to): all layers' outputs to `layers` [n_layer][n][n_embd], n
// being the tokens of the whole, the logits of the last to `out`. The first token is that of a
// picture looked at beside the sequence with picture >= 0.
static void run_step(rig *r, const vectors *v, vlm_kv_seq *seq, uint32_t from, uint32_t to,
                     gint picture, uint32_t n, float *layers, const vlm_buffer *out)
{
    const vlm_model_sizes *s = &r->model->sizes;
    const vlm_kv_layout *kv = vlm_kv_pool_layout(r->pool);
    g_autoptr(vlm_batch) batch = make_batch(r, v, from, to);
    g_autoptr(GError) error = NULL;
    const size_t row = (size_t) s->n_embd * 4, step = batch->n_tok * row;
    g_autoptr(vlm_buffer) traced = buffer_or_die(r->dev, step * s->n_layer, VLM_MEMORY_READBACK);
    g_autoptr(vlm_buffer) scratch = buffer_or_die(
        r->dev, (size_t) r->model->family->decode_bytes(r->model->data, r->dev, batch->n_tok, 1),
        VLM_MEMORY_SCRATCH);
    const vlm_tensor logits = vlm_tensor_make(out->addr, 1, s->n_vocab);
    const vlm_trace trace = { .layers = traced->addr };

    g_assert_true(vlm_cmd_begin(r->cmd, &error));
    if (picture >= 0)
        look_at(r, batch, seq, (guint) picture);
    g_assert_true(vlm_kv_seq_prepare(seq, r->cmd, batch->n_tok, &error));
    const uint32_t slot0 = vlm_kv_seq_append(seq, batch->n_tok, batch->slots);
    batch->seqs[0] = (vlm_kv_sequence){ .tok0 = 0, .n_tok = batch->n_tok, .slot0 = slot0 };
    batch->caches[0] = seq;
    batch->n_seq = 1;
    batch->out_rows[batch->n_out++] = batch->n_tok - 1;
    r->model->family->decode(r->model->data, r->cmd, batch, kv, scratch, &logits, &trace, &error);
    g_assert_no_error(error);
    vlm_cmd_run(r->cmd, &error);
    g_assert_no_error(error);
    for (uint32_t il = 0; il < s->n_layer; il++)
        memcpy((char *) layers + (il * n + from) * row, (const char *) traced->host + il * step,
               step);
}

static void check_decoder(rig *r, const vectors *v)
{
    const vlm_model_sizes *s = &r->model->sizes;
    g_autoptr(vlm_kv_seq) seq = vlm_kv_seq_create(r->pool);
    g_autoptr(vlm_buffer) out = buffer_or_die(r->dev, (size_t) s->n_vocab * 4, VLM_MEMORY_READBACK);
    gsize n_ids = 0;
    const int32_t *ids = vectors_i32(v, "input_ids", &n_ids);
    const uint32_t n = (uint32_t) n_ids;
    g_autofree float *layers = g_new(float, (gsize) s->n_layer *n * s->n_embd);
    uint32_t image = UINT32_MAX;
    gint picture = (gint) r->rows->len;

    if (r->model->vision)
        vlm_tokenizer_find(r->model->tokenizer, r->model->family->protocol->image_token, &image);
    for (uint32_t i = 0; i < n; i++)  // of a film only the newest frames may be looked at
        picture -= (uint32_t) ids[i] == image;
    for (uint32_t from = 0, to; from < n; from = to) {
        const gboolean looks = s->n_cross > 0 && (uint32_t) ids[from] == image;
        to = step_end(r, ids, from, n, image);
        run_step(r, v, seq, from, to, looks ? picture++ : -1, n, layers, out);
    }
    for (uint32_t il = 0; il < s->n_layer; il++) {
        const float *x = layers + (gsize) il * n * s->n_embd;
        g_autofree char *part = g_strdup_printf("dec_%u", il);
        g_autofree char *last = g_strdup_printf("dec_%u_last_token", il);
        g_autofree char *sum = g_strdup_printf("dec_%u_checksum", il);
        compare(r->what, part, x + (gsize) (n - 1) * s->n_embd, vectors_f32(v, last, NULL),
                s->n_embd);
        compare_checksum(r->what, part, x, (gsize) n * s->n_embd, vectors_f64(v, sum, NULL));
    }
    compare(r->what, "logits", out->host, vectors_f32(v, "logits", NULL), s->n_vocab);
}

// Matrix units round both factors to f16; F32 weights stay away from them, attention within
// pictures does not. Integer dot products round activations to 8 bits (docs/numerics.md).
static double find_bound(const vlm_device *dev, const vlm_model *model)
{
    double least = dev->caps & VLM_CAP_COOPMAT ? 1e-3 : 0;

    for (guint i = 0; i < vlm_gguf_n_tensors(model->text); i++) {
        const vlm_dtype dtype = vlm_gguf_tensor_at(model->text, i)->dtype;
        if ((dev->caps & VLM_CAP_COOPMAT) && dtype != VLM_DTYPE_F32)
            least = MAX(least, 3e-3);
        if ((dev->caps & VLM_CAP_INT_DOT) && vlm_dtype_block_elems(dtype) > 1)
            least = MAX(least, 1e-2);
    }
    return MAX(asked_bound, least);
}

// FALSE when there is no device.
static gboolean check_graphs(const char *what, const vectors *v, const char *text,
                             const char *mmproj)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_device) dev = vlm_device_create(
        &(vlm_device_params){ .caps_mask = (uint32_t) vlm_env_number(VLM_ENV_CAPS_MASK),
                              .slow_caps = vlm_env_flag(VLM_ENV_SLOW_CAPS),
                              .tall_matrices = vlm_env_flag(VLM_ENV_TALL_MATRICES),
                              .validate = validate },
        &error);
    rig r = { .what = what, .dev = dev };

    if (!dev) {
        printf("# %s\n", error->message);
        return FALSE;
    }
    r.model = vlm_model_open(text, mmproj, &error);
    g_assert_no_error(error);
    bound = find_bound(dev, r.model);
    vlm_model_upload(r.model, dev, &(vlm_upload_params){ 0 }, &error);
    g_assert_no_error(error);
    r.pool = vlm_model_kv_pool(r.model, dev, VLM_KV_F32);
    r.cmd = vlm_cmd_create(dev, 16u << 20, &error);
    r.rows = g_ptr_array_new_with_free_func((GDestroyNotify) vlm_buffer_destroy);
    r.n_rows = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    r.still = g_array_new(FALSE, FALSE, sizeof(gboolean));
    if (r.model->vision) {
        encode_inputs(&r, v);
        check_vision(&r, v);
    }
    check_decoder(&r, v);
    verdict(dev->n_validation == 0, what, "%d validation messages", dev->n_validation);
    g_ptr_array_unref(r.rows);
    g_array_unref(r.n_rows);
    g_array_unref(r.still);
    vlm_cmd_destroy(r.cmd);
    vlm_kv_pool_destroy(r.pool);
    vlm_model_free(r.model);
    return TRUE;
}

// ------------------------------------------------------------------------------ the engine

// Answers from input `from` on.
static guint n_answers(GPtrArray *inputs, guint from)
{
    guint n = 0;

    for (guint i = from; i < inputs->len; i++)
        n += ((vectors_input *) g_ptr_array_index(inputs, i))->kind == VECTORS_ANSWER;
    return n;
}

static void add_inputs(vlm_session *session, GPtrArray *inputs, gboolean as_examples,
                       const char **prompt)
{
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < inputs->len; i++) {
        const vectors_input *in = g_ptr_array_index(inputs, i);
        if (in->kind != VECTORS_FRAME) {
            vlm_session_end_film(session, &error);
            g_assert_no_error(error);
        }
        if (in->kind == VECTORS_TEXT)
            vlm_session_add_text(session, in->text, &error);
        if (in->kind == VECTORS_PROMPT)
            *prompt = in->text;
        if (in->kind == VECTORS_ANSWER)
            vlm_session_add_answer(session, in->text, &error);
        if (in->kind == VECTORS_ANSWER && as_examples && n_answers(inputs, i + 1) == 0) {
            g_assert_false(vlm_session_has_examples(session));
            vlm_session_end_examples(session, &error);
            g_assert_true(vlm_session_has_examples(session));
        }
        if (in->kind == VECTORS_FRAME && i > 0
            && ((vectors_input *) g_ptr_array_index(inputs, i - 1))->kind != VECTORS_FRAME) {
            gint64 duration;
            const uint32_t n = film_of(inputs, i, &duration);
            vlm_session_begin_film(session, n, duration, &error);
        }
        if (in->kind == VECTORS_IMAGE || in->kind == VECTORS_FRAME) {
            g_autofree uint8_t *rgb = g_malloc((gsize) in->width * in->height * 3);
            vectors_picture(in->width, in->height, in->index, rgb);
            vlm_image image = { .format = VLM_PIXEL_RGB,
                                .width = in->width,
                                .height = in->height,
                                .plane = { rgb },
                                .stride = { in->width * 3 } };
            if (in->kind == VECTORS_IMAGE)
                vlm_session_add_image(session, &image, &error);
            else
                vlm_session_add_frame(session, &image, in->time_ns, &error);
        }
        g_assert_no_error(error);
    }
    vlm_session_end_film(session, &error);
    g_assert_no_error(error);
}

static void compare_greedy(const char *what, const vectors *v, const vlm_generation *got)
{
    gsize n = 0, n_top = 0;
    const int32_t *ids = vectors_i32(v, "greedy_ids", &n);
    const int32_t *top_ids = vectors_i32(v, "greedy_top_ids", &n_top);
    const float *top_logits = vectors_f32(v, "greedy_top_logits", NULL);
    const gsize k = n_top / n;
    double worst = 0, scale = 0;
    gsize same = 0;

    while (same < n && same < got->n_tokens && got->tokens[same] == (uint32_t) ids[same])
        same++;
    // At a tie another token may follow, and then another text (docs/numerics.md).
    gboolean tie = FALSE;
    for (gsize j = 1; same < MIN(n, got->n_tokens) && j < k; j++)
        tie |= got->tokens[same] == (uint32_t) top_ids[same * k + j]
               && top_logits[same * k] - top_logits[same * k + j]
                      <= 2 * bound * fabs((double) top_logits[same * k]);
    verdict((same == n || tie) && got->n_tokens == n, what,
            "%" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT " greedy tokens are the reference's%s", same,
            n, tie ? ", then a tie" : "");
    // logits of the steps that had the same input
    for (gsize step = 0; step < MIN(same + 1, n) && step < got->n_tokens; step++) {
        const vlm_top_logit *top = got->top + step * got->n_top_logits;
        for (gsize j = 0; j < k; j++) {
            scale = MAX(scale, fabs((double) top_logits[step * k + j]));
            for (uint32_t i = 0; i < got->n_top_logits; i++)
                if (top[i].token == (uint32_t) top_ids[step * k + j])
                    worst =
                        MAX(worst, fabs((double) top[i].logit - (double) top_logits[step * k + j]));
        }
    }
    verdict(worst <= bound * scale, what, "top logits of the steps: relative error %.2g of %.2g",
            worst / scale, bound);
}

// With `as_examples` the turns that have answers are what the session begins with.
static void check_engine(const char *what, const vectors *v, const char *text, const char *mmproj,
                         gboolean as_examples)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_engine) engine = vlm_engine_open(
        &(vlm_engine_params){ .model = text,
                              .mmproj = mmproj,
                              .vision = mmproj ? VLM_VISION_REQUIRED : VLM_VISION_OPTIONAL,
                              .kv_type = VLM_KV_F32,
                              .validate = validate },
        &error);
    g_autoptr(GPtrArray) inputs = vectors_inputs(v);
    const vectors_input *first = g_ptr_array_index(inputs, 0);
    const char *prompt = "";
    gint64 duration = 0;
    guint at = 0;
    gsize n_ids = 0, n_banned = 0, n_greedy = 0;

    g_assert_no_error(error);
    while (at + 1 < inputs->len
           && ((vectors_input *) g_ptr_array_index(inputs, at))->kind != VECTORS_FRAME)
        at++;
    const uint32_t n_film = film_of(inputs, at, &duration);  // the first film is not announced
    g_autoptr(vlm_session) session = vlm_session_create(
        engine,
        &(vlm_session_params){ .system_prompt = first->kind == VECTORS_SYSTEM ? first->text : NULL,
                               .film_frames = n_film,
                               .film_duration = duration,
                               .examples_key = as_examples ? "" : NULL,
                               .context_size = 4096 },
        &error);
    g_assert_no_error(error);
    add_inputs(session, inputs, as_examples, &prompt);
    vectors_i32(v, "greedy_ids", &n_greedy);
    vectors_i32(v, "input_ids", &n_ids);
    const int32_t *banned = vectors_i32(v, "banned_ids", &n_banned);
    g_autoptr(vlm_generation) got =
        vlm_session_generate(session,
                             &(vlm_generate_params){ .prompt = prompt,
                                                     .max_tokens = (uint32_t) n_greedy,
                                                     .ignore_stop = TRUE,
                                                     .n_top_logits = 32,
                                                     .banned = (const uint32_t *) banned,
                                                     .n_banned = (uint32_t) n_banned },
                             &error);
    g_assert_no_error(error);
    verdict(got->n_context == n_ids, what,
            "%u tokens of context, the reference has %" G_GSIZE_FORMAT, got->n_context, n_ids);
    compare_greedy(what, v, got);
}

// ------------------------------------------------------------------------------ main

static gboolean make_model(const char *program, const char *made_by, const char *text,
                           const char *mmproj)
{
    g_autofree char *line = g_strdup_printf("'%s' %s '%s' '%s'", program, made_by, text, mmproj);
    g_autoptr(GError) error = NULL;
    int status = 0;

    if (g_spawn_command_line_sync(line, NULL, NULL, &status, &error)
        && g_spawn_check_wait_status(status, &error))
        return TRUE;
    printf("# %s: %s\n", line, error->message);
    return FALSE;
}

// FALSE when there is no device.
static gboolean check_file(const char *program, const char *path, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vectors) v = vectors_open(path, &error);
    g_autofree char *text = g_build_filename(dir, "text.gguf", NULL);
    g_autofree char *mmproj = g_build_filename(dir, "mmproj.gguf", NULL);
    g_autofree char *base = g_path_get_basename(path);
    gboolean ok = TRUE;

    if (!v) {
        verdict(FALSE, base, "%s", error->message);
        return TRUE;
    }
    g_autofree char *made_by = vectors_text(v, "made_by");
    if (!make_model(program, made_by, text, mmproj)) {
        verdict(FALSE, base, "the model can't be made");
    } else {
        const char *vision = g_file_test(mmproj, G_FILE_TEST_EXISTS) ? mmproj : NULL;
        ok = check_graphs(base, v, text, vision);
        if (ok)
            check_engine(base, v, text, vision, FALSE);
        g_autoptr(GPtrArray) inputs = vectors_inputs(v);
        g_autofree char *kept = g_strconcat(base, " as examples", NULL);
        if (ok && n_answers(inputs, 0) > 0)
            check_engine(kept, v, text, vision, TRUE);
    }
    g_unlink(text);
    g_unlink(mmproj);
    return ok;
}

int main(int argc, char **argv)
{
    GOptionEntry entries[] = {
        { "validate", 0, 0, G_OPTION_ARG_NONE, &validate, "Use the validation layer", NULL },
        { "bound", 0, 0, G_OPTION_ARG_DOUBLE, &asked_bound, "Relative error accepted (1e-4)", "X" },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GOptionContext) context = g_option_context_new("MAKE-MODEL VECTOR-FILE...");
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = NULL;
    gboolean have_device = TRUE;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc < 3) {
        fprintf(stderr, "%s\n", error ? error->message : "what should be checked?");
        return 2;
    }
    dir = g_dir_make_tmp("check-model-XXXXXX", &error);
    g_assert_no_error(error);
    for (int i = 2; i < argc && have_device; i++)
        have_device = check_file(argv[1], argv[i], dir);
    g_rmdir(dir);
    printf("1..%u\n", n_test);
    if (!have_device)
        return 77;
    return n_fail > 0;
}
