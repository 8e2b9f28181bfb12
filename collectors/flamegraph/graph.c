/* graph.c - happy path: graph_finish() cuts rings, lists the children, merges those that are the same function, adds up the totals
 * and puts the heaviest first. Nothing here calls itself: a chain of nodes may be as long as the profile. */
#include "collectors/flamegraph/graph.h"

#include <errno.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define FIRST_NODES 256
#define GONE        UINT32_MAX /* as frame: merged into `parent` */

int graph_init(struct graph *g) {
    uint32_t root;
    int rc;

    memset(g, 0, sizeof(*g));
    rc = names_new(&g->names);
    if (rc == 0)
        rc = graph_add(g, &root);
    if (rc != 0)
        graph_clear(g);
    return rc;
}

void graph_clear(struct graph *g) {
    names_free(g->names);
    mem_free(g->frame);
    mem_free(g->parent);
    mem_free(g->self);
    mem_free(g->base_self);
    mem_free(g->first);
    mem_free(g->next);
    mem_free(g->total);
    mem_free(g->base_total);
    timeline_clear(&g->timeline);
    memset(g, 0, sizeof(*g));
}

static int resize(void **array, size_t n, size_t size) {
    void *p = mem_realloc(*array, n * size);

    if (p == NULL)
        return -ENOMEM;
    *array = p;
    return 0;
}

static int grow(struct graph *g) {
    uint32_t cap = g->cap == 0 ? FIRST_NODES : g->cap + g->cap / 2;

    if (g->n >= LIMIT_PROFILE_NODES)
        return -EFBIG;
    if (resize((void **)&g->frame, cap, sizeof(*g->frame)) != 0 ||
        resize((void **)&g->parent, cap, sizeof(*g->parent)) != 0 ||
        resize((void **)&g->self, cap, sizeof(*g->self)) != 0 ||
        (g->compare && resize((void **)&g->base_self, cap, sizeof(*g->base_self)) != 0))
        return -ENOMEM;
    g->cap = cap;
    return 0;
}

int graph_add(struct graph *g, uint32_t *ret) {
    int rc = g->n < g->cap ? 0 : grow(g);

    if (rc != 0)
        return rc;
    g->frame[g->n] = g->parent[g->n] = 0;
    g->self[g->n] = 0;
    if (g->compare)
        g->base_self[g->n] = 0;
    *ret = g->n++;
    return 0;
}

int graph_set_base(struct graph *g) {
    g->base_self = g->self;
    g->self = mem_calloc(g->cap, sizeof(*g->self));
    if (g->self == NULL) {
        g->self = g->base_self;
        g->base_self = NULL;
        return -ENOMEM;
    }
    g->compare = true;
    g->base_facts = g->facts;
    memset(&g->facts, 0, sizeof(g->facts));
    timeline_clear(&g->timeline);
    return 0;
}

/* Follows each chain of parents once; one that comes back to itself is cut there. state: 0 not seen, else the walk's number. */
static void cut_rings(struct graph *g, uint32_t *state) {
    memset(state, 0, g->n * sizeof(*state));
    for (uint32_t i = 1; i < g->n; i++) {
        uint32_t k = i;

        while (k != 0 && state[k] == 0) {
            state[k] = i;
            if (g->parent[k] != 0 && state[g->parent[k]] == i)
                g->parent[k] = 0;
            k = g->parent[k];
        }
    }
}

