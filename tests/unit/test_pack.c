/* Packed batches come back byte for byte, whatever is in their lines, or say that they do not; and they are small. */
#include "batches.h"

#include "agent/base/buf.h"
#include "uploader/records.h"
#include "uploader/spool/decimal.h"
#include "uploader/spool/iso.h"
#include "uploader/spool/pack.h"

#define TAIL_BYTES 5 /* the end of the coder says nothing more */

static uint32_t seed = 1;

static unsigned any(unsigned below) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static int check(const void *packed, size_t len, uint32_t raw_bytes) {
    struct unpack *u = NULL;
    const char *line;
    size_t n;
    int rc = unpack_open(&u, packed, len, raw_bytes);

    if (rc == 0)
        while ((rc = unpack_next(u, &line, &n)) == 1)
            ;
    unpack_close(u);
    return rc;
}

/* Packs, checks, and compares all ways back with what went in; returns the packed size. */
static size_t round_trip(const struct batch *b) {
    size_t len, n, at = 0;
    char *text = unpack(b->data, b->len, &len), *again;
    struct unpack *u;
    struct batch *back;
    const char *line;
    struct buf out;

    buf_init(&out, 64u << 20);
    buf_puts(&out, "before"); /* it goes behind what is there */
    assert_int_equal(pack_batch(&out, b), 0);
    assert_memory_equal(out.data, "before", 6);
    assert_true(pack_holds(out.data + 6, out.len - 6, b));
    assert_int_equal(check(out.data + 6, out.len - 6, (uint32_t)b->raw_bytes), 0);
    assert_int_equal(check(out.data + 6, out.len - 6, (uint32_t)b->raw_bytes + 1), -EBADMSG);
    assert_int_equal(unpack_open(&u, out.data + 6, out.len - 6, (uint32_t)b->raw_bytes), 0);
    while (unpack_next(u, &line, &n) == 1) {
        assert_true(n <= len - at);
        assert_memory_equal(line, text + at, n);
        at += n;
    }
    assert_int_equal(at, len);
    unpack_close(u);
    assert_int_equal(
        unpack_batch(&back, out.data + 6, out.len - 6, (uint32_t)b->raw_bytes, b->seq, b->records),
        0);
    assert_int_equal(back->seq, b->seq);
    assert_int_equal(back->records, b->records);
    assert_int_equal(back->raw_bytes, b->raw_bytes);
    assert_int_equal(batch_member_bytes(back->data, back->len), back->len);
    again = unpack(back->data, back->len, &n);
    assert_int_equal(n, len);
    assert_memory_equal(again, text, len);
    batch_unref(back);
    free(again);
    free(text);
    n = out.len - 6;
    buf_clear(&out);
    return n;
}

static struct batch *batch_of(const char *const *lines, unsigned n) {
    struct batch_writer *w;
    struct batch *b;

    assert_int_equal(batch_writer_new(&w, "shöp \"x\"", "host\\1", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, 7), 0);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(batch_writer_add(w, lines[i], strlen(lines[i])), 0);
    assert_int_equal(batch_writer_finish(w, &b), 0);
    batch_writer_free(w);
    return b;
}

/* Lines of all kinds, in our form, in another, and in none. */
static void test_odd_lines(void **state) {
    static const char *const lines[] = {
        "{\"kind\":\"process\",\"time\":\"2026-11-23T18:31:09.017Z\",\"worker\":\"7:1\",\"a\":1}",
        "{\"kind\":\"process\",\"time\":\"2024-02-29T23:59:59.999Z\",\"worker\":\"7:1\",\"a\":1.5}",
        "{\"kind\":\"process\",\"time\":\"2023-02-29T00:00:00.000Z\",\"worker\":\"7:1\",\"a\":"
        "null}",
        "{\"kind\":\"process\",\"time\":\"9999-12-31T23:59:59.999Z\",\"worker\":\"7:2\",\"a\":-0}",
        "{\"kind\":\"process\",\"time\":\"1969-12-31T23:59:59.999Z\",\"worker\":7,\"a\":-0.5}",
        "{\"worker\":\"7:1\",\"worker\":\"8:1\",\"worker\":\"\",\"worker\":{\"worker\":\"7:1\"}}",
        "{\"kind\":\"event\",\"worker\":\"7:1\",\"worker\":\"9:9\"}",
        "{\"a\":0.10,\"a\":00,\"a\":1e5,\"a\":1E-5,\"a\":1e-05,\"a\":1.5e-12,\"a\":15e-13}",
        "{\"a\":1.23456789e-24,\"a\":1e-25,\"a\":0.00001,\"a\":0.0000000001,\"a\":1e-10}",
        "{\"a\":9223372036854775807,\"a\":-9223372036854775808,\"a\":18446744073709551616}",
        "{\"a\":999999999999999999,\"a\":1000000000000000000,\"a\":-999999999999999999}",
        "{\"a\":0.000000001,\"a\":999999999999999999,\"a\":1.0000000000000002,\"a\":123456789012."
        "5}",
        "{\"a\":1.7976931348623157e+308,\"a\":5e-324,\"a\":NaN,\"a\":Infinity,\"a\":-}",
        "{\"s\":\"\\u0000\\\"\\\\\",\"s\":\"\xf0\x9f\x9a\x80 "
        "\xc3\xa4\",\"s\":\"\xff\xfe\",\"s\":\"",
        "{\"s\":\"a\\\":1\",\"\\\":2\":3,\"deep\":[1,2,{\"x\":[true,false,null]}],\"\":\"\"}",
        "",
        "}",
        "{}",
        ":",
        "\":",
        "\":\":\":1",
        "{\"a\":1,\"b\":2,\"c\":3",
        "no JSON at all, 12 \"x\":13 : \"y\" : 14",
        "\t { \"kind\" : \"process\" , \"a\" : 1 }\r",
    };
    struct batch *b = batch_of(lines, ARRAY_LEN(lines));
    (void)state;

    (void)round_trip(b);
    batch_unref(b);
    for (unsigned i = 0; i < ARRAY_LEN(lines); i++) { /* each alone */
        b = batch_of(&lines[i], 1);
        (void)round_trip(b);
        batch_unref(b);
    }
    assert_int_equal(mem_live(), 0);
}

