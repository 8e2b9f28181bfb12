/* The client of Node's inspector against a server of our own that is honest, silent, too talkative, or none at all. */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "collectors/capture/inspector.h"

#define PATH "/0a1b-2c3d"

static struct {
    int listener, connection;
    unsigned port;
    const char *list;    /* answer to /json/list; NULL: it closes */
    const char *upgrade; /* answer to the upgrade; NULL: a right one */
    pthread_t thread;
    unsigned pongs;
} server;

static void write_bytes(int fd, const void *data, size_t len) {
    for (const char *at = data; len > 0;) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        at += n;
        len -= (size_t)n;
    }
}

static void write_frame(int fd, uint8_t first, const void *data, size_t len) {
    uint8_t head[10] = {first, (uint8_t)(len < 126 ? len : 127)};

    for (unsigned n = 0; n < 8; n++)
        head[2 + n] = (uint8_t)(len >> (8 * (7 - n)));
    write_bytes(fd, head, len < 126 ? 2 : 10);
    write_bytes(fd, data, len);
}

static void say(int fd, const char *json) {
    write_frame(fd, 0x81, json, strlen(json));
}

static void read_head(int fd, char *out, size_t size) {
    size_t n = 0;

    out[0] = '\0';
    while (n + 1 < size && strstr(out, "\r\n\r\n") == NULL && read(fd, out + n, 1) == 1)
        out[++n] = '\0';
}

