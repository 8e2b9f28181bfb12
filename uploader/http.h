/* http.h - HTTP outward: the one file that knows libcurl. For now the blocking client of the
 * commands, over a Unix socket. */
#ifndef PILLION_UPLOADER_HTTP_H
#define PILLION_UPLOADER_HTTP_H

#include "agent/base/buf.h"

struct http_client;

/* A client that keeps its connection between requests. For one thread; no connection is made
 * yet. -ENOMEM. */
int http_client_new_unix(struct http_client **ret, const char *socket_path);
void http_client_free(struct http_client *c);
/* Waits for the whole answer. The body is appended to `ret_body`, whose `max` is the most that
 * is taken. 0 for any answer, whatever its status; -ENOENT, -ECONNREFUSED, -EACCES … as
 * connect(2) says; -ECONNRESET: closed without an answer; -ETIMEDOUT; -ENOBUFS, -ENOMEM: the
 * body; -EPROTO: not HTTP. */
int http_client_get(struct http_client *c, const char *path, long timeout_ms, struct buf *ret_body,
                    long *ret_status);

/* The three in one. */
int http_get_unix(const char *socket_path, const char *path, long timeout_ms, struct buf *ret_body,
                  long *ret_status);

#endif
