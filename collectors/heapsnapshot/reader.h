/* reader.h - what the files of this folder share of one snapshot that is being read. */
#ifndef PILLION_HEAPSNAPSHOT_READER_H
#define PILLION_HEAPSNAPSHOT_READER_H

#include "collectors/heapsnapshot/classes.h"
#include "collectors/heapsnapshot/meta.h"
#include "collectors/heapsnapshot/names.h"

#define READER_KEY_BYTES 32

enum reader_state {
    READER_OPEN,     /* before "{" */
    READER_KEY,      /* before a key */
    READER_KEY_TEXT, /* in it */
    READER_COLON,    /* after it */
    READER_VALUE,    /* before a value */
    READER_SNAPSHOT, /* in the object that is kept and then understood */
    READER_NODES,
    READER_EDGES,
    READER_STRINGS,
    READER_SKIP,  /* in a value that is of no use here */
    READER_AFTER, /* after a value */
    READER_DONE,  /* after the last "}" */
};
#define READER_STATES 12

/* A value that is passed over or kept as a whole: where it ends. */
struct balance {
    unsigned depth;
    bool in_text, escaped;
};

struct numbers {
    uint64_t value;
    unsigned digits;
    bool gap; /* white space after the digits */
    unsigned field;
    uint64_t values[META_FIELDS]; /* of the node that is being read */
    uint64_t edges;               /* that the nodes read so far say they have */
};

struct heapsnapshot {
    enum reader_state state;
    int rc; /* what sticks */
    char error[256];
    uint64_t at; /* bytes before those being pushed */
    bool first;  /* no key has been read */
    bool have_meta, have_nodes, have_edges, have_strings;
    char key[READER_KEY_BYTES];
    size_t key_len;
    struct balance balance;
    struct buf text; /* of "snapshot" */
    struct meta meta;
    struct numbers numbers;
    uint64_t nodes, edge_commas;
    bool edges_any;
    struct names names;
    struct classes classes;
    struct class_sums types[META_TYPES];
    struct heapsnapshot_class type_list[META_TYPES];
    struct heapsnapshot_summary summary;
    struct heapsnapshot_class *class_list; /* owned; those of `summary` */
};

/* Remembers what is wrong at byte `at`, once; always -EINVAL. */
int reader_wrong(struct heapsnapshot *h, uint64_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The flat number arrays; each returns how many bytes it took, and goes to READER_AFTER after "]". */
size_t numbers_nodes(struct heapsnapshot *h, const char *p, size_t len);
size_t numbers_edges(struct heapsnapshot *h, const char *p, size_t len);

#endif
