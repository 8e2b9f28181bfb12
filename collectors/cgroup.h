/* cgroup.h - what the kernel knows of the container: control groups v1, v2 and hybrid, its network, its CPUs.
 *
 * Formats: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{memory,cpuacct,blkio-controller,pids}.rst,
 * accounting/psi.rst, proc_pid_mountinfo(5), proc_pid_cgroup(5).
 * What is not known (a controller missing, pressure switched off, no limit) is NaN and left out by everyone behind it, never 0.
 * Loop thread only; every read is one bounded read of a small file: about 20 of them, together 170 us of CPU. */
#ifndef PILLION_CGROUP_H
#define PILLION_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* clang-format off */
/* identifier, key (name{attribute=value}), unit, counter or gauge */
#define CGROUP_TABLE(X) \
    X(CPU_USER,         "container.cpu.time{cpu.mode=user}",                        "s",         COUNTER) \
    X(CPU_SYSTEM,       "container.cpu.time{cpu.mode=system}",                      "s",         COUNTER) \
    X(CPU_USAGE,        "container.cpu.usage",                                      "{cpu}",     GAUGE) \
    X(CPU_LIMIT,        "pillion.container.cpu.limit",                              "{cpu}",     GAUGE) \
    X(CPU_AVAILABLE,    "pillion.container.cpu.available",                          "{cpu}",     GAUGE) \
    X(CPU_OF_LIMIT,     "pillion.container.cpu.limit_utilization",                  "1",         GAUGE) \
    X(CPU_PERIODS,      "pillion.container.cpu.periods",                            "{period}",  COUNTER) \
    X(CPU_THROTTLED,    "pillion.container.cpu.throttled_periods",                  "{period}",  COUNTER) \
    X(CPU_THROTTLED_TIME, "pillion.container.cpu.throttled_time",                   "s",         COUNTER) \
    X(MEMORY_USAGE,     "container.memory.usage",                                   "By",        GAUGE) \
    X(MEMORY_WORKING_SET, "container.memory.working_set",                           "By",        GAUGE) \
    X(MEMORY_RSS,       "container.memory.rss",                                     "By",        GAUGE) \
    X(MEMORY_AVAILABLE, "container.memory.available",                               "By",        GAUGE) \
    X(MEMORY_LIMIT,     "pillion.container.memory.limit",                           "By",        GAUGE) \
    X(MEMORY_CACHE,     "pillion.container.memory.cache",                           "By",        GAUGE) \
    X(MEMORY_UNRECLAIMABLE, "pillion.container.memory.unreclaimable",               "By",        GAUGE) \
    X(MEMORY_OOM_DISTANCE, "pillion.container.memory.oom_distance",                 "By",        GAUGE) \
    X(MEMORY_SWAP,      "pillion.container.memory.swap",                            "By",        GAUGE) \
    X(MEMORY_SWAP_LIMIT, "pillion.container.memory.swap_limit",                     "By",        GAUGE) \
    X(MEMORY_OOM_KILLS, "pillion.container.memory.oom_kills",                       "{process}", COUNTER) \
    X(FAULTS_MINOR,     "container.paging.faults{system.paging.fault.type=minor}",  "{fault}",   COUNTER) \
    X(FAULTS_MAJOR,     "container.paging.faults{system.paging.fault.type=major}",  "{fault}",   COUNTER) \
    X(PIDS,             "pillion.container.pids",                                   "{task}",    GAUGE) \
    X(PIDS_LIMIT,       "pillion.container.pids.limit",                             "{task}",    GAUGE) \
    X(PRESSURE_CPU_SOME,    "pillion.container.pressure{pillion.kind=some,pillion.resource=cpu}",    "s", COUNTER) \
    X(PRESSURE_CPU_FULL,    "pillion.container.pressure{pillion.kind=full,pillion.resource=cpu}",    "s", COUNTER) \
    X(PRESSURE_MEMORY_SOME, "pillion.container.pressure{pillion.kind=some,pillion.resource=memory}", "s", COUNTER) \
    X(PRESSURE_MEMORY_FULL, "pillion.container.pressure{pillion.kind=full,pillion.resource=memory}", "s", COUNTER) \
    X(PRESSURE_IO_SOME,     "pillion.container.pressure{pillion.kind=some,pillion.resource=io}",     "s", COUNTER) \
    X(PRESSURE_IO_FULL,     "pillion.container.pressure{pillion.kind=full,pillion.resource=io}",     "s", COUNTER) \
    X(DISK_READ,        "container.disk.io{disk.io.direction=read}",                "By",        COUNTER) \
    X(DISK_WRITE,       "container.disk.io{disk.io.direction=write}",               "By",        COUNTER) \
    X(NET_RECEIVE,      "container.network.io{network.io.direction=receive}",       "By",        COUNTER) \
    X(NET_TRANSMIT,     "container.network.io{network.io.direction=transmit}",      "By",        COUNTER) \
    X(NET_ERRORS_RECEIVE,  "pillion.container.network.errors{network.io.direction=receive}",   "{error}",  COUNTER) \
    X(NET_ERRORS_TRANSMIT, "pillion.container.network.errors{network.io.direction=transmit}",  "{error}",  COUNTER) \
    X(NET_DROPPED_RECEIVE,  "pillion.container.network.dropped{network.io.direction=receive}", "{packet}", COUNTER) \
    X(NET_DROPPED_TRANSMIT, "pillion.container.network.dropped{network.io.direction=transmit}", "{packet}", COUNTER)
