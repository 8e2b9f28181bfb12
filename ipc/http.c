/* libmicrohttpd without a thread: its epoll descriptor is polled by the loop, its "there is more to
 * do at once" is a timer.
 *
 *   accept → acceptor: user looked at → on_accepted: cap looked at → MHD_add_connection → on_connection (started)
 *   bytes  → on_mhd → MHD_run → on_uri → on_request (headers; body; its end) → answer → handler → MHD writes
 *   end    → on_completed (request), on_connection (closed)
 *
 * Ways to fail: a foreign user, no descriptor left: the acceptor; one connection too many:
 * refuse_busy(), before MHD sees it; no memory: the connection is closed; a slow peer:
 * on_deadline() shuts its socket down, and MHD finds it closed. MHD's own time-out starts again
 * with every byte and would let a peer that reads a byte a second stay for hours. */
#include "ipc/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/base/buf.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "ipc/acceptor.h"

#define SEND_BUFFER                                                                                \
    32768 /* what one turn of the loop copies for one peer at most (the kernel doubles it) */
#define TIMEOUT_MS (LIMIT_HTTP_TIMEOUT_S * 1000u)

/* Since a phase began (connected, answer begun, answer sent) it may take TIMEOUT_MS: the list is
 * in order of its deadlines. */
struct connection {
    struct connection *prev, *next;
    struct http_server *server;
    uint64_t deadline_ms;
    int fd; /* of MHD */
    enum http_from from;
    bool idle; /* between two requests */
    bool cut;
};

/* A body on its way, possibly to several peers. */
struct body {
    struct http_server *server;
    char *data;
    size_t len;
};

struct kept {
    struct MHD_Response *response; /* NULL: free */
    char *url;
    uint64_t until_ms;
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *connection;
    char *url; /* path and query as they came; NULL: longer than LIMIT_HTTP_URL_BYTES */
    struct buf body;
    bool begun;
};

