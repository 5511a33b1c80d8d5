// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/caption.c — `vlm caption`: options, and the file that captions go to.
#include <glib/gstdio.h>
#include <string.h>

#include "caption_run.h"
#include "fetch.h"
#include "media.h"
#include "options.h"
#include "tool.h"

static tool_model_options model;
static char *output, *prompt, *system_prompt, *frame_rate, *interval, *default_input;
static char *examples_path, *context_size, *kv_type, *max_tokens, *temperature, *top_k, *top_p,
    *min_p, *seed;
static gboolean quiet;

static const GOptionEntry entries[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output,
      "Where captions go; its name ends in .vtt, .srt or .jsonl (default: INPUT's name with .vtt, "
      "in this folder)",
      "FILE" },
    TOOL_MODEL_ENTRIES(model),
    { "prompt", 'p', 0, G_OPTION_ARG_STRING, &prompt, "What to ask at each caption", "TEXT" },
    { "system-prompt", 0, 0, G_OPTION_ARG_STRING, &system_prompt, "What the model is told first",
      "TEXT" },
    { "examples", 0, 0, G_OPTION_ARG_FILENAME, &examples_path,
      "Examples with the answers wanted, shown to the model first: a JSON file, as for vlm run",
      "FILE" },
    { "frame-rate", 'r', 0, G_OPTION_ARG_STRING, &frame_rate,
      "Frames per second that the model looks at, as 2, 0.5 or 1/2", "RATE" },
    { "interval", 'i', 0, G_OPTION_ARG_STRING, &interval, "Seconds from caption to caption",
      "SECONDS" },
    { "context-size", 'c', 0, G_OPTION_ARG_STRING, &context_size,
      "Tokens of the film that the model remembers", "N" },
    { "kv-type", 0, 0, G_OPTION_ARG_STRING, &kv_type,
      "How they are kept: q8 takes half the memory of f16, q4 a good quarter (default: auto, which "
      "is f16)",
      "auto|f16|q8|q4" },
    { "max-tokens", 'n', 0, G_OPTION_ARG_STRING, &max_tokens, "Longest caption in tokens", "N" },
    { "temp", 't', 0, G_OPTION_ARG_STRING, &temperature, "Temperature, 0 = greedy", "T" },
    { "top-k", 0, 0, G_OPTION_ARG_STRING, &top_k, "Sample from the K likeliest tokens", "K" },
    { "top-p", 0, 0, G_OPTION_ARG_STRING, &top_p, "Sample from tokens that sum up to P", "P" },
    { "min-p", 0, 0, G_OPTION_ARG_STRING, &min_p, "Leave out tokens below P of the likeliest",
      "P" },
    { "seed", 0, 0, G_OPTION_ARG_STRING, &seed, "Seed of the sampler", "N" },
    { "quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, "Print neither captions nor the progress bar",
      NULL },
    { "default-input", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_FILENAME, &default_input,
      "Input when there is none (used by ./caption)", "FILE" },
    G_OPTION_ENTRY_NULL,
};

static const char examples[] =
    "Captions are printed as they come and written to the output, which is complete after each "
    "caption;\nCtrl-C ends early.\n\n"
    "Examples:\n"
    "  vlm caption film.webm\n"
    "  vlm caption film.mkv -o film.srt --frame-rate 1 --interval 8\n"
    "  vlm caption /dev/video0 --prompt 'What is the person doing?'\n"
    "  vlm caption https://example.org/film.mp4 -m Qwen3VL-2B-Instruct-Q8_0.gguf -o film.jsonl\n\n"
    "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong options, 130 interrupted.";

// The input's name without folder and ending, with .vtt.
static char *default_output(const char *input)
{
    g_autofree char *base = NULL;
    g_autofree char *path = NULL;
    char *end;

    if (media_is_camera(input)) {
        base = g_path_get_basename(input);
        return g_strconcat(base, ".vtt", NULL);
    }
    path = g_strdup(input);
    // What follows ? or # in a URI is no part of the file's name.
    if (strstr(path, "://"))
        path[strcspn(path, "?#")] = '\0';
    base = g_path_get_basename(path);
    end = strrchr(base, '.');
    if (end && end != base)
        *end = '\0';
    if (strpbrk(base, "/:") || !*base)
        return g_strdup("captions.vtt");
    return g_strconcat(base, ".vtt", NULL);
}

