/* The stores against a server that misbehaves (P29): what is called stored is whole, what is not can be tried again, nothing is left. */
#include "uploader/store.h"

#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "store_end.h"
#include "uploader/stores/hash.h"

#define SMALL 300000
#define BIG   (17 * 1024 * 1024 + 12345) /* three parts */
#define KEY   "a/b/f.bin"

static struct {
    uv_loop_t loop;
    struct http *http;
    struct store *store;
    char dir[64];
    int dirfd;
    size_t bytes;
    char sha256[HASH_HEX_BYTES];
    bool done, closed;
    int rc;
    enum answer answer;
    char url[600], error[600];
    uint64_t progress;
} t;

static void on_closed(void *arg) {
    *(bool *)arg = true;
}

static void make_file(size_t bytes) {
    int fd = openat(t.dirfd, "f", O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *data = malloc(bytes);
    uint32_t x = 12345;

    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = (char)(x >> 24);
    }
    assert_int_equal(fs_write_all(fd, data, bytes), 0);
    assert_int_equal(hash_file(fd, 0, bytes, -1, t.sha256), 0);
    free(data);
    close(fd);
    t.bytes = bytes;
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

static void open_store(const char *spec) {
    char endpoint[64];
    const struct store_s3 s3 = {.access_key = "AK", .secret_key = "SK", .endpoint = endpoint};
    const struct store_env env = {.loop = &t.loop, .http = t.http, .data_dir = t.dir, .s3 = &s3};
    char text[300];
    struct buf why;

    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", end.port);
    (void)snprintf(text, sizeof(text), spec, end.port);
    buf_init(&why, 1000);
    assert_int_equal(store_new(&t.store, text, &env, &why), 0);
}

static void close_store(void) {
    bool closed = false;

    store_close(t.store, on_closed, &closed);
    assert_false(closed); /* never from inside */
    assert_true(run_until(&t.loop, &closed));
    t.store = NULL;
}

static int teardown(void **state) {
    (void)state;
    if (t.store != NULL)
        close_store();
    http_close(t.http, on_closed, &t.closed);
    assert_true(run_until(&t.loop, &t.closed));
    (void)uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    close(t.dirfd);
    scratch_remove(t.dir);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static void on_done(void *arg, const struct store_result *r) {
    (void)arg;
    assert_false(t.done); /* exactly once */
    t.done = true;
    t.rc = r->rc;
    t.answer = r->answer;
    (void)snprintf(t.url, sizeof(t.url), "%s", r->url);
    (void)snprintf(t.error, sizeof(t.error), "%s", r->error);
}

static void on_progress(void *arg, uint64_t bytes) {
    (void)arg;
    assert_true(bytes >= t.progress && bytes <= t.bytes);
    t.progress = bytes;
}

static int begin(void) {
    const struct store_file f = {
        .dirfd = t.dirfd, .name = "f", .key = KEY, .bytes = t.bytes, .sha256 = t.sha256};

    t.done = false;
    t.rc = 1;
    t.progress = 0;
    return store_put(t.store, &f, on_progress, on_done, NULL);
}

static int put(void) {
    assert_int_equal(begin(), 0);
    assert_false(t.done); /* never from inside */
    assert_true(run_until(&t.loop, &t.done));
    return t.rc;
}

static void check_whole(const char *path) {
    char hex[HASH_HEX_BYTES];
    struct object *o;

    pthread_mutex_lock(&end.lock);
    o = object_find(end.objects, END_OBJECTS, path);
    assert_non_null(o);
    assert_int_equal(o->len, t.bytes);
    assert_int_equal(hash_hex(o->data, o->len, hex), 0);
    assert_string_equal(hex, t.sha256);
    pthread_mutex_unlock(&end.lock);
}

static unsigned objects(void) {
    unsigned n = 0;

    for (size_t i = 0; i < END_OBJECTS; i++)
        n += end.objects[i].path[0] != '\0';
    return n;
}

/* --- PUT and WebDAV ----------------------------------------------------------------------------- */

static void p29_put_is_verified(void **state) {
    (void)state;
    make_file(SMALL);
    open_store("http://u:secret@127.0.0.1:%u/x/");
    assert_null(strstr(store_name(t.store), "secret"));
    end.lie = true;
    assert_int_equal(put(), -EAGAIN);
    assert_non_null(strstr(t.error, "not whole"));
    end.lie = false;
}

static void p29_put_cut(void **state) {
    static const long cuts[] = {1, 50, 99};
    (void)state;

    make_file(3 * SMALL);
    open_store("http://127.0.0.1:%u/x/");
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        end.cut_at = cuts[i];
        end.cuts = 1;
        assert_int_equal(put(), -EAGAIN);
        assert_int_equal(t.answer, ANSWER_RETRY);
        assert_int_equal(objects(), 0);
    }
    assert_int_equal(put(), 0);
    check_whole("/x/" KEY);
    assert_non_null(strstr(t.url, "/x/" KEY));
}

/* The final name is never there before it is whole, whatever the server keeps of a cut PUT. */
static void p29_webdav_keeps_partial_bodies(void **state) {
    static const long cuts[] = {1, 50, 99};
    (void)state;

    make_file(3 * SMALL);
    open_store("webdav+http://u:secret@127.0.0.1:%u/dav/");
    end.keep_partial = true;
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        end.cut_at = cuts[i];
        end.cuts = 2; /* curl itself tries once more when a connection that it had kept is cut */
        assert_int_equal(put(), -EAGAIN);
        assert_null(strstr(t.error, "secret"));
        assert_null(object_find(end.objects, END_OBJECTS, "/dav/" KEY));
        assert_int_equal(objects(), 0); /* the temporary name is gone, too */
    }
    assert_int_equal(put(), 0);
    check_whole("/dav/" KEY);
    assert_int_equal(objects(), 1);
    assert_non_null(strstr(end.order, "MKCOL /dav/a/\nMKCOL /dav/a/b/\nPUT "));
}

