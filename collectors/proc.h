/* proc.h - what the kernel knows of one process: /proc/<pid>/{stat,status,io,fd}. See proc_pid_stat(5).
 *
 * Never reads smaps: that holds up the process for milliseconds. What cannot be read is NaN, never 0. */
#ifndef PILLION_PROC_H
#define PILLION_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* clang-format off */
/* identifier, key (name{attribute=value}), unit, counter or gauge */
#define PROC_TABLE(X) \
    X(CPU_USER,        "process.cpu.time{cpu.mode=user}",                                "s",                 COUNTER) \
    X(CPU_SYSTEM,      "process.cpu.time{cpu.mode=system}",                              "s",                 COUNTER) \
    X(CPU_UTILIZATION, "process.cpu.utilization",                                        "1",                 GAUGE) \
    X(CPU_OF_LIMIT,    "pillion.process.cpu.limit_utilization",                          "1",                 GAUGE) \
    X(MEMORY_USAGE,    "process.memory.usage",                                           "By",                GAUGE) \
    X(MEMORY_VIRTUAL,  "process.memory.virtual",                                         "By",                GAUGE) \
    X(THREADS,         "process.thread.count",                                           "{thread}",          GAUGE) \
    X(DESCRIPTORS,     "process.unix.file_descriptor.count",                             "{file_descriptor}", GAUGE) \
    X(SWITCHES_VOL,    "process.context_switches{process.context_switch.type=voluntary}",   "{context_switch}", COUNTER) \
    X(SWITCHES_INVOL,  "process.context_switches{process.context_switch.type=involuntary}", "{context_switch}", COUNTER) \
    X(FAULTS_MINOR,    "process.paging.faults{system.paging.fault.type=minor}",          "{fault}",           COUNTER) \
    X(FAULTS_MAJOR,    "process.paging.faults{system.paging.fault.type=major}",          "{fault}",           COUNTER) \
    X(IO_READ,         "process.disk.io{disk.io.direction=read}",                        "By",                COUNTER) \
    X(IO_WRITE,        "process.disk.io{disk.io.direction=write}",                       "By",                COUNTER) \
    X(UPTIME,          "process.uptime",                                                 "s",                 GAUGE)
/* clang-format on */

enum proc_metric {
#define X(id, key, unit, kind) PROC_##id,
    PROC_TABLE(X)
#undef X
        PROC_METRICS
};

struct schema;

#define PROC_WHERE_BYTES 128

/* Who a process is: from /proc/<pid>/stat. */
struct proc_identity {
    pid_t pid; /* as the mounted /proc names it */
    pid_t ppid;
    uint64_t start_ticks; /* field 22; with the pid it names a process while the machine runs */
    char state;           /* R S D Z T t X I */
    char comm[65];        /* as the kernel gives it: up to 64 bytes, any bytes */
    int exit_status; /* of a zombie, as waitpid() gives it; -1 when it is not known or not permitted to know */
};

struct proc_reading {
    double values[PROC_METRICS]; /* the two utilisations are NaN until proc_rates() */
    double cpu_seconds; /* user + system, in nanoseconds' resolution where the kernel gives it */
    double cores; /* cores in use since the last reading: 1 is one core; NaN until proc_rates() */
    uint64_t start_ticks;
    uint64_t mono_ns; /* when */
    char state;
};

/* Opens /proc/<pid>, for the caller to close. Once open the descriptor stands for this one process for ever: when it has ended
 * every reading gives -ESRCH, also when its pid is in use again. `proc_fd` is an open /proc.
 * expected_start_ticks 0: whichever process has the pid now. -ESRCH: no such process, or one with another start time; -EACCES:
 * hidden (hidepid). */
int proc_open(int proc_fd, pid_t pid, uint64_t expected_start_ticks, int *ret_dirfd);

int proc_identity(int dirfd, struct proc_identity *ret);

/* Everything in the table: three files and the count of descriptors, about 40 us. What is not there or not permitted (io of
 * another user's process) is NaN. 0, or -ESRCH: the process has ended (or is a zombie, which has no memory any more); *ret is
 * then not written. */
int proc_read(int dirfd, struct proc_reading *ret);
/* CPU, memory, threads, page faults, uptime only: one file, about 14 us. For intervals far below a second. */
int proc_read_brief(int dirfd, struct proc_reading *ret);

/* Fills in `now`'s cores and utilisations from what happened since `prev`. cpus: CPUs that the process may run on (affinity,
 * cpuset); cpu_limit: CPUs that the container may use (quota; struct cgroup_reading); NaN where not known.
 *   process.cpu.utilization             = cores / cpus       OpenTelemetry: "divided by the CPUs available to the process"
 *   pillion.process.cpu.limit_utilization = cores / cpu_limit
 * Never negative. NaN when prev is NULL, is not older, or belongs to another process. */
void proc_rates(const struct proc_reading *prev, struct proc_reading *now, double cpus,
                double cpu_limit);

/* Where a process is right now, for people: "running", "in system call futex (202)", "sleeping in ep_poll",
 * "sleeping", "stopped", "zombie"; waiting that cannot be interrupted is said so. 0 or -ESRCH. */
int proc_where(int dirfd, char out[PROC_WHERE_BYTES]);

/* The table as a layout: slot i is enum proc_metric i. */
int proc_schema(struct schema **ret);

/* For tests: reads the text of /proc/<pid>/stat. `values` may be NULL. -EINVAL when it is not one. */
int proc_parse_stat(const char *text, struct proc_identity *ret, struct proc_reading *values);

#endif
