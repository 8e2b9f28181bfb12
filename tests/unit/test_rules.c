/* Captures by rule: once in a while for each worker and rule, so many an hour for all. */
#include "agent/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/base/counters.h"
#include "agent/base/mem.h"

#define STACK   (1u << CAPTURE_STACK)
#define PROFILE (1u << CAPTURE_CPU_PROFILE)
#define REPORT  (1u << CAPTURE_REPORT)
#define HOUR    3600000ull

static void test_cooldown(void **state) {
    struct rules r;
    uint64_t held = counter_get(COUNTER_RULES_HELD_BACK);

    (void)state;
    rules_init(&r, STACK, 0, REPORT, 60);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "1:1", 1000), STACK);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "1:1", 1000 + LIMIT_RULE_COOLDOWN_MS - 1), 0);
    assert_int_equal(counter_get(COUNTER_RULES_HELD_BACK), held + 1);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "2:1", 1001), STACK); /* another worker */
    assert_int_equal(rules_fire(&r, RULE_CRASH, "1:1", 1002), REPORT);  /* another rule */
    assert_int_equal(rules_fire(&r, RULE_MEMORY, "1:1", 1003), 0);      /* not wanted */
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "1:1", 1000 + LIMIT_RULE_COOLDOWN_MS), STACK);
}

static void test_hourly_limit(void **state) {
    struct rules r;
    char worker[16];

    (void)state;
    rules_init(&r, STACK, 0, 0, 3);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(worker, sizeof(worker), "%d:1", i);
        assert_int_equal(rules_fire(&r, RULE_BLOCKED, worker, 1000 + (uint64_t)i * 1000), STACK);
    }
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "9:1", 4000), 0);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "9:1", 999 + HOUR), 0);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "9:1", 1000 + HOUR),
                     STACK);                                               /* the first is over */
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "8:1", 1001 + HOUR), 0); /* the second is not */
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "8:1", 2000 + HOUR), STACK);
}

/* Each action is one of the hour; what does not fit any more is left out. */
static void test_several_actions(void **state) {
    struct rules r;

    (void)state;
    rules_init(&r, STACK | PROFILE, 0, 0, 3);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "1:1", 1000), STACK | PROFILE);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "2:1", 1000), PROFILE);
    assert_int_equal(rules_fire(&r, RULE_BLOCKED, "3:1", 1000), 0);
}

static void test_memory_is_bounded(void **state) {
    struct rules r;
    char worker[16];

    (void)state;
    rules_init(&r, STACK, 0, 0, 60);
    for (uint64_t i = 0; i < 10 * LIMIT_RULE_MEMORY; i++) {
        (void)snprintf(worker, sizeof(worker), "%u:1", (unsigned)i);
        assert_int_equal(rules_fire(&r, RULE_BLOCKED, worker, 1000 + i * HOUR), STACK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cooldown),
        cmocka_unit_test(test_hourly_limit),
        cmocka_unit_test(test_several_actions),
        cmocka_unit_test(test_memory_is_bounded),
    };

    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
