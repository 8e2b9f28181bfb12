/* Delivery of finished files: stored, verified, announced, in this order, also after a kill; what is kept, and what goes. */
#include "uploader/artifacts.h"

#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "store_end.h"
#include "uploader/artifact_meta.h"
#include "uploader/retention.h"
#include "uploader/stores/hash.h"

static struct {
    uv_loop_t loop;
    struct http *http;
    struct store *store;
    struct artifacts *artifacts;
    char dir[64];
    int dirfd;
    bool closed;
    unsigned stored, refused, announced;
    int announce_rc;
    char id[ARTIFACT_ID_BYTES], message[4000], url[700], error[500];
    uint64_t keep_bytes, keep_ms;
} t;

static void on_closed(void *arg) {
    *(bool *)arg = true;
}

static int announce(void *arg, const char *id, const char *json, size_t len) {
    assert_ptr_equal(arg, &t);
    assert_int_equal(strlen(json), len);
    /* Never before it is verified: then the server has been asked for it at the end. */
    if (!store_is_local(t.store))
        assert_non_null(strstr(end.order, "HEAD"));
    (void)snprintf(t.id, sizeof(t.id), "%s", id);
    (void)snprintf(t.message, sizeof(t.message), "%s", json);
    t.announced += t.announce_rc == 0;
    return t.announce_rc;
}

static void stored(void *arg, const char *id, const char *job, const char *kind, const char *url,
                   const char *error) {
    assert_ptr_equal(arg, &t);
    assert_int_equal(strlen(id), 29);
    assert_non_null(job);
    assert_non_null(kind);
    assert_true((url == NULL) != (error == NULL));
    (void)snprintf(t.url, sizeof(t.url), "%s", url != NULL ? url : "");
    (void)snprintf(t.error, sizeof(t.error), "%s", error != NULL ? error : "");
    t.stored += url != NULL;
    t.refused += url == NULL;
}

