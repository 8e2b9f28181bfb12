/* v1.c - control groups version 1. Documentation/admin-guide/cgroup-v1/{memory,cpuacct,blkio-controller}.rst,
 * Documentation/scheduler/sched-bwc.rst. */
#include <math.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "collectors/cgroup/group.h"
#include "collectors/cgroup/parse.h"

/* A quota of -1 means none; parse_number() says NaN for it. */
static double smallest_quota(const struct group *g) {
    double smallest = NAN;

    for (unsigned level = 0; level <= g->up; level++) {
        double quota = group_number(g, level, "cpu.cfs_quota_us");
        double period = group_number(g, level, "cpu.cfs_period_us");

        if (quota > 0 && period > 0)
            smallest = fmin(smallest, quota / period);
    }
    return smallest;
}

void v1_cpu(const struct group *cpu, struct cgroup_reading *r) {
    char text[LIMIT_PROC_FILE_BYTES];

    r->values[CGROUP_CPU_LIMIT] = smallest_quota(cpu);
    if (!group_read(cpu, 0, "cpu.stat", text))
        return;
    r->values[CGROUP_CPU_PERIODS] = parse_key(text, "nr_periods");
    r->values[CGROUP_CPU_THROTTLED] = parse_key(text, "nr_throttled");
    r->values[CGROUP_CPU_THROTTLED_TIME] = parse_key(text, "throttled_time") / 1e9;
}

/* cpuacct.stat counts ticks of 10 ms, cpuacct.usage nanoseconds. */
void v1_cpuacct(const struct group *cpuacct, struct cgroup_reading *r) {
    char text[LIMIT_PROC_FILE_BYTES];
    double ticks = (double)sysconf(_SC_CLK_TCK);

    if (group_read(cpuacct, 0, "cpuacct.stat", text)) {
        r->values[CGROUP_CPU_USER] = parse_key(text, "user") / ticks;
        r->values[CGROUP_CPU_SYSTEM] = parse_key(text, "system") / ticks;
    }
    r->cpu_seconds = group_number(cpuacct, 0, "cpuacct.usage") / 1e9;
    if (isnan(r->cpu_seconds))
        r->cpu_seconds = r->values[CGROUP_CPU_USER] + r->values[CGROUP_CPU_SYSTEM];
}

/* The total_* keys count the groups below as well, as usage_in_bytes does. */
static double unreclaimable(double usage, const char *stat) {
    return group_rest(usage, parse_key(stat, "total_active_file") +
                                 parse_key(stat, "total_inactive_file"));
}

/* Limits above us that cannot be seen are in hierarchical_memory_limit all the same. */
static double stat_limit(const char *stat, const char *key) {
    double v = parse_key(stat, key);

    return v < 1152921504606846976.0 ? v : NAN; /* as in parse_limit() */
}

static const struct group_memory files = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                          unreclaimable};

/* memory.memsw.* limit memory and swap together, and are there with swapaccount=1 only. */
static void read_swap(const struct group *g, const char *stat, double *v) {
    double both = fmin(group_smallest_limit(g, "memory.memsw.limit_in_bytes"),
                       stat_limit(stat, "hierarchical_memsw_limit"));

    v[CGROUP_MEMORY_SWAP] = parse_key(stat, "total_swap");
    v[CGROUP_MEMORY_SWAP_LIMIT] = group_rest(both, v[CGROUP_MEMORY_LIMIT]);
}

static void take_stat(const char *stat, double *v) {
    double usage = v[CGROUP_MEMORY_USAGE];

    v[CGROUP_MEMORY_RSS] = parse_key(stat, "total_rss");
    v[CGROUP_MEMORY_CACHE] = parse_key(stat, "total_cache");
    v[CGROUP_MEMORY_WORKING_SET] = group_rest(usage, parse_key(stat, "total_inactive_file"));
    v[CGROUP_MEMORY_UNRECLAIMABLE] = unreclaimable(usage, stat);
    v[CGROUP_FAULTS_MAJOR] = parse_key(stat, "total_pgmajfault");
    v[CGROUP_FAULTS_MINOR] = group_rest(parse_key(stat, "total_pgfault"), v[CGROUP_FAULTS_MAJOR]);
}

/* A limit that only the key shows belongs to a group that holds at least what we hold. */
static void take_hidden_limit(const char *stat, double *v) {
    double hidden = stat_limit(stat, "hierarchical_memory_limit");

    v[CGROUP_MEMORY_LIMIT] = fmin(v[CGROUP_MEMORY_LIMIT], hidden);
    v[CGROUP_MEMORY_OOM_DISTANCE] =
        fmin(v[CGROUP_MEMORY_OOM_DISTANCE], group_rest(hidden, v[CGROUP_MEMORY_UNRECLAIMABLE]));
}

void v1_memory(const struct group *g, struct cgroup_reading *r) {
    char text[LIMIT_PROC_FILE_BYTES];
    double *v = r->values;
    bool stat = group_read(g, 0, "memory.stat", text);

    v[CGROUP_MEMORY_USAGE] = group_number(g, 0, "memory.usage_in_bytes");
    v[CGROUP_MEMORY_OOM_KILLS] = v1_oom_kills(g);
    if (stat)
        take_stat(text, v);
    group_memory_limits(g, &files, v[CGROUP_MEMORY_UNRECLAIMABLE], &v[CGROUP_MEMORY_LIMIT],
                        &v[CGROUP_MEMORY_OOM_DISTANCE]);
    if (stat) {
        take_hidden_limit(text, v);
        read_swap(g, text, v);
    }
    v[CGROUP_MEMORY_AVAILABLE] = group_rest(v[CGROUP_MEMORY_LIMIT], v[CGROUP_MEMORY_WORKING_SET]);
}

/* The key is there since Linux 4.13. */
double v1_oom_kills(const struct group *g) {
    char text[LIMIT_PROC_FILE_BYTES];

    return group_read(g, 0, "memory.oom_control", text) ? parse_key(text, "oom_kill") : NAN;
}

/* The throttling policy counts every request; the other file those of the CFQ and BFQ schedulers alone. */
void v1_blkio(const struct group *g, struct cgroup_reading *r) {
    static const char *const names[] = {"blkio.throttle.io_service_bytes_recursive",
                                        "blkio.throttle.io_service_bytes",
                                        "blkio.io_service_bytes_recursive"};
    char text[LIMIT_PROC_FILE_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct parse_io io;

        if (!group_read(g, 0, names[i], text))
            continue;
        io = parse_blkio(text);
        if (isnan(io.read))
            continue;
        r->values[CGROUP_DISK_READ] = io.read;
        r->values[CGROUP_DISK_WRITE] = io.written;
        return;
    }
}
