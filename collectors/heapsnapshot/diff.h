/* diff.h - two heap snapshots compared by class: what has grown, what has gone. */
#ifndef PILLION_HEAPSNAPSHOT_DIFF_H
#define PILLION_HEAPSNAPSHOT_DIFF_H

#include "collectors/heapsnapshot/heapsnapshot.h"

struct heapsnapshot_change {
    const char *name; /* of one of the two snapshots: lives as long as they */
    struct heapsnapshot_class before, after; /* all 0: not there */
};

/* One row for each class that is not the same in both, what grew most in bytes first, what shrank most last. The caller's
 * (mem_free). -ENOMEM. */
int heapsnapshot_diff(const struct heapsnapshot_summary *before,
                      const struct heapsnapshot_summary *after, struct heapsnapshot_change **ret,
                      size_t *ret_n);

#endif
