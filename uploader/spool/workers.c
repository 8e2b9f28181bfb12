#include "uploader/spool/workers.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

void spool_tallies_init(struct spool_tallies *t, size_t most) {
    *t = (struct spool_tallies){.most = most};
}

void spool_tallies_clear(struct spool_tallies *t) {
    mem_free(t->items);
    spool_tallies_init(t, t->most);
}

struct spool_tally *spool_tallies_find(struct spool_tallies *t, const char *id) {
    for (size_t k = 0; k < t->n; k++) {
        size_t i = (t->hint + k) % t->n;

        if (strcmp(t->items[i].id, id) == 0) {
            t->hint = i + 1;
            return &t->items[i];
        }
    }
    return NULL;
}

static struct spool_tally *least_recent(struct spool_tallies *t) {
    struct spool_tally *old = &t->items[0];

    for (size_t i = 1; i < t->n; i++)
        if (t->items[i].touched_ms < old->touched_ms)
            old = &t->items[i];
    return old;
}

static struct spool_tally *add(struct spool_tallies *t, const char *id) {
    struct spool_tally *item;

    if (t->n == t->most) {
        item = least_recent(t);
    } else {
        if (t->n == t->cap) {
            size_t cap = t->cap == 0 ? 16 : t->cap * 2;
            struct spool_tally *items = mem_realloc(t->items, cap * sizeof(*items));

            if (items == NULL)
                return NULL;
            t->items = items;
            t->cap = cap;
        }
        item = &t->items[t->n++];
    }
    *item = (struct spool_tally){.number = 0};
    (void)text_copy(item->id, sizeof(item->id), id); /* is no longer than that */
    return item;
}

struct spool_tally *spool_tallies_get(struct spool_tallies *t, const char *id) {
    struct spool_tally *item = spool_tallies_find(t, id);

    if (item == NULL)
        item = add(t, id);
    if (item != NULL)
        item->touched_ms = clock_mono_ms();
    return item;
}

int spool_tallies_copy(struct spool_tallies *ret, const struct spool_tallies *t) {
    spool_tallies_init(ret, t->most);
    if (t->n == 0)
        return 0;
    ret->items = mem_memdup(t->items, t->n * sizeof(*t->items));
    if (ret->items == NULL)
        return -ENOMEM;
    ret->n = ret->cap = t->n;
    return 0;
}

void spool_tallies_forget(struct spool_tallies *t, uint64_t for_ms) {
    uint64_t now = clock_mono_ms();
    size_t kept = 0;

    for (size_t i = 0; i < t->n; i++)
        if (now - t->items[i].touched_ms < for_ms)
            t->items[kept++] = t->items[i];
    t->n = kept;
}
