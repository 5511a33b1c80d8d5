// SPDX-License-Identifier: LGPL-2.1-or-later
// check_dual.c — dual encoders against recorded references from transformers in float32.
//
//   check_dual MAKE-DUAL VECTOR-FILE...
//
// Each file names a random model (written by make-dual from the same seed), labels, pictures, and
// what transformers computed with the same weights: tests/oracle/dual.py records it. The graphs by
// themselves are compared, and what comes out of sessions. TAP; exit status 77 without a device.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <glib/gstdio.h>

#include "model/model.h"
#include "vectors.h"
#include "vlm.h"

#define BOUND 1e-4  // relative error of embeddings and logits

static guint n_test, n_fail;

static void G_GNUC_PRINTF(3, 4) verdict(gboolean ok, const char *what, const char *format, ...)
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

static void compare(const char *what, const char *part, const float *got, const float *want,
                    gsize n)
{
    const double error = vectors_error(got, want, n);
    g_autofree char *name = g_strdup_printf("%s %s", what, part);

    verdict(error <= BOUND, name, "relative error %.2g of %.2g", error, BOUND);
}

// One recording with its model.
typedef struct rig {
    const char *what;
    const vectors *v;
    char *path;
    char **labels;
    guint n_label, n_picture;
    const int32_t *pictures;  // [n_picture, 3]: width, height, index
    vlm_device *dev;
    vlm_model *model;
    vlm_cmd *cmd;
} rig;

static vlm_image make_picture(const rig *r, guint i, uint8_t **rgb)
{
    const uint32_t width = (uint32_t) r->pictures[3 * i],
                   height = (uint32_t) r->pictures[3 * i + 1];

    *rgb = g_malloc((gsize) width * height * 3);
    vectors_picture(width, height, (uint32_t) r->pictures[3 * i + 2], *rgb);
    return (vlm_image){ .format = VLM_PIXEL_RGB,
                        .width = width,
                        .height = height,
                        .plane = { *rgb },
                        .stride = { width * 3 } };
}

static vlm_buffer *buffer_or_die(vlm_device *dev, size_t bytes, vlm_memory_use use)
{
    g_autoptr(GError) error = NULL;
    vlm_buffer *b = vlm_buffer_create(dev, bytes, use, &error);

    g_assert_no_error(error);
    return b;
}

// ------------------------------------------------------------------------------ the graphs

static void check_pixels(const rig *r, guint i, const float *pixels, gsize n)
{
    g_autofree char *name = g_strdup_printf("%s pixels of picture %u", r->what, i);
    const vlm_model_sizes *s = &r->model->sizes;
    const double *want = vectors_f64(r->v, "pixel_checksum", NULL) + (gsize) 4 * i;
    const uint32_t p = s->patch, side = (uint32_t) sqrt((double) n / (3 * p * p));
    g_autofree float *planes = g_new(float, n);
    double sum[4], worst = 0;

    // From patches to the order of pixels; the recorded ones may have a rest that no patch takes.
    for (uint32_t row = 0; row < side * side; row++)
        for (uint32_t c = 0; c < 3; c++)
            for (uint32_t at = 0; at < p * p; at++)
                planes[((gsize) c * side * p + row / side * p + at / p) * side * p + row % side * p
                       + at % p] = pixels[((gsize) row * 3 + c) * p * p + at];
    vectors_checksum(planes, n, sum);
    for (int k = 0; k < 4; k++)
        worst = MAX(worst, fabs(sum[k] - want[k]) / MAX(want[k == 2 ? 2 : 1], 1e-30));
    verdict(worst <= 1e-6, name, "relative error %.2g of 1e-6", worst);
}

