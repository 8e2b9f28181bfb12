/* inspector.h - a client of Node's inspector on loopback: Chrome DevTools Protocol over WebSocket. Blocks, on a thread of its own.
 *
 * Every wait ends by `cancel_fd` (readable: -ECANCELED) or by its timeout (-ETIMEDOUT). What the other side sends is not trusted:
 * lengths are capped, and what is longer is dropped, except what streams into an output. */
#ifndef PILLION_CAPTURE_INSPECTOR_H
#define PILLION_CAPTURE_INSPECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "collectors/capture/output.h"
#include "collectors/capture/websocket.h"

#define INSPECTOR_MESSAGE_BYTES (2 * 1024 * 1024)
#define INSPECTOR_SCRIPTS_BYTES (1024 * 1024) /* later ones are left out */

struct inspector {
    int fd;        /* -1: not connected */
    int cancel_fd; /* borrowed; -1: none */
    struct websocket_reader reader;
    uint64_t id; /* of the last call */
    struct buf message;
    bool skip;         /* the rest of this message: too long */
    bool answered;     /* `answer` holds what came to call `id` */
    struct buf answer; /* whole message */
    const char *event; /* the one that is waited for, NULL: none */
    bool happened;
    struct buf happening; /* its message */
    struct output *stream;
    char stream_head
        [64]; /* what the message that streams begins with, and how much of it was seen */
    size_t stream_head_len;
    bool streaming;
    char tail[2]; /* the last two bytes, which close the message around the streamed object */
    size_t tail_len;
    struct buf scripts; /* what Debugger.enable told: "\n<scriptId> <url as a JSON string>" … */
    bool closed;        /* by the other side */
};

void inspector_init(struct inspector *i, int cancel_fd);
/* -ECONNREFUSED, -EPROTO (no inspector of Node's) … with a reason in `why` (256 bytes). */
int inspector_connect(struct inspector *i, unsigned port, uint64_t timeout_ms, char *why);
/* One call; `params`: a JSON object, or NULL. `answer` then holds {"id":…,"result":{…}}; -EREMOTEIO: it is an error. */
int inspector_call(struct inspector *i, const char *method, const char *params,
                   uint64_t timeout_ms);
/* A call whose result is {"<key>":{…}}: that inner object goes into `out` as it comes. */
int inspector_stream(struct inspector *i, const char *method, const char *key, struct output *out,
                     uint64_t timeout_ms);
/* Waits for an event of which inspector_expect() was told before it can happen. */
void inspector_expect(struct inspector *i, const char *method);
int inspector_wait(struct inspector *i, uint64_t timeout_ms);
/* Sends without waiting for the answer. */
int inspector_send(struct inspector *i, const char *method, const char *params);
/* Waits for the other side's close. */
int inspector_wait_closed(struct inspector *i, uint64_t timeout_ms);
void inspector_clear(struct inspector *i);

#endif
