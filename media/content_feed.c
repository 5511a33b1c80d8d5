// SPDX-License-Identifier: LGPL-2.1-or-later
// media/content_feed.c — puts the images and films of a prompt into a session.
#include "content.h"
#include "media.h"

static gboolean add_image(const media_picture *picture, gpointer user_data, GError **error)
{
    return vlm_session_add_image(user_data, &picture->image, error);
}

static gboolean add_frame(const media_picture *picture, gpointer user_data, GError **error)
{
    return vlm_session_add_frame(user_data, &picture->image, picture->time_ns, error);
}

static gboolean count_frame(const media_picture *picture, gpointer user_data, GError **error)
{
    (void) picture;
    (void) error;
    ++*(uint32_t *) user_data;
    return TRUE;
}

// Tells the session how long the film is that follows.
static gboolean announce(vlm_session *session, const char *film, double fps, GError **error)
{
    uint32_t n = 0;

    return media_read_film(film, fps, count_frame, &n, error)
           && vlm_session_begin_film(session, n, (gint64) ((double) n * 1e9 / fps + 0.5), error);
}

gboolean content_feed(vlm_session *session, const GPtrArray *parts, double fps, gboolean measured,
                      GError **error)
{
    for (guint i = 0; i + 1 < parts->len; i++) {
        const content_part *part = g_ptr_array_index(parts, i);
        gboolean ok = FALSE;

        switch (part->kind) {
        case CONTENT_TEXT:
            ok = vlm_session_add_text(session, part->text, error);
            break;
        case CONTENT_IMAGE:
            ok = media_read_image(part->text, add_image, session, error);
            break;
        case CONTENT_FILM:
            ok = (!measured || media_is_camera(part->text)
                  || announce(session, part->text, fps, error))
                 && media_read_film(part->text, fps, add_frame, session, error)
                 && vlm_session_end_film(session, error);
            break;
        }
        if (!ok)
            return FALSE;
    }
    return TRUE;
}
