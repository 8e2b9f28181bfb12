/* test_proc.c - collectors/proc: the formats by given text, then real processes of our own: busy, sleeping, stopped, zombie,
 * ended, and a pid that is used again. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/schema.h"
#include "collectors/proc.h"

static void pause_ms(long ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL);
}

static int open_proc(void) {
    int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* A child that does `work` and never outlives the test. */
static pid_t start(void (*work)(void)) {
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(60);
        work();
        _exit(0);
    }
    return pid;
}

static void finish(pid_t pid) {
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void sleep_long(void) {
    pause_ms(50000);
}

static void spin(void) {
    for (volatile unsigned long i = 0;; i++)
        ;
}

static void end_with_7(void) {
    _exit(7);
}

static void format(void **state) {
    static const char text[] =
        "4711 (node (a) b) S 4700 4711 4711 34816 -1 4194560 5012 99 17 0 2500 125 0 0 20 0 11 0 "
        "8812345 745713664 12000 18446744073709551615 4194304 5 6 0 0 0 0 16781312 134235650 0 0 0 "
        "17 1 0 0 0 "
        "0 0 0 0 0 0 0 0 0 0\n";
    struct proc_reading r = {0};
    struct proc_identity id;

    (void)state;
    assert_int_equal(proc_parse_stat(text, &id, &r), 0);
    assert_int_equal(id.pid, 4711);
    assert_int_equal(id.ppid, 4700);
    assert_string_equal(id.comm, "node (a) b");
    assert_int_equal(id.state, 'S');
    assert_int_equal(id.start_ticks, 8812345);
    assert_int_equal(id.exit_status, -1);
    assert_true(r.values[PROC_CPU_USER] == 25 && r.values[PROC_CPU_SYSTEM] == 1.25);
    assert_true(r.values[PROC_THREADS] == 11);
    assert_true(r.values[PROC_FAULTS_MINOR] == 5012 && r.values[PROC_FAULTS_MAJOR] == 17);
    assert_true(r.values[PROC_MEMORY_VIRTUAL] == 745713664);
    assert_true(r.values[PROC_MEMORY_USAGE] == 12000.0 * (double)sysconf(_SC_PAGESIZE));
    assert_int_equal(
        proc_parse_stat("9 (x) Z 1 9 9 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 77 0 0 0 0 0 0 0 0 0 "
                        "0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 256\n",
                        &id, NULL),
        0);
    assert_int_equal(id.exit_status, 256);
}

static void format_refused(void **state) {
    static const char *const bad[] = {
        "",
        "4711",
        "4711 (node",
        "(node) S 1",
        "x (node) S 1 2 3",
        "4711 )node( S 1 2 3",
        "4711 (node) ",
        "4711 (node) S",
        "4711 (node) S 1 2 3 4 5",
        "-4 (a) S 1 2 3 4 5 6 7 8 9 10 11 12",
        "4711 (node) S 1 2 3 4 5 6 7 8 9 10 eleven 12 13 14 15 16 17 18 19 20 21 22 23 24",
    };
    struct proc_identity id;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(proc_parse_stat(bad[i], &id, NULL), -EINVAL);
}

static void this_process(void **state) {
    int proc = open_proc(), dir = -1, fd;
    struct proc_reading a, b;
    struct proc_identity id;

    (void)state;
    assert_int_equal(proc_open(proc, getpid(), 0, &dir), 0);
    assert_int_equal(proc_identity(dir, &id), 0);
    assert_int_equal(id.pid, getpid());
    assert_int_equal(id.ppid, getppid());
    assert_int_equal(proc_read(dir, &a), 0);
    fd = open("/dev/null", O_RDONLY);
    assert_int_equal(proc_read(dir, &b), 0);
    assert_true(b.values[PROC_DESCRIPTORS] == a.values[PROC_DESCRIPTORS] + 1);
    close(fd);
    assert_true(a.values[PROC_THREADS] == 1);
    assert_true(a.values[PROC_MEMORY_USAGE] > 100000);
    assert_true(a.values[PROC_MEMORY_VIRTUAL] > a.values[PROC_MEMORY_USAGE]);
    assert_true(a.values[PROC_UPTIME] >= 0 && a.values[PROC_UPTIME] < 3600);
    assert_true(a.values[PROC_SWITCHES_VOL] >= 0 && a.values[PROC_SWITCHES_INVOL] >= 0);
    assert_true(isnan(a.values[PROC_CPU_UTILIZATION]) && isnan(a.cores));
    assert_int_equal(proc_read_brief(dir, &b), 0);
    assert_true(isnan(b.values[PROC_DESCRIPTORS]) && isnan(b.values[PROC_IO_READ]));
    assert_true(b.values[PROC_THREADS] == 1);
    close(dir);
    close(proc);
}

static void dirty_pages(void) {
    char name[] = "/tmp/pillion-test-XXXXXX";
    int fd = mkstemp(name);
    static char block[1 << 16];

    (void)unlink(name);
    for (int i = 0; i < 16; i++)
        if (write(fd, block, sizeof(block)) < 0)
            _exit(1);
    (void)fsync(fd);
    sleep_long();
}

/* Bytes that are written are counted: to memory (tmpfs) they are 0, to a disk at least as many; never unknown for our own child. */
static void reads_io(void **state) {
    int proc = open_proc(), dir = -1;
    struct proc_reading r;
    pid_t pid = start(dirty_pages);

    (void)state;
    assert_int_equal(proc_open(proc, pid, 0, &dir), 0);
    pause_ms(100);
    assert_int_equal(proc_read(dir, &r), 0);
    if (isnan(r.values[PROC_IO_WRITE]))
        print_message("this kernel does no I/O accounting, or refuses it\n");
    else
        assert_true(r.values[PROC_IO_WRITE] == 0 || r.values[PROC_IO_WRITE] >= 1 << 20);
    finish(pid);
    close(dir);
    close(proc);
}

/* The share of a core in use, against the child's own CPU clock over the same time. */
static void p48_busy_and_idle(void **state) {
    pid_t busy = start(spin), idle = start(sleep_long);
    int proc = open_proc(), b = -1, i = -1;
    struct proc_reading b1, b2, i1, i2;
    struct timespec c1, c2;
    clockid_t clock;
    double want;

    (void)state;
    assert_int_equal(proc_open(proc, busy, 0, &b), 0);
    assert_int_equal(proc_open(proc, idle, 0, &i), 0);
    assert_int_equal(clock_getcpuclockid(busy, &clock), 0);
    (void)clock_gettime(clock, &c1);
    assert_int_equal(proc_read(b, &b1), 0);
    assert_int_equal(proc_read(i, &i1), 0);
    pause_ms(300);
    (void)clock_gettime(clock, &c2);
    assert_int_equal(proc_read(b, &b2), 0);
    assert_int_equal(proc_read(i, &i2), 0);
    proc_rates(&b1, &b2, 2, 0.5);
    proc_rates(&i1, &i2, 2, NAN);
    want = ((double)(c2.tv_sec - c1.tv_sec) + (double)(c2.tv_nsec - c1.tv_nsec) / 1e9) /
           ((double)(b2.mono_ns - b1.mono_ns) / 1e9);
    print_message("busy: %.3f cores, by its own clock %.3f; idle: %.3f\n", b2.cores, want,
                  i2.cores);
    assert_true(fabs(b2.cores - want) < 0.05);
    assert_true(b2.cores > 0.05 && b2.cores < 1.05);
    assert_true(b2.values[PROC_CPU_UTILIZATION] == b2.cores / 2);
    assert_true(b2.values[PROC_CPU_OF_LIMIT] == b2.cores / 0.5);
    assert_true(i2.cores >= 0 && i2.cores < 0.05);
    assert_true(isnan(i2.values[PROC_CPU_OF_LIMIT]));
    /* never across processes, never without a past, never backwards */
    assert_true(b1.cpu_seconds != b1.values[PROC_CPU_USER] + b1.values[PROC_CPU_SYSTEM] ||
                b2.cpu_seconds != b2.values[PROC_CPU_USER] + b2.values[PROC_CPU_SYSTEM]);
    b1.start_ticks--;
    proc_rates(&b1, &b2, 2, 0.5);
    assert_true(isnan(b2.cores) && isnan(b2.values[PROC_CPU_UTILIZATION]));
    b1.start_ticks++;
    proc_rates(NULL, &b2, 2, 0.5);
    assert_true(isnan(b2.cores) && isnan(b2.values[PROC_CPU_UTILIZATION]));
    proc_rates(&b2, &b2, 2, 0.5);
    assert_true(isnan(b2.cores));
    b2.mono_ns++;
    b2.cpu_seconds = b1.cpu_seconds - 1;
    proc_rates(&b1, &b2, 2, 0.5);
    assert_true(b2.cores == 0);
    b2.cpu_seconds = NAN; /* not known is not 0 */
    proc_rates(&b1, &b2, 2, 0.5);
    assert_true(isnan(b2.cores) && isnan(b2.values[PROC_CPU_UTILIZATION]));
    finish(busy);
    finish(idle);
    close(b);
    close(i);
    close(proc);
}

static void ended_and_zombie(void **state) {
    char where[PROC_WHERE_BYTES];
    int proc = open_proc(), dir = -1;
    struct proc_reading r;
    struct proc_identity id;
    pid_t pid = start(end_with_7);
    siginfo_t info;

    (void)state;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(proc_open(proc, pid, 0, &dir), 0);
    assert_int_equal(proc_identity(dir, &id), 0);
    assert_int_equal(id.state, 'Z');
    assert_int_equal(id.exit_status, 7 << 8);
    assert_int_equal(proc_where(dir, where), 0);
    assert_string_equal(where, "zombie");
    assert_int_equal(proc_read(dir, &r), -ESRCH);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(proc_identity(dir, &id), -ESRCH);
    assert_int_equal(proc_read(dir, &r), -ESRCH);
    assert_int_equal(proc_where(dir, where), -ESRCH);
    close(dir);
    assert_int_equal(proc_open(proc, pid, 0, &dir), -ESRCH);
    assert_int_equal(proc_open(proc, 0, 0, &dir), -ESRCH);
    close(proc);
}

static bool set_last_pid(pid_t pid) {
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    char text[16];
    bool ok;

    if (fd < 0)
        return false;
    (void)snprintf(text, sizeof(text), "%ld", (long)pid);
    ok = write(fd, text, strlen(text)) > 0;
    close(fd);
    return ok;
}

#define CANNOT 77

/* The steps, in a pid namespace where nobody else takes pids. Returns 0, CANNOT, or the line that failed. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("line %d: %s\n", __LINE__, #condition);                                    \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int use_pid_again(void) {
    int proc, old = -1, new = -1;
    struct proc_identity first, second;
    struct proc_reading r;
    pid_t pid;

    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("proc", "/proc", "proc", 0, NULL) != 0)
        return CANNOT;
    proc = open_proc();
    pid = start(sleep_long);
    CHECK(proc_open(proc, pid, 0, &old) == 0);
    CHECK(proc_identity(old, &first) == 0);
    pause_ms(30); /* two ticks: within one, two starts could not be told apart */
    finish(pid);
    if (!set_last_pid(pid - 1))
        return CANNOT;
    CHECK(start(sleep_long) == pid);
    CHECK(proc_read(old, &r) == -ESRCH);
    CHECK(proc_identity(old, &second) == -ESRCH);
    CHECK(proc_open(proc, pid, first.start_ticks, &new) == -ESRCH);
    CHECK(proc_open(proc, pid, 0, &new) == 0);
    CHECK(proc_identity(new, &second) == 0);
    CHECK(second.start_ticks != first.start_ticks);
    close(new);
    CHECK(proc_open(proc, pid, second.start_ticks, &new) == 0);
    finish(pid);
    return 0;
}

