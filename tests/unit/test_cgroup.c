/* P46, P47: test_cgroup.c - collectors/cgroup: 39 layouts against exact values (tests/fixtures/cgroup), rates, this machine's own groups,
 * and, where groups can be made here, real CPU quotas and a real OOM kill. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/schema.h"
#include "collectors/cgroup.h"
#include "collectors/cgroup/path.h"
#include "collectors/exits.h"

static const char *const keys[CGROUP_METRICS] = {
#define X(id, key, unit, kind) key,
    CGROUP_TABLE(X)
#undef X
};

static const char *fixtures(void) {
    const char *dir = getenv("PILLION_FIXTURES");

    return dir != NULL ? dir : "tests/fixtures";
}

static int open_fixture(const char *name) {
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/cgroup/%s", fixtures(), name);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* 1 and a line when what was read is not what is expected; JSON has no NaN: unknown is absent. */
static int differs(const char *fixture, const char *key, double got, const json_t *expected) {
    if (expected == NULL ? isnan(got)
                         : json_is_number(expected) && got == json_number_value(expected))
        return 0;
    if (expected == NULL)
        print_error("%s: %s is %.17g, expected absent\n", fixture, key, got);
    else
        print_error("%s: %s is %.17g, expected %.17g\n", fixture, key, got,
                    json_number_value(expected));
    return 1;
}

static int check_reading(const char *name, const json_t *want, const struct cgroup *cg,
                         const struct cgroup_reading *r) {
    const char *layout = cgroup_layout_name(cgroup_layout(cg));
    int bad = 0;

    if (strcmp(layout, json_string_value(json_object_get(want, "layout"))) != 0) {
        print_error("%s: layout is %s\n", name, layout);
        bad++;
    }
    if (r->oom_group != json_is_true(json_object_get(want, "oom_group"))) {
        print_error("%s: oom_group is %d\n", name, r->oom_group);
        bad++;
    }
    bad += differs(name, "cpus", r->cpus, json_object_get(want, "cpus"));
    bad += differs(name, "cpu_seconds", r->cpu_seconds, json_object_get(want, "cpu_seconds"));
    for (int i = 0; i < CGROUP_METRICS; i++)
        bad += differs(name, keys[i], r->values[i], json_object_get(want, keys[i]));
    return bad;
}

static bool is_key(const char *key) {
    static const char *const others[] = {"about", "layout", "oom_group", "cpus", "cpu_seconds"};

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(others[i], key) == 0)
            return true;
    for (int i = 0; i < CGROUP_METRICS; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

static int check_fixture(const char *name) {
    int root = open_fixture(name), bad;
    struct cgroup_reading r;
    struct cgroup *cg = NULL;
    char path[1024];
    const char *key;
    json_t *want, *value;

    (void)snprintf(path, sizeof(path), "%s/cgroup/%s/expected.json", fixtures(), name);
    want = json_load_file(path, 0, NULL);
    assert_non_null(want);
    json_object_foreach(want, key, value) {
        if (!is_key(key)) {
            print_error("%s: expected.json has the unknown key %s\n", name, key);
            fail();
        }
    }
    assert_int_equal(cgroup_open(&cg, root, 0), 0);
    assert_int_equal(cgroup_read(cg, &r), 0);
    bad = check_reading(name, want, cg, &r);
    bad += differs(name, "oom_kills alone", cgroup_oom_kills(cg),
                   json_object_get(want, "pillion.container.memory.oom_kills"));
    cgroup_close(cg);
    close(root);
    json_decref(want);
    return bad;
}

static void p46_layouts(void **state) {
    char path[1024];
    struct dirent *e;
    int bad = 0, n = 0;
    DIR *d;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/cgroup", fixtures());
    d = opendir(path);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        n++;
        bad += check_fixture(e->d_name);
    }
    closedir(d);
    assert_int_equal(bad, 0);
    assert_true(n >= 20);
}

