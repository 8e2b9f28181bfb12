/* classes.h - nodes folded by class while they stream by. A class is known by the index of its name until the strings come, at the
 * very end of a snapshot: then the names that are wanted are given, in the order of their indexes. */
#ifndef PILLION_HEAPSNAPSHOT_CLASSES_H
#define PILLION_HEAPSNAPSHOT_CLASSES_H

#include "collectors/heapsnapshot/heapsnapshot.h"

#define NAME_NONE UINT32_MAX

struct class_sums {
    uint64_t count, bytes, detached;
};

struct class_entry {
    struct class_sums sums;
    uint32_t string; /* index into the strings */
    uint32_t name;   /* where its text begins in `names`; NAME_NONE: not there */
};

struct classes {
    struct class_entry *entries; /* owned; dense, in the order of their first node */
    uint32_t n, cap;
    uint32_t *slots;         /* owned; open addressing over `entries`, number + 1 or 0 */
    uint32_t mask;           /* of slots: a power of two less one */
    uint32_t next;           /* while the strings come: first entry whose name has not come */
    struct class_sums other; /* what came beyond the cap */
    bool capped;
    struct buf names; /* texts, each with its NUL */
};

void classes_init(struct classes *c);
void classes_clear(struct classes *c);
/* -ENOMEM. Beyond LIMIT_HEAP_CLASSES a new class is counted in `other`. */
int classes_add(struct classes *c, uint32_t string, uint64_t bytes, bool detached);
/* No nodes any more, the strings begin. */
void classes_sort(struct classes *c);
/* The next string whose text is wanted; UINT32_MAX: none any more. */
uint32_t classes_wanted(const struct classes *c);
/* The text of that string. -ENOMEM. */
int classes_name(struct classes *c, const char *text, size_t len);
/* All classes with a name, those of equal names as one, together with `fixed` (classes that have no string); the largest first.
 * *ret is the caller's (mem_free) and refers to names in `c` and to those of `fixed`. -ENOMEM. */
int classes_fold(struct classes *c, const struct heapsnapshot_class *fixed, size_t n_fixed,
                 struct heapsnapshot_class **ret, size_t *ret_n);

#endif
