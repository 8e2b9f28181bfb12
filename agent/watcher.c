/* Happy path: each second the container is read, every worker that was heard is left alone, one point of history is added.
 * It fails by: a loop that does not turn (event "blocked", from then on a record from outside in place of each sample, then
 * "unblocked"), a connection that ends (the process is looked at until it is gone or is back; then "exited" with the cause), a
 * clock that jumped because this process itself was stopped (nobody is blamed for that). */
#include "agent/watcher.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "collectors/record.h"
#include "collectors/watch.h"

#define EVERY_MS 1000
#define LOG_EVERY_MS                                                                               \
    250 /* a hundred workers that end together are one trouble; all of them are in the events */
#define STALL_MS           500   /* our own turn came so much too late: we were stopped, not they */
#define CONTAINER_MS       950   /* the container is read once a second at most */
#define THREAD_BACK_MS     3000  /* a thread that does not connect again in this time has ended */
#define UNSEEN_BACK_MS     10000 /* the same for a process that we cannot see */
#define EVIDENCE_MS        800 /* how long to wait for the word of a parent once a process has ended */
#define KILLED_TOGETHER_MS 3000

uint64_t watcher_every_ms(const struct config *config) {
    uint64_t half = config->blocked_after_ms / 2;

    return half < EVERY_MS ? half : EVERY_MS;
}

static void change_state(struct worker *w, enum worker_state state) {
    w->state = state;
    w->since_ms = clock_wall_ms();
}

/* --- blocked and free again --- */

/* The worker's own numbers are put aside: they are of the past, and would lie on a chart. */
static void put_inside_aside(struct ride *r) {
    struct worker *w = r->worker;

    if (r->last_inside == NULL && w->last_sample != 0)
        r->last_inside =
            mem_memdup(w->values, w->n_inside * sizeof(double)); /* or the exit event lacks them */
    worker_forget_inside(w);
}

static void take_inside_back(struct ride *r) {
    struct worker *w = r->worker;

    if (r->last_inside != NULL)
        memcpy(w->values, r->last_inside, w->n_inside * sizeof(double));
    mem_free(r->last_inside);
    r->last_inside = NULL;
}

static void became_blocked(struct ride *r, uint64_t now_ms) {
    struct events *e = &r->pipeline->events;
    char where[PROC_WHERE_BYTES];
    struct buf *b;

    r->blocked_ms = r->worker->last_heard_mono_ms;
    change_state(r->worker, WORKER_BLOCKED);
    put_inside_aside(r);
    pipeline_read_outside(r, now_ms);
    if (r->worker->proc_dirfd < 0 || proc_where(r->worker->proc_dirfd, where) != 0)
        (void)text_copy(where, sizeof(where), "not known");
    b = events_begin(e, r->worker, "blocked");
    buf_puts(b, ",\"where\":");
    buf_json_string(b, where);
    buf_puts(b, ",\"pillion.blocked.duration\":");
    buf_number(b, (double)(now_ms - r->blocked_ms) / 1000);
    events_emit(e, true);
    log_line(log_due(&r->pipeline->log_blocked, LOG_EVERY_MS) ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
             "worker %s (%s): its event loop has not turned for %.1f s: %s", r->worker->id,
             r->worker->title, (double)(now_ms - r->blocked_ms) / 1000, where);
    if (r->pipeline->hooks != NULL && r->pipeline->hooks->blocked != NULL)
        r->pipeline->hooks->blocked(r->pipeline->hooks_arg, r);
}

static void became_free(struct ride *r, uint64_t now_ms) {
    struct events *e = &r->pipeline->events;
    double blocked_s = (double)(now_ms - r->blocked_ms) / 1000;
    struct buf *b;

    b = events_begin(e, r->worker, "unblocked");
    buf_puts(b, ",\"pillion.blocked.duration\":");
    buf_number(b, blocked_s);
    events_emit(e, true);
    log_info("worker %s: its event loop turns again after %.1f s", r->worker->id, blocked_s);
}

void watcher_heard(struct ride *r, uint64_t now_ms) {
    struct worker *w = r->worker;

    if (w->state == WORKER_BLOCKED)
        became_free(r, now_ms);
    if (w->state != WORKER_LIVE)
        change_state(w, WORKER_LIVE);
    mem_free(r->last_inside);
    r->last_inside = NULL;
    r->closed_ms = r->ended_ms = 0;
    w->last_heard_mono_ms = now_ms;
}

