/* All went well: http_send -> curl … on_poll / on_timer -> drain -> finish -> done.
 * It fails, or takes too long: curl says so in the same way.
 * Cancelled: http_cancel -> on_later -> done(-ECANCELED).
 *
 * curl tells which descriptors to watch (on_socket) and when to be called again (on_wake); nothing of curl is called from inside
 * these two. A watch is closed inside on_socket(REMOVE), before curl closes the descriptor. */
#include "uploader/http.h"

#include <ctype.h>
#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/http/curl.h"
#include "uploader/url.h"

#define ERROR_BYTES      400
#define IDLE_CONNECTIONS 8L

struct watch {
    uv_poll_t poll;
    struct http *http;
    curl_socket_t fd;
};

/* --- curl calls us ------------------------------------------------------------------------------ */

static void drain(struct http *h);
static void maybe_closed(struct http *h);

static void on_watch_closed(uv_handle_t *handle) {
    struct watch *w = container_of((uv_poll_t *)handle, struct watch, poll);
    struct http *h = w->http;

    mem_free(w);
    h->handles--;
    maybe_closed(h);
}

static void act(struct http *h, curl_socket_t fd, int events) {
    int running;

    /* It fails for want of memory only, and then says so to each transfer. */
    (void)curl_multi_socket_action(h->multi, fd, events, &running);
    drain(h);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *w = container_of(poll, struct watch, poll);
    int flags = 0;

    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if ((events & UV_READABLE) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & UV_WRITABLE) != 0)
        flags |= CURL_CSELECT_OUT;
    act(w->http, w->fd, flags);
}

static struct watch *watch_new(struct http *h, curl_socket_t fd) {
    struct watch *w = mem_calloc(1, sizeof(*w));

    if (w == NULL)
        return NULL;
    w->http = h;
    w->fd = fd;
    if (uv_poll_init_socket(h->loop, &w->poll, fd) != 0) {
        mem_free(w);
        return NULL;
    }
    h->handles++;
    return w;
}

/* Never fails towards curl: after -1 the pool would be dead for good. A descriptor that could not be watched ends by its time. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *watch) {
    struct http *h = arg;
    struct watch *w = watch;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w == NULL)
            return 0;
        (void)uv_poll_stop(&w->poll); /* never fails */
        uv_close((uv_handle_t *)&w->poll, on_watch_closed);
        (void)curl_multi_assign(h->multi, fd, NULL); /* fails for unknown descriptors only */
        return 0;
    }
    if (h->cleaned) /* the end of a TLS connection while everything is being closed */
        return 0;
    if (w == NULL)
        w = watch_new(h, fd);
    if (w == NULL) {
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        return 0;
    }
    if (what != CURL_POLL_OUT)
        events |= UV_READABLE;
    if (what != CURL_POLL_IN)
        events |= UV_WRITABLE;
    (void)curl_multi_assign(h->multi, fd, w);
    (void)uv_poll_start(&w->poll, events, on_poll); /* fails for closing handles only */
    return 0;
}

static void on_timer(uv_timer_t *t) {
    struct http *h = container_of(t, struct http, wake);
    long ms = -1;

    act(h, CURL_SOCKET_TIMEOUT, 0);
    /* curl keeps still when it thinks that it has said this time already: its clock and ours differ by a little. */
    if (!h->cleaned && !uv_is_active((uv_handle_t *)&h->wake) &&
        curl_multi_timeout(h->multi, &ms) == CURLM_OK && ms >= 0)
        (void)uv_timer_start(&h->wake, on_timer, ms > 0 ? (uint64_t)ms : 1, 0);
}

