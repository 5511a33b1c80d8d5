// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_dual.c — random dual encoders.
#include "random_dual.h"

#include "random_fill.h"
#include "random_vocab.h"

#include <math.h>
#include <string.h>

void random_dual_init(random_dual *m, gboolean siglip)
{
    *m = (random_dual){
        .siglip = siglip,
        .seed = 1,
        .dtype = VLM_DTYPE_F32,
        .n_layer = 3,
        .n_embd = 128,
        .n_head = 4,
        .n_ff = 256,
        .n_ctx = siglip ? 16 : 77,
        .dim = 64,
        .vit_layers = 3,
        .vit_embd = 64,
        .vit_heads = 2,
        .vit_ff = 160,
        .patch = 16,
        .side = 5,
        .image_size = siglip ? 84 : 80,
    };
}

// ------------------------------------------------------------------------------ vocabularies

static const char *const words[] = {
    "a",     "photo",   "of",      "the",    "cat",    "cats",     "dog",    "dogs",        "car",
    "red",   "blue",    "green",   "circle", "square", "triangle", "street", "man",         "woman",
    "walks", "running", "picture", "there",  "is",     "an",       "in",     "on",          "and",
    "with",  "small",   "large",   "white",  "black",  "not",      "today",  "caf\xc3\xa9",
};

static guint token_id(GHashTable *ids, const char *text)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(ids, text));  // id + 1, 0: none
}

static void add_token(GPtrArray *tokens, GHashTable *ids, char *text)
{
    g_ptr_array_add(tokens, text);
    g_hash_table_insert(ids, text, GUINT_TO_POINTER(tokens->len));
}

// The first pair of `parts` that has the lowest id as one token; parts->len when none is one.
static guint best_pair(const GPtrArray *parts, GHashTable *ids)
{
    guint best = parts->len, best_id = G_MAXUINT;

    for (guint i = 0; i + 1 < parts->len; i++) {
        g_autofree char *joined =
            g_strconcat(g_ptr_array_index(parts, i), g_ptr_array_index(parts, i + 1), NULL);
        const guint id = token_id(ids, joined);
        if (id != 0 && id < best_id) {
            best = i;
            best_id = id;
        }
    }
    return best;
}

static void join(GPtrArray *parts, guint i)
{
    char *joined = g_strconcat(g_ptr_array_index(parts, i), g_ptr_array_index(parts, i + 1), NULL);

    g_ptr_array_remove_index(parts, i + 1);
    g_free(g_ptr_array_index(parts, i));
    g_ptr_array_index(parts, i) = joined;
}

// Adds merges until `word` is one token: of what the rules so far leave of it, the last two.
static void learn(GPtrArray *tokens, GHashTable *ids, GPtrArray *merges, const char *word)
{
    g_autoptr(random_vocab) bytes = random_vocab_new();
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);

    for (const char *p = word; *p; p++)
        g_ptr_array_add(parts, g_strconcat(g_ptr_array_index(bytes->tokens, (guint8) *p),
                                           p[1] ? NULL : "</w>", NULL));
    while (parts->len > 1) {
        guint at = best_pair(parts, ids);
        if (at == parts->len) {
            at = parts->len - 2;
            const char *l = g_ptr_array_index(parts, at), *r = g_ptr_array_index(parts, at + 1);
            if (merges)
                g_ptr_array_add(merges, g_strconcat(l, " ", r, NULL));
            add_token(tokens, ids, g_strconcat(l, r, NULL));
        }
        join(parts, at);
    }
}

