/* positions.h - how far each sink has come: the file `positions` in the spool directory.
 *
 *     pillion spool positions 1
 *     <crc32c, 8 hex digits> <number of the record that comes next> <sink, %-escaped>
 *
 * A line is appended for each step, the last good one of a sink counts; beyond LIMIT_SPOOL_POSITIONS_BYTES, and
 * whenever a line is damaged, the file is written anew beside itself and renamed. A sink is named by what /status
 * calls it, so no secret is in the file. A sink that is not configured any more keeps its line (up to
 * LIMIT_SPOOL_POSITIONS of them, longest unused out) and goes on there when it comes back.
 *
 * Blocking; belongs to one thread at a time. */
#ifndef PILLION_SPOOL_POSITIONS_H
#define PILLION_SPOOL_POSITIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/limits.h"

struct position {
    char *sink;
    uint64_t next; /* 0: none known yet */
    bool active;   /* a sink of now */
};

struct positions {
    struct position items[LIMIT_SPOOL_POSITIONS];
    unsigned n;
    int fd;         /* for appending; -1 closed */
    uint64_t bytes; /* of the file */
    bool rewrite;   /* the next write makes the file anew */
    bool synced;
    uint64_t steps; /* that were made */
};

void positions_init(struct positions *p);
void positions_clear(struct positions *p);
/* The place of this sink, made if need be (next 0); -ENOMEM. Places stay valid. Before positions_load(). */
int positions_claim(struct positions *p, const char *sink);
/* Reads the file. *ret_damaged: something of it could not be read and the file should be set aside (it will be
 * made anew in any case). No file is no error. */
int positions_load(struct positions *p, int dirfd, bool *ret_damaged);
/* Moves one sink on, in memory and in the file. After an error memory is right, and the file will be made anew. */
int positions_step(struct positions *p, int dirfd, int place, uint64_t next);
/* Makes the file durable; writes it anew first if a write had failed. */
int positions_sync(struct positions *p, int dirfd);
/* The greatest position, 0 when there is none. */
uint64_t positions_greatest(const struct positions *p);
/* The least one of sinks of now; UINT64_MAX when there are none. */
uint64_t positions_least(const struct positions *p);

#endif
