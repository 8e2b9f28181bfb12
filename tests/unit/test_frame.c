/* Frames out of a byte stream: however the bytes are cut, the same frames come out; lengths are checked before memory is taken. */
#include "ipc/frame.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"

#define STREAM_FRAMES 7

struct seen {
    size_t n;
    uint8_t types[16];
    size_t lens[16];
    uint64_t sum; /* of position and content */
    int stop_at;  /* number of the frame whose callback says -ECANCELED; 0: none */
};

static int note(void *arg, uint8_t type, const uint8_t *payload, size_t len) {
    struct seen *s = arg;

    assert_true(s->n < 16);
    s->types[s->n] = type;
    s->lens[s->n++] = len;
    for (size_t i = 0; i < len; i++)
        s->sum = s->sum * 31 + payload[i] + i;
    return s->stop_at > 0 && s->n == (size_t)s->stop_at ? -ECANCELED : 0;
}

static size_t put_frame(uint8_t *out, uint8_t type, size_t len) {
    frame_put_header(out, type, (uint32_t)len);
    for (size_t i = 0; i < len; i++)
        out[FRAME_HEADER_BYTES + i] = (uint8_t)(i * 7 + type);
    return FRAME_HEADER_BYTES + len;
}

static uint8_t stream[3 * LIMIT_FRAME_BYTES];

static size_t make_stream(void) {
    static const size_t lens[STREAM_FRAMES] = {1, 8, 700, FRAME_PAYLOAD_BYTES, 16, 3000, 1};
    size_t at = 0;

    for (size_t i = 0; i < STREAM_FRAMES; i++)
        at += put_frame(stream + at, (uint8_t)(i + 1), lens[i]);
    return at;
}

static void test_any_cut(void **state) {
    static const size_t pieces[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 100, 709, 4096, 65535, 65536};
    size_t len = make_stream();
    struct frame_reader r;
    struct seen want = {0};

    (void)state;
    frame_reader_init(&r);
    assert_int_equal(frame_feed(&r, stream, len, note, &want), 0);
    assert_int_equal(want.n, STREAM_FRAMES);
    assert_int_equal(want.lens[3], FRAME_PAYLOAD_BYTES);
    assert_false(frame_pending(&r));
    assert_int_equal(mem_live(), 0);
    for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
        struct seen got = {0};

        for (size_t at = 0; at < len; at += pieces[p]) {
            size_t n = len - at < pieces[p] ? len - at : pieces[p];

            assert_int_equal(frame_feed(&r, stream + at, n, note, &got), 0);
            assert_true(r.cap <= FRAME_PAYLOAD_BYTES);
        }
        assert_memory_equal(&got, &want, sizeof(got));
        assert_false(frame_pending(&r));
        assert_int_equal(mem_live(), 0); /* idle: no memory */
    }
}

static void test_p61_lengths(void **state) {
    static const uint32_t bad[] = {
        0, FRAME_PAYLOAD_BYTES + 1, 65536, 0x7fffffff, 0x80000000u, 0xffffffffu};
    uint8_t header[FRAME_HEADER_BYTES];
    struct seen seen = {0};
    struct frame_reader r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        frame_put_header(header, FRAME_HELLO, bad[i]);
        frame_reader_init(&r);
        assert_int_equal(frame_feed(&r, header, sizeof(header), note, &seen), -EMSGSIZE);
        frame_reader_clear(&r);
        for (size_t k = 0; k < sizeof(header); k++) /* a byte at a time */
            assert_int_equal(frame_feed(&r, header + k, 1, note, &seen),
                             k + 1 < sizeof(header) ? 0 : -EMSGSIZE);
        assert_int_equal(mem_live(), 0);
        frame_reader_clear(&r);
    }
    assert_int_equal(seen.n, 0);
}

static void test_p61_announced_length_costs_nothing(void **state) {
    uint8_t bytes[FRAME_HEADER_BYTES + 1];
    struct seen seen = {0};
    struct frame_reader r;

    (void)state;
    frame_reader_init(&r);
    put_frame(bytes, FRAME_HELLO, 1);
    frame_put_header(bytes, FRAME_HELLO, FRAME_PAYLOAD_BYTES);
    assert_int_equal(frame_feed(&r, bytes, sizeof(bytes), note, &seen), 0);
    assert_true(frame_pending(&r));
    assert_true(r.cap <= 1024);
    frame_reader_clear(&r);
    assert_int_equal(mem_live(), 0);
}

static void test_callback_stops(void **state) {
    size_t len = make_stream();
    struct frame_reader r;

    (void)state;
    for (int stop = 1; stop <= STREAM_FRAMES; stop++) {
        struct seen seen = {.stop_at = stop};
        int rc = 0;

        frame_reader_init(&r);
        for (size_t at = 0; rc == 0 && at < len; at += 500)
            rc = frame_feed(&r, stream + at, len - at < 500 ? len - at : 500, note, &seen);
        assert_int_equal(rc, -ECANCELED);
        assert_int_equal(seen.n, stop);
        frame_reader_clear(&r);
    }
    assert_int_equal(mem_live(), 0);
}

static void test_no_memory(void **state) {
    size_t len = make_stream();
    bool failed = true;

    (void)state;
    for (long n = 1; failed; n++) {
        struct seen seen = {0};
        struct frame_reader r;
        int rc = 0;

        assert_true(n < 100);
        frame_reader_init(&r);
        mem_fail_only(n);
        for (size_t at = 0; rc == 0 && at < len; at += 500)
            rc = frame_feed(&r, stream + at, len - at < 500 ? len - at : 500, note, &seen);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        failed = rc != 0;
        frame_reader_clear(&r);
        assert_int_equal(mem_live(), 0);
    }
}

static void test_numbers(void **state) {
    static const uint8_t bytes[] = {0xff, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0x4c, 0x93, 0x40};
    uint8_t out[8];

    (void)state;
    assert_true(frame_get_u64(bytes + 1) == 0x0102030405060708u);
    assert_true(frame_get_f64(bytes + 9) == 1235.0);
    frame_put_u64(out, 0x0102030405060708u);
    assert_memory_equal(out, bytes + 1, sizeof(out));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut),
        {"P61 a length of 0, 2^31 and beyond the limit", test_p61_lengths, NULL, NULL, NULL},
        {"P61 an announced length takes no memory", test_p61_announced_length_costs_nothing, NULL,
         NULL, NULL},
        cmocka_unit_test(test_callback_stops),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
