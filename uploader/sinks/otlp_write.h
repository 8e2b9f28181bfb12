/* otlp_write.h - one record of a batch as one message of OTLP: ResourceMetrics or ResourceLogs
 * (opentelemetry-proto, metrics.proto and logs.proto). Pure but for the start of process 1. Worker thread. */
#ifndef PILLION_UPLOADER_SINKS_OTLP_WRITE_H
#define PILLION_UPLOADER_SINKS_OTLP_WRITE_H

#include <stdbool.h>

#include "agent/base/buf.h"
#include "uploader/records.h"

/* When things began, Unix time in ns. */
struct otlp_clock {
    uint64_t boot_ns;      /* the machine */
    uint64_t container_ns; /* process 1 of this container */
    uint64_t tick_ns;      /* unit of the start in a worker's id */
};

void otlp_clock_read(struct otlp_clock *c);

/* An event, for /v1/logs; else it is for /v1/metrics. */
bool otlp_is_event(const char *text, size_t len);
/* Appends field 1 of ExportMetricsServiceRequest or ExportLogsServiceRequest. -EBADMSG: not a record. Errors of memory stick in out. */
int otlp_write_metrics(struct buf *out, const struct records_head *head,
                       const struct otlp_clock *clock, const char *text, size_t len);
int otlp_write_log(struct buf *out, const struct records_head *head, const struct otlp_clock *clock,
                   const char *text, size_t len);

#endif
