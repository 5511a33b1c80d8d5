// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/info.c — `vlm info`: what a model file holds and the memory that it needs.
#include <stdio.h>

#include "json_out.h"
#include "options.h"
#include "tool.h"

#define MAX_CONTEXT 16777216  // as in vlm_session_params

static void add_kv_types(JsonBuilder *builder, const vlm_model_info *info, guint32 context)
{
    json_builder_set_member_name(builder, "kv_types");
    json_builder_begin_object(builder);
    for (guint type = 0; type < VLM_N_KV_TYPE; type++) {
        const guint64 bytes = vlm_model_context_bytes(info, type, context);

        json_builder_set_member_name(builder, vlm_kv_type_name(type));
        json_builder_begin_object(builder);
        json_out_int(builder, "bytes_per_token", info->kv_bytes_per_token[type]);
        json_out_int(builder, "context_bytes", bytes);
        json_out_int(builder, "total_bytes", info->weight_bytes + info->scratch_bytes + bytes);
        json_builder_end_object(builder);
    }
    json_builder_end_object(builder);
}

// What a device with so many MiB would hold.
static void add_placement(JsonBuilder *builder, const vlm_model_info *info, vlm_kv_type kv_type,
                          guint32 context, guint64 mib)
{
    vlm_placement placement;
    const gboolean fits = vlm_model_place(info, kv_type, context, mib << 20, &placement, NULL);

    json_builder_set_member_name(builder, "device_memory");
    json_builder_begin_object(builder);
    json_out_int(builder, "bytes", mib << 20);
    json_builder_set_member_name(builder, "fits");
    json_builder_add_boolean_value(builder, fits);
    json_out_int(builder, "needed_bytes", placement.needed_bytes);
    json_out_int(builder, "expert_device_bytes", placement.device_bytes);
    json_out_int(builder, "expert_host_bytes", placement.host_bytes);
    json_builder_end_object(builder);
}

static void print_json(const vlm_model_info *info, vlm_kv_type kv_type, guint32 context,
                       guint64 mib)
{
    const guint64 context_bytes = vlm_model_context_bytes(info, kv_type, context);
    const struct {
        const char *name;
        guint64 value;
    } rows[] = {
        { "parameters", info->n_parameters },
        { "active_parameters", info->n_active },
        { "file_bytes", info->file_bytes },
        { "layers", info->n_layer },
        { "embedding", info->n_embd },
        { "heads", info->n_head },
        { "kv_heads", info->n_head_kv },
        { "head_dim", info->head_dim },
        { "vocabulary", info->n_vocab },
        { "context_length", info->context_length },
        { "experts", info->n_expert },
        { "experts_used", info->n_expert_used },
        { "recurrent_layers", info->n_recurrent },
        { "vision_layers", info->vision_layers },
        { "vision_embedding", info->vision_embd },
        { "patch_size", info->patch_size },
        { "merge_size", info->merge_size },
        { "weight_bytes", info->weight_bytes },
        { "expert_bytes", info->expert_bytes },
        { "kv_bytes_per_token", info->kv_bytes_per_token[kv_type] },
        { "scratch_bytes", info->scratch_bytes },
        { "context", context },
        { "picture_bytes", info->picture_bytes[kv_type] },
        { "state_bytes", info->state_bytes },
        { "context_bytes", context_bytes },
        { "total_bytes", info->weight_bytes + info->scratch_bytes + context_bytes },
    };
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_out_string(builder, "model", info->path);
    json_out_string(builder, "mmproj", info->mmproj_path);
    json_out_string(builder, "architecture", info->architecture);
    json_out_string(builder, "name", info->name);
    json_out_string(builder, "projector", info->projector);
    json_out_string(builder, "quantisation", info->quantisation);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        json_out_int(builder, rows[i].name, rows[i].value);
    json_out_string(builder, "kv_type", vlm_kv_type_name(kv_type));
    add_kv_types(builder, info, context);
    if (mib > 0)
        add_placement(builder, info, kv_type, context, mib);
    json_builder_end_object(builder);
    json_out_print(builder);
}

