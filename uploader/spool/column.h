/* column.h - the numbers of one key, coded by what came before: the same worker's last value and step, its
 * neighbours in the record, and the other workers. SPOOL.md tells the rules. Memory only; any thread. */
#ifndef PILLION_SPOOL_COLUMN_H
#define PILLION_SPOOL_COLUMN_H

#include "uploader/spool/bits.h"
#include "uploader/spool/decimal.h"

/* What one worker said last under one key. */
struct past {
    struct decimal n;
    int64_t step;       /* from the one before, at `places` */
    uint32_t text;      /* of a string: its number, from 1 */
    uint8_t places;     /* of step */
    uint8_t seen, runs; /* runs: a bit for each time, 1 when it did not change */
};

/* What stands before it in the same record. */
#define RECENT_BITS 3
struct neighbour {
    bool same;
    uint8_t step_places, places;
    int64_t step, v;   /* the last change; the last value */
    unsigned recent_n; /* values that changed, written so far; the last ones: */
    struct decimal recent[1 << RECENT_BITS];
};

struct changes; /* what is learnt of a key whose value changes */

struct column {
    struct chance same[10];
    struct past last; /* of whichever worker */
    struct changes *changes;
};

void column_init(struct column *c);
void column_clear(struct column *c);
/* Would it come back as it is? */
bool column_takes(const struct column *c, const struct decimal *n);
/* Codes *n; errors (-ENOMEM, -EBADMSG) stick in b->err. */
void column_code(struct bits *b, struct column *c, struct past *p, struct neighbour *near,
                 struct decimal *n);

#endif
