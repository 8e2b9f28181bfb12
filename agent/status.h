/* status.h - the pages of the status socket: /, /status, /workers, /jobs, /config, /metrics,
 * /healthz, and those of agent/api.h. Reads what others keep; only a command changes anything. The
 * shapes are what scripts depend on: see README. Loop thread only. */
#ifndef PILLION_STATUS_H
#define PILLION_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/captures.h"
#include "agent/config.h"
#include "agent/helper_stats.h"
#include "agent/metrics_text.h"
#include "agent/registrar.h"
#include "agent/warnings.h"
#include "collectors/workers.h"
#include "ipc/http.h"
#include "uploader/uploader.h"

/* Filled in by the agent, which owns everything in it. */
struct status {
    const struct config *config;
    char *const *env;
    const char *app; /* config's may be NULL */
    const char *boot;
    const char
        *config_error; /* the line of config_load() when it went on with defaults; else NULL */
    uint64_t started_mono_ms;
    const struct workers *workers;
    const struct uploader *uploader;   /* NULL before it is there */
    const struct captures *captures;   /* NULL before it is there, and at the end */
    const struct registrar *registrar; /* NULL: there is no registry */
    /* The container's newest reading; values NULL before the first one. */
    const struct schema *container_schema;
    const double *container_values;
    const char *container_layout; /* none, v1, v2, hybrid */
    struct helper_stats *helper;
    struct warnings *warnings;
    struct metrics_text *metrics_text; /* by metrics_text_new() */
};

/* Does `who` mean this worker: its id, its pid, its role, `all` or NULL? */
bool status_worker_matches(const struct worker *w, const char *who);

/* An http_handler; arg is the struct status. */
void status_handler(void *arg, const struct http_request *rq, const char *method, const char *path,
                    struct http_answer *ret);

#endif
