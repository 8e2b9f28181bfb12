/* Happy path: ipc_server_listen → acceptor → on_accepted → worker_new; the rest is told in worker.c.
 *
 * Ways to fail: another user (acceptor: closed before a byte is read, counted); no room (its hello is waited for and answered with
 * "later", because a peer that is still writing would lose an answer that came before; a few at a time, the others wait in the
 * backlog); no descriptor left (on_busy: "later" is said at once); the socket's file is deleted or replaced (ipc_server_check
 * makes it again; connections that stand are not touched). */
#include "ipc/server.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "ipc/acceptor.h"
#include "ipc/poller.h"
#include "ipc/worker.h"

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define LOG_EVERY_MS      10000
#define FILES_OF_WORKER   4  /* connection, pidfd here and in the agent, /proc/<pid> */
#define FILES_OF_THE_REST 24 /* of the helper, and of those that wait to be told "later" */
#define FULL_AT_ONCE      8  /* so many of them; the others wait in the backlog for their turn */

struct ipc_server {
    struct worker_host host;
    struct acceptor *acceptor; /* NULL once it is closed */
    bool closing;
    bool poller_closing;
    void (*closed)(void *arg);
    void *closed_arg;
    uint64_t log_full;
};

/* The user has been looked at already. */
static void read_peer(int fd, struct ipc_peer *ret) {
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);

    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len); /* cannot fail for a Unix socket */
    *ret = (struct ipc_peer){.uid = cred.uid, .pid = cred.pid, .pidfd = -1};
}

/* The socket's own knows the peer even when its pid has been used again since, and across pid namespaces. */
static int open_pidfd(int fd, pid_t pid) {
    socklen_t len = sizeof(int);
    int pidfd = -1;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0)
        return pidfd;
    if (pid <= 0 || (errno != ENOPROTOOPT && errno != EINVAL))
        return -1;
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return pidfd >= 0 ? pidfd : -1;
}

/* How many workers the limit of open files leaves room for. */
static size_t room(void) {
    struct rlimit limit;
    size_t n;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return LIMIT_WORKERS;
    n = limit.rlim_cur > FILES_OF_THE_REST + FILES_OF_WORKER
            ? (size_t)(limit.rlim_cur - FILES_OF_THE_REST) / FILES_OF_WORKER
            : 1;
    return n < LIMIT_WORKERS ? n : LIMIT_WORKERS;
}

static void log_full(struct ipc_server *s, const char *what) {
    if (log_due(&s->log_full, LOG_EVERY_MS))
        log_warn("workers' socket: %s with %zu connections; more are told to come later", what,
                 s->host.n);
}

/* Before its hello: there is no room to wait for it. */
static void say_later(int fd) {
    struct buf out;

    buf_init(&out, LIMIT_WORKER_SEND_BYTES);
    message_write_later(&out, worker_later_ms(), "no room for more workers");
    if (out.err == 0)
        (void)send(fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL); /* it fits a new socket */
    buf_clear(&out);
}

/* The acceptor counts and closes it. */
static void on_busy(void *arg, int fd) {
    log_full(arg, "no descriptor left");
    say_later(fd);
}

static void on_accepted(void *arg, int fd) {
    struct ipc_server *s = arg;
    struct worker_host *host = &s->host;
    struct ipc_peer peer;
    bool full = host->n - host->n_full >= room();
    int rc;

    if (full)
        log_full(s, "no room");
    read_peer(fd, &peer);
    if (!full)
        peer.pidfd = open_pidfd(fd, peer.pid);
    rc = worker_new(host, fd, &peer, full);
    if (rc == 0) {
        acceptor_pause(s->acceptor, host->n_full >= FULL_AT_ONCE);
        return;
    }
    counter_add(COUNTER_OUT_OF_MEMORY, rc == -ENOMEM);
    counter_add(COUNTER_WORKERS_LATER, 1);
    say_later(fd);
    if (peer.pidfd >= 0)
        (void)close(peer.pidfd);
    (void)close(fd);
}

/* --- life ---------------------------------------------------------------------------------------------------------------- */

static void on_poller_closed(void *arg) {
    struct ipc_server *s = arg;
    void (*closed)(void *arg) = s->closed;
    void *closed_arg = s->closed_arg;

    mem_free(s->host.bytes);
    mem_free(s);
    if (closed != NULL)
        closed(closed_arg);
}

static void maybe_closed(struct ipc_server *s) {
    if (!s->closing || s->poller_closing || s->acceptor != NULL || s->host.n > 0)
        return;
    s->poller_closing = true;
    poller_close(s->host.poller, on_poller_closed, s);
}

static void on_worker_gone(struct worker_host *host) {
    struct ipc_server *s = container_of(host, struct ipc_server, host);

    if (!s->closing)
        acceptor_pause(s->acceptor, host->n_full >= FULL_AT_ONCE);
    maybe_closed(s);
}

static void on_acceptor_closed(void *arg) {
    struct ipc_server *s = arg;

    s->acceptor = NULL;
    maybe_closed(s);
}

static void on_nothing(void *arg) {
    (void)arg;
}

int ipc_server_new(struct ipc_server **ret, uv_loop_t *loop, const struct ipc_callbacks *callbacks,
                   void *arg) {
    struct ipc_server *s = mem_calloc(1, sizeof(*s));
    uint8_t *bytes = mem_alloc(LIMIT_FRAME_BYTES); /* its pages cost nothing until they are used */
    struct acceptor_options options = {
        .accepted = on_accepted,
        .busy = on_busy,
        .arg = s,
        .refused_uid = COUNTER_WORKERS_REFUSED_UID,
        .refused_busy = COUNTER_WORKERS_LATER,
    };
    int rc = -ENOMEM;

    if (s == NULL || bytes == NULL)
        goto out;
    rc = poller_new(&s->host.poller, loop);
    if (rc != 0)
        goto out;
    rc = acceptor_new(&s->acceptor, loop, &options);
    if (rc != 0) {
        poller_close(s->host.poller, on_nothing, NULL);
        goto out;
    }
    s->host.loop = loop;
    s->host.callbacks = *callbacks;
    s->host.arg = arg;
    s->host.stall_ms = LIMIT_FRAME_STALL_MS;
    s->host.bytes = bytes;
    s->host.gone = on_worker_gone;
    *ret = s;
    return 0;
out:
    mem_free(bytes);
    mem_free(s);
    return rc;
}

void ipc_server_set_stall(struct ipc_server *s, uint64_t stall_ms) {
    s->host.stall_ms = stall_ms;
}

int ipc_server_listen(struct ipc_server *s, int dirfd, const char *dir, const char *name) {
    return s->closing ? -ECANCELED : acceptor_listen(s->acceptor, dirfd, dir, name);
}

int ipc_server_check(struct ipc_server *s) {
    return s->closing ? 0 : acceptor_check(s->acceptor);
}

void ipc_server_close(struct ipc_server *s, void (*closed)(void *arg), void *arg) {
    if (s->closing)
        return;
    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    worker_close_all(&s->host);
    acceptor_close(s->acceptor, on_acceptor_closed, s);
}