static void put_any_number(struct buf *out) {
    static const char *const odd[] = {
        "null", "1e-7", "-0", "0.0", "1e300", "0.1000", "12345678901234567890", "1e-05"};
    double v = (double)any(1u << 24) * (any(2) ? 1 : -1);

    switch (any(8)) {
    case 0:
        buf_u64(out, any(3));
        break;
    case 1:
        buf_u64(out, (uint64_t)any(1u << 24) << any(30));
        break;
    case 2:
        buf_number(out, v / 1e6);
        break;
    case 3:
        buf_number(out, v / 1e9 / (1 + any(7)));
        break;
    case 4:
        buf_number(out, v / (1 + any(1u << 24)));
        break;
    case 5:
        buf_puts(out, odd[any(ARRAY_LEN(odd))]);
        break;
    case 6:
        buf_printf(out, "%.*g", 1 + (int)any(20), v / (1 + any(1u << 20)));
        break;
    default:
        buf_printf(out, "%d.%u", (int)any(2000) - 1000, any(1000));
        break;
    }
}

static void put_any_record(struct buf *out) {
    static const char *const texts[] = {
        "process", "container", "\xe2\x82\xac", "a\\\"b",
        "7:12",    "",          "\\\\",         "2026-11-23T18:31:09.017Z"};

    buf_puts(out, "{\"kind\":\"process\",\"time\":\"2026-11-");
    buf_printf(out, "%02u", 1 + any(31));
    buf_puts(out, "T18:31:09.017Z\"");
    if (any(8) > 0)
        buf_printf(out, ",\"worker\":\"%u:1\",\"sample\":%u", any(5), any(100000));
    for (unsigned k = 0, n = any(60); k < n; k++) {
        if (any(4) == 0)
            continue; /* an unknown value is left out */
        buf_printf(out, ",\"%s{n=%u}\":", k % 3 == 0 ? "v8js.memory.heap.used" : "key", k);
        if (any(10) == 0)
            buf_printf(out, "\"%s\"", texts[any(ARRAY_LEN(texts))]);
        else
            put_any_number(out);
    }
    buf_puts(out, any(50) == 0 ? "" : "}");
}

static void test_property(void **state) {
    struct batch_writer *w;
    struct buf line;
    (void)state;

    buf_init(&line, 65536);
    for (unsigned turn = 0; turn < 300; turn++) {
        struct batch *b;

        seed = turn + 1;
        assert_int_equal(batch_writer_new(&w, "shop", "host-1", TEST_BOOT), 0);
        assert_int_equal(batch_writer_begin(w, turn + 1), 0);
        for (unsigned i = 0, n = 1 + any(40); i < n; i++) {
            buf_reset(&line);
            put_any_record(&line);
            assert_int_equal(line.err, 0);
            assert_int_equal(batch_writer_add(w, line.data, line.len), 0);
        }
        assert_int_equal(batch_writer_finish(w, &b), 0);
        batch_writer_free(w);
        (void)round_trip(b);
        batch_unref(b);
    }
    buf_clear(&line);
    assert_int_equal(mem_live(), 0);
}

