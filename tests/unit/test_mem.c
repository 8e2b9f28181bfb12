/* The counted heap and its way to fail on demand. */
#include "agent/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_counts_blocks(void **state) {
    char *a, *b, *c, *d;

    (void)state;
    a = mem_alloc(0);
    b = mem_calloc(0, 8);
    c = mem_strdup("text");
    d = mem_strndup("text", 2);
    assert_non_null(a);
    assert_non_null(b);
    assert_string_equal(c, "text");
    assert_string_equal(d, "te");
    assert_int_equal(mem_live(), 4);
    c = mem_realloc(c, 100);
    assert_string_equal(c, "text");
    assert_int_equal(mem_live(), 4);
    assert_null(mem_realloc(c, 0)); /* freed, as libuv and jansson expect */
    assert_int_equal(mem_live(), 3);
    c = mem_realloc(NULL, 5);
    assert_int_equal(mem_live(), 4);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
    mem_free(NULL);
    assert_int_equal(mem_live(), 0);
}

static void test_memdup(void **state) {
    const int numbers[] = {1, 2, 3};
    int *copy = mem_memdup(numbers, sizeof(numbers));
    void *nothing = mem_memdup(NULL, 0);

    (void)state;
    assert_memory_equal(copy, numbers, sizeof(numbers));
    assert_non_null(nothing);
    mem_free(copy);
    mem_free(nothing);
    assert_int_equal(mem_live(), 0);
}

static void test_refuses_overflow(void **state) {
    volatile size_t many = SIZE_MAX / 4; /* the compiler must not see it */

    (void)state;
    assert_null(mem_calloc(many, 8));
    assert_int_equal(mem_live(), 0);
}

static void test_fail_only(void **state) {
    char *a, *b;

    (void)state;
    mem_fail_only(2);
    a = mem_alloc(1);
    assert_non_null(a);
    assert_null(mem_strdup("x"));
    b = mem_alloc(1);
    assert_non_null(b);
    mem_free(a);
    mem_free(b);
    mem_fail_only(1);
    mem_fail_only(0);
    a = mem_alloc(1);
    assert_non_null(a);
    mem_free(a);
    assert_int_equal(mem_live(), 0);
}

static void test_fail_from(void **state) {
    char *a = mem_strdup("stays"), *b;

    (void)state;
    mem_fail_from(2);
    b = mem_alloc(1);
    assert_non_null(b);
    for (int i = 0; i < 5; i++) {
        assert_null(mem_alloc(1));
        assert_null(mem_calloc(1, 1));
        assert_null(mem_realloc(a, 100));
        assert_null(mem_memdup("x", 1));
    }
    assert_string_equal(a, "stays");
    mem_fail_from(0);
    mem_free(a);
    mem_free(b);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_blocks),    cmocka_unit_test(test_memdup),
        cmocka_unit_test(test_refuses_overflow), cmocka_unit_test(test_fail_only),
        cmocka_unit_test(test_fail_from),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
