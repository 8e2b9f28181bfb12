/* result.h - what a job that has ended yields for the caller. Plain values. */
#ifndef PILLION_CAPTURE_RESULT_H
#define PILLION_CAPTURE_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "collectors/capture.h"
#include "collectors/capture/job.h"

struct result_facts {
    bool stuck;     /* through Node's inspector */
    bool confirmed; /* by the worker, with so many bytes */
    uint64_t bytes;
    double start_stall_ms, stop_stall_ms; /* that the worker measured */
};

struct result {
    struct capture_result result; /* borrows from here and from the job */
    struct buf json;
    char reason[512];
};

/* "cpuprofile.gz"; NULL: an action without a file. */
const char *result_extension(enum capture_action action);
/* `rc` and `reason`: how it ended. Files of a good end are the caller's from now on. */
void result_make(struct result *r, struct capture_job *job, const struct result_facts *facts,
                 int rc, const char *reason);
void result_clear(struct result *r);

#endif
