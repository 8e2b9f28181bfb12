/* The listening descriptor in a poll handle of its own, because a socket that is made again needs a
 * new one while the old one is still closing.
 *
 *   on_acceptable → accept4 → user looked at → accepted()
 *
 * Ways to fail: another user: closed, counted; no descriptor or memory: on_no_descriptor(). */
#include "ipc/acceptor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent/base/mem.h"
#include "ipc/unixsocket.h"

#define ACCEPT_AT_ONCE 16 /* then the rest of the loop has its turn */
#define RETRY_MS       200

struct listener {
    uv_poll_t poll;
    struct acceptor *acceptor;
    int fd;
    bool
        tcp; /* there the peer's user is not known; whoever reads the requests looks at who it is */
};

struct acceptor {
    uv_loop_t *loop;
    struct acceptor_options options;
    uv_timer_t retry;
    struct listener *listener;
    int dirfd; /* the caller's */
    char *dir, *name;
    struct unix_file file;
    int reserve; /* a descriptor to give up when there is no other: see on_no_descriptor() */
    bool paused;
    unsigned open_handles;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void on_acceptable(uv_poll_t *p, int status, int events);

static void on_retry(uv_timer_t *t) {
    struct acceptor *a = container_of(t, struct acceptor, retry);

    if (a->reserve < 0)
        a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (a->listener != NULL && !a->paused)
        (void)uv_poll_start(&a->listener->poll, UV_READABLE, on_acceptable);
}

void acceptor_pause(struct acceptor *a, bool paused) {
    if (a->paused == paused)
        return;
    a->paused = paused;
    if (a->listener == NULL)
        return;
    if (paused)
        (void)uv_poll_stop(&a->listener->poll);
    else
        (void)uv_poll_start(&a->listener->poll, UV_READABLE, on_acceptable);
}

static bool peer_allowed(const struct listener *l, int fd) {
    return l->tcp || unix_peer_allowed(fd);
}

/* Out of descriptors a connection cannot even be refused, and the loop would be woken for it
 * without end: a descriptor held in reserve makes room to take and close it. Where that fails,
 * too, nothing is accepted for a moment. */
static void on_no_descriptor(struct listener *l) {
    struct acceptor *a = l->acceptor;
    int fd;

    counter_add(a->options.refused_busy, 1);
    if (a->reserve >= 0) {
        close(a->reserve);
        fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && a->options.busy != NULL && peer_allowed(l, fd))
            a->options.busy(a->options.arg, fd);
        if (fd >= 0)
            close(fd);
        a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    if (a->reserve < 0) {
        (void)uv_poll_stop(&l->poll);
        (void)uv_timer_start(&a->retry, on_retry, RETRY_MS, 0);
    }
}

static void on_acceptable(uv_poll_t *p, int status, int events) {
    struct listener *l = container_of(p, struct listener, poll);
    const struct acceptor_options *options = &l->acceptor->options;

    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_AT_ONCE && !l->acceptor->paused; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0 && peer_allowed(l, fd)) {
            options->accepted(options->arg, fd);
        } else if (fd >= 0) {
            counter_add(options->refused_uid, 1);
            close(fd);
        } else {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                on_no_descriptor(l);
            break;
        }
    }
}

int acceptor_new(struct acceptor **ret, uv_loop_t *loop, const struct acceptor_options *options) {
    struct acceptor *a = mem_calloc(1, sizeof(*a));

    if (a == NULL)
        return -ENOMEM;
    a->loop = loop;
    a->options = *options;
    a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC); /* -1 is fine, see on_no_descriptor() */
    (void)uv_timer_init(loop, &a->retry);                 /* never fails */
    a->open_handles = 1;
    *ret = a;
    return 0;
}

static void maybe_closed(struct acceptor *a) {
    if (--a->open_handles > 0)
        return;
    mem_free(a->dir);
    mem_free(a->name);
    a->closed(a->closed_arg);
    mem_free(a);
}

