// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz_gguf.c — any bytes as a GGUF file: opened, then read in every way there is.
#include "fuzz.h"

#include "model/gguf.h"

#include <string.h>

static void read_value(const vlm_gguf *gguf, const char *key)
{
    g_autofree uint32_t *numbers = NULL;
    g_autofree float *reals = NULL;
    g_autofree uint8_t *flags = NULL;
    vlm_gguf_strings strings;
    const char *text;
    gboolean flag;
    uint32_t u;
    float f;
    guint n;

    vlm_gguf_get_u32(gguf, key, 1, 1000, &u, NULL);
    vlm_gguf_get_f32(gguf, key, 0, 1, &f, NULL);
    vlm_gguf_get_bool_or(gguf, key, FALSE, &flag, NULL);
    if (vlm_gguf_get_str(gguf, key, &text, NULL))
        g_assert_true(g_utf8_validate(text, -1, NULL));
    vlm_gguf_get_u32_array(gguf, key, 0, G_MAXUINT, UINT32_MAX, &numbers, &n, NULL);
    vlm_gguf_get_f32_array(gguf, key, 0, G_MAXUINT, &reals, &n, NULL);
    vlm_gguf_get_bool_array(gguf, key, 0, G_MAXUINT, &flags, &n, NULL);
    if (vlm_gguf_get_str_array(gguf, key, 0, G_MAXUINT, &strings, NULL)) {
        for (guint i = 0; i < strings.n; i++) {
            size_t len;
            text = vlm_gguf_strings_at(&strings, i, &len);
            g_assert_true(text[len] == 0);
        }
    }
}

static void read_tensor(const vlm_gguf *gguf, const vlm_gguf_tensor *t)
{
    guint8 head[64], tail[64];
    const size_t n = MIN(t->bytes, sizeof head);

    g_assert_true(vlm_gguf_tensor_find(gguf, t->name) == t);
    g_assert_nonnull(vlm_dtype_name(t->dtype));
    g_assert_true(vlm_gguf_read_tensor(gguf, t, 0, head, n, NULL));
    g_assert_true(vlm_gguf_read_tensor(gguf, t, t->bytes - n, tail, n, NULL));
    g_assert_cmpint(memcmp(t->data, head, n), ==, 0);
    g_assert_false(vlm_gguf_read_tensor(gguf, t, t->bytes, head, 1, NULL));
    vlm_gguf_require_tensor(gguf, t->name, 4, t->ne, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    // A copy of exactly this size, so that a read past its end is seen.
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", &error);

    if (!gguf) {
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    for (guint i = 0; i < vlm_gguf_n_keys(gguf); i++) {
        g_autofree char *text = vlm_gguf_value_to_text(gguf, i, 4);

        g_assert_true(g_utf8_validate(text, -1, NULL));
        read_value(gguf, vlm_gguf_key_at(gguf, i));
    }
    for (guint i = 0; i < vlm_gguf_n_tensors(gguf); i++)
        read_tensor(gguf, vlm_gguf_tensor_at(gguf, i));
    return 0;
}
