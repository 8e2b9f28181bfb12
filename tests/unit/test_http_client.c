/* The blocking client of the commands, against a peer (a child process) that answers in every
 * way it should not. */
#include "uploader/http.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/base/mem.h"

#define BODY_BYTES 100000
#define TIMEOUT_MS 5000

static struct {
    char dir[64], path[96];
    pid_t peer;

} t;

/* --- the peer --------------------------------------------------------------------------------- */

static void reply(int fd, const char *text) {
    (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void reply_body(int fd, size_t len) {
    char head[128], chunk[1000];

    (void)snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
    reply(fd, head);
    memset(chunk, 'x', sizeof(chunk));
    for (; len > 0; len -= sizeof(chunk))
        (void)send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL);
}

/* False: the connection is to be closed. */
static bool answer(int fd, const char *path, int connections) {
    char text[128];

    if (strcmp(path, "/body") == 0) {
        reply_body(fd, BODY_BYTES);
        return true;
    }
    if (strcmp(path, "/count") == 0) {
        (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d",
                       connections);
        reply(fd, text);
        return true;
    }
    if (strcmp(path, "/404") == 0)
        reply(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone");
    else if (strcmp(path, "/cut") == 0)
        reply(fd, "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nhalf of it");
    else if (strcmp(path, "/garbage") == 0)
        reply(fd, "\001\002\003 this is no HTTP\r\n\r\n");
    else if (strcmp(path, "/hang") == 0)
        (void)pause();
    return false;
}

static void serve(int listener) {
    for (int connections = 1;; connections++) {
        int fd = accept(listener, NULL, NULL);
        char rq[4096], path[256];
        ssize_t n;

        while ((n = read(fd, rq, sizeof(rq) - 1)) > 0) {
            rq[n] = '\0';
            if (sscanf(rq, "GET %255s", path) != 1 || !answer(fd, path, connections))
                break;
        }
        close(fd);
    }
}

static int setup(void **state) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    (void)snprintf(t.dir, sizeof(t.dir), "/tmp/pillion-client-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    (void)snprintf(t.path, sizeof(t.path), "%s/s.sock", t.dir);
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", t.path);
    assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(fd, 16), 0);
    t.peer = fork();
    if (t.peer == 0)
        serve(fd);
    close(fd);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    (void)kill(t.peer, SIGKILL);
    (void)waitpid(t.peer, NULL, 0);
    (void)unlink(t.path);
    (void)rmdir(t.dir);
    assert_int_equal(mem_live(), 0);
    return 0;
}

/* --- tests ------------------------------------------------------------------------------------ */

static int get(const char *path, long timeout_ms, struct buf *body, long *status) {
    *status = -1;
    return http_get_unix(t.path, path, timeout_ms, body, status);
}

static void test_answers(void **state) {
    struct buf body;
    long status;

    (void)state;
    buf_init(&body, BODY_BYTES);
    assert_int_equal(get("/body", TIMEOUT_MS, &body, &status), 0);
    assert_int_equal(status, 200);
    assert_int_equal(body.len, BODY_BYTES);
    buf_reset(&body);
    assert_int_equal(get("/404", TIMEOUT_MS, &body, &status), 0);
    assert_int_equal(status, 404);
    assert_string_equal(body.data, "none");
    buf_clear(&body);
}

static void test_what_is_no_answer(void **state) {
    static const struct {
        const char *path;
        long timeout_ms;
        int rc;
    } cases[] = {
        {"/cut", TIMEOUT_MS, -ECONNRESET},
        {"/close", TIMEOUT_MS, -ECONNRESET},
        {"/garbage", TIMEOUT_MS, -EPROTO},
        {"/hang", 200, -ETIMEDOUT},
    };
    struct buf body;
    long status;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_init(&body, BODY_BYTES);
        assert_int_equal(get(cases[i].path, cases[i].timeout_ms, &body, &status), cases[i].rc);
        assert_int_equal(status, -1);
        buf_clear(&body);
    }
}

static void test_more_than_the_cap(void **state) {
    struct buf body;
    long status;

    (void)state;
    buf_init(&body, BODY_BYTES - 1);
    assert_int_equal(get("/body", TIMEOUT_MS, &body, &status), -ENOBUFS);
    buf_clear(&body);
}

static void test_nobody_there(void **state) {
    struct buf body;
    long status;

    (void)state;
    buf_init(&body, BODY_BYTES);
    assert_int_equal(http_get_unix("/nowhere/at.all", "/", TIMEOUT_MS, &body, &status), -ENOENT);
    (void)kill(t.peer, SIGKILL);
    (void)waitpid(t.peer, NULL, 0);
    assert_int_equal(get("/body", TIMEOUT_MS, &body, &status), -ECONNREFUSED);
    buf_clear(&body);
}

static void test_the_connection_is_kept(void **state) {
    struct http_client *c = NULL;
    struct buf body;
    long status;

    (void)state;
    buf_init(&body, BODY_BYTES);
    assert_int_equal(http_client_new_unix(&c, t.path), 0);
    for (int i = 0; i < 3; i++) {
        buf_reset(&body);
        assert_int_equal(http_client_get(c, "/count", TIMEOUT_MS, &body, &status), 0);
        assert_string_equal(body.data, "1");
    }
    assert_int_equal(http_client_get(c, "/close", TIMEOUT_MS, &body, &status), -ECONNRESET);
    buf_reset(&body);
    assert_int_equal(http_client_get(c, "/count", TIMEOUT_MS, &body, &status), 0);
    assert_true(body.data[0] >= '2'); /* a new one, by itself */
    http_client_free(c);
    buf_clear(&body);
}

static void test_no_memory(void **state) {
    struct buf body;
    long status, n;

    (void)state;
    for (n = 1; n < 2000; n++) {
        int rc;

        buf_init(&body, BODY_BYTES);
        mem_fail_only(n);
        rc = get("/404", TIMEOUT_MS, &body, &status);
        mem_fail_only(0);
        buf_clear(&body);
        assert_int_equal(mem_live(), 0);
        assert_true(rc == 0 || rc == -ENOMEM || rc == -EPROTO || rc == -ECONNRESET);
        if (rc == 0 && n > 50)
            break;
    }
    assert_true(n < 2000);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_answers),      CASE(test_what_is_no_answer),      CASE(test_more_than_the_cap),
        CASE(test_nobody_there), CASE(test_the_connection_is_kept), CASE(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
