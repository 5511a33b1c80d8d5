// SPDX-License-Identifier: LGPL-2.1-or-later
// media/content.c — a prompt with images and films in it, fed to a session.
#include "content.h"

#include <string.h>

static void part_free(gpointer data)
{
    content_part *part = data;

    g_free(part->text);
    g_free(part);
}

void content_add(GPtrArray *parts, content_kind kind, const char *text, gsize bytes)
{
    content_part *part = g_new0(content_part, 1);

    part->kind = kind;
    part->text = g_strndup(text, bytes);
    g_ptr_array_add(parts, part);
}

GPtrArray *content_new(void)
{
    return g_ptr_array_new_with_free_func(part_free);
}

static guint count(const char *text, const char *marker)
{
    guint n = 0;

    for (const char *p = strstr(text, marker); p; p = strstr(p + strlen(marker), marker))
        n++;
    return n;
}

// Files of one kind, taken in order.
typedef struct supply {
    content_kind kind;
    const char *marker;
    const char *const *next;
    guint n;
} supply;

static supply supply_new(content_kind kind, const char *marker, const char *const *files)
{
    supply s = { .kind = kind, .marker = marker, .next = files };

    while (files && files[s.n])
        s.n++;
    return s;
}

static void take(GPtrArray *parts, supply *s)
{
    content_add(parts, s->kind, *s->next, strlen(*s->next));
    s->next++;
}

GPtrArray *content_parse(const char *prompt, const char *const *images, const char *const *films,
                         GError **error)
{
    supply supplies[] = {
        supply_new(CONTENT_IMAGE, "<image>", images),
        supply_new(CONTENT_FILM, "<video>", films),
    };
    g_autoptr(GPtrArray) parts = content_new();
    const char *text = prompt;

    for (guint k = 0; k < G_N_ELEMENTS(supplies); k++) {
        guint n_marker = count(prompt, supplies[k].marker);

        if (n_marker > supplies[k].n) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                        "the prompt has %u times %s but there are %u of them", n_marker,
                        supplies[k].marker, supplies[k].n);
            return NULL;
        }
        for (guint i = n_marker; i < supplies[k].n; i++)
            take(parts, &supplies[k]);
    }
    for (;;) {
        supply *nearest = NULL;
        const char *at = NULL;

        for (guint k = 0; k < G_N_ELEMENTS(supplies); k++) {
            const char *found = strstr(text, supplies[k].marker);

            if (found && (!at || found < at)) {
                at = found;
                nearest = &supplies[k];
            }
        }
        if (!at)
            break;
        if (at > text)
            content_add(parts, CONTENT_TEXT, text, (gsize) (at - text));
        take(parts, nearest);
        text = at + strlen(nearest->marker);
    }
    content_add(parts, CONTENT_TEXT, text, strlen(text));
    return g_steal_pointer(&parts);
}

const char *content_question(const GPtrArray *parts)
{
    const content_part *last = g_ptr_array_index(parts, parts->len - 1);

    return last->text;
}
