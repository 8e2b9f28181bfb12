/* Happy path: jobs_command → add → pump → job_begin (job.c) … job_finish → pump.
 *
 * Ways to fail: no such worker, or no room (nothing is added); no memory in the middle of a command for several workers (what was
 * added stays, and the others fail by name); the table cannot be written to disk (it goes on in memory, said once in a while). */
#include "agent/jobs.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/jobs_impl.h"

#define SELECTED_MOST LIMIT_JOBS_QUEUED

/* --- the table ------------------------------------------------------------------------------------------------------------ */

struct job *jobs_find(const struct jobs *j, const char *id) {
    for (struct job *job = j->newest; job != NULL; job = job->older)
        if (strcmp(job->id, id) == 0)
            return job;
    return NULL;
}

bool jobs_is_known(const struct jobs *j, const char *id) {
    for (struct job *job = j->newest; job != NULL; job = job->older)
        if (strcmp(job->id, id) == 0 || strcmp(job->command, id) == 0)
            return true;
    return false;
}

void jobs_link(struct jobs *j, struct job *job) {
    job->older = j->newest;
    *(j->newest != NULL ? &j->newest->newer : &j->oldest) = job;
    j->newest = job;
    j->n++;
}

static void forget(struct job *job) {
    struct jobs *j = job->jobs;

    *(job->newer != NULL ? &job->newer->older : &j->newest) = job->older;
    *(job->older != NULL ? &job->older->newer : &j->oldest) = job->newer;
    j->n--;
    job_let_go(job);
    jobs_journal_remove(job);
    job_free(job);
}

/* Makes room for `n` more; the oldest that have ended go, but not before their id may be forgotten. */
static bool make_room(struct jobs *j, size_t n) {
    int64_t now = clock_wall_ms();
    struct job *next;

    for (struct job *job = j->oldest; job != NULL && j->n + n > LIMIT_JOBS; job = next) {
        next = job->newer;
        /* A clock that was set back must not keep them for ever. */
        if (job_has_ended(job) &&
            (now - job->ended_ms > LIMIT_JOB_REMEMBER_MS || job->ended_ms > now + 1000))
            forget(job);
    }
    return j->n + n <= LIMIT_JOBS;
}

static struct job *add(struct jobs *j, const char *id, const char *command, const char *worker,
                       pid_t pid) {
    struct job *job = mem_calloc(1, sizeof(*job));

    if (job == NULL)
        return NULL;
    job->id = mem_strdup(id);
    job->command = mem_strdup(command);
    if (job->id == NULL || job->command == NULL) {
        job_free(job);
        return NULL;
    }
    job->jobs = j;
    (void)text_copy(job->worker, sizeof(job->worker), worker);
    job->pid = pid;
    job->state = JOB_QUEUED;
    job->created_ms = clock_wall_ms();
    job->since_ms = clock_mono_ms();
    jobs_link(j, job);
    j->n_queued++;
    counter_add(COUNTER_JOBS, 1);
    return job;
}

/* --- commands ------------------------------------------------------------------------------------------------------------- */

static size_t select_workers(const struct jobs *j, const char *selector,
                             const struct worker *ret[SELECTED_MOST + 1]) {
    size_t n = 0;

    for (size_t i = 0; i < workers_count(j->env.workers) && n <= SELECTED_MOST; i++)
        if (command_selects(selector, workers_at(j->env.workers, i)))
            ret[n++] = workers_at(j->env.workers, i);
    return n;
}

static int nobody(const struct jobs *j, const char *selector, char *why) {
    char shown[WORKER_ID_BYTES];
    size_t live = 0;

    for (size_t i = 0; i < workers_count(j->env.workers); i++)
        live += workers_at(j->env.workers, i)->state != WORKER_GONE;
    text_show(shown, sizeof(shown), selector);
    (void)snprintf(why, COMMAND_WHY_BYTES,
                   "no worker is called \"%s\"; %zu %s there (GET /v1/workers; all, a role, a pid, "
                   "\"<pid>:<start>\" or \"<pid>:<start>/<thread>\" is accepted)",
                   shown, live, live == 1 ? "is" : "are");
    return -ESRCH;
}