static void encode_picture(rig *r, guint i, float *out)
{
    const vlm_model_sizes *s = &r->model->sizes;
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *rgb = NULL;
    const vlm_image image = make_picture(r, i, &rgb);
    const gsize n_pixel = vectors_i32(r->v, "pixels_used", NULL)[0];
    vlm_pixels pixels;

    vlm_pixels_layout(&image, &pixels, &error);
    g_assert_no_error(error);
    g_autoptr(vlm_buffer) picture = buffer_or_die(r->dev, pixels.bytes, VLM_MEMORY_UPLOAD);
    g_autoptr(vlm_buffer) row = buffer_or_die(r->dev, s->n_embd * 4, VLM_MEMORY_READBACK);
    g_autoptr(vlm_buffer) patches = buffer_or_die(r->dev, n_pixel * 4, VLM_MEMORY_READBACK);
    vlm_pixels_copy(&image, &pixels, picture->host);
    const vlm_picture_group group = { .n_picture = 1,
                                      .picture = { picture->addr },
                                      .pixels = { &pixels },
                                      .grid_h = 1,
                                      .grid_w = 1,
                                      .is_still = TRUE,
                                      .out = row->addr };
    g_autoptr(vlm_buffer) scratch = buffer_or_die(
        r->dev, r->model->family->encode_bytes(r->model->data, r->dev, &group), VLM_MEMORY_SCRATCH);
    const vlm_trace trace = { .pixels = patches->addr };
    g_assert_true(vlm_cmd_begin(r->cmd, &error));
    r->model->family->encode(r->model->data, r->cmd, &group, scratch, &trace, &error);
    g_assert_no_error(error);
    vlm_cmd_run(r->cmd, &error);
    g_assert_no_error(error);
    memcpy(out, row->host, s->n_embd * 4);
    check_pixels(r, i, patches->host, n_pixel);
}

static void check_labels(rig *r)
{
    const vlm_ranker *ranker = r->model->family->ranker;
    gsize n_ids = 0;
    const int32_t *want = vectors_i32(r->v, "input_ids", &n_ids);
    const uint32_t n_ctx = (uint32_t) (n_ids / r->n_label), dim = r->model->sizes.n_embd;
    g_autofree uint32_t *ids = g_new0(uint32_t, n_ids);
    g_autofree uint32_t *len = g_new(uint32_t, r->n_label);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < r->n_label; i++) {
        g_autoptr(GArray) tokens = g_array_new(FALSE, FALSE, sizeof(uint32_t));
        g_autofree char *name = g_strdup_printf("%s tokens of label %u", r->what, i);
        ranker->tokens(r->model->data, r->model->tokenizer, r->labels[i], tokens, &error);
        g_assert_no_error(error);
        len[i] = MIN(tokens->len, n_ctx);
        memcpy(ids + (gsize) i * n_ctx, tokens->data, len[i] * 4);
        verdict(tokens->len <= n_ctx
                    && memcmp(tokens->data, want + (gsize) i * n_ctx, len[i] * 4) == 0,
                name, "%u tokens", tokens->len);
    }
    g_autoptr(vlm_buffer) out =
        buffer_or_die(r->dev, (size_t) r->n_label * dim * 4, VLM_MEMORY_READBACK);
    g_autoptr(vlm_buffer) scratch =
        buffer_or_die(r->dev, ranker->bytes(r->model->data, r->n_label, n_ctx), VLM_MEMORY_SCRATCH);
    const vlm_labels labels = { .ids = ids, .len = len, .n_label = r->n_label, .n_tok = n_ctx };
    g_assert_true(vlm_cmd_begin(r->cmd, &error));
    ranker->encode(r->model->data, r->cmd, &labels, scratch, out->addr, &error);
    g_assert_no_error(error);
    vlm_cmd_run(r->cmd, &error);
    g_assert_no_error(error);
    compare(r->what, "text_embeds", out->host, vectors_f32(r->v, "text_embeds", NULL),
            (gsize) r->n_label * dim);
}

// FALSE when there is no device.
static gboolean check_graphs(rig *r)
{
    g_autoptr(GError) error = NULL;

    r->dev = vlm_device_create(&(vlm_device_params){ .caps_mask = VLM_CAPS_ALL }, &error);
    if (!r->dev) {
        printf("# %s\n", error->message);
        return FALSE;
    }
    r->model = vlm_model_open(r->path, r->path, &error);
    g_assert_no_error(error);
    vlm_model_upload(r->model, r->dev, &(vlm_upload_params){ 0 }, &error);
    g_assert_no_error(error);
    r->cmd = vlm_cmd_create(r->dev, 16u << 20, &error);
    const uint32_t dim = r->model->sizes.n_embd;
    g_autofree float *images = g_new(float, (gsize) r->n_picture *dim);
    for (guint i = 0; i < r->n_picture; i++)
        encode_picture(r, i, images + (gsize) i * dim);
    compare(r->what, "image_embeds", images, vectors_f32(r->v, "image_embeds", NULL),
            (gsize) r->n_picture * dim);
    check_labels(r);
    vlm_cmd_destroy(r->cmd);
    vlm_model_free(r->model);
    vlm_device_destroy(r->dev);
    return TRUE;
}

