// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/fetch_file.h — downloads one file of a repository.
#ifndef VLM_TOOLS_FETCH_FILE_H
#define VLM_TOOLS_FETCH_FILE_H

#include "fetch_progress.h"
#include "http.h"
#include "vlm.h"

// A repository being fetched. The cache has files under the names of their checksums, in `blobs`,
// and links to them in `snapshots`, as the hub's own library lays them out.
typedef struct fetch_job {
    const char *text;  // the hub name as given
    vlm_hub_name *name;
    vlm_hub_places *places;
    char *folder;  // of the repository in the cache
    char *commit;  // that the files are of; NULL until the hub has said it
    char *wanted;  // names of its files; NULL until they are known
    http_client *http;
    fetch_progress bar;
} fetch_job;

// A file as the hub lists it.
typedef struct fetch_file {
    char *name;  // in the repository; nothing says yet that it is safe
    char *oid;   // checksum in hexadecimal, and the name of the blob
    guint64 size;
    gboolean lfs;  // SHA-256 of the content; else git's SHA-1
} fetch_file;

// The path of its content in the cache. A new string.
char *fetch_file_blob(const fetch_job *job, const fetch_file *file);

// Bytes that are still to be fetched.
guint64 fetch_file_left(const fetch_job *job, const fetch_file *file);

// Where it is fetched from. A new string.
char *fetch_file_url(const fetch_job *job, const fetch_file *file);

// What a status other than success means to the person.
void fetch_status_error(const fetch_job *job, long status, GError **error);

// Downloads the content unless it is there, checks it, and puts it in its place. Another process
// that does the same is waited for. Errors: as fetch_model().
gboolean fetch_file_get(fetch_job *job, const fetch_file *file, const volatile sig_atomic_t *stop,
                        GError **error);

#endif
