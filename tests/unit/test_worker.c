/* One connection of a worker, with real sockets and a real loop: good ones, hostile ones, those that are sent away. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/server_fixture.h"

/* --- good workers -------------------------------------------------------------------------------------------------------- */

static void test_conversation(void **state) {
    static const char exit_event[] = "{\"event\":\"exit\",\"code\":3}";
    static const char unknown_event[] = "{\"event\":\"later_version\"}";
    uint64_t unknown = counter_get(COUNTER_FRAMES_UNKNOWN);
    char payload[512];
    uint8_t frame[256];
    struct pollfd alive;
    int fd = connect_peer();

    (void)state;
    say_hello(fd);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_WELCOME);
    assert_string_equal(payload, "{\"protocol\":1,\"interval_ms\":1000,\"beat_ms\":0,"
                                 "\"hold_bytes\":1,\"stored\":0}");
    assert_int_equal(t.last_peer.uid, geteuid());
    assert_int_equal(t.last_peer.pid, getpid());
    alive = (struct pollfd){.fd = t.last_peer.pidfd, .events = POLLIN};
    assert_true(t.last_peer.pidfd >= 0);
    assert_int_equal(poll(&alive, 1, 0), 0); /* a pidfd of somebody who lives */

    still_streams(fd, 5);
    assert_true(t.last_clock == 10.5);
    for (int i = 0; i < PEER_SLOTS; i++)
        assert_true(t.last_slots[i] == i + 1);
    assert_int_equal(ipc_worker_ack(t.last_worker, 5), 0);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_ACK);
    assert_true(frame_get_u64((uint8_t *)payload) == 5);

    put(fd, frame, peer_frame(frame, FRAME_BEAT, "\0\0\0\0\0\0\0\0", 8));
    put(fd, frame, peer_frame(frame, 0x55, "?", 1));
    put(fd, frame, peer_frame(frame, FRAME_EVENT, unknown_event, sizeof(unknown_event) - 1));
    put(fd, frame, peer_frame(frame, FRAME_EVENT, exit_event, sizeof(exit_event) - 1));
    UNTIL(t.events == 1);
    assert_int_equal(t.beats, 1);
    assert_int_equal(t.last_event.code, 3);
    assert_int_equal(counter_get(COUNTER_FRAMES_UNKNOWN), unknown + 1);
    (void)close(fd);
    UNTIL(t.closed == 1);
    assert_null(t.last_error);
}

static void test_ack_given_with_the_hello(void **state) {
    char payload[512];
    int fd = connect_peer();

    (void)state;
    t.ack_in_hello = true;
    say_hello(fd);
    assert_int_equal(get(fd, payload, sizeof(payload)),
                     FRAME_WELCOME); /* first, as it is written */
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_ACK);
    assert_true(frame_get_u64((uint8_t *)payload) == 77);
    (void)close(fd);
    UNTIL(t.closed == 1);
}

static void test_order_and_answer(void **state) {
    static const char order[] = "{\"order\":5,\"action\":\"stack\"}";
    static const char answer[] = "{\"order\":5,\"stack\":[]}";
    static const char long_order[FRAME_PAYLOAD_BYTES + 1];
    uint8_t frame[256];
    char payload[512];
    int fd = good_worker();

    (void)state;
    assert_int_equal(ipc_worker_order(t.last_worker, order, sizeof(order) - 1), 0);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_ORDER);
    assert_string_equal(payload, order);
    assert_int_equal(ipc_worker_order(t.last_worker, order, 0), -EMSGSIZE);
    assert_int_equal(ipc_worker_order(t.last_worker, long_order, sizeof(long_order)), -EMSGSIZE);
    put(fd, frame, peer_frame(frame, FRAME_ANSWER, answer, sizeof(answer) - 1));
    UNTIL(t.answers == 1);
    assert_int_equal(t.last_order, 5);
    assert_string_equal(t.last_answer, answer);
    put(fd, frame, peer_frame(frame, FRAME_ANSWER, "{\"order\":0}", 11));
    UNTIL(t.closed == 1);
    assert_non_null(t.last_error);
    assert_int_equal(t.answers, 1);
    (void)close(fd);
}

