/* Flow B, the way of one job:
 *
 *   job_begin     who is the worker, and how is it?     → capture_start (collectors/capture)
 *   on_progress   … it is under way …
 *   on_captured   files and a small result              → artifacts_add (uploader/artifacts): store, verify, announce
 *   draw          the flame graph of a profile, meanwhile → flamegraph_make (collectors/flamegraph) → artifacts_add
 *   job_stored    each file is at its place             → job_finish: done
 *
 * Ways to fail, each with its reason for people: the worker has ended, or cannot be asked (job_begin); the capture fails, or does
 * not end by its deadline (job_tick cancels it); a file cannot be handed over, or the store will never take it; somebody cancels;
 * the helper stops. A store that is merely away does not fail a job: its files are safe on disk, so that after a while the job is
 * done and the files follow. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/jobs_impl.h"
#include "uploader/stores/hash.h"

const char *job_state_name(enum job_state s) {
    static const char *const names[JOB_STATES] = {
        [JOB_QUEUED] = "queued", [JOB_RUNNING] = "running",     [JOB_DONE] = "done",
        [JOB_FAILED] = "failed", [JOB_CANCELLED] = "cancelled",
    };

    return names[s];
}

/* --- the end -------------------------------------------------------------------------------------------------------------- */

static void count_end(const struct job *job) {
    static const enum counter counters[JOB_STATES] = {
        [JOB_DONE] = COUNTER_JOBS_DONE,
        [JOB_FAILED] = COUNTER_JOBS_FAILED,
        [JOB_CANCELLED] = COUNTER_JOBS_CANCELLED,
    };

    counter_add(counters[job->state], 1);
    log_line(job->state == JOB_FAILED ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
             "job %s (%s of worker %s): %s%s%s", job->id, capture_action_name(job->order.action),
             job->worker, job_state_name(job->state), job->reason != NULL ? ": " : "",
             job->reason != NULL ? job->reason : "");
}

void job_finish(struct job *job, enum job_state state, const char *reason) {
    struct jobs *j = job->jobs;

    j->n_queued -= job->state == JOB_QUEUED;
    j->n_running -= job->state == JOB_RUNNING;
    job->state = state;
    job->note[0] = '\0';
    if (state == JOB_DONE)
        job->progress = 1;
    job->ended_ms = clock_wall_ms();
    job->since_ms = clock_mono_ms();
    /* Without memory the state has to do. */
    mem_free(job->reason);
    job->reason = reason != NULL ? mem_strdup(reason) : NULL;
    count_end(job);
    jobs_journal_write(job);
    if (j->stopping && j->n_running == 0 && j->stopped != NULL) {
        void (*stopped)(void *arg) = j->stopped;

        j->stopped = NULL;
        stopped(j->stopped_arg);
    }
}

void job_let_go(struct job *job) {
    for (unsigned i = 0; i < job->n_files; i++) {
        if (job->files[i].held != NULL)
            (void)unlinkat(job->jobs->env.jobs_fd, job->files[i].held, 0); /* gone is fine */
        mem_free(job->files[i].held);
        job->files[i].held = NULL;
    }
}

void job_free(struct job *job) {
    for (unsigned i = 0; i < job->n_files; i++) {
        mem_free(job->files[i].kind);
        mem_free(job->files[i].url);
        mem_free(job->files[i].error);
        mem_free(job->files[i].held);
    }
    mem_free(job->id);
    mem_free(job->command);
    mem_free(job->reason);
    mem_free(job);
}

/* --- storing -------------------------------------------------------------------------------------------------------------- */

/* A second name for the same file, which stays when the store has taken the first. */
static void hold_file(struct job *job, struct job_file *f, const struct capture_file *file) {
    char name[JOB_ID_BYTES + 16];
    unsigned at = (unsigned)(f - job->files);

    (void)snprintf(name, sizeof(name), "%s.%u.held", job->id, at);
    (void)unlinkat(job->jobs->env.jobs_fd, name, 0);
    if (linkat(job->jobs->env.work_fd, file->name, job->jobs->env.jobs_fd, name, 0) != 0) {
        log_warn("job %s: %s cannot be held for whoever asked: %s", job->id, file->kind,
                 strerror(errno));
        return;
    }
    f->held = mem_strdup(name);
    if (f->held == NULL)
        (void)unlinkat(job->jobs->env.jobs_fd, name, 0);
}

