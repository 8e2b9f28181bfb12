/* Happy path: a worker connects and says hello; on_hello() finds or makes its struct worker and joins both layouts. Each sample
 * is copied into the values, completed by /proc, written as one record into the open batch, and noted in acks. When the batch is
 * kept, the worker is told that it may forget.
 * It fails by: a worker that is not what it says (the kernel's pid counts), samples that come again after a restart (dropped by
 * number), gaps in the numbers (counted), no room in the uploader (counted, not acknowledged), a connection that ends (the
 * watcher finds out why). */
#include "agent/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/mem.h"
#include "agent/watcher.h"
#include "collectors/record.h"

#define RECORD_BYTES (256 * 1024)
#define OUTSIDE_EVERY_MS                                                                           \
    950 /* /proc is read once a second at most; a little less, for a timer's jitter */
#define CLOCK_AHEAD_S 5 /* a sample's clock may run before ours by so much */
#define CLOCK_BEHIND_S                                                                             \
    (7 * 24 * 3600) /* or behind; beyond, it is not our clock (a time namespace) */

static int open_proc(void) {
    char self[32];
    ssize_t n = readlink("/proc/self", self, sizeof(self) - 1);

    if (n <= 0)
        return -1;
    self[n] = '\0';
    /* A /proc of another pid namespace would show us strangers under our workers' numbers. */
    if (strtol(self, NULL, 10) != (long)getpid())
        return -1;
    return open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void pipeline_open_container(struct pipeline *p) {
    int rc = -ENOENT;

    cgroup_close(p->cgroup);
    p->cgroup = NULL;
    for (size_t i = 0; i < CGROUP_METRICS; i++)
        p->container.values[i] = NAN;
    p->container.cpus = p->container.cpu_seconds = NAN;
    if (p->root_fd < 0)
        p->root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->root_fd >= 0)
        rc = cgroup_open(&p->cgroup, p->root_fd, 0);
    if (rc != 0) {
        p->cgroup = NULL;
        log_warn("the container cannot be measured: %s", strerror(-rc));
    } else if (cgroup_layout(p->cgroup) == CGROUP_NONE) {
        log_info("no control group can be seen: what the container uses is not known");
    }
}

int pipeline_init(struct pipeline *p, const struct config *config, struct workers *workers) {
    int rc;

    *p = (struct pipeline){.config = config,
                           .workers = workers,
                           .proc_fd = open_proc(),
                           .root_fd = -1,

                           .oom_kills = NAN,
                           .oom_kills_older = NAN};
    buf_init(&p->record, RECORD_BYTES);
    acks_init(&p->acks);
    events_init(&p->events, NULL);
    rc = proc_schema(&p->proc_schema);
    if (rc == 0)
        rc = cgroup_schema(&p->container_schema);
    if (rc == 0)
        pipeline_open_container(p);
    return rc;
}

void pipeline_set_uploader(struct pipeline *p, struct uploader *u) {
    p->uploader = u;
    p->events.uploader = u;
}

void ride_free(struct ride *r) {
    if (r == NULL)
        return;
    if (r->pidfd >= 0)
        close(r->pidfd);
    mem_free(r->last_inside);
    mem_free(r);
}

void pipeline_clear(struct pipeline *p) {
    for (size_t i = 0; i < workers_count(p->workers); i++) {
        ride_free(workers_at(p->workers, i)->owner);
        workers_at(p->workers, i)->owner = NULL;
    }
    events_clear(&p->events);
    acks_clear(&p->acks);
    buf_clear(&p->record);
    cgroup_close(p->cgroup);
    schema_unref(p->proc_schema);
    schema_unref(p->container_schema);
    if (p->proc_fd >= 0)
        close(p->proc_fd);
    if (p->root_fd >= 0)
        close(p->root_fd);
}

uint64_t pipeline_period_ms(const struct config *config) {
    uint64_t half = config->blocked_after_ms / 2;

    return config->sample_interval_ms <= half || half == 0 ? config->sample_interval_ms : half;
}

/* --- hello --- */

struct identity {
    pid_t pid;
    uint64_t start_ticks;
    int proc_dirfd; /* -1: it cannot be seen from here */
};

/* Who it is: the kernel's word where it has one, else the worker's. */
static void identify(struct pipeline *p, const struct ipc_peer *peer, const struct hello *h,
                     struct identity *ret) {
    struct proc_identity known;

    *ret = (struct identity){.pid = h->pid, .start_ticks = h->start_ticks, .proc_dirfd = -1};
    if (peer->pid <= 0)
        return;
    ret->pid = peer->pid;
    if (p->proc_fd < 0 || proc_open(p->proc_fd, peer->pid, 0, &ret->proc_dirfd) != 0)
        return;
    if (proc_identity(ret->proc_dirfd, &known) == 0)
        ret->start_ticks = known.start_ticks;
}

