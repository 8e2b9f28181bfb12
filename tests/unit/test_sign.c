/* P62: the signature of commands and webhooks: who has the token, for exactly this request, now. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/sign.h"

#define NOW 1700000000

static char why[SIGN_WHY_BYTES];

static int check(const char *header, const char *token, int64_t now, const char *method,
                 const char *path, const char *body) {
    why[0] = '\0';
    return sign_check(header, token, now, method, path, body, strlen(body), why);
}

/* The value was computed with another program:
 * printf '1700000000.POST./v1/commands.{"id":"a"}' | openssl dgst -sha256 -hmac secret */
static void test_known(void **state) {
    static const char known[] =
        "t=1700000000,v1=ae53572c0075490c21b8e55f134ab40078845185b4fda5c425499db897a84fad";
    struct buf b;
    (void)state;

    buf_init(&b, 1000);
    assert_int_equal(sign_make(&b, "secret", NOW, "POST", "/v1/commands", "{\"id\":\"a\"}", 10), 0);
    assert_string_equal(b.data, known);
    assert_int_equal(check(known, "secret", NOW, "POST", "/v1/commands", "{\"id\":\"a\"}"), 0);
    buf_clear(&b);
    assert_int_equal(mem_live(), 0);
}

static void test_differences(void **state) {
    char header[256], bad[256];
    struct buf b;
    (void)state;

    buf_init(&b, 1000);
    assert_int_equal(sign_make(&b, "secret", NOW, "POST", "/x?a=1", "body", 4), 0);
    (void)snprintf(header, sizeof(header), "%s", b.data);
    assert_int_equal(check(header, "secret", NOW, "POST", "/x?a=1", "body"), 0);
    assert_int_equal(check(header, "Secret", NOW, "POST", "/x?a=1", "body"), -EACCES);
    assert_int_equal(check(header, "secret", NOW, "PUT", "/x?a=1", "body"), -EACCES);
    assert_int_equal(check(header, "secret", NOW, "POST", "/x?a=2", "body"), -EACCES);
    assert_int_equal(check(header, "secret", NOW, "POST", "/x?a=1", "Body"), -EACCES);
    assert_int_equal(check(header, "secret", NOW, "POST", "/x?a=1", ""), -EACCES);
    assert_null(strstr(why, b.data + 20));
    /* Each single digit of it counts. */
    for (size_t i = strlen("t=1700000000,v1="); i < b.len; i++) {
        (void)snprintf(bad, sizeof(bad), "%s", header);
        bad[i] = bad[i] == '0' ? '1' : '0';
        assert_int_equal(check(bad, "secret", NOW, "POST", "/x?a=1", "body"), -EACCES);
    }
    (void)snprintf(bad, sizeof(bad), "%s", header);
    bad[11] = '1'; /* the time is signed, too */
    assert_int_equal(check(bad, "secret", NOW, "POST", "/x?a=1", "body"), -EACCES);
    buf_clear(&b);
}

static void test_time(void **state) {
    struct buf b;
    (void)state;

    buf_init(&b, 1000);
    assert_int_equal(sign_make(&b, "secret", NOW, "GET", "/", NULL, 0), 0);
    assert_int_equal(check(b.data, "secret", NOW + 300, "GET", "/", ""), 0);
    assert_int_equal(check(b.data, "secret", NOW - 300, "GET", "/", ""), 0);
    assert_int_equal(check(b.data, "secret", NOW + 301, "GET", "/", ""), -ETIME);
    assert_string_equal(why, "signed 301 s before our clock; accepted are 300 s on either side");
    assert_int_equal(check(b.data, "secret", NOW - 301, "GET", "/", ""), -ETIME);
    assert_int_equal(check(b.data, "secret", INT64_MAX, "GET", "/", ""), -ETIME);
    assert_int_equal(check(b.data, "other", NOW + 301, "GET", "/", ""), -EACCES);
    buf_clear(&b);
}

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

static void test_form(void **state) {
    static const char *const bad[] = {"",
                                      "t=1",
                                      "v1=" HEX64,
                                      "t=1,v1=",
                                      "t=1,v1=" HEX64 "0",
                                      "t=1,v1=g" HEX64,
                                      "t=,v1=" HEX64,
                                      "t=-1,v1=" HEX64,
                                      "t= 1,v1=" HEX64,
                                      "t=1x,v1=" HEX64,
                                      "t=1000000000000000,v1=" HEX64,
                                      "t=1,t=1,v1=" HEX64,
                                      "t=1,v1=" HEX64 ",",
                                      ",t=1,v1=" HEX64,
                                      "nonsense"};
    char two[512];
    struct buf b;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(check(bad[i], "secret", 1, "GET", "/", ""), -EINVAL);
        assert_non_null(strstr(why, "accepted is t="));
    }
    assert_int_equal(sign_check(NULL, "secret", 1, "GET", "/", "", 0, why), -EINVAL);
    assert_int_equal(check("t=1,v1=" HEX64, "secret", 1, "GET", "/", ""), -EACCES);
    /* A sender that changes its token signs with both. */
    buf_init(&b, 1000);
    assert_int_equal(sign_make(&b, "secret", NOW, "GET", "/", NULL, 0), 0);
    (void)snprintf(two, sizeof(two), "t=%d, v0=x, v1=" HEX64 ", %s", NOW, b.data + 13);
    assert_int_equal(check(two, "secret", NOW, "GET", "/", ""), 0);
    buf_clear(&b);
}

/* Without a token everybody could make one. */
static void test_no_token(void **state) {
    struct buf b;
    (void)state;

    buf_init(&b, 1000);
    assert_int_equal(sign_make(&b, "", NOW, "GET", "/", NULL, 0), -EINVAL);
    assert_int_equal(sign_make(&b, NULL, NOW, "GET", "/", NULL, 0), -EINVAL);
    assert_int_equal(check("t=1,v1=" HEX64, "", 1, "GET", "/", ""), -EINVAL);
    mem_fail_only(1);
    assert_int_equal(sign_make(&b, "secret", NOW, "GET", "/", NULL, 0), -ENOMEM);
    mem_fail_only(0);
    buf_clear(&b);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),    cmocka_unit_test(test_differences),
        cmocka_unit_test(test_time),     cmocka_unit_test(test_form),
        cmocka_unit_test(test_no_token),
    };

    return cmocka_run_group_tests_name("sign", tests, NULL, NULL);
}