// A file that somebody else wrote is replaced only when the person named it.
static gboolean choose_output(const char *input, GError **error)
{
    if (output)
        return TRUE;
    output = default_output(input);
    if (!g_file_test(output, G_FILE_TEST_EXISTS) || subtitle_is_ours(output))
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                "'%s' is there and not made by vlm; choose another name with -o", output);
    return FALSE;
}

// Says early what would otherwise come as an element's error.
static gboolean check_devices(GError **error)
{
    g_autoptr(GPtrArray) devices = vlm_device_list(error);
    g_autoptr(GString) why = g_string_new(NULL);

    if (!devices)
        return FALSE;
    for (guint i = 0; i < devices->len; i++) {
        const vlm_device_entry *entry = g_ptr_array_index(devices, i);

        if (!entry->unusable)
            return TRUE;
        g_string_append_printf(why, "; %s: %s", entry->name, entry->unusable);
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_NO_DEVICE,
                "there is no Vulkan device that can be used%s", why->str);
    return FALSE;
}

// Every option that is a property of the element.
static GPtrArray *settings_new(void)
{
    static char memory[16];
    const caption_setting all[] = {
        { "--model", "model", model.model },
        { "--mmproj", "mmproj", model.mmproj },
        { "--device", "device", model.device },
        { "--device-memory", "device-memory", model.device_memory > 0 ? memory : NULL },
        { "--prompt", "prompt", prompt },
        { "--system-prompt", "system-prompt", system_prompt },
        { "--examples", "examples", examples_path },
        { "--frame-rate", "frame-rate", frame_rate },
        { "--interval", "caption-interval", interval },
        { "--context-size", "context-size", context_size },
        { "--kv-type", "kv-type", kv_type },
        { "--max-tokens", "max-tokens", max_tokens },
        { "--temp", "temperature", temperature },
        { "--top-k", "top-k", top_k },
        { "--top-p", "top-p", top_p },
        { "--min-p", "min-p", min_p },
        { "--seed", "seed", seed },
    };
    GPtrArray *settings = g_ptr_array_new_with_free_func(g_free);

    g_snprintf(memory, sizeof memory, "%d", model.device_memory);
    for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
        if (all[i].value)
            g_ptr_array_add(settings, g_memdup2(&all[i], sizeof all[i]));
    }
    return settings;
}

int tool_caption(int argc, char **argv)
{
    caption_job job = { 0 };
    g_autoptr(GPtrArray) settings = NULL;
    g_autoptr(GError) error = NULL;
    gboolean interrupted = FALSE;

    if (!tool_parse(&argc, &argv, entries, "INPUT",
                    "Captions INPUT: a video file, a URI or a camera (/dev/videoN).", examples))
        return TOOL_USAGE;
    if (argc > 2)
        return tool_usage_error(argv[0], "takes one INPUT, not also '%s'", argv[2]);
    job.input = argc > 1 ? argv[1] : default_input;
    if (!job.input)
        return tool_usage_error(argv[0], "which INPUT? vlm caption --help shows examples");
    if (!tool_check_device_memory(model.device_memory, &error) || !choose_output(job.input, &error)
        || !subtitle_format_of(output, &job.format, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    settings = settings_new();
    job.output = output;
    job.settings = settings;
    job.quiet = quiet;
    if (!media_init(&error) || !check_devices(&error) || !fetch_if_missing(&model, &error)
        || !caption_run(&job, &interrupted, &error)) {
        if (g_error_matches(error, VLM_ERROR, VLM_ERROR_ARGS))
            return tool_usage_error(argv[0], "%s", error->message);
        return tool_failed(argv[0], error);
    }
    return interrupted ? TOOL_INTERRUPTED : TOOL_OK;
}
