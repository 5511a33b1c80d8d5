// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/http.h — HTTP requests to a model hub, with libcurl.
//
// Redirects are followed here and not by libcurl, so that one rule holds: the token goes to the
// hub's own scheme, host and port and nowhere else, and what the hub says of its files is believed
// from there only.
#ifndef VLM_TOOLS_HTTP_H
#define VLM_TOOLS_HTTP_H

#include <glib.h>
#include <signal.h>

typedef struct http_client http_client;

// `stop`: set by a signal handler to end what runs; must outlive the client. `token` may be NULL.
// Errors: ARGS (the endpoint is no http or https URL). Thread-safety: one thread.
http_client *http_client_new(const char *endpoint, const char *token,
                             const volatile sig_atomic_t *stop, GError **error);
void http_client_free(http_client *client);  // accepts NULL
G_DEFINE_AUTOPTR_CLEANUP_FUNC(http_client, http_client_free)

// What a server said. Strings are NULL when it did not say them; those up to `next` come from the
// hub itself only.
typedef struct http_reply {
    long status;        // of the last response
    char *commit;       // X-Repo-Commit
    char *linked_etag;  // X-Linked-Etag
    char *linked_size;  // X-Linked-Size
    char *next;         // the URL of Link: <...>; rel="next"
    char *etag;         // ETag of the last response
    char *range;        // Content-Range of the last response
} http_reply;

void http_reply_clear(http_reply *reply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(http_reply, http_reply_clear)

typedef struct http_request {
    const char *url;
    gboolean head;         // headers only; ends at a redirect to another host
    guint64 from;          // asks for the bytes from here on; 0 = all
    const char *if_range;  // with `from`: only if the content still has this ETag; may be NULL
    // The body of a response with a status of 200 or 206, piece by piece; FALSE ends the request.
    gboolean (*on_data)(const http_reply *reply, const void *data, gsize n, gpointer user_data);
    gpointer user_data;
} http_request;

// Sends and waits. TRUE when a whole response came, whatever its status; `reply` is zeroed by the
// caller. Errors: CANCELLED (stopped), NOT_FOUND (no connection, or it broke: *again says whether
// another try may help), also after on_data has returned FALSE.
gboolean http_send(http_client *client, const http_request *request, http_reply *reply,
                   gboolean *again, GError **error);

#endif
