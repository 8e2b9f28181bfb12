/* metrics_own.h - the part of the Prometheus page that is not made from layouts: who the workers
 * are, and the helper itself. */
#ifndef PILLION_METRICS_OWN_H
#define PILLION_METRICS_OWN_H

#include "agent/base/buf.h"

struct status;

/* Names that begin with this are the helper's alone. */
#define METRICS_OWN_PREFIX "pillion_helper_"

/* `worker`: NULL for all, else as status_worker_matches() has it: only what is said of those.
 * Errors stick in `out`. */
void metrics_own_write(const struct status *s, const char *worker, struct buf *out);

#endif
