/* Signature Version 4 against the examples of Amazon's own documentation, and hashes against known ones. */
#include "uploader/stores/sigv4.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "uploader/stores/hash.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct sigv4_key key = {
    .access = "AKIAIOSFODNN7EXAMPLE",
    .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
};

static void check(const struct sigv4_request *rq, const char *names, const char *signature) {
    char want[400];
    struct buf out;

    buf_init(&out, 1000);
    assert_int_equal(sigv4_sign(&key, rq, &out), 0);
    (void)snprintf(want, sizeof(want),
                   "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
                   "aws4_request,SignedHeaders=%s,Signature=%s",
                   names, signature);
    assert_string_equal(out.data, want);
    buf_clear(&out);
}

/* https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, the four examples. */
static void test_examples(void **state) {
    const struct sigv4_header get[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                       {"range", "bytes=0-9"},
                                       {"x-amz-content-sha256", EMPTY},
                                       {"x-amz-date", "20130524T000000Z"}};
    const struct sigv4_header put[] = {
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
        {"date", "Fri, 24 May 2013 00:00:00 GMT"},
        {"x-amz-date", "20130524T000000Z"},
        {"x-amz-content-sha256",
         "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
        {"host", "examplebucket.s3.amazonaws.com"}};
    const struct sigv4_header plain[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                         {"x-amz-content-sha256", EMPTY},
                                         {"x-amz-date", "20130524T000000Z"}};
    (void)state;

    check(&(struct sigv4_request){"GET", "/test.txt", "", get, 4, EMPTY, "20130524T000000Z"},
          "host;range;x-amz-content-sha256;x-amz-date",
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    check(&(struct sigv4_request){"PUT", "/test%24file.text", "", put, 5, put[3].value,
                                  "20130524T000000Z"},
          "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    check(&(struct sigv4_request){"GET", "/", "lifecycle=", plain, 3, EMPTY, "20130524T000000Z"},
          "host;x-amz-content-sha256;x-amz-date",
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check(&(struct sigv4_request){"GET", "/", "max-keys=2&prefix=J", plain, 3, EMPTY,
                                  "20130524T000000Z"},
          "host;x-amz-content-sha256;x-amz-date",
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_parts(void **state) {
    char date[SIGV4_DATE_BYTES], hex[HASH_HEX_BYTES], out[100] = "";
    (void)state;

    sigv4_date(1369353600, date);
    assert_string_equal(date, "20130524T000000Z");
    assert_true(sigv4_encode(out, sizeof(out), "a b/c~d-e_f.g\xc3\xa9%", true));
    assert_string_equal(out, "a%20b/c~d-e_f.g%C3%A9%25");
    out[0] = '\0';
    assert_true(sigv4_encode(out, sizeof(out), "a/b+c", false));
    assert_string_equal(out, "a%2Fb%2Bc");
    assert_false(sigv4_encode(out, 14, "a/b+c", false));
    assert_string_equal(out, "a%2Fb%2Bc");
    assert_int_equal(hash_hex("", 0, hex), 0);
    assert_string_equal(hex, EMPTY);
    assert_int_equal(hash_hex("Welcome to Amazon S3.", 21, hex), 0);
    assert_string_equal(hex, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
}

static void test_limits(void **state) {
    const struct sigv4_header blanks[] = {{"a", "  b   c\t "}, {"host", "h"}},
                              neat[] = {{"a", "b c"}, {"host", "h"}};
    struct sigv4_header many[SIGV4_HEADERS + 1];
    struct sigv4_request rq = {"GET", "/", "", many, SIGV4_HEADERS + 1, EMPTY, "20130524T000000Z"};
    struct buf one, two;
    long n = 0;
    (void)state;

    buf_init(&one, 1000);
    buf_init(&two, 1000);
    assert_int_equal(sigv4_sign(&key, &rq, &one), -EINVAL);
    rq.n_headers = 2;
    rq.headers = blanks;
    assert_int_equal(sigv4_sign(&key, &rq, &one), 0);
    rq.headers = neat;
    assert_int_equal(sigv4_sign(&key, &rq, &two), 0);
    assert_string_equal(one.data, two.data);
    do {
        buf_clear(&two);
        mem_fail_only(++n);
    } while (sigv4_sign(&key, &rq, &two) != 0);
    mem_fail_only(0);
    assert_true(n > 1);
    buf_clear(&one);
    buf_clear(&two);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
