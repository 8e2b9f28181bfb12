/* ipc/PROTOCOL.md: each message it shows is read from the page itself, decoded and compared, so that the page cannot rot. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "ipc/frame.h"
#include "ipc/message.h"

#define PROTOCOL "ipc/PROTOCOL.md" /* tests run in the root of the project */

static char why[256];

static char *page;

static int load_page(void **state) {
    FILE *f = fopen(PROTOCOL, "r");
    size_t n;

    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(1);
    page = calloc(1, 256 * 1024);
    if (f == NULL || page == NULL)
        return -1;
    n = fread(page, 1, 256 * 1024 - 1, f);
    (void)fclose(f);
    return n > 0 ? 0 : -1;
}

static int unload_page(void **state) {
    (void)state;
    free(page);
    return mem_live() == 0 ? 0 : -1;
}

static int nibble(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The bytes of the block "```hex NAME"; what stands behind "|" is for people, but must be the same bytes. */
static size_t example(const char *name, uint8_t *out, size_t size) {
    char mark[64], *p;
    size_t n = 0;

    (void)snprintf(mark, sizeof(mark), "\n```hex %s\n", name);
    p = strstr(page, mark);
    if (p == NULL)
        fail_msg("%s has no example of %s", PROTOCOL, name);
    for (p += strlen(mark); strncmp(p, "```", 3) != 0; p = strchr(p, '\n') + 1) {
        size_t line = n;
        char *bar = strchr(p, '|');

        for (char *h = p; h < bar; h += *h == ' ' ? 1 : 2) {
            if (*h == ' ')
                continue;
            assert_true(nibble(h[0]) >= 0 && nibble(h[1]) >= 0 && n < size);
            out[n++] = (uint8_t)(nibble(h[0]) * 16 + nibble(h[1]));
        }
        for (; line < n; line++) {
            bar++;
            assert_true(*bar == (out[line] >= 32 && out[line] < 127 ? (char)out[line] : '.'));
        }
    }
    return n;
}

struct one {
    uint8_t type;
    uint8_t payload[1024];
    size_t len, frames;
};

static int keep(void *arg, uint8_t type, const uint8_t *payload, size_t len) {
    struct one *o = arg;

    assert_true(len < sizeof(o->payload));
    memcpy(o->payload, payload, len);
    o->payload[len] = '\0';
    o->type = type;
    o->len = len;
    o->frames++;
    return 0;
}

/* The example is exactly one frame of this type. */
static struct one example_frame(const char *name, uint8_t type) {
    uint8_t bytes[1024];
    struct one o = {0};
    struct frame_reader r;
    size_t n = example(name, bytes, sizeof(bytes));

    frame_reader_init(&r);
    assert_int_equal(frame_feed(&r, bytes, n, keep, &o), 0);
    assert_int_equal(o.frames, 1);
    assert_false(frame_pending(&r));
    assert_int_equal(o.type, type);
    return o;
}

static void test_example_hello_and_sample(void **state) {
    struct one hello = example_frame("hello", FRAME_HELLO);
    struct one sample = example_frame("sample", FRAME_SAMPLE);
    struct one beat = example_frame("beat", FRAME_BEAT);
    struct hello h;

    (void)state;
    assert_int_equal(message_read_hello((char *)hello.payload, hello.len, &h, why), 0);
    assert_int_equal(h.protocol, 1);
    assert_int_equal(h.pid, 4711);
    assert_int_equal(h.ppid, 4700);
    assert_int_equal(h.start_ticks, 8812345);
    assert_int_equal(h.thread, 0);
    assert_string_equal(h.role, "worker");
    assert_string_equal(h.title, "node server.js");
    assert_string_equal(h.node, "v22.1.0");
    assert_string_equal(h.app, "shop");
    assert_int_equal(h.next, 7);
    assert_int_equal(h.schema->n_fields, 3);
    assert_int_equal(h.schema->n_slots, 6);
    assert_string_equal(h.schema->fields[0].key,
                        "v8js.memory.heap.used{v8js.heap.space.name=new_space}");
    assert_int_equal(h.schema->fields[1].kind, FIELD_COUNTER);
    assert_int_equal(h.schema->fields[2].n_bounds, 2);
    assert_int_equal(sample.len, 16 + 8 * h.schema->n_slots);
    assert_int_equal(frame_get_u64(sample.payload), 9);
    assert_true(frame_get_f64(sample.payload + 8) == 1234.5);
    assert_true(frame_get_f64(sample.payload + 16) == 1048576);
    assert_true(isnan(frame_get_f64(sample.payload + 24)));
    assert_true(frame_get_f64(sample.payload + 32) == 3);
    assert_true(frame_get_f64(sample.payload + 56) == 0.0625);
    assert_int_equal(beat.len, 8);
    assert_true(frame_get_f64(beat.payload) == 1235.0);
    message_clear_hello(&h);
}

static void test_example_event(void **state) {
    struct one event = example_frame("event", FRAME_EVENT);
    struct worker_event e;

    (void)state;
    assert_int_equal(message_read_event((char *)event.payload, event.len, &e, why), 0);
    assert_int_equal(e.kind, EVENT_CHILD_EXIT);
    assert_int_equal(e.pid, 4720);
    assert_int_equal(e.code, -1);
    assert_int_equal(e.signal, 9);
}

static void test_example_answer_to_an_order(void **state) {
    struct one answer = example_frame("answer", FRAME_ANSWER);
    uint64_t order = 0;

    (void)state;
    assert_int_equal(message_read_answer((char *)answer.payload, answer.len, &order, why), 0);
    assert_int_equal(order, 17);
}

/* What the helper writes is, byte for byte, what the page shows. */
static void same_as_example(struct buf *b, const char *name) {
    uint8_t bytes[1024];
    size_t n = example(name, bytes, sizeof(bytes));

    assert_int_equal(b->err, 0);
    assert_int_equal(b->len, n);
    assert_memory_equal(b->data, bytes, n);
    buf_clear(b);
}

static void test_example_answers(void **state) {
    static const char order[] = "{\"order\":17,\"action\":\"cpu_profile\",\"seconds\":10}";
    struct welcome w = {.interval_ms = 1000, .hold_bytes = 262144, .stored = 8};
    struct hello h;
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    message_write_welcome(&b, &w);
    same_as_example(&b, "welcome");
    message_write_ack(&b, 9);
    same_as_example(&b, "ack");
    message_write_later(&b, 1500, "no room for more workers");
    same_as_example(&b, "later");
    assert_int_equal(message_read_hello("{\"protocol\":[1]}", 16, &h, why), -EINVAL);
    message_write_refused(&b, why);
    same_as_example(&b, "refused");
    message_write_order(&b, order, strlen(order));
    same_as_example(&b, "order");
}

/* The hello that stands in the page as text is one that is accepted. */
static void test_example_json(void **state) {
    char *p = strstr(page, "## Hello"), *end;
    struct hello h;

    (void)state;
    assert_non_null(p);
    p = strstr(p, "```json\n") + 8;
    end = strstr(p, "```");
    assert_int_equal(message_read_hello(p, (size_t)(end - p), &h, why), 0);
    assert_int_equal(h.schema->n_slots, 1 + 1 + 8);
    message_clear_hello(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example_hello_and_sample),
        cmocka_unit_test(test_example_event),
        cmocka_unit_test(test_example_answer_to_an_order),
        cmocka_unit_test(test_example_answers),
        cmocka_unit_test(test_example_json),
    };

    return cmocka_run_group_tests_name("protocol", tests, load_page, unload_page);
}
