/* The flame graph of profiles of every shape and of none: what comes out is compared as folded stacks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/mem.h"
#include "collectors/flamegraph/flamegraph.h"
#include "collectors/flamegraph/source.h"

#define FRAME(name, line)                                                                          \
    "{\"functionName\":\"" name "\",\"scriptId\":\"7\",\"url\":\"file:///app/a.js\","              \
    "\"lineNumber\":" #line ",\"columnNumber\":4}"
#define ROOT                                                                                       \
    "{\"functionName\":\"(root)\",\"scriptId\":\"0\",\"url\":\"\",\"lineNumber\":-1,"              \
    "\"columnNumber\":-1}"
#define NODES                                                                                      \
    "\"nodes\":[{\"id\":1,\"callFrame\":" ROOT ",\"hitCount\":0,\"children\":[2,4]},"              \
    "{\"id\":2,\"callFrame\":" FRAME(                                                              \
        "main", 0) ",\"hitCount\":1,\"children\":[3]},"                                            \
                   "{\"id\":3,\"callFrame\":" FRAME(                                               \
                       "work", 9) ",\"hitCount\":2,\"positionTicks\":"                             \
                                  "[{\"line\":3,\"ticks\":2}]},"                                   \
                                  "{\"id\":4,\"callFrame\":{\"functionName\":\"(idle)\","          \
                                  "\"scriptId\":\"0\",\"url\":\"\","                               \
                                  "\"lineNumber\":-1,\"columnNumber\":-1},\"hitCount\":1}]"
#define TIMES   "\"startTime\":100,\"endTime\":1100"
#define SAMPLES "\"samples\":[2,3,3,4,2]"
#define DELTAS  "\"timeDeltas\":[7,100,200,-5,400]"
#define STACKS  "main /app/a.js:1:5 100\nmain /app/a.js:1:5;work /app/a.js:10:5 200\n"

static int memory_file(const void *data, size_t len) {
    int fd = memfd_create("profile", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static char *contents(int fd, size_t *ret_len) {
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = malloc((size_t)len + 1);

    assert_non_null(text);
    assert_int_equal(pread(fd, text, (size_t)len, 0), len);
    text[len] = '\0';
    if (ret_len != NULL)
        *ret_len = (size_t)len;
    return text;
}

static char *made(const char *profile, size_t len, const char *base, enum flamegraph_format format,
                  int expected, char *why) {
    struct flamegraph_options options = {.format = format, .base_fd = -1, .title = "T<i>"};
    int in = memory_file(profile, len), out = memory_file("", 0), rc;
    char *text;

    if (base != NULL)
        options.base_fd = memory_file(base, strlen(base));
    rc = flamegraph_make(in, out, &options, why);
    if (rc != expected)
        print_error("%d instead of %d: %s\n", rc, expected, why);
    assert_int_equal(rc, expected);
    text = contents(out, NULL);
    close(in);
    close(out);
    if (base != NULL)
        close(options.base_fd);
    return text;
}

static void folds_to(const char *profile, const char *stacks) {
    char why[256], *text = made(profile, strlen(profile), NULL, FLAMEGRAPH_FOLDED, 0, why);

    assert_string_equal(text, stacks);
    free(text);
}

static void fails_with(const char *profile, size_t len, const char *reason) {
    char why[256], *text = made(profile, len, NULL, FLAMEGRAPH_HTML, -EINVAL, why);

    assert_string_equal(text, "");
    if (strstr(why, reason) == NULL)
        print_error("'%s' instead of '%s'\n", why, reason);
    assert_non_null(strstr(why, reason));
    free(text);
}

static void a_sample_weighs_the_time_until_the_next(void **state) {
    (void)state;
    folds_to("{" NODES "," TIMES "," SAMPLES "," DELTAS "}", STACKS);
}

static void keys_may_come_in_any_order(void **state) {
    (void)state;
    folds_to("{" DELTAS "," SAMPLES "," TIMES "," NODES "}", STACKS);
    folds_to("{" SAMPLES "," NODES "," DELTAS "}", STACKS);
    folds_to("{" SAMPLES "," DELTAS ",\"more\":[{\"a\":\"]\\\"\"}]," NODES "}", STACKS);
    folds_to(" {\"id\":1,\"result\":{\"profile\":{" NODES "," SAMPLES "," DELTAS "}}} \n", STACKS);
    folds_to("{\"nodes\":[{\"children\":[3],\"hitCount\":1,\"callFrame\":" FRAME(
                 "main", 0) ",\"id\":2},{\"callFrame\":" FRAME("work", 9) ",\"id\":3}]," DELTAS
                                                                          "," SAMPLES "}",
             "(unknown) 400\n" STACKS);
}

static void nodes_may_be_linked_in_any_way(void **state) {
    (void)state;
    folds_to("{\"nodes\":[{\"id\":3,\"parent\":2,\"callFrame\":" FRAME(
                 "work", 9) "},{\"id\":2,\"callFrame\":" FRAME("main",
                                                               0) "}],\"samples\":[2,3,3,2],"
                                                                  "\"timeDeltas\":[0,100,200,0]}",
             STACKS);
    folds_to("{\"samples\":[2,3,3,2],\"head\":{\"children\":[{\"children\":[{\"id\":3,"
             "\"callFrame\":" FRAME("work", 9) ",\"children\":[]}],\"callFrame\":" FRAME(
                 "main", 0) ",\"id\":2}],\"callFrame\":" ROOT ",\"id\":1},"
                            "\"timeDeltas\":[0,100,200,0]}",
             STACKS);
}

static void a_heap_profile_weighs_bytes(void **state) {
    (void)state;
    folds_to("{\"head\":{\"callFrame\":" ROOT ",\"selfSize\":0,\"id\":1,\"children\":["
             "{\"callFrame\":" FRAME(
                 "main", 0) ",\"selfSize\":100,\"id\":2,\"children\":[{"
                            "\"callFrame\":" FRAME(
                                "work", 9) ",\"selfSize\":200,\"id\":3,\"children\":[]}]}]},"
                                           "\"samples\":[{\"size\":"
                                           "100,"
                                           "\"nodeId\":2,\"ordinal\":1}]}",
             STACKS);
}

static void without_times_samples_weigh_the_same(void **state) {
    (void)state;
    folds_to("{" NODES ",\"startTime\":0,\"endTime\":1000,\"samples\":[2,3,3,2]}",
             "main /app/a.js:1:5 500\nmain /app/a.js:1:5;work /app/a.js:10:5 500\n");
    folds_to("{" NODES ",\"samples\":[2,3,3]}",
             "main /app/a.js:1:5 1\nmain /app/a.js:1:5;work /app/a.js:10:5 2\n");
    folds_to("{" NODES "," TIMES "}",
             "main /app/a.js:1:5 1\nmain /app/a.js:1:5;work /app/a.js:10:5 2\n");
    folds_to("{" NODES ",\"samples\":[],\"timeDeltas\":[]}",
             "main /app/a.js:1:5 1\nmain /app/a.js:1:5;work /app/a.js:10:5 2\n");
}

static void the_same_function_below_the_same_caller_is_one(void **state) {
    (void)state;
    folds_to("{\"nodes\":[{\"id\":1,\"callFrame\":" FRAME(
                 "main", 0) ",\"children\":[2,3]},{\"id\":2,"
                            "\"callFrame\":" FRAME(
                                "work", 1) ",\"children\":[4]},{\"id\":3,"
                                           "\"callFrame\":" FRAME(
                                               "work",
                                               1) ",\"children\":[5,6]"
                                                  "},{\"id\":4,"
                                                  "\"callFrame\""
                                                  ":" FRAME("leaf",
                                                            2) "},{"
                                                               "\"id\""
                                                               ":5,"
                                                               "\"call"
                                                               "Frame"
                                                               "\""
                                                               ":" FRAME("leaf",
                                                                         2) "},{\"id\":6,"
                                                                            "\"callFrame\""
                                                                            ":" FRAME("leaf",
                                                                                      3) "}],"
                                                                                         "\"sampl"
                                                                                         "es\":["
                                                                                         "2,3,4,"
                                                                                         "5,6,1],"
                                                                                         "\"timeD"
                                                                                         "eltas\""
                                                                                         ":[9,1,"
                                                                                         "2,4,8,"
                                                                                         "32]}",
             "main /app/a.js:1:5;work /app/a.js:2:5 3\n"
             "main /app/a.js:1:5;work /app/a.js:2:5;leaf /app/a.js:4:5 32\n"
             "main /app/a.js:1:5;work /app/a.js:2:5;leaf /app/a.js:3:5 12\n");
}

#define NODE(id, name, children)                                                                   \
    "{\"id\":" #id ",\"callFrame\":" FRAME(name, 0) ",\"children\":[" children "]}"

static void odd_links_and_ids_are_no_harm(void **state) {
    (void)state;
    /* a ring, one that is its own child, a child that isn't there */
    folds_to("{\"nodes\":[" NODE(1, "a", "2") "," NODE(2, "b", "1") "," NODE(
                 3, "c", "3,99") "],\"samples\":[2,3,0],\"timeDeltas\":[0,5,6]}",
             "c /app/a.js:1:5 6\nb /app/a.js:1:5 5\n");
    /* samples of nodes that aren't there */
    folds_to("{\"nodes\":[" NODE(1, "a", "") "],\"samples\":[77,1,9007199254740991,1],"
                                             "\"timeDeltas\":[0,5,6,7]}",
             "(unknown) 12\na /app/a.js:1:5 6\n");
    /* huge and repeated ids */
    folds_to("{\"nodes\":[" NODE(4294967295, "a", "9007199254740991") "," NODE(
                 9007199254740991, "b",
                 "") "," NODE(4294967295, "c",
                              "") "],\"samples\":"
                                  "[9007199254740991,4294967295,1],\"timeDeltas\":[0,5,6]}",
             "a /app/a.js:1:5 6\na /app/a.js:1:5;b /app/a.js:1:5 5\n");
    folds_to("{\"nodes\":[]}", "");
}

