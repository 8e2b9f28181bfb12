/* http.h - HTTP outward: the one file that knows libcurl .
 *
 * struct http is one pool of connections on one loop for everything that the helper asks of others. Requests never block the loop:
 * names are looked up by threads of curl, and each request ends in bounded time by itself. Redirects are not followed (the
 * password would go with them). HTTP/1.1 only; connections are kept and used again, so one caller who has one request under way
 * at a time has one connection. Proxies as curl has them: http_proxy, https_proxy, all_proxy, no_proxy.
 *
 * A name that cannot be looked up any more is taken to be where it was last reached (P53).
 *
 * Loop thread only, but for the blocking client. */
#ifndef PILLION_UPLOADER_HTTP_H
#define PILLION_UPLOADER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"

/* --- the pool ----------------------------------------------------------------------------------- */

struct http;

/* Files of TLS; NULL: the system's authorities, no certificate of our own. Copied. */
struct http_tls {
    const char *ca_file; /* PEM with one or more authorities, or a directory with hashed links */
    const char *cert_file;
    const char *key_file;
};

/* -EINVAL with a line for people in `why`: a file of `tls` cannot be read. -ENOTSUP, with a line: this libcurl cannot look names
 * up beside the loop. -ENOMEM. `tls` may be NULL. */
int http_new(struct http **ret, uv_loop_t *loop, const struct http_tls *tls, struct buf *why);
/* Ends what is under way (each calls back with -ECANCELED), then closes and frees everything. Asynchronous, once. Requests that
 * come after it are refused. */
void http_close(struct http *h, void (*closed)(void *arg), void *arg);

/* --- a request ---------------------------------------------------------------------------------- */

struct http_call; /* one that is under way; gone when done has been called */

struct http_reply {
    /* 0: an answer came, whole, whatever its status. Else a negative errno, and status is 0:
     * -ENOENT the name cannot be looked up, -ECONNREFUSED, -EHOSTUNREACH … as connect(2) says, -ETIMEDOUT, -ECONNRESET,
     * -EPROTO not HTTP or cut inside its header, -EMSGSIZE headers beyond the cap, -EBADE the other side's certificate,
     * -EKEYEXPIRED it has expired, -EKEYREJECTED it did not take ours, or no common TLS at all, -ECANCELED, -ENOMEM, -ESTALE
     * the file of the request cannot be read to its end, -EIO anything else. */
    int rc;
    long status;
    const char *body; /* NUL-terminated, never NULL */
    size_t len;
    int64_t retry_after_ms; /* -1: not said; at most LIMIT_RETRY_AFTER_MS */
    const char *error;      /* rc != 0: what went wrong, for people, without secrets; else "" */
    bool truncated;         /* the body is longer than answer_max; the rest was not read */
    bool
        connected; /* rc != 0: whether the other side was reached at all: the request may have arrived */
    const char *local_ip; /* our end of the connection; "": none, not known, a Unix socket */
    const char
        *headers; /* lines "name: value\n", names in small letters; for http_reply_header() */
};

/* Exactly once for each http_send() that returned 0, from the loop, never from inside http_send(), http_cancel() or
 * http_close(). It may send again, cancel others, and close the pool. The reply lives during the call. */
typedef void (*http_done_cb)(void *arg, const struct http_reply *reply);

/* Takes the body of an answer with status 200 piece by piece in place of reply->body, for long ones. From inside curl: must not
 * call anything of this file. false: no more of it; the reply is then `truncated`. */
typedef bool (*http_data_cb)(void *arg, const char *data, size_t len);

/* A stretch of a file as the body of a request, read in pieces of at most 64 KiB as the other side takes them. */
struct http_file {
    int fd; /* borrowed until done; its position is not used */
    uint64_t offset, length;
};

/* Bytes of the body sent so far. From inside curl: must not call anything of this file. */
typedef void (*http_sent_cb)(void *arg, uint64_t bytes);

/* What to ask. Strings are copied; `body` is not: it must stay until done was called. Zero is a fine value for everything but url,
 * done and arg. */
struct http_request_out {
    const char *method;      /* NULL: GET without a body, else POST */
    const char *url;         /* http:// or https://, without user and password */
    const char *unix_socket; /* path: through it, whatever the host of the URL */
    const char *tls_name; /* https: the name that its certificate has; NULL: the host of the URL */
    const char *const *headers;  /* "Name: value", NULL-terminated */
    const char *user, *password; /* basic authentication */
    const char *bearer;          /* Authorization: Bearer … */
    const void *body;
    size_t body_len;
    const struct http_file *file; /* in place of body, copied; method NULL: PUT */
    http_sent_cb sent;            /* with file only */
    uint32_t connect_ms;          /* 0: 3 s, name and TLS included */
    uint32_t total_ms;            /* 0: 30 s */
    uint32_t
        stall_ms; /* less than 100 bytes a second for so long ends it; 0: 15 s; longer than total_ms: never */
    size_t answer_max; /* of the body; 0: LIMIT_ANSWER_BYTES */
    http_data_cb data;
    http_done_cb done;
    void *arg;
};

/* -EINVAL the URL, -ESHUTDOWN the pool is closing, -ENOBUFS LIMIT_CALLS are under way, -ENOMEM. *ret may be NULL; it is good until
 * done is called. */
int http_send(struct http *h, const struct http_request_out *rq, struct http_call **ret);
/* done comes with -ECANCELED, soon. */
void http_cancel(struct http_call *c);

/* The value of a header of the answer (name in small letters; the last one of that name); false: not there. Cut to fit. */
bool http_reply_header(const struct http_reply *reply, const char *name, char *out, size_t size);

/* What the other side's clock said (header Date): Unix time in seconds; -1: nothing. */
int64_t http_reply_date(const struct http_reply *reply);

/* Where authorities are taken from, for people: "the folder /etc/ssl/certs", or "none found (looked at …)". */
const char *http_authorities(const struct http *h);
/* Requests that are under way. */
unsigned http_calls(const struct http *h);
/* Connections made so far, for tests and status: steady use makes no new ones. */
uint64_t http_connections_made(const struct http *h);

/* --- the blocking client of the commands, over a Unix socket ----------------------------------- */

struct http_client;

/* A client that keeps its connection between requests. For one thread; no connection is made yet. -ENOMEM. */
int http_client_new_unix(struct http_client **ret, const char *socket_path);
void http_client_free(struct http_client *c);
/* Waits for the whole answer. The body is appended to `ret_body`, whose `max` is the most that is taken.
 * 0 for any answer, whatever its status; -ENOENT, -ECONNREFUSED, -EACCES … as connect(2) says; -ECONNRESET: closed without an
 * answer; -ETIMEDOUT; -ENOBUFS, -ENOMEM: the body; -EPROTO: not HTTP. */
int http_client_get(struct http_client *c, const char *path, long timeout_ms, struct buf *ret_body,
                    long *ret_status);

/* The same with another method, and a body of JSON (NULL: none). */
int http_client_ask(struct http_client *c, const char *method, const char *path, const char *json,
                    long timeout_ms, struct buf *ret_body, long *ret_status);
/* The three in one. */
int http_get_unix(const char *socket_path, const char *path, long timeout_ms, struct buf *ret_body,
                  long *ret_status);

#endif
