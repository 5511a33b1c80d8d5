// SPDX-License-Identifier: LGPL-2.1-or-later
// model/kv_cache.h — the paged KV cache: pages counted by reference, sequences, forks, eviction.
//
// A pool is cut into pages of VLM_PAGE_TOKENS slots (layout in ops/kv.h). A sequence is a list of
// pages in the order of its tokens. A fork shares the pages of its parent; whoever writes next into
// a shared page that is not full gets a copy of it first (copy-on-write). Paging follows Kwon et
// al. 2023 (PagedAttention).
//
// Models with recurrent layers have a state of fixed size beside the pages of each sequence. It
// goes where the pages go: a fork shares it until one of the two is written to, the prefix keeps
// the state that it ended with. Only letting tokens go leaves it: it can't forget single ones.
//
// Models with layers that look at pictures beside the sequence have a second list of pages, in a
// pool of their own, for the keys and values of the pictures that new tokens look at: the newest
// run of pictures without text between them. It goes where the sequence's pages go, and is let go
// as a whole when the next run begins.
//
// Thread-safety: none; the scheduler's thread owns pool and sequences.
#ifndef VLM_MODEL_KV_CACHE_H
#define VLM_MODEL_KV_CACHE_H

#include "gpu/command.h"
#include "ops/kv.h"

typedef struct vlm_kv_pool vlm_kv_pool;

// `state_bytes`: of the recurrent state of a sequence, a multiple of 4; 0 for models without.
vlm_kv_pool *vlm_kv_pool_create(vlm_device *dev, const vlm_kv_layout *layout, uint64_t state_bytes);
void vlm_kv_pool_destroy(vlm_kv_pool *pool);  // accepts NULL; no sequence may be left
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_kv_pool, vlm_kv_pool_destroy)

// Pages set aside for a session's pictures: two of them.
static inline uint32_t vlm_kv_cross_pages(uint32_t max_rows)
{
    return 2 * ((max_rows + VLM_PAGE_TOKENS - 1) / VLM_PAGE_TOKENS);
}

// Gives the pool a second one for pictures looked at beside the sequence, of at most `max_rows`
// rows each; reservations with states (n_state != 0) then include room for two of them: the one of
// the sequence and the one that a fork still looks at. (A fork that is kept of what a session
// begins with may hold a third: while all three differ the pool has to grow once.) Before the first
// reservation and sequence.
void vlm_kv_pool_add_cross(vlm_kv_pool *pool, const vlm_kv_layout *layout, uint32_t max_rows);

// States that a session needs with one fork at a time: its prefix's, its film's and the fork's.
#define VLM_SESSION_STATES 3

// Sets `n_page` pages and `n_state` recurrent states (nothing for models without) aside for one
// user, growing the pool when all reservations together need it, so that appending within a
// reservation never allocates. Undo with negative numbers; memory stays with the pool.
// Errors: DEVICE_MEMORY.
gboolean vlm_kv_pool_reserve(vlm_kv_pool *pool, gint64 n_page, gint64 n_state, GError **error);

// Device memory that a reservation of `n_page` pages adds to a pool without pages to spare.
uint64_t vlm_kv_pool_growth(uint64_t page_bytes, uint64_t n_page);

uint64_t vlm_kv_pool_bytes(const vlm_kv_pool *pool);  // device memory held
guint vlm_kv_pool_n_used(const vlm_kv_pool *pool);    // pages in use
const vlm_kv_layout *vlm_kv_pool_layout(const vlm_kv_pool *pool);

typedef struct vlm_kv_seq vlm_kv_seq;

vlm_kv_seq *vlm_kv_seq_create(vlm_kv_pool *pool);
void vlm_kv_seq_destroy(vlm_kv_seq *seq);  // accepts NULL; drops its pages
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_kv_seq, vlm_kv_seq_destroy)

// A second sequence with the same tokens. Costs no device work.
vlm_kv_seq *vlm_kv_seq_fork(const vlm_kv_seq *seq);

// Tokens that can be looked at.
uint32_t vlm_kv_seq_n_tokens(const vlm_kv_seq *seq);
// Of these, tokens of the prefix.
uint32_t vlm_kv_seq_n_prefix(const vlm_kv_seq *seq);

// Makes room for `n_tok` more tokens and records the copies of a shared last page and of a shared
// state into `cmd` (barriers follow). Then the next vlm_kv_seq_append() of up to n_tok tokens can't
// fail. Errors: DEVICE_MEMORY.
gboolean vlm_kv_seq_prepare(vlm_kv_seq *seq, vlm_cmd *cmd, uint32_t n_tok, GError **error);

// Takes `n_tok` slots: writes each token's slot address (see vlm_kv_slot()) to `slots` and
// returns the logical slot of the first.
uint32_t vlm_kv_seq_append(vlm_kv_seq *seq, uint32_t n_tok, uint64_t *slots);

// Takes the last `n_tok` tokens back, which nothing was done with: the next ones get their slots. A
// recurrent state keeps what it has seen of them. Must: they were appended since the last fork, and
// nothing was let go since.
void vlm_kv_seq_take_back(vlm_kv_seq *seq, uint32_t n_tok);

// Device address of the recurrent state, which the next tokens change in place; 0 for models
// without. Valid from vlm_kv_seq_prepare() of these tokens until that of the next.
uint64_t vlm_kv_seq_state(const vlm_kv_seq *seq);

// Begins a picture of `n_row` rows that the tokens appended from now on look at, the first of them
// standing for it. It joins those before it when nothing was appended since the token of the last
// one, and when not `alone`; else it takes their place. Writes each row's slot address to `slots`;
// copies are recorded as by vlm_kv_seq_prepare(). Errors: DEVICE_MEMORY.
gboolean vlm_kv_seq_add_cross(vlm_kv_seq *seq, vlm_cmd *cmd, uint32_t n_row, gboolean alone,
                              uint64_t *slots, GError **error);
// The rows that new tokens look at; NULL: none.
const vlm_kv_seq *vlm_kv_seq_cross(const vlm_kv_seq *seq);
// Logical slots taken, from the start of the page list.
uint32_t vlm_kv_seq_n_slots(const vlm_kv_seq *seq);

// The page list as attention wants it; valid until the sequence changes.
const vlm_kv_page *vlm_kv_seq_pages(const vlm_kv_seq *seq, uint32_t *n_page);

// Everything appended so far is kept for good: what follows starts on a page of its own, so that it
// can be let go slot by slot.
void vlm_kv_seq_seal_prefix(vlm_kv_seq *seq);

// Lets go of the `n_tok` oldest tokens after the prefix. Pages that hold none any more are freed.
// Forks keep theirs. Must: no more than there are.
void vlm_kv_seq_evict(vlm_kv_seq *seq, uint32_t n_tok);

// Drops everything after the prefix.
void vlm_kv_seq_truncate_to_prefix(vlm_kv_seq *seq);

#endif
