/* record.h - the numbers of a layout as members of a JSON object:
 * `,"v8js.memory.heap.used":4823040` and so on.
 *
 * Used for each record of a batch (hot: 64 workers × 10 a second × 150 numbers) and for the
 * pages of the status socket. The text of the keys is made once a layout and lives as long as
 * it. Loop thread only. */
#ifndef PILLION_RECORD_H
#define PILLION_RECORD_H

#include "agent/base/buf.h"
#include "agent/base/schema.h"

/* Appends `,"key":number` for every known value; NaN is left out. A histogram becomes
 * name.bucket{attributes,le=bound} for each bucket (not cumulative, the last is le=+Inf),
 * name.sum{attributes} and name.count{attributes}; without any observation it is left out.
 * Without memory out->err is set. */
void record_metrics(struct buf *out, const struct schema *s, const double *values);

/* The same for the fields whose first slot is below n_slots. */
void record_metrics_below(struct buf *out, const struct schema *s, const double *values,
                          size_t n_slots);

/* The same as an object of its own: {"key":number,…}. */
void record_metrics_object(struct buf *out, const struct schema *s, const double *values);

/* Appends name + suffix + attributes, to which `le` (when not NULL) is added:
 * v8js.gc.duration.bucket{v8js.gc.type=minor,le=0.01}. The key of a histogram's part, for
 * whoever needs one of them. */
void record_key(struct buf *out, const struct field *f, const char *suffix, const char *le);

#endif
