/* jobs_journal.c - one small file for each job in data_dir/jobs: "<id>.json", what jobs_json.c writes; "<id>.result" beside it.
 *
 * Written when a job is taken, when its files are safe, and when it ends; renamed into place. What a helper that was killed left
 * as queued or capturing is failed: nobody knows any more what became of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/jobs_impl.h"

#define LOG_EVERY_MS 60000
#define NAME_BYTES   (JOB_ID_BYTES + 16)

static const char *const causes[] = {"command", "hub", "rule"};

void jobs_journal_write(struct job *job) {
    struct jobs *j = job->jobs;
    char name[NAME_BYTES];
    struct buf out;
    int rc;

    buf_init(&out, LIMIT_JOB_FILE_BYTES - 1);
    job_write(job, false, &out);
    (void)snprintf(name, sizeof(name), "%s.json", job->id);
    rc = out.err != 0 ? out.err : fs_write_at(j->env.jobs_fd, name, out.data, out.len, 0600);
    buf_clear(&out);
    if (rc != 0 && log_due(&j->log_journal, LOG_EVERY_MS))
        log_warn("%s/%s cannot be written: %s; a helper that starts after this one will not know "
                 "of this job",
                 j->env.jobs_dir, name, strerror(-rc));
}

void jobs_journal_remove(struct job *job) {
    char name[NAME_BYTES];

    (void)snprintf(name, sizeof(name), "%s.json", job->id);
    (void)unlinkat(job->jobs->env.jobs_fd, name, 0); /* it may never have been written */
    (void)snprintf(name, sizeof(name), "%s.result", job->id);
    (void)unlinkat(job->jobs->env.jobs_fd, name, 0);
}

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

static const char *string_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));

    return s != NULL ? s : "";
}

/* RFC 3339 in UTC, as clock_iso() writes it; 0: not one. */
static int64_t time_of(const json_t *o, const char *key) {
    struct tm tm = {0};
    unsigned ms = 0;

    if (sscanf(string_of(o, key), "%4d-%2d-%2dT%2d:%2d:%2d.%3uZ", &tm.tm_year, &tm.tm_mon,
               &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms) != 7)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (int64_t)timegm(&tm) * 1000 + ms;
}

static bool good_id(const char *id) {
    char base[COMMAND_ID_BYTES + 2];
    uint64_t n;

    if (strlen(id) > JOB_ID_BYTES || strcspn(id, "@") >= sizeof(base))
        return false;
    (void)text_copy(base, strcspn(id, "@") + 1, id);
    return command_id_is_good(base) &&
           (strchr(id, '@') == NULL || text_u64(strchr(id, '@') + 1, &n) == 0);
}

static int read_files(struct job *job, const json_t *o) {
    const json_t *list = json_object_get(o, "artifacts");

    for (size_t i = 0; i < json_array_size(list) && i < JOB_FILES_MAX; i++) {
        const json_t *one = json_array_get(list, i);
        struct job_file *f = &job->files[job->n_files];
        const char *url = json_string_value(json_object_get(one, "url"));
        const char *error = json_string_value(json_object_get(one, "error"));
        json_int_t bytes = json_integer_value(json_object_get(one, "bytes"));

        *f = (struct job_file){.kind = mem_strdup(string_of(one, "kind")),
                               .bytes = bytes > 0 ? (uint64_t)bytes : 0};
        job->n_files++;
        (void)text_copy(f->sha256, sizeof(f->sha256), string_of(one, "sha256"));
        f->url = url != NULL ? mem_strdup(url) : NULL;
        f->error = error != NULL ? mem_strdup(error) : NULL;
        if (f->kind == NULL || (url != NULL && f->url == NULL) ||
            (error != NULL && f->error == NULL))
            return -ENOMEM;
    }
    return 0;
}

static int read_fixed(struct job *job, const json_t *o) {
    const char *state = string_of(o, "state");
    int s = 0;

    while (s < JOB_STATES && strcmp(job_state_name((enum job_state)s), state) != 0)
        s++;
    if (s == JOB_STATES || capture_action_read(string_of(o, "action"), &job->order.action) != 0)
        return -EINVAL;
    job->state = (enum job_state)s;
    job->cause = causes[0];
    for (size_t i = 0; i < ARRAY_LEN(causes); i++)
        if (strcmp(causes[i], string_of(o, "cause")) == 0)
            job->cause = causes[i];
    (void)text_copy(job->worker, sizeof(job->worker), string_of(o, "worker"));
    (void)text_copy(job->selector, sizeof(job->selector), job->worker);
    job->progress = json_number_value(json_object_get(o, "progress"));
    job->created_ms = time_of(o, "created");
    job->started_ms = time_of(o, "started");
    job->ended_ms = time_of(o, "ended");
    return 0;
}