static void names_are_harmless(void **state) {
    static const char profile[] =
        "{\"nodes\":[{\"id\":1,\"callFrame\":{\"functionName\":"
        "\"</script><b>\\u0000\\n;\\ud83d\\ude00\\ud83d\\\"\\\\\\u00e9}\",\"url\":\"x\xff\"}}],"
        "\"samples\":[1,1],\"timeDeltas\":[0,5]}";
    char why[256], *text;
    size_t scripts = 0;

    (void)state;
    folds_to(profile, "</script><b>\xef\xbf\xbd :\xf0\x9f\x98\x80\xef\xbf\xbd\"\\\xc3\xa9} "
                      "x\xef\xbf\xbd 5\n");
    text = made(profile, strlen(profile), NULL, FLAMEGRAPH_HTML, 0, why);
    for (const char *p = strstr(text, "</script"); p != NULL; p = strstr(p + 1, "</script"))
        scripts++;
    assert_int_equal(scripts, 2);
    assert_non_null(strstr(text, "&#60;/script&#62;&#60;b&#62;"));
    assert_non_null(strstr(text, "<title>T&#60;i&#62;</title>"));
    free(text);
    text = made(profile, strlen(profile), NULL, FLAMEGRAPH_SVG, 0, why);
    assert_null(strstr(text, "</script"));
    free(text);
}

