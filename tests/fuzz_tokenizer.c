// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz_tokenizer.c — hostile vocabularies and hostile text.
//
// The first byte chooses: even, the rest is a GGUF file with a vocabulary, which then encodes a
// fixed text and itself; odd, the rest is text for a sound vocabulary, of one kind or of the other.
#include "fuzz.h"

#include "model/tokenizer.h"
#include "model/utf8_stream.h"
#include "random_vocab.h"

#include <string.h>

static void encode_and_decode(const vlm_tokenizer *tok, const char *text, size_t len)
{
    const uint32_t n_vocab = vlm_tokenizer_n_vocab(tok);

    for (guint special = 0; special < 2; special++) {
        g_autoptr(GArray) ids = vlm_tokenizer_encode(tok, text, (gssize) len, special == 1, NULL);

        g_assert_nonnull(ids);
        for (guint i = 0; i < ids->len; i++) {
            const uint32_t id = g_array_index(ids, uint32_t, i);

            g_assert_cmpuint(id, <, n_vocab);
            if (special == 0)
                g_assert_cmpint(vlm_tokenizer_type(tok, id), !=, VLM_TOKEN_CONTROL);
        }
        g_autofree char *back = vlm_tokenizer_decode(
            tok, (const uint32_t *) (const void *) ids->data, ids->len, special == 1);
        g_assert_true(g_utf8_validate(back, -1, NULL));
    }
}

// Bytes taken as token ids, most of them out of range.
static void decode_bytes(const vlm_tokenizer *tok, const char *text, size_t len)
{
    g_autofree uint32_t *ids = g_new(uint32_t, len + 1);

    for (size_t i = 0; i < len; i++)
        ids[i] = (guint8) text[i] * 3u;
    g_free(vlm_tokenizer_decode(tok, ids, len, TRUE));
}

// The stream gives the same whether bytes come one by one or together.
static void check_stream(const char *text, size_t len)
{
    g_autoptr(GString) whole = g_string_new(NULL), parts = g_string_new(NULL);
    vlm_utf8_stream a = { .n_pending = 0 }, b = { .n_pending = 0 };

    vlm_utf8_stream_push(&a, text, len, whole);
    vlm_utf8_stream_finish(&a, whole);
    for (size_t i = 0; i < len; i++)
        vlm_utf8_stream_push(&b, text + i, 1, parts);
    vlm_utf8_stream_finish(&b, parts);
    g_assert_true(g_string_equal(whole, parts));
}

static void try_vocabulary(const uint8_t *data, size_t size)
{
    static const char fixed[] = "The <|im_start|>na\xc3\xafve e\xcc\x81\n\n  fox 12";
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", NULL);
    g_autoptr(vlm_tokenizer) tok = gguf ? vlm_tokenizer_new(gguf, &error) : NULL;
    guint n_end;

    if (!tok) {
        g_assert_true(!error || error->code == VLM_ERROR_FORMAT);
        return;
    }
    vlm_tokenizer_end_ids(tok, &n_end);
    g_assert_cmpuint(n_end, >, 0);
    encode_and_decode(tok, fixed, sizeof fixed - 1);
    encode_and_decode(tok, (const char *) data, MIN(size, 4096));
}

static vlm_tokenizer *sound_tokenizer(gboolean pieces)
{
    g_autoptr(random_vocab) vocab = pieces ? random_vocab_new_llava() : random_vocab_new();
    g_autoptr(gguf_writer) w = gguf_writer_new();

    random_vocab_add(vocab, w);
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", NULL);
    vlm_tokenizer *tok = vlm_tokenizer_new(gguf, NULL);
    g_assert_nonnull(tok);
    return tok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static vlm_tokenizer *both[2];

    for (guint i = 0; i < 2; i++)
        if (!both[i])
            both[i] = sound_tokenizer(i == 1);
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0) {
        try_vocabulary(data + 1, size - 1);
        return 0;
    }
    // A copy of exactly this size, so that a read past its end is seen.
    g_autofree char *text = g_memdup2(data + 1, size - 1);
    const char *start = text ? text : "";
    const vlm_tokenizer *sound = both[data[0] / 2 % 2];
    encode_and_decode(sound, start, size - 1);
    decode_bytes(sound, start, size - 1);
    check_stream(start, size - 1);
    return 0;
}
