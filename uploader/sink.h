/* sink.h - the joint between the queue of batches (uploader/outbox.c) and whatever takes them: a
 * directory, standard output, a hub, Elasticsearch or OpenSearch, an OpenTelemetry collector.
 *
 * A sink does one thing: it hands over one batch at a time and says how that ended. Queueing,
 * order, repeating, back-off, caps and status are the outbox's. Rules for a sink:
 *  - send() is called with no other send under way. It never calls done() before it returns, and
 *    calls it exactly once.
 *  - It ends in bounded time by itself: a remote end that hangs, or a pipe that nobody reads, is
 *    SINK_RETRY after the sink's own time-out. Repeats carry the same batch->seq, so that a sink
 *    may go on where it was; another seq means that the batch was dropped meanwhile.
 *  - Only its own worker thread or request touches the batch, which stays valid until done().
 *  - hurry() asks for an early end of the send under way (we are closing). done() still comes.
 *  - close() comes once, with no send under way; it is for sinks with libuv handles. free() comes
 *    after it, or after x_new() alone: x_new() makes no handles, start() does. */
#ifndef PILLION_UPLOADER_SINK_H
#define PILLION_UPLOADER_SINK_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/batch.h"

enum sink_verdict {
    SINK_TAKEN,  /* safe with the sink */
    SINK_RETRY,  /* the same batch again, later, for ever */
    SINK_REFUSED /* will never be taken: the queue goes on without it */
};

struct sink_result {
    enum sink_verdict verdict;
    uint64_t retry_ms; /* SINK_RETRY: not before; 0 = by the back-off of sink_ops */
    const char *error; /* for people; lives during the call; NULL when taken */
};

typedef void (*sink_done_cb)(void *arg, const struct sink_result *result);

struct sink;

struct sink_ops {
    uint64_t retry_min_ms; /* doubled with each failure … */
    uint64_t retry_max_ms; /* … up to here. Sinks that reach the network add jitter by retry_ms */
    int (*start)(struct sink *s); /* may be NULL, as hurry and close */
    void (*send)(struct sink *s, struct batch *b);
    void (*hurry)(struct sink *s);
    void (*close)(struct sink *s, void (*closed)(void *arg), void *arg); /* asynchronous */
    void (*free)(struct sink *s);
};

/* First member of every sink. */
struct sink {
    const struct sink_ops *ops;
    char *name; /* owned; for status and log: "file:/var/lib/pillion/batches", without secrets */
    sink_done_cb done; /* set by the outbox before the first send */
    void *done_arg;
    /* The first batch is sent so long after the start at the earliest: containers that start together do not arrive together
     * (P45). 0 for what is local. */
    uint64_t first_ms;
};

/* Where hubs are when the sink is `hub:` without an address: what the registry knows. Base URLs "http://10.0.0.7:8080". */
struct sink_hubs {
    const char *(*pick)(
        void *arg); /* the one to ask now; NULL: none is known. Good until the next call */
    /* It does not answer; true: pick() gives another one now. */
    bool (*failed)(void *arg, const char *url);
    void (*worked)(void *arg, const char *url);
    void *arg;
};

/* A command that came back in the answer of a hub: a JSON object with a string "id" and a string "action", at most
 * LIMIT_HUB_COMMAND_BYTES long. The same id may come again. */
typedef void (*sink_command_cb)(void *arg, const char *json, size_t len);

struct http;

/* What a sink may need to know when it is made; valid during x_new() only, but for what the pointers `http`, `hubs.arg` and
 * `command_arg` point to: that has to outlive the sinks. */
struct sink_env {
    uv_loop_t *loop;
    const char *data_dir;
    const char *boot;
    int stdout_fd;
    struct http *http; /* NULL: there are no remote sinks */
    const char *app;
    const char *instance;
    const char *token; /* bearer, for remote sinks without a user in their address; NULL */
    const struct sink_hubs *hubs; /* NULL: there is no registry */
    sink_command_cb command;      /* NULL: nobody takes them */
    void *command_arg;
};

/* Makes the sinks of a list as PILLION_SINK has it: sinks[0..*ret_n), at most LIMIT_SINKS; `none`
 * gives 0. Nothing is left behind on error: -EINVAL with a line for people in `why` (what is wrong
 * and what is accepted; addresses are not shown, there may be a password in them), -ENOMEM. */
/* True when the list has a sink that reaches the network: env->http is needed for it. */
bool sink_list_is_remote(const char *list);
int sink_list_new(struct sink **sinks, unsigned *ret_n, const char *list,
                  const struct sink_env *env, struct buf *why);

#endif
