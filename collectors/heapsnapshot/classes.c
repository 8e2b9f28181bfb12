#include "collectors/heapsnapshot/classes.h"

#include <errno.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define SLOTS_FIRST 1024u /* at most half of them are in use */

static const char other_name[] = "(other classes)";

void classes_init(struct classes *c) {
    *c = (struct classes){0};
    buf_init(&c->names, LIMIT_HEAP_NAMES_BYTES);
}

void classes_clear(struct classes *c) {
    mem_free(c->entries);
    mem_free(c->slots);
    buf_clear(&c->names);
    *c = (struct classes){0};
}

static uint32_t hash(uint32_t string) {
    return (string * 2654435761u) ^ (string >> 15);
}

static void enter(struct classes *c, uint32_t i) {
    uint32_t at = hash(c->entries[i].string) & c->mask;

    while (c->slots[at] != 0)
        at = (at + 1) & c->mask;
    c->slots[at] = i + 1;
}

static int grow(struct classes *c) {
    uint32_t n_slots = c->slots == NULL ? SLOTS_FIRST : 2 * (c->mask + 1);
    uint32_t *slots = mem_calloc(n_slots, sizeof(*slots));
    struct class_entry *entries;

    if (slots == NULL)
        return -ENOMEM;
    entries = mem_realloc(c->entries, n_slots / 2 * sizeof(*entries));
    if (entries == NULL) {
        mem_free(slots);
        return -ENOMEM;
    }
    mem_free(c->slots);
    c->entries = entries;
    c->cap = n_slots / 2;
    c->slots = slots;
    c->mask = n_slots - 1;
    for (uint32_t i = 0; i < c->n; i++)
        enter(c, i);
    return 0;
}

static void add(struct class_sums *s, uint64_t bytes, bool detached) {
    s->count++;
    s->bytes += bytes;
    s->detached += detached;
}

int classes_add(struct classes *c, uint32_t string, uint64_t bytes, bool detached) {
    int rc;

    if (c->slots != NULL) {
        for (uint32_t at = hash(string) & c->mask; c->slots[at] != 0; at = (at + 1) & c->mask) {
            struct class_entry *e = &c->entries[c->slots[at] - 1];

            if (e->string == string) {
                add(&e->sums, bytes, detached);
                return 0;
            }
        }
    }
    if (c->n == LIMIT_HEAP_CLASSES) {
        c->capped = true;
        add(&c->other, bytes, detached);
        return 0;
    }
    if (c->n == c->cap && (rc = grow(c)) != 0)
        return rc;
    c->entries[c->n] = (struct class_entry){.string = string, .name = NAME_NONE};
    add(&c->entries[c->n].sums, bytes, detached);
    enter(c, c->n++);
    return 0;
}

static int by_string(const void *a, const void *b) {
    uint32_t x = ((const struct class_entry *)a)->string,
             y = ((const struct class_entry *)b)->string;

    return x < y ? -1 : x > y;
}

void classes_sort(struct classes *c) {
    if (c->n > 0)
        qsort(c->entries, c->n, sizeof(*c->entries), by_string);
    c->next = 0;
    mem_free(c->slots); /* of no use from here on */
    c->slots = NULL;
}

uint32_t classes_wanted(const struct classes *c) {
    return c->next < c->n ? c->entries[c->next].string : UINT32_MAX;
}

int classes_name(struct classes *c, const char *text, size_t len) {
    struct class_entry *e = &c->entries[c->next++];

    if (c->names.len + len + 1 > LIMIT_HEAP_NAMES_BYTES) {
        c->capped = true;
        c->other.count += e->sums.count;
        c->other.bytes += e->sums.bytes;
        c->other.detached += e->sums.detached;
        return 0;
    }
    e->name = (uint32_t)c->names.len;
    buf_add(&c->names, text, len);
    buf_putc(&c->names, '\0');
    return c->names.err;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct heapsnapshot_class *)a)->name,
                  ((const struct heapsnapshot_class *)b)->name);
}

static int by_bytes(const void *a, const void *b) {
    const struct heapsnapshot_class *x = a, *y = b;

    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return strcmp(x->name, y->name);
}

static size_t merge_equal(struct heapsnapshot_class *all, size_t n) {
    size_t kept = 0;

    qsort(all, n, sizeof(*all), by_name);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && strcmp(all[kept - 1].name, all[i].name) == 0) {
            all[kept - 1].count += all[i].count;
            all[kept - 1].bytes += all[i].bytes;
            all[kept - 1].detached += all[i].detached;
        } else {
            all[kept++] = all[i];
        }
    }
    qsort(all, kept, sizeof(*all), by_bytes);
    return kept;
}

int classes_fold(struct classes *c, const struct heapsnapshot_class *fixed, size_t n_fixed,
                 struct heapsnapshot_class **ret, size_t *ret_n) {
    struct heapsnapshot_class *all = mem_calloc(c->n + n_fixed + 1, sizeof(*all));
    size_t n = 0;

    if (all == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct class_entry *e = &c->entries[i];

        if (e->name != NAME_NONE)
            all[n++] = (struct heapsnapshot_class){c->names.data + e->name, e->sums.count,
                                                   e->sums.bytes, e->sums.detached};
    }
    for (size_t i = 0; i < n_fixed; i++)
        if (fixed[i].count > 0)
            all[n++] = fixed[i];
    if (c->other.count > 0)
        all[n++] = (struct heapsnapshot_class){other_name, c->other.count, c->other.bytes,
                                               c->other.detached};
    *ret = all;
    *ret_n = n > 0 ? merge_equal(all, n) : 0;
    return 0;
}