/* A peer that does not read: what is queued is bounded, and what was queued comes whole and in order. */
static void test_orders_to_one_that_does_not_read(void **state) {
    static char order[1024], payload[2048];
    unsigned given = 0, got = 0;
    int fd = good_worker(), rc, len;

    (void)state;
    do {
        len = snprintf(order, sizeof(order), "{\"order\":%u,\"pad\":\"%0900d\"}", given + 1, 0);
        rc = ipc_worker_order(t.last_worker, order, (size_t)len);
        given += rc == 0;
    } while (rc == 0 && given < 10000);
    assert_int_equal(rc, -EAGAIN);
    while (got < given) {
        char want[32];

        assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_ORDER);
        (void)snprintf(want, sizeof(want), "{\"order\":%u,", ++got);
        assert_memory_equal(payload, want, strlen(want));
    }
    assert_int_equal(ipc_worker_order(t.last_worker, order, (size_t)len), 0);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_ORDER);
    (void)close(fd);
    UNTIL(t.closed == 1);
}

static void test_values(void **state) {
    const double in[PEER_SLOTS] = {-1, -1, INFINITY, -1, NAN, -INFINITY};
    uint64_t before = counter_get(COUNTER_VALUES_REFUSED);
    uint8_t frame[256];
    int fd = good_worker();

    (void)state;
    put(fd, frame, peer_sample(frame, 1, 0, in, PEER_SLOTS));
    UNTIL(t.samples == 1);
    assert_true(t.last_slots[0] == -1); /* a gauge may be */
    for (int i = 1; i < PEER_SLOTS; i++)
        assert_true(isnan(t.last_slots[i]));
    assert_int_equal(counter_get(COUNTER_VALUES_REFUSED), before + 4);
    (void)close(fd);
    UNTIL(t.closed == 1);
}

/* The kernel's pid is the one that counts; what is claimed is passed on beside it. */
static void test_p61_claimed_pid(void **state) {
    uint8_t frame[1024];
    char payload[512];
    int fd = connect_peer();

    (void)state;
    put(fd, frame, peer_hello(frame, sizeof(frame), 1));
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_WELCOME);
    assert_int_equal(t.last_claim, 1);
    assert_int_equal(t.last_peer.pid, getpid());
    (void)close(fd);
    UNTIL(t.closed == 1);
}

/* A process that ends has acks unread, for which the kernel breaks the connection: what it said before must not be lost. */
static void test_last_words(void **state) {
    int fd = good_worker();

    (void)state;
    assert_int_equal(ipc_worker_ack(t.last_worker, 1), 0);
    for (uint64_t i = 1; i <= 200; i++) /* what a socket holds: nobody reads meanwhile */
        send_sample(fd, i);
    (void)close(fd);
    UNTIL(t.closed == 1);
    assert_int_equal(t.samples, 200);
    assert_null(t.last_error);
}

static void test_peer_that_does_not_read(void **state) {
    uint64_t last = 0, number = 100000;
    char payload[512];
    long live;
    int fd = good_worker();

    (void)state;
    for (uint64_t i = 1; i < 5000; i++)
        assert_int_equal(ipc_worker_ack(t.last_worker, i), 0);
    live = mem_live();
    for (uint64_t i = 5000; i <= number; i++)
        assert_int_equal(ipc_worker_ack(t.last_worker, i), 0);
    assert_int_equal(mem_live(), live); /* however many wait */
    still_streams(fd, 1);
    while (last < number) {
        assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_ACK);
        assert_true(frame_get_u64((uint8_t *)payload) > last);
        last = frame_get_u64((uint8_t *)payload);
    }
    (void)close(fd);
    UNTIL(t.closed == 1);
}