/* Parentless "(root)" nodes are node 0 itself: V8's own, and that of the other profile. */
static void list_children(struct graph *g) {
    memset(g->first, 0, g->n * sizeof(*g->first));
    memset(g->next, 0, g->n * sizeof(*g->next));
    for (uint32_t i = 1; i < g->n; i++)
        if (g->parent[i] == 0 && names_at(g->names, g->frame[i])->origin == ORIGIN_ROOT)
            g->frame[i] = GONE;
    for (uint32_t i = g->n - 1; i > 0; i--) {
        uint32_t up = g->parent[i];

        if (g->frame[i] == GONE)
            continue;
        if (g->frame[up] == GONE)
            up = g->parent[i] = 0;
        g->next[i] = g->first[up];
        g->first[up] = i;
    }
    for (uint32_t i = 1; i < g->n; i++)
        if (g->frame[i] == GONE) {
            g->self[0] = graph_sum(g->self[0], g->self[i]);
            if (g->compare)
                g->base_self[0] = graph_sum(g->base_self[0], g->base_self[i]);
        }
}

static void fold(struct graph *g, uint32_t from, uint32_t into) {
    g->self[into] = graph_sum(g->self[into], g->self[from]);
    if (g->compare)
        g->base_self[into] = graph_sum(g->base_self[into], g->base_self[from]);
    g->frame[from] = GONE;
    g->parent[from] = into;
}

/* The children of `from` become those of `into`, in front of its own. */
static void move_children(struct graph *g, uint32_t from, uint32_t into) {
    uint32_t last = 0;

    for (uint32_t c = g->first[from]; c != 0; c = g->next[c]) {
        g->parent[c] = into;
        last = c;
    }
    if (last != 0) {
        g->next[last] = g->first[into];
        g->first[into] = g->first[from];
    }
    g->first[from] = 0;
}

/* One node for each function below `up`. seen[frame] is the child that has it, when that one's parent is `up`. */
static void merge_children(struct graph *g, uint32_t up, uint32_t *seen) {
    uint32_t *link = &g->first[up], c;

    while ((c = *link) != 0) {
        uint32_t other = seen[g->frame[c]];

        if (other != 0 && g->parent[other] == up && g->frame[other] == g->frame[c]) {
            *link = g->next[c];
            move_children(g, c, other);
            fold(g, c, other);
        } else {
            seen[g->frame[c]] = c;
            link = &g->next[c];
        }
    }
}

/* Beyond the cap: all that is below `up` becomes its own weight. */
static void flatten(struct graph *g, uint32_t up) {
    uint32_t c;

    while ((c = g->first[up]) != 0) {
        g->first[up] = g->next[c];
        move_children(g, c, up);
        fold(g, c, up);
        g->too_deep++;
    }
}

/* Depth first over everything, shown or not. `depth` is changed along. */
static uint32_t step(const struct graph *g, uint32_t node, uint32_t *depth) {
    if (g->first[node] != 0) {
        (*depth)++;
        return g->first[node];
    }
    while (node != 0 && g->next[node] == 0) {
        node = g->parent[node];
        (*depth)--;
    }
    return node != 0 ? g->next[node] : 0;
}

static void merge(struct graph *g, uint32_t *seen) {
    uint32_t depth = 0, node = 0;

    do {
        if (depth == LIMIT_PROFILE_DEPTH)
            flatten(g, node);
        else
            merge_children(g, node, seen);
        node = step(g, node, &depth);
    } while (node != 0);
}

/* Totals, callees before their callers: on the way up in the walk. */
static void add_up(struct graph *g, const uint64_t *self, uint64_t *total) {
    uint32_t node = 0;

    memcpy(total, self, g->n * sizeof(*total));
    for (;;) {
        if (g->first[node] != 0) {
            node = g->first[node];
            continue;
        }
        while (node != 0) {
            total[g->parent[node]] = graph_sum(total[g->parent[node]], total[node]);
            if (g->next[node] != 0)
                break;
            node = g->parent[node];
        }
        if (node == 0)
            return;
        node = g->next[node];
    }
}

struct child {
    uint64_t weight;
    uint32_t node;
};

