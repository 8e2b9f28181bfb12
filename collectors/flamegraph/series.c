#include "collectors/flamegraph/series.h"

#include <errno.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define VARINT_BYTES 10

void series_clear(struct series *s) {
    mem_free(s->data);
    memset(s, 0, sizeof(*s));
}

int series_add(struct series *s, uint64_t v, bool delta) {
    uint64_t d = v;

    if (s->cap - s->len < VARINT_BYTES) {
        size_t cap = s->cap < 4096 ? 8192 : s->cap + s->cap / 2;
        uint8_t *data;

        if (s->len > LIMIT_PROFILE_SERIES_BYTES)
            return -EFBIG;
        data = mem_realloc(s->data, cap);
        if (data == NULL)
            return -ENOMEM;
        s->data = data;
        s->cap = cap;
    }
    if (delta) {
        int64_t diff = (int64_t)(v - s->last);

        d = (uint64_t)diff << 1 ^ (diff < 0 ? UINT64_MAX : 0);
        s->last = v;
    }
    for (; d >= 0x80; d >>= 7)
        s->data[s->len++] = (uint8_t)(d | 0x80);
    s->data[s->len++] = (uint8_t)d;
    s->n++;
    return 0;
}

bool series_take(struct series *s, bool delta, uint64_t *ret) {
    uint64_t d = 0;
    unsigned shift = 0;

    if (s->at == s->len)
        return false;
    if (s->at == 0)
        s->last = 0;
    do {
        d |= (uint64_t)(s->data[s->at] & 0x7f) << shift;
        shift += 7;
    } while ((s->data[s->at++] & 0x80) != 0);
    if (delta) {
        s->last += d >> 1 ^ (0 - (d & 1));
        d = s->last;
    }
    *ret = d;
    return true;
}

void timeline_clear(struct timeline *t) {
    mem_free(t->runs);
    memset(t, 0, sizeof(*t));
}

/* Adds to the last run when it is the same node, or when its step is not full. */
static bool absorb(struct timeline *t, struct run r) {
    struct run *last = &t->runs[t->n - 1];

    if (last->id == r.id) {
        last->most += r.most;
    } else if (last->weight >= t->step_us) {
        return false;
    } else if (r.most > last->most) {
        last->id = r.id;
        last->most = r.most;
    }
    last->weight += r.weight;
    return true;
}

static void coarsen(struct timeline *t) {
    uint32_t n = t->n;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += t->runs[i].weight;
    while (t->n > LIMIT_PROFILE_TIMELINE / 2) {
        t->step_us = t->step_us > 0 ? 2 * t->step_us : sum / LIMIT_PROFILE_TIMELINE + 1;
        n = t->n;
        t->n = 1;
        for (uint32_t i = 1; i < n; i++) {
            struct run r = t->runs[i];

            if (!absorb(t, r))
                t->runs[t->n++] = r;
        }
    }
}

int timeline_add(struct timeline *t, uint64_t id, uint64_t weight) {
    struct run r = {id, weight, weight};

    if (weight == 0 || (t->n > 0 && absorb(t, r)))
        return 0;
    if (t->n == LIMIT_PROFILE_TIMELINE)
        coarsen(t);
    if (t->n == t->cap) {
        uint32_t cap = t->cap == 0 ? 512 : t->cap * 2;
        struct run *runs = mem_realloc(t->runs, cap * sizeof(*runs));

        if (runs == NULL)
            return -ENOMEM;
        t->runs = runs;
        t->cap = cap;
    }
    t->runs[t->n++] = r;
    return 0;
}