static void test_p71_300_at_once(void **state) {
    char payload[512];
    int fds[300];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_peer();
        say_hello(fds[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        assert_int_equal(get(fds[i], payload, sizeof(payload)), FRAME_WELCOME);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    UNTIL(t.closed == ARRAY_LEN(fds));
}

/* --- sent away ----------------------------------------------------------------------------------------------------------- */

static void test_sent_away(void **state) {
    uint64_t later = counter_get(COUNTER_WORKERS_LATER);
    uint64_t refused = counter_get(COUNTER_WORKERS_REFUSED_HELLO);
    uint8_t frame[256];
    char payload[512];
    int fd = connect_peer();

    (void)state;
    t.hello_rc = -EAGAIN;
    say_hello(fd);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_LATER);
    assert_non_null(strstr(payload, "\"reason\":\"because\""));
    UNTIL(has_ended(fd));
    (void)close(fd);
    fd = connect_peer();
    t.hello_rc = -EPERM;
    say_hello(fd);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_REFUSED);
    assert_string_equal(payload, "{\"reason\":\"because\"}");
    UNTIL(has_ended(fd));
    (void)close(fd);
    fd = connect_peer();
    put(fd, frame, peer_frame(frame, FRAME_HELLO, "{\"protocol\":[9]}", 16));
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_REFUSED);
    assert_non_null(strstr(payload, "protocol: version 1 is accepted"));
    UNTIL(has_ended(fd));
    (void)close(fd);
    assert_int_equal(counter_get(COUNTER_WORKERS_LATER), later + 1);
    assert_int_equal(counter_get(COUNTER_WORKERS_REFUSED_HELLO), refused + 2);
    assert_int_equal(t.closed, 0);
}

/* --- hostile frames ------------------------------------------------------------------------------------------------------ */

static void deep_json(uint8_t *payload, size_t len) {
    for (size_t i = 0; i < len; i++)
        payload[i] = i < len / 2 ? '[' : ']';
}

/* After its hello, or instead of it. Closed and counted; the neighbour is not touched. */
static void is_closed(int neighbour, bool after_hello, const void *bytes, size_t len) {
    uint64_t before = counter_get(COUNTER_WORKERS_CLOSED_PROTOCOL);
    unsigned closed = t.closed;
    int fd = after_hello ? good_worker() : connect_peer();

    put(fd, bytes, len);
    UNTIL(counter_get(COUNTER_WORKERS_CLOSED_PROTOCOL) == before + 1);
    UNTIL(has_ended(fd));
    UNTIL(t.closed == closed + (after_hello ? 1 : 0));
    if (after_hello)
        assert_non_null(t.last_error);
    (void)close(fd);
    still_streams(neighbour, before + 1);
}

static void test_p61_hostile_frames(void **state) {
    static const uint32_t lengths[] = {0, 65529, 0x80000000u, 0xffffffffu};
    static uint8_t frame[LIMIT_FRAME_BYTES];
    double slots[PEER_SLOTS + 1] = {0};
    int neighbour = good_worker();
    size_t n;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        frame_put_header(frame, FRAME_SAMPLE, lengths[i]);
        is_closed(neighbour, false, frame, FRAME_HEADER_BYTES);
        is_closed(neighbour, true, frame, FRAME_HEADER_BYTES);
    }
    for (size_t k = PEER_SLOTS - 1; k <= PEER_SLOTS + 1; k += 2) {
        n = peer_sample(frame, 1, 1, slots, k);
        is_closed(neighbour, true, frame, n);
    }
    n = peer_sample(frame, 1, 1, slots, PEER_SLOTS);
    is_closed(neighbour, false, frame, n); /* before its hello */
    n = peer_frame(frame, 0x55, "?", 1);
    is_closed(neighbour, false, frame, n);
    n = peer_sample(frame, 0, 1, slots, PEER_SLOTS);
    is_closed(neighbour, true, frame, n); /* number 0 */
    n = peer_sample(frame, 1, NAN, slots, PEER_SLOTS);
    is_closed(neighbour, true, frame, n);
    n = peer_hello(frame, sizeof(frame), 1);
    is_closed(neighbour, true, frame, n); /* a second one */
    n = peer_frame(frame, FRAME_BEAT, "1234567", 7);
    is_closed(neighbour, true, frame, n);
    n = peer_frame(frame, FRAME_EVENT, "{\"event\":\"exit\",\"code\":NaN}", 27);
    is_closed(neighbour, true, frame, n);
    n = peer_frame(frame, FRAME_EVENT, "{\"event\":\"\xff\"}", 13);
    is_closed(neighbour, true, frame, n);
    frame_put_header(frame, FRAME_EVENT, 20000);
    deep_json(frame + FRAME_HEADER_BYTES, 20000);
    is_closed(neighbour, true, frame, FRAME_HEADER_BYTES + 20000);
    (void)close(neighbour);
    UNTIL(t.closed == t.hellos);
}

