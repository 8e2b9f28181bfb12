/* capture.c - one capture from order to result; what runs on the thread is in job.h.
 *
 *   worker way   FIFO, thread that drains it (drain.c), order to the worker → "started" → bytes → end of file and "done"
 *   stuck way    order to settle, thread with Node's inspector (stuck.c) → its end
 * A worker that does not say "started" within STARTED_MS is taken for stuck: the order is taken back and the other way begins.
 * Whatever happens, the end is one: the thread has ended, nothing more is to come, finish() calls back. A cancel, the deadline and
 * a lost worker only make the thread end (cancel_fd) and say why. One timer looks at the clock ten times a second. */
#include "collectors/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "collectors/capture/fifo.h"
#include "collectors/capture/job.h"
#include "collectors/capture/order.h"
#include "collectors/capture/result.h"

#define TICK_MS     100
#define STARTED_MS  2000
#define WORD_MS     1000  /* from an end that is none to what the worker says of it */
#define CONFIRM_MS  10000 /* from the last byte to the worker's "done" */
#define PROGRESS_MS 500
#define SETTLE_MS   20000 /* beyond the order's own time: then the worker closes what was left open */
#define STACK_BYTES (512 * 1024)
#define JSON_BYTES  (1024 * 1024)

enum phase { PHASE_ORDERED, PHASE_RUNNING, PHASE_SWITCHING, PHASE_STUCK };

struct capture {
    struct capture_env env;
    struct capture_callbacks callbacks;
    void *arg;
    struct capture_target target; /* without its strings */
    struct capture_job job;
    enum phase phase;
    uint64_t number; /* of the order; of the last message to the worker */
    uint64_t last_number;
    uint64_t started_ms, phase_ms, told_ms, ended_ms;
    char fifo[40];
    char *fifo_path; /* owned */
    char summary[64];
    bool fifo_there; /* its name is still in the directory */
    bool thread_runs, thread_over;
    bool confirmed, aborting;
    uint64_t bytes; /* that the worker says it wrote */
    double start_stall_ms, stop_stall_ms;
    int rc; /* aborting: why */
    char reason[512];
    uv_thread_t thread;
    uv_async_t async;
    uv_timer_t timer;
    unsigned open_handles;
};

/* --- beginning and end --------------------------------------------------------------------------------------------------- */

static void release(struct capture *c) {
    if (c->fifo_there)
        (void)unlinkat(c->env.runtime_fd, c->fifo,
                       0); /* the runtime directory is made anew at each start */
    for (int *fd = (int[]){c->job.pidfd, c->job.cancel_fd, c->job.fifo_fd, -2}; *fd != -2; fd++)
        if (*fd >= 0)
            (void)close(*fd); /* only read from */
    output_free(c->job.out);
    output_free(c->job.summary);
    buf_clear(&c->job.text);
    mem_free(c->fifo_path);
    mem_free(c);
}

static void on_closed(uv_handle_t *h) {
    struct capture *c = h->data;

    if (--c->open_handles == 0)
        release(c);
}

static void unlink_fifo(struct capture *c) {
    if (c->fifo_there && unlinkat(c->env.runtime_fd, c->fifo, 0) == 0)
        c->fifo_there = false;
}

/* To the worker; numbers of orders only rise. */
static int tell_worker(struct capture *c, const char *rest) {
    char json[512];
    uint64_t number = clock_mono_ns() / 1000;

    if (number <= c->last_number)
        number = c->last_number + 1;
    c->last_number = number;
    (void)snprintf(json, sizeof(json), "{\"order\":%llu,%s}", (unsigned long long)number, rest);
    return c->callbacks.send(c->arg, json, strlen(json));
}

static void take_back(struct capture *c) {
    char rest[80];

    (void)snprintf(rest, sizeof(rest), "\"action\":\"cancel\",\"which\":%llu",
                   (unsigned long long)c->number);
    (void)tell_worker(c, rest); /* a worker that has gone has nothing to cancel */
}

static void stop_thread(struct capture *c) {
    uint64_t one = 1;

    if (c->thread_runs)
        (void)!write(c->job.cancel_fd, &one, sizeof(one)); /* an eventfd takes it */
}

static void settle(struct capture *c, uint64_t after_ms) {
    char rest[80];

    (void)snprintf(rest, sizeof(rest), "\"action\":\"settle\",\"after_ms\":%llu",
                   (unsigned long long)after_ms);
    (void)tell_worker(c, rest); /* it is there, or has ended */
}