void watcher_disconnected(struct ride *r, uint64_t now_ms) {
    r->connection = NULL;
    r->closed_ms = now_ms;
    /* Not the newest reading: a large process takes a while to end, and it may have been counted in between already. */
    r->oom_kills_before = r->pipeline->oom_kills_older;
    if (r->pipeline->hooks != NULL && r->pipeline->hooks->disconnected != NULL)
        r->pipeline->hooks->disconnected(r->pipeline->hooks_arg, r);
}

/* --- gone, and why --- */

/* 1: has ended, 0: lives, -1: cannot be told from here. */
static int has_ended(const struct ride *r) {
    struct pollfd fd = {.fd = r->pidfd, .events = POLLIN};
    struct proc_identity now;
    int rc;

    if (r->pidfd >= 0)
        return poll(&fd, 1, 0) == 1 ? 1 : 0;
    if (r->worker->proc_dirfd < 0)
        return -1;
    rc = proc_identity(r->worker->proc_dirfd, &now);
    if (rc == -ESRCH || rc == -ENOENT)
        return 1;
    return rc == 0 && (now.state == 'Z' || now.state == 'X') ? 1 : 0;
}

static void look_for_evidence(struct ride *r) {
    struct exit_evidence *e = &r->evidence;

    if (!e->has_pidfd && r->pidfd >= 0)
        e->has_pidfd = exits_from_pidfd(r->pidfd, &e->pidfd_status) == 0;
    if (!e->has_zombie && r->worker->proc_dirfd >= 0)
        e->has_zombie = exits_from_zombie(r->worker->proc_dirfd, &e->zombie_status) == 0;
}

static bool by_kill(const struct ride *r) {
    const struct exit_evidence *e = &r->evidence;

    return (e->has_pidfd && e->pidfd_status == SIGKILL) ||
           (e->has_zombie && e->zombie_status == SIGKILL) ||
           (e->has_parent && e->parent_signal == SIGKILL) ||
           (e->has_init && e->init_status == SIGKILL);
}

static unsigned killed_beside(const struct ride *r, uint64_t now_ms) {
    const struct workers *ws = r->pipeline->workers;
    unsigned n = 0;

    for (size_t i = 0; i < workers_count(ws); i++) {
        const struct ride *other = workers_at(ws, i)->owner;

        if (other != r && workers_at(ws, i)->thread == 0 && other->ended_ms != 0 &&
            now_ms - other->ended_ms < KILLED_TOGETHER_MS && by_kill(other))
            n++;
    }
    return n;
}

static void about_memory(struct ride *r, uint64_t now_ms) {
    struct pipeline *p = r->pipeline;
    struct exit_evidence *e = &r->evidence;

    e->oom_kills = p->cgroup != NULL ? cgroup_oom_kills(p->cgroup) - r->oom_kills_before : NAN;
    e->oom_group = p->container.oom_group;
    e->killed_beside = killed_beside(r, now_ms);
    e->memory_limit = p->container.values[CGROUP_MEMORY_LIMIT];
    e->heap_share = worker_value(r->worker, "pillion.memory.heap.used") /
                    worker_value(r->worker, "pillion.memory.heap.limit");
}

static void write_exit(struct ride *r, const struct exit_cause *cause) {
    struct worker *w = r->worker;
    struct events *e = &r->pipeline->events;
    struct buf *b = events_begin(e, w, "exited");
    char name[16], when[CLOCK_ISO_BYTES];

    buf_printf(b, ",\"cause\":\"%s\",\"confidence\":\"%s\",\"source\":\"%s\"",
               exit_kind_name(cause->kind), exit_confidence_name(cause->confidence), cause->source);
    if (cause->code >= 0)
        buf_printf(b, ",\"code\":%d", cause->code);
    if (cause->signal != 0)
        buf_printf(b, ",\"signal\":\"%s\"", exit_signal_name(cause->signal, name));
    buf_printf(b, ",\"oom\":%s,\"text\":", cause->oom ? "true" : "false");
    buf_json_string(b, cause->text);
    if (w->last_sample != 0) {
        clock_iso(w->last_sample_ms, when);
        buf_printf(b, ",\"last_sample\":%llu,\"last_sample_time\":\"%s\"",
                   (unsigned long long)w->last_sample, when);
        record_metrics(b, w->schema, w->values);
    }
    events_emit(e, true);
}

