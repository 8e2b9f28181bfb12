#include "collectors/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "collectors/table.h"

#define FILE_BYTES 4096 /* stat, status and io are 300 to 1,600 bytes */

#define PROC_MAGIC 0x9fa0 /* statfs(2) of a real /proc */

/* Before Linux 6.2 descriptors can only be counted one by one, at about 0.4 us each; more than this are not known. */
#define DESCRIPTORS_MAX 4096

/* utime and stime are rounded down to ticks; more than that (and the time between two reads) apart, and it is another process. */
#define CLOCK_AGREES_S 0.05

/* Places in /proc/<pid>/stat, counted from 1 as in proc_pid_stat(5). */
enum stat_field {
    STAT_PPID = 4,
    STAT_MINFLT = 10,
    STAT_MAJFLT = 12,
    STAT_UTIME = 14,
    STAT_STIME = 15,
    STAT_THREADS = 20,
    STAT_STARTTIME = 22,
    STAT_VSIZE = 23,
    STAT_RSS = 24,
    STAT_EXIT_CODE = 52,
    STAT_END
};

static const struct table_row rows[PROC_METRICS] = {
#define X(id, key, unit, kind) {key, unit, FIELD_##kind},
    PROC_TABLE(X)
#undef X
};

int proc_schema(struct schema **ret) {
    return table_schema(rows, PROC_METRICS, ret);
}

/* "pid (comm) S 4 5 …": comm may hold spaces and parentheses, so it ends at the last one. Values into f[4 …]; what an older
 * kernel does not have is 0. */
static int split_stat(const char *text, struct proc_identity *id, unsigned long long *f) {
    const char *open = strchr(text, '('), *shut = strrchr(text, ')'), *p;
    char *end;
    size_t n;

    if (open == NULL || shut == NULL || shut < open || shut[1] != ' ' || shut[2] <= ' ')
        return -EINVAL;
    id->pid = (pid_t)strtol(text, &end, 10);
    if (end == text || id->pid <= 0)
        return -EINVAL;
    n = (size_t)(shut - open) - 1;
    if (n >= sizeof(id->comm))
        n = sizeof(id->comm) - 1;
    memcpy(id->comm, open + 1, n);
    id->comm[n] = '\0';
    id->state = shut[2];
    p = shut + 3;
    for (int i = STAT_PPID; i < STAT_END; i++) {
        f[i] = strtoull(p, &end, 10); /* a negative one wraps: none that is used can be */
        if (end == p)
            return i > STAT_RSS ? 0 : -EINVAL;
        p = end;
    }
    return 0;
}