static gint compare_bytes(gconstpointer a, gconstpointer b)
{
    // by code point, as the published vocabulary has printable bytes first
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

GPtrArray *random_dual_clip_tokens(GPtrArray *merges)
{
    g_autoptr(random_vocab) bytes = random_vocab_new();
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    GPtrArray *tokens = g_ptr_array_new_with_free_func(g_free);

    for (guint b = 0; b < 256; b++)
        g_ptr_array_add(sorted, g_ptr_array_index(bytes->tokens, b));
    g_ptr_array_sort(sorted, compare_bytes);
    for (guint end = 0; end < 2; end++)
        for (guint b = 0; b < 256; b++)
            add_token(tokens, ids,
                      g_strconcat(g_ptr_array_index(sorted, b), end ? "</w>" : NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        learn(tokens, ids, merges, words[i]);
    add_token(tokens, ids, g_strdup("<|startoftext|>"));
    add_token(tokens, ids, g_strdup("<|endoftext|>"));
    return tokens;
}

static void add_piece(GPtrArray *pieces, GArray *scores, char *text, float score)
{
    g_ptr_array_add(pieces, text);
    g_array_append_val(scores, score);
}

GPtrArray *random_dual_siglip_pieces(GArray *scores)
{
    GPtrArray *pieces = g_ptr_array_new_with_free_func(g_free);

    add_piece(pieces, scores, g_strdup("<pad>"), 0);
    add_piece(pieces, scores, g_strdup("</s>"), 0);
    add_piece(pieces, scores, g_strdup("<unk>"), 0);
    add_piece(pieces, scores, g_strdup("\xe2\x96\x81"), -2.5f);
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (words[i][1])
            add_piece(pieces, scores, g_strconcat("\xe2\x96\x81", words[i], NULL),
                      -4.0f - 0.125f * (float) i);
    for (guint i = 4; i < G_N_ELEMENTS(words); i += 3)
        if (strlen(words[i]) > 3)
            add_piece(pieces, scores, g_strndup(words[i] + 1, 2), -6.0f - 0.0625f * (float) i);
    for (int c = 'a'; c <= 'z'; c++)
        add_piece(pieces, scores, g_strdup_printf("%c", c), -9.0f - 0.03125f * (float) (c - 'a'));
    return pieces;
}

// ------------------------------------------------------------------------------ tensors

static void add(gguf_writer *w, const random_dual *m, vlm_dtype dtype, float centre, float std,
                uint32_t n_dims, const uint64_t *ne, const char *name)
{
    random_fill *fill = random_fill_new(m->seed, name, dtype, ne[0], centre, std);

    gguf_writer_tensor(w, name, dtype, n_dims, ne, random_fill_rows, fill, g_free);
}

static void add_matrix(gguf_writer *w, const random_dual *m, uint64_t n_in, uint64_t n_out,
                       float std, const char *name)
{
    const uint64_t ne[2] = { n_in, n_out };

    add(w, m, random_fill_dtype(m->seed, name, m->dtype, n_in), 0, std, 2, ne, name);
}

static void add_vector(gguf_writer *w, const random_dual *m, float centre, uint64_t n,
                       const char *name)
{
    add(w, m, VLM_DTYPE_F32, centre, 0.1f, 1, &n, name);
}

static void add_linear(gguf_writer *w, const random_dual *m, uint64_t n_in, uint64_t n_out,
                       const char *prefix, const char *what)
{
    g_autofree char *weight = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias = g_strdup_printf("%s.%s.bias", prefix, what);

    add_matrix(w, m, n_in, n_out, 1 / sqrtf((float) n_in), weight);
    add_vector(w, m, 0, n_out, bias);
}

static void add_norm(gguf_writer *w, const random_dual *m, uint64_t n, const char *prefix,
                     const char *what)
{
    g_autofree char *weight = g_strdup_printf("%s.%s.weight", prefix, what);
    g_autofree char *bias = g_strdup_printf("%s.%s.bias", prefix, what);

    add_vector(w, m, 1, n, weight);
    add_vector(w, m, 0, n, bias);
}

static void add_block(gguf_writer *w, const random_dual *m, const char *prefix, uint64_t d,
                      uint64_t ff, gboolean swapped)
{
    add_norm(w, m, d, prefix, "ln1");
    add_linear(w, m, d, d, prefix, "attn_q");
    add_linear(w, m, d, d, prefix, "attn_k");
    add_linear(w, m, d, d, prefix, "attn_v");
    add_linear(w, m, d, d, prefix, "attn_out");
    add_norm(w, m, d, prefix, "ln2");
    add_linear(w, m, d, ff, prefix, swapped ? "ffn_down" : "ffn_up");
    add_linear(w, m, ff, d, prefix, swapped ? "ffn_up" : "ffn_down");
}

static void add_blocks(gguf_writer *w, const random_dual *m, char letter, uint32_t n_layer,
                       uint64_t d, uint64_t ff)
{
    for (uint32_t i = 0; i < n_layer; i++) {
        g_autofree char *prefix = g_strdup_printf("%c.blk.%u", letter, i);
        add_block(w, m, prefix, d, ff, !m->siglip && !m->modern);
    }
}

// ------------------------------------------------------------------------------ files

static void add_tower_keys(gguf_writer *w, const char *tower, const uint32_t values[5])
{
    static const char *const names[] = { "block_count", "embedding_length", "feed_forward_length",
                                         "attention.head_count", "projection_dim" };
    g_autofree char *eps = g_strdup_printf("clip.%s.attention.layer_norm_epsilon", tower);

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *key = g_strdup_printf("clip.%s.%s", tower, names[i]);
        gguf_writer_u32(w, key, values[i]);
    }
    gguf_writer_f32(w, eps, 1e-5f);
}

static void add_strings(gguf_writer *w, const char *key, const GPtrArray *strings)
{
    gguf_writer_str_array(w, key, (const char *const *) (const void *) strings->pdata,
                          strings->len);
}

// Returns the number of tokens.
static uint32_t add_vocabulary(gguf_writer *w, const random_dual *m)
{
    g_autoptr(GArray) scores = g_array_new(FALSE, FALSE, sizeof(float));
    g_autoptr(GPtrArray) merges = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) tokens =
        m->siglip ? random_dual_siglip_pieces(scores) : random_dual_clip_tokens(merges);
    g_autofree int32_t *types = g_new(int32_t, tokens->len);

    add_strings(w, "tokenizer.ggml.tokens", tokens);
    if (!m->siglip && m->modern)
        add_strings(w, "tokenizer.ggml.merges", merges);
    if (m->siglip) {
        for (guint i = 0; i < tokens->len; i++)
            types[i] = i < 2 ? 3 : i == 2 ? 2 : 1;
        gguf_writer_str(w, "tokenizer.ggml.model", "t5");
        gguf_writer_f32_array(w, "tokenizer.ggml.scores", (const float *) (void *) scores->data,
                              scores->len);
        gguf_writer_i32_array(w, "tokenizer.ggml.token_type", types, tokens->len);
        gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 1);
        gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", 2);
    }
    return tokens->len;
}

