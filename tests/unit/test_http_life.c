/* The status socket itself: who may open it (P60), what happens to its file (P74), no memory. */
#include "tests/unit/http_peer.h"

/* In a child: gives up root, then tries to talk. 0: closed without a byte. */
static int child_of_other_user(void) {
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    char c;
    int fd;

    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 2;
    fd = dial_path(t.path);
    if (fd < 0)
        return 3;
    (void)fcntl(fd, F_SETFL, 0);
    (void)send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    return read(fd, &c, 1) <= 0 ? 0 : 1;
}

static void test_P60_another_user_is_refused(void **state) {
    uint64_t refused = counter_get(COUNTER_STATUS_REFUSED_UID);
    int status = -1;
    pid_t pid;

    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    /* The mode of the file keeps others out already; here it is opened to look behind it. */
    assert_int_equal(chmod(t.path, 0666), 0);
    assert_int_equal(chmod(t.dir, 0755), 0);
    pid = fork();
    if (pid == 0)
        _exit(child_of_other_user());
    while (waitpid(pid, &status, WNOHANG) == 0)
        turn();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(t.asked, 0);
    assert_int_equal(counter_get(COUNTER_STATUS_REFUSED_UID) - refused, 1);
}

static void test_P60_mode_from_the_first_moment(void **state) {
    struct stat st;

    (void)state;
    assert_int_equal(stat(t.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(S_ISSOCK(st.st_mode));
}

static void test_P74_made_again(void **state) {
    struct buf in;
    int old = dial();

    (void)state;
    assert_int_equal(http_server_check(t.server), 0);
    assert_int_equal(unlink(t.path), 0);
    assert_int_equal(dial_path(t.path), -ENOENT);
    assert_int_equal(http_server_check(t.server), 1);
    assert_int_equal(http_server_check(t.server), 0);
    ask(&in, "GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
    close(old);

    assert_int_equal(unlink(t.path), 0); /* a foreign file in its place */
    assert_int_equal(symlink("/etc/passwd", t.path), 0);
    assert_int_equal(http_server_check(t.server), 1);
    ask(&in, "GET / HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(in.data, " 200 "));
    buf_clear(&in);
}

static void test_P74_long_path_and_stale_socket(void **state) {
    char sub[PATH_MAX], name[121];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char via[64];
    int fd;

    (void)state;
    http_server_close(t.server, on_closed, &t.closed);
    (void)uv_run(&t.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t.loop), 0);
    close(t.dirfd);
    memset(name, 'd', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_true(snprintf(sub, sizeof(sub), "%s/%s", t.dir, name) < (int)sizeof(sub));
    assert_int_equal(mkdir(sub, 0700), 0);
    fd = open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/status.sock", fd);
    assert_int_equal(bind(stale, (struct sockaddr *)&to, sizeof(to)), 0);
    close(stale);
    start_in(sub);
    (void)snprintf(via, sizeof(via), "/proc/self/fd/%d/status.sock", fd);
    stale = dial_path(via);
    assert_true(stale >= 0);
    close(stale);
    close(fd);
    t.closed = false;
    assert_int_equal(uv_run(&t.loop, UV_RUN_NOWAIT), 1);
}

static int teardown_long(void **state) {
    char cmd[PATH_MAX];
    int rc = teardown(state);

    memset(cmd, 'd', 120);
    cmd[120] = '\0';
    assert_int_equal(chdir(t.dir), 0);
    assert_int_equal(rmdir(cmd), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(t.dir), 0);
    return rc;
}

/* A run with a request, whatever fails: no crash, nothing left, and the next request works. */
static void test_no_memory(void **state) {
    long n;

    (void)state;
    for (n = 1; n < 60; n++) {
        uint64_t failed;
        struct buf in;

        buf_init(&in, 65536);
        buf_puts(&in, "reserve"); /* so that only the server's allocations are counted */
        int fd = dial();
        mem_fail_only(n);
        (void)send_all(fd, "GET /kept?n HTTP/1.0\r\n\r\n", 24);
        for (int i = 0; i < 10; i++)
            turn();
        mem_fail_only(0);
        failed = counter_get(COUNTER_OUT_OF_MEMORY);
        buf_reset(&in);
        (void)read_all(fd, &in, 200);
        close(fd);
        buf_clear(&in);
        ask(&in, "GET / HTTP/1.0\r\n\r\n");
        assert_non_null(strstr(in.data, " 200 "));
        buf_clear(&in);
        if (n > 3 && failed == counter_get(COUNTER_OUT_OF_MEMORY) && t.asked > 20)
            break;
    }
    assert_true(n > 3);
}

static void test_no_memory_at_start(void **state) {
    long n;

    (void)state;
    for (n = 1; n < 60; n++) {
        struct http_server *s = NULL;
        bool closed = false;
        uv_loop_t loop;
        int rc;

        assert_int_equal(uv_loop_init(&loop), 0);
        mem_fail_only(n);
        rc = http_server_new(&s, &loop, handler, &t);
        if (rc == 0)
            rc = http_server_listen_unix(s, t.dirfd, t.dir, "other.sock");
        mem_fail_only(0);
        if (s != NULL)
            http_server_close(s, on_closed, &closed);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        assert_true(s == NULL || closed);
        assert_int_equal(uv_loop_close(&loop), 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
    }
    assert_true(n > 3 && n < 60);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_P60_another_user_is_refused),
        CASE(test_P60_mode_from_the_first_moment),
        CASE(test_P74_made_again),
        CASE(test_no_memory),
        CASE(test_no_memory_at_start),
        cmocka_unit_test_setup_teardown(test_P74_long_path_and_stale_socket, setup, teardown_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
