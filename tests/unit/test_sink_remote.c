/* The remote sinks on a real socket: what each verdict leaves behind, and what happens without memory. */
#include "http_end.h"

#include "uploader/http.h"
#include "uploader/sink.h"

struct bed {
    uv_loop_t loop;
    struct http *http;
    struct sink *sinks[LIMIT_SINKS];
    unsigned n;
    char dir[64];
    bool done, closed, in_call;
    struct sink_result result;
    char error[400];
    unsigned commands;
    const char *hubs[4]; /* of the registry; NULL at its end */
    unsigned hub, failed, worked;
};

static void on_done(void *arg, const struct sink_result *r) {
    struct bed *b = arg;

    assert_false(b->in_call);
    assert_false(b->done);
    b->done = true;
    b->result = *r;
    (void)snprintf(b->error, sizeof(b->error), "%s", r->error != NULL ? r->error : "");
}

static void on_closed(void *arg) {
    struct bed *b = arg;

    assert_false(b->in_call);
    b->closed = true;
}

static const char *pick(void *arg) {
    struct bed *b = arg;

    return b->hubs[b->hub];
}

static bool failed(void *arg, const char *url) {
    struct bed *b = arg;

    assert_string_equal(url, b->hubs[b->hub]);
    b->failed++;
    if (b->hubs[b->hub + 1] == NULL)
        return false;
    b->hub++;
    return true;
}

static void worked(void *arg, const char *url) {
    struct bed *b = arg;

    assert_string_equal(url, b->hubs[b->hub]);
    b->worked++;
}

static int make(struct bed *b, const char *list, struct buf *why) {
    struct sink_hubs hubs = {.pick = pick, .failed = failed, .worked = worked, .arg = b};
    struct sink_env env = {.loop = &b->loop,
                           .data_dir = b->dir,
                           .boot = TEST_BOOT,
                           .http = b->http,
                           .app = "shop",
                           .instance = "host-1",
                           .token = "t",
                           .hubs = &hubs};
    int rc = sink_list_new(b->sinks, &b->n, list, &env, why);

    for (unsigned i = 0; rc == 0 && i < b->n; i++) {
        b->sinks[i]->done = on_done;
        b->sinks[i]->done_arg = b;
        if (b->sinks[i]->ops->start != NULL)
            assert_int_equal(b->sinks[i]->ops->start(b->sinks[i]), 0);
    }
    return rc;
}

static void script(int a, int b, int c, int d) {
    atomic_store(&server.asked, 0);
    server.script[0] = a;
    server.script[1] = b;
    server.script[2] = c;
    server.script[3] = d;
    server.script[4] = -1;
}

static void bed_new(struct bed *b, const char *spec) {
    char list[300];
    struct buf why;

    memset(b, 0, sizeof(*b));
    scratch_make(b->dir);
    assert_int_equal(uv_loop_init(&b->loop), 0);
    buf_init(&why, 1000);
    assert_int_equal(http_new(&b->http, &b->loop, NULL, &why), 0);
    (void)snprintf(list, sizeof(list), spec, server.port);
    assert_int_equal(make(b, list, &why), 0);
    buf_clear(&why);
}

static void bed_close(struct bed *b) {
    for (unsigned i = 0; i < b->n; i++) {
        b->closed = b->sinks[i]->ops->close == NULL;
        if (!b->closed)
            b->sinks[i]->ops->close(b->sinks[i], on_closed, b);
        assert_true(run_until(&b->loop, &b->closed));
        b->sinks[i]->ops->free(b->sinks[i]);
    }
    if (b->http != NULL) {
        b->closed = false;
        http_close(b->http, on_closed, b);
        assert_true(run_until(&b->loop, &b->closed));
    }
    assert_int_equal(uv_loop_close(&b->loop), 0);
    scratch_remove(b->dir);
    assert_int_equal(mem_live(), 0);
}

static enum sink_verdict deliver(struct bed *b, struct batch *batch) {
    b->done = false;
    b->in_call = true;
    b->sinks[0]->ops->send(b->sinks[0], batch);
    b->in_call = false;
    assert_true(run_until(&b->loop, &b->done));
    return b->result.verdict;
}

