/* remote.h - what all sinks over HTTP have in common: a batch goes out in one request or several, each answer is looked up in the
 * one table (uploader/answer.h), and what is left of the batch goes again. A kind of sink (hub, elasticsearch, otlp) says how
 * records are written and how its answers are read.
 *
 * Each record of the batch is open, done, left (the end wants it later) or to be parked; a batch that is tried again goes on with
 * those that are not done. Nothing of that outlives the process: after a restart the whole batch goes again, in the same parts,
 * under the same names.
 *
 * Records are written (inflated, changed, deflated) in a worker thread; everything else is for the loop thread. */
#ifndef PILLION_UPLOADER_SINKS_REMOTE_H
#define PILLION_UPLOADER_SINKS_REMOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "uploader/answer.h"
#include "uploader/body.h"
#include "uploader/http.h"
#include "uploader/records.h"
#include "uploader/sink.h"
#include "uploader/url.h"

#define REMOTE_ERROR_BYTES 400
#define REMOTE_HEADERS     6

struct remote;

struct remote_ops {
    const char *scheme; /* "hub": of "hub+https://…" */
    const char *content_type;
    const char *const *parameters; /* of the address, NULL-terminated */
    unsigned stages;               /* a batch is walked so many times: one kind of request each */
    uint32_t
        most_records; /* of one request; 0: the whole batch as it is, until it has to be split */

    /* Worker thread: the body of one request into r->body. begin and end may be NULL. add: 1 it is in, 0 it belongs to another
     * stage, -EBADMSG it cannot be said in this language (parked), -ENOMEM. `line`: from 1, as in the name of a document. */
    void (*begin)(struct remote *r, const struct records_head *head, unsigned stage);
    int (*add)(struct remote *r, const struct records_head *head, unsigned stage, uint32_t line,
               const char *text, size_t len);
    void (*end)(struct remote *r, unsigned stage);

    /* Adds to the request: the path is never NULL. */
    const char *(*path)(struct remote *r, unsigned stage);
    void (*dress)(struct remote *r, struct http_request_out *rq); /* may be NULL */
    /* What the answer means, with `error` for people; may be NULL: as the table says. Single records: remote_record_…() */
    enum answer (*judge)(struct remote *r, const struct http_reply *reply, char *error,
                         size_t size);
    /* What has to be asked before the first batch; ends in remote_prepared(), not from inside. May be NULL. */
    int (*prepare)(struct remote *r);
    void (*free)(struct remote *r); /* of what is the kind's own; then the whole block goes */
};

enum record_state { RECORD_OPEN, RECORD_DONE, RECORD_LEFT, RECORD_PARK };

/* First member of each kind's own struct. */
struct remote {
    struct sink base;
    const struct remote_ops *ops;
    uv_loop_t *loop;
    struct http *http;
    const struct sink_hubs *hubs; /* in place of url */
    struct sink_hubs hubs_copy;
    struct url url;
    bool has_url;
    char *token, *app, *instance, *data_dir;

    struct batch *batch; /* while a send is under way */
    uv_work_t work;
    struct http_call *call;
    bool prepared, hurried;
    unsigned failures; /* in a row */
    unsigned failovers;
    char hub[URL_SHOW_BYTES]; /* the one that was asked */

    /* Of the batch that was sent last; empty after its end. */
    char key[RECORDS_KEY_BYTES];
    uint8_t *state; /* enum record_state, one a record */
    uint32_t total, n_done, n_parked, n_left, to_park;
    enum answer left_means;
    uint32_t limit; /* records of the next request */
    unsigned stage;
    struct buf reasons; /* of those to be parked: uint32_t record, text, NUL */

    /* One request. */
    uint32_t *chunk; /* which records, ascending */
    uint32_t chunk_n, chunk_max;
    bool whole; /* it is the batch itself */
    struct body body;
    char header_lines[REMOTE_HEADERS][160];
    const char *headers[REMOTE_HEADERS + 1];
    unsigned n_headers;

    int rc; /* of the work */
    int64_t retry_after_ms;
    char error[REMOTE_ERROR_BYTES];
};

/* Fills in the common part of a block of `size` bytes (the kind's struct): *ret. `address` is "http(s)://…", or NULL for hubs of the
 * registry. -EINVAL with a line in `why`, -ENOMEM. */
int remote_new(struct remote **ret, size_t size, const struct remote_ops *ops,
               const struct sink_ops *sink_ops, const struct sink_env *env, const char *address,
               struct buf *why);
void remote_send(struct sink *s, struct batch *b);
void remote_hurry(struct sink *s);
void remote_free(struct sink *s);

/* The end of ops->prepare: TAKEN goes on with the batch, anything else is tried again later; `error` is for people. */
void remote_prepared(struct remote *r, enum answer a, int64_t retry_after_ms, const char *error);
/* A request to this sink's end with its credentials; `url` has URL_SHOW_BYTES and must live as long as rq is used. -ENOENT: no
 * hub is known. */
int remote_address(struct remote *r, const char *path, struct http_request_out *rq, char *url);
/* A header for the request that is being dressed; cut to fit is an error of the program. */
void remote_header(struct remote *r, const char *name, const char *value);
/* A header line of the name of this request: "boot-seq", and ".first-last" when it is not the whole batch. */
void remote_request_name(const struct remote *r, char *out, size_t size);

/* From judge: record number i of the request (from 0). Others are done when judge says TAKEN. `means`: RETRY or SETTLE. */
void remote_record_left(struct remote *r, uint32_t i, enum answer means);
void remote_record_park(struct remote *r, uint32_t i, const char *reason);

/* Between remote.c and remote_write.c: the works of a worker thread (the next request, r->chunk_n == 0: nothing is open any more; the
 * records that are to be parked, into a file; how it went is in r->rc), a record that is to be parked, the end of a batch. */
void remote_work_write(uv_work_t *w);
void remote_work_park(uv_work_t *w);
void remote_mark(struct remote *r, uint32_t record, const char *reason);
void remote_forget(struct remote *r);
void remote_reopen(struct remote *r); /* what was left is asked again */

#define REMOTE_SINK_OPS                                                                            \
    .retry_min_ms = 1000, .retry_max_ms = 60000, .send = remote_send, .hurry = remote_hurry,       \
    .free = remote_free

#endif
