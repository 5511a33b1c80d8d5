// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/options.c — option parsing that the commands share.
#include "options.h"

#include <string.h>

#include "tool.h"

gboolean tool_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
                    const char *summary, const char *examples)
{
    g_autofree char *program = g_strdup_printf("vlm %s", (*argv)[0]);
    g_autoptr(GOptionContext) context = g_option_context_new(usage);
    g_autoptr(GError) error = NULL;
    char *command = (*argv)[0];
    gboolean ok;

    g_set_prgname(program);
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_summary(context, summary);
    g_option_context_set_description(context, examples);
    ok = g_option_context_parse(context, argc, argv, &error);
    if (!ok)
        tool_usage_error(command, "%s; vlm %s --help lists the options", error->message, command);
    // A "--" that ended the options stays in argv.
    if (ok && *argc > 1 && strcmp((*argv)[1], "--") == 0) {
        memmove(*argv + 1, *argv + 2, (gsize) (*argc - 1) * sizeof **argv);
        (*argc)--;
    }
    return ok;
}

int tool_usage_error(const char *command, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_printerr("vlm %s: %s\n", command, text);
    return TOOL_USAGE;
}

int tool_failed(const char *command, const GError *error)
{
    g_printerr("vlm %s: %s\n", command, error->message);
    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_NO_DEVICE))
        g_printerr(
            "Is a Vulkan driver installed? Debian's package mesa-vulkan-drivers has those of "
            "most GPUs and\none that needs no GPU. 'vlm devices' shows what is there.\n");
    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_DEVICE_MEMORY))
        g_printerr(
            "A smaller --context-size or a smaller model needs less device memory; 'vlm info' "
            "shows how much.\n");
    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_MEMORY_LIMIT))
        g_printerr(
            "Raise --device-memory (0 = no limit, unless VLM_DEVICE_MEMORY is set); 'vlm info "
            "--device-memory MIB'\nshows what would fit.\n");
    if (g_error_matches(error, VLM_ERROR, VLM_ERROR_CANCELLED))
        return TOOL_INTERRUPTED;
    return TOOL_FAILED;
}

GArray *tool_parse_list(const char *option, const char *text, guint32 min, guint32 max,
                        GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(guint32));

    for (guint i = 0; i == 0 || parts[i]; i++) {
        const char *part = parts[i] ? g_strstrip(parts[i]) : "";
        guint64 number;
        guint32 value;

        if (!g_ascii_string_to_unsigned(part, 10, min, max, &number, NULL)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "%s %s: wants numbers from %u to %u, separated by commas", option, text,
                        min, max);
            return NULL;
        }
        value = (guint32) number;
        g_array_append_val(list, value);
    }
    return g_steal_pointer(&list);
}

gboolean tool_parse_size(const char *option, const char *text, guint32 *width, guint32 *height,
                         GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, "x", 2);
    guint64 w, h;

    if (g_strv_length(parts) != 2
        || !g_ascii_string_to_unsigned(parts[0], 10, 1, VLM_MAX_SIDE, &w, NULL)
        || !g_ascii_string_to_unsigned(parts[1], 10, 1, VLM_MAX_SIDE, &h, NULL)) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "%s %s: wants WIDTHxHEIGHT in pixels, each 1 to %u", option, text,
                    VLM_MAX_SIDE);
        return FALSE;
    }
    *width = (guint32) w;
    *height = (guint32) h;
    return TRUE;
}

gboolean tool_check_range(const char *option, double value, double min, double max, GError **error)
{
    if (value >= min && value <= max)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s %g: wants a number from %g to %g", option,
                value, min, max);
    return FALSE;
}

gboolean tool_check_device_memory(int mib, GError **error)
{
    return tool_check_range("--device-memory", mib, 0, G_MAXINT, error);
}
