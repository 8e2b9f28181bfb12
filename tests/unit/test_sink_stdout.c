/* The stdout sink on pipes, sockets and files, with readers that are slow, gone or never there. */
#include "batches.h"

#include <limits.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "uploader/sinks/stdout.h"

struct bed {
    uv_loop_t loop;
    struct sink *sink;
    bool done;
    enum sink_verdict verdict;
    char error[256];
};

static void on_done(void *arg, const struct sink_result *r) {
    struct bed *b = arg;

    b->verdict = r->verdict;
    (void)snprintf(b->error, sizeof(b->error), "%s", r->error != NULL ? r->error : "");
    b->done = true;
}

/* While this is set, sinks are made as a user to whom the pipe does not belong: it cannot be opened
 * again. */
static bool as_other_user;

static void bed_new(struct bed *b, int fd) {
    struct sink_env env = {.loop = &b->loop, .stdout_fd = fd};
    struct buf why;
    char path[32];

    memset(b, 0, sizeof(*b));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    buf_init(&why, 256);
    if (as_other_user) {
        assert_int_equal(seteuid(65534), 0);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        assert_int_equal(open(path, O_WRONLY | O_NONBLOCK), -1);
    }
    assert_int_equal(sink_stdout_new(&b->sink, &env, "", &why), 0);
    assert_int_equal(seteuid(getuid()), 0);
    b->sink->done = on_done;
    b->sink->done_arg = b;
}

