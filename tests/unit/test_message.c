/* The payloads of ipc/PROTOCOL.md: every rule of its tables, hostile JSON, and no memory. */
#include "ipc/message.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "ipc/frame.h"

static char why[256];

static int read_hello(const char *json, struct hello *ret) {
    return message_read_hello(json, strlen(json), ret, why);
}

static int read_event(const char *json, struct worker_event *ret) {
    return message_read_event(json, strlen(json), ret, why);
}

static int use_mem(void **state) {
    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(1);
    return 0;
}

static int nothing_left(void **state) {
    (void)state;
    return mem_live() == 0 ? 0 : -1;
}

/* --- rules of the hello -------------------------------------------------------------------------------------------------- */

#define HEAD        "\"protocol\":[1],\"pid\":7,\"start\":5,\"next\":1,"
#define FIELDS      "\"fields\":[{\"name\":\"a\",\"unit\":\"1\",\"kind\":\"gauge\"}]"
#define FIELD(text) "{" HEAD "\"fields\":[{" text "}]}"
#define NAMED(text) FIELD("\"name\":\"a\",\"unit\":\"1\"," text)

static const struct {
    const char *json;
    const char *why; /* part of it */
} bad_hellos[] = {
    {"", "JSON:"},
    {"{", "JSON:"},
    {"[]", "JSON: one object"},
    {"3", "JSON:"},
    {"{} x", "JSON:"},
    {"{\"pid\":1,\"pid\":1}", "JSON: duplicate"},
    {"{\"pid\":99999999999999999999999}", "JSON: too big integer"},
    {"{\"pid\":NaN}", "JSON:"},
    {"{\"title\":\"\xff\xfe\"}", "JSON: unable to decode byte 0xff"},
    {"{\"title\":\"\xc0\x80\"}", "JSON: unable to decode"},
    {"{\"title\":\"\xed\xa0\x80\"}", "JSON: unable to decode"},
    {"{\"title\":\"\\ud800\"}", "JSON:"},
    {"{\"title\":\"a\\u0000b\"}", "JSON: \\u0000"},
    {"{}", "protocol: an array"},
    {"{\"protocol\":1}", "protocol: an array"},
    {"{\"protocol\":[]}", "protocol: an array"},
    {"{\"protocol\":[\"1\"]}", "protocol[0]: an integer"},
    {"{\"protocol\":[1]}", "pid: an integer from 1 to 2147483647 is required"},
    {"{\"protocol\":[1],\"pid\":0}", "pid: an integer from 1 to 2147483647 is accepted"},
    {"{\"protocol\":[1],\"pid\":-1}", "pid:"},
    {"{\"protocol\":[1],\"pid\":1.5}", "pid:"},
    {"{\"protocol\":[1],\"pid\":2147483648}", "pid:"},
    {"{\"protocol\":[1],\"pid\":\"7\"}", "pid:"},
    {"{\"protocol\":[1],\"pid\":7,\"start\":-1}", "start: an integer from 0"},
    {"{\"protocol\":[1],\"pid\":7}", "start: an integer from 0"},
    {"{\"protocol\":[1],\"pid\":7,\"start\":0,\"next\":0}", "next: an integer from 1"},
    {"{\"protocol\":[1],\"pid\":7,\"start\":0}", "next: an integer from 1"},
    {"{" HEAD "\"ppid\":-1," FIELDS "}", "ppid:"},
    {"{" HEAD "\"ppid\":null," FIELDS "}", "ppid:"},
    {"{" HEAD "\"thread\":-1," FIELDS "}", "thread: an integer from 0"},
    {"{" HEAD "\"thread\":4294967296," FIELDS "}", "thread:"},
    {"{" HEAD "\"role\":\"boss\"," FIELDS "}", "role: primary, worker, agent, process or thread"},
    {"{" HEAD "\"role\":1," FIELDS "}", "role:"},
    {"{" HEAD "\"title\":1," FIELDS "}", "title: a string is accepted"},
    {"{" HEAD "\"node\":[]," FIELDS "}", "node: a string"},
    {"{" HEAD "\"app\":null," FIELDS "}", "app: a string"},
    {"{\"protocol\":[1],\"pid\":7,\"start\":5,\"next\":1}", "fields: an array of 1 to 512"},
    {"{" HEAD "\"fields\":[]}", "fields: an array of 1 to 512"},
    {"{" HEAD "\"fields\":{}}", "fields: an array of 1 to 512"},
    {"{" HEAD "\"fields\":[1]}", "fields[0].an object"},
    {FIELD("\"unit\":\"1\",\"kind\":\"gauge\""), "fields[0].name: 1 to 127"},
    {FIELD("\"name\":\"\",\"unit\":\"1\",\"kind\":\"gauge\""), "fields[0].name:"},
    {FIELD("\"name\":\"a b\",\"unit\":\"1\",\"kind\":\"gauge\""), "fields[0].name:"},
    {FIELD("\"name\":\"a\xc3\xa4\",\"unit\":\"1\",\"kind\":\"gauge\""), "fields[0].name:"},
    {FIELD("\"name\":\"a\",\"kind\":\"gauge\""), "fields[0].unit: a UCUM unit"},
    {FIELD("\"name\":\"a\",\"unit\":\"\",\"kind\":\"gauge\""), "fields[0].unit:"},
    {FIELD("\"name\":\"a\",\"unit\":\"a b\",\"kind\":\"gauge\""), "fields[0].unit:"},
    {FIELD("\"name\":\"a\",\"unit\":\"01234567890123456789012345678901\",\"kind\":\"gauge\""),
     "fields[0].unit: a UCUM unit of 1 to 31"},
    {FIELD("\"name\":\"a\",\"unit\":\"1\""),
     "fields[0].kind: gauge, counter or histogram is required"},
    {NAMED("\"kind\":\"meter\""), "fields[0].kind: gauge, counter or histogram is accepted"},
    {NAMED("\"kind\":\"histogram\""), "fields[0].bounds: an array of 1 to 24"},
    {NAMED("\"kind\":\"histogram\",\"bounds\":[]"), "fields[0].bounds: an array"},
    {NAMED("\"kind\":\"histogram\",\"bounds\":[1,1]"), "fields[0].bounds[1]: a number above"},
    {NAMED("\"kind\":\"histogram\",\"bounds\":[2,1]"), "fields[0].bounds[1]:"},
    {NAMED("\"kind\":\"histogram\",\"bounds\":[\"1\"]"), "fields[0].bounds[0]:"},
    {NAMED("\"kind\":\"histogram\",\"bounds\":[1e999]"), "JSON: real number overflow"},
    {NAMED(
         "\"kind\":\"histogram\",\"bounds\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,"
         "22,23,24,25]"),
     "fields[0].bounds: an array of 1 to 24"},
    {NAMED("\"kind\":\"gauge\",\"bounds\":[1]"), "fields[0].bounds: accepted for a histogram only"},
    {NAMED("\"kind\":\"gauge\",\"attributes\":[]"), "fields[0].attributes: an object"},
    {NAMED("\"kind\":\"gauge\",\"attributes\":{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\",\"d\":\"1\","
           "\"e\":\"1\"}"),
     "fields[0].attributes: an object of at most 4"},
    {NAMED("\"kind\":\"gauge\",\"attributes\":{\"a\":1}"), "fields[0].attributes.a: a string"},
    {NAMED("\"kind\":\"gauge\",\"attributes\":{\"a\":\"\"}"),
     "fields[0].attributes.a: a string of 1"},
    {NAMED("\"kind\":\"gauge\",\"attributes\":{\"a=\":\"1\"}"), "fields[0].attributes: keys"},
    {NAMED("\"kind\":\"gauge\",\"attributes\":{\"\":\"1\"}"), "fields[0].attributes: keys"},
    {"{" HEAD "\"fields\":[{\"name\":\"a\",\"unit\":\"1\",\"kind\":\"gauge\",\"attributes\":{\"k\":"
     "\"x y\"}},"
     "{\"name\":\"a\",\"unit\":\"1\",\"kind\":\"gauge\",\"attributes\":{\"k\":\"x=y\"}}]}",
     "fields[1].name a with these attributes is there already"},
};