static void became_gone(struct ride *r, uint64_t now_ms) {
    struct worker *w = r->worker;
    struct exit_cause cause;

    take_inside_back(r);
    about_memory(r, now_ms);
    exits_cause(&r->evidence, &cause);
    change_state(w, WORKER_GONE);
    write_exit(r, &cause);
    if (w->thread == 0 && cause.kind != EXIT_KIND_UNKNOWN &&
        (cause.signal != 0 || cause.code != 0) && log_due(&r->pipeline->log_exits, LOG_EVERY_MS))
        log_warn("worker %s (%s) has ended: %s", w->id, w->title, cause.text);
    else
        log_debug("worker %s (%s) has ended: %s", w->id, w->title, cause.text);
    if (w->thread == 0 && (cause.signal != 0 || cause.code != 0) && r->pipeline->hooks != NULL &&
        r->pipeline->hooks->crashed != NULL)
        r->pipeline->hooks->crashed(r->pipeline->hooks_arg, r);
    if (w->proc_dirfd >= 0)
        close(w->proc_dirfd);
    w->proc_dirfd = -1;
    if (r->pidfd >= 0)
        close(r->pidfd);
    r->pidfd = -1;
}

static void silent_turn(struct ride *r, uint64_t now_ms) {
    struct worker *w = r->worker;
    int ended = w->thread != 0 ? -1 : has_ended(r);

    if (ended == -1)
        ended = now_ms - r->closed_ms > (w->thread != 0 ? THREAD_BACK_MS : UNSEEN_BACK_MS);
    if (ended == 1) {
        if (r->ended_ms == 0)
            r->ended_ms = now_ms;
        look_for_evidence(r);
        if (r->evidence.has_pidfd || r->evidence.has_zombie || w->thread != 0 ||
            now_ms - r->ended_ms >= EVIDENCE_MS)
            became_gone(r, now_ms);
    } else if (w->state == WORKER_LIVE && now_ms - r->closed_ms > STALL_MS) {
        change_state(w, WORKER_SILENT);
        put_inside_aside(r);
    }
}

void watcher_exit_told(struct pipeline *p, pid_t pid, uint64_t start_ticks, int code, int signal,
                       bool by_init) {
    struct worker *w = workers_find_pid(p->workers, pid);
    struct exit_evidence *e;

    if (w == NULL || (start_ticks != 0 && w->start_ticks != 0 && w->start_ticks != start_ticks))
        return;
    e = &((struct ride *)w->owner)->evidence;
    if (by_init) {
        e->has_init = true;
        e->init_status = signal != 0 ? signal : (code & 0xff) << 8;
    } else {
        e->has_parent = true;
        e->parent_code = code;
        e->parent_signal = signal;
    }
}

static void drop_oldest_gone(struct pipeline *p) {
    struct worker *oldest = NULL;
    int64_t now = clock_wall_ms();
    size_t n = 0;

    for (size_t i = 0; i < workers_count(p->workers); i++) {
        struct worker *w = workers_at(p->workers, i);

        if (w->state != WORKER_GONE)
            continue;
        n++;
        if (oldest == NULL || w->since_ms < oldest->since_ms)
            oldest = w;
    }
    if (oldest == NULL || (n <= LIMIT_GONE_KEEP && now - oldest->since_ms >= 0 &&
                           now - oldest->since_ms < LIMIT_GONE_KEEP_MS))
        return;
    ride_free(oldest->owner);
    workers_remove(p->workers, oldest);
}

/* --- memory --- */

static void memory_event(struct pipeline *p, struct worker *w, enum watch_change change,
                         const char *of, double used, double limit) {
    struct buf *b;

    if (change == WATCH_SAME)
        return;
    b = events_begin(&p->events, w, change == WATCH_RAISED ? "memory_near_limit" : "memory_normal");
    buf_printf(b, ",\"limit\":\"%s\",\"used_bytes\":", of);
    buf_number(b, used);
    buf_puts(b, ",\"limit_bytes\":");
    buf_number(b, limit);
    events_emit(&p->events, true);
    if (change == WATCH_RAISED)
        log_warn("%s%s uses %.0f MiB of %.0f MiB (%s limit)",
                 w != NULL ? "worker " : "the container", w != NULL ? w->id : "", used / 1048576,
                 limit / 1048576, of);
    if (change == WATCH_RAISED && p->hooks != NULL && p->hooks->memory != NULL)
        p->hooks->memory(p->hooks_arg, w != NULL ? w->owner : NULL);
}

static void watch_heap(struct ride *r) {
    struct pipeline *p = r->pipeline;
    double used = worker_value(r->worker, "pillion.memory.heap.used");
    double limit = worker_value(r->worker, "pillion.memory.heap.limit");

    memory_event(p, r->worker, watch_limit(&r->heap_alarm, used, limit, p->config->memory_alarm),
                 "heap", used, limit);
}

/* --- the turn --- */

