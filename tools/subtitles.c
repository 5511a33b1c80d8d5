// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/subtitles.c — writes captions as WebVTT, SubRip or JSON lines.
#include "subtitles.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>

#include "vlm.h"

#define NS_PER_SECOND 1000000000u
// A cue must end after it starts (WebVTT, section 4.1); the formats count milliseconds.
#define SHORTEST_NS 1000000u
// Text after the word is allowed and ignored by readers.
#define VTT_HEADER "WEBVTT captions by gst-vlm\n"

struct subtitle_file {
    FILE *stream;
    char *path;
    subtitle_format format;
};

gboolean subtitle_format_of(const char *path, subtitle_format *format, GError **error)
{
    if (g_str_has_suffix(path, ".vtt")) {
        *format = SUBTITLE_VTT;
    } else if (g_str_has_suffix(path, ".srt")) {
        *format = SUBTITLE_SRT;
    } else if (g_str_has_suffix(path, ".jsonl")) {
        *format = SUBTITLE_JSONL;
    } else {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "output '%s': the name must end in .vtt, .srt or .jsonl", path);
        return FALSE;
    }
    return TRUE;
}

char *subtitle_time(guint64 ns, guint digits, char point)
{
    guint64 seconds = ns / NS_PER_SECOND;
    guint ms = (guint) (ns % NS_PER_SECOND / 1000000);

    return g_strdup_printf("%02" G_GUINT64_FORMAT ":%02u:%02u%c%0*u", seconds / 3600,
                           (guint) (seconds / 60 % 60), (guint) (seconds % 60), point, (int) digits,
                           digits == 1 ? ms / 100 : ms);
}

static char *subtitle_seconds(guint64 ns)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ".%03u", ns / NS_PER_SECOND,
                           (guint) (ns % NS_PER_SECOND / 1000000));
}

char *subtitle_clean(const char *text)
{
    GString *line = g_string_new(NULL);
    gboolean blank = FALSE;

    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (g_unichar_isspace(c) || g_unichar_iscntrl(c)) {
            blank = TRUE;
            continue;
        }
        if (blank && line->len > 0)
            g_string_append_c(line, ' ');
        blank = FALSE;
        g_string_append_unichar(line, c);
    }
    return g_string_free(line, FALSE);
}

// SubRip has no escapes: players take <...> and {...} for styles, and --> for a time line.
static const char *srt_instead(gunichar c)
{
    switch (c) {
    case '<':
        return "‹";
    case '>':
        return "›";
    case '{':
        return "(";
    case '}':
        return ")";
    default:
        return NULL;
    }
}

static const char *vtt_instead(gunichar c)
{
    switch (c) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    default:
        return NULL;
    }
}

char *subtitle_escape(const char *line, subtitle_format format)
{
    GString *out = g_string_new(NULL);

    for (const char *p = line; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        const char *instead = format == SUBTITLE_VTT   ? vtt_instead(c)
                              : format == SUBTITLE_SRT ? srt_instead(c)
                                                       : NULL;

        if (instead)
            g_string_append(out, instead);
        else
            g_string_append_unichar(out, c);
    }
    return g_string_free(out, FALSE);
}

char *subtitle_header(subtitle_format format)
{
    return g_strdup(format == SUBTITLE_VTT ? VTT_HEADER "\n" : "");
}

// Times by hand: json-glib writes 17 digits of a number, of which the last are noise.
static char *format_json(const subtitle_cue *cue, const char *line)
{
    g_autoptr(JsonNode) node = json_node_init_string(json_node_alloc(), line);
    g_autofree char *text = json_to_string(node, FALSE);
    g_autofree char *start = subtitle_seconds(cue->start);
    g_autofree char *end = subtitle_seconds(cue->end);
    g_autofree char *latency = subtitle_seconds(cue->latency);

    return g_strdup_printf("{\"number\":%" G_GUINT64_FORMAT ",\"start\":%s,\"end\":%s,"
                           "\"text\":%s,\"tokens\":%u,\"latency\":%s}\n",
                           cue->number, start, end, text, cue->tokens, latency);
}

char *subtitle_format_cue(const subtitle_cue *cue, subtitle_format format)
{
    g_autofree char *line = subtitle_clean(cue->text);
    g_autofree char *text = subtitle_escape(line, format);
    char point = format == SUBTITLE_SRT ? ',' : '.';
    g_autofree char *start = subtitle_time(cue->start, 3, point);
    g_autofree char *end = subtitle_time(MAX(cue->end, cue->start + SHORTEST_NS), 3, point);

    switch (format) {
    case SUBTITLE_JSONL:
        return format_json(cue, line);
    case SUBTITLE_SRT:
        return g_strdup_printf("%" G_GUINT64_FORMAT "\n%s --> %s\n%s\n\n", cue->number, start, end,
                               text);
    case SUBTITLE_VTT:
    default:
        return g_strdup_printf("%s --> %s\n%s\n\n", start, end, text);
    }
}

gboolean subtitle_is_ours(const char *path)
{
    char start[sizeof VTT_HEADER] = "";
    FILE *stream = fopen(path, "re");
    gboolean ours = stream && fgets(start, sizeof start, stream) && strcmp(start, VTT_HEADER) == 0;

    if (stream)
        fclose(stream);
    return ours;
}

static gboolean put(subtitle_file *file, const char *text, GError **error)
{
    if (fputs(text, file->stream) >= 0 && fflush(file->stream) == 0)
        return TRUE;
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "'%s' can't be written: %s", file->path,
                g_strerror(errno));
    return FALSE;
}

subtitle_file *subtitle_file_open(const char *path, subtitle_format format, GError **error)
{
    g_autoptr(subtitle_file) file = g_new0(subtitle_file, 1);
    g_autofree char *header = subtitle_header(format);

    file->path = g_strdup(path);
    file->format = format;
    file->stream = fopen(path, "we");
    if (!file->stream) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "'%s' can't be written: %s", path,
                    g_strerror(errno));
        return NULL;
    }
    if (!put(file, header, error))
        return NULL;
    return g_steal_pointer(&file);
}

gboolean subtitle_file_add(subtitle_file *file, const subtitle_cue *cue, GError **error)
{
    g_autofree char *text = subtitle_format_cue(cue, file->format);

    return put(file, text, error);
}

void subtitle_file_close(subtitle_file *file)
{
    if (!file)
        return;
    if (file->stream)
        fclose(file->stream);
    g_free(file->path);
    g_free(file);
}
