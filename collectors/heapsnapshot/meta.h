/* meta.h - the "snapshot" object at the start of a heap snapshot: which number of a node is what, and how many there will be. */
#ifndef PILLION_HEAPSNAPSHOT_META_H
#define PILLION_HEAPSNAPSHOT_META_H

#include <stddef.h>
#include <stdint.h>

#define META_FIELDS     16 /* of a node; V8 has 6 or 7 */
#define META_TYPES      32 /* of nodes; V8 has 14 to 16 */
#define META_TYPE_BYTES 40
#define META_WHY_BYTES  128

struct meta_type {
    char name[META_TYPE_BYTES]; /* "string" */
    char label
        [META_TYPE_BYTES]; /* the class all nodes of it are in: "(string)"; "": the node's own name is the class */
};

struct meta {
    unsigned n_fields, n_edge_fields;
    unsigned type, name, self_size, edge_count; /* which field of a node */
    unsigned detachedness;                      /* META_FIELDS: V8 is too old to say */
    struct meta_type types[META_TYPES];
    unsigned n_types;
    uint64_t nodes_announced, edges_announced;
};

/* `text`: the object with its braces. -EINVAL with a reason in `why` (META_WHY_BYTES); -ENOMEM, which
 * jansson may report as JSON that is wrong. */
int meta_read(struct meta *ret, const char *text, size_t len, char *why);

#endif
