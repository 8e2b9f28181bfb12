/* The Prometheus page: names, labels, grouping, caps, memory. promtool looks at it in
 * tests/integration/status.test.js. */
#include "agent/metrics_text.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/counters.h"
#include "agent/base/mem.h"
#include "agent/status.h"
#include "collectors/cgroup.h"

#define PAGE_BYTES (32 << 20)

static struct {
    uv_loop_t loop;
    struct helper_stats helper;
    struct workers *workers;
    struct metrics_text *text;
    struct schema *container;
    double container_values[CGROUP_METRICS];
    struct status status;
} t;

static int setup(void **state) {
    (void)state;
    memset(&t, 0, sizeof(t));
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_int_equal(helper_stats_start(&t.helper, &t.loop), 0);
    assert_int_equal(workers_new(&t.workers), 0);
    assert_int_equal(metrics_text_new(&t.text), 0);
    assert_int_equal(cgroup_schema(&t.container), 0);
    for (size_t i = 0; i < CGROUP_METRICS; i++)
        t.container_values[i] = NAN;
    t.container_values[CGROUP_CPU_USER] = 1.5;
    t.status = (struct status){.workers = t.workers,
                               .container_schema = t.container,
                               .container_values = t.container_values,
                               .helper = &t.helper,
                               .metrics_text = t.text};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    metrics_text_free(t.text);
    workers_free(t.workers);
    schema_unref(t.container);
    helper_stats_close(&t.helper);
    assert_int_equal(uv_run(&t.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static void add_field(struct schema *s, const char *name, const char *key, const char *value,
                      const char *unit, enum field_kind kind) {
    static const double bounds[] = {0.005, 0.1};
    const char *const attributes[] = {key, value};
    bool histogram = kind == FIELD_HISTOGRAM;

    assert_int_equal(schema_add(s, name, attributes, key != NULL ? 1 : 0, unit, kind,
                                histogram ? bounds : NULL, histogram ? 2 : 0),
                     0);
}

static struct schema *layout(size_t more) {
    struct schema *s = NULL;

    assert_int_equal(schema_new(&s, 8 + more), 0);
    add_field(s, "process.cpu.time", "cpu.mode", "user", "s", FIELD_COUNTER);
    add_field(s, "process.cpu.time", "cpu.mode", "system", "s", FIELD_COUNTER);
    add_field(s, "v8js.memory.heap.used", "v8js.heap.space.name", "new_space", "By", FIELD_GAUGE);
    add_field(s, "v8js.memory.heap.used", "v8js.heap.space.name", "old_space", "By", FIELD_GAUGE);
    add_field(s, "v8js.gc.duration", "v8js.gc.type", "minor", "s", FIELD_HISTOGRAM);
    add_field(s, "v8js.resource.active", "v8js.resource.type", "Timeout", "{resource}",
              FIELD_GAUGE);
    add_field(s, "v8js.resource.active", "v8js.resource.type", "TCPServerWrap", "{resource}",
              FIELD_GAUGE);
    add_field(s, "pillion.helper.lies", NULL, NULL, "1", FIELD_GAUGE);
    for (size_t i = 0; i < more; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "app.value_%zu", i);
        add_field(s, name, NULL, NULL, "1", FIELD_GAUGE);
    }
    return s;
}

static struct worker *add_worker(pid_t pid, unsigned thread, size_t more) {
    static const double values[] = {1.25, 0.75, 100, 200, 3, 2, 1, 1.5, 4, 1, 9};
    struct schema *inside = layout(more), *outside = NULL;
    struct worker *w = NULL;

    assert_int_equal(workers_add(t.workers, &w, pid, 4242, thread), 0);
    assert_int_equal(proc_schema(&outside), 0);
    assert_int_equal(worker_set_layout(t.workers, w, inside, outside), 0);
    schema_unref(inside);
    schema_unref(outside);
    for (size_t i = 0; i < ARRAY_LEN(values) + more; i++)
        w->values[i] = i < ARRAY_LEN(values) ? values[i] : (double)i / 7;
    w->role = thread != 0 ? "thread" : "worker";
    (void)snprintf(w->node, sizeof(w->node), "v22.3.1");
    return w;
}

static void write_page(struct buf *out, const char *worker) {
    buf_init(out, PAGE_BYTES);
    assert_int_equal(metrics_text_write(t.text, &t.status, worker, out), 0);
}

static void has(const struct buf *page, const char *line) {
    if (strstr(page->data, line) == NULL)
        fail_msg("the page has no: %s\n%s", line, page->data);
}

static void has_not(const struct buf *page, const char *what) {
    if (strstr(page->data, what) != NULL)
        fail_msg("the page should not have: %s\n%s", what, page->data);
}

/* Every family once, all its lines below it: what promtool and Prometheus ask for. */
static void assert_grouped(const struct buf *page) {
    for (const char *p = page->data; (p = strstr(p, "# TYPE ")) != NULL; p++) {
        char head[160];
        size_t len = strcspn(p + 7, " ");
        int n = 0;

        (void)snprintf(head, sizeof(head), "# TYPE %.*s ", (int)len, p + 7);
        for (const char *q = page->data; (q = strstr(q, head)) != NULL; q++)
            n++;
        assert_int_equal(n, 1);
        p += 7;
    }
}

static void test_P51_names_and_labels(void **state) {
    struct buf page;

    (void)state;
    add_worker(10, 0, 0);
    add_worker(11, 0, 0);
    add_worker(11, 2, 0);
    write_page(&page, NULL);
    assert_grouped(&page);
    has(&page,
        "\n# TYPE process_cpu_user_seconds_total counter\n"
        "process_cpu_user_seconds_total{worker=\"10:4242\",role=\"worker\"} 1.25\n"
        "process_cpu_user_seconds_total{worker=\"11:4242\",role=\"worker\"} 1.25\n"
        "process_cpu_user_seconds_total{worker=\"11:4242/2\",role=\"thread\",thread=\"2\"} 1.25\n"
        "# HELP ");
    has(&page, "process_cpu_seconds_total{worker=\"10:4242\",role=\"worker\"} 2\n");
    has(&page, "nodejs_heap_space_size_used_bytes{worker=\"10:4242\",role=\"worker\",space=\"new\"}"
               " 100\n");
    has(&page, "nodejs_active_resources_total{worker=\"10:4242\",role=\"worker\"} 5\n");
    has(&page, "# TYPE nodejs_gc_duration_seconds histogram\n");
    has(&page,
        "nodejs_gc_duration_seconds_bucket{worker=\"10:4242\",role=\"worker\",kind=\"minor\",le="
        "\"0.005\"} 3\n"
        "nodejs_gc_duration_seconds_bucket{worker=\"10:4242\",role=\"worker\",kind=\"minor\",le="
        "\"0.1\"} 5\n"
        "nodejs_gc_duration_seconds_bucket{worker=\"10:4242\",role=\"worker\",kind=\"minor\",le=\"+"
        "Inf\"} 6\n"
        "nodejs_gc_duration_seconds_sum{worker=\"10:4242\",role=\"worker\",kind=\"minor\"} 1.5\n"
        "nodejs_gc_duration_seconds_count{worker=\"10:4242\",role=\"worker\",kind=\"minor\"} 6\n");
    has(&page,
        "nodejs_version_info{worker=\"10:4242\",role=\"worker\",version=\"v22.3.1\",major=\"22\","
        "minor=\"3\",patch=\"1\"} 1\n");
    has(&page, "process_start_time_seconds{worker=\"10:4242\",role=\"worker\"} ");
    has(&page, "pillion_workers{state=\"live\"} 3\n");
    has(&page, "pillion_status_requests_total 0\n");
    has(&page, "container_cpu_time_seconds_total{");
    has_not(&page, "lies");
    has_not(&page, "nan");
    has_not(&page, "null");
    assert_int_equal(page.data[page.len - 1], '\n');
    buf_clear(&page);
}

static void test_unknown_and_gone_are_left_out(void **state) {
    struct worker *a = add_worker(10, 0, 0), *b = add_worker(11, 0, 0);
    struct buf page;

    (void)state;
    a->values[2] = NAN;
    a->values[4] = NAN; /* a bucket */
    b->state = WORKER_GONE;
    write_page(&page, NULL);
    has_not(&page, "space=\"new\"");
    has(&page, "space=\"old\"");
    has_not(&page, "nodejs_gc_duration_seconds"); /* no header without a series either */
    has_not(&page, "11:4242");
    has(&page, "pillion_workers{state=\"live\"} 1\n");
    buf_clear(&page);
}

static void test_one_worker(void **state) {
    struct buf page;

    (void)state;
    add_worker(10, 0, 0);
    add_worker(11, 0, 0);
    write_page(&page, "11");
    has(&page, "worker=\"11:4242\"");
    has_not(&page, "10:4242");
    has_not(&page, "container_");
    has_not(&page, "pillion_build_info");
    buf_clear(&page);
    write_page(&page, "12");
    assert_int_equal(page.len, 0);
    buf_clear(&page);
}

static void test_hostile_names(void **state) {
    struct schema *s = NULL, *outside = NULL;
    struct worker *w = add_worker(10, 0, 0);
    struct buf page;

    (void)state;
    (void)snprintf(w->node, sizeof(w->node), "v1.2.3\"\\\n} 7");
    assert_int_equal(workers_add(t.workers, &w, 12, 1, 0), 0);
    assert_int_equal(schema_new(&s, 3), 0);
    /* the name of a counter, as a gauge; a label that is the page's own; the page's own family */
    add_field(s, "process.cpu.time", "cpu.mode", "user", "s", FIELD_GAUGE);
    add_field(s, "app.x", "worker", "10:4242", "1", FIELD_GAUGE);
    add_field(s, "pillion.workers", "state", "live", "1", FIELD_GAUGE);
    assert_int_equal(proc_schema(&outside), 0);
    assert_int_equal(worker_set_layout(t.workers, w, s, outside), 0);
    schema_unref(s);
    schema_unref(outside);
    w->role = "worker";
    w->values[0] = w->values[1] = w->values[2] = 1;
    write_page(&page, NULL);
    assert_grouped(&page);
    has(&page, "version=\"v1.2.3\\\"\\\\\\n} 7\"");
    has(&page, "pillion_workers{state=\"live\"} 2\n");
    buf_clear(&page);
}

static void test_layouts_come_and_go(void **state) {
    struct worker *w = add_worker(10, 0, 0);
    struct buf page;
    long live;

    (void)state;
    write_page(&page, NULL);
    buf_clear(&page);
    live = mem_live();
    for (size_t i = 1; i < 20; i++) {
        workers_remove(t.workers, w);
        w = add_worker(10, 0, i);
        write_page(&page, NULL);
        has(&page, "app_value_0");
        buf_clear(&page);
    }
    workers_remove(t.workers, w);
    add_worker(10, 0, 0);
    write_page(&page, NULL);
    has_not(&page, "app_value_0");
    buf_clear(&page);
    assert_int_equal(mem_live(), live);
}

static size_t lines(const struct buf *page) {
    size_t n = 0;

    for (const char *p = page->data; p != NULL && *p != '\0'; p++)
        n += *p == '\n' && p[1] != '#' && p[1] != '\0';
    return n;
}

static void test_P51_series_are_capped(void **state) {
    uint64_t before = counter_get(COUNTER_SERIES_LEFT_OUT), left_out;
    struct buf page;
    size_t n = 0;

    (void)state;
    for (pid_t pid = 100; pid < 260; pid++)
        add_worker(pid, 0, 400);
    write_page(&page, NULL);
    assert_grouped(&page);
    n = lines(&page);
    left_out = counter_get(COUNTER_SERIES_LEFT_OUT) - before;
    print_message("%zu lines, %lu left out, %zu bytes\n", n, (unsigned long)left_out, page.len);
    assert_true(left_out > 10000);
    assert_true(n <= LIMIT_SERIES + 160 * 3 + 200); /* and what is said of workers and the helper */
    has(&page, "pillion_build_info");
    buf_clear(&page);
}

static void test_no_memory(void **state) {
    long n;

    (void)state;
    add_worker(10, 0, 3);
    add_worker(11, 0, 4);
    for (n = 1; n < 2000; n++) {
        struct buf page;
        int rc;

        buf_init(&page, PAGE_BYTES);
        metrics_text_free(t.text);
        assert_int_equal(metrics_text_new(&t.text), 0);
        mem_fail_only(n);
        rc = metrics_text_write(t.text, &t.status, NULL, &page);
        mem_fail_only(0);
        buf_clear(&page);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
        write_page(&page, NULL); /* nothing half-made stays */
        has(&page, "app_value_2");
        buf_clear(&page);
    }
    assert_true(n > 100 && n < 2000);
}

static double cpu_ms(void) {
    struct timespec ts;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Not a limit that fails on a slow machine: it prints what the page of 64 workers costs. */
static void test_P50_cost(void **state) {
    struct buf page;
    double before;

    (void)state;
    for (pid_t pid = 100; pid < 164; pid++)
        add_worker(pid, 0, 130);
    write_page(&page, NULL);
    buf_clear(&page);
    before = cpu_ms();
    for (int i = 0; i < 20; i++) {
        write_page(&page, NULL);
        if (i < 19)
            buf_clear(&page);
    }
    print_message("64 workers, %zu lines, %zu bytes: %.2f ms of CPU\n", lines(&page), page.len,
                  (cpu_ms() - before) / 20);
    buf_clear(&page);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_P51_names_and_labels),
        CASE(test_unknown_and_gone_are_left_out),
        CASE(test_one_worker),
        CASE(test_hostile_names),
        CASE(test_layouts_come_and_go),
        CASE(test_P51_series_are_capped),
        CASE(test_no_memory),
        CASE(test_P50_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
