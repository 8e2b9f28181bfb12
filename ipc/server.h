/* server.h - the workers' socket: accepts, checks the peer's user, reads frames, answers. ipc/PROTOCOL.md. Loop thread only. */
#ifndef PILLION_SERVER_H
#define PILLION_SERVER_H

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "ipc/message.h"

struct ipc_server;
struct ipc_worker; /* one connection that is past its hello; valid until `closed` has been called */

struct ipc_peer {
    uid_t uid;
    pid_t pid; /* as the kernel says in our pid namespace; 0: it cannot be seen from here */
    int pidfd; /* of the peer (SO_PEERPIDFD, else pidfd_open), owned by the connection; -1: the kernel cannot */
};

struct ipc_callbacks {
    /* A valid hello. `hello` lives during the call (take a reference to its schema). 0: fill *ret_welcome and, if wanted,
     * *ret_user. -EAGAIN: "later" is answered; any other negative errno: "refused", with `why` (256 bytes) as the reason. */
    int (*hello)(void *arg, struct ipc_worker *w, const struct ipc_peer *peer,
                 const struct hello *hello, struct welcome *ret_welcome, void **ret_user,
                 char *why);
    /* slots: hello's layout, n_slots numbers; infinite ones are NaN already. Lives during the call. */
    void (*sample)(void *arg, void *user, uint64_t number, double clock_s, const double *slots);
    void (*event)(void *arg, void *user, const struct worker_event *event);
    void (*beat)(void *arg, void *user);
    /* An answer to an order: one JSON object with the number of the order, which need not be one of ours. Lives during the call. */
    void (*answer)(void *arg, void *user, uint64_t order, const char *json, size_t len);
    /* Once for each hello that was answered with 0. `error`: NULL for an orderly end. */
    void (*closed)(void *arg, void *user, const char *error);
};

int ipc_server_new(struct ipc_server **ret, uv_loop_t *loop, const struct ipc_callbacks *callbacks,
                   void *arg);
/* Listens on `name` in directory dirfd (which must stay open), whose full name is `dir`; replaces a stale socket. */
int ipc_server_listen(struct ipc_server *s, int dirfd, const char *dir, const char *name);
/* Instead of LIMIT_FRAME_STALL_MS, for connections from now on. For tests. */
void ipc_server_set_stall(struct ipc_server *s, uint64_t stall_ms);
/* Makes the socket again when its file is gone or is not ours any more. 1: made again, 0: all well, negative: errno. */
int ipc_server_check(struct ipc_server *s);
void ipc_server_close(struct ipc_server *s, void (*closed)(void *arg), void *arg);

/* Everything up to `number` is kept. */
int ipc_worker_ack(struct ipc_worker *w, uint64_t number);
/* Sends one JSON object {"order":<number>,…}. A worker that does not know orders skips it without a word, so whoever gives one needs
 * a deadline. -EMSGSIZE: longer than a frame; -EPIPE: the connection is ending; -EAGAIN: it has not been welcomed yet, or does not
 * read and has LIMIT_WORKER_SEND_BYTES waiting; -ENOMEM. */
int ipc_worker_order(struct ipc_worker *w, const char *json, size_t len);
void ipc_worker_close(struct ipc_worker *w);

#endif
