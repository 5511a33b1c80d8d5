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

vlm_engine *tool_open_engine(const tool_model_options *options, GError **error)
{
    vlm_engine_params params = {
        .model = options->model,
        .mmproj = options->mmproj,
        .device = options->device,
        .validate = options->validate,
    };
    vlm_engine *engine;
    gboolean terminal = isatty(STDERR_FILENO);

    if (options->kv_type && strcmp(options->kv_type, "f32") == 0) {
        params.kv_type = VLM_KV_F32;
    } else if (options->kv_type && strcmp(options->kv_type, "f16") != 0) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "--kv-type %s: wants f16 or f32",
                    options->kv_type);
        return NULL;
    }
    if (!fetch_if_missing(options, error))
        return NULL;
    if (terminal)
        params.on_progress = show_loading;
    engine = vlm_engine_open(&params, error);
    if (terminal)
        g_printerr("\r\033[K");
    return engine;
}
