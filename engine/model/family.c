// SPDX-License-Identifier: LGPL-2.1-or-later
// model/family.c — which families there are.
#define G_LOG_DOMAIN "vlm-model"
#include "model/family.h"

#include <string.h>

#include "base/error.h"

static const vlm_family *const families[] = {
    &vlm_family_qwen2vl, &vlm_family_qwen3vl, &vlm_family_qwen35, &vlm_family_smolvlm,
    &vlm_family_llava,   &vlm_family_mllama,  &vlm_family_dual,
};

// Those that are not there yet: families may share an architecture.
static void append_names(GString *out, const char *const *names)
{
    for (; *names; names++) {
        g_auto(GStrv) have = g_strsplit(out->str, ", ", -1);
        if (!g_strv_contains((const char *const *) have, *names))
            g_string_append_printf(out, "%s%s", out->len ? ", " : "", *names);
    }
}

static gboolean is_of(const vlm_family *family, const vlm_gguf *text, const char *arch)
{
    return g_strv_contains(family->archs, arch)
           && (!family->ranker || family->ranker->is_one(text));
}

// "a, b and c" of "a, b, c".
static char *and_list(const GString *names)
{
    const char *last = strrchr(names->str, ',');

    return last ? g_strdup_printf("%.*s and%s", (int) (last - names->str), names->str, last + 1)
                : g_strdup(names->str);
}

// The row of a list that has this name; what it doesn't have goes to `names`.
static const vlm_text_arch *find_arch(const vlm_text_arch *arch, const char *name, GString *names)
{
    for (; arch && arch->name; arch++) {
        if (g_str_equal(arch->name, name))
            return arch;
        append_names(names, (const char *const[]){ arch->name, NULL });
    }
    return NULL;
}

const vlm_text_arch *vlm_family_text_arch(const char *name, char **known)
{
    g_autoptr(GString) names = g_string_new(NULL);
    const vlm_text_arch *arch = NULL;

    for (size_t i = 0; !arch && i < G_N_ELEMENTS(families); i++)
        arch = find_arch(families[i]->text_archs, name, names);
    for (size_t i = 0; !arch && vlm_families_text[i]; i++)
        arch = find_arch(vlm_families_text[i]->text_archs, name, names);
    if (!arch)
        *known = and_list(names);
    return arch;
}

const vlm_vision_tower *vlm_family_tower(const char *projector, char **known)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        const vlm_vision_tower *const *tower = families[i]->towers;
        for (; tower && *tower; tower++) {
            if (g_str_equal((*tower)->defaults.projector, projector))
                return *tower;
            append_names(names, (const char *const[]){ (*tower)->defaults.projector, NULL });
        }
    }
    *known = and_list(names);
    return NULL;
}

gboolean vlm_family_knows(vlm_gguf *text, GError **error)
{
    g_autoptr(GString) archs = g_string_new(NULL);
    const char *arch = NULL;

    if (!vlm_gguf_get_str(text, "general.architecture", &arch, error))
        return FALSE;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        if (is_of(families[i], text, arch))
            return TRUE;
        append_names(archs, families[i]->archs);
    }
    for (size_t i = 0; vlm_families_text[i]; i++) {
        if (g_strv_contains(vlm_families_text[i]->archs, arch))
            return TRUE;
        append_names(archs, vlm_families_text[i]->archs);
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                "%s: architecture \"%s\" is not one that this program knows (%s)",
                vlm_gguf_path(text), arch, archs->str);
    return FALSE;
}

// The family of a text model by itself.
static const vlm_family *find_text(vlm_gguf *text, const char *arch, GError **error)
{
    const char *chat_template = "";

    if (!vlm_gguf_get_str_or(text, "tokenizer.chat_template", "", &chat_template, error))
        return NULL;
    for (size_t i = 0; vlm_families_text[i]; i++) {
        const vlm_family *family = vlm_families_text[i];
        if (g_strv_contains(family->archs, arch)
            && (!family->template_mark || strstr(chat_template, family->template_mark)))
            return family;
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                "%s: a model of architecture %s needs its vision file (mmproj); none was found "
                "beside it, say where it is with mmproj",
                vlm_gguf_path(text), arch);
    return NULL;
}

gboolean vlm_family_is_text(vlm_gguf *text)
{
    const char *arch = NULL;
    const vlm_family *family = vlm_gguf_get_str(text, "general.architecture", &arch, NULL)
                                   ? find_text(text, arch, NULL)
                                   : NULL;

    return family && !family->is_part;
}

const vlm_family *vlm_family_find(vlm_gguf *text, vlm_gguf *vision, GError **error)
{
    g_autoptr(GString) projectors = g_string_new(NULL);
    const char *arch = NULL, *projector = NULL;

    if (!vlm_family_knows(text, error)
        || !vlm_gguf_get_str(text, "general.architecture", &arch, error))
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++)
        if (families[i]->ranker && is_of(families[i], text, arch))
            return families[i];
    if (!vision)
        return find_text(text, arch, error);
    if (!vlm_vision_projector(vision, &projector, error))
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        if (!g_strv_contains(families[i]->archs, arch) || !families[i]->projectors)
            continue;
        if (g_strv_contains(families[i]->projectors, projector))
            return families[i];
        append_names(projectors, families[i]->projectors);
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                "%s: a vision part of kind \"%.40s\" does not go with architecture %s (%s)",
                vlm_gguf_path(vision), projector, arch,
                projectors->len > 0 ? projectors->str : "which takes text only");
    return NULL;
}
