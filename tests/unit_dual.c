// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_dual.c — dual encoders without a device: wrong files, vocabularies, lists of labels.
#include "model/dual_hparams.h"
#include "model/family.h"
#include "model/tokenizer.h"
#include "random_dual.h"

#include <math.h>
#include <string.h>

static vlm_gguf *open_writer(const gguf_writer *w)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    vlm_gguf *gguf = vlm_gguf_open_bytes(bytes, "FILE", &error);

    g_assert_no_error(error);
    return gguf;
}

static void no_fill(void *user, uint64_t first_row, uint64_t n_rows, void *dst)
{
    (void) user, (void) first_row, (void) n_rows, (void) dst;
}

typedef enum action { REMOVE, U32, F32, STR, BOOL, REALS, REMOVE_TENSOR, TENSOR } action;

static const struct {
    gboolean siglip;
    action action;
    const char *key, *value, *error;
} cases[] = {
    { FALSE, REMOVE, "clip.text.block_count", NULL, "key clip.text.block_count is missing" },
    { FALSE, U32, "clip.text.block_count", "513",
      "key clip.text.block_count is 513, expected 1 to 512" },
    { FALSE, U32, "clip.vision.attention.head_count", "3",
      "key clip.vision.embedding_length is 64, not 3 heads of a multiple of 4 up to 256" },
    { FALSE, U32, "clip.vision.attention.head_count", "0",
      "key clip.vision.attention.head_count is 0, expected 1 to 1024" },
    { FALSE, U32, "clip.text.context_length", "3",
      "key clip.text.context_length is 3, expected 4 to 4096" },
    { FALSE, U32, "clip.text.context_length", "76",
      "tensor t.position_embd.weight has shape [128, 77], expected [128, 76]" },
    { FALSE, U32, "clip.vision.image_size", "96",
      "tensor v.position_embd.weight has shape [64, 26], expected [64, 37]" },
    { FALSE, U32, "clip.vision.image_size", "100000",
      "key clip.vision.image_size is 100000, expected 32 to 2048" },
    { FALSE, U32, "clip.vision.patch_size", "0",
      "key clip.vision.patch_size is 0, expected 4 to 64" },
    { FALSE, REALS, "clip.vision.image_std", "0",
      "key clip.vision.image_std has the value 0, expected 0.001 to 10" },
    { FALSE, F32, "clip.text.attention.layer_norm_epsilon", "0", NULL },
    { FALSE, U32, "clip.vision.projection_dim", "32", "FILE: pictures become 32 numbers, but" },
    { FALSE, STR, "clip.model_type", "coca",
      "key clip.model_type is coca, only clip and siglip are supported" },
    { FALSE, STR, "clip.model_type", "siglip", "key clip.logit_scale is missing" },
    { FALSE, BOOL, "clip.use_silu", "1", "key clip.use_silu is true, which is not supported" },
    { FALSE, BOOL, "clip.has_vision_encoder", "0", "key clip.has_vision_encoder is not true" },
    { FALSE, BOOL, "clip.has_text_encoder", "0", "key clip.has_text_encoder is not true" },
    { FALSE, REMOVE_TENSOR, "v.class_embd", NULL, "tensor v.class_embd is missing" },
    { FALSE, REMOVE_TENSOR, "t.blk.2.attn_k.bias", NULL, "tensor t.blk.2.attn_k.bias is missing" },
    { FALSE, TENSOR, "t.blk.3.ln1.weight", "128",
      "tensor t.blk.3.ln1.weight is not part of a clip model" },
    { FALSE, TENSOR, "visual_projection.weight", "64",
      "tensor visual_projection.weight has shape [64], expected [64, 64]" },
    { TRUE, REMOVE, "clip.logit_bias", NULL, "key clip.logit_bias is missing" },
    { TRUE, F32, "clip.logit_scale", "21", NULL },
    { TRUE, REMOVE_TENSOR, "v.head.probe", NULL, "tensor v.head.probe is missing" },
    { TRUE, TENSOR, "v.class_embd", "64", "tensor v.class_embd is not part of a siglip model" },
    { TRUE, U32, "clip.vision.projection_dim", "32",
      "key clip.vision.projection_dim is 32, but the tower's width is 64" },
    { TRUE, STR, "clip.model_type", "clip", NULL },
};

