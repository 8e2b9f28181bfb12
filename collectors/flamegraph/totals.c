#include "collectors/flamegraph/totals.h"

#include <errno.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

void totals_clear(struct totals *t) {
    mem_free(t->self);
    mem_free(t->total);
    mem_free(t->base_self);
    mem_free(t->by_self);
    mem_free(t->by_total);
    memset(t, 0, sizeof(*t));
}

/* active[frame]: the outermost node of it that we are in, or 0. */
static void walk(struct totals *t, const struct graph *g, uint32_t *active) {
    uint32_t depth = 0, node = 0, up = 0;

    t->self[0] = g->self[0];
    t->origin[ORIGIN_ROOT] = g->self[0];
    while ((node = graph_next(g, node, &depth)) != 0) {
        uint32_t frame = g->frame[node];

        /* Back up to the caller of this one: what was left is not active any more. */
        for (; up != g->parent[node]; up = g->parent[up])
            if (active[g->frame[up]] == up)
                active[g->frame[up]] = 0;
        up = node;
        t->self[frame] = graph_sum(t->self[frame], g->self[node]);
        if (g->compare)
            t->base_self[frame] = graph_sum(t->base_self[frame], g->base_self[node]);
        if (active[frame] == 0) {
            active[frame] = node;
            t->total[frame] = graph_sum(t->total[frame], g->total[node]);
        }
        t->origin[names_at(g->names, frame)->origin] += g->self[node];
    }
}

/* The heaviest ones, by insertion: rows are few. */
static uint32_t heaviest(uint32_t *rows, const uint64_t *weight, uint32_t n) {
    uint32_t used = 0;

    for (uint32_t f = 1; f < n; f++) {
        uint32_t k = used;

        if (weight[f] == 0 || (used == LIMIT_PROFILE_ROWS && weight[f] <= weight[rows[used - 1]]))
            continue;
        if (used < LIMIT_PROFILE_ROWS)
            used++;
        else
            k = used - 1;
        for (; k > 0 && weight[rows[k - 1]] < weight[f]; k--)
            rows[k] = rows[k - 1];
        rows[k] = f;
    }
    return used;
}

int totals_make(struct totals *t, const struct graph *g) {
    uint32_t *active;

    memset(t, 0, sizeof(*t));
    t->n = names_frames(g->names);
    active = mem_calloc(t->n, sizeof(*active));
    t->self = mem_calloc(t->n, sizeof(*t->self));
    t->total = mem_calloc(t->n, sizeof(*t->total));
    t->base_self = g->compare ? mem_calloc(t->n, sizeof(*t->base_self)) : NULL;
    t->by_self = mem_calloc(LIMIT_PROFILE_ROWS, sizeof(*t->by_self));
    t->by_total = mem_calloc(LIMIT_PROFILE_ROWS, sizeof(*t->by_total));
    if (active == NULL || t->self == NULL || t->total == NULL || t->by_self == NULL ||
        t->by_total == NULL || (g->compare && t->base_self == NULL)) {
        mem_free(active);
        totals_clear(t);
        return -ENOMEM;
    }
    walk(t, g, active);
    for (uint32_t c = g->first[0]; c != 0; c = g->next[c])
        if (names_at(g->names, g->frame[c])->origin == ORIGIN_IDLE)
            t->idle = graph_sum(t->idle, g->total[c]);
    t->n_by_self = heaviest(t->by_self, t->self, t->n);
    t->n_by_total = heaviest(t->by_total, t->total, t->n);
    mem_free(active);
    return 0;
}
