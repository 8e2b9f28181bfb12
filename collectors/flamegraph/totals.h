/* totals.h - the profile by function and by origin: a function that calls itself counts once in its total. */
#ifndef PILLION_FLAMEGRAPH_TOTALS_H
#define PILLION_FLAMEGRAPH_TOTALS_H

#include "collectors/flamegraph/graph.h"

struct totals {
    uint32_t n;                   /* frames */
    uint64_t *self, *total;       /* by frame */
    uint64_t *base_self;          /* NULL when nothing is compared */
    uint32_t *by_self, *by_total; /* the heaviest frames, falling; LIMIT_PROFILE_ROWS at most */
    uint32_t n_by_self, n_by_total;
    uint64_t origin[ORIGINS]; /* self */
    uint64_t idle;            /* also when it is not shown */
};

int totals_make(struct totals *t, const struct graph *g);
void totals_clear(struct totals *t);

#endif
