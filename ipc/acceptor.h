/* acceptor.h - takes connections: on a Unix socket of ours, from our own user and root alone, or on a
 * TCP port, from everybody who can reach it. Loop thread only.
 *
 * Nothing is read from a connection here: a peer of another user is closed before a byte of it
 * is looked at. When there is no descriptor left the connection is taken and closed at once, so
 * that it neither hangs nor keeps the loop busy; what is to be said to it before can be said in
 * `busy`. */
#ifndef PILLION_ACCEPTOR_H
#define PILLION_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/base/counters.h"

struct acceptor;

struct acceptor_options {
    void (*accepted)(void *arg, int fd); /* non-blocking, O_CLOEXEC; taken */
    void (*busy)(void *arg, int fd); /* no descriptor left: closed after the call; may be NULL */
    void *arg;
    enum counter refused_uid;
    enum counter refused_busy; /* no descriptor left */
};

int acceptor_new(struct acceptor **ret, uv_loop_t *loop, const struct acceptor_options *options);
/* `name` in directory dirfd (which must stay open), whose full name is `dir`; mode 0600;
 * replaces a stale socket. */
int acceptor_listen(struct acceptor *a, int dirfd, const char *dir, const char *name);
/* Instead: a TCP port of this IPv4 or IPv6 address. -EADDRINUSE, -EADDRNOTAVAIL, -EACCES … as bind(2) says; -EINVAL: not an address. */
int acceptor_listen_tcp(struct acceptor *a, const char *ip, uint16_t port);
/* Makes the socket again when its file is gone or is not ours any more. 1: made again, 0: all
 * well, negative: errno. */
int acceptor_check(struct acceptor *a);
/* Those who come meanwhile wait in the backlog, connected and unanswered. May be called from
 * inside `accepted`. */
void acceptor_pause(struct acceptor *a, bool paused);
/* Takes the socket's file away. `closed` is called once, later. */
void acceptor_close(struct acceptor *a, void (*closed)(void *arg), void *arg);

#endif
