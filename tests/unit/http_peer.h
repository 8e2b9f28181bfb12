/* http_peer.h - a status server in a directory of its own and clients on real sockets, for the
 * tests of ipc/http.c. Both run in one thread: whoever waits turns the loop. */
#ifndef PILLION_TEST_HTTP_PEER_H
#define PILLION_TEST_HTTP_PEER_H

#include "ipc/http.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define BIG_BYTES 1500000
#define MANY      100

static struct {
    uv_loop_t loop;
    struct http_server *server;
    char dir[PATH_MAX], path[PATH_MAX + 16];
    int dirfd;
    bool closed;
    int asked; /* of the handler */
    char method[16], path_seen[256], query[64];
    size_t body_len;
} t;

static inline void handler(void *arg, const struct http_request *rq, const char *method,
                           const char *path, struct http_answer *ret) {
    const char *q = http_query(rq, "worker");
    bool big = strcmp(path, "/big") == 0 || strcmp(path, "/kept") == 0;

    assert_ptr_equal(arg, &t);
    t.asked++;
    (void)snprintf(t.method, sizeof(t.method), "%s", method);
    (void)snprintf(t.path_seen, sizeof(t.path_seen), "%s", path);
    (void)snprintf(t.query, sizeof(t.query), "%s", q != NULL ? q : "(none)");
    (void)http_body(rq, &t.body_len);
    ret->status = 200;
    ret->content_type = "text/plain";
    ret->body_len = big ? BIG_BYTES : 3;
    ret->body = mem_alloc(ret->body_len);
    if (ret->body != NULL)
        memset(ret->body, 'x', ret->body_len);
    if (strcmp(path, "/kept") == 0)
        ret->keep_ms = 1000;
    if (strcmp(path, "/wrong") == 0) {
        ret->status = 405;
        ret->allow = "GET, HEAD";
    }
}

static inline void on_closed(void *arg) {
    *(bool *)arg = true;
}

static inline void start_in(const char *dir) {
    (void)snprintf(t.path, sizeof(t.path), "%s/status.sock", dir);
    t.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(t.dirfd >= 0);
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_int_equal(http_server_new(&t.server, &t.loop, handler, &t), 0);
    assert_int_equal(http_server_listen_unix(t.server, t.dirfd, dir, "status.sock"), 0);
}

static inline int setup(void **state) {
    (void)state;
    memset(&t, 0, sizeof(t));
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/pillion-http-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    start_in(t.dir);
    return 0;
}

static inline int teardown(void **state) {
    struct stat st;

    (void)state;
    http_server_close(t.server, on_closed, &t.closed);
    assert_false(t.closed); /* never from inside */
    assert_int_equal(uv_run(&t.loop, UV_RUN_DEFAULT), 0);
    assert_true(t.closed);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    assert_int_equal(fstatat(t.dirfd, "status.sock", &st, 0), -1);
    close(t.dirfd);
    (void)rmdir(t.dir);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static inline int dial_path(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(text_copy(to.sun_path, sizeof(to.sun_path), path));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

static inline int dial(void) {
    int fd = dial_path(t.path);

    assert_true(fd >= 0);
    return fd;
}

static inline void turn(void) {
    (void)uv_run(&t.loop, UV_RUN_NOWAIT);
}

/* Turns the loop until `fd` is at its end (true) or the time is over; what came is in `in`. */
static inline bool read_all(int fd, struct buf *in, uint64_t ms) {
    uint64_t end = clock_mono_ms() + ms;
    char tmp[65536];

    while (clock_mono_ms() < end) {
        ssize_t n = read(fd, tmp, sizeof(tmp));

        if (n > 0)
            buf_add(in, tmp, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
            return true;
        turn();
    }
    return false;
}

static inline bool send_all(int fd, const char *p, size_t n) {
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        }
        turn();
    }
    return true;
}

/* One request on a connection of its own, until the other side closes. */
static inline void ask(struct buf *in, const char *request) {
    int fd = dial();

    buf_init(in, 8 * BIG_BYTES);
    (void)send_all(fd, request, strlen(request));
    assert_true(read_all(fd, in, 10000));
    close(fd);
}

static inline size_t occurrences(const struct buf *in, const char *what) {
    size_t n = 0;

    for (const char *p = in->data; p != NULL && (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

static inline bool starts(const struct buf *in, const char *what) {
    return in->data != NULL && strncmp(in->data, what, strlen(what)) == 0;
}

#endif
