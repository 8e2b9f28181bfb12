#include "uploader/stores/web.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define STALL_MS       30000
#define LEAST_SPEED_MS 32 /* bytes a millisecond: 32 kB/s; slower than that is no way for files */
#define LONGEST_MS     (24u * 3600 * 1000)

uint32_t web_time_ms(uint64_t bytes) {
    uint64_t ms = WEB_BODY_MS + bytes / LEAST_SPEED_MS;

    return ms < LONGEST_MS ? (uint32_t)ms : LONGEST_MS;
}

static void on_reply(void *arg, const struct http_reply *reply) {
    struct web *w = arg;

    w->call = NULL;
    w->data = NULL;
    if (w->base.cancelled)
        store_finish(&w->base, -ECANCELED, ANSWER_RETRY, -1, "cancelled");
    else
        w->next(w, reply);
}

static bool on_data(void *arg, const char *data, size_t len) {
    struct web *w = arg;

    return w->data(w, data, len);
}

static void on_sent(void *arg, uint64_t bytes) {
    struct web *w = arg;

    w->base.sent = w->before + bytes;
}

void web_ask(struct web *w, struct http_request_out *rq, web_next_cb next) {
    int rc;

    if (w->base.cancelled) { /* between two requests */
        store_finish(&w->base, -ECANCELED, ANSWER_RETRY, -1, "cancelled");
        return;
    }
    w->next = next;
    w->data = rq->data;
    rq->data = rq->data != NULL ? on_data : NULL;
    rq->sent = on_sent;
    rq->done = on_reply;
    rq->arg = w;
    if (rq->stall_ms == 0)
        rq->stall_ms = STALL_MS;
    if (rq->total_ms == 0)
        rq->total_ms = rq->file != NULL ? web_time_ms(rq->file->length) : WEB_BODY_MS;
    rc = http_send(w->http, rq, &w->call);
    if (rc != 0)
        store_finish(&w->base, -EAGAIN, ANSWER_RETRY, -1, "no request can be made: %s",
                     strerror(-rc));
}

static void ask(struct web *w, const char *method, const char *path, const char *const *headers,
                const struct http_file *file, web_next_cb next) {
    struct http_request_out rq = {.method = method,
                                  .headers = headers,
                                  .user = w->url.user,
                                  .password = w->url.password,
                                  .file = file};
    char url[STORE_URL_BYTES];
    size_t len;
    int rc = url_format(&w->url, path, url, sizeof(url));

    len = rc == 0 ? strlen(url) : 0;
    if (rc == 0 && w->url.query != NULL &&
        snprintf(url + len, sizeof(url) - len, "?%s", w->url.query) >= (int)(sizeof(url) - len))
        rc = -ENAMETOOLONG;
    rq.url = url;
    if (rc != 0)
        store_finish(&w->base, -EPERM, ANSWER_PARK, -1, "the address is too long");
    else
        web_ask(w, &rq, next);
}

void web_ask_path(struct web *w, const char *method, const char *path, const char *const *headers,
                  web_next_cb next) {
    ask(w, method, path, headers, NULL, next);
}

void web_put_file(struct web *w, const char *path, web_next_cb next) {
    const struct http_file file = {.fd = w->base.fd, .length = w->base.bytes};
    char type[128];
    const char *const headers[] = {type, NULL};

    (void)snprintf(type, sizeof(type), "Content-Type: %s", w->base.content_type);
    w->before = 0;
    ask(w, "PUT", path, headers, &file, next);
}

void web_cancel(struct store *s) {
    struct web *w = container_of(s, struct web, base);

    if (w->call != NULL)
        http_cancel(w->call);
}

void web_fail(struct web *w, const char *what, const struct http_reply *reply) {
    enum answer a = answer_meaning(reply);
    char text[STORE_ERROR_BYTES - 32];
    int rc = -EAGAIN;

    answer_text(reply, text, sizeof(text));
    if (reply->rc == -ESTALE)
        rc = -ESTALE;
    else if (a == ANSWER_SPLIT || a == ANSWER_PARK) /* a file is never sent in halves */
        rc = -EPERM;
    else if (a == ANSWER_TAKEN)
        a = ANSWER_RETRY;
    store_finish(&w->base, rc, a, reply->retry_after_ms, "%s: %s", what, text);
}

int64_t web_length(const struct http_reply *reply) {
    char text[32];
    uint64_t n;

    return http_reply_header(reply, "content-length", text, sizeof(text)) &&
                   text_u64(text, &n) == 0 && n <= INT64_MAX
               ? (int64_t)n
               : -1;
}

bool web_is_whole(struct web *w, const struct http_reply *reply) {
    int64_t len = web_length(reply);

    if (reply->rc != 0 || reply->status < 200 || reply->status > 299)
        web_fail(w, "HEAD, to see whether it is whole", reply);
    else if (len < 0)
        store_finish(&w->base, -EAGAIN, ANSWER_SETTLE, -1,
                     "cannot be verified: HEAD does not tell the length");
    else if ((uint64_t)len != w->base.bytes)
        store_finish(&w->base, -EAGAIN, ANSWER_RETRY, -1,
                     "not whole: the store has %lld of %llu bytes", (long long)len,
                     (unsigned long long)w->base.bytes);
    else
        return true;
    return false;
}

int web_address(struct web *w, const char *address, const struct store_env *env, const char *scheme,
                struct buf *why) {
    char shown[URL_SHOW_BYTES], name[URL_SHOW_BYTES];
    int rc = url_parse(&w->url, address);

    if (rc == -ENOMEM)
        return rc;
    if (rc == 0 && url_format(&w->url, "/", name, sizeof(name)) != 0)
        rc = -EINVAL;
    if (rc != 0) {
        text_show(shown, sizeof(shown), address);
        buf_printf(
            why, "PILLION_STORE=\"%s%s\": is not %shttp(s)://[USER[:PASSWORD]@]HOST[:PORT][/PATH/]",
            scheme, shown, scheme);
        return -EINVAL;
    }
    if (snprintf(w->base.name, sizeof(w->base.name), "%s%s", scheme, name) >=
        (int)sizeof(w->base.name))
        w->base.name[sizeof(w->base.name) - 1] = '\0';
    w->http = env->http;
    return 0;
}

void web_free(struct store *s) {
    struct web *w = container_of(s, struct web, base);

    url_clear(&w->url);
}