static struct ride *new_ride(struct pipeline *p, struct worker *w) {
    struct ride *r = mem_calloc(1, sizeof(*r));

    if (r == NULL)
        return NULL;
    r->worker = w;
    r->pipeline = p;
    r->pidfd = -1;
    exits_evidence_init(&r->evidence);
    w->owner = r;
    return r;
}

/* Takes id->proc_dirfd. */
static int find_or_add(struct pipeline *p, struct ride **ret, struct identity *id,
                       uint32_t thread) {
    char name[WORKER_ID_BYTES];
    struct worker *w;
    int rc = 0;

    worker_make_id(name, id->pid, id->start_ticks, thread);
    w = workers_find(p->workers, name);
    if (w == NULL)
        rc = workers_add(p->workers, &w, id->pid, id->start_ticks, thread);
    if (rc == 0 && w->owner == NULL && new_ride(p, w) == NULL) {
        workers_remove(p->workers, w);
        rc = -ENOMEM;
    }
    if (rc == 0 && w->proc_dirfd < 0 && thread == 0) {
        w->proc_dirfd = id->proc_dirfd;
        id->proc_dirfd = -1;
    }
    if (id->proc_dirfd >= 0)
        close(id->proc_dirfd);
    if (rc == 0)
        *ret = w->owner;
    return rc;
}

static void describe(struct worker *w, const struct hello *h) {
    bool renamed = strcmp(h->role, "process") == 0 && strcmp(w->role, "primary") == 0;

    if (!renamed) /* it learnt its role after its first hello */
        w->role = h->role;
    w->ppid = h->ppid;
    memcpy(w->title, h->title, sizeof(w->title));
    memcpy(w->node, h->node, sizeof(w->node));
}

static void connected_event(struct ride *r) {
    struct worker *w = r->worker;
    struct buf *b = events_begin(&r->pipeline->events, w, "connected");

    buf_printf(b, ",\"ppid\":%ld,\"title\":", (long)w->ppid);
    buf_json_string(b, w->title);
    buf_puts(b, ",\"node\":");
    buf_json_string(b, w->node);
    events_emit(&r->pipeline->events, false);
}

static void forget(struct pipeline *p, struct ride *r) {
    struct worker *w = r->worker;

    ride_free(r);
    workers_remove(p->workers, w);
}

/* A worker that begins at 1 although some of its samples are kept is another program under the same pid and start time
 * (execve): all numbers that were seen are taken. */
static uint64_t stored_of(const struct ride *r, const struct hello *h) {
    return h->next == 1 && r->acked > 0 ? r->worker->last_sample : r->acked;
}

/* A helper before us put samples of this worker into the spool, and may not have come to say so. */
static void recall(struct pipeline *p, struct ride *r) {
    uint64_t stored = uploader_stored(p->uploader, r->worker->id);

    if (stored <= r->worker->last_sample)
        return;
    r->worker->last_sample = stored;
    r->acked = stored;
}

static int on_hello(void *arg, struct ipc_worker *conn, const struct ipc_peer *peer,
                    const struct hello *h, struct welcome *ret, void **ret_user, char *why) {
    struct pipeline *p = arg;
    struct ride *r = NULL;
    uint64_t period = pipeline_period_ms(p->config);
    struct identity id;
    int rc;

    identify(p, peer, h, &id);
    rc = find_or_add(p, &r, &id, h->thread);
    if (rc != 0) {
        (void)snprintf(why, 256, "%s", rc == -EAGAIN ? "too many workers" : "out of memory");
        return -EAGAIN;
    }
    rc = worker_set_layout(p->workers, r->worker, h->schema, p->proc_schema);
    if (rc != 0) {
        (void)snprintf(why, 256, "the fields do not fit: %s", strerror(-rc));
        if (r->connection == NULL && r->worker->last_heard_mono_ms == 0)
            forget(p, r);
        return rc == -ENOMEM ? -EAGAIN : rc;
    }
    if (r->connection != NULL) { /* it came back before we saw the old end */
        struct ipc_worker *old = r->connection;

        r->connection = NULL;
        ipc_worker_close(old);
    }
    if (r->pidfd < 0 && peer->pidfd >= 0)
        r->pidfd = fcntl(peer->pidfd, F_DUPFD_CLOEXEC, 3);
    describe(r->worker, h);
    r->uid = peer->uid;
    r->connection = conn;
    if (r->worker->last_heard_mono_ms == 0) {
        recall(p, r);
        connected_event(r);
    }
    watcher_heard(r, clock_mono_ms());
    *ret = (struct welcome){.interval_ms = p->config->sample_interval_ms,
                            .beat_ms = period < p->config->sample_interval_ms ? period : 0,
                            .hold_bytes = LIMIT_WORKER_HOLD_BYTES,
                            .stored = stored_of(r, h)};
    *ret_user = r;
    return 0;
}

