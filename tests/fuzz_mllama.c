// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz_mllama.c — hostile hyper-parameters of Llama 3.2 Vision.
//
// The first byte chooses the half, text or vision. The rest is a list of changes to a sound file,
// six bytes each: what to do, which key, a value. What loads is checked against the promises of the
// header.
#include "fuzz.h"

#include "model/mllama.h"
#include "random_model.h"

#include <string.h>

static const char *const text_keys[] = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.cross_attention_layers",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
};

static const char *const vision_keys[] = {
    "vision.block_count",
    "vision.global.block_count",
    "vision.intermediate_layers_indices",
    "vision.embedding_length",
    "vision.feed_forward_length",
    "vision.attention.head_count",
    "vision.attention.layer_norm_epsilon",
    "vision.image_size",
    "vision.patch_size",
    "vision.max_num_tiles",
    "vision.num_channels",
};

static void check_text(const mllama_text_hparams *h)
{
    uint32_t n_cross = 0;

    g_assert_true(h->n_layer >= 2 && h->n_layer <= VLM_MAX_LAYERS);
    g_assert_true(h->n_head % h->n_head_kv == 0 && h->n_head * h->head_dim == h->n_embd);
    g_assert_true(h->head_dim % 8 == 0 && h->head_dim <= 256);
    g_assert_true(h->n_vocab >= 1 && h->n_vocab <= h->n_token && h->n_token <= h->n_embd_row);
    g_assert_true(h->rms_eps > 0 && h->rope_theta >= 1);
    for (uint32_t il = 0; il < h->n_layer; il++)
        n_cross += h->is_cross[il];
    g_assert_true(n_cross == h->n_cross && n_cross < h->n_layer);
}

static void check_vision(const mllama_vision_hparams *h)
{
    g_assert_true(h->n_head * h->head_dim == h->n_embd && h->head_dim % 8 == 0);
    g_assert_true(h->image_size % h->patch == 0 && h->max_tiles >= 1 && h->eps > 0);
    g_assert_true((h->n_pos + h->n_pad) * h->max_tiles <= 65535 && (h->n_pos + h->n_pad) % 8 == 0);
    for (uint32_t i = 0; i < h->n_tap; i++)
        g_assert_true(h->taps[i] < h->n_layer && (i == 0 || h->taps[i] > h->taps[i - 1]));
}

static void change(gguf_writer *w, const char *key, guint action, uint32_t value)
{
    const int32_t numbers[4] = { (int8_t) value, (int8_t) (value >> 8), (int8_t) (value >> 16),
                                 (int8_t) (value >> 24) };
    float real;

    memcpy(&real, &value, sizeof real);
    gguf_writer_remove(w, key);
    if (action == 0)
        gguf_writer_u32(w, key, value);
    else if (action == 1)
        gguf_writer_u32(w, key, value & 0xff);
    else if (action == 2)
        gguf_writer_f32(w, key, real);
    else if (action == 3)
        gguf_writer_i32_array(w, key, numbers, 1 + (value >> 30));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    mllama_vision_hparams vision;
    mllama_text_hparams text;
    random_model model;

    if (size == 0)
        return 0;
    const gboolean of_vision = data[0] & 1;
    random_model_init(&model, "mllama", "tiny");
    g_autoptr(gguf_writer) w = of_vision ? random_model_mmproj(&model) : random_model_text(&model);
    for (size_t i = 1; i + 6 <= size && i < 80; i += 6) {
        const char *name = of_vision ? vision_keys[data[i + 1] % G_N_ELEMENTS(vision_keys)]
                                     : text_keys[data[i + 1] % G_N_ELEMENTS(text_keys)];
        g_autofree char *key = g_strconcat("mllama.", name, NULL);
        uint32_t value;

        memcpy(&value, data + i + 2, sizeof value);
        change(w, key, data[i] % 5, value);
    }
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", NULL);
    if (of_vision ? vlm_mllama_vision_hparams_read(gguf, &vision, &error)
                  : vlm_mllama_text_hparams_read(gguf, &text, &error)) {
        if (of_vision)
            check_vision(&vision);
        else
            check_text(&text);
    } else {
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
    return 0;
}
