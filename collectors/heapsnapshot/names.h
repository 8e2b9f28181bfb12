/* names.h - the strings of a heap snapshot as they stream by: those that classes want are decoded and handed over, all others are
 * passed over without being kept. */
#ifndef PILLION_HEAPSNAPSHOT_NAMES_H
#define PILLION_HEAPSNAPSHOT_NAMES_H

#include "agent/base/limits.h"
#include "collectors/heapsnapshot/classes.h"

enum names_state { NAMES_FIRST, NAMES_VALUE, NAMES_TEXT, NAMES_AFTER };

struct names {
    enum names_state state;
    uint32_t count;  /* strings that are complete */
    bool wanted;     /* the one that is being read */
    bool escaped;    /* after a backslash */
    unsigned digits; /* of \uXXXX, still to come */
    unsigned unit;   /* its value so far */
    unsigned high;   /* first half of a surrogate pair; 0: none */
    bool cut;        /* longer than is kept */
    size_t len;
    char text[LIMIT_HEAP_NAME_BYTES + 8];
};

/* From the first byte after "[". Returns how many bytes were taken; *ret_rc: 0, 1 when "]" was among them, -EINVAL, -ENOMEM. */
size_t names_push(struct names *s, struct classes *c, const char *p, size_t len, int *ret_rc);

#endif
