#include "collectors/flamegraph/ids.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/random.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define PAGE_IDS   512
#define PAGES      32768 /* ids up to 16 million have a page; beyond: the table */
#define PAGES_FREE 3072  /* 24 MiB that may be used thinly */
#define PAGE_LEAST 64    /* beyond: so many ids for each page on the average */
#define FAR_FIRST  256

struct far_id {
    uint64_t key; /* id + 1; 0: free */
    struct id id;
};

struct ids {
    uint64_t seed;
    uint64_t n; /* ids asked for, about */
    struct id **pages;
    uint64_t n_pages;
    struct far_id *far;
    uint64_t far_mask, far_used;
};

int ids_new(struct ids **ret) {
    struct ids *ids = mem_calloc(1, sizeof(*ids));

    if (ids == NULL)
        return -ENOMEM;
    if (getrandom(&ids->seed, sizeof(ids->seed), GRND_NONBLOCK) != sizeof(ids->seed))
        ids->seed = (uintptr_t)ids;
    ids->pages = mem_calloc(PAGES, sizeof(struct id *));
    ids->far = mem_calloc(FAR_FIRST, sizeof(*ids->far));
    ids->far_mask = FAR_FIRST - 1;
    if (ids->pages == NULL || ids->far == NULL) {
        ids_free(ids);
        return -ENOMEM;
    }
    *ret = ids;
    return 0;
}

void ids_free(struct ids *ids) {
    if (ids == NULL)
        return;
    for (size_t i = 0; ids->pages != NULL && i < PAGES; i++)
        mem_free(ids->pages[i]);
    mem_free(ids->pages);
    mem_free(ids->far);
    mem_free(ids);
}

static struct far_id *far_find(struct far_id *far, uint64_t mask, uint64_t seed, uint64_t key) {
    uint64_t h = (key ^ seed) * 0x9e3779b97f4a7c15u;

    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    h ^= h >> 32;
    while (far[h & mask].key != 0 && far[h & mask].key != key)
        h++;
    return &far[h & mask];
}

static int far_grow(struct ids *ids) {
    uint64_t mask = ids->far_mask * 2 + 1;
    struct far_id *far;

    if (ids->far_used < ids->far_mask / 4 * 3)
        return 0;
    far = mem_calloc(mask + 1, sizeof(*far));
    if (far == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i <= ids->far_mask; i++)
        if (ids->far[i].key != 0)
            *far_find(far, mask, ids->seed, ids->far[i].key) = ids->far[i];
    mem_free(ids->far);
    ids->far = far;
    ids->far_mask = mask;
    return 0;
}

static int far_get(struct ids *ids, uint64_t id, bool make, struct id **ret) {
    struct far_id *f = far_find(ids->far, ids->far_mask, ids->seed, id + 1);
    int rc;

    *ret = NULL;
    if (f->key == 0) {
        if (!make)
            return 0;
        if (ids->n >= 2 * LIMIT_PROFILE_NODES)
            return -EFBIG;
        rc = far_grow(ids);
        if (rc != 0)
            return rc;
        f = far_find(ids->far, ids->far_mask, ids->seed, id + 1);
        f->key = id + 1;
        ids->far_used++;
        ids->n++;
    }
    *ret = &f->id;
    return 0;
}

static bool unused(const struct id *i) {
    return i->node == 0 && i->parent == 0 && i->weight == 0;
}

static bool page_allowed(const struct ids *ids) {
    return ids->n_pages < PAGES_FREE || ids->n_pages * PAGE_LEAST <= ids->n;
}

int ids_get(struct ids *ids, uint64_t id, struct id **ret) {
    struct id **page;
    int rc;

    if (id >= (uint64_t)PAGES * PAGE_IDS)
        return far_get(ids, id, true, ret);
    page = &ids->pages[id / PAGE_IDS];
    if (*page == NULL) {
        if (!page_allowed(ids))
            return far_get(ids, id, true, ret);
        *page = mem_calloc(PAGE_IDS, sizeof(struct id));
        if (*page == NULL)
            return -ENOMEM;
        ids->n_pages++;
    }
    *ret = &(*page)[id % PAGE_IDS];
    if (!unused(*ret))
        return 0;
    if (ids->far_used > 0) { /* it may have come before there was a page */
        struct id *far;

        rc = far_get(ids, id, false, &far);
        if (rc != 0 || far != NULL) {
            *ret = far;
            return rc;
        }
    }
    ids->n++;
    return 0;
}

struct id *ids_next(struct ids *ids, uint64_t *at) {
    const uint64_t paged = (uint64_t)PAGES * PAGE_IDS;

    while (*at < paged) {
        struct id *page = ids->pages[*at / PAGE_IDS];

        if (page != NULL)
            return &page[(*at)++ % PAGE_IDS];
        *at += PAGE_IDS;
    }
    return *at - paged <= ids->far_mask ? &ids->far[(*at)++ - paged].id : NULL;
}
