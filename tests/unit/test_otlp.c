/* Records as OTLP: what a reader of the protocol finds in the bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "agent/base/mem.h"
#include "uploader/sinks/otlp_names.h"
#include "uploader/sinks/otlp_write.h"
#include "uploader/sinks/protobuf.h"

#define S 1000000000ull

static const struct records_head head = {.app = (char *)(uintptr_t) "shop",
                                         .instance = (char *)(uintptr_t) "host-1",
                                         .boot = "b",
                                         .seq = 1};
static const struct otlp_clock when = {
    .boot_ns = 1000 * S, .container_ns = 1100 * S, .tick_ns = S / 100};

/* A message as text: {1:{2:"abc",3:7}}; what looks like a message inside is shown as one. */
static bool show(struct buf *out, const char *data, size_t len, int depth);

static bool is_text(const char *data, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)data[i] < 0x20 || (unsigned char)data[i] > 0x7e)
            return false;
    return true;
}

static bool show(struct buf *out, const char *data, size_t len, int depth) {
    const char *p = data;
    struct pb_field f;
    struct buf inner;
    int rc;

    buf_putc(out, '{');
    while ((rc = pb_next(&p, data + len, &f)) == 1) {
        buf_printf(out, "%u:", f.number);
        if (f.data == NULL) {
            buf_printf(out, "%llx", (unsigned long long)f.value);
        } else if (f.len > 0 && is_text(f.data, f.len)) {
            buf_printf(out, "'%.*s'", (int)f.len, f.data);
        } else {
            buf_init(&inner, 1 << 20);
            if (depth < 12 && show(&inner, f.data, f.len, depth + 1))
                buf_add(out, inner.data, inner.len);
            else
                buf_printf(out, "<%zu>", f.len);
            buf_clear(&inner);
        }
        buf_putc(out, ' ');
    }
    buf_putc(out, '}');
    return rc == 0;
}

static char *written(const char *record, bool log) {
    struct buf out, text;
    char *result;
    size_t len;

    buf_init(&out, 1 << 20);
    buf_init(&text, 1 << 20);
    assert_int_equal(otlp_is_event(record, strlen(record)), log);
    assert_int_equal(log ? otlp_write_log(&out, &head, &when, record, strlen(record))
                         : otlp_write_metrics(&out, &head, &when, record, strlen(record)),
                     0);
    assert_int_equal(out.err, 0);
    assert_true(show(&text, out.data, out.len, 0));
    result = buf_take(&text, &len);
    buf_clear(&out);
    return result;
}

static void has(const char *text, const char *part) {
    if (strstr(text, part) == NULL)
        print_error("%s\nis not in\n%s\n", part, text);
    assert_non_null(strstr(text, part));
}

#define PROCESS                                                                                    \
    "{\"kind\":\"process\",\"time\":\"2001-09-09T01:46:40.500Z\",\"worker\":\"42:5000/3\","        \
    "\"pid\":42,\"role\":\"worker\",\"thread\":3,\"sample\":9"

static void test_process(void **state) {
    char *t = written(PROCESS ",\"process.cpu.time{cpu.mode=user}\":1.5,"
                              "\"process.cpu.time{cpu.mode=system}\":2,"
                              "\"process.memory.usage\":1024,"
                              "\"nodejs.eventloop.utilization\":0.5,\"my.own\":-1}",
                      false);
    (void)state;

    has(t, "{1:'service.name' 2:{1:'shop' } }");
    has(t, "{1:'service.instance.id' 2:{1:'host-1/42:5000/3' } }");
    has(t, "{1:'process.pid' 2:{3:2a } }");
    has(t, "{1:'process.creation.time' 2:{1:'1970-01-01T00:17:30.000Z' } }");
    has(t, "{1:'thread.id' 2:{3:3 } }");
    /* start 1050 s = f478e08400, time 10^9 s + 0.5 = de0b6b3c5316500 (both hex ns); points of one name in one monotonic sum */
    has(t, "2:{1:'process.cpu.time' 3:'s' 7:{1:{2:f478e08400 3:");
    has(t, "7:{1:'cpu.mode' 2:{1:'user' } } } 1:{2:");
    has(t, "4:4000000000000000 7:{1:'cpu.mode' 2:{1:'system' } } } 2:2 3:1 } }");
    has(t, "1:'process.memory.usage' 3:'By' 7:{");
    has(t, "4:4090000000000000 } 2:2 3:0 } }");
    has(t, "1:'nodejs.eventloop.utilization' 3:'1' 5:{1:{3:");
    has(t, "2:{1:'my.own' 5:{1:{3:de0b6b3c5316500 4:bff0000000000000 } } }");
    mem_free(t);
    assert_int_equal(mem_live(), 0);
}

