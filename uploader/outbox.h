/* outbox.h - finished batches that wait for the sinks: each sink gets each batch, in order, at its
 * own pace.
 *
 * In memory and capped (LIMIT_BACKLOG_BYTES of all batches together, plus one): beyond, the oldest
 * batch that no sink is busy with goes, counted. A durable spool takes this place one day: it then
 * says "kept", and the sinks read from it. Loop thread only. */
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

/* Once a parcel, in the order in which they were put, from the loop only: rc 0 when every sink has
 * it, -ENOBUFS dropped for lack of room, -EBADMSG refused by a sink, -ECANCELED closed before, or
 * the rc it was put with. May call outbox_put(). */
typedef void (*outbox_kept_cb)(void *arg, uint64_t seq, int rc);
/* Nothing waits any more. After each kept that empties it. */
typedef void (*outbox_empty_cb)(void *arg);

/* Takes the sinks on success. n may be 0: then a parcel is kept at once. */
int outbox_new(struct outbox **ret, uv_loop_t *loop, struct sink *const *sinks, unsigned n,
               outbox_kept_cb kept, outbox_empty_cb empty, void *arg);
int outbox_start(struct outbox *o);
/* Takes parcel and batch (one reference). With rc != 0 the parcel is dropped with it and batch is
 * NULL. With n == 0 sinks batch may be NULL as well. */
void outbox_put(struct outbox *o, struct parcel *p, struct batch *batch, int rc);
bool outbox_is_empty(const struct outbox *o);
/* Ends the waiting between attempts, once. */
void outbox_hurry(struct outbox *o);
/* Ends what is under way, reports what is left (-ECANCELED), closes and frees everything. */
void outbox_close(struct outbox *o, void (*closed)(void *arg), void *arg);
/* The `sinks` array of /status (design 8), with backlog_bytes. State: ok (the last attempt was
 * fine, or none was made), failing (it was not, and is made again), closing. */
void outbox_status(const struct outbox *o, struct buf *out);

#endif
