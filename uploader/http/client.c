/* The blocking client of the commands, over a Unix socket. */
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/http/curl.h"

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
    if (http_curl_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
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

static int convert(const struct http_client *c, CURLcode code) {
    if (code == CURLE_WRITE_ERROR)
        return c->body->err != 0 ? c->body->err : -ENOMEM;
    return http_error(c->easy, code);
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

static const char *method_of(const char *method, const char *json) {
    return strcmp(method, json != NULL ? "POST" : "GET") == 0 ? NULL : method;
}

int http_client_ask(struct http_client *c, const char *method, const char *path, const char *json,
                    long timeout_ms, struct buf *ret_body, long *ret_status) {
    struct curl_slist *type = NULL;
    int rc = -ENOMEM;

    if (json != NULL)
        type = curl_slist_append(NULL, "Content-Type: application/json");
    /* A request that was not a GET leaves its traces in the handle, so they are taken away again. */
    if ((json == NULL ||
         (type != NULL && curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, type) == CURLE_OK &&
          curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, json) == CURLE_OK)) &&
        curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method_of(method, json)) == CURLE_OK)
        rc = http_client_get(c, path, timeout_ms, ret_body, ret_status);
    (void)curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, NULL);
    (void)curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, NULL);
    (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, NULL);
    (void)curl_easy_setopt(c->easy, CURLOPT_HTTPGET, 1L);
    curl_slist_free_all(type);
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
