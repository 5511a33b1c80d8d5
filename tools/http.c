// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/http.c — HTTP requests to a model hub, with libcurl.
#include "http.h"

#include <curl/curl.h>
#include <string.h>

#include "vlm.h"

#define MAX_REDIRECTS   8
#define CONNECT_SECONDS 30L
#define STALL_SECONDS   60L  // without a byte

struct http_client {
    CURL *curl;
    char *origin;  // scheme://host:port of the hub
    char *bearer;  // "Authorization: Bearer ...", NULL without a token
    const volatile sig_atomic_t *stop;
    char message[CURL_ERROR_SIZE];
};

// One response being received.
typedef struct exchange {
    http_client *client;
    const http_request *request;
    http_reply *reply;
    gboolean from_hub;
    gboolean refused;  // on_data has returned FALSE
} exchange;

void http_reply_clear(http_reply *reply)
{
    g_free(reply->commit);
    g_free(reply->linked_etag);
    g_free(reply->linked_size);
    g_free(reply->next);
    g_free(reply->etag);
    g_free(reply->range);
    memset(reply, 0, sizeof *reply);
}

// "https://host:443" of a URL, NULL when it is none that we would talk to.
static char *origin_of(const char *url)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;

    if (parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK
        && curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK
        && curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK
        && curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK
        && (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0)) {
        g_autofree char *lower = g_ascii_strdown(host, -1);

        origin = g_strdup_printf("%s://%s:%s", scheme, lower, port);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parsed);
    return origin;
}

// Takes the value of a header when the line is of that name.
static void take_header(const char *line, const char *name, char **value)
{
    const size_t n = strlen(name);

    if (g_ascii_strncasecmp(line, name, n) != 0 || line[n] != ':')
        return;
    g_free(*value);
    *value = g_strstrip(g_strdup(line + n + 1));
}

static void take_next_page(const char *line, char **url)
{
    g_autofree char *links = NULL;
    char *begin, *end;

    take_header(line, "link", &links);
    begin = links ? strchr(links, '<') : NULL;
    end = begin ? strchr(begin, '>') : NULL;
    if (!end || !strstr(end, "rel=\"next\""))
        return;
    g_free(*url);
    *url = g_strndup(begin + 1, (gsize) (end - begin - 1));
}

static size_t on_header(char *data, size_t size, size_t n, void *user_data)
{
    exchange *x = user_data;
    g_autofree char *line = g_strndup(data, size * n);

    if (g_str_has_prefix(line, "HTTP/")) {  // a new response
        g_clear_pointer(&x->reply->etag, g_free);
        g_clear_pointer(&x->reply->range, g_free);
    }
    take_header(line, "etag", &x->reply->etag);
    take_header(line, "content-range", &x->reply->range);
    if (x->from_hub) {
        take_header(line, "x-repo-commit", &x->reply->commit);
        take_header(line, "x-linked-etag", &x->reply->linked_etag);
        take_header(line, "x-linked-size", &x->reply->linked_size);
        take_next_page(line, &x->reply->next);
    }
    return size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *user_data)
{
    exchange *x = user_data;

    curl_easy_getinfo(x->client->curl, CURLINFO_RESPONSE_CODE, &x->reply->status);
    if ((x->reply->status != 200 && x->reply->status != 206) || !x->request->on_data)
        return size * n;
    if (x->request->on_data(x->reply, data, size * n, x->request->user_data))
        return size * n;
    x->refused = TRUE;
    return size * n + 1;  // anything else than the length ends the transfer
}

static int on_tick(void *user_data, curl_off_t total, curl_off_t now, curl_off_t up_total,
                   curl_off_t up_now)
{
    const http_client *client = user_data;

    (void) total, (void) now, (void) up_total, (void) up_now;
    return *client->stop != 0;
}

