/* v2.c - control groups version 2. Documentation/admin-guide/cgroup-v2.rst.
 *
 * Keys of memory.stat and cpu.stat are looked up by name: their order and number differ from kernel to kernel. */
#include <math.h>

#include "agent/base/mem.h"
#include "collectors/cgroup/group.h"
#include "collectors/cgroup/parse.h"

static double smallest_quota(const struct group *g) {
    char text[LIMIT_PROC_FILE_BYTES];
    double smallest = NAN;

    for (unsigned level = 0; level <= g->up; level++)
        if (group_read(g, level, "cpu.max", text))
            smallest = fmin(smallest, parse_cpu_max(text));
    return smallest;
}

void v2_cpu(const struct group *g, struct cgroup_reading *r) {
    char text[LIMIT_PROC_FILE_BYTES];

    r->values[CGROUP_CPU_LIMIT] = smallest_quota(g);
    if (!group_read(g, 0, "cpu.stat", text))
        return;
    r->cpu_seconds = parse_key(text, "usage_usec") / 1e6;
    r->values[CGROUP_CPU_USER] = parse_key(text, "user_usec") / 1e6;
    r->values[CGROUP_CPU_SYSTEM] = parse_key(text, "system_usec") / 1e6;
    r->values[CGROUP_CPU_PERIODS] = parse_key(text, "nr_periods");
    r->values[CGROUP_CPU_THROTTLED] = parse_key(text, "nr_throttled");
    r->values[CGROUP_CPU_THROTTLED_TIME] = parse_key(text, "throttled_usec") / 1e6;
}

/* What would be left if the kernel took back every page that it can: anonymous and shared memory, and the kernel's own. The
 * categories of memory.stat are not summed up for it, because newer kernels have more of them. */
static double unreclaimable(double usage, const char *stat) {
    double file = parse_key(stat, "active_file") + parse_key(stat, "inactive_file");

    return group_rest(usage, file + group_or_zero(parse_key(stat, "slab_reclaimable")));
}

static const struct group_memory files = {"memory.max", "memory.current", unreclaimable};

static void take_stat(const char *stat, double *v) {
    double usage = v[CGROUP_MEMORY_USAGE];

    v[CGROUP_MEMORY_RSS] = parse_key(stat, "anon");
    v[CGROUP_MEMORY_CACHE] = parse_key(stat, "file");
    v[CGROUP_MEMORY_WORKING_SET] = group_rest(usage, parse_key(stat, "inactive_file"));
    v[CGROUP_MEMORY_UNRECLAIMABLE] = unreclaimable(usage, stat);
    v[CGROUP_FAULTS_MAJOR] = parse_key(stat, "pgmajfault");
    v[CGROUP_FAULTS_MINOR] = group_rest(parse_key(stat, "pgfault"), v[CGROUP_FAULTS_MAJOR]);
}

void v2_memory(const struct group *g, struct cgroup_reading *r) {
    char text[LIMIT_PROC_FILE_BYTES];
    double *v = r->values;

    v[CGROUP_MEMORY_USAGE] = group_number(g, 0, "memory.current");
    v[CGROUP_MEMORY_SWAP] = group_number(g, 0, "memory.swap.current");
    v[CGROUP_MEMORY_SWAP_LIMIT] = group_smallest_limit(g, "memory.swap.max");
    v[CGROUP_MEMORY_OOM_KILLS] = v2_oom_kills(g);
    r->oom_group = group_number(g, 0, "memory.oom.group") == 1;
    if (group_read(g, 0, "memory.stat", text))
        take_stat(text, v);
    group_memory_limits(g, &files, v[CGROUP_MEMORY_UNRECLAIMABLE], &v[CGROUP_MEMORY_LIMIT],
                        &v[CGROUP_MEMORY_OOM_DISTANCE]);
    v[CGROUP_MEMORY_AVAILABLE] = group_rest(v[CGROUP_MEMORY_LIMIT], v[CGROUP_MEMORY_WORKING_SET]);
}

/* Kills of any OOM killer in the group and below it. */
double v2_oom_kills(const struct group *g) {
    char text[LIMIT_PROC_FILE_BYTES];

    return group_read(g, 0, "memory.events", text) ? parse_key(text, "oom_kill") : NAN;
}

void v2_io(const struct group *g, struct cgroup_reading *r) {
    char text[LIMIT_PROC_FILE_BYTES];
    struct parse_io io;

    if (!group_read(g, 0, "io.stat", text))
        return;
    io = parse_io_stat(text);
    r->values[CGROUP_DISK_READ] = io.read;
    r->values[CGROUP_DISK_WRITE] = io.written;
}

/* Reading says EOPNOTSUPP where the kernel has it compiled in and switched off. */
void v2_pressure(const struct group *g, struct cgroup_reading *r) {
    static const struct {
        const char *file;
        enum cgroup_metric some, full;
    } resources[] = {
        {"cpu.pressure", CGROUP_PRESSURE_CPU_SOME, CGROUP_PRESSURE_CPU_FULL},
        {"memory.pressure", CGROUP_PRESSURE_MEMORY_SOME, CGROUP_PRESSURE_MEMORY_FULL},
        {"io.pressure", CGROUP_PRESSURE_IO_SOME, CGROUP_PRESSURE_IO_FULL},
    };
    char text[LIMIT_PROC_FILE_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
        if (!group_read(g, 0, resources[i].file, text))
            continue;
        r->values[resources[i].some] = parse_pressure(text, "some");
        r->values[resources[i].full] = parse_pressure(text, "full");
    }
}
