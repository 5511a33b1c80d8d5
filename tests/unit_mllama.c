// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_mllama.c — files of Llama 3.2 Vision: sound ones, in one file and in two, wrong ones with
// their errors, and the canvas that pictures are laid on.
#include "model/mllama.h"
#include "model/model.h"

#include "random_model.h"

#include <glib/gstdio.h>
#include <string.h>

typedef enum action {
    REMOVE,         // key
    U32,            // key = value
    F32,            // key = value
    INTS,           // key = these numbers
    REMOVE_TENSOR,  // key
    TENSOR,         // key = F32 tensor of this shape
} action;

#define VISION "mllama.vision."

static const struct {
    const char *id;
    gboolean vision;
    action action;
    const char *key, *value, *error;
} cases[] = {
    { "no layers", FALSE, U32, "mllama.block_count", "0",
      ": key mllama.block_count is 0, expected 2 to 512" },
    { "layers beyond the end", FALSE, INTS, "mllama.attention.cross_attention_layers", "1,5",
      ": key mllama.attention.cross_attention_layers is 5, expected 0 to 3" },
    { "negative layer", FALSE, INTS, "mllama.attention.cross_attention_layers", "-1",
      ": key mllama.attention.cross_attention_layers is -1, expected 0 to 3" },
    { "layer twice", FALSE, INTS, "mllama.attention.cross_attention_layers", "1,1",
      ": key mllama.attention.cross_attention_layers names layer 1 twice" },
    { "all layers", FALSE, INTS, "mllama.attention.cross_attention_layers", "0,1,2,3",
      ": key mllama.attention.cross_attention_layers names every layer" },
    { "other layers", FALSE, INTS, "mllama.attention.cross_attention_layers", "2",
      ": tensor blk.1.attn_q.weight is missing" },
    { "layers missing", FALSE, REMOVE, "mllama.attention.cross_attention_layers", NULL,
      ": key mllama.attention.cross_attention_layers is missing" },
    { "heads not dividing", FALSE, U32, "mllama.attention.head_count", "6",
      ": key mllama.attention.head_count is 6: heads of embedding_length 128 must have a multiple "
      "of 8 and at most 256 elements" },
    { "heads for keys not dividing", FALSE, U32, "mllama.attention.head_count_kv", "3",
      ": key mllama.attention.head_count is 4, not a multiple of the 3 of head_count_kv" },
    { "heads rotated in part", FALSE, U32, "mllama.rope.dimension_count", "16",
      ": key mllama.rope.dimension_count is 16 and heads have 32 elements, they must be equal" },
    { "theta 0", FALSE, F32, "mllama.rope.freq_base", "0",
      ": key mllama.rope.freq_base is 0, expected 1 to 1e+12" },
    { "table too short", FALSE, TENSOR, "token_embd.weight", "128,16",
      ": tensor token_embd.weight has no row for each of the 640 tokens" },
    { "output too long", FALSE, TENSOR, "output.weight", "128,1000",
      ": tensor output.weight has more rows than token_embd.weight" },
    { "wrong frequencies", FALSE, TENSOR, "rope_freqs.weight", "8",
      ": tensor rope_freqs.weight has shape [8], expected [16]" },
    { "gate missing", FALSE, REMOVE_TENSOR, "blk.1.cross_attn_mlp_gate", NULL,
      ": tensor blk.1.cross_attn_mlp_gate is missing" },
    { "norm of heads wrong", FALSE, TENSOR, "blk.1.cross_attn_k_norm.weight", "128",
      ": tensor blk.1.cross_attn_k_norm.weight has shape [128], expected [32]" },
    { "tensor too many", FALSE, TENSOR, "blk.0.attn_q.bias", "128",
      ": tensor blk.0.attn_q.bias is not part of a mllama model" },
    { "no global layers", TRUE, U32, VISION "global.block_count", "0",
      ": key mllama.vision.global.block_count is 0, expected 1 to 512" },
    { "taps not ascending", TRUE, INTS, VISION "intermediate_layers_indices", "3,1",
      ": key mllama.vision.intermediate_layers_indices is not ascending" },
    { "taps beyond the end", TRUE, INTS, VISION "intermediate_layers_indices", "1,4",
      ": key mllama.vision.intermediate_layers_indices is 4, expected 0 to 3" },
    { "too few taps", TRUE, INTS, VISION "intermediate_layers_indices", "1",
      ": tensor mm.0.weight has shape [192, 128], expected [128, 128]" },
    { "tile not whole patches", TRUE, U32, VISION "image_size", "88",
      ": key mllama.vision.image_size is 88, not a multiple of 8 and of patch_size 16" },
    { "tile too large", TRUE, U32, VISION "image_size", "4096",
      ": key mllama.vision.image_size is 4096, expected 8 to 2048" },
    { "too many patches", TRUE, U32, VISION "image_size", "2048",
      ": key mllama.vision.max_num_tiles is 4: with 16384 patches each a picture has more than "
      "65535" },
    { "more tiles", TRUE, U32, VISION "max_num_tiles", "5",
      ": tensor v.tile_position_embd.weight has shape [9472, 9], expected [11840, 11]" },
    { "heads of 4", TRUE, U32, VISION "attention.head_count", "16",
      ": key mllama.vision.embedding_length is 64: each of the 16 heads must have a multiple of 8 "
      "and at most 256 elements" },
    { "projector missing", TRUE, REMOVE_TENSOR, "mm.0.bias", NULL, ": no usable tensor mm.0.bias" },
    { "gate of positions missing", TRUE, REMOVE_TENSOR, "v.tile_position_embd.gate", NULL,
      ": tensor v.tile_position_embd.gate is missing" },
    { "gate in a local layer", TRUE, TENSOR, "v.blk.0.attn_gate", "1",
      ": tensor v.blk.0.attn_gate is not part of a mllama model" },
    { "gate of a global layer missing", TRUE, REMOVE_TENSOR, "v.global.blk.1.ffn_gate", NULL,
      ": tensor v.global.blk.1.ffn_gate is missing" },
};

