// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/perplexity.c — `vlm perplexity`: how well a model predicts a text.
//
// The text is cut as llama-perplexity cuts it, so that figures compare: whole chunks of a context's
// length, each by itself; the tokens of its second half count; where the vocabulary has a token
// that begins a text, it takes the place of each chunk's first.
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "json_out.h"
#include "options.h"
#include "tool.h"

#define MAX_CONTEXT 16777216  // as in vlm_session_params

// Sums over the tokens that count.
typedef struct perplexity {
    guint n_chunk, context;
    guint64 n_text, n;  // tokens of the text; tokens that count
    double sum, squares;
} perplexity;

static double value_of(const perplexity *p)
{
    return exp(-p->sum / (double) p->n);
}

// Standard error of the mean, carried over to the exponential.
static double error_of(const perplexity *p)
{
    const double n = (double) p->n, mean = p->sum / n, variance = p->squares / n - mean * mean;

    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) * value_of(p) : 0;
}

static void print_json(vlm_engine *engine, const char *path, const perplexity *p)
{
    const vlm_model_info *info = vlm_engine_get_info(engine);
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_out_string(builder, "model", info->path);
    json_out_string(builder, "quantisation", info->quantisation);
    json_out_string(builder, "device", vlm_engine_get_device_name(engine));
    json_out_string(builder, "kv_type", vlm_kv_type_name(vlm_engine_get_kv_type(engine)));
    json_out_string(builder, "file", path);
    json_out_int(builder, "context", p->context);
    json_out_int(builder, "chunks", p->n_chunk);
    json_out_int(builder, "text_tokens", p->n_text);
    json_out_int(builder, "scored_tokens", p->n);
    json_out_double(builder, "perplexity", value_of(p));
    json_out_double(builder, "error", error_of(p));
    json_builder_end_object(builder);
    json_out_print(builder);
}

// The tokens of a file, with the one that begins a text.
static GArray *read_tokens(vlm_engine *engine, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize length;
    guint32 start;

    if (!g_file_get_contents(path, &text, &length, error))
        return NULL;
    if (!g_utf8_validate(text, (gssize) length, NULL)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT, "%s: is not UTF-8 text", path);
        return NULL;
    }
    GArray *tokens = vlm_engine_tokenize(engine, text, FALSE, error);
    if (tokens && vlm_engine_start_token(engine, &start))
        g_array_prepend_val(tokens, start);
    return tokens;
}

static gboolean measure(vlm_engine *engine, GArray *tokens, const char *path, guint max_chunks,
                        perplexity *p, GError **error)
{
    const guint first = p->context / 2 + 1;
    g_autofree double *logprobs = g_new(double, p->context);
    guint32 start;

    p->n_text = tokens->len;
    if (tokens->len < 2 * p->context) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s: has %u tokens, at least %u are needed with a context of %u", path,
                    tokens->len, 2 * p->context, p->context);
        return FALSE;
    }
    for (guint at = 0; at + p->context <= tokens->len; at += p->context) {
        guint32 *chunk = &g_array_index(tokens, guint32, at);

        if (max_chunks && p->n_chunk == max_chunks)
            break;
        if (vlm_engine_start_token(engine, &start))
            chunk[0] = start;
        if (!vlm_engine_score(engine, chunk, p->context, first, logprobs, error))
            return FALSE;
        for (guint i = 0; i < p->context - first; i++) {
            p->sum += logprobs[i];
            p->squares += logprobs[i] * logprobs[i];
        }
        p->n += p->context - first;
        p->n_chunk++;
        if (isatty(STDERR_FILENO))
            g_printerr("\r%u of %u: %.4f\033[K", p->n_chunk, tokens->len / p->context, value_of(p));
    }
    if (isatty(STDERR_FILENO))
        g_printerr("\r\033[K");
    return TRUE;
}

int tool_perplexity(int argc, char **argv)
{
    static tool_model_options model = { .vision = VLM_VISION_OPTIONAL };
    static char *file;
    static int context = 512, chunks;
    static gboolean json;
    const GOptionEntry entries[] = {
        TOOL_MODEL_ENTRIES(model),
        TOOL_NO_MMPROJ_ENTRY(model.no_mmproj),
        { "file", 'f', 0, G_OPTION_ARG_FILENAME, &file, "The text, in UTF-8", "TEXT" },
        { "context", 'c', 0, G_OPTION_ARG_INT, &context, "Tokens of a chunk (default: 512)", "N" },
        { "chunks", 0, 0, G_OPTION_ARG_INT, &chunks, "Only the first N chunks (default: all)",
          "N" },
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print a line of JSON", NULL },
        TOOL_ENGINE_ENTRIES(model),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(vlm_engine) engine = NULL;
    g_autoptr(GArray) tokens = NULL;
    g_autoptr(GError) error = NULL;
    perplexity p = { 0 };

    if (!tool_parse(
            &argc, &argv, entries, NULL,
            "Measures how well a model predicts a text: the perplexity, e to the mean "
            "surprise at a token.\nThe text is cut into chunks of --context tokens, and the "
            "second half of each counts, as in\nllama.cpp's llama-perplexity: figures of "
            "the same text and context compare.",
            "Examples:\n  vlm perplexity -m model.gguf -f bench/text/constitution.txt\n"
            "  vlm perplexity -m model.gguf -f text.txt -c 2048 --kv-type q4 --json"))
        return TOOL_USAGE;
    if (argc > 1)
        return tool_usage_error(argv[0], "takes no argument '%s'; is it a --file?", argv[1]);
    if (!file)
        return tool_usage_error(argv[0], "needs a --file with text");
    if (!tool_check_range("--context", context, 4, MAX_CONTEXT, &error)
        || !tool_check_range("--chunks", chunks, 0, G_MAXINT, &error)
        || !tool_check_device_memory(model.device_memory, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    model.context_size = (guint32) context;
    engine = tool_open_engine(&model, &error);
    if (!engine || !(tokens = read_tokens(engine, file, &error)))
        return tool_failed(argv[0], error);
    p.context = (guint) context;
    if (!measure(engine, tokens, file, (guint) chunks, &p, &error))
        return tool_failed(argv[0], error);
    if (json)
        print_json(engine, file, &p);
    else
        printf("perplexity %.4f +/- %.4f (%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
               " tokens, %u chunks of %u)\n",
               value_of(&p), error_of(&p), p.n, p.n_text, p.n_chunk, p.context);
    return TOOL_OK;
}