static void bed_close(struct bed *b) {
    b->sink->ops->free(b->sink);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void begin(struct bed *b, struct batch *batch) {
    b->done = false;
    b->sink->ops->send(b->sink, batch);
    assert_false(b->done);
}

static enum sink_verdict send_batch(struct bed *b, struct batch *batch) {
    begin(b, batch);
    assert_true(run_until(&b->loop, &b->done));
    return b->verdict;
}

struct reader {
    pthread_t thread;
    int fd;
    unsigned pause_ms;
    size_t len;
    char *text;
};

static void *read_all(void *arg) {
    struct reader *r = arg;
    ssize_t n;

    while ((n = read(r->fd, r->text + r->len, 3000)) > 0) {
        r->len += (size_t)n;
        if (r->pause_ms > 0)
            (void)poll(NULL, 0, (int)r->pause_ms);
    }
    r->text[r->len] = '\0';
    return NULL;
}

static void reader_start(struct reader *r, int fd, unsigned pause_ms) {
    *r = (struct reader){.fd = fd, .pause_ms = pause_ms, .text = malloc(16u << 20)};
    assert_non_null(r->text);
    assert_int_equal(pthread_create(&r->thread, NULL, read_all, r), 0);
}

static void same_text(const char *text, const struct batch *batch) {
    char *want = unpack(batch->data, batch->len, NULL);

    assert_string_equal(text, want);
    free(want);
}

/* An honest reader, at once or slow (more than one turn on the thread): every byte, once. */
static void check_reader(int write_fd, int read_fd, unsigned pause_ms, unsigned records) {
    struct batch *batch = make_batch(1, records, false);
    struct reader r;
    struct bed b;

    reader_start(&r, read_fd, pause_ms);
    bed_new(&b, write_fd);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    b.sink->ops->free(b.sink);
    close(write_fd);
    assert_int_equal(pthread_join(r.thread, NULL), 0);
    same_text(r.text, batch);
    free(r.text);
    close(read_fd);
    batch_unref(batch);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void test_pipe(void **state) {
    int p[2];
    (void)state;

    assert_int_equal(pipe(p), 0);
    check_reader(p[1], p[0], 0, 200);
    assert_int_equal(pipe(p), 0);
    check_reader(p[1], p[0], 10, 100); /* 430 KB at 300 KB/s */
}

static void test_socket(void **state) {
    int p[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    check_reader(p[1], p[0], 0, 200);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    check_reader(p[1], p[0], 5, 150);
}

/* In a file the offset is shared with the application: ours goes behind what is there. */
static void test_file(void **state) {
    struct batch *batch = make_batch(1, 50, false);
    char dir[64], path[128];
    struct bed b;
    size_t len;
    char *text;
    int fd;
    (void)state;

    scratch_make(dir);
    (void)snprintf(path, sizeof(path), "%s/out", dir);
    fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(write(fd, "app\n", 4), 4);
    bed_new(&b, fd);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(write(fd, "app\n", 4), 4);
    text = slurp(path, &len);
    assert_int_equal(len, batch->raw_bytes + 8);
    assert_memory_equal(text, "app\n", 4);
    assert_memory_equal(text + len - 4, "app\n", 4);
    free(text);
    batch_unref(batch);
    close(fd);
    bed_close(&b);
    scratch_remove(dir);
}

/* The application's own end of the pipe stays as it was. */
static void test_flags_untouched(void **state) {
    struct batch *batch = make_batch(1, 1, false);
    struct bed b;
    int p[2];
    (void)state;

    assert_int_equal(pipe(p), 0);
    bed_new(&b, p[1]);
    assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
    assert_int_equal(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
    batch_unref(batch);
    bed_close(&b);
    assert_int_equal(fcntl(p[1], F_GETFD) < 0, 0); /* and open */
    close(p[0]);
    close(p[1]);
}

/* Nobody reads; later somebody does: the rest comes, without a gap or a repeat. */
static void test_nobody_reads_then_back(void **state) {
    struct batch *batch = make_batch(1, 60, false);
    struct reader r;
    struct bed b;
    int p[2];
    (void)state;

    assert_int_equal(pipe(p), 0);
    bed_new(&b, p[1]);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send_batch(&b, batch), SINK_RETRY);
        assert_string_equal(b.error, "nobody reads standard output");
    }
    reader_start(&r, p[0], 0);
    while (send_batch(&b, batch) == SINK_RETRY)
        ;
    b.sink->ops->free(b.sink);
    close(p[1]);
    assert_int_equal(pthread_join(r.thread, NULL), 0);
    same_text(r.text, batch);
    free(r.text);
    close(p[0]);
    batch_unref(batch);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    assert_int_equal(mem_live(), 0);
}

/* The batch that was half out is dropped: its cut line is ended before the next. */
static void test_dropped_in_between(void **state) {
    struct batch *one, *two = make_batch(2, 2, false);
    static char line[100000]; /* longer than the pipe: it is cut for certain */
    struct batch_writer *w;
    struct reader r;
    struct bed b;
    char *want, *at;
    int p[2];
    (void)state;

    memset(line, 'x', sizeof(line));
    assert_int_equal(batch_writer_new(&w, "app", "i", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, 1), 0);
    assert_int_equal(batch_writer_add(w, line, sizeof(line)), 0);
    assert_int_equal(batch_writer_finish(w, &one), 0);
    batch_writer_free(w);
    assert_int_equal(pipe(p), 0);
    bed_new(&b, p[1]);
    assert_int_equal(send_batch(&b, one), SINK_RETRY);
    reader_start(&r, p[0], 0);
    while (send_batch(&b, two) == SINK_RETRY)
        ;
    b.sink->ops->free(b.sink);
    close(p[1]);
    assert_int_equal(pthread_join(r.thread, NULL), 0);
    want = unpack(two->data, two->len, NULL);
    at = strstr(r.text, want);
    assert_non_null(at);
    assert_true(at > r.text && at[-1] == '\n');
    assert_string_equal(at, want);
    free(want);
    free(r.text);
    close(p[0]);
    batch_unref(one);
    batch_unref(two);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void test_reader_gone(void **state) {
    struct batch *batch = make_batch(1, 2, false);
    struct bed b;
    int p[2];
    (void)state;

    assert_int_equal(pipe(p), 0);
    bed_new(&b, p[1]);
    close(p[0]);
    assert_int_equal(send_batch(&b, batch), SINK_RETRY);
    assert_string_equal(b.error, "cannot write to standard output: Broken pipe");
    batch_unref(batch);
    bed_close(&b);
    close(p[1]);
    batch = make_batch(1, 2, false);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    bed_new(&b, p[1]);
    close(p[0]);
    assert_int_equal(send_batch(&b, batch), SINK_RETRY);
    assert_string_equal(b.error, "cannot write to standard output: Broken pipe");
    batch_unref(batch);
    bed_close(&b);
    close(p[1]);
}

/* hurry() ends the waiting. */
static void test_hurry(void **state) {
    struct batch *batch = make_batch(1, 60, false);
    struct bed b;
    int p[2], held = 0;
    (void)state;

    assert_int_equal(pipe(p), 0);
    bed_new(&b, p[1]);
    begin(&b, batch);
    while (held == 0) /* it is at work */
        assert_int_equal(ioctl(p[0], FIONREAD, &held), 0);
    b.sink->ops->hurry(b.sink);
    assert_true(run_until(&b.loop, &b.done));
    assert_int_equal(b.verdict, SINK_RETRY);
    batch_unref(batch);
    bed_close(&b);
    close(p[0]);
    close(p[1]);
}

/* Lines of the application and ours through one pipe: none is torn, as long as they are no longer
 * than PIPE_BUF. */
static void *write_app_lines(void *arg) {
    char line[101];

    memset(line, 'a', 100);
    line[100] = '\n';
    for (int i = 0; i < 3000; i++)
        if (write(*(int *)arg, line, 101) != 101)
            return arg;
    return NULL;
}

static void test_lines_stay_whole(void **state) {
    struct batch_writer *w;
    struct batch *batch;
    struct reader r;
    struct bed b;
    pthread_t app;
    unsigned n[3] = {0};
    char line[3100];
    void *failed;
    int p[2];
    (void)state;

    assert_int_equal(batch_writer_new(&w, "app", "i", TEST_BOOT), 0);
    assert_int_equal(batch_writer_begin(w, 1), 0);
    for (unsigned i = 0; i < 1000; i++) {
        memset(line, 'p', sizeof(line));
        assert_int_equal(batch_writer_add(w, line, 10 + i * 3), 0);
    }
    assert_int_equal(batch_writer_finish(w, &batch), 0);
    batch_writer_free(w);
    assert_int_equal(pipe(p), 0);
    reader_start(&r, p[0], 1);
    bed_new(&b, p[1]);
    assert_int_equal(pthread_create(&app, NULL, write_app_lines, &p[1]), 0);
    while (send_batch(&b, batch) == SINK_RETRY)
        ;
    assert_int_equal(pthread_join(app, &failed), 0);
    assert_null(failed);
    b.sink->ops->free(b.sink);
    close(p[1]);
    assert_int_equal(pthread_join(r.thread, NULL), 0);
    for (char *s = r.text, *e; (e = strchr(s, '\n')) != NULL; s = e + 1) {
        *e = '\0';
        if (strspn(s, "a") == (size_t)(e - s) && e - s == 100)
            n[0]++;
        else if (strspn(s, "p") == (size_t)(e - s) && (e - s - 10) % 3 == 0)
            n[1]++;
        else
            n[2]++;
    }
    assert_int_equal(n[0], 3000);
    assert_int_equal(n[1], 1000);
    assert_int_equal(n[2], 1); /* the header */
    free(r.text);
    close(p[0]);
    batch_unref(batch);
    assert_int_equal(uv_loop_close(&b.loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void test_pipe_of_another_user(void **state) {
    if (getuid() != 0) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    as_other_user = true;
    test_pipe(state);
    test_nobody_reads_then_back(state);
    test_dropped_in_between(state);
    test_reader_gone(state);
    test_hurry(state);
    test_lines_stay_whole(state);
    as_other_user = false;
}

static void test_bad(void **state) {
    struct sink_env env = {.stdout_fd = 1};
    struct sink *s = NULL;
    struct buf why;
    long n;
    (void)state;

    buf_init(&why, 256);
    assert_int_equal(sink_stdout_new(&s, &env, "x", &why), -EINVAL);
    assert_non_null(strstr(why.data, "nothing may follow"));
    env.stdout_fd = 987;
    buf_reset(&why);
    assert_int_equal(sink_stdout_new(&s, &env, "", &why), -EINVAL);
    assert_non_null(strstr(why.data, "standard output is closed"));
    buf_clear(&why);
    env.stdout_fd = 1;
    for (n = 1; s == NULL && n < 20; n++) {
        int rc;

        mem_fail_only(n);
        rc = sink_stdout_new(&s, &env, "", &why);
        mem_fail_only(0);
        assert_true(rc == 0 || (rc == -ENOMEM && mem_live() == 0));
    }
    assert_true(n > 2);
    s->ops->free(s);
    assert_int_equal(mem_live(), 0);
}

/* Each allocation of a send fails in turn: an error, and the text is whole in the end. */
static void test_no_memory(void **state) {
    struct reader r;
    struct bed b;
    int p[2];
    (void)state;

    for (long n = 1;; n++) {
        struct batch *batch = make_batch(1, 5, false);
        enum sink_verdict v;

        assert_int_equal(pipe(p), 0);
        reader_start(&r, p[0], 0);
        bed_new(&b, p[1]);
        mem_fail_only(n);
        v = send_batch(&b, batch);
        mem_fail_only(0);
        if (v == SINK_RETRY) {
            assert_non_null(strstr(b.error, "Cannot allocate memory"));
            assert_int_equal(send_batch(&b, batch), SINK_TAKEN);
        }
        b.sink->ops->free(b.sink);
        close(p[1]);
        assert_int_equal(pthread_join(r.thread, NULL), 0);
        same_text(r.text, batch);
        free(r.text);
        close(p[0]);
        batch_unref(batch);
        assert_int_equal(uv_loop_close(&b.loop), 0);
        assert_int_equal(mem_live(), 0);
        if (v == SINK_TAKEN) {
            assert_true(n > 3);
            break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_socket),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_flags_untouched),
        cmocka_unit_test(test_nobody_reads_then_back),
        cmocka_unit_test(test_dropped_in_between),
        cmocka_unit_test(test_reader_gone),
        cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_lines_stay_whole),
        cmocka_unit_test(test_pipe_of_another_user),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_no_memory),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