static vlm_gguf *open_writer(const gguf_writer *w, const char *name)
{
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(GError) error = NULL;
    vlm_gguf *gguf = vlm_gguf_open_bytes(bytes, name, &error);

    g_assert_no_error(error);
    return gguf;
}

static void fill_zeros(void *user, uint64_t first_row, uint64_t n_rows, void *dst)
{
    (void) first_row;
    memset(dst, 0, n_rows * GPOINTER_TO_SIZE(user) * 4);
}

static guint numbers_of(const char *value, int32_t *out)
{
    g_auto(GStrv) words = g_strsplit(value, ",", -1);
    guint n = 0;

    for (; words[n]; n++)
        out[n] = (int32_t) g_ascii_strtoll(words[n], NULL, 10);
    return n;
}

static void damage(gguf_writer *w, action act, const char *key, const char *value)
{
    int32_t numbers[8] = { 0 };
    const guint n = value ? numbers_of(value, numbers) : 0;
    uint64_t ne[4] = { (uint64_t) numbers[0], (uint64_t) numbers[1] };

    if (act == TENSOR || act == REMOVE_TENSOR)
        gguf_writer_remove_tensor(w, key);
    else
        gguf_writer_remove(w, key);
    if (act == U32)
        gguf_writer_u32(w, key, (uint32_t) numbers[0]);
    if (act == F32)
        gguf_writer_f32(w, key, (float) numbers[0]);
    if (act == INTS)
        gguf_writer_i32_array(w, key, numbers, n);
    if (act == TENSOR)
        gguf_writer_tensor(w, key, VLM_DTYPE_F32, n, ne, fill_zeros, GSIZE_TO_POINTER(ne[0]), NULL);
}

