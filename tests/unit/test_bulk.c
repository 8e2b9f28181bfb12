/* The answer of _bulk in pieces of every size, and the names of fields (P28). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/mem.h"
#include "uploader/sinks/bulk.h"
#include "uploader/sinks/elasticsearch.h"

struct seen {
    char text[2048];
    unsigned n;
};

static void on_item(void *arg, const struct bulk_item *item) {
    struct seen *s = arg;
    size_t len = strlen(s->text);

    assert_int_equal(item->index, s->n);
    s->n++;
    (void)snprintf(s->text + len, sizeof(s->text) - len, "%ld %s %s;", item->status, item->type,
                   item->reason);
}

static bool feed(struct seen *s, const char *text, size_t piece) {
    struct bulk b;
    bool good = true;
    size_t len = strlen(text);

    *s = (struct seen){0};
    bulk_begin(&b, on_item, s);
    for (size_t i = 0; good && i < len; i += piece)
        good = bulk_feed(&b, text + i, len - i < piece ? len - i : piece);
    return good && bulk_complete(&b);
}

static void test_p28_items(void **state) {
    static const char text[] =
        "{\"took\":3,\"errors\":true,\"x\":{\"items\":[{\"create\":{\"status\":1}}]},\"items\":[\n"
        "{\"create\":{\"_index\":\"a\",\"status\":201,\"_shards\":{\"status\":5,\"total\":1}}},"
        "{\"create\":{\"error\":{\"reason\":\"a "
        "\\\"b\\\"\\n{]\",\"type\":\"mapper\",\"caused_by\":{"
        "\"type\":\"inner\",\"reason\":\"inner\"},\"root_cause\":[{\"type\":\"no\"}]},\"status\":"
        "400}},"
        "{\"create\":{\"status\":409}} , {\"create\":{}}, {}]}";
    struct seen s;
    (void)state;

    for (size_t piece = 1; piece < sizeof(text); piece++) {
        assert_true(feed(&s, text, piece));
        assert_int_equal(s.n, 5);
        assert_string_equal(s.text, "201  ;400 mapper a \"b\" {];409  ;0  ;0  ;");
    }
}

static void test_not_bulk(void **state) {
    static const char *const cases[] = {"",
                                        "{",
                                        "x",
                                        "<html>",
                                        "{\"items\":[{]}",
                                        "{\"items\":[{\"create\":{\"status\":201}}]",
                                        "{}{}",
                                        "]",
                                        "5",
                                        "{\"a\":[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]}"};
    struct seen s;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_false(feed(&s, cases[i], 3));
    assert_true(feed(&s, "{\"errors\":false}", 1));
    assert_int_equal(s.n, 0);
}

static void test_long_answer(void **state) {
    struct seen s = {0};
    struct bulk b;
    (void)state;

    bulk_begin(&b, on_item, &s);
    assert_true(bulk_feed(&b, "{\"items\":[", 10));
    for (unsigned i = 0; i < 100000; i++) {
        s.text[0] = '\0';
        assert_true(bulk_feed(&b, "{\"create\":{\"status\":201}},", 26));
        assert_string_equal(s.text, "201  ;");
    }
    assert_false(bulk_complete(&b));
    assert_true(bulk_feed(&b, "{\"create\":{\"status\":429}}]}", 27));
    assert_true(bulk_complete(&b));
    assert_int_equal(s.n, 100001);
}

static void test_field_names(void **state) {
    static const char *const cases[][2] = {
        {"pid", "pid"},
        {"kind", "kind"},
        {"v8js.memory.heap.used", "v8js_memory_heap_used"},
        {"process.cpu.time{cpu.mode=user}", "process_cpu_time__user"},
        {"pillion.container.pressure{pillion.kind=some,pillion.resource=cpu}",
         "pillion_container_pressure__some__cpu"},
        {"v8js.gc.duration.bucket{v8js.gc.type=minor,le=0.01}",
         "v8js_gc_duration_bucket__minor__0_01"},
        {"v8js.gc.duration.bucket{v8js.gc.type=minor,le=+Inf}",
         "v8js_gc_duration_bucket__minor__Inf"},
        {"a{b=c d\\\"}", "a__c_d__"},
        {"a{b}", "a"},
        {"a{", "a"},
    };
    char out[64];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        elasticsearch_field(cases[i][0], strlen(cases[i][0]), out, sizeof(out));
        assert_string_equal(out, cases[i][1]);
    }
    elasticsearch_field("a.b.c.d", 7, out, 4);
    assert_string_equal(out, "a_b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p28_items),
        cmocka_unit_test(test_not_bulk),
        cmocka_unit_test(test_long_answer),
        cmocka_unit_test(test_field_names),
    };

    return cmocka_run_group_tests_name("bulk", tests, NULL, NULL);
}
