/* top_view.h - what `pillion top` shows, as text: header, table, line of keys. Pure: numbers in,
 * lines out. */
#ifndef PILLION_CLI_TOP_VIEW_H
#define PILLION_CLI_TOP_VIEW_H

#include <jansson.h>
#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/rows.h"

struct top_view {
    const json_t *status; /* the page /status, or NULL: there is none yet */
    const struct row *rows;
    size_t n_rows;
    const char *trouble; /* why what is shown is old, or NULL */
    struct rows_style style;
    bool reverse;
    size_t height; /* lines; 0: as many as it takes (plain output, without the line of keys) */
    size_t first;  /* row to begin with, where not all fit */
};

/* Lines, each ended by a newline, none wider than style.width (0: no limit), height at most. */
void top_view_write(struct buf *out, const struct top_view *v);
/* Rows that fit below the header; all of them when height is 0. */
size_t top_view_room(const struct top_view *v);

#endif
