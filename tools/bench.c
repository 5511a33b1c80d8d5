// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/bench.c — `vlm bench`: speed of prefill, decode and vision encoder.
#include <stdio.h>
#include <stdlib.h>

#include "json_out.h"
#include "options.h"
#include "tool.h"

#define MAX_TOKENS 1048576

// One line of the table.
typedef struct bench_row {
    const char *what;  // "prefill", "decode", "encode"
    vlm_bench_params params;
    guint n_repeat;
    double *rates;  // [n_repeat], tokens or frames per second
    double median, min, max;
    vlm_bench_result last;
} bench_row;

static void row_free(gpointer data)
{
    bench_row *row = data;

    g_free(row->rates);
    g_free(row);
}

static void add_row(GPtrArray *rows, const char *what, vlm_bench_params params)
{
    bench_row *row = g_new0(bench_row, 1);

    row->what = what;
    row->params = params;
    g_ptr_array_add(rows, row);
}

static double rate(const vlm_bench_params *params, const vlm_bench_result *result)
{
    if (params->n_frames)
        return params->n_frames / (result->encode_seconds + result->preprocess_seconds);
    if (params->n_prompt)
        return params->n_prompt / result->prefill_seconds;
    return (double) params->n_decode * MAX(1, params->n_batch) / result->decode_seconds;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

// A first run that isn't counted builds pipelines and warms caches.
static gboolean measure(vlm_engine *engine, bench_row *row, guint n_repeat, GError **error)
{
    row->n_repeat = n_repeat;
    row->rates = g_new0(double, n_repeat);
    for (guint i = 0; i <= n_repeat; i++) {
        if (!vlm_engine_bench(engine, &row->params, &row->last, error))
            return FALSE;
        if (i > 0)
            row->rates[i - 1] = rate(&row->params, &row->last);
    }
    qsort(row->rates, n_repeat, sizeof *row->rates, compare_double);
    row->min = row->rates[0];
    row->max = row->rates[n_repeat - 1];
    row->median = (row->rates[(n_repeat - 1) / 2] + row->rates[n_repeat / 2]) / 2;
    return TRUE;
}

// Where the time of the last run went.
static void print_stages(const vlm_bench_params *params, const vlm_bench_result *result)
{
    const guint n = params->n_decode ? params->n_decode : 1;
    double total = 0;

    for (guint i = 0; i < result->n_stage; i++)
        total += result->stages[i].ms;
    if (total <= 0)
        return;
    printf("  %-22s %12s %10s %8s\n", params->n_decode ? "stage of a step" : "stage", "dispatches",
           "ms", "share");
    for (guint i = 0; i < result->n_stage; i++) {
        const vlm_bench_stage *stage = &result->stages[i];
        printf("  %-22s %12.1f %10.3f %7.1f%%\n", stage->name, (double) stage->n_dispatch / n,
               stage->ms / n, 100 * stage->ms / total);
    }
}

static void print_row(const bench_row *row)
{
    const vlm_bench_params *p = &row->params;
    const vlm_bench_result *last = &row->last;
    g_autofree char *name = NULL;
    g_autofree char *note = g_strdup("");

    if (p->n_frames) {
        name = g_strdup_printf("encode %ux%u", p->width, p->height);
        g_free(note);
        note = g_strdup_printf("%u tokens per group, preprocessing %.1f ms per frame",
                               last->n_visual_tokens, last->preprocess_seconds * 1e3 / p->n_frames);
    } else if (p->n_prompt) {
        name = g_strdup_printf("prefill %u", p->n_prompt);
    } else {
        name = g_strdup_printf("decode %u", p->n_decode);
        g_free(note);
        note = g_strdup_printf("per step: %" G_GUINT64_FORMAT " dispatches, %" G_GUINT64_FORMAT
                               " allocations, %" G_GUINT64_FORMAT " pipelines, %" G_GUINT64_FORMAT
                               " waits, %.2f MiB of weights; recorded %" G_GUINT64_FORMAT
                               " of %" G_GUINT64_FORMAT " submits",
                               last->decode_dispatches, last->decode_allocs, last->decode_pipelines,
                               last->decode_waits, (double) last->decode_read / 1048576,
                               last->decode_records, last->decode_records + last->decode_replays);
    }
    printf("%-18s %6u %6u %10.2f %10.2f %10.2f  %-8s  %s\n", name, p->depth, MAX(1, p->n_batch),
           row->median, row->min, row->max, p->n_frames ? "frames/s" : "tokens/s", note);
    print_stages(p, last);
    fflush(stdout);
}

static void json_stages(JsonBuilder *builder, const vlm_bench_result *result)
{
    json_builder_set_member_name(builder, "stages");
    json_builder_begin_array(builder);
    for (guint i = 0; i < result->n_stage; i++) {
        json_builder_begin_object(builder);
        json_out_string(builder, "stage", result->stages[i].name);
        json_out_int(builder, "dispatches", result->stages[i].n_dispatch);
        json_out_double(builder, "ms", result->stages[i].ms);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void json_row(JsonBuilder *builder, const bench_row *row)
{
    const vlm_bench_params *p = &row->params;

    json_builder_begin_object(builder);
    json_out_string(builder, "test", row->what);
    json_out_int(builder, "n_prompt", p->n_prompt);
    json_out_int(builder, "n_decode", p->n_decode);
    json_out_int(builder, "n_frames", p->n_frames);
    json_out_int(builder, "width", p->width);
    json_out_int(builder, "height", p->height);
    json_out_int(builder, "depth", p->depth);
    json_out_int(builder, "batch", MAX(1, p->n_batch));
    json_out_string(builder, "unit", p->n_frames ? "frames/s" : "tokens/s");
    json_out_double(builder, "median", row->median);
    json_out_double(builder, "min", row->min);
    json_out_double(builder, "max", row->max);
    json_builder_set_member_name(builder, "all");
    json_builder_begin_array(builder);
    for (guint i = 0; i < row->n_repeat; i++)
        json_out_double_value(builder, row->rates[i]);
    json_builder_end_array(builder);
    json_out_int(builder, "visual_tokens", row->last.n_visual_tokens);
    json_out_double(builder, "preprocess_seconds", row->last.preprocess_seconds);
    json_out_int(builder, "step_dispatches", row->last.decode_dispatches);
    json_out_int(builder, "step_allocations", row->last.decode_allocs);
    json_out_int(builder, "step_pipelines", row->last.decode_pipelines);
    json_out_int(builder, "step_waits", row->last.decode_waits);
    json_out_int(builder, "step_weight_bytes", row->last.decode_read);
    json_out_int(builder, "decode_records", row->last.decode_records);
    json_out_int(builder, "decode_replays", row->last.decode_replays);
    if (p->profile)
        json_stages(builder, &row->last);
    json_builder_end_object(builder);
}

// Where the experts of a model were that doesn't fit the device.
static void json_experts(JsonBuilder *builder, const vlm_engine_stats *stats)
{
    json_builder_set_member_name(builder, "experts");
    json_builder_begin_object(builder);
    json_out_int(builder, "host_bytes", stats->expert_host_bytes);
    json_out_int(builder, "device_bytes", stats->expert_slot_bytes);
    json_out_int(builder, "hits", stats->n_expert_hit);
    json_out_int(builder, "misses", stats->n_expert_miss);
    json_out_int(builder, "moved", stats->n_expert_moved);
    json_builder_end_object(builder);
}

static void print_experts(const vlm_engine_stats *stats)
{
    const guint64 n_read = stats->n_expert_hit + stats->n_expert_miss;

    printf("\nexperts: %.1f MiB in the host's memory, room for %.1f MiB of them on the device; of "
           "%" G_GUINT64_FORMAT " that steps read %.1f %% were there, %" G_GUINT64_FORMAT
           " moved in\n",
           (double) stats->expert_host_bytes / 1048576, (double) stats->expert_slot_bytes / 1048576,
           n_read, n_read > 0 ? 100.0 * (double) stats->n_expert_hit / (double) n_read : 0.0,
           stats->n_expert_moved);
}

static void print_json(vlm_engine *engine, const GPtrArray *rows)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    const vlm_model_info *info = vlm_engine_get_info(engine);
    g_autofree char *tuning = vlm_engine_get_tuning(engine);
    vlm_engine_stats stats;

    vlm_engine_get_stats(engine, &stats);
    json_builder_begin_object(builder);
    json_out_string(builder, "version", VLM_VERSION);
    json_out_string(builder, "model", info->path);
    json_out_string(builder, "quantisation", info->quantisation);
    json_out_int(builder, "parameters", info->n_parameters);
    json_out_string(builder, "device", vlm_engine_get_device_name(engine));
    json_out_string(builder, "tuning", tuning);
    json_out_string(builder, "kv_type", vlm_kv_type_name(vlm_engine_get_kv_type(engine)));
    json_builder_set_member_name(builder, "results");
    json_builder_begin_array(builder);
    for (guint i = 0; i < rows->len; i++)
        json_row(builder, g_ptr_array_index(rows, i));
    json_builder_end_array(builder);
    if (stats.expert_host_bytes > 0)
        json_experts(builder, &stats);
    json_builder_end_object(builder);
    json_out_print(builder);
}

// The options as they were given, NULL = default.
typedef struct bench_options {
    char *prompts, *depths, *batches, *image;
    int n_decode, n_frames, repeat;
    gboolean json, profile;
} bench_options;

static const char *given(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

static gboolean add_rows(const bench_options *o, GPtrArray *rows, GError **error)
{
    g_autoptr(GArray) prompts =
        tool_parse_list("-p", given(o->prompts, "128,512"), 0, MAX_TOKENS, error);
    g_autoptr(GArray) depths =
        prompts ? tool_parse_list("-d", given(o->depths, "0,1024"), 0, MAX_TOKENS, error) : NULL;
    g_autoptr(GArray) batches =
        depths ? tool_parse_list("-b", given(o->batches, "1"), 1, 64, error) : NULL;
    guint32 width = 0, height = 0;

    if (!batches || !tool_check_range("-n", o->n_decode, 0, MAX_TOKENS, error)
        || !tool_check_range("--frames", o->n_frames, 0, 10000, error)
        || !tool_check_range("--repeat", o->repeat, 1, 1000, error)
        || !tool_parse_size("--image", given(o->image, "1280x720"), &width, &height, error))
        return FALSE;
    for (guint d = 0; d < depths->len; d++) {
        guint32 depth = g_array_index(depths, guint32, d);

        for (guint p = 0; p < prompts->len; p++) {
            guint32 n_prompt = g_array_index(prompts, guint32, p);

            if (n_prompt)
                add_row(rows, "prefill",
                        (vlm_bench_params){ .n_prompt = n_prompt, .depth = depth });
        }
        for (guint b = 0; o->n_decode > 0 && b < batches->len; b++)
            add_row(rows, "decode",
                    (vlm_bench_params){ .n_decode = (guint32) o->n_decode,
                                        .depth = depth,
                                        .n_batch = g_array_index(batches, guint32, b) });
    }
    if (o->n_frames > 0)
        add_row(rows, "encode",
                (vlm_bench_params){
                    .width = width, .height = height, .n_frames = (guint32) o->n_frames });
    for (guint i = 0; i < rows->len; i++)
        ((bench_row *) g_ptr_array_index(rows, i))->params.profile = o->profile;
    return TRUE;
}

// Takes out what needs a vision tower.
static void drop_frames(GPtrArray *rows)
{
    for (guint i = rows->len; i-- > 0;) {
        const bench_row *row = g_ptr_array_index(rows, i);
        if (row->params.n_frames > 0)
            g_ptr_array_remove_index(rows, i);
    }
}

static void print_head(vlm_engine *engine)
{
    g_autofree char *tuning = vlm_engine_get_tuning(engine);

    printf("model %s\ndevice %s\ncontext as %s\n", vlm_engine_get_info(engine)->path,
           vlm_engine_get_device_name(engine), vlm_kv_type_name(vlm_engine_get_kv_type(engine)));
    if (*tuning)
        printf("tuned  %s\n", tuning);
    printf("\n%-18s %6s %6s %10s %10s %10s\n", "test", "depth", "batch", "median", "least", "most");
}

int tool_bench(int argc, char **argv)
{
    static tool_model_options model = { .vision = VLM_VISION_OPTIONAL };
    static bench_options o = { .n_decode = 32, .n_frames = 16, .repeat = 3 };
    const GOptionEntry entries[] = {
        TOOL_MODEL_ENTRIES(model),
        TOOL_NO_MMPROJ_ENTRY(model.no_mmproj),
        { "prompt", 'p', 0, G_OPTION_ARG_STRING, &o.prompts, "Tokens to prefill (default: 128,512)",
          "N,.." },
        { "decode", 'n', 0, G_OPTION_ARG_INT, &o.n_decode,
          "Tokens to decode per sequence (default: 32)", "N" },
        { "depth", 'd', 0, G_OPTION_ARG_STRING, &o.depths,
          "Tokens in the context before (default: 0,1024)", "N,.." },
        { "batch", 'b', 0, G_OPTION_ARG_STRING, &o.batches,
          "Sequences decoded together (default: 1)", "N,.." },
        { "image", 0, 0, G_OPTION_ARG_STRING, &o.image,
          "Size of the frames to encode (default: 1280x720)", "WxH" },
        { "frames", 0, 0, G_OPTION_ARG_INT, &o.n_frames, "Frames to encode (default: 16)", "N" },
        { "repeat", 0, 0, G_OPTION_ARG_INT, &o.repeat,
          "Measured runs, after one that isn't counted (default: 3)", "N" },
        { "profile", 0, 0, G_OPTION_ARG_NONE, &o.profile,
          "Show where the time goes, by the device's clock", NULL },
        { "json", 0, 0, G_OPTION_ARG_NONE, &o.json, "Print a line of JSON", NULL },
        TOOL_ENGINE_ENTRIES(model),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);
    g_autoptr(vlm_engine) engine = NULL;
    g_autoptr(GError) error = NULL;

    if (!tool_parse(
            &argc, &argv, entries, NULL,
            "Measures tokens per second of prefill and decode, and frames per second of the "
            "vision encoder.\nShown: median, least and most of the measured runs.",
            "Zero leaves a measurement out.\n\nExamples:\n  vlm bench\n"
            "  vlm bench -p 512 -n 64 -d 0,4096 -b 1,4 --frames 0\n"
            "  vlm bench -p 0 -n 0 --image 1920x1080 --json\n"
            "  vlm bench -p 512 -n 64 -d 0 --frames 0 --profile"))
        return TOOL_USAGE;
    if (argc > 1)
        return tool_usage_error(argv[0], "takes no argument '%s'", argv[1]);
    if (!add_rows(&o, rows, &error) || !tool_check_device_memory(model.device_memory, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    engine = tool_open_engine(&model, &error);
    if (!engine)
        return tool_failed(argv[0], error);
    if (!vlm_engine_get_info(engine)->projector)
        drop_frames(rows);
    if (!o.json)
        print_head(engine);
    for (guint i = 0; i < rows->len; i++) {
        if (!measure(engine, g_ptr_array_index(rows, i), (guint) o.repeat, &error))
            return tool_failed(argv[0], error);
        if (!o.json)
            print_row(g_ptr_array_index(rows, i));
    }
    if (o.json)
        print_json(engine, rows);
    vlm_engine_stats stats;
    vlm_engine_get_stats(engine, &stats);
    if (!o.json && stats.expert_host_bytes > 0)
        print_experts(&stats);
    return TOOL_OK;
}
