/* spool_impl.h - what spool.c (open, write, bound) and read.c (read) share. Nobody else includes this. */
#ifndef PILLION_SPOOL_IMPL_H
#define PILLION_SPOOL_IMPL_H

#include "uploader/spool/positions.h"
#include "uploader/spool/segments.h"
#include "uploader/spool/spool.h"

struct spool {
    char *path;
    uint64_t max_bytes;
    int dirfd; /* -1: not open. Holds the lock. */
    struct segments segments;
    struct positions positions;
    uint64_t taken_steps; /* of the positions that were handed out for fsync */
    int fd;               /* of the segment that is written to, the last one; -1 none */
    uint64_t next;        /* number of the next record */
    uint64_t durable;     /* records before this number are */
    struct spool_tallies workers;
    struct spool_tallies dropped_workers;
    uint64_t dropped_samples;
    uint64_t dropped[LIMIT_SPOOL_POSITIONS]; /* by place */
    uint64_t drops_warned;
    struct buf index; /* of the record that is written now */
};

/* So many records of a segment cannot be read: counted, once for each place, and the segment is marked. */
void spool_damage(struct spool *s, size_t i, uint64_t at, uint64_t records);
/* Is it the one that is written to? */
static inline bool spool_is_written(const struct spool *s, size_t i) {
    return s->fd >= 0 && i + 1 == s->segments.n;
}

#endif