/* Every token once on the edge of the window. */
static void tokens_may_lie_across_the_window(void **state) {
    static const char profile[] = "{" DELTAS "," NODES "," TIMES "," SAMPLES ",\"x\":\"\\u00e9\"}";
    size_t len = strlen(profile);
    char *text = malloc(SOURCE_WINDOW_BYTES + len + 1), why[256];

    (void)state;
    assert_non_null(text);
    for (size_t before = 1; before < len; before++) {
        size_t pad = SOURCE_WINDOW_BYTES - before;
        char *stacks;

        memset(text, ' ', pad);
        memcpy(text + pad, profile, len);
        stacks = made(text, pad + len, NULL, FLAMEGRAPH_FOLDED, 0, why);
        assert_string_equal(stacks, STACKS);
        free(stacks);
    }
    free(text);
}

static void gzip_is_found_by_its_first_bytes(void **state) {
    static const char profile[] = "{" NODES "," SAMPLES "," DELTAS "}";
    unsigned char packed[4096];
    z_stream z = {0};
    char why[256], *text;
    size_t n;

    (void)state;
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)profile;
    z.avail_in = sizeof(profile) - 1;
    z.next_out = packed;
    z.avail_out = sizeof(packed);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    n = sizeof(packed) - z.avail_out;
    deflateEnd(&z);
    text = made((char *)packed, n, NULL, FLAMEGRAPH_FOLDED, 0, why);
    assert_string_equal(text, STACKS);
    free(text);
    fails_with((char *)packed, n / 2, "cut off");
    fails_with((char *)packed, 10, "cut off");
    packed[n / 2] ^= 0xff;
    packed[n / 2 + 1] ^= 0xff;
    fails_with((char *)packed, n, "a");
}

