/* HTTP outward on real sockets: every end of a request, exactly once, and nothing left behind. */
#include "batches.h"

#include "http_end.h"

#include "uploader/http.h"

static unsigned descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

/* --- a pool and what came of its requests ------------------------------------------------------- */

struct bed {
    uv_loop_t loop;
    struct http *http;
    unsigned before;
    bool closed, in_call, close_in_done;
};

struct asked {
    struct bed *bed;
    bool done;
    int rc;
    long status;
    size_t len, data;
    bool truncated, connected;
    int64_t retry_after;
    char body[64], error[200], one[16];
    unsigned times;
    unsigned again; /* sends so many more from inside done */
};

static void on_closed(void *arg) {
    struct bed *b = arg;

    assert_false(b->in_call);
    assert_false(b->closed);
    b->closed = true;
}

static void bed_new(struct bed *b) {
    struct buf why;

    memset(b, 0, sizeof(*b));
    while (atomic_load(&server.open) > 0)
        (void)poll(NULL, 0, 1);
    b->before = descriptors();
    assert_int_equal(uv_loop_init(&b->loop), 0);
    buf_init(&why, 1000);
    assert_int_equal(http_new(&b->http, &b->loop, NULL, &why), 0);
    buf_clear(&why);
}

static void bed_close(struct bed *b) {
    if (!b->close_in_done) {
        b->in_call = true;
        http_close(b->http, on_closed, b);
        b->in_call = false;
    }
    assert_true(run_until(&b->loop, &b->closed));
    assert_int_equal(uv_loop_close(&b->loop), 0);
    while (atomic_load(&server.open) > 0)
        (void)poll(NULL, 0, 1);
    assert_int_equal(descriptors(), b->before);
    assert_int_equal(mem_live(), 0);
}

static int ask(struct bed *b, struct asked *a, const char *path, struct http_call **ret);

static void on_done(void *arg, const struct http_reply *r) {
    struct asked *a = arg;

    assert_false(a->bed->in_call);
    a->done = true;
    a->times++;
    a->rc = r->rc;
    a->status = r->status;
    a->len = r->len;
    a->truncated = r->truncated;
    a->connected = r->connected;
    a->retry_after = r->retry_after_ms;
    assert_int_equal(strlen(r->body), r->len);
    (void)snprintf(a->body, sizeof(a->body), "%s", r->body);
    (void)snprintf(a->error, sizeof(a->error), "%s", r->error);
    assert_true((r->rc == 0) == (r->error[0] == '\0'));
    (void)http_reply_header(r, "x-one", a->one, sizeof(a->one));
    if (a->again > 0) {
        a->again--;
        a->done = false;
        assert_int_equal(ask(a->bed, a, "/ok", NULL), 0);
    }
    if (a->bed->close_in_done)
        http_close(a->bed->http, on_closed, a->bed);
}

static struct http_request_out request(struct bed *b, struct asked *a, const char *path,
                                       char url[128]) {
    static const char *const headers[] = {"X-Test: 1", NULL};

    a->bed = b;
    (void)snprintf(url, 128, "http://127.0.0.1:%u%s", server.port, path);
    return (struct http_request_out){.url = url,
                                     .headers = headers,
                                     .body = "hello",
                                     .body_len = 5,
                                     .connect_ms = 2000,
                                     .total_ms = 4000,
                                     .done = on_done,
                                     .arg = a};
}

static int ask(struct bed *b, struct asked *a, const char *path, struct http_call **ret) {
    char url[128];
    struct http_request_out rq = request(b, a, path, url);
    bool in = b->in_call;
    int rc;

    b->in_call = true;
    rc = http_send(b->http, &rq, ret);
    b->in_call = in;
    return rc;
}

static void get(struct bed *b, struct asked *a, const char *path) {
    memset(a, 0, sizeof(*a));
    assert_int_equal(ask(b, a, path, NULL), 0);
    assert_true(run_until(&b->loop, &a->done));
    assert_int_equal(a->times, 1);
}

