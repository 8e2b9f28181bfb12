#include "collectors/vocabulary.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define NAME_BYTES 192
#define TEXT_BYTES 4096 /* name, labels and help together */

/* One thing that we measure. `prometheus` is NULL where the name is made by rule; `mode` is the value of the attribute cpu.mode
 * that the line is for and that then is no label. */
struct entry {
    const char *name;
    const char *unit;
    enum field_kind kind;
    const char *mode;
    const char *prometheus;
    const char *help;
};

#define S       "s"
#define BY      "By"
#define ONE     "1"
#define GAUGE   FIELD_GAUGE
#define COUNTER FIELD_COUNTER
#define HISTO   FIELD_HISTOGRAM

/* clang-format off */
/* Names and help texts of the first group are those of prom-client's default metrics (lib/metrics/ of siimon/prom-client). */
static const struct entry entries[] = {
    {"process.cpu.time", S, COUNTER, "user", "process_cpu_user_seconds_total", "Total user CPU time spent in seconds."},
    {"process.cpu.time", S, COUNTER, "system", "process_cpu_system_seconds_total", "Total system CPU time spent in seconds."},
    {"process.memory.usage", BY, GAUGE, NULL, "process_resident_memory_bytes", "Resident memory size in bytes."},
    {"process.memory.virtual", BY, GAUGE, NULL, "process_virtual_memory_bytes", "Virtual memory size in bytes."},
    {"process.unix.file_descriptor.count", "{file_descriptor}", GAUGE, NULL, "process_open_fds", "Number of open file descriptors."},
    {"nodejs.eventloop.delay.min", S, GAUGE, NULL, "nodejs_eventloop_lag_min_seconds", "The minimum recorded event loop delay."},
    {"nodejs.eventloop.delay.max", S, GAUGE, NULL, "nodejs_eventloop_lag_max_seconds", "The maximum recorded event loop delay."},
    {"nodejs.eventloop.delay.mean", S, GAUGE, NULL, "nodejs_eventloop_lag_mean_seconds", "The mean of the recorded event loop delays."},
    {"nodejs.eventloop.delay.stddev", S, GAUGE, NULL, "nodejs_eventloop_lag_stddev_seconds", "The standard deviation of the recorded event loop delays."},
    {"nodejs.eventloop.delay.p50", S, GAUGE, NULL, "nodejs_eventloop_lag_p50_seconds", "The 50th percentile of the recorded event loop delays."},
    {"nodejs.eventloop.delay.p90", S, GAUGE, NULL, "nodejs_eventloop_lag_p90_seconds", "The 90th percentile of the recorded event loop delays."},
    {"nodejs.eventloop.delay.p99", S, GAUGE, NULL, "nodejs_eventloop_lag_p99_seconds", "The 99th percentile of the recorded event loop delays."},
    {"v8js.resource.active", "{resource}", GAUGE, NULL, "nodejs_active_resources", "Number of active resources that are currently keeping the event loop alive, grouped by async resource type."},
    {"pillion.resource.handles", "{handle}", GAUGE, NULL, "nodejs_active_handles_total", "Total number of active handles."},
    {"pillion.resource.requests", "{request}", GAUGE, NULL, "nodejs_active_requests_total", "Total number of active requests."},
    {"pillion.memory.heap.size", BY, GAUGE, NULL, "nodejs_heap_size_total_bytes", "Process heap size from Node.js in bytes."},
    {"pillion.memory.heap.used", BY, GAUGE, NULL, "nodejs_heap_size_used_bytes", "Process heap size used from Node.js in bytes."},
    {"pillion.memory.external", BY, GAUGE, NULL, "nodejs_external_memory_bytes", "Node.js external memory size in bytes."},
    {"v8js.memory.heap.space.size", BY, GAUGE, NULL, "nodejs_heap_space_size_total_bytes", "Process heap space size total from Node.js in bytes."},
    {"v8js.memory.heap.used", BY, GAUGE, NULL, "nodejs_heap_space_size_used_bytes", "Process heap space size used from Node.js in bytes."},
    {"v8js.memory.heap.space.available_size", BY, GAUGE, NULL, "nodejs_heap_space_size_available_bytes", "Process heap space size available from Node.js in bytes."},
    {"v8js.gc.duration", S, HISTO, NULL, "nodejs_gc_duration_seconds", "Garbage collection duration by kind, one of major, minor, incremental or weakcb."},

    /* No name in prom-client: named like its neighbours where it has some, else by rule. */
    {"v8js.memory.heap.space.physical_size", BY, GAUGE, NULL, "nodejs_heap_space_size_physical_bytes", "Memory that a V8 heap space really occupies."},
    {"pillion.memory.heap.limit", BY, GAUGE, NULL, "nodejs_heap_size_limit_bytes", "Size at which V8 gives up: the limit of the whole heap."},
    {"pillion.memory.array_buffers", BY, GAUGE, NULL, "nodejs_array_buffers_bytes", "Memory of ArrayBuffers and Buffers, which is part of the external memory."},
    {"pillion.memory.malloced", BY, GAUGE, NULL, "nodejs_malloced_memory_bytes", "Memory that V8 itself has allocated by malloc."},
    {"pillion.memory.malloced_peak", BY, GAUGE, NULL, "nodejs_malloced_memory_peak_bytes", "The most that V8 itself had allocated by malloc."},
    {"pillion.memory.native_contexts", "{context}", GAUGE, NULL, "nodejs_native_contexts", "Top-level V8 contexts; a number that rises over time is a leak."},
    {"pillion.memory.detached_contexts", "{context}", GAUGE, NULL, "nodejs_detached_contexts", "V8 contexts that were detached and not yet collected; not zero is a leak."},
    {"pillion.gc.duration.max", S, GAUGE, NULL, "nodejs_gc_duration_max_seconds", "Longest garbage collection since the last sample, by kind."},
    {"nodejs.eventloop.utilization", ONE, GAUGE, NULL, NULL, "Share of the time since the last sample in which the event loop was active."},
    {"nodejs.eventloop.time", S, COUNTER, NULL, NULL, "Time that the event loop was active or idle."},
    {"http.server.request.duration", S, HISTO, NULL, NULL, "Duration of HTTP requests that this process served."},
    {"pillion.http.server.requests", "{request}", COUNTER, NULL, NULL, "HTTP requests that this process answered, by class of status."},
    {"pillion.http.server.active_requests", "{request}", GAUGE, NULL, NULL, "HTTP requests that this process is serving right now."},
    {"pillion.worker.samples.dropped", "{sample}", COUNTER, NULL, NULL, "Samples that the worker dropped for lack of room."},
    {"pillion.worker.held_bytes", BY, GAUGE, NULL, NULL, "Samples that the worker holds until they are acknowledged."},

    {"process.cpu.utilization", ONE, GAUGE, NULL, NULL, "CPU in use as a share of the CPUs that the process may run on."},
    {"pillion.process.cpu.limit_utilization", ONE, GAUGE, NULL, NULL, "CPU in use as a share of what the container may use."},
    {"process.thread.count", "{thread}", GAUGE, NULL, "process_threads", "Number of threads."},
    {"process.context_switches", "{context_switch}", COUNTER, NULL, NULL, "Context switches of the main thread."},
    {"process.paging.faults", "{fault}", COUNTER, NULL, NULL, "Page faults; major ones needed the disk."},
    {"process.disk.io", BY, COUNTER, NULL, NULL, "Bytes that really went from and to block devices."},
    {"process.uptime", S, GAUGE, NULL, NULL, "Time since the process was started."},

    {"container.cpu.time", S, COUNTER, NULL, NULL, "CPU time of all processes of the container."},
    {"container.cpu.usage", "{cpu}", GAUGE, NULL, NULL, "CPUs that the container has in use."},
    {"pillion.container.cpu.limit", "{cpu}", GAUGE, NULL, NULL, "CPUs that the container's quota allows."},
    {"pillion.container.cpu.available", "{cpu}", GAUGE, NULL, NULL, "CPUs that the container can use: the smaller of quota and cpuset."},
    {"pillion.container.cpu.limit_utilization", ONE, GAUGE, NULL, NULL, "CPU in use as a share of what the container can use."},
    {"pillion.container.cpu.periods", "{period}", COUNTER, NULL, NULL, "Periods of the CPU quota in which the container wanted to run."},
    {"pillion.container.cpu.throttled_periods", "{period}", COUNTER, NULL, NULL, "Periods in which the container was stopped because its quota was used up."},
    {"pillion.container.cpu.throttled_time", S, COUNTER, NULL, NULL, "Time that the container was stopped because its quota was used up."},
    {"container.memory.usage", BY, GAUGE, NULL, NULL, "Memory of the container, file cache included."},
    {"container.memory.working_set", BY, GAUGE, NULL, NULL, "Memory usage without inactive file pages."},
    {"container.memory.rss", BY, GAUGE, NULL, NULL, "Anonymous memory of the container."},
    {"container.memory.available", BY, GAUGE, NULL, NULL, "Memory limit minus working set."},
    {"pillion.container.memory.limit", BY, GAUGE, NULL, NULL, "Smallest memory limit that applies to the container."},
    {"pillion.container.memory.cache", BY, GAUGE, NULL, NULL, "File cache of the container."},
    {"pillion.container.memory.unreclaimable", BY, GAUGE, NULL, NULL, "Memory that the kernel cannot take back."},
    {"pillion.container.memory.oom_distance", BY, GAUGE, NULL, NULL, "What is left until the OOM killer comes: limit minus unreclaimable memory."},
    {"pillion.container.memory.swap", BY, GAUGE, NULL, NULL, "Swap that the container uses."},
    {"pillion.container.memory.swap_limit", BY, GAUGE, NULL, NULL, "Swap that the container may use."},
    {"pillion.container.memory.oom_kills", "{process}", COUNTER, NULL, NULL, "Processes of the container that the OOM killer has killed."},
    {"container.paging.faults", "{fault}", COUNTER, NULL, NULL, "Page faults of the container; major ones needed the disk."},
    {"pillion.container.pids", "{task}", GAUGE, NULL, NULL, "Processes and threads in the container."},
    {"pillion.container.pids.limit", "{task}", GAUGE, NULL, NULL, "Processes and threads that the container may have."},
    {"pillion.container.pressure", S, COUNTER, NULL, NULL, "Time that some or all tasks of the container waited for a resource."},
    {"container.disk.io", BY, COUNTER, NULL, NULL, "Bytes that the container read from and wrote to block devices."},
    {"container.network.io", BY, COUNTER, NULL, NULL, "Bytes that the container received and sent, loopback excluded."},
    {"pillion.container.network.errors", "{error}", COUNTER, NULL, NULL, "Errors while receiving and sending."},
    {"pillion.container.network.dropped", "{packet}", COUNTER, NULL, NULL, "Packets dropped while receiving and sending."},
};

