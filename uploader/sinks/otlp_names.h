/* otlp_names.h - what a record does not say of its numbers: unit and kind of each metric, by its name.
 *
 * Units and kinds as in OpenTelemetry's semantic conventions (docs/runtime, docs/system); those under `pillion.` are ours. */
#ifndef PILLION_UPLOADER_SINKS_OTLP_NAMES_H
#define PILLION_UPLOADER_SINKS_OTLP_NAMES_H

#include <stddef.h>

enum otlp_kind {
    OTLP_GAUGE,
    OTLP_COUNTER, /* a sum that only grows */
    OTLP_UP_DOWN  /* a sum that can be added up over workers, and falls as well */
};

struct otlp_name {
    const char *name;
    const char *unit; /* UCUM; "" not known */
    enum otlp_kind kind;
};

/* Of a name that is not in the table: a gauge without unit. Never NULL. */
const struct otlp_name *otlp_name_find(const char *name, size_t len);

#endif
