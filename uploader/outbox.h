/* outbox.h - finished batches on their way to the sinks, through the spool: each sink gets each batch, in order, at its
 * own pace.
 *
 * A batch is kept when its record stands in the spool (write(2) has returned: it survives a kill of this process; a crash
 * of the host after the next fsync, `sync_ms` later at most). Sinks read from there, one after the other: a sink that was
 * away goes on where it was, strictly in order, with a rate that is capped (LIMIT_DRAIN_…); how far it is behind is its
 * lag in /status.
 *
 * What cannot be written (disk full, read-only, broken) waits in memory, up to LIMIT_BACKLOG_BYTES, and is tried again
 * after 1, 2, 4, 4 … s; meanwhile sinks that have all that the spool holds are fed from memory. Beyond, the oldest goes,
 * counted. Loop thread only; all that touches the disk is done in worker threads. */
#ifndef PILLION_UPLOADER_OUTBOX_H
#define PILLION_UPLOADER_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/sink.h"

struct outbox;
struct parcel; /* a batch on its way, or only its number: made before the batch is, so that closing
                  one cannot fail */

int parcel_new(struct parcel **ret, uint64_t seq);
void parcel_free(struct parcel *p); /* of one that was never put; NULL is fine */
uint64_t parcel_seq(const struct parcel *p);
/* One more sample of this worker is in it. Without memory the record does not tell of it: after a kill it may come
 * twice. */
void parcel_note(struct parcel *p, const char *worker, uint64_t sample);

/* Once a parcel, in the order in which they were put, from the loop only: rc 0 when it is in the spool (or, while that
 * cannot be written to, with every sink), -ENOBUFS dropped for lack of room, -ECANCELED closed before, or the rc it was
 * put with. May call outbox_put(). */
typedef void (*outbox_kept_cb)(void *arg, uint64_t seq, int rc);
/* Every sink has everything, and the spool knows it. */
typedef void (*outbox_empty_cb)(void *arg);

struct outbox_options {
    const char *boot; /* 32 hex digits */
    const char *spool_dir;
    uint64_t spool_max_bytes;
    uint64_t spool_sync_ms;
};

/* Opens the spool (without sinks there is none) and takes the sinks on success. n may be 0: then a parcel is kept at
 * once. An error of the disk that can pass is no error here. -EBUSY, -EPERM … with a line in `why`. */
int outbox_new(struct outbox **ret, uv_loop_t *loop, const struct outbox_options *options,
               struct sink *const *sinks, unsigned n, outbox_kept_cb kept, outbox_empty_cb empty,
               void *arg, struct buf *why);
int outbox_start(struct outbox *o);
/* Takes parcel and batch (one reference). With rc != 0 the parcel is dropped with it and batch is
 * NULL. With n == 0 sinks batch may be NULL as well. */
void outbox_put(struct outbox *o, struct parcel *p, struct batch *batch, int rc);
bool outbox_is_empty(const struct outbox *o);
/* Ends the waiting between attempts, once. */
void outbox_hurry(struct outbox *o);
/* Ends what is under way, writes what is left into the spool and makes it durable, reports the rest (-ECANCELED), closes
 * and frees everything. */
void outbox_close(struct outbox *o, void (*closed)(void *arg), void *arg);
/* The highest sample of a worker that the spool had when it was opened; 0 none. */
uint64_t outbox_stored(struct outbox *o, const char *worker);
/* The `sinks` array of /status (design 8), with backlog_bytes and lag: seconds since the batch was closed that the sink
 * has to take next, 0 without a backlog. State: ok (the last attempt was fine, or none was made), failing (it was not,
 * and is made again), closing. */
void outbox_status(const struct outbox *o, struct buf *out);
/* A JSON object: state (ok, failing, none), bytes, limit, segments, records, quarantine, dropped samples by worker … */
void outbox_spool_status(const struct outbox *o, struct buf *out);

#endif
