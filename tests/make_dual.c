// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/make_dual.c — make-dual: writes a random dual encoder, see random_dual.h.
#include "random_dual.h"
#include "random_fill.h"

#include <stdlib.h>

static const struct {
    const char *name;
    vlm_dtype dtype;
} types[] = {
    { "F32", VLM_DTYPE_F32 },     { "F16", VLM_DTYPE_F16 },       { "Q8_0", VLM_DTYPE_Q8_0 },
    { "Q4_0", VLM_DTYPE_Q4_0 },   { "Q4_1", VLM_DTYPE_Q4_1 },     { "Q5_0", VLM_DTYPE_Q5_0 },
    { "Q5_1", VLM_DTYPE_Q5_1 },   { "BF16", VLM_DTYPE_BF16 },     { "Q2_K", VLM_DTYPE_Q2_K },
    { "Q3_K", VLM_DTYPE_Q3_K },   { "Q4_K", VLM_DTYPE_Q4_K },     { "Q5_K", VLM_DTYPE_Q5_K },
    { "Q6_K", VLM_DTYPE_Q6_K },   { "IQ4_NL", VLM_DTYPE_IQ4_NL }, { "IQ4_XS", VLM_DTYPE_IQ4_XS },
    { "MXFP4", VLM_DTYPE_MXFP4 }, { "mixed", RANDOM_FILL_MIXED },
};

// Options that set one dimension.
#define DIMENSION(name, field, help)                                                               \
    {                                                                                              \
        name, help, G_STRUCT_OFFSET(random_dual, field), -1                                        \
    }
static struct {
    const char *name, *help;
    gsize offset;  // of a uint32_t in random_dual
    gint value;    // -1: not given
} dimensions[] = {
    DIMENSION("layers", n_layer, "text layers"),
    DIMENSION("embd", n_embd, "text width"),
    DIMENSION("heads", n_head, "text heads"),
    DIMENSION("ff", n_ff, "width of the text feed-forward network"),
    DIMENSION("context", n_ctx, "tokens of a text"),
    DIMENSION("dim", dim, "width of the common space"),
    DIMENSION("vit-layers", vit_layers, "vision layers"),
    DIMENSION("vit-embd", vit_embd, "vision width"),
    DIMENSION("vit-heads", vit_heads, "vision heads"),
    DIMENSION("vit-ff", vit_ff, "width of the vision feed-forward network"),
    DIMENSION("patch", patch, "pixels per side of a patch"),
    DIMENSION("side", side, "patches per side of a picture"),
    DIMENSION("image-size", image_size, "pixels per side, side * patch or a little more"),
};

static void apply_dimensions(random_dual *m)
{
    for (guint i = 0; i < G_N_ELEMENTS(dimensions); i++)
        if (dimensions[i].value >= 0)
            *(uint32_t *) (void *) G_STRUCT_MEMBER_P(m, dimensions[i].offset) =
                (uint32_t) dimensions[i].value;
}

// NULL, or why these dimensions make no model.
static const char *find_fault(const random_dual *m)
{
    if (!m->n_layer || !m->vit_layers || !m->n_ff || !m->vit_ff || !m->dim || !m->patch || !m->side)
        return "every dimension must be at least 1";
    if (!m->n_head || m->n_embd % m->n_head || !m->vit_heads || m->vit_embd % m->vit_heads)
        return "the heads must divide the width";
    if (m->image_size / m->patch != m->side)
        return "the picture has another number of patches";
    return NULL;
}

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
        { "type", 0, 0, G_OPTION_ARG_STRING, &type, "F32 (default), F16, Q8_0, ..., mixed", "T" },
        { "size", 0, 0, G_OPTION_ARG_STRING, &size, "tiny (default) or base", "S" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "default 1", "N" },
        { "part", 0, 0, G_OPTION_ARG_STRING, &part, "both (default), text or vision", "P" },
        { "gelu", 0, 0, G_OPTION_ARG_NONE, &gelu, "CLIP with gelu", NULL },
        { "modern", 0, 0, G_OPTION_ARG_NONE, &modern, "merges, and right names", NULL },
        { NULL, 0, 0, 0, NULL, NULL, NULL },
    };
    g_autofree GOptionEntry *more = g_new0(GOptionEntry, G_N_ELEMENTS(dimensions) + 1);
    g_autoptr(GOptionContext) context = g_option_context_new("OUT.gguf");

    for (guint i = 0; i < G_N_ELEMENTS(dimensions); i++)
        more[i] = (GOptionEntry){ dimensions[i].name, 0,  0, G_OPTION_ARG_INT, &dimensions[i].value,
                                  dimensions[i].help, "N" };
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_add_main_entries(context, more, NULL);
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
    apply_dimensions(&model);
    const char *fault = find_fault(&model);
    if (fault) {
        g_printerr("make-dual: %s\n", fault);
        return EXIT_FAILURE;
    }
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