/* A process ends and its pid is given to another one at once: the old folder stays dead, the old start time fits no more. */
static void p48_pid_used_again(void **state) {
    pid_t outer = fork(), inner;
    int status;

    (void)state;
    if (outer == 0) {
        if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0)
            _exit(CANNOT);
        inner = fork();
        if (inner == 0)
            _exit(use_pid_again());
        if (waitpid(inner, &status, 0) != inner)
            _exit(1);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    assert_int_equal(waitpid(outer, &status, 0), outer);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT) {
        print_message("no pid namespace of our own can be made here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void read_pipe(void) {
    int fds[2];
    char c;

    if (pipe(fds) == 0)
        (void)!read(fds[0], &c, 1);
}

static void expect_where(int proc, pid_t pid, const char *a, const char *b) {
    char where[PROC_WHERE_BYTES] = "";
    int dir = -1;

    assert_int_equal(proc_open(proc, pid, 0, &dir), 0);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(proc_where(dir, where), 0);
        if (strstr(where, a) == where || strstr(where, b) == where)
            break;
        pause_ms(10);
    }
    print_message("%s\n", where);
    assert_true(strstr(where, a) == where || strstr(where, b) == where);
    close(dir);
}

/* `syscall` may be refused (Yama, another user): then the kernel function, and else the bare word. */
static void says_where(void **state) {
    int proc = open_proc();
    pid_t sleeper = start(sleep_long), reader = start(read_pipe), spinner = start(spin);

    (void)state;
    expect_where(proc, sleeper, "in system call clock_nanosleep (", "sleeping");
    expect_where(proc, reader, "in system call read (", "sleeping");
    expect_where(proc, spinner, "running", "running");
    (void)kill(spinner, SIGSTOP);
    expect_where(proc, spinner, "stopped", "stopped");
    finish(sleeper);
    finish(reader);
    finish(spinner);
    close(proc);
}

