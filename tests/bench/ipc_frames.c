/* What a sample costs the helper from its socket to the callback, in processor time: in a stream (many frames a read), and one by
 * one from 64 workers (a wake-up, a read and a callback for each, as in real life).
 *
 *   ipc_frames [SLOTS]        prints one line of JSON */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "agent/base/mem.h"
#include "ipc/server.h"
#include "tests/unit/worker_peer.h"

#define WORKERS  64
#define STREAMED 1000000u
#define SINGLE   20000u
#define PAUSE_NS 50000

static unsigned samples, hellos, closed_workers;
static double sum;

static int on_hello(void *arg, struct ipc_worker *w, const struct ipc_peer *peer,
                    const struct hello *hello, struct welcome *ret_welcome, void **ret_user,
                    char *why) {
    (void)arg, (void)w, (void)peer, (void)hello, (void)ret_user, (void)why;
    *ret_welcome = (struct welcome){.interval_ms = 1000};
    hellos++;
    return 0;
}

static void on_sample(void *arg, void *user, uint64_t number, double clock_s, const double *slots) {
    (void)arg, (void)user, (void)number;
    samples++;
    sum += clock_s + slots[0];
}

static void on_event(void *arg, void *user, const struct worker_event *event) {
    (void)arg, (void)user, (void)event;
}

static void on_beat(void *arg, void *user) {
    (void)arg, (void)user;
}

static void on_closed(void *arg, void *user, const char *error) {
    (void)arg, (void)user, (void)error;
    closed_workers++;
}

static void on_server_closed(void *arg) {
    *(int *)arg = 1;
}

static size_t make_hello(uint8_t *out, size_t size, unsigned slots) {
    struct buf b;
    size_t n;

    buf_init(&b, size - FRAME_HEADER_BYTES);
    buf_puts(&b, "{\"protocol\":[1],\"pid\":1,\"start\":1,\"next\":1,\"fields\":[");
    for (unsigned i = 0; i < slots; i++)
        buf_printf(&b, "%s{\"name\":\"some.metric.name.%u\",\"unit\":\"By\",\"kind\":\"%s\"}",
                   i > 0 ? "," : "", i, i % 2 == 0 ? "gauge" : "counter");
    buf_puts(&b, "]}");
    n = b.err == 0 ? peer_frame(out, FRAME_HELLO, b.data, b.len) : 0;
    buf_clear(&b);
    return n;
}

static int send_all(int fd, const uint8_t *p, size_t len) {
    ssize_t n;

    for (; len > 0; p += n, len -= (size_t)n) {
        n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
    }
    return 0;
}

/* The workers, in a process of their own. */
static int write_samples(const char *path, unsigned slots, unsigned workers, unsigned n,
                         bool paced) {
    static uint8_t frame[LIMIT_FRAME_BYTES];
    const struct timespec nap = {.tv_nsec = PAUSE_NS};
    double values[LIMIT_SLOTS] = {0};
    int fds[WORKERS];
    size_t len;

    for (unsigned i = 0; i < workers; i++) {
        fds[i] = peer_connect(path);
        len = make_hello(frame, sizeof(frame), slots);
        if (fds[i] < 0 || send_all(fds[i], frame, len) != 0 || recv(fds[i], frame, 8, 0) != 8)
            return 1;
    }
    for (unsigned i = 0; i < slots; i++)
        values[i] = 1000.5 * i;
    for (unsigned i = 0; i < n; i++) {
        len = peer_sample(frame, i / workers + 1, i, values, slots);
        if (send_all(fds[i % workers], frame, len) != 0)
            return 1;
        if (paced)
            (void)nanosleep(&nap, NULL);
    }
    return 0;
}

static double cpu_ns(void) {
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e9 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e3;
}

/* Nanoseconds of processor time for each sample, hellos left out; negative: something failed. */
static double measure(uv_loop_t *loop, const char *path, unsigned slots, unsigned workers,
                      unsigned n, bool paced) {
    double start;
    pid_t child;

    samples = hellos = closed_workers = 0;
    child = fork();
    if (child == 0)
        _exit(write_samples(path, slots, workers, n, paced));
    while (hellos < workers)
        (void)uv_run(loop, UV_RUN_ONCE);
    start = cpu_ns();
    while (samples < n && closed_workers < workers)
        (void)uv_run(loop, UV_RUN_ONCE);
    start = samples == n ? (cpu_ns() - start) / n : -1;
    while (closed_workers < workers)
        (void)uv_run(loop, UV_RUN_ONCE);
    (void)waitpid(child, NULL, 0);
    return start;
}

int main(int argc, char **argv) {
    const struct ipc_callbacks callbacks = {.hello = on_hello,
                                            .sample = on_sample,
                                            .event = on_event,
                                            .beat = on_beat,
                                            .closed = on_closed};
    unsigned slots = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100;
    char dir[] = "/tmp/pillion-bench-XXXXXX", path[64];
    struct ipc_server *server;
    int closed = 0, dirfd;
    double streamed, single;
    uv_loop_t loop;

    if (slots < 1 || slots > LIMIT_FIELDS || mkdtemp(dir) == NULL)
        return 1;
    json_set_alloc_funcs(mem_alloc, mem_free);
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/workers.sock", dir);
    if (uv_loop_init(&loop) != 0 || ipc_server_new(&server, &loop, &callbacks, NULL) != 0 ||
        ipc_server_listen(server, dirfd, dir, "workers.sock") != 0)
        return 1;
    streamed = measure(&loop, path, slots, 1, STREAMED, false);
    single = measure(&loop, path, slots, WORKERS, SINGLE, true);
    (void)printf("{\"slots\":%u,\"streamed_ns_per_sample\":%.0f,\"single_ns_per_sample\":%.0f}\n",
                 slots, streamed, single);
    ipc_server_close(server, on_server_closed, &closed);
    while (closed == 0)
        (void)uv_run(&loop, UV_RUN_ONCE);
    (void)rmdir(dir);
    return streamed > 0 && single > 0 && sum > 0 ? 0 : 1;
}