static void what_is_no_profile_is_told(void **state) {
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "the input is empty"},
        {"   ", "cut off at byte 3"},
        {"hello", "does not begin with '{'"},
        {"[]", "does not begin with '{'"},
        {"{}", "neither \"nodes\""},
        {"{\"a\":1}", "neither \"nodes\""},
        {"{\"snapshot\":{\"meta\":{}}}", "heap snapshot"},
        {"{\"traceEvents\":[]}", "traceEvents"},
        {"{\"nodes\":[{\"id\":1}]}", "has no callFrame"},
        {"{\"nodes\":[{\"id\":-1,\"callFrame\":{}}]}", "below 0"},
        {"{\"nodes\":[{\"id\":\"x\"}]}", "a number is wanted at byte 16"},
        {"{\"nodes\":[1]}", "'{' is wanted at byte 10"},
        {"{\"nodes\":[],\"samples\":[],\"samples\":[]}", "a second time"},
        {"{\"nodes\":[]} x", "more behind it"},
        {"{\"nodes\":[]", "cut off at byte 11"},
        {"{\"nodes\":[{\"id\":1,\"callFrame\":{\"functionName\":\"ab", "cut off"},
        {"{\"x\":[}", "wrong bracket"},
        {"{\"x\":\"\\q\",\"nodes\":[{\"callFrame\":{\"url\":\"\\q\"}}]}", "escape"},
        {"{\"x\":tru\x01}", "0x01"},
    };
    char deep[4096] = "{\"x\":";

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        fails_with(cases[i].text, strlen(cases[i].text), cases[i].why);
    memset(deep + 5, '[', 2000);
    fails_with(deep, strlen(deep), "nested deeper");
}

/* Cut anywhere it is never taken for a whole one. */
static void a_cut_profile_is_never_whole(void **state) {
    static const char profile[] = "{" NODES "," TIMES "," SAMPLES "," DELTAS "}";
    char why[256];

    (void)state;
    for (size_t n = 0; n < strlen(profile); n++)
        free(made(profile, n, NULL, FLAMEGRAPH_TEXT, -EINVAL, why));
}

static void deep_stacks_are_cut(void **state) {
    struct buf b;
    char why[256], *text;

    (void)state;
    buf_init(&b, 64 * 1024 * 1024);
    buf_puts(&b, "{\"head\":");
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "{\"selfSize\":1,\"callFrame\":{\"functionName\":\"f%d\"},\"children\":[",
                   i % 3);
    for (int i = 0; i < 10000; i++)
        buf_puts(&b, "]}");
    buf_puts(&b, "}");
    assert_int_equal(b.err, 0);
    text = made(b.data, b.len, NULL, FLAMEGRAPH_TEXT, 0, why);
    assert_non_null(strstr(text, "Stacks are cut at 4096 functions"));
    assert_non_null(strstr(text, "9.8 KiB"));
    free(text);
    free(made(b.data, b.len, NULL, FLAMEGRAPH_HTML, 0, why));
    free(made(b.data, b.len, NULL, FLAMEGRAPH_SVG, 0, why));
    free(made(b.data, b.len, NULL, FLAMEGRAPH_PPROF, 0, why));
    free(made(b.data, b.len, NULL, FLAMEGRAPH_SPEEDSCOPE, 0, why));
    buf_clear(&b);
}

/* The timeline gets coarser, the sums stay exact. */
static void many_samples_need_no_more_memory(void **state) {
    struct buf b;
    char why[256], *text;

    (void)state;
    buf_init(&b, 64 * 1024 * 1024);
    buf_puts(&b, "{" NODES ",\"samples\":[");
    for (int i = 0; i < 300001; i++)
        buf_puts(&b, i == 0 ? "2" : i % 3 == 0 ? ",2" : ",3");
    buf_puts(&b, "],\"timeDeltas\":[0");
    for (int i = 0; i < 300000; i++)
        buf_puts(&b, ",10");
    buf_puts(&b, "]}");
    assert_int_equal(b.err, 0);
    text = made(b.data, b.len, NULL, FLAMEGRAPH_FOLDED, 0, why);
    assert_string_equal(text, "main /app/a.js:1:5 1000000\n"
                              "main /app/a.js:1:5;work /app/a.js:10:5 2000000\n");
    free(text);
    text = made(b.data, b.len, NULL, FLAMEGRAPH_TEXT, 0, why);
    assert_non_null(strstr(text, "Time order has steps of"));
    free(text);
    buf_clear(&b);
}

