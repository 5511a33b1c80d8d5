// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/rank.c — `vlm rank`: which labels of a list fit images best.
#include <stdio.h>
#include <string.h>

#include "json_out.h"
#include "media.h"
#include "options.h"
#include "tool.h"

static tool_model_options model;
static char *labels_file, *list;
static int top = 5;
static gboolean json;

static const GOptionEntry entries[] = {
    TOOL_MODEL_ENTRIES(model),
    { "labels", 'l', 0, G_OPTION_ARG_FILENAME, &labels_file,
      "The labels, one a line ('-' = standard input)", "FILE" },
    { "prompt", 'p', 0, G_OPTION_ARG_STRING, &list,
      "The labels, separated by commas; or the template for those of --labels", "LIST" },
    { "top", 'n', 0, G_OPTION_ARG_INT, &top, "Show the N best labels (default: 5, 0 = all)", "N" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print a line of JSON for each image", NULL },
    TOOL_ENGINE_ENTRIES(model),
    G_OPTION_ENTRY_NULL,
};

static const char examples[] =
    "Examples:\n"
    "  vlm rank -m clip.gguf cat.jpg -p 'a cat, a dog, a car'\n"
    "  vlm rank -m clip.gguf *.jpg --labels words.txt --top 3 --json\n"
    "  vlm rank -m clip.gguf cat.jpg --labels words.txt -p 'a photo of a {}'\n\n"
    "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong options.";

// The prompt of the engine: labels by lines, after the template if there is one.
static char *read_prompt(GError **error)
{
    g_autofree char *text = NULL;
    gsize len = 0;

    if (!labels_file)
        return g_strdup(list);
    if (!g_file_get_contents(strcmp(labels_file, "-") == 0 ? "/dev/stdin" : labels_file, &text,
                             &len, error))
        return NULL;
    if (strlen(text) != len || !g_utf8_validate(text, (gssize) len, NULL)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s: is not UTF-8 text", labels_file);
        return NULL;
    }
    return list ? g_strdup_printf("%s:%s\n", list, text) : g_strconcat(text, "\n", NULL);
}

static gboolean add_image(const media_picture *picture, gpointer user_data, GError **error)
{
    return vlm_session_add_image(user_data, &picture->image, error);
}

static void print_text(const char *image, const vlm_generation *g, guint n)
{
    printf("%s\n", image);
    for (guint i = 0; i < n; i++)
        printf("  %5.1f %%  %s\n", 100 * g->labels[i].probability, g->labels[i].label);
}

static void print_json(const char *image, const vlm_generation *g, guint n)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_out_string(builder, "image", image);
    json_builder_set_member_name(builder, "labels");
    json_builder_begin_array(builder);
    for (guint i = 0; i < n; i++) {
        json_builder_begin_object(builder);
        json_out_string(builder, "label", g->labels[i].label);
        json_out_double(builder, "probability", g->labels[i].probability);
        json_out_double(builder, "logit", g->labels[i].logit);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    json_out_print(builder);
}

// The session remembers the labels from one image to the next.
static gboolean rank_image(vlm_session *session, const char *image, const char *prompt,
                           GError **error)
{
    g_autoptr(vlm_generation) g = NULL;

    if (!vlm_session_reset(session, error) || !media_read_image(image, add_image, session, error))
        return FALSE;
    g = vlm_session_generate(session, &(vlm_generate_params){ .prompt = prompt }, error);
    if (!g)
        return FALSE;
    (json ? print_json : print_text)(image, g, top ? MIN((guint) top, g->n_labels) : g->n_labels);
    return TRUE;
}

int tool_rank(int argc, char **argv)
{
    g_autofree char *prompt = NULL;
    g_autoptr(vlm_engine) engine = NULL;
    g_autoptr(vlm_session) session = NULL;
    g_autoptr(GError) error = NULL;

    if (!tool_parse(&argc, &argv, entries, "IMAGE...",
                    "Ranks the labels of a list by how well they fit each image; needs a dual "
                    "encoder (CLIP, SigLIP).",
                    examples))
        return TOOL_USAGE;
    if (argc < 2)
        return tool_usage_error(argv[0], "needs an image");
    if (!labels_file && !list)
        return tool_usage_error(argv[0], "needs --labels or a --prompt");
    if (labels_file && list && !strstr(list, "{}"))
        return tool_usage_error(argv[0], "with --labels, --prompt is a template and needs a {}");
    if (!tool_check_range("--top", top, 0, VLM_MAX_LABELS, &error)
        || !tool_check_device_memory(model.device_memory, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    prompt = read_prompt(&error);
    engine = prompt ? tool_open_engine(&model, &error) : NULL;
    if (engine && !vlm_engine_get_info(engine)->ranks_labels) {
        g_set_error(&error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s does not rank labels; name a CLIP or SigLIP model with --model",
                    vlm_engine_get_info(engine)->path);
        return tool_failed(argv[0], error);
    }
    session = engine ? vlm_session_create(engine, &(vlm_session_params){ 0 }, &error) : NULL;
    for (int i = 1; session && i < argc; i++) {
        if (!rank_image(session, argv[i], prompt, &error))
            return tool_failed(argv[0], error);
    }
    return session ? TOOL_OK : tool_failed(argv[0], error);
}
