/* table.h - a layout (schema.h) from a table of metrics with whole keys: name{attribute=value,…}. */
#ifndef PILLION_TABLE_H
#define PILLION_TABLE_H

#include <stddef.h>

#include "agent/base/schema.h"

struct table_row {
    const char *key; /* at most 255 bytes, LIMIT_ATTRIBUTES attributes */
    const char *unit;
    enum field_kind kind; /* no histograms */
};

/* Slot i is row i. 0, -ENOMEM, -EINVAL: a key that is not one, or twice. */
int table_schema(const struct table_row *rows, size_t n, struct schema **ret);

#endif
