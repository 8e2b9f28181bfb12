/* Heap snapshots read as they stream by: sums by class, proof of wholeness, caps, and two of them compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "collectors/heapsnapshot/diff.h"

#define META_7                                                                                     \
    "{\"meta\":{\"node_fields\":[\"type\",\"name\",\"id\",\"self_size\",\"edge_count\",\"trace_"   \
    "node_id\",\"detachedness\"],\"node_types\":[[\"hidden\",\"array\",\"string\",\"object\","     \
    "\"closure\",\"native\"],\"string\",\"number\"],\"edge_fields\":[\"type\",\"name_or_index\","  \
    "\"to_node\"]},"
#define SNAPSHOT(nodes, edges) META_7 "\"node_count\":" #nodes ",\"edge_count\":" #edges "}"

/* As Node 18 to 22 lay it out; two strings are equal, one has all the escapes, one is nobody's name. */
static const char old_layout[] = "{\"snapshot\":" SNAPSHOT(
    7, 2) ",\n\"nodes\":[0,0,1,0,2,0,0\n,3,1,3,16,0,0,0\n,3,2,5,24,0,0,2\n,5,3,7,100,0,0,1\n"
          ",4,1,9,32,0,0,0\n,2,4,11,40,0,0,0\n,3,5,13,8,0,0,0],\n\"edges\":[1,1,7\n,1,2,14],\n"
          "\"trace_function_infos\":[],\n\"trace_tree\":[{\"a\":\"]}\"}],\n\"samples\":[],\n"
          "\"locations\":[7,1,2,3],\n\"strings\":[\"<dummy>\",\n\"Customer\",\n\"Order\",\n"
          "\"Customer\",\n\"a \\\"text\\\\\",\n\"q\\u00e9\\uD83D\\ude00\\ud800x\\n\\u0000\"]}";

static int read_in_pieces(struct heapsnapshot *h, const char *text, size_t len, size_t piece) {
    for (size_t i = 0; i < len; i += piece) {
        int rc = heapsnapshot_push(h, text + i, len - i < piece ? len - i : piece);

        if (rc != 0)
            return rc;
    }
    return heapsnapshot_end(h);
}

static const struct heapsnapshot_class *class_of(const struct heapsnapshot_summary *s,
                                                 const char *name) {
    for (size_t i = 0; i < s->n_classes; i++)
        if (strcmp(s->classes[i].name, name) == 0)
            return &s->classes[i];
    return NULL;
}

static void assert_class(const struct heapsnapshot_summary *s, const char *name, uint64_t count,
                         uint64_t bytes, uint64_t detached) {
    const struct heapsnapshot_class *c = class_of(s, name);

    assert_non_null(c);
    assert_int_equal(c->count, count);
    assert_int_equal(c->bytes, bytes);
    assert_int_equal(c->detached, detached);
}

static void test_classes(void **state) {
    (void)state;
    for (size_t piece = 1; piece <= sizeof(old_layout); piece++) {
        const struct heapsnapshot_summary *s;
        struct heapsnapshot *h;

        assert_int_equal(heapsnapshot_new(&h), 0);
        assert_null(heapsnapshot_summary(h));
        assert_int_equal(heapsnapshot_nodes_announced(h), 0);
        assert_int_equal(read_in_pieces(h, old_layout, sizeof(old_layout) - 1, piece), 0);
        assert_string_equal(heapsnapshot_error(h), "");
        assert_int_equal(heapsnapshot_end(h), 0); /* twice is fine */
        assert_int_equal(heapsnapshot_nodes(h), 7);
        assert_int_equal(heapsnapshot_nodes_announced(h), 7);
        s = heapsnapshot_summary(h);
        assert_int_equal(s->n_classes, 6);
        assert_class(s, "Customer", 2, 116, 0); /* an object and a native one */
        assert_class(s, "Order", 1, 24, 1);
        assert_class(s, "Function", 1, 32, 0);
        assert_class(s, "(string)", 1, 40, 0);
        assert_class(s, "(system)", 1, 0, 0);
        assert_class(s, "q\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbdx\n\xef\xbf\xbd", 1, 8, 0);
        assert_string_equal(s->classes[0].name, "Customer"); /* the largest first */
        assert_int_equal(s->total.count, 7);
        assert_int_equal(s->total.bytes, 220);
        assert_int_equal(s->total.detached, 1);
        assert_int_equal(s->n_types, 6);
        assert_string_equal(s->types[3].name, "object");
        assert_int_equal(s->types[3].count, 3);
        assert_false(s->capped);
        heapsnapshot_free(h);
    }
    assert_int_equal(mem_live(), 0);
}