static void two_profiles_are_compared(void **state) {
    static const char before[] = "{" NODES "," DELTAS "," SAMPLES "}";
    static const char after[] = "{" NODES ",\"samples\":[3,2,2],\"timeDeltas\":[0,900,100]}";
    static const char heap[] = "{\"head\":{\"selfSize\":1,\"callFrame\":" ROOT "}}";
    char why[256], *text = made(after, strlen(after), before, FLAMEGRAPH_TEXT, 0, why);

    (void)state;
    assert_non_null(strstr(text, "compared with 300 µs"));
    assert_non_null(strstr(text, "  +23.3     66.7 % ->  90.0 %  work  /app/a.js:10:5"));
    assert_non_null(strstr(text, "  -23.3     33.3 % ->  10.0 %  main  /app/a.js:1:5"));
    free(text);
    free(made(after, strlen(after), before, FLAMEGRAPH_HTML, 0, why));
    free(made(after, strlen(after), before, FLAMEGRAPH_FOLDED, -EINVAL, why));
    assert_non_null(strstr(why, "html and text can"));
    free(made(after, strlen(after), heap, FLAMEGRAPH_HTML, -EINVAL, why));
    assert_non_null(strstr(why, "cannot be compared"));
    free(made(after, strlen(after), "{\"nodes\"", FLAMEGRAPH_HTML, -EINVAL, why));
    assert_non_null(strstr(why, "base: "));
}

/* Whatever allocation fails: -ENOMEM, and nothing is left behind. */
static void any_allocation_may_fail(void **state) {
    static const char profile[] = "{" SAMPLES ",\"nodes\":[{\"id\":1,\"callFrame\":" FRAME(
        "main", 0) "},{\"id\":99999999999,\"parent\":1,\"callFrame\":{\"functionName\":\"x\","
                   "\"url\":\"/a/node_modules/@b/c/d.js\"}}]," DELTAS "}";
    char why[256];

    (void)state;
    for (int format = 0; format < FLAMEGRAPH_FORMATS; format++) {
        bool compares = format == FLAMEGRAPH_HTML || format == FLAMEGRAPH_TEXT;
        struct flamegraph_options options = {.format = (enum flamegraph_format)format};
        int rc = -ENOMEM;

        for (long n = 1; rc == -ENOMEM; n++) {
            int in = memory_file(profile, strlen(profile)), out = memory_file("", 0);
            long live = mem_live();

            options.base_fd = compares ? memory_file(profile, strlen(profile)) : -1;
            mem_fail_only(n);
            rc = flamegraph_make(in, out, &options, why);
            mem_fail_only(0);
            assert_int_equal(mem_live(), live);
            close(in);
            close(out);
            if (compares)
                close(options.base_fd);
            assert_true(n < 1000);
        }
        assert_int_equal(rc, 0);
    }
}

static void formats_have_names_and_endings(void **state) {
    enum flamegraph_format format;

    (void)state;
    for (int i = 0; i < FLAMEGRAPH_FORMATS; i++) {
        assert_int_equal(
            flamegraph_format_read(flamegraph_format_name((enum flamegraph_format)i), &format), 0);
        assert_int_equal(format, i);
    }
    assert_int_equal(flamegraph_format_read("png", &format), -EINVAL);
    assert_int_equal(flamegraph_format_of_file("a.pb.gz", &format), 0);
    assert_int_equal(format, FLAMEGRAPH_PPROF);
    assert_int_equal(flamegraph_format_of_file("a.cpuprofile", &format), -EINVAL);
}

static int nothing_is_left(void **state) {
    (void)state;
    return mem_live() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_weighs_the_time_until_the_next),
        cmocka_unit_test(keys_may_come_in_any_order),
        cmocka_unit_test(nodes_may_be_linked_in_any_way),
        cmocka_unit_test(a_heap_profile_weighs_bytes),
        cmocka_unit_test(without_times_samples_weigh_the_same),
        cmocka_unit_test(the_same_function_below_the_same_caller_is_one),
        cmocka_unit_test(odd_links_and_ids_are_no_harm),
        cmocka_unit_test(names_are_harmless),
        cmocka_unit_test(tokens_may_lie_across_the_window),
        cmocka_unit_test(gzip_is_found_by_its_first_bytes),
        cmocka_unit_test(what_is_no_profile_is_told),
        cmocka_unit_test(a_cut_profile_is_never_whole),
        cmocka_unit_test(deep_stacks_are_cut),
        cmocka_unit_test(many_samples_need_no_more_memory),
        cmocka_unit_test(two_profiles_are_compared),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(formats_have_names_and_endings),
    };

    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
