/* All went well: webhook_send … on_reply -> done. What an answer means is in uploader/answer.h. */
#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/notify/target.h"
#include "uploader/sign.h"
#include "uploader/url.h"

#define TOTAL_MS     20000
#define HEADER_BYTES 256
#define ACCEPTED     "accepted is http(s)://user:password@host:port/path"

struct webhook {
    struct target base;
    struct http *http;
    struct url url;
    char *address; /* as written, without user and password */
    char *path;    /* what stands in the request line: that is signed */
    char *token;   /* NULL: unsigned */
    struct http_call *call;
    void (*closed)(void *arg);
    void *closed_arg;
    bool closing;
};

static void webhook_free(struct webhook *w) {
    url_clear(&w->url);
    mem_free(w->base.name);
    mem_free(w->address);
    mem_free(w->path);
    mem_free(w->token);
    mem_free(w);
}

static void on_reply(void *arg, const struct http_reply *reply) {
    struct webhook *w = arg;
    char error[TARGET_ERROR_BYTES];
    struct target_result r = {
        .answer = answer_meaning(reply), .retry_after_ms = reply->retry_after_ms, .error = error};

    w->call = NULL;
    if (w->closing) {
        void (*closed)(void *closed_arg) = w->closed;

        arg = w->closed_arg;
        webhook_free(w);
        closed(arg);
        return;
    }
    if (r.answer == ANSWER_SPLIT)
        r.answer = ANSWER_PARK; /* there is no less of it */
    answer_text(reply, error, sizeof(error));
    w->base.done(w->base.arg, &r);
}

static int webhook_send(struct target *t, const char *id, const char *body, size_t len) {
    struct webhook *w = container_of(t, struct webhook, base);
    char key[HEADER_BYTES];
    const char *headers[] = {"Content-Type: application/json", key, NULL, NULL};
    struct http_request_out rq = {.method = "POST",
                                  .url = w->address,
                                  .headers = headers,
                                  .user = w->url.user,
                                  .password = w->url.password,
                                  .body = body,
                                  .body_len = len,
                                  .total_ms = TOTAL_MS,
                                  .done = on_reply,
                                  .arg = w};
    struct buf signature;
    int rc = 0;

    buf_init(&signature, HEADER_BYTES);
    (void)snprintf(key, sizeof(key), "Idempotency-Key: %s", id);
    if (w->token != NULL) {
        buf_puts(&signature, SIGN_HEADER ": ");
        rc = sign_make(&signature, w->token, clock_wall_ms() / 1000, rq.method, w->path, body, len);
        headers[2] = signature.data;
    }
    if (rc == 0)
        rc = http_send(w->http, &rq, &w->call);
    buf_clear(&signature);
    return rc;
}

static const char *webhook_state(const struct target *t, const char **ret_why) {
    (void)t;
    (void)ret_why;
    return NULL;
}

static void webhook_close(struct target *t, void (*closed)(void *arg), void *arg) {
    struct webhook *w = container_of(t, struct webhook, base);

    if (w->call == NULL) {
        webhook_free(w);
        closed(arg);
        return;
    }
    w->closing = true;
    w->closed = closed;
    w->closed_arg = arg;
    http_cancel(w->call);
}

static const struct target_ops ops = {
    .send = webhook_send, .state = webhook_state, .close = webhook_close};

/* What url.c leaves out of the path (a slash at its end) and decodes counts here: kept as it is written. */
static int take_address(struct webhook *w, const char *spec) {
    const char *p = strstr(spec, "://") + 3, *at, *path;
    size_t n = strcspn(p, "/?");
    struct buf b;

    at = memrchr(p, '@', n);
    path = p + n;
    if (at != NULL) {
        n -= (size_t)(at + 1 - p);
        p = at + 1;
    }
    buf_init(&b, 8192);
    buf_printf(&b, "http%s://%.*s%s%s", w->url.tls ? "s" : "", (int)n, p, *path == '/' ? "" : "/",
               path);
    if (b.err == 0)
        w->path = mem_strdup(b.data + strlen(w->url.tls ? "https://" : "http://") + n);
    w->address = buf_take(&b, NULL);
    buf_clear(&b);
    return b.err == 0 && w->path != NULL && w->address != NULL ? 0 : -ENOMEM;
}

/* curl takes dot segments out, and the signature would be that of another path. */
static bool has_dots(const char *path) {
    for (const char *p = path; (p = strstr(p, "/.")) != NULL; p++) {
        size_t n = p[2] == '.' ? 3 : 2;

        if (p >= path + strcspn(path, "?"))
            return false;
        if (p[n] == '/' || p[n] == '?' || p[n] == '\0')
            return true;
    }
    return false;
}

static int fill(struct webhook *w, const char *spec, const struct notify_env *env,
                struct buf *why) {
    char name[URL_SHOW_BYTES];
    int rc = url_parse(&w->url, spec);

    if (rc == 0)
        rc = take_address(w, spec);
    if (rc == 0 && (has_dots(w->path) || url_format(&w->url, "", name, sizeof(name)) != 0))
        rc = -EINVAL;
    if (rc == -EINVAL) {
        buf_puts(why, "the address cannot be read; " ACCEPTED
                      " (no . or .. in the path, special characters encoded)");
        return rc;
    }
    if (rc != 0)
        return rc;
    w->base.name = mem_strdup(name);
    if (env->token != NULL && env->token[0] != '\0') {
        w->token = mem_strdup(env->token);
        rc = w->token != NULL ? 0 : -ENOMEM;
    }
    return w->base.name != NULL ? rc : -ENOMEM;
}

int target_webhook_new(struct target **ret, const char *spec, const struct notify_env *env,
                       struct buf *why) {
    struct webhook *w = mem_calloc(1, sizeof(*w));
    int rc;

    if (w == NULL)
        return -ENOMEM;
    w->base.ops = &ops;
    w->http = env->http;
    rc = fill(w, spec, env, why);
    if (rc != 0) {
        webhook_free(w);
        return rc;
    }
    *ret = &w->base;
    return 0;
}
