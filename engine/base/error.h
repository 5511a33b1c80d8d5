// SPDX-License-Identifier: LGPL-2.1-or-later
// base/error.h — how failures travel inside the engine.
//
// A function that can fail returns gboolean or a pointer and takes GError **error last.
// Everything it made so far is held by g_autoptr, so each failure is a plain return and
// the last statement hands the result over with g_steal_pointer().
#ifndef VLM_BASE_ERROR_H
#define VLM_BASE_ERROR_H

#include "vlm.h"

// Returns FALSE from a function whose documented "must" does not hold.
#define VLM_REQUIRE(cond, error)                                                                   \
    G_STMT_START                                                                                   \
    {                                                                                              \
        if (G_UNLIKELY(!(cond))) {                                                                 \
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS, "%s: must hold: %s", G_STRFUNC, #cond);  \
            return FALSE;                                                                          \
        }                                                                                          \
    }                                                                                              \
    G_STMT_END

#endif
