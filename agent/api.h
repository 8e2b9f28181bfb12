/* api.h - commands and jobs over HTTP: POST /v1/commands, GET /v1/jobs, GET and DELETE /v1/jobs/{id}. For the status socket and for
 * the command port; who may ask has been looked at before. Loop thread only. */
#ifndef PILLION_API_H
#define PILLION_API_H

#include <stdbool.h>

#include "agent/jobs.h"
#include "ipc/http.h"

struct api_asker {
    bool here;     /* over the status socket: may be told paths of this machine */
    bool needs_id; /* what it sends may be a repeat that somebody overheard */
};

/* False when the path is none of these. `jobs` NULL: 503. */
bool api_handle(struct jobs *jobs, const struct api_asker *asker, const struct http_request *rq,
                const char *method, const char *path, struct http_answer *ret);
/* {"error":…} with this status. */
void api_error(struct http_answer *ret, unsigned status, const char *why);

#endif