/* The second place of a value, with the attributes left out. */
static const struct entry sums[] = {
    {"process.cpu.time", S, COUNTER, NULL, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds."},
    {"nodejs.eventloop.delay.mean", S, GAUGE, NULL, "nodejs_eventloop_lag_seconds", "Lag of event loop in seconds."},
    {"v8js.resource.active", "{resource}", GAUGE, NULL, "nodejs_active_resources_total", "Total number of active resources."},
};

/* UCUM unit to the word behind the name. Curly braces count things and are left out. */
static const struct {
    const char *unit, *word;
} units[] = {
    {S, "seconds"},         {BY, "bytes"},         {"ms", "milliseconds"}, {"us", "microseconds"}, {"ns", "nanoseconds"},
    {"min", "minutes"},     {"h", "hours"},        {"d", "days"},          {"KiBy", "kibibytes"},  {"MiBy", "mebibytes"},
    {"GiBy", "gibibytes"},  {"kBy", "kilobytes"},  {"MBy", "megabytes"},   {"%", "percent"},       {"Hz", "hertz"},
    {"Cel", "celsius"},     {"V", "volts"},        {"A", "amperes"},       {"J", "joules"},        {"W", "watts"},
};

static const struct {
    const char *attribute, *label;
} label_names[] = {
    {"v8js.heap.space.name", "space"}, {"v8js.gc.type", "kind"}, {"v8js.resource.type", "type"},
};

/* Labels that the page adds, and those that have a meaning of their own. */
static const char *const page_labels[] = {"worker", "role", "app", "instance", "job", "le", "quantile", "thread", "pid", "title", "node"};

static const char *const page_names[] = {"process_start_time_seconds", "nodejs_version_info", "pillion_build_info",
                                         "pillion_worker_state", "pillion_workers"};
/* clang-format on */

static const char *attribute_of(const struct field *f, const char *name) {
    for (size_t i = 0; i < f->n_attributes; i++)
        if (strcmp(f->attributes[2 * i], name) == 0)
            return f->attributes[2 * i + 1];
    return NULL;
}

/* A field of a foreign worker with a known name and another unit or kind is another thing. */
static const struct entry *find_entry(const struct entry *table, size_t n, const struct field *f) {
    for (size_t i = 0; i < n; i++) {
        const char *mode = attribute_of(f, "cpu.mode");

        if (strcmp(table[i].name, f->name) == 0 && strcmp(table[i].unit, f->unit) == 0 &&
            table[i].kind == f->kind &&
            (table[i].mode == NULL || (mode != NULL && strcmp(table[i].mode, mode) == 0)))
            return &table[i];
    }
    return NULL;
}

/* Small letters, digits and single underscores; none of these in front, except to keep a digit from standing there. Cut to fit. */
static void sanitize(const char *in, char *out, size_t size) {
    size_t len = 0;

    while (*in != '\0' && !isalnum((unsigned char)*in))
        in++;
    if (isdigit((unsigned char)*in))
        out[len++] = '_';
    for (; *in != '\0' && len + 1 < size; in++) {
        char c = isalnum((unsigned char)*in) ? (char)tolower((unsigned char)*in) : '_';

        if (c != '_' || out[len - 1] != '_')
            out[len++] = c;
    }
    while (len > 0 && out[len - 1] == '_')
        len--;
    out[len] = '\0';
}

static bool ends(const char *s, const char *suffix) {
    size_t a = strlen(s), b = strlen(suffix);

    return a >= b && strcmp(s + a - b, suffix) == 0;
}

static void append(char *name, const char *more) {
    size_t len = strlen(name);

    (void)snprintf(name + len, NAME_BYTES - len, "%s", more);
}

static void append_unit(char *name, const struct field *f) {
    char word[32] = "";

    if (strcmp(f->unit, ONE) == 0 && f->kind == FIELD_GAUGE)
        (void)text_copy(word, sizeof(word), "_ratio");
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(units[i].unit, f->unit) == 0)
            (void)snprintf(word, sizeof(word), "_%s", units[i].word);
    if (!ends(name, word))
        append(name, word);
}

