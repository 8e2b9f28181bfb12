/* jobs.h - what was asked for and what became of it: a table of jobs with their states, a bounded queue, and one small file for
 * each job, so that a helper that was killed knows afterwards what it had not finished. Loop thread only.
 *
 * One command is one job for each worker that it means; a command for several workers has the command's id, and its jobs have
 * "<id>@1", "<id>@2" … An id that is known is answered with what it stands for already and never runs again, for
 * LIMIT_JOB_REMEMBER_MS after its end at least: as long as there is no room for new ones otherwise, new ones are refused.
 *
 * Each job ends as done, failed (with a reason) or cancelled, after its deadline at the latest; how one runs is told in job.c. */
#ifndef PILLION_JOBS_H
#define PILLION_JOBS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "agent/commands.h"
#include "agent/drawing.h"
#include "collectors/capture.h"
#include "collectors/workers.h"
#include "uploader/artifacts.h"

struct jobs;

/* What jobs need of others. Tests have their own. */
struct job_means {
    /* What is known of the worker now. -ESRCH: it has ended. */
    int (*target)(void *arg, const char *worker, struct capture_target *ret);
    /* As capture_start(). */
    int (*start)(void *arg, struct capture **ret, const struct capture_target *target,
                 const struct capture_order *order, const struct capture_callbacks *callbacks,
                 void *callback_arg, char *why);
    void (*answer)(struct capture *c, const char *json, size_t len);
    void (*disconnected)(struct capture *c);
    void (*cancel)(struct capture *c);
    /* As the callback of a capture. */
    int (*send)(void *arg, const char *worker, const char *json, size_t len);
    /* As artifacts_add(), for a file in the work directory. */
    int (*store)(void *arg, struct artifact *artifact, const char *name);
    /* As drawing_make(), for a profile in the work directory. */
    int (*draw)(void *arg, const char *name, const char *title, drawing_done_cb done,
                void *done_arg);
    /* A small result of a capture by rule. NULL: nobody wants it. */
    void (*result)(void *arg, const char *worker, const char *job, enum capture_action action,
                   const char *json, size_t len);
    void *arg;
};

struct jobs_env {
    const struct workers *workers;
    const struct job_means *means;
    int jobs_fd;          /* data_dir/jobs: the files of the table; borrowed */
    const char *jobs_dir; /* its full name; borrowed */
    int work_fd;          /* data_dir/work: where captures write; borrowed */
};

/* Reads what an earlier helper left. -ENOMEM. */
int jobs_new(struct jobs **ret, const struct jobs_env *env);
/* No capture may be under way: see jobs_stop(). */
void jobs_free(struct jobs *j);

/* `cause` is static: "command", "hub", "rule". Takes an id into c->id where there is none. *ret_new: false when the id was known.
 * -ESRCH no such worker, -EAGAIN no room (later), -ESHUTDOWN it stops, -ENOMEM; with a reason in `why` (COMMAND_WHY_BYTES). */
int jobs_command(struct jobs *j, struct command *c, const char *cause, bool *ret_new, char *why);
/* A file that is there already, in the work directory: goes the rest of the way as a job of its own, also after jobs_stop(). Takes
 * the file. -EAGAIN no room, -ENOMEM. */
int jobs_file(struct jobs *j, const struct worker *w, const struct capture_file *file);
/* -ENOENT no such id, -EALREADY it has ended. */
int jobs_cancel(struct jobs *j, const char *id);
bool jobs_is_known(const struct jobs *j, const char *id);

/* To be called each second. */
void jobs_tick(struct jobs *j);
/* What happens to workers. */
void jobs_answered(struct jobs *j, const char *worker, const char *json, size_t len);
void jobs_disconnected(struct jobs *j, const char *worker);
/* What became of an artifact: for artifacts_env.stored. */
void jobs_stored(struct jobs *j, const char *job, const char *kind, const char *url,
                 const char *error);

/* Ends all; `stopped` is called when no capture is under way any more, perhaps from inside. */
void jobs_stop(struct jobs *j, void (*stopped)(void *arg), void *arg);

/* {"jobs":[…]}, newest first; {…} of one command or job, with "jobs" when it has several and "result" when there is one.
 * `held`: with the paths of files that are held, for readers on this machine. -ENOENT. */
void jobs_write_all(const struct jobs *j, struct buf *out);
int jobs_write_one(const struct jobs *j, const char *id, bool held, struct buf *out);

#endif
