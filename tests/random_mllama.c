// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_mllama.c — random-weight models of the Llama 3.2 Vision architecture.
//
// The names are those of the converter that wrote the two-file models; a model in one file has
// those of the later one. Every third layer, from the second, looks at pictures.
#include "random_mllama.h"

#include "random_fill.h"
#include "random_vocab.h"

#include <math.h>
#include <string.h>

#define MAX_TILES 4u
#define N_RATIO   8u  // arrangements of up to four tiles

void random_mllama_init(random_model *m)
{
    m->rope_theta = 5e5f;
    m->rms_eps = 1e-5f;
    m->n_deepstack = 0;
    m->merge = 1;
    m->cross_every = 3;
    m->n_global = 2;
    m->head_dim = m->n_embd / m->n_head;
    m->sections[0] = m->head_dim / 2;
    m->sections[1] = m->sections[2] = 0;
}

static gboolean is_cross(const random_model *m, uint32_t il)
{
    return il % m->cross_every == 1;
}

// A tensor [n_in, n_out], or [n_in] with n_out 0: those are F32.
static void G_GNUC_PRINTF(8, 9)
    add(gguf_writer *w, const random_model *m, vlm_dtype want, float centre, float std,
        uint64_t n_in, uint64_t n_out, const char *format, ...)
{
    const uint64_t ne[2] = { n_in, n_out };
    va_list args;

    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    const vlm_dtype dtype =
        n_out > 0 ? random_fill_dtype(m->seed, name, want, n_in) : VLM_DTYPE_F32;
    gguf_writer_tensor(w, name, dtype, n_out > 0 ? 2 : 1, ne, random_fill_rows,
                       random_fill_new(m->seed, name, dtype, n_in, centre, std), g_free);
}

static float deviation(uint64_t n_in)
{
    return 1 / sqrtf((float) n_in);
}

// ------------------------------------------------------------------------------ text

static void add_text_keys(gguf_writer *w, const random_model *m)
{
    g_autoptr(GArray) cross = g_array_new(FALSE, FALSE, sizeof(int32_t));

    for (uint32_t il = 0; il < m->n_layer; il++) {
        const int32_t layer = (int32_t) il;
        if (is_cross(m, il))
            g_array_append_val(cross, layer);
    }
    gguf_writer_str(w, "general.architecture", "mllama");
    gguf_writer_str(w, "general.name", "Random");
    gguf_writer_u32(w, "mllama.block_count", m->n_layer);
    gguf_writer_u32(w, "mllama.context_length", m->n_ctx);
    gguf_writer_u32(w, "mllama.embedding_length", m->n_embd);
    gguf_writer_u32(w, "mllama.feed_forward_length", m->n_ff);
    gguf_writer_u32(w, "mllama.attention.head_count", m->n_head);
    gguf_writer_u32(w, "mllama.attention.head_count_kv", m->n_head_kv);
    gguf_writer_u32(w, "mllama.rope.dimension_count", m->head_dim);
    gguf_writer_f32(w, "mllama.rope.freq_base", m->rope_theta);
    gguf_writer_f32(w, "mllama.attention.layer_norm_rms_epsilon", m->rms_eps);
    gguf_writer_i32_array(w, "mllama.attention.cross_attention_layers",
                          (const int32_t *) (const void *) cross->data, cross->len);
}

// Divisors of the rotary frequencies as Llama 3.1 has them: none for waves of up to 8192 / 4
// tokens, 8 for those over 8192, a way between for the others.
static void rope_factors(const random_model *m, float *out)
{
    for (uint32_t i = 0; i < m->head_dim / 2; i++) {
        const double frequency = pow((double) m->rope_theta, -2.0 * i / m->head_dim);
        const double wave = 2 * G_PI / frequency;
        const double smooth = (8192 / wave - 1) / 3;

        if (wave < 8192.0 / 4)
            out[i] = 1;
        else if (wave > 8192)
            out[i] = 8;
        else
            out[i] = (float) (1 / ((1 - smooth) / 8 + smooth));
    }
}

// A gguf_fill of one row.
static void write_floats(void *user, uint64_t first_row, uint64_t n_rows, void *dst)
{
    const GArray *values = user;

    g_assert(first_row == 0 && n_rows == 1);
    memcpy(dst, values->data, values->len * sizeof(float));
}

static void unref_array(gpointer array)
{
    g_array_unref(array);
}

static void add_rope_factors(gguf_writer *w, const random_model *m)
{
    GArray *values = g_array_sized_new(FALSE, FALSE, sizeof(float), m->head_dim / 2);
    const uint64_t ne[1] = { m->head_dim / 2 };

    g_array_set_size(values, m->head_dim / 2);
    rope_factors(m, (float *) (void *) values->data);
    gguf_writer_tensor(w, "rope_freqs.weight", VLM_DTYPE_F32, 1, ne, write_floats, values,
                       unref_array);
}

