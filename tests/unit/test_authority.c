/* P62: who may command over the network. */
#include "agent/authority.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "uploader/sign.h"

#define TOKEN "sixteen-or-more-characters"
#define NOW   1700000000

static char why[AUTHORITY_WHY_BYTES];
static bool is_signed;

static unsigned check(enum http_from from, const char *authorization, const char *signature,
                      const char *token) {
    struct authority_request rq = {.from = from,
                                   .authorization = authorization,
                                   .signature = signature,
                                   .method = "POST",
                                   .target = "/v1/commands?a=1",
                                   .body = "{}",
                                   .body_len = 2};

    why[0] = '\0';
    return authority_check(&rq, token, NOW, &is_signed, why);
}

static void test_p62_bearer(void **state) {
    (void)state;
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer " TOKEN, NULL, TOKEN), 0);
    assert_false(is_signed);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "bearer " TOKEN, NULL, TOKEN), 0);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, NULL, NULL, TOKEN), 401);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer ", NULL, TOKEN), 403);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer " TOKEN "x", NULL, TOKEN), 403);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer sixteen-or-more-character", NULL, TOKEN),
                     403);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer Sixteen-or-more-characters", NULL, TOKEN),
                     403);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Basic " TOKEN, NULL, TOKEN), 403);
    assert_null(strstr(why, TOKEN));
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer " TOKEN, NULL, NULL), 403);
    assert_non_null(strstr(why, "PILLION_TOKEN is not set"));
    assert_int_equal(check(HTTP_FROM_NETWORK, "Bearer " TOKEN, NULL, TOKEN), 403);
    assert_non_null(strstr(why, "sign the request"));
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, NULL, TOKEN), 401);
}

static void sign(struct buf *out, int64_t when, const char *token, const char *path) {
    buf_init(out, 1024);
    assert_int_equal(sign_make(out, token, when, "POST", path, "{}", 2), 0);
}

static void test_p62_signature(void **state) {
    struct buf b;

    (void)state;
    sign(&b, NOW, TOKEN, "/v1/commands?a=1");
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, b.data, TOKEN), 0);
    assert_true(is_signed);
    assert_int_equal(check(HTTP_FROM_LOOPBACK, NULL, b.data, TOKEN), 0);
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, b.data, NULL), 403);
    buf_clear(&b);
    sign(&b, NOW - SIGN_TOLERANCE_S - 1, TOKEN, "/v1/commands?a=1");
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, b.data, TOKEN), 403);
    buf_clear(&b);
    sign(&b, NOW, "another-token-of-somebody", "/v1/commands?a=1");
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, b.data, TOKEN), 403);
    /* a wrong signature is not made good by a token beside it */
    assert_int_equal(check(HTTP_FROM_LOOPBACK, "Bearer " TOKEN, b.data, TOKEN), 403);
    buf_clear(&b);
    sign(&b, NOW, TOKEN, "/v1/commands");
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, b.data, TOKEN), 403);
    buf_clear(&b);
    assert_int_equal(check(HTTP_FROM_NETWORK, NULL, "t=1,v1=00", TOKEN), 403);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p62_bearer),
        cmocka_unit_test(test_p62_signature),
    };

    return cmocka_run_group_tests_name("authority", tests, NULL, NULL);
}
