/* graph.h - the tree of one profile, or of two that are compared. Node 0 is the root of all and weighs nothing itself.
 *
 * While a profile is read there are frame, parent and self; graph_finish() makes a proper tree of them. Links of any kind may be
 * in the file: what forms a ring is cut, what has no parent hangs below node 0, functions that are the same below the same caller
 * become one node. Weights are whole numbers up to 2^53. */
#ifndef PILLION_FLAMEGRAPH_GRAPH_H
#define PILLION_FLAMEGRAPH_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "collectors/flamegraph/names.h"
#include "collectors/flamegraph/series.h"

#define GRAPH_WEIGHT_MAX 9007199254740992u

enum graph_unit { GRAPH_MICROSECONDS, GRAPH_BYTES, GRAPH_SAMPLES };

/* What was read, of one profile. */
struct graph_facts {
    bool heap;
    uint64_t samples;     /* in `samples` */
    uint64_t duration_us; /* endTime - startTime; 0: not known */
    uint64_t nodes;
    uint64_t odd_ids;    /* defined twice */
    uint64_t lost;       /* samples of nodes that are not there */
    uint64_t negative;   /* time differences below 0 */
    bool uneven;         /* samples and timeDeltas are not the same in number */
    bool without_deltas; /* weighted by sample or by hit count */
};

struct graph {
    struct names *names;
    enum graph_unit unit;
    bool compare; /* base_self and base_total are there */
    bool show_idle;
    uint32_t n, cap;
    uint32_t *frame, *parent; /* parent 0: below the root */
    uint64_t *self;           /* of the profile that is shown */
    uint64_t *base_self;
    uint32_t *first, *next; /* 0: none; siblings by falling total */
    uint64_t *total, *base_total;
    struct timeline timeline; /* of the profile that is shown; ids are nodes */
    struct graph_facts facts, base_facts;
    uint64_t too_deep; /* nodes beyond LIMIT_PROFILE_DEPTH, added to their callers */
};

int graph_init(struct graph *g);
void graph_clear(struct graph *g);
/* A node; *ret is never 0. -ENOMEM, -EFBIG. */
int graph_add(struct graph *g, uint32_t *ret);
/* What was read so far is the profile that is compared with; the other one comes now. -ENOMEM. */
int graph_set_base(struct graph *g);
int graph_finish(struct graph *g);

/* Is it part of the picture: (idle) only when it was asked for. */
bool graph_shown(const struct graph *g, uint32_t node);
/* The next one in depth-first order below the root, callers first, or 0; *depth counts along (start with node 0, depth 0). What is
 * not shown or weighs nothing is left out. */
uint32_t graph_next(const struct graph *g, uint32_t node, uint32_t *depth);
/* The same without what is below `node`. */
uint32_t graph_beside(const struct graph *g, uint32_t node, uint32_t *depth);

static inline uint64_t graph_sum(uint64_t a, uint64_t b) {
    uint64_t sum = a + b;

    return sum > GRAPH_WEIGHT_MAX ? GRAPH_WEIGHT_MAX : sum;
}

#endif
