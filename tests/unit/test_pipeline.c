/* The flow of a sample in one process, over real sockets: hello, samples, batch, acknowledgement, end; then the same while every
 * nth allocation fails (P11). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/mem.h"
#include "agent/pipeline.h"
#include "agent/watcher.h"

#define SLOTS 2

static const char hello_json[] =
    "{\"protocol\":[1],\"pid\":1,\"start\":5,\"ppid\":1,\"role\":\"worker\",\"title\":\"t\","
    "\"node\":\"v22.1.0\",\"next\":1,"
    "\"fields\":[{\"name\":\"pillion.memory.heap.used\",\"unit\":\"By\",\"kind\":\"gauge\"},"
    "{\"name\":\"process.cpu.time\",\"attributes\":{\"cpu.mode\":\"user\"},\"unit\":\"s\",\"kind\":"
    "\"counter\"}]}";

struct bench {
    uv_loop_t loop;
    struct config config;
    struct workers *workers;
    struct pipeline pipeline;
    struct uploader *uploader;
    struct ipc_server *ipc;
    char dir[64];
    int dirfd;
    int peer; /* the worker's end */
    bool stopped;
};

static void on_stopped(void *arg) {
    ((struct bench *)arg)->stopped = true;
}

static void on_closed(void *arg) {
    (void)arg;
}

static int open_bench(struct bench *b, const char *sinks) {
    struct uploader_options o = {.app = "a",
                                 .instance = "i",
                                 .boot = "00112233445566778899aabbccddeeff",
                                 .sinks = sinks,
                                 .flush_interval_ms = 60000,
                                 .batch_max_bytes = 1 << 20};
    struct buf why;
    int rc;

    *b = (struct bench){.peer = -1, .dirfd = -1};
    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/pillion-unit-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->dirfd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    b->config =
        (struct config){.sample_interval_ms = 1000, .blocked_after_ms = 2000, .memory_alarm = 0.9};
    o.data_dir = b->dir;
    assert_int_equal(uv_loop_init(&b->loop), 0);
    buf_init(&why, 256);
    rc = workers_new(&b->workers);
    if (rc == 0)
        rc = pipeline_init(&b->pipeline, &b->config, b->workers);
    if (rc == 0)
        rc = uploader_new(&b->uploader, &b->loop, &o, pipeline_on_kept, &b->pipeline, &why);
    if (rc == 0)
        rc = uploader_start(b->uploader);
    if (rc == 0) {
        pipeline_set_uploader(&b->pipeline, b->uploader);
        rc = ipc_server_new(&b->ipc, &b->loop, &pipeline_callbacks, &b->pipeline);
    }
    if (rc == 0)
        rc = ipc_server_listen(b->ipc, b->dirfd, b->dir, "workers.sock");
    buf_clear(&why);
    return rc;
}

/* The loop until it has nothing to do for a moment. */
static void pump(struct bench *b) {
    for (int i = 0; i < 5; i++)
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
}

static void empty_dir(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *e;

    if (dir == NULL)
        return;
    while ((e = readdir(dir)) != NULL)
        (void)unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

static void close_bench(struct bench *b) {
    char path[128];

    mem_fail_only(0);
    if (b->peer >= 0)
        close(b->peer);
    if (b->uploader != NULL) {
        uploader_stop(b->uploader, uv_now(&b->loop) + 2000, on_stopped, b);
        while (!b->stopped) /* not ONCE: that waits after the timers, when all may be over */
            (void)uv_run(&b->loop, UV_RUN_NOWAIT);
    }
    if (b->ipc != NULL)
        ipc_server_close(b->ipc, on_closed, NULL);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    if (b->uploader != NULL)
        uploader_close(b->uploader, on_closed, NULL);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    if (b->workers != NULL && b->pipeline.workers != NULL)
        pipeline_clear(&b->pipeline);
    workers_free(b->workers);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    close(b->dirfd);
    (void)snprintf(path, sizeof(path), "%s/batches", b->dir);
    empty_dir(path);
    (void)snprintf(path, sizeof(path), "%s/spool", b->dir);
    empty_dir(path);
    empty_dir(b->dir);
}

static void connect_peer(struct bench *b) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/workers.sock", b->dir);
    b->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(b->peer, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(b->peer, F_SETFL, O_NONBLOCK), 0);
}

/* A frame of a worker. The server may have closed already: then it is lost, as in life. */
static void send_frame(struct bench *b, unsigned char type, const void *payload, size_t len) {
    unsigned char head[8] = {(unsigned char)len, (unsigned char)(len >> 8), 0, 0, type, 0, 0, 0};

    (void)!send(b->peer, head, sizeof(head), MSG_NOSIGNAL);
    (void)!send(b->peer, payload, len, MSG_NOSIGNAL);
    pump(b);
}

static void send_sample(struct bench *b, uint64_t number, double heap) {
    double clock_s = (double)clock_mono_ns() / 1e9, slots[SLOTS] = {heap, (double)number};
    unsigned char p[16 + sizeof(slots)];

    memcpy(p, &number, 8);
    memcpy(p + 8, &clock_s, 8);
    memcpy(p + 16, slots, sizeof(slots));
    send_frame(b, 2, p, sizeof(p));
}

