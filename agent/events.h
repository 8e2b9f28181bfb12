/* events.h - records of what happened: worker connected, exited, blocked and free again, memory near its limit.
 *
 * {"kind":"event","time":…,"event":…,"worker":…,"pid":…,"role":…, further members}. Loop thread only. */
#ifndef PILLION_EVENTS_H
#define PILLION_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "collectors/workers.h"
#include "uploader/uploader.h"

struct events {
    struct uploader *uploader;
    struct buf line;
    uint64_t flushed_ms; /* monotonic */
    bool flush_wanted;
};

void events_init(struct events *e, struct uploader *uploader);
void events_clear(struct events *e);

/* Begins a record in e->line; the caller adds members (each with its comma in front), then calls events_emit(). `w` may be NULL
 * for what concerns the container. */
struct buf *events_begin(struct events *e, const struct worker *w, const char *name);
/* Ends the record and puts it into the batch. `urgent`: the batch leaves at once (once a second at most), because what ended
 * a worker may be about to end the container. */
void events_emit(struct events *e, bool urgent);
/* To be called each second: a flush that had to wait. */
void events_tick(struct events *e);

#endif