/* A group that was removed while we are in it (a systemd unit that is moved) is looked for again. */
static void read_container(struct pipeline *p) {
    int rc = cgroup_read(p->cgroup, &p->container);

    if (rc == 0)
        return;
    counter_add(COUNTER_CONTAINER_UNREADABLE, 1);
    if (rc == -ENODEV)
        pipeline_open_container(p);
}

static void container_turn(struct pipeline *p, uint64_t now_ms) {
    struct cgroup_reading before = p->container;
    struct buf *b = &p->record;
    char when[CLOCK_ISO_BYTES];
    uint64_t seq;
    double used, limit;

    if (p->cgroup == NULL || now_ms - p->container_ms < CONTAINER_MS)
        return;
    read_container(p);
    cgroup_rates(p->container_ms != 0 ? &before : NULL, &p->container);
    p->oom_kills_older =
        isnan(p->oom_kills) ? p->container.values[CGROUP_MEMORY_OOM_KILLS] : p->oom_kills;
    p->oom_kills = p->container.values[CGROUP_MEMORY_OOM_KILLS];
    used = p->container.values[CGROUP_MEMORY_WORKING_SET];
    limit = p->container.values[CGROUP_MEMORY_LIMIT];
    memory_event(p, NULL, watch_limit(&p->memory_alarm, used, limit, p->config->memory_alarm),
                 "container", used, limit);
    p->container_ms = now_ms;
    if (p->recorded_ms != 0 &&
        now_ms - p->recorded_ms + EVERY_MS / 2 < p->config->sample_interval_ms)
        return;
    p->recorded_ms = now_ms;
    clock_iso(clock_wall_ms(), when);
    buf_reset(b);
    buf_printf(b, "{\"kind\":\"container\",\"time\":\"%s\"", when);
    record_metrics(b, p->container_schema, p->container.values);
    buf_putc(b, '}');
    if (b->err == 0 && uploader_add(p->uploader, b->data, b->len, &seq) == 0)
        counter_add(COUNTER_RECORDS, 1);
    else
        counter_add(COUNTER_SAMPLES_DROPPED, 1);
}

/* A record in place of the sample that the worker cannot make. */
static void outside_turn(struct ride *r, uint64_t now_ms) {
    uint64_t every = r->pipeline->config->sample_interval_ms;

    if (r->worker->proc_dirfd < 0 ||
        now_ms - r->outside_ms + EVERY_MS / 20 < (every > EVERY_MS ? every : EVERY_MS))
        return;
    pipeline_read_outside(r, now_ms);
    pipeline_write_record(r, clock_wall_ms(), 0);
    counter_add(COUNTER_SAMPLES_OUTSIDE, 1);
}

static void worker_turn(struct ride *r, uint64_t now_ms) {
    struct worker *w = r->worker;
    const struct config *c = r->pipeline->config;

    if (w->state == WORKER_GONE)
        return;
    if (r->connection == NULL)
        silent_turn(r, now_ms);
    else if (w->state == WORKER_LIVE && watch_blocked(now_ms, w->last_heard_mono_ms,
                                                      pipeline_period_ms(c), c->blocked_after_ms))
        became_blocked(r, now_ms);
    if (w->state == WORKER_LIVE && w->last_sample != 0)
        watch_heap(r);
    else if (w->state == WORKER_BLOCKED || w->state == WORKER_SILENT)
        outside_turn(r, now_ms);
}

/* If this process itself was stopped or starved, nobody else is to blame for the silence. */
static void forgive_own_stall(struct pipeline *p, uint64_t now_ms) {
    uint64_t every = watcher_every_ms(p->config);
    uint64_t late =
        p->tick_ms != 0 && now_ms > p->tick_ms + every ? now_ms - p->tick_ms - every : 0;

    p->tick_ms = now_ms;
    if (late < STALL_MS)
        return;
    for (size_t i = 0; i < workers_count(p->workers); i++)
        workers_at(p->workers, i)->last_heard_mono_ms += late;
}

void watcher_tick(struct pipeline *p, uint64_t now_ms) {
    bool point = now_ms - p->point_ms >= CONTAINER_MS;

    forgive_own_stall(p, now_ms);
    container_turn(p, now_ms);
    for (size_t i = 0; i < workers_count(p->workers); i++) {
        struct worker *w = workers_at(p->workers, i);

        worker_turn(w->owner, now_ms);
        if (point && w->state != WORKER_GONE)
            worker_add_point(w, ((struct ride *)w->owner)->outside.cores);
    }
    if (point)
        p->point_ms = now_ms;
    drop_oldest_gone(p);
    events_tick(&p->events);
}