http_client *http_client_new(const char *endpoint, const char *token,
                             const volatile sig_atomic_t *stop, GError **error)
{
    static gsize started;
    g_autoptr(http_client) client = g_new0(http_client, 1);

    if (g_once_init_enter(&started))
        g_once_init_leave(&started, curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 1 : 2);
    client->curl = started == 1 ? curl_easy_init() : NULL;
    client->origin = origin_of(endpoint);
    client->stop = stop;
    if (!client->curl || !client->origin) {
        g_set_error(error, VLM_ERROR, VLM_ERROR_ARGS,
                    "HF_ENDPOINT=%s is not the http or https URL of a hub", endpoint);
        return NULL;
    }
    if (token)
        client->bearer = g_strconcat("Authorization: Bearer ", token, NULL);
    return g_steal_pointer(&client);
}

void http_client_free(http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    g_free(client->origin);
    g_free(client->bearer);
    g_free(client);
}

// Whether another try may help: the connection was there and broke.
static gboolean is_passing(CURLcode code)
{
    switch (code) {
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return TRUE;
    default:
        return FALSE;
    }
}

static struct curl_slist *headers_for(const exchange *x)
{
    struct curl_slist *list = NULL;

    if (x->from_hub && x->client->bearer)
        list = curl_slist_append(list, x->client->bearer);
    if (x->request->from > 0) {
        g_autofree char *range =
            g_strdup_printf("Range: bytes=%" G_GUINT64_FORMAT "-", x->request->from);

        list = curl_slist_append(list, range);
        if (x->request->if_range) {
            g_autofree char *only = g_strconcat("If-Range: ", x->request->if_range, NULL);

            list = curl_slist_append(list, only);
        }
    }
    return list;
}

// One response, no redirect.
static CURLcode exchange_once(exchange *x, const char *url)
{
    CURL *curl = x->client->curl;
    struct curl_slist *headers = headers_for(x);
    CURLcode code;

    curl_easy_reset(curl);
    x->client->message[0] = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "gst-vlm/" VLM_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->client->message);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x->client);
    if (x->request->head)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &x->reply->status);
    return code;
}

// Where a redirect leads to, NULL when it is none or not to be followed.
static char *redirect_of(const exchange *x, gboolean secure)
{
    const char *target = NULL;

    if (x->reply->status < 300 || x->reply->status > 399)
        return NULL;
    curl_easy_getinfo(x->client->curl, CURLINFO_REDIRECT_URL, &target);
    if (!target || (secure && g_ascii_strncasecmp(target, "https:", 6) != 0))
        return NULL;
    return g_strdup(target);
}

gboolean http_send(http_client *client, const http_request *request, http_reply *reply,
                   gboolean *again, GError **error)
{
    exchange x = { .client = client, .request = request, .reply = reply };
    g_autofree char *url = g_strdup(request->url);

    *again = FALSE;
    for (guint i = 0; i <= MAX_REDIRECTS; i++) {
        g_autofree char *origin = origin_of(url);
        g_autofree char *target = NULL;

        x.from_hub = g_strcmp0(origin, client->origin) == 0;
        if (!origin || (request->head && !x.from_hub))
            return TRUE;  // the status of the redirect stands
        const CURLcode code = exchange_once(&x, url);
        if (code == CURLE_ABORTED_BY_CALLBACK || *client->stop) {
            g_set_error_literal(error, VLM_ERROR, VLM_ERROR_CANCELLED, "interrupted");
            return FALSE;
        }
        if (code != CURLE_OK) {
            *again = is_passing(code) && !x.refused;
            // Redirects carry signatures: only the host is shown.
            g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: %s", origin,
                        *client->message ? client->message : curl_easy_strerror(code));
            return FALSE;
        }
        target = redirect_of(&x, g_str_has_prefix(url, "https:"));
        if (!target)
            return TRUE;
        g_free(url);
        url = g_steal_pointer(&target);
    }
    g_set_error(error, VLM_ERROR, VLM_ERROR_NOT_FOUND, "%s: too many redirects", client->origin);
    return FALSE;
}
