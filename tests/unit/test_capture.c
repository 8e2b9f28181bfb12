/* One capture on a real loop, from order to result, with a worker of the test's own at the other end of the FIFO. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "collectors/capture.h"

enum how { GOOD, CUT, SHORT, FAILS, MUTE, HANGS, NEVER_STARTS };

static struct {
    uv_loop_t loop;
    uv_timer_t timer;
    char dir[64];
    int dirfd, proc_fd;
    enum how how;
    struct capture *capture;
    unsigned done, cancels, progress;
    int rc;
    char reason[512], json[4096], file[96];
    json_int_t order;
    int fifo;
    char text[256]; /* what the worker writes */
    bool cancel, disconnect;
} t;

static void on_done(void *arg, const struct capture_result *r) {
    assert_ptr_equal(arg, &t);
    t.done++;
    t.capture = NULL;
    t.rc = r->rc;
    assert_true(r->rc == 0 || (r->n_files == 0 && r->reason != NULL && r->reason[0] != '\0'));
    (void)snprintf(t.reason, sizeof(t.reason), "%s", r->reason != NULL ? r->reason : "");
    (void)snprintf(t.json, sizeof(t.json), "%.*s", (int)r->json_len,
                   r->json != NULL ? r->json : "");
    t.file[0] = '\0';
    for (unsigned i = 0; i < r->n_files; i++) {
        (void)snprintf(t.file, sizeof(t.file), "%s", r->files[i].name);
        assert_int_equal(strlen(r->files[i].sha256), 64);
        assert_int_equal(unlinkat(t.dirfd, r->files[i].name, 0), 0);
    }
    uv_close((uv_handle_t *)&t.timer, NULL);
}

static void on_progress(void *arg, double share, const char *note) {
    (void)arg;
    (void)note;
    assert_true(isnan(share) || (share >= 0 && share <= 1));
    t.progress++;
}

static void say(const char *rest) {
    char json[512];

    (void)snprintf(json, sizeof(json), "{\"order\":%lld,%s}", (long long)t.order, rest);
    if (t.capture != NULL)
        capture_answer(t.capture, json, strlen(json));
}

/* The worker's turn, after the order. */
static void on_turn(uv_timer_t *timer) {
    char rest[64];

    (void)timer;
    if (t.how == NEVER_STARTS)
        return;
    say("\"state\":\"started\"");
    if (t.disconnect)
        capture_disconnected(t.capture);
    if (t.cancel)
        capture_cancel(t.capture);
    if (t.how == HANGS)
        return;
    if (t.how != MUTE && t.fifo >= 0)
        assert_int_equal(write(t.fifo, t.text, strlen(t.text)), strlen(t.text));
    if (t.fifo >= 0)
        (void)close(t.fifo);
    t.fifo = -1;
    (void)snprintf(rest, sizeof(rest),
                   "\"state\":\"done\",\"bytes\":%zu,\"start_ms\":1.5,\"stop_ms\":2",
                   strlen(t.text) + (t.how == SHORT));
    if (t.how == FAILS)
        say("\"state\":\"failed\",\"reason\":\"because\"");
    else if (t.how != CUT)
        say(rest);
}

