#include "agent/acks.h"

#include <errno.h>

#include "agent/base/mem.h"

#define FIRST 16

void acks_init(struct acks *a) {
    *a = (struct acks){0};
}

void acks_clear(struct acks *a) {
    mem_free(a->items);
    acks_init(a);
}

static struct ack *at(const struct acks *a, size_t i) {
    return &a->items[(a->head + i) % a->cap];
}

static int grow(struct acks *a) {
    size_t cap = a->cap > 0 ? a->cap * 2 : FIRST;
    struct ack *items;

    if (a->n < a->cap)
        return 0;
    items = mem_alloc(cap * sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < a->n; i++)
        items[i] = *at(a, i);
    mem_free(a->items);
    a->items = items;
    a->head = 0;
    a->cap = cap;
    return 0;
}

int acks_add(struct acks *a, uint64_t seq, const char *worker, uint64_t number) {
    struct ack *entry;

    for (size_t i = a->n; i-- > 0 && at(a, i)->seq == seq;)
        if (strcmp(at(a, i)->worker, worker) == 0) {
            at(a, i)->number = number;
            return 0;
        }
    if (grow(a) != 0)
        return -ENOMEM;
    entry = at(a, a->n++);
    entry->seq = seq;
    entry->number = number;
    memcpy(entry->worker, worker, sizeof(entry->worker));
    return 0;
}

bool acks_next(struct acks *a, uint64_t seq, struct ack *ret) {
    if (a->n == 0 || at(a, 0)->seq > seq)
        return false;
    *ret = *at(a, 0);
    a->head = (a->head + 1) % a->cap;
    a->n--;
    return true;
}
