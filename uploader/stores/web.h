/* web.h - what the stores over HTTP share: one request after the other, what an answer means for the file, and the look at what has
 * arrived. Loop thread only. */
#ifndef PILLION_STORES_WEB_H
#define PILLION_STORES_WEB_H

#include "uploader/stores/store_impl.h"

#define WEB_BODY_MS 60000 /* for the answer to a small request */

struct web;
typedef void (*web_next_cb)(struct web *w, const struct http_reply *reply);

/* First member of each kind's own struct. */
struct web {
    struct store base;
    struct http *http;
    struct http_call *call;
    web_next_cb next;
    http_data_cb data; /* of the request that is under way */
    struct url url;    /* PUT and WebDAV */
    uint64_t before;   /* bytes that were sent by requests before this one */
};

/* Sends; `next` gets the answer, not from inside, unless it was cancelled meanwhile: then the store has finished. */
void web_ask(struct web *w, struct http_request_out *rq, web_next_cb next);
/* The same to a path behind the address, with its user and password; `headers` may be NULL. */
void web_ask_path(struct web *w, const char *method, const char *path, const char *const *headers,
                  web_next_cb next);
/* PUT of the whole file there. */
void web_put_file(struct web *w, const char *path, web_next_cb next);
void web_cancel(struct store *s);
/* It has ended badly: with what answer.h says of this answer. `what`: "PUT". */
void web_fail(struct web *w, const char *what, const struct http_reply *reply);
/* After HEAD: true when it is there with s->bytes; else the store has finished. */
bool web_is_whole(struct web *w, const struct http_reply *reply);
/* Content-Length; -1 not said. */
int64_t web_length(const struct http_reply *reply);
/* The most that sending so many bytes may take. */
uint32_t web_time_ms(uint64_t bytes);

/* Address of PUT and WebDAV stores. -EINVAL with a line in `why`. */
int web_address(struct web *w, const char *address, const struct store_env *env, const char *scheme,
                struct buf *why);
void web_free(struct store *s);

#endif
