/* vocabulary.h - what Prometheus calls our metrics: one field of a layout (schema.h) to the name, labels, type and help text of
 * the text format (prometheus.io/docs/instrumenting/exposition_formats). Pure, no state.
 *
 * Where prom-client's default metrics have a name for a thing, that name and its help text are used; everything else is made
 * from the OpenTelemetry name: dots to underscores, the unit behind it (_seconds, _bytes, _ratio), _total behind counters.
 * Values need no conversion. Work it out once for each schema, not for each page.
 *
 * For whoever writes the page:
 * - All series of one name must stand together under one HELP and TYPE line. Fields of one name have one type, except where
 *   foreign workers name things as they like: of two types the first one seen stays, the other field is left out.
 * - Two fields of one layout can have the same name and the same labels (user and system time both belong to
 *   process_cpu_seconds_total, which vocabulary_prometheus_sum() tells): their values are added.
 * - A histogram appears as name_bucket{…,le="…"} (cumulative, up to le="+Inf"), name_sum, name_count; `le` is written by the page.
 * - The labels `worker`, `role`, `app`, `instance`, `job`, `le` and `quantile` are never made here, so that the page may add them.
 * - Written by the page itself and refused here: process_start_time_seconds, nodejs_version_info, pillion_build_info,
 *   pillion_worker_state, pillion_workers, and `pillion_<counter>_total` of agent/base/counters.h. */
#ifndef PILLION_VOCABULARY_H
#define PILLION_VOCABULARY_H

#include "agent/base/schema.h"

struct prometheus_name {
    char *name; /* owned: "nodejs_heap_space_size_used_bytes" */
    char *
        labels; /* into `name`'s memory: `space="new"`, escaped, separated by commas, without braces; "" when there are none */
    char *help; /* into `name`'s memory: escaped, one line, never empty */
    const char *
        type; /* static: counter, gauge, histogram; untyped where prom-client ends a gauge in _total */
};

/* 0, or -EEXIST: the page itself writes that name; -EINVAL: no name can be made of it; -ENOMEM. */
int vocabulary_prometheus(const struct field *f, struct prometheus_name *ret);

/* The second name that the same value goes to, or -ENOENT for nearly all fields: process_cpu_seconds_total (both modes),
 * nodejs_eventloop_lag_seconds (the mean), nodejs_active_resources_total (all types). Add up as said above. */
int vocabulary_prometheus_sum(const struct field *f, struct prometheus_name *ret);

void prometheus_name_clear(struct prometheus_name *p); /* frees; all zero is fine */

#endif
