/* heapsnapshot.h - reads a .heapsnapshot as it streams by: is it whole, and what is in it by class.
 *
 * No libuv, no files: bytes are pushed, in pieces of any size. Memory grows with the number of classes (LIMIT_HEAP_*: some 4 MiB at
 * the very most), not with the snapshot. May be used on any one thread.
 *
 * The format is that of V8's HeapSnapshotJSONSerializer (src/profiler/heap-snapshot-generator.cc), the same for Node 18 to 26: one
 * object whose "snapshot" comes first, then the flat number arrays "nodes" and "edges", and at the very end the "strings" that the
 * names of nodes are indexes into. Which number of a node is what, snapshot.meta says. White space between tokens may be anything.
 *
 * Classes are those that Chrome DevTools shows: objects and native objects under their constructor's name, closures as "Function",
 * everything else under its type, such as "(string)". Sizes are V8's self sizes: the object alone, without what it refers to. */
#ifndef PILLION_HEAPSNAPSHOT_H
#define PILLION_HEAPSNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

struct heapsnapshot;

struct heapsnapshot_class {
    const char *name; /* UTF-8, cut at LIMIT_HEAP_NAME_BYTES; owned by the snapshot */
    uint64_t count, bytes;
    uint64_t
        detached; /* nodes that V8 calls detached: kept only by JavaScript, their owner has let go of them */
};

struct heapsnapshot_summary {
    const struct heapsnapshot_class
        *classes; /* by bytes, the largest first; each node is in exactly one of them */
    size_t n_classes;
    const struct heapsnapshot_class *types; /* by node type, in V8's order */
    size_t n_types;
    struct heapsnapshot_class total;
    bool
        capped; /* there were more classes than LIMIT_HEAP_CLASSES: the later ones are together in "(other classes)" */
};

int heapsnapshot_new(struct heapsnapshot **ret);
void heapsnapshot_free(struct heapsnapshot *h);
/* -EINVAL: no snapshot, or a damaged one; -ENOMEM. Both stick. */
int heapsnapshot_push(struct heapsnapshot *h, const char *data, size_t len);
/* After the last byte: 0 when it is whole (closed, numbers of nodes and edges as announced, every name there); then there is a
 * summary. */
int heapsnapshot_end(struct heapsnapshot *h);
/* What is wrong, at which byte, for people; "" while nothing is. */
const char *heapsnapshot_error(const struct heapsnapshot *h);
uint64_t heapsnapshot_nodes_announced(const struct heapsnapshot *h); /* 0: not read yet */
uint64_t heapsnapshot_nodes(const struct heapsnapshot *h);           /* read so far: progress */
/* NULL before heapsnapshot_end() has said 0. Lives as long as the snapshot. */
const struct heapsnapshot_summary *heapsnapshot_summary(const struct heapsnapshot *h);

/* {"nodes":…,"bytes":…,"detached":…,"classes_total":…,"capped":…,"types":{…},"classes":[{"class":…,"count":…,"bytes":…,
 * "detached":…},…]} with the `top` largest classes; 0: all of them. */
void heapsnapshot_json(const struct heapsnapshot_summary *s, size_t top, struct buf *out);

#endif