static void add_text_layer(gguf_writer *w, const random_model *m, uint32_t il)
{
    const uint64_t d = m->n_embd, hd = m->head_dim, ff = m->n_ff;
    const uint64_t q = m->n_head * hd, kv = m->n_head_kv * hd;
    const vlm_dtype t = m->dtype;

    add(w, m, t, 1, 0.1f, d, 0, "blk.%u.attn_norm.weight", il);
    if (is_cross(m, il)) {
        add(w, m, t, 0, deviation(d), d, q, "blk.%u.cross_attn_q_proj.weight", il);
        add(w, m, t, 0, deviation(d), d, kv, "blk.%u.cross_attn_k_proj.weight", il);
        add(w, m, t, 0, deviation(d), d, kv, "blk.%u.cross_attn_v_proj.weight", il);
        add(w, m, t, 0, deviation(q), q, d, "blk.%u.cross_attn_o_proj.weight", il);
        add(w, m, t, 1, 0.1f, hd, 0, "blk.%u.cross_attn_q_norm.weight", il);
        add(w, m, t, 1, 0.1f, hd, 0, "blk.%u.cross_attn_k_norm.weight", il);
        add(w, m, t, 0.9f, 0.1f, 1, 0, "blk.%u.cross_attn_attn_gate", il);
        add(w, m, t, -0.6f, 0.1f, 1, 0, "blk.%u.cross_attn_mlp_gate", il);
    } else {
        add(w, m, t, 0, deviation(d), d, q, "blk.%u.attn_q.weight", il);
        add(w, m, t, 0, deviation(d), d, kv, "blk.%u.attn_k.weight", il);
        add(w, m, t, 0, deviation(d), d, kv, "blk.%u.attn_v.weight", il);
        add(w, m, t, 0, deviation(q), q, d, "blk.%u.attn_output.weight", il);
    }
    add(w, m, t, 1, 0.1f, d, 0, "blk.%u.ffn_norm.weight", il);
    add(w, m, t, 0, deviation(d), d, ff, "blk.%u.ffn_gate.weight", il);
    add(w, m, t, 0, deviation(d), d, ff, "blk.%u.ffn_up.weight", il);
    add(w, m, t, 0, deviation(ff), ff, d, "blk.%u.ffn_down.weight", il);
}

// ------------------------------------------------------------------------------ vision

static void add_vision_keys(gguf_writer *w, const random_model *m)
{
    const uint32_t side = (uint32_t) lround(sqrt(m->n_pos));
    const int32_t taps[] = { 1, (int32_t) m->vit_layers - 1 };

    gguf_writer_u32(w, "mllama.vision.block_count", m->vit_layers);
    gguf_writer_u32(w, "mllama.vision.global.block_count", m->n_global);
    gguf_writer_i32_array(w, "mllama.vision.intermediate_layers_indices", taps, 2);
    gguf_writer_u32(w, "mllama.vision.embedding_length", m->vit_embd);
    gguf_writer_u32(w, "mllama.vision.feed_forward_length", m->vit_ff);
    gguf_writer_u32(w, "mllama.vision.attention.head_count", m->vit_heads);
    gguf_writer_f32(w, "mllama.vision.attention.layer_norm_epsilon", 1e-5f);
    gguf_writer_u32(w, "mllama.vision.image_size", side * m->patch);
    gguf_writer_u32(w, "mllama.vision.patch_size", m->patch);
    gguf_writer_u32(w, "mllama.vision.max_num_tiles", MAX_TILES);
    gguf_writer_u32(w, "mllama.vision.num_channels", 3);
}

static void add_block(gguf_writer *w, const random_model *m, const char *prefix, uint32_t il,
                      gboolean gated)
{
    const uint64_t d = m->vit_embd, ff = m->vit_ff;
    const vlm_dtype t = m->mmproj_dtype;
    const char *norm1 = m->one_file ? "attn_norm" : "ln1",
               *norm2 = m->one_file ? "ffn_norm" : "ln2";
    const char *out = m->one_file ? "attn_output" : "attn_out";
    const char *up = m->one_file ? "ffn_up" : "ffn_down",
               *down = m->one_file ? "ffn_down" : "ffn_up";

    add(w, m, t, 1, 0.1f, d, 0, "%s.%u.%s.weight", prefix, il, norm1);
    add(w, m, t, 0, 0.1f, d, 0, "%s.%u.%s.bias", prefix, il, norm1);
    add(w, m, t, 0, deviation(d), d, d, "%s.%u.attn_q.weight", prefix, il);
    add(w, m, t, 0, deviation(d), d, d, "%s.%u.attn_k.weight", prefix, il);
    add(w, m, t, 0, deviation(d), d, d, "%s.%u.attn_v.weight", prefix, il);
    add(w, m, t, 0, deviation(d), d, d, "%s.%u.%s.weight", prefix, il, out);
    add(w, m, t, 1, 0.1f, d, 0, "%s.%u.%s.weight", prefix, il, norm2);
    add(w, m, t, 0, 0.1f, d, 0, "%s.%u.%s.bias", prefix, il, norm2);
    add(w, m, t, 0, deviation(d), d, ff, "%s.%u.%s.weight", prefix, il, up);
    add(w, m, t, 0, 0.1f, ff, 0, "%s.%u.%s.bias", prefix, il, up);
    add(w, m, t, 0, deviation(ff), ff, d, "%s.%u.%s.weight", prefix, il, down);
    add(w, m, t, 0, 0.1f, d, 0, "%s.%u.%s.bias", prefix, il, down);
    if (!gated)
        return;
    // stored as tangents
    add(w, m, t, 0.6f, 0.1f, 1, 0, "%s.%u.attn_gate", prefix, il);
    add(w, m, t, -0.5f, 0.1f, 1, 0, "%s.%u.ffn_gate", prefix, il);
}