static void on_listener_closed(uv_handle_t *h) {
    struct listener *l = container_of((uv_poll_t *)h, struct listener, poll);
    struct acceptor *a = l->acceptor;

    mem_free(l);
    maybe_closed(a);
}

static void close_listener(struct acceptor *a) {
    struct listener *l = a->listener;

    if (l == NULL)
        return;
    a->listener = NULL;
    uv_close((uv_handle_t *)&l->poll, on_listener_closed); /* no events from here on */
    close(l->fd);
}

/* A port that is given for every address of IPv6 takes IPv4 as well. */
static int open_tcp(const char *ip, uint16_t port) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v4 = inet_pton(AF_INET, ip, &v4.sin_addr) == 1;
    const struct sockaddr *sa = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t len = is_v4 ? sizeof(v4) : sizeof(v6);
    int on = 1, off = 0, fd, rc;

    if (!is_v4 && inet_pton(AF_INET6, ip, &v6.sin6_addr) != 1)
        return -EINVAL;
    fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Both only widen what is possible; bind(2) has the last word. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!is_v4)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, sa, len) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    rc = -errno;
    close(fd);
    return rc;
}

int acceptor_listen_tcp(struct acceptor *a, const char *ip, uint16_t port) {
    struct listener *l = mem_calloc(1, sizeof(*l));
    int rc;

    if (l == NULL)
        return -ENOMEM;
    l->acceptor = a;
    l->tcp = true;
    l->fd = open_tcp(ip, port);
    rc = l->fd >= 0 ? uv_poll_init(a->loop, &l->poll, l->fd) : l->fd;
    if (rc != 0) {
        if (l->fd >= 0)
            close(l->fd);
        mem_free(l);
        return rc;
    }
    close_listener(a);
    a->listener = l;
    a->open_handles++;
    return uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
}

static int open_listener(struct acceptor *a) {
    struct listener *l = mem_calloc(1, sizeof(*l));
    struct unix_file file;
    int rc;

    if (l == NULL)
        return -ENOMEM;
    l->acceptor = a;
    l->fd = unix_listen(a->dirfd, a->dir, a->name, &file);
    rc = l->fd >= 0 ? uv_poll_init(a->loop, &l->poll, l->fd) : l->fd;
    if (rc != 0) {
        if (l->fd >= 0) {
            unix_remove(a->dirfd, a->name, &file);
            close(l->fd);
        }
        mem_free(l);
        return rc;
    }
    close_listener(a); /* the old one; who waits in it connects again */
    a->listener = l;
    a->file = file;
    a->open_handles++;
    return a->paused ? 0 : uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
}

int acceptor_listen(struct acceptor *a, int dirfd, const char *dir, const char *name) {
    char *dir_copy = mem_strdup(dir), *name_copy = mem_strdup(name);

    if (dir_copy == NULL || name_copy == NULL) {
        mem_free(dir_copy);
        mem_free(name_copy);
        return -ENOMEM;
    }
    mem_free(a->dir);
    mem_free(a->name);
    a->dir = dir_copy;
    a->name = name_copy;
    a->dirfd = dirfd;
    return open_listener(a);
}

int acceptor_check(struct acceptor *a) {
    int rc;

    if (a->name == NULL || (a->listener != NULL && unix_is_there(a->dirfd, a->name, &a->file)))
        return 0;
    rc = open_listener(a);
    return rc == 0 ? 1 : rc;
}

static void on_retry_closed(uv_handle_t *h) {
    maybe_closed(container_of((uv_timer_t *)h, struct acceptor, retry));
}

void acceptor_close(struct acceptor *a, void (*closed)(void *arg), void *arg) {
    a->closed = closed;
    a->closed_arg = arg;
    if (a->listener != NULL && !a->listener->tcp)
        unix_remove(a->dirfd, a->name, &a->file);
    close_listener(a);
    if (a->reserve >= 0)
        close(a->reserve);
    uv_close((uv_handle_t *)&a->retry, on_retry_closed);
}
