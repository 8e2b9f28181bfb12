#include "uploader/sinks/otlp_names.h"

#include <string.h>

#include "agent/base/mem.h"

/* Sorted by name. */
static const struct otlp_name names[] = {
    {"container.cpu.time", "s", OTLP_COUNTER},
    {"container.cpu.usage", "{cpu}", OTLP_GAUGE},
    {"container.disk.io", "By", OTLP_COUNTER},
    {"container.memory.available", "By", OTLP_UP_DOWN},
    {"container.memory.rss", "By", OTLP_UP_DOWN},
    {"container.memory.usage", "By", OTLP_UP_DOWN},
    {"container.memory.working_set", "By", OTLP_UP_DOWN},
    {"container.network.io", "By", OTLP_COUNTER},
    {"container.paging.faults", "{fault}", OTLP_COUNTER},
    {"nodejs.eventloop.delay.max", "s", OTLP_GAUGE},
    {"nodejs.eventloop.delay.mean", "s", OTLP_GAUGE},
    {"nodejs.eventloop.delay.min", "s", OTLP_GAUGE},
    {"nodejs.eventloop.delay.p50", "s", OTLP_GAUGE},
    {"nodejs.eventloop.delay.p90", "s", OTLP_GAUGE},
    {"nodejs.eventloop.delay.p99", "s", OTLP_GAUGE},
    {"nodejs.eventloop.delay.stddev", "s", OTLP_GAUGE},
    {"nodejs.eventloop.time", "s", OTLP_COUNTER},
    {"nodejs.eventloop.utilization", "1", OTLP_GAUGE},
    {"pillion.container.cpu.available", "{cpu}", OTLP_GAUGE},
    {"pillion.container.cpu.limit", "{cpu}", OTLP_GAUGE},
    {"pillion.container.cpu.limit_utilization", "1", OTLP_GAUGE},
    {"pillion.container.cpu.periods", "{period}", OTLP_COUNTER},
    {"pillion.container.cpu.throttled_periods", "{period}", OTLP_COUNTER},
    {"pillion.container.cpu.throttled_time", "s", OTLP_COUNTER},
    {"pillion.container.memory.cache", "By", OTLP_GAUGE},
    {"pillion.container.memory.limit", "By", OTLP_GAUGE},
    {"pillion.container.memory.oom_distance", "By", OTLP_GAUGE},
    {"pillion.container.memory.oom_kills", "{process}", OTLP_COUNTER},
    {"pillion.container.memory.swap", "By", OTLP_GAUGE},
    {"pillion.container.memory.swap_limit", "By", OTLP_GAUGE},
    {"pillion.container.memory.unreclaimable", "By", OTLP_GAUGE},
    {"pillion.container.network.dropped", "{packet}", OTLP_COUNTER},
    {"pillion.container.network.errors", "{error}", OTLP_COUNTER},
    {"pillion.container.pids", "{task}", OTLP_GAUGE},
    {"pillion.container.pids.limit", "{task}", OTLP_GAUGE},
    {"pillion.container.pressure", "s", OTLP_COUNTER},
    {"pillion.gc.duration.max", "s", OTLP_GAUGE},
    {"pillion.http.server.active_requests", "{request}", OTLP_GAUGE},
    {"pillion.http.server.requests", "{request}", OTLP_COUNTER},
    {"pillion.memory.array_buffers", "By", OTLP_GAUGE},
    {"pillion.memory.detached_contexts", "{context}", OTLP_GAUGE},
    {"pillion.memory.external", "By", OTLP_GAUGE},
    {"pillion.memory.heap.limit", "By", OTLP_GAUGE},
    {"pillion.memory.heap.size", "By", OTLP_GAUGE},
    {"pillion.memory.heap.used", "By", OTLP_GAUGE},
    {"pillion.memory.malloced", "By", OTLP_GAUGE},
    {"pillion.memory.malloced_peak", "By", OTLP_GAUGE},
    {"pillion.memory.native_contexts", "{context}", OTLP_GAUGE},
    {"pillion.process.cpu.limit_utilization", "1", OTLP_GAUGE},
    {"pillion.resource.handles", "{handle}", OTLP_GAUGE},
    {"pillion.resource.requests", "{request}", OTLP_GAUGE},
    {"pillion.worker.held_bytes", "By", OTLP_GAUGE},
    {"pillion.worker.samples.dropped", "{sample}", OTLP_COUNTER},
    {"process.context_switches", "{context_switch}", OTLP_COUNTER},
    {"process.cpu.time", "s", OTLP_COUNTER},
    {"process.cpu.utilization", "1", OTLP_GAUGE},
    {"process.disk.io", "By", OTLP_COUNTER},
    {"process.memory.usage", "By", OTLP_UP_DOWN},
    {"process.memory.virtual", "By", OTLP_UP_DOWN},
    {"process.paging.faults", "{fault}", OTLP_COUNTER},
    {"process.thread.count", "{thread}", OTLP_UP_DOWN},
    {"process.unix.file_descriptor.count", "{file_descriptor}", OTLP_UP_DOWN},
    {"process.uptime", "s", OTLP_GAUGE},
    {"v8js.gc.duration", "s", OTLP_GAUGE},
    {"v8js.memory.heap.space.available_size", "By", OTLP_UP_DOWN},
    {"v8js.memory.heap.space.physical_size", "By", OTLP_UP_DOWN},
    {"v8js.memory.heap.space.size", "By", OTLP_UP_DOWN},
    {"v8js.memory.heap.used", "By", OTLP_UP_DOWN},
    {"v8js.resource.active", "{resource}", OTLP_GAUGE},
};

static const struct otlp_name unknown = {"", "", OTLP_GAUGE};

const struct otlp_name *otlp_name_find(const char *name, size_t len) {
    size_t low = 0, high = ARRAY_LEN(names);

    while (low < high) {
        size_t middle = (low + high) / 2;
        size_t its_len = strlen(names[middle].name), n = its_len < len ? its_len : len;
        int order = memcmp(name, names[middle].name, n);

        if (order == 0)
            order = (len > its_len) - (len < its_len);
        if (order == 0)
            return &names[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return &unknown;
}