static int store_file(struct job *job, const struct capture_file *file) {
    struct jobs *j = job->jobs;
    struct job_file *f = &job->files[job->n_files];
    struct artifact artifact = {
        .worker = job->worker,
        .job = job->id,
        .kind = file->kind,
        .extension = file->extension,
        .pid = job->pid,
        .time_ms = clock_wall_ms(),
        .bytes = file->bytes,
        .sha256 = file->sha256,
    };
    int rc;

    *f = (struct job_file){.kind = mem_strdup(file->kind), .bytes = file->bytes};
    if (f->kind == NULL)
        return -ENOMEM;
    (void)text_copy(f->sha256, sizeof(f->sha256), file->sha256);
    job->n_files++;
    if (job->hold)
        hold_file(job, f, file);
    rc = j->env.means->store(j->env.means->arg, &artifact, file->name);
    if (rc != 0 && f->held != NULL) {
        /* Whoever asked gets it all the same. */
        f->error = mem_strdup(strerror(-rc));
        rc = 0;
    }
    return rc;
}

#define FOLLOW "its files follow when the store takes them"

/* What the store said of them: -EAGAIN not all is said yet, 0 it has them all, -EPERM it will never take `error`. */
static int ask_files(const struct job *job, const char **error) {
    int rc = 0;

    for (unsigned i = 0; i < job->n_files; i++) {
        if (job->files[i].url == NULL && job->files[i].error == NULL)
            return -EAGAIN;
        if (job->files[i].error != NULL) {
            *error = job->files[i].error;
            rc = -EPERM;
        }
    }
    return rc;
}

static void look_whether_done(struct job *job) {
    const char *error = NULL;
    char reason[512];
    int rc;

    if (job->state != JOB_RUNNING || job->capture != NULL || job->drawing)
        return;
    rc = ask_files(job, &error);
    if (job->failure[0] != '\0') {
        job_finish(job, JOB_FAILED, job->failure);
    } else if (rc == -EPERM) {
        (void)snprintf(reason, sizeof(reason), "the store did not take it: %.400s", error);
        job_finish(job, JOB_FAILED, reason);
    } else if (rc == 0) {
        job_finish(job, JOB_DONE, NULL);
    } else if (job->cancelling) {
        job_finish(job, JOB_DONE, FOLLOW);
    }
}

void job_stored(struct job *job, const char *kind, const char *url, const char *error) {
    for (unsigned i = 0; i < job->n_files; i++) {
        struct job_file *f = &job->files[i];

        if (strcmp(f->kind, kind) != 0 || f->url != NULL)
            continue;
        mem_free(f->error);
        f->error = url == NULL ? mem_strdup(error != NULL ? error : "no reason was given") : NULL;
        f->url = url != NULL ? mem_strdup(url) : NULL;
        break;
    }
    if (job_has_ended(job))
        jobs_journal_write(job); /* it was stored after all */
    else
        look_whether_done(job);
}

/* --- the flame graph --------------------------------------------------------------------------------------------------------- */

static void on_drawn(void *arg, const struct capture_file *file, const char *why) {
    struct job *job = arg;
    int rc = 0;

    job->drawing = false;
    if (file != NULL) {
        rc = store_file(job, file);
        if (rc != 0)
            (void)unlinkat(job->jobs->env.work_fd, file->name, 0);
    }
    if (file == NULL || rc != 0)
        log_warn("job %s: there is no flame graph of its profile: %s", job->id,
                 rc != 0 ? strerror(-rc) : why);
    jobs_journal_write(job);
    look_whether_done(job);
    jobs_pump(job->jobs);
}