static void test_bad_hellos(void **state) {
    struct hello h;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_hellos); i++) {
        int rc = read_hello(bad_hellos[i].json, &h);

        if (rc != -EINVAL || strstr(why, bad_hellos[i].why) == NULL)
            fail_msg("%s: %d, \"%s\" instead of \"%s\"", bad_hellos[i].json, rc, why,
                     bad_hellos[i].why);
        assert_int_equal(mem_live(), 0);
    }
}

static void test_versions(void **state) {
    struct hello h;

    (void)state;
    assert_int_equal(read_hello("{\"protocol\":[2,3]}", &h), -EPROTONOSUPPORT);
    assert_non_null(strstr(why, "protocol: version 1 is accepted"));
    assert_int_equal(
        read_hello("{\"protocol\":[3,1,2],\"pid\":7,\"start\":5,\"next\":1," FIELDS "}", &h), 0);
    assert_int_equal(h.protocol, 1);
    message_clear_hello(&h);
}

static void test_defaults_and_labels(void **state) {
    struct buf b;
    struct hello h;

    (void)state;
    assert_int_equal(read_hello("{" HEAD "\"later\":{\"x\":[1]}," FIELDS "}", &h), 0);
    assert_string_equal(h.role, "process");
    assert_int_equal(h.thread, 0);
    assert_int_equal(h.ppid, 0);
    assert_string_equal(h.title, "");
    message_clear_hello(&h);

    assert_int_equal(
        read_hello("{" HEAD "\"title\":\"a\\u001b[2J\\n\xc2\x9b"
                   "b\xc3\xa4\x7f\",\"node\":\"v22.0.0-012345678901234567890123456789\"," FIELDS
                   "}",
                   &h),
        0);
    assert_string_equal(h.title, "a [2J  b\xc3\xa4 "); /* nothing that drives a terminal */
    assert_string_equal(h.node, "v22.0.0-01234567890123456789012");
    message_clear_hello(&h);

    buf_init(&b, 4096); /* 254 bytes, then a character of two: it is not cut in the middle */
    buf_puts(&b, "{" HEAD "\"title\":\"");
    for (int i = 0; i < 254; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\xc3\xa4\"," FIELDS "}");
    assert_int_equal(read_hello(b.data, &h), 0);
    assert_int_equal(strlen(h.title), 254);
    message_clear_hello(&h);
    buf_clear(&b);
}

