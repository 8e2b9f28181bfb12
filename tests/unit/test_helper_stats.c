/* What the helper says of itself: its numbers, its warnings. */
#include "agent/helper_stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/warnings.h"

static void on_short(uv_timer_t *timer) {
    (void)timer;
}

static void on_long(uv_timer_t *timer) {
    uint64_t end = clock_mono_ms() + 40;

    while (clock_mono_ms() < end) {
    }
    uv_close((uv_handle_t *)timer, NULL);
}

static void test_late_turns_are_seen(void **state) {
    uint64_t late = counter_get(COUNTER_LOOP_LATE);
    struct helper_stats h;
    struct helper_numbers n;
    uv_timer_t often, once;
    uv_loop_t loop;

    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(helper_stats_start(&h, &loop), 0);
    helper_stats_read(&h, &n);
    assert_true(isnan(n.lag_max_s)); /* not known is not 0 */
    assert_true(isnan(n.lag_p99_s));
    assert_int_equal(uv_timer_init(&loop, &often), 0);
    assert_int_equal(uv_timer_init(&loop, &once), 0);
    assert_int_equal(uv_timer_start(&often, on_short, 1, 1), 0);
    uv_unref((uv_handle_t *)&often);
    assert_int_equal(uv_timer_start(&once, on_long, 150, 0), 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    helper_stats_read(&h, &n);
    assert_true(n.lag_max_s >= 0.039); /* the wait between the turns is not counted … */
    assert_true(n.turns >= 20);
    assert_true(n.lag_p99_s <= n.lag_max_s);
    assert_true(counter_get(COUNTER_LOOP_LATE) > late);
    assert_true(n.rss_bytes > 1e5 && n.rss_bytes < 1e9);
    assert_true(n.cpu_s > 0);
    assert_true(n.descriptors >= 3 && n.descriptors < 100);
    uv_close((uv_handle_t *)&often, NULL);
    helper_stats_close(&h);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void on_first(uv_timer_t *timer) {
    uv_close((uv_handle_t *)timer, NULL);
}

/* … and a loop that does nothing is not late. */
static void test_waiting_is_not_late(void **state) {
    struct helper_stats h;
    struct helper_numbers n;
    uv_timer_t once;
    uv_loop_t loop;

    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(helper_stats_start(&h, &loop), 0);
    assert_int_equal(uv_timer_init(&loop, &once), 0);
    assert_int_equal(uv_timer_start(&once, on_first, 400, 0), 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    helper_stats_read(&h, &n);
    assert_true(n.lag_max_s < 0.3);
    helper_stats_close(&h);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static json_t *read_warnings(struct warnings *w) {
    struct buf out;
    json_t *list;

    buf_init(&out, 65536);
    warnings_json(w, &out);
    assert_int_equal(out.err, 0);
    list = json_loadb(out.data, out.len, 0, NULL);
    assert_non_null(list);
    buf_clear(&out);
    return list;
}

static const char *message(const json_t *list, size_t i) {
    return json_string_value(json_object_get(json_array_get(list, i), "message"));
}

static void test_warnings(void **state) {
    static struct warnings w;
    json_t *list;
    char lines[2 * WARNING_BYTES];

    (void)state;
    assert_int_equal(warnings_init(&w), 0);
    list = read_warnings(&w);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    log_info("not a warning");
    log_warn("first \"quoted\" %d", 1);
    log_error("second");
    log_error("second");
    list = read_warnings(&w);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(message(list, 0), "second"); /* newest first, a repeat is counted */
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "times")), 2);
    assert_string_equal(message(list, 1), "first \"quoted\" 1");
    json_decref(list);
    memset(lines, 'x', sizeof(lines) - 1);
    lines[sizeof(lines) - 1] = '\0';
    warnings_add(&w, lines);
    for (int i = 0; i < LIMIT_WARNINGS - 1; i++) {
        (void)snprintf(lines + WARNING_BYTES - 20, 20, "%d", i);
        warnings_add(&w, lines + WARNING_BYTES - 20);
    }
    list = read_warnings(&w);
    assert_int_equal(json_array_size(list), LIMIT_WARNINGS);
    assert_int_equal(strlen(message(list, LIMIT_WARNINGS - 1)), WARNING_BYTES - 1);
    json_decref(list);
    warnings_clear(&w);
    log_warn("nobody listens any more");
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_turns_are_seen),
        cmocka_unit_test(test_waiting_is_not_late),
        cmocka_unit_test(test_warnings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
