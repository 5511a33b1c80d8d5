// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/devices.c — `vlm devices`: the Vulkan devices and whether they can be used.
#include <json-glib/json-glib.h>

#include "json_out.h"
#include "options.h"
#include "tool.h"

static void print_json(const GPtrArray *devices)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_array(builder);
    for (guint i = 0; i < devices->len; i++) {
        const vlm_device_entry *entry = g_ptr_array_index(devices, i);

        json_builder_begin_object(builder);
        json_out_int(builder, "index", i);
        json_out_string(builder, "name", entry->name);
        json_out_string(builder, "type", entry->type);
        json_out_string(builder, "driver", entry->driver);
        json_out_int(builder, "memory_bytes", entry->memory_bytes);
        json_out_string(builder, "unusable", entry->unusable);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_out_print(builder);
}

static void print_table(const GPtrArray *devices)
{
    for (guint i = 0; i < devices->len; i++) {
        const vlm_device_entry *entry = g_ptr_array_index(devices, i);
        g_autofree char *memory = g_format_size_full(entry->memory_bytes, G_FORMAT_SIZE_IEC_UNITS);

        g_print("%u  %s\n   %s, driver %s, %s of memory\n", i, entry->name, entry->type,
                entry->driver, memory);
        if (entry->unusable)
            g_print("   can't be used: %s\n", entry->unusable);
    }
}

int tool_devices(int argc, char **argv)
{
    static gboolean json;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON", NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GPtrArray) devices = NULL;
    g_autoptr(GError) error = NULL;

    if (!tool_parse(&argc, &argv, entries, NULL, "Lists the Vulkan devices of this machine.",
                    "The number in front, or any part of the name, is what --device takes.\n\n"
                    "Example:\n  vlm devices\n  vlm caption film.webm --device llvmpipe"))
        return TOOL_USAGE;
    if (argc > 1)
        return tool_usage_error(argv[0], "takes no argument '%s'", argv[1]);
    devices = vlm_device_list(&error);
    if (!devices)
        return tool_failed(argv[0], error);
    if (json)
        print_json(devices);
    else
        print_table(devices);
    return TOOL_OK;
}
