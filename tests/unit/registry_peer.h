/* registry_peer.h - an HTTP server on the loop of a test that answers as its script says. */
#ifndef REGISTRY_PEER_H
#define REGISTRY_PEER_H

#include <arpa/inet.h>
#include <uv.h>

#include "agent/base/mem.h"

#define PEER_CONNECTIONS 32
#define PEER_REQUESTS    64
#define PEER_BYTES       8192

struct peer;

struct peer_connection {
    uv_tcp_t tcp;
    bool open;
    struct peer *peer;
    char in[PEER_BYTES];
    size_t len;
};

struct peer {
    uv_tcp_t listener;
    int port;
    struct peer_connection connections[PEER_CONNECTIONS];
    unsigned accepted, n;
    char requests[PEER_REQUESTS][PEER_BYTES]; /* whole, the newest last */
    /* The raw answer to a request ("" = none ever comes), static. */
    const char *(*script)(struct peer *p, const char *request);
};

static inline void peer_on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret) {
    struct peer_connection *c = h->data;

    (void)suggested;
    *ret = uv_buf_init(c->in + c->len, (unsigned)(sizeof(c->in) - 1 - c->len));
}

static inline void peer_on_gone(uv_handle_t *h) {
    ((struct peer_connection *)h->data)->open = false;
}

static inline void peer_answer(struct peer_connection *c, const char *text) {
    while (*text != '\0') {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
        int n = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);

        if (n <= 0)
            return;
        text += n;
    }
}

static inline void peer_on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b) {
    struct peer_connection *c = s->data;
    struct peer *p = c->peer;
    const char *end, *length;
    size_t whole;

    (void)b;
    if (n < 0) {
        if (!uv_is_closing((uv_handle_t *)s))
            uv_close((uv_handle_t *)s, peer_on_gone);
        return;
    }
    c->len += (size_t)n;
    c->in[c->len] = '\0';
    end = strstr(c->in, "\r\n\r\n");
    if (end == NULL)
        return;
    length = strcasestr(c->in, "\r\ncontent-length:");
    whole = (size_t)(end + 4 - c->in) + (length != NULL ? strtoul(length + 17, NULL, 10) : 0);
    if (c->len < whole)
        return;
    if (p->n < PEER_REQUESTS)
        memcpy(p->requests[p->n++], c->in, c->len + 1);
    c->len = 0;
    peer_answer(c, p->script(p, p->requests[p->n - 1]));
}

static inline void peer_on_connection(uv_stream_t *s, int status) {
    struct peer *p = s->data;
    struct peer_connection *c = &p->connections[p->accepted % PEER_CONNECTIONS];

    if (status != 0 || c->open)
        return;
    p->accepted++;
    *c = (struct peer_connection){.peer = p, .open = true};
    c->tcp.data = c;
    (void)uv_tcp_init(s->loop, &c->tcp);
    if (uv_accept(s, (uv_stream_t *)&c->tcp) == 0)
        (void)uv_read_start((uv_stream_t *)&c->tcp, peer_on_alloc, peer_on_read);
}

static inline int peer_start(struct peer *p, uv_loop_t *loop,
                             const char *(*script)(struct peer *, const char *)) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int len = sizeof(a), rc;

    *p = (struct peer){.script = script};
    p->listener.data = p;
    rc = uv_tcp_init(loop, &p->listener);
    if (rc == 0)
        rc = uv_tcp_bind(&p->listener, (struct sockaddr *)&a, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&p->listener, 16, peer_on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&p->listener, (struct sockaddr *)&a, &len);
    p->port = ntohs(a.sin_port);
    return rc;
}

static inline void peer_stop(struct peer *p) {
    uv_close((uv_handle_t *)&p->listener, NULL);
    for (unsigned i = 0; i < PEER_CONNECTIONS; i++)
        if (p->connections[i].open && !uv_is_closing((uv_handle_t *)&p->connections[i].tcp))
            uv_close((uv_handle_t *)&p->connections[i].tcp, peer_on_gone);
}

#endif