static unsigned open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void keeps_six_descriptors(void **state) {
    static const char *const names[] = {"01-v2-docker-private", "24-v1-docker-private",
                                        "31-hybrid-docker", "32-hybrid-partial"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int root = open_fixture(names[i]);
        unsigned before = open_descriptors();
        struct cgroup_reading r;
        struct cgroup *cg = NULL;

        assert_int_equal(cgroup_open(&cg, root, 0), 0);
        assert_int_equal(cgroup_read(cg, &r), 0);
        assert_in_range(open_descriptors() - before, 1, 6);
        cgroup_close(cg);
        assert_int_equal(open_descriptors(), before);
        close(root);
    }
}

static void out_of_memory(void **state) {
    int root = open_fixture("26-v1-nested-limits"), rc = -1;
    struct cgroup *cg = NULL;
    struct schema *s = NULL;
    long n;

    (void)state;
    for (n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = cgroup_open(&cg, root, 0);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc != 0)
            assert_int_equal(mem_live(), 0);
    }
    assert_true(n > 5);
    cgroup_close(cg);
    close(root);
    for (n = 1, rc = -1; rc != 0; n++) {
        mem_fail_only(n);
        rc = cgroup_schema(&s);
        mem_fail_only(0);
        if (rc != 0)
            assert_int_equal(mem_live(), 0);
    }
    assert_int_equal(s->n_slots, CGROUP_METRICS);
    for (int i = 0; i < CGROUP_METRICS; i++) {
        assert_string_equal(s->fields[i].key, keys[i]);
        assert_int_equal(s->fields[i].slot, i);
    }
    schema_unref(s);
}

static void p48_rates(void **state) {
    struct cgroup_reading a, b;

    (void)state;
    memset(&a, 0, sizeof(a));
    a.cpu_seconds = 10;
    a.mono_ns = 1000000000;
    a.values[CGROUP_CPU_AVAILABLE] = 0.5;
    b = a;
    cgroup_rates(NULL, &b);
    assert_true(isnan(b.values[CGROUP_CPU_USAGE]) && isnan(b.values[CGROUP_CPU_OF_LIMIT]));
    cgroup_rates(&a, &b); /* no time has passed */
    assert_true(isnan(b.values[CGROUP_CPU_USAGE]));
    b.mono_ns += 2000000000;
    b.cpu_seconds = 10.5;
    cgroup_rates(&a, &b);
    assert_true(b.values[CGROUP_CPU_USAGE] == 0.25 && b.values[CGROUP_CPU_OF_LIMIT] == 0.5);
    b.cpu_seconds = 9; /* a group that was made again */
    cgroup_rates(&a, &b);
    assert_true(b.values[CGROUP_CPU_USAGE] == 0);
    b.cpu_seconds = NAN;
    cgroup_rates(&a, &b);
    assert_true(isnan(b.values[CGROUP_CPU_USAGE]) && isnan(b.values[CGROUP_CPU_OF_LIMIT]));
    b.values[CGROUP_CPU_AVAILABLE] = 2.9;
    assert_int_equal(cgroup_whole_cpus(&b), 2);
    b.values[CGROUP_CPU_AVAILABLE] = 0.5;
    assert_int_equal(cgroup_whole_cpus(&b), 1);
    b.values[CGROUP_CPU_AVAILABLE] = NAN;
    assert_int_equal(cgroup_whole_cpus(&b), 1);
}

/* Whatever this machine has: what is read twice only grows, and nothing is negative. */
static void this_machine(void **state) {
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cgroup_reading a, b;
    struct cgroup *cg = NULL;

    (void)state;
    assert_int_equal(cgroup_open(&cg, root, 0), 0);
    assert_int_equal(cgroup_read(cg, &a), 0);
    assert_int_equal(cgroup_read(cg, &b), 0);
    for (int i = 0; i < CGROUP_METRICS; i++)
        assert_false(a.values[i] < 0);
    assert_false(b.cpu_seconds < a.cpu_seconds);
    assert_true(a.cpus >= 1 && a.cpus <= (double)sysconf(_SC_NPROCESSORS_CONF));
    cgroup_close(cg);
    /* a process that is not there has no groups */
    assert_int_equal(cgroup_open(&cg, root, 0x3fffffff), 0);
    assert_int_equal(cgroup_layout(cg), CGROUP_NONE);
    cgroup_close(cg);
    close(root);
}

