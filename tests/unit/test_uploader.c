/* From records to files: what a caller of uploader.h sees. */
#include "batches.h"

#include <poll.h>

#include "agent/base/buf.h"
#include "uploader/uploader.h"

struct bed {
    uv_loop_t loop;
    struct uploader *u;
    char dir[64];
    uint64_t kept;
    unsigned n_kept, n_failed;
    bool reached;
    uint64_t want;
    bool stopped, closed, in_call;
};

static void on_kept(void *arg, uint64_t seq, int rc) {
    struct bed *b = arg;

    assert_false(b->in_call);
    assert_int_equal(seq, b->kept + 1);
    b->kept = seq;
    b->n_kept += rc == 0;
    b->n_failed += rc != 0;
    if (b->kept == b->want)
        b->reached = true;
}

static void on_stopped(void *arg) {
    struct bed *b = arg;

    assert_false(b->in_call);
    assert_false(b->stopped);
    b->stopped = true;
}

static void on_closed(void *arg) {
    struct bed *b = arg;

    assert_false(b->in_call);
    b->closed = true;
}

static int open_uploader(struct bed *b, const char *sinks, uint64_t flush_ms, uint64_t max,
                         struct buf *why) {
    const struct uploader_options o = {.app = "shop",
                                       .instance = "host-1",
                                       .boot = TEST_BOOT,
                                       .sinks = sinks,
                                       .data_dir = b->dir,
                                       .flush_interval_ms = flush_ms,
                                       .batch_max_bytes = max};

    return uploader_new(&b->u, &b->loop, &o, on_kept, b, why);
}

static void bed_new(struct bed *b, const char *sinks, uint64_t flush_ms, uint64_t max) {
    struct buf why;

    memset(b, 0, sizeof(*b));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    scratch_make(b->dir);
    buf_init(&why, 1024);
    assert_int_equal(open_uploader(b, sinks, flush_ms, max, &why), 0);
    assert_int_equal(uploader_start(b->u), 0);
    buf_clear(&why);
}

static void close_uploader(struct bed *b) {
    b->in_call = true;
    uploader_close(b->u, on_closed, b);
    b->in_call = false;
    assert_true(run_until(&b->loop, &b->closed));
}

static void bed_close(struct bed *b) {
    if (!b->closed)
        close_uploader(b);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    scratch_remove(b->dir);
    assert_int_equal(mem_live(), 0);
}

static uint64_t add(struct bed *b, unsigned n) {
    char record[8192];
    uint64_t seq = 0;
    int rc;

    b->in_call = true;
    rc = uploader_add(b->u, record, make_record(record, n), &seq);
    b->in_call = false;
    assert_int_equal(rc, 0);
    return seq;
}

static void wait_kept(struct bed *b, uint64_t seq) {
    b->want = seq;
    b->reached = b->kept >= seq;
    assert_true(run_until(&b->loop, &b->reached));
}

static void stop(struct bed *b, uint64_t ms) {
    b->in_call = true;
    uploader_stop(b->u, uv_now(&b->loop) + ms, on_stopped, b);
    b->in_call = false;
    assert_true(run_until(&b->loop, &b->stopped));
}

static unsigned lines(const struct bed *b, const char *what) {
    char out[64];

    (void)shell(out, sizeof(out), "zcat %s/batches/*.ndjson.gz | grep -c -e '%s'", b->dir, what);
    return (unsigned)strtoul(out, NULL, 10);
}

static void test_age_and_size(void **state) {
    struct bed b;
    uint64_t seq = 0;
    (void)state;

    bed_new(&b, "file:", 50, 20000);
    assert_int_equal(add(&b, 1), 1);
    assert_int_equal(add(&b, 2), 1);
    wait_kept(&b, 1);                  /* by age */
    for (unsigned i = 3; i <= 42; i++) /* by size: four or five records of 4 KB */
        seq = add(&b, i);
    assert_true(seq >= 8 && seq <= 14);
    uploader_flush(b.u);
    uploader_flush(b.u);
    wait_kept(&b, seq);
    assert_int_equal(add(&b, 43), seq + 1);
    stop(&b, 5000);
    assert_int_equal(b.kept, seq + 1);
    assert_int_equal(b.n_failed, 0);
    assert_int_equal(lines(&b, "kind"), 43);
    assert_int_equal(lines(&b, "\"boot\":\"" TEST_BOOT "\""), seq + 1);
    bed_close(&b);
}

