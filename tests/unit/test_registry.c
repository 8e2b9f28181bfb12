/* The entry in the registry and the search for hubs on a real loop, with real HTTP, against a server that answers as it is told. */
#include "uploader/registry/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "tests/unit/registry_peer.h"
#include "uploader/registry/discovery.h"

#define OK   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define HANG ""

static uv_loop_t loop;
static struct peer peer;
static struct registry_link *link_;
static bool link_closed, left, closed;
static unsigned changes;

static void on_link_closed(void *arg) {
    (void)arg;
    link_closed = true;
}

static void on_left(void *arg) {
    (void)arg;
    left = true;
}

static void on_closed(void *arg) {
    (void)arg;
    closed = true;
}

static void on_changed(void *arg) {
    (void)arg;
    changes++;
}

static int make_link(const char *kind, const char *token) {
    struct registry_settings s = {.token = token};
    char address[128];
    struct buf why;
    int rc;

    (void)snprintf(address, sizeof(address), "%s+http://127.0.0.1:%d", kind, peer.port);
    s.registry = address;
    buf_init(&why, 512);
    rc = registry_link_new(&link_, &loop, &s, &why);
    buf_clear(&why);
    return rc;
}

static void on_nothing_polled(uv_poll_t *p, int status, int events) {
    (void)p, (void)status, (void)events;
}

