/* artifacts.h - finished files on their way out: stored, verified, announced, in this order. Durable: what was added is delivered
 * also after a kill of the helper. Loop thread only; what waits for a disk is done by worker threads.
 *
 *     add → <data_dir>/outgoing/<id>.{json,bin}, synced → store_put, again and again (uploader/answer.h) → "url" into the .json
 *         → stored() → announce() → both files go
 *     the store will never take it → "parked" into the .json, stored() with the reason; kept to be looked at
 *
 * With a store that is a directory the file is renamed to its place and stays there; PILLION_KEEP applies to that directory
 * (uploader/retention.h). outgoing/ is bounded by PILLION_KEEP, too, and by LIMIT_ARTIFACTS: what is parked goes first, then the
 * oldest, each counted and said. Files in outgoing/ that are not ours are left alone, said so once. */
#ifndef PILLION_UPLOADER_ARTIFACTS_H
#define PILLION_UPLOADER_ARTIFACTS_H

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/store.h"

struct artifacts;

#define ARTIFACT_ID_BYTES  40
#define ARTIFACT_KEY_BYTES 512

/* Strings live during the call only. */
struct artifact {
    const char *app, *instance, *worker, *job, *kind,
        *extension; /* extension without its first dot: "cpuprofile.gz" */
    pid_t pid;
    int64_t time_ms; /* wall clock of the capture */
    uint64_t bytes;
    const char *sha256; /* 64 hex digits, small letters */
};

struct artifacts_env {
    uv_loop_t *loop;
    const char *data_dir; /* copied */
    struct store *store;  /* borrowed, ours alone to use until artifacts_close() has called back */
    uint64_t keep_bytes;  /* PILLION_KEEP; 0: no bound */
    uint64_t keep_ms;
    /* Takes the message over for good, under this id (the same for each repeat): notify_send(). Anything but 0: again later. NULL:
     * nobody is told. Never before the file is verified at its final name. */
    int (*announce)(void *arg, const char *id, const char *json, size_t len);
    /* An artifact is verified at its final name (url), or will never be (error). May be NULL. `id` as artifacts_add() gave it;
     * after a restart also of those of an earlier run. */
    void (*stored)(void *arg, const char *id, const char *job, const char *kind, const char *url,
                   const char *error);
    void *arg;
};

/* -EINVAL … with a line in `why`. */
int artifacts_new(struct artifacts **ret, const struct artifacts_env *env, struct buf *why);
int artifacts_start(struct artifacts *a); /* goes on with what an earlier run left */
/* Takes the file `name` in dirfd (renames it; same file system); its id in ret_id (may be NULL). Returned 0: it will be delivered,
 * and is on disk as far as a kill of the helper goes; a loss of power may still take it for some milliseconds. -ENOBUFS: there are
 * LIMIT_ARTIFACTS already. An error leaves the file where it is. */
int artifacts_add(struct artifacts *a, const struct artifact *artifact, int dirfd, const char *name,
                  char ret_id[ARTIFACT_ID_BYTES]);
/* Ends what is under way; what is not delivered stays for the next run. The store is not closed. */
void artifacts_close(struct artifacts *a, void (*closed)(void *arg), void *arg);
/* Appends {"store":…,"state":"ok|sending|waiting|failing","backlog":…,"parked":…,"stored":…,"sending":{…},"last_success":…,"last_error":…} */
int artifacts_write_status(const struct artifacts *a, struct buf *out);

/* "<app>/<instance>/<yyyy-mm-dd>/<kind>-<pid>-<time>-<job>.<ext>", of safe characters only; -ENAMETOOLONG. */
int artifact_key(const struct artifact *artifact, char *out, size_t size);

#endif
