/* The two arrays that make up a snapshot: nodes are added up, edges are only counted. */
#include <errno.h>
#include <inttypes.h>

#include "agent/base/mem.h"
#include "collectors/heapsnapshot/reader.h"

#define MOST_DIGITS 19 /* always fit into 64 bits */
#define LANES       16
#define ROUNDS      255 /* a lane is a byte: it counts no further */
#define DETACHED    2   /* v8::EmbedderGraph::Node::Detachedness::kDetached */

typedef uint8_t lanes __attribute__((vector_size(LANES)));

static int node_done(struct heapsnapshot *h, uint64_t at) {
    const uint64_t *v = h->numbers.values;
    const struct meta *m = &h->meta;
    uint64_t type = v[m->type], name = v[m->name], size = v[m->self_size];
    bool detached = m->detachedness < META_FIELDS && v[m->detachedness] == DETACHED;
    struct class_sums *sums;

    if (h->nodes == m->nodes_announced)
        return reader_wrong(h, at, "more nodes than the %" PRIu64 " that were announced", h->nodes);
    if (type >= m->n_types)
        return reader_wrong(h, at, "node %" PRIu64 " has type %" PRIu64 " of %u", h->nodes, type,
                            m->n_types);
    if (name >= UINT32_MAX)
        return reader_wrong(h, at, "node %" PRIu64 " has name %" PRIu64 ", which cannot be",
                            h->nodes, name);
    h->nodes++;
    h->numbers.edges += v[m->edge_count];
    sums = &h->types[type];
    sums->count++;
    sums->bytes += size;
    sums->detached += detached;
    if (m->types[type].label[0] == '\0')
        return classes_add(&h->classes, (uint32_t)name, size, detached);
    return 0;
}

static int number_done(struct heapsnapshot *h, uint64_t at) {
    struct numbers *n = &h->numbers;

    if (n->digits == 0 || n->digits > MOST_DIGITS)
        return reader_wrong(h, at, "a number is missing or too long in its nodes");
    n->values[n->field++] = n->value;
    n->value = 0;
    n->digits = 0;
    n->gap = false;
    if (n->field < h->meta.n_fields)
        return 0;
    n->field = 0;
    return node_done(h, at);
}

static int nodes_done(struct heapsnapshot *h, uint64_t at) {
    const struct numbers *n = &h->numbers;
    int rc = 0;

    if (n->digits > 0 || n->field > 0 || h->nodes > 0)
        rc = number_done(h, at);
    if (rc != 0)
        return rc;
    if (n->field > 0)
        return reader_wrong(h, at, "its last node is not whole");
    if (h->nodes != h->meta.nodes_announced)
        return reader_wrong(h, at, "%" PRIu64 " nodes were announced and there are %" PRIu64,
                            h->meta.nodes_announced, h->nodes);
    if (n->edges != h->meta.edges_announced)
        return reader_wrong(h, at, "%" PRIu64 " edges were announced and its nodes have %" PRIu64,
                            h->meta.edges_announced, n->edges);
    h->have_nodes = true;
    h->state = READER_AFTER;
    classes_sort(&h->classes);
    return 0;
}

size_t numbers_nodes(struct heapsnapshot *h, const char *p, size_t len) {
    struct numbers *n = &h->numbers;

    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(unsigned char)p[i] - '0';
        int rc = 0;

        if (digit <= 9 && !n->gap) {
            n->value = n->value * 10 + digit;
            n->digits++;
        } else if (p[i] == ',') {
            rc = number_done(h, h->at + i);
        } else if (p[i] == ']') {
            if ((rc = nodes_done(h, h->at + i)) == 0)
                return i + 1;
        } else if (p[i] == '\n' || p[i] == ' ' || p[i] == '\r' || p[i] == '\t') {
            n->gap = n->digits > 0;
        } else {
            rc = reader_wrong(h, h->at + i, "its nodes are not numbers");
        }
        if (rc != 0) {
            h->rc = rc;
            return i;
        }
    }
    return len;
}

/* Edges are two thirds of a snapshot: sixteen bytes at a time. */
static uint64_t count_commas(const char *p, size_t len) {
    uint64_t sum = 0;
    size_t i = 0;

    while (len - i >= LANES) {
        size_t rounds = (len - i) / LANES;
        lanes count = {0};

        if (rounds > ROUNDS)
            rounds = ROUNDS;
        for (size_t k = 0; k < rounds; k++, i += LANES) {
            lanes bytes;

            memcpy(&bytes, p + i, LANES);
            count -= (lanes)(bytes == ','); /* a comparison that holds is -1 */
        }
        for (unsigned k = 0; k < LANES; k++)
            sum += count[k];
    }
    for (; i < len; i++)
        sum += p[i] == ',';
    return sum;
}

static bool any_value(const char *p, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (p[i] != ' ' && p[i] != '\n' && p[i] != '\r' && p[i] != '\t')
            return true;
    return false;
}

static void edges_done(struct heapsnapshot *h, uint64_t at) {
    uint64_t numbers = h->edge_commas + h->edges_any, per_edge = h->meta.n_edge_fields;

    if (numbers % per_edge != 0 || numbers / per_edge != h->meta.edges_announced) {
        h->rc = reader_wrong(h, at, "%" PRIu64 " edges were announced and there are %" PRIu64,
                             h->meta.edges_announced, numbers / per_edge);
        return;
    }
    h->have_edges = true;
    h->state = READER_AFTER;
}

size_t numbers_edges(struct heapsnapshot *h, const char *p, size_t len) {
    const char *end = memchr(p, ']', len);
    size_t n = end != NULL ? (size_t)(end - p) : len;

    h->edge_commas += count_commas(p, n);
    if (!h->edges_any)
        h->edges_any = any_value(p, n);
    if (end == NULL)
        return len;
    edges_done(h, h->at + n);
    return n + 1;
}