static void finish(struct capture *c) {
    struct result_facts facts = {.stuck = c->phase == PHASE_STUCK,
                                 .confirmed = c->confirmed,
                                 .bytes = c->bytes,
                                 .start_stall_ms = c->start_stall_ms,
                                 .stop_stall_ms = c->stop_stall_ms};
    struct result r;

    uv_close((uv_handle_t *)&c->timer, on_closed);
    uv_close((uv_handle_t *)&c->async, on_closed);
    unlink_fifo(c);
    /* Also when it was closed: the signal has left word in two places, and the loop opens it once more when it turns again. */
    if (c->phase == PHASE_STUCK && !c->target.signal_taken)
        settle(c, 0);
    if (!c->aborting && c->job.rc != 0) {
        c->rc = c->job.rc;
        (void)text_copy(c->reason, sizeof(c->reason), c->job.reason);
    }
    result_make(&r, &c->job, &facts, c->rc, c->reason);
    c->callbacks.done(c->arg, &r.result);
    result_clear(&r);
}

static void abort_with(struct capture *c, int rc, const char *reason) {
    if (c->aborting)
        return;
    c->aborting = true;
    c->rc = rc;
    (void)text_copy(c->reason, sizeof(c->reason), reason);
    if (c->phase == PHASE_ORDERED || c->phase == PHASE_RUNNING)
        take_back(c);
    stop_thread(c);
}

/* --- the thread ---------------------------------------------------------------------------------------------------------- */

static void run_drain(void *arg) {
    struct capture *c = arg;

    job_drain(&c->job);
    (void)uv_async_send(&c->async); /* fails only for a closed handle */
}

static void run_stuck(void *arg) {
    struct capture *c = arg;

    job_stuck(&c->job);
    (void)uv_async_send(&c->async); /* as above */
}

static int start_thread(struct capture *c, void (*fn)(void *)) {
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
    int rc = uv_thread_create_ex(&c->thread, &options, fn, c);

    c->thread_runs = rc == 0;
    c->thread_over = false;
    return rc;
}

static int make_output(struct capture *c) {
    enum capture_action action = c->job.order.action;
    char name[80];

    switch (action) {
    case CAPTURE_STACK:
    case CAPTURE_GC_TRACE:
        return output_memory(&c->job.out, JSON_BYTES, OUTPUT_JSON);
    case CAPTURE_HEAP_HISTOGRAM:
        return output_memory(&c->job.out, 0, OUTPUT_SNAPSHOT);
    default:
        break;
    }
    (void)snprintf(name, sizeof(name), "%s.%s", c->fifo, result_extension(action));
    return output_file(&c->job.out, c->env.work_fd, name,
                       action == CAPTURE_HEAP_SNAPSHOT ? OUTPUT_SNAPSHOT
                       : action == CAPTURE_CPU_PROFILE ? OUTPUT_PROFILE
                                                       : OUTPUT_JSON);
}

static int begin_stuck(struct capture *c) {
    bool stack = c->job.order.action == CAPTURE_STACK;
    char why[256];
    int rc = order_check_stuck(&c->job.order, &c->target, why);
    uint64_t drain;

    if (rc != 0) {
        c->aborting = true;
        c->rc = rc;
        (void)text_copy(c->reason, sizeof(c->reason), why);
        return rc;
    }
    (void)!read(c->job.cancel_fd, &drain, sizeof(drain)); /* it is not blocking: empty is fine */
    c->phase = PHASE_STUCK;
    c->phase_ms = clock_mono_ms();
    output_free(c->job.out);
    c->job.out = NULL;
    rc = stack ? 0 : make_output(c);
    c->job.rc = 0;
    c->job.reason[0] = '\0';
    c->job.hands_off = c->target.signal_taken;
    if (!c->target.signal_taken)
        settle(c, c->job.order.seconds * 1000ULL + SETTLE_MS);
    return rc == 0 ? start_thread(c, run_stuck) : rc;
}

static void maybe_finish(struct capture *c) {
    if (!c->thread_over)
        return;
    if (c->phase == PHASE_SWITCHING && !c->aborting) {
        int rc = begin_stuck(c);

        if (rc == 0)
            return;
        if (!c->aborting) {
            c->aborting = true;
            c->rc = rc;
            (void)text_copy(c->reason, sizeof(c->reason), strerror(-rc));
        }
    }
    /* A worker that says "done" has closed its end: the two come in any order. */
    if (c->aborting || c->phase == PHASE_STUCK || c->confirmed)
        finish(c);
}

