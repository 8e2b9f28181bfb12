/* What init tells: lines in pieces, lines that nobody knows, lines that are too long, the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/initfeed.h"

struct heard {
    char text[512];
    int ended;
};

static void note(struct heard *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct heard *h, const char *fmt, ...) {
    size_t n = strlen(h->text);
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(h->text + n, sizeof(h->text) - n, fmt, ap);
    va_end(ap);
}

static void on_exited(void *arg, pid_t pid, uint64_t start, int code, int signum) {
    note(arg, "exit %ld %llu %d %d;", (long)pid, (unsigned long long)start, code, signum);
}

static void on_stopping(void *arg, uint64_t left_ms) {
    note(arg, "stop %llu;", (unsigned long long)left_ms);
}

static void on_ended(void *arg) {
    ((struct heard *)arg)->ended++;
}

static const struct initfeed_callbacks callbacks = {on_exited, on_stopping, on_ended};

static void feed(const char *const *pieces, struct heard *h) {
    struct initfeed f;
    uv_loop_t loop;
    int fds[2];

    *h = (struct heard){0};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(initfeed_start(&f, &loop, fds[0], &callbacks, h), 0);
    for (; *pieces != NULL; pieces++) {
        assert_int_equal(write(fds[1], *pieces, strlen(*pieces)), strlen(*pieces));
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    close(fds[1]);
    while (h->ended == 0)
        (void)uv_run(&loop, UV_RUN_ONCE);
    initfeed_close(&f);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(h->ended, 1);
    assert_int_equal(mem_live(), 0);
}

static void test_lines_in_pieces(void **state) {
    const char *const pieces[] = {"exit 12 34", "5 7 0\nexit 13 0 0 9\nst", "op 9", "000\n", NULL};
    struct heard h;
    (void)state;

    feed(pieces, &h);
    assert_string_equal(h.text, "exit 12 345 7 0;exit 13 0 0 9;stop 9000;");
}

static void test_what_is_not_known_is_skipped(void **state) {
    char longest[400];
    const char *const pieces[] = {"hello\n\nexit 1\n", longest, "\nexit 1 2 3 0\n", NULL};
    struct heard h;
    (void)state;

    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    feed(pieces, &h);
    assert_string_equal(h.text, "exit 1 2 3 0;");
}

static void test_a_descriptor_that_is_none(void **state) {
    struct initfeed f;
    uv_loop_t loop;
    struct heard h = {0};
    (void)state;

    assert_int_equal(uv_loop_init(&loop), 0);
    assert_true(initfeed_start(&f, &loop, 999, &callbacks, &h) < 0);
    initfeed_close(&f);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_in_pieces),
        cmocka_unit_test(test_what_is_not_known_is_skipped),
        cmocka_unit_test(test_a_descriptor_that_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
