/* report.h - what `pillion check` found: one line a check, with what to do about it. */
#ifndef PILLION_CLI_REPORT_H
#define PILLION_CLI_REPORT_H

#include <stdbool.h>

#include "agent/base/buf.h"

enum report_result { REPORT_OK, REPORT_WARN, REPORT_FAIL };

struct report {
    struct buf out;
    bool json, colour;
    unsigned counts[3];
};

void report_init(struct report *r, bool json, bool colour);
void report_clear(struct report *r);
/* `check` is a static name; `advice` NULL: nothing to do. */
void report_add(struct report *r, enum report_result result, const char *check, const char *advice,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Ends the text; it is then in r->out. */
void report_end(struct report *r);

#endif