static void on_thread_end(uv_async_t *async) {
    struct capture *c = async->data;

    if (!c->thread_runs)
        return;
    (void)uv_thread_join(&c->thread); /* it has said its last word */
    c->thread_runs = false;
    c->thread_over = true;
    c->ended_ms = clock_mono_ms();
    /* A worker that still writes gets an error from now on. A stuck way may need it yet. */
    if (c->phase == PHASE_RUNNING) {
        (void)close(c->job.fifo_fd);
        c->job.fifo_fd = -1;
    }
    if (c->phase == PHASE_RUNNING && c->job.rc != 0 && !c->job.at_end)
        abort_with(c, c->job.rc, c->job.reason);
    maybe_finish(c);
}

/* --- time ---------------------------------------------------------------------------------------------------------------- */

static void tell_progress(struct capture *c, uint64_t now) {
    double share = order_is_timed(c->job.order.action)
                       ? (double)(now - c->phase_ms) / (c->job.order.seconds * 1000.0)
                   : c->job.out != NULL ? output_share(c->job.out)
                                        : (double)NAN;
    uint64_t bytes = c->job.out != NULL ? output_raw_bytes(c->job.out) : 0;
    char size[32], note[64];

    c->told_ms = now;
    text_format_size(bytes, size, sizeof(size));
    (void)snprintf(note, sizeof(note), "writing, %s", size);
    c->callbacks.progress(c->arg, share > 1 ? 1 : share, bytes > 0 ? note : NULL);
}

static void look_at_clock(struct capture *c, uint64_t now) {
    uint64_t patience = c->job.rc != 0 ? WORD_MS : CONFIRM_MS;

    if (now - c->started_ms >= c->job.order.deadline_ms) {
        abort_with(c, -ETIMEDOUT, "it was not done within its deadline");
    } else if (c->phase == PHASE_ORDERED && now - c->phase_ms >= STARTED_MS) {
        c->phase = PHASE_SWITCHING;
        take_back(c);
        stop_thread(c);
    } else if (c->phase == PHASE_RUNNING && c->thread_over && !c->confirmed &&
               now - c->ended_ms >= patience) {
        abort_with(c, c->job.rc != 0 ? c->job.rc : -EPROTO,
                   c->job.rc != 0 ? c->job.reason : "the worker did not say that it was all");
    } else if (now - c->told_ms >= PROGRESS_MS &&
               (c->phase == PHASE_RUNNING || c->phase == PHASE_STUCK)) {
        tell_progress(c, now);
    }
}

static void on_tick(uv_timer_t *timer) {
    struct capture *c = timer->data;

    if (!c->aborting)
        look_at_clock(c, clock_mono_ms());
    maybe_finish(c);
}

/* --- what happens -------------------------------------------------------------------------------------------------------- */

static void on_worker_done(struct capture *c, const json_t *root) {
    c->bytes = (uint64_t)json_integer_value(json_object_get(root, "bytes"));
    c->start_stall_ms = json_number_value(json_object_get(root, "start_ms"));
    c->stop_stall_ms = json_number_value(json_object_get(root, "stop_ms"));
    c->confirmed = true;
}

void capture_answer(struct capture *c, const char *json, size_t len) {
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
    const char *state = json_string_value(json_object_get(root, "state"));
    const char *reason = json_string_value(json_object_get(root, "reason"));
    bool ours = (uint64_t)json_integer_value(json_object_get(root, "order")) == c->number;

    if (ours && state != NULL && !c->aborting && c->phase <= PHASE_RUNNING) {
        if (strcmp(state, "started") == 0 && c->phase == PHASE_ORDERED) {
            c->phase = PHASE_RUNNING;
            c->phase_ms = clock_mono_ms();
            unlink_fifo(c);
        } else if (strcmp(state, "done") == 0) {
            on_worker_done(c, root);
        } else if (strcmp(state, "failed") == 0) {
            abort_with(c, -EIO, reason != NULL ? reason : "the worker could not");
        }
    }
    json_decref(root);
    /* Not from here when all is over already: on_tick() does, and the caller may forget us in between. */
}

void capture_disconnected(struct capture *c) {
    if (c->phase != PHASE_STUCK)
        abort_with(c, -EPIPE, "the worker's connection has ended");
}

void capture_cancel(struct capture *c) {
    abort_with(c, -ECANCELED, "cancelled");
}

/* --- start --------------------------------------------------------------------------------------------------------------- */