static void accept_upgrade(int fd, const char *request) {
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    char text[128], answer[256];
    unsigned char digest[EVP_MAX_MD_SIZE], accept[64];
    unsigned n = 0;

    if (key == NULL)
        return;
    (void)snprintf(text, sizeof(text), "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    (void)EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL);
    (void)EVP_EncodeBlock(accept, digest, (int)n);
    (void)snprintf(answer, sizeof(answer),
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "
                   "websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                   (char *)accept);
    write_bytes(fd, answer, strlen(answer));
}

/* A whole frame of the client; false at the end. */
static bool read_frame(int fd, uint8_t *ret_opcode, char *out, size_t size) {
    uint8_t head[2], more[2] = {0, 0}, mask[4];
    size_t len;

    if (recv(fd, head, 2, MSG_WAITALL) != 2)
        return false;
    len = head[1] & 0x7f;
    if (len == 126) {
        if (recv(fd, more, 2, MSG_WAITALL) != 2)
            return false;
        len = (size_t)more[0] << 8 | more[1];
    }
    if (len >= size || recv(fd, mask, 4, MSG_WAITALL) != 4 ||
        recv(fd, out, len, MSG_WAITALL) != (ssize_t)len)
        return false;
    websocket_mask(out, len, mask);
    out[len] = '\0';
    *ret_opcode = head[0] & 0x0f;
    return true;
}

/* false: the server closes. */
static bool act(int fd, const char *method, json_int_t id) {
    char text[512], *big;

    (void)snprintf(text, sizeof(text), "{\"id\":%lld,\"result\":{\"ok\":true}}", (long long)id);
    if (strcmp(method, "Fail") == 0) {
        (void)snprintf(text, sizeof(text), "{\"id\":%lld,\"error\":{\"code\":-32601}}",
                       (long long)id);
    } else if (strcmp(method, "Talk") == 0) {
        say(fd, "{\"method\":\"Debugger.scriptParsed\",\"params\":{\"scriptId\":\"12\",\"url\":"
                "\"file:///a \\\"b\\\"\",\"x\":1}}");
        say(fd,
            "{\"method\":\"Debugger.scriptParsed\",\"params\":{\"scriptId\":\"13\",\"url\":\"cut");
        say(fd, "{\"method\":\"Other\",\"params\":{}}");
        say(fd, text);
        say(fd, "{\"method\":\"Wanted\",\"params\":{\"n\":7}}");
        return true;
    } else if (strcmp(method, "Stream") == 0) {
        static const char REST[] = "\"a\":[1,2,{\"b\":\"}}\"}]}}}";

        say(fd, "{\"method\":\"Other\",\"params\":{}}");
        (void)snprintf(text, sizeof(text), "{\"id\":%lld,\"result\":{\"profile\":{", (long long)id);
        for (size_t i = 0; i < strlen(text); i++)
            write_frame(fd, i == 0 ? 0x01 : 0x00, text + i, 1);
        for (size_t i = 0; i < strlen(REST); i++)
            write_frame(fd, i + 1 < strlen(REST) ? 0x00 : 0x80, REST + i, 1);
        return true;
    } else if (strcmp(method, "Big") == 0) {
        big = mem_calloc(1, INSPECTOR_MESSAGE_BYTES + 100000);
        memset(big, ' ', INSPECTOR_MESSAGE_BYTES + 100000);
        write_frame(fd, 0x81, big, INSPECTOR_MESSAGE_BYTES + 100000);
        mem_free(big);
    } else if (strcmp(method, "Ping") == 0) {
        write_frame(fd, 0x89, "hi", 2);
    } else if (strcmp(method, "Garbage") == 0) {
        write_bytes(fd, "\xff\xff\xff\xff\xff\xff", 6);
        return true;
    } else if (strcmp(method, "Silent") == 0) {
        return true;
    } else if (strcmp(method, "Close") == 0) {
        return false;
    }
    say(fd, text);
    return true;
}

static void serve_socket(int fd) {
    char text[4096];
    uint8_t opcode;

    while (read_frame(fd, &opcode, text, sizeof(text))) {
        json_t *root = json_loads(text, 0, NULL);
        bool more = true;

        if (opcode == WEBSOCKET_PONG)
            server.pongs += strcmp(text, "hi") == 0;
        else
            more = act(fd, json_string_value(json_object_get(root, "method")),
                       json_integer_value(json_object_get(root, "id")));
        json_decref(root);
        if (!more)
            break;
    }
}

static void *serve(void *arg) {
    char request[2048];
    int fd;

    (void)arg;
    while ((fd = accept(server.listener, NULL, NULL)) >= 0) {
        server.connection = fd;
        read_head(fd, request, sizeof(request));
        if (strncmp(request, "GET /json/list ", 15) == 0) {
            if (server.list != NULL)
                write_bytes(fd, server.list, strlen(server.list));
        } else if (server.upgrade != NULL) {
            write_bytes(fd, server.upgrade, strlen(server.upgrade));
        } else {
            accept_upgrade(fd, request);
            serve_socket(fd);
        }
        (void)close(fd);
    }
    return NULL;
}

static char good_list[512];

static int begin(void **state) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    char body[256];

    (void)state;
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server.listener, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(server.listener, 8) != 0 ||
        getsockname(server.listener, (struct sockaddr *)&a, &len) != 0)
        return -1;
    server.port = ntohs(a.sin_port);
    (void)snprintf(body, sizeof(body),
                   "[ { \"id\": \"x\", \"webSocketDebuggerUrl\": \"ws://127.0.0.1:%u" PATH "\" } ]",
                   server.port);
    (void)snprintf(good_list, sizeof(good_list), "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    server.list = good_list;
    server.upgrade = NULL;
    server.pongs = 0;
    return pthread_create(&server.thread, NULL, serve, NULL);
}

static int end(void **state) {
    (void)state;
    (void)shutdown(server.listener, SHUT_RDWR);
    (void)shutdown(server.connection, SHUT_RDWR); /* a test that failed has left it open */
    (void)pthread_join(server.thread, NULL);
    (void)close(server.listener);
    return mem_live() != 0;
}

static void connect_to_it(struct inspector *i) {
    char why[256];

    inspector_init(i, -1);
    assert_int_equal(inspector_connect(i, server.port, 5000, why), 0);
}

static void test_calls_and_events(void **state) {
    struct inspector i;

    (void)state;
    connect_to_it(&i);
    assert_int_equal(inspector_call(&i, "Plain", NULL, 5000), 0);
    assert_string_equal(i.answer.data, "{\"id\":1,\"result\":{\"ok\":true}}");
    assert_int_equal(inspector_call(&i, "Fail", "{\"a\":1}", 5000), -EREMOTEIO);
    inspector_expect(&i, "Wanted");
    assert_int_equal(inspector_call(&i, "Talk", NULL, 5000), 0);
    assert_int_equal(inspector_wait(&i, 5000), 0);
    assert_string_equal(i.happening.data, "{\"method\":\"Wanted\",\"params\":{\"n\":7}}");
    assert_string_equal(i.scripts.data, "\n12 \"file:///a \\\"b\\\"\"");
    assert_int_equal(inspector_call(&i, "Ping", NULL, 5000), 0);
    assert_int_equal(inspector_call(&i, "Big", NULL, 5000),
                     0); /* what is too long is dropped, what follows is read */
    assert_string_equal(i.answer.data, "{\"id\":5,\"result\":{\"ok\":true}}");
    assert_int_equal(server.pongs, 1);
    assert_int_equal(inspector_call(&i, "Silent", NULL, 50), -ETIMEDOUT);
    assert_int_equal(inspector_call(&i, "Close", NULL, 5000), -EPIPE);
    assert_int_equal(inspector_wait_closed(&i, 5000), 0);
    inspector_clear(&i);
}

static void test_a_result_that_streams(void **state) {
    struct inspector i;
    struct output *o = NULL;
    char why[256];
    size_t len;

    (void)state;
    connect_to_it(&i);
    assert_int_equal(output_memory(&o, 1000, OUTPUT_JSON), 0);
    assert_int_equal(inspector_stream(&i, "Stream", "profile", o, 5000), 0);
    assert_int_equal(output_end(o, why), 0);
    assert_string_equal(output_text(o, &len), "{\"a\":[1,2,{\"b\":\"}}\"}]}");
    output_free(o);
    assert_int_equal(output_memory(&o, 1000, OUTPUT_JSON), 0);
    assert_int_equal(inspector_stream(&i, "Plain", "profile", o, 5000), -EREMOTEIO);
    assert_int_equal(inspector_stream(&i, "Fail", "profile", o, 5000), -EREMOTEIO);
    assert_int_equal(inspector_call(&i, "Plain", NULL, 5000), 0);
    assert_int_equal(output_raw_bytes(o), 0);
    output_free(o);
    inspector_clear(&i);
}

static void test_what_is_no_inspector(void **state) {
    static const char *const LISTS[] = {
        NULL,
        "hello\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n[{\"webSocketDebuggerUrl\":\"ws://h/a "
        "b\\r\\nX: y\"}]",
    };
    char why[256];

    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(LISTS); n++) {
        struct inspector i;

        server.list = LISTS[n];
        inspector_init(&i, -1);
        assert_int_equal(inspector_connect(&i, server.port, 2000, why), -EPROTO);
        assert_string_not_equal(why, "");
        inspector_clear(&i);
    }
    server.list = good_list;
    server.upgrade = "HTTP/1.1 400 Bad Request\r\n\r\n";
    for (int n = 0; n < 2; n++) {
        struct inspector i;

        inspector_init(&i, -1);
        assert_int_equal(inspector_connect(&i, server.port, 2000, why), -EPROTO);
        inspector_clear(&i);
        server.upgrade =
            "HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
    }
}

