/* job.h - the part of a capture that runs on a thread of its own: it reads from the worker and fills an output.
 *
 * The loop thread fills a job before the thread starts and reads it after the thread has ended; between the two it may only make
 * `cancel_fd` readable and ask the output how far it is. */
#ifndef PILLION_CAPTURE_JOB_H
#define PILLION_CAPTURE_JOB_H

#include "agent/base/buf.h"
#include "collectors/capture.h"
#include "collectors/capture/output.h"
#include "collectors/capture/process.h"

struct capture_job {
    struct capture_order order;
    struct process_view process;
    int pidfd;             /* -1: none */
    int cancel_fd;         /* readable: give up */
    int fifo_fd;           /* read end, not blocking; -1: none */
    const char *fifo_path; /* as the worker sees it */
    struct output *out;
    int work_fd; /* for the summary of a heap snapshot */
    const char *summary_name;
    bool hands_off; /* no signal: only what /proc says */
    /* What became of it. */
    int rc;
    char reason[512];
    struct output *summary; /* of a heap snapshot, a file */
    bool at_end;     /* the writer's end was seen: what is wrong, the worker may know better */
    bool native;     /* V8 did not answer: `text` says where it is */
    struct buf text; /* where it is (stack), as JSON; or empty */
};

/* The worker writes into the FIFO, until it closes it. */
void job_drain(struct capture_job *j);
/* The worker does not turn its loop: through Node's inspector. */
void job_stuck(struct capture_job *j);

/* 0 at the end of the writers, or of what they wrote until `over_fd` (-1: none) became readable; -ECANCELED, or what the output said. */
int drain_fifo(struct capture_job *j, int over_fd);
/* After the last byte: ends the output, and makes the summary where there is to be one. */
int job_end(struct capture_job *j, char why[256]);
/* Debugger.paused as {"state":"blocked","stack":[{"function":…,"url":…,"line":…,"column":…},…]}. `scripts`: as inspector.h says. -EPROTO. */
int stack_write(const char *json, size_t len, const struct buf *scripts, struct buf *out);

#endif