static void damage(gguf_writer *w, guint i)
{
    const char *key = cases[i].key, *value = cases[i].value;
    const uint64_t n = value ? g_ascii_strtoull(value, NULL, 10) : 0;
    const float real = (float) n, reals[3] = { real, real, real };

    if (cases[i].action == REMOVE_TENSOR || cases[i].action == TENSOR)
        gguf_writer_remove_tensor(w, key);
    else
        gguf_writer_remove(w, key);
    if (cases[i].action == U32)
        gguf_writer_u32(w, key, (uint32_t) n);
    else if (cases[i].action == F32)
        gguf_writer_f32(w, key, real);
    else if (cases[i].action == STR)
        gguf_writer_str(w, key, value);
    else if (cases[i].action == BOOL)
        gguf_writer_bool(w, key, n != 0);
    else if (cases[i].action == REALS)
        gguf_writer_f32_array(w, key, reals, 3);
    else if (cases[i].action == TENSOR)
        gguf_writer_tensor(w, key, VLM_DTYPE_F32, 1, &n, no_fill, NULL, NULL);
}

static void test_malformed(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        vlm_dual_hparams hparams;
        random_dual model;

        random_dual_init(&model, cases[i].siglip);
        g_autoptr(gguf_writer) w = random_dual_file(&model, RANDOM_DUAL_BOTH);
        damage(w, i);
        g_autoptr(vlm_gguf) gguf = open_writer(w);
        g_test_message("%s", cases[i].key);
        g_assert_false(vlm_dual_hparams_read(gguf, gguf, &hparams, &error));
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_true(g_str_has_prefix(error->message, "FILE: "));
        if (cases[i].error && !strstr(error->message, cases[i].error))
            g_error("%s", error->message);
    }
}

// Both kinds, published and modern, in one file and in two, are found and read.
static void test_sound(void)
{
    for (guint i = 0; i < 4; i++) {
        g_autoptr(GError) error = NULL;
        vlm_dual_hparams h;
        random_dual model;

        random_dual_init(&model, i % 2);
        model.modern = i / 2;
        model.gelu = model.modern;
        g_autoptr(gguf_writer) both = random_dual_file(&model, RANDOM_DUAL_BOTH);
        g_autoptr(gguf_writer) tw = random_dual_file(&model, RANDOM_DUAL_TEXT);
        g_autoptr(gguf_writer) vw = random_dual_file(&model, RANDOM_DUAL_VISION);
        g_autoptr(vlm_gguf) one = open_writer(both), text = open_writer(tw),
                            vision = open_writer(vw);
        g_assert_true(vlm_family_find(one, one, &error) == &vlm_family_dual);
        g_assert_true(vlm_family_find(text, vision, &error) == &vlm_family_dual);
        g_assert_false(vlm_dual_has_text(vision) || vlm_dual_has_vision(text));
        g_assert_true(vlm_dual_hparams_read(text, vision, &h, &error));
        g_assert_true(vlm_dual_hparams_read(one, one, &h, &error));
        g_assert_no_error(error);
        g_assert_cmpint(h.text.swapped, ==, i == 0);
        g_assert_cmpint(h.text.causal, ==, !model.siglip);
        g_assert_cmpint(h.vision.act, ==,
                        model.siglip ? VLM_ACT_GELU_TANH
                        : model.gelu ? VLM_ACT_GELU_ERF
                                     : VLM_ACT_GELU_QUICK);
        g_assert_cmpuint(h.side, ==, 5);
        g_assert_cmpfloat_with_epsilon(h.scale, model.siglip ? expf(4.7f) : 100.0f, 1e-3);
    }
}

// ------------------------------------------------------------------------------ vocabularies

static vlm_tokenizer *open_vocabulary(gboolean siglip, gboolean modern)
{
    g_autoptr(GError) error = NULL;
    random_dual model;

    random_dual_init(&model, siglip);
    model.modern = modern;
    g_autoptr(gguf_writer) w = random_dual_file(&model, RANDOM_DUAL_TEXT);
    g_autoptr(vlm_gguf) gguf = open_writer(w);
    vlm_tokenizer *tok = vlm_tokenizer_new_labels(gguf, &error);
    g_assert_no_error(error);
    return tok;
}