/* clang-format on */

enum cgroup_metric {
#define X(id, key, unit, kind) CGROUP_##id,
    CGROUP_TABLE(X)
#undef X
        CGROUP_METRICS
};

/* How some of them are made (the rest is what the kernel says):
 *   cpu.limit        quota / period, the smallest of the group and of its ancestors that can be seen; NaN: no quota
 *   cpu.available    the smaller of cpu.limit and the CPUs of cpuset and affinity that are online
 *   cpu.limit_utilization  cpu.usage / cpu.available: 1 is all that this container can get
 *   memory.limit     the smallest of the group's and of its ancestors' that can be seen; NaN: no limit
 *   working_set      usage without inactive file pages (what Kubernetes evicts by); at least 0
 *   available        limit - working_set, at least 0; NaN without a limit
 *   unreclaimable    usage without file pages and reclaimable slab: what the kernel cannot take back
 *   oom_distance     limit - unreclaimable at the level that is nearest to its limit, at least 0
 *   disk.io          all block devices as the kernel lists them
 *   network.*        all interfaces but lo, of this process's network namespace (with host networking: the host's) */

enum cgroup_layout { CGROUP_NONE, CGROUP_V1, CGROUP_V2, CGROUP_HYBRID };

struct cgroup_reading {
    double values
        [CGROUP_METRICS]; /* cpu.usage and cpu.limit_utilization are NaN until cgroup_rates() */
    double cpu_seconds;   /* user + system, the most exact number there is */
    double
        cpus; /* CPUs of cpuset and affinity that are online, whatever the quota; NaN not known */
    uint64_t mono_ns; /* when */
    bool oom_group; /* memory.oom.group: the OOM killer takes all processes of the group at once */
};

struct cgroup;
struct schema;

/* Finds the control groups of process `pid` (0: our own). `root_fd` is an open directory that stands for "/" (a test gives a
 * folder with proc/ and sys/ in it); it must stay open as long as the cgroup. Keeps at most six descriptors.
 * 0 also where no control group can be seen (cgroup_layout() is then CGROUP_NONE): network and CPUs are still read. -ENOMEM. */
int cgroup_open(struct cgroup **ret, int root_fd, pid_t pid);
void cgroup_close(struct cgroup *cg); /* NULL is fine */
enum cgroup_layout cgroup_layout(const struct cgroup *cg);
const char *cgroup_layout_name(enum cgroup_layout l); /* none, v1, v2, hybrid */

/* 0, or -ENODEV: the group was removed; open again. *ret is always written. */
int cgroup_read(struct cgroup *cg, struct cgroup_reading *ret);
/* The oom_kills counter alone, for right after an exit (one file); NaN when not known. */
double cgroup_oom_kills(struct cgroup *cg);

/* Fills in cpu.usage and cpu.limit_utilization from what happened since `prev`. Never negative; NaN when prev is NULL or not
 * older. */
void cgroup_rates(const struct cgroup_reading *prev, struct cgroup_reading *now);

/* CPUs that work can really be done on, for `--workers auto`: cpu.available rounded down, at least 1. */
unsigned cgroup_whole_cpus(const struct cgroup_reading *r);

/* The table as a layout: slot i is enum cgroup_metric i. */
int cgroup_schema(struct schema **ret);

#endif