static int on_wake(CURLM *multi, long timeout_ms, void *arg) {
    struct http *h = arg;

    (void)multi;
    if (timeout_ms < 0 || h->cleaned) {
        (void)uv_timer_stop(&h->wake); /* never fails */
    } else {
        uv_update_time(h->loop); /* or it would be early by the length of this turn */
        (void)uv_timer_start(&h->wake, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg) {
    struct http_call *c = arg;
    long status = 0;

    n *= size;
    if (c->data != NULL) {
        (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200) {
            c->truncated = !c->data(c->arg, data, n);
            return c->truncated ? 0 : n;
        }
    }
    if (c->body.len + n > c->answer_max) {
        buf_add(&c->body, data, c->answer_max - c->body.len);
        c->truncated = true;
        return 0; /* curl gives up */
    }
    buf_add(&c->body, data, n);
    return c->body.err == 0 ? n : 0;
}

/* Names in small letters, one header a line; only those of the last answer (100 Continue comes before it). */
static size_t on_header(char *data, size_t size, size_t n, void *arg) {
    struct http_call *c = arg;
    size_t len = n * size;
    char *colon;

    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        buf_reset(&c->head);
        buf_reset(&c->body);
        c->whole_head = false;
        return len;
    }
    while (len > 0 && strchr("\r\n", data[len - 1]) != NULL)
        len--;
    if (len == 0) {
        c->whole_head = true;
        return n * size;
    }
    c->head_too_long = c->head.len + len + 1 > LIMIT_HEADER_BYTES;
    if (c->head_too_long)
        return 0;
    colon = memchr(data, ':', len);
    for (char *p = data; colon != NULL && p < colon; p++)
        *p = (char)tolower((unsigned char)*p);
    buf_add(&c->head, data, len);
    buf_putc(&c->head, '\n');
    return c->head.err == 0 ? n * size : 0;
}

static void call_free(struct http_call *c) {
    struct http *h = c->http;

    if (c->easy != NULL && h->n_idle < HTTP_IDLE_HANDLES && !h->closing) {
        curl_easy_reset(c->easy);
        h->idle[h->n_idle++] = c->easy;
    } else {
        curl_easy_cleanup(c->easy);
    }
    curl_slist_free_all(c->headers);
    curl_slist_free_all(c->resolve);
    curl_slist_free_all(c->connect_to);
    buf_clear(&c->body);
    buf_clear(&c->head);
    mem_free(c);
}

static void unlink_call(struct http_call *c) {
    struct http *h = c->http;

    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        h->calls = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    h->n_calls--;
}

static void deliver(struct http_call *c, struct http_reply *r) {
    r->body = c->body.data != NULL ? c->body.data : "";
    r->len = c->body.len;
    r->headers = c->head.data != NULL ? c->head.data : "";
    r->truncated = c->truncated;
    r->retry_after_ms = r->rc == 0 ? http_reply_retry_after(r) : -1;
    unlink_call(c);
    c->done(c->arg, r);
    call_free(c);
}

static void finish(struct http_call *c, CURLcode code) {
    struct http_reply r = {.error = ""};
    char text[ERROR_BYTES] = "";
    curl_off_t lookup_us = 0, pretransfer_us = 0;
    char *local = NULL;
    long made = 0;

    (void)curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &made);
    (void)curl_easy_getinfo(c->easy, CURLINFO_NAMELOOKUP_TIME_T, &lookup_us);
    (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &r.status);
    c->http->connections += (uint64_t)made;
    if (c->truncated && c->whole_head) /* we ended it */
        code = CURLE_OK;
    if (c->head_too_long) {
        r.rc = -EMSGSIZE;
        (void)snprintf(text, sizeof(text), "its answer has more than %d KiB of headers",
                       LIMIT_HEADER_BYTES >> 10);
    } else if (c->body.err != 0 || c->head.err != 0) {
        r.rc = -ENOMEM;
        (void)snprintf(text, sizeof(text), "no memory for the answer");
    } else if (c->file_err != 0) {
        r.rc = -ESTALE;
        (void)snprintf(text, sizeof(text), "the file cannot be read to its end: %s",
                       c->file_err == -ENODATA ? "it has become shorter" : strerror(-c->file_err));
    } else if (code == CURLE_ABORTED_BY_CALLBACK && c->stalled) {
        r.rc = -ETIMEDOUT;
        (void)snprintf(text, sizeof(text), "no answer in time (nothing came for %u ms)",
                       (unsigned)c->stall_ms);
    } else if (code != CURLE_OK) {
        r.rc = http_error_explain(c, code, text, sizeof(text));
    } else if (!c->whole_head) {
        /* libcurl 7.88 takes an answer that ends inside its header for one without a body. */
        r.rc = -EPROTO;
        (void)snprintf(text, sizeof(text), "its answer was cut inside the header");
    }
    if (code == CURLE_COULDNT_RESOLVE_HOST || (r.rc == -ETIMEDOUT && lookup_us == 0))
        http_address_lookup_failed(c);
    /* Set when the request could be written: also on a connection that was there, not on one that never came about. */
    (void)curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &pretransfer_us);
    r.connected = r.rc == 0 || pretransfer_us > 0;
    (void)curl_easy_getinfo(c->easy, CURLINFO_LOCAL_IP, &local);
    r.local_ip = local != NULL ? local : "";
    if (r.rc == 0)
        http_address_reached(c);
    else
        r.status = 0;
    r.error = text;
    (void)curl_multi_remove_handle(c->http->multi, c->easy); /* it is ours */
    deliver(c, &r);
}

