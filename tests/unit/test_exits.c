/* test_exits.c - collectors/exits: the cause from every combination of evidence that matters, and real processes that end in
 * every way, seen by pidfd and as a zombie. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "collectors/exits.h"
#include "collectors/proc.h"

#define SIGNALED(s)  (s)
#define EXITED(code) ((code) << 8)

static struct exit_evidence nothing(void) {
    struct exit_evidence e;

    exits_evidence_init(&e);
    return e;
}

static void expect(const struct exit_evidence *e, enum exit_kind kind, enum exit_confidence sure,
                   const char *source, const char *text) {
    struct exit_cause c;

    exits_cause(e, &c);
    assert_string_equal(c.text, text);
    assert_string_equal(exit_kind_name(c.kind), exit_kind_name(kind));
    assert_string_equal(exit_confidence_name(c.confidence), exit_confidence_name(sure));
    assert_string_equal(c.source, source);
    assert_int_equal(c.oom, kind == EXIT_KIND_OOM_KILL);
    assert_true(c.code >= 0 || c.signal > 0 || kind == EXIT_KIND_UNKNOWN);
    assert_false(c.code >= 0 && c.signal > 0);
}

static void p31_unknown_is_unknown(void **state) {
    struct exit_evidence e = nothing();

    (void)state;
    expect(&e, EXIT_KIND_UNKNOWN, EXIT_NOT_KNOWN, "none", "ended, and nobody can say how");
    e.oom_kills = 1; /* still not said to be this one's cause */
    expect(&e, EXIT_KIND_UNKNOWN, EXIT_NOT_KNOWN, "none",
           "ended, and nobody can say how; the OOM killer killed a process of this container at "
           "that time");
}

static void p31_codes(void **state) {
    struct exit_evidence e = nothing();

    (void)state;
    e.has_worker = true;
    e.worker_code = 0;
    expect(&e, EXIT_KIND_CODE, EXIT_LIKELY, "worker",
           "exit code 0, as it said itself before it ended");
    e.has_init = true;
    e.init_status = EXITED(0);
    expect(&e, EXIT_KIND_CODE, EXIT_CERTAIN, "init", "exit code 0");
    e = nothing();
    e.has_parent = true;
    e.parent_code = 3;
    expect(&e, EXIT_KIND_CODE, EXIT_REPORTED, "parent", "exit code 3");
    e.has_zombie = true;
    e.zombie_status = EXITED(4);
    expect(&e, EXIT_KIND_CODE, EXIT_CERTAIN, "proc", "exit code 4");
    e.has_pidfd = true;
    e.pidfd_status = EXITED(5);
    expect(&e, EXIT_KIND_CODE, EXIT_CERTAIN, "pidfd", "exit code 5");
}

static void p31_exceptions(void **state) {
    struct exit_evidence e = nothing();

    (void)state;
    e.has_worker = true;
    e.worker_code = 1;
    (void)snprintf(e.worker_reason, sizeof(e.worker_reason), "uncaughtException");
    expect(&e, EXIT_KIND_EXCEPTION, EXIT_LIKELY, "worker", "exit code 1 after uncaughtException");
    (void)snprintf(e.worker_message, sizeof(e.worker_message), "x is not a function");
    e.has_pidfd = true;
    e.pidfd_status = EXITED(1);
    expect(&e, EXIT_KIND_EXCEPTION, EXIT_CERTAIN, "pidfd",
           "exit code 1 after uncaughtException: x is not a function");
    /* its last words do not fit what the kernel saw */
    e.pidfd_status = EXITED(7);
    expect(&e, EXIT_KIND_CODE, EXIT_CERTAIN, "pidfd", "exit code 7");
    e.pidfd_status = SIGNALED(SIGSEGV) | 0x80;
    expect(&e, EXIT_KIND_CRASH, EXIT_CERTAIN, "pidfd", "crashed by SIGSEGV, core dumped");
    /* the longest message fits, or is cut, and ends */
    memset(e.worker_message, 'm', sizeof(e.worker_message) - 1);
    e.pidfd_status = EXITED(1);
    {
        struct exit_cause c;

        exits_cause(&e, &c);
        assert_true(strlen(c.text) < sizeof(c.text));
    }
}

static void p31_signals(void **state) {
    struct exit_evidence e = nothing();

    (void)state;
    e.has_parent = true;
    e.parent_code = -1;
    e.parent_signal = SIGTERM;
    expect(&e, EXIT_KIND_SIGNAL, EXIT_REPORTED, "parent", "killed by SIGTERM");
    e.parent_signal = 42;
    expect(&e, EXIT_KIND_SIGNAL, EXIT_REPORTED, "parent", "killed by signal 42");
    e = nothing();
    e.has_init = true;
    e.init_status = SIGNALED(SIGABRT);
    expect(&e, EXIT_KIND_ABORT, EXIT_CERTAIN, "init", "aborted by SIGABRT");
    e.heap_share = 0.985;
    expect(&e, EXIT_KIND_ABORT, EXIT_CERTAIN, "init",
           "aborted by SIGABRT; its JavaScript heap was at 98 % of its limit");
    e.init_status = SIGNALED(SIGTRAP);
    e.heap_share = 0.5;
    expect(&e, EXIT_KIND_ABORT, EXIT_CERTAIN, "init", "aborted by SIGTRAP");
}

