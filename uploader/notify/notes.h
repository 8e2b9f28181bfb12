/* notes.h - the notifications that wait: on disk whole, in memory only their names. Loop thread only; disk work by worker threads.
 *
 * Each needs the confirmation of a set of targets (a bit each); which one is next for a target is asked with notes_next(). At most
 * LIMIT_NOTIFY_MESSAGES and LIMIT_NOTIFY_QUEUE_BYTES; beyond, the oldest goes, counted and logged.
 *
 * After a restart the bits are found again by the targets' names. What only targets want that are not in the configuration any more
 * goes to all that are there, if none has had it yet (an address was corrected), and is done with otherwise. */
#ifndef PILLION_UPLOADER_NOTIFY_NOTES_H
#define PILLION_UPLOADER_NOTIFY_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/notify.h"

struct notes;
struct note;

/* Reads what an earlier run left: blocks, for the time before the loop runs. `targets` has to outlive it; `ready` is called from the
 * loop whenever a message may have become the next one of a target. A negative errno with a line in `why`. */
int notes_new(struct notes **ret, uv_loop_t *loop, const char *data_dir, const char *const *targets,
              unsigned n_targets, void (*ready)(void *arg), void *arg, struct buf *why);
/* As notify_send(). */
int notes_add(struct notes *s, const char *id, const char *json, size_t len, notify_kept_cb kept,
              void *arg);
/* The oldest that this target still needs and that can be read now; NULL none. */
struct note *notes_next(struct notes *s, unsigned bit);
const char *notes_id(const struct note *n);
size_t notes_backlog(const struct notes *s, unsigned bit);
size_t notes_count(const struct notes *s);

/* Reads its message; one reading per struct at a time. done exactly once, from the loop, never from inside. Until notes_settle()
 * the note stays, even when it is dropped meanwhile. */
struct notes_reading {
    uv_work_t work;
    struct note *note;
    char *text;       /* of the whole file; the reader frees it */
    size_t body, len; /* where in it the message is */
    int rc;           /* 0, -EBADMSG: damaged, other negative errno */
    void (*done)(struct notes_reading *r);
};
void notes_read(struct notes_reading *r, struct note *n, void (*done)(struct notes_reading *r));
/* Ends what notes_read() began. over: this target needs it no more. Never fails: what cannot be noted on disk is sent again after a
 * restart. */
void notes_settle(struct note *n, unsigned bit, bool over);

/* Readings have to be done and settled. Asynchronous, once; disk work that is under way is waited for. */
void notes_close(struct notes *s, void (*closed)(void *arg), void *arg);

#endif
