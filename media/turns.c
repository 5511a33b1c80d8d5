// SPDX-License-Identifier: LGPL-2.1-or-later
// media/turns.c — examples and conversations: into a session.
#include "turns.h"

#include <glib/gstdio.h>
#include <string.h>

// clang-format off
G_DEFINE_QUARK(vlm-turns-error-quark, turns_error)
// clang-format on

void turns_free(turns *t)
{
    if (!t)
        return;
    g_free(t->path);
    g_free(t->system);
    g_ptr_array_unref(t->list);
    g_free(t);
}

// Adds what makes a file what it is. FALSE: it can't be told.
static gboolean identify(GString *key, const char *path)
{
    GStatBuf st;

    if (strstr(path, "://") || g_stat(path, &st) != 0)
        return FALSE;
    g_string_append_printf(key,
                           "%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GINT64_FORMAT
                           " %" G_GINT64_FORMAT ".%09ld",
                           path, (guint64) st.st_dev, (guint64) st.st_ino, (gint64) st.st_size,
                           (gint64) st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return TRUE;
}

char *turns_key(const turns *t, double fps)
{
    g_autoptr(GString) key = g_string_new(NULL);

    for (guint i = 0; i < t->list->len; i++) {
        const turn *one = g_ptr_array_index(t->list, i);
        for (guint k = 0; k < one->parts->len; k++) {
            const content_part *part = g_ptr_array_index(one->parts, k);
            g_string_append_printf(key, "%d ", part->kind);
            if (part->kind == CONTENT_TEXT)
                g_string_append_printf(key, "%zu %s", strlen(part->text), part->text);
            else if (!identify(key, part->text))
                return g_strdup("");
        }
        g_string_append_printf(key, "%g %zu %s|", one->fps > 0 ? one->fps : fps,
                               one->answer ? strlen(one->answer) : 0,
                               one->answer ? one->answer : "");
    }
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, key->str, (gssize) key->len);
}

// Says which entry it was, of errors that are about the input.
static void place_error(const turns *t, const turn *one, GError **error)
{
    if (!error || !*error || (*error)->domain != VLM_ERROR
        || ((*error)->code != VLM_ERROR_ARGS && (*error)->code != VLM_ERROR_NOT_FOUND
            && (*error)->code != VLM_ERROR_FORMAT))
        return;
    g_prefix_error(error, "%s, %s %u: ", t->path, t->what, one->entry);
    (*error)->domain = TURNS_ERROR;
}

gboolean turns_feed(vlm_session *session, const turns *t, double fps, gboolean measured,
                    GError **error)
{
    for (guint i = 0; i < t->list->len; i++) {
        const turn *one = g_ptr_array_index(t->list, i);
        if (!one->answer)
            continue;
        // Waiting, so that what a picture meets on the device is said of its own entry.
        if (!content_feed(session, one->parts, one->fps > 0 ? one->fps : fps, measured, error)
            || !vlm_session_add_text(session, content_question(one->parts), error)
            || !vlm_session_add_answer(session, one->answer, error)
            || !vlm_session_wait(session, error)) {
            place_error(t, one, error);
            return FALSE;
        }
    }
    return TRUE;
}