/* A batch that takes nothing more than one record, and a record beyond every limit. */
static void test_large_records(void **state) {
    static char big[LIMIT_RECORD_BYTES + 2];
    uint64_t seq;
    struct bed b;
    (void)state;

    memset(big, ' ', sizeof(big));
    big[0] = '{';
    bed_new(&b, "file:", 10000, 4096);
    assert_int_equal(add(&b, 1), 1);
    assert_int_equal(add(&b, 2), 2);
    assert_int_equal(uploader_add(b.u, big, LIMIT_RECORD_BYTES + 1, &seq), -EMSGSIZE);
    big[LIMIT_RECORD_BYTES - 1] = '}';
    assert_int_equal(uploader_add(b.u, big, LIMIT_RECORD_BYTES, &seq), 0);
    assert_int_equal(seq, 3);
    wait_kept(&b, 3);
    stop(&b, 5000);
    assert_int_equal(lines(&b, "\"records\":1}"), 3);
    assert_int_equal(b.n_failed, 0);
    bed_close(&b);
}

/* No record, no timer: nothing wakes the loop. */
static void test_rests(void **state) {
    struct bed b;
    (void)state;

    bed_new(&b, "file:", 20, 4096);
    assert_int_equal(uv_loop_alive(&b.loop), 0);
    (void)add(&b, 1);
    assert_int_not_equal(uv_loop_alive(&b.loop), 0);
    wait_kept(&b, 1);
    for (int i = 0; i < 2000 && uv_loop_alive(&b.loop) != 0; i++) { /* the sink still gets it */
        (void)uv_run(&b.loop, UV_RUN_NOWAIT);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(uv_loop_alive(&b.loop), 0);
    assert_int_equal(lines(&b, "kind"), 1);
    bed_close(&b);
}

static void test_none(void **state) {
    struct bed b;
    struct buf out;
    char path[128];
    (void)state;

    bed_new(&b, "none", 3600000, 4096);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(add(&b, i), 1);
    wait_kept(&b, 1); /* at once, whatever the interval */
    assert_int_equal(add(&b, 50), 2);
    stop(&b, 5000);
    assert_int_equal(b.n_kept, 2);
    buf_init(&out, 1024);
    uploader_status(b.u, &out);
    assert_non_null(strstr(out.data, "\"sink\":\"none\""));
    buf_clear(&out);
    (void)snprintf(path, sizeof(path), "%s/batches", b.dir);
    assert_int_equal(access(path, F_OK), -1);
    bed_close(&b);
}

static void test_two_sinks(void **state) {
    struct bed b;
    struct buf out;
    char spec[128], text[256];
    (void)state;

    memset(&b, 0, sizeof(b));
    assert_int_equal(uv_loop_init(&b.loop), 0);
    scratch_make(b.dir);
    (void)snprintf(spec, sizeof(spec), "file: , file:%s/second", b.dir);
    buf_init(&out, 4096);
    assert_int_equal(open_uploader(&b, spec, 10000, 20000, &out), 0);
    assert_int_equal(uploader_start(b.u), 0);
    for (unsigned i = 0; i < 20; i++)
        (void)add(&b, i);
    stop(&b, 5000);
    assert_int_equal(lines(&b, "kind"), 20);
    (void)shell(text, sizeof(text),
                "cd %s && zcat batches/*.gz > a && zcat second/*.gz > b && cmp a b && echo same",
                b.dir);
    assert_string_equal(text, "same\n");
    uploader_status(b.u, &out);
    (void)snprintf(text, sizeof(text),
                   "{\"sink\":\"file:%s/second\",\"state\":\"ok\",\"backlog\":0,"
                   "\"backlog_bytes\":0,\"lag\":0,\"sent\":",
                   b.dir);
    assert_non_null(strstr(out.data, text));
    buf_clear(&out);
    close_uploader(&b);
    (void)snprintf(spec, sizeof(spec), "%s/second", b.dir);
    scratch_remove(spec);
    (void)snprintf(spec, sizeof(spec), "%s/batches", b.dir);
    scratch_remove(spec);
    bed_close(&b);
}

static void test_wrong_sinks(void **state) {
    static const struct {
        const char *list, *want, *hidden;
    } cases[] = {
        {"", "an entry is empty; accepted are hub:, hub+http(s)://", NULL},
        {"file:,", "an entry is empty", NULL},
        {"htp://u:secret@host", "\"htp://…\" is not a sink; accepted are", "secret"},
        {"u:secret@host", "is not a sink", "secret"},
        {"elasticsearch", "\"elasticsearch\" is not a sink", NULL},
        {"none,file:", "\"none\" cannot stand beside another sink", NULL},
        {"file:,none", "\"none\" cannot stand beside another sink", NULL},
        {"stdout", "\"stdout\" is not a sink", NULL},
        {"stdout:x", "nothing may follow \"stdout:\"", NULL},
        {"file:data", "\"file:data\" is not an absolute path", NULL},
        {"file:,file:", "/batches is named twice", NULL},
        {"stdout:,stdout:", "stdout: is named twice", NULL},
    };
    struct bed b;
    struct buf why;
    (void)state;

    memset(&b, 0, sizeof(b));
    assert_int_equal(uv_loop_init(&b.loop), 0);
    scratch_make(b.dir);
    buf_init(&why, 1024);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_reset(&why);
        assert_int_equal(open_uploader(&b, cases[i].list, 1000, 4096, &why), -EINVAL);
        if (strstr(why.data, cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].list, why.data);
        assert_memory_equal(why.data, "PILLION_SINK: ", 14);
        if (cases[i].hidden != NULL && strstr(why.data, cases[i].hidden) != NULL)
            fail_msg("%s is shown: %s", cases[i].hidden, why.data);
    }
    buf_clear(&why);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    {
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/batches", b.dir);
        scratch_remove(path);
    }
    scratch_remove(b.dir);
    assert_int_equal(mem_live(), 0);
}