/* 0, or why not. */
static int look_for_room(struct jobs *j, size_t n, char *why) {
    if (j->stopping) {
        (void)snprintf(why, COMMAND_WHY_BYTES, "the helper is stopping");
        return -ESHUTDOWN;
    }
    if (j->n_queued + n > LIMIT_JOBS_QUEUED) {
        (void)snprintf(why, COMMAND_WHY_BYTES,
                       "%zu jobs are waiting already and this would be %zu more; %d may wait",
                       j->n_queued, n, LIMIT_JOBS_QUEUED);
        return -EAGAIN;
    }
    if (!make_room(j, n)) {
        (void)snprintf(
            why, COMMAND_WHY_BYTES,
            "%zu jobs are remembered, the last %d minutes of which have to be; %d may be", j->n,
            LIMIT_JOB_REMEMBER_MS / 60000, LIMIT_JOBS);
        return -EAGAIN;
    }
    return 0;
}

static struct job *add_of_command(struct jobs *j, const struct command *c, const char *id,
                                  const struct worker *w, const char *cause) {
    struct job *job = add(j, id, c->id, w->id, w->pid);

    if (job == NULL)
        return NULL;
    (void)text_copy(job->selector, sizeof(job->selector), c->worker);
    job->order = c->order;
    job->hold = c->hold;
    job->cause = cause;
    jobs_journal_write(job);
    return job;
}

int jobs_command(struct jobs *j, struct command *c, const char *cause, bool *ret_new, char *why) {
    const struct worker *selected[SELECTED_MOST + 1];
    char id[JOB_ID_BYTES + 1];
    size_t n, added = 0;
    int rc;

    why[0] = '\0';
    if (c->id[0] != '\0' && jobs_is_known(j, c->id)) {
        *ret_new = false;
        return 0;
    }
    n = select_workers(j, c->worker, selected);
    rc = n > 0 ? look_for_room(j, n, why) : nobody(j, c->worker, why);
    if (rc != 0)
        return rc;
    if (c->id[0] == '\0')
        command_make_id(c->id);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(id, sizeof(id), n > 1 ? "%s@%zu" : "%s", c->id, i + 1);
        added += add_of_command(j, c, id, selected[i], cause) != NULL;
    }
    if (added < n)
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
    if (added == 0) {
        (void)snprintf(why, COMMAND_WHY_BYTES, "no memory");
        return -ENOMEM;
    }
    *ret_new = true;
    jobs_pump(j);
    return 0;
}

int jobs_file(struct jobs *j, const struct worker *w, const struct capture_file *file) {
    char id[COMMAND_ID_BYTES + 1];
    struct job *job;

    if (!make_room(j, 1))
        return -EAGAIN;
    command_make_id(id);
    job = add(j, id, id, w->id, w->pid);
    if (job == NULL)
        return -ENOMEM;
    (void)text_copy(job->selector, sizeof(job->selector), w->id);
    job->order.action = CAPTURE_REPORT;
    job->cause = "rule";
    job_take_file(job, file);
    return 0;
}

int jobs_cancel(struct jobs *j, const char *id) {
    struct job *older;
    int rc = -ENOENT;

    for (struct job *job = j->newest; job != NULL; job = older) {
        older = job->older;
        if (strcmp(job->id, id) != 0 && strcmp(job->command, id) != 0)
            continue;
        if (rc != 0)
            rc = job_has_ended(job) ? -EALREADY : 0;
        if (!job_has_ended(job))
            job_cancel(job, NULL);
    }
    jobs_pump(j);
    return rc;
}

/* --- the queue -------------------------------------------------------------------------------------------------------------- */

