/* P31, P64: the report that Node.js wrote goes to the store without the environment, whatever it looks like. */
#include "agent/reports.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"

static void strips(const char *in, const char *wanted) {
    char text[512];
    size_t len = strlen(in);

    memcpy(text, in, len + 1);
    len = report_strip(text, len);
    text[len] = '\0';
    assert_string_equal(text, wanted);
}

static void test_p64_strip(void **state) {
    (void)state;
    strips("{\"a\":1,\"environmentVariables\":{\"S\":\"x\"},\"b\":2}", "{\"a\":1,\"b\":2}");
    strips("{\"environmentVariables\":{\"S\":\"}\\\"]\"},\"b\":2}", "{\"b\":2}");
    strips("{\"a\":1,\n \"environmentVariables\" : {\"S\":{\"T\":[1,2]}}\n}", "{\"a\":1}");
    strips("{\"environmentVariables\":{}}", "{}");
    strips("{\"x\":{\"environmentVariables\":{}},\"y\":\"environmentVariables\"}",
           "{\"x\":{\"environmentVariables\":{}},\"y\":\"environmentVariables\"}");
    strips("{\"a\":1,\"environmentVariables\":{\"S\":\"cut", "{\"a\":1");
    strips("{\"a\":1,\"environmentVariables\":", "{\"a\":1");
    strips("{\"environmentVariables\":{\"S\":1},\"environmentVariables\":{\"S\":2},\"b\":3}",
           "{\"b\":3}");
    strips("", "");
    strips("\"", "\"");
    strips("{\"a\":\"\\", "{\"a\":\"\\");
}

static void test_names(void **state) {
    (void)state;
    assert_true(report_is_of("report.20261123.181704.4711.0.001.json", 4711));
    assert_false(report_is_of("report.20261123.181704.4711.0.001.json", 471));
    assert_false(report_is_of("report.20261123.181704.47110.0.001.json", 4711));
    assert_false(report_is_of("report.4711.1.2.json", 4711));
    assert_false(report_is_of("report.1.json", 1));
    assert_false(report_is_of("preload.js", 1));
    assert_false(report_is_of("report.", 1));
}

static struct {
    int called;
    char name[256], sha256[65];
    uint64_t bytes;
} got;

static void on_done(void *arg, const struct report *report) {
    (void)arg;
    got.called++;
    if (report == NULL)
        return;
    (void)snprintf(got.name, sizeof(got.name), "%s", report->name);
    (void)snprintf(got.sha256, sizeof(got.sha256), "%s", report->sha256);
    got.bytes = report->bytes;
}

static void take(int fd, int work, pid_t pid, bool store) {
    uv_loop_t loop;

    memset(&got, 0, sizeof(got));
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(reports_take(&loop, fd, work, pid, store, on_done, NULL), 0);
    assert_int_equal(got.called, 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(got.called, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void test_p31_take(void **state) {
    static const char name[] = "report.20261123.181704.4711.0.001.json";
    static const char text[] = "{\"header\":{},\"environmentVariables\":{\"SECRET\":\"x\"}}";
    char dir[] = "/tmp/pillion-test-XXXXXX", back[256];
    int fd, work;

    (void)state;
    assert_non_null(mkdtemp(dir));
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fd, "work", 0700), 0);
    work = openat(fd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fs_write_at(fd, name, text, sizeof(text) - 1, 0600), 0);
    take(fd, work, 4712, true);
    assert_string_equal(got.name, "");
    take(fd, work, 4711, true);
    assert_string_equal(got.name, name);
    assert_int_equal(fs_read_at(work, name, back, sizeof(back)), got.bytes);
    assert_string_equal(back, "{\"header\":{}}");
    assert_int_equal(strlen(got.sha256), 64);
    assert_int_equal(faccessat(fd, name, F_OK, 0), -1);
    assert_int_equal(unlinkat(work, name, 0), 0);
    assert_int_equal(fs_write_at(fd, name, text, sizeof(text) - 1, 0600), 0);
    take(fd, work, 4711, false); /* held back: only removed */
    assert_string_equal(got.name, "");
    assert_int_equal(faccessat(fd, name, F_OK, 0), -1);
    assert_int_equal(symlinkat("/etc/passwd", fd, name), 0); /* P63 */
    take(fd, work, 4711, true);
    assert_string_equal(got.name, "");
    assert_int_equal(unlinkat(fd, "work", AT_REMOVEDIR), 0);
    (void)close(work);
    (void)close(fd);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p64_strip),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_p31_take),
    };

    return cmocka_run_group_tests_name("reports", tests, NULL, NULL);
}
