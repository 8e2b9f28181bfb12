/* poller.h - the descriptors of all workers behind one epoll(7) descriptor, so that a crowd is served in bursts.
 *
 * A worker's sample wakes the loop. With 64 workers and ten samples a second that is 640 wake-ups for a few microseconds of work
 * each, and every one finds the caches cold. So while wake-ups come close together, the descriptors are looked at every
 * POLLER_PACE_MS instead; a single worker is never made to wait. Level-triggered. Loop thread only. */
#ifndef PILLION_IPC_POLLER_H
#define PILLION_IPC_POLLER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define POLLER_PACE_MS 20

struct poller;

/* `events` as epoll_wait(2) gives them. Watches may be added and removed from inside. */
struct poller_watch {
    int fd; /* -1: not watched */
    void (*ready)(struct poller_watch *w, uint32_t events);
};

int poller_new(struct poller **ret, uv_loop_t *loop);
/* After every watch has been removed. Asynchronous. */
void poller_close(struct poller *p, void (*closed)(void *arg), void *arg);

/* Watches fd for reading. -ENOMEM, -ENOSPC. */
int poller_add(struct poller *p, struct poller_watch *w, int fd);
/* From now on for writing, too, or not. */
void poller_want_write(struct poller *p, struct poller_watch *w, bool writing);
/* At once: `ready` is not called any more. To be called before the descriptor is closed. */
void poller_remove(struct poller *p, struct poller_watch *w);

#endif