static bool file_has_all(const struct bed *b) {
    struct buf out;
    bool has;

    buf_init(&out, 4096);
    uploader_status(b->u, &out); /* the file sink is the first */
    has = strstr(out.data, "\"backlog\":0,") != NULL;
    buf_clear(&out);
    return has;
}

/* P24: a sink that takes nothing does not hold up the end. */
static void test_P24_stop_with_dead_sink(void **state) {
    struct bed b;
    int p[2], saved = dup(STDOUT_FILENO), rc;
    char out[128], text[64];
    struct buf why;
    (void)state;

    memset(&b, 0, sizeof(b));
    assert_int_equal(uv_loop_init(&b.loop), 0);
    scratch_make(b.dir);
    buf_init(&why, 1024);
    assert_int_equal(pipe(p), 0); /* nobody reads it */
    (void)fflush(stdout);
    assert_int_equal(dup2(p[1], STDOUT_FILENO), STDOUT_FILENO);
    rc = open_uploader(&b, "file:,stdout:", 10000, 100000, &why);
    if (rc == 0)
        rc = uploader_start(b.u);
    for (unsigned i = 0; rc == 0 && i < 100; i++)
        (void)add(&b, i);
    if (rc == 0)
        uploader_flush(b.u);
    while (rc == 0 && !file_has_all(&b))
        (void)uv_run(&b.loop, UV_RUN_ONCE);
    if (rc == 0) /* comes back, although the sink never would */
        stop(&b, 700);
    if (rc == 0)
        close_uploader(&b);
    close(p[0]);
    close(p[1]);
    /* The next start goes on where the dead one was; now somebody reads. */
    (void)snprintf(out, sizeof(out), "%s/out", b.dir);
    p[1] = open(out, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(dup2(p[1], STDOUT_FILENO), STDOUT_FILENO);
    close(p[1]);
    b.stopped = b.closed = false;
    if (rc == 0)
        rc = open_uploader(&b, "file:,stdout:", 10000, 100000, &why);
    if (rc == 0)
        rc = uploader_start(b.u);
    if (rc == 0)
        stop(&b, 20000);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    assert_int_equal(rc, 0);
    assert_int_equal(b.n_failed, 0);
    assert_int_equal(lines(&b, "kind"), 100); /* the sink that lives has all, once */
    /* The other as well: what the pipe took before may be cut. */
    (void)shell(text, sizeof(text), "grep -c '\"kind\"' %s; tail -n 1 %s | tail -c 2 | head -c 1",
                out, out);
    assert_true(strtoul(text, NULL, 10) >= 90);
    assert_non_null(strchr(text, '}'));
    buf_clear(&why);
    bed_close(&b);
}

static void test_stop_without_records(void **state) {
    uint64_t seq;
    struct bed b;
    (void)state;

    bed_new(&b, "file:", 10000, 4096);
    stop(&b, 3600000);
    assert_int_equal(uploader_add(b.u, "{}", 2, &seq), -ESHUTDOWN);
    assert_int_equal(b.kept, 0);
    bed_close(&b);
}

/* Closed with an open batch and with a stop under way: each callback still comes, once. */
static void test_close_early(void **state) {
    struct bed b;
    (void)state;

    bed_new(&b, "file:", 10000, 100000);
    (void)add(&b, 1);
    close_uploader(&b);
    assert_int_equal(b.n_failed, 1);
    bed_close(&b);

    bed_new(&b, "file:", 10000, 100000);
    (void)add(&b, 1);
    b.in_call = true;
    uploader_stop(b.u, uv_now(&b.loop) + 3600000, on_stopped, &b);
    b.in_call = false;
    close_uploader(&b);
    assert_true(b.stopped);
    assert_int_equal(b.kept, 1);
    bed_close(&b);

    bed_new(&b, "none", 10000, 100000);
    close_uploader(&b);
    assert_int_equal(b.kept, 0);
    bed_close(&b);
}

static void test_never_started(void **state) {
    struct bed b;
    struct buf why;
    uint64_t seq;
    (void)state;

    memset(&b, 0, sizeof(b));
    assert_int_equal(uv_loop_init(&b.loop), 0);
    scratch_make(b.dir);
    buf_init(&why, 1024);
    assert_int_equal(open_uploader(&b, "file:,stdout:", 1000, 4096, &why), 0);
    assert_int_equal(uploader_add(b.u, "{}", 2, &seq), -ESHUTDOWN);
    buf_clear(&why);
    bed_close(&b);
}

/* Every allocation fails once, from new to closed: an error at the place, never a lost or doubled
 * report. */
static void test_no_memory(void **state) {
    static char record[8192];
    long n, failed_adds = 0;
    (void)state;

    for (n = 1; n < 400; n++) {
        struct bed b;
        struct buf why;
        uint64_t seq, last = 0;
        unsigned taken = 0;
        int rc;

        memset(&b, 0, sizeof(b));
        assert_int_equal(uv_loop_init(&b.loop), 0);
        scratch_make(b.dir);
        buf_init(&why, 1024);
        mem_fail_only(n);
        rc = open_uploader(&b, "file:", 3600000, 15000, &why);
        if (rc != 0) {
            mem_fail_only(0);
            assert_int_equal(rc, -ENOMEM);
            buf_clear(&why);
            b.closed = true;
            bed_close(&b);
            continue;
        }
        assert_int_equal(uploader_start(b.u), 0);
        for (unsigned i = 0; i < 12; i++) {
            rc = uploader_add(b.u, record, make_record(record, i), &seq);
            assert_true(rc == 0 || rc == -ENOMEM);
            if (rc != 0) {
                failed_adds++;
                continue;
            }
            assert_true(seq == last || seq == last + 1); /* no number left out */
            last = seq;
            taken++;
        }
        b.stopped = false;
        stop(&b, 5000);
        mem_fail_only(0);
        assert_int_equal(b.kept, last);
        assert_int_equal(b.n_failed, 0);
        assert_int_equal(lines(&b, "kind"), taken);
        buf_clear(&why);
        bed_close(&b);
        if (taken == 12)
            break;
    }
    assert_true(n > 10 && failed_adds > 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_age_and_size),
        cmocka_unit_test(test_large_records),
        cmocka_unit_test(test_rests),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_two_sinks),
        cmocka_unit_test(test_wrong_sinks),
        cmocka_unit_test(test_P24_stop_with_dead_sink),
        cmocka_unit_test(test_stop_without_records),
        cmocka_unit_test(test_close_early),
        cmocka_unit_test(test_never_started),
        cmocka_unit_test(test_no_memory),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
