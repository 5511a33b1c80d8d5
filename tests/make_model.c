// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/make_model.c — make-model: writes a random pair, see random_model.h.
#include "random_fill.h"
#include "random_model.h"

#include <stdlib.h>
#include <string.h>

// Options that set one dimension.
typedef struct dimension {
    const char *name, *help;
    gsize offset;  // of a uint32_t in random_model
    gint value;    // -1: not given
} dimension;

#define DIMENSION(name, field, help)                                                               \
    {                                                                                              \
        name, help, G_STRUCT_OFFSET(random_model, field), -1                                       \
    }

static dimension dimensions[] = {
    DIMENSION("layers", n_layer, "decoder layers; sets the DeepStack layers"),
    DIMENSION("embd", n_embd, "decoder width"),
    DIMENSION("heads", n_head, "query heads"),
    DIMENSION("kv-heads", n_head_kv, "key and value heads"),
    DIMENSION("head-dim", head_dim, "width of a head; sets the rotary sections"),
    DIMENSION("ff", n_ff, "width of the dense feed-forward network"),
    DIMENSION("experts", n_expert, "experts per layer"),
    DIMENSION("used", n_expert_used, "experts used per token"),
    DIMENSION("expert-ff", n_ff_expert, "width of an expert"),
    DIMENSION("shared-ff", n_ff_shared, "width of the expert of every token (qwen35moe)"),
    DIMENSION("rope-dim", rope_dim, "elements of a head that rotate; the same (qwen35)"),
    DIMENSION("interval", interval, "each N-th layer attends, the others are recurrent (qwen35)"),
    DIMENSION("delta-k-heads", delta_k_heads, "key heads of recurrent layers (qwen35)"),
    DIMENSION("delta-v-heads", delta_v_heads, "value heads of recurrent layers (qwen35)"),
    DIMENSION("delta-dim", delta_head_dim, "width of their heads (qwen35)"),
    DIMENSION("ahead", n_ahead, "unused layers that predict further ahead (qwen35)"),
    DIMENSION("context", n_ctx, "trained context length"),
    DIMENSION("vocab", n_vocab, "tokens at least, filled up with unused ones"),
    DIMENSION("patch", patch, "pixels per side of a vision patch"),
    DIMENSION("vit-layers", vit_layers, "vision layers; the same"),
    DIMENSION("vit-embd", vit_embd, "vision width"),
    DIMENSION("vit-heads", vit_heads, "vision heads"),
    DIMENSION("vit-ff", vit_ff, "width of the vision feed-forward network"),
    DIMENSION("vit-positions", n_pos, "entries of the vision position table, a square"),
    DIMENSION("merge", merge, "patches per side that become one row"),
    DIMENSION("window", window, "pixels per side of an attention window (qwen2.5vl)"),
    DIMENSION("wa-pattern", n_wa_pattern, "each N-th layer has no windows (qwen2.5vl)"),
    DIMENSION("tiles", n_tile, "tiles per side of a still (smolvlm)"),
    DIMENSION("margin", margin, "pixels per side that are no whole patch (smolvlm)"),
    DIMENSION("cross-every", cross_every, "each N-th layer looks at pictures (mllama)"),
    DIMENSION("global-layers", n_global, "vision layers behind the others (mllama)"),
};

static const struct {
    const char *name;
    vlm_dtype dtype;
    gboolean k_mixture;
} types[] = {
    { "F32", VLM_DTYPE_F32, FALSE },       { "F16", VLM_DTYPE_F16, FALSE },
    { "BF16", VLM_DTYPE_BF16, FALSE },     { "Q8_0", VLM_DTYPE_Q8_0, FALSE },
    { "Q4_0", VLM_DTYPE_Q4_0, FALSE },     { "Q4_1", VLM_DTYPE_Q4_1, FALSE },
    { "Q5_0", VLM_DTYPE_Q5_0, FALSE },     { "Q5_1", VLM_DTYPE_Q5_1, FALSE },
    { "Q2_K", VLM_DTYPE_Q2_K, FALSE },     { "Q3_K", VLM_DTYPE_Q3_K, FALSE },
    { "Q4_K", VLM_DTYPE_Q4_K, FALSE },     { "Q5_K", VLM_DTYPE_Q5_K, FALSE },
    { "Q6_K", VLM_DTYPE_Q6_K, FALSE },     { "IQ4_NL", VLM_DTYPE_IQ4_NL, FALSE },
    { "IQ4_XS", VLM_DTYPE_IQ4_XS, FALSE }, { "MXFP4", VLM_DTYPE_MXFP4, FALSE },
    { "Q4_K_M", VLM_DTYPE_Q4_K, TRUE },    { "Q5_K_M", VLM_DTYPE_Q5_K, TRUE },
    { "mixed", RANDOM_FILL_MIXED, FALSE },
};

