/* The table of jobs and the way of one, with captures and a store that do as they are told: every end, limits, repeats (P62), a
 * helper that was killed, and no memory. */
#include "agent/jobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"

#define STARTED_MOST 512

/* A capture of ours is its place in `started`. */
struct capture {
    struct capture_callbacks callbacks;
    void *arg;
    char worker[WORKER_ID_BYTES];
    enum capture_action action;
    bool over, cancelled, disconnected;
    char answer[64];
};

static struct {
    struct workers *workers;
    struct jobs *jobs;
    char dir[64];
    int fd, jobs_fd, work_fd;
    struct capture started[STARTED_MOST];
    size_t n;
    unsigned stored, results, stopped;
    int target_rc, start_rc, store_rc;
    drawing_done_cb drawn;
    void *drawn_arg;
    char stored_job[160];
} t;

static char why[COMMAND_WHY_BYTES];

/* --- what jobs need --- */

static int on_target(void *arg, const char *worker, struct capture_target *ret) {
    (void)arg;
    *ret = (struct capture_target){.id = worker};
    return t.target_rc;
}

static int on_start(void *arg, struct capture **ret, const struct capture_target *target,
                    const struct capture_order *order, const struct capture_callbacks *callbacks,
                    void *callback_arg, char *out) {
    struct capture *c = &t.started[t.n];

    (void)arg;
    if (t.start_rc != 0) {
        (void)snprintf(out, COMMAND_WHY_BYTES, "it has a handler of its own");
        return t.start_rc;
    }
    assert_true(t.n < STARTED_MOST);
    t.n++;
    *c = (struct capture){.callbacks = *callbacks, .arg = callback_arg, .action = order->action};
    (void)snprintf(c->worker, sizeof(c->worker), "%s", target->id);
    *ret = c;
    return 0;
}

static void on_answer(struct capture *c, const char *json, size_t len) {
    assert_true(len < sizeof(c->answer));
    memcpy(c->answer, json, len + 1);
}

static void on_disconnected(struct capture *c) {
    c->disconnected = true;
}

static void on_cancel(struct capture *c) {
    assert_false(c->over);
    c->cancelled = true;
}

static int on_send(void *arg, const char *worker, const char *json, size_t len) {
    (void)arg, (void)json, (void)len;
    return strcmp(worker, "1:10") == 0 ? 0 : -ENOTCONN;
}

static int on_store(void *arg, struct artifact *a, const char *name) {
    (void)arg;
    assert_int_equal(strlen(a->sha256), 64);
    if (t.store_rc != 0)
        return t.store_rc;
    t.stored++;
    (void)snprintf(t.stored_job, sizeof(t.stored_job), "%s", a->job);
    return unlinkat(t.work_fd, name, 0) == 0 ? 0 : -errno;
}

static int on_draw(void *arg, const char *name, const char *title, drawing_done_cb done,
                   void *done_arg) {
    (void)arg;
    assert_non_null(strstr(title, "CPU profile of worker"));
    t.drawn = done;
    t.drawn_arg = done_arg;
    return unlinkat(t.work_fd, name, 0) == 0 ? 0 : -errno;
}

static void on_result(void *arg, const char *worker, const char *job, enum capture_action action,
                      const char *json, size_t len) {
    (void)arg, (void)worker, (void)job, (void)action, (void)json, (void)len;
    t.results++;
}

static const struct job_means means = {
    .target = on_target,
    .start = on_start,
    .answer = on_answer,
    .disconnected = on_disconnected,
    .cancel = on_cancel,
    .send = on_send,
    .store = on_store,
    .draw = on_draw,
    .result = on_result,
};

/* --- the bed --- */

static int open_jobs(void) {
    struct jobs_env env = {.workers = t.workers,
                           .means = &means,
                           .jobs_fd = t.jobs_fd,
                           .jobs_dir = t.dir,
                           .work_fd = t.work_fd};

    return jobs_new(&t.jobs, &env);
}

static struct worker *add_worker(pid_t pid, uint32_t thread, const char *role) {
    struct worker *w = NULL;

    assert_int_equal(workers_add(t.workers, &w, pid, 10, thread), 0);
    w->role = role;
    return w;
}

