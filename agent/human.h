/* human.h - numbers as people read them in tables: short, with a unit, and "-" for what is not
 * known. Pure. */
#ifndef PILLION_HUMAN_H
#define PILLION_HUMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

#define HUMAN_BYTES 16 /* room for any of these */

void human_bytes(double v,
                 char out[HUMAN_BYTES]); /* 812K 43.1M 1.2G: powers of 1024; at most 5 characters */
void human_percent(double share, char out[HUMAN_BYTES]); /* 0.4 7.3 52 104, without the sign */
void human_seconds(double v, char out[HUMAN_BYTES]);     /* 850us 1.2ms 340ms 4.1s 2m 3h 5d */
void human_number(double v, char out[HUMAN_BYTES]);      /* 17 1.8k 4.2M */

/* Columns that `s` takes on a terminal: wide characters take two. Not UTF-8: one a byte. */
size_t human_width(const char *s);
/* Appends `s` in `width` columns: cut (with "…", or "~" without utf8) or padded on the right
 * when `pad`. Control characters and, without utf8, everything beyond ASCII become "?", so that
 * nothing in a title reaches the terminal as a command. */
void human_cell(struct buf *out, const char *s, size_t width, bool pad, bool utf8);

/* The same for the title of a process, which is cut in its middle: the name of the program and
 * the end of the line tell most. */
void human_title(struct buf *out, const char *s, size_t width, bool utf8);

/* Appends a line of `width` characters for the last `width` of n shares (0 to 1; NaN: a blank). */
void human_spark(struct buf *out, const double *shares, size_t n, size_t width, bool utf8);

#endif