static void test_attributes(void **state) {
    struct hello h;

    (void)state;
    assert_int_equal(read_hello(NAMED("\"kind\":\"gauge\",\"attributes\":{\"b\":\"x{y}="
                                      "\\\"\xc3\xa4,\",\"a\":\"._-:/Z9\"}"),
                                &h),
                     0);
    assert_string_equal(h.schema->fields[0].key, "a{a=._-:/Z9,b=x_y_____}");
    message_clear_hello(&h);
}

/* n fields of this kind, f0 f1 … */
static void many_fields(struct buf *b, size_t n, const char *kind) {
    buf_puts(b, "{" HEAD "\"fields\":[");
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s{\"name\":\"f%zu\",\"unit\":\"1\",\"kind\":%s}", i > 0 ? "," : "", i,
                   kind);
    buf_puts(b, "]}");
}

static void test_sizes(void **state) {
    /* 8 slots each */
    static const char histogram[] = "\"histogram\",\"bounds\":[1,2,3,4,5,6]";
    struct hello h;
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    many_fields(&b, LIMIT_FIELDS, "\"gauge\"");
    assert_int_equal(read_hello(b.data, &h), 0);
    assert_int_equal(h.schema->n_slots, LIMIT_FIELDS);
    message_clear_hello(&h);
    buf_reset(&b);
    many_fields(&b, LIMIT_FIELDS + 1, "\"gauge\"");
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    buf_reset(&b);
    many_fields(&b, LIMIT_SLOTS / 8, histogram);
    assert_int_equal(read_hello(b.data, &h), 0);
    assert_int_equal(h.schema->n_slots, LIMIT_SLOTS);
    message_clear_hello(&h);
    buf_reset(&b);
    many_fields(&b, LIMIT_SLOTS / 8 + 1, histogram);
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    assert_non_null(strstr(why, "fields[128].a layout of at most 1024 slots"));
    buf_clear(&b);
}

static void test_same_layout_is_shared(void **state) {
    struct hello a, b;

    (void)state;
    assert_int_equal(read_hello("{" HEAD FIELDS "}", &a), 0);
    assert_int_equal(read_hello("{" HEAD "\"title\":\"other\"," FIELDS "}", &b), 0);
    assert_ptr_equal(a.schema, b.schema);
    message_clear_hello(&a);
    message_clear_hello(&b);
    assert_int_equal(mem_live(), 0);
}

/* --- hostile JSON -------------------------------------------------------------------------------------------------------- */

static void nested(struct buf *b, size_t depth, const char *open, const char *close) {
    buf_reset(b);
    for (size_t i = 0; i < depth; i++)
        buf_puts(b, open);
    buf_puts(b, "1");
    for (size_t i = 0; i < depth; i++)
        buf_puts(b, close);
}

