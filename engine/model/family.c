// SPDX-License-Identifier: LGPL-2.1-or-later
// model/family.c — which families there are.
#define G_LOG_DOMAIN "vlm-model"
#include "model/family.h"

#include "base/error.h"

static const vlm_family *const families[] = { &vlm_family_qwen3vl };

const vlm_family *vlm_family_find(vlm_gguf *text, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);
    const char *arch = NULL;

    if (!vlm_gguf_get_str(text, "general.architecture", &arch, error))
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        if (g_strv_contains(families[i]->archs, arch))
            return families[i];
        for (const char *const *name = families[i]->archs; *name; name++)
            g_string_append_printf(known, "%s%s", known->len ? ", " : "", *name);
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                "%s: architecture \"%s\" is not a vision-language model this program knows (%s)",
                vlm_gguf_path(text), arch, known->str);
    return NULL;
}
