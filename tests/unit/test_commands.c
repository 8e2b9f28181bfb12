/* What somebody asks for: every member right and wrong, selectors, ids, and no memory (P62). */
#include "agent/commands.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"

static char why[COMMAND_WHY_BYTES];

static int no_leak(void **state) {
    (void)state;
    assert_int_equal(mem_live(), 0);
    return 0;
}

static struct command good(const char *json) {
    struct command c = {0};

    if (command_read(json, strlen(json), &c, why) != 0)
        fail_msg("%s is refused: %s", json, why);
    assert_int_equal(why[0], '\0');
    return c;
}

/* Refused, and the reason has these words. */
static void bad(const char *json, const char *words) {
    struct command c = {0};

    assert_int_equal(command_read(json, strlen(json), &c, why), -EINVAL);
    if (strstr(why, words) == NULL)
        fail_msg("%s\n  says   %s\n  wanted %s", json, why, words);
}

static void test_good(void **state) {
    struct command c;

    (void)state;
    c = good(
        "{\"id\":\"a-1\",\"action\":\"cpu_profile\",\"worker\":\"all\",\"params\":{\"seconds\":3,"
        "\"interval_us\":250,\"hold\":true}}");
    assert_string_equal(c.id, "a-1");
    assert_string_equal(c.worker, "all");
    assert_int_equal(c.order.action, CAPTURE_CPU_PROFILE);
    assert_int_equal(c.order.seconds, 3);
    assert_int_equal(c.order.interval_us, 250);
    assert_int_equal(c.order.deadline_ms, 63000);
    assert_true(c.hold);
    c = good("{\"action\":\"heap_snapshot\",\"worker\":4711,\"params\":{\"allow_stall\":true,"
             "\"force\":false},\"said_by\":\"somebody\"}");
    assert_string_equal(c.id, "");
    assert_string_equal(c.worker, "4711");
    assert_true(c.order.allow_stall);
    assert_false(c.order.force);
    c = good("{\"action\":\"stack\",\"worker\":\"4711:88/2\",\"params\":null}");
    assert_false(c.hold);
    assert_int_equal(good("{\"action\":\"gc_trace\",\"worker\":\"1\"}").order.seconds, 30);
    assert_int_equal(good("{\"action\":\"cpu_profile\",\"worker\":\"1\"}").order.interval_us, 0);
}

static void test_p62_bad(void **state) {
    (void)state;
    bad("", "JSON");
    bad("[]", "one object");
    bad("{\"worker\":\"1\"}", "action: heap_snapshot, heap_histogram, cpu_profile, heap_profile, "
                              "gc_trace, report, stack is required");
    bad("{\"action\":\"format_disk\",\"worker\":\"1\"}", "stack is accepted");
    bad("{\"action\":\"stack\"}", "worker: all, a role, a pid");
    bad("{\"action\":\"stack\",\"worker\":0}", "worker: ");
    bad("{\"action\":\"stack\",\"worker\":\"\"}", "worker: ");
    bad("{\"action\":\"stack\",\"worker\":\"1234567890123456789012345678901234567890123456789\"}",
        "worker: ");
    bad("{\"action\":\"stack\",\"worker\":\"1\",\"params\":[]}", "params: an object");
    bad("{\"action\":\"stack\",\"worker\":\"1\",\"params\":{\"path\":\"/etc/passwd\"}}",
        "params.path: stack takes hold");
    bad("{\"action\":\"stack\",\"worker\":\"1\",\"params\":{\"seconds\":1}}", "params.seconds");
    bad("{\"action\":\"gc_trace\",\"worker\":\"1\",\"params\":{\"seconds\":0}}",
        "params.seconds: an integer from 1 to 300");
    bad("{\"action\":\"gc_trace\",\"worker\":\"1\",\"params\":{\"seconds\":301}}",
        "params.seconds");
    bad("{\"action\":\"cpu_profile\",\"worker\":\"1\",\"params\":{\"interval_us\":99}}",
        "params.interval_us: an integer from 100 to 100000");
    bad("{\"action\":\"heap_snapshot\",\"worker\":\"1\",\"params\":{\"force\":1}}",
        "params.force: true or false");
    bad("{\"action\":\"stack\",\"action\":\"stack\",\"worker\":\"1\"}", "JSON");
}