static int make_names(struct capture *c) {
    unsigned char random[8];
    char *at = c->fifo + strlen("capture-");
    size_t size = strlen(c->env.runtime_dir) + sizeof(c->fifo) + 2;

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EIO;
    memcpy(c->fifo, "capture-", strlen("capture-"));
    for (size_t i = 0; i < sizeof(random); i++)
        (void)snprintf(at + 2 * i, 3, "%02x", random[i]);
    c->fifo_path = mem_alloc(size);
    if (c->fifo_path == NULL)
        return -ENOMEM;
    (void)snprintf(c->fifo_path, size, "%s/%s", c->env.runtime_dir, c->fifo);
    c->job.fifo_path = c->fifo_path;
    (void)snprintf(c->summary, sizeof(c->summary), "%s.json.gz", c->fifo);
    c->job.summary_name = c->summary;
    c->job.work_fd = c->env.work_fd;
    return 0;
}

static int open_all(struct capture *c, const struct capture_target *target) {
    int rc = make_names(c);

    if (rc != 0)
        return rc;
    c->job.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->job.cancel_fd < 0)
        return -errno;
    if (target->pidfd >= 0) {
        c->job.pidfd = fcntl(target->pidfd, F_DUPFD_CLOEXEC, 0);
        if (c->job.pidfd < 0)
            return -errno;
    }
    rc = fifo_make(c->env.runtime_fd, c->fifo, target->uid, &c->job.fifo_fd);
    c->fifo_there = rc == 0;
    return rc;
}

static int send_order(struct capture *c) {
    char rest[256];
    int rc;

    (void)snprintf(
        rest, sizeof(rest), "\"action\":\"%s\",\"seconds\":%u,\"interval_us\":%u,\"fifo\":\"%s\"",
        c->job.order.action == CAPTURE_HEAP_HISTOGRAM ? "heap_snapshot"
                                                      : capture_action_name(c->job.order.action),
        c->job.order.seconds, c->job.order.interval_us, c->fifo);
    rc = tell_worker(c, rest);
    c->number = c->last_number;
    return rc;
}

static int start_way(struct capture *c, bool stuck) {
    int rc = make_output(c);

    if (rc == 0 && stuck)
        return begin_stuck(c);
    if (rc == 0)
        rc = start_thread(c, run_drain);
    /* An order that cannot be sent (a worker that reads nothing) is one that is not answered. */
    if (rc == 0)
        (void)send_order(c);
    return rc;
}

static int capture_new(struct capture **ret, const struct capture_env *env,
                       const struct capture_target *target, const struct capture_order *order,
                       const struct capture_callbacks *callbacks, void *arg) {
    struct capture *c = mem_calloc(1, sizeof(*c));

    if (c == NULL)
        return -ENOMEM;
    c->env = *env;
    c->callbacks = *callbacks;
    c->arg = arg;
    c->target = *target;
    c->target.id = c->target.node = NULL;
    c->target.pidfd = -1;
    c->job = (struct capture_job){.order = *order, .pidfd = -1, .cancel_fd = -1, .fifo_fd = -1};
    c->job.process = (struct process_view){
        .proc_fd = env->proc_fd, .pid = target->pid, .start_ticks = target->start_ticks};
    buf_init(&c->job.text, JSON_BYTES);
    order_defaults(&c->job.order);
    c->started_ms = c->phase_ms = c->told_ms = clock_mono_ms();
    c->async.data = c->timer.data = c;
    *ret = c;
    return 0;
}

int capture_start(struct capture **ret, const struct capture_env *env,
                  const struct capture_target *target, const struct capture_order *order,
                  const struct capture_callbacks *callbacks, void *arg, char *why) {
    struct capture *c = NULL;
    int rc = order_check(order, target, why);

    if (rc == 0 && target->blocked)
        rc = order_check_stuck(order, target, why);
    if (rc != 0)
        return rc;
    rc = capture_new(&c, env, target, order, callbacks, arg);
    if (rc == 0)
        rc = open_all(c, target);
    if (rc == 0)
        rc = uv_async_init(env->loop, &c->async, on_thread_end);
    if (rc != 0) {
        (void)snprintf(why, 256, "it could not be begun: %s", strerror(-rc));
        if (c != NULL)
            release(c);
        return rc;
    }
    c->open_handles = 2;
    (void)uv_timer_init(env->loop, &c->timer);                  /* cannot fail */
    (void)uv_timer_start(&c->timer, on_tick, TICK_MS, TICK_MS); /* nor can this */
    rc = start_way(c, target->blocked);
    if (rc != 0) {
        (void)snprintf(why, 256, "it could not be begun: %s", strerror(-rc));
        uv_close((uv_handle_t *)&c->timer, on_closed);
        uv_close((uv_handle_t *)&c->async, on_closed);
        return rc;
    }
    *ret = c;
    return 0;
}