static unsigned parked_files(const struct bed *b) {
    char out[64];

    (void)shell(out, sizeof(out), "ls %s/parked 2>/dev/null | wc -l", b->dir);
    return (unsigned)strtoul(out, NULL, 10);
}

static void test_p25_verdicts(void **state) {
    struct batch *batch = make_batch(1, 10, false), *next = make_batch(2, 1, false);
    char lines[64];
    struct bed b;
    (void)state;

    bed_new(&b, "hub+http://127.0.0.1:%u");
    script(200, -1, 0, 0);
    assert_int_equal(deliver(&b, batch), SINK_TAKEN);
    script(503, 0, 0, 200); /* curl itself tries a second time when a kept connection was cut */
    assert_int_equal(deliver(&b, batch), SINK_RETRY);
    assert_in_range(b.result.retry_ms, 100, 1000);
    assert_string_equal(b.error, "answered 503 Service Unavailable ({})");
    assert_int_equal(deliver(&b, batch), SINK_RETRY);
    assert_in_range(b.result.retry_ms, 100, 2000);
    assert_int_equal(deliver(&b, batch), SINK_TAKEN);
    script(400, 200, -1, 0);
    assert_int_equal(deliver(&b, batch), SINK_REFUSED);
    assert_int_equal(deliver(&b, next), SINK_TAKEN);
    assert_int_equal(parked_files(&b), 1);
    (void)shell(lines, sizeof(lines), "zcat %s/parked/* | grep -c kind", b.dir);
    assert_string_equal(lines, "10\n");
    script(401, -1, 0, 0);
    assert_int_equal(deliver(&b, next), SINK_RETRY);
    assert_in_range(b.result.retry_ms, 30000, 60000);
    batch_unref(batch);
    batch_unref(next);
    bed_close(&b);
}

/* Too long, down to single records: 10, then 5, 3, 2, 1 … until each has been asked for alone. */
static void test_p25_split(void **state) {
    struct batch *batch = make_batch(1, 10, false);
    struct bed b;
    (void)state;

    bed_new(&b, "hub+http://127.0.0.1:%u");
    script(413, 200, 413, 200);
    server.script[4] = -1;
    assert_int_equal(deliver(&b, batch), SINK_TAKEN);
    assert_int_equal(parked_files(&b), 0);
    assert_int_equal(atomic_load(&server.asked), 5); /* 10 no, 5 yes, 5 no, 3, 2 */
    script(413, -1, 0, 0);
    assert_int_equal(deliver(&b, batch), SINK_REFUSED);
    assert_int_equal(parked_files(&b), 10);
    batch_unref(batch);
    bed_close(&b);
}

static void test_p42_failover(void **state) {
    struct batch *batch = make_batch(1, 10, false);
    char url[64];
    struct bed b;
    (void)state;

    bed_new(&b, "hub:");
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", server.port);
    script(200, -1, 0, 0);
    assert_int_equal(deliver(&b, batch), SINK_RETRY);
    assert_string_equal(b.error, "no hub is known: the registry names none");
    b.hubs[0] = "http://127.0.0.1:1";
    b.hubs[1] = "http://127.0.0.1:2";
    b.hubs[2] = url;
    assert_int_equal(deliver(&b, batch), SINK_TAKEN);
    assert_int_equal(b.failed, 2);
    assert_int_equal(b.worked, 1);
    batch_unref(batch);
    bed_close(&b);
}

static void test_hurry(void **state) {
    struct batch *batch = make_batch(1, 10, false);
    struct bed b;
    (void)state;

    bed_new(&b, "hub+http://127.0.0.1:%u/hang");
    b.sinks[0]->ops->send(b.sinks[0], batch);
    for (int i = 0; i < 200; i++) {
        (void)uv_run(&b.loop, UV_RUN_NOWAIT);
        (void)poll(NULL, 0, 1);
    }
    assert_false(b.done);
    b.in_call = true;
    b.sinks[0]->ops->hurry(b.sinks[0]);
    b.in_call = false;
    assert_true(run_until(&b.loop, &b.done));
    assert_int_equal(b.result.verdict, SINK_RETRY);
    assert_int_equal(deliver(&b, batch), SINK_RETRY);
    batch_unref(batch);
    bed_close(&b);
}