static void add_text(gguf_writer *w, const random_dual *m)
{
    const uint32_t sizes[5] = { m->n_layer, m->n_embd, m->n_ff, m->n_head, m->dim };
    const float std = 1 / sqrtf((float) m->n_embd);

    gguf_writer_u32(w, "clip.text.context_length", m->n_ctx);
    add_tower_keys(w, "text", sizes);
    const uint32_t n_vocab = add_vocabulary(w, m);
    add_matrix(w, m, m->n_embd, n_vocab, 1, "t.token_embd.weight");
    add_matrix(w, m, m->n_embd, m->n_ctx, 0.3f, "t.position_embd.weight");
    add_blocks(w, m, 't', m->n_layer, m->n_embd, m->n_ff);
    add_norm(w, m, m->n_embd, "t", "post_ln");
    if (m->siglip)
        add_linear(w, m, m->n_embd, m->dim, "t", "head");
    else
        add_matrix(w, m, m->n_embd, m->dim, std, "text_projection.weight");
}

static void add_vision(gguf_writer *w, const random_dual *m)
{
    static const float means[2][3] = { { 0.48145466f, 0.4578275f, 0.40821073f },
                                       { 0.5f, 0.5f, 0.5f } };
    static const float stds[2][3] = { { 0.26862954f, 0.26130258f, 0.27577711f },
                                      { 0.5f, 0.5f, 0.5f } };
    const uint32_t d = m->vit_embd;
    const uint32_t sizes[5] = { m->vit_layers, d, m->vit_ff, m->vit_heads, m->dim };
    const uint64_t patch_ne[4] = { m->patch, m->patch, 3, d };
    const float std = 1 / sqrtf((float) d);

    gguf_writer_u32(w, "clip.vision.image_size", m->image_size);
    gguf_writer_u32(w, "clip.vision.patch_size", m->patch);
    add_tower_keys(w, "vision", sizes);
    gguf_writer_f32_array(w, "clip.vision.image_mean", means[m->siglip], 3);
    gguf_writer_f32_array(w, "clip.vision.image_std", stds[m->siglip], 3);
    add(w, m, m->dtype == VLM_DTYPE_F32 ? VLM_DTYPE_F32 : VLM_DTYPE_F16, 0,
        1 / sqrtf(3.0f * (float) (m->patch * m->patch)), 4, patch_ne, "v.patch_embd.weight");
    add_matrix(w, m, d, m->side * m->side + !m->siglip, 0.3f, "v.position_embd.weight");
    add_blocks(w, m, 'v', m->vit_layers, d, m->vit_ff);
    add_norm(w, m, d, "v", "post_ln");
    if (!m->siglip) {
        add_vector(w, m, 0, d, "v.class_embd");
        add_norm(w, m, d, "v", "pre_ln");
        add_matrix(w, m, d, m->dim, std, "visual_projection.weight");
        return;
    }
    add_vector(w, m, 0, d, "v.patch_embd.bias");
    add_vector(w, m, 1, d, "v.head.probe");
    add_linear(w, m, d, d, "v.head", "attn_q");
    add_linear(w, m, d, d, "v.head", "attn_k");
    add_linear(w, m, d, d, "v.head", "attn_v");
    add_linear(w, m, d, d, "v.head", "attn_out");
    add_norm(w, m, d, "v.head", "ln");
    add_linear(w, m, d, m->vit_ff, "v.head", "ffn_up");
    add_linear(w, m, m->vit_ff, d, "v.head", "ffn_down");
}

gguf_writer *random_dual_file(const random_dual *m, random_dual_part part)
{
    gguf_writer *w = gguf_writer_new();

    gguf_writer_str(w, "general.architecture", "clip");
    gguf_writer_str(w, "general.name", "Random");
    gguf_writer_bool(w, "clip.has_text_encoder", part & RANDOM_DUAL_TEXT);
    gguf_writer_bool(w, "clip.has_vision_encoder", part & RANDOM_DUAL_VISION);
    gguf_writer_bool(w, "clip.use_gelu", m->siglip || m->gelu);
    if (m->siglip) {
        gguf_writer_str(w, "clip.model_type", "siglip");
        gguf_writer_f32(w, "clip.logit_scale", 4.7f);
        gguf_writer_f32(w, "clip.logit_bias", -12.5f);
    }
    if (part & RANDOM_DUAL_TEXT)
        add_text(w, m);
    if (part & RANDOM_DUAL_VISION)
        add_vision(w, m);
    return w;
}