// The merges that the order of the tokens gives are those that the file would have.
static void test_rebuilt_merges(void)
{
    static const char *const texts[] = {
        "a photo of a cat",
        "CATS walking, redo; running's",
        "catscats dogcar t\xc3\xa9t\xc3\xa9",
        "\xe4\xb8\xad\xf0\x9f\x90\x88 caf\xc3\xa9 CAF\xc3\x89",
        "there there's 1234 ab12",
        "",
    };
    g_autoptr(vlm_tokenizer) rebuilt = open_vocabulary(FALSE, FALSE);
    g_autoptr(vlm_tokenizer) given = open_vocabulary(FALSE, TRUE);

    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GArray) a = vlm_tokenizer_encode(rebuilt, texts[i], -1, FALSE, NULL);
        g_autoptr(GArray) b = vlm_tokenizer_encode(given, texts[i], -1, FALSE, NULL);
        g_assert_cmpmem(a->data, a->len * 4, b->data, b->len * 4);
    }
}

static void assert_tokens(const vlm_tokenizer *tok, const char *text, const char *want)
{
    g_autoptr(GArray) ids = vlm_tokenizer_encode(tok, text, -1, FALSE, NULL);
    g_autoptr(GString) got = g_string_new(NULL);

    for (guint i = 0; i < ids->len; i++)
        g_string_append_printf(got, "%s%u", i ? " " : "", g_array_index(ids, uint32_t, i));
    g_assert_cmpstr(got->str, ==, want);
}

// What transformers and sentencepiece make of the same pieces (tests/oracle/dual.py).
static void test_unigram(void)
{
    g_autoptr(vlm_tokenizer) tok = open_vocabulary(TRUE, FALSE);

    assert_tokens(tok, "a photo of a cat", "3 45 4 5 3 45 7");
    assert_tokens(tok, "Dogs!", "10");
    assert_tokens(tok, "the red car's in the street", "6 12 11 63 27 6 18");
    assert_tokens(tok, "  Two   blue\ttriangles and 12 green squares? ",
                  "3 3 64 67 59 13 17 63 29 3 2 14 16 63");
    assert_tokens(tok, "CAF\xc3\x89 caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x90\x88", "37 37 3 2 3 2");
}

static void expect_bad_vocabulary(gguf_writer *w, const char *text)
{
    g_autoptr(vlm_gguf) gguf = open_writer(w);
    g_autoptr(GError) error = NULL;

    g_assert_null(vlm_tokenizer_new_labels(gguf, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
    if (!strstr(error->message, text))
        g_error("%s", error->message);
}

static void set_tokens(gguf_writer *w, const GPtrArray *tokens)
{
    gguf_writer_remove(w, "tokenizer.ggml.tokens");
    gguf_writer_str_array(w, "tokenizer.ggml.tokens",
                          (const char *const *) (const void *) tokens->pdata, tokens->len);
}

static void test_bad_vocabulary(void)
{
    g_autoptr(GPtrArray) tokens = random_dual_clip_tokens(NULL);
    random_dual model;

    random_dual_init(&model, FALSE);
    g_autoptr(gguf_writer) w = random_dual_file(&model, RANDOM_DUAL_TEXT);
    gpointer last = tokens->pdata[tokens->len - 3];
    tokens->pdata[tokens->len - 3] = (gpointer) "photocat";
    set_tokens(w, tokens);
    expect_bad_vocabulary(w, "that two earlier ones don't make");
    tokens->pdata[tokens->len - 3] = last;
    g_ptr_array_remove_index(tokens, tokens->len - 1);
    set_tokens(w, tokens);
    expect_bad_vocabulary(w, "has no token <|endoftext|>");
    gguf_writer_str(w, "tokenizer.ggml.model", "llama");
    expect_bad_vocabulary(w, "is llama, only clip, gpt2 and t5 are supported");

    random_dual_init(&model, TRUE);
    g_autoptr(gguf_writer) s = random_dual_file(&model, RANDOM_DUAL_TEXT);
    gguf_writer_raw(s, "tokenizer.ggml.precompiled_charsmap", 9,
                    "\0\0\0\0\x0d\0\0\0\0\0\0\0\x08\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08x", 25);
    expect_bad_vocabulary(s, "is not a table of SentencePiece");
    gguf_writer_remove(s, "tokenizer.ggml.unknown_token_id");
    expect_bad_vocabulary(s, "key tokenizer.ggml.unknown_token_id is missing");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dual/malformed", test_malformed);
    g_test_add_func("/dual/sound", test_sound);
    g_test_add_func("/dual/rebuilt-merges", test_rebuilt_merges);
    g_test_add_func("/dual/unigram", test_unigram);
    g_test_add_func("/dual/bad-vocabulary", test_bad_vocabulary);
    return g_test_run();
}
