/* metrics_text.h - the Prometheus page: every series of every worker, the container and the helper
 * in text format 0.0.4.
 *
 * Series are grouped by name, as the format demands. The names are worked out once for each
 * layout and kept here until the layout is not in use any more. Loop thread only. */
#ifndef PILLION_METRICS_TEXT_H
#define PILLION_METRICS_TEXT_H

#include "agent/base/buf.h"

struct metrics_text;
struct status;

#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

int metrics_text_new(struct metrics_text **ret);
void metrics_text_free(struct metrics_text *t);

/* `worker`: NULL for all, else as status_worker_matches() has it: only the series of those are
 * written then. Series beyond LIMIT_SERIES are left out and counted. 0, -ENOMEM or -ENOBUFS;
 * `out` is then not to be used. */
int metrics_text_write(struct metrics_text *t, const struct status *s, const char *worker,
                       struct buf *out);

#endif
