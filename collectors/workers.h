/* workers.h - what is known of each worker right now: who it is, its state, its newest numbers and a short history.
 *
 * A worker (or worker thread) is named by pid and start time, never by a pid alone. Values that are not known are NaN.
 * Loop thread only. Workers that have ended stay visible for LIMIT_GONE_KEEP_MS. */
#ifndef PILLION_WORKERS_H
#define PILLION_WORKERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/limits.h"
#include "agent/base/schema.h"
#include "collectors/proc.h"

#define WORKER_ID_BYTES 48
#define WORKER_NO_SLOT  UINT16_MAX

enum worker_state { WORKER_LIVE, WORKER_BLOCKED, WORKER_SILENT, WORKER_GONE };

/* One point a second, for the line of history in `top`; NaN where nothing was known. */
struct worker_point {
    float cpu;         /* share of one core */
    float memory;      /* resident set, bytes */
    float utilization; /* of the event loop, 0 to 1 */
};

struct worker {
    char id[WORKER_ID_BYTES]; /* "<pid>:<start time>", for a thread "<pid>:<start time>/<thread>" */
    pid_t pid;                /* as the worker's own namespace names it */
    pid_t ppid;
    uint64_t start_ticks; /* field 22 of /proc/<pid>/stat */
    uint32_t thread;      /* 0: main thread */
    const char *role;     /* static: primary, worker, agent, process, thread */
    char title[LIMIT_LABEL_BYTES + 1];
    char node[32];

    enum worker_state state;
    int64_t since_ms;            /* wall clock: when it came into this state */
    int64_t last_sample_ms;      /* wall clock of the newest sample's measurement; 0: none yet */
    uint64_t last_heard_mono_ms; /* when the last frame came */
    uint64_t last_sample;        /* number of the newest sample; 0: none yet */

    /* One layout for what the worker measured itself and what the kernel says of it; a thing that both know has one slot. */
    struct schema *schema;
    struct schema *inside; /* the worker's own part of it, as its hello named it */
    double *values;        /* schema->n_slots */
    uint16_t n_inside;     /* slots [0, n_inside) come from the worker */
    uint16_t outside_slot[PROC_METRICS];

    struct worker_point history[LIMIT_HISTORY]; /* ring */
    uint8_t history_next;                       /* oldest point, where the next one goes */

    int proc_dirfd; /* /proc/<pid>, -1 when its pid cannot be seen from here */
    void *owner;    /* the agent's own data of this worker */
};

struct workers;

int workers_new(struct workers **ret);
void workers_free(struct workers *ws);
size_t workers_count(const struct workers *ws);
struct worker *workers_at(const struct workers *ws,
                          size_t i); /* in order of appearance, gone ones included */
struct worker *workers_find(const struct workers *ws, const char *id);

/* The newest with this pid that is not a thread, or NULL. */
struct worker *workers_find_pid(const struct workers *ws, pid_t pid);
/* -EAGAIN: too many already. *ret belongs to the table. */
int workers_add(struct workers *ws, struct worker **ret, pid_t pid, uint64_t start_ticks,
                uint32_t thread);
/* Frees it; closes its directory. */
void workers_remove(struct workers *ws, struct worker *w);

void worker_make_id(char out[WORKER_ID_BYTES], pid_t pid, uint64_t start_ticks, uint32_t thread);
/* Joins what a hello named with what the kernel knows (a schema of PROC_TABLE, in its order) and forgets all values. */
int worker_set_layout(const struct workers *ws, struct worker *w, struct schema *inside,
                      const struct schema *outside);
/* The newest reading of the kernel; NaN is not known. */
void worker_set_outside(struct worker *w, const double values[PROC_METRICS]);
/* The worker's own numbers are old now: they become unknown. What the kernel said stays. */
void worker_forget_inside(struct worker *w);
/* One more point of history from the values as they are; cores in use, NaN when not known. */
void worker_add_point(struct worker *w, double cores);

const char *worker_state_name(enum worker_state s); /* live, blocked, silent, gone */
/* The value of a one-slot field by its key, NaN when there is none or it is not known. For pages, not for the hot path. */
double worker_value(const struct worker *w, const char *key);

#endif
