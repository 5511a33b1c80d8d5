// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/content_feed.c — puts the images and films of a prompt into a session.
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

gboolean content_measure(const GPtrArray *parts, double fps, vlm_session_params *params,
                         GError **error)
{
    const char *film = NULL;
    uint32_t n = 0, n_film = 0;

    for (guint i = 0; i + 1 < parts->len; i++) {
        const content_part *part = g_ptr_array_index(parts, i);
        if (part->kind == CONTENT_FILM) {
            film = part->text;
            n_film++;
        }
    }
    if (n_film != 1 || media_is_camera(film))
        return TRUE;
    if (!media_read_film(film, fps, count_frame, &n, error))
        return FALSE;
    params->film_frames = n;
    params->film_duration = (gint64) ((double) n * 1e9 / fps + 0.5);
    return TRUE;
}

gboolean content_feed(vlm_session *session, const GPtrArray *parts, double fps, GError **error)
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
            ok = media_read_film(part->text, fps, add_frame, session, error)
                 && vlm_session_end_film(session, error);
            break;
        }
        if (!ok)
            return FALSE;
    }
    return TRUE;
}
