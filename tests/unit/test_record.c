/* The numbers of a layout as JSON members. */
#include "collectors/record.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/base/mem.h"

static struct schema *make(void) {
    static const char *const user[] = {"cpu.mode", "user"};
    static const char *const gc[] = {"v8js.gc.type", "minor", "a.first", "x"};
    static const double bounds[] = {0.005, 0.1, 1};
    struct schema *s = NULL;

    assert_int_equal(schema_new(&s, 4), 0);
    assert_int_equal(schema_add(s, "process.cpu.time", user, 1, "s", FIELD_COUNTER, NULL, 0), 0);
    assert_int_equal(
        schema_add(s, "v8js.gc.duration", gc, 2, "s", FIELD_HISTOGRAM, bounds, ARRAY_LEN(bounds)),
        0);
    assert_int_equal(schema_add(s, "pillion.plain", NULL, 0, "s", FIELD_HISTOGRAM, bounds, 1), 0);
    assert_int_equal(schema_add(s, "process.uptime", NULL, 0, "s", FIELD_GAUGE, NULL, 0), 0);
    return s;
}

static void check(struct schema *s, const double *values, const char *expected) {
    struct buf b;

    buf_init(&b, 65536);
    record_metrics_object(&b, s, values);
    assert_int_equal(b.err, 0);
    assert_string_equal(b.data, expected);
    buf_clear(&b);
}

static void test_members(void **state) {
    struct schema *s = make();
    const double all[] = {1.25, 3, 2, 0, 1, 1.5, 1, 0, 0.001, 60};
    const double none[] = {NAN, 0, 0, 0, 0, 0, NAN, NAN, NAN, INFINITY};
    const double sum_unknown[] = {0, 0, 0, 0, 0, 0, 1, 2, NAN, 0};

    (void)state;
    check(s, all,
          "{\"process.cpu.time{cpu.mode=user}\":1.25,"
          "\"v8js.gc.duration.bucket{a.first=x,v8js.gc.type=minor,le=0.005}\":3,"
          "\"v8js.gc.duration.bucket{a.first=x,v8js.gc.type=minor,le=0.1}\":2,"
          "\"v8js.gc.duration.bucket{a.first=x,v8js.gc.type=minor,le=1}\":0,"
          "\"v8js.gc.duration.bucket{a.first=x,v8js.gc.type=minor,le=+Inf}\":1,"
          "\"v8js.gc.duration.sum{a.first=x,v8js.gc.type=minor}\":1.5,"
          "\"v8js.gc.duration.count{a.first=x,v8js.gc.type=minor}\":6,"
          "\"pillion.plain.bucket{le=0.005}\":1,\"pillion.plain.bucket{le=+Inf}\":0,"
          "\"pillion.plain.sum\":0.001,\"pillion.plain.count\":1,\"process.uptime\":60}");
    check(s, none, "{}");
    check(s, sum_unknown,
          "{\"process.cpu.time{cpu.mode=user}\":0,\"pillion.plain.bucket{le=0.005}\":1,"
          "\"pillion.plain.bucket{le=+Inf}\":2,\"pillion.plain.count\":3,\"process.uptime\":0}");
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

static void test_empty_layout(void **state) {
    struct schema *s = NULL;
    double none = 0;

    (void)state;
    assert_int_equal(schema_new(&s, 0), 0);
    check(s, &none, "{}");
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

static void test_no_memory(void **state) {
    const double all[] = {1.25, 3, 2, 0, 1, 1.5, 1, 0, 0.001, 60};
    long n;

    (void)state;
    for (n = 1; n < 100; n++) {
        struct schema *s = make();
        struct buf b;
        int err;

        buf_init(&b, 65536);
        mem_fail_only(n);
        record_metrics(&b, s, all);
        mem_fail_only(0);
        err = b.err;
        buf_reset(&b);
        record_metrics(&b, s, all); /* the next one works, whatever failed before */
        assert_int_equal(b.err, 0);
        buf_clear(&b);
        schema_unref(s);
        if (err == 0)
            break;
        assert_int_equal(err, -ENOMEM);
    }
    assert_true(n > 3 && n < 100);
    assert_int_equal(mem_live(), 0);
}

static void test_cap(void **state) {
    const double all[] = {1.25, 3, 2, 0, 1, 1.5, 1, 0, 0.001, 60};
    struct schema *s = make();
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    record_metrics(&b, s, all);
    assert_int_equal(b.err, -ENOBUFS);
    buf_clear(&b);
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

static uint64_t cpu_ns(void) {
    struct timespec ts;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Not a limit that fails on a slow machine: it prints what a record costs, and checks the result
 * with a parser of others. */
static void test_cost(void **state) {
    struct schema *s = NULL;
    double values[150];
    uint64_t before, ns;
    struct buf b;
    json_t *parsed;

    (void)state;
    assert_int_equal(schema_new(&s, ARRAY_LEN(values)), 0);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "v8js.memory.heap.some_value_%zu", i);
        assert_int_equal(schema_add(s, name, NULL, 0, "By", FIELD_GAUGE, NULL, 0), 0);
        values[i] = i % 3 == 0   ? (double)(i * 1234567)
                    : i % 3 == 1 ? (double)(i * 123457) / 1e9
                                 : (double)i / 173;
    }
    buf_init(&b, 65536);
    record_metrics_object(&b, s, values);
    before = cpu_ns();
    for (int i = 0; i < 2000; i++) {
        buf_reset(&b);
        record_metrics_object(&b, s, values);
    }
    ns = (cpu_ns() - before) / 2000;
    print_message("a record of 150 numbers (a third of each kind), %zu bytes: %lu ns\n", b.len,
                  (unsigned long)ns);
    parsed = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(parsed);
    assert_int_equal(json_object_size(parsed), ARRAY_LEN(values));
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        assert_true(fabs(json_number_value(json_object_get(parsed, s->fields[i].key)) -
                         values[i]) <= 5.0001e-10); /* to a billionth */
    json_decref(parsed);
    buf_clear(&b);
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),   cmocka_unit_test(test_empty_layout),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_cap),
        cmocka_unit_test(test_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
