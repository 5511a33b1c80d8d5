// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/json_out.h — short forms for writing JSON.
#ifndef VLM_TOOLS_JSON_OUT_H
#define VLM_TOOLS_JSON_OUT_H

#include <json-glib/json-glib.h>

// A member of the object being built; string NULL gives null, a double that is no number null.
void json_out_string(JsonBuilder *builder, const char *name, const char *value);
void json_out_int(JsonBuilder *builder, const char *name, guint64 value);
void json_out_double(JsonBuilder *builder, const char *name, double value);
void json_out_double_value(JsonBuilder *builder, double value);

// What was built, in one line without the newline. Returns a new string.
char *json_out_text(JsonBuilder *builder);

// Prints what was built as one line on standard output, and flushes it.
void json_out_print(JsonBuilder *builder);

#endif