static int setup(void **state) {
    struct buf why;

    (void)state;
    memset(&t, 0, sizeof(t));
    reset_end();
    scratch_make(t.dir);
    t.dirfd = open(t.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(uv_loop_init(&t.loop), 0);
    buf_init(&why, 1000);
    assert_int_equal(http_new(&t.http, &t.loop, NULL, &why), 0);
    return 0;
}

static int start_all(const char *spec) {
    const struct store_env env = {.loop = &t.loop, .http = t.http, .data_dir = t.dir};
    struct artifacts_env a = {.loop = &t.loop,
                              .data_dir = t.dir,
                              .keep_bytes = t.keep_bytes,
                              .keep_ms = t.keep_ms,
                              .announce = announce,
                              .stored = stored,
                              .arg = &t};
    char text[200];
    struct buf why;
    int rc;

    (void)snprintf(text, sizeof(text), spec, end.port);
    buf_init(&why, 1000);
    rc = store_new(&t.store, text, &env, &why);
    if (rc != 0)
        return rc;
    a.store = t.store;
    rc = artifacts_new(&t.artifacts, &a, &why);
    buf_clear(&why);
    return rc != 0 ? rc : artifacts_start(t.artifacts);
}

static void stop_all(void) {
    bool closed = false;

    if (t.artifacts != NULL) {
        artifacts_close(t.artifacts, on_closed, &closed);
        assert_false(closed);
        assert_true(run_until(&t.loop, &closed));
    }
    closed = false;
    if (t.store != NULL) {
        store_close(t.store, on_closed, &closed);
        assert_true(run_until(&t.loop, &closed));
    }
    t.artifacts = NULL;
    t.store = NULL;
}

static int teardown(void **state) {
    (void)state;
    stop_all();
    http_close(t.http, on_closed, &t.closed);
    assert_true(run_until(&t.loop, &t.closed));
    (void)uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    close(t.dirfd);
    scratch_remove(t.dir);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static int add_at(const char *job, size_t bytes, int64_t time_ms) {
    struct artifact a = {.app = "../shop",
                         .instance = "host",
                         .worker = "7:99",
                         .job = job,
                         .kind = "cpu_profile",
                         .extension = "cpuprofile.gz",
                         .pid = 7,
                         .time_ms = time_ms,
                         .bytes = bytes};
    char sha256[HASH_HEX_BYTES], *data = calloc(1, bytes + 1);
    int rc;

    memset(data, 'x', bytes);
    assert_int_equal(hash_hex(data, bytes, sha256), 0);
    rc = fs_write_at(t.dirfd, "new", data, bytes, 0600);
    free(data);
    a.sha256 = sha256;
    return rc != 0 ? rc : artifacts_add(t.artifacts, &a, t.dirfd, "new", NULL);
}

static int add(const char *job, size_t bytes) {
    return add_at(job, bytes, clock_wall_ms());
}

static void wait_for(const unsigned *n, unsigned want) {
    uint64_t until = clock_mono_ms() + 30000;

    while (*n < want && clock_mono_ms() < until) {
        (void)uv_run(&t.loop, UV_RUN_NOWAIT);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(*n, want);
}

static unsigned files(const char *below) {
    char out[64];

    assert_int_equal(shell(out, sizeof(out), "find %s/%s -type f | wc -l", t.dir, below), 0);
    return (unsigned)strtoul(out, NULL, 10);
}

static void p29_remote(void **state) {
    struct buf status;
    (void)state;

    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    assert_int_equal(add("job1", 1000), 0);
    assert_int_equal(t.stored, 0); /* never from inside */
    wait_for(&t.announced, 1);
    assert_int_equal(t.stored, 1);
    assert_non_null(strstr(t.message, "{\"event\":\"artifact_ready\",\"app\":\"../shop\""));
    assert_non_null(
        strstr(t.message, "\"job\":\"job1\",\"kind\":\"cpu_profile\",\"url\":\"http://127.0.0.1"));
    assert_non_null(strstr(t.message, "\"bytes\":1000,\"sha256\":\""));
    assert_non_null(strstr(t.url, "/x/_./shop") == NULL ? strstr(t.url, "/x/_._shop/host/") : NULL);
    assert_int_equal(files("outgoing"), 0);
    buf_init(&status, 4000);
    assert_int_equal(artifacts_write_status(t.artifacts, &status), 0);
    assert_non_null(strstr(status.data, "\"state\":\"ok\",\"backlog\":0,"));
    assert_non_null(strstr(status.data, "\"stored\":1,\"sending\":null,\"last_success\":\"20"));
    buf_clear(&status);
}

/* The store is away, then comes back: as many messages as files, each once. */
static void p29_comes_back(void **state) {
    (void)state;
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    end.status = 503;
    assert_int_equal(add("job1", 1000), 0);
    assert_int_equal(add("job2", 1000), 0);
    while (end.requests < 2)
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    assert_int_equal(t.announced, 0);
    assert_true(files("outgoing") >= 4);
    end.status = 0;
    wait_for(&t.announced, 2);
    assert_int_equal(files("outgoing"), 0);
}

/* The end of the process at any moment: the next one goes on, and the message has the same id. */
static void p29_next_run(void **state) {
    char id[ARTIFACT_ID_BYTES];
    (void)state;

    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    end.status = 503;
    assert_int_equal(add("job1", 1000), 0);
    while (end.requests < 1)
        (void)uv_run(&t.loop, UV_RUN_ONCE);
    stop_all();
    end.status = 0;
    /* Stored, but nobody takes the message: nothing is sent twice. */
    t.announce_rc = -ENOSPC;
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    wait_for(&t.stored, 1);
    memcpy(id, t.id, sizeof(id));
    stop_all();
    t.announce_rc = 0;
    end.order[0] = '\0';
    (void)snprintf(end.order, sizeof(end.order), "HEAD before");
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    wait_for(&t.announced, 1);
    assert_string_equal(end.order, "HEAD before");
    assert_string_equal(t.id, id);
    assert_int_equal(files("outgoing"), 0);
}

static void test_parked(void **state) {
    (void)state;
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    end.status = 413;
    assert_int_equal(add("job1", 1000), 0);
    wait_for(&t.refused, 1);
    assert_int_equal(t.announced, 0);
    assert_non_null(strstr(t.error, "413"));
    assert_int_equal(files("outgoing"), 2); /* kept to be looked at */
    end.status = 0;
    assert_int_equal(add("job2", 1000), 0); /* it holds up nobody */
    wait_for(&t.announced, 1);
    stop_all();
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0); /* and stays parked */
    assert_int_equal(add("job3", 1000), 0);
    wait_for(&t.announced, 2);
    assert_int_equal(files("outgoing"), 2);
}

/* More waits than may: what is parked goes first, then the oldest; the newest stays. */
static void test_room(void **state) {
    (void)state;
    t.keep_bytes = 2500;
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    end.status = 413;
    assert_int_equal(add("job1", 1000), 0);
    wait_for(&t.refused, 1);
    end.status = 503;
    assert_int_equal(add("job2", 1000), 0);
    assert_int_equal(add("job3", 1000), 0);
    assert_int_equal(add("job4", 1000), 0);
    wait_for(&t.refused, 2);
    assert_non_null(strstr(t.error, "PILLION_KEEP"));
    end.status = 0;
    wait_for(&t.announced, 2);
    assert_int_equal(files("outgoing"), 0);
}

static void test_local(void **state) {
    (void)state;
    t.keep_bytes = 2500;
    assert_int_equal(start_all("file:"), 0);
    for (unsigned i = 0; i < 4; i++) {
        char job[16];

        (void)snprintf(job, sizeof(job), "job%u", i);
        assert_int_equal(add(job, 1000), 0);
        wait_for(&t.announced, i + 1);
    }
    for (int i = 0; i < 2000 && files("artifacts") > 2; i++)
        (void)uv_run(&t.loop, UV_RUN_NOWAIT);
    assert_int_equal(files("artifacts"), 2);
    assert_non_null(strstr(t.url, "file:///"));
    assert_int_equal(files("outgoing"), 0);
}

/* Foreign and damaged files are left alone. */
static void test_foreign(void **state) {
    char path[200];
    (void)state;

    (void)snprintf(path, sizeof(path), "%s/outgoing", t.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(shell(path, sizeof(path),
                           "cd %s/outgoing && echo mine >notes.txt && echo '{' "
                           ">0190a0000000-0123456789abcdef.json && echo x "
                           ">0190a0000001-0123456789abcdef.bin && echo '{\"pillion_artifact\":1,"
                           "\"pid\":-1}' >0190a0000002-0123456789abcdef.json && echo x "
                           ">.0190a0000002-0123456789abcdef.json.12",
                           t.dir),
                     0);
    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    assert_int_equal(add("job1", 1000), 0);
    wait_for(&t.announced, 1);
    assert_int_equal(files("outgoing"), 4);
}

/* Its file is gone: said, not tried for ever. */
static void test_gone(void **state) {
    char out[64];
    (void)state;

    assert_int_equal(start_all("http://127.0.0.1:%u/x/"), 0);
    end.status = 503;
    assert_int_equal(add("job1", 1000), 0);
    assert_int_equal(shell(out, sizeof(out), "rm %s/outgoing/*.bin", t.dir), 0);
    end.status = 0;
    wait_for(&t.refused, 1);
    assert_int_equal(files("outgoing"), 0);
    assert_int_equal(t.announced, 0);
}

static void test_keys(void **state) {
    struct artifact a = {.app = "../a b",
                         .instance = "",
                         .job = "x/../y",
                         .kind = ".k",
                         .extension = "a.gz",
                         .pid = 5,
                         .time_ms = 1795458479000};
    char key[ARTIFACT_KEY_BYTES], small[20], long_app[300];
    (void)state;

    assert_int_equal(artifact_key(&a, key, sizeof(key)), 0);
    assert_string_equal(key, "_._a_b/_/2026-11-23/_k-5-20261123T182759Z-x_.._y.a.gz");
    assert_int_equal(artifact_key(&a, small, sizeof(small)), -ENAMETOOLONG);
    memset(long_app, 'a', sizeof(long_app) - 1);
    long_app[sizeof(long_app) - 1] = '\0';
    a.app = a.instance = a.job = a.kind = a.extension = long_app;
    assert_int_equal(artifact_key(&a, key, sizeof(key)), -ENAMETOOLONG);
    a.app = a.instance = "a";
    assert_int_equal(artifact_key(&a, key, sizeof(key)), 0);
}

static void test_retention(void **state) {
    struct retention r = {.keep_ms = 86400000, .now_ms = clock_wall_ms()};
    char out[600];
    (void)state;

    assert_int_equal(
        shell(out, sizeof(out),
              "mkdir -p %s/r/a/i/2026-01-01 %s/r/a/i/2026-01-02 %s/r/a/i/notes && cd %s/r/a/i && "
              "echo 1 >2026-01-01/k-1-20260101T000000Z-j.gz && touch -d '3 days ago' "
              "2026-01-01/*.gz && echo 2 >2026-01-02/k-1-20260102T000000Z-j.gz && echo 3 "
              ">2026-01-02/mine.txt && echo 4 >notes/k-1-20260101T000000Z-j.gz && touch -d '9 "
              "days ago' 2026-01-02/mine.txt notes/*",
              t.dir, t.dir, t.dir, t.dir),
        0);
    (void)snprintf(out, sizeof(out), "%s/r", t.dir);
    assert_int_equal(retention_apply(out, &r), 0);
    assert_int_equal(r.removed, 1);
    assert_int_equal(r.files, 1);
    assert_int_equal(files("r"), 3); /* what is not ours stays */
    assert_int_equal(shell(out, sizeof(out), "test ! -e %s/r/a/i/2026-01-01", t.dir), 0);
    (void)snprintf(out, sizeof(out), "%s/none", t.dir);
    assert_int_equal(retention_apply(out, &r), -ENOENT);
}

static void test_no_memory(void **state) {
    (void)state;
    for (long n = 1; n < 120; n++) {
        unsigned before = t.announced;
        int rc;

        (void)snprintf(end.order, sizeof(end.order), "HEAD ");
        mem_fail_only(n);
        rc = start_all("file:");
        if (rc == 0)
            rc = add("job", 100);
        for (int i = 0; rc == 0 && i < 50 && t.announced == before; i++) {
            (void)uv_run(&t.loop, UV_RUN_NOWAIT);
            (void)poll(NULL, 0, 1);
        }
        mem_fail_only(0);
        stop_all();
    }
    assert_int_equal(start_all("file:"), 0); /* what failed goes on */
    for (int i = 0; i < 3000 && files("outgoing") > 0; i++)
        (void)uv_run(&t.loop, UV_RUN_NOWAIT);
    assert_int_equal(files("outgoing"), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(p29_remote), T(p29_comes_back), T(p29_next_run),   T(test_parked),
        T(test_room),  T(test_local),     T(test_foreign),   T(test_gone),
        T(test_keys),  T(test_retention), T(test_no_memory),
    };

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
    return cmocka_run_group_tests(tests, start_end, stop_end);
}