static double seconds_of_ticks(unsigned long long ticks) {
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static void take_values(const unsigned long long *f, double *v) {
    v[PROC_CPU_USER] = seconds_of_ticks(f[STAT_UTIME]);
    v[PROC_CPU_SYSTEM] = seconds_of_ticks(f[STAT_STIME]);
    v[PROC_MEMORY_USAGE] = (double)f[STAT_RSS] * (double)sysconf(_SC_PAGESIZE);
    v[PROC_MEMORY_VIRTUAL] = (double)f[STAT_VSIZE];
    v[PROC_THREADS] = (double)f[STAT_THREADS];
    v[PROC_FAULTS_MINOR] = (double)f[STAT_MINFLT];
    v[PROC_FAULTS_MAJOR] = (double)f[STAT_MAJFLT];
}

int proc_parse_stat(const char *text, struct proc_identity *ret, struct proc_reading *values) {
    unsigned long long f[STAT_END] = {0};
    struct proc_identity id = {.exit_status = -1};
    int rc = split_stat(text, &id, f);

    if (rc != 0)
        return rc;
    id.ppid = (pid_t)f[STAT_PPID];
    id.start_ticks = f[STAT_STARTTIME];
    /* 0 also stands for "you may not know": proc_identity() tells them apart. */
    if (id.state == 'Z' || id.state == 'X')
        id.exit_status = (int)f[STAT_EXIT_CODE] & 0xffff;
    *ret = id;
    if (values != NULL) {
        take_values(f, values->values);
        values->start_ticks = id.start_ticks;
        values->state = id.state;
    }
    return 0;
}

static int read_stat(int dirfd, struct proc_identity *id, struct proc_reading *values) {
    char text[FILE_BYTES];
    ssize_t n = fs_read_at(dirfd, "stat", text, sizeof(text));

    if (n == -ENOENT) /* what an entry of a process that is gone says when it was opened before */
        return -ESRCH;
    if (n < 0)
        return (int)n;
    return proc_parse_stat(text, id, values) == 0 ? 0 : -ESRCH;
}

int proc_identity(int dirfd, struct proc_identity *ret) {
    struct proc_identity id;
    char text[FILE_BYTES];
    int rc = read_stat(dirfd, &id, NULL);

    if (rc != 0)
        return rc;
    /* The kernel shows 0 in the place of a status to those who may not see it; `io` is guarded by the same check. */
    if (id.exit_status == 0 && fs_read_at(dirfd, "io", text, sizeof(text)) < 0)
        id.exit_status = -1;
    *ret = id;
    return 0;
}

int proc_open(int proc_fd, pid_t pid, uint64_t expected_start_ticks, int *ret_dirfd) {
    struct proc_identity id;
    char name[16];
    int fd, rc;

    if (pid <= 0)
        return -ESRCH;
    (void)snprintf(name, sizeof(name), "%ld", (long)pid);
    fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    rc = read_stat(fd, &id, NULL);
    if (rc == 0 &&
        (id.pid != pid || (expected_start_ticks != 0 && id.start_ticks != expected_start_ticks)))
        rc = -ESRCH;
    if (rc != 0) {
        close(fd);
        return rc;
    }
    *ret_dirfd = fd;
    return 0;
}

/* The CPU time of a whole process in nanoseconds, by the clock that every process has (clock_getcpuclockid(3)): stat has ticks of
 * 10 ms only, which is a tenth of a core at ten samples a second. It goes by pid, so it counts only where this /proc names
 * processes as we do; the caller reads stat afterwards, which fails if the process has ended meanwhile. */
static double cpu_clock(int dirfd, pid_t pid) {
    struct timespec ts;
    char self[16];
    ssize_t n = readlinkat(dirfd, "../self", self, sizeof(self) - 1);

    if (n <= 0)
        return NAN;
    self[n] = '\0';
    if (strtol(self, NULL, 10) != (long)getpid())
        return NAN;
    if (clock_gettime((clockid_t)(~(unsigned)pid << 3 | 2u), &ts) != 0)
        return NAN;
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void take_cpu_clock(int dirfd, pid_t pid, struct proc_reading *r) {
    double ticks = r->values[PROC_CPU_USER] + r->values[PROC_CPU_SYSTEM];
    double exact = cpu_clock(dirfd, pid);

    r->cpu_seconds = fabs(exact - ticks) < CLOCK_AGREES_S ? exact : ticks;
}

static int read_base(int dirfd, struct proc_reading *r) {
    struct proc_identity id;
    int rc;

    for (int i = 0; i < PROC_METRICS; i++)
        r->values[i] = NAN;
    r->cores = NAN;
    rc = read_stat(dirfd, &id, r);
    if (rc == 0 && (id.state == 'Z' || id.state == 'X'))
        rc = -ESRCH;
    if (rc != 0)
        return rc;
    take_cpu_clock(dirfd, id.pid, r);
    r->mono_ns = clock_mono_ns();
    /* Both are measured by the same clock, which runs on while the machine is suspended. */
    r->values[PROC_UPTIME] = (double)clock_boot_ms() / 1e3 - seconds_of_ticks(r->start_ticks);
    if (r->values[PROC_UPTIME] < 0) /* started within this tick, or a /proc of another machine */
        r->values[PROC_UPTIME] = 0;
    return 0;
}

/* The number behind "\n<name>:", or NaN. */
static double number_of(const char *text, const char *name) {
    const char *p = strstr(text, name);
    char *end;
    unsigned long long v;

    if (p == NULL)
        return NAN;
    p += strlen(name);
    v = strtoull(p, &end, 10);
    return end == p ? NAN : (double)v;
}

/* Switches are those of the main thread: the kernel has no sum over threads, and a Node.js process has eleven and more. */
static void read_switches(int dirfd, double *v) {
    char text[FILE_BYTES];

    if (fs_read_at(dirfd, "status", text, sizeof(text)) < 0)
        return;
    v[PROC_SWITCHES_VOL] = number_of(text, "\nvoluntary_ctxt_switches:");
    v[PROC_SWITCHES_INVOL] = number_of(text, "\nnonvoluntary_ctxt_switches:");
}

static void read_io(int dirfd, double *v) {
    char text[FILE_BYTES];

    if (fs_read_at(dirfd, "io", text, sizeof(text)) < 0)
        return;
    v[PROC_IO_READ] = number_of(text, "\nread_bytes:");
    v[PROC_IO_WRITE] = number_of(text, "\nwrite_bytes:");
}

/* Entries of getdents64(2): the length of each stands at its bytes 16 and 17, its name begins at byte 19. */
static double count_entries(int fd) {
    char entries[8192] __attribute__((aligned(8)));
    size_t count = 0;

    for (;;) {
        long n = syscall(SYS_getdents64, fd, entries, sizeof(entries));

        if (n <= 0)
            return n == 0 ? (double)count : NAN;
        for (long at = 0; at < n;) {
            unsigned short length;

            memcpy(&length, entries + at + 16, sizeof(length));
            count += entries[at + 19] != '.';
            at += length;
        }
        if (count > DESCRIPTORS_MAX)
            return NAN;
    }
}

static double count_descriptors(int dirfd) {
    struct statfs fs;
    struct stat st;
    double count;
    int fd;

    /* Linux 6.2 and later say the number as the folder's size (Documentation/filesystems/proc.rst 3.8); on other file systems,
     * which a test may give us, a folder's size means something else. */
    if (fstatat(dirfd, "fd", &st, 0) == 0 && st.st_size > 0 && fstatfs(dirfd, &fs) == 0 &&
        fs.f_type == PROC_MAGIC)
        return (double)st.st_size;
    fd = openat(dirfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NAN;
    count = count_entries(fd);
    close(fd);
    return count;
}

int proc_read_brief(int dirfd, struct proc_reading *ret) {
    struct proc_reading r = {0};
    int rc = read_base(dirfd, &r);

    if (rc == 0)
        *ret = r;
    return rc;
}

int proc_read(int dirfd, struct proc_reading *ret) {
    struct proc_reading r = {0};
    int rc = read_base(dirfd, &r);

    if (rc != 0)
        return rc;
    r.values[PROC_DESCRIPTORS] = count_descriptors(dirfd);
    read_switches(dirfd, r.values);
    read_io(dirfd, r.values);
    *ret = r;
    return 0;
}

void proc_rates(const struct proc_reading *prev, struct proc_reading *now, double cpus,
                double cpu_limit) {
    double elapsed;

    now->cores = NAN;
    now->values[PROC_CPU_UTILIZATION] = NAN;
    now->values[PROC_CPU_OF_LIMIT] = NAN;
    if (prev == NULL || prev->start_ticks != now->start_ticks || prev->mono_ns >= now->mono_ns)
        return;
    elapsed = (double)(now->mono_ns - prev->mono_ns) / 1e9;
    now->cores = (now->cpu_seconds - prev->cpu_seconds) / elapsed;
    if (now->cores < 0) /* from the exact clock back to ticks is a step back of up to two ticks */
        now->cores = 0;
    if (cpus > 0)
        now->values[PROC_CPU_UTILIZATION] = now->cores / cpus;
    if (cpu_limit > 0)
        now->values[PROC_CPU_OF_LIMIT] = now->cores / cpu_limit;
}
