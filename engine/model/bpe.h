// SPDX-License-Identifier: LGPL-2.1-or-later
// model/bpe.h — the merge rules of a byte-pair encoding.
//
// Thread-safety: building is single-threaded; after that a vlm_bpe is immutable.
#ifndef VLM_MODEL_BPE_H
#define VLM_MODEL_BPE_H

#include <glib.h>
#include <stdint.h>

typedef struct vlm_bpe vlm_bpe;

// Room for n_merges rules; NULL when there is no memory for them.
vlm_bpe *vlm_bpe_new(guint n_merges);
void vlm_bpe_free(vlm_bpe *bpe);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_bpe, vlm_bpe_free)

// Adds the rule "left right -> merged"; the rank of a rule is its turn. A pair that has a rule
// already keeps it. At most n_merges calls.
void vlm_bpe_add(vlm_bpe *bpe, uint32_t left, uint32_t right, uint32_t merged);

// Merges the n symbols of one piece as far as the rules go, lowest rank first, leftmost first
// among equals, and appends the result to `out` (of uint32_t). O(n log n). FALSE: no memory.
gboolean vlm_bpe_merge(const vlm_bpe *bpe, const uint32_t *symbols, guint n, GArray *out);

#endif
