/* jobs_impl.h - one job, between jobs.c (the table), job.c (the way of one), jobs_journal.c (its file) and jobs_json.c (its
 * pages). Nobody else includes this. */
#ifndef PILLION_JOBS_IMPL_H
#define PILLION_JOBS_IMPL_H

#include "agent/base/limits.h"
#include "agent/jobs.h"

#define JOB_ID_BYTES   (COMMAND_ID_BYTES + 8) /* of a part: "<id>@1024" */
#define JOB_NOTE_BYTES 128
#define JOB_FILES_MAX  (CAPTURE_FILES_MAX + 2) /* and its result, and what was drawn of it */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };
#define JOB_STATES 5

struct job_file {
    char *kind;
    char *url;   /* NULL: not stored yet */
    char *error; /* it will never be stored */
    char *held;  /* name in jobs_fd; NULL: it is not held */
    uint64_t bytes;
    char sha256[65];
};

struct job {
    struct jobs *jobs;
    struct job *older, *newer;
    char *id;
    char *command;                  /* id of the command */
    char selector[WORKER_ID_BYTES]; /* as the command had it */
    char worker[WORKER_ID_BYTES];
    pid_t pid;
    struct capture_order order;
    const char *cause;
    bool hold;
    enum job_state state;
    double progress; /* 0 to 1 */
    char note[JOB_NOTE_BYTES];
    char *reason;                             /* of its end; NULL */
    int64_t created_ms, started_ms, ended_ms; /* wall clock; 0: not yet */
    uint64_t since_ms;                        /* monotonic: of the phase it is in */
    struct capture *capture;                  /* NULL: not capturing */
    char failure[128]; /* after the capture: why it will have failed when all is over */
    bool drawing;      /* a flame graph is being made */
    bool cancelling;
    const char *cancel_reason; /* static; NULL: somebody asked for it */
    bool has_result;           /* file "<id>.result" */
    struct job_file files[JOB_FILES_MAX];
    unsigned n_files;
};

struct jobs {
    struct jobs_env env;
    struct job *oldest, *newest;
    size_t n, n_queued, n_running;
    bool stopping;
    void (*stopped)(void *arg);
    void *stopped_arg;
    uint64_t log_journal;
};

const char *job_state_name(enum job_state s);
static inline bool job_has_ended(const struct job *job) {
    return job->state >= JOB_DONE;
}

/* job.c */
void job_begin(struct job *job);
void job_cancel(struct job *job, const char *reason);
void job_take_file(struct job *job, const struct capture_file *file);
void job_stored(struct job *job, const char *kind, const char *url, const char *error);
void job_tick(struct job *job, uint64_t now_ms);
void job_finish(struct job *job, enum job_state state, const char *reason);
void job_let_go(struct job *job); /* files that are held for somebody */
void job_free(struct job *job);

/* jobs.c */
struct job *jobs_find(const struct jobs *j, const char *id);
void jobs_pump(struct jobs *j); /* what can start, starts */
void jobs_link(struct jobs *j, struct job *job);

/* jobs_journal.c */
int jobs_journal_load(struct jobs *j);
void jobs_journal_write(struct job *job);
void jobs_journal_remove(struct job *job);

/* jobs_json.c */
void job_write(const struct job *job, bool held, struct buf *out);

#endif