/* The highest sample that was acknowledged to the worker. */
static uint64_t read_acks(struct bench *b) {
    unsigned char in[65536];
    ssize_t n = recv(b->peer, in, sizeof(in), 0);
    uint64_t acked = 0;

    for (size_t at = 0; n > 0 && at + 8 <= (size_t)n;) {
        size_t len = in[at] | (size_t)in[at + 1] << 8;

        if (in[at + 4] == 0x82)
            memcpy(&acked, in + at + 8, 8);
        at += 8 + len;
    }
    return acked;
}

static void test_p01_acknowledged_when_kept(void **state) {
    uint64_t received = counter_get(COUNTER_SAMPLES_RECEIVED),
             repeated = counter_get(COUNTER_SAMPLES_REPEATED);
    uint64_t missing = counter_get(COUNTER_SAMPLES_MISSING);
    struct worker *w;
    struct bench b;
    (void)state;

    assert_int_equal(open_bench(&b, "file:"), 0);
    connect_peer(&b);
    send_frame(&b, 1, hello_json, sizeof(hello_json) - 1);
    send_sample(&b, 1, 100);
    send_sample(&b, 2, 200);
    send_sample(&b, 2, 200); /* again */
    send_sample(&b, 5, 500); /* 3 and 4 were lost */
    assert_int_equal(workers_count(b.workers), 1);
    w = workers_at(b.workers, 0);
    assert_int_equal(w->pid, getpid()); /* the kernel's word, not the hello's */
    assert_int_equal(w->last_sample, 5);
    assert_true(worker_value(w, "pillion.memory.heap.used") == 500);
    assert_true(worker_value(w, "process.thread.count") >= 1);
    assert_int_equal(counter_get(COUNTER_SAMPLES_RECEIVED) - received, 3);
    assert_int_equal(counter_get(COUNTER_SAMPLES_REPEATED) - repeated, 1);
    assert_int_equal(counter_get(COUNTER_SAMPLES_MISSING) - missing, 2);
    assert_int_equal(read_acks(&b), 0); /* the batch is open */
    uploader_flush(b.uploader);
    for (int i = 0; i < 100 && ((struct ride *)w->owner)->acked == 0; i++)
        (void)uv_run(&b.loop, UV_RUN_ONCE);
    assert_int_equal(read_acks(&b), 5);
    close_bench(&b);
    assert_int_equal(mem_live(), 0);
}

/* A loop that says nothing is blocked; its word frees it. The clock is given, nothing is waited for. */
static void test_p49_blocked_and_free(void **state) {
    struct worker *w;
    struct bench b;
    uint64_t now;
    (void)state;

    assert_int_equal(open_bench(&b, "none"), 0);
    connect_peer(&b);
    send_frame(&b, 1, hello_json, sizeof(hello_json) - 1);
    send_sample(&b, 1, 100);
    w = workers_at(b.workers, 0);
    now = w->last_heard_mono_ms;
    for (uint64_t ms = 0; ms <= 3000; ms += 1000)
        watcher_tick(&b.pipeline, now + ms);
    assert_int_equal(w->state, WORKER_LIVE);
    watcher_tick(&b.pipeline, now + 4000);
    assert_int_equal(w->state, WORKER_BLOCKED);
    assert_true(isnan(worker_value(w, "pillion.memory.heap.used")));
    assert_true(worker_value(w, "process.thread.count") >= 1);
    send_sample(&b, 2, 300);
    assert_int_equal(w->state, WORKER_LIVE);
    assert_true(worker_value(w, "pillion.memory.heap.used") == 300);
    close_bench(&b);
    assert_int_equal(mem_live(), 0);
}

/* P48: the helper itself was stopped for a minute. */
static void test_p48_own_stall(void **state) {
    struct worker *w;
    struct bench b;
    uint64_t now;
    (void)state;

    assert_int_equal(open_bench(&b, "none"), 0);
    connect_peer(&b);
    send_frame(&b, 1, hello_json, sizeof(hello_json) - 1);
    send_sample(&b, 1, 100);
    w = workers_at(b.workers, 0);
    now = w->last_heard_mono_ms;
    watcher_tick(&b.pipeline, now + 1000);
    watcher_tick(&b.pipeline, now + 61000);
    assert_int_equal(w->state, WORKER_LIVE);
    close_bench(&b);
    assert_int_equal(mem_live(), 0);
}

static void ride_along(struct bench *b) {
    connect_peer(b);
    send_frame(b, 1, hello_json, sizeof(hello_json) - 1);
    for (uint64_t i = 1; i <= 3; i++)
        send_sample(b, i, (double)i);
    send_frame(b, 3, "{\"event\":\"exit\",\"code\":1}", 25);
    watcher_tick(&b->pipeline, clock_mono_ms());
    watcher_tick(&b->pipeline, clock_mono_ms() + 60000);
    uploader_flush(b->uploader);
    pump(b);
    close(b->peer);
    b->peer = -1;
    pump(b);
    watcher_tick(&b->pipeline, clock_mono_ms() + 61000);
}

static void test_p11_every_allocation_fails(void **state) {
    (void)state;
    for (long n = 1; n < 400; n++) {
        struct bench b;
        int rc;

        mem_fail_only(n);
        rc = open_bench(&b, "none");
        if (rc == 0)
            ride_along(&b);
        else
            assert_int_equal(rc, -ENOMEM);
        close_bench(&b);
        assert_int_equal(mem_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p01_acknowledged_when_kept),
        cmocka_unit_test(test_p49_blocked_and_free),
        cmocka_unit_test(test_p48_own_stall),
        cmocka_unit_test(test_p11_every_allocation_fails),
    };

    json_set_alloc_funcs(mem_alloc, mem_free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
