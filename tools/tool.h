// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/tool.h — what the commands of `vlm` have in common.
#ifndef VLM_TOOLS_TOOL_H
#define VLM_TOOLS_TOOL_H

#include <glib.h>

// Exit codes of `vlm`; --help and the README repeat them.
enum {
    TOOL_OK = 0,
    TOOL_FAILED = 1,         // said on stderr what happened
    TOOL_USAGE = 2,          // options that make no sense
    TOOL_INTERRUPTED = 130,  // Ctrl-C or SIGTERM; what was made so far is kept
};

// Each command gets argv from its own name on and returns an exit code.
int tool_caption(int argc, char **argv);
int tool_run(int argc, char **argv);
int tool_rank(int argc, char **argv);
int tool_info(int argc, char **argv);
int tool_models(int argc, char **argv);
int tool_bench(int argc, char **argv);
int tool_perplexity(int argc, char **argv);
int tool_devices(int argc, char **argv);
int tool_tune(int argc, char **argv);

#endif