/* A line of the greatest length, and many workers. */
static void test_large(void **state) {
    char *text = malloc(LIMIT_RECORD_BYTES + 1);
    const char *const lines[] = {text, "{\"a\":1}", text};
    struct batch *b;
    (void)state;

    memset(text, 'x', LIMIT_RECORD_BYTES);
    text[LIMIT_RECORD_BYTES] = '\0';
    b = batch_of(lines, 3);
    (void)round_trip(b);
    batch_unref(b);
    free(text);
    b = make_batch(3, 2000, false);
    (void)round_trip(b);
    batch_unref(b);
    b = make_batch(4, 30, true);
    (void)round_trip(b);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

/* Cut or turned anywhere: an error, never another text. */
static void test_damaged(void **state) {
    struct batch *b = make_batch(1, 12, false);
    struct buf out;
    (void)state;

    buf_init(&out, 1u << 20);
    assert_int_equal(pack_batch(&out, b), 0);
    for (size_t i = 0; i < out.len; i++) {
        struct buf bad;

        buf_init(&bad, 1u << 20);
        buf_add(&bad, out.data, out.len);
        bad.data[i] = (char)(bad.data[i] ^ (1 << i % 8));
        if (i + TAIL_BYTES < out.len)
            if (check(bad.data, bad.len, (uint32_t)b->raw_bytes) != -EBADMSG)
                fail_msg("%zu of %zu", i, out.len);
        buf_clear(&bad);
        if (i + TAIL_BYTES < out.len)
            assert_int_equal(check(out.data, i, (uint32_t)b->raw_bytes), -EBADMSG);
    }
    buf_clear(&out);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

static void test_no_memory(void **state) {
    struct batch *b = make_batch(1, 12, false), *back = NULL;
    struct buf out;
    int rc = -ENOMEM;
    (void)state;

    for (unsigned n = 1; rc != 0; n++) {
        buf_init(&out, 1u << 20);
        mem_fail_only(n);
        rc = pack_batch(&out, b);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc != 0)
            buf_clear(&out);
    }
    rc = -ENOMEM;
    for (unsigned n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = unpack_batch(&back, out.data, out.len, (uint32_t)b->raw_bytes, 1, 12);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
    }
    batch_unref(back);
    buf_clear(&out);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

/* Real batches of eight busy clustered workers: the bytes that a day of outage at 1 Hz may take in 64 MiB are 97 a
 * sample. */
static void test_P21_a_day_fits(void **state) {
    size_t len, packed = 0, samples = 0, at = 0;
    char *data = slurp("tests/fixtures/spool/busy.ndjson.gz", &len);
    (void)state;

    while (at < len) {
        int64_t n = batch_member_bytes(data + at, len - at);
        struct batch b = {.data = data + at, .len = (size_t)n, .seq = 1, .refs = 1};
        struct records *r;
        size_t line_len;
        char *line;

        assert_true(n > 0 && (size_t)n <= len - at);
        for (unsigned i = 0; i < 4; i++)
            b.raw_bytes |= (size_t)(unsigned char)b.data[n - 4 + i] << (8 * i);
        assert_int_equal(records_open(&r, &b), 0);
        b.records = records_head(r)->records;
        b.seq = records_head(r)->seq;
        while (records_next(r, &line, &line_len) == 1)
            samples += strstr(line, "\"role\":\"worker\",\"sample\"") != NULL;
        records_close(r);
        packed += round_trip(&b);
        at += (size_t)n;
    }
    print_message("# %zu samples, %.1f bytes each\n", samples, (double)packed / (double)samples);
    assert_true(samples >= 150);
    assert_true(packed < 93 * samples); /* head and index of a record are the other 4 */
    free(data);
    assert_int_equal(mem_live(), 0);
}

static void test_decimals_and_times(void **state) {
    char text[DECIMAL_TEXT_BYTES + 1] = "", iso[ISO_BYTES], before[CLOCK_ISO_BYTES];
    struct decimal d;
    int64_t ms;
    (void)state;

    assert_true(decimal_parse(&d, "-12.0345", 8));
    assert_int_equal(d.m, -120345);
    assert_int_equal(d.d, 4);
    assert_int_equal(decimal_at(&d, 2), -1203);
    assert_int_equal(decimal_at(&d, 6), -12034500);
    assert_true(decimal_parse(&d, "1.5e-12", 7));
    assert_int_equal(decimal_format(text, &d), 7);
    assert_string_equal(text, "1.5e-12");
    assert_false(decimal_parse(&d, "1.50", 4));
    assert_false(decimal_parse(&d, "", 0));
    assert_false(decimal_parse(&d, "-", 1));
    assert_false(decimal_parse(&d, ".", 1));
    for (unsigned i = 0; i < 100000; i++) {
        ms = (int64_t)any(1u << 24) * any(15000000);
        clock_iso(ms, before);
        assert_int_equal(iso_format(iso, ms), strlen(before));
        assert_memory_equal(iso, before, strlen(before));
        assert_true(iso_parse(&ms, before, strlen(before)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_lines),
        cmocka_unit_test(test_property),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_P21_a_day_fits),
        cmocka_unit_test(test_decimals_and_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