/* P52: another user's process shows what everybody may see, and the rest as unknown. */
static void p52_not_permitted(void **state) {
    int proc = open_proc(), status;
    pid_t owner, asker;

    (void)state;
    if (geteuid() != 0) {
        print_message("only root can become another user\n");
        close(proc);
        skip();
    }
    owner = start(sleep_long);
    asker = fork();
    if (asker == 0) {
        struct proc_reading r;
        char where[PROC_WHERE_BYTES];
        int dir = -1;

        if (setgid(65534) != 0 || setuid(65534) != 0 || proc_open(proc, owner, 0, &dir) != 0 ||
            proc_read(dir, &r) != 0)
            _exit(1);
        if (!isnan(r.values[PROC_IO_READ]) || !isnan(r.values[PROC_IO_WRITE]))
            _exit(2);
        if (!(r.values[PROC_MEMORY_USAGE] > 0) || !(r.values[PROC_SWITCHES_VOL] >= 0))
            _exit(3);
        if (!isnan(r.values[PROC_DESCRIPTORS]) && !(r.values[PROC_DESCRIPTORS] > 0))
            _exit(4);
        if (proc_where(dir, where) != 0 || strncmp(where, "in system call", 14) == 0)
            _exit(5);
        _exit(0);
    }
    assert_int_equal(waitpid(asker, &status, 0), asker);
    assert_int_equal(status, 0);
    finish(owner);
    close(proc);
}

