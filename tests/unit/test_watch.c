/* When a state is worth an event. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "collectors/watch.h"

static void test_blocked(void **state) {
    (void)state;
    assert_false(watch_blocked(1000, 1000, 1000, 2000));
    assert_false(
        watch_blocked(4000, 1000, 1000, 2000)); /* a period late and two seconds silent: not yet */
    assert_true(watch_blocked(4001, 1000, 1000, 2000));
    assert_false(watch_blocked(1000, 5000, 1000, 2000)); /* the last word lies ahead: forgiven */
}

static void test_limit_has_one_event(void **state) {
    bool on = false;
    (void)state;

    assert_int_equal(watch_limit(&on, 89, 100, 0.9), WATCH_SAME);
    assert_int_equal(watch_limit(&on, 90, 100, 0.9), WATCH_RAISED);
    assert_int_equal(watch_limit(&on, 95, 100, 0.9), WATCH_SAME);
    assert_int_equal(watch_limit(&on, 86, 100, 0.9), WATCH_SAME); /* not five points below */
    assert_int_equal(watch_limit(&on, 84, 100, 0.9), WATCH_CLEARED);
    assert_int_equal(watch_limit(&on, 84, 100, 0.9), WATCH_SAME);
}

static void test_limit_not_known(void **state) {
    bool on = true;
    (void)state;

    assert_int_equal(watch_limit(&on, NAN, 100, 0.9), WATCH_SAME);
    assert_int_equal(watch_limit(&on, 50, NAN, 0.9), WATCH_SAME);
    assert_int_equal(watch_limit(&on, 50, 0, 0.9), WATCH_SAME);
    assert_true(on);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_limit_has_one_event),
        cmocka_unit_test(test_limit_not_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