static void p31_out_of_memory(void **state) {
    struct exit_evidence e = nothing();

    (void)state;
    e.has_pidfd = true;
    e.pidfd_status = SIGNALED(SIGKILL);
    expect(&e, EXIT_KIND_SIGNAL, EXIT_CERTAIN, "pidfd",
           "killed by SIGKILL"); /* counter not known */
    e.oom_kills = 0;
    expect(&e, EXIT_KIND_SIGNAL, EXIT_CERTAIN, "pidfd", "killed by SIGKILL");
    e.oom_kills = 1;
    expect(&e, EXIT_KIND_OOM_KILL, EXIT_CERTAIN, "pidfd",
           "killed by SIGKILL (out of memory: the kernel's OOM killer)");
    e.memory_limit = 256 << 20;
    expect(&e, EXIT_KIND_OOM_KILL, EXIT_CERTAIN, "pidfd",
           "killed by SIGKILL (out of memory: the container's limit of 256MiB)");
    e.killed_beside = 1; /* two were killed, the kernel counted one */
    expect(&e, EXIT_KIND_OOM_KILL, EXIT_LIKELY, "pidfd",
           "killed by SIGKILL (out of memory: the container's limit of 256MiB); likely, others "
           "were killed at the same time");
    e.oom_kills = 2;
    expect(&e, EXIT_KIND_OOM_KILL, EXIT_CERTAIN, "pidfd",
           "killed by SIGKILL (out of memory: the container's limit of 256MiB)");
    e.oom_kills = 1;
    e.oom_group = true;
    expect(&e, EXIT_KIND_OOM_KILL, EXIT_CERTAIN, "pidfd",
           "killed by SIGKILL (out of memory: the container's limit of 256MiB)");
    /* another signal at the time of an OOM kill is no OOM kill; nor is an exit code, also not a shell's 137 */
    e.pidfd_status = SIGNALED(SIGTERM);
    expect(&e, EXIT_KIND_SIGNAL, EXIT_CERTAIN, "pidfd", "killed by SIGTERM");
    e.pidfd_status = EXITED(137);
    expect(&e, EXIT_KIND_CODE, EXIT_CERTAIN, "pidfd", "exit code 137");
}

/* Ends in one of the ways; never leaves a core behind. */
static pid_t start(int way) {
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &none);
        if (way < 1000)
            _exit(way);
        (void)signal(way - 1000, SIG_DFL);
        (void)raise(way - 1000);
        _exit(0);
    }
    return pid;
}

static void real_processes(void **state) {
    static const int ways[] = {
        0, 1, 255, 1000 + SIGKILL, 1000 + SIGABRT, 1000 + SIGTERM, 1000 + SIGSEGV, 1000 + SIGTRAP};
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), by_pidfd = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        pid_t pid = start(ways[i]);
        int pidfd = exits_pidfd(pid), dir = -1, zombie = -1, kept = -1, status, rc;
        siginfo_t info;

        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(proc_open(proc, pid, 0, &dir), 0);
        assert_int_equal(exits_from_zombie(dir, &zombie), 0);
        if (pidfd >= 0) {
            rc = exits_from_pidfd(pidfd, &kept);
            assert_true(rc == -EAGAIN || rc == -ENOTSUP);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(zombie, status);
        assert_int_equal(exits_from_zombie(dir, &zombie), -ESRCH);
        rc = pidfd >= 0 ? exits_from_pidfd(pidfd, &kept) : -ENOTSUP;
        if (rc == 0) {
            assert_int_equal(kept, status);
            by_pidfd++;
        } else {
            assert_int_equal(rc, -ENOTSUP);
        }
        close(dir);
        if (pidfd >= 0)
            close(pidfd);
    }
    if (by_pidfd == 0)
        print_message(
            "this kernel does not keep the status of reaped processes (before Linux 6.15)\n");
    close(proc);
}

static void live_processes(void **state) {
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), dir = -1, status = 4242;
    int pidfd = exits_pidfd(getpid()), rc;

    (void)state;
    assert_int_equal(proc_open(proc, getpid(), 0, &dir), 0);
    assert_int_equal(exits_from_zombie(dir, &status), -EAGAIN);
    if (pidfd >= 0) {
        rc = exits_from_pidfd(pidfd, &status);
        assert_true(rc == -EAGAIN || rc == -ENOTSUP);
        close(pidfd);
    }
    assert_true(exits_from_pidfd(proc, &status) < 0); /* no pidfd at all */
    assert_true(exits_from_pidfd(-1, &status) == -EBADF);
    assert_int_equal(status, 4242);
    assert_true(exits_pidfd(0x3fffffff) < 0);
    close(dir);
    close(proc);
}

/* The kernel shows a 0 to those who may not know: that is no exit code 0. */
static void not_permitted(void **state) {
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), status;
    siginfo_t info;
    pid_t pid, asker;

    (void)state;
    if (geteuid() != 0) {
        close(proc);
        print_message("only root can become another user\n");
        skip();
    }
    pid = start(0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    asker = fork();
    if (asker == 0) {
        int dir = -1, zombie;

        if (setgid(65534) != 0 || setuid(65534) != 0 || proc_open(proc, pid, 0, &dir) != 0)
            _exit(1);
        _exit(exits_from_zombie(dir, &zombie) == -EACCES ? 0 : 2);
    }
    assert_int_equal(waitpid(asker, &status, 0), asker);
    assert_int_equal(status, 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(proc);
}

static int no_leak(void **state) {
    (void)state;
    return mem_live() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(p31_unknown_is_unknown, no_leak),
        cmocka_unit_test_teardown(p31_codes, no_leak),
        cmocka_unit_test_teardown(p31_exceptions, no_leak),
        cmocka_unit_test_teardown(p31_signals, no_leak),
        cmocka_unit_test_teardown(p31_out_of_memory, no_leak),
        cmocka_unit_test_teardown(real_processes, no_leak),
        cmocka_unit_test_teardown(live_processes, no_leak),
        cmocka_unit_test_teardown(not_permitted, no_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