static void test_garbage_and_cancel(void **state) {
    struct inspector i;
    uint64_t one = 1, t;

    (void)state;
    connect_to_it(&i);
    assert_int_equal(inspector_call(&i, "Garbage", NULL, 5000), -EPROTO);
    inspector_clear(&i);
    connect_to_it(&i);
    i.cancel_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(write(i.cancel_fd, &one, sizeof(one)), sizeof(one));
    t = clock_mono_ms();
    assert_int_equal(inspector_call(&i, "Silent", NULL, 20000), -ECANCELED);
    assert_true(clock_mono_ms() - t < 10000);
    (void)close(i.cancel_fd);
    inspector_clear(&i);
}

static void test_without_memory(void **state) {
    int rc = -ENOMEM;

    (void)state;
    for (long n = 1; rc != 0 && n < 200; n++) {
        struct inspector i;
        char why[256];

        inspector_init(&i, -1);
        rc = inspector_connect(&i, server.port, 5000, why);
        assert_int_equal(rc, 0);
        mem_fail_only(n);
        rc = inspector_call(&i, "Plain", NULL, 5000);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        inspector_clear(&i);
    }
    assert_int_equal(rc, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_calls_and_events, begin, end),
        cmocka_unit_test_setup_teardown(test_a_result_that_streams, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_no_inspector, begin, end),
        cmocka_unit_test_setup_teardown(test_garbage_and_cancel, begin, end),
        cmocka_unit_test_setup_teardown(test_without_memory, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