/* libuv's table of descriptors grows by an allocation whose failure ends the process (uv__io_start): it is grown beforehand. */
static void grow_descriptors(void) {
    int pipes[2], high;
    uv_poll_t poll;

    assert_int_equal(pipe(pipes), 0);
    high = fcntl(pipes[0], F_DUPFD_CLOEXEC, 250);
    assert_true(high >= 250);
    assert_int_equal(uv_poll_init(&loop, &poll, high), 0);
    assert_int_equal(uv_poll_start(&poll, UV_READABLE, on_nothing_polled), 0);
    uv_close((uv_handle_t *)&poll, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    close(high);
    close(pipes[0]);
    close(pipes[1]);
}

static void begin(const char *(*script)(struct peer *, const char *)) {
    link_closed = left = closed = false;
    changes = 0;
    link_ = NULL;
    assert_int_equal(uv_loop_init(&loop), 0);
    grow_descriptors();
    assert_int_equal(peer_start(&peer, &loop, script), 0);
}

static void end(void) {
    if (link_ != NULL) {
        registry_link_close(link_, on_link_closed, NULL);
        while (!link_closed)
            (void)uv_run(&loop, UV_RUN_ONCE);
    }
    peer_stop(&peer);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void on_nothing(uv_timer_t *t) {
    (void)t;
}

/* Turns the loop until *what is true, or for `ms`. */
static bool run_until(const bool *what, uint64_t ms) {
    uint64_t until = clock_mono_ms() + ms;
    uv_timer_t tick;

    assert_int_equal(uv_timer_init(&loop, &tick), 0);
    assert_int_equal(uv_timer_start(&tick, on_nothing, 10, 10), 0);
    while ((what == NULL || !*what) && clock_mono_ms() < until)
        (void)uv_run(&loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    return what != NULL && *what;
}

/* A container whose turn comes at once. */
static const char *quick(void) {
    static char name[32];

    for (unsigned i = 0;; i++) {
        (void)snprintf(name, sizeof(name), "i%u", i);
        if (schedule_spread(schedule_key("shop", name), "registration", SCHEDULE_SPREAD_MS) < 20)
            return name;
    }
}

static bool asked(unsigned i, const char *line) {
    return i < peer.n && strncmp(peer.requests[i], line, strlen(line)) == 0;
}

static bool wait_requests(unsigned n, uint64_t ms) {
    uint64_t until = clock_mono_ms() + ms;

    while (peer.n < n && clock_mono_ms() < until)
        (void)run_until(NULL, 10);
    return peer.n >= n;
}

static struct registry *started(void) {
    struct registry_facts facts = {.address = "10.0.0.7", .node = "v22.1.0", .workers = 2};
    struct registry *r = NULL;

    assert_int_equal(registry_new(&r, link_, "shop", quick(), "1.0"), 0);
    registry_describe(r, &facts);
    assert_int_equal(registry_start(r), 0);
    return r;
}

static void close_registry(struct registry *r) {
    registry_close(r, on_closed, NULL);
    assert_false(closed); /* never from inside */
    assert_true(run_until(&closed, 2000));
}

static void status_has(const struct registry *r, const char *text) {
    struct buf out;

    buf_init(&out, 8192);
    registry_status(r, &out);
    if (strstr(out.data, text) == NULL)
        fail_msg("%s\nis not in %s", text, out.data);
    buf_clear(&out);
}

/* --- scripts --- */

static const char *all_well(struct peer *p, const char *rq) {
    (void)p, (void)rq;
    return OK;
}

static const char *all_hangs(struct peer *p, const char *rq) {
    (void)p, (void)rq;
    return HANG;
}

static const char *register_hangs(struct peer *p, const char *rq) {
    (void)p;
    return strstr(rq, "/register") != NULL ? HANG : OK;
}

static const char *echoes_token(struct peer *p, const char *rq) {
    (void)p, (void)rq;
    return "HTTP/1.1 403 Forbidden\r\nContent-Length: 22\r\n\r\nno: abcd-efgh is wrong\n";
}

static const char *garbage(struct peer *p, const char *rq) {
    (void)p, (void)rq;
    return "\x01\x02 what?\r\n\r\n";
}

/* --- registering and leaving --- */

static void test_registers_and_leaves(void **state) {
    struct registry *r;

    (void)state;
    begin(all_well);
    assert_int_equal(make_link("consul", NULL), 0);
    r = started();
    status_has(r, "\"state\":\"waiting\"");
    assert_true(wait_requests(1, 5000));
    assert_true(asked(0, "PUT /v1/agent/service/register?"));
    assert_non_null(strstr(peer.requests[0], "\"workers\":\"2\""));
    (void)run_until(NULL, 100);
    assert_true(registry_is_registered(r));
    status_has(r, "\"state\":\"registered\"");
    status_has(r, "\"last_error\":null");
    registry_leave(r, on_left, NULL);
    assert_false(left); /* never from inside */
    assert_true(run_until(&left, 3000));
    assert_true(asked(1, "PUT /v1/agent/service/deregister/shop-"));
    assert_int_equal(peer.accepted, 1); /* one connection */
    close_registry(r);
    end();
}

static void test_leaving_unknown_asks_nothing(void **state) {
    struct registry *r = NULL;

    (void)state;
    begin(all_well);
    assert_int_equal(make_link("consul", NULL), 0);
    assert_int_equal(registry_new(&r, link_, "shop", "web-1", "1.0"), 0);
    registry_leave(r, on_left, NULL);
    assert_true(run_until(&left, 1000));
    assert_int_equal(peer.n, 0);
    close_registry(r);
    end();
}

/* P44: a second, whatever the registry does. */
static void test_p44_leaving_takes_a_second_at_most(void **state) {
    struct registry *r;
    uint64_t began;

    (void)state;
    begin(all_hangs);
    assert_int_equal(make_link("consul", NULL), 0);
    r = started();
    assert_true(wait_requests(1, 5000));
    began = clock_mono_ms();
    registry_leave(r, on_left, NULL);
    assert_true(run_until(&left, 5000));
    print_message("left after %llu ms\n", (unsigned long long)(clock_mono_ms() - began));
    assert_true(clock_mono_ms() - began >= 900);
    assert_true(asked(1, "PUT /v1/agent/service/deregister/")); /* it was tried */
    close_registry(r);
    end();
}

static void test_leaving_overtakes_no_registration(void **state) {
    struct registry *r;

    (void)state;
    begin(register_hangs);
    assert_int_equal(make_link("consul", NULL), 0);
    r = started();
    assert_true(wait_requests(1, 5000));
    registry_leave(r, on_left, NULL);
    assert_true(run_until(&left, 5000));
    assert_int_equal(peer.n, 2);
    assert_true(asked(1, "PUT /v1/agent/service/deregister/"));
    close_registry(r);
    end();
}

static void test_closing_in_the_middle(void **state) {
    struct registry *r;

    (void)state;
    begin(all_hangs);
    assert_int_equal(make_link("consul", NULL), 0);
    r = started();
    assert_true(wait_requests(1, 5000));
    registry_leave(r, on_left, NULL);
    close_registry(r);
    assert_true(left);
    end();
}

static void test_refusals_in_words(void **state) {
    struct registry *r;

    (void)state;
    begin(echoes_token);
    assert_int_equal(make_link("consul", "abcd-efgh"), 0);
    r = started();
    assert_true(wait_requests(1, 5000));
    (void)run_until(NULL, 100);
    assert_non_null(strstr(peer.requests[0], "X-Consul-Token: abcd-efgh\r\n"));
    status_has(r, "\"state\":\"failing\"");
    status_has(r, "HTTP status 403: no: ********* is wrong"); /* P64 */
    (void)run_until(NULL, 1500);
    assert_int_equal(peer.n, 1); /* not again within a minute */
    close_registry(r);
    end();
    begin(garbage);
    assert_int_equal(make_link("consul", NULL), 0);
    r = started();
    assert_true(wait_requests(1, 5000));
    (void)run_until(NULL, 200);
    status_has(r, "\"state\":\"failing\"");
    close_registry(r);
    end();
}

/* Nobody listens: it is tried again soon, for that is no load on anybody. */
static void test_unreached_is_tried_again_soon(void **state) {
    struct registry *r;
    int port;

    (void)state;
    begin(all_well);
    port = peer.port;
    peer_stop(&peer);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    peer.port = port;
    assert_int_equal(make_link("consul", NULL), 0);
    r = started();
    (void)run_until(NULL, 3500);
    status_has(r, "\"state\":\"failing\"");
    status_has(r, "\"registrations\":0");
    {
        struct buf out;
        const char *failures;

        buf_init(&out, 8192);
        registry_status(r, &out);
        failures = strstr(out.data, "\"failures\":");
        assert_in_range(strtoul(failures + 11, NULL, 10), 2, 6);
        buf_clear(&out);
    }
    close_registry(r);
    registry_link_close(link_, on_link_closed, NULL);
    while (!link_closed)
        (void)uv_run(&loop, UV_RUN_ONCE);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void test_bad_settings(void **state) {
    struct registry_settings s = {.registry = "consul+http://c:8500", .token = "a\r\nX: y"};
    struct buf why;

    (void)state;
    begin(all_well);
    buf_init(&why, 512);
    assert_int_equal(registry_link_new(&link_, &loop, &s, &why), -EINVAL);
    assert_non_null(strstr(why.data, "CONSUL_HTTP_TOKEN=\"(hidden)\""));
    buf_reset(&why);
    s.token = NULL;
    s.token_file = "/nowhere/token";
    assert_int_equal(registry_link_new(&link_, &loop, &s, &why), -EINVAL);
    assert_non_null(strstr(why.data, "CONSUL_HTTP_TOKEN_FILE=\"/nowhere/token\""));
    buf_reset(&why);
    s.token_file = NULL;
    s.registry = "none";
    assert_int_equal(registry_link_new(&link_, &loop, &s, &why), 0);
    assert_null(link_);
    buf_clear(&why);
    end();
}

/* Each of our own allocations fails once, libuv's and jansson's included: nothing is lost, nothing hangs. Those of libcurl are
 * spared by main(): version 7.88 divides by zero after some of them (Debian bookworm's, in curl_multi_socket_action()). */
static void test_no_memory(void **state) {
    bool whole = false;
    long n;

    (void)state;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
    for (n = 1; !whole; n++) {
        struct registry_facts facts = {.address = "10.0.0.7", .node = ""};
        struct registry *r = NULL;
        int rc;

        begin(all_well);
        mem_fail_only(n);
        rc = make_link("consul", "token");
        if (rc == 0)
            rc = registry_new(&r, link_, "shop", quick(), "1.0");
        if (rc == 0) {
            registry_describe(r, &facts);
            rc = registry_start(r);
        }
        if (rc == 0) {
            (void)run_until(NULL, 60);
            registry_leave(r, on_left, NULL);
            assert_true(run_until(&left, 3000));
            whole = peer.n == 2;
        }
        mem_fail_only(0);
        if (r != NULL)
            close_registry(r);
        whole = whole && n > 100;
        end();
    }
    print_message("%ld allocations failed one by one\n", n);
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "test");
}

/* --- hubs --- */

#define HUBS(index, body) "HTTP/1.1 200 OK\r\nX-Consul-Index: " index "\r\nContent-Length: " body

static const char *two_answers(struct peer *p, const char *rq) {
    if (p->n == 1)
        return HUBS("10", "49\r\n\r\n[{\"Service\":{\"Address\":\"10.0.0.1\",\"Port\":7000}}]\n");
    if (strstr(rq, "index=10&wait=120s") != NULL && p->n == 2)
        return HUBS("11", "49\r\n\r\n[{\"Service\":{\"Address\":\"10.0.0.2\",\"Port\":7000}}]\n");
    return HANG;
}

static const char *always_at_once(struct peer *p, const char *rq) {
    (void)p, (void)rq;
    return HUBS("1", "2\r\n\r\n[]");
}

static const char *no_list(struct peer *p, const char *rq) {
    (void)p, (void)rq;
    return HUBS("1", "4\r\n\r\nnull");
}

static void discovery_has(const struct discovery *d, const char *text) {
    struct buf out;

    buf_init(&out, 8192);
    discovery_status(d, &out);
    if (strstr(out.data, text) == NULL)
        fail_msg("%s\nis not in %s", text, out.data);
    buf_clear(&out);
}

static struct discovery *search(const char *(*script)(struct peer *, const char *),
                                const char *kind) {
    struct discovery *d = NULL;

    begin(script);
    assert_int_equal(make_link(kind, NULL), 0);
    assert_int_equal(discovery_new(&d, link_, HUB_SERVICE, 1, on_changed, NULL), 0);
    assert_null(discovery_pick(d));
    assert_int_equal(discovery_start(d), 0);
    return d;
}

static void close_search(struct discovery *d) {
    discovery_close(d, on_closed, NULL);
    assert_true(run_until(&closed, 2000));
    end();
}

static void test_finds_hubs(void **state) {
    struct discovery *d;

    (void)state;
    d = search(two_answers, "consul");
    assert_true(wait_requests(2, 5000));
    (void)run_until(NULL, 300);
    assert_int_equal(changes, 2);
    assert_string_equal(discovery_pick(d), "http://10.0.0.2:7000");
    discovery_has(d, "\"state\":\"ok\"");
    assert_true(asked(0, "GET /v1/health/service/pillion-hub?passing=true&stale=true HTTP"));
    assert_int_equal(peer.accepted, 1);
    assert_false(discovery_failed(d, "http://10.0.0.2:7000")); /* the only one */
    discovery_has(d, "\"state\":\"failed\"");
    discovery_worked(d, "http://10.0.0.2:7000");
    close_search(d);
}

/* P41: an index that stands still, answers at once: two questions, then one in 15 s. */
static void test_p41_no_hot_loop(void **state) {
    struct discovery *d;

    (void)state;
    d = search(always_at_once, "consul");
    (void)run_until(NULL, 3000);
    assert_int_equal(peer.n, 2);
    assert_int_equal(changes, 0);
    close_search(d);
    d = search(no_list, "consul");
    (void)run_until(NULL, 3000);
    assert_in_range(peer.n, 1, 2);
    discovery_has(d, "not the list that was asked for");
    discovery_has(d, "\"state\":\"failing\"");
    close_search(d);
    d = search(all_hangs, "eureka");
    assert_true(wait_requests(1, 3000));
    assert_true(asked(0, "GET /eureka/apps/PILLION-HUB HTTP"));
    close_search(d);
}

static void test_p41_index_rules(void **state) {
    (void)state;
    assert_int_equal(discovery_next_index(0, "10"), 10);
    assert_int_equal(discovery_next_index(10, "11"), 11);
    assert_int_equal(discovery_next_index(10, "10"), 10);
    assert_int_equal(discovery_next_index(100, "50"), 0); /* backwards: anew */
    assert_int_equal(discovery_next_index(0, "0"), 0);
    assert_int_equal(discovery_next_index(10, "0"), 1);
    assert_int_equal(discovery_next_index(10, NULL), 1);
    assert_int_equal(discovery_next_index(10, "-4"), 1);
    assert_int_equal(discovery_next_index(10, "many"), 1);
    assert_int_equal(discovery_next_index(0, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers_and_leaves),
        cmocka_unit_test(test_leaving_unknown_asks_nothing),
        cmocka_unit_test(test_p44_leaving_takes_a_second_at_most),
        cmocka_unit_test(test_leaving_overtakes_no_registration),
        cmocka_unit_test(test_closing_in_the_middle),
        cmocka_unit_test(test_refusals_in_words),
        cmocka_unit_test(test_unreached_is_tried_again_soon),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_finds_hubs),
        cmocka_unit_test(test_p41_no_hot_loop),
        cmocka_unit_test(test_p41_index_rules),
        cmocka_unit_test(test_no_memory),
    };

    json_set_alloc_funcs(mem_alloc, mem_free);
    if (curl_global_init(CURL_GLOBAL_ALL) !=
        CURLE_OK) /* before http.c does it with our allocator */
        return 1;
    if (uv_replace_allocator(mem_alloc, mem_realloc, mem_calloc, mem_free) != 0)
        return 1;
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
