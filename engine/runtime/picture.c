// SPDX-License-Identifier: LGPL-2.1-or-later
// runtime/picture.c — pictures on their way to the encoder: copied, or read where they are.
#define G_LOG_DOMAIN "vlm-session"
#include "base/env.h"
#include "gpu/external_memory.h"
#include "runtime/engine_private.h"

#define MAX_STORE 16u  // buffers kept for reuse

vlm_buffer *vlm_session_take_buffer(vlm_session *session, size_t bytes, vlm_memory_use use,
                                    GError **error)
{
    vlm_engine *engine = session->engine;
    vlm_buffer *found = NULL;

    g_mutex_lock(&engine->lock);
    for (guint i = 0; i < session->store->len && !found; i++) {
        vlm_buffer *b = g_ptr_array_index(session->store, i);
        if (b->use == use && b->bytes >= bytes && b->bytes / 2 <= bytes)
            found = g_ptr_array_steal_index_fast(session->store, i);
    }
    if (!found && session->store->len >= MAX_STORE)  // sizes have changed: start over
        g_ptr_array_set_size(session->store, 0);
    g_mutex_unlock(&engine->lock);
    return found ? found : vlm_buffer_create(engine->dev, bytes, use, error);
}

vlm_buffer *vlm_picture_copy(vlm_session *session, const vlm_image *image, vlm_pixels *pixels,
                             GError **error)
{
    vlm_buffer *buffer;

    if (!vlm_pixels_layout(image, pixels, error))
        return NULL;
    buffer = vlm_session_take_buffer(session, pixels->bytes, VLM_MEMORY_UPLOAD, error);
    if (buffer) {
        vlm_pixels_copy(image, pixels, buffer->host);
        g_mutex_lock(&session->engine->lock);
        session->stats.copied_bytes += pixels->bytes;
        g_mutex_unlock(&session->engine->lock);
    }
    return buffer;
}

// Whether the device would begin with a picture of this session at once.
static gboolean is_idle(vlm_session *session)
{
    vlm_engine *engine = session->engine;
    gboolean idle = TRUE;

    g_mutex_lock(&engine->lock);
    for (guint i = 0; i < engine->sessions->len && idle; i++) {
        const vlm_session *s = g_ptr_array_index(engine->sessions, i);
        idle = !s->in_step && s->answers->len == 0 && g_queue_is_empty((GQueue *) &s->items);
    }
    g_mutex_unlock(&engine->lock);
    return idle;
}

// The picture's `bytes` bytes at `first` as a buffer; *offset is where they begin in it.
static vlm_buffer *import_memory(vlm_device *dev, const vlm_image *image, const uint8_t *first,
                                 size_t bytes, size_t *offset)
{
    if (image->dmabuf && first >= image->dmabuf->map
        && (size_t) (first - image->dmabuf->map) <= INT32_MAX) {
        *offset = (size_t) (first - image->dmabuf->map);
        vlm_buffer *buffer = vlm_buffer_import_dmabuf(dev, image->dmabuf->fd, *offset + bytes);
        if (buffer)
            return buffer;
    }
    return vlm_buffer_import(dev, first, bytes, offset);
}

vlm_buffer *vlm_picture_import(vlm_session *session, const vlm_image *image, vlm_pixels *pixels)
{
    vlm_device *dev = session->engine->dev;
    const uint8_t *first = NULL;
    size_t offset = 0;

    if (!image->lent || !(dev->imports.host || dev->imports.dmabuf) || !vlm_env_flag(VLM_ENV_IMPORT)
        || !vlm_pixels_layout(image, pixels, NULL) || !vlm_pixels_in_place(image, pixels, &first)
        || !is_idle(session))
        return NULL;
    vlm_buffer *buffer = import_memory(dev, image, first, pixels->bytes, &offset);
    for (guint i = 0; i < G_N_ELEMENTS(pixels->offset); i++)
        pixels->offset[i] += (uint32_t) offset;
    return buffer;
}

static vlm_item *find_borrowed(vlm_session *session)
{
    for (GList *l = session->items.head; l; l = l->next) {
        vlm_item *item = l->data;
        for (uint32_t i = 0; i < item->n_picture; i++)
            if (item->picture[i] && item->picture[i]->imported)
                return item;
    }
    return NULL;
}

gboolean vlm_picture_wait_read(vlm_session *session, GError **error)
{
    vlm_engine *engine = session->engine;
    vlm_item *item;
    gboolean ok = TRUE;

    g_mutex_lock(&engine->lock);
    while (ok && (item = find_borrowed(session))) {
        if ((session->cancelled || engine->failure) && !session->in_step) {
            g_queue_remove(&session->items, item);
            session->n_waiting--;
            vlm_item_free(item);
            ok = vlm_session_check(session, error);
        } else {
            g_cond_wait(&engine->changed, &engine->lock);
        }
    }
    session->stats.n_in_place += ok;
    g_mutex_unlock(&engine->lock);
    return ok;
}