struct http_server {
    uv_loop_t *loop;
    http_handler handler;
    void *arg;
    struct MHD_Daemon *mhd;
    uv_poll_t mhd_poll;
    uv_timer_t mhd_more, deadline;
    struct acceptor *acceptor;
    bool tcp;
    struct connection *first, *last, *starting;
    size_t n_connections, out_bytes;
    struct kept kept[LIMIT_HTTP_KEPT];
    unsigned open_handles;
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- deadlines -------------------------------------------------------------------------------- */

static void arm(struct http_server *s);

static void unlink_connection(struct connection *c) {
    struct http_server *s = c->server;

    *(c->prev != NULL ? &c->prev->next : &s->first) = c->next;
    *(c->next != NULL ? &c->next->prev : &s->last) = c->prev;
}

static void link_last(struct connection *c) {
    struct http_server *s = c->server;

    c->prev = s->last;
    c->next = NULL;
    *(s->last != NULL ? &s->last->next : &s->first) = c;
    s->last = c;
}

static void new_phase(struct connection *c, bool idle) {
    if (c->cut)
        return;
    c->idle = idle;
    c->deadline_ms = uv_now(c->server->loop) + TIMEOUT_MS;
    unlink_connection(c);
    link_last(c);
    arm(c->server);
}

static void drop_kept(struct kept *k) {
    if (k->response != NULL)
        MHD_destroy_response(k->response);
    mem_free(k->url);
    *k = (struct kept){0};
}

static void on_deadline(uv_timer_t *t) {
    struct http_server *s = container_of(t, struct http_server, deadline);
    uint64_t now = uv_now(s->loop);

    for (size_t i = 0; i < LIMIT_HTTP_KEPT; i++)
        if (s->kept[i].response != NULL && s->kept[i].until_ms <= now)
            drop_kept(&s->kept[i]);
    while (s->first != NULL && s->first->deadline_ms <= now) {
        struct connection *c = s->first;

        if (!c->idle && !c->cut)
            counter_add(COUNTER_STATUS_CUT, 1);
        c->cut = true;
        (void)shutdown(c->fd, SHUT_RDWR); /* MHD sees it on its next run and closes */
        c->deadline_ms = now + TIMEOUT_MS;
        unlink_connection(c);
        link_last(c);
    }
    arm(s);
}

static void arm(struct http_server *s) {
    uint64_t due = s->first != NULL ? s->first->deadline_ms : UINT64_MAX, now = uv_now(s->loop);

    for (size_t i = 0; i < LIMIT_HTTP_KEPT; i++)
        if (s->kept[i].response != NULL && s->kept[i].until_ms < due)
            due = s->kept[i].until_ms;
    if (s->closing)
        return;
    if (due == UINT64_MAX)
        (void)uv_timer_stop(&s->deadline);
    else
        (void)uv_timer_start(&s->deadline, on_deadline, due > now ? due - now : 0, 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void on_body_sent(void *arg) {
    struct body *b = arg;

    b->server->out_bytes -= b->len;
    mem_free(b->data);
    mem_free(b);
}

/* Takes `data` in every case. */
static struct MHD_Response *make_response(struct http_server *s, char *data, size_t len) {
    struct MHD_Response *r = NULL;
    struct body *b;

    if (data == NULL || len == 0) {
        mem_free(data);
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    }
    b = mem_alloc(sizeof(*b));
    if (b != NULL)
        r = MHD_create_response_from_buffer_with_free_callback_cls(len, data, on_body_sent, b);
    if (r == NULL) {
        mem_free(b);
        mem_free(data);
        return NULL;
    }
    *b = (struct body){.server = s, .data = data, .len = len};
    s->out_bytes += len;
    return r;
}

/* NULL: there is none. */
static bool add_header(struct MHD_Response *r, const char *name, const char *value) {
    return value == NULL || MHD_add_response_header(r, name, value) == MHD_YES;
}

static struct MHD_Response *answer_response(struct http_server *s, struct http_answer *a) {
    char seconds[16];
    struct MHD_Response *r = make_response(s, a->body, a->body_len);
    const char *type = a->content_type != NULL ? a->content_type : "text/plain; charset=utf-8";

    if (r == NULL)
        return NULL;
    (void)snprintf(seconds, sizeof(seconds), "%u", a->retry_after_s);
    if (!add_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) ||
        !add_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") ||
        !add_header(r, MHD_HTTP_HEADER_ALLOW, a->allow) ||
        !add_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, a->authenticate) ||
        !add_header(r, MHD_HTTP_HEADER_RETRY_AFTER, a->retry_after_s > 0 ? seconds : NULL)) {
        MHD_destroy_response(r);
        return NULL;
    }
    return r;
}

static void answer_text(struct http_answer *a, unsigned status, const char *text) {
    *a = (struct http_answer){.status = status, .body = mem_strdup(text)};
    a->body_len = a->body != NULL ? strlen(a->body) : 0;
}

static struct kept *find_kept(struct http_server *s, const char *url) {
    for (size_t i = 0; i < LIMIT_HTTP_KEPT; i++)
        if (s->kept[i].response != NULL && s->kept[i].until_ms > uv_now(s->loop) &&
            strcmp(s->kept[i].url, url) == 0)
            return &s->kept[i];
    return NULL;
}

/* True when the response is now the table's as well (which destroys it). Without memory it is
 * only not kept. */
static bool keep(struct http_server *s, const char *url, struct MHD_Response *r, unsigned ms) {
    struct kept *k = &s->kept[0];
    char *copy = mem_strdup(url);

    if (copy == NULL)
        return false;
    for (size_t i = 1; i < LIMIT_HTTP_KEPT && k->response != NULL; i++)
        if (s->kept[i].until_ms < k->until_ms)
            k = &s->kept[i];
    drop_kept(k);
    *k = (struct kept){.response = r, .url = copy, .until_ms = uv_now(s->loop) + ms};
    arm(s);
    return true;
}

/* What will be more than it may be is not waited for. */
static bool announces_too_much(const struct http_request *rq) {
    const char *length = http_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n;

    return length != NULL && (text_u64(length, &n) != 0 || n > LIMIT_HTTP_BODY_BYTES);
}

static void ask_handler(struct http_request *rq, const char *path, const char *method,
                        struct http_answer *a) {
    struct http_server *s = rq->server;

    if (rq->url == NULL)
        answer_text(a, 414, "the address is too long\n");
    else if (rq->body.err == -ENOBUFS || announces_too_much(rq))
        answer_text(a, 413, "the body is too long\n");
    else if (s->out_bytes >= LIMIT_HTTP_OUT_BYTES)
        answer_text(a, 503, "too many answers are on their way to slow readers\n");
    else if (rq->body.err != 0)
        answer_text(a, 503, "no memory\n");
    else
        s->handler(s->arg, rq, method, path, a);
}

static enum MHD_Result answer(struct http_request *rq, const char *path, const char *method) {
    struct http_server *s = rq->server;
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    struct kept *k = get && rq->url != NULL ? find_kept(s, rq->url) : NULL;
    struct http_answer a = {0};
    struct MHD_Response *r;
    enum MHD_Result ok;

    if (k != NULL)
        return MHD_queue_response(rq->connection, MHD_HTTP_OK, k->response);
    ask_handler(rq, path, get ? "GET" : method, &a);
    r = answer_response(s, &a);
    if (r == NULL) {
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        return MHD_NO; /* closes */
    }
    ok = MHD_queue_response(rq->connection, a.status, r);
    if (!get || a.status != MHD_HTTP_OK || a.keep_ms == 0 || rq->url == NULL ||
        !keep(s, rq->url, r, a.keep_ms))
        MHD_destroy_response(r);
    return ok;
}

/* --- called by MHD ---------------------------------------------------------------------------- */

static struct connection *connection_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return i != NULL ? i->socket_context : NULL;
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    struct http_server *s = arg;
    struct connection *c = *context;

