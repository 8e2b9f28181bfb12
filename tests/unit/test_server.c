/* The workers' socket with a real loop: who may come, no room, no descriptors, its file, its end, no memory. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/server_fixture.h"

/* --- who may come -------------------------------------------------------------------------------------------------------- */

static void test_p60_another_user(void **state) {
    uint64_t before = counter_get(COUNTER_WORKERS_REFUSED_UID);
    int status = -1;
    pid_t child;

    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    /* As bad as it can get: the files let everybody in. */
    assert_int_equal(chmod(t.dir, 0755), 0);
    assert_int_equal(chmod(t.path, 0666), 0);
    child = fork();
    if (child == 0) {
        uint8_t frame[1024];
        char c;
        int fd = setgid(65534) == 0 && setuid(65534) == 0 ? peer_connect(t.path) : -1;
        size_t n = peer_hello(frame, sizeof(frame), (int)getpid());

        if (fd < 0)
            _exit(2);
        (void)send(fd, frame, n, MSG_NOSIGNAL);
        _exit(recv(fd, &c, 1, 0) > 0 ? 3 : 0);
    }
    UNTIL(waitpid(child, &status, WNOHANG) == child);
    assert_int_equal(status, 0);
    assert_int_equal(counter_get(COUNTER_WORKERS_REFUSED_UID), before + 1);
    assert_int_equal(t.hellos, 0);
}

