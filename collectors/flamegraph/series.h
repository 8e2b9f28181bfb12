/* series.h - two ways in which a profile's samples are kept without keeping each.
 *
 * `samples` and `timeDeltas` are two arrays, and either may come first. The one that comes first waits here as a series: numbers as
 * varints, the ids of samples as the difference to the one before (V8's are close to each other: 1 to 2 bytes each, so that the cap
 * is beyond two hours at 1 ms). No file is needed for it, which matters in a container that has none to write.
 *
 * The timeline is what is left of the order in time: runs of one node. When there are too many, its step is doubled, and of all
 * that was seen within a step the node that took most of it stays; the sum stays exact. */
#ifndef PILLION_FLAMEGRAPH_SERIES_H
#define PILLION_FLAMEGRAPH_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct series {
    uint8_t *data;
    size_t len, cap, at;
    uint64_t n, last;
};

void series_clear(struct series *s);
/* `delta`: stored as the difference to the last one. -ENOMEM; -EFBIG beyond LIMIT_PROFILE_SERIES_BYTES. */
int series_add(struct series *s, uint64_t v, bool delta);
/* The next one, in the same way as it was stored; false: that was the last. */
bool series_take(struct series *s, bool delta, uint64_t *ret);

struct run {
    uint64_t id; /* of the profile; after the reading: the node */
    uint64_t weight;
    uint64_t most; /* of `weight` this is the id's own */
};

struct timeline {
    struct run *runs;
    uint32_t n, cap;
    uint64_t step_us; /* 0: exact */
};

void timeline_clear(struct timeline *t);
int timeline_add(struct timeline *t, uint64_t id, uint64_t weight);

#endif