/* ---- real groups: a child of the one that this test runs in, removed at the end ---- */

struct real {
    int cpu;    /* folder of the new group for CPU (v2: of the only one) */
    int memory; /* -1 when none could be made */
    bool v2;
    char cpu_dir[PATH_MAX], memory_dir[PATH_MAX];
};

static int make_child(const char *controller, enum path_controller c, char dir[PATH_MAX]) {
    static char groups[65536], mounts[1 << 20];
    char link[64], parent[PATH_MAX - 64];
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
    unsigned up;
    ssize_t n;

    if (fs_read_at(AT_FDCWD, "/proc/self/cgroup", groups, sizeof(groups)) < 0 ||
        fs_read_at(AT_FDCWD, "/proc/self/mountinfo", mounts, sizeof(mounts)) < 0 ||
        path_open(root, groups, mounts, c, &fd, &up) != 0) {
        close(root);
        return -1;
    }
    close(root);
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, parent, sizeof(parent) - 1);
    close(fd);
    if (n <= 0)
        return -1;
    parent[n] = '\0';
    (void)snprintf(dir, PATH_MAX, "%s/pillion-test-%s-%ld", parent, controller, (long)getpid());
    if (mkdir(dir, 0755) != 0)
        return -1;
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool put(int dirfd, const char *file, const char *text) {
    int fd = openat(dirfd, file, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return ok;
}

static bool has(int dirfd, const char *file) {
    return dirfd >= 0 && faccessat(dirfd, file, F_OK, 0) == 0;
}

static void remove_group(int fd, const char *dir) {
    struct timespec wait = {.tv_nsec = 20 * 1000 * 1000};

    if (fd < 0)
        return;
    close(fd);
    for (int i = 0; i < 250 && rmdir(dir) != 0 && errno == EBUSY; i++)
        (void)nanosleep(&wait, NULL); /* until the kernel has let its last process go */
}

/* A child that joins the group of the descriptors, does `work`, and is left to be killed. */
static pid_t start_in(const struct real *g, void (*work)(void)) {
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    if (g->cpu >= 0 && !put(g->cpu, "cgroup.procs", "0"))
        _exit(101);
    if (g->memory >= 0 && g->memory != g->cpu && !put(g->memory, "cgroup.procs", "0"))
        _exit(102);
    /* whatever becomes of this test, nothing is left running */
    (void)alarm(30);
    work();
    _exit(0);
}

static void spin(void) {
    for (volatile unsigned long i = 0;; i++)
        ;
}

static void eat(void) {
    for (;;) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            _exit(103);
        memset(p, 1, 1 << 20);
    }
}

static bool set_quota(const struct real *g, double cpus) {
    char text[64];

    if (g->v2) {
        if (cpus > 0)
            (void)snprintf(text, sizeof(text), "%.0f 100000", cpus * 100000);
        return put(g->cpu, "cpu.max", cpus > 0 ? text : "max 100000");
    }
    (void)snprintf(text, sizeof(text), "%.0f", cpus > 0 ? cpus * 100000 : -1);
    return put(g->cpu, "cpu.cfs_quota_us", text);
}

/* CPU time of our children by their own clocks: what the load really was, told by another part of the kernel. */
static double cpu_time(const pid_t *pids, int n) {
    double sum = 0;

    for (int i = 0; i < n; i++) {
        struct timespec t;
        clockid_t clock;

        assert_int_equal(clock_getcpuclockid(pids[i], &clock), 0);
        assert_int_equal(clock_gettime(clock, &t), 0);
        sum += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    }
    return sum;
}

static void pause_ms(long ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL);
}

/* It joins the groups in this order, so that it is in all of them when it is in the last one. */
static bool is_in(const struct real *g, pid_t pid) {
    char text[4096], line[24];

    if (fs_read_at(g->memory >= 0 ? g->memory : g->cpu, "cgroup.procs", text, sizeof(text)) < 0)
        return false;
    (void)snprintf(line, sizeof(line), "%ld\n", (long)pid);
    for (char *p = text; (p = strstr(p, line)) != NULL; p++)
        if (p == text || p[-1] == '\n')
            return true;
    return false;
}

