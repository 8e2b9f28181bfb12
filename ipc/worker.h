/* worker.h - one connection to the workers' socket, from accept to close. For ipc/server.c; what others may do with a
 * connection is in ipc/server.h. Loop thread only. */
#ifndef PILLION_IPC_WORKER_H
#define PILLION_IPC_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "agent/base/limits.h"
#include "ipc/poller.h"
#include "ipc/server.h"

/* What all connections of a server share: they are read one after the other, so one buffer serves all. */
struct worker_host {
    uv_loop_t *loop;
    struct poller *poller;
    struct ipc_callbacks callbacks;
    void *arg;
    uint64_t stall_ms;
    uint8_t *bytes; /* LIMIT_FRAME_BYTES; what is read */
    double slots[LIMIT_SLOTS];
    struct ipc_worker
        *first; /* all connections, those that are closing too: their descriptors are still open */
    size_t n;
    size_t n_full;                          /* of these: taken in only to be told to come later */
    void (*gone)(struct worker_host *host); /* after each end of a connection */
    uint64_t log_pid;
    uint64_t log_invalid;
};

/* Takes `fd` and peer->pidfd on success. `full`: there is no room for it, its hello will be answered with "later". */
int worker_new(struct worker_host *host, int fd, const struct ipc_peer *peer, bool full);
/* `error`: static, or NULL for an orderly end. Asynchronous; once is enough. */
void worker_close(struct ipc_worker *w, const char *error);
void worker_close_all(struct worker_host *host);

/* After how many milliseconds to come again: spread, so that those who were sent away do not return as one. */
uint64_t worker_later_ms(void);

#endif