/* The rule of opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics. */
static void make_name(const struct field *f, char name[NAME_BYTES]) {
    static const char *const suffixes[] = {"_total", "_bucket", "_count", "_sum"};

    sanitize(f->name, name, NAME_BYTES - 40); /* what follows is shorter */
    if (f->kind == FIELD_COUNTER && ends(name, "_total"))
        name[strlen(name) - strlen("_total")] = '\0';
    append_unit(name, f);
    if (f->kind == FIELD_COUNTER)
        append(name, "_total");
    else /* endings that say something else in this format */
        for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
            if (ends(name, suffixes[i])) {
                append(name, "_value");
                break;
            }
}

static bool is_page_name(const char *name) {
    char counter[NAME_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(page_names); i++)
        if (strcmp(page_names[i], name) == 0)
            return true;
    for (int i = 0; i < COUNTER_COUNT; i++) {
        (void)snprintf(counter, sizeof(counter), "pillion_%s_total", counter_name((enum counter)i));
        if (strcmp(counter, name) == 0)
            return true;
    }
    return false;
}

static void make_label_name(const char *attribute, char label[NAME_BYTES]) {
    for (size_t i = 0; i < ARRAY_LEN(label_names); i++)
        if (strcmp(label_names[i].attribute, attribute) == 0) {
            (void)text_copy(label, NAME_BYTES, label_names[i].label);
            return;
        }
    sanitize(text_starts(attribute, "pillion.") ? attribute + strlen("pillion.") : attribute, label,
             NAME_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(page_labels); i++)
        if (strcmp(page_labels[i], label) == 0) {
            (void)snprintf(label, NAME_BYTES, "attribute_%s", page_labels[i]);
            return;
        }
}