static void on_closed(void *arg, void *user, const char *error) {
    struct ride *r = user;
    (void)arg;

    if (error != NULL)
        log_debug("worker %s: connection ended: %s", r->worker->id, error);
    watcher_disconnected(r, clock_mono_ms());
}

/* --- samples --- */

/* The worker's monotonic clock is ours, so that a sample that waited in the worker still gets its own time. */
static int64_t wall_of(double clock_s) {
    double age_s = (double)clock_mono_ns() / 1e9 - clock_s;

    if (!(age_s > -CLOCK_AHEAD_S && age_s < CLOCK_BEHIND_S))
        age_s = 0;
    return clock_wall_ms() - (int64_t)(age_s * 1000);
}

/* A process that cannot be seen from here (a sidecar without shared pids) still says itself how much CPU it took. */
static void take_its_word(const struct ride *r, struct proc_reading *now) {
    const struct worker *w = r->worker;

    for (size_t i = 0; i < PROC_METRICS; i++)
        now->values[i] = NAN;
    now->cores = NAN;
    now->state = '?';
    now->start_ticks = w->start_ticks;
    now->mono_ns = clock_mono_ns();
    now->cpu_seconds = w->state != WORKER_LIVE
                           ? NAN
                           : worker_value(w, "process.cpu.time{cpu.mode=user}") +
                                 worker_value(w, "process.cpu.time{cpu.mode=system}");
}

void pipeline_read_outside(struct ride *r, uint64_t now_ms) {
    struct pipeline *p = r->pipeline;
    struct proc_reading now;

    if (r->worker->proc_dirfd < 0 || proc_read(r->worker->proc_dirfd, &now) != 0)
        take_its_word(r, &now);
    proc_rates(r->outside_ms != 0 ? &r->outside : NULL, &now, p->container.cpus,
               p->container.values[CGROUP_CPU_AVAILABLE]);
    r->outside = now;
    r->outside_ms = now_ms;
    worker_set_outside(r->worker, now.values);
}

/* {"kind":…,"time":…,"worker":… : by hand, because printf is slow and this is done for each sample. */
static void begin_record(struct buf *b, const struct worker *w, int64_t wall_ms, uint64_t sample) {
    char when[CLOCK_ISO_BYTES];

    clock_iso(wall_ms, when);
    buf_reset(b);
    buf_puts(b, "{\"kind\":\"process\",\"time\":\"");
    buf_puts(b, when);
    buf_puts(b, "\",\"worker\":\"");
    buf_puts(b, w->id);
    buf_puts(b, "\",\"pid\":");
    buf_u64(b, (uint64_t)w->pid);
    buf_puts(b, ",\"role\":\"");
    buf_puts(b, w->role);
    buf_puts(b, w->thread != 0 ? "\",\"thread\":" : "\"");
    if (w->thread != 0)
        buf_u64(b, w->thread);
    if (sample != 0) {
        buf_puts(b, ",\"sample\":");
        buf_u64(b, sample);
    } else {
        buf_puts(b, ",\"state\":\"");
        buf_puts(b, worker_state_name(w->state));
        buf_putc(b, '"');
    }
}

/* /proc is read once a second at most; between two readings the kernel's numbers are not repeated in each record. */
static size_t slots_to_write(struct ride *r) {
    bool fresh = r->written_ms != r->outside_ms;

    r->written_ms = r->outside_ms;
    return fresh ? r->worker->schema->n_slots : r->worker->n_inside;
}

void pipeline_write_record(struct ride *r, int64_t wall_ms, uint64_t sample) {
    struct pipeline *p = r->pipeline;
    struct worker *w = r->worker;
    struct buf *b = &p->record;
    uint64_t seq;
    int rc;

    begin_record(b, w, wall_ms, sample);
    record_metrics_below(b, w->schema, w->values, slots_to_write(r));
    buf_putc(b, '}');
    rc = b->err;
    if (rc == 0)
        rc = uploader_add_sample(p->uploader, b->data, b->len, sample != 0 ? w->id : NULL, sample,
                                 &seq);
    if (rc != 0) {
        counter_add(COUNTER_SAMPLES_DROPPED, 1);
        return;
    }
    counter_add(COUNTER_RECORDS, 1);
    if (sample != 0)
        (void)acks_add(&p->acks, seq, w->id,
                       sample); /* without memory the next one stands for it */
}