/* It lies about the length of what was put under the temporary name: no MOVE. */
static void p29_webdav_looks_before_it_moves(void **state) {
    (void)state;
    make_file(SMALL);
    open_store("webdav+http://127.0.0.1:%u/dav/");
    end.lie = true;
    assert_int_equal(put(), -EAGAIN);
    assert_null(strstr(end.order, "MOVE"));
    assert_int_equal(objects(), 0);
}

/* Something stands there, of an attempt whose end nobody heard of. */
static void p29_webdav_replaces(void **state) {
    (void)state;
    make_file(SMALL);
    open_store("webdav+http://127.0.0.1:%u/dav/");
    object_put(end.objects, END_OBJECTS, "/dav/" KEY, strdup("half"), 4);
    assert_int_equal(put(), 0);
    check_whole("/dav/" KEY);
    assert_int_equal(objects(), 1);
}

static void test_refusals(void **state) {
    static const struct {
        int status, rc;
        enum answer answer;
    } cases[] = {{503, -EAGAIN, ANSWER_RETRY},  {401, -EAGAIN, ANSWER_SETTLE},
                 {403, -EAGAIN, ANSWER_SETTLE}, {404, -EAGAIN, ANSWER_SETTLE},
                 {507, -EAGAIN, ANSWER_RETRY},  {413, -EPERM, ANSWER_SPLIT},
                 {400, -EPERM, ANSWER_PARK}};
    static const char *const specs[] = {"http://127.0.0.1:%u/x/", "webdav+http://127.0.0.1:%u/x/",
                                        "s3://bkt/pre"};
    (void)state;

    make_file(SMALL);
    for (size_t s = 0; s < ARRAY_LEN(specs); s++) {
        open_store(specs[s]);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            end.status = cases[i].status;
            assert_int_equal(put(), cases[i].rc);
            if (cases[i].rc == -EAGAIN)
                assert_int_equal(t.answer, cases[i].answer);
        }
        end.status = 0;
        assert_int_equal(put(), 0);
        close_store();
        reset_end();
    }
}

/* --- S3 ----------------------------------------------------------------------------------------- */

