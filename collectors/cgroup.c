/* Opening: the kernel's two files say in which hierarchies the process is and where they are mounted (cgroup/path.c); one
 * folder a hierarchy stays open. Reading: each resource from v1 or v2 (cgroup/v1.c, v2.c), then CPUs and network.
 *
 * Ways to fail: a hierarchy that cannot be seen is a group without a descriptor, whose values stay NaN. A group that was removed
 * under us gives nothing at all: then, and only then, it is looked at whether it still exists. */
#include "collectors/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "collectors/cgroup/group.h"
#include "collectors/cgroup/parse.h"
#include "collectors/cgroup/path.h"
#include "collectors/table.h"

#define MOUNTINFO_BYTES (1024 * 1024) /* a host with thousands of containers */
#define CPUS_EVERY_MS   10000

struct cgroup {
    int root_fd;
    char proc[24]; /* "proc/self", "proc/<pid>" */
    enum cgroup_layout layout;
    struct group v1[PATH_UNIFIED]; /* equal descriptors belong to the first that has them */
    struct group v2;
    bool is_v2[PATH_UNIFIED]; /* read this resource from v2 */
    double cpus;              /* as counted at cpus_ms; 0: not yet */
    uint64_t cpus_ms;
};

static const struct table_row rows[CGROUP_METRICS] = {
#define X(id, key, unit, kind) {key, unit, FIELD_##kind},
    CGROUP_TABLE(X)
#undef X
};

int cgroup_schema(struct schema **ret) {
    return table_schema(rows, CGROUP_METRICS, ret);
}

/* A whole file that may be long. */
static int read_long(int root_fd, const char *path, struct buf *out) {
    int fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC), rc = 0;
    char chunk[4096];
    ssize_t n;

    if (fd < 0)
        return -errno;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0 && out->err == 0)
        buf_add(out, chunk, (size_t)n);
    if (n < 0)
        rc = -errno;
    close(fd);
    return out->err != 0 ? out->err : rc;
}

