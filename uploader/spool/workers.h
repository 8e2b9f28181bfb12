/* workers.h - numbers by worker: its last sample in the spool, or how many of its samples went. A small table of fixed
 * capacity; the entry that was touched least recently gives way. Belongs to one thread at a time. */
#ifndef PILLION_SPOOL_WORKERS_H
#define PILLION_SPOOL_WORKERS_H

#include <stddef.h>
#include <stdint.h>

#include "uploader/spool/record.h"

struct spool_tally {
    char id[SPOOL_ID_BYTES];
    uint64_t number;
    uint64_t touched_ms; /* monotonic */
};

struct spool_tallies {
    struct spool_tally *items;
    size_t n, cap, most;
    size_t
        hint; /* behind the entry of the last look-up: they come in the same order again and again */
};

void spool_tallies_init(struct spool_tallies *t, size_t most);
void spool_tallies_clear(struct spool_tallies *t);
/* NULL when there is none of this name. */
struct spool_tally *spool_tallies_find(struct spool_tallies *t, const char *id);
/* Found or made (number 0), and touched now; NULL without memory. */
struct spool_tally *spool_tallies_get(struct spool_tallies *t, const char *id);
/* A second table with the same entries; -ENOMEM. */
int spool_tallies_copy(struct spool_tallies *ret, const struct spool_tallies *t);
/* Takes out those that were not touched for so long. */
void spool_tallies_forget(struct spool_tallies *t, uint64_t for_ms);

#endif
