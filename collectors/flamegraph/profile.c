/* profile.c - happy path: read_top() → read_nodes() → one node after the other into the graph; read_samples() and read_deltas()
 * weigh the ids; resolve() brings both together once everything is known. Nodes that lie inside each other are on a stack of our
 * own. */
#include "collectors/flamegraph/profile.h"

#include <errno.h>
#include <math.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "collectors/flamegraph/frame_cache.h"
#include "collectors/flamegraph/ids.h"
#include "collectors/flamegraph/json.h"
#include "collectors/flamegraph/profile_keys.h"

#define DELTA_MAX_US 1099511627776 /* 2^40, twelve days: no sample lasts longer */
#define WRAPPERS     2             /* {"result":{"profile":{… */

struct by_parent {
    uint64_t parent; /* an id */
    uint32_t node;
};

struct reader {
    struct json j;
    struct graph *g;
    struct graph_facts *facts;
    struct ids *ids;
    struct frame_cache *cache;
    uint32_t *stack; /* nodes that are open */
    size_t depth, stack_cap;
    struct by_parent *links;
    size_t n_links, links_cap;
    struct series samples, deltas; /* one of them waits for the other */
    bool has_nodes, has_samples, has_deltas, has_size;
    uint64_t n_deltas;
    double start, end;
};

static int make_room(void **array, size_t n, size_t *cap, size_t size) {
    size_t more = *cap == 0 ? 64 : *cap + *cap / 2;
    void *p;

    if (n < *cap)
        return 0;
    p = mem_realloc(*array, more * size);
    if (p == NULL)
        return -ENOMEM;
    *array = p;
    *cap = more;
    return 0;
}

static int read_id(struct reader *r, uint64_t *ret) {
    int64_t v;
    int rc = json_integer(&r->j, &v);

    if (rc == 0 && v < 0)
        rc = json_fail(&r->j, "the id of a node is below 0 before byte %llu",
                       (unsigned long long)json_offset(&r->j));
    if (rc == 0)
        *ret = (uint64_t)v;
    return rc;
}

static int read_name(struct reader *r, uint32_t *ret) {
    struct json_span span;
    int rc = json_string(&r->j, &span);

    return rc != 0 ? rc : names_string(r->g->names, span.p, span.len, ret);
}

/* Lines and columns count from 0 in the file; -1 is none. */
static int read_position(struct reader *r, int32_t *ret) {
    int64_t v;
    int rc = json_integer(&r->j, &v);

    if (rc == 0)
        *ret = v < 0 || v >= INT32_MAX ? 0 : (int32_t)v + 1;
    return rc;
}

static int read_frame(struct reader *r, uint32_t *ret) {
    uint32_t name = 0, url = 0;
    int32_t line = 0, column = 0;
    struct json_span key;
    bool first = true;
    int rc = json_enter(&r->j, '{');

    while (rc == 0 && (rc = json_member(&r->j, &first, &key)) > 0) {
        switch (profile_key(key.p, key.len)) {
        case KEY_FUNCTION_NAME:
            rc = read_name(r, &name);
            break;
        case KEY_URL:
            rc = read_name(r, &url);
            break;
        case KEY_LINE_NUMBER:
            rc = read_position(r, &line);
            break;
        case KEY_COLUMN_NUMBER:
            rc = read_position(r, &column);
            break;
        default:
            rc = json_skip(&r->j);
        }
        if (rc != 0)
            return rc;
    }
    return rc != 0 ? rc : names_frame(r->g->names, name, url, line, column, ret);
}

/* By its text when it was there before, and else read. */
static int read_call_frame(struct reader *r, uint32_t node) {
    const unsigned char *begin, *end;
    unsigned char c;
    uint64_t at;
    uint32_t frame = 0;
    int rc = json_peek(&r->j, &c);

    if (rc != 0)
        return rc;
    begin = r->j.p;
    end = memchr(begin, '}', (size_t)(r->j.end - begin));
    if (end != NULL)
        frame =
            frame_cache_find(r->cache, frame_cache_key(r->cache, begin, (size_t)(end + 1 - begin)));
    if (frame != 0) {
        r->j.p = end + 1;
        r->g->frame[node] = frame;
        return 0;
    }
    at = json_offset(&r->j);
    rc = read_frame(r, &frame);
    if (rc != 0)
        return rc;
    r->g->frame[node] = frame;
    if (json_seen(&r->j, at, &begin))
        frame_cache_add(r->cache, frame_cache_key(r->cache, begin, (size_t)(r->j.p - begin)),
                        frame);
    return 0;
}

