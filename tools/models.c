// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/models.c — `vlm models`: the models on this machine, and fetching others.
#include <stdio.h>
#include <string.h>

#include "fetch.h"
#include "json_out.h"
#include "options.h"
#include "tool.h"

// Whatever a file calls itself cannot steer a terminal.
static char *printable(const char *text)
{
    char *copy = g_utf8_make_valid(text, -1);

    for (char *p = copy; *p; p++) {
        if (g_ascii_iscntrl(*p))
            *p = '?';
    }
    return copy;
}

static void print_json(const GPtrArray *entries)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_array(builder);
    for (guint i = 0; i < entries->len; i++) {
        const vlm_model_entry *entry = g_ptr_array_index(entries, i);

        json_builder_begin_object(builder);
        json_out_string(builder, "name", entry->name);
        json_out_string(builder, "place", entry->place);
        json_out_string(builder, "path", entry->path);
        json_out_string(builder, "mmproj", entry->mmproj_path);
        json_out_string(builder, "architecture", entry->architecture);
        json_out_string(builder, "quantisation", entry->quantisation);
        json_out_int(builder, "file_bytes", entry->file_bytes);
        json_builder_set_member_name(builder, "supported");
        json_builder_add_boolean_value(builder, entry->supported);
        json_builder_set_member_name(builder, "text_only");
        json_builder_add_boolean_value(builder, entry->text_only);
        json_out_string(builder, "problem", entry->problem);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_out_print(builder);
}

static void print_table(const GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        const vlm_model_entry *entry = g_ptr_array_index(entries, i);
        g_autofree char *name = printable(entry->name);
        g_autofree char *size = g_format_size(entry->file_bytes);

        printf("%s\n    %s", name, entry->place);
        if (entry->architecture) {
            g_autofree char *arch = printable(entry->architecture);

            printf(", %s, %s, %s", arch, entry->quantisation, size);
        }
        if (entry->mmproj_path)
            printf(", with mmproj");
        printf("\n");
        if (entry->problem) {
            g_autofree char *problem = printable(entry->problem);

            printf("    %s: %s\n", entry->text_only ? "only for text" : "can't be used", problem);
        }
    }
    if (entries->len == 0)
        printf("no models; 'vlm models --help' says where they are looked for\n");
}

static int list(char **argv, gboolean json)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) entries = vlm_model_list((const char *const *) argv + 1, &error);

    if (!entries)
        return tool_failed(argv[0], error);
    if (json)
        print_json(entries);
    else
        print_table(entries);
    return TOOL_OK;
}

// `vlm models fetch NAME...`, after the options.
static int fetch(int argc, char **argv, vlm_vision vision)
{
    if (argc < 3)
        return tool_usage_error(argv[0], "fetch what? vlm models fetch hf:ORG/REPO:QUANT");
    for (int i = 2; i < argc; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *path = NULL, *mmproj = NULL;

        if (!fetch_model(argv[i], vision, &error)
            || !vlm_model_find(argv[i], NULL, vision, &path, &mmproj, &error))
            return tool_failed(argv[0], error);
        printf("%s\n", path);
        if (mmproj)
            printf("%s\n", mmproj);
        fflush(stdout);
    }
    return TOOL_OK;
}

int tool_models(int argc, char **argv)
{
    static gboolean json, no_mmproj;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON", NULL },
        { "no-mmproj", 0, 0, G_OPTION_ARG_NONE, &no_mmproj,
          "Fetch models of text, which have no vision GGUF", NULL },
        G_OPTION_ENTRY_NULL,
    };

    if (!tool_parse(&argc, &argv, entries, "[FOLDER...] | fetch hf:ORG/REPO[:QUANT]...",
                    "Lists the models on this machine: the default one, those in the caches of "
                    "Hugging Face\n($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub) and of "
                    "llama.cpp ($LLAMA_CACHE,\n~/.cache/llama.cpp), and those in each FOLDER. The "
                    "first line of each is what --model takes.",
                    "'fetch' downloads models, or the rest of them, from the Hugging Face hub into "
                    "its cache and "
                    "prints the\npaths of text and vision GGUF. A folder called fetch is "
                    "./fetch.\n\n"
                    "Examples:\n  vlm models\n  vlm models ~/models --json\n"
                    "  vlm models fetch hf:Qwen/Qwen3-VL-2B-Instruct-GGUF:Q8_0"))
        return TOOL_USAGE;
    argv[argc] = NULL;
    if (argc > 1 && strcmp(argv[1], "fetch") == 0)
        return fetch(argc, argv, no_mmproj ? VLM_VISION_NONE : VLM_VISION_REQUIRED);
    return list(argv, json);
}