static void test_p61_depth(void **state) {
    struct worker_event e;
    struct hello h;
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    nested(&b, 10000, "[", "]");
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    assert_string_equal(why, "JSON: nested deeper than 16 levels");
    nested(&b, 10000, "{\"a\":", "}");
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    assert_int_equal(message_read_event(b.data, b.len, &e, why), -EINVAL);
    nested(&b, 17, "{\"a\":", "}");
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    assert_string_equal(why, "JSON: nested deeper than 16 levels");
    nested(&b, 16, "{\"a\":", "}");
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    assert_non_null(strstr(why, "protocol:")); /* that deep is fine */
    /* brackets in strings are text, also behind an escaped quote */
    assert_int_equal(read_hello("{\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[\\\\\"}", &h),
                     -EINVAL);
    assert_non_null(strstr(why, "protocol:"));
    buf_clear(&b);
}

static void test_p61_size(void **state) {
    static char text[LIMIT_FRAME_BYTES + 1];
    struct hello h;
    struct buf b;

    (void)state;
    memset(text, ' ', sizeof(text));
    assert_int_equal(message_read_hello(text, sizeof(text), &h, why), -EINVAL);
    assert_non_null(strstr(why, "JSON: more than 65528 bytes"));
    buf_init(&b, 1 << 20);
    buf_puts(&b, "{\"a\":[{}");
    for (int i = 0; i < 2100; i++)
        buf_puts(&b, ",{}");
    buf_puts(&b, "]}");
    assert_int_equal(read_hello(b.data, &h), -EINVAL);
    assert_non_null(strstr(why, "objects and arrays"));
    assert_int_equal(message_read_hello("{\"a\":\"b\0c\"}", 11, &h, why), -EINVAL);
    assert_string_equal(why, "JSON: a NUL byte");
    buf_clear(&b);
}

/* --- events -------------------------------------------------------------------------------------------------------------- */

static void test_events(void **state) {
    struct worker_event e;

    (void)state;
    assert_int_equal(read_event("{\"event\":\"exit\",\"code\":1,\"reason\":\"uncaughtException\","
                                "\"message\":\"Error: x\\n at y\"}",
                                &e),
                     0);
    assert_int_equal(e.kind, EVENT_EXIT);
    assert_int_equal(e.code, 1);
    assert_string_equal(e.reason, "uncaughtException");
    assert_string_equal(e.message, "Error: x  at y");
    assert_int_equal(read_event("{\"event\":\"exit\",\"code\":-1}", &e), 0);
    assert_int_equal(e.code, 255); /* as the parent sees it */
    assert_int_equal(
        read_event("{\"event\":\"child_exit\",\"pid\":9,\"code\":3,\"signal\":null}", &e), 0);
    assert_int_equal(e.code, 3);
    assert_int_equal(e.signal, 0);
    assert_int_equal(read_event("{\"event\":\"child_exit\",\"pid\":9,\"signal\":15}", &e), 0);
    assert_int_equal(e.code, -1);
    assert_int_equal(e.signal, 15);
    assert_int_equal(read_event("{\"event\":\"role\",\"role\":\"primary\"}", &e), 0);
    assert_string_equal(e.role, "primary");
    assert_int_equal(read_event("{\"event\":\"dropped\",\"samples\":12}", &e), 0);
    assert_int_equal(e.samples, 12);
    assert_int_equal(read_event("{\"event\":\"note\",\"what\":\"gc\",\"why\":\"in use\"}", &e), 0);
    assert_int_equal(e.kind, EVENT_NOTE);
    assert_string_equal(e.reason, "gc");
    assert_string_equal(e.message, "in use");
    assert_int_equal(read_event("{\"event\":\"from_the_future\",\"x\":1}", &e), -ENOENT);
}