/* A folder that stands for /proc: files of an older kernel, counted one by one, and no clock of ours is asked. */
static void injected_root(void **state) {
    static const char stat_text[] =
        "1 (old) S 0 1 1 0 -1 0 3 0 2 0 250 50 0 0 20 0 4 0 100 4096000 300 0 0 0 0\n";
    char top[] = "/tmp/pillion-test-XXXXXX", path[128];
    struct proc_reading r;
    int proc, dir = -1, fd;

    (void)state;
    assert_non_null(mkdtemp(top));
    (void)snprintf(path, sizeof(path), "%s/1", top);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/1/fd", top);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/1/fd/%d", top, i);
        fd = open(path, O_CREAT | O_WRONLY, 0600);
        close(fd);
    }
    (void)snprintf(path, sizeof(path), "%s/1/stat", top);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(write(fd, stat_text, strlen(stat_text)) > 0);
    close(fd);
    proc = open(top, O_RDONLY | O_DIRECTORY);
    assert_int_equal(proc_open(proc, 1, 99, &dir), -ESRCH);
    assert_int_equal(proc_open(proc, 2, 0, &dir), -ESRCH);
    assert_int_equal(proc_open(proc, 1, 100, &dir), 0);
    assert_int_equal(proc_read(dir, &r), 0);
    assert_true(r.cpu_seconds == 3);
    assert_true(r.values[PROC_THREADS] == 4);
    if (r.values[PROC_DESCRIPTORS] != 3)
        print_message("descriptors: %g\n", r.values[PROC_DESCRIPTORS]);
    assert_true(r.values[PROC_DESCRIPTORS] == 3);
    assert_true(isnan(r.values[PROC_SWITCHES_VOL]) && isnan(r.values[PROC_IO_READ]));
    close(dir);
    close(proc);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/1/fd/%d", top, i);
        (void)unlink(path);
    }
    (void)snprintf(path, sizeof(path), "%s/1/stat", top);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/1/fd", top);
    (void)rmdir(path);
    (void)snprintf(path, sizeof(path), "%s/1", top);
    (void)rmdir(path);
    (void)rmdir(top);
}

static void layout(void **state) {
    static const char *const keys[PROC_METRICS] = {
#define X(id, key, unit, kind) key,
        PROC_TABLE(X)
#undef X
    };
    struct schema *s = NULL;
    int rc = -1;

    (void)state;
    for (long n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = proc_schema(&s);
        mem_fail_only(0);
        assert_true(rc == 0 || (rc == -ENOMEM && mem_live() == 0));
    }
    assert_int_equal(s->n_slots, PROC_METRICS);
    for (int i = 0; i < PROC_METRICS; i++) {
        assert_string_equal(s->fields[i].key, keys[i]);
        assert_int_equal(s->fields[i].slot, i);
    }
    schema_unref(s);
}

static int no_leak(void **state) {
    (void)state;
    return mem_live() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(format, no_leak),
        cmocka_unit_test_teardown(format_refused, no_leak),
        cmocka_unit_test_teardown(this_process, no_leak),
        cmocka_unit_test_teardown(reads_io, no_leak),
        cmocka_unit_test_teardown(p48_busy_and_idle, no_leak),
        cmocka_unit_test_teardown(ended_and_zombie, no_leak),
        cmocka_unit_test_teardown(p48_pid_used_again, no_leak),
        cmocka_unit_test_teardown(says_where, no_leak),
        cmocka_unit_test_teardown(p52_not_permitted, no_leak),
        cmocka_unit_test_teardown(injected_root, no_leak),
        cmocka_unit_test_teardown(layout, no_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
