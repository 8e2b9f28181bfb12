/* Batches read back: every line, in bounded memory, and damage is said. */
#include "batches.h"

#include "uploader/records.h"

static void test_all_lines(void **state) {
    struct batch *b = make_batch(7, 300, false);
    char *whole = unpack(b->data, b->len, NULL), *at = strchr(whole, '\n') + 1,
         key[RECORDS_KEY_BYTES];
    struct records *r;
    unsigned n = 0;
    size_t len;
    char *line;
    (void)state;

    assert_int_equal(records_open(&r, b), 0);
    assert_int_equal(records_head(r)->seq, 7);
    assert_int_equal(records_head(r)->records, 300);
    assert_string_equal(records_head(r)->app, "shop");
    assert_string_equal(records_head(r)->instance, "host-1");
    records_key(records_head(r), key);
    assert_string_equal(key, TEST_BOOT "-7");
    for (; records_next(r, &line, &len) == 1; n++) {
        assert_int_equal(strlen(line), len);
        assert_memory_equal(line, at, len);
        assert_int_equal(at[len], '\n');
        at += len + 1;
    }
    assert_int_equal(n, 300);
    assert_int_equal(*at, '\0');
    assert_int_equal(records_next(r, &line, &len), 0);
    records_close(r);
    free(whole);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

/* Cut anywhere, or a byte turned: an error or the lines as they were, never anything else. */
static void test_damaged(void **state) {
    struct batch *b = make_batch(1, 5, false), cut;
    char *data = malloc(b->len);
    (void)state;

    for (size_t i = 0; i < b->len; i += 7) {
        for (int how = 0; how < 2; how++) {
            struct records *r = NULL;
            size_t len;
            char *line;
            int rc;

            memcpy(data, b->data, b->len);
            cut = *b;
            cut.data = data;
            if (how == 0)
                cut.len = i;
            else
                data[i] = (char)(data[i] ^ 0x55);
            rc = records_open(&r, &cut);
            while (rc == 0 && (rc = records_next(r, &line, &len)) == 1)
                rc = 0;
            assert_true(rc <= 0);
            if (how == 0)
                assert_int_equal(rc, -EBADMSG);
            records_close(r);
        }
    }
    free(data);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

static void test_no_memory(void **state) {
    struct batch *b = make_batch(1, 50, false);
    long live = mem_live();
    int rc = -ENOMEM;
    (void)state;

    for (long n = 1; rc != 0; n++) {
        struct records *r = NULL;
        size_t len;
        char *line;

        mem_fail_only(n);
        rc = records_open(&r, b);
        while (rc == 0 && (rc = records_next(r, &line, &len)) == 1)
            rc = 0;
        assert_true(rc == 0 || rc == -ENOMEM || rc == -EBADMSG);
        records_close(r);
        assert_int_equal(mem_live(), live);
        assert_true(n < 1000);
    }
    mem_fail_only(0);
    batch_unref(b);
    assert_int_equal(mem_live(), 0);
}

static void test_members(void **state) {
    const char *text =
        " {\"a\":1, \"b{x=\\\"y}\" : \"s\\\"t\\u00e9,}\" ,\"c\":{\"d\":[1,{\"e\":\"]}\"}]},"
        "\"f\":[],\"g\":true,\"h\":-1.5e3} ";
    const char *p = NULL;
    struct member m;
    double v;
    char s[16];
    (void)state;

    assert_int_equal(member_next(text, strlen(text), &p, &m), 1);
    assert_true(member_is(&m, "a") && member_number(&m, &v) && v == 1);
    assert_false(member_text(&m, s, sizeof(s)));
    assert_int_equal(member_next(text, strlen(text), &p, &m), 1);
    assert_true(member_is(&m, "b{x=\\\"y}") && member_text(&m, s, sizeof(s)));
    assert_string_equal(s, "s\"t\xc3\xa9,}");
    assert_false(member_number(&m, &v));
    assert_int_equal(member_next(text, strlen(text), &p, &m), 1);
    assert_int_equal(m.value_len, strlen("{\"d\":[1,{\"e\":\"]}\"}]}"));
    assert_int_equal(member_next(text, strlen(text), &p, &m), 1);
    assert_int_equal(member_next(text, strlen(text), &p, &m), 1);
    assert_false(member_number(&m, &v));
    assert_int_equal(member_next(text, strlen(text), &p, &m), 1);
    assert_true(member_number(&m, &v) && v == -1500);
    assert_int_equal(member_next(text, strlen(text), &p, &m), 0);
    p = NULL;
    assert_int_equal(member_next("{}", 2, &p, &m), 0);
}

static void test_bad_members(void **state) {
    static const char *const cases[] = {
        "",         "[]",          "{",          "{\"a\"",    "{\"a\":",           "{\"a\":1",
        "{\"a\":}", "{\"a\":\"x",  "{\"a\":[1}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{a:1}",
        "x{}",      "{\"a\\\":1}", "{,}"};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *p = NULL;
        struct member m;
        int rc;

        while ((rc = member_next(cases[i], strlen(cases[i]), &p, &m)) == 1)
            ;
        assert_int_equal(rc, -EBADMSG);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_lines),   cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_members),
        cmocka_unit_test(test_bad_members),
    };

    return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
