// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/tokenize.c — tokenize MODEL.gguf [--special]: encodes what tests/oracle compares.
//
// Reads one text per line as hexadecimal bytes, writes one line of token ids each.
#include "model/dual_hparams.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gsize unhex(const char *line, char *out)
{
    gsize n = 0;

    while (g_ascii_isxdigit(line[2 * n]) && g_ascii_isxdigit(line[2 * n + 1])) {
        out[n] =
            (char) (g_ascii_xdigit_value(line[2 * n]) << 4 | g_ascii_xdigit_value(line[2 * n + 1]));
        n++;
    }
    return n;
}

// The kind that goes with the file: that of a dual encoder, or that of a decoder.
static vlm_tokenizer *open_tokenizer(const vlm_gguf *gguf, GError **error)
{
    return vlm_dual_has_text(gguf) ? vlm_tokenizer_new_labels(gguf, error)
                                   : vlm_tokenizer_new(gguf, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_gguf) gguf = argc > 1 ? vlm_gguf_open(argv[1], &error) : NULL;
    g_autoptr(vlm_tokenizer) tok = gguf ? open_tokenizer(gguf, &error) : NULL;
    const gboolean special = argc > 2 && strcmp(argv[2], "--special") == 0;
    char *line = NULL;
    size_t capacity = 0;

    if (!tok) {
        g_printerr("tokenize: %s\n", error ? error->message : "give a model file");
        return EXIT_FAILURE;
    }
    while (getline(&line, &capacity, stdin) > 0) {
        g_autofree char *text = g_malloc(strlen(line) / 2 + 1);
        g_autoptr(GArray) ids =
            vlm_tokenizer_encode(tok, text, (gssize) unhex(line, text), special, &error);

        if (!ids) {
            g_printerr("tokenize: %s\n", error->message);
            free(line);
            return EXIT_FAILURE;
        }
        for (guint i = 0; i < ids->len; i++)
            printf(i ? " %u" : "%u", g_array_index(ids, uint32_t, i));
        putchar('\n');
    }
    free(line);
    return EXIT_SUCCESS;
}
