// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_text_memory.c — every allocation whose size comes from a file or a text fails once.
//
// The linker sends GLib's fallible allocators here (--wrap). With the n-th of them failing for
// n = 1, 2, ... until none is left, loading and encoding must give an error and leave nothing
// behind; the sanitizers see to the second half.
#include "model/mmproj_hparams.h"
#include "model/tokenizer.h"

#include "random_model.h"

// The allocators under their own names, and what is called in their place: the linker's names.
// NOLINTBEGIN(bugprone-reserved-identifier)
gpointer __real_g_try_malloc(gsize n);
gpointer __real_g_try_malloc0(gsize n);
gpointer __real_g_try_malloc_n(gsize n, gsize size);
gpointer __real_g_try_malloc0_n(gsize n, gsize size);
gpointer __real_g_try_realloc(gpointer p, gsize n);
gpointer __wrap_g_try_malloc(gsize n);
gpointer __wrap_g_try_malloc0(gsize n);
gpointer __wrap_g_try_malloc_n(gsize n, gsize size);
gpointer __wrap_g_try_malloc0_n(gsize n, gsize size);
gpointer __wrap_g_try_realloc(gpointer p, gsize n);

static guint n_calls, failing;  // the call number `failing` fails; 0: none

static gboolean fails(void)
{
    return ++n_calls == failing;
}

gpointer __wrap_g_try_malloc(gsize n)
{
    return fails() ? NULL : __real_g_try_malloc(n);
}

gpointer __wrap_g_try_malloc0(gsize n)
{
    return fails() ? NULL : __real_g_try_malloc0(n);
}

gpointer __wrap_g_try_malloc_n(gsize n, gsize size)
{
    return fails() ? NULL : __real_g_try_malloc_n(n, size);
}

gpointer __wrap_g_try_malloc0_n(gsize n, gsize size)
{
    return fails() ? NULL : __real_g_try_malloc0_n(n, size);
}

gpointer __wrap_g_try_realloc(gpointer p, gsize n)
{
    return fails() ? NULL : __real_g_try_realloc(p, n);
}

// NOLINTEND(bugprone-reserved-identifier)

static GBytes *model_bytes(gboolean vision)
{
    random_model model;

    random_model_init(&model, "qwen3vlmoe", "tiny");
    g_autoptr(gguf_writer) w = vision ? random_model_mmproj(&model) : random_model_text(&model);
    return gguf_writer_to_bytes(w);
}

// Loads a pair, encodes a text. TRUE when all of it worked.
static gboolean load_all(GBytes *text_bytes, GBytes *vision_bytes, GError **error)
{
    g_autofree char *word = g_strnfill(1000, 'e');
    vlm_vision_hparams vision;
    vlm_text_hparams text;

    g_autoptr(vlm_gguf) tg = vlm_gguf_open_bytes(text_bytes, "TEXT", error);
    if (!tg || !vlm_text_hparams_read(tg, &text, error))
        return FALSE;
    g_autoptr(vlm_gguf) vg = vlm_gguf_open_bytes(vision_bytes, "VISION", error);
    if (!vg || !vlm_vision_hparams_read(vg, &vision, error))
        return FALSE;
    g_autoptr(vlm_tokenizer) tok = vlm_tokenizer_new(tg, error);
    if (!tok)
        return FALSE;
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    if (vlm_tokenizer_append(tok, "a caf\xc3\xa9", -1, FALSE, out, error)
        && vlm_tokenizer_append(tok, word, -1, FALSE, out, error))
        return TRUE;
    g_assert_cmpuint(out->len, <, 20);  // of the text that failed nothing is left
    return FALSE;
}

static void test_sweep(void)
{
    g_autoptr(GBytes) text = model_bytes(FALSE), vision = model_bytes(TRUE);

    for (failing = 1;; failing++) {
        g_autoptr(GError) error = NULL;

        n_calls = 0;
        if (load_all(text, vision, &error)) {
            g_assert_cmpuint(n_calls, <, failing);  // none failed: all have had their turn
            break;
        }
        g_assert_nonnull(error);
        g_assert_true(error->domain == VLM_ERROR);
    }
    g_assert_cmpuint(failing, >, 60);
    g_test_message("%u allocations", failing - 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/text-memory/sweep", test_sweep);
    return g_test_run();
}
