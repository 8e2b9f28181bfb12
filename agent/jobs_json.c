/* jobs_json.c - jobs written down: for the pages, for the command line, for the file of a job (jobs_journal.c reads it again). */
#include <errno.h>
#include <math.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/jobs_impl.h"

static void put_text(struct buf *out, const char *key, const char *value) {
    buf_printf(out, ",\"%s\":", key);
    if (value != NULL)
        buf_json_string(out, value);
    else
        buf_puts(out, "null");
}

static void put_time(struct buf *out, const char *key, int64_t wall_ms) {
    char when[CLOCK_ISO_BYTES];

    if (wall_ms != 0)
        clock_iso(wall_ms, when);
    put_text(out, key, wall_ms != 0 ? when : NULL);
}

static void put_file(const struct job *job, const struct job_file *f, bool held, struct buf *out) {
    buf_puts(out, "{\"kind\":");
    buf_json_string(out, f->kind);
    put_text(out, "url", f->url);
    buf_puts(out, ",\"bytes\":");
    buf_u64(out, f->bytes);
    put_text(out, "sha256", f->sha256);
    if (f->error != NULL)
        put_text(out, "error", f->error);
    if (held && f->held != NULL) {
        char path[4096];

        (void)snprintf(path, sizeof(path), "%s/%s", job->jobs->env.jobs_dir, f->held);
        put_text(out, "path", path);
    }
    buf_putc(out, '}');
}

static void put_files(const struct job *job, bool held, bool *first, struct buf *out) {
    for (unsigned i = 0; i < job->n_files; i++) {
        buf_puts(out, *first ? "" : ",");
        *first = false;
        put_file(job, &job->files[i], held, out);
    }
}

static void put_progress(double progress, struct buf *out) {
    buf_puts(out, ",\"progress\":");
    buf_number(out, round(progress * 1000) / 1000);
}

/* Without the closing brace. */
static void put_job(const struct job *job, bool held, struct buf *out) {
    bool first = true;

    buf_puts(out, "{\"id\":");
    buf_json_string(out, job->id);
    if (strcmp(job->id, job->command) != 0)
        put_text(out, "command", job->command);
    put_text(out, "action", capture_action_name(job->order.action));
    put_text(out, "worker", job->worker);
    put_text(out, "cause", job->cause);
    put_text(out, "state", job_state_name(job->state));
    put_progress(job->progress, out);
    put_text(out, "note", job->note[0] != '\0' ? job->note : NULL);
    put_text(out, "reason", job->reason);
    put_time(out, "created", job->created_ms);
    put_time(out, "started", job->started_ms);
    put_time(out, "ended", job->ended_ms);
    buf_puts(out, ",\"artifacts\":[");
    put_files(job, held, &first, out);
    buf_putc(out, ']');
}

void job_write(const struct job *job, bool held, struct buf *out) {
    put_job(job, held, out);
    buf_putc(out, '}');
}

void jobs_write_all(const struct jobs *j, struct buf *out) {
    buf_puts(out, "{\"jobs\":[");
    for (const struct job *job = j->newest; job != NULL; job = job->older) {
        job_write(job, false, out);
        buf_puts(out, job->older != NULL ? "," : "");
    }
    buf_puts(out, "]}\n");
}

/* The small result is not kept in memory. */
static void put_result(const struct job *job, struct buf *out) {
    char name[JOB_ID_BYTES + 16];
    ssize_t n = -1;

    if (!job->has_result)
        return;
    (void)snprintf(name, sizeof(name), "%s.result", job->id);
    buf_puts(out, ",\"result\":");
    if (buf_reserve(out, LIMIT_JOB_RESULT_BYTES + 1) == 0)
        n = fs_read_at(job->jobs->env.jobs_fd, name, out->data + out->len,
                       LIMIT_JOB_RESULT_BYTES + 1);
    if (n > 0)
        out->len += (size_t)n;
    else
        buf_puts(out, "null"); /* the data directory was cleaned */
}

/* --- a command for several workers ------------------------------------------------------------------------------------------ */

static bool is_part(const struct job *job, const char *command) {
    return strcmp(job->command, command) == 0 && strcmp(job->id, command) != 0;
}

/* What is to be said of all together: the least finished of them, and of those that have ended the worst. */
static enum job_state state_of_parts(const struct jobs *j, const char *command) {
    unsigned n[JOB_STATES] = {0};

    for (const struct job *job = j->oldest; job != NULL; job = job->newer)
        n[job->state] += is_part(job, command);
    if (n[JOB_RUNNING] > 0)
        return JOB_RUNNING;
    if (n[JOB_QUEUED] > 0)
        return n[JOB_DONE] + n[JOB_FAILED] + n[JOB_CANCELLED] > 0 ? JOB_RUNNING : JOB_QUEUED;
    return n[JOB_FAILED] > 0 ? JOB_FAILED : n[JOB_CANCELLED] > 0 ? JOB_CANCELLED : JOB_DONE;
}

static void put_reason(const struct jobs *j, const char *command, struct buf *out) {
    const struct job *failed = NULL;
    unsigned n = 0, total = 0;
    char reason[512];

    for (const struct job *job = j->oldest; job != NULL; job = job->newer) {
        if (!is_part(job, command))
            continue;
        total++;
        if (job->state != JOB_FAILED)
            continue;
        failed = failed == NULL ? job : failed;
        n++;
    }
    if (failed == NULL) {
        put_text(out, "reason", NULL);
        return;
    }
    (void)snprintf(reason, sizeof(reason), "%u of %u failed; worker %s: %.400s", n, total,
                   failed->worker, failed->reason != NULL ? failed->reason : "no memory");
    put_text(out, "reason", reason);
}

static void write_command(const struct jobs *j, const struct job *one, bool held, struct buf *out) {
    const char *command = one->command;
    double progress = 0;
    unsigned n = 0;
    bool first = true;

    for (const struct job *job = j->oldest; job != NULL; job = job->newer)
        if (is_part(job, command)) {
            progress += job_has_ended(job) ? 1 : job->progress;
            n++;
        }
    buf_puts(out, "{\"id\":");
    buf_json_string(out, command);
    put_text(out, "action", capture_action_name(one->order.action));
    put_text(out, "worker", one->selector);
    put_text(out, "cause", one->cause);
    put_text(out, "state", job_state_name(state_of_parts(j, command)));
    put_progress(progress / n, out);
    put_reason(j, command, out);
    buf_puts(out, ",\"artifacts\":[");
    for (const struct job *job = j->oldest; job != NULL; job = job->newer)
        if (is_part(job, command))
            put_files(job, held, &first, out);
    buf_puts(out, "],\"jobs\":[");
    first = true;
    for (const struct job *job = j->oldest; job != NULL; job = job->newer) {
        if (!is_part(job, command))
            continue;
        buf_puts(out, first ? "" : ",");
        first = false;
        put_job(job, held, out);
        put_result(job, out);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}

int jobs_write_one(const struct jobs *j, const char *id, bool held, struct buf *out) {
    for (const struct job *job = j->oldest; job != NULL; job = job->newer) {
        if (strcmp(job->id, id) == 0) {
            put_job(job, held, out);
            put_result(job, out);
            buf_puts(out, "}\n");
            return 0;
        }
        if (strcmp(job->command, id) == 0) {
            write_command(j, job, held, out);
            buf_putc(out, '\n');
            return 0;
        }
    }
    return -ENOENT;
}