static int on_send(void *arg, const char *json, size_t len) {
    json_t *root = json_loadb(json, len, 0, NULL);
    const char *action = json_string_value(json_object_get(root, "action"));
    const char *fifo = json_string_value(json_object_get(root, "fifo"));

    (void)arg;
    if (strcmp(action, "cancel") == 0) {
        assert_int_equal(json_integer_value(json_object_get(root, "which")), t.order);
        assert_true(json_integer_value(json_object_get(root, "order")) > t.order);
        t.cancels++;
    } else if (strcmp(action, "settle") != 0) {
        t.order = json_integer_value(json_object_get(root, "order"));
        t.fifo = openat(t.dirfd, fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        assert_true(t.fifo >= 0);
        assert_int_equal(uv_timer_start(&t.timer, on_turn, 1, 0), 0);
    }
    json_decref(root);
    return 0;
}

static struct capture_target target(void) {
    return (struct capture_target){.pid = getpid(),
                                   .pidfd = -1,
                                   .uid = getuid(),
                                   .id = "1:2",
                                   .node = "v22.1.0",
                                   .connected = true,
                                   .heap_used_bytes = 1e8,
                                   .room_bytes = INFINITY,
                                   .heap_limit_bytes = NAN,
                                   .rss_bytes = NAN};
}

static int start(const struct capture_order *order, const struct capture_target *target,
                 char *why) {
    static const struct capture_callbacks CALLBACKS = {on_progress, on_done, on_send};
    struct capture_env env = {.loop = &t.loop,
                              .runtime_fd = t.dirfd,
                              .runtime_dir = t.dir,
                              .work_fd = t.dirfd,
                              .proc_fd = t.proc_fd};

    return capture_start(&t.capture, &env, target, order, &CALLBACKS, &t, why);
}

/* From the start to its end; nothing may be left. */
static int run_one(enum how how, enum capture_action action, const char *text,
                   uint64_t deadline_ms) {
    struct capture_order order = {.action = action, .seconds = 1, .deadline_ms = deadline_ms};
    struct capture_target who = target();
    char why[256] = "";

    t.how = how;
    t.done = t.cancels = t.progress = 0;
    t.fifo = -1;
    (void)snprintf(t.text, sizeof(t.text), "%s", text);
    assert_int_equal(uv_loop_init(&t.loop), 0);
    assert_int_equal(uv_timer_init(&t.loop, &t.timer), 0);
    assert_int_equal(start(&order, &who, why), 0);
    assert_int_equal(t.done, 0);
    assert_int_equal(uv_run(&t.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    assert_int_equal(t.done, 1);
    if (t.fifo >= 0)
        (void)close(t.fifo);
    assert_int_equal(mem_live(), 0);
    return t.rc;
}

static int begin(void **state) {
    (void)state;
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/pillion-capture-XXXXXX");
    if (mkdtemp(t.dir) == NULL)
        return -1;
    t.dirfd = open(t.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    t.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return t.dirfd < 0 || t.proc_fd < 0;
}

static int end(void **state) {
    (void)state;
    (void)close(t.dirfd);
    (void)close(t.proc_fd);
    return rmdir(t.dir); /* fails when a FIFO or a file was left */
}

#define PROFILE                                                                                    \
    "{\"nodes\":[],\"startTime\":0,\"endTime\":3000,\"samples\":[1,1],\"timeDeltas\":[0,1]}"

static void test_good_ends(void **state) {
    (void)state;
    assert_int_equal(run_one(GOOD, CAPTURE_CPU_PROFILE, PROFILE, 20000), 0);
    assert_string_equal(t.json, "{\"way\":\"worker\",\"seconds\":1,\"interval_us\":1000,"
                                "\"samples\":2,\"real_interval_us\":1500,"
                                "\"start_stall_ms\":1.5,\"stop_stall_ms\":2.0}");
    assert_non_null(strstr(t.file, ".cpuprofile.gz"));
    assert_int_equal(t.cancels, 0);
    assert_int_equal(run_one(GOOD, CAPTURE_STACK, "{\"state\":\"running\"}", 20000), 0);
    assert_string_equal(t.json, "{\"state\":\"running\"}");
    assert_string_equal(t.file, "");
    assert_int_equal(run_one(GOOD, CAPTURE_REPORT, "{\"header\":{}}", 20000), 0);
    assert_non_null(strstr(t.file, ".report.json.gz"));
}

static void test_bad_ends(void **state) {
    (void)state;
    assert_int_equal(run_one(SHORT, CAPTURE_CPU_PROFILE, PROFILE, 20000), -EBADMSG);
    assert_non_null(strstr(t.reason, "bytes and"));
    assert_int_equal(run_one(CUT, CAPTURE_HEAP_PROFILE, "{\"head\":{", 20000), -EBADMSG);
    assert_non_null(strstr(t.reason, "not whole"));
    assert_int_equal(run_one(FAILS, CAPTURE_REPORT, "", 20000), -EIO);
    assert_string_equal(t.reason, "because");
    assert_int_equal(run_one(HANGS, CAPTURE_GC_TRACE, "", 300), -ETIMEDOUT);
    assert_int_equal(t.cancels, 1);
}

static void test_cancel_and_disconnect(void **state) {
    (void)state;
    t.cancel = true;
    assert_int_equal(run_one(HANGS, CAPTURE_CPU_PROFILE, "", 20000), -ECANCELED);
    assert_int_equal(t.cancels, 1);
    t.cancel = false;
    t.disconnect = true;
    assert_int_equal(run_one(HANGS, CAPTURE_CPU_PROFILE, "", 20000), -EPIPE);
    t.disconnect = false;
}

/* Taken for stuck then; this process has no handler for the signal, so it is left alone, and where it is cannot be asked. */
static void test_a_worker_that_does_not_begin(void **state) {
    (void)state;
    assert_int_equal(run_one(NEVER_STARTS, CAPTURE_CPU_PROFILE, "", 20000), -ENOTSUP);
    assert_non_null(strstr(t.reason, "no inspector signal"));
    assert_int_equal(t.cancels, 1);
    assert_int_equal(run_one(NEVER_STARTS, CAPTURE_GC_TRACE, "", 20000), -ENOTSUP);
    assert_non_null(strstr(t.reason, "a loop that turns"));
}

static void test_refused_before_anything_runs(void **state) {
    static const struct {
        struct capture_order order;
        int rc;
        const char *why;
    } CASES[] = {
        {{.action = CAPTURE_ACTIONS}, -EINVAL, "no such action"},
        {{.action = CAPTURE_CPU_PROFILE}, -EINVAL, "seconds: 0 is not accepted"},
        {{.action = CAPTURE_CPU_PROFILE, .seconds = 301}, -EINVAL, "seconds: 301"},
        {{.action = CAPTURE_CPU_PROFILE, .seconds = 1, .interval_us = 99},
         -EINVAL,
         "interval_us: 99"},
        {{.action = CAPTURE_HEAP_SNAPSHOT}, -ENOTSUP, "2 to 11 s and takes 287 to 763 MiB"},
        {{.action = CAPTURE_HEAP_SNAPSHOT, .allow_stall = true}, -ENOTSUP, "too little memory"},
    };
    struct capture_target who = target();
    enum capture_action action;
    char why[256];

    (void)state;
    who.room_bytes = 7e8;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        assert_int_equal(start(&CASES[i].order, &who, why), CASES[i].rc);
        assert_non_null(strstr(why, CASES[i].why));
    }
    who.node = "v16.20.0";
    assert_int_equal(start(&(struct capture_order){.action = CAPTURE_STACK}, &who, why), -ENOTSUP);
    who = target();
    who.connected = false;
    assert_int_equal(start(&(struct capture_order){.action = CAPTURE_STACK}, &who, why), -ENOTSUP);
    who = target();
    who.blocked = true;
    who.thread = 3;
    assert_int_equal(start(&(struct capture_order){.action = CAPTURE_STACK}, &who, why), -ENOTSUP);
    who.thread = 0;
    who.signal_taken = true;
    assert_int_equal(start(&(struct capture_order){.action = CAPTURE_REPORT}, &who, why), -ENOTSUP);
    assert_non_null(strstr(why, "for itself"));
    for (int i = 0; i < CAPTURE_ACTIONS; i++) {
        assert_int_equal(capture_action_read(capture_action_name((enum capture_action)i), &action),
                         0);
        assert_int_equal(action, i);
    }
    assert_int_equal(capture_action_read("dance", &action), -EINVAL);
    assert_null(capture_action_name(CAPTURE_ACTIONS));
}

/* Whatever is missing, it is refused, or it ends with a reason, and nothing is left. */
static void test_without_memory(void **state) {
    struct capture_order order = {.action = CAPTURE_CPU_PROFILE, .seconds = 1, .deadline_ms = 3000};
    struct capture_target who = target();
    bool good = false;

    (void)state;
    t.how = GOOD;
    (void)snprintf(t.text, sizeof(t.text), "%s", PROFILE);
    for (long n = 1; !good && n < 100; n++) {
        char why[256];
        int rc;

        t.done = 0;
        t.fifo = -1;
        assert_int_equal(uv_loop_init(&t.loop), 0);
        assert_int_equal(uv_timer_init(&t.loop, &t.timer), 0);
        mem_fail_only(n);
        rc = start(&order, &who, why);
        if (rc != 0) {
            mem_fail_only(0);
            assert_int_equal(rc, -ENOMEM);
            uv_close((uv_handle_t *)&t.timer, NULL);
        }
        assert_int_equal(uv_run(&t.loop, UV_RUN_DEFAULT), 0);
        mem_fail_only(0);
        assert_int_equal(uv_loop_close(&t.loop), 0);
        if (t.fifo >= 0)
            (void)close(t.fifo);
        assert_int_equal(t.done, rc == 0);
        good = rc == 0 && t.rc == 0;
        assert_int_equal(mem_live(), 0);
    }
    assert_true(good);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_ends),
        cmocka_unit_test(test_bad_ends),
        cmocka_unit_test(test_cancel_and_disconnect),
        cmocka_unit_test(test_a_worker_that_does_not_begin),
        cmocka_unit_test(test_refused_before_anything_runs),
        cmocka_unit_test(test_without_memory),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