// Up to here a vision file takes the type of the text file.
#define LAST_PLAIN_TYPE 3

// Up to three layers, spread over the tower.
static void default_deepstack(random_model *m)
{
    if (random_model_is_smolvlm(m) || random_model_is_llava(m) || random_model_is_mllama(m)
        || random_model_is_text(m) || random_model_is_qwen2(m) || random_model_is_qwen35(m))
        return;
    m->n_deepstack = MIN(3, MIN(m->vit_layers, m->n_layer));
    for (uint32_t i = 0; i < m->n_deepstack; i++)
        m->deepstack[i] = i * m->vit_layers / MAX(m->n_deepstack, 1);
}

// The type called `name`, or `dflt` when that is NULL. -1 with an error for an unknown one.
static int find_type(const char *name, int dflt, GError **error)
{
    if (!name)
        return dflt;
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        if (g_ascii_strcasecmp(name, types[i].name) == 0)
            return (int) i;
    }
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "unknown type %s", name);
    return -1;
}

// The layers of "3,5,8", or "none".
static gboolean apply_deepstack(random_model *m, const char *list, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(g_str_equal(list, "none") ? "" : list, ",", -1);

    m->n_deepstack = 0;
    for (guint i = 0; parts[i]; i++) {
        guint64 layer;
        if (!g_ascii_string_to_unsigned(parts[i], 10, 0, 1023, &layer, error))
            return FALSE;
        if (m->n_deepstack == RANDOM_MODEL_MAX_DEEPSTACK) {
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "too many layers");
            return FALSE;
        }
        m->deepstack[m->n_deepstack++] = (uint32_t) layer;
    }
    return TRUE;
}

static void apply_dimensions(random_model *m)
{
    for (guint i = 0; i < G_N_ELEMENTS(dimensions); i++) {
        const dimension *d = &dimensions[i];

        if (d->value < 0)
            continue;
        *(uint32_t *) (void *) G_STRUCT_MEMBER_P(m, d->offset) = (uint32_t) d->value;
        if (g_str_equal(d->name, "head-dim") && !random_model_is_qwen35(m))
            m->rope_dim = m->head_dim;
        if (g_str_equal(d->name, "head-dim") || g_str_equal(d->name, "rope-dim"))
            random_model_set_sections(m);
        if (g_str_equal(d->name, "vit-layers") || g_str_equal(d->name, "layers"))
            default_deepstack(m);
    }
}

static gint n_split;  // parts of the text file; 0 = one file
static gboolean bare_first;

