// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/fetch.h — downloads models of a hub into the cache that others use too.
#ifndef VLM_TOOLS_FETCH_H
#define VLM_TOOLS_FETCH_H

#include "options.h"

// Fetches what vlm_hub_choose() takes from the repository `name` ("hf:ORG/REPO[:QUANT]"), with
// progress on stderr; what is there already is not fetched again. Blocks; SIGINT and SIGTERM end it
// and leave what the next call goes on with.
// Errors: ARGS (no such name), NOT_FOUND (says what to do), FORMAT (not what the hub promised),
// CANCELLED.
gboolean fetch_model(const char *name, vlm_vision vision, GError **error);

// Does so when the options ask for a model of a hub that is not on this machine. Errors: as above.
gboolean fetch_if_missing(const tool_model_options *options, GError **error);

#endif
