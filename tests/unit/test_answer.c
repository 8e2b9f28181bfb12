/* The one table of answers (P25), line by line, and how long is waited. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "agent/base/mem.h"
#include "uploader/answer.h"

static void test_p25_table(void **state) {
    static const struct {
        long status;
        enum answer meaning;
    } cases[] = {
        {200, ANSWER_TAKEN},  {201, ANSWER_TAKEN},  {204, ANSWER_TAKEN},  {299, ANSWER_TAKEN},
        {301, ANSWER_SETTLE}, {302, ANSWER_SETTLE}, {304, ANSWER_SETTLE}, {308, ANSWER_SETTLE},
        {400, ANSWER_PARK},   {401, ANSWER_SETTLE}, {402, ANSWER_PARK},   {403, ANSWER_SETTLE},
        {404, ANSWER_SETTLE}, {405, ANSWER_SETTLE}, {406, ANSWER_PARK},   {407, ANSWER_SETTLE},
        {408, ANSWER_RETRY},  {409, ANSWER_PARK},   {413, ANSWER_SPLIT},  {415, ANSWER_PARK},
        {421, ANSWER_SETTLE}, {422, ANSWER_PARK},   {425, ANSWER_RETRY},  {426, ANSWER_SETTLE},
        {429, ANSWER_RETRY},  {431, ANSWER_PARK},   {499, ANSWER_PARK},   {500, ANSWER_RETRY},
        {501, ANSWER_RETRY},  {502, ANSWER_RETRY},  {503, ANSWER_RETRY},  {504, ANSWER_RETRY},
        {599, ANSWER_RETRY},  {0, ANSWER_RETRY},    {100, ANSWER_RETRY},  {999, ANSWER_RETRY},
    };
    struct http_reply r = {.body = "", .headers = "", .error = ""};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(answer_of_status(cases[i].status), cases[i].meaning);
        r.status = cases[i].status;
        assert_int_equal(answer_meaning(&r), cases[i].meaning);
    }
    r.rc = -ECONNRESET;
    r.status = 200;
    assert_int_equal(answer_meaning(&r), ANSWER_RETRY);
}

static void between(enum answer a, unsigned failures, int64_t after, uint64_t least,
                    uint64_t most) {
    assert_int_equal(answer_wait_with(a, failures, after, 0), least);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t ms = answer_wait_ms(a, failures, after);

        assert_in_range(ms, least, most);
    }
}

static void test_p25_waits(void **state) {
    (void)state;
    between(ANSWER_RETRY, 1, -1, 100, 1000);
    between(ANSWER_RETRY, 2, -1, 100, 2000);
    between(ANSWER_RETRY, 6, -1, 100, 32000);
    between(ANSWER_RETRY, 7, -1, 100, 60000);
    between(ANSWER_RETRY, 4000000000u, -1, 100, 60000);
    between(ANSWER_SETTLE, 1, -1, 30000, 60000);
    between(ANSWER_RETRY, 1, 0, 100, 1000); /* at once is not at once */
    between(ANSWER_RETRY, 1, 5000, 5000, 6250);
    between(ANSWER_RETRY, 9, 300000, 300000, 375000);
    between(ANSWER_SETTLE, 1, 5000, 30000, 60000);
}

/* Full jitter: all of the range is used, or those who failed together come back together. */
static void test_waits_are_spread(void **state) {
    unsigned counts[10] = {0};
    (void)state;

    for (unsigned i = 0; i < 10000; i++)
        counts[(answer_wait_ms(ANSWER_RETRY, 7, -1) - 100) * 10 / 59901]++;
    for (unsigned i = 0; i < 10; i++)
        assert_in_range(counts[i], 800, 1200);
}

static void says(const struct http_reply *r, const char *want) {
    char text[400];

    answer_text(r, text, sizeof(text));
    assert_string_equal(text, want);
}

static void test_p64_texts(void **state) {
    struct http_reply r = {.headers = "", .error = ""};
    char text[20];
    (void)state;

    r.status = 503;
    r.body = "";
    says(&r, "answered 503 Service Unavailable");
    r.body = "\n  {\"error\":\"full,\nsee http://me:pass@hub/x?key=1\"}";
    r.len = strlen(r.body);
    says(&r, "answered 503 Service Unavailable ({\"error\":\"full, see http://***@hub/x?***)");
    r.body = "<html>whatever</html>";
    r.len = strlen(r.body);
    says(&r, "answered 503 Service Unavailable");
    r.status = 299;
    says(&r, "answered 299");
    r.rc = -ETIMEDOUT;
    r.error = "no answer in time";
    says(&r, "no answer in time");
    answer_text(&r, text, 5);
    assert_string_equal(text, "no a");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p25_table),
        cmocka_unit_test(test_p25_waits),
        cmocka_unit_test(test_waits_are_spread),
        cmocka_unit_test(test_p64_texts),
    };

    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