static double word_of(int dirfd, const char *file, const char *key) {
    char text[4096], *p;

    assert_true(fs_read_at(dirfd, file, text, sizeof(text)) > 0);
    p = strstr(text, key);
    assert_non_null(p);
    return strtod(p + strlen(key), NULL);
}

/* The group stands still now: what was read is what cpu.stat says. */
static void check_throttling(const struct real *g, struct cgroup *cg) {
    struct cgroup_reading r;

    assert_int_equal(cgroup_read(cg, &r), 0);
    assert_true(r.values[CGROUP_CPU_PERIODS] == word_of(g->cpu, "cpu.stat", "nr_periods "));
    assert_true(r.values[CGROUP_CPU_THROTTLED] == word_of(g->cpu, "cpu.stat", "nr_throttled "));
    assert_true(r.values[CGROUP_CPU_THROTTLED_TIME] ==
                (g->v2 ? word_of(g->cpu, "cpu.stat", "throttled_usec ") / 1e6
                       : word_of(g->cpu, "cpu.stat", "throttled_time ") / 1e9));
}

/* How much CPU there is to be had depends on who else runs here; that the share is the right one does not. The smallest quota is
 * used up on every machine: there the share must be 1 and throttling must be seen. */
static void measure_quota(const struct real *g, double quota) {
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = quota > 1 ? 2 : 1;
    struct cgroup_reading a, b;
    struct cgroup *cg = NULL;
    double load, share;
    pid_t pids[2];

    assert_true(set_quota(g, quota));
    for (int i = 0; i < n; i++)
        pids[i] = start_in(g, spin);
    for (int i = 0; i < n; i++)
        while (!is_in(g, pids[i]))
            pause_ms(10);
    assert_int_equal(cgroup_open(&cg, root, pids[0]), 0);
    pause_ms(200);
    assert_int_equal(cgroup_read(cg, &a), 0);
    load = cpu_time(pids, n);
    pause_ms(1500);
    assert_int_equal(cgroup_read(cg, &b), 0);
    load = cpu_time(pids, n) - load;
    for (int i = 0; i < n; i++)
        (void)kill(pids[i], SIGKILL);
    for (int i = 0; i < n; i++)
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
    check_throttling(g, cg);
    cgroup_rates(&a, &b);
    if (quota > 0)
        assert_true(fabs(b.values[CGROUP_CPU_LIMIT] - quota) < 1e-9);
    else
        assert_true(isnan(b.values[CGROUP_CPU_LIMIT]));
    load /= (double)(b.mono_ns - a.mono_ns) / 1e9 * b.values[CGROUP_CPU_AVAILABLE];
    share = b.values[CGROUP_CPU_OF_LIMIT];
    print_message("quota %g: %.3f CPUs in use, share %.3f, by the processes' own clocks %.3f; "
                  "throttled in %g of %g periods\n",
                  quota, b.values[CGROUP_CPU_USAGE], share, load,
                  b.values[CGROUP_CPU_THROTTLED] - a.values[CGROUP_CPU_THROTTLED],
                  b.values[CGROUP_CPU_PERIODS] - a.values[CGROUP_CPU_PERIODS]);
    /* a period is 100 ms: two clocks that are read at two moments can be one run of it apart */
    assert_true(fabs(share - load) < (quota > 0 && quota < 0.1 ? 0.1 : 0.02));
    assert_true(share < 1.1);
    if (quota > 0 && quota < 0.1)
        assert_true(b.values[CGROUP_CPU_THROTTLED] > a.values[CGROUP_CPU_THROTTLED]);
    cgroup_close(cg);
    close(root);
}

static bool is_v2(void) {
    char text[4096];

    return fs_read_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)) > 0 &&
           !path_has(text, PATH_CPU) && path_has(text, PATH_UNIFIED);
}