static void add_constant(gguf_writer *w, const char *name, float value)
{
    const uint64_t ne[1] = { 1 };
    GArray *values = g_array_new(FALSE, FALSE, sizeof(float));

    g_array_append_val(values, value);
    gguf_writer_tensor(w, name, VLM_DTYPE_F32, 1, ne, write_floats, values, unref_array);
}

static void add_vision(gguf_writer *w, const random_model *m)
{
    const uint64_t d = m->vit_embd, tiles = MAX_TILES * d, n_pos = m->n_pos + 1;
    const uint64_t patch_ne[4] = { m->patch, m->patch, 3, d };
    const vlm_dtype plain = m->mmproj_dtype == VLM_DTYPE_F16 ? VLM_DTYPE_F16 : VLM_DTYPE_F32;
    const float patch_std = deviation(3ull * m->patch * m->patch);

    gguf_writer_tensor(
        w, "v.patch_embd.weight", plain, 4, patch_ne, random_fill_rows,
        random_fill_new(m->seed, "v.patch_embd.weight", plain, m->patch, 0, patch_std), g_free);
    add(w, m, plain, 0, 0.3f, d, 0, "v.class_embd");
    add(w, m, plain, 0, 0.3f, d, n_pos, "v.position_embd.weight");
    add_constant(w, "v.position_embd.gate", 1 - 0.4f);   // 1 - tanh, and
    add_constant(w, "v.tile_position_embd.gate", 0.4f);  // tanh of the same gate
    add(w, m, VLM_DTYPE_F32, 0, 0.3f, tiles * n_pos, N_RATIO + 1, "v.tile_position_embd.weight");
    add(w, m, VLM_DTYPE_F32, 0, 0.3f, tiles, N_RATIO + 1, "v.pre_tile_position_embd.weight");
    add_constant(w, "v.pre_tile_position_embd.gate", 0.7f);
    add(w, m, VLM_DTYPE_F32, 0, 0.3f, tiles, N_RATIO + 1, "v.post_tile_position_embd.weight");
    add_constant(w, "v.post_tile_position_embd.gate", -0.3f);
    add(w, m, plain, 1, 0.1f, d, 0, "v.pre_ln.weight");
    add(w, m, plain, 0, 0.1f, d, 0, "v.pre_ln.bias");
    add(w, m, plain, 1, 0.1f, d, 0, "v.post_ln.weight");
    add(w, m, plain, 0, 0.1f, d, 0, "v.post_ln.bias");
    for (uint32_t i = 0; i < m->vit_layers; i++)
        add_block(w, m, "v.blk", i, FALSE);
    for (uint32_t i = 0; i < m->n_global; i++)
        add_block(w, m, "v.global.blk", i, TRUE);
    add(w, m, plain, 0, deviation(3 * d), 3 * d, m->n_embd, "mm.0.weight");
    add(w, m, plain, 0, 0.1f, m->n_embd, 0, "mm.0.bias");
}

// ------------------------------------------------------------------------------ files

gguf_writer *random_mllama_text(const random_model *m)
{
    gguf_writer *w = gguf_writer_new();
    g_autoptr(random_vocab) vocab = random_vocab_new_llama3();
    const uint64_t d = m->n_embd, n = vocab->tokens->len;

    add_text_keys(w, m);
    if (m->one_file)
        add_vision_keys(w, m);
    random_vocab_add(vocab, w);
    // As published: rows to spare in the table, and no answer is the last token.
    add(w, m, m->dtype, 0, m->tied ? deviation(d) : 1, d, n + 7, "token_embd.weight");
    add_rope_factors(w, m);
    for (uint32_t il = 0; il < m->n_layer; il++)
        add_text_layer(w, m, il);
    add(w, m, m->dtype, 1, 0.1f, d, 0, "output_norm.weight");
    if (!m->tied)
        add(w, m, m->dtype, 0, 2 * deviation(d), d, n - 1, "output.weight");
    if (m->one_file)
        add_vision(w, m);
    return w;
}

gguf_writer *random_mllama_mmproj(const random_model *m)
{
    gguf_writer *w = gguf_writer_new();

    gguf_writer_str(w, "general.architecture", "mllama");
    gguf_writer_str(w, "general.name", "Random");
    add_vision_keys(w, m);
    add_vision(w, m);
    return w;
}