// ------------------------------------------------------------------------------ sessions

static vlm_generation *ask(vlm_session *session, const char *prompt, gint64 since)
{
    g_autoptr(GError) error = NULL;
    vlm_generation *g = vlm_session_generate(
        session, &(vlm_generate_params){ .prompt = prompt, .since_ns = since }, &error);

    g_assert_no_error(error);
    return g;
}

// The logit of a label, wherever it was ranked.
static double logit_of(const vlm_generation *g, const char *label)
{
    for (uint32_t i = 0; i < g->n_labels; i++)
        if (g_str_equal(g->labels[i].label, label))
            return g->labels[i].logit;
    g_error("no label %s", label);
}

static void add_picture(const rig *r, vlm_session *session, guint i, gint64 time)
{
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *rgb = NULL;
    const vlm_image image = make_picture(r, i, &rgb);

    if (time < 0)
        vlm_session_add_image(session, &image, &error);
    else
        vlm_session_add_frame(session, &image, time, &error);
    g_assert_no_error(error);
}

static void check_logits(const rig *r, vlm_engine *engine, vlm_session *session)
{
    g_autofree char *prompt = g_strjoinv("\n", r->labels);
    const gsize n = (gsize) r->n_picture * r->n_label;
    g_autofree float *got = g_new(float, n);
    vlm_engine_stats before, after;
    g_autoptr(GError) error = NULL;
    double total = 0;

    for (guint i = 0; i < r->n_picture; i++) {
        vlm_session_reset(session, &error);
        g_assert_no_error(error);
        add_picture(r, session, i, -1);
        vlm_session_wait(session, &error);
        g_assert_no_error(error);
        vlm_engine_get_stats(engine, &before);
        g_autoptr(vlm_generation) g = ask(session, prompt, 0);
        vlm_engine_get_stats(engine, &after);
        if (i > 0)
            verdict(after.n_dispatch == before.n_dispatch, r->what,
                    "labels are encoded once: %u dispatches more",
                    (guint) (after.n_dispatch - before.n_dispatch));
        for (guint k = 0; k < r->n_label; k++)
            got[(gsize) i * r->n_label + k] = (float) logit_of(g, r->labels[k]);
        total = 0;
        for (guint k = 0; k < g->n_labels; k++) {
            total += g->labels[k].probability;
            g_assert_true(k == 0 || g->labels[k].logit <= g->labels[k - 1].logit);
        }
        g_assert_cmpuint(g->n_labels, ==, r->n_label);
    }
    compare(r->what, "logits_per_image", got, vectors_f32(r->v, "logits_per_image", NULL), n);
    if (!strstr(r->what, "siglip"))
        verdict(fabs(total - 1) < 1e-9, r->what, "probabilities sum up to %.12f", total);
}

// The mean of frames; only those of the interval; an image always counts.
static void check_film(const rig *r, vlm_session *session)
{
    static const char prompt[] = "a photo of a {}: cat, dogs,, cat , red car,";
    g_autoptr(GError) error = NULL;

    vlm_session_reset(session, &error);
    g_assert_no_error(error);
    add_picture(r, session, 4, 1000);
    g_autoptr(vlm_generation) one = ask(session, prompt, 0);
    add_picture(r, session, 5, 2000);
    g_autoptr(vlm_generation) both = ask(session, prompt, 0);
    g_autoptr(vlm_generation) second = ask(session, prompt, 1001);
    g_autoptr(vlm_generation) newest = ask(session, prompt, 5000);
    vlm_session_reset(session, &error);
    add_picture(r, session, 5, 0);
    g_autoptr(vlm_generation) alone = ask(session, prompt, 0);
    g_autoptr(vlm_generation) plain = ask(session, "a photo of a dogs", 0);

    verdict(one->n_labels == 3 && strstr(one->text, " %, "), r->what, "three labels: %s",
            one->text);
    verdict(logit_of(second, "dogs") == logit_of(alone, "dogs")
                && logit_of(newest, "dogs") == logit_of(alone, "dogs"),
            r->what, "frames before the interval don't count");
    verdict(logit_of(both, "dogs") != logit_of(one, "dogs")
                && logit_of(both, "dogs") != logit_of(alone, "dogs"),
            r->what, "all frames of the film count");
    verdict(logit_of(alone, "dogs") == logit_of(plain, "a photo of a dogs"), r->what,
            "a template is filled in");
}