static int read_own_id(struct reader *r, uint32_t node) {
    struct id *id;
    uint64_t v;
    int rc = read_id(r, &v);

    if (rc == 0)
        rc = ids_get(r->ids, v, &id);
    if (rc != 0)
        return rc;
    if (id->node != 0)
        r->facts->odd_ids++;
    else
        id->node = node;
    return 0;
}

static int read_parent(struct reader *r, uint32_t node) {
    uint64_t v;
    int rc = read_id(r, &v);

    if (rc == 0)
        rc = make_room((void **)&r->links, r->n_links, &r->links_cap, sizeof(*r->links));
    if (rc == 0)
        r->links[r->n_links++] = (struct by_parent){v, node};
    return rc;
}

static int read_weight(struct reader *r, uint32_t node, bool size) {
    double v;
    int rc = json_number(&r->j, &v);

    if (rc == 0) {
        r->g->self[node] = v > 0 ? (uint64_t)fmin(v, (double)GRAPH_WEIGHT_MAX) : 0;
        r->has_size |= size;
    }
    return rc;
}

/* The object's '{' is next. */
static int open_node(struct reader *r) {
    uint32_t node;
    int rc = json_enter(&r->j, '{');

    if (rc == 0)
        rc = make_room((void **)&r->stack, r->depth, &r->stack_cap, sizeof(*r->stack));
    if (rc == 0)
        rc = graph_add(r->g, &node);
    if (rc != 0)
        return rc;
    if (r->depth > 0)
        r->g->parent[node] = r->stack[r->depth - 1];
    r->stack[r->depth++] = node;
    r->facts->nodes++;
    return 0;
}

/* The list of children is open. 1: one that lies inside was opened; 0: the list has ended. */
static int read_children(struct reader *r, bool first) {
    uint32_t node = r->stack[r->depth - 1];
    int rc;

    while ((rc = json_element(&r->j, &first)) > 0) {
        unsigned char c;
        struct id *id;
        uint64_t v;

        rc = json_peek(&r->j, &c);
        if (rc == 0 && c == '{')
            return (rc = open_node(r)) != 0 ? rc : 1;
        if (rc == 0)
            rc = read_id(r, &v);
        if (rc == 0)
            rc = ids_get(r->ids, v, &id);
        if (rc != 0)
            return rc;
        if (id->parent == 0)
            id->parent = node;
    }
    return rc;
}

/* The members of the node on top. 1: a child of it was opened; 0: it has ended. */
static int read_members(struct reader *r, bool first) {
    uint32_t node = r->stack[r->depth - 1];
    struct json_span key;
    int rc;

    while ((rc = json_member(&r->j, &first, &key)) > 0) {
        switch (profile_key(key.p, key.len)) {
        case KEY_ID:
            rc = read_own_id(r, node);
            break;
        case KEY_CALL_FRAME:
            rc = read_call_frame(r, node);
            break;
        case KEY_HIT_COUNT:
        case KEY_SELF_SIZE:
            rc = read_weight(r, node, key.p[0] == 's');
            break;
        case KEY_PARENT:
            rc = read_parent(r, node);
            break;
        case KEY_CHILDREN:
            rc = json_enter(&r->j, '[');
            if (rc == 0)
                rc = read_children(r, true);
            break;
        default:
            rc = json_skip(&r->j);
        }
        if (rc != 0)
            return rc;
    }
    if (rc == 0 && r->g->frame[node] == 0)
        return json_fail(&r->j, "the node that ends at byte %llu has no callFrame",
                         (unsigned long long)json_offset(&r->j));
    return rc;
}

/* One node with all that lies inside of it. */
static int read_node(struct reader *r) {
    int rc = open_node(r);
    bool first = true;

    while (rc == 0 && r->depth > 0) {
        rc = read_members(r, first);
        first = true;
        while (rc == 0 && --r->depth > 0) { /* it has ended: on in the list that it lies in */
            rc = read_children(r, false);
            if (rc == 0)
                rc = read_members(r, false);
        }
        rc = rc > 0 ? 0 : rc; /* a child was opened: its members */
    }
    return rc;
}

static int read_nodes(struct reader *r) {
    bool first = true;
    int rc = json_enter(&r->j, '[');

    if (rc == 0)
        while ((rc = json_element(&r->j, &first)) > 0)
            if ((rc = read_node(r)) != 0)
                return rc;
    return rc;
}

static int weigh(struct reader *r, uint64_t sample, uint64_t weight) {
    struct id *id;
    int rc = ids_get(r->ids, sample, &id);

    if (rc != 0)
        return rc;
    id->weight = graph_sum(id->weight, weight);
    return timeline_add(&r->g->timeline, sample, weight);
}

