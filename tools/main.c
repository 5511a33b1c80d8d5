// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/main.c — the `vlm` program: finds the command and runs it.
#include <locale.h>
#include <string.h>

#include "tool.h"

typedef struct tool_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} tool_command;

static const tool_command commands[] = {
    { "caption", tool_caption, "Caption a video file, a stream or a camera" },
    { "run", tool_run, "Answer a prompt about images and videos" },
    { "rank", tool_rank, "Rank labels by how well they fit images (CLIP, SigLIP)" },
    { "info", tool_info, "Show what a model file holds and how much memory it needs" },
    { "models", tool_models, "List the models on this machine, fetch others" },
    { "perplexity", tool_perplexity, "Measure how well a model predicts a text" },
    { "bench", tool_bench, "Measure prefill, decode and vision encoder" },
    { "tune", tool_tune, "Find the kernel sizes that a device is fastest with" },
    { "devices", tool_devices, "List the Vulkan devices" },
};

static void print_help(void)
{
    g_print("vlm %s - captions from video with a vision-language model on Vulkan\n\n"
            "Usage:\n  vlm COMMAND [OPTIONS]\n\nCommands:\n",
            VLM_VERSION);
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        g_print("  %-10s %s\n", commands[i].name, commands[i].help);
    g_print("\n'vlm COMMAND --help' shows the options of a command, with examples.\n"
            "'VLM_HELP=1 vlm devices' shows the environment variables.\n\n"
            "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong options,\n"
            "130 interrupted (what was said so far is kept).\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";

    setlocale(LC_ALL, "");
    // Numbers that programs read have a point, wherever the person lives.
    setlocale(LC_NUMERIC, "C");
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return TOOL_OK;
    }
    if (strcmp(name, "--version") == 0) {
        g_print("vlm %s\n", VLM_VERSION);
        return TOOL_OK;
    }
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    g_printerr("vlm: there is no command '%s'; vlm --help lists them\n", name);
    return TOOL_USAGE;
}