static void expect_error(const rig *r, vlm_session *session, const char *prompt, int code,
                         const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_generation) g =
        vlm_session_generate(session, &(vlm_generate_params){ .prompt = prompt }, &error);

    verdict(!g && g_error_matches(error, VLM_ERROR, code) && strstr(error->message, text), r->what,
            "error: %s", error ? error->message : "none");
}

static void check_engine(const rig *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_engine) engine =
        vlm_engine_open(&(vlm_engine_params){ .model = r->path }, &error);

    g_assert_no_error(error);
    g_assert_true(vlm_engine_get_info(engine)->ranks_labels);
    g_autoptr(vlm_session) session =
        vlm_session_create(engine, &(vlm_session_params){ .system_prompt = "Look." }, &error);
    g_assert_no_error(error);
    g_autoptr(GError) turn = NULL;
    expect_error(r, session, "a cat", VLM_ERROR_ARGS, "there is no picture yet");
    verdict(!vlm_session_add_answer(session, "a cat", &turn)
                && g_error_matches(turn, VLM_ERROR, VLM_ERROR_ARGS),
            r->what, "error: %s", turn ? turn->message : "none");
    check_logits(r, engine, session);
    check_film(r, session);
    expect_error(r, session, " , \n", VLM_ERROR_ARGS, "the prompt must list some");
    g_autofree char *long_label = g_strnfill(5000, 'a');
    expect_error(r, session, long_label, VLM_ERROR_ARGS, "4096 bytes");
    vlm_session_cancel(session);
    expect_error(r, session, "a cat", VLM_ERROR_CANCELLED, "cancelled");
    vlm_bench_result result;
    const gboolean measured =
        vlm_engine_bench(engine, &(vlm_bench_params){ .n_prompt = 8 }, &result, &error);
    verdict(!measured && g_error_matches(error, VLM_ERROR, VLM_ERROR_ARGS), r->what,
            "no decoder to measure: %s", error ? error->message : "measured");
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_dir_make_tmp("vlm-dual-XXXXXX", &error);
    gboolean device = TRUE;

    g_assert_no_error(error);
    for (int i = 2; device && i < argc; i++) {
        g_autoptr(vectors) v = vectors_open(argv[i], &error);
        g_assert_no_error(error);
        g_autofree char *what = g_path_get_basename(argv[i]);
        g_autofree char *made_by = vectors_text(v, "made_by");
        g_autofree char *path = g_build_filename(folder, "dual.gguf", NULL);
        g_autofree char *command = g_strdup_printf("%s %s %s", argv[1], made_by, path);
        g_autofree char *text = vectors_text(v, "labels");
        g_auto(GStrv) labels = g_strsplit(text, "\n", -1);
        gsize n = 0;
        rig r = { .what = what, .v = v, .path = path, .labels = labels };
        int status = 0;

        g_spawn_command_line_sync(command, NULL, NULL, &status, &error);
        g_assert_no_error(error);
        g_assert_cmpint(status, ==, 0);
        r.n_label = g_strv_length(labels);
        r.pictures = vectors_i32(v, "pictures", &n);
        r.n_picture = (guint) (n / 3);
        device = check_graphs(&r);
        if (device)
            check_engine(&r);
        g_unlink(path);
    }
    g_rmdir(folder);
    printf("1..%u\n", n_test);
    return !device ? 77 : n_fail ? 1 : 0;
}