static void test_answers(void **state) {
    struct asked a;
    struct bed b;
    (void)state;

    bed_new(&b);
    get(&b, &a, "/ok");
    assert_int_equal(a.rc, 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "{\"a\":1}");
    assert_string_equal(a.one, "b ");
    assert_int_equal(a.retry_after, -1);
    get(&b, &a, "/continue");
    assert_int_equal(a.status, 201);
    assert_string_equal(a.one, "");
    get(&b, &a, "/late");
    assert_int_equal(a.status, 503);
    assert_int_equal(a.retry_after, 2000);
    get(&b, &a, "/big");
    assert_int_equal(a.rc, 0);
    assert_int_equal(a.len, LIMIT_ANSWER_BYTES);
    assert_true(a.truncated);
    bed_close(&b);
}

static void test_failures(void **state) {
    static const struct {
        const char *path;
        int rc;
    } cases[] = {{"/half", -ECONNRESET},
                 {"/head", -EPROTO},
                 {"/junk", -EPROTO},
                 {"/reset", -ECONNRESET},
                 {"/nothing", -ECONNRESET}};
    struct asked a;
    struct bed b;
    (void)state;

    bed_new(&b);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        get(&b, &a, cases[i].path);
        assert_int_equal(a.rc, cases[i].rc);
        assert_int_equal(a.status, 0);
        assert_true(a.connected);
    }
    server.port ^= 1; /* nobody there, very likely */
    get(&b, &a, "/ok");
    server.port ^= 1;
    assert_int_equal(a.rc, -ECONNREFUSED);
    assert_false(a.connected);
    assert_string_equal(a.error, "cannot connect: Connection refused");
    bed_close(&b);
}

static void test_one_connection(void **state) {
    struct asked a = {.again = 50};
    struct bed b;
    (void)state;

    bed_new(&b);
    assert_int_equal(ask(&b, &a, "/ok", NULL), 0);
    assert_true(run_until(&b.loop, &a.done));
    assert_int_equal(a.times, 51);
    assert_int_equal(http_connections_made(b.http), 1);
    bed_close(&b);
}

static void test_times_out(void **state) {
    struct asked a = {0};
    struct bed b;
    char url[128];
    struct http_request_out rq = request(&b, &a, "/hang", url);
    (void)state;

    bed_new(&b);
    rq.total_ms = 100;
    assert_int_equal(http_send(b.http, &rq, NULL), 0);
    assert_true(run_until(&b.loop, &a.done));
    assert_int_equal(a.rc, -ETIMEDOUT);
    bed_close(&b);
}

static void test_cancel(void **state) {
    struct asked a[3] = {0};
    struct http_call *c;
    struct bed b;
    (void)state;

    bed_new(&b);
    assert_int_equal(ask(&b, &a[0], "/hang", &c), 0);
    b.in_call = true;
    http_cancel(c);
    http_cancel(c);
    b.in_call = false;
    assert_true(run_until(&b.loop, &a[0].done));
    assert_int_equal(a[0].rc, -ECANCELED);
    /* Two that are on their way when everything closes, and one that comes too late. */
    assert_int_equal(ask(&b, &a[0], "/hang", NULL), 0);
    assert_int_equal(ask(&b, &a[1], "/ok", NULL), 0);
    for (int i = 0; i < 20; i++)
        (void)uv_run(&b.loop, UV_RUN_NOWAIT);
    b.in_call = true;
    http_close(b.http, on_closed, &b);
    b.in_call = false;
    assert_int_equal(ask(&b, &a[2], "/ok", NULL), -ESHUTDOWN);
    b.close_in_done = true;
    bed_close(&b);
    assert_int_equal(a[0].times, 2);
    assert_int_equal(a[0].rc, -ECANCELED);
    assert_int_equal(a[1].times, 1);
    assert_int_equal(a[2].times, 0);
}

