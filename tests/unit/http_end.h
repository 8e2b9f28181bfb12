/* http_end.h - for tests of what goes out by HTTP: a server on threads that does what the path of a request says. */
#ifndef PILLION_TEST_HTTP_END_H
#define PILLION_TEST_HTTP_END_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include "batches.h"

#define BIG_BYTES 200000

/* --- a server that does what the path says ------------------------------------------------------ */

static struct {
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_int open;
    /* What is answered to /v1/batches, one after the other, the last one for ever; 0: the connection is cut. */
    int script[16];
    atomic_int asked;
} server;

static void say(int fd, const char *text) {
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL); /* the other side may be gone */
}

/* false: the connection ends. */
static bool answer(int fd, const char *path) {
    static char big[BIG_BYTES];

    if (strncmp(path, "/ok", 3) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-One: a\r\nx-one: b \r\n\r\n{\"a\":1}");
    } else if (strncmp(path, "/v1/batches", 11) == 0 || strncmp(path, "/_bulk", 6) == 0) {
        char text[128];
        int i = atomic_fetch_add(&server.asked, 1), n = 0;

        while (n < 15 && server.script[n + 1] != -1)
            n++;
        if (server.script[i < n ? i : n] == 0)
            return false;
        (void)snprintf(text, sizeof(text), "HTTP/1.1 %d Because\r\nContent-Length: 2\r\n\r\n{}",
                       server.script[i < n ? i : n]);
        say(fd, text);
    } else if (strncmp(path, "/late", 5) == 0) {
        (void)poll(NULL, 0, 30);
        say(fd, "HTTP/1.1 503 No\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n");
    } else if (strncmp(path, "/big", 4) == 0) {
        memset(big, 'x', sizeof(big));
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n");
        (void)!send(fd, big, sizeof(big), MSG_NOSIGNAL);
    } else if (strncmp(path, "/continue", 9) == 0) {
        say(fd, "HTTP/1.1 100 Continue\r\nX-One: no\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: "
                "0\r\n\r\n");
    } else if (strncmp(path, "/half", 5) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n{\"a\":");
        return false;
    } else if (strncmp(path, "/head", 5) == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Le");
        return false;
    } else if (strncmp(path, "/junk", 5) == 0) {
        say(fd, "\x01\x02\x03 what is this\r\n\r\n");
        return false;
    } else if (strncmp(path, "/reset", 6) == 0) {
        struct linger now = {.l_onoff = 1};

        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        return false;
    } else if (strncmp(path, "/hang", 5) == 0) {
        char c;

        (void)!recv(fd, &c, 1, 0);
        return false;
    } else {
        return false; /* nothing at all */
    }
    return true;
}

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    char text[65536];
    bool more = true;

    while (more) {
        size_t len = 0, want = 0;
        char *end = NULL, *length, path[64] = "";

        while (end == NULL || len < want) {
            ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);

            if (n <= 0)
                goto out;
            len += (size_t)n;
            text[len] = '\0';
            end = end != NULL ? end : strstr(text, "\r\n\r\n");
            if (end == NULL)
                continue;
            length = strcasestr(text, "content-length:");
            want = (size_t)(end + 4 - text) + (length != NULL ? strtoul(length + 15, NULL, 10) : 0);
        }
        (void)sscanf(text, "%*s %63s", path);
        more = answer(fd, path);
    }
out:
    close(fd);
    atomic_fetch_sub(&server.open, 1);
    return NULL;
}

static void *accept_all(void *arg) {
    int fd;

    (void)arg;
    while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
        pthread_t t;

        atomic_fetch_add(&server.open, 1);
        assert_int_equal(pthread_create(&t, NULL, serve, (void *)(intptr_t)fd), 0);
        (void)pthread_detach(t);
    }
    return NULL;
}

static UNUSED int start_server(void **state) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    uv_loop_t loop;
    (void)state;

    /* libuv keeps a pipe for ever from its first loop on. */
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(server.fd, 100), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&a, &len), 0);
    server.port = ntohs(a.sin_port);
    return pthread_create(&server.thread, NULL, accept_all, NULL);
}

static UNUSED int stop_server(void **state) {
    (void)state;
    (void)shutdown(server.fd, SHUT_RDWR);
    (void)pthread_join(server.thread, NULL);
    close(server.fd);
    return 0;
}

#endif