static void put_escaped(struct buf *b, const char *s, size_t len, bool quotes) {
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\n')
            buf_puts(b, "\\n");
        else if (s[i] == '\\' || (quotes && s[i] == '"'))
            buf_printf(b, "\\%c", s[i]);
        else
            buf_putc(b, s[i]);
    }
}

static int put_labels(struct buf *b, const struct field *f, const struct entry *e) {
    char seen[LIMIT_ATTRIBUTES][NAME_BYTES], label[NAME_BYTES];
    size_t n = 0;

    for (size_t i = 0; i < f->n_attributes; i++) {
        const char *attribute = f->attributes[2 * i], *value = f->attributes[2 * i + 1];
        size_t len = strlen(value);

        if (e != NULL && e->mode != NULL && strcmp(attribute, "cpu.mode") == 0)
            continue;
        make_label_name(attribute, label);
        for (size_t k = 0; k < n; k++)
            if (strcmp(seen[k], label) == 0)
                return -EINVAL;
        if (label[0] == '\0' || n == LIMIT_ATTRIBUTES)
            return -EINVAL;
        memcpy(seen[n], label, sizeof(label));
        if (strcmp(attribute, "v8js.heap.space.name") == 0 && ends(value, "_space"))
            len -= strlen("_space");
        buf_printf(b, "%s%s=\"", n > 0 ? "," : "", label);
        put_escaped(b, value, len, true);
        buf_putc(b, '"');
        n++;
    }
    return 0;
}

