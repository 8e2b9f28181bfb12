/* Numbers as people write them, edit distance, and what may be shown of a value. */
#include "agent/base/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"

struct number_case {
    const char *text;
    int rc;
    uint64_t value;
};

static void check_numbers(int (*parse)(const char *, uint64_t *), const struct number_case *cases,
                          size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 77;
        int rc = parse(cases[i].text, &v);

        if (rc != cases[i].rc || v != (rc == 0 ? cases[i].value : 77))
            fail_msg("\"%s\": rc %d value %llu", cases[i].text, rc, (unsigned long long)v);
    }
}

static void test_u64(void **state) {
    static const struct number_case cases[] = {
        {"0", 0, 0},
        {"007", 0, 7},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999", -ERANGE, 0},
        {"", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"\xd9\xa1", -EINVAL, 0}, /* an Arabic 1 */
    };

    (void)state;
    check_numbers(text_u64, cases, ARRAY_LEN(cases));
}

static void test_duration(void **state) {
    static const struct number_case cases[] = {
        {"500ms", 0, 500},
        {"10s", 0, 10000},
        {"5m", 0, 300000},
        {"24h", 0, 86400000},
        {"7d", 0, 604800000},
        {"0", 0, 0},
        {"10", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"10S", -EINVAL, 0},
        {"10 s", -EINVAL, 0},
        {"1.5s", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"5parsecs", -EINVAL, 0},
        {"18446744073709551615ms", 0, UINT64_MAX},
        {"18446744073709552s", -ERANGE, 0},
        {"213503982335d", -ERANGE, 0},
    };

    (void)state;
    check_numbers(text_duration_ms, cases, ARRAY_LEN(cases));
}

static void test_size(void **state) {
    static const struct number_case cases[] = {
        {"512", 0, 512},
        {"512B", 0, 512},
        {"64KiB", 0, 65536},
        {"1MiB", 0, 1048576},
        {"3GiB", 0, 3221225472u},
        {"1KB", 0, 1000},
        {"2MB", 0, 2000000},
        {"1GB", 0, 1000000000},
        {"1K", -EINVAL, 0},
        {"1mib", -EINVAL, 0},
        {"1MiBs", -EINVAL, 0},
        {"MiB", -EINVAL, 0},
        {"17179869183GiB", 0, 17179869183u * (uint64_t)1073741824},
        {"17179869184GiB", -ERANGE, 0},
    };

    (void)state;
    check_numbers(text_size_bytes, cases, ARRAY_LEN(cases));
}

static void test_percent(void **state) {
    double v = 7;

    (void)state;
    assert_int_equal(text_percent("90%", &v), 0);
    assert_true(v == 0.9);
    assert_int_equal(text_percent("0%", &v), 0);
    assert_true(v == 0);
    assert_int_equal(text_percent("100%", &v), 0);
    assert_true(v == 1);
    assert_int_equal(text_percent("101%", &v), -ERANGE);
    assert_int_equal(text_percent("90", &v), -EINVAL);
    assert_int_equal(text_percent("0.9", &v), -EINVAL);
    assert_int_equal(text_percent("-1%", &v), -EINVAL);
    assert_int_equal(text_percent("%", &v), -EINVAL);
    assert_int_equal(text_percent("90%%", &v), -EINVAL);
    assert_true(v == 1);
}

static void test_format_reads_back(void **state) {
    static const uint64_t values[] = {0,     1,       999,     1000,       1024,      1500,
                                      60000, 3600000, 1048576, 1073741824, 86400000u, UINT64_MAX};
    char text[32];
    uint64_t v;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        text_format_duration(values[i], text, sizeof(text));
        assert_int_equal(text_duration_ms(text, &v), 0);
        assert_true(v == values[i]);
        text_format_size(values[i], text, sizeof(text));
        assert_int_equal(text_size_bytes(text, &v), 0);
        assert_true(v == values[i]);
    }
    text_format_duration(90000, text, sizeof(text));
    assert_string_equal(text, "90s");
    text_format_duration(1500, text, sizeof(text));
    assert_string_equal(text, "1500ms");
    text_format_size(65536, text, sizeof(text));
    assert_string_equal(text, "64KiB");
    text_format_size(1000, text, sizeof(text));
    assert_string_equal(text, "1000B");
}

static void test_distance(void **state) {
    char longest[65];

    (void)state;
    memset(longest, 'a', sizeof(longest));
    longest[64] = '\0';
    assert_int_equal(text_distance("", ""), 0);
    assert_int_equal(text_distance("", "abc"), 3);
    assert_int_equal(text_distance("abc", ""), 3);
    assert_int_equal(text_distance("SINK", "sink"), 0);
    assert_int_equal(text_distance("SNIK", "SINK"), 1); /* neighbours swapped */
    assert_int_equal(text_distance("SIK", "SINK"), 1);
    assert_int_equal(text_distance("SINKS", "SINK"), 1);
    assert_int_equal(text_distance("SUNK", "SINK"), 1);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
    assert_int_equal(text_distance(longest, "a"), SIZE_MAX);
    assert_int_equal(text_distance("a", longest), SIZE_MAX);
    longest[63] = '\0';
    assert_int_equal(text_distance(longest, "a"), 62);
}

static void check_shown(const char *text, const char *wanted) {
    char out[64];

    text_show(out, sizeof(out), text);
    assert_string_equal(out, wanted);
}

static void test_show(void **state) {
    char small[8];

    (void)state;
    check_shown("", "");
    check_shown("file:/var/lib", "file:/var/lib");
    check_shown("a\nb\x1b[2Jc\x7f", "a?b?[2Jc?");
    check_shown("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
                "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    check_shown("\xc3(\xff\xc2\x9b", "?(???"); /* cut, no UTF-8, a C1 control */
    text_show(small, sizeof(small), "abcdefghijkl");
    assert_string_equal(small, "abcd...");
    text_show(small, 1, "abc");
    assert_string_equal(small, "");
    text_show(small, 3, "abc");
    assert_string_equal(small, "..");
}

/* P64: what may be a secret is not in what is shown. */
static void test_show_hides_secrets(void **state) {
    (void)state;
    check_shown("amqp://u:p@host/?a=b", "amqp://***@host/?***");
    check_shown("https://u:p/a,s@s@host:9/x", "https://***@host:9/x");
    check_shown("https://host/p?token=x,file:", "https://host/p?***,file:");
    check_shown("http://a:b@h1,http://c:d@h2", "http://***@h1,http://***@h2");
    check_shown("what? no url", "what? no url");
    check_shown("https://", "https://");
}

static void test_copy_starts(void **state) {
    char out[4] = "zzz";

    (void)state;
    assert_true(text_copy(out, sizeof(out), "abc"));
    assert_string_equal(out, "abc");
    assert_false(text_copy(out, sizeof(out), "abcd"));
    assert_string_equal(out, "abc");
    assert_false(text_copy(out, 1, "x"));
    assert_string_equal(out, "");
    assert_false(text_copy(out, 0, "x"));
    assert_true(text_starts("PILLION_X", "PILLION_"));
    assert_true(text_starts("x", ""));
    assert_false(text_starts("PILL", "PILLION_"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),
        cmocka_unit_test(test_duration),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_format_reads_back),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_show_hides_secrets),
        cmocka_unit_test(test_copy_starts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