static void test_p61_deep_hello(void **state) {
    static uint8_t frame[LIMIT_FRAME_BYTES];
    char payload[512];
    int fd = connect_peer();

    (void)state;
    frame_put_header(frame, FRAME_HELLO, 20000);
    deep_json(frame + FRAME_HEADER_BYTES, 20000);
    put(fd, frame, FRAME_HEADER_BYTES + 20000);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_REFUSED);
    assert_non_null(strstr(payload, "nested deeper"));
    UNTIL(has_ended(fd));
    (void)close(fd);
}

static void test_p61_cut(void **state) {
    static const double slots[PEER_SLOTS];
    uint8_t frame[256];
    size_t n = peer_sample(frame, 1, 1, slots, PEER_SLOTS);

    (void)state;
    for (size_t cut = 1; cut < n; cut++) {
        int fd = good_worker();

        put(fd, frame, cut);
        (void)close(fd);
        UNTIL(t.closed == cut);
        assert_non_null(t.last_error);
    }
    assert_int_equal(t.samples, 0);
}

static void test_p61_a_byte_at_a_time(void **state) {
    uint64_t before = counter_get(COUNTER_WORKERS_CLOSED_STALLED);
    static const double slots[PEER_SLOTS];
    uint8_t frame[256];
    int idle, silent, middle, slow;
    unsigned sent;

    (void)state;
    peer_sample(frame, 1, 1, slots, PEER_SLOTS);
    ipc_server_set_stall(t.server, 300);
    idle = good_worker();
    silent = connect_peer();
    middle = good_worker();
    slow = good_worker();
    put(middle, frame, 20);
    /* Each byte comes long before the time is over, but that does not put it off. */
    frame_put_header(frame, FRAME_EVENT, FRAME_PAYLOAD_BYTES);
    for (sent = 0; !has_ended(slow); sent++) {
        assert_true(sent < 500);
        (void)send(slow, frame + (sent < 8 ? sent : 8), 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        for (int i = 0; i < 8; i++)
            turn();
    }
    UNTIL(has_ended(silent));
    UNTIL(has_ended(middle));
    assert_int_equal(counter_get(COUNTER_WORKERS_CLOSED_STALLED), before + 3);
    assert_int_equal(t.closed_with_error, 2); /* the silent one was nobody yet */
    still_streams(idle, 1);
    (void)close(idle);
    (void)close(silent);
    (void)close(middle);
    (void)close(slow);
    UNTIL(t.closed == 3);
}

/* The helper was stopped for longer than a frame may take: the rest of the frame is there when it goes on. */
static void test_late_loop(void **state) {
    static const double slots[PEER_SLOTS];
    struct pollfd nap = {.fd = -1};
    uint8_t frame[256];
    size_t n = peer_sample(frame, 1, 1, slots, PEER_SLOTS);
    int fd, fresh;

    (void)state;
    ipc_server_set_stall(t.server, 200);
    fd = good_worker();
    put(fd, frame, 20);
    fresh = connect_peer();
    for (int i = 0; i < 5; i++)
        turn();
    (void)poll(&nap, 0, 300); /* nothing turns */
    put(fd, frame + 20, n - 20);
    say_hello(fresh);
    UNTIL(t.samples == 1);
    still_streams(fd, 2);
    UNTIL(t.hellos == 2);
    still_streams(fresh, 1);
    (void)close(fd);
    (void)close(fresh);
    UNTIL(t.closed == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE("a conversation", test_conversation),
        CASE("an order and its answer", test_order_and_answer),
        CASE("orders to one that does not read", test_orders_to_one_that_does_not_read),
        CASE("an ack given with the hello comes behind the welcome", test_ack_given_with_the_hello),
        CASE("P61 values that cannot be", test_values),
        CASE("P61 a worker that claims another's pid", test_p61_claimed_pid),
        CASE("P31 the last words of a process", test_last_words),
        CASE("a peer that does not read", test_peer_that_does_not_read),
        CASE("P71 300 workers at once", test_p71_300_at_once),
        CASE("later and refused", test_sent_away),
        CASE("P61 hostile frames", test_p61_hostile_frames),
        CASE("P61 a hello 10,000 deep", test_p61_deep_hello),
        CASE("P61 frames that are cut", test_p61_cut),
        CASE("P61 a byte at a time", test_p61_a_byte_at_a_time),
        CASE("P06 a loop that was late closes nobody", test_late_loop),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