/* From a second name of the profile, as the first goes to the store meanwhile. Without it there is only the profile. */
static void draw(struct job *job, const struct capture_file *file) {
    const struct job_means *means = job->jobs->env.means;
    int work_fd = job->jobs->env.work_fd, rc;
    char name[JOB_ID_BYTES + 16], title[160], when[CLOCK_ISO_BYTES];

    if (means->draw == NULL ||
        (strcmp(file->kind, "cpu_profile") != 0 && strcmp(file->kind, "heap_profile") != 0))
        return;
    (void)snprintf(name, sizeof(name), "%s.profile", job->id);
    clock_iso(clock_wall_ms(), when);
    (void)snprintf(title, sizeof(title), "%s of worker %s, %s",
                   strcmp(file->kind, "cpu_profile") == 0 ? "CPU profile" : "Heap profile",
                   job->worker, when);
    rc = linkat(work_fd, file->name, work_fd, name, 0) == 0 ? 0 : -errno;
    if (rc == 0) {
        rc = means->draw(means->arg, name, title, on_drawn, job);
        if (rc != 0)
            (void)unlinkat(work_fd, name, 0);
    }
    job->drawing = rc == 0;
    if (rc != 0)
        log_warn("job %s: its profile cannot be drawn: %s", job->id, strerror(-rc));
}

/* --- the small result ------------------------------------------------------------------------------------------------------- */

static bool is_json(const char *json, size_t len) {
    json_t *v = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);

    json_decref(v);
    return v != NULL;
}

/* A stack that somebody looks at now and then is not worth a file in the store; a rule's or a hub's is. */
static bool result_is_stored(const struct job *job, const struct capture_result *r) {
    return r->n_files == 0 && (!job->has_result || strcmp(job->cause, "command") != 0 ||
                               job->order.action != CAPTURE_STACK);
}

static int store_result(struct job *job, const struct capture_result *r) {
    struct capture_file file = {
        .kind = capture_action_name(job->order.action), .extension = "json", .bytes = r->json_len};
    char name[JOB_ID_BYTES + 16];
    int rc;

    (void)snprintf(name, sizeof(name), "%s.json", job->id);
    rc = fs_write_at(job->jobs->env.work_fd, name, r->json, r->json_len, 0600);
    if (rc != 0)
        return rc;
    rc = hash_hex(r->json, r->json_len, file.sha256);
    file.name = name;
    if (rc == 0)
        rc = store_file(job, &file);
    if (rc != 0)
        (void)unlinkat(job->jobs->env.work_fd, name, 0);
    return rc;
}

static int take_result(struct job *job, const struct capture_result *r) {
    const struct job_means *means = job->jobs->env.means;
    char name[JOB_ID_BYTES + 16];

    if (r->json == NULL || r->json_len == 0)
        return 0;
    (void)snprintf(name, sizeof(name), "%s.result", job->id);
    if (r->json_len <= LIMIT_JOB_RESULT_BYTES) {
        if (!is_json(r->json, r->json_len))
            return -EBADMSG;
        job->has_result =
            fs_write_at(job->jobs->env.jobs_fd, name, r->json, r->json_len, 0600) == 0;
    }
    if (job->has_result && strcmp(job->cause, "rule") == 0 && means->result != NULL)
        means->result(means->arg, job->worker, job->id, job->order.action, r->json, r->json_len);
    if (result_is_stored(job, r))
        return store_result(job, r);
    return 0;
}

/* --- capturing ---------------------------------------------------------------------------------------------------------------- */

static void on_progress(void *arg, double share, const char *note) {
    struct job *job = arg;

    if (isfinite(share) && share > job->progress)
        job->progress = share < 1 ? share : 1;
    if (note != NULL)
        text_show(job->note, sizeof(job->note), note);
}

static int on_send(void *arg, const char *json, size_t len) {
    struct job *job = arg;
    const struct job_means *means = job->jobs->env.means;

    return means->send(means->arg, job->worker, json, len);
}

static const struct capture_callbacks capture_callbacks;

/* What was handed to us and not taken on. */
static void remove_files(struct job *job, const struct capture_result *r, unsigned from) {
    for (unsigned i = from; i < r->n_files; i++)
        (void)unlinkat(job->jobs->env.work_fd, r->files[i].name, 0);
}

static void end_without(struct job *job, const struct capture_result *r) {
    if (job->cancelling)
        job_finish(job, job->cancel_reason != NULL ? JOB_FAILED : JOB_CANCELLED,
                   job->cancel_reason);
    else
        job_finish(job, JOB_FAILED, r->reason != NULL ? r->reason : strerror(-r->rc));
}