static void test_p62_ids(void **state) {
    static const char *const wrong[] = {"",    ".",   "..",   "../x",    "a/b", "-a",  "_a",
                                        "a b", "a@1", "a\\n", "\\u00e9", "a:b", "a%2f"};
    char json[512], id[COMMAND_ID_BYTES + 2];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        (void)snprintf(json, sizeof(json), "{\"id\":\"%s\",\"action\":\"stack\",\"worker\":\"1\"}",
                       wrong[i]);
        bad(json, "id: 1 to 128 letters");
    }
    bad("{\"id\":7,\"action\":\"stack\",\"worker\":\"1\"}", "id: ");
    memset(id, 'x', sizeof(id));
    id[COMMAND_ID_BYTES] = '\0';
    assert_true(command_id_is_good(id));
    id[COMMAND_ID_BYTES] = 'x';
    id[COMMAND_ID_BYTES + 1] = '\0';
    assert_false(command_id_is_good(id));
    command_make_id(id);
    assert_true(command_id_is_good(id));
    command_make_id(json);
    assert_string_not_equal(id, json);
}

static void test_selectors(void **state) {
    struct worker w = {.id = "17:500", .pid = 17, .role = "worker", .state = WORKER_LIVE};
    struct worker thread = {.id = "17:500/2", .pid = 17, .thread = 2, .role = "thread"};

    (void)state;
    assert_true(command_selects("all", &w));
    assert_true(command_selects("17", &w));
    assert_true(command_selects("worker", &w));
    assert_true(command_selects("17:500", &w));
    assert_false(command_selects("17:501", &w));
    assert_false(command_selects("1", &w));
    assert_false(command_selects("primary", &w));
    assert_false(command_selects("", &w));
    assert_false(command_selects("all", &thread));
    assert_false(command_selects("17", &thread));
    assert_true(command_selects("thread", &thread));
    assert_true(command_selects("17:500/2", &thread));
    w.state = WORKER_BLOCKED;
    assert_true(command_selects("all", &w));
    w.state = WORKER_GONE;
    assert_false(command_selects("17:500", &w));
}

static void test_deadlines(void **state) {
    (void)state;
    for (int action = 0; action < CAPTURE_ACTIONS; action++) {
        struct capture_order order = {.action = (enum capture_action)action, .seconds = 300};

        assert_in_range(command_deadline_ms(&order), 1000, 600000);
        assert_true(command_deadline_ms(&order) > order.seconds * 1000 ||
                    !command_is_heavy(order.action));
    }
}

static void test_no_memory(void **state) {
    static const char json[] =
        "{\"id\":\"a\",\"action\":\"stack\",\"worker\":\"1\",\"params\":{\"hold\":true}}";
    struct command c;
    int rc = -1;

    (void)state;
    for (long n = 1; rc != 0 && n < 200; n++) {
        mem_fail_only(n);
        rc = command_read(json, sizeof(json) - 1, &c, why);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(mem_live(), 0);
    }
    assert_int_equal(rc, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_good, no_leak),
        cmocka_unit_test_teardown(test_p62_bad, no_leak),
        cmocka_unit_test_teardown(test_p62_ids, no_leak),
        cmocka_unit_test_teardown(test_selectors, no_leak),
        cmocka_unit_test_teardown(test_deadlines, no_leak),
        cmocka_unit_test_teardown(test_no_memory, no_leak),
    };

    json_set_alloc_funcs(mem_alloc, mem_free);
    return cmocka_run_group_tests_name("commands", tests, NULL, NULL);
}
