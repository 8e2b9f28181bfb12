/* Which samples wait in which batch: order, one entry a worker and batch, growth, no memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/acks.h"
#include "agent/base/mem.h"

static void id(char out[WORKER_ID_BYTES], int n) {
    worker_make_id(out, 100 + n, 7, 0);
}

static void test_one_entry_a_worker_and_batch(void **state) {
    struct acks a;
    struct ack got;
    char w[WORKER_ID_BYTES], v[WORKER_ID_BYTES];
    (void)state;

    acks_init(&a);
    id(w, 1);
    id(v, 2);
    assert_int_equal(acks_add(&a, 1, w, 1), 0);
    assert_int_equal(acks_add(&a, 1, v, 1), 0);
    assert_int_equal(acks_add(&a, 1, w, 2), 0);
    assert_int_equal(acks_add(&a, 2, w, 3), 0);
    assert_false(acks_next(&a, 0, &got));
    assert_true(acks_next(&a, 1, &got));
    assert_string_equal(got.worker, w);
    assert_int_equal(got.number, 2);
    assert_true(acks_next(&a, 1, &got));
    assert_string_equal(got.worker, v);
    assert_false(acks_next(&a, 1, &got));
    assert_true(acks_next(&a, 9, &got));
    assert_int_equal(got.number, 3);
    assert_false(acks_next(&a, 9, &got));
    acks_clear(&a);
    assert_int_equal(mem_live(), 0);
}

/* The ring turns and grows while it is turned. */
static void test_grows_in_order(void **state) {
    struct acks a;
    struct ack got;
    char w[WORKER_ID_BYTES];
    uint64_t next = 1;
    (void)state;

    acks_init(&a);
    for (uint64_t seq = 1; seq <= 200; seq++) {
        for (int i = 0; i < 3; i++) {
            id(w, i);
            assert_int_equal(acks_add(&a, seq, w, seq), 0);
        }
        if (seq % 2 != 0)
            continue;
        for (int i = 0; i < 3; i++, assert_true(got.seq <= next))
            assert_true(acks_next(&a, next, &got));
        next++;
    }
    while (acks_next(&a, 200, &got))
        next = got.seq;
    assert_int_equal(next, 200);
    acks_clear(&a);
    assert_int_equal(mem_live(), 0);
}

static void test_without_memory(void **state) {
    struct acks a;
    struct ack got;
    char w[WORKER_ID_BYTES];
    (void)state;

    acks_init(&a);
    id(w, 1);
    mem_fail_only(1);
    assert_int_equal(acks_add(&a, 1, w, 1), -ENOMEM);
    assert_int_equal(acks_add(&a, 1, w, 2), 0); /* stands for both */
    assert_true(acks_next(&a, 1, &got));
    assert_int_equal(got.number, 2);
    acks_clear(&a);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_entry_a_worker_and_batch),
        cmocka_unit_test(test_grows_in_order),
        cmocka_unit_test(test_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