static void p29_s3_single(void **state) {
    (void)state;
    make_file(SMALL);
    open_store("s3://bkt/pre");
    assert_int_equal(put(), 0);
    check_whole("/bkt/pre/" KEY);
    assert_string_equal(t.url, "s3://bkt/pre/" KEY);
    assert_non_null(strstr(end.authorization, "Credential=AK/"));
    assert_string_equal(end.order, "PUT /bkt/pre/" KEY "\nHEAD /bkt/pre/" KEY "\n");
}

static void p29_s3_parts(void **state) {
    (void)state;
    make_file(BIG);
    open_store("s3://bkt/pre");
    assert_int_equal(put(), 0);
    check_whole("/bkt/pre/" KEY);
    assert_int_equal(end.parts_taken, 3);
    assert_true(t.progress <= t.bytes);
}

/* A part is cut: the next attempt sends that one and those behind it. */
static void p29_s3_goes_on(void **state) {
    (void)state;
    make_file(BIG);
    open_store("s3://bkt/pre");
    end.status = 0;
    end.cut_at = 50;
    end.cuts = 2;
    assert_int_equal(put(), -EAGAIN); /* the first part */
    end.cuts = 0;
    assert_int_equal(end.parts_taken, 0);
    assert_int_equal(end.uploads_made, 1);
    /* As after a kill: another store, that knows nothing but the state on disk. */
    close_store();
    open_store("s3://bkt/pre");
    assert_int_equal(put(), 0);
    check_whole("/bkt/pre/" KEY);
    assert_int_equal(end.uploads_made, 1);
    assert_int_equal(end.parts_taken, 3);
}

static void p29_s3_complete(void **state) {
    static const struct {
        enum complete how;
        int rc;
        unsigned uploads; /* made in all */
    } cases[] = {{COMPLETE_ERROR, -EAGAIN, 1}, {COMPLETE_CUT, -EAGAIN, 1},
                 {COMPLETE_BLANKS, 0, 1},      {COMPLETE_BLANKS_CUT, -EAGAIN, 1},
                 {COMPLETE_LOST, 0, 1},        {COMPLETE_INVALID, -EAGAIN, 2}};
    (void)state;

    make_file(BIG);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        open_store("s3://bkt/pre");
        end.complete = cases[i].how;
        end.complete_times = 1;
        assert_int_equal(put(), cases[i].rc);
        if (cases[i].rc != 0)
            assert_int_equal(put(), 0);
        check_whole("/bkt/pre/" KEY);
        assert_int_equal(end.uploads_made, cases[i].uploads);
        assert_string_equal(end.upload, ""); /* no orphan */
        close_store();
        reset_end();
    }
}

/* Refused for good in the middle: the parts are taken away. */
static void p29_s3_gives_up(void **state) {
    (void)state;
    make_file(BIG);
    open_store("s3://bkt/pre");
    end.status = 400;
    end.error_body = "<Error><Code>EntityTooLarge</Code><Message>much</Message></Error>";
    assert_int_equal(put(), -EPERM);
    assert_non_null(strstr(t.error, "EntityTooLarge"));
    assert_int_equal(end.uploads_aborted, 1);
    assert_string_equal(end.upload, "");
}

/* Nobody wants it any more: what is left of it goes with the next file. */
static void p29_s3_forgotten(void **state) {
    (void)state;
    make_file(BIG);
    open_store("s3://bkt/pre");
    end.cut_at = 50;
    end.cuts = 2;
    assert_int_equal(put(), -EAGAIN);
    end.cuts = 0;
    assert_string_not_equal(end.upload, "");
    store_forget(t.store, KEY);
    make_file(SMALL);
    assert_int_equal(put(), 0);
    assert_string_equal(end.upload, "");
    assert_int_equal(end.uploads_aborted, 1);
}

static void p29_s3_learns_the_clock(void **state) {
    (void)state;
    make_file(SMALL);
    open_store("s3://bkt/pre");
    end.clock_ahead_s = 1200;
    assert_int_equal(put(), 0);
    check_whole("/bkt/pre/" KEY);
    end.clock_ahead_s = -5000;
    assert_int_equal(put(), 0);
}

