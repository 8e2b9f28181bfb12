/* server_fixture.h - a workers' socket on a real loop in a directory of its own, what its callbacks saw, and the peer's side. For
 * test_server.c and test_worker.c, a program each. */
#ifndef PILLION_TESTS_SERVER_FIXTURE_H
#define PILLION_TESTS_SERVER_FIXTURE_H

#include "ipc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
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

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "tests/unit/worker_peer.h"

#define DEADLINE_MS 20000
#define NAME        "workers.sock"

static struct server_fixture {
    uv_loop_t loop;
    struct ipc_server *server;
    char dir[64];
    char path[96];
    int dirfd;
    bool server_closed;
    /* what the callbacks saw */
    unsigned hellos, samples, events, beats, answers, closed, closed_with_error;
    struct ipc_worker *last_worker;
    struct ipc_peer last_peer;
    pid_t last_claim;
    uint64_t last_number;
    double last_clock, last_slots[PEER_SLOTS];
    struct worker_event last_event;
    uint64_t last_order;
    char last_answer[256];
    const char *last_error;
    /* what they shall do */
    int hello_rc;
    bool close_in_hello, close_in_sample, close_server_in_sample, ack_in_hello;
} t;

static inline void on_server_closed(void *arg) {
    (void)arg;
    t.server_closed = true;
    t.server = NULL;
}

static inline int on_hello(void *arg, struct ipc_worker *w, const struct ipc_peer *peer,
                           const struct hello *hello, struct welcome *ret_welcome, void **ret_user,
                           char *why) {
    assert_ptr_equal(arg, &t);
    t.hellos++;
    t.last_worker = w;
    t.last_peer = *peer;
    t.last_claim = hello->pid;
    assert_int_equal(hello->schema->n_slots, PEER_SLOTS);
    *ret_welcome = (struct welcome){.interval_ms = 1000, .hold_bytes = 1, .stored = 0};
    *ret_user = w;
    if (t.ack_in_hello)
        assert_int_equal(ipc_worker_ack(w, 77), 0);
    if (t.close_in_hello)
        ipc_worker_close(w);
    (void)snprintf(why, 256, "because");
    return t.hello_rc;
}

static inline void on_sample(void *arg, void *user, uint64_t number, double clock_s,
                             const double *slots) {
    (void)arg;
    t.samples++;
    t.last_number = number;
    t.last_clock = clock_s;
    memcpy(t.last_slots, slots, sizeof(t.last_slots));
    if (t.close_in_sample)
        ipc_worker_close(user);
    if (t.close_server_in_sample)
        ipc_server_close(t.server, on_server_closed, NULL);
}

static inline void on_event(void *arg, void *user, const struct worker_event *event) {
    (void)arg;
    (void)user;
    t.events++;
    t.last_event = *event;
}

static inline void on_beat(void *arg, void *user) {
    (void)arg;
    (void)user;
    t.beats++;
}

static inline void on_answer(void *arg, void *user, uint64_t order, const char *json, size_t len) {
    (void)arg;
    (void)user;
    assert_true(len < sizeof(t.last_answer));
    t.answers++;
    t.last_order = order;
    memcpy(t.last_answer, json, len);
    t.last_answer[len] = '\0';
}

static inline void on_closed(void *arg, void *user, const char *error) {
    (void)arg;
    assert_non_null(user);
    if (user == t.last_worker)
        t.last_worker = NULL; /* not valid any more */
    t.closed++;
    t.closed_with_error += error != NULL;
    t.last_error = error;
}

static const struct ipc_callbacks callbacks = {
    .hello = on_hello,
    .sample = on_sample,
    .event = on_event,
    .beat = on_beat,
    .answer = on_answer,
    .closed = on_closed,
};

/* --- the fixture --------------------------------------------------------------------------------------------------------- */

static inline int open_dir(void) {
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/pillion-test-XXXXXX");
    if (mkdtemp(t.dir) == NULL)
        return -1;
    (void)snprintf(t.path, sizeof(t.path), "%s/" NAME, t.dir);
    t.dirfd = open(t.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return t.dirfd >= 0 ? 0 : -1;
}

static inline int setup(void **state) {
    (void)state;
    memset(&t, 0, sizeof(t));
    json_set_alloc_funcs(mem_alloc, mem_free);
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
    if (open_dir() != 0 || uv_loop_init(&t.loop) != 0 ||
        ipc_server_new(&t.server, &t.loop, &callbacks, &t) != 0)
        return -1;
    return ipc_server_listen(t.server, t.dirfd, t.dir, NAME);
}

/* Turns the loop until it is so. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t until_start = clock_mono_ms();                                                    \
                                                                                                   \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms() - until_start > DEADLINE_MS)                                       \
                fail_msg("never: %s", #condition);                                                 \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

static inline void turn(void) {
    struct pollfd nap = {.fd = -1};

    (void)uv_run(&t.loop, UV_RUN_NOWAIT);
    (void)poll(&nap, 0, 1);
}

static inline int teardown(void **state) {
    (void)state;
    if (t.server != NULL)
        ipc_server_close(t.server, on_server_closed, NULL);
    assert_false(t.server_closed && t.server != NULL); /* never from inside */
    UNTIL(t.server_closed);
    assert_int_equal(uv_run(&t.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    assert_int_equal(mem_live(), 0);
    assert_int_equal(access(t.path, F_OK), -1);
    (void)close(t.dirfd);
    assert_int_equal(rmdir(t.dir), 0); /* nothing is left in it */
    return 0;
}

static inline void put(int fd, const void *data, size_t len) {
    assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

/* The next frame's type, its payload in `out` (terminated); 0 at the end of the stream. */
static inline uint8_t get(int fd, char *out, size_t size) {
    uint8_t header[FRAME_HEADER_BYTES];
    uint32_t len;
    ssize_t n = -1;

    UNTIL((n = recv(fd, header, sizeof(header), MSG_DONTWAIT | MSG_PEEK)) == 8 || n == 0 ||
          (n < 0 && errno == ECONNRESET));
    if (n <= 0)
        return 0;
    memcpy(&len, header, sizeof(len));
    len = le32toh(len);
    assert_true(len < size);
    assert_int_equal(recv(fd, header, sizeof(header), 0), sizeof(header));
    assert_int_equal(recv(fd, out, len, MSG_WAITALL), len);
    out[len] = '\0';
    return header[4];
}

static inline bool has_ended(int fd) {
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline int connect_peer(void) {
    int fd = peer_connect(t.path);

    assert_true(fd >= 0);
    return fd;
}

static inline void say_hello(int fd) {
    uint8_t frame[1024];

    put(fd, frame, peer_hello(frame, sizeof(frame), (int)getpid()));
}

/* A connection that is past its welcome. */
static inline int good_worker(void) {
    char payload[512];
    int fd = connect_peer();

    say_hello(fd);
    assert_int_equal(get(fd, payload, sizeof(payload)), FRAME_WELCOME);
    return fd;
}

static inline void send_sample(int fd, uint64_t number) {
    static const double slots[PEER_SLOTS] = {1, 2, 3, 4, 5, 6};
    uint8_t frame[256];

    put(fd, frame, peer_sample(frame, number, 10.5, slots, PEER_SLOTS));
}

/* The worker is heard as before. */
static inline void still_streams(int fd, uint64_t number) {
    unsigned before = t.samples;

    send_sample(fd, number);
    UNTIL(t.samples == before + 1);
    assert_int_equal(t.last_number, number);
}

#define CASE(name, f)                                                                              \
    { name, f, setup, teardown, NULL }

#endif
