/* Happy path: a descriptor becomes ready → on_ready() → drain() calls its watch. When this happens NEAR_MS after the last time,
 * CROWD times in a row, the loop stops watching and on_pace() drains instead, until there is nothing much to drain.
 *
 * Ways to fail: no descriptor for epoll (poller_new). A watch that is removed while its event waits in the same burst is skipped:
 * its memory must outlive the callback that removed it. */
#include "ipc/poller.h"

#include <errno.h>
#include <sys/epoll.h>

#include "agent/base/mem.h"

#define BURST   64 /* events in one look */
#define ROUNDS  8  /* looks in one turn of the loop */
#define NEAR_MS 10
#define CROWD   16
#define ALONE   5 /* so many turns with at most one event end the pacing */

struct poller {
    uv_loop_t *loop;
    int epfd;
    uv_poll_t poll;
    uv_timer_t pace;
    unsigned handles; /* open ones of these two */
    uint64_t last_ms; /* of uv_now() */
    unsigned crowd;   /* wake-ups that came close together */
    unsigned alone;
    void (*closed)(void *arg);
    void *closed_arg;
};

static unsigned drain(struct poller *p) {
    struct epoll_event events[BURST];
    unsigned total = 0;

    for (int round = 0; round < ROUNDS; round++) {
        int n = epoll_wait(p->epfd, events, BURST, 0);

        for (int i = 0; i < n; i++) {
            struct poller_watch *w = events[i].data.ptr;

            if (w->fd >= 0)
                w->ready(w, events[i].events);
        }
        total += n > 0 ? (unsigned)n : 0;
        if (n < BURST)
            break;
    }
    return total;
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void on_pace(uv_timer_t *timer) {
    struct poller *p = container_of(timer, struct poller, pace);

    p->alone = drain(p) > 1 ? 0 : p->alone + 1;
    if (p->alone < ALONE)
        return;
    p->crowd = 0;
    (void)uv_timer_stop(&p->pace);
    (void)uv_poll_start(&p->poll, UV_READABLE, on_ready); /* cannot fail for an open handle */
}

static void on_ready(uv_poll_t *poll, int status, int events) {
    struct poller *p = container_of(poll, struct poller, poll);
    uint64_t now = uv_now(p->loop);
    (void)status, (void)events;

    p->crowd = now - p->last_ms <= NEAR_MS ? p->crowd + 1 : 0;
    p->last_ms = now;
    (void)drain(p);
    if (p->crowd < CROWD || p->closed != NULL)
        return;
    p->alone = 0;
    (void)uv_poll_stop(&p->poll);
    (void)uv_timer_start(&p->pace, on_pace, POLLER_PACE_MS, POLLER_PACE_MS);
}

int poller_new(struct poller **ret, uv_loop_t *loop) {
    struct poller *p = mem_calloc(1, sizeof(*p));
    int rc;

    if (p == NULL)
        return -ENOMEM;
    p->loop = loop;
    p->epfd = epoll_create1(EPOLL_CLOEXEC);
    rc = p->epfd >= 0 ? uv_poll_init(loop, &p->poll, p->epfd) : -errno;
    if (rc != 0) {
        if (p->epfd >= 0)
            close(p->epfd);
        mem_free(p);
        return rc;
    }
    (void)uv_timer_init(loop, &p->pace); /* never fails */
    p->handles = 2;
    (void)uv_poll_start(&p->poll, UV_READABLE, on_ready);
    *ret = p;
    return 0;
}

static void on_handle_closed(struct poller *p) {
    void (*closed)(void *arg) = p->closed;
    void *arg = p->closed_arg;

    if (--p->handles > 0)
        return;
    close(p->epfd);
    mem_free(p);
    closed(arg);
}

static void on_poll_closed(uv_handle_t *h) {
    on_handle_closed(container_of((uv_poll_t *)h, struct poller, poll));
}

static void on_pace_closed(uv_handle_t *h) {
    on_handle_closed(container_of((uv_timer_t *)h, struct poller, pace));
}

void poller_close(struct poller *p, void (*closed)(void *arg), void *arg) {
    p->closed = closed;
    p->closed_arg = arg;
    uv_close((uv_handle_t *)&p->poll, on_poll_closed);
    uv_close((uv_handle_t *)&p->pace, on_pace_closed);
}

int poller_add(struct poller *p, struct poller_watch *w, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = w};

    if (epoll_ctl(p->epfd, EPOLL_CTL_ADD, fd, &e) != 0)
        return -errno;
    w->fd = fd;
    return 0;
}

void poller_want_write(struct poller *p, struct poller_watch *w, bool writing) {
    struct epoll_event e = {.events = EPOLLIN | (writing ? (uint32_t)EPOLLOUT : 0), .data.ptr = w};

    (void)epoll_ctl(p->epfd, EPOLL_CTL_MOD, w->fd, &e); /* it is in there, so it takes no memory */
}

void poller_remove(struct poller *p, struct poller_watch *w) {
    if (w->fd < 0)
        return;
    (void)epoll_ctl(p->epfd, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
}
