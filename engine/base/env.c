// SPDX-License-Identifier: LGPL-2.1-or-later
// base/env.c — reads the environment once.
#define G_LOG_DOMAIN "vlm-env"

#include "base/env.h"

typedef enum env_type {
    ENV_FLAG,
    ENV_NUMBER,
    ENV_STRING,
} env_type;

typedef struct env_row {
    const char *name;
    env_type type;
    const char *def;  // NULL = none
    const char *help;
    gboolean shared;
} env_row;

typedef struct env_value {
    char *string;  // NULL = none
    uint64_t number;
} env_value;

static const env_row rows[VLM_N_ENV] = {
#define ENV_ROW(id, type, def, help) { "VLM_" #id, ENV_##type, def, help, FALSE },
    VLM_ENV_TABLE(ENV_ROW)
#undef ENV_ROW
#define ENV_ROW(id, def, help) { #id, ENV_STRING, def, help, TRUE },
        VLM_ENV_SHARED_TABLE(ENV_ROW)
#undef ENV_ROW
};

static const char *const type_names[] = { "0 or 1", "number", "text" };

static gboolean parse_number(const env_row *row, const char *text, uint64_t *number)
{
    gboolean hex = g_str_has_prefix(text, "0x");
    guint64 max = row->type == ENV_FLAG ? 1 : G_MAXUINT64;

    return g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, max, number, NULL);
}

static env_value read_row(const env_row *row)
{
    const char *text = g_getenv(row->name);
    env_value value = { 0 };

    if (text && !*text && (row->type != ENV_STRING || row->shared))
        text = NULL;
    if (row->type == ENV_STRING) {
        value.string = g_strdup(text ? text : row->def);
        return value;
    }
    if (text && !parse_number(row, text, &value.number)) {
        g_warning("%s=%s is not %s, using %s", row->name, text,
                  row->type == ENV_FLAG ? "0 or 1" : "a number", row->def);
        text = NULL;
    }
    if (!text)
        parse_number(row, row->def, &value.number);
    return value;
}

static const env_value *read_all(void)
{
    static env_value values[VLM_N_ENV];
    static gsize done;

    if (g_once_init_enter(&done)) {
        for (guint i = 0; i < VLM_N_ENV; i++)
            values[i] = read_row(&rows[i]);
        if (values[VLM_ENV_HELP].number) {
            g_autofree char *text = vlm_env_describe();

            g_print("%s", text);
        }
        g_once_init_leave(&done, 1);
    }
    return values;
}

const char *vlm_env_string(vlm_env_id id)
{
    g_return_val_if_fail(id < VLM_N_ENV && rows[id].type == ENV_STRING, NULL);
    return read_all()[id].string;
}

gboolean vlm_env_flag(vlm_env_id id)
{
    g_return_val_if_fail(id < VLM_N_ENV && rows[id].type == ENV_FLAG, FALSE);
    return read_all()[id].number != 0;
}

uint64_t vlm_env_number(vlm_env_id id)
{
    g_return_val_if_fail(id < VLM_N_ENV && rows[id].type == ENV_NUMBER, 0);
    return read_all()[id].number;
}

char *vlm_env_describe(void)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < VLM_N_ENV; i++)
        g_string_append_printf(text, "%-16s %-7s %-11s %s\n", rows[i].name,
                               type_names[rows[i].type], rows[i].def ? rows[i].def : "-",
                               rows[i].help);
    return g_string_free(text, FALSE);
}
