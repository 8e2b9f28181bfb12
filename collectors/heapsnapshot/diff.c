#include "collectors/heapsnapshot/diff.h"

#include <errno.h>

#include "agent/base/mem.h"

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct heapsnapshot_change *)a)->name,
                  ((const struct heapsnapshot_change *)b)->name);
}

static int64_t grown(uint64_t before, uint64_t after) {
    return (int64_t)(after - before); /* no heap has 2^63 of anything */
}

static int by_growth(const void *a, const void *b) {
    const struct heapsnapshot_change *x = a, *y = b;
    int64_t bytes_x = grown(x->before.bytes, x->after.bytes),
            bytes_y = grown(y->before.bytes, y->after.bytes),
            count_x = grown(x->before.count, x->after.count),
            count_y = grown(y->before.count, y->after.count);

    if (bytes_x != bytes_y)
        return bytes_x > bytes_y ? -1 : 1;
    if (count_x != count_y)
        return count_x > count_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool same(const struct heapsnapshot_class *a, const struct heapsnapshot_class *b) {
    return a->count == b->count && a->bytes == b->bytes && a->detached == b->detached;
}

/* Sorted by name each class stands once or twice in a row. Returns how many are left. */
static size_t join(struct heapsnapshot_change *all, size_t n) {
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        struct heapsnapshot_change c = all[i];

        if (i + 1 < n && strcmp(c.name, all[i + 1].name) == 0) {
            const struct heapsnapshot_change *other = &all[++i];

            if (c.before.name == NULL)
                c.before = other->before;
            else
                c.after = other->after;
        }
        if (!same(&c.before, &c.after))
            all[kept++] = c;
    }
    return kept;
}

int heapsnapshot_diff(const struct heapsnapshot_summary *before,
                      const struct heapsnapshot_summary *after, struct heapsnapshot_change **ret,
                      size_t *ret_n) {
    size_t n = before->n_classes + after->n_classes;
    struct heapsnapshot_change *all = mem_calloc(n + 1, sizeof(*all));

    if (all == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < before->n_classes; i++)
        all[i] = (struct heapsnapshot_change){.name = before->classes[i].name,
                                              .before = before->classes[i]};
    for (size_t i = 0; i < after->n_classes; i++)
        all[before->n_classes + i] = (struct heapsnapshot_change){.name = after->classes[i].name,
                                                                  .after = after->classes[i]};
    qsort(all, n, sizeof(*all), by_name);
    n = join(all, n);
    qsort(all, n, sizeof(*all), by_growth);
    *ret = all;
    *ret_n = n;
    return 0;
}