static void test_close_from_inside(void **state) {
    struct asked a = {0}, other = {0};
    struct bed b;
    (void)state;

    bed_new(&b);
    assert_int_equal(ask(&b, &other, "/hang", NULL), 0);
    assert_int_equal(ask(&b, &a, "/ok", NULL), 0);
    b.close_in_done = true;
    assert_true(run_until(&b.loop, &a.done));
    bed_close(&b);
    assert_int_equal(other.rc, -ECANCELED);
}

static void test_refused(void **state) {
    struct asked a[LIMIT_CALLS + 1] = {0};
    struct http_request_out rq = {.url = "ftp://x", .done = on_done, .arg = a};
    struct bed b;
    (void)state;

    bed_new(&b);
    assert_int_equal(http_send(b.http, &rq, NULL), -EINVAL);
    for (int i = 0; i < LIMIT_CALLS; i++)
        assert_int_equal(ask(&b, &a[i], "/hang", NULL), 0);
    assert_int_equal(ask(&b, &a[LIMIT_CALLS], "/ok", NULL), -ENOBUFS);
    bed_close(&b);
    for (int i = 0; i < LIMIT_CALLS; i++)
        assert_int_equal(a[i].times, 1);
}

/* Thousands, 16 at a time, everything mixed. OUTWARD_STORM=100000 for long. */
static void test_storm(void **state) {
    static const char *const paths[] = {"/ok",   "/ok",    "/late",    "/half", "/head",
                                        "/junk", "/reset", "/nothing", "/big",  "/continue"};
    const char *env = getenv("OUTWARD_STORM");
    unsigned want = env != NULL ? (unsigned)strtoul(env, NULL, 10) : 2000, started = 0, ended = 0;
    struct asked a[16] = {0};
    uint64_t until = clock_mono_ms() + 60000 + want * 20u;
    uint32_t x = 12345;
    struct bed b;
    (void)state;

    bed_new(&b);
    while (ended < want && clock_mono_ms() < until) {
        for (size_t i = 0; i < ARRAY_LEN(a); i++) {
            if (a[i].done) {
                assert_int_equal(a[i].times, 1);
                memset(&a[i], 0, sizeof(a[i]));
                ended++;
            }
            if (a[i].bed == NULL && started < want) {
                struct http_call *c;

                x = x * 1664525u + 1013904223u;
                assert_int_equal(ask(&b, &a[i], paths[(x >> 16) % ARRAY_LEN(paths)], &c), 0);
                started++;
                if ((x >> 8) % 29 == 0)
                    http_cancel(c);
            }
        }
        (void)uv_run(&b.loop, UV_RUN_ONCE);
    }
    assert_int_equal(ended, want);
    bed_close(&b);
}

/* One request, with the nth allocation failing: it ends, once, and nothing is left. */
static int try_without_memory(long n) {
    struct asked a = {0};
    struct bed b = {0};
    struct buf why;
    char url[128];
    struct http_request_out rq = request(&b, &a, "/ok", url);
    int rc;

    rq.total_ms = 500;
    assert_int_equal(uv_loop_init(&b.loop), 0);
    buf_init(&why, 1000);
    mem_fail_only(n);
    rc = http_new(&b.http, &b.loop, NULL, &why);
    if (rc == 0) {
        rc = http_send(b.http, &rq, NULL);
        if (rc == 0) {
            assert_true(run_until(&b.loop, &a.done));
            assert_int_equal(a.times, 1);
            rc = a.rc;
        }
        http_close(b.http, on_closed, &b);
        assert_true(run_until(&b.loop, &b.closed));
    }
    mem_fail_only(0);
    buf_clear(&why);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    assert_int_equal(mem_live(), 0);
    return rc;
}

static void test_p11_no_memory(void **state) {
    unsigned good = 0;
    (void)state;

    for (long n = 1; good < 40; n++) {
        good = try_without_memory(n) == 0 ? good + 1 : 0;
        assert_true(n < 2000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_one_connection), cmocka_unit_test(test_times_out),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_close_from_inside),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_p11_no_memory),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("outward", tests, start_server, stop_server);
}
