/* The layout of a sample: slots, keys, sharing of equal ones. */
#include "agent/base/schema.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

static const double bounds[] = {0.001, 0.01, 0.1};
static const char *const mode_user[] = {"cpu.mode", "user"};
static const char *const three[] = {"b", "2", "c", "3", "a", "1"};

/* Four fields: two plain ones, a histogram between them, one with three attributes. */
static int make(struct schema **ret) {
    struct schema *s = NULL;
    int rc = schema_new(&s, 4);

    if (rc == 0)
        rc = schema_add(s, "process.cpu.time", mode_user, 1, "s", FIELD_COUNTER, NULL, 0);
    if (rc == 0)
        rc = schema_add(s, "gc", NULL, 0, "s", FIELD_HISTOGRAM, bounds, 3);
    if (rc == 0)
        rc = schema_add(s, "rss", NULL, 0, "By", FIELD_GAUGE, NULL, 0);
    if (rc == 0)
        rc = schema_add(s, "rss", three, 3, "By", FIELD_GAUGE, NULL, 0);
    if (rc != 0) {
        schema_unref(s);
        return rc;
    }
    *ret = s;
    return 0;
}

static void test_layout(void **state) {
    struct schema *s;
    const struct field *f;

    (void)state;
    assert_int_equal(make(&s), 0);
    assert_int_equal(s->n_fields, 4);
    assert_int_equal(s->n_slots, 1 + 5 + 1 + 1);
    f = schema_find(s, "process.cpu.time{cpu.mode=user}");
    assert_non_null(f);
    assert_string_equal(f->name, "process.cpu.time");
    assert_string_equal(f->unit, "s");
    assert_int_equal(f->slot, 0);
    f = schema_find(s, "gc");
    assert_int_equal(f->slot, 1);
    assert_int_equal(f->n_bounds, 3);
    assert_true(f->bounds != bounds && f->bounds[2] == 0.1);
    assert_int_equal(schema_find(s, "rss")->slot, 6);
    f = schema_find(s, "rss{a=1,b=2,c=3}");
    assert_int_equal(f->slot, 7);
    assert_int_equal(f->n_attributes, 3);
    assert_string_equal(f->attributes[0], "a");
    assert_string_equal(f->attributes[5], "3");
    assert_null(schema_find(s, "nothing"));
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

static void test_refused(void **state) {
    static const char *const turned[] = {"b", "2", "a", "1", "c", "3"};
    struct schema *s;
    char name[16];

    (void)state;
    assert_int_equal(schema_new(&s, LIMIT_SLOTS + 1), 0);
    assert_int_equal(schema_add(s, "x", three, 3, "1", FIELD_GAUGE, NULL, 0), 0);
    assert_int_equal(schema_add(s, "x", turned, 3, "1", FIELD_GAUGE, NULL, 0), -EINVAL);
    for (int i = 1; i < LIMIT_SLOTS - 4; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(schema_add(s, name, NULL, 0, "1", FIELD_GAUGE, NULL, 0), 0);
    }
    assert_int_equal(schema_add(s, "h", NULL, 0, "1", FIELD_HISTOGRAM, bounds, 3), -EINVAL);
    assert_int_equal(schema_add(s, "h", NULL, 0, "1", FIELD_HISTOGRAM, bounds, 2), 0);
    assert_int_equal(s->n_slots, LIMIT_SLOTS);
    assert_int_equal(schema_add(s, "y", NULL, 0, "1", FIELD_GAUGE, NULL, 0), -EINVAL);
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

static void test_shared(void **state) {
    struct schema *a, *b, *c, *d;

    (void)state;
    assert_int_equal(make(&a), 0);
    assert_int_equal(make(&b), 0);
    a = schema_intern(a);
    b = schema_intern(b);
    assert_ptr_equal(a, b);
    assert_int_equal(a->refs, 2);
    assert_ptr_equal(schema_intern(b), a);
    assert_int_equal(a->refs, 2);
    c = schema_ref(a);
    schema_unref(a);
    schema_unref(b);
    assert_int_equal(make(&d), 0);
    assert_ptr_equal(schema_intern(d), c);
    schema_unref(c);
    schema_unref(c);
    schema_unref(NULL);
    assert_int_equal(mem_live(), 0);
}

static struct schema *one(const char *name, const char *unit, enum field_kind kind,
                          const double *b) {
    struct schema *s;

    assert_int_equal(schema_new(&s, 1), 0);
    assert_int_equal(schema_add(s, name, NULL, 0, unit, kind, b, kind == FIELD_HISTOGRAM ? 3 : 0),
                     0);
    return schema_intern(s);
}

static void test_not_shared(void **state) {
    static const double others[] = {0.001, 0.01, 0.2};
    struct schema *all[] = {
        one("x", "s", FIELD_GAUGE, NULL),       one("y", "s", FIELD_GAUGE, NULL),
        one("x", "By", FIELD_GAUGE, NULL),      one("x", "s", FIELD_COUNTER, NULL),
        one("x", "s", FIELD_HISTOGRAM, bounds), one("x", "s", FIELD_HISTOGRAM, others),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(all[i], all[j]);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        schema_unref(all[i]);
    assert_int_equal(mem_live(), 0);
}

/* A hello's number of fields may be 0 before it is refused; a histogram may have no bound at all. */
static void test_empty(void **state) {
    struct schema *s;

    (void)state;
    assert_int_equal(schema_new(&s, 0), 0);
    schema_unref(s);
    assert_int_equal(schema_new(&s, 1), 0);
    assert_int_equal(schema_add(s, "h", NULL, 0, "1", FIELD_HISTOGRAM, bounds, 0), 0);
    assert_int_equal(s->n_slots, 2);
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

static void test_no_memory(void **state) {
    struct schema *s;
    int n, rc = -1;

    (void)state;
    for (n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = make(&s);
        mem_fail_only(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(mem_live(), 0);
    }
    assert_true(n > 20);
    mem_fail_only(1); /* no room in the list of shared ones: only not shared */
    assert_ptr_equal(schema_intern(s), s);
    mem_fail_only(0);
    schema_unref(s);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_shared), cmocka_unit_test(test_not_shared),
        cmocka_unit_test(test_empty),  cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
