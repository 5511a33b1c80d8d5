// SPDX-License-Identifier: LGPL-2.1-or-later
// model/family.c — which families there are.
#define G_LOG_DOMAIN "vlm-model"
#include "model/family.h"

#include "base/error.h"
#include "model/mmproj_hparams.h"

static const vlm_family *const families[] = { &vlm_family_qwen2vl, &vlm_family_qwen3vl,
                                              &vlm_family_qwen35,  &vlm_family_smolvlm,
                                              &vlm_family_llava,   &vlm_family_mllama };

// Those that are not there yet: families may share an architecture.
static void append_names(GString *out, const char *const *names)
{
    for (; *names; names++) {
        g_auto(GStrv) have = g_strsplit(out->str, ", ", -1);
        if (!g_strv_contains((const char *const *) have, *names))
            g_string_append_printf(out, "%s%s", out->len ? ", " : "", *names);
    }
}

const vlm_family *vlm_family_find(vlm_gguf *text, vlm_gguf *vision, GError **error)
{
    g_autoptr(GString) archs = g_string_new(NULL);
    g_autoptr(GString) projectors = g_string_new(NULL);
    const char *arch = NULL, *projector = NULL;

    if (!vlm_gguf_get_str(text, "general.architecture", &arch, error)
        || (vision && !vlm_vision_projector(vision, &projector, error)))
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        append_names(archs, families[i]->archs);
        if (!g_strv_contains(families[i]->archs, arch))
            continue;
        if (!vision || g_strv_contains(families[i]->projectors, projector))
            return families[i];
        append_names(projectors, families[i]->projectors);
    }
    if (projectors->len > 0)
        g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s: a vision part of kind \"%.40s\" does not go with architecture %s (%s)",
                    vlm_gguf_path(vision), projector, arch, projectors->str);
    else
        g_set_error(
            error, VLM_ERROR, VLM_ERROR_FORMAT,
            "%s: architecture \"%s\" is not a vision-language model this program knows (%s)",
            vlm_gguf_path(text), arch, archs->str);
    return NULL;
}