static bool is_snapshot(const struct job *job) {
    return job->order.action == CAPTURE_HEAP_SNAPSHOT ||
           job->order.action == CAPTURE_HEAP_HISTOGRAM;
}

/* Storing does not count: the worker has nothing to do with it any more. */
static bool keeps_busy(const struct job *job) {
    return job->state == JOB_RUNNING && job->capture != NULL;
}

static bool may_start(const struct job *job) {
    unsigned snapshots = 0;

    for (const struct job *other = job->jobs->newest; other != NULL; other = other->older) {
        if (!keeps_busy(other))
            continue;
        snapshots += is_snapshot(other);
        /* Threads share their process; of the light ones two of a kind would only say the same. */
        if (other->pid == job->pid && command_is_heavy(job->order.action) &&
            command_is_heavy(other->order.action))
            return false;
        if (strcmp(other->worker, job->worker) == 0 && other->order.action == job->order.action)
            return false;
    }
    return job->jobs->n_running < LIMIT_JOBS_RUNNING &&
           !(is_snapshot(job) && snapshots >= LIMIT_SNAPSHOTS_RUNNING);
}

void jobs_pump(struct jobs *j) {
    struct job *newer;

    for (struct job *job = j->oldest; job != NULL && j->n_queued > 0 && !j->stopping; job = newer) {
        newer = job->newer;
        if (job->state == JOB_QUEUED && may_start(job))
            job_begin(job);
    }
}

void jobs_tick(struct jobs *j) {
    uint64_t now = clock_mono_ms();
    struct job *newer;

    for (struct job *job = j->oldest; job != NULL; job = newer) {
        newer = job->newer;
        job_tick(job, now);
    }
    jobs_pump(j);
}

/* --- what happens elsewhere ------------------------------------------------------------------------------------------------- */

/* An order's number is nobody else's, so a capture knows what is meant for it. */
void jobs_answered(struct jobs *j, const char *worker, const char *json, size_t len) {
    struct job *older;

    for (struct job *job = j->newest; job != NULL; job = older) {
        older = job->older;
        if (job->capture != NULL && strcmp(job->worker, worker) == 0)
            j->env.means->answer(job->capture, json, len);
    }
}

void jobs_disconnected(struct jobs *j, const char *worker) {
    struct job *older;

    for (struct job *job = j->newest; job != NULL; job = older) {
        older = job->older;
        if (job->capture != NULL && strcmp(job->worker, worker) == 0)
            j->env.means->disconnected(job->capture);
    }
}

void jobs_stored(struct jobs *j, const char *id, const char *kind, const char *url,
                 const char *error) {
    struct job *job = jobs_find(j, id);

    if (job != NULL)
        job_stored(job, kind, url, error);
}

/* --- life --------------------------------------------------------------------------------------------------------------------- */

int jobs_new(struct jobs **ret, const struct jobs_env *env) {
    struct jobs *j = mem_calloc(1, sizeof(*j));
    int rc;

    if (j == NULL)
        return -ENOMEM;
    j->env = *env;
    rc = jobs_journal_load(j);
    if (rc != 0) {
        jobs_free(j);
        return rc;
    }
    *ret = j;
    return 0;
}

void jobs_free(struct jobs *j) {
    struct job *older;

    if (j == NULL)
        return;
    for (struct job *job = j->newest; job != NULL; job = older) {
        older = job->older;
        job_free(job);
    }
    mem_free(j);
}

void jobs_stop(struct jobs *j, void (*stopped)(void *arg), void *arg) {
    j->stopping = true;
    j->stopped = stopped;
    j->stopped_arg = arg;
    for (struct job *job = j->newest; job != NULL; job = job->older)
        if (!job_has_ended(job))
            job_cancel(job, "the helper was stopped");
    if (j->n_running == 0 && j->stopped != NULL) {
        j->stopped = NULL;
        stopped(arg);
    }
}
