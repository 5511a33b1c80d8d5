// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/open_engine.c — opens the model that the options ask for.
#include <string.h>
#include <unistd.h>

#include "fetch.h"

static gboolean show_loading(double fraction, gpointer user_data)
{
    (void) user_data;
    g_printerr("\rloading the model: %3.0f %%\033[K", fraction * 100.0);
    return TRUE;
}

gboolean tool_parse_kv_type(const char *name, vlm_kv_type *type, GError **error)
{
    *type = VLM_KV_F16;
    if (!name || strcmp(name, "auto") == 0)
        return TRUE;
    for (guint i = 0; i < VLM_N_KV_TYPE; i++) {
        if (strcmp(name, vlm_kv_type_name(i)) == 0) {
            *type = i;
            return TRUE;
        }
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "--kv-type %s: wants auto, f16, f32, q8 or q4",
                name);
    return FALSE;
}

vlm_engine *tool_open_engine(const tool_model_options *options, GError **error)
{
    vlm_engine_params params = {
        .model = options->model,
        .mmproj = options->mmproj,
        .vision = options->no_mmproj ? VLM_VISION_NONE : options->vision,
        .device = options->device,
        .device_memory = (guint64) options->device_memory << 20,
        .context_size = options->context_size,
        .validate = options->validate,
    };
    vlm_engine *engine;
    gboolean terminal = isatty(STDERR_FILENO);

    if (!tool_parse_kv_type(options->kv_type, &params.kv_type, error))
        return NULL;
    if (!fetch_if_missing(options, error))
        return NULL;
    if (terminal)
        params.on_progress = show_loading;
    engine = vlm_engine_open(&params, error);
    if (terminal)
        g_printerr("\r\033[K");
    return engine;
}