// Fills `m` from the command line; leaves the file names in argv[1..].
static gboolean parse(int *argc, char ***argv, random_model *m, GError **error)
{
    g_autofree char *family = NULL, *size = NULL, *type = NULL, *mmproj_type = NULL;
    g_autofree char *deepstack = NULL;
    gint64 seed = 1;
    gboolean tied = FALSE, one_file = FALSE, fused = FALSE, old_names = FALSE;
    gboolean gelu = FALSE, plain_rope = FALSE;
    gdouble theta = 0;
    const GOptionEntry fixed[] = {
        { "family", 0, 0, G_OPTION_ARG_STRING, &family,
          "qwen2vl, qwen2.5vl, qwen3vl, qwen3vlmoe (default), qwen35, qwen35moe, smolvlm, llava, "
          "mllama; without a vision file llama, qwen2, qwen3, qwen3moe",
          "F" },
        { "size", 0, 0, G_OPTION_ARG_STRING, &size, "tiny (default), small or bench160m", "S" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "default 1", "N" },
        { "type", 0, 0, G_OPTION_ARG_STRING, &type,
          "F32 (default), F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, "
          "IQ4_NL, IQ4_XS, MXFP4, Q4_K_M, Q5_K_M, or mixed: another one for each tensor",
          "T" },
        { "mmproj-type", 0, 0, G_OPTION_ARG_STRING, &mmproj_type,
          "of the vision file; default: as --type, but F16 for the 2 to 6 bit types", "T" },
        { "rope-theta", 0, 0, G_OPTION_ARG_DOUBLE, &theta,
          "base of the rotary frequencies, default as published", "X" },
        { "split", 0, 0, G_OPTION_ARG_INT, &n_split,
          "write the text file in N parts, OUT-text-00001-of-0000N.gguf", "N" },
        { "bare-first", 0, 0, G_OPTION_ARG_NONE, &bare_first,
          "with --split: no tensors in the first part", NULL },
        { "one-file", 0, 0, G_OPTION_ARG_NONE, &one_file, "mllama: both halves in each file",
          NULL },
        { "fused", 0, 0, G_OPTION_ARG_NONE, &fused, "experts' gate and up in one tensor", NULL },
        { "tied", 0, 0, G_OPTION_ARG_NONE, &tied, "no output matrix of its own", NULL },
        { "old-names", 0, 0, G_OPTION_ARG_NONE, &old_names,
          "of llava: a vision file as the first converters wrote it", NULL },
        { "deepstack", 0, 0, G_OPTION_ARG_STRING, &deepstack,
          "vision layers that feed the decoder, or none", "N,N,..." },
        { "gelu", 0, 0, G_OPTION_ARG_NONE, &gelu, "of llava: GELU in the erf form", NULL },
        { "plain-rope", 0, 0, G_OPTION_ARG_NONE, &plain_rope,
          "of llama: no divisors of the rotary frequencies", NULL },
        { NULL, 0, 0, 0, NULL, NULL, NULL },
    };
    g_autofree GOptionEntry *entries = g_new0(GOptionEntry, G_N_ELEMENTS(dimensions) + 1);
    g_autoptr(GOptionContext) context = g_option_context_new("OUT-text.gguf OUT-mmproj.gguf");

    for (guint i = 0; i < G_N_ELEMENTS(dimensions); i++)
        entries[i] =
            (GOptionEntry){ dimensions[i].name, 0,  0, G_OPTION_ARG_INT, &dimensions[i].value,
                            dimensions[i].help, "N" };
    g_option_context_add_main_entries(context, fixed, NULL);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;

    const int t = find_type(type, 0, error);
    const int v = t < 0 ? -1 : find_type(mmproj_type, t <= LAST_PLAIN_TYPE ? t : 1, error);
    if (v < 0)
        return FALSE;
    if (!random_model_init(m, family ? family : "qwen3vlmoe", size ? size : "tiny")) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "unknown family or size");
        return FALSE;
    }
    m->seed = (uint64_t) seed;
    m->tied = tied;
    m->one_file = one_file;
    m->fused_gate_up = fused;
    m->old_names = old_names;
    m->gelu = gelu;
    m->plain_rope = plain_rope;
    if (theta > 0)
        m->rope_theta = (float) theta;
    m->dtype = types[t].dtype;
    m->k_mixture = types[t].k_mixture;
    m->mmproj_dtype = types[v].dtype;
    apply_dimensions(m);
    return !deepstack || apply_deepstack(m, deepstack, error);
}

static gboolean write_text(const gguf_writer *text, const char *path, GError **error)
{
    g_autofree char *stem = g_str_has_suffix(path, ".gguf")
                                ? g_strndup(path, strlen(path) - strlen(".gguf"))
                                : g_strdup(path);

    if (n_split <= 0)
        return gguf_writer_write(text, path, error);
    return gguf_writer_write_split(text, stem, (guint) n_split, bare_first, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(gguf_writer) text = NULL, mmproj = NULL;
    g_autofree char *fault = NULL;
    random_model model;

    if (!parse(&argc, &argv, &model, &error)) {
        g_printerr("make-model: %s\n", error->message);
        return EXIT_FAILURE;
    }
    if (n_split > 99999 || (bare_first && n_split < 2)) {
        g_printerr("make-model: --split wants 1 to 99999 parts, with --bare-first at least 2\n");
        return EXIT_FAILURE;
    }
    fault = argc == 3 ? random_model_check(&model) : g_strdup("give two file names, see --help");
    if (fault) {
        g_printerr("make-model: %s\n", fault);
        return EXIT_FAILURE;
    }
    text = random_model_text(&model);
    mmproj = random_model_mmproj(&model);
    if (!write_text(text, argv[1], &error)
        || (mmproj && !gguf_writer_write(mmproj, argv[2], &error))) {
        g_printerr("make-model: %s\n", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
