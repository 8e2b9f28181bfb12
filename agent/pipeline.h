/* pipeline.h - flow A: a worker's sample on its way into a batch, and its acknowledgement on the way back. Loop thread only.
 *
 *   hello   → who is it (ride)                          ipc/server → here
 *   sample  → values, what the kernel adds, one record  → collectors/workers → collectors/record → uploader
 *   kept    → the batch is safe: acknowledge            uploader → acks → ipc/server
 *   tick    → who is silent, blocked, gone              agent/watcher */
#ifndef PILLION_PIPELINE_H
#define PILLION_PIPELINE_H

#include <uv.h>

#include "agent/acks.h"
#include "agent/base/buf.h"
#include "agent/base/schema.h"
#include "agent/config.h"
#include "agent/events.h"
#include "collectors/cgroup.h"
#include "collectors/exits.h"
#include "collectors/proc.h"
#include "collectors/workers.h"
#include "ipc/server.h"
#include "uploader/uploader.h"

struct ride;

/* What others want to know of workers, beyond their numbers. Each may be NULL. */
struct pipeline_hooks {
    /* It answered an order. */
    void (*answered)(void *arg, struct ride *r, uint64_t order, const char *json, size_t len);
    void (*disconnected)(void *arg, struct ride *r);
    void (*blocked)(void *arg, struct ride *r);
    /* Memory near its limit: the heap of this worker, or, without one, the container. */
    void (*memory)(void *arg, struct ride *r);
    /* It has ended, and not with code 0. */
    void (*crashed)(void *arg, struct ride *r);
};

struct pipeline {
    const struct config *config;
    const struct pipeline_hooks *hooks; /* NULL: nobody wants to know */
    void *hooks_arg;
    struct workers *workers;
    struct uploader *uploader;
    struct cgroup *cgroup; /* NULL: there is none that can be read */
    struct cgroup_reading container;
    struct schema *proc_schema;
    struct schema *container_schema;
    struct events events;
    struct acks acks;
    struct buf record;
    int proc_fd; /* /proc of our own pid namespace, or -1 */
    int root_fd; /* "/" */

    /* agent/watcher.c */
    uint64_t tick_ms;      /* monotonic: the last turn */
    uint64_t container_ms; /* the last reading of the container */
    uint64_t recorded_ms;  /* the last record of it */
    uint64_t point_ms;     /* the last points of history */
    bool memory_alarm;
    uint64_t log_blocked, log_exits;
    double oom_kills;       /* of the container when last looked, NaN not known */
    double oom_kills_older; /* a reading before */
};

/* What the agent knows of a worker beyond its numbers. Owned by worker->owner. */
struct ride {
    struct worker *worker;
    struct ipc_worker *connection; /* NULL: not connected */
    struct pipeline *pipeline;
    int pidfd;           /* of the process, -1 */
    uid_t uid;           /* of the process, as it was when it connected */
    uint64_t closed_ms;  /* monotonic: when the connection ended */
    uint64_t ended_ms;   /* when the process was first seen to have ended; 0 not yet */
    uint64_t blocked_ms; /* when its loop was last heard before it was called blocked */
    uint64_t outside_ms; /* the last reading of /proc */
    uint64_t written_ms; /* the reading that a record has carried */
    struct proc_reading outside;
    struct exit_evidence evidence;
    double oom_kills_before; /* of the container, before the connection ended */
    uint64_t acked;          /* highest sample acknowledged */
    size_t unacked_bytes;    /* what it holds for us */
    uint64_t dropped;        /* samples that it says it dropped */
    double *last_inside;     /* its own last numbers, kept while it is silent; NULL */
    bool heap_alarm;
    bool signal_taken; /* the application keeps SIGUSR1 or the inspector for itself */
};

extern const struct ipc_callbacks pipeline_callbacks; /* its arg is a struct pipeline */

/* Opens the collectors. The pointers in `options` stay the caller's. A machine without cgroups or /proc is no error.
 * pipeline_clear() is called in every case. */
int pipeline_init(struct pipeline *p, const struct config *config, struct workers *workers);
/* After the last worker's connection has been closed. */
void pipeline_clear(struct pipeline *p);
void pipeline_set_uploader(struct pipeline *p, struct uploader *u);

/* For uploader_new(). */
void pipeline_on_kept(void *arg, uint64_t seq, int rc);
/* Finds the container's control group, again if need be; without one p->cgroup is NULL. */
void pipeline_open_container(struct pipeline *p);
/* How long a worker may be silent between two frames. */
uint64_t pipeline_period_ms(const struct config *config);
/* Reads /proc once and derives rates; what cannot be read is unknown. */
void pipeline_read_outside(struct ride *r, uint64_t now_ms);
/* A record of kind "process" from the worker's values as they are. sample 0: made from outside alone. */
void pipeline_write_record(struct ride *r, int64_t wall_ms, uint64_t sample);
void ride_free(struct ride *r);

#endif
