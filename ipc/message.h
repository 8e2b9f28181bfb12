/* message.h - the payloads of ipc/PROTOCOL.md, between bytes and structs. No I/O, no state. */
#ifndef PILLION_MESSAGE_H
#define PILLION_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/schema.h"

struct hello {
    unsigned protocol; /* the highest version both sides know */
    pid_t pid;
    pid_t ppid;
    uint64_t start_ticks; /* 0: not known to the worker */
    uint32_t thread;
    const char *role; /* static */
    char title[LIMIT_LABEL_BYTES + 1];
    char node[32];
    char app[LIMIT_LABEL_BYTES + 1];
    uint64_t next;
    struct schema *schema;
};

struct welcome {
    uint64_t interval_ms;
    uint64_t beat_ms; /* 0: none */
    uint64_t hold_bytes;
    uint64_t stored; /* 0: nothing */
};

enum worker_event_kind { EVENT_EXIT, EVENT_CHILD_EXIT, EVENT_ROLE, EVENT_DROPPED, EVENT_NOTE };

struct worker_event {
    enum worker_event_kind kind;
    pid_t pid;                           /* child_exit */
    int code;                            /* exit, child_exit: -1 when ended by a signal */
    int signal;                          /* child_exit: number, 0 when none */
    uint64_t samples;                    /* dropped */
    const char *role;                    /* role; static */
    char reason[64];                     /* exit: uncaughtException …; note: what */
    char message[LIMIT_LABEL_BYTES + 1]; /* exit; note: why */
};

/* Each returns 0 or -EINVAL with the reason in `why` (256 bytes; names the key and what is accepted), or -ENOMEM.
 * -EPROTONOSUPPORT: no version in common. -ENOENT (events): one that this version does not know. */
int message_read_hello(const char *json, size_t len, struct hello *ret, char *why);
void message_clear_hello(struct hello *h);
int message_read_event(const char *json, size_t len, struct worker_event *ret, char *why);
/* Looks whether it is an answer at all; what else is in it belongs to whoever gave the order. */
int message_read_answer(const char *json, size_t len, uint64_t *ret_order, char *why);

/* Whole frames, header included, appended to `out`. */
void message_write_welcome(struct buf *out, const struct welcome *w);
void message_write_ack(struct buf *out, uint64_t number);
void message_write_later(struct buf *out, uint64_t after_ms, const char *reason);
void message_write_refused(struct buf *out, const char *reason);
/* `json`: one object, whole; 1 to FRAME_PAYLOAD_BYTES bytes. */
void message_write_order(struct buf *out, const char *json, size_t len);

#endif