static void test_json(void **state) {
    struct heapsnapshot *h;
    struct buf out;
    json_t *all, *types, *first;
    (void)state;

    buf_init(&out, 65536);
    assert_int_equal(heapsnapshot_new(&h), 0);
    assert_int_equal(read_in_pieces(h, old_layout, sizeof(old_layout) - 1, 100), 0);
    heapsnapshot_json(heapsnapshot_summary(h), 2, &out);
    assert_int_equal(out.err, 0);
    all = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(all);
    assert_int_equal(json_integer_value(json_object_get(all, "nodes")), 7);
    assert_int_equal(json_integer_value(json_object_get(all, "classes_total")), 6);
    assert_int_equal(json_array_size(json_object_get(all, "classes")), 2);
    first = json_array_get(json_object_get(all, "classes"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "class")), "Customer");
    assert_int_equal(json_integer_value(json_object_get(first, "bytes")), 116);
    types = json_object_get(all, "types");
    assert_int_equal(json_object_size(types), 5); /* there is no array */
    assert_int_equal(json_integer_value(json_object_get(json_object_get(types, "native"), "bytes")),
                     100);
    json_decref(all);
    buf_clear(&out);
    heapsnapshot_free(h);
    assert_int_equal(mem_live(), 0);
}

/* Whatever is missing at the end, and each single byte that is missing somewhere: never taken for whole. */
static void test_cut(void **state) {
    struct heapsnapshot *h;
    (void)state;

    for (size_t len = 0; len < sizeof(old_layout) - 1; len++) {
        assert_int_equal(heapsnapshot_new(&h), 0);
        assert_int_equal(read_in_pieces(h, old_layout, len, 64), -EINVAL);
        assert_true(heapsnapshot_error(h)[0] != '\0');
        assert_null(heapsnapshot_summary(h));
        heapsnapshot_free(h);
    }
    assert_int_equal(mem_live(), 0);
}

static void test_damaged(void **state) {
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "it is empty"},
        {" \n", "it ends before its beginning"},
        {"[]", "does not begin with"},
        {"{}", "it has no \"snapshot\""},
        {"{\"nodes\":[]}", "\"nodes\" does not stand where"},
        {"{\"snapshot\":[]}", "is no object"},
        {"{\"snapshot\":{\"meta\":}}", "is not JSON"},
        {"{\"snapshot\":{}}", "has no node_count"},
        {"{\"snapshot\":{\"node_count\":-1}}", "has no node_count"},
        {"{\"snapshot\":{\"node_count\":1,\"edge_count\":1}}", "its node_fields are not"},
        {"{\"snapshot\":{\"node_count\":1,\"edge_count\":1,\"meta\":{\"node_fields\":[\"type\"],"
         "\"edge_fields\":[\"a\"]}}}",
         "have no \"name\""},
        {"{\"snapshot\":" SNAPSHOT(0, 0) "}", "it has no \"nodes\""},
        {"{\"snapshot\":" SNAPSHOT(0, 0) ",\"nodes\":[]}", "it has no \"edges\""},
        {"{\"snapshot\":" SNAPSHOT(0, 0) ",\"nodes\":[],\"nodes\":[]", "does not stand where"},
        {"{\"snapshot\":" SNAPSHOT(0, 0) ",\"nodes\":{}", "does not stand where"},
        {"{\"snapshot\":" SNAPSHOT(0, 0) ",\"nodes\":[],\"edges\":[]}", "it has no \"strings\""},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[]", "1 nodes were announced and there are 0"},
        {"{\"snapshot\":" SNAPSHOT(0, 0) ",\"nodes\":[3,0,0,0,0,0,0]", "more nodes than the 0"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[6,0,0,0,0,0,0]", "has type 6 of 6"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,4294967295,0,0,0,0,0]", "which cannot be"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,0,0,0,0,0]", "last node is not whole"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,,0,0,0,0,0]", "a number is missing"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,0,0,0,0,0,0,]", "a number is missing"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,-1,0,0,0,0,0]", "are not numbers"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,1 1,0,0,0,0,0]", "are not numbers"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,12345678901234567890,0", "too long"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,0,0,0,1,0,0]", "its nodes have 1"},
        {"{\"snapshot\":" SNAPSHOT(1, 1) ",\"nodes\":[3,0,0,0,1,0,0],\"edges\":[]",
         "1 edges were announced and there are 0"},
        {"{\"snapshot\":" SNAPSHOT(1, 1) ",\"nodes\":[3,0,0,0,1,0,0],\"edges\":[1,2]",
         "1 edges were announced and there are 0"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,1,0,0,0,0,0],\"edges\":[],\"strings\":"
                                         "[\"a\"]",
         "a node has name 1 and there are 1 strings"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,0,0,0,0,0,0],\"edges\":[],\"strings\":"
                                         "[\"\\x\"]",
         "its strings are damaged"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,0,0,0,0,0,0],\"edges\":[],\"strings\":"
                                         "[\"\\u00g0\"]",
         "its strings are damaged"},
        {"{\"snapshot\":" SNAPSHOT(1, 0) ",\"nodes\":[3,0,0,0,0,0,0],\"edges\":[],\"strings\":"
                                         "[\"a\",]",
         "its strings are damaged"},
        {"{\"snapshot\":" SNAPSHOT(0, 0) ",\"nodes\":[],\"edges\":[],\"strings\":[]}x",
         "goes on after its end"},
        {"{\"0123456789012345678901234567890123\":1}", "no such long keys"},
    };
    struct heapsnapshot *h;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(heapsnapshot_new(&h), 0);
        assert_int_equal(read_in_pieces(h, cases[i].text, strlen(cases[i].text), 7), -EINVAL);
        if (strstr(heapsnapshot_error(h), cases[i].error) == NULL)
            fail_msg("%s\nsays: %s\nand not: %s", cases[i].text, heapsnapshot_error(h),
                     cases[i].error);
        assert_int_equal(heapsnapshot_push(h, "{", 1), -EINVAL); /* it sticks */
        heapsnapshot_free(h);
    }
    assert_int_equal(mem_live(), 0);
}

