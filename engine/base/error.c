// SPDX-License-Identifier: LGPL-2.1-or-later
// base/error.c — the error domain.
#include "base/error.h"

// The dashes are no minus signs.
// clang-format off
G_DEFINE_QUARK(vlm-error-quark, vlm_error)
// clang-format on