static void test_bad_events(void **state) {
    static const char *const bad[][2] = {
        {"{}", "event: a string is required"},
        {"{\"event\":1}", "event:"},
        {"{\"event\":\"exit\"}", "code: an integer"},
        {"{\"event\":\"exit\",\"code\":\"1\"}", "code:"},
        {"{\"event\":\"exit\",\"code\":1,\"reason\":1}", "reason: a string"},
        {"{\"event\":\"child_exit\",\"code\":1}", "pid:"},
        {"{\"event\":\"child_exit\",\"pid\":9}", "code: one of code and signal"},
        {"{\"event\":\"child_exit\",\"pid\":9,\"code\":null,\"signal\":null}", "code: one of"},
        {"{\"event\":\"child_exit\",\"pid\":9,\"code\":0,\"signal\":\"SIGTERM\"}",
         "signal: only one"},
        {"{\"event\":\"child_exit\",\"pid\":9,\"signal\":\"SIGNOT\"}", "signal: a name"},
        {"{\"event\":\"child_exit\",\"pid\":9,\"signal\":65}", "signal: a name"},
        {"{\"event\":\"role\"}", "role:"},
        {"{\"event\":\"role\",\"role\":\"king\"}", "role:"},
        {"{\"event\":\"dropped\",\"samples\":-1}", "samples: an integer from 0"},
        {"{\"event\":\"dropped\"}", "samples:"},
        {"{\"event\":\"note\"}", "what: a string is required"},
    };
    struct worker_event e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int rc = read_event(bad[i][0], &e);

        if (rc != -EINVAL || strstr(why, bad[i][1]) == NULL)
            fail_msg("%s: %d, \"%s\" instead of \"%s\"", bad[i][0], rc, why, bad[i][1]);
    }
    assert_int_equal(mem_live(), 0);
}

/* --- no memory ----------------------------------------------------------------------------------------------------------- */

static const char full_hello[] =
    "{" HEAD "\"title\":\"t\",\"x\":[1,2.5,true,null,\"\\u00e4\"],\"fields\":["
    "{\"name\":\"a\",\"unit\":\"1\",\"kind\":\"gauge\",\"attributes\":{\"b\":\"1\",\"a\":\"2\"}},"
    "{\"name\":\"h\",\"unit\":\"s\",\"kind\":\"histogram\",\"bounds\":[0.5,1]}]}";

/* Lack of memory is never taken for a bad hello: that one would not come again. */
static void sweep_hello(void (*fail_nth)(long n)) {
    unsigned failures = 0;

    for (long n = 1; n < 400; n++) {
        struct hello h;
        int rc;

        fail_nth(n);
        rc = read_hello(full_hello, &h);
        fail_nth(0);
        if (rc == 0)
            message_clear_hello(&h);
        else
            assert_int_equal(rc, -ENOMEM);
        failures += rc != 0;
        assert_int_equal(mem_live(), 0);
    }
    assert_true(failures > 10);
}

static void test_no_memory(void **state) {
    struct welcome w = {.interval_ms = 1};
    bool failed = true;

    (void)state;
    sweep_hello(mem_fail_only);
    sweep_hello(mem_fail_from);
    for (long n = 1; n < 100; n++) {
        struct worker_event e;
        int rc;

        mem_fail_from(n);
        rc = read_event("{\"event\":\"exit\",\"code\":1,\"message\":\"m\"}", &e);
        mem_fail_from(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(mem_live(), 0);
    }
    for (long n = 1; failed; n++) {
        struct buf b;

        buf_init(&b, 4096);
        mem_fail_only(n);
        message_write_welcome(&b, &w);
        message_write_later(&b, 1, "r");
        message_write_refused(&b, "r");
        mem_fail_only(0);
        failed = b.err != 0;
        assert_true(!failed || b.err == -ENOMEM);
        buf_clear(&b);
        assert_int_equal(mem_live(), 0);
    }
}

/* A frame that does not fit leaves nothing behind. */
static void test_answer_too_long(void **state) {
    char reason[200];
    struct buf b;

    (void)state;
    memset(reason, 'r', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    buf_init(&b, 100);
    message_write_ack(&b, 1);
    message_write_refused(&b, reason);
    assert_int_equal(b.err, -ENOBUFS);
    assert_int_equal(b.len, 16);
    buf_clear(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"P61 every rule of the hello", test_bad_hellos, NULL, NULL, NULL},
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_defaults_and_labels),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_same_layout_is_shared),
        {"P61 JSON 10,000 deep", test_p61_depth, NULL, NULL, NULL},
        {"P61 JSON too large, NUL", test_p61_size, NULL, NULL, NULL},
        cmocka_unit_test(test_events),
        {"P61 events that are not valid", test_bad_events, NULL, NULL, NULL},
        {"P11 no memory", test_no_memory, NULL, NULL, NULL},
        cmocka_unit_test(test_answer_too_long),
    };

    return cmocka_run_group_tests_name("message", tests, use_mem, nothing_left);
}