/* What another program wrote anew: spaces, other order of what is not needed, unknown parts. */
static void test_other_writers(void **state) {
    static const char text[] =
        " { \"more\" : { \"x\" : [ 1 , \"}\\\"\" ] } , \"n\" : 12 , \"snapshot\" : " SNAPSHOT(
            1, 0) " , \"nodes\" : [ 3 , 0 , 1 ,\t8 , 0 , 0 , 0 ] , \"w\" : true , \"edges\" : [ ] "
                  ", \"strings\" : [ \"A\" , \"b\\\\\" ] , \"last\" : null } \n";
    struct heapsnapshot *h;
    (void)state;

    for (size_t piece = 1; piece < 40; piece++) {
        assert_int_equal(heapsnapshot_new(&h), 0);
        assert_int_equal(read_in_pieces(h, text, sizeof(text) - 1, piece), 0);
        assert_class(heapsnapshot_summary(h), "A", 1, 8, 0);
        heapsnapshot_free(h);
    }
    assert_int_equal(mem_live(), 0);
}

/* A snapshot of n objects, each of a class of its own, whose name has `letters` letters. */
static void make_many(struct buf *b, unsigned n, unsigned letters) {
    char name[1024];

    buf_init(b, 256u << 20);
    buf_printf(b, "{\"snapshot\":" META_7 "\"node_count\":%u,\"edge_count\":0},\"nodes\":[", n);
    for (unsigned i = 0; i < n; i++)
        buf_printf(b, "%s3,%u,1,10,0,0,0", i > 0 ? "," : "", i);
    buf_puts(b, "],\"edges\":[],\"strings\":[");
    memset(name, 'x', sizeof(name));
    name[letters] = '\0';
    for (unsigned i = 0; i < n; i++)
        buf_printf(b, "%s\"%u%s\"", i > 0 ? "," : "", i, name);
    buf_puts(b, "]}");
    assert_int_equal(b->err, 0);
}

static void check_cap(unsigned n, unsigned letters) {
    const struct heapsnapshot_summary *s;
    struct heapsnapshot *h;
    struct buf b;

    make_many(&b, n, letters);
    assert_int_equal(heapsnapshot_new(&h), 0);
    assert_int_equal(read_in_pieces(h, b.data, b.len, 65536), 0);
    s = heapsnapshot_summary(h);
    assert_true(s->capped);
    assert_int_equal(s->total.count, n);
    assert_class(s, "(other classes)", n - s->n_classes + 1, 10 * (n - s->n_classes + 1), 0);
    assert_true(s->n_classes > 1000 && s->n_classes <= LIMIT_HEAP_CLASSES + 1);
    assert_string_equal(s->classes[0].name, "(other classes)");
    heapsnapshot_free(h);
    buf_clear(&b);
}

