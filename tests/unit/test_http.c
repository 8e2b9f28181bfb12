/* HTTP inward on real sockets: what a status socket has to stand (P50). */
#include "tests/unit/http_peer.h"

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

/* Three peers that take their time, and one that is let be: all at once, because it takes five
 * real seconds. */
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
