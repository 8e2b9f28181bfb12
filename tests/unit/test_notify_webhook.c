/* Webhooks: what an answer means, what is sent, that it is signed, and want of memory anywhere on the way. */
#include "notify_bed.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "uploader/sign.h"

enum { CUT = 0, HANG = -1, LAST = -2 };

/* --- an end that answers as the script says, the last answer for ever ------------------------------ */

static struct {
    int fd;
    unsigned port;
    pthread_t thread;
    const int *script;
    atomic_bool over;
    atomic_int asked;
    char request[8192]; /* the last one, its body behind the empty line */
} hook;

static bool read_request(int fd) {
    size_t len = 0;

    while (!hook.over && len < sizeof(hook.request) - 1) {
        struct pollfd w = {.fd = fd, .events = POLLIN};
        const char *body, *length;
        ssize_t n;

        if (poll(&w, 1, 20) <= 0)
            continue;
        n = read(fd, hook.request + len, sizeof(hook.request) - 1 - len);
        if (n <= 0)
            return false;
        len += (size_t)n;
        hook.request[len] = '\0';
        body = strstr(hook.request, "\r\n\r\n");
        length = strstr(hook.request, "Content-Length: ");
        if (body != NULL && length != NULL && strlen(body + 4) == strtoul(length + 16, NULL, 10))
            return true;
    }
    return false;
}

