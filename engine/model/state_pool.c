// SPDX-License-Identifier: LGPL-2.1-or-later
// model/state_pool.c — see model/state_pool.h.
#define G_LOG_DOMAIN "vlm-kv"
#include "model/state_pool.h"

struct vlm_state {
    vlm_buffer *buffer;
    guint n_ref;
};

struct vlm_state_pool {
    vlm_device *dev;  // not owned
    uint64_t bytes;
    GPtrArray *states;  // of vlm_state, all
    GPtrArray *free;    // of vlm_state, borrowed from `states`
    gint64 n_reserved;
};

static void state_free(gpointer data)
{
    vlm_state *state = data;

    vlm_buffer_destroy(state->buffer);
    g_free(state);
}

vlm_state_pool *vlm_state_pool_create(vlm_device *dev, uint64_t bytes)
{
    vlm_state_pool *pool = g_new0(vlm_state_pool, 1);

    pool->dev = dev;
    pool->bytes = bytes;
    pool->states = g_ptr_array_new_with_free_func(state_free);
    pool->free = g_ptr_array_new();
    return pool;
}

void vlm_state_pool_destroy(vlm_state_pool *pool)
{
    if (!pool)
        return;
    g_warn_if_fail(pool->free->len == pool->states->len);
    g_ptr_array_unref(pool->free);
    g_ptr_array_unref(pool->states);
    g_free(pool);
}

static gboolean grow(vlm_state_pool *pool, GError **error)
{
    vlm_buffer *buffer = vlm_buffer_create(pool->dev, (size_t) pool->bytes, VLM_MEMORY_KV, error);

    if (!buffer)
        return FALSE;
    vlm_state *state = g_new0(vlm_state, 1);
    state->buffer = buffer;
    g_ptr_array_add(pool->states, state);
    g_ptr_array_add(pool->free, state);
    return TRUE;
}

gboolean vlm_state_pool_reserve(vlm_state_pool *pool, gint64 n, GError **error)
{
    const gint64 want = pool->n_reserved + n;

    g_return_val_if_fail(want >= 0, FALSE);
    while ((gint64) pool->states->len < want)
        if (!grow(pool, error)) {
            g_prefix_error(error, "the state of a session (%.1f MB each) does not fit: ",
                           (double) pool->bytes / 1e6);
            return FALSE;
        }
    pool->n_reserved = want;
    return TRUE;
}

uint64_t vlm_state_pool_bytes(const vlm_state_pool *pool)
{
    return pool->states->len * pool->bytes;
}

guint vlm_state_pool_n_used(const vlm_state_pool *pool)
{
    return pool->states->len - pool->free->len;
}

gboolean vlm_state_own(vlm_state_pool *pool, vlm_cmd *cmd, vlm_state **state, GError **error)
{
    if (*state && (*state)->n_ref == 1)
        return TRUE;
    if (pool->free->len == 0 && !grow(pool, error))
        return FALSE;
    vlm_state *own = g_ptr_array_remove_index_fast(pool->free, pool->free->len - 1);
    own->n_ref = 1;
    if (*state)
        vlm_cmd_copy(cmd, own->buffer, 0, (*state)->buffer, 0, (size_t) pool->bytes);
    else
        vlm_cmd_zero(cmd, own->buffer, 0, (size_t) pool->bytes);
    vlm_cmd_barrier(cmd);
    vlm_state_drop(pool, state);
    *state = own;
    return TRUE;
}

vlm_state *vlm_state_ref(vlm_state *state)
{
    if (state)
        state->n_ref++;
    return state;
}

void vlm_state_drop(vlm_state_pool *pool, vlm_state **state)
{
    if (*state && --(*state)->n_ref == 0)
        g_ptr_array_add(pool->free, *state);
    *state = NULL;
}

uint64_t vlm_state_addr(const vlm_state *state)
{
    return state->buffer->addr;
}
