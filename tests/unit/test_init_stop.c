/* Children, the way to the end with real processes and a clock of our own, the helper's back-off, the exit feed. */
#include "agent/init/stop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/init/exit_feed.h"
#include "agent/init/helper.h"

static void test_stat(void **state) {
    struct process_stat st;

    (void)state;
    assert_int_equal(
        process_parse_stat("12 (a) b) S 7 12 12 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 4242 1 2\n",
                           &st),
        0);
    assert_int_equal(st.pid, 12);
    assert_int_equal(st.ppid, 7);
    assert_int_equal(st.state, 'S');
    assert_int_equal(st.start_ticks, 4242);
    assert_int_equal(process_parse_stat("", &st), -EINVAL);
    assert_int_equal(process_parse_stat("12 (x", &st), -EINVAL);
    assert_int_equal(process_parse_stat("12 (x) S 1 2 3", &st), -EINVAL);
    assert_int_equal(process_read_stat(getpid(), &st), 0);
    assert_int_equal(st.ppid, getppid());
    assert_true(st.start_ticks > 0);
}

static void test_pids(void **state) {
    struct pids p = {0};

    (void)state;
    for (pid_t i = 0; i < 1000; i++)
        assert_int_equal(pids_add(&p, 1 + i * 7919 % 1000), 0);
    for (pid_t i = 1; i <= 1000; i++)
        assert_true(pids_have(&p, i));
    assert_int_equal(pids_add(&p, 500), -EEXIST);
    pids_remove(&p, 500);
    pids_remove(&p, 5000);
    assert_false(pids_have(&p, 500));
    assert_int_equal(p.n, 999);
    pids_clear(&p);
    mem_fail_only(1);
    assert_int_equal(pids_add(&p, 1), -ENOMEM);
    mem_fail_only(0);
    pids_clear(&p);
    assert_int_equal(mem_live(), 0);
}

/* A child that counts SIGTERMs in its exit code and ends on the `end`th; 0: never. */
static pid_t child(int end) {
    sigset_t set;
    pid_t pid;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int n = 1;; n++) {
            (void)sigwaitinfo(&set, NULL);
            if (n == end)
                _exit(n);
        }
    }
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    return pid;
}

