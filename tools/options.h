// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/options.h — option parsing that the commands share.
#ifndef VLM_TOOLS_OPTIONS_H
#define VLM_TOOLS_OPTIONS_H

#include "vlm.h"

// Which model on which device. Strings are owned by the struct.
typedef struct tool_model_options {
    char *model, *mmproj, *device;
    vlm_vision vision;  // the command's, before the options are parsed
    gboolean no_mmproj;
    int device_memory;     // MiB, the limit; 0 = none asked for
    char *kv_type;         // NULL = auto
    guint32 context_size;  // for which room is kept on the device, the command's; 0 = default
    gboolean validate;
} tool_model_options;

#define TOOL_DEVICE_MEMORY_ENTRY(mib, text)                                                        \
    {                                                                                              \
        "device-memory", 0, 0, G_OPTION_ARG_INT, &(mib), text, "MIB"                               \
    }

// GOptionEntry rows for the static struct `o`; check with tool_check_device_memory().
#define TOOL_MODEL_ENTRIES(o)                                                                      \
    { "model",                                                                                     \
      'm',                                                                                         \
      0,                                                                                           \
      G_OPTION_ARG_FILENAME,                                                                       \
      &(o).model,                                                                                  \
      "Text GGUF, a folder with one model, or hf:ORG/REPO[:QUANT] (default: $VLM_MODEL, else "     \
      "the model that comes with gst-vlm)",                                                        \
      "MODEL" },                                                                                   \
        { "mmproj",    0,                                                                          \
          0,           G_OPTION_ARG_FILENAME,                                                      \
          &(o).mmproj, "Vision GGUF (default: the one that comes with the model)",                 \
          "FILE" },                                                                                \
        { "device",    0,                                                                          \
          0,           G_OPTION_ARG_STRING,                                                        \
          &(o).device, "Vulkan device: its number or a part of its name (see 'vlm devices')",      \
          "DEVICE" },                                                                              \
        TOOL_DEVICE_MEMORY_ENTRY(                                                                  \
            (o).device_memory,                                                                     \
            "Device memory to use at most; experts of a sparse model that don't fit stay in the "  \
            "host's (default: $VLM_DEVICE_MEMORY, else what is free)")

// For commands that can do without a vision file.
#define TOOL_NO_MMPROJ_ENTRY(o)                                                                    \
    {                                                                                              \
        "no-mmproj", 0, 0, G_OPTION_ARG_NONE, &(o),                                                \
            "Text only: don't look for a vision GGUF (models of text have none anyway)", NULL      \
    }

#define TOOL_KV_TYPE_ENTRY(name)                                                                   \
    {                                                                                              \
        "kv-type", 0, 0, G_OPTION_ARG_STRING, &(name),                                             \
            "How the context is kept: q8 takes half the memory of f16, q4 a good quarter "         \
            "(default: auto, which is f16)",                                                       \
            "auto|f16|f32|q8|q4"                                                                   \
    }

#define TOOL_ENGINE_ENTRIES(o)                                                                     \
    TOOL_KV_TYPE_ENTRY((o).kv_type),                                                               \
    {                                                                                              \
        "validate", 0, 0, G_OPTION_ARG_NONE, &(o).validate,                                        \
            "Load the Khronos validation layer when it is installed", NULL                         \
    }

// Parses options, which are taken out of argc and argv; argv[1] on are then the other arguments.
// `usage` follows the command's name in the first line of --help, `examples` stands at its end.
// Prints what is wrong and returns FALSE; after --help the program ends.
gboolean tool_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
                    const char *summary, const char *examples);

// Prints "vlm COMMAND: ..." on stderr and returns TOOL_USAGE.
int tool_usage_error(const char *command, const char *format, ...) G_GNUC_PRINTF(2, 3);

// Prints "vlm COMMAND: message", with a hint what to do where there is one, and returns
// TOOL_FAILED, or TOOL_INTERRUPTED for what was interrupted.
int tool_failed(const char *command, const GError *error);

// Numbers from min to max, separated by commas. Returns an array of guint32, free with
// g_array_unref(). Errors: ARGS.
GArray *tool_parse_list(const char *option, const char *text, guint32 min, guint32 max,
                        GError **error);

// "1280x720". Errors: ARGS.
gboolean tool_parse_size(const char *option, const char *text, guint32 *width, guint32 *height,
                         GError **error);

// Checks min <= value <= max. Errors: ARGS.
gboolean tool_check_range(const char *option, double value, double min, double max, GError **error);

// Checks the value of --device-memory. Errors: ARGS.
gboolean tool_check_device_memory(int mib, GError **error);

// The type called `name`, f16 for "auto" and NULL. Errors: ARGS.
gboolean tool_parse_kv_type(const char *name, vlm_kv_type *type, GError **error);

// Opens the engine that the options ask for, with a progress line when stderr is a terminal. A
// model of a hub that is not on this machine is fetched first.
// Errors: ARGS (kv type), those of fetch_model() and vlm_engine_open().
vlm_engine *tool_open_engine(const tool_model_options *options, GError **error);

#endif
