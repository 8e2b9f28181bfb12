/* The table of workers, and what happens to numbers that both the worker and the kernel know. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "collectors/workers.h"

#define USER "process.cpu.time{cpu.mode=user}"

static struct schema *worker_layout(void) {
    struct schema *s;
    const double bounds[] = {0.1, 1};

    assert_int_equal(schema_new(&s, 3), 0);
    assert_int_equal(schema_add(s, "process.cpu.time", (const char *[]){"cpu.mode", "user"}, 1, "s",
                                FIELD_COUNTER, NULL, 0),
                     0);
    assert_int_equal(schema_add(s, "pillion.memory.heap.used", NULL, 0, "By", FIELD_GAUGE, NULL, 0),
                     0);
    assert_int_equal(schema_add(s, "v8js.gc.duration", NULL, 0, "s", FIELD_HISTOGRAM, bounds, 2),
                     0);
    return s;
}

static void set(double values[PROC_METRICS], double user, double rss) {
    for (size_t i = 0; i < PROC_METRICS; i++)
        values[i] = NAN;
    values[PROC_CPU_USER] = user;
    values[PROC_MEMORY_USAGE] = rss;
}

static struct worker *add(struct workers *ws, pid_t pid, uint64_t start, uint32_t thread) {
    struct worker *w;

    assert_int_equal(workers_add(ws, &w, pid, start, thread), 0);
    return w;
}

static void lay_out(const struct workers *ws, struct worker *w) {
    struct schema *inside = worker_layout(), *outside;

    assert_int_equal(proc_schema(&outside), 0);
    assert_int_equal(worker_set_layout(ws, w, inside, outside), 0);
    schema_unref(inside);
    schema_unref(outside);
}

/* P48: a pid that is used again is another worker. */
static void test_p48_names(void **state) {
    struct workers *ws;
    struct worker *a, *b, *t;
    (void)state;

    assert_int_equal(workers_new(&ws), 0);
    a = add(ws, 10, 111, 0);
    b = add(ws, 10, 222, 0);
    t = add(ws, 10, 222, 3);
    assert_string_equal(a->id, "10:111");
    assert_string_equal(t->id, "10:222/3");
    assert_ptr_equal(workers_find(ws, "10:222"), b);
    assert_ptr_equal(workers_find_pid(ws, 10), b);
    workers_remove(ws, b);
    assert_ptr_equal(workers_find_pid(ws, 10), a);
    assert_null(workers_find(ws, "10:222"));
    assert_int_equal(workers_count(ws), 2);
    workers_free(ws);
    assert_int_equal(mem_live(), 0);
}

static void test_workers_with_the_same_fields_share_a_layout(void **state) {
    struct workers *ws;
    struct worker *a, *b;
    (void)state;

    assert_int_equal(workers_new(&ws), 0);
    a = add(ws, 1, 1, 0);
    b = add(ws, 2, 1, 0);
    lay_out(ws, a);
    lay_out(ws, b);
    assert_ptr_equal(a->schema, b->schema);
    assert_int_equal(a->n_inside, 6);
    assert_int_equal(a->outside_slot[PROC_CPU_USER], 0);
    workers_free(ws);
    assert_int_equal(mem_live(), 0);
}

/* P48: a counter never goes back when the kernel's number takes over from the worker's. */
static void test_p48_what_both_know(void **state) {
    struct workers *ws;
    struct worker *w;
    double v[PROC_METRICS];
    (void)state;

    assert_int_equal(workers_new(&ws), 0);
    w = add(ws, 1, 1, 0);
    lay_out(ws, w);
    set(v, 1.98, 4096);
    worker_set_outside(w, v);
    assert_true(worker_value(w, USER) == 1.98); /* the worker has not spoken */
    w->values[0] = 2.005;
    worker_set_outside(w, v);
    assert_true(worker_value(w, USER) == 2.005);
    assert_true(worker_value(w, "process.memory.usage") == 4096);
    w->state = WORKER_BLOCKED;
    worker_forget_inside(w);
    worker_set_outside(w, v);
    assert_true(worker_value(w, USER) == 2.005);
    set(v, 3, NAN);
    worker_set_outside(w, v);
    assert_true(worker_value(w, USER) == 3);
    assert_true(isnan(worker_value(w, "process.memory.usage"))); /* unknown now, not as it was */
    workers_free(ws);
    assert_int_equal(mem_live(), 0);
}

static void test_old_numbers_are_forgotten(void **state) {
    struct workers *ws;
    struct worker *w;
    (void)state;

    assert_int_equal(workers_new(&ws), 0);
    w = add(ws, 1, 1, 0);
    lay_out(ws, w);
    for (size_t i = 0; i < w->n_inside; i++)
        w->values[i] = 5;
    worker_forget_inside(w);
    assert_true(isnan(worker_value(w, "pillion.memory.heap.used")));
    assert_true(worker_value(w, USER) == 5);
    assert_true(isnan(worker_value(w, "no.such.metric")));
    worker_add_point(w, 0.5);
    assert_true(w->history[0].cpu == 0.5f);
    assert_true(isnan(w->history[1].cpu));
    workers_free(ws);
    assert_int_equal(mem_live(), 0);
}

/* P61: a worker cannot put a histogram where the kernel's number goes. */
static void test_p61_a_field_that_is_not_its_own(void **state) {
    struct workers *ws;
    struct worker *w;
    struct schema *s, *outside;
    const double bounds[] = {1};
    (void)state;

    assert_int_equal(workers_new(&ws), 0);
    w = add(ws, 1, 1, 0);
    assert_int_equal(schema_new(&s, 1), 0);
    assert_int_equal(
        schema_add(s, "process.memory.usage", NULL, 0, "By", FIELD_HISTOGRAM, bounds, 1), 0);
    assert_int_equal(proc_schema(&outside), 0);
    assert_int_equal(worker_set_layout(ws, w, s, outside), -EINVAL);
    schema_unref(s);
    schema_unref(outside);
    workers_free(ws);
    assert_int_equal(mem_live(), 0);
}

static void test_p11_every_allocation_fails(void **state) {
    struct schema *inside = worker_layout(), *outside;
    int rc,
        passed = 0; /* a failure that is survived (a layout that is not shared) is a pass, too */
    (void)state;

    assert_int_equal(proc_schema(&outside), 0);
    for (long n = 1; passed < 2; n++) {
        struct workers *ws = NULL;
        struct worker *w;

        mem_fail_only(n);
        rc = workers_new(&ws);
        if (rc == 0)
            rc = workers_add(ws, &w, 1, 1, 0);
        if (rc == 0)
            rc = worker_set_layout(ws, w, inside, outside);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        passed = rc == 0 ? passed + 1 : 0;
        workers_free(ws);
        assert_true(n < 1000);
    }
    schema_unref(inside);
    schema_unref(outside);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p48_names),
        cmocka_unit_test(test_workers_with_the_same_fields_share_a_layout),
        cmocka_unit_test(test_p48_what_both_know),
        cmocka_unit_test(test_old_numbers_are_forgotten),
        cmocka_unit_test(test_p61_a_field_that_is_not_its_own),
        cmocka_unit_test(test_p11_every_allocation_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
