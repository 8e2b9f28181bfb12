/* P70: The descriptors of a crowd behind one: all are served, in a burst or alone; who is removed is not called. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "ipc/poller.h"

#define N 40

struct end {
    struct poller_watch watch;
    int here, there;
    unsigned bytes;
    struct end *removes;
};

static struct {
    uv_loop_t loop;
    struct poller *poller;
    struct end ends[N];
    int closed;
} t;

static void on_ready(struct poller_watch *w, uint32_t events) {
    struct end *e = container_of(w, struct end, watch);
    char b[64];
    ssize_t n = recv(e->here, b, sizeof(b), MSG_DONTWAIT);

    assert_true((events & EPOLLIN) != 0);
    e->bytes += n > 0 ? (unsigned)n : 0;
    if (e->removes != NULL)
        poller_remove(t.poller, &e->removes->watch);
}

static int set_up(void **state) {
    int fds[2];
    (void)state;

    memset(&t, 0, sizeof(t));
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_int_equal(poller_new(&t.poller, &t.loop), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        t.ends[i] =
            (struct end){.here = fds[0], .there = fds[1], .watch = {.fd = -1, .ready = on_ready}};
        assert_int_equal(poller_add(t.poller, &t.ends[i].watch, fds[0]), 0);
    }
    return 0;
}

static void on_closed(void *arg) {
    (void)arg;
    t.closed++;
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) {
        poller_remove(t.poller, &t.ends[i].watch);
        close(t.ends[i].here);
        close(t.ends[i].there);
    }
    poller_close(t.poller, on_closed, NULL);
    assert_int_equal(t.closed, 0);
    (void)uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(t.closed, 1);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static void say(int i) {
    assert_int_equal(write(t.ends[i].there, "x", 1), 1);
}

static unsigned all_bytes(void) {
    unsigned sum = 0;

    for (int i = 0; i < N; i++)
        sum += t.ends[i].bytes;
    return sum;
}

/* Wake-ups that follow each other at once make it look at intervals; nothing is lost on the way in, while, and out again. */
static void test_p70_a_crowd_is_served_in_bursts(void **state) {
    unsigned said = 0;
    (void)state;

    for (; said < 2000; said++) {
        say((int)(said % N));
        (void)uv_run(&t.loop, UV_RUN_NOWAIT);
    }
    while (all_bytes() < said)
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    assert_int_equal(all_bytes(), said);
    say(3);
    while (all_bytes() < said + 1)
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    for (int i = 0; i < N; i++)
        assert_true(t.ends[i].bytes >= 2000 / N);
}

static void test_one_removed_in_the_same_burst_is_not_called(void **state) {
    (void)state;
    t.ends[0].removes = &t.ends[1];
    t.ends[1].removes = &t.ends[0];
    say(0);
    say(1);
    (void)uv_run(&t.loop, UV_RUN_NOWAIT);
    (void)uv_run(&t.loop, UV_RUN_NOWAIT);
    assert_int_equal(t.ends[0].bytes + t.ends[1].bytes, 1);
}

static void test_writing_is_watched_on_request(void **state) {
    (void)state;
    poller_want_write(t.poller, &t.ends[0].watch, true);
    poller_want_write(t.poller, &t.ends[0].watch, false);
    (void)uv_run(&t.loop, UV_RUN_NOWAIT); /* on_ready would complain of an event without input */
    assert_int_equal(all_bytes(), 0);
    assert_int_equal(poller_add(t.poller, &(struct poller_watch){.fd = -1}, t.ends[0].here),
                     -EEXIST);
}

static void test_p11_without_memory(void **state) {
    struct poller *p;
    (void)state;
    mem_fail_only(1);
    assert_int_equal(poller_new(&p, &t.loop), -ENOMEM);
    mem_fail_only(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_p70_a_crowd_is_served_in_bursts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_removed_in_the_same_burst_is_not_called, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_writing_is_watched_on_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_p11_without_memory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
