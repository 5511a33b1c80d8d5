// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/fetch_file.c — downloads one file of a repository: resumes, checks, renames.
//
// The content grows in BLOB.incomplete. The ETag that the server gave for it is kept beside it, so
// that a later request gets the rest of the same content or all of another. Whatever happens on
// the way, only content with the checksum that the hub lists gets the blob's name.
#include "fetch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_IDLE_TRIES 3   // in a row that brought nothing
#define MAX_TRIES      50  // of one file
#define PAUSE_US       500000
#define LOCK_US        100000
#define CHUNK_BYTES    (1u << 20)

typedef struct download {
    fetch_job *job;
    const fetch_file *file;
    const volatile sig_atomic_t *stop;
    char *path, *etag_path;  // of what is incomplete, and of its ETag
    int fd;
    guint64 offset;  // bytes that are there
    GChecksum *sum;  // of them
    gboolean first;  // nothing of its body came yet
    gboolean stale;  // the server has another content than the one begun
    gboolean resumed;
    GError *error;  // what ended the request from our side
} download;

static void download_clear(download *d)
{
    if (d->fd >= 0)
        close(d->fd);
    g_clear_pointer(&d->sum, g_checksum_free);
    g_clear_error(&d->error);
    g_free(d->path);
    g_free(d->etag_path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(download, download_clear)

static gboolean system_error(GError **error, const char *path, const char *what)
{
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: %s: %s", path, what, g_strerror(errno));
    return FALSE;
}

char *fetch_file_blob(const fetch_job *job, const fetch_file *file)
{
    return g_build_filename(job->folder, "blobs", file->oid, NULL);
}

guint64 fetch_file_left(const fetch_job *job, const fetch_file *file)
{
    g_autofree char *blob = fetch_file_blob(job, file);
    g_autofree char *incomplete = g_strconcat(blob, ".incomplete", NULL);
    struct stat st;

    if (stat(blob, &st) == 0 && (guint64) st.st_size == file->size)
        return 0;
    if (stat(incomplete, &st) == 0 && (guint64) st.st_size <= file->size)
        return file->size - (guint64) st.st_size;
    return file->size;
}

char *fetch_file_url(const fetch_job *job, const fetch_file *file)
{
    g_autofree char *name = g_uri_escape_string(file->name, "/", FALSE);

    return g_strdup_printf("%s/%s/%s/resolve/main/%s", job->places->endpoint, job->name->org,
                           job->name->repo, name);
}

void fetch_status_error(const fetch_job *job, long status, GError **error)
{
    const char *what = status == 404   ? "there is no such repository or file"
                       : status == 429 ? "too many requests, try again later"
                       : status >= 500 ? "the hub has a problem, try again later"
                                       : "the hub refuses";

    if (status == 401 || status == 403)
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                    "the hub wants a login for it, or there is no such repository (HTTP %ld); "
                    "accept its terms at %s/%s/%s and set HF_TOKEN%s",
                    status, job->places->endpoint, job->name->org, job->name->repo,
                    job->places->token ? " to a token that may read it" : "");
    else
        g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s (HTTP %ld)", what, status);
}

// ---------------------------------------------------------------------------------- content

static void sum_reset(download *d)
{
    g_clear_pointer(&d->sum, g_checksum_free);
    d->sum = g_checksum_new(d->file->lfs ? G_CHECKSUM_SHA256 : G_CHECKSUM_SHA1);
    if (!d->file->lfs) {
        // Git's object begins with its kind and length.
        g_autofree char *head = g_strdup_printf("blob %" G_GUINT64_FORMAT, d->file->size);

        g_checksum_update(d->sum, (const guchar *) head, (gssize) strlen(head) + 1);
    }
}

static gboolean start_over(download *d, GError **error)
{
    if (ftruncate(d->fd, 0) < 0 || lseek(d->fd, 0, SEEK_SET) < 0)
        return system_error(error, d->path, "can't be emptied");
    g_unlink(d->etag_path);
    d->offset = 0;
    d->resumed = FALSE;
    sum_reset(d);
    return TRUE;
}

// Opens what an earlier call has left, and reads it for its checksum.
static gboolean open_incomplete(download *d, GError **error)
{
    g_autofree guchar *chunk = g_malloc(CHUNK_BYTES);
    ssize_t got;

    d->fd = g_open(d->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (d->fd < 0)
        return system_error(error, d->path, "can't be written");
    sum_reset(d);
    while ((got = read(d->fd, chunk, CHUNK_BYTES)) > 0) {
        d->offset += (guint64) got;
        if (d->offset > d->file->size)
            return start_over(d, error);
        g_checksum_update(d->sum, chunk, got);
        if (*d->stop) {
            g_set_error_literal(error, VLM_ERROR, VLM_ERROR_CANCELLED, "interrupted");
            return FALSE;
        }
    }
    d->resumed = d->offset > 0;
    return got == 0 || system_error(error, d->path, "can't be read");
}

static gboolean is_strong_etag(const char *etag)
{
    const size_t n = etag ? strlen(etag) : 0;

    if (n < 3 || n > 256 || etag[0] != '"' || etag[n - 1] != '"')
        return FALSE;
    for (const char *p = etag; *p; p++) {
        if (!g_ascii_isprint(*p))
            return FALSE;
    }
    return TRUE;
}

static char *saved_etag(const download *d)
{
    g_autofree char *etag = NULL;

    if (!g_file_get_contents(d->etag_path, &etag, NULL, NULL) || !is_strong_etag(etag))
        return NULL;
    return g_steal_pointer(&etag);
}

// Whether "bytes A-B/TOTAL" begins where the file ends.
static gboolean range_fits(const download *d, const char *range)
{
    g_autofree char *begin = g_strdup_printf("bytes %" G_GUINT64_FORMAT "-", d->offset);
    g_autofree char *end = g_strdup_printf("/%" G_GUINT64_FORMAT, d->file->size);

    return range && g_str_has_prefix(range, begin)
           && (g_str_has_suffix(range, end) || g_str_has_suffix(range, "/*"));
}

// Looks at what the body belongs to.
static gboolean begin_body(download *d, const http_reply *reply)
{
    g_autofree char *begun = saved_etag(d);

    if (reply->status == 200 && d->offset > 0 && !start_over(d, &d->error))
        return FALSE;  // the server knows no ranges, or has another content
    if (reply->status == 206
        && (!range_fits(d, reply->range)
            || (begun && reply->etag && strcmp(begun, reply->etag) != 0))) {
        d->stale = TRUE;
        return FALSE;
    }
    if (d->offset == 0 && is_strong_etag(reply->etag))
        g_file_set_contents(d->etag_path, reply->etag, -1, NULL);
    return TRUE;
}

static gboolean on_data(const http_reply *reply, const void *data, gsize n, gpointer user_data)
{
    download *d = user_data;
    const guchar *bytes = data;

    if (d->first && !begin_body(d, reply))
        return FALSE;
    d->first = FALSE;
    if (n > d->file->size - d->offset) {
        g_set_error(&d->error, VLM_ERROR, VLM_ERROR_FORMAT,
                    "%s is longer than the %" G_GUINT64_FORMAT " bytes that the hub lists",
                    d->file->name, d->file->size);
        return FALSE;
    }
    g_checksum_update(d->sum, bytes, (gssize) n);
    while (n > 0) {
        const ssize_t put = write(d->fd, bytes, n);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return system_error(&d->error, d->path, "can't be written");
        bytes += put;
        n -= (gsize) put;
        d->offset += (guint64) put;
    }
    fetch_progress_update(&d->job->bar, d->offset);
    return TRUE;
}

// One request. TRUE: look at what is there now; *idle says that it isn't worth going on at once.
static gboolean ask(download *d, GError **error)
{
    g_autofree char *url = fetch_file_url(d->job, d->file);
    g_autofree char *etag = saved_etag(d);
    g_auto(http_reply) reply = { 0 };
    g_autoptr(GError) trouble = NULL;
    const http_request request = {
        .url = url, .from = d->offset, .if_range = etag, .on_data = on_data, .user_data = d
    };
    gboolean again = FALSE;

    d->first = TRUE;
    d->stale = FALSE;
    const gboolean whole = http_send(d->job->http, &request, &reply, &again, &trouble);
    if (d->error) {
        g_propagate_error(error, g_steal_pointer(&d->error));
        return FALSE;
    }
    if (d->stale || (whole && reply.status == 416))
        return start_over(d, error);
    if (whole && reply.status != 200 && reply.status != 206 && reply.status != 429
        && reply.status < 500) {
        fetch_status_error(d->job, reply.status, error);
        return FALSE;
    }
    // A connection that breaks after it brought something was a good one.
    if (!whole && !again
        && (d->first || g_error_matches(trouble, VLM_ERROR, VLM_ERROR_CANCELLED))) {
        g_propagate_error(error, g_steal_pointer(&trouble));
        return FALSE;
    }
    return TRUE;
}

static gboolean pause_a_while(const download *d, guint tries, GError **error)
{
    for (gint64 end = g_get_monotonic_time() + PAUSE_US * (1 << tries);
         g_get_monotonic_time() < end && !*d->stop;)
        g_usleep(LOCK_US);
    if (*d->stop)
        g_set_error_literal(error, VLM_ERROR, VLM_ERROR_CANCELLED, "interrupted");
    return !*d->stop;
}

// Requests until all bytes are there.
static gboolean get_content(download *d, GError **error)
{
    guint idle = 0;

    for (guint tries = 0; d->offset < d->file->size; tries++) {
        const guint64 before = d->offset;

        if (!ask(d, error))
            return FALSE;
        idle = d->offset > before ? 0 : idle + 1;
        if (d->offset < d->file->size && (idle >= MAX_IDLE_TRIES || tries >= MAX_TRIES)) {
            g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND,
                        "the transfer of %s keeps breaking; what came is kept, try again later",
                        d->file->name);
            return FALSE;
        }
        if (idle > 0 && !pause_a_while(d, idle - 1, error))
            return FALSE;
    }
    return TRUE;
}

// All bytes, and the right ones. What somebody else has begun may have holes: then once anew.
static gboolean get_checked(download *d, GError **error)
{
    for (;;) {
        if (!get_content(d, error))
            return FALSE;
        if (strcmp(g_checksum_get_string(d->sum), d->file->oid) == 0)
            return TRUE;
        const gboolean resumed = d->resumed;
        if (!start_over(d, error))
            return FALSE;
        if (!resumed) {
            g_unlink(d->path);
            g_set_error(error, VLM_ERROR, VLM_ERROR_FORMAT,
                        "%s has not the checksum that the hub lists for it; it was removed",
                        d->file->name);
            return FALSE;
        }
    }
}

// ---------------------------------------------------------------------------------- the place

// The lock that the hub's own library takes for the same blob. Waits. -1 on failure.
static int take_lock(const fetch_job *job, const fetch_file *file,
                     const volatile sig_atomic_t *stop, GError **error)
{
    g_autofree char *base = g_path_get_basename(job->folder);
    g_autofree char *folder = g_build_filename(job->places->cache, ".locks", base, NULL);
    g_autofree char *name = g_strconcat(file->oid, ".lock", NULL);
    g_autofree char *path = g_build_filename(folder, name, NULL);
    gboolean told = FALSE;
    int fd;

    if (g_mkdir_with_parents(folder, 0755) < 0) {
        system_error(error, folder, "can't be made");
        return -1;
    }
    fd = g_open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        system_error(error, path, "can't be written");
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (!told)
            g_printerr("waiting for another program that fetches %s\n", file->name);
        told = TRUE;
        g_usleep(LOCK_US);
        if (!*stop)
            continue;
        close(fd);
        g_set_error_literal(error, VLM_ERROR, VLM_ERROR_CANCELLED, "interrupted");
        return -1;
    }
    return fd;
}