static void test_s3_words(void **state) {
    (void)state;
    make_file(SMALL);
    open_store("s3://bkt/pre");
    end.status = 403;
    end.error_body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The "
                     "request signature we calculated</Message></Error>";
    assert_int_equal(put(), -EAGAIN);
    assert_int_equal(t.answer, ANSWER_SETTLE);
    assert_non_null(strstr(t.error, "AWS_SECRET_ACCESS_KEY is wrong"));
    end.status = 400;
    end.error_body = "<Error><Code>AuthorizationHeaderMalformed</Code></Error>";
    assert_int_equal(put(), -EAGAIN);
    assert_non_null(strstr(t.error, "AWS_REGION"));
}

/* --- local files, addresses, life --------------------------------------------------------------- */

static void test_local_file(void **state) {
    int fd;
    (void)state;

    make_file(SMALL);
    open_store("http://127.0.0.1:%u/x/");
    fd = openat(t.dirfd, "f", O_RDWR);
    assert_int_equal(ftruncate(fd, 1000), 0);
    assert_int_equal(put(), -ESTALE);
    assert_int_equal(end.requests, 0);
    close(fd);
    assert_int_equal(unlinkat(t.dirfd, "f", 0), 0);
    assert_int_equal(put(), -ESTALE);
}

static void test_dir(void **state) {
    char path[256], hex[HASH_HEX_BYTES];
    int fd;
    (void)state;

    make_file(SMALL);
    open_store("file:");
    assert_true(store_is_local(t.store));
    assert_int_equal(put(), 0);
    (void)snprintf(path, sizeof(path), "%s/artifacts/" KEY, t.dir);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(hash_file(fd, 0, SMALL, -1, hex), 0);
    assert_string_equal(hex, t.sha256);
    close(fd);
    /* Put again, as after a kill before anybody heard: it is in its place. */
    assert_int_equal(put(), 0);
    fd = open(path, O_WRONLY | O_TRUNC);
    close(fd);
    assert_int_equal(put(), -ESTALE);
    close_store();
    /* A symlink on the way is refused. */
    make_file(SMALL);
    (void)snprintf(path, sizeof(path), "%s/else", t.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/else/a", t.dir);
    assert_int_equal(symlink("/tmp", path), 0);
    (void)snprintf(path, sizeof(path), "file:%s/else", t.dir);
    open_store(path);
    assert_int_equal(put(), -EAGAIN);
    assert_int_equal(t.answer, ANSWER_SETTLE);
}

static void test_addresses(void **state) {
    static const char *const bad[] = {"",
                                      "ftp://x/",
                                      "file:relative",
                                      "http://",
                                      "webdav+http://",
                                      "webdav+http://h/?a=b",
                                      "s3://",
                                      "s3://UPPER/x",
                                      "s3://bucket/a/../b",
                                      "s3://k:s@bucket/x",
                                      "http://u:geheim@:x/"};
    const struct store_s3 s3 = {.access_key = "AK", .secret_key = "SK"}, none = {0},
                          odd = {.access_key = "AK", .secret_key = "SK", .endpoint = "h:9000"};
    struct store_env env = {.loop = &t.loop, .http = t.http, .data_dir = t.dir, .s3 = &s3};
    struct store *s;
    struct buf why;
    (void)state;

    buf_init(&why, 1000);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buf_reset(&why);
        assert_int_equal(store_new(&s, bad[i], &env, &why), -EINVAL);
        assert_true(why.len > 10);
        assert_null(strstr(why.data, "geheim"));
    }
    env.s3 = &none;
    assert_int_equal(store_new(&s, "s3://bucket", &env, &why), -EINVAL);
    assert_non_null(strstr(why.data, "AWS_ACCESS_KEY_ID"));
    env.s3 = &odd;
    assert_int_equal(store_new(&s, "s3://bucket", &env, &why), -EINVAL);
    buf_clear(&why);
    assert_true(store_spec_is_remote("s3://b"));
    assert_false(store_spec_is_remote("file:"));
}

