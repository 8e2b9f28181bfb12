/* One line for people on stderr, which is never waited for. stderr is a pipe of this test here. */
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/counters.h"
#include "agent/base/mem.h"

static int pipe_fds[2];
static int old_stderr;

static int redirect(void **state) {
    (void)state;
    old_stderr = dup(STDERR_FILENO);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK), 0);
    assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
    return 0;
}

static int restore(void **state) {
    (void)state;
    (void)dup2(old_stderr, STDERR_FILENO);
    close(old_stderr);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "pillion");
    log_on_warning(NULL, NULL);
    return 0;
}

static const char *written(void) {
    static char text[16384];
    ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_levels(void **state) {
    (void)state;
    log_setup(LOG_LEVEL_WARN, LOG_FORMAT_TEXT, "pillion agent");
    log_info("not wanted");
    log_debug("not wanted");
    assert_string_equal(written(), "");
    assert_false(log_wanted(LOG_LEVEL_INFO));
    log_warn("cannot read %s: %s", "x", "why");
    assert_string_equal(written(), "pillion agent: warning: cannot read x: why\n");
    log_error("gone");
    assert_string_equal(written(), "pillion agent: error: gone\n");
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, "p");
    log_info("ready");
    log_debug("detail");
    assert_string_equal(written(), "p: ready\np: debug: detail\n");
}

static void test_errno_stays(void **state) {
    (void)state;
    errno = EXDEV;
    log_error("x");
    assert_int_equal(errno, EXDEV);
    (void)written();
}

static void test_json(void **state) {
    const char *text;

    (void)state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "pillion agent");
    log_info("say \"hi\" \xff");
    text = written();
    assert_memory_equal(text, "{\"time\":\"20", 11);
    assert_non_null(
        strstr(text, "\"level\":\"info\",\"who\":\"pillion agent\",\"message\":\"say \\\"hi\\\" "
                     "\xef\xbf\xbd\"}\n"));
    assert_int_equal(mem_live(), 0);
}

/* What a worker says gets into lines: it must neither begin a line of its own nor move the cursor. */
static void test_one_line(void **state) {
    (void)state;
    log_info("title \"%s\"", "a\nerror: b\x1b[2J\x7f");
    assert_string_equal(written(), "pillion: title \"a error: b [2J \"\n");
}

static void test_long_lines(void **state) {
    char big[5000];
    const char *text;

    (void)state;
    memset(big, '"', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    log_info("%s", big);
    text = written();
    assert_true(strlen(text) > 1000 && strlen(text) < 1100);
    assert_int_equal(text[strlen(text) - 1], '\n');
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "pillion");
    log_info("%s", big);
    text = written();
    assert_true(strlen(text) > 2000);
    assert_string_equal(text + strlen(text) - 5, "\\\"\"}\n");
    memset(big, 0xff, sizeof(big) - 1); /* three bytes for each */
    log_info("%s", big);
    text = written();
    assert_true(strlen(text) > 3000 && strlen(text) < 4096);
    assert_int_equal(mem_live(), 0);
}

/* P06: a reader that is away does not stop us; what does not fit is counted. */
static void test_full_pipe(void **state) {
    uint64_t before = counter_get(COUNTER_LOG_LINES_DROPPED);
    char kib[1000];

    (void)state;
    memset(kib, 'x', sizeof(kib) - 1);
    kib[sizeof(kib) - 1] = '\0';
    for (int i = 0; i < 200; i++)
        log_info("%s", kib);
    assert_true(counter_get(COUNTER_LOG_LINES_DROPPED) > before + 50);
    while (*written() != '\0')
        ;
    log_info("goes on");
    assert_string_equal(written(), "pillion: goes on\n");
}

/* SIGPIPE is not ignored here: it would end this test. */
static void test_no_reader(void **state) {
    uint64_t before = counter_get(COUNTER_LOG_LINES_DROPPED);

    (void)state;
    (void)signal(SIGPIPE, SIG_DFL);
    close(pipe_fds[0]);
    log_info("nobody");
    assert_int_equal(counter_get(COUNTER_LOG_LINES_DROPPED), before + 1);
    pipe_fds[0] = dup(STDIN_FILENO);
}

static void test_no_memory(void **state) {
    uint64_t before = counter_get(COUNTER_LOG_LINES_DROPPED);

    (void)state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "pillion");
    mem_fail_from(1);
    log_error("no memory");
    mem_fail_from(0);
    assert_string_equal(written(), "");
    assert_int_equal(counter_get(COUNTER_LOG_LINES_DROPPED), before + 1);
    assert_int_equal(mem_live(), 0);
}

static void keep(void *arg, const char *line) {
    (void)snprintf(arg, 64, "%s", line);
}

static void test_warnings_are_told(void **state) {
    char last[64] = "";

    (void)state;
    log_on_warning(keep, last);
    log_info("no");
    assert_string_equal(last, "");
    log_warn("disk %d", 1);
    assert_string_equal(last, "disk 1");
    log_error("disk 2");
    assert_string_equal(last, "disk 2");
    (void)written();
}

static void test_due(void **state) {
    uint64_t last = 0;

    (void)state;
    assert_true(log_due(&last, 3600000));
    assert_false(log_due(&last, 3600000));
    assert_true(log_due(&last, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_levels, redirect, restore),
        cmocka_unit_test_setup_teardown(test_errno_stays, redirect, restore),
        cmocka_unit_test_setup_teardown(test_json, redirect, restore),
        cmocka_unit_test_setup_teardown(test_one_line, redirect, restore),
        cmocka_unit_test_setup_teardown(test_long_lines, redirect, restore),
        cmocka_unit_test_setup_teardown(test_full_pipe, redirect, restore),
        cmocka_unit_test_setup_teardown(test_no_reader, redirect, restore),
        cmocka_unit_test_setup_teardown(test_no_memory, redirect, restore),
        cmocka_unit_test_setup_teardown(test_warnings_are_told, redirect, restore),
        cmocka_unit_test(test_due),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
