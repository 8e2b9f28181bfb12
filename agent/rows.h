/* rows.h - the table of workers for people: `/`, `pillion workers` and `pillion top` share it.
 * Pure: numbers in, text out. */
#ifndef PILLION_ROWS_H
#define PILLION_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"

struct row {
    pid_t pid;
    unsigned thread;
    char role[12];
    char state[12]; /* live, blocked, silent, gone */
    char node[32];
    char title[LIMIT_LABEL_BYTES + 1];
    /* NaN: not known */
    double cpu;       /* share of one core */
    double memory;    /* resident, bytes */
    double heap;      /* used, bytes */
    double heap_size; /* its limit */
    double loop;      /* utilisation, 0 to 1 */
    double lag;       /* 99th percentile of the delay, s */
    size_t n_history; /* of CPU, share of one core, oldest first */
    double history[LIMIT_HISTORY];
};

enum row_key { ROW_PID, ROW_CPU, ROW_MEMORY, ROW_HEAP, ROW_LOOP, ROW_LAG };

struct rows_style {
    size_t width; /* columns; 0: as wide as it gets */
    bool utf8, colour;
    bool mark_sorted; /* the header of the column that it is sorted by */
    enum row_key sorted;
};

/* Not known goes last in either direction; equal ones by pid and thread, so that nothing jumps
 * about. */
void rows_sort(struct row *rows, size_t n, enum row_key key, bool reverse);
/* A header line and a line for each row, each ended by a newline and no wider than the style
 * says. Columns that do not fit are left out, the least needed first. Blocked rows stand out
 * with colour and without. */
void rows_write(struct buf *out, const struct row *rows, size_t n, const struct rows_style *style);

#endif
