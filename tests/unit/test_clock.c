/* Times as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/clock.h"

static void same(int64_t wall_ms, const char *want) {
    char got[CLOCK_ISO_BYTES];

    clock_iso(wall_ms, got);
    assert_string_equal(got, want);
}

static void test_known_times(void **state) {
    (void)state;
    same(0, "1970-01-01T00:00:00.000Z");
    same(-5, "1970-01-01T00:00:00.000Z");
    same(951827696007, "2000-02-29T12:34:56.007Z");
    same(1795444800123, "2026-11-23T14:40:00.123Z");
    same(INT64_MAX, "9999-12-31T23:59:59.999Z");
}

/* Against the C library, over many years. */
static void test_as_strftime(void **state) {
    char want[64], date[32];
    (void)state;

    for (int64_t ms = 0; ms < 4102444800000; ms += 86399999017) {
        time_t s = (time_t)(ms / 1000);

        assert_true(strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", gmtime(&s)) > 0);
        (void)snprintf(want, sizeof(want), "%s.%03dZ", date, (int)(ms % 1000));
        same(ms, want);
    }
}

static void test_clocks_run_forward(void **state) {
    uint64_t mono = clock_mono_ns();
    (void)state;

    assert_true(clock_mono_ns() >= mono);
    assert_true(clock_boot_ms() + 1 >= clock_mono_ms());
    assert_true(clock_wall_ms() > 1700000000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_times),
        cmocka_unit_test(test_as_strftime),
        cmocka_unit_test(test_clocks_run_forward),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