static void test_p60_modes(void **state) {
    mode_t old = umask(0);
    struct stat st;

    (void)state;
    assert_int_equal(unlink(t.path), 0);
    assert_int_equal(ipc_server_check(t.server), 1);
    (void)umask(old);
    assert_int_equal(stat(t.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(S_ISSOCK(st.st_mode));
}

/* --- no room ------------------------------------------------------------------------------------------------------------- */

static rlim_t set_files(rlim_t n) {
    struct rlimit limit;
    rlim_t old;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    old = limit.rlim_cur;
    limit.rlim_cur = n;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return old;
}

/* In a process of its own: n connections at once, each says hello and waits for its answer. Ends with 0 when `welcomes` were
 * welcomed and each other one was told to come later; else 1. Begins with a byte from `go` and stays connected to its end. */
static pid_t crowd(size_t n, size_t welcomes, const int go[2]) {
    size_t welcomed = 0, later = 0;
    int fds[256];
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    (void)close(go[1]);
    if (read(go[0], fds, 1) != 1)
        _exit(1);
    for (size_t i = 0; i < n; i++) {
        uint8_t frame[1024];
        size_t len = peer_hello(frame, sizeof(frame), (int)getpid());

        fds[i] = peer_connect(t.path);
        if (fds[i] >= 0)
            (void)send(fds[i], frame, len, MSG_NOSIGNAL); /* it may have been closed already */
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t header[FRAME_HEADER_BYTES] = {0};

        (void)recv(fds[i], header, sizeof(header), MSG_WAITALL);
        welcomed += header[4] == FRAME_WELCOME;
        later += header[4] == FRAME_LATER;
    }
    if (welcomed != welcomes || later != n - welcomes)
        (void)fprintf(stderr, "%zu welcomed, %zu later\n", welcomed, later);
    if (welcomed != welcomes || later != n - welcomes)
        _exit(1);
    (void)!read(go[0], fds, 1);
    _exit(0);
}

static void test_p71_64_files_200_workers(void **state) {
    uint64_t before = counter_get(COUNTER_WORKERS_LATER);
    int go[2], status = -1, old = good_worker();
    rlim_t files;
    pid_t child;

    (void)state;
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    child = crowd(200, (64 - 24) / 4 - 1, go); /* one is there already */
    files = set_files(64);
    (void)close(go[0]);
    assert_int_equal(write(go[1], "g", 1), 1);
    UNTIL(counter_get(COUNTER_WORKERS_LATER) == before + 191);
    UNTIL(t.hellos == 10);
    still_streams(old, 1);
    (void)close(go[1]);
    UNTIL(waitpid(child, &status, WNOHANG) == child);
    assert_int_equal(status, 0);
    UNTIL(t.closed == 9);
    still_streams(good_worker(), 2); /* there is room again */
    still_streams(old, 3);
    (void)set_files(files);
}

/* Those that have nothing to say are told as well, and do not keep the others from it. */
static void test_p71_silent_ones(void **state) {
    rlim_t files = set_files(64);
    char payload[512];
    int fds[24];

    (void)state;
    for (size_t i = 0; i < 10; i++)
        fds[i] = good_worker();
    (void)set_files(files);
    for (size_t i = 10; i < ARRAY_LEN(fds); i++)
        fds[i] = connect_peer();
    (void)set_files(64);
    for (size_t i = 10; i < ARRAY_LEN(fds); i++)
        assert_int_equal(get(fds[i], payload, sizeof(payload)), FRAME_LATER);
    (void)set_files(files);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    UNTIL(t.closed == 10);
}

/* Others of this process take all descriptors: the reserve says it. */
static void test_p71_no_descriptor(void **state) {
    uint64_t before = counter_get(COUNTER_WORKERS_LATER);
    int go[2], taken[512], status = -1, old = good_worker();
    size_t n = 0;
    rlim_t files;
    pid_t child;

    (void)state;
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    child = crowd(20, 0, go);
    files = set_files(400);
    while (n < ARRAY_LEN(taken) && (taken[n] = dup(0)) >= 0)
        n++;
    assert_true(n < ARRAY_LEN(taken) && errno == EMFILE);
    assert_int_equal(write(go[1], "g", 1), 1);
    UNTIL(counter_get(COUNTER_WORKERS_LATER) >= before + 20);
    still_streams(old, 1);
    while (n > 0)
        (void)close(taken[--n]);
    (void)close(go[0]);
    (void)close(go[1]);
    UNTIL(waitpid(child, &status, WNOHANG) == child);
    assert_int_equal(status, 0);
    (void)close(good_worker());
    (void)close(old);
    (void)set_files(files);
    UNTIL(t.closed == 2);
}

/* --- the socket's file --------------------------------------------------------------------------------------------------- */

static void test_p74_made_again(void **state) {
    int old = good_worker(), fd;

    (void)state;
    assert_int_equal(ipc_server_check(t.server), 0);
    assert_int_equal(unlink(t.path), 0);
    assert_int_equal(ipc_server_check(t.server), 1);
    assert_int_equal(ipc_server_check(t.server), 0);
    fd = good_worker();
    still_streams(fd, 1);
    still_streams(old, 2);
    assert_int_equal(unlink(t.path), 0);
    fd = open(t.path, O_CREAT | O_WRONLY, 0600); /* something else in its place */
    assert_int_equal(ipc_server_check(t.server), 1);
    still_streams(good_worker(), 3);
    still_streams(old, 4);
    (void)close(fd);
}

static void test_p74_stale_socket(void **state) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    assert_int_equal(unlink(t.path), 0);
    (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", t.path);
    assert_int_equal(bind(stale, (struct sockaddr *)&sa, sizeof(sa)), 0);
    (void)close(stale); /* as a killed helper leaves it: nobody listens */
    assert_int_equal(peer_connect(t.path), -ECONNREFUSED);
    assert_int_equal(ipc_server_listen(t.server, t.dirfd, t.dir, NAME), 0);
    still_streams(good_worker(), 1);
}

/* An address ends at 107 bytes. */
static void test_long_path(void **state) {
    char dir[400], address[64];
    int dirfd, fd;

    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/%0200d", t.dir, 7);
    assert_int_equal(mkdir(dir, 0700), 0);
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(ipc_server_listen(t.server, dirfd, dir, NAME), 0);
    (void)snprintf(address, sizeof(address), "/proc/self/fd/%d/" NAME, dirfd);
    fd = peer_connect(address);
    assert_true(fd >= 0);
    say_hello(fd);
    UNTIL(t.hellos == 1);
    (void)close(fd);
    UNTIL(t.closed == 1);
    ipc_server_close(t.server, on_server_closed, NULL);
    UNTIL(t.server_closed);
    (void)close(dirfd);
    assert_int_equal(rmdir(dir), 0);     /* the socket is gone with the server */
    assert_int_equal(unlink(t.path), 0); /* the one before was left: it was given up, not removed */
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

static void test_closed_from_inside(void **state) {
    int fd = connect_peer();

    (void)state;
    t.close_in_hello = true;
    say_hello(fd);
    UNTIL(has_ended(fd));
    assert_int_equal(t.closed, 1); /* it had been taken */
    assert_null(t.last_error);
    (void)close(fd);
    t.close_in_hello = false;
    t.close_in_sample = true;
    fd = good_worker();
    send_sample(fd, 1);
    send_sample(fd, 2); /* not looked at any more */
    UNTIL(has_ended(fd));
    assert_int_equal(t.closed, 2);
    assert_int_equal(t.samples, 1);
    (void)close(fd);
}

static void test_server_closed_from_inside(void **state) {
    int fds[3];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = good_worker();
    t.close_server_in_sample = true;
    send_sample(fds[0], 1);
    send_sample(fds[0], 2);
    UNTIL(t.server_closed);
    assert_int_equal(t.samples, 1);
    assert_int_equal(t.closed, ARRAY_LEN(fds));
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        assert_true(has_ended(fds[i]));
        (void)close(fds[i]);
    }
}

/* --- no memory ----------------------------------------------------------------------------------------------------------- */

/* A whole life with the nth allocation failing: no crash, nothing left. Returns whether it went as without. */
static bool life(long n, void (*fail_nth)(long n)) {
    static const char exit_event[] = "{\"event\":\"exit\",\"code\":3}";
    struct ipc_server *s = NULL;
    uint8_t frame[1024];
    unsigned samples = t.samples, hellos = t.hellos, closed = t.closed;
    uint64_t start;
    char path[96];
    int rc, fd = -1;

    (void)snprintf(path, sizeof(path), "%.60s/second", t.dir);
    t.server_closed = false;
    fail_nth(n);
    rc = ipc_server_new(&s, &t.loop, &callbacks, &t);
    if (rc == 0)
        rc = ipc_server_listen(s, t.dirfd, t.dir, "second");
    if (rc == 0) {
        fd = peer_connect(path);
        put(fd, frame, peer_hello(frame, sizeof(frame), (int)getpid()));
        send_sample(fd, 1);
        (void)send(fd, frame, peer_frame(frame, FRAME_EVENT, exit_event, 10), MSG_NOSIGNAL);
        for (start = clock_mono_ms(); !has_ended(fd) && t.samples == samples;) {
            assert_true(clock_mono_ms() - start < DEADLINE_MS);
            turn();
            if (t.hellos == hellos && recv(fd, frame, 1, MSG_DONTWAIT | MSG_PEEK) == 1)
                break; /* told to come later */
        }
        if (t.samples > samples) {
            if (t.last_worker != NULL)
                (void)ipc_worker_ack(t.last_worker, 1);
            (void)send(fd, exit_event + 10, sizeof(exit_event) - 11, MSG_NOSIGNAL);
            for (int i = 0; i < 5; i++)
                turn();
        }
        (void)close(fd);
    }
    for (int i = 0; i < 5; i++)
        turn();
    fail_nth(0);
    if (s != NULL) {
        ipc_server_close(s, on_server_closed, NULL);
        UNTIL(t.server_closed);
    }
    t.server_closed = false;
    assert_true(t.closed - closed == t.hellos - hellos); /* once for each */
    return rc == 0 && t.samples == samples + 1;
}

static void test_p11_no_memory(void **state) {
    struct ipc_server *first = t.server;
    long live = mem_live();
    unsigned good = 0;

    (void)state;
    for (long n = 1; n <= 200; n++) {
        good += life(n, n % 2 == 0 ? mem_fail_only : mem_fail_from);
        t.server = first;
        assert_int_equal(mem_live(), live);
    }
    assert_true(good > 10 && good < 200);
    assert_true(life(0, mem_fail_only));
    t.server = first;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE("P60 another user", test_p60_another_user),
        CASE("P60 the socket is 0600 whatever the umask", test_p60_modes),
        CASE("P71 64 open files and 200 workers", test_p71_64_files_200_workers),
        CASE("P71 no room for those that say nothing", test_p71_silent_ones),
        CASE("P71 no descriptor left", test_p71_no_descriptor),
        CASE("P74 socket deleted or replaced", test_p74_made_again),
        CASE("P74 stale socket", test_p74_stale_socket),
        CASE("P74 a path longer than an address", test_long_path),
        CASE("closed from inside a callback", test_closed_from_inside),
        CASE("server closed from inside a callback", test_server_closed_from_inside),
        CASE("P11 no memory", test_p11_no_memory),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
