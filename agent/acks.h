/* acks.h - which samples wait in which batch. A sample may be acknowledged to its worker once its batch is kept.
 *
 * A queue in order of batches; one entry a worker and batch. Entries name workers by id, because a worker can be gone before
 * its batch is kept. Loop thread only. */
#ifndef PILLION_ACKS_H
#define PILLION_ACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collectors/workers.h"

struct ack {
    uint64_t seq;    /* batch */
    uint64_t number; /* highest sample of the worker in it */
    char worker[WORKER_ID_BYTES];
};

struct acks {
    struct ack *items; /* ring */
    size_t head;
    size_t n;
    size_t cap;
};

void acks_init(struct acks *a);
void acks_clear(struct acks *a);
/* -ENOMEM: the sample is in the batch all the same, and is acknowledged with the worker's next one. */
int acks_add(struct acks *a, uint64_t seq, const char *worker, uint64_t number);
/* Takes the next entry of a batch up to and including seq; false when there is none. */
bool acks_next(struct acks *a, uint64_t seq, struct ack *ret);

#endif
