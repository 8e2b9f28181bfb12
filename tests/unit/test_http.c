/* HTTP inward on real sockets: what a status socket has to stand (P50), and who may open it (P60, P74). */
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

static void handler(void *arg, const struct http_request *rq, const char *method, const char *path,
                    struct http_answer *ret) {
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

static void on_closed(void *arg) {
    *(bool *)arg = true;
}

static void start_in(const char *dir) {
    (void)snprintf(t.path, sizeof(t.path), "%s/status.sock", dir);
    t.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(t.dirfd >= 0);
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_int_equal(http_server_new(&t.server, &t.loop, handler, &t), 0);
    assert_int_equal(http_server_listen_unix(t.server, t.dirfd, dir, "status.sock"), 0);
}

static int setup(void **state) {
    (void)state;
    memset(&t, 0, sizeof(t));
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/pillion-http-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    start_in(t.dir);
    return 0;
}

static int teardown(void **state) {
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

static int dial_path(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

static int dial(void) {
    int fd = dial_path(t.path);

    assert_true(fd >= 0);
    return fd;
}

static void turn(void) {
    (void)uv_run(&t.loop, UV_RUN_NOWAIT);
}

/* Turns the loop until `fd` is at its end (true) or the time is over; what came is in `in`. */
static bool read_all(int fd, struct buf *in, uint64_t ms) {
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

static bool send_all(int fd, const char *p, size_t n) {
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
static void ask(struct buf *in, const char *request) {
    int fd = dial();

    buf_init(in, 8 * BIG_BYTES);
    (void)send_all(fd, request, strlen(request));
    assert_true(read_all(fd, in, 10000));
    close(fd);
}

static size_t occurrences(const struct buf *in, const char *what) {
    size_t n = 0;

    for (const char *p = in->data; p != NULL && (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

static bool starts(const struct buf *in, const char *what) {
    return in->data != NULL && strncmp(in->data, what, strlen(what)) == 0;
}

static void test_P50_forms_of_requests(void **state) {
    struct buf in;

    (void)state;
    ask(&in, "GET /a%20b?worker=12%3A34&x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(starts(&in, "HTTP/1.1 200"));
    assert_non_null(strstr(in.data, "\r\n\r\nxxx"));
    assert_non_null(strstr(in.data, "Content-Type: text/plain\r\n"));
    assert_string_equal(t.path_seen, "/a b");
    assert_string_equal(t.query, "12:34");
    buf_clear(&in);

    ask(&in, "GET / HTTP/1.0\r\n\r\n"); /* closed by the server, without Host */
    assert_true(starts(&in, "HTTP/1."));
    assert_non_null(strstr(in.data, " 200 "));
    assert_non_null(strstr(in.data, "\r\n\r\nxxx"));
    buf_clear(&in);

    ask(&in, "HEAD /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(starts(&in, "HTTP/1.1 200"));
    assert_string_equal(t.method, "GET");
    assert_non_null(strstr(in.data, "Content-Length: 1500000\r\n"));
    assert_string_equal(strstr(in.data, "\r\n\r\n"), "\r\n\r\n");
    buf_clear(&in);

    ask(&in, "DELETE /wrong HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(starts(&in, "HTTP/1.1 405"));
    assert_string_equal(t.method, "DELETE");
    assert_non_null(strstr(in.data, "Allow: GET, HEAD\r\n"));
    buf_clear(&in);

    ask(&in, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_true(starts(&in, "HTTP/1.1 200"));
    assert_int_equal(t.body_len, 5);
    buf_clear(&in);
}

static void test_P50_pipelining(void **state) {
    struct buf in, request;

    (void)state;
    buf_init(&request, 1 << 20);
    for (int i = 0; i < 50; i++)
        buf_puts(&request, "GET /p HTTP/1.1\r\nHost: x\r\n\r\n");
    buf_puts(&request, "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    ask(&in, request.data);
    assert_int_equal(occurrences(&in, "HTTP/1.1 200 OK"), 51);
    assert_int_equal(t.asked, 51);
    buf_clear(&in);
    buf_clear(&request);
}

static void test_P50_half_close(void **state) {
    static const char request[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = dial(), quiet = dial();
    struct buf in;

    (void)state;
    buf_init(&in, 8 * BIG_BYTES);
    assert_true(send_all(fd, request, sizeof(request) - 1));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_int_equal(shutdown(quiet, SHUT_WR), 0);
    assert_true(read_all(fd, &in, 10000));
    assert_true(starts(&in, "HTTP/1.1 200") || starts(&in, "HTTP/1.1 4"));
    if (starts(&in, "HTTP/1.1 200"))
        assert_true(in.len > BIG_BYTES);
    print_message("half-closed: %.12s, %zu bytes\n", in.data, in.len);
    buf_reset(&in);
    assert_true(read_all(quiet, &in, 10000));
    assert_int_equal(in.len, 0);
    buf_clear(&in);
    close(fd);
    close(quiet);
}

static void expect_4xx(const struct buf *request, const char *what) {
    struct buf in;
    int fd = dial(), status = 0;

    buf_init(&in, BIG_BYTES);
    (void)send_all(fd, request->data, request->len);
    assert_true(read_all(fd, &in, 10000));
    close(fd);
    if (in.data != NULL)
        (void)sscanf(in.data, "HTTP/1.%*d %d", &status);
    print_message("%s: %d\n", what, status);
    /* 0: closed without an answer because the peer was still writing */
    assert_true(status == 0 || (status >= 400 && status < 500));
    buf_clear(&in);
}

static void test_P50_too_much(void **state) {
    struct buf b;

    (void)state;
    buf_init(&b, 4 << 20);
    buf_puts(&b, "GET /");
    for (int i = 0; i < (1 << 20); i++)
        buf_putc(&b, 'u');
    buf_puts(&b, " HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_4xx(&b, "1 MiB of URL");
    buf_reset(&b);
    buf_puts(&b, "GET /");
    for (int i = 0; i < 4000; i++)
        buf_putc(&b, 'u');
    buf_puts(&b, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect_4xx(&b, "4 KB of URL");
    buf_reset(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < (1 << 20); i++)
        buf_putc(&b, 'h');
    buf_puts(&b, "\r\n\r\n");
    expect_4xx(&b, "1 MiB of header");
    buf_reset(&b);
    buf_puts(&b,
             "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n");
    for (int i = 0; i < 200000; i++)
        buf_putc(&b, 'b');
    expect_4xx(&b, "200 KB of body");
    buf_reset(&b);
    for (int i = 0; i < 100000; i++)
        buf_putc(&b, (char)(i * 7 + i / 251));
    buf_puts(&b, "\r\n\r\n");
    expect_4xx(&b, "garbage");
    buf_clear(&b);
    assert_int_equal(t.asked, 0);
}

/* Three peers that take their time, and one that is let be: all at once, because it takes five real seconds. */
static void test_P50_slow_ones_are_cut(void **state) {
    static const char big[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    uint64_t cut = counter_get(COUNTER_STATUS_CUT), start = clock_mono_ms(), next = start, now;
    int reader = dial(), stalled = dial(), writer = dial(), kept = dial();
    uint64_t ended[3] = {0};
    bool kept_open = true;
    struct rusage before, after;
    size_t sent = 0;
    char c;

    (void)state;
    assert_true(send_all(reader, big, sizeof(big) - 1));
    assert_true(send_all(stalled, big, sizeof(big) - 1));
    (void)getrusage(RUSAGE_SELF, &before);
    while ((now = clock_mono_ms()) < start + 9000 && (!ended[0] || !ended[1] || !ended[2])) {
        (void)uv_run(&t.loop, UV_RUN_NOWAIT);
        (void)poll(NULL, 0, 5);
        if (now < next)
            continue;
        next = now + 250;
        if (!ended[0] && send(reader, "", 0, MSG_NOSIGNAL) < 0)
            ended[0] = now - start;
        if (read(reader, &c, 1) < 0)
            c = 0; /* it may be cut by now: send() tells */
        if (!ended[1] && send(stalled, "", 0, MSG_NOSIGNAL) < 0)
            ended[1] = now - start;
        if (!ended[2] && send(writer, &big[sent++ % 4], 1, MSG_NOSIGNAL) < 0)
            ended[2] = now - start;
        if (kept_open && send(kept, "GET /p HTTP/1.1\r\nHost: x\r\n\r\n", 28, MSG_NOSIGNAL) < 0)
            kept_open = false;
    }
    (void)getrusage(RUSAGE_SELF, &after);
    for (int i = 0; i < 3; i++)
        assert_true(ended[i] >= 4500 && ended[i] < 8000);
    assert_true(kept_open); /* a connection that is in use stays */
    assert_int_equal(counter_get(COUNTER_STATUS_CUT) - cut, 3);
    print_message("cut after %lu, %lu, %lu ms; CPU %ld ms\n", (unsigned long)ended[0],
                  (unsigned long)ended[1], (unsigned long)ended[2],
                  (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000 +
                      (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1000);
    close(reader);
    close(stalled);
    close(writer);
    close(kept);
}

static void test_P50_many_scrapers(void **state) {
    static const char request[] = "GET /kept HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    uint64_t longest = 0, turns = 0;
    size_t got[MANY] = {0}, done = 0;
    static char tmp[1 << 20];
    int fds[MANY];

    (void)state;
    for (int i = 0; i < MANY; i++) {
        fds[i] = dial();
        assert_true(send(fds[i], request, sizeof(request) - 1, MSG_NOSIGNAL) > 0);
    }
    for (; done < MANY; turns++) {
        uint64_t start = clock_mono_ns(), took;

        turn();
        took = clock_mono_ns() - start;
        longest = took > longest ? took : longest;
        for (int i = 0; i < MANY; i++) {
            ssize_t n = fds[i] >= 0 ? read(fds[i], tmp, sizeof(tmp)) : -1;

            if (n > 0)
                got[i] += (size_t)n;
            if (n == 0) {
                close(fds[i]);
                fds[i] = -1;
                done++;
            }
        }
    }
    for (int i = 0; i < MANY; i++)
        assert_true(got[i] > BIG_BYTES);
    assert_int_equal(t.asked, 1); /* one page for all */
    print_message("%d scrapers of %d bytes: longest turn %.2f ms of %lu\n", MANY, BIG_BYTES,
                  (double)longest / 1e6, (unsigned long)turns);
}

/* What waits for slow readers is bounded, whatever the pages are. */
static void test_P50_memory_of_slow_readers(void **state) {
    static const char big[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    int most = LIMIT_HTTP_OUT_BYTES / BIG_BYTES + 1, fds[MANY];
    struct buf in;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        fds[i] = dial();
        assert_true(send_all(fds[i], big, sizeof(big) - 1));
        turn();
        turn();
    }
    assert_true(t.asked >= most - 2 && t.asked <= most);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    for (int i = 0; i < 20; i++)
        turn();
    ask(&in, "GET /big HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
}

static void test_P50_more_than_the_cap(void **state) {
    uint64_t busy = counter_get(COUNTER_STATUS_REFUSED_BUSY);
    int fds[LIMIT_HTTP_CONNECTIONS + 8];
    struct buf in;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial();
        turn();
    }
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(counter_get(COUNTER_STATUS_REFUSED_BUSY) - busy, 8);
    buf_init(&in, 65536);
    assert_true(read_all(fds[LIMIT_HTTP_CONNECTIONS], &in, 5000));
    assert_true(starts(&in, "HTTP/1.1 503"));
    buf_clear(&in);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
    for (int i = 0; i < 20; i++)
        turn();
    ask(&in, "GET / HTTP/1.0\r\n\r\n"); /* there is room again */
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
}

static void test_P50_no_descriptor_left(void **state) {
    uint64_t busy = counter_get(COUNTER_STATUS_REFUSED_BUSY);
    struct rlimit old, low;
    int fd = dial(), other = dial(), fill[64];
    struct buf in;
    size_t n = 0;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)other + 4;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (n < ARRAY_LEN(fill) && (fill[n] = dup(fd)) >= 0)
        n++;
    for (int i = 0; i < 50; i++)
        turn();
    assert_true(counter_get(COUNTER_STATUS_REFUSED_BUSY) - busy >= 2);
    buf_init(&in, 65536);
    assert_true(read_all(fd, &in, 5000)); /* closed, not left hanging */
    assert_true(read_all(other, &in, 5000));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    while (n > 0)
        close(fill[--n]);
    close(fd);
    close(other);
    ask(&in, "GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
}

/* In a child: gives up root, then tries to talk. 0: closed without a byte. */
static int child_of_other_user(void) {
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    char c;
    int fd;

    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 2;
    fd = dial_path(t.path);
    if (fd < 0)
        return 3;
    (void)fcntl(fd, F_SETFL, 0);
    (void)send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    return read(fd, &c, 1) <= 0 ? 0 : 1;
}

static void test_P60_another_user_is_refused(void **state) {
    uint64_t refused = counter_get(COUNTER_STATUS_REFUSED_UID);
    int status = -1;
    pid_t pid;

    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    /* The mode of the file keeps others out already; here it is opened to look behind it. */
    assert_int_equal(chmod(t.path, 0666), 0);
    assert_int_equal(chmod(t.dir, 0755), 0);
    pid = fork();
    if (pid == 0)
        _exit(child_of_other_user());
    while (waitpid(pid, &status, WNOHANG) == 0)
        turn();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(t.asked, 0);
    assert_int_equal(counter_get(COUNTER_STATUS_REFUSED_UID) - refused, 1);
}

static void test_P60_mode_from_the_first_moment(void **state) {
    struct stat st;

    (void)state;
    assert_int_equal(stat(t.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(S_ISSOCK(st.st_mode));
}

static void test_P74_made_again(void **state) {
    struct buf in;
    int old = dial();

    (void)state;
    assert_int_equal(http_server_check(t.server), 0);
    assert_int_equal(unlink(t.path), 0);
    assert_int_equal(dial_path(t.path), -ENOENT);
    assert_int_equal(http_server_check(t.server), 1);
    assert_int_equal(http_server_check(t.server), 0);
    ask(&in, "GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
    close(old);

    assert_int_equal(unlink(t.path), 0); /* a foreign file in its place */
    assert_int_equal(symlink("/etc/passwd", t.path), 0);
    assert_int_equal(http_server_check(t.server), 1);
    ask(&in, "GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
}

static void test_P74_long_path_and_stale_socket(void **state) {
    char sub[PATH_MAX], name[121];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char via[64];
    int fd;

    (void)state;
    http_server_close(t.server, on_closed, &t.closed);
    (void)uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    close(t.dirfd);
    memset(name, 'd', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_true(snprintf(sub, sizeof(sub), "%s/%s", t.dir, name) < (int)sizeof(sub));
    assert_int_equal(mkdir(sub, 0700), 0);
    fd = open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/status.sock", fd);
    assert_int_equal(bind(stale, (struct sockaddr *)&to, sizeof(to)), 0);
    close(stale);
    start_in(sub);
    (void)snprintf(via, sizeof(via), "/proc/self/fd/%d/status.sock", fd);
    stale = dial_path(via);
    assert_true(stale >= 0);
    close(stale);
    close(fd);
    t.closed = false;
    assert_int_equal(uv_run(&t.loop, UV_RUN_NOWAIT), 1);
}

static int teardown_long(void **state) {
    char cmd[PATH_MAX];
    int rc = teardown(state);

    memset(cmd, 'd', 120);
    cmd[120] = '\0';
    assert_int_equal(chdir(t.dir), 0);
    assert_int_equal(rmdir(cmd), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(t.dir), 0);
    return rc;
}

/* A run with a request, whatever fails: no crash, nothing left, and the next request works. */
static void test_no_memory(void **state) {
    long n;

    (void)state;
    for (n = 1; n < 60; n++) {
        uint64_t failed;
        struct buf in;

        buf_init(&in, 65536);
        buf_puts(&in, "reserve"); /* so that only the server's allocations are counted */
        int fd = dial();
        mem_fail_only(n);
        (void)send_all(fd, "GET /kept?n HTTP/1.0\r\n\r\n", 24);
        for (int i = 0; i < 10; i++)
            turn();
        mem_fail_only(0);
        failed = counter_get(COUNTER_OUT_OF_MEMORY);
        buf_reset(&in);
        (void)read_all(fd, &in, 200);
        close(fd);
        buf_clear(&in);
        ask(&in, "GET / HTTP/1.0\r\n\r\n");
        assert_non_null(strstr(in.data, " 200 "));
        buf_clear(&in);
        if (n > 3 && failed == counter_get(COUNTER_OUT_OF_MEMORY) && t.asked > 20)
            break;
    }
    assert_true(n > 3);
}

static void test_no_memory_at_start(void **state) {
    long n;

    (void)state;
    for (n = 1; n < 60; n++) {
        struct http_server *s = NULL;
        bool closed = false;
        uv_loop_t loop;
        int rc;

        assert_int_equal(uv_loop_init(&loop), 0);
        mem_fail_only(n);
        rc = http_server_new(&s, &loop, handler, &t);
        if (rc == 0)
            rc = http_server_listen_unix(s, t.dirfd, t.dir, "other.sock");
        mem_fail_only(0);
        if (s != NULL)
            http_server_close(s, on_closed, &closed);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        assert_true(s == NULL || closed);
        assert_int_equal(uv_loop_close(&loop), 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
    }
    assert_true(n > 3 && n < 60);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_P50_forms_of_requests),
        CASE(test_P50_pipelining),
        CASE(test_P50_half_close),
        CASE(test_P50_too_much),
        CASE(test_P50_slow_ones_are_cut),
        CASE(test_P50_many_scrapers),
        CASE(test_P50_memory_of_slow_readers),
        CASE(test_P50_more_than_the_cap),
        CASE(test_P50_no_descriptor_left),
        CASE(test_P60_another_user_is_refused),
        CASE(test_P60_mode_from_the_first_moment),
        CASE(test_P74_made_again),
        cmocka_unit_test_setup_teardown(test_P74_long_path_and_stale_socket, setup, teardown_long),
        CASE(test_no_memory),
        CASE(test_no_memory_at_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