/* Whatever the count of running transfers says: libuv's and curl's own samples lose the last one. */
static void drain(struct http *h) {
    CURLMsg *m;
    int left;

    while (!h->cleaned && (m = curl_multi_info_read(h->multi, &left)) != NULL) {
        CURLcode code = m->data.result;
        char *c = NULL;

        if (m->msg != CURLMSG_DONE ||
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c) != CURLE_OK || c == NULL)
            continue;
        finish((struct http_call *)(void *)c, code);
    }
}

/* --- we call curl ------------------------------------------------------------------------------- */

static int hear(struct http_call *c) {
    CURL *e = c->easy;

    return curl_easy_setopt(e, CURLOPT_PRIVATE, (char *)(void *)c) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_WRITEDATA, c) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_HEADERDATA, c) == CURLE_OK
               ? 0
               : -ENOMEM;
}

static CURL *take_handle(struct http *h) {
    return h->n_idle > 0 ? h->idle[--h->n_idle] : curl_easy_init();
}

int http_send(struct http *h, const struct http_request_out *rq, struct http_call **ret) {
    struct http_call *c;
    struct url url;
    int rc;

    if (h->closing)
        return -ESHUTDOWN;
    if (h->n_calls >= LIMIT_CALLS)
        return -ENOBUFS;
    rc = url_parse(&url, rq->url);
    if (rc != 0)
        return rc;
    c = mem_calloc(1, sizeof(*c));
    if (c == NULL)
        goto out;
    c->http = h;
    c->data = rq->data;
    c->done = rq->done;
    c->arg = rq->arg;
    c->file.fd = -1;
    c->answer_max = rq->answer_max > 0 ? rq->answer_max : LIMIT_ANSWER_BYTES;
    buf_init(&c->body, c->answer_max);
    buf_init(&c->head, LIMIT_HEADER_BYTES);
    if (rq->unix_socket == NULL)
        (void)text_copy(c->host, sizeof(c->host), url.host); /* not longer: url.h */
    c->easy = take_handle(h);
    rc = c->easy != NULL ? http_call_setup(c, rq) : -ENOMEM;
    if (rc == 0)
        rc = hear(c);
    if (rc == 0)
        rc = http_address_use(c, url.port);
    if (rc == 0 && curl_multi_add_handle(h->multi, c->easy) != CURLM_OK)
        rc = -ENOMEM;
    if (rc != 0)
        goto out;
    c->next = h->calls;
    if (c->next != NULL)
        c->next->prev = c;
    h->calls = c;
    h->n_calls++;
    if (ret != NULL)
        *ret = c;
    url_clear(&url);
    return 0;
out:
    if (c != NULL)
        call_free(c);
    url_clear(&url);
    return c != NULL ? rc : -ENOMEM;
}

static void on_later(uv_timer_t *t);

void http_cancel(struct http_call *c) {
    struct http *h = c->http;

    if (c->cancelled)
        return;
    c->cancelled = true;
    (void)curl_multi_remove_handle(h->multi, c->easy); /* it is ours */
    (void)uv_timer_start(&h->later, on_later, 0, 0);   /* the handle is open */
}

/* --- the pool ----------------------------------------------------------------------------------- */

const char *http_authorities(const struct http *h) {
    return h->authorities.text;
}

unsigned http_calls(const struct http *h) {
    return h->n_calls;
}

uint64_t http_connections_made(const struct http *h) {
    return h->connections;
}

static void maybe_closed(struct http *h) {
    if (!h->cleaned || h->handles > 0)
        return;
    h->closed(h->closed_arg);
    mem_free(h->cert_file);
    mem_free(h->key_file);
    mem_free(h);
    curl_global_cleanup();
}

static void on_timer_closed(uv_handle_t *handle) {
    struct http *h = handle->data;

    h->handles--;
    maybe_closed(h);
}