static void count_number(struct worker *w, uint64_t number) {
    counter_add(COUNTER_SAMPLES_RECEIVED, 1);
    if (w->last_sample != 0 && number > w->last_sample + 1)
        counter_add(COUNTER_SAMPLES_MISSING, number - w->last_sample - 1);
}

/* The worker forgets its oldest when it holds too much: close the batch early, before it comes to that. */
static void mind_its_memory(struct ride *r) {
    r->unacked_bytes += 24 + 8u * r->worker->n_inside;
    if (r->unacked_bytes > LIMIT_WORKER_HOLD_BYTES / 2) {
        r->unacked_bytes = 0;
        uploader_flush(r->pipeline->uploader);
    }
}

static void on_sample(void *arg, void *user, uint64_t number, double clock_s, const double *slots) {
    struct ride *r = user;
    struct worker *w = r->worker;
    uint64_t now = clock_mono_ms();
    (void)arg;

    watcher_heard(r, now);
    if (number <= w->last_sample) {
        counter_add(COUNTER_SAMPLES_REPEATED, 1);
        if (number <= r->acked && r->connection != NULL)
            (void)ipc_worker_ack(r->connection, r->acked);
        return;
    }
    count_number(w, number);
    memcpy(w->values, slots, w->n_inside * sizeof(*slots));
    w->last_sample = number;
    w->last_sample_ms = wall_of(clock_s);
    if (r->outside_ms == 0 || now - r->outside_ms >= OUTSIDE_EVERY_MS)
        pipeline_read_outside(r, now);
    else
        worker_set_outside(w, r->outside.values);
    pipeline_write_record(r, w->last_sample_ms, number);
    mind_its_memory(r);
}

static void on_beat(void *arg, void *user) {
    (void)arg;
    watcher_heard(user, clock_mono_ms());
}

/* --- what workers tell --- */

static void on_event(void *arg, void *user, const struct worker_event *e) {
    struct pipeline *p = arg;
    struct ride *r = user;

    switch (e->kind) {
    case EVENT_EXIT:
        r->evidence.has_worker = true;
        r->evidence.worker_code = e->code;
        memcpy(r->evidence.worker_reason, e->reason, sizeof(e->reason));
        memcpy(r->evidence.worker_message, e->message, sizeof(e->message));
        break;
    case EVENT_CHILD_EXIT:
        watcher_exit_told(p, e->pid, 0, e->code, e->signal, false);
        break;
    case EVENT_ROLE:
        r->worker->role = e->role;
        break;
    case EVENT_DROPPED:
        if (e->samples > r->dropped)
            counter_add(COUNTER_SAMPLES_DROPPED_WORKER, e->samples - r->dropped);
        r->dropped = e->samples;
        break;
    case EVENT_NOTE:
        r->signal_taken = r->signal_taken || strcmp(e->reason, "inspector") == 0;
        log_info("worker %s: %s stepped back: %s", r->worker->id, e->reason, e->message);
        break;
    }
}

static void on_answer(void *arg, void *user, uint64_t order, const char *json, size_t len) {
    struct pipeline *p = arg;

    if (p->hooks != NULL && p->hooks->answered != NULL)
        p->hooks->answered(p->hooks_arg, user, order, json, len);
}

/* --- acknowledgements --- */

void pipeline_on_kept(void *arg, uint64_t seq, int rc) {
    struct pipeline *p = arg;
    struct ack a;

    /* Kept: it is in the spool. A batch that had to be dropped is over as well: its workers need not hold it any longer (the
     * uploader counted it). */
    (void)rc;
    while (acks_next(&p->acks, seq, &a)) {
        struct worker *w = workers_find(p->workers, a.worker);
        struct ride *r = w != NULL ? w->owner : NULL;

        if (r == NULL || a.number <= r->acked)
            continue;
        counter_add(COUNTER_SAMPLES_ACKNOWLEDGED, r->acked != 0 ? a.number - r->acked : 1);
        r->acked = a.number;
        r->unacked_bytes =
            24u * (w->last_sample - a.number) + 8u * w->n_inside * (w->last_sample - a.number);
        if (r->connection != NULL)
            (void)ipc_worker_ack(r->connection, a.number);
    }
}

const struct ipc_callbacks pipeline_callbacks = {
    .hello = on_hello,
    .sample = on_sample,
    .event = on_event,
    .beat = on_beat,
    .answer = on_answer,
    .closed = on_closed,
};