static void test_lists(void **state) {
    static const char *const bad[][2] = {
        {"hub+ftp://x", "is not an address"},
        {"hub+http://me:secret@", "is not an address"},
        {"es+http://x/UPPER", "the name of the index"},
        {"es+http://x?kind=weekly", "accepted are daily, stream and index"},
        {"es+http://x?kinds=daily", "there is no such parameter; accepted: kind template"},
        {"otlp+http://x?a=b", "there is no such parameter; accepted: none"},
        {"hub:x", "nothing may follow"},
        {"hub+http://x,hub+http://x/", "is named twice"},
        {"hubs:", "is not a sink"},
    };
    struct bed b;
    struct buf why;
    (void)state;

    bed_new(
        &b,
        "hub:,hub+https://u:p@x:1/y,es+http://x/a/b?kind=stream&template=none,otlp+http://x,file:");
    assert_int_equal(b.n, 5);
    assert_string_equal(b.sinks[0]->name, "hub:");
    assert_string_equal(b.sinks[1]->name, "hub+https://x:1/y");
    assert_string_equal(b.sinks[2]->name, "es+http://x/a/b");
    assert_true(sink_list_is_remote("file:, hub:"));
    assert_true(sink_list_is_remote("otlp+http://x"));
    assert_false(sink_list_is_remote("file:,stdout:"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct sink *sinks[LIMIT_SINKS];
        struct sink_env env = {.loop = &b.loop,
                               .data_dir = "/",
                               .boot = TEST_BOOT,
                               .http = b.http,
                               .hubs = &(struct sink_hubs){.pick = pick}};
        unsigned n;

        buf_init(&why, 1000);
        assert_int_equal(sink_list_new(sinks, &n, bad[i][0], &env, &why), -EINVAL);
        assert_non_null(strstr(why.data, bad[i][1]));
        assert_null(strstr(why.data, "secret"));
        buf_clear(&why);
    }
    bed_close(&b);
}

/* The nth allocation fails while a batch is sent in parts and parked: it ends, is tried again, and in the end nothing is missing. */
static void sweep(const char *spec, unsigned records) {
    struct batch *batch = make_batch(1, records, false);
    unsigned good = 0;

    for (long n = 1; good < 40; n++) {
        struct bed b;
        bool first = true;

        bed_new(&b, spec);
        script(413, 200, 400, 200);
        mem_fail_only(n);
        for (int i = 0; i < 5; i++) {
            enum sink_verdict v = deliver(&b, batch);

            if (v != SINK_RETRY)
                break;
            first = false;
        }
        mem_fail_only(0);
        assert_int_not_equal(b.result.verdict, SINK_RETRY);
        good = first ? good + 1 : 0;
        b.hub = 0;
        batch_ref(batch); /* stays over mem_live() of bed_close() */
        batch_unref(batch);
        for (unsigned i = 0; i < b.n; i++) {
            b.closed = b.sinks[i]->ops->close == NULL;
            if (!b.closed)
                b.sinks[i]->ops->close(b.sinks[i], on_closed, &b);
            assert_true(run_until(&b.loop, &b.closed));
            b.sinks[i]->ops->free(b.sinks[i]);
        }
        b.closed = false;
        http_close(b.http, on_closed, &b);
        assert_true(run_until(&b.loop, &b.closed));
        assert_int_equal(uv_loop_close(&b.loop), 0);
        scratch_remove(b.dir);
        assert_int_equal(mem_live(), 2); /* the batch */
        assert_true(n < 3000);
    }
    batch_unref(batch);
    assert_int_equal(mem_live(), 0);
}

static void test_p11_hub_without_memory(void **state) {
    (void)state;
    sweep("hub+http://127.0.0.1:%u", 6);
}

static void test_p11_otlp_without_memory(void **state) {
    (void)state;
    sweep("otlp+http://127.0.0.1:%u/v1/batches", 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p25_verdicts),
        cmocka_unit_test(test_p25_split),
        cmocka_unit_test(test_p42_failover),
        cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_p11_hub_without_memory),
        cmocka_unit_test(test_p11_otlp_without_memory),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("sink_remote", tests, start_server, stop_server);
}
