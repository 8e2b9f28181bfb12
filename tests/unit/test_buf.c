/* The growing buffer: its cap, JSON strings, and numbers that read back as what they were. */
#include "agent/base/buf.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"

static uint64_t random_state = 88172645463325252u;

/* xorshift64: the same numbers in each run. */
static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void format(double v, char *out) {
    size_t n = buf_format_number(out, v);

    assert_true(n > 0 && n < BUF_NUMBER_BYTES);
    out[n] = '\0';
}

static size_t significant_digits(const char *s) {
    size_t n = 0, zeros = 0;

    for (; *s != '\0' && *s != 'e'; s++) {
        if (*s == '.' || *s == '-' || (n == 0 && *s == '0'))
            continue;
        n++;
        zeros = *s == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

/* The nearest with the fewest digits that read back, as printf sees it. */
static void shortest(double v, char out[64]) {
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, 64, "%.*e", digits - 1, v);
        if (strtod(out, NULL) == v)
            return;
    }
}

static long double distance(const char *text, double v) {
    return fabsl(strtold(text, NULL) - (long double)v);
}

static void check_number(double v) {
    char out[BUF_NUMBER_BYTES + 1], best[64];

    format(v, out);
    if (strtod(out, NULL) != v)
        fail_msg("%.17g was written as %s", v, out);
    shortest(v, best);
    if (fabs(v) >= 1e-4 && fabs(v) < 1e15 &&
        (significant_digits(out) > significant_digits(best) ||
         distance(out, v) > distance(best, v) + fabsl((long double)v) * 4 * LDBL_EPSILON))
        fail_msg("%.17g was written as %s instead of %s", v, out, best);
}

static void test_numbers_exact(void **state) {
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "0"},
        {1, "1"},
        {-1, "-1"},
        {0.5, "0.5"},
        {-0.25, "-0.25"},
        {0.1, "0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {123456.789012345, "123456.789012345"},
        {1e15, "1000000000000000"},
        {9007199254740991.0, "9007199254740991"},
        {0.000000001, "0.000000001"},
        {0.000020001, "0.000020001"},
        {5e-324, "4.94065645841247e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
    };
    char out[BUF_NUMBER_BYTES + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        format(cases[i].v, out);
        assert_string_equal(out, cases[i].text);
    }
}

static void test_numbers_round_trip(void **state) {
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = next_random();
        double v;

        memcpy(&v, &bits, sizeof(v));
        if (isfinite(v))
            check_number(v);
    }
    for (int i = 0; i < 20000; i++) { /* what is measured: ratios, nanoseconds, averages */
        double ratio = (double)(next_random() >> 11) / 9007199254740992.0;

        check_number(ratio);
        check_number(-ratio * 4096);
        check_number(ratio * 1e15);
        check_number((double)(next_random() % 1000000000000000u) / 1e9);
        check_number((double)(next_random() % 1000000u) / 7);
        check_number((double)(next_random() % 100000u) / 1000);
    }
    for (int e = -60; e < 60; e++) { /* powers of two and their neighbours: the gap changes there */
        check_number(ldexp(1, e));
        check_number(nextafter(ldexp(1, e), 0));
        check_number(nextafter(ldexp(1, e), DBL_MAX));
    }
    for (double p = 1e-9; p < 1e18; p *= 10) {
        check_number(p);
        check_number(nextafter(p, 0));
        check_number(nextafter(p, DBL_MAX));
    }
}

static void test_json_string(void **state) {
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    buf_json_string(&b, "a\"b\\c\nd\te\x7f\xc3\xa4\xff\xf0\x9f\x98\x80\xed\xa0\x80");
    assert_int_equal(b.err, 0);
    assert_string_equal(b.data,
                        "\"a\\\"b\\\\c\\nd\\u0009e\\u007f\xc3\xa4\xef\xbf\xbd\xf0\x9f\x98\x80"
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    buf_clear(&b);
}

static void test_cap_and_errors_stick(void **state) {
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    buf_puts(&b, "0123456789");
    assert_int_equal(b.err, 0);
    buf_putc(&b, 'x');
    assert_int_equal(b.err, -ENOBUFS);
    buf_reset(&b);
    buf_number(&b, 1234567890);
    assert_int_equal(b.err, 0);
    assert_string_equal(b.data, "1234567890");
    buf_number(&b, 0.5);
    assert_int_equal(b.err, -ENOBUFS);
    assert_string_equal(b.data, "1234567890");
    buf_clear(&b);
}

static void test_no_memory(void **state) {
    struct buf b;
    long n;

    (void)state;
    for (n = 1; n < 50; n++) {
        int err;

        buf_init(&b, 65536);
        mem_fail_only(n);
        for (int i = 0; i < 2000; i++)
            buf_printf(&b, "%d,", i);
        mem_fail_only(0);
        err = b.err;
        assert_true(err == 0 || err == -ENOMEM);
        buf_clear(&b);
        if (err == 0)
            break;
    }
    assert_true(n > 1 && n < 50);
    assert_int_equal(mem_live(), 0);
}

static void test_take(void **state) {
    struct buf b;
    size_t len;
    char *p;

    (void)state;
    buf_init(&b, 100);
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    buf_u64(&b, UINT64_MAX);
    p = buf_take(&b, &len);
    assert_int_equal(len, 20);
    assert_string_equal(p, "18446744073709551615");
    assert_null(b.data);
    mem_free(p);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_exact), cmocka_unit_test(test_numbers_round_trip),
        cmocka_unit_test(test_json_string),   cmocka_unit_test(test_cap_and_errors_stick),
        cmocka_unit_test(test_no_memory),     cmocka_unit_test(test_take),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
