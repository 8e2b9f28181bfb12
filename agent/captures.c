/* Happy path: captures_new → captures_start → (commands, rules) → jobs → capture_start → artifacts_add → store → notify.
 * The end: captures_stop → jobs let go of the workers → captures_close: artifacts → store → notify → port, each when the one before
 * is closed.
 *
 * Ways to fail at the start: the store or a target is not well described, or a directory is not ours; later only jobs fail. */
#include "agent/captures.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/port.h"
#include "agent/reports.h"
#include "agent/rules.h"
#include "uploader/artifacts.h"
#include "uploader/notify.h"
#include "uploader/store.h"

#define LOG_EVERY_MS       10000
#define EVENT_RESULT_BYTES 32768

struct captures {
    struct captures_env env;
    struct job_means means;
    struct capture_env capture_env;
    struct jobs *jobs;
    struct store *store;
    struct notify *notify;
    struct artifacts *artifacts;
    struct port *port;
    struct rules rules;
    char *jobs_dir;
    int jobs_fd, work_fd;
    unsigned reports; /* that are being read */
    uint64_t log_hub;
    bool stopping, stopped, closing, ending;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- what jobs need ----------------------------------------------------------------------------------------------------------- */

static struct ride *find_ride(const struct captures *c, const char *worker) {
    struct worker *w = workers_find(c->env.pipeline->workers, worker);