static void put_help(struct buf *b, const struct field *f, const struct entry *e) {
    if (e != NULL) {
        buf_puts(b, e->help);
        return;
    }
    put_escaped(b, f->name, strlen(f->name), false);
    buf_puts(b, ", unit ");
    put_escaped(b, f->unit, strlen(f->unit), false);
    buf_puts(b, ", as its worker names it.");
}

static const char *type_of(const struct field *f, const char *name) {
    if (f->kind == FIELD_HISTOGRAM)
        return "histogram";
    if (f->kind == FIELD_COUNTER)
        return "counter";
    return ends(name, "_total") ? "untyped" : "gauge";
}

static int make(const struct field *f, const struct entry *e, const char *name, bool labels,
                struct prometheus_name *ret) {
    size_t at_labels, at_help;
    struct buf b;
    int rc;

    buf_init(&b, TEXT_BYTES);
    buf_puts(&b, name);
    buf_putc(&b, '\0');
    at_labels = b.len;
    rc = labels ? put_labels(&b, f, e) : 0;
    buf_putc(&b, '\0');
    at_help = b.len;
    put_help(&b, f, e);
    if (rc == 0)
        rc = b.err == -ENOBUFS ? -EINVAL : b.err;
    if (rc == 0) {
        char *text = buf_take(&b, NULL);

        *ret = (struct prometheus_name){
            .name = text,
            .labels = text + at_labels,
            .help = text + at_help,
            .type = type_of(f, name),
        };
    }
    buf_clear(&b);
    return rc;
}

int vocabulary_prometheus(const struct field *f, struct prometheus_name *ret) {
    const struct entry *e = find_entry(entries, ARRAY_LEN(entries), f);
    char made[NAME_BYTES];
    const char *name = e != NULL ? e->prometheus : NULL;

    if (name == NULL) {
        make_name(f, made);
        name = made;
    }
    if (name[0] == '\0')
        return -EINVAL;
    if (is_page_name(name))
        return -EEXIST;
    return make(f, e, name, true, ret);
}

int vocabulary_prometheus_sum(const struct field *f, struct prometheus_name *ret) {
    const struct entry *e = find_entry(sums, ARRAY_LEN(sums), f);

    return e == NULL ? -ENOENT : make(f, e, e->prometheus, false, ret);
}

void prometheus_name_clear(struct prometheus_name *p) {
    mem_free(p->name);
    *p = (struct prometheus_name){NULL};
}