static void test_malformed(void)
{
    random_model model;

    random_model_init(&model, "mllama", "tiny");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(gguf_writer) w =
            cases[i].vision ? random_model_mmproj(&model) : random_model_text(&model);
        g_autofree char *expected = g_strdup_printf("FILE%s", cases[i].error);
        g_autoptr(GError) error = NULL;
        mllama_vision_hparams vision;
        mllama_text_hparams text;

        g_test_message("%s", cases[i].id);
        damage(w, cases[i].action, cases[i].key, cases[i].value);
        g_autoptr(vlm_gguf) gguf = open_writer(w, "FILE");
        g_assert_false(cases[i].vision ? vlm_mllama_vision_hparams_read(gguf, &vision, &error)
                                       : vlm_mllama_text_hparams_read(gguf, &text, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_cmpstr(error->message, ==, expected);
    }
}

// Both layouts, with the names that each has, are this family's.
static void test_sound(void)
{
    for (guint one_file = 0; one_file < 2; one_file++) {
        g_autoptr(GError) error = NULL;
        mllama_vision_hparams vision;
        mllama_text_hparams text;
        random_model model;

        random_model_init(&model, "mllama", "tiny");
        model.one_file = one_file;
        g_autoptr(gguf_writer) tw = random_model_text(&model);
        g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
        g_autoptr(vlm_gguf) tg = open_writer(tw, "TEXT"), vg = open_writer(vw, "VISION");
        g_assert_true(vlm_family_find(tg, vg, &error) == &vlm_family_mllama);
        vlm_mllama_text_hparams_read(tg, &text, &error);
        g_assert_no_error(error);
        vlm_mllama_vision_hparams_read(vg, &vision, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(text.n_cross, ==, 1);
        g_assert_true(text.is_cross[1] && !text.is_cross[0]
                      && vlm_gguf_tensor_find(tg, "rope_freqs.weight"));
        g_assert_cmpuint(text.n_vocab, ==, text.n_token - 1);
        g_assert_cmpuint(text.n_embd_row, ==, text.n_token + 7);
        g_assert_cmpuint(vision.n_ratio, ==, 8);
        g_assert_cmpuint(vision.n_pos, ==, 37);
        g_assert_cmpuint(vision.n_pad, ==, 3);
        g_assert_cmpuint(vision.n_out, ==, text.n_embd);
        g_assert_cmpstr(vision.up, ==, one_file ? "ffn_up" : "ffn_down");
        g_assert_cmpstr(vision.norm1, ==, one_file ? "attn_norm" : "ln1");
    }
}

// A tower for another decoder, and one of another family.
static void test_pair(void)
{
    g_autofree char *dir = g_dir_make_tmp("vlm-mllama-XXXXXX", NULL);
    g_autofree char *text_path = g_build_filename(dir, "m.gguf", NULL);
    g_autofree char *vision_path = g_build_filename(dir, "mmproj-m.gguf", NULL);
    g_autoptr(GError) error = NULL;
    random_model model;

    random_model_init(&model, "mllama", "tiny");
    g_autoptr(gguf_writer) tw = random_model_text(&model);
    g_assert_true(gguf_writer_write(tw, text_path, NULL));
    model.n_embd = 64;
    g_autoptr(gguf_writer) vw = random_model_mmproj(&model);
    g_assert_true(gguf_writer_write(vw, vision_path, NULL));
    g_assert_null(vlm_model_open(text_path, vision_path, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    g_assert_true(
        g_str_has_suffix(error->message, ": it makes rows of width 64, the text model takes 128"));
    g_clear_error(&error);
    // two files: the second is found by its name
    g_autofree char *found = vlm_model_find_mmproj(text_path, &error);
    g_assert_cmpstr(found, ==, vision_path);
    // one file: it is its own vision file, whatever lies beside it
    random_model_init(&model, "mllama", "tiny");
    model.one_file = TRUE;
    g_autoptr(gguf_writer) both = random_model_text(&model);
    g_assert_true(gguf_writer_write(both, text_path, NULL));
    g_autofree char *itself = vlm_model_find_mmproj(text_path, &error);
    g_assert_cmpstr(itself, ==, text_path);
    vlm_model *opened = vlm_model_open(text_path, itself, &error);
    g_assert_no_error(error);
    vlm_model_free(opened);
    // and can't be that of another family
    random_model_init(&model, "smolvlm", "tiny");
    g_autoptr(gguf_writer) smol = random_model_text(&model);
    g_assert_true(gguf_writer_write(smol, vision_path, NULL));
    g_assert_null(vlm_model_open(vision_path, text_path, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    g_assert_nonnull(strstr(error->message, "\"mllama\" does not go with architecture llama"));
    g_remove(text_path);
    g_remove(vision_path);
    g_rmdir(dir);
}

// What get_optimal_tiled_canvas() of transformers 5.24 chooses with tiles of 560 pixels: rows and
// columns of tiles.
static void test_canvas(void)
{
    static const struct {
        uint32_t width, height, rows, cols;
    } pictures[] = {
        { 1, 1, 1, 1 },       { 1, 4000, 4, 1 },    { 4000, 1, 1, 4 },      { 400, 800, 2, 1 },
        { 37, 53, 1, 1 },     { 560, 560, 1, 1 },   { 561, 560, 1, 2 },     { 1120, 1120, 2, 2 },
        { 1121, 1120, 2, 2 }, { 1280, 720, 2, 2 },  { 720, 1280, 2, 2 },    { 640, 480, 1, 2 },
        { 1920, 1080, 2, 2 }, { 3840, 2160, 2, 2 }, { 2240, 560, 1, 4 },    { 2240, 561, 1, 4 },
        { 560, 2240, 4, 1 },  { 800, 300, 1, 2 },   { 300, 800, 2, 1 },     { 1680, 560, 1, 3 },
        { 1000, 333, 1, 2 },  { 5000, 5000, 2, 2 }, { 16384, 16384, 2, 2 }, { 16384, 3, 1, 4 },
        { 559, 1121, 3, 1 },
    };
    const mllama_vision vision = {
        .hp = { .image_size = 560, .patch = 14, .max_tiles = 4, .n_pos = 1601 }
    };

    for (guint i = 0; i < G_N_ELEMENTS(pictures); i++) {
        vlm_plan plan;

        g_test_message("%u x %u", pictures[i].width, pictures[i].height);
        g_assert_true(
            vlm_mllama_vision_plan(&vision, pictures[i].width, pictures[i].height, &plan, NULL));
        g_assert_cmpuint(plan.grid_h, ==, pictures[i].rows * 40);
        g_assert_cmpuint(plan.grid_w, ==, pictures[i].cols * 40);
        g_assert_cmpuint(plan.n_cross, ==, pictures[i].rows * pictures[i].cols * 1601);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mllama/malformed", test_malformed);
    g_test_add_func("/mllama/sound", test_sound);
    g_test_add_func("/mllama/pair", test_pair);
    g_test_add_func("/mllama/canvas", test_canvas);
    return g_test_run();
}
