#include "uploader/http.h"

#include <curl/curl.h>
#include <errno.h>

#include "agent/base/mem.h"

#define URL_BYTES 4096

struct http_client {
    CURL *easy;
    struct buf *body; /* of the request under way */
};

static size_t on_body(char *data, size_t size, size_t n, void *arg) {
    struct http_client *c = arg;

    buf_add(c->body, data, size * n);
    return c->body->err == 0 ? size * n : 0; /* 0: curl gives up */
}

static int set_options(struct http_client *c, const char *socket_path) {
    CURL *e = c->easy;

    return curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, socket_path) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_WRITEDATA, c) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_PROXY, "") ==
                       CURLE_OK && /* whatever http_proxy is */
                   curl_easy_setopt(e, CURLOPT_USERAGENT, "pillion/" PILLION_VERSION) == CURLE_OK
               ? 0
               : -ENOMEM;
}

int http_client_new_unix(struct http_client **ret, const char *socket_path) {
    struct http_client *c = mem_calloc(1, sizeof(*c));
    int rc = -ENOMEM;

    if (c == NULL)
        return rc;
    /* Nothing of TLS: it would cost a command more time than all the rest. */
    if (curl_global_init_mem(CURL_GLOBAL_NOTHING, mem_alloc, mem_free, mem_realloc, mem_strdup,
                             mem_calloc) != CURLE_OK)
        goto out;
    c->easy = curl_easy_init();
    if (c->easy == NULL || set_options(c, socket_path) != 0) {
        http_client_free(c);
        return rc;
    }
    *ret = c;
    return 0;
out:
    mem_free(c);
    return rc;
}

void http_client_free(struct http_client *c) {
    if (c == NULL)
        return;
    curl_easy_cleanup(c->easy);
    curl_global_cleanup();
    mem_free(c);
}

/* curl says "couldn't connect" for all of it; the reason is in the errno that it kept. There is
 * none when the connection was there and the other side closed it before curl had looked at it. */
static int connect_error(CURL *e) {
    long os = 0;

    if (curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &os) != CURLE_OK || os <= 0)
        return -ECONNRESET;
    return -(int)os;
}

static int convert(const struct http_client *c, CURLcode code) {
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_COULDNT_CONNECT:
        return connect_error(c->easy);
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        return -ECONNRESET;
    case CURLE_WRITE_ERROR:
        return c->body->err != 0 ? c->body->err : -ENOMEM;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return -EPROTO;
    }
}

int http_client_get(struct http_client *c, const char *path, long timeout_ms, struct buf *ret_body,
                    long *ret_status) {
    char url[URL_BYTES];
    long status = 0;
    int rc;

    if (snprintf(url, sizeof(url), "http://localhost%s", path) >= (int)sizeof(url))
        return -ENAMETOOLONG;
    c->body = ret_body;
    if (curl_easy_setopt(c->easy, CURLOPT_URL, url) != CURLE_OK ||
        curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, timeout_ms) != CURLE_OK)
        return -ENOMEM;
    rc = convert(c, curl_easy_perform(c->easy));
    if (rc == 0 && curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK)
        rc = -EPROTO;
    if (rc == 0)
        *ret_status = status;
    return rc;
}

int http_get_unix(const char *socket_path, const char *path, long timeout_ms, struct buf *ret_body,
                  long *ret_status) {
    struct http_client *c = NULL;
    int rc = http_client_new_unix(&c, socket_path);

    if (rc != 0)
        return rc;
    rc = http_client_get(c, path, timeout_ms, ret_body, ret_status);
    http_client_free(c);
    return rc;
}