static int again(struct reader *r, const char *key) {
    return json_fail(&r->j, "\"%s\" is there a second time before byte %llu", key,
                     (unsigned long long)json_offset(&r->j));
}

/* Node ids; in a heap profile objects, which add nothing to the nodes' own sizes. */
static int read_samples(struct reader *r) {
    bool first = true;
    uint64_t id, weight;
    unsigned char c;
    int rc = json_enter(&r->j, '[');

    if (rc == 0 && r->has_samples)
        return again(r, "samples");
    r->has_samples = true;
    if (r->has_deltas)
        (void)series_take(&r->deltas, false, &weight); /* the time before the first sample */
    while (rc == 0 && (rc = json_element(&r->j, &first)) > 0) {
        r->facts->samples++;
        rc = json_peek(&r->j, &c);
        if (rc == 0 && c == '{') {
            rc = json_skip(&r->j);
            continue;
        }
        if (rc == 0)
            rc = read_id(r, &id);
        if (rc != 0)
            return rc;
        if (!r->has_deltas)
            rc = series_add(&r->samples, id, true);
        else
            rc = weigh(r, id, series_take(&r->deltas, false, &weight) ? weight : 0);
    }
    return rc;
}

static int read_deltas(struct reader *r) {
    bool first = true;
    uint64_t sample;
    int64_t v;
    int rc = json_enter(&r->j, '[');

    if (rc == 0 && r->has_deltas)
        return again(r, "timeDeltas");
    r->has_deltas = true;
    while (rc == 0 && (rc = json_element(&r->j, &first)) > 0) {
        rc = json_integer(&r->j, &v);
        if (rc != 0)
            return rc;
        r->facts->negative += v < 0;
        v = v < 0 ? 0 : v > DELTA_MAX_US ? DELTA_MAX_US : v;
        r->n_deltas++;
        if (!r->has_samples)
            rc = series_add(&r->deltas, (uint64_t)v, false);
        else if (r->n_deltas > 1 && series_take(&r->samples, true, &sample))
            rc = weigh(r, sample, (uint64_t)v);
    }
    return rc;
}

static int read_top(struct reader *r, int wrapped);

static int read_top_value(struct reader *r, enum profile_key key, int wrapped) {
    switch (key) {
    case KEY_NODES:
        r->has_nodes = true;
        return read_nodes(r);
    case KEY_HEAD:
        r->has_nodes = true;
        return read_node(r);
    case KEY_SAMPLES:
        return read_samples(r);
    case KEY_TIME_DELTAS:
        return read_deltas(r);
    case KEY_START_TIME:
        return json_number(&r->j, &r->start);
    case KEY_END_TIME:
        return json_number(&r->j, &r->end);
    case KEY_PROFILE:
    case KEY_RESULT:
        return wrapped < WRAPPERS ? read_top(r, wrapped + 1) : json_skip(&r->j);
    case KEY_SNAPSHOT:
        return json_fail(&r->j, "this is a heap snapshot; a CPU profile (.cpuprofile) or a "
                                "sampling heap profile (.heapprofile) is wanted");
    case KEY_TRACE_EVENTS:
        return json_fail(&r->j, "this is a trace (traceEvents); a CPU profile (.cpuprofile) or a "
                                "sampling heap profile (.heapprofile) is wanted");
    default:
        return json_skip(&r->j);
    }
}

static int read_top(struct reader *r, int wrapped) {
    struct json_span key;
    bool first = true;
    unsigned char c;
    int rc = json_peek(&r->j, &c);

    if (rc == 0 && c != '{' && c != 0)
        return json_fail(&r->j, "this is no profile: it does not begin with '{'");
    if (rc == 0)
        rc = json_enter(&r->j, '{');
    while (rc == 0 && (rc = json_member(&r->j, &first, &key)) > 0)
        rc = read_top_value(r, profile_key(key.p, key.len), wrapped);
    return rc;
}

/* No timeDeltas: the duration is shared out, so that the sum fits; not known: one each. */
static int weigh_evenly(struct reader *r) {
    double duration = (double)r->facts->duration_us, n = (double)r->samples.n, share;
    uint64_t id, given = 0, upto = 0;
    int rc = 0;

    if (duration <= 0)
        r->g->unit = GRAPH_SAMPLES;
    for (uint64_t i = 1; rc == 0 && series_take(&r->samples, true, &id); i++) {
        share = duration > 0 ? floor(duration * (double)i / n) : (double)i;
        upto = (uint64_t)share;
        rc = weigh(r, id, upto - given);
        given = upto;
    }
    return rc;
}

