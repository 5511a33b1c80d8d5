// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/make_dual.c — make-dual: writes a random dual encoder, see random_dual.h.
#include "random_dual.h"

#include <stdlib.h>

static const struct {
    const char *name;
    vlm_dtype dtype;
} types[] = {
    { "F32", VLM_DTYPE_F32 },   { "F16", VLM_DTYPE_F16 },   { "Q8_0", VLM_DTYPE_Q8_0 },
    { "Q4_0", VLM_DTYPE_Q4_0 }, { "Q4_1", VLM_DTYPE_Q4_1 }, { "Q5_0", VLM_DTYPE_Q5_0 },
    { "Q5_1", VLM_DTYPE_Q5_1 },
};

// "base": the sizes of CLIP ViT-B/32 and SigLIP base, with layers enough for their time.
static void enlarge(random_dual *m)
{
    m->n_layer = m->vit_layers = 12;
    m->n_embd = m->siglip ? 768 : 512;
    m->n_head = m->siglip ? 12 : 8;
    m->n_ff = 4 * m->n_embd;
    m->n_ctx = m->siglip ? 64 : 77;
    m->vit_embd = 768;
    m->vit_heads = 12;
    m->vit_ff = 3072;
    m->dim = m->siglip ? 768 : 512;
    m->patch = m->siglip ? 16 : 32;
    m->side = m->siglip ? 14 : 7;
    m->image_size = 224;
}

int main(int argc, char **argv)
{
    g_autofree char *kind = NULL, *type = NULL, *part = NULL, *size = NULL;
    g_autoptr(GError) error = NULL;
    gint64 seed = 1;
    gboolean gelu = FALSE, modern = FALSE, known = FALSE;
    random_dual model;
    const GOptionEntry entries[] = {
        { "kind", 0, 0, G_OPTION_ARG_STRING, &kind, "clip (default) or siglip", "K" },
        { "type", 0, 0, G_OPTION_ARG_STRING, &type, "F32 (default), F16, Q8_0, Q4_0, ...", "T" },
        { "size", 0, 0, G_OPTION_ARG_STRING, &size, "tiny (default) or base", "S" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "default 1", "N" },
        { "part", 0, 0, G_OPTION_ARG_STRING, &part, "both (default), text or vision", "P" },
        { "gelu", 0, 0, G_OPTION_ARG_NONE, &gelu, "CLIP with gelu", NULL },
        { "modern", 0, 0, G_OPTION_ARG_NONE, &modern, "merges, and right names", NULL },
        { NULL, 0, 0, 0, NULL, NULL, NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new("OUT.gguf");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc != 2) {
        g_printerr("make-dual: %s\n", error ? error->message : "give one file name, see --help");
        return EXIT_FAILURE;
    }
    random_dual_init(&model, g_strcmp0(kind, "siglip") == 0);
    if (g_strcmp0(size, "base") == 0)
        enlarge(&model);
    model.seed = (uint64_t) seed;
    model.gelu = gelu;
    model.modern = modern;
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        if (g_str_equal(type ? type : "F32", types[i].name)) {
            model.dtype = types[i].dtype;
            known = TRUE;
        }
    }
    g_autoptr(gguf_writer) w =
        random_dual_file(&model, g_strcmp0(part, "text") == 0     ? RANDOM_DUAL_TEXT
                                 : g_strcmp0(part, "vision") == 0 ? RANDOM_DUAL_VISION
                                                                  : RANDOM_DUAL_BOTH);
    if (!known || !gguf_writer_write(w, argv[1], &error)) {
        g_printerr("make-dual: %s\n", error ? error->message : "unknown type");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