    return w != NULL && w->state != WORKER_GONE ? w->owner : NULL;
}

/* What the container has left. Without a limit what is left is the host's affair. */
static double room_of(const struct pipeline *p) {
    double limit = p->container.values[CGROUP_MEMORY_LIMIT];

    if (p->cgroup == NULL)
        return NAN;
    return isnan(limit) ? INFINITY : limit - p->container.values[CGROUP_MEMORY_WORKING_SET];
}

static int on_target(void *arg, const char *worker, struct capture_target *ret) {
    struct captures *c = arg;
    const struct ride *r = find_ride(c, worker);
    const struct worker *w;

    if (r == NULL)
        return -ESRCH;
    w = r->worker;
    *ret = (struct capture_target){
        .pid = w->proc_dirfd >= 0 || r->pidfd >= 0 ? w->pid : 0,
        .start_ticks = w->start_ticks,
        .pidfd = r->pidfd,
        .thread = w->thread,
        .uid = r->uid,
        .id = w->id,
        .node = w->node,
        .connected = r->connection != NULL,
        .blocked = w->state == WORKER_BLOCKED,
        .signal_taken = r->signal_taken,
        .heap_used_bytes = worker_value(w, "pillion.memory.heap.used"),
        .heap_limit_bytes = worker_value(w, "pillion.memory.heap.limit"),
        .rss_bytes = worker_value(w, "process.memory.usage"),
        .room_bytes = room_of(c->env.pipeline),
    };
    return 0;
}

static int on_start(void *arg, struct capture **ret, const struct capture_target *target,
                    const struct capture_order *order, const struct capture_callbacks *callbacks,
                    void *callback_arg, char *why) {
    struct captures *c = arg;

    return capture_start(ret, &c->capture_env, target, order, callbacks, callback_arg, why);
}

static int on_send(void *arg, const char *worker, const char *json, size_t len) {
    const struct ride *r = find_ride(arg, worker);

    return r != NULL && r->connection != NULL ? ipc_worker_order(r->connection, json, len)
                                              : -ENOTCONN;
}

static int on_store(void *arg, struct artifact *artifact, const char *name) {
    struct captures *c = arg;

    artifact->app = c->env.app;
    artifact->instance = c->env.config->instance;
    return artifacts_add(c->artifacts, artifact, c->work_fd, name, NULL);
}

/* What a rule found out stands beside the event that made it fire, so that it is there without the store. */
static void on_result(void *arg, const char *worker, const char *job, enum capture_action action,
                      const char *json, size_t len) {
    struct captures *c = arg;
    struct events *e = &c->env.pipeline->events;
    const struct worker *w = workers_find(c->env.pipeline->workers, worker);
    struct buf *b;

    if (action != CAPTURE_STACK || w == NULL || len > EVENT_RESULT_BYTES)
        return;
    b = events_begin(e, w, "stack");
    buf_puts(b, ",\"job\":");
    buf_json_string(b, job);
    buf_puts(b, ",\"stack\":");
    buf_add(b, json, len);
    events_emit(e, true);
}

/* --- what becomes of artifacts ------------------------------------------------------------------------------------------------ */

static void on_stored(void *arg, const char *id, const char *job, const char *kind, const char *url,
                      const char *error) {
    struct captures *c = arg;

    (void)id;
    if (c->jobs != NULL)
        jobs_stored(c->jobs, job, kind, url, error);
}

static int on_draw(void *arg, const char *name, const char *title, drawing_done_cb done,
                   void *done_arg) {
    struct captures *c = arg;

    return drawing_make(c->env.loop, c->work_fd, name, title, done, done_arg);
}

static int on_announce(void *arg, const char *id, const char *json, size_t len) {
    struct captures *c = arg;

    return notify_send(c->notify, id, json, len, NULL, NULL);
}

/* --- commands of a hub ---------------------------------------------------------------------------------------------------------- */

void captures_on_hub_command(void *arg, const char *json, size_t len) {
    struct captures *c = *(struct captures **)arg;
    char why[COMMAND_WHY_BYTES] = "";
    struct command command;
    bool is_new;
    int rc;

    if (c == NULL)
        return;
    rc = command_read(json, len, &command, why);
    command.hold = false;
    if (rc == 0)
        rc = jobs_command(c->jobs, &command, "hub", &is_new, why);
    if (rc == 0)
        return;
    counter_add(COUNTER_COMMANDS_REFUSED, 1);
    if (log_due(&c->log_hub, LOG_EVERY_MS))
        log_warn("a command of a hub is refused: %s", why[0] != '\0' ? why : strerror(-rc));
}

/* --- rules ------------------------------------------------------------------------------------------------------------------------ */

static void capture_by_rule(struct captures *c, const struct worker *w, enum rule rule) {
    unsigned actions = rules_fire(&c->rules, rule, w->id, clock_mono_ms());
    char why[COMMAND_WHY_BYTES];
    bool is_new;

    for (unsigned action = 0; action < CAPTURE_ACTIONS; action++) {
        struct command command = {.order = {.action = (enum capture_action)action, .seconds = 10}};
        int rc;

        if ((actions & (1u << action)) == 0)
            continue;
        memcpy(command.worker, w->id, sizeof(command.worker));
        command.order.deadline_ms = command_deadline_ms(&command.order);
        rc = jobs_command(c->jobs, &command, "rule", &is_new, why);
        if (rc != 0)
            log_warn("%s of worker %s, wanted by rule: %s",
                     capture_action_name(command.order.action), w->id, why);
    }
}

static void on_blocked(void *arg, struct ride *r) {
    capture_by_rule(arg, r->worker, RULE_BLOCKED);
}

/* The one that takes most. */
static const struct worker *largest(const struct captures *c) {
    const struct workers *ws = c->env.pipeline->workers;
    const struct worker *best = NULL;
    double most = 0;

    for (size_t i = 0; i < workers_count(ws); i++) {
        const struct worker *w = workers_at(ws, i);
        double rss = worker_value(w, "process.memory.usage");

        if (w->state == WORKER_GONE || w->thread != 0 || !(rss > most))
            continue;
        most = rss;
        best = w;
    }
    return best;
}

static void on_memory(void *arg, struct ride *r) {
    struct captures *c = arg;
    const struct worker *w = r != NULL ? r->worker : largest(c);

    if (w != NULL)
        capture_by_rule(c, w, RULE_MEMORY);
}

struct crash {
    struct captures *captures;
    char worker[WORKER_ID_BYTES];
};

static void maybe_end(struct captures *c);

static void on_report(void *arg, const struct report *report) {
    struct crash *crash = arg;
    struct captures *c = crash->captures;
    const struct worker *w = workers_find(c->env.pipeline->workers, crash->worker);
    struct capture_file file = {.kind = "report", .extension = "json"};
    int rc = 0;

    if (report != NULL) {
        file.name = report->name;
        file.bytes = report->bytes;
        memcpy(file.sha256, report->sha256, sizeof(file.sha256));
        rc = w != NULL ? jobs_file(c->jobs, w, &file) : -ESRCH;
        if (rc != 0)
            (void)unlinkat(c->work_fd, report->name, 0);
    }
    if (rc != 0)
        log_warn("the report of worker %s is not kept: %s", crash->worker, strerror(-rc));
    mem_free(crash);
    c->reports--;
    maybe_end(c);
}

/* Also when it is not to be kept: it would lie there for ever, with what was in the environment. */
static void on_crashed(void *arg, struct ride *r) {
    struct captures *c = arg;
    struct crash *crash;
    bool keep;

    if (c->stopping || c->env.config->on_crash == 0)
        return;
    crash = mem_calloc(1, sizeof(*crash));
    if (crash == NULL) {
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        return;
    }
    keep = rules_fire(&c->rules, RULE_CRASH, r->worker->id, clock_mono_ms()) != 0;
    crash->captures = c;
    memcpy(crash->worker, r->worker->id, sizeof(crash->worker));
    if (reports_take(c->env.loop, c->env.runtime_fd, c->work_fd, r->worker->pid, keep, on_report,
                     crash) == 0)
        c->reports++;
    else
        mem_free(crash);
}

static void on_answered(void *arg, struct ride *r, uint64_t order, const char *json, size_t len) {
    struct captures *c = arg;

    (void)order;
    jobs_answered(c->jobs, r->worker->id, json, len);
}

static void on_disconnected(void *arg, struct ride *r) {
    struct captures *c = arg;

    jobs_disconnected(c->jobs, r->worker->id);
}

static const struct pipeline_hooks hooks = {
    .answered = on_answered,
    .disconnected = on_disconnected,
    .blocked = on_blocked,
    .memory = on_memory,
    .crashed = on_crashed,
};

/* --- starting ----------------------------------------------------------------------------------------------------------------------- */

bool captures_need_http(const struct config *config) {
    return store_spec_is_remote(config->store) || notify_list_needs_http(config->notify);
}

/* Nobody knows any more what these were to become. */
static void empty(int fd) {
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *e;

    if (dir == NULL && copy >= 0)
        (void)close(copy);
    while (dir != NULL && (e = readdir(dir)) != NULL)
        if (e->d_name[0] != '.')
            (void)unlinkat(fd, e->d_name, 0); /* a directory is not ours and stays */
    if (dir != NULL)
        (void)closedir(dir);
}

/* A descriptor, or a negative errno with a line. */
static int open_below(const char *data_dir, const char *name, char **ret_path, struct buf *why) {
    char path[4096], line[512];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", data_dir, name);
    fd = fs_private_dir(path, 0700, line, sizeof(line));
    if (fd < 0)
        buf_puts(why, line);
    if (fd >= 0 && ret_path != NULL) {
        *ret_path = mem_strdup(path);
        if (*ret_path == NULL) {
            (void)close(fd);
            return -ENOMEM;
        }
    }
    return fd;
}

static int open_directories(struct captures *c, struct buf *why) {
    c->jobs_fd = open_below(c->env.config->data_dir, "jobs", &c->jobs_dir, why);
    if (c->jobs_fd < 0)
        return c->jobs_fd;
    c->work_fd = open_below(c->env.config->data_dir, "work", NULL, why);
    if (c->work_fd < 0)
        return c->work_fd;
    empty(c->work_fd);
    return 0;
}

static int new_outward(struct captures *c, struct buf *why) {
    const struct config *config = c->env.config;
    struct http_tls tls = {
        .ca_file = config->ca_file, .cert_file = config->cert_file, .key_file = config->key_file};
    struct store_env store = {
        .loop = c->env.loop, .http = c->env.http, .data_dir = config->data_dir};
    struct notify_env notify = {.loop = c->env.loop,
                                .http = c->env.http,
                                .data_dir = config->data_dir,
                                .app = c->env.app,
                                .instance = config->instance,
                                .token = config->token,
                                .tls = &tls};
    struct artifacts_env artifacts = {.loop = c->env.loop,
                                      .data_dir = config->data_dir,
                                      .keep_bytes = config->keep.bytes,
                                      .keep_ms = config->keep.ms,
                                      .stored = on_stored,
                                      .arg = c};
    int rc = store_new(&c->store, config->store, &store, why);

    if (rc == 0)
        rc = notify_new(&c->notify, config->notify, &notify, why);
    artifacts.store = c->store;
    if (strcmp(config->notify, "none") != 0)
        artifacts.announce = on_announce;
    if (rc == 0)
        rc = artifacts_new(&c->artifacts, &artifacts, why);
    return rc;
}

static int new_jobs(struct captures *c) {
    struct jobs_env env = {.workers = c->env.pipeline->workers,
                           .means = &c->means,
                           .jobs_fd = c->jobs_fd,
                           .jobs_dir = c->jobs_dir,
                           .work_fd = c->work_fd};

    c->means = (struct job_means){.target = on_target,
                                  .start = on_start,
                                  .answer = capture_answer,
                                  .disconnected = capture_disconnected,
                                  .cancel = capture_cancel,
                                  .send = on_send,
                                  .store = on_store,
                                  .draw = on_draw,
                                  .result = on_result,
                                  .arg = c};
    c->capture_env = (struct capture_env){.loop = c->env.loop,
                                          .runtime_fd = c->env.runtime_fd,
                                          .runtime_dir = c->env.config->runtime_dir,
                                          .work_fd = c->work_fd,
                                          .proc_fd = c->env.pipeline->proc_fd};
    return jobs_new(&c->jobs, &env);
}

int captures_new(struct captures **ret, const struct captures_env *env, struct buf *why) {
    const struct config *config = env->config;
    struct captures *c = mem_calloc(1, sizeof(*c));
    int rc;

    if (c == NULL)
        return -ENOMEM;
    c->env = *env;
    rc = open_directories(c, why);
    if (rc == 0)
        rc = new_outward(c, why);
    if (rc == 0)
        rc = new_jobs(c);
    if (rc != 0)
        return rc;
    rules_init(&c->rules, config->on_blocked, config->on_memory, config->on_crash,
               config->captures_per_hour);
    env->pipeline->hooks = &hooks;
    env->pipeline->hooks_arg = c;
    *ret = c;
    return 0;
}

int captures_start(struct captures *c) {
    struct port_env port = {.loop = c->env.loop,
                            .config = c->env.config,
                            .jobs = c->jobs,
                            .pages = c->env.pages,
                            .pages_arg = c->env.pages_arg};
    int rc = notify_start(c->notify);

    if (rc == 0)
        rc = artifacts_start(c->artifacts);
    return rc == 0 ? port_new(&c->port, &port) : rc;
}

void captures_tick(struct captures *c, uint64_t now_ms) {
    jobs_tick(c->jobs);
    port_tick(c->port, now_ms);
}

struct jobs *captures_jobs(const struct captures *c) {
    return c != NULL ? c->jobs : NULL;
}

void captures_status(const struct captures *c, struct buf *out) {
    if (c == NULL) {
        buf_puts(out,
                 ",\"port\":{\"state\":\"none\"},\"store\":{\"state\":\"none\"},\"notify\":[]");
        return;
    }
    buf_puts(out, ",\"port\":");
    port_status(c->port, out);
    buf_puts(out, ",\"store\":");
    (void)artifacts_write_status(c->artifacts, out); /* its error is the buffer's */
    buf_puts(out, ",\"notify\":");
    (void)notify_write_status(c->notify, out);
}

/* --- stopping ------------------------------------------------------------------------------------------------------------------------ */

static void on_port_closed(void *arg) {
    struct captures *c = arg;
    void (*closed)(void *arg) = c->closed;
    void *closed_arg = c->closed_arg;

    c->env.pipeline->hooks = NULL;
    jobs_free(c->jobs);
    (void)close(c->jobs_fd);
    (void)close(c->work_fd);
    mem_free(c->jobs_dir);
    mem_free(c);
    closed(closed_arg);
}

static void on_notify_closed(void *arg) {
    struct captures *c = arg;

    port_close(c->port, on_port_closed, c);
}

static void on_store_closed(void *arg) {
    struct captures *c = arg;

    notify_close(c->notify, on_notify_closed, c);
}

static void on_artifacts_closed(void *arg) {
    struct captures *c = arg;

    store_close(c->store, on_store_closed, c);
}

static void maybe_end(struct captures *c) {
    if (!c->closing || !c->stopped || c->reports > 0 || c->ending)
        return;
    c->ending = true;
    artifacts_close(c->artifacts, on_artifacts_closed, c);
}

static void on_jobs_stopped(void *arg) {
    struct captures *c = arg;

    c->stopped = true;
    maybe_end(c);
}

void captures_stop(struct captures *c) {
    if (c->stopping)
        return;
    c->stopping = true;
    port_stop(c->port);
    jobs_stop(c->jobs, on_jobs_stopped, c);
}

void captures_close(struct captures *c, void (*closed)(void *arg), void *arg) {
    c->closing = true;
    c->closed = closed;
    c->closed_arg = arg;
    captures_stop(c);
    maybe_end(c);
}
