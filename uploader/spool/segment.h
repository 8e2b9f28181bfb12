/* segment.h - walks over one segment file: the next record, whatever stands in between.
 *
 * Blocking, bounded memory; for worker threads. The descriptor stays the caller's. */
#ifndef PILLION_SPOOL_SEGMENT_H
#define PILLION_SPOOL_SEGMENT_H

#include <stdint.h>

#include "uploader/spool/record.h"

struct segment_walk {
    int fd;
    uint64_t at;      /* where to look next */
    uint64_t end;     /* how far the file goes */
    uint64_t skipped; /* bytes of damage that were passed over, in all */
    uint64_t records; /* heads that were found */
};

/* The next record: 1, *ret is its head, *ret_at where it begins, and `at` behind it. 0: the end. -EPIPE: a
 * record begins at `at` and the file ends within it (a kill in the middle of a write). -EPROTONOSUPPORT: a record
 * of a newer format stands at `at`. Else what pread(2) says. Bytes that are no record are passed over up to the
 * next one and added to `skipped`. */
int segment_next(struct segment_walk *w, struct spool_head *ret, uint64_t *ret_at);

/* Index and batch of the record at `at` into `body` (its first index_bytes + data_bytes are written to).
 * -EBADMSG: damaged. */
int segment_body(int fd, uint64_t at, const struct spool_head *h, void *body);
/* The index alone, unchecked: for those who can bear that it is wrong. */
int segment_index(int fd, uint64_t at, const struct spool_head *h, void *index);

#endif