/* A place for the samples of nodes that are not in the file. */
static int add_lost(struct reader *r, uint32_t *ret) {
    static const char name[] = "(unknown)";
    uint32_t string, frame;
    int rc;

    if (*ret != 0)
        return 0;
    rc = names_string(r->g->names, name, sizeof(name) - 1, &string);
    if (rc == 0)
        rc = names_frame(r->g->names, string, 0, 0, 0, &frame);
    if (rc == 0)
        rc = graph_add(r->g, ret);
    if (rc == 0)
        r->g->frame[*ret] = frame;
    return rc;
}

/* What was said of ids becomes the nodes' own. */
static int resolve(struct reader *r, bool weights) {
    struct graph *g = r->g;
    struct id *id;
    uint32_t lost = 0;
    uint64_t at = 0;
    int rc;

    for (size_t i = 0; i < r->n_links; i++) {
        rc = ids_get(r->ids, r->links[i].parent, &id);
        if (rc != 0)
            return rc;
        if (g->parent[r->links[i].node] == 0)
            g->parent[r->links[i].node] = id->node;
    }
    while ((id = ids_next(r->ids, &at)) != NULL) {
        if (id->node != 0) {
            if (g->parent[id->node] == 0)
                g->parent[id->node] = id->parent;
            if (weights)
                g->self[id->node] = id->weight;
        } else if (id->weight > 0) {
            rc = add_lost(r, &lost);
            if (rc != 0)
                return rc;
            g->self[lost] = graph_sum(g->self[lost], id->weight);
            r->facts->lost = graph_sum(r->facts->lost, id->weight);
            id->node = lost;
        }
    }
    for (uint32_t i = 0; i < g->timeline.n; i++) {
        rc = ids_get(r->ids, g->timeline.runs[i].id, &id);
        if (rc != 0)
            return rc;
        g->timeline.runs[i].id = id->node;
    }
    return 0;
}

static int finish(struct reader *r) {
    struct graph_facts *f = r->facts;
    double duration = r->end - r->start;
    bool weights = true;
    int rc = json_finish(&r->j);

    if (rc != 0)
        return rc;
    if (!r->has_nodes)
        return json_fail(&r->j, "this is JSON and no profile: there is neither \"nodes\" (CPU "
                                "profile) nor \"head\" (heap profile)");
    f->heap = r->has_size;
    f->duration_us = duration > 0 && duration < (double)GRAPH_WEIGHT_MAX ? (uint64_t)duration : 0;
    r->g->unit = f->heap ? GRAPH_BYTES : GRAPH_MICROSECONDS;
    if (!f->heap && r->has_samples && r->n_deltas > 0) {
        f->uneven = r->n_deltas != f->samples;
        while (rc == 0 && series_take(&r->samples, true, &(uint64_t){0}))
            ; /* the last sample has no time of its own */
    } else if (!f->heap && f->samples > 0 && r->samples.n > 0) {
        f->without_deltas = true;
        rc = weigh_evenly(r);
    } else {
        weights = false;
        f->without_deltas = !f->heap;
        if (!f->heap)
            r->g->unit = GRAPH_SAMPLES;
        timeline_clear(&r->g->timeline);
    }
    series_clear(&r->samples);
    series_clear(&r->deltas);
    return rc != 0 ? rc : resolve(r, weights);
}

int profile_read(struct graph *g, struct source *source, char *why) {
    struct reader *r = mem_calloc(1, sizeof(*r));
    int rc = -ENOMEM;

    if (r == NULL)
        return -ENOMEM;
    json_init(&r->j, source, why);
    r->g = g;
    r->facts = &g->facts;
    rc = ids_new(&r->ids);
    if (rc == 0)
        rc = frame_cache_new(&r->cache);
    if (rc == 0)
        rc = read_top(r, 0);
    if (rc == 0)
        rc = finish(r);
    if (rc == -EFBIG)
        (void)snprintf(why, JSON_WHY_BYTES,
                       "the profile is too large at byte %llu: %d nodes, %d MiB of different names "
                       "and some millions of samples are taken",
                       (unsigned long long)json_offset(&r->j), LIMIT_PROFILE_NODES,
                       LIMIT_PROFILE_TEXT_BYTES / (1024 * 1024));
    ids_free(r->ids);
    frame_cache_free(r->cache);
    series_clear(&r->samples);
    series_clear(&r->deltas);
    mem_free(r->stack);
    mem_free(r->links);
    mem_free(r);
    return rc;
}
