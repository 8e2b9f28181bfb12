/* ids.h - what a profile says of its nodes' ids, in any order: which node it is, who its parent is, how much it weighs.
 *
 * V8 counts ids from 1 without large holes, but not in the file's order: they are an index into pages that are made when they are
 * needed. What would make too many thin pages goes into a hash table. 16 bytes each. */
#ifndef PILLION_FLAMEGRAPH_IDS_H
#define PILLION_FLAMEGRAPH_IDS_H

#include <stdint.h>

struct id {
    uint32_t node;   /* 0: not defined (yet) */
    uint32_t parent; /* of a `children` list; 0: none */
    uint64_t weight; /* of the samples */
};

struct ids;

int ids_new(struct ids **ret);
void ids_free(struct ids *ids);
/* Made when it isn't there; lives until the next call. -ENOMEM; -EFBIG beyond 2 * LIMIT_PROFILE_NODES. */
int ids_get(struct ids *ids, uint64_t id, struct id **ret);
/* All that were asked for, and some that weren't (all 0); NULL at the end. Begin with *at = 0. */
struct id *ids_next(struct ids *ids, uint64_t *at);

#endif