static int read_job(struct jobs *j, struct job **ret, const char *text, size_t len) {
    struct job *job = mem_calloc(1, sizeof(*job));
    json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    const char *id = string_of(o, "id"),
               *command = json_string_value(json_object_get(o, "command"));
    const char *reason = json_string_value(json_object_get(o, "reason"));
    int rc = job == NULL ? -ENOMEM : o == NULL || !good_id(id) ? -EINVAL : 0;

    if (rc == 0) {
        job->jobs = j;
        job->since_ms = clock_mono_ms();
        rc = read_fixed(job, o);
    }
    if (rc == 0) {
        job->id = mem_strdup(id);
        job->command = mem_strdup(command != NULL && good_id(command) ? command : id);
        job->reason = reason != NULL ? mem_strdup(reason) : NULL;
        rc = job->id == NULL || job->command == NULL || (reason != NULL && job->reason == NULL)
                 ? -ENOMEM
                 : read_files(job, o);
    }
    json_decref(o);
    if (rc == 0)
        *ret = job;
    else if (job != NULL)
        job_free(job);
    return rc;
}

/* In the order of their making. */
static void link_in_order(struct jobs *j, struct job *job) {
    struct job *before = j->newest;

    while (before != NULL && before->created_ms > job->created_ms)
        before = before->older;
    if (before == j->newest) {
        jobs_link(j, job);
        return;
    }
    job->older = before;
    job->newer = before != NULL ? before->newer : j->oldest;
    *(before != NULL ? &before->newer : &j->oldest) = job;
    job->newer->older = job;
    j->n++;
}

static void was_cut(struct job *job) {
    if (job_has_ended(job))
        return;
    if (job->state == JOB_RUNNING && job->n_files > 0) { /* only the store is still to come */
        job->jobs->n_running++;
        return;
    }
    job->state = JOB_FAILED;
    job->ended_ms = clock_wall_ms();
    job->reason = mem_strdup("helper restarted");
    jobs_journal_write(job);
}

static int load_one(struct jobs *j, const char *name, char *text) {
    ssize_t n = fs_read_at(j->env.jobs_fd, name, text, LIMIT_JOB_FILE_BYTES);
    char result[NAME_BYTES];
    struct job *job = NULL;
    int rc = n > 0 ? read_job(j, &job, text, (size_t)n) : -EINVAL;

    if (rc == -ENOMEM)
        return rc;
    if (rc == 0 && (j->n >= LIMIT_JOBS || jobs_find(j, job->id) != NULL)) {
        job_free(job);
        return 0;
    }
    if (rc != 0) {
        log_warn("%s/%s is not the file of a job; it is left alone", j->env.jobs_dir, name);
        return 0;
    }
    (void)snprintf(result, sizeof(result), "%s.result", job->id);
    job->has_result = faccessat(j->env.jobs_fd, result, R_OK, AT_SYMLINK_NOFOLLOW) == 0;
    link_in_order(j, job);
    was_cut(job);
    return 0;
}

static bool ends_in(const char *name, const char *end) {
    size_t len = strlen(name), n = strlen(end);

    return len > n && strcmp(name + len - n, end) == 0;
}

int jobs_journal_load(struct jobs *j) {
    int fd = openat(j->env.jobs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    char *text = mem_alloc(LIMIT_JOB_FILE_BYTES);
    struct dirent *e;

    if (dir == NULL && fd >= 0)
        (void)close(fd);
    if (text == NULL)
        rc = -ENOMEM;
    while (rc == 0 && dir != NULL && (e = readdir(dir)) != NULL) {
        if (ends_in(e->d_name, ".held"))
            (void)unlinkat(j->env.jobs_fd, e->d_name, 0); /* whoever waited for it is gone */
        else if (ends_in(e->d_name, ".json") && strlen(e->d_name) < NAME_BYTES)
            rc = load_one(j, e->d_name, text);
    }
    if (dir != NULL)
        (void)closedir(dir);
    mem_free(text);
    return rc;
}
