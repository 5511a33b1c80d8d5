// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/tune.c — `vlm tune`: finds the sizes of kernels that a device is fastest with.
#include <stdio.h>
#include <unistd.h>

#include "json_out.h"
#include "options.h"
#include "tool.h"

#define MAX_TOKENS 1048576

typedef struct tune_options {
    int n_prompt, n_decode, n_batch, depth, n_round;
    char *image;
    gboolean show, reset, json;
} tune_options;

// One line on a terminal, which the next one replaces.
static void show_trial(const char *name, uint32_t value, uint32_t n_done, uint32_t n_all,
                       gpointer data)
{
    (void) data;
    g_printerr("\r\033[K%u of %u: %s", n_done + 1, n_all, name);
    if (value > 0)
        g_printerr(" %u", value);
}

static void print_json(vlm_engine *engine, const vlm_tune_result *result)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autofree char *tuning = vlm_engine_get_tuning(engine);

    json_builder_begin_object(builder);
    json_out_string(builder, "model", vlm_engine_get_info(engine)->path);
    json_out_string(builder, "device", vlm_engine_get_device_name(engine));
    json_out_string(builder, "tuning", tuning);
    json_out_string(builder, "file", result->path);
    json_builder_set_member_name(builder, "sizes");
    json_builder_begin_array(builder);
    for (guint i = 0; i < result->n_size; i++) {
        const vlm_tune_size *size = &result->sizes[i];
        json_builder_begin_object(builder);
        json_out_string(builder, "name", size->name);
        json_out_int(builder, "default", size->otherwise);
        json_out_int(builder, "best", size->value);
        json_out_double(builder, "gain", size->gain);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_set_member_name(builder, "parts");
    json_builder_begin_array(builder);
    for (guint i = 0; i < result->n_part; i++) {
        const vlm_tune_part *part = &result->parts[i];
        json_builder_begin_object(builder);
        json_out_string(builder, "name", part->name);
        json_out_double(builder, "default_seconds", part->seconds);
        json_out_double(builder, "tuned_seconds", part->tuned);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    json_out_print(builder);
}

static void print_table(const vlm_tune_result *result)
{
    printf("\n%-18s %8s %8s %8s  %s\n", "size", "default", "best", "gain", "what it is");
    for (guint i = 0; i < result->n_size; i++) {
        const vlm_tune_size *size = &result->sizes[i];
        printf("%-18s %8u %8u %7.2fx  %s\n", size->name, size->otherwise, size->value, size->gain,
               size->help);
    }
    if (result->n_part > 0)
        printf("\n%-24s %12s %12s %8s\n", "all together", "default, ms", "tuned, ms", "gain");
    for (guint i = 0; i < result->n_part; i++) {
        const vlm_tune_part *part = &result->parts[i];
        printf("%-24s %12.2f %12.2f %7.2fx\n", part->name, part->seconds * 1e3, part->tuned * 1e3,
               part->seconds / part->tuned);
    }
    if (result->kept)
        printf("\nkept for this model's shape on this device: %s\n", result->path);
    else
        printf("\nthe defaults stay: nothing else is faster by more than the noise\n");
}

static gboolean check(const tune_options *o, vlm_tune_params *params, GError **error)
{
    if (!tool_check_range("-p", o->n_prompt, 0, MAX_TOKENS, error)
        || !tool_check_range("-n", o->n_decode, 0, MAX_TOKENS, error)
        || !tool_check_range("-b", o->n_batch, 0, 64, error)
        || !tool_check_range("-d", o->depth, 0, MAX_TOKENS, error)
        || !tool_check_range("--rounds", o->n_round, 0, 1000, error)
        || (o->image
            && !tool_parse_size("--image", o->image, &params->width, &params->height, error)))
        return FALSE;
    params->n_prompt = (guint32) o->n_prompt;
    params->n_decode = (guint32) o->n_decode;
    params->n_batch = (guint32) o->n_batch;
    params->depth = (guint32) o->depth;
    params->n_round = (guint32) o->n_round;
    return TRUE;
}

static void print_head(vlm_engine *engine)
{
    g_autofree char *tuning = vlm_engine_get_tuning(engine);

    printf("model %s\ndevice %s\ntuning %s\n", vlm_engine_get_info(engine)->path,
           vlm_engine_get_device_name(engine), *tuning ? tuning : "none: defaults");
    fflush(stdout);
}

static int run(vlm_engine *engine, const tune_options *o, vlm_tune_params *params, const char *name)
{
    g_autoptr(GError) error = NULL;
    vlm_tune_result result = { 0 };
    gboolean ok = TRUE;

    if (o->reset) {
        ok = vlm_engine_untune(engine, &error);
    } else if (!o->show) {
        if (!o->json)
            print_head(engine);
        params->on_trial = isatty(STDERR_FILENO) ? show_trial : NULL;
        ok = vlm_engine_tune(engine, params, &result, &error);
        if (params->on_trial)
            g_printerr("\r\033[K");
    }
    if (!ok)
        return tool_failed(name, error);
    if (o->json)
        print_json(engine, &result);
    else if (o->show || o->reset)
        print_head(engine);
    else
        print_table(&result);
    g_free(result.path);
    return TOOL_OK;
}

int tool_tune(int argc, char **argv)
{
    static tool_model_options model = { .vision = VLM_VISION_OPTIONAL };
    static tune_options o;
    const GOptionEntry entries[] = {
        TOOL_MODEL_ENTRIES(model),
        TOOL_NO_MMPROJ_ENTRY(model.no_mmproj),
        { "prompt", 'p', 0, G_OPTION_ARG_INT, &o.n_prompt, "Tokens to prefill", "N" },
        { "decode", 'n', 0, G_OPTION_ARG_INT, &o.n_decode, "Tokens to decode per sequence", "N" },
        { "batch", 'b', 0, G_OPTION_ARG_INT, &o.n_batch, "Sequences decoded together", "N" },
        { "depth", 'd', 0, G_OPTION_ARG_INT, &o.depth, "Tokens in the long context", "N" },
        { "image", 0, 0, G_OPTION_ARG_STRING, &o.image,
          "Size of the frames to encode (default: 1280x720)", "WxH" },
        { "rounds", 0, 0, G_OPTION_ARG_INT, &o.n_round,
          "Measurements of each value, the best of which counts (default: 3)", "N" },
        { "show", 0, 0, G_OPTION_ARG_NONE, &o.show, "Show the tuning in use, measure nothing",
          NULL },
        { "reset", 0, 0, G_OPTION_ARG_NONE, &o.reset, "Go back to the defaults", NULL },
        { "json", 0, 0, G_OPTION_ARG_NONE, &o.json, "Print JSON", NULL },
        TOOL_ENGINE_ENTRIES(model),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(vlm_engine) engine = NULL;
    g_autoptr(GError) error = NULL;
    vlm_tune_params params = { 0 };

    if (!tool_parse(
            &argc, &argv, entries, NULL,
            "Measures which sizes of kernels (rows of a workgroup and the like) this device is "
            "fastest with\nfor models of one shape, and keeps them in the cache folder. Whatever "
            "opens such a model from then\non uses them.",
            "Leave the device alone meanwhile. Without numbers, what is measured fits the kind of "
            "device.\nVLM_TUNING=off goes without a tuning once, VLM_TUNING=name=value,.. with "
            "another one.\n\nExamples:\n  vlm tune\n  vlm tune --model "
            "hf:Qwen/Qwen3-VL-2B-Instruct-"
            "GGUF:Q8_0\n  vlm tune --show\n  vlm tune --reset"))
        return TOOL_USAGE;
    if (argc > 1)
        return tool_usage_error(argv[0], "takes no argument '%s'", argv[1]);
    if (o.show && o.reset)
        return tool_usage_error(argv[0], "--show and --reset exclude each other");
    if (!check(&o, &params, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    engine = tool_open_engine(&model, &error);
    if (!engine)
        return tool_failed(argv[0], error);
    return run(engine, &o, &params, argv[0]);
}
