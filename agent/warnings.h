/* warnings.h - the newest warnings and errors of the log, for the status page. A ring of
 * LIMIT_WARNINGS lines; a line that is the same as the newest one is counted there instead.
 * Memory is part of the struct. Thread-safe: any thread may log. */
#ifndef PILLION_WARNINGS_H
#define PILLION_WARNINGS_H

#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"

#define WARNING_BYTES 320

struct warning {
    int64_t wall_ms; /* the last time; 0: an empty place */
    uint64_t times;
    char line[WARNING_BYTES]; /* cut to fit */
};

struct warnings {
    uv_mutex_t lock;
    unsigned next;
    struct warning ring[LIMIT_WARNINGS];
};

/* Takes the log's warnings from now on (log_on_warning); clear gives them back. */
int warnings_init(struct warnings *w);
void warnings_clear(struct warnings *w);
void warnings_add(struct warnings *w, const char *line);
/* Appends [{"time":…,"message":…,"times":n},…], newest first. */
void warnings_json(struct warnings *w, struct buf *out);

#endif
