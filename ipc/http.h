/* http.h - HTTP inward (libmicrohttpd on the libuv loop): the status socket and the command port, a
 * server each. Loop thread only.
 *
 * One handler for all requests; it answers from inside the call, whole, from memory. Slow peers
 * are cut after LIMIT_HTTP_TIMEOUT_S; on a Unix socket peers of other users than ours and root before
 * a byte is parsed. On a port everybody comes in: there the handler looks at who it is. */
#ifndef PILLION_HTTP_H
#define PILLION_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct http_server;
struct http_request;

struct http_answer {
    unsigned status;          /* 200 … */
    const char *content_type; /* static */
    char *body;               /* taken (mem_free); may be NULL */
    size_t body_len;
    const char *allow;        /* for 405: value of the Allow header, static; else NULL */
    unsigned retry_after_s;   /* for 429 and 503: value of that header; 0: none */
    const char *authenticate; /* for 401: value of WWW-Authenticate, static; else NULL */
    /* Not 0: whoever asks for the same path and query within so many milliseconds gets this same
     * body without the handler being asked, so that a hundred scrapers at once cost one page.
     * Only for answers to GET. */
    unsigned keep_ms;
};

/* `method` and `path` (without the query, percent-decoded) live only during the call. HEAD
 * arrives as GET. */
typedef void (*http_handler)(void *arg, const struct http_request *rq, const char *method,
                             const char *path, struct http_answer *ret);

enum http_from {
    HTTP_FROM_SOCKET,   /* the Unix socket: its user was looked at */
    HTTP_FROM_LOOPBACK, /* a process of this machine (of this network namespace) */
    HTTP_FROM_NETWORK,
};
enum http_from http_request_from(const struct http_request *rq);
/* Path and query as they stand in the request line. */
const char *http_target(const struct http_request *rq);
/* A query argument or NULL. */
const char *http_query(const struct http_request *rq, const char *name);
/* A request header or NULL. */
const char *http_header(const struct http_request *rq, const char *name);

/* The body of the request, NULL when there is none; at most LIMIT_HTTP_BODY_BYTES (beyond: 413
 * without the handler). */
const char *http_body(const struct http_request *rq, size_t *ret_len);

int http_server_new(struct http_server **ret, uv_loop_t *loop, http_handler handler, void *arg);
/* Listens on a Unix socket `name` in directory dirfd (mode 0600), whose full name is `dir`;
 * replaces a stale socket. */
int http_server_listen_unix(struct http_server *s, int dirfd, const char *dir, const char *name);
/* Instead: a TCP port of this IPv4 or IPv6 address. -EADDRINUSE … as bind(2) says. */
int http_server_listen_tcp(struct http_server *s, const char *ip, uint16_t port);
/* Makes the socket again when its file is gone or is not ours any more. 1: made again, 0: all
 * well, negative: errno. */
int http_server_check(struct http_server *s);
void http_server_close(struct http_server *s, void (*closed)(void *arg), void *arg);

#endif