static void p47_quota(void **state) {
    static const double quotas[] = {0.05, 0.5, 1, 2, 0};
    struct real g = {.memory = -1, .v2 = is_v2()};
    int acct = -1;
    char acct_dir[PATH_MAX];

    (void)state;
    g.cpu = make_child("cpu", g.v2 ? PATH_UNIFIED : PATH_CPU, g.cpu_dir);
    if (!has(g.cpu, g.v2 ? "cpu.max" : "cpu.cfs_quota_us")) {
        remove_group(g.cpu, g.cpu_dir);
        print_message("no group with a CPU quota can be made here: %s\n", strerror(errno));
        skip();
    }
    if (!g.v2 &&
        !has(g.cpu, "cpuacct.usage")) { /* apart from cpu: use the memory slot to join it */
        acct = make_child("cpuacct", PATH_CPUACCT, acct_dir);
        g.memory = acct;
    }
    for (size_t i = 0; i < ARRAY_LEN(quotas); i++)
        measure_quota(&g, quotas[i]);
    remove_group(acct, acct_dir);
    remove_group(g.cpu, g.cpu_dir);
}

static void p31_oom_kill(void **state) {
    struct real g = {.cpu = -1, .v2 = is_v2()};
    int root, status, pidfd, known = 0;
    struct exit_evidence e;
    struct exit_cause cause;
    struct cgroup *cg = NULL;
    double before;
    pid_t pid;

    (void)state;
    g.memory = make_child("memory", g.v2 ? PATH_UNIFIED : PATH_MEMORY, g.memory_dir);
    if (!put(g.memory, g.v2 ? "memory.max" : "memory.limit_in_bytes", "16777216")) {
        remove_group(g.memory, g.memory_dir);
        print_message("no group with a memory limit can be made here: %s\n", strerror(errno));
        skip();
    }
    (void)put(g.memory, g.v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
              g.v2 ? "0" : "16777216");
    root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* a first child shows where the group is, and stands still */
    pid = start_in(&g, (void (*)(void))pause);
    while (!is_in(&g, pid))
        pause_ms(10);
    assert_int_equal(cgroup_open(&cg, root, pid), 0);
    {
        struct cgroup_reading r;

        assert_int_equal(cgroup_read(cg, &r), 0);
        assert_true(r.values[CGROUP_MEMORY_LIMIT] == 16777216);
        before = r.values[CGROUP_MEMORY_OOM_KILLS];
    }
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(before == 0);

    pid = start_in(&g, eat);
    pidfd = exits_pidfd(pid);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    exits_evidence_init(&e);
    e.has_pidfd = pidfd >= 0 && exits_from_pidfd(pidfd, &known) == 0;
    e.pidfd_status = known;
    e.has_init = true;
    e.init_status = status;
    e.oom_kills = cgroup_oom_kills(cg) - before;
    e.memory_limit = 16777216;
    exits_cause(&e, &cause);
    print_message("%s [%s, %s]\n", cause.text, cause.source,
                  exit_confidence_name(cause.confidence));
    assert_true(e.oom_kills == 1);
    assert_int_equal(cause.kind, EXIT_KIND_OOM_KILL);
    assert_int_equal(cause.confidence, EXIT_CERTAIN);
    if (e.has_pidfd)
        assert_int_equal(known, status);
    if (pidfd >= 0)
        close(pidfd);
    remove_group(g.memory, g.memory_dir);
    { /* the group is gone now */
        struct cgroup_reading r;
        int rc = cgroup_read(cg, &r);

        assert_true(isnan(r.values[CGROUP_MEMORY_USAGE]));
        if (g.v2)
            assert_int_equal(rc, -ENODEV);
    }
    cgroup_close(cg);
    close(root);
}

static int no_leak(void **state) {
    (void)state;
    return mem_live() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(p46_layouts, no_leak),
        cmocka_unit_test_teardown(keeps_six_descriptors, no_leak),
        cmocka_unit_test_teardown(out_of_memory, no_leak),
        cmocka_unit_test_teardown(p48_rates, no_leak),
        cmocka_unit_test_teardown(this_machine, no_leak),
        cmocka_unit_test_teardown(p47_quota, no_leak),
        cmocka_unit_test_teardown(p31_oom_kill, no_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
