/* Addresses of the configuration: what is taken, what is not, and that secrets are not in what is shown (P64). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/url.h"

static void test_good(void **state) {
    static const struct {
        const char *text, *shown, *user, *password, *path, *query;
        uint16_t port;
    } cases[] = {
        {"http://hub", "http://hub", NULL, NULL, "", NULL, 80},
        {"https://hub/", "https://hub", NULL, NULL, "", NULL, 443},
        {"https://hub:443/a/b/", "https://hub/a/b", NULL, NULL, "/a/b", NULL, 443},
        {"http://10.0.0.7:9200/pillion?kind=daily&a=b", "http://10.0.0.7:9200/pillion", NULL, NULL,
         "/pillion", "kind=daily&a=b", 9200},
        {"http://[::1]:9200", "http://[::1]:9200", NULL, NULL, "", NULL, 9200},
        {"https://me:s%40cr%3Aet@hub/x", "https://hub/x", "me", "s@cr:et", "/x", NULL, 443},
        {"https://me@hub", "https://hub", "me", NULL, "", NULL, 443},
        {"https://me:a@b@hub", "https://hub", "me", "a@b", "", NULL, 443},
        {"http://a_b.c-d.example:1", "http://a_b.c-d.example:1", NULL, NULL, "", NULL, 1},
    };
    char shown[URL_SHOW_BYTES];
    struct url u;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(url_parse(&u, cases[i].text), 0);
        assert_int_equal(url_format(&u, "", shown, sizeof(shown)), 0);
        assert_string_equal(shown, cases[i].shown);
        assert_int_equal(u.port, cases[i].port);
        assert_string_equal(u.path, cases[i].path);
        assert_true((u.user == NULL) == (cases[i].user == NULL));
        assert_true((u.password == NULL) == (cases[i].password == NULL));
        assert_true((u.query == NULL) == (cases[i].query == NULL));
        if (u.user != NULL)
            assert_string_equal(u.user, cases[i].user);
        if (u.password != NULL)
            assert_string_equal(u.password, cases[i].password);
        if (u.query != NULL)
            assert_string_equal(u.query, cases[i].query);
        url_clear(&u);
    }
    assert_int_equal(mem_live(), 0);
}

static void test_bad(void **state) {
    static const char *const cases[] = {
        "",
        "hub",
        "ftp://hub",
        "http://",
        "http:///x",
        "http://:80",
        "http://hub:",
        "http://hub:0",
        "http://hub:65536",
        "http://hub:12a",
        "http://a b",
        "http://hub/#x",
        "http://@hub",
        "http://:x@hub",
        "http://[::1",
        "http://[]",
        "http://[x]",
        "http://h\x01b",
        "http://hub\nX: y",
        "http://me%0a@hub",
        "http://a%3ab:c@hub",
        "http://a%zz@hub",
        "http://a%4@hub",
        "http://-hub",
        "http://.hub",
        "http://h\xc3\xbc"
        "b",
        "http://hub:000080",
        "https:/hub",
        "HTTP://hub",
    };
    struct url u;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(url_parse(&u, cases[i]), -EINVAL);
    assert_int_equal(mem_live(), 0);
}

static void test_parameters(void **state) {
    static const char *const known[] = {"kind", "ka", NULL};
    char value[16], bad[16];
    struct url u;
    (void)state;

    assert_int_equal(url_parse(&u, "http://h/?ka=1&kind=a%20b+c&ka=2"), 0);
    assert_int_equal(url_parameter(&u, "kind", value, sizeof(value)), 0);
    assert_string_equal(value, "a b c");
    assert_int_equal(url_parameter(&u, "ka", value, sizeof(value)), 0);
    assert_string_equal(value, "1");
    assert_int_equal(url_parameter(&u, "k", value, sizeof(value)), -ENOENT);
    assert_int_equal(url_parameter(&u, "kind", value, 3), -ENAMETOOLONG);
    assert_int_equal(url_check_parameters(&u, known, bad, sizeof(bad)), 0);
    url_clear(&u);
    assert_int_equal(url_parse(&u, "http://h/?kinds=1"), 0);
    assert_int_equal(url_check_parameters(&u, known, bad, sizeof(bad)), -EINVAL);
    assert_string_equal(bad, "kinds");
    url_clear(&u);
    assert_int_equal(mem_live(), 0);
}

static void test_no_memory(void **state) {
    struct url u;
    int rc = -ENOMEM;
    (void)state;

    for (long n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = url_parse(&u, "http://a:b@h/x?y=z");
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc != 0)
            assert_int_equal(mem_live(), 0);
    }
    mem_fail_only(0);
    url_clear(&u);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