// One row whose value is a printf format.
static void G_GNUC_PRINTF(2, 3) print_row(const char *name, const char *format, ...)
{
    va_list args;

    printf("%-16s ", name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static void print_bytes(const char *name, guint64 bytes)
{
    g_autofree char *text = g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);

    print_row(name, "%s", text);
}

static void print_placement(const vlm_model_info *info, vlm_kv_type kv_type, guint32 context,
                            guint64 mib)
{
    g_autofree char *name = g_strdup_printf("with %" G_GUINT64_FORMAT " MiB", mib);
    g_autoptr(GError) error = NULL;
    vlm_placement placement;

    if (!vlm_model_place(info, kv_type, context, mib << 20, &placement, &error)) {
        print_row(name, "too little: %s", error->message);
        return;
    }
    g_autofree char *needed = g_format_size_full(placement.needed_bytes, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *device = g_format_size_full(placement.device_bytes, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *host = g_format_size_full(placement.host_bytes, G_FORMAT_SIZE_IEC_UNITS);
    if (placement.host_bytes == 0)
        print_row(name, "all of it fits, with room for frames of 1280 x 720");
    else
        print_row(name,
                  "%s for what must be there, with frames of 1280 x 720; experts: %s in the host's "
                  "memory, copies of %.0f %% of them (%s) on the device",
                  needed, host,
                  100.0 * (double) placement.device_bytes / (double) placement.host_bytes, device);
}

static void print_table(const vlm_model_info *info, vlm_kv_type kv_type, guint32 context)
{
    const guint64 kv_bytes = vlm_model_context_bytes(info, kv_type, context);
    g_autofree char *kv_name = g_strdup_printf("context of %u", context);
    g_autoptr(GString) others = g_string_new(NULL);

    print_row("model", "%s", info->path);
    print_row("mmproj", "%s", info->mmproj_path ? info->mmproj_path : "none: for text only");
    if (info->name)
        print_row("name", "%s", info->name);
    print_row("architecture", "%s%s%s", info->architecture, info->projector ? ", projector " : "",
              info->projector ? info->projector : "");
    print_row("parameters", "%.1f M, %.1f M used per token", (double) info->n_parameters * 1e-6,
              (double) info->n_active * 1e-6);
    print_row("quantisation", "%s", info->quantisation);
    if (info->ranks_labels)
        print_row("dual encoder", "ranks labels: vectors of %u, text of %u layers, %u heads of %u",
                  info->n_embd, info->n_layer, info->n_head, info->head_dim);
    else
        print_row("decoder", "%u layers of %u, %u heads of %u (%u for keys and values)",
                  info->n_layer, info->n_embd, info->n_head, info->head_dim, info->n_head_kv);
    if (info->n_recurrent)
        print_row("recurrent", "%u of the layers, without keys and values", info->n_recurrent);
    if (info->n_expert)
        print_row("experts", "%u, %u used per token", info->n_expert, info->n_expert_used);
    print_row("vocabulary", "%u tokens", info->n_vocab);
    print_row("trained context", "%u tokens", info->context_length);
    if (info->projector)
        print_row("vision", "%u layers of %u, patches of %u pixels, %u x %u merged",
                  info->vision_layers, info->vision_embd, info->patch_size, info->merge_size,
                  info->merge_size);
    printf("\n");
    print_bytes("files", info->file_bytes);
    print_bytes("weights", info->weight_bytes);
    if (info->expert_bytes > 0)
        print_bytes("  of experts", info->expert_bytes);
    print_bytes("work memory", info->scratch_bytes);
    for (guint type = 0; type < VLM_N_KV_TYPE; type++) {
        g_autofree char *bytes = g_format_size_full(vlm_model_context_bytes(info, type, context),
                                                    G_FORMAT_SIZE_IEC_UNITS);
        if (type != kv_type)
            g_string_append_printf(others, "%s%s: %s", others->len ? ", " : "",
                                   vlm_kv_type_name(type), bytes);
    }
    g_autofree char *used = g_format_size_full(kv_bytes, G_FORMAT_SIZE_IEC_UNITS);
    if (!info->ranks_labels)
        print_row(kv_name, "%s as %s (%s)", used, vlm_kv_type_name(kv_type), others->str);
    if (info->picture_bytes[kv_type] > 0)
        print_bytes("  for pictures", info->picture_bytes[kv_type]);
    if (info->state_bytes > 0)
        print_bytes("  for states", info->state_bytes);
    print_bytes("device memory", info->weight_bytes + info->scratch_bytes + kv_bytes);
}

int tool_info(int argc, char **argv)
{
    static char *mmproj, *kv_name;
    static int context = 8192, device_memory;
    static gboolean json, no_mmproj;
    const GOptionEntry entries[] = {
        { "mmproj", 0, 0, G_OPTION_ARG_FILENAME, &mmproj,
          "Vision GGUF (default: the one that comes with the model)", "FILE" },
        TOOL_NO_MMPROJ_ENTRY(no_mmproj),
        { "context", 0, 0, G_OPTION_ARG_INT, &context,
          "Show the memory for a context of so many tokens (default: 8192)", "N" },
        TOOL_KV_TYPE_ENTRY(kv_name),
        TOOL_DEVICE_MEMORY_ENTRY(device_memory,
                                 "Show what a device with so much memory would hold"),
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON", NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(vlm_model_info) info = NULL;
    g_autofree char *model = NULL;
    g_autoptr(GError) error = NULL;
    vlm_kv_type kv_type;

    if (!tool_parse(&argc, &argv, entries, "[MODEL]",
                    "Shows architecture, sizes and quantisation of a model, and the device memory "
                    "that it needs.\nNo device is opened. MODEL is a text GGUF, a folder with one "
                    "model, or "
                    "hf:ORG/REPO[:QUANT] when\nthat is on this machine. Without it: the default "
                    "model.",
                    "Examples:\n  vlm info Qwen3VL-2B-Instruct-Q8_0.gguf --context 32768\n"
                    "  vlm info --json"))
        return TOOL_USAGE;
    if (argc > 2)
        return tool_usage_error(argv[0], "takes one MODEL, not also '%s'", argv[2]);
    if (!tool_check_range("--context", context, 256, MAX_CONTEXT, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    if (!tool_check_device_memory(device_memory, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    if (!tool_parse_kv_type(kv_name, &kv_type, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    model = argc > 1 ? g_strdup(argv[1]) : vlm_default_model(&error);
    if (!model)
        return tool_failed(argv[0], error);
    info = vlm_model_info_read(model, mmproj, no_mmproj ? VLM_VISION_NONE : VLM_VISION_OPTIONAL,
                               &error);
    if (!info)
        return tool_failed(argv[0], error);
    if (json)
        print_json(info, kv_type, (guint32) context, (guint64) device_memory);
    else
        print_table(info, kv_type, (guint32) context);
    if (!json && device_memory > 0)
        print_placement(info, kv_type, (guint32) context, (guint64) device_memory);
    return TOOL_OK;
}