/* Nothing is under way: connections go, and with them the last watches. */
static void clean_up(struct http *h) {
    h->cleaned = true;
    while (h->n_idle > 0)
        curl_easy_cleanup(h->idle[--h->n_idle]);
    (void)curl_multi_cleanup(h->multi); /* fails for bad handles only */
    uv_close((uv_handle_t *)&h->wake, on_timer_closed);
    uv_close((uv_handle_t *)&h->later, on_timer_closed);
}

static struct http_call *find_cancelled(const struct http *h) {
    struct http_call *c = h->calls;

    while (c != NULL && !c->cancelled)
        c = c->next;
    return c;
}

static void on_later(uv_timer_t *t) {
    struct http *h = container_of(t, struct http, later);
    struct http_call *c;

    while ((c = find_cancelled(h)) != NULL) {
        struct http_reply r = {.rc = -ECANCELED, .error = "cancelled"};

        deliver(c, &r);
    }
    if (h->closing && !h->cleaned)
        clean_up(h);
}

void http_close(struct http *h, void (*closed)(void *arg), void *arg) {
    if (h->closing)
        return;
    h->closing = true;
    h->closed = closed;
    h->closed_arg = arg;
    for (struct http_call *c = h->calls; c != NULL; c = c->next)
        http_cancel(c);
    (void)uv_timer_start(&h->later, on_later, 0, 0); /* the handle is open */
}

static int readable(const char *path, const char *variable, struct buf *why) {
    if (path == NULL || access(path, R_OK) == 0)
        return 0;
    buf_printf(why, "%s=\"%s\": %s", variable, path, strerror(errno));
    return -EINVAL;
}

static int take_files(struct http *h, const struct http_tls *tls, struct buf *why) {
    static const struct http_tls none;
    int rc;

    if (tls == NULL)
        tls = &none;
    rc = readable(tls->ca_file, "PILLION_CA_FILE", why);
    if (rc == 0)
        rc = readable(tls->cert_file, "PILLION_CERT_FILE", why);
    if (rc == 0)
        rc = readable(tls->key_file, "PILLION_KEY_FILE", why);
    if (rc != 0)
        return rc;
    authorities_find(&h->authorities, tls->ca_file);
    if (tls->cert_file != NULL && (h->cert_file = mem_strdup(tls->cert_file)) == NULL)
        return -ENOMEM;
    if (tls->key_file != NULL && (h->key_file = mem_strdup(tls->key_file)) == NULL)
        return -ENOMEM;
    return 0;
}

static bool has_proxy(void) {
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (getenv(names[i]) != NULL)
            return true;
    return false;
}

static int set_multi(struct http *h) {
    CURLM *m = h->multi;

    return curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
                   curl_multi_setopt(m, CURLMOPT_SOCKETDATA, h) == CURLM_OK &&
                   curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_wake) == CURLM_OK &&
                   curl_multi_setopt(m, CURLMOPT_TIMERDATA, h) == CURLM_OK &&
                   curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS) == CURLM_OK
               ? 0
               : -ENOMEM;
}

int http_new(struct http **ret, uv_loop_t *loop, const struct http_tls *tls, struct buf *why) {
    struct http *h;
    int rc = -ENOMEM;

    if (http_curl_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return rc;
    h = mem_calloc(1, sizeof(*h));
    if (h == NULL)
        goto out;
    if ((curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS) == 0) {
        buf_puts(why, "this libcurl looks names up in the loop (no AsynchDNS): it cannot be used");
        rc = -ENOTSUP;
        goto out;
    }
    rc = take_files(h, tls, why);
    if (rc != 0)
        goto out;
    h->multi = curl_multi_init();
    h->loop = loop;
    h->proxied = has_proxy();
    rc = h->multi != NULL ? set_multi(h) : -ENOMEM;
    if (rc != 0)
        goto out;
    (void)uv_timer_init(loop, &h->wake); /* never fails */
    (void)uv_timer_init(loop, &h->later);
    h->wake.data = h->later.data = h;
    h->handles = 2;
    *ret = h;
    return 0;
out:
    if (h != NULL) {
        if (h->multi != NULL)
            (void)curl_multi_cleanup(h->multi); /* has no transfers */
        mem_free(h->cert_file);
        mem_free(h->key_file);
    }
    mem_free(h);
    curl_global_cleanup();
    return rc;
}