static void *hook_main(void *arg) {
    const int *answer = hook.script;
    char text[128];
    (void)arg;

    while (!hook.over) {
        struct pollfd w = {.fd = hook.fd, .events = POLLIN};
        int fd = poll(&w, 1, 20) > 0 ? accept(hook.fd, NULL, NULL) : -1;

        while (fd >= 0 && read_request(fd)) {
            hook.asked++;
            if (*answer <= 0)
                break;
            (void)snprintf(text, sizeof(text),
                           "HTTP/1.1 %d Because\r\nContent-Length: 4\r\n\r\nyes.", *answer);
            (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
            if (answer[1] != LAST)
                answer++;
        }
        while (fd >= 0 && *answer == HANG && !hook.over)
            (void)poll(NULL, 0, 10);
        if (fd >= 0 && *answer == CUT && answer[1] != LAST)
            answer++;
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

static void hook_start(const int *script) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    memset(&hook, 0, sizeof(hook));
    hook.script = script;
    hook.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(hook.fd >= 0);
    assert_int_equal(bind(hook.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(hook.fd, 16), 0);
    assert_int_equal(getsockname(hook.fd, (struct sockaddr *)&a, &len), 0);
    hook.port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&hook.thread, NULL, hook_main, NULL), 0);
}

static void hook_stop(void) {
    hook.over = true;
    (void)pthread_join(hook.thread, NULL);
    close(hook.fd);
}

static void open_hook(const int *script, const char *path) {
    char list[256];

    bed_make_dir();
    hook_start(script);
    (void)snprintf(list, sizeof(list), "http://me:hidden@127.0.0.1:%u%s", hook.port, path);
    bed_open(list);
}

static void close_hook(int files) {
    (void)bed_close();
    hook_stop();
    assert_int_equal(bed_files(NULL), files);
    assert_int_equal(bed_remove(bed.dir), 0);
}

/* The value of a header of the last request. */
static const char *header(const char *name) {
    static char out[512];
    const char *p = strstr(hook.request, name);
    size_t n;

    assert_non_null(p);
    p += strlen(name) + 2;
    n = strcspn(p, "\r");
    assert_true(n < sizeof(out));
    memcpy(out, p, n);
    out[n] = '\0';
    return out;
}

/* --- tests ---------------------------------------------------------------------------------------- */

static void test_signed(void **state) {
    static const int script[] = {204, LAST};
    static const char body[] = "{\"event\":\"artifact_ready\"}";
    char why[SIGN_WHY_BYTES];
    (void)state;

    bed.token = "the token";
    open_hook(script, "/in/?key=a%2fb");
    bed_send("id-1", body);
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_non_null(strstr(hook.request, "POST /in/?key=a%2fb HTTP/1.1\r\n"));
    assert_string_equal(header("Idempotency-Key"), "id-1");
    assert_string_equal(header("Content-Type"), "application/json");
    assert_string_equal(header("Authorization"), "Basic bWU6aGlkZGVu");
    assert_string_equal(strstr(hook.request, "\r\n\r\n") + 4, body);
    assert_int_equal(sign_check(header(SIGN_HEADER), bed.token, clock_wall_ms() / 1000, "POST",
                                "/in/?key=a%2fb", body, strlen(body), why),
                     0);
    assert_null(strstr(bed_status(0, "target"), "hidden"));
    assert_null(strstr(bed_status(0, "target"), "key"));
    assert_true(BED_STATE(0, "idle"));
    bed.token = NULL;
    close_hook(0);
}

static void test_unsigned(void **state) {
    static const int script[] = {200, LAST};
    (void)state;

    open_hook(script, "");
    bed_send("id-1", "{}");
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_non_null(strstr(hook.request, "POST / HTTP/1.1\r\n"));
    assert_null(strstr(hook.request, SIGN_HEADER));
    close_hook(0);
}

static void test_again(void **state) {
    static const int script[] = {CUT, 500, 200, LAST}; /* cut later, curl itself asks again */
    uint64_t failed = counter_get(COUNTER_NOTIFY_FAILED);
    (void)state;

    open_hook(script, "/");
    bed_send("id-1", "{}");
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_int_equal(counter_get(COUNTER_NOTIFY_FAILED), failed + 2);
    assert_string_equal(header("Idempotency-Key"), "id-1");
    assert_string_equal(bed_status(0, "sent"), "1");
    close_hook(0);
}

/* It will never take the first: that one goes, the next comes. */
static void test_refused(void **state) {
    static const int script[] = {422, 200, LAST};
    uint64_t refused = counter_get(COUNTER_NOTIFY_REFUSED);
    (void)state;

    open_hook(script, "/");
    bed_send("id-1", "{}");
    bed_send("id-2", "{}");
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_int_equal(counter_get(COUNTER_NOTIFY_REFUSED), refused + 1);
    assert_string_equal(bed_status(0, "refused"), "1");
    assert_string_equal(bed_status(0, "sent"), "1");
    assert_non_null(strstr(bed_status(0, "last_error"), "422"));
    close_hook(0);
}

static void test_settle(void **state) {
    static const int script[] = {401, LAST};
    (void)state;

    open_hook(script, "/");
    bed_send("id-1", "{}");
    BED_UNTIL(BED_STATE(0, "failing"));
    assert_non_null(strstr(bed_status(0, "last_error"), "401 Unauthorized"));
    close_hook(1);
}

static void test_hang(void **state) {
    static const int script[] = {HANG, LAST};
    uint64_t start;
    (void)state;

    open_hook(script, "/");
    bed_send("id-1", "{}");
    BED_UNTIL(hook.asked == 1);
    assert_true(BED_STATE(0, "sending"));
    start = clock_mono_ms();
    notify_close(bed.notify, bed_closed, NULL);
    BED_UNTIL(bed.closed);
    assert_true(clock_mono_ms() - start < 2500);
    /* It goes on where it was: the file is still there. */
    assert_int_equal(bed_files(NULL), 1);
    bed.closed = false;
    assert_int_equal(bed_try("none", NULL), 0);
    close_hook(1);
}

static void test_memory(void **state) {
    static const int script[] = {200, LAST};
    char list[256];
    struct buf why;
    (void)state;

    for (long n = 1; n < 45; n++) {
        int rc;

        open_hook(script, "/first");
        (void)bed_send("id-0", "{}");
        BED_UNTIL(notify_backlog(bed.notify) == 0);
        notify_close(bed.notify, bed_closed, NULL);
        BED_UNTIL(bed.closed);
        bed.closed = false;
        (void)snprintf(list, sizeof(list), "http://127.0.0.1:%u/", hook.port);
        buf_init(&why, 4096);
        mem_fail_only(n);
        rc = bed_try(list, &why);
        if (rc == 0) {
            (void)notify_start(bed.notify);
            rc = notify_send(bed.notify, "id-1", "{}", 2, NULL, NULL);
            assert_true(rc == 0 || rc == -ENOMEM);
            /* Once taken it arrives, whatever fails on the way. */
            BED_UNTIL(notify_backlog(bed.notify) == 0);
            assert_int_equal(hook.asked, rc == 0 ? 2 : 1);
        } else {
            assert_int_equal(rc, -ENOMEM);
            mem_fail_only(0);
            assert_int_equal(bed_try("none", &why), 0);
        }
        mem_fail_only(0);
        buf_clear(&why);
        close_hook(0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signed), cmocka_unit_test(test_unsigned),
        cmocka_unit_test(test_again),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_settle), cmocka_unit_test(test_hang),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests_name("notify_webhook", tests, NULL, NULL);
}
