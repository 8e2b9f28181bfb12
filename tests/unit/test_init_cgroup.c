/* CPU quota and OOM kills of our own cgroup, from trees of files as v1, v2 and hybrid lay them out; the exit record. */
#include "agent/init/quota.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/base/mem.h"
#include "agent/init/exit_record.h"
#include "agent/init/own_cgroup.h"

static char root[] = "/tmp/pillion-cgroup-XXXXXX";

/* Makes a file and the directories above it. */
static void put(const char *name, const char *text) {
    char path[512];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s%s", root, name);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        (void)mkdir(path, 0755);
        *p = '/';
    }
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
}

static int setup(void **state) {
    (void)state;
    (void)memcpy(root + strlen(root) - 6, "XXXXXX", 6);
    return mkdtemp(root) == NULL;
}

static void sweep(const char *dir) {
    const char *argv[] = {"rm", "-rf", dir, NULL};
    pid_t pid = fork();

    if (pid == 0) {
        execvp("rm", (char *const *)argv);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int teardown(void **state) {
    (void)state;
    sweep(root);
    return 0;
}

static void test_v2(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/a/b\n");
    assert_int_equal(quota_cpus(root, 8), 8); /* nothing there */
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/a/b/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n");
    assert_int_equal(quota_cpus(root, 8), 8);
    assert_int_equal(exit_record_oom_kills(root), 2);
    put("/sys/fs/cgroup/a/b/cpu.max", "350000 100000\n");
    assert_int_equal(quota_cpus(root, 8), 3);
    assert_int_equal(quota_cpus(root, 2), 2);
    put("/sys/fs/cgroup/a/cpu.max", "50000 100000\n"); /* the one above is tighter */
    assert_int_equal(quota_cpus(root, 8), 1);
}

static void test_v2_private_namespace(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_int_equal(quota_cpus(root, 8), 2);
    put("/proc/self/cgroup", "0::/../../outside\n");
    assert_int_equal(quota_cpus(root, 8), 2);
    put("/proc/self/cgroup", "0::/of/the/host\n");
    assert_int_equal(quota_cpus(root, 8), 2);
}

static void test_v1(void **state) {
    (void)state;
    put("/proc/self/cgroup",
        "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n0::/\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota_cpus(root, 4), 4);
    put("/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(quota_cpus(root, 4), 2);
    put("/sys/fs/cgroup/memory/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
    assert_int_equal(exit_record_oom_kills(root), 7); /* the mount alone: the path is the host's */
}

static void test_hybrid_and_nonsense(void **state) {
    (void)state;
    put("/proc/self/cgroup", "nonsense\n:\n0::/\n3:cpuset,cpufoo,cpu:/\n");
    put("/sys/fs/cgroup/unified/cgroup.procs", "");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "junk");
    assert_int_equal(quota_cpus(root, 4), 4);
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "99999\n");
    assert_int_equal(quota_cpus(root, 4), 4); /* no period */
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota_cpus(root, 4), 1);
    assert_int_equal(exit_record_oom_kills(root), -1);
    assert_int_equal(exit_record_oom_kills("/no/such/root"), -1);
    assert_true(quota_cpus("/no/such/root", 0) >= 1);
}

static void test_record(void **state) {
    struct exit_record r = {
        .wall_ms = 0, .app_pid = 7, .code = 3, .oom_kills = -1, .helper_restarts = 2};
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    exit_record_format(&r, &b);
    assert_string_equal(
        b.data, "{\"time\":\"1970-01-01T00:00:00.000Z\",\"app_pid\":7,\"code\":3,\"signal\":null,"
                "\"oom_kills\":null,"
                "\"peak_rss_bytes\":0,\"helper_restarts\":2,\"last_signal_received\":null}\n");
    buf_reset(&b);
    r.sig = 9;
    r.oom_kills = 1;
    r.last_signal = 15;
    exit_record_format(&r, &b);
    assert_non_null(strstr(b.data, "\"code\":null,\"signal\":9,\"oom_kills\":1,"));
    assert_non_null(strstr(b.data, "\"last_signal_received\":15}"));
    buf_clear(&b);
    exit_record_write(&r, "/proc/no/such/place"); /* best effort */
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_v2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_v2_private_namespace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_v1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hybrid_and_nonsense, setup, teardown),
        cmocka_unit_test(test_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