    (void)connection;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = s->starting; /* on_accepted() made it */
        s->starting = NULL;
    } else if (c != NULL) {
        unlink_connection(c);
        s->n_connections--;
        mem_free(c);
        *context = NULL;
        arm(s);
    }
}

/* The request line is there. What is returned is on_request()'s context. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection) {
    struct http_request *rq = mem_calloc(1, sizeof(*rq));
    bool fits = strlen(uri) <= LIMIT_HTTP_URL_BYTES;

    if (rq == NULL)
        return NULL;
    rq->server = arg;
    rq->connection = connection;
    buf_init(&rq->body, LIMIT_HTTP_BODY_BYTES);
    rq->url = fits ? mem_strdup(uri) : NULL;
    if (fits && rq->url == NULL) {
        mem_free(rq);
        return NULL;
    }
    return rq;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **context) {
    struct http_request *rq = *context;

    (void)arg, (void)version;
    if (rq == NULL) {
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        return MHD_NO;
    }
    if (!rq->begun) { /* headers; an answer now would cost the connection its keep-alive */
        rq->begun = true;
        if (!announces_too_much(rq))
            return MHD_YES;
    } else if (*len > 0) {
        buf_add(&rq->body, data, *len);
        *len = 0;
        return MHD_YES;
    }
    counter_add(COUNTER_STATUS_REQUESTS, 1);
    new_phase(connection_of(connection), false);
    return answer(rq, path, method);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why) {
    struct http_request *rq = *context;
    struct connection *c = connection_of(connection);

    (void)arg, (void)why;
    *context = NULL;
    if (rq != NULL) {
        buf_clear(&rq->body);
        mem_free(rq->url);
        mem_free(rq);
    }
    if (c != NULL)
        new_phase(c, true);
}

enum http_from http_request_from(const struct http_request *rq) {
    const struct connection *c = connection_of(rq->connection);

    return c != NULL ? c->from : HTTP_FROM_NETWORK;
}

const char *http_target(const struct http_request *rq) {
    return rq->url != NULL ? rq->url : "";
}