static int wait_status(pid_t pid) {
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_children_left(void **state) {
    pid_t a, b;

    (void)state;
    assert_false(children_left(0));
    a = child(1);
    assert_true(children_left(0));
    assert_false(children_left(a));
    b = child(1);
    assert_true(children_left(a));
    (void)kill(a, SIGTERM);
    (void)kill(b, SIGTERM);
    (void)wait_status(a);
    (void)wait_status(b);
    assert_false(children_left(0));
}

static void test_stop_in_order(void **state) {
    struct stop s;
    pid_t helper = child(1), app = child(1), orphan = child(1), stubborn = child(0);

    (void)state;
    stop_init(&s, 10000);
    assert_true(stop_next(&s) == STOP_NEVER);
    stop_ask(&s, 1000);
    stop_ask(&s, 5000); /* the clock starts once */
    assert_true(stop_next(&s) == 10000);
    stop_step(&s, helper, 1000);
    assert_int_equal(s.phase, STOP_ASKED);
    (void)kill(app, SIGTERM);
    (void)wait_status(app);
    stop_main_gone(&s, 1500);
    stop_step(&s, helper, 1500);
    stop_step(&s, helper, 1600); /* nobody is told twice */
    assert_int_equal(WEXITSTATUS(wait_status(orphan)), 1);
    pids_remove(&s.told, orphan);
    assert_int_equal(kill(stubborn, 0), 0);
    stop_step(&s, helper, 9999);
    assert_int_equal(waitpid(stubborn, NULL, WNOHANG), 0);
    stop_step(&s, helper, 10000);
    assert_int_equal(WTERMSIG(wait_status(stubborn)), SIGKILL);
    pids_remove(&s.told, stubborn);
    assert_int_equal(waitpid(helper, NULL, WNOHANG), 0);
    stop_step(&s, helper, 10001);
    assert_int_equal(s.phase, STOP_FLUSH);
    assert_true(stop_next(&s) == 11000);
    assert_int_equal(WEXITSTATUS(wait_status(helper)), 1);
    stop_step(&s, 0, 10002);
    assert_int_equal(s.phase, STOP_DONE);
    stop_clear(&s);
    assert_int_equal(mem_live(), 0);
}

static void test_stop_main_first(void **state) {
    struct stop s;
    pid_t helper = child(0);

    (void)state;
    stop_init(&s, 1000);
    stop_hint(&s, 100); /* SIGINT, which is its container's stop signal */
    stop_main_gone(&s, 400);
    assert_true(stop_next(&s) == 600);
    stop_step(&s, helper, 400);
    assert_int_equal(s.phase, STOP_FLUSH);
    stop_step(&s, helper, 1099);
    assert_int_equal(s.phase, STOP_FLUSH);
    stop_step(&s, helper, 1100);
    assert_int_equal(s.phase, STOP_DONE);
    assert_int_equal(WTERMSIG(wait_status(helper)), SIGKILL);
    stop_clear(&s);

    stop_init(&s, 10000);
    stop_hint(&s, 100); /* long ago: the end now has nothing to do with it */
    stop_main_gone(&s, 20000);
    assert_true(stop_next(&s) == 29000);
    stop_step(&s, 0, 20000);
    assert_int_equal(s.phase, STOP_DONE);
    stop_clear(&s);
    assert_int_equal(mem_live(), 0);
}

/* Both deadlines are over when we wake up, because we stood still ourselves: killed all the same, and the helper told. */
static void test_stop_late(void **state) {
    struct stop s;
    pid_t helper = child(1), stubborn = child(0);

    (void)state;
    stop_init(&s, 10000);
    stop_main_gone(&s, 0);
    stop_step(&s, helper, 0);
    stop_step(&s, helper, 60000);
    assert_int_equal(WTERMSIG(wait_status(stubborn)), SIGKILL);
    stop_step(&s, helper, 60001);
    assert_int_equal(s.phase, STOP_FLUSH);
    assert_int_equal(WEXITSTATUS(wait_status(helper)), 1);
    stop_step(&s, 0, 60002);
    assert_int_equal(s.phase, STOP_DONE);
    stop_clear(&s);
    assert_int_equal(mem_live(), 0);
}

static void test_stop_group(void **state) {
    struct stop s;
    pid_t told = child(2), other = child(1);

    (void)state;
    assert_int_equal(setpgid(told, told), 0);
    stop_init(&s, 10000);
    s.group = told; /* as a whole, by -g */
    stop_main_gone(&s, 1);
    stop_step(&s, 0, 1);
    assert_int_equal(WEXITSTATUS(wait_status(other)), 1);
    (void)kill(told, SIGTERM); /* its first */
    assert_int_equal(waitpid(told, NULL, WNOHANG), 0);
    (void)kill(told, SIGKILL);
    (void)wait_status(told);
    stop_clear(&s);
}

static void test_backoff(void **state) {
    (void)state;
    assert_int_equal(helper_backoff_ms(1, true), 0);
    assert_int_equal(helper_backoff_ms(2, true), 100);
    assert_int_equal(helper_backoff_ms(3, true), 200);
    assert_int_equal(helper_backoff_ms(4, true), HELPER_SIGNAL_MOST_MS);
    assert_int_equal(helper_backoff_ms(100, true), HELPER_SIGNAL_MOST_MS);
    assert_int_equal(helper_backoff_ms(1000000, true), HELPER_BACKOFF_MOST_MS);
    assert_int_equal(helper_backoff_ms(5, false), 800);
    assert_int_equal(helper_backoff_ms(50, false), HELPER_BACKOFF_MOST_MS);
}

static void test_helper_life(void **state) {
    const char *const env[] = {"A=b", "PILLION_INIT_FD=9", NULL};
    struct helper h;
    int rc = -ENOMEM;

    (void)state;
    for (long n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = helper_init(&h, (char *const *)env);
        mem_fail_only(0);
    }
    assert_string_equal(h.env[1], "PILLION_INIT_FD=3");
    assert_null(h.env[2]);
    h.pid = 5, h.started_ms = 1000;
    helper_exited(&h, 0, SIGKILL, false, 60000);
    assert_true(h.pid == 0 && h.start_at == 60000); /* at once: it had lived */
    h.pid = 6, h.started_ms = 60000;
    helper_exited(&h, 1, 0, false, 60010);
    assert_true(h.start_at == 60110);
    helper_no_more(&h);
    h.pid = 7;
    helper_exited(&h, 78, 0, false, 60020); /* bad configuration */
    assert_true(h.start_at == HELPER_NEVER);
    h.pid = 8;
    helper_exited(&h, 69, 0, false, 60020); /* another one has the directory */
    assert_true(h.start_at == HELPER_NEVER);
    h.pid = 9;
    helper_exited(&h, 0, SIGKILL, true, 60020);
    assert_true(h.start_at == HELPER_NEVER);
    helper_clear(&h);
    assert_int_equal(mem_live(), 0);
}

static void test_feed(void **state) {
    struct exit_feed f;
    char text[256];
    ssize_t n;

    (void)state;
    assert_int_equal(exit_feed_open(&f), 0);
    exit_feed_exit(&f, 12, 34567, 3, 0);
    exit_feed_exit(&f, 13, 0, 0, 9);
    exit_feed_stop(&f, 10000);
    n = read(f.readfd, text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_string_equal(text, "exit 12 34567 3 0\nexit 13 0 0 9\nstop 10000\n");
    for (int i = 0; i < 100000 && !f.full; i++) /* nobody reads: never blocks */
        exit_feed_exit(&f, i, 1, 0, 0);
    assert_true(f.full);
    exit_feed_close(&f);
    exit_feed_exit(&f, 1, 1, 1, 1); /* closed: nothing happens */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_pids),
        cmocka_unit_test(test_children_left),
        cmocka_unit_test(test_stop_in_order),
        cmocka_unit_test(test_stop_main_first),
        cmocka_unit_test(test_stop_group),
        cmocka_unit_test(test_stop_late),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_helper_life),
        cmocka_unit_test(test_feed),
    };

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test"); /* what is said here is not for people */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