static int setup(void **state) {
    (void)state;
    memset(&t, 0, sizeof(t));
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/pillion-test-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    t.fd = open(t.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(t.fd, "jobs", 0700), 0);
    assert_int_equal(mkdirat(t.fd, "work", 0700), 0);
    t.jobs_fd = openat(t.fd, "jobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    t.work_fd = openat(t.fd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(workers_new(&t.workers), 0);
    (void)add_worker(1, 0, "worker");
    (void)add_worker(2, 0, "worker");
    (void)add_worker(2, 3, "thread");
    return open_jobs();
}

/* Removes all; the number of entries that were there. */
static unsigned empty(int fd, const char *name) {
    int copy = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(copy);
    struct dirent *e;
    unsigned n = 0;

    while ((e = readdir(dir)) != NULL)
        n += e->d_name[0] != '.' && unlinkat(copy, e->d_name, 0) == 0;
    (void)closedir(dir);
    return n;
}

static int teardown(void **state) {
    (void)state;
    jobs_free(t.jobs);
    workers_free(t.workers);
    (void)empty(t.fd, "jobs");
    assert_int_equal(empty(t.fd, "work"), 0);
    (void)close(t.jobs_fd);
    (void)close(t.work_fd);
    assert_int_equal(unlinkat(t.fd, "jobs", AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(t.fd, "work", AT_REMOVEDIR), 0);
    (void)close(t.fd);
    assert_int_equal(rmdir(t.dir), 0);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static int command(const char *id, enum capture_action action, const char *worker, bool *is_new) {
    struct command c = {.order = {.action = action, .seconds = 1, .deadline_ms = 1000}};
    bool ignored;

    (void)snprintf(c.id, sizeof(c.id), "%s", id);
    (void)snprintf(c.worker, sizeof(c.worker), "%s", worker);
    return jobs_command(t.jobs, &c, "command", is_new != NULL ? is_new : &ignored, why);
}

/* The page of a job, "" without one. */
static const char *page(const char *id) {
    static char text[262144];
    struct buf b;

    buf_init(&b, sizeof(text) - 1);
    text[0] = '\0';
    if (jobs_write_one(t.jobs, id, true, &b) == 0 && b.err == 0)
        memcpy(text, b.data, b.len + 1);
    buf_clear(&b);
    if (text[0] != '\0') { /* it is JSON */
        json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

        assert_non_null(v);
        json_decref(v);
    }
    return text;
}

static void says(const char *id, const char *words) {
    if (strstr(page(id), words) == NULL)
        fail_msg("%s\n  does not say %s", page(id), words);
}

static void done(size_t at, const struct capture_result *r) {
    t.started[at].over = true;
    t.started[at].callbacks.done(t.started[at].arg, r);
}

static void done_with_json(size_t at, const char *json) {
    struct capture_result r = {.json = json, .json_len = strlen(json)};

    done(at, &r);
}

static void done_with_file(size_t at, const char *kind) {
    struct capture_result r = {.n_files = 1, .json = "{\"samples\":7}", .json_len = 13};

    assert_int_equal(fs_write_at(t.work_fd, "file", "profile", 7, 0600), 0);
    r.files[0] = (struct capture_file){
        .kind = kind, .extension = "cpuprofile.gz", .name = "file", .bytes = 7};
    memset(r.files[0].sha256, 'a', 64);
    done(at, &r);
}

static void fail_it(size_t at, int rc, const char *reason) {
    struct capture_result r = {.rc = rc, .reason = reason};

    done(at, &r);
}

/* --- the way of one --- */

static void test_profile(void **state) {
    struct capture_file html = {
        .kind = "flamegraph", .extension = "html", .name = "html", .bytes = 4};
    bool is_new = false;

    (void)state;
    assert_int_equal(command("a", CAPTURE_CPU_PROFILE, "1", &is_new), 0);
    assert_true(is_new);
    assert_int_equal(t.n, 1);
    says("a", "\"state\":\"running\"");
    t.started[0].callbacks.progress(t.started[0].arg, 0.25, "sampling\x1b[2J");
    says("a", "\"progress\":0.25,\"note\":\"sampling?[2J\"");
    assert_int_equal(t.started[0].callbacks.send(t.started[0].arg, "{}", 2), 0);
    jobs_answered(t.jobs, "1:10", "{\"order\":1}", 11);
    assert_string_equal(t.started[0].answer, "{\"order\":1}");
    jobs_disconnected(t.jobs, "1:10");
    assert_true(t.started[0].disconnected);
    done_with_file(0, "cpu_profile");
    assert_int_equal(t.stored, 1);
    says("a", "\"note\":\"drawing the flame graph\"");
    jobs_stored(t.jobs, "a", "cpu_profile", "file:///x", NULL);
    says("a", "\"state\":\"running\""); /* it is still being drawn */
    assert_int_equal(fs_write_at(t.work_fd, "html", "html", 4, 0600), 0);
    memset(html.sha256, 'b', 64);
    t.drawn(t.drawn_arg, &html, "");
    says("a", "\"state\":\"running\"");
    jobs_stored(t.jobs, "a", "flamegraph", "file:///y", NULL);
    says("a", "\"state\":\"done\",\"progress\":1");
    says("a", "\"url\":\"file:///x\",\"bytes\":7,\"sha256\":\"aaaa");
    says("a", "\"url\":\"file:///y\",\"bytes\":4");
    says("a", "\"result\":{\"samples\":7}");
    assert_int_equal(command("b", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    done_with_file(1, "cpu_profile");
    jobs_stored(t.jobs, "b", "cpu_profile", "file:///x", NULL);
    t.drawn(t.drawn_arg, NULL, "no samples"); /* the profile is there all the same */
    says("b", "\"state\":\"done\"");
}

static void test_small_result(void **state) {
    (void)state;
    assert_int_equal(command("s", CAPTURE_STACK, "1", NULL), 0);
    done_with_json(0, "{\"stack\":[]}");
    says("s", "\"state\":\"done\"");
    says("s", "\"result\":{\"stack\":[]}");
    assert_int_equal(t.stored, 0); /* somebody looks at it */
    assert_int_equal(command("g", CAPTURE_GC_TRACE, "1", NULL), 0);
    done_with_json(1, "{}");
    assert_int_equal(t.stored, 1);
    says("g", "\"state\":\"running\"");
    jobs_stored(t.jobs, "g", "gc_trace", "file:///g", NULL);
    says("g", "\"state\":\"done\"");
    assert_int_equal(command("bad", CAPTURE_STACK, "1", NULL), 0);
    done_with_json(2, "{\"stack\":");
    says("bad", "\"state\":\"failed\"");
}

static void test_failures(void **state) {
    (void)state;
    assert_int_equal(command("a", CAPTURE_REPORT, "1", NULL), 0);
    fail_it(0, -EIO, "the pipe broke");
    says("a", "\"state\":\"failed\"");
    says("a", "\"reason\":\"the pipe broke\"");
    t.start_rc = -ENOTSUP;
    assert_int_equal(command("b", CAPTURE_REPORT, "1", NULL), 0);
    says("b", "\"reason\":\"it has a handler of its own\"");
    t.target_rc = -ESRCH;
    assert_int_equal(command("c", CAPTURE_REPORT, "1", NULL), 0);
    says("c", "\"reason\":\"the worker has ended\"");
    t.target_rc = t.start_rc = 0;
    t.store_rc = -ENOSPC;
    assert_int_equal(command("d", CAPTURE_REPORT, "1", NULL), 0);
    done_with_file(1, "report");
    says("d", "No space left on device");
    t.store_rc = 0;
    assert_int_equal(command("e", CAPTURE_REPORT, "1", NULL), 0);
    done_with_file(2, "report");
    jobs_stored(t.jobs, "e", "report", NULL, "403 Forbidden");
    says("e", "the store did not take it: 403 Forbidden");
}

static void test_cancel(void **state) {
    (void)state;
    assert_int_equal(command("a", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    assert_int_equal(command("b", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    says("b", "\"state\":\"queued\"");
    assert_int_equal(jobs_cancel(t.jobs, "b"), 0);
    says("b", "\"state\":\"cancelled\"");
    assert_int_equal(jobs_cancel(t.jobs, "b"), -EALREADY);
    assert_int_equal(jobs_cancel(t.jobs, "nobody"), -ENOENT);
    assert_int_equal(jobs_cancel(t.jobs, "a"), 0);
    assert_true(t.started[0].cancelled);
    says("a", "\"state\":\"running\"");
    fail_it(0, -ECANCELED, NULL);
    says("a", "\"state\":\"cancelled\"");
}

/* --- many --- */

static void test_one_heavy_job_a_process(void **state) {
    (void)state;
    assert_int_equal(command("a", CAPTURE_CPU_PROFILE, "2", NULL), 0);
    assert_int_equal(command("b", CAPTURE_HEAP_PROFILE, "2", NULL), 0);
    assert_int_equal(command("c", CAPTURE_CPU_PROFILE, "2:10/3", NULL), 0); /* its thread */
    assert_int_equal(command("d", CAPTURE_STACK, "2", NULL), 0);            /* a light one */
    assert_int_equal(command("e", CAPTURE_CPU_PROFILE, "1", NULL), 0);      /* another process */
    assert_int_equal(t.n, 3);
    says("b", "\"state\":\"queued\"");
    says("c", "\"state\":\"queued\"");
    fail_it(0, -EIO, "x");
    assert_int_equal(t.n, 4);
    assert_int_equal(t.started[3].action, CAPTURE_HEAP_PROFILE);
    fail_it(3, -EIO, "x");
    says("c", "\"state\":\"running\"");
}

/* Each takes memory of the container. */
static void test_one_snapshot_at_a_time(void **state) {
    (void)state;
    assert_int_equal(command("a", CAPTURE_HEAP_SNAPSHOT, "all", NULL), 0);
    assert_int_equal(t.n, 1);
    says("a@2", "\"state\":\"queued\"");
    fail_it(0, -EIO, "x");
    assert_int_equal(t.n, 2);
}

static void test_command_for_all(void **state) {
    bool is_new = false;

    (void)state;
    assert_int_equal(command("a", CAPTURE_STACK, "all", &is_new), 0);
    assert_int_equal(t.n, 2); /* a thread is only meant by itself */
    says("a", "\"worker\":\"all\"");
    says("a", "\"jobs\":[{\"id\":\"a@1\",\"command\":\"a\"");
    says("a@1", "\"worker\":\"1:10\"");
    done_with_json(0, "{}");
    says("a", "\"state\":\"running\",\"progress\":0.5");
    fail_it(1, -EIO, "it bit");
    says("a", "\"state\":\"failed\"");
    says("a", "\"reason\":\"1 of 2 failed; worker 2:10: it bit\"");
    says("a", "\"result\":{}");
    assert_int_equal(command("a", CAPTURE_STACK, "all", &is_new), 0); /* P62 */
    assert_false(is_new);
    assert_int_equal(t.n, 2);
}

static void test_p62_same_id_again(void **state) {
    bool is_new = true;

    (void)state;
    assert_int_equal(command("a", CAPTURE_STACK, "1", NULL), 0);
    assert_int_equal(command("a", CAPTURE_CPU_PROFILE, "2", &is_new), 0);
    assert_false(is_new);
    assert_int_equal(t.n, 1);
    done_with_json(0, "{}");
    assert_int_equal(command("a", CAPTURE_STACK, "nobody", &is_new), 0);
    assert_false(is_new);
    jobs_free(t.jobs); /* also another helper knows it */
    t.jobs = NULL;
    assert_int_equal(open_jobs(), 0);
    assert_int_equal(command("a", CAPTURE_STACK, "1", &is_new), 0);
    assert_false(is_new);
    says("a", "\"state\":\"done\"");
    says("a", "\"result\":{}");
}

static void test_p62_nobody(void **state) {
    (void)state;
    workers_at(t.workers, 1)->state = WORKER_GONE;
    assert_int_equal(command("", CAPTURE_STACK, "2", NULL), -ESRCH);
    assert_non_null(strstr(why, "\"2\"; 2 are there"));
    assert_int_equal(command("", CAPTURE_STACK, "4711", NULL), -ESRCH);
    assert_int_equal(t.n, 0);
}

static void test_queue_is_bounded(void **state) {
    char id[16];
    int rc = 0, n = 0;

    (void)state;
    for (; rc == 0 && n < 2 * LIMIT_JOBS_QUEUED; n++) {
        (void)snprintf(id, sizeof(id), "j%d", n);
        rc = command(id, CAPTURE_CPU_PROFILE, "1", NULL);
    }
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(n, LIMIT_JOBS_QUEUED + 2); /* one runs, and one was refused */
}

/* What has to be remembered is not forgotten for something new. */
static void test_table_is_bounded(void **state) {
    char id[16];
    int rc = 0, n = 0;

    (void)state;
    for (; rc == 0 && n < 2 * LIMIT_JOBS; n++) {
        (void)snprintf(id, sizeof(id), "j%d", n);
        t.n = 0;
        rc = command(id, CAPTURE_STACK, "1", NULL);
        if (rc == 0)
            fail_it(0, -EIO, "x");
    }
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(n, LIMIT_JOBS + 1);
    assert_true(jobs_is_known(t.jobs, "j0"));
}

/* --- the end of a helper --- */

static void on_stopped(void *arg) {
    (void)arg;
    t.stopped++;
}

static void test_stop(void **state) {
    (void)state;
    assert_int_equal(command("a", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    assert_int_equal(command("b", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    jobs_stop(t.jobs, on_stopped, NULL);
    assert_int_equal(t.stopped, 0);
    assert_true(t.started[0].cancelled);
    says("b", "\"reason\":\"the helper was stopped\"");
    assert_int_equal(command("c", CAPTURE_STACK, "1", NULL), -ESHUTDOWN);
    fail_it(0, -ECANCELED, NULL);
    assert_int_equal(t.stopped, 1);
    says("a", "\"reason\":\"the helper was stopped\"");
}

static void test_helper_killed(void **state) {
    (void)state;
    assert_int_equal(command("a", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    assert_int_equal(command("b", CAPTURE_CPU_PROFILE, "1", NULL), 0);
    assert_int_equal(command("c", CAPTURE_REPORT, "1", NULL), 0);
    done_with_file(1, "report");
    assert_int_equal(fs_write_at(t.jobs_fd, "a.0.held", "x", 1, 0600), 0);
    assert_int_equal(fs_write_at(t.jobs_fd, "foreign.json", "{}", 2, 0600), 0);
    assert_int_equal(fs_write_at(t.jobs_fd, "zz.json", "[", 1, 0600), 0);
    jobs_free(t.jobs);
    t.jobs = NULL;
    assert_int_equal(open_jobs(), 0);
    says("a", "\"state\":\"failed\"");
    says("a", "\"reason\":\"helper restarted\"");
    says("c", "\"state\":\"running\""); /* the file is safe, and the store goes on with it */
    jobs_stored(t.jobs, "c", "report", "file:///c", NULL);
    says("c", "\"state\":\"done\"");
    assert_int_equal(faccessat(t.jobs_fd, "foreign.json", F_OK, 0), 0);
}

static void test_held_file(void **state) {
    struct command c = {.order = {.action = CAPTURE_REPORT, .deadline_ms = 1000},
                        .id = "h",
                        .worker = "1",
                        .hold = true};
    char back[16];
    bool is_new;

    (void)state;
    assert_int_equal(jobs_command(t.jobs, &c, "command", &is_new, why), 0);
    done_with_file(0, "report");
    says("h", "/h.0.held\"");
    assert_int_equal(fs_read_at(t.jobs_fd, "h.0.held", back, sizeof(back)), 7);
    assert_string_equal(back, "profile");
}

static void test_rule(void **state) {
    struct command c = {.order = {.action = CAPTURE_STACK, .deadline_ms = 1000}, .worker = "1"};
    struct capture_file file = {.kind = "report", .extension = "json", .name = "r", .bytes = 1};
    bool is_new;

    (void)state;
    assert_int_equal(jobs_command(t.jobs, &c, "rule", &is_new, why), 0);
    done_with_json(0, "{\"stack\":[]}");
    assert_int_equal(t.results, 1);
    assert_int_equal(t.stored, 1); /* nobody is there to look at it */
    memset(file.sha256, 'c', 64);
    assert_int_equal(fs_write_at(t.work_fd, "r", "x", 1, 0600), 0);
    assert_int_equal(jobs_file(t.jobs, workers_at(t.workers, 0), &file), 0);
    assert_int_equal(t.stored, 2);
    jobs_stored(t.jobs, t.stored_job, "report", "file:///r", NULL);
    says(t.stored_job, "\"state\":\"done\"");
}

/* Every allocation fails in turn: nothing leaks, every job that was taken ends. */
static void test_no_memory(void **state) {
    (void)state;
    for (long n = 1; n < 60; n++) {
        char id[16];
        int rc;

        t.n = 0;
        (void)snprintf(id, sizeof(id), "m%ld", n);
        mem_fail_only(n);
        rc = command(id, CAPTURE_REPORT, "1", NULL);
        if (rc == 0)
            done_with_file(0, "report");
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        (void)empty(t.fd, "work");
        if (rc != 0)
            continue;
        jobs_stored(t.jobs, id, "report", "file:///m", NULL);
        assert_null(strstr(page(id), "\"state\":\"running\""));
    }
    for (long n = 1; n < 400; n++) {
        int rc;

        jobs_free(t.jobs);
        t.jobs = NULL;
        mem_fail_only(n);
        rc = open_jobs();
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
    }
}

#define CASE(f)                                                                                    \
    { #f, f, setup, teardown, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_profile),
        CASE(test_small_result),
        CASE(test_failures),
        CASE(test_cancel),
        CASE(test_one_heavy_job_a_process),
        CASE(test_one_snapshot_at_a_time),
        CASE(test_command_for_all),
        CASE(test_p62_same_id_again),
        CASE(test_p62_nobody),
        CASE(test_queue_is_bounded),
        CASE(test_table_is_bounded),
        CASE(test_stop),
        CASE(test_helper_killed),
        CASE(test_held_file),
        CASE(test_rule),
        CASE(test_no_memory),
    };

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
    json_set_alloc_funcs(mem_alloc, mem_free);
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