const char *http_query(const struct http_request *rq, const char *name) {
    return MHD_lookup_connection_value(rq->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header(const struct http_request *rq, const char *name) {
    return MHD_lookup_connection_value(rq->connection, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *rq, size_t *ret_len) {
    *ret_len = rq->body.len;
    return rq->body.len > 0 ? rq->body.data : NULL;
}

/* --- loop ------------------------------------------------------------------------------------- */

static void on_more(uv_timer_t *t);

static void run(struct http_server *s) {
    MHD_UNSIGNED_LONG_LONG ms;

    if (s->closing)
        return;
    (void)MHD_run(s->mhd);                       /* fails only without an epoll descriptor */
    if (MHD_get_timeout(s->mhd, &ms) == MHD_YES) /* several requests came in one piece */
        (void)uv_timer_start(&s->mhd_more, on_more, ms, 0);
    else
        (void)uv_timer_stop(&s->mhd_more);
}

static void on_more(uv_timer_t *t) {
    run(container_of(t, struct http_server, mhd_more));
}

static void on_mhd(uv_poll_t *p, int status, int events) {
    (void)status, (void)events;
    run(container_of(p, struct http_server, mhd_poll));
}

static void refuse_busy(int fd) {
    static const char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
        "Content-Length: 22\r\nConnection: close\r\n\r\ntoo many connections.\n";

    (void)send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* it is closed anyway */
    close(fd);
}

/* The kernel lets nobody from outside in under such an address. */
static enum http_from peer_of(int fd) {
    struct sockaddr_storage peer = {0};
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&peer;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&peer;
    socklen_t len = sizeof(peer);
    bool local = false;

    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0)
        return HTTP_FROM_NETWORK;
    if (peer.ss_family == AF_INET)
        local = ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    else if (peer.ss_family == AF_INET6)
        local =
            IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
            (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
    return local ? HTTP_FROM_LOOPBACK : HTTP_FROM_NETWORK;
}

static void on_accepted(void *arg, int fd) {
    struct http_server *s = arg;
    struct connection *c = NULL;
    int size = SEND_BUFFER;

    if (s->n_connections >= (s->tcp ? LIMIT_PORT_CONNECTIONS : LIMIT_HTTP_CONNECTIONS)) {
        counter_add(s->tcp ? COUNTER_PORT_REFUSED_BUSY : COUNTER_STATUS_REFUSED_BUSY, 1);
        refuse_busy(fd);
        return;
    }
    c = mem_calloc(1, sizeof(*c));
    if (c == NULL) {
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        close(fd);
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size,
                     sizeof(size)); /* else a turn may be longer */
    c->server = s;
    c->fd = fd;
    c->from = s->tcp ? peer_of(fd) : HTTP_FROM_SOCKET;
    link_last(c);
    s->n_connections++;
    s->starting = c;
    if (MHD_add_connection(s->mhd, fd, NULL, 0) != MHD_YES) { /* has closed it */
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        if (s->starting != NULL) { /* else on_connection(closed) has freed it */
            unlink_connection(c);
            s->n_connections--;
            mem_free(c);
            s->starting = NULL;
        }
        return;
    }
    new_phase(c, false);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Since 0.9.77 MHD_add_connection() only queues, unless it is told that there is one thread:
 * nothing would wake the loop. */
#if MHD_VERSION >= 0x00097707
#define ONE_THREAD MHD_USE_NO_THREAD_SAFETY
#else
#define ONE_THREAD 0
#endif

static struct MHD_Daemon *start_mhd(struct http_server *s) {
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | ONE_THREAD, 0, NULL, NULL,
                            on_request, s, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)LIMIT_HTTP_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)LIMIT_HTTP_CONNECTION_BYTES, MHD_OPTION_NOTIFY_CONNECTION,
                            on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                            MHD_OPTION_URI_LOG_CALLBACK, on_uri, s, MHD_OPTION_END);
}

static void on_never_begun(uv_handle_t *h) {
    mem_free(container_of((uv_poll_t *)h, struct http_server, mhd_poll));
}

int http_server_new(struct http_server **ret, uv_loop_t *loop, http_handler handler, void *arg) {
    struct http_server *s = mem_calloc(1, sizeof(*s));
    const union MHD_DaemonInfo *info = NULL;
    struct MHD_Daemon *mhd;
    struct acceptor_options options = {.accepted = on_accepted,
                                       .arg = s,
                                       .refused_uid = COUNTER_STATUS_REFUSED_UID,
                                       .refused_busy = COUNTER_STATUS_REFUSED_BUSY};
    int rc;

    if (s == NULL)
        return -ENOMEM;
    s->loop = loop;
    s->handler = handler;
    s->arg = arg;
    errno = ENOMEM;
    s->mhd = mhd = start_mhd(s);
    rc = mhd != NULL ? 0 : -errno;
    if (rc == 0) {
        info = MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD);
        rc = info != NULL ? uv_poll_init(loop, &s->mhd_poll, info->epoll_fd) : -ENOTSUP;
    }
    if (rc == 0 && (rc = acceptor_new(&s->acceptor, loop, &options)) != 0)
        uv_close((uv_handle_t *)&s->mhd_poll, on_never_begun);
    else if (rc != 0)
        on_never_begun((uv_handle_t *)&s->mhd_poll);
    if (rc != 0) {
        if (mhd != NULL)
            MHD_stop_daemon(mhd);
        return rc;
    }
    (void)uv_timer_init(loop, &s->mhd_more); /* these never fail */
    (void)uv_timer_init(loop, &s->deadline);
    s->open_handles = 4;
    (void)uv_poll_start(&s->mhd_poll, UV_READABLE, on_mhd);
    *ret = s;
    return 0;
}

int http_server_listen_unix(struct http_server *s, int dirfd, const char *dir, const char *name) {
    return acceptor_listen(s->acceptor, dirfd, dir, name);
}

int http_server_listen_tcp(struct http_server *s, const char *ip, uint16_t port) {
    s->tcp = true;
    return acceptor_listen_tcp(s->acceptor, ip, port);
}

int http_server_check(struct http_server *s) {
    return s->closing ? 0 : acceptor_check(s->acceptor);
}

static void maybe_closed(void *arg) {
    struct http_server *s = arg;

    if (--s->open_handles > 0)
        return;
    s->closed(s->closed_arg);
    mem_free(s);
}

static void on_handle_closed(uv_handle_t *h) {
    maybe_closed(h->data);
}

void http_server_close(struct http_server *s, void (*closed)(void *arg), void *arg) {
    uv_handle_t *handles[] = {(uv_handle_t *)&s->mhd_poll, (uv_handle_t *)&s->mhd_more,
                              (uv_handle_t *)&s->deadline};

    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    acceptor_close(s->acceptor, maybe_closed, s);
    for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
        handles[i]->data = s;
        uv_close(handles[i],
                 on_handle_closed); /* out of the loop before MHD closes its descriptor */
    }
    for (size_t i = 0; i < LIMIT_HTTP_KEPT; i++)
        drop_kept(&s->kept[i]);
    MHD_stop_daemon(s->mhd); /* closes every connection, calls on_completed() and on_connection() */
}