static int heavier(const void *a, const void *b) {
    const struct child *x = a, *y = b;

    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static void sort(struct child *list, size_t n) {
    if (n > 16) {
        qsort(list, n, sizeof(*list), heavier);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        struct child c = list[i];
        size_t k = i;

        for (; k > 0 && heavier(&c, &list[k - 1]) < 0; k--)
            list[k] = list[k - 1];
        list[k] = c;
    }
}

static int sort_children(struct graph *g) {
    struct child *list = NULL;
    size_t cap = 0, n;
    uint32_t node = 0, depth = 0;

    do {
        n = 0;
        for (uint32_t c = g->first[node]; c != 0; c = g->next[c]) {
            if (n == cap) {
                cap = cap == 0 ? 64 : cap * 2;
                if (resize((void **)&list, cap, sizeof(*list)) != 0) {
                    mem_free(list);
                    return -ENOMEM;
                }
            }
            list[n].weight = graph_sum(g->total[c], g->compare ? g->base_total[c] : 0);
            list[n++].node = c;
        }
        if (n > 1) {
            sort(list, n);
            g->first[node] = list[0].node;
            for (size_t i = 0; i < n; i++)
                g->next[list[i].node] = i + 1 < n ? list[i + 1].node : 0;
        }
        node = step(g, node, &depth);
    } while (node != 0);
    mem_free(list);
    return 0;
}

/* Where a node that was merged has gone; chains are short, as a node is merged into one that stays. */
static uint32_t survivor(const struct graph *g, uint32_t node) {
    while (node != 0 && g->frame[node] == GONE)
        node = g->parent[node];
    return node;
}

int graph_finish(struct graph *g) {
    uint32_t *seen = mem_calloc(names_frames(g->names), sizeof(*seen));
    int rc = -ENOMEM;

    if (seen == NULL || resize((void **)&g->first, g->n, sizeof(*g->first)) != 0 ||
        resize((void **)&g->next, g->n, sizeof(*g->next)) != 0 ||
        resize((void **)&g->total, g->n, sizeof(*g->total)) != 0 ||
        (g->compare && resize((void **)&g->base_total, g->n, sizeof(*g->base_total)) != 0))
        goto out;
    cut_rings(g, g->next);
    list_children(g);
    merge(g, seen);
    add_up(g, g->self, g->total);
    if (g->compare)
        add_up(g, g->base_self, g->base_total);
    rc = sort_children(g);
    for (uint32_t i = 0; i < g->timeline.n; i++)
        g->timeline.runs[i].id = survivor(g, (uint32_t)g->timeline.runs[i].id);
    if (!g->show_idle)
        for (uint32_t c = g->first[0]; c != 0; c = g->next[c])
            if (!graph_shown(g, c)) {
                g->total[0] -= g->total[c] < g->total[0] ? g->total[c] : g->total[0];
                if (g->compare)
                    g->base_total[0] -=
                        g->base_total[c] < g->base_total[0] ? g->base_total[c] : g->base_total[0];
            }
out:
    mem_free(seen);
    return rc;
}

bool graph_shown(const struct graph *g, uint32_t node) {
    return g->show_idle || g->parent[node] != 0 ||
           names_at(g->names, g->frame[node])->origin != ORIGIN_IDLE;
}

/* `node`, or the first of its siblings that is shown. Those that weigh nothing come last. */
static uint32_t shown_from(const struct graph *g, uint32_t node) {
    while (node != 0 && !graph_shown(g, node))
        node = g->next[node];
    return node != 0 && (g->total[node] > 0 || (g->compare && g->base_total[node] > 0)) ? node : 0;
}

uint32_t graph_beside(const struct graph *g, uint32_t node, uint32_t *depth) {
    while (node != 0) {
        uint32_t n = shown_from(g, g->next[node]);

        if (n != 0)
            return n;
        node = g->parent[node];
        (*depth)--;
    }
    return 0;
}

uint32_t graph_next(const struct graph *g, uint32_t node, uint32_t *depth) {
    uint32_t n = shown_from(g, g->first[node]);

    if (n != 0) {
        (*depth)++;
        return n;
    }
    return graph_beside(g, node, depth);
}
