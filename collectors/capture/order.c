/* order.c - what can be ordered: names of actions, limits, and whether a worker can do it at all; before anything runs. */
#include "collectors/capture/order.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

#define SECONDS_MAX       300
#define INTERVAL_LEAST_US 100
#define INTERVAL_MOST_US  100000
#define INTERVAL_US       1000
#define NODE_LEAST        18
#define MIB               (1024.0 * 1024.0)
/* Measured on Node 18 to 26: a snapshot by V8's own way takes 3 to 8.4 times the heap on top, and 2 to 11 s for each 100 MB. */
#define SNAPSHOT_ROOM_LEAST 3.0
#define SNAPSHOT_ROOM_MOST  8.0
#define STALL_LEAST_S       2.0
#define STALL_MOST_S        11.0

static const char *const NAMES[CAPTURE_ACTIONS] = {
    [CAPTURE_HEAP_SNAPSHOT] = "heap_snapshot",
    [CAPTURE_HEAP_HISTOGRAM] = "heap_histogram",
    [CAPTURE_CPU_PROFILE] = "cpu_profile",
    [CAPTURE_HEAP_PROFILE] = "heap_profile",
    [CAPTURE_GC_TRACE] = "gc_trace",
    [CAPTURE_REPORT] = "report",
    [CAPTURE_STACK] = "stack",
};

const char *capture_action_name(enum capture_action action) {
    return (unsigned)action < CAPTURE_ACTIONS ? NAMES[action] : NULL;
}

int capture_action_read(const char *name, enum capture_action *ret) {
    for (unsigned i = 0; i < CAPTURE_ACTIONS; i++)
        if (strcmp(NAMES[i], name) == 0) {
            *ret = (enum capture_action)i;
            return 0;
        }
    return -EINVAL;
}

bool order_is_timed(enum capture_action action) {
    return action == CAPTURE_CPU_PROFILE || action == CAPTURE_HEAP_PROFILE ||
           action == CAPTURE_GC_TRACE;
}

bool order_is_snapshot(enum capture_action action) {
    return action == CAPTURE_HEAP_SNAPSHOT || action == CAPTURE_HEAP_HISTOGRAM;
}

static void estimate(const struct capture_target *t, char *out, size_t size) {
    double hundreds = t->heap_used_bytes / 1e8;

    if (!(t->heap_used_bytes >= 0))
        (void)snprintf(out, size, "how large its heap is is not known");
    else
        (void)snprintf(out, size,
                       "the worker stands still for %.0f to %.0f s and takes %.0f to %.0f MiB more",
                       ceil(hundreds * STALL_LEAST_S), ceil(hundreds * STALL_MOST_S),
                       ceil(t->heap_used_bytes * SNAPSHOT_ROOM_LEAST / MIB),
                       ceil(t->heap_used_bytes * SNAPSHOT_ROOM_MOST / MIB));
}

static int check_snapshot(const struct capture_order *o, const struct capture_target *t,
                          char *why) {
    char cost[128];
    bool room = t->heap_used_bytes >= 0 && t->heap_used_bytes * SNAPSHOT_ROOM_MOST <= t->room_bytes;

    estimate(t, cost, sizeof(cost));
    if (!o->allow_stall) {
        (void)snprintf(why, 256,
                       "only V8's own way is left, and it has to be allowed (allow_stall): %s",
                       cost);
        return -ENOTSUP;
    }
    if (room || o->force)
        return 0;
    if (t->room_bytes >= 0)
        (void)snprintf(why, 256,
                       "too little memory: %s, and %.0f MiB are left in the container; force does "
                       "it all the same",
                       cost, floor(t->room_bytes / MIB));
    else
        (void)snprintf(
            why, 256,
            "%s, and what the container has left is not known; force does it all the same", cost);
    return -ENOTSUP;
}

int order_check(const struct capture_order *o, const struct capture_target *t, char *why) {
    if (capture_action_name(o->action) == NULL) {
        (void)snprintf(why, 256, "no such action");
        return -EINVAL;
    }
    if (order_is_timed(o->action) && (o->seconds < 1 || o->seconds > SECONDS_MAX)) {
        (void)snprintf(why, 256, "seconds: %u is not accepted, 1 to %d are", o->seconds,
                       SECONDS_MAX);
        return -EINVAL;
    }
    if (o->interval_us != 0 &&
        (o->interval_us < INTERVAL_LEAST_US || o->interval_us > INTERVAL_MOST_US)) {
        (void)snprintf(why, 256, "interval_us: %u is not accepted, %d to %d are", o->interval_us,
                       INTERVAL_LEAST_US, INTERVAL_MOST_US);
        return -EINVAL;
    }
    if (t->node == NULL || t->node[0] != 'v' || strtol(t->node + 1, NULL, 10) < NODE_LEAST) {
        (void)snprintf(why, 256, "the worker is no Node.js %d or later", NODE_LEAST);
        return -ENOTSUP;
    }
    if (!t->connected) {
        (void)snprintf(why, 256, "the worker is not connected");
        return -ENOTSUP;
    }
    return order_is_snapshot(o->action) ? check_snapshot(o, t, why) : 0;
}

int order_check_stuck(const struct capture_order *o, const struct capture_target *t, char *why) {
    const char *reason = NULL;

    if (o->action == CAPTURE_GC_TRACE)
        reason = "a gc_trace takes a loop that turns";
    else if (t->thread != 0)
        reason = "a worker thread whose loop is stuck cannot be reached from outside";
    else if (t->pid <= 0)
        reason = "its process cannot be seen from here";
    else if (t->signal_taken && o->action != CAPTURE_STACK)
        reason = "the application keeps SIGUSR1 or the inspector for itself";
    if (reason == NULL)
        return 0;
    (void)snprintf(why, 256, "its event loop is blocked, and %s", reason);
    return -ENOTSUP;
}

void order_defaults(struct capture_order *o) {
    if (o->interval_us == 0)
        o->interval_us = INTERVAL_US;
    if (!order_is_timed(o->action))
        o->seconds = 0;
}
