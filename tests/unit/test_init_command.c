/* NODE_OPTIONS as Node.js reads it; the application's environment; the command line of run. */
#include "agent/init/node_options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/init/options.h"
#include "agent/init/prepare.h"
#include "agent/init/workers_command.h"

static void test_add(void **state) {
    static const struct {
        const char *old, *path;
        int rc;
        const char *want;
    } cases[] = {
        {NULL, "/run/p.js", 0, "--require=/run/p.js"},
        {"", "/run/p.js", 0, "--require=/run/p.js"},
        {"--a --b=c", "/run/p.js", 0, "--a --b=c --require=/run/p.js"},
        {NULL, "/a b/p.js", 0, "--require=\"/a b/p.js\""},
        {NULL, "/a\"b/p.js", 0, "--require=\"/a\\\"b/p.js\""},
        {NULL, "/a\\b/p.js", 0, "--require=\"/a\\\\b/p.js\""},
        {"--title=\"x y\"", "/p.js", 0, "--title=\"x y\" --require=/p.js"},
        {"--title=\"x\\\" y\"", "/p.js", 0, "--title=\"x\\\" y\" --require=/p.js"},
        {"--x=\\", "/p.js", 0, "--x=\\ --require=/p.js"}, /* no escape outside of quotes */
        {"--require=/p.js", "/p.js", -EEXIST, NULL},
        {"--a --require /p.js --b", "/p.js", -EEXIST, NULL},
        {"-r /p.js", "/p.js", -EEXIST, NULL},
        {"--requ\"ire=/a b\"/p.js", "/a b/p.js", -EEXIST, NULL},
        {"--require=/p.jsx", "/p.js", 0, "--require=/p.jsx --require=/p.js"},
        {"--title=--require=/p.js", "/p.js", 0, "--title=--require=/p.js --require=/p.js"},
        {"\"\" \"\" -r", "/p.js", 0, "\"\" \"\" -r --require=/p.js"},
        {"--title=\"x", "/p.js", -EINVAL, NULL},
        {"\"--x\\", "/p.js", -EINVAL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        int rc;

        buf_init(&out, 1000);
        rc = node_options_add(&out, cases[i].old, cases[i].path);
        if (rc != cases[i].rc || (rc == 0 && strcmp(out.data, cases[i].want) != 0))
            fail_msg("%zu: rc %d, %s", i, rc, out.data != NULL ? out.data : "");
        buf_clear(&out);
    }
    assert_int_equal(mem_live(), 0);
}

static void check_env(char *const *env, bool mark) {
    assert_string_equal(prepare_getenv(env, "NODE_OPTIONS"), "--x --require=/d/preload.js");
    assert_string_equal(prepare_getenv(env, "PATH"), "/bin");
    assert_null(prepare_getenv(env, "PILLION_INIT_FD"));
    assert_null(prepare_getenv(env, "NODE"));
    if (mark)
        assert_non_null(strstr(prepare_getenv(env, PREPARE_ENV_MARK), ":/d"));
    else
        assert_string_equal(prepare_getenv(env, PREPARE_ENV_MARK), "1:2:/old");
}

static void test_env(void **state) {
    const char *const old[] = {"PATH=/bin",         "NODE_OPTIONS=--x",
                               "PILLION_INIT_FD=3", PREPARE_ENV_MARK "=1:2:/old",
                               "NODE_OPTION=y",     NULL};
    struct prepared_env p;

    (void)state;
    for (int mark = 0; mark < 2; mark++) {
        int rc = -ENOMEM;

        for (long n = 1; rc != 0; n++) {
            mem_fail_only(n);
            rc = prepare_env(&p, (char *const *)old, "/d", mark == 1);
            mem_fail_only(0);
            assert_true(rc == 0 || rc == -ENOMEM);
        }
        check_env(p.env, mark == 1);
        prepare_env_clear(&p);
        assert_int_equal(mem_live(), 0);
    }
    assert_int_equal(prepare_env(&p, (char *const *)old, NULL, false), 0);
    assert_string_equal(prepare_getenv(p.env, "NODE_OPTIONS"), "--x");
    prepare_env_clear(&p);
    assert_int_equal(mem_live(), 0);
}

static void test_nested(void **state) {
    const char *const none[] = {"A=b", NULL};
    const char *const dead[] = {PREPARE_ENV_MARK "=4194304999:1:/d", NULL};
    const char *const other[] = {PREPARE_ENV_MARK "=1:0:/d", NULL};
    const char *const junk[] = {PREPARE_ENV_MARK "=nonsense", NULL};

    (void)state;
    assert_false(prepare_is_nested((char *const *)none, "/d"));
    assert_false(prepare_is_nested((char *const *)dead, "/d"));
    assert_false(prepare_is_nested((char *const *)other,
                                   "/d")); /* pid 1 started later than at 0, or is not to be seen */
    assert_false(prepare_is_nested((char *const *)junk, "/d"));
}

#define ARGV(...) ((const char *[]){"run", __VA_ARGS__, NULL})
#define PARSE(o, why, ...)                                                                         \
    options_parse(o, (int)ARRAY_LEN(ARGV(__VA_ARGS__)) - 1, (char **)ARGV(__VA_ARGS__), why,       \
                  sizeof(why))

static void test_options(void **state) {
    struct options o;
    char why[200];

    (void)state;
    assert_int_equal(PARSE(&o, why, "--", "node", "-g"), 0);
    assert_false(o.group);
    assert_int_equal(PARSE(&o, why, "-g", "node"), 0);
    assert_true(o.group);
    assert_false(o.has_workers);
    assert_int_equal(PARSE(&o, why, "--workers", "auto", "x.js", "--workers", "3"), 0);
    assert_true(o.has_workers);
    assert_int_equal(o.workers, OPTIONS_WORKERS_AUTO);
    assert_int_equal(PARSE(&o, why, "--workers=8", "--", "x.js"), 0);
    assert_int_equal(o.workers, 8);
    assert_int_equal(PARSE(&o, why, "--help"), 0);
    assert_true(o.help);
    assert_int_equal(PARSE(&o, why, "--workers", "0", "x"), -EINVAL);
    assert_int_equal(PARSE(&o, why, "--workers", "1025", "x"), -EINVAL);
    assert_int_equal(PARSE(&o, why, "--workers", "2"), -EINVAL);
    assert_int_equal(PARSE(&o, why, "--workers"), -EINVAL);
    assert_int_equal(PARSE(&o, why, "--"), -EINVAL);
    assert_int_equal(PARSE(&o, why, "-x", "y"), -EINVAL);
    assert_non_null(strstr(why, "-x"));
}

static void test_workers_command(void **state) {
    const char *const script[] = {"s.js", "--a", NULL};
    char **argv, *text;
    int rc = -ENOMEM;

    (void)state;
    for (long n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = workers_command(&argv, &text, "/d", 3, 8500, (char *const *)script);
        mem_fail_only(0);
    }
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(
            argv[i], ((const char *[]){"node", "/d/master.js", "3", "8500", "s.js", "--a"})[i]);
    assert_null(argv[6]);
    mem_free(argv);
    mem_free(text);
    assert_int_equal(workers_command(&argv, &text, NULL, 3, 8500, (char *const *)script), 0);
    assert_string_equal(argv[1], "-e");
    assert_non_null(strstr(argv[2], "class Master"));
    assert_string_equal(argv[3], "--");
    assert_string_equal(argv[7], "--a");
    assert_null(argv[8]);
    mem_free(argv);
    mem_free(text);
    assert_int_equal(mem_live(), 0);
}

/* P07: Node.js 20 ends when a --require is out of its permission model's reach. */
static void test_p07_permission_model(void **state) {
    const char *const plain[] = {"node", "a.js", NULL};
    const char *const model[] = {"node", "--experimental-permission", "--allow-fs-read=/app",
                                 "a.js", NULL};
    const char *const all[] = {"node", "--experimental-permission", "--allow-fs-read=*", "a.js",
                               NULL};
    const char *const ours[] = {"node", "--allow-fs-read=/run/pillion/*",
                                "--experimental-permission", "a.js", NULL};
    const char *const later[] = {"node", "--permission", "a.js", NULL};
    (void)state;

    assert_false(node_options_forbid(plain, NULL, "/run/pillion"));
    assert_true(node_options_forbid(model, NULL, "/run/pillion"));
    assert_false(node_options_forbid(all, NULL, "/run/pillion"));
    assert_false(node_options_forbid(ours, NULL, "/run/pillion"));
    assert_false(node_options_forbid(later, NULL, "/run/pillion"));
    assert_true(node_options_forbid(plain, "--experimental-permission", "/run/pillion"));
    assert_false(
        node_options_forbid(plain, "--experimental-permission --allow-fs-read=*", "/run/pillion"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p07_permission_model),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_env),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_workers_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