static void on_captured(void *arg, const struct capture_result *r) {
    struct job *job = arg;
    struct jobs *j = job->jobs;
    unsigned i = 0;
    int rc = 0;

    job->capture = NULL;
    if (r->rc != 0 || job->cancelling) {
        remove_files(job, r, 0);
        end_without(job, r);
        jobs_pump(j);
        return;
    }
    for (; rc == 0 && i < r->n_files && i < CAPTURE_FILES_MAX; i++) {
        draw(job, &r->files[i]);
        rc = store_file(job, &r->files[i]);
    }
    if (rc != 0)
        remove_files(job, r, i - 1);
    if (rc == 0)
        rc = take_result(job, r);
    if (rc != 0)
        (void)snprintf(job->failure, sizeof(job->failure), "what was captured cannot be kept: %s",
                       strerror(-rc));
    (void)text_copy(job->note, sizeof(job->note),
                    job->drawing ? "drawing the flame graph" : "on its way to the store");
    job->since_ms = clock_mono_ms();
    if (job->n_files > 0)
        jobs_journal_write(job); /* they are safe now, and so is the job */
    look_whether_done(job);
    jobs_pump(j);
}

static const struct capture_callbacks capture_callbacks = {
    .progress = on_progress, .done = on_captured, .send = on_send};

static void become_running(struct job *job) {
    job->jobs->n_queued--;
    job->jobs->n_running++;
    job->state = JOB_RUNNING;
    job->started_ms = clock_wall_ms();
    job->since_ms = clock_mono_ms();
}

void job_begin(struct job *job) {
    const struct job_means *means = job->jobs->env.means;
    char why[COMMAND_WHY_BYTES] = "";
    struct capture_target target;
    int rc = means->target(means->arg, job->worker, &target);

    become_running(job);
    if (rc != 0) {
        job_finish(job, JOB_FAILED, "the worker has ended");
        return;
    }
    rc =
        means->start(means->arg, &job->capture, &target, &job->order, &capture_callbacks, job, why);
    if (rc != 0) {
        job->capture = NULL;
        job_finish(job, JOB_FAILED, why[0] != '\0' ? why : strerror(-rc));
    }
}

void job_take_file(struct job *job, const struct capture_file *file) {
    int rc;

    become_running(job);
    rc = store_file(job, file);
    if (rc == 0) {
        look_whether_done(job);
        return;
    }
    (void)unlinkat(job->jobs->env.work_fd, file->name, 0);
    job_finish(job, JOB_FAILED, strerror(-rc));
}

/* --- cancelling and time ------------------------------------------------------------------------------------------------------ */

/* `reason`: static; NULL: somebody wanted it so, which is no failure. */
void job_cancel(struct job *job, const char *reason) {
    if (job->capture != NULL) {
        if (!job->cancelling) {
            job->cancelling = true;
            job->cancel_reason = reason;
            job->jobs->env.means->cancel(job->capture);
        }
    } else if (job->state == JOB_RUNNING) { /* captured: the files are on their way in any case */
        job->cancelling = true;
        look_whether_done(job); /* a thread that still draws for it has its address */
    } else {
        job_finish(job, reason != NULL ? JOB_FAILED : JOB_CANCELLED, reason);
    }
}

void job_tick(struct job *job, uint64_t now_ms) {
    uint64_t age = now_ms - job->since_ms;

    if (job->state == JOB_QUEUED && age > LIMIT_JOB_QUEUED_MS)
        job_finish(job, JOB_FAILED, "it waited for its turn for too long");
    else if (job->capture != NULL && age > job->order.deadline_ms + LIMIT_JOB_GRACE_MS)
        job_cancel(job, "its deadline has passed");
    else if (job->state == JOB_RUNNING && job->capture == NULL && !job->drawing &&
             age > LIMIT_JOB_STORING_MS)
        job_finish(job, JOB_DONE, FOLLOW);
    else if (job_has_ended(job) && age > LIMIT_JOB_HELD_MS)
        job_let_go(job);
}
