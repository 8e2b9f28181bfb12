/* From an order to the options of curl. */
#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/http/curl.h"

#define LINE_BYTES  4096
#define CONNECT_MS  3000
#define TOTAL_MS    30000
#define STALL_MS    15000
#define NAME_KEEP_S 20L  /* connections are kept: names are rarely asked for */
#define STALL_BYTES 100L /* a second */

static int add_header(struct http_call *c, const char *line) {
    struct curl_slist *more = curl_slist_append(c->headers, line);

    if (more == NULL)
        return -ENOMEM;
    c->headers = more;
    return 0;
}

static int set_headers(struct http_call *c, const struct http_request_out *o) {
    char line[LINE_BYTES];
    int rc = add_header(c, "Expect:"); /* or curl waits a second before a long body */

    for (size_t i = 0; rc == 0 && o->headers != NULL && o->headers[i] != NULL; i++)
        rc = add_header(c, o->headers[i]);
    if (rc == 0 && o->bearer != NULL) {
        if (snprintf(line, sizeof(line), "Authorization: Bearer %s", o->bearer) >=
            (int)sizeof(line))
            return -EINVAL;
        rc = add_header(c, line);
    }
    if (rc == 0 && curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers) != CURLE_OK)
        rc = -ENOMEM;
    return rc;
}

static long or_default(uint32_t value, long fallback) {
    return value > 0 ? (long)value : fallback;
}

/* Sums up failures of curl_easy_setopt(). */
#define SET(option, value) bad |= curl_easy_setopt(e, option, value) != CURLE_OK

/* curl's own low-speed limit is a mean over the last five seconds, which the sending of the request lifts: an end that swallows
 * everything was noticed after 9 s, and not after 3. It still makes curl look once a second, which calls this. */
static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                       curl_off_t up) {
    struct http_call *c = arg;
    uint64_t now = clock_mono_ms();

    (void)down_all, (void)up_all;
    if (c->sent != NULL && c->file.fd >= 0)
        c->sent(c->arg, (uint64_t)up);
    if (c->moved_ms == 0 || c->moved != down + up) {
        c->moved = down + up;
        c->moved_ms = now;
    }
    c->stalled = now - c->moved_ms >= c->stall_ms;
    return c->stalled;
}

static int set_transport(struct http_call *c, const struct http_request_out *o) {
    const struct http *h = c->http;
    const struct authorities *a = &h->authorities;
    CURL *e = c->easy;
    int bad = 0;

    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, NAME_KEEP_S);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, or_default(o->connect_ms, CONNECT_MS));
    SET(CURLOPT_TIMEOUT_MS, or_default(o->total_ms, TOTAL_MS));
    c->stall_ms = (uint32_t)or_default(o->stall_ms, STALL_MS);
    SET(CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
    SET(CURLOPT_LOW_SPEED_TIME, ((long)c->stall_ms + 999) / 1000);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, c);
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    SET(CURLOPT_QUICK_EXIT, 1L); /* or the end of a transfer waits for its look-up thread */
#endif
    if (o->unix_socket != NULL) {
        SET(CURLOPT_UNIX_SOCKET_PATH, o->unix_socket);
        SET(CURLOPT_PROXY, ""); /* whatever http_proxy is */
    }
    SET(CURLOPT_CAINFO, a->file[0] != '\0' ? a->file : NULL);
    SET(CURLOPT_CAPATH, a->dir[0] != '\0' ? a->dir : NULL);
    SET(CURLOPT_SSLCERT, h->cert_file);
    SET(CURLOPT_SSLKEY, h->key_file != NULL ? h->key_file : h->cert_file);
    return bad ? -ENOMEM : 0;
}

/* The certificate is looked at for the host of the URL, so that is the name, and the connection is told where to go; the header
 * Host stays what it was. */
static int set_tls_name(struct http_call *c, const struct http_request_out *o, char *line,
                        size_t size) {
    const char *host = o->url + strlen("https://"), *port;
    size_t n = strcspn(host, "/?");
    int rc;

    if (snprintf(line, size, "Host: %.*s", (int)n, host) >= (int)size ||
        !text_copy(c->tls_name, sizeof(c->tls_name), o->tls_name))
        return -EINVAL;
    rc = add_header(c, line);
    port = memrchr(host, ':', n);
    if (port != NULL && memchr(port, ']', n - (size_t)(port - host)) != NULL)
        port = NULL; /* inside of an IPv6 address */
    (void)snprintf(line, size, "::%.*s%s", (int)n, host, port != NULL ? "" : ":443"); /* it fits */
    c->connect_to = curl_slist_append(NULL, line);
    if (rc != 0 || c->connect_to == NULL ||
        curl_easy_setopt(c->easy, CURLOPT_CONNECT_TO, c->connect_to) != CURLE_OK)
        return -ENOMEM;
    if (snprintf(line, size, "https://%s%.*s%s", o->tls_name,
                 port != NULL ? (int)(n - (size_t)(port - host)) : 0, port != NULL ? port : "",
                 host + n) >= (int)size)
        return -EINVAL;
    return curl_easy_setopt(c->easy, CURLOPT_URL, line) == CURLE_OK ? 0 : -ENOMEM;
}

static int set_request(struct http_call *c, const struct http_request_out *o) {
    const char *method = o->method != NULL ? o->method
                         : o->file != NULL ? "PUT"
                         : o->body != NULL ? "POST"
                                           : "GET";
    CURL *e = c->easy;
    int bad = 0;

    SET(CURLOPT_URL, o->url);
    SET(CURLOPT_ERRORBUFFER, c->curl_error);
    SET(CURLOPT_USERAGENT, "pillion/" PILLION_VERSION);
    if (o->body != NULL) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body_len);
        SET(CURLOPT_POSTFIELDS, o->body);
    }
    if (strcmp(method, "HEAD") == 0)
        SET(CURLOPT_NOBODY, 1L);
    SET(CURLOPT_CUSTOMREQUEST, method);
    if (o->user != NULL) {
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        SET(CURLOPT_USERNAME, o->user);
        SET(CURLOPT_PASSWORD, o->password != NULL ? o->password : "");
    }
    return bad ? -ENOMEM : 0;
}

int http_call_setup(struct http_call *c, const struct http_request_out *o) {
    char line[LINE_BYTES];
    int rc = set_transport(c, o);

    if (rc == 0)
        rc = set_request(c, o);
    if (rc == 0 && o->file != NULL)
        rc = http_upload_setup(c, o);
    if (rc == 0 && o->tls_name != NULL && text_starts(o->url, "https://"))
        rc = set_tls_name(c, o, line, sizeof(line));
    if (rc == 0)
        rc = set_headers(c, o);
    return rc;
}