static void test_histogram(void **state) {
    char *t = written(PROCESS ",\"v8js.gc.duration.bucket{v8js.gc.type=minor,le=0.5}\":3,"
                              "\"v8js.gc.duration.bucket{v8js.gc.type=minor,le=2}\":0,"
                              "\"v8js.gc.duration.bucket{v8js.gc.type=minor,le=+Inf}\":1,"
                              "\"v8js.gc.duration.sum{v8js.gc.type=minor}\":4,"
                              "\"v8js.gc.duration.count{v8js.gc.type=minor}\":4,"
                              "\"v8js.gc.duration.bucket{v8js.gc.type=major,le=0.5}\":1,"
                              "\"v8js.gc.duration.bucket{v8js.gc.type=major,le=+Inf}\":0,"
                              "\"x.count\":5,\"y.bucket{le=1}\":1}",
                      false);
    (void)state;

    has(t,
        "{1:'v8js.gc.duration' 3:'s' 9:{1:{2:f478e08400 3:de0b6b3c5316500 4:4 5:4010000000000000 "
        "6:<24> 7:<16> 9:{1:'v8js.gc.type' 2:{1:'minor' } } } 1:{2:");
    has(t,
        "4:1 6:<16> 7:<8> 9:{1:'v8js.gc.type' 2:{1:'major' } } } 2:2 } }"); /* of the same metric */
    has(t, "{1:'x.count' 5:{");
    has(t, "{1:'y' 9:{1:{2:f478e08400 3:de0b6b3c5316500 4:1 6:<8> 7:<8> } 2:2 } }");
    mem_free(t);
    assert_int_equal(mem_live(), 0);
}

static void test_container(void **state) {
    char *t = written("{\"kind\":\"container\",\"time\":\"2001-09-09T01:46:40.000Z\","
                      "\"container.cpu.time{cpu.mode=user}\":1}",
                      false);
    (void)state;

    has(t, "{1:'service.instance.id' 2:{1:'host-1' } }");
    assert_null(strstr(t, "process.pid"));
    has(t, "7:{1:{2:1001d1bf800 3:");
    mem_free(t);
    assert_int_equal(mem_live(), 0);
}

static void test_log(void **state) {
    char *t = written(
        "{\"kind\":\"event\",\"time\":\"2001-09-09T01:46:40.000Z\",\"event\":\"exited\","
        "\"worker\":\"42:5000\",\"pid\":42,\"role\":\"worker\",\"text\":\"killed \\\"x\\\"\","
        "\"oom\":true,\"code\":7,\"share\":0.5,\"list\":[1]}",
        true);
    (void)state;

    has(t, "6:{1:'oom' 2:{2:1 } }");
    has(t, "6:{1:'code' 2:{3:7 } }");
    has(t, "6:{1:'share' 2:{4:3fe0000000000000 } }");
    has(t, "6:{1:'list' 2:{1:'[1]' } }");
    has(t, "1:de0b6b3a7640000 11:de0b6b3a7640000 2:d 3:'WARN' 5:{1:'killed \"x\"' } 12:'exited' }");
    mem_free(t);
    assert_int_equal(mem_live(), 0);
}

static void test_bad(void **state) {
    static const char *const cases[] = {
        "", "{}", "{\"kind\":\"process\"}", "[]", PROCESS ",\"a.b\":1", "{\"time\":\"yesterday\"}"};
    struct buf out;
    (void)state;

    buf_init(&out, 1 << 16);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(otlp_write_metrics(&out, &head, &when, cases[i], strlen(cases[i])),
                         -EBADMSG);
    buf_clear(&out);
    assert_int_equal(mem_live(), 0);
}

static void test_names(void **state) {
    (void)state;
    assert_int_equal(otlp_name_find("process.cpu.time", 16)->kind, OTLP_COUNTER);
    assert_int_equal(otlp_name_find("process.memory.usage", 20)->kind, OTLP_UP_DOWN);
    assert_string_equal(otlp_name_find("v8js.gc.duration", 16)->unit, "s");
    assert_string_equal(otlp_name_find("v8js.gc.duratio", 15)->unit, "");
    assert_string_equal(otlp_name_find("process.cpu.time.x", 18)->unit, "");
    assert_int_equal(otlp_name_find("zzz", 3)->kind, OTLP_GAUGE);
    assert_int_equal(otlp_name_find("a", 1)->kind, OTLP_GAUGE);
}

static void test_protobuf_damaged(void **state) {
    static const struct {
        const char *data;
        size_t len;
    } cases[] = {{"\x08", 1},
                 {"\x08\x80", 2},
                 {"\x0a\x05"
                  "ab",
                  4},
                 {"\x09"
                  "1234567",
                  8},
                 {"\x0b", 1},
                 {"\x00\x01", 2},
                 {"\x0d"
                  "123",
                  4},
                 {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *p = cases[i].data;
        struct pb_field f;

        assert_int_equal(pb_next(&p, cases[i].data + cases[i].len, &f), -EBADMSG);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_container),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_protobuf_damaged),
    };

    return cmocka_run_group_tests_name("otlp", tests, NULL, NULL);
}
