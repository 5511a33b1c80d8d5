// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/json_out.c — short forms for writing JSON.
#include "json_out.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void json_out_string(JsonBuilder *builder, const char *name, const char *value)
{
    json_builder_set_member_name(builder, name);
    if (value)
        json_builder_add_string_value(builder, value);
    else
        json_builder_add_null_value(builder);
}

void json_out_int(JsonBuilder *builder, const char *name, guint64 value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, (gint64) value);
}

void json_out_double_value(JsonBuilder *builder, double value)
{
    if (isfinite(value))
        json_builder_add_double_value(builder, value);
    else
        json_builder_add_null_value(builder);
}

void json_out_double(JsonBuilder *builder, const char *name, double value)
{
    json_builder_set_member_name(builder, name);
    json_out_double_value(builder, value);
}

// json-glib leaves U+001F as it is (up to 1.8, at least), which makes a string that others refuse.
// The text has one line, so that such bytes can only be in strings.
char *json_out_text(JsonBuilder *builder)
{
    g_autoptr(JsonNode) root = json_builder_get_root(builder);
    g_autofree char *text = json_to_string(root, FALSE);
    GString *out = g_string_sized_new(strlen(text));

    for (const char *p = text; *p; p++) {
        if ((guchar) *p < ' ')
            g_string_append_printf(out, "\\u%04x", (guchar) *p);
        else
            g_string_append_c(out, *p);
    }
    return g_string_free(out, FALSE);
}

void json_out_print(JsonBuilder *builder)
{
    g_autofree char *text = json_out_text(builder);

    // Not g_print(), which would turn UTF-8 into question marks in the C locale.
    printf("%s\n", text);
    fflush(stdout);
}