static void test_keys(void **state) {
    static const char *const bad[] = {"", "/a", "a//b", "../a", "a/..", "a/./b", ".a", "a b", "a/"};
    struct store_file f = {.dirfd = t.dirfd, .name = "f", .bytes = SMALL, .sha256 = t.sha256};
    (void)state;

    make_file(SMALL);
    open_store("http://127.0.0.1:%u/x/");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        f.key = bad[i];
        assert_int_equal(store_put(t.store, &f, NULL, on_done, NULL), -EINVAL);
    }
    assert_int_equal(begin(), 0);
    assert_int_equal(begin(), -EBUSY);
    store_cancel(t.store);
    store_cancel(t.store);
    assert_false(t.done);
    assert_true(run_until(&t.loop, &t.done));
    assert_int_equal(t.rc, -ECANCELED);
}

/* Cancelled, and closed, after each number of turns. */
static void test_cancel_anywhere(void **state) {
    static const char *const specs[] = {"s3://bkt/pre", "webdav+http://127.0.0.1:%u/x/", "file:"};
    (void)state;

    for (size_t s = 0; s < ARRAY_LEN(specs); s++)
        for (int turns = 0; turns < 12; turns++) {
            reset_end();
            make_file(s == 0 ? BIG : SMALL);
            open_store(specs[s]);
            assert_int_equal(begin(), 0);
            for (int i = 0; i < turns * turns / 2; i++) {
                (void)uv_run(&t.loop, UV_RUN_NOWAIT);
                (void)poll(NULL, 0, turns > 6);
            }
            close_store();
            assert_true(t.done);
            assert_true(t.rc == -ECANCELED || t.rc == 0);
        }
}

static void test_probe(void **state) {
    static const char *const specs[] = {"s3://bkt/pre", "webdav+http://127.0.0.1:%u/x/",
                                        "http://127.0.0.1:%u/x/", "file:"};
    (void)state;

    for (size_t s = 0; s < ARRAY_LEN(specs); s++) {
        open_store(specs[s]);
        t.done = false;
        assert_int_equal(store_probe(t.store, on_done, NULL), 0);
        assert_true(run_until(&t.loop, &t.done));
        assert_int_equal(t.rc, 0);
        assert_int_equal(objects(), 0);
        end.status = 403;
        t.done = false;
        assert_int_equal(store_probe(t.store, on_done, NULL), 0);
        assert_true(run_until(&t.loop, &t.done));
        assert_int_equal(t.rc, s < 3 ? -EAGAIN : 0);
        close_store();
        reset_end();
    }
}

/* Each allocation fails once: an error or not, never a crash, never a success that is none. */
static void sweep(const char *spec, const char *path, size_t bytes, long step, long most) {
    for (long n = 1; n < most; n += step) {
        reset_end();
        make_file(bytes);
        open_store(spec);
        t.done = false;
        mem_fail_only(n);
        if (begin() == 0)
            assert_true(run_until(&t.loop, &t.done));
        mem_fail_only(0);
        if (t.done && t.rc == 0 && path != NULL)
            check_whole(path);
        if (t.rc != 0 || !t.done)
            assert_int_equal(put(), 0); /* and then it goes */
        close_store();
    }
}

static void test_no_memory(void **state) {
    (void)state;
    sweep("s3://bkt/pre", "/bkt/pre/" KEY, 1000, 5, 80);
    sweep("s3://bkt/pre", "/bkt/pre/" KEY, BIG, 60, 200);
    sweep("webdav+http://127.0.0.1:%u/x/", "/x/" KEY, 1000, 9, 180);
    sweep("file:", NULL, 1000, 1, 20);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(p29_put_is_verified),
        T(p29_put_cut),
        T(p29_webdav_keeps_partial_bodies),
        T(p29_webdav_looks_before_it_moves),
        T(p29_webdav_replaces),
        T(test_refusals),
        T(p29_s3_single),
        T(p29_s3_parts),
        T(p29_s3_goes_on),
        T(p29_s3_complete),
        T(p29_s3_gives_up),
        T(p29_s3_forgotten),
        T(p29_s3_learns_the_clock),
        T(test_s3_words),
        T(test_local_file),
        T(test_dir),
        T(test_addresses),
        T(test_keys),
        T(test_cancel_anywhere),
        T(test_probe),
        T(test_no_memory),
    };

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
    return cmocka_run_group_tests(tests, start_end, stop_end);
}