/* Joint mounts (cpu,cpuacct) are one folder: one descriptor is enough. */
static void share_descriptor(struct group *cpu, struct group *cpuacct) {
    struct stat a, b;

    if (cpu->fd < 0 || cpuacct->fd < 0 || fstat(cpu->fd, &a) != 0 || fstat(cpuacct->fd, &b) != 0 ||
        a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return;
    close(cpuacct->fd);
    cpuacct->fd = cpu->fd;
}

static bool has_controller(const struct group *g, const char *name) {
    char text[LIMIT_PROC_FILE_BYTES], *p;
    size_t len = strlen(name);

    if (!group_read(g, 0, "cgroup.controllers", text))
        return false;
    for (p = text; (p = strstr(p, name)) != NULL; p += len)
        if ((p == text || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\n' || p[len] == '\0'))
            return true;
    return false;
}

/* Beside v1 hierarchies the unified one is often a bare tree for systemd's own use, and "0::/" in it is the whole machine: there a
 * resource is taken from it only if v1 does not have it and v2 says that it does. */
static void choose(struct cgroup *cg, const char *cgroup_text) {
    static const char *const v2_names[PATH_UNIFIED] = {"cpu",    "cpu",  "cpuset",
                                                       "memory", "pids", "io"};

    for (int i = 0; i < PATH_UNIFIED; i++) {
        if (cg->v2.fd < 0 || path_has(cgroup_text, (enum path_controller)i))
            continue;
        cg->is_v2[i] = cg->layout == CGROUP_V2 || has_controller(&cg->v2, v2_names[i]);
    }
}

static int find_groups(struct cgroup *cg, const char *cgroup_text, const char *mountinfo_text) {
    bool any_v1 = false, any_v2 = false, unified = path_has(cgroup_text, PATH_UNIFIED);
    int rc = 0;

    for (int i = 0; i <= PATH_UNIFIED && rc != -ENOMEM; i++) {
        struct group *g = i == PATH_UNIFIED ? &cg->v2 : &cg->v1[i];

        any_v1 = any_v1 || (i < PATH_UNIFIED && path_has(cgroup_text, (enum path_controller)i));
        rc = path_open(cg->root_fd, cgroup_text, mountinfo_text, (enum path_controller)i, &g->fd,
                       &g->up);
    }
    if (rc == -ENOMEM)
        return rc;
    share_descriptor(&cg->v1[PATH_CPU], &cg->v1[PATH_CPUACCT]);
    cg->layout = any_v1 && unified ? CGROUP_HYBRID
                 : any_v1          ? CGROUP_V1
                 : unified         ? CGROUP_V2
                                   : CGROUP_NONE;
    choose(cg, cgroup_text);
    for (int i = 0; i < PATH_UNIFIED; i++)
        any_v2 = any_v2 || cg->is_v2[i];
    if (!any_v2 && cg->v2.fd >= 0) {
        close(cg->v2.fd);
        cg->v2.fd = -1;
    }
    return 0;
}

int cgroup_open(struct cgroup **ret, int root_fd, pid_t pid) {
    struct cgroup *cg = mem_calloc(1, sizeof(*cg));
    struct buf cgroups, mounts;
    char path[64];
    int rc;

    if (cg == NULL)
        return -ENOMEM;
    cg->root_fd = root_fd;
    cg->v2.fd = -1;
    for (int i = 0; i < PATH_UNIFIED; i++)
        cg->v1[i].fd = -1;
    if (pid == 0)
        (void)snprintf(cg->proc, sizeof(cg->proc), "proc/self");
    else
        (void)snprintf(cg->proc, sizeof(cg->proc), "proc/%ld", (long)pid);
    buf_init(&cgroups, MOUNTINFO_BYTES);
    buf_init(&mounts, MOUNTINFO_BYTES);
    (void)snprintf(path, sizeof(path), "%s/cgroup", cg->proc);
    rc = read_long(root_fd, path, &cgroups);
    if (rc == 0) /* our own mounts, whoever's groups they are: it is we who open them */
        rc = read_long(root_fd, "proc/self/mountinfo", &mounts);
    if (rc == 0 && cgroups.len > 0 && mounts.len > 0)
        rc = find_groups(cg, cgroups.data, mounts.data);
    buf_clear(&mounts);
    buf_clear(&cgroups);
    if (rc == -ENOMEM) {
        cgroup_close(cg);
        return rc;
    }
    *ret = cg; /* any other error: nothing can be seen */
    return 0;
}

void cgroup_close(struct cgroup *cg) {
    if (cg == NULL)
        return;
    for (int i = PATH_UNIFIED - 1; i >= 0; i--)
        if (cg->v1[i].fd >= 0 && (i != PATH_CPUACCT || cg->v1[i].fd != cg->v1[PATH_CPU].fd))
            close(cg->v1[i].fd);
    if (cg->v2.fd >= 0)
        close(cg->v2.fd);
    mem_free(cg);
}

enum cgroup_layout cgroup_layout(const struct cgroup *cg) {
    return cg->layout;
}

const char *cgroup_layout_name(enum cgroup_layout l) {
    static const char *const names[] = {"none", "v1", "v2", "hybrid"};

    return names[l];
}

static bool read_root(const struct cgroup *cg, const char *path, char *text) {
    ssize_t n = fs_read_at(cg->root_fd, path, text, LIMIT_PROC_FILE_BYTES);

    return n >= 0 && n < LIMIT_PROC_FILE_BYTES - 1;
}

static bool read_proc(const struct cgroup *cg, const char *name, char *text) {
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/%s", cg->proc, name);
    return read_root(cg, path, text);
}

static void narrow(struct parse_cpus *cpus, bool *known, const char *list) {
    struct parse_cpus more;

    if (!parse_cpu_list(list, &more))
        return;
    if (*known)
        parse_cpus_and(cpus, &more);
    else
        *cpus = more;
    *known = true;
}

/* What can be run on: the machine's CPUs that are online, those of the group, those of the process's own affinity. */
static double count_cpus(const struct cgroup *cg) {
    static const char allowed[] = "\nCpus_allowed_list:";
    const struct group *g = cg->is_v2[PATH_CPUSET] ? &cg->v2 : &cg->v1[PATH_CPUSET];
    char text[LIMIT_PROC_FILE_BYTES];
    struct parse_cpus cpus;
    bool known = false;
    const char *p;

    if (read_root(cg, "sys/devices/system/cpu/online", text))
        narrow(&cpus, &known, text);
    if (cg->is_v2[PATH_CPUSET] ? group_read(g, 0, "cpuset.cpus.effective", text)
                               : group_read(g, 0, "cpuset.effective_cpus", text) ||
                                     group_read(g, 0, "cpuset.cpus", text))
        narrow(&cpus, &known, text);
    if (read_proc(cg, "status", text) && (p = strstr(text, allowed)) != NULL)
        narrow(&cpus, &known, p + strlen(allowed));
    return known && parse_cpus_count(&cpus) > 0 ? parse_cpus_count(&cpus) : NAN;
}

/* Three files for a number that hardly ever changes. */
static void read_cpus(struct cgroup *cg, struct cgroup_reading *r) {
    uint64_t now_ms = r->mono_ns / 1000000;

    if (cg->cpus == 0 || now_ms - cg->cpus_ms >= CPUS_EVERY_MS) {
        cg->cpus = count_cpus(cg);
        cg->cpus_ms = now_ms;
    }
    r->cpus = cg->cpus;
    r->values[CGROUP_CPU_AVAILABLE] = fmin(r->cpus, r->values[CGROUP_CPU_LIMIT]);
}

static void read_network(const struct cgroup *cg, double *v) {
    char text[LIMIT_PROC_FILE_BYTES];
    struct parse_net net;

    if (!read_proc(cg, "net/dev", text))
        return;
    net = parse_net_dev(text);
    v[CGROUP_NET_RECEIVE] = net.bytes[0];
    v[CGROUP_NET_TRANSMIT] = net.bytes[1];
    v[CGROUP_NET_ERRORS_RECEIVE] = net.errors[0];
    v[CGROUP_NET_ERRORS_TRANSMIT] = net.errors[1];
    v[CGROUP_NET_DROPPED_RECEIVE] = net.dropped[0];
    v[CGROUP_NET_DROPPED_TRANSMIT] = net.dropped[1];
}

static void read_groups(const struct cgroup *cg, struct cgroup_reading *r) {
    if (cg->is_v2[PATH_CPU] && cg->is_v2[PATH_CPUACCT]) {
        v2_cpu(&cg->v2, r);
    } else {
        v1_cpu(&cg->v1[PATH_CPU], r);
        v1_cpuacct(&cg->v1[PATH_CPUACCT], r);
    }
    if (cg->is_v2[PATH_MEMORY]) {
        v2_memory(&cg->v2, r);
        v2_pressure(
            &cg->v2,
            r); /* there in every group of v2, but only where v2 is in charge it is the container's */
    } else {
        v1_memory(&cg->v1[PATH_MEMORY], r);
    }
    group_pids(cg->is_v2[PATH_PIDS] ? &cg->v2 : &cg->v1[PATH_PIDS], r);
    if (cg->is_v2[PATH_BLKIO])
        v2_io(&cg->v2, r);
    else
        v1_blkio(&cg->v1[PATH_BLKIO], r);
}

/* A folder that was removed stays open, but nothing is in it any more. */
static bool was_removed(const struct group *g) {
    return g->fd >= 0 && faccessat(g->fd, ".", F_OK, 0) == 0 &&
           faccessat(g->fd, "cgroup.procs", F_OK, 0) != 0 && errno == ENOENT;
}

int cgroup_read(struct cgroup *cg, struct cgroup_reading *ret) {
    struct cgroup_reading r = {.cpu_seconds = NAN, .cpus = NAN};

    for (int i = 0; i < CGROUP_METRICS; i++)
        r.values[i] = NAN;
    read_groups(cg, &r);
    r.mono_ns = clock_mono_ns();
    read_cpus(cg, &r);
    read_network(cg, r.values);
    *ret = r;
    if (isnan(r.cpu_seconds) && isnan(r.values[CGROUP_MEMORY_USAGE]) &&
        (was_removed(&cg->v1[PATH_MEMORY]) || was_removed(&cg->v1[PATH_CPUACCT]) ||
         was_removed(&cg->v2)))
        return -ENODEV;
    return 0;
}

double cgroup_oom_kills(struct cgroup *cg) {
    return cg->is_v2[PATH_MEMORY] ? v2_oom_kills(&cg->v2) : v1_oom_kills(&cg->v1[PATH_MEMORY]);
}

void cgroup_rates(const struct cgroup_reading *prev, struct cgroup_reading *now) {
    double cores;

    now->values[CGROUP_CPU_USAGE] = NAN;
    now->values[CGROUP_CPU_OF_LIMIT] = NAN;
    if (prev == NULL || prev->mono_ns >= now->mono_ns)
        return;
    cores = group_rest(now->cpu_seconds, prev->cpu_seconds) /
            ((double)(now->mono_ns - prev->mono_ns) / 1e9);
    now->values[CGROUP_CPU_USAGE] = cores;
    if (now->values[CGROUP_CPU_AVAILABLE] > 0)
        now->values[CGROUP_CPU_OF_LIMIT] = cores / now->values[CGROUP_CPU_AVAILABLE];
}

unsigned cgroup_whole_cpus(const struct cgroup_reading *r) {
    double cpus = r->values[CGROUP_CPU_AVAILABLE];

    return cpus >= 1 ? (unsigned)cpus : 1;
}