static void test_caps(void **state) {
    (void)state;
    check_cap(LIMIT_HEAP_CLASSES + 1000, 0);
    check_cap(LIMIT_HEAP_NAMES_BYTES / 150, 180);
    assert_int_equal(mem_live(), 0);
}

static void test_long_names(void **state) {
    const struct heapsnapshot_summary *s;
    struct heapsnapshot *h;
    struct buf b;
    (void)state;

    for (unsigned letters = LIMIT_HEAP_NAME_BYTES - 5; letters < LIMIT_HEAP_NAME_BYTES + 5;
         letters++) {
        make_many(&b, 1, letters);
        assert_int_equal(heapsnapshot_new(&h), 0);
        assert_int_equal(read_in_pieces(h, b.data, b.len, 50), 0);
        s = heapsnapshot_summary(h);
        assert_true(strlen(s->classes[0].name) <= LIMIT_HEAP_NAME_BYTES);
        assert_true((strstr(s->classes[0].name, "...") != NULL) ==
                    (letters + 1 > LIMIT_HEAP_NAME_BYTES));
        heapsnapshot_free(h);
        buf_clear(&b);
    }
    assert_int_equal(mem_live(), 0);
}

static struct heapsnapshot *read_one(const char *text) {
    struct heapsnapshot *h;

    assert_int_equal(heapsnapshot_new(&h), 0);
    assert_int_equal(read_in_pieces(h, text, strlen(text), 1000), 0);
    return h;
}

static void test_diff(void **state) {
    static const char after[] = "{\"snapshot\":" SNAPSHOT(
        4, 0) ",\"nodes\":[3,0,1,16,0,0,0,3,0,1,600,0,0,0,3,1,1,7,0,0,0,2,0,0,40,0,0,0],"
              "\"edges\":[],\"strings\":[\"Customer\",\"New\"]}";
    struct heapsnapshot *a = read_one(old_layout), *b = read_one(after);
    struct heapsnapshot_change *rows;
    size_t n;
    (void)state;

    assert_int_equal(heapsnapshot_diff(heapsnapshot_summary(a), heapsnapshot_summary(b), &rows, &n),
                     0);
    assert_int_equal(n, 6); /* (string) is as it was */
    assert_string_equal(rows[0].name, "Customer");
    assert_int_equal(rows[0].before.bytes, 116);
    assert_int_equal(rows[0].after.bytes, 616);
    assert_string_equal(rows[1].name, "New");
    assert_int_equal(rows[1].before.count, 0);
    assert_int_equal(rows[1].after.count, 1);
    assert_string_equal(rows[5].name, "Function");
    assert_int_equal(rows[5].before.count, 1);
    assert_int_equal(rows[5].after.count, 0);
    mem_free(rows);
    assert_int_equal(heapsnapshot_diff(heapsnapshot_summary(a), heapsnapshot_summary(a), &rows, &n),
                     0);
    assert_int_equal(n, 0);
    mem_free(rows);
    heapsnapshot_free(a);
    heapsnapshot_free(b);
    assert_int_equal(mem_live(), 0);
}

static int all_of_it(void) {
    struct heapsnapshot_change *rows;
    struct heapsnapshot *h;
    size_t n;
    int rc = heapsnapshot_new(&h);

    if (rc != 0)
        return rc;
    rc = read_in_pieces(h, old_layout, sizeof(old_layout) - 1, 200);
    if (rc == 0)
        rc = heapsnapshot_diff(heapsnapshot_summary(h), heapsnapshot_summary(h), &rows, &n);
    if (rc == 0)
        mem_free(rows);
    else
        assert_true(heapsnapshot_error(h)[0] != '\0' || heapsnapshot_summary(h) != NULL);
    heapsnapshot_free(h);
    return rc;
}

/* Each allocation fails once: said, nothing leaked. */
static void test_no_memory(void **state) {
    long n = 0;
    int rc;
    (void)state;

    do {
        mem_fail_only(++n);
        rc = all_of_it();
        mem_fail_only(0);
        /* jansson takes a key for which there was no memory for one that is missing. */
        assert_true(rc == 0 || rc == -ENOMEM || rc == -EINVAL);
        assert_int_equal(mem_live(), 0);
    } while (rc != 0);
    assert_true(n > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),       cmocka_unit_test(test_json),
        cmocka_unit_test(test_cut),           cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_other_writers), cmocka_unit_test(test_caps),
        cmocka_unit_test(test_long_names),    cmocka_unit_test(test_diff),
        cmocka_unit_test(test_no_memory),
    };

    json_set_alloc_funcs(mem_alloc, mem_free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
