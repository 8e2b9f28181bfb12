/* capture.h - fetches one thing out of one worker: heap snapshot, profile, stack, diagnostic report. Loop thread only.
 *
 * One capture is one struct capture, from capture_start() to its done callback, which comes exactly once and never from inside
 * capture_start() or capture_cancel(). It ends in bounded time by itself (order->deadline_ms). The worker is left as it was found:
 * inspector closed, profiler stopped, no descriptor, no file.
 *
 * Healthy loop: an order goes to the worker over its connection (frame type "order", ipc/PROTOCOL.md), collectors/node/capture.js
 * does it in-process and writes bytes into a FIFO of ours in the runtime directory. Stuck loop: Node's inspector signal (SIGUSR1)
 * and a WebSocket on loopback. */
#ifndef PILLION_CAPTURE_H
#define PILLION_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

enum capture_action {
    CAPTURE_HEAP_SNAPSHOT,
    CAPTURE_HEAP_HISTOGRAM,
    CAPTURE_CPU_PROFILE,
    CAPTURE_HEAP_PROFILE,
    CAPTURE_GC_TRACE,
    CAPTURE_REPORT,
    CAPTURE_STACK,
};
#define CAPTURE_ACTIONS 7

/* "heap_snapshot" …; NULL / -EINVAL: none of them. */
const char *capture_action_name(enum capture_action action);
int capture_action_read(const char *name, enum capture_action *ret);

struct capture_order {
    enum capture_action action;
    unsigned seconds;     /* profiles, gc_trace: 1 to 300 */
    unsigned interval_us; /* cpu_profile: time between samples, 100 to 100000; 0: 1000 */
    bool allow_stall;     /* heap_snapshot: V8's own way, which stops the worker, may be taken */
    bool force;           /* even without the memory for it */
    uint64_t deadline_ms; /* from the start */
};

/* What the agent knows of the worker at the start. Strings live during capture_start() only. */
struct capture_target {
    pid_t pid; /* as seen from our pid namespace; 0: not visible from here (no signal, no /proc) */
    uint64_t start_ticks;
    int pidfd;       /* borrowed for the call (dup it); -1: none */
    uint32_t thread; /* 0: the main thread */
    uid_t uid;
    const char *id;    /* "<pid>:<start>" */
    const char *node;  /* "v22.1.0" */
    bool connected;    /* orders can be sent to it */
    bool blocked;      /* its loop does not turn */
    bool signal_taken; /* it sent a note "inspector": own handler of SIGUSR1, or own inspector */
    double heap_used_bytes, heap_limit_bytes, rss_bytes; /* NaN: not known */
    double
        room_bytes; /* what the container has left below its memory limit; INFINITY: no limit; NaN: not known */
};

/* A finished file. */
struct capture_file {
    const char *kind;      /* "heap_snapshot", "cpu_profile", "flamegraph", "heap_summary" … */
    const char *extension; /* "heapsnapshot.gz", "cpuprofile.gz", "html", "json" … */
    const char *name;      /* in env->work_fd; whoever gets it owns the file */
    uint64_t bytes;
    char sha256[65];
};
#define CAPTURE_FILES_MAX 4

struct capture_result {
    int rc;             /* 0; else a negative errno, and no files */
    const char *reason; /* rc != 0: for people: what, why, what to do */
    const char *
        json; /* small results (stack, heap_histogram, gc_trace, facts of a profile such as the real rate); NULL: none */
    size_t json_len;
    struct capture_file files[CAPTURE_FILES_MAX];
    unsigned n_files;
};

struct capture_callbacks {
    /* share: 0..1, or NaN when unknown; note: for people, may be NULL ("writing, 120 MiB"). */
    void (*progress)(void *arg, double share, const char *note);
    void (*done)(void *arg, const struct capture_result *result); /* lives during the call */
    /* Sends an order to the worker: one JSON object as a frame. -ENOTCONN: it is not there. */
    int (*send)(void *arg, const char *json, size_t len);
};

struct capture_env {
    uv_loop_t *loop;
    int runtime_fd;          /* where FIFOs are made */
    const char *runtime_dir; /* its full name, as a worker sees it */
    int work_fd;             /* where files are made (temporary names) */
    int proc_fd;             /* /proc, or -1 */
};

struct capture;

/* -EINVAL the order, -ENOTSUP this action is not possible for this target; with a line in `why` (256 bytes). -ENOMEM. */
int capture_start(struct capture **ret, const struct capture_env *env,
                  const struct capture_target *target, const struct capture_order *order,
                  const struct capture_callbacks *callbacks, void *arg, char *why);
/* What the worker answered to an order of this capture: one JSON object. */
void capture_answer(struct capture *c, const char *json, size_t len);
/* Its connection has ended. */
void capture_disconnected(struct capture *c);
/* done comes with -ECANCELED, soon. */
void capture_cancel(struct capture *c);

#endif