static gboolean get_locked(fetch_job *job, const fetch_file *file, const char *blob,
                           const volatile sig_atomic_t *stop, GError **error)
{
    g_auto(download) d = { .job = job, .file = file, .stop = stop, .fd = -1 };
    gboolean ok;

    d.path = g_strconcat(blob, ".incomplete", NULL);
    d.etag_path = g_strconcat(d.path, ".etag", NULL);
    if (!open_incomplete(&d, error))
        return FALSE;
    fetch_progress_begin(&job->bar, file->name, d.offset, file->size);
    ok = get_checked(&d, error);
    fetch_progress_end(&job->bar, ok);
    if (!ok)
        return FALSE;
    if (fsync(d.fd) < 0 || g_rename(d.path, blob) < 0)
        return system_error(error, blob, "can't be written");
    g_unlink(d.etag_path);
    return TRUE;
}

gboolean fetch_file_get(fetch_job *job, const fetch_file *file, const volatile sig_atomic_t *stop,
                        GError **error)
{
    g_autofree char *blob = fetch_file_blob(job, file);
    g_autofree char *folder = g_path_get_dirname(blob);
    gboolean ok = TRUE;
    int lock;

    if (fetch_file_left(job, file) == 0 && g_file_test(blob, G_FILE_TEST_EXISTS))
        return TRUE;
    if (g_mkdir_with_parents(folder, 0755) < 0)
        return system_error(error, folder, "can't be made");
    lock = take_lock(job, file, stop, error);
    if (lock < 0)
        return FALSE;
    // Meanwhile the other may have done it.
    if (fetch_file_left(job, file) > 0 || !g_file_test(blob, G_FILE_TEST_EXISTS))
        ok = get_locked(job, file, blob, stop, error);
    close(lock);
    return ok;
}
