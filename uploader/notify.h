/* notify.h - tells others that a file is ready: AMQP 0-9-1, webhooks.
 *
 *   PILLION_NOTIFY  none, or a list, separated by commas (%2c inside of an address), of
 *     amqp(s)://[user[:password]@]host[:port]/[vhost][?exchange=…&routing_key=…&heartbeat=…]
 *     http(s)://[user[:password]@]host[:port]/path[?…]
 *
 * Durable: each message is a file in <data_dir>/notify until every target has confirmed it (uploader/notify/queue.h), so that a
 * message is delivered at least once, always under the same id. Each target has its own place in the queue and its own back-off: one
 * that is away holds up no other. Bounded: LIMIT_NOTIFY_MESSAGES and LIMIT_NOTIFY_QUEUE_BYTES; the oldest goes, counted.
 *
 * Loop thread only; files are written by worker threads, and AMQP has a thread of its own inside. */
#ifndef PILLION_UPLOADER_NOTIFY_H
#define PILLION_UPLOADER_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/http.h"

struct notify;

/* Strings are copied; `http` has to outlive it. */
struct notify_env {
    uv_loop_t *loop;
    struct http *http; /* for webhooks; may be NULL when notify_list_needs_http() says no */
    const char *data_dir;
    const char *app, *instance;
    const char *token;          /* signs webhooks (uploader/sign.h); NULL: unsigned */
    const struct http_tls *tls; /* for amqps; may be NULL */
};

/* Whether the list has a webhook. */
bool notify_list_needs_http(const char *list);
/* Checks the list alone: -EINVAL with a line in `why`; for the configuration. */
int notify_list_check(const char *list, struct buf *why);

/* `list` as PILLION_NOTIFY has it; NULL, "" and "none": nobody is told, nothing is kept. -EINVAL with a line in `why` (no secrets);
 * -ENOMEM; another errno, with a line, when <data_dir>/notify cannot be made or read. Reads what an earlier run left: blocks for
 * that. */
int notify_new(struct notify **ret, const char *list, const struct notify_env *env,
               struct buf *why);
/* Goes on with what an earlier run left, and tries the brokers once. Always 0: what fails is tried again. */
int notify_start(struct notify *n);

/* Exactly once for each notify_send() that returned 0, from the loop, never from inside a call of this file: the message is on disk
 * for good (rc 0), or the disk would not say so (-EIO …). */
typedef void (*notify_kept_cb)(void *arg, int rc);

/* id: the message id, the same for each repeat: 1 to 128 of A-Z a-z 0-9 . _ -, not beginning with a dot. One that waits already is
 * not taken twice. Copies. `kept` may be NULL.
 * Returned 0: it is in a file, and will be delivered also when this process is killed now; `kept` tells when a loss of power cannot
 * take it any more. -ENOSPC, -EROFS … it cannot be kept; -EINVAL the id; -EMSGSIZE beyond LIMIT_NOTIFY_BYTES; -ESHUTDOWN; -ENOMEM. */
int notify_send(struct notify *n, const char *id, const char *json, size_t len, notify_kept_cb kept,
                void *arg);
/* Asynchronous, once. What was not confirmed stays on disk. Takes no longer than 2 s whatever a broker does. */
void notify_close(struct notify *n, void (*closed)(void *arg), void *arg);

/* Appends [{"target":…,"state":"idle|up|sending|blocked|failing","backlog":…,"sent":…,"refused":…,"last_success":…,
 * "last_error":…},…] ([] without targets). A negative errno: the buffer's. */
int notify_write_status(const struct notify *n, struct buf *out);
/* Messages that are not confirmed by all of their targets. */
size_t notify_backlog(const struct notify *n);

#endif
