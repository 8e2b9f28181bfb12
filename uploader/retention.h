/* retention.h - keeps a directory of artifacts within a size and an age: the oldest goes first, the newest always stays.
 *
 * Only files that are named as artifact_key() names them are looked at: <app>/<instance>/<yyyy-mm-dd>/<kind>-<pid>-<time>-<job>.<ext>.
 * Everything else there is somebody else's. Directories that have become empty go, too. Blocking: for a worker thread. */
#ifndef PILLION_UPLOADER_RETENTION_H
#define PILLION_UPLOADER_RETENTION_H

#include <stdint.h>

struct retention {
    uint64_t keep_bytes, keep_ms; /* 0: no bound */
    int64_t now_ms;               /* wall clock */
    /* What was found and done. */
    uint64_t files, bytes; /* that are left */
    uint64_t removed;
};

/* 0, -ENOMEM, or as open(2) says of `dir`; what cannot be removed is left out. */
int retention_apply(const char *dir, struct retention *r);

#endif
