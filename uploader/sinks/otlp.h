/* otlp.h - the sink `otlp+http(s)://[user:password@]host[:port][/path]`: OTLP/HTTP to any OpenTelemetry collector.
 *
 *     POST <address>/v1/metrics   process and container records     POST <address>/v1/logs   events
 *     Content-Type: application/x-protobuf   Content-Encoding: gzip
 *
 * opentelemetry-proto 1.x; protobuf and not JSON, because some servers take nothing else. A record is one ResourceMetrics:
 *
 *     service.name = app                      service.instance.id = instance/worker (each worker is an instance), or instance
 *     process.pid, process.creation.time, process.runtime.name, thread.id, pillion.role, pillion.instance, pillion.worker
 *
 * Gauges, sums (cumulative since the start of the process; those of the container since the start of process 1) and histograms
 * (name.bucket{…,le=…}, name.sum, name.count of a record become one). Names, units and kinds: otlp_names.h. An event is a log record:
 * event_name, severity, the text as its body, all other members as attributes.
 *
 * The answer may say that some points were rejected (partial success): then they are not sent again, as the protocol wants it;
 * counted and logged. There is no name of a request in OTLP: a repeat after a lost answer is the same points at the same times. */
#ifndef PILLION_UPLOADER_SINKS_OTLP_H
#define PILLION_UPLOADER_SINKS_OTLP_H

#include "uploader/sink.h"

int sink_otlp_new(struct sink **ret, const struct sink_env *env, const char *address,
                  struct buf *why);

#endif
